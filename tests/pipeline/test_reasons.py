import numpy as np
import polars as pl
import pytest
import torch

from bowerbird.core import Reason
from bowerbird.data import EventType, Interactions
from bowerbird.features import Context
from bowerbird.pipeline import Ladder, Pipeline, explain, reasons

KINDS = (EventType("like", phrase="liked"), EventType("buy", phrase="bought"), EventType("ban", sign="negative"))
PEOPLE = np.array([7, 1234, 3, 0])


@pytest.fixture
def past() -> Interactions:
    """User "ann" liked apple and bought cherry; user "bob" banned apple and liked cherry."""
    events = Interactions.of(
        pl.Series(["ann", "ann", "bob", "bob", "eve"]),
        pl.Series(["a", "c", "a", "c", "b"]),
        event=np.array([0, 1, 2, 0, 0]),
        events=KINDS,
    )
    assert events.item_ids.values.to_list() == ["a", "c", "b"]
    return events.with_tables(items=pl.DataFrame({"item_id": ["a", "c"], "title": ["Apple", "Cherry"]}))


@pytest.fixture
def alike(sums):
    """Rows a, c, b: b is more like c than like a."""
    sums.rows = torch.tensor([[0.0, 0.2, 0.3], [0.2, 0.0, 0.9], [0.3, 0.9, 0.0]])
    return sums


def reasons_of(model, context: Context, past: Interactions, k: int = 1) -> list[list[Reason]]:
    slate = Pipeline(Ladder({"model": model}), past.n_items, [True] * 3).run(context, k)
    return explain(model, context, slate, past, PEOPLE)


def test_a_reason_names_the_past_item_most_alike_in_its_events_words(alike, past: Interactions) -> None:
    [[reason]] = reasons_of(alike, Context.of_users(np.array([0], np.int32), past), past)
    assert reason.kind == "history"
    assert reason.text == "because you bought Cherry"


def test_a_reason_shares_the_cause_among_past_items(alike, past: Interactions) -> None:
    [[reason]] = reasons_of(alike, Context.of_users(np.array([0], np.int32), past), past)
    (first, large), (second, small) = reason.items
    assert (first, second) == ("c", "a")
    assert large == pytest.approx(0.9 / 1.2)
    assert small == pytest.approx(0.3 / 1.2)


def test_a_disliked_item_is_no_reason(alike, past: Interactions) -> None:
    [[reason]] = reasons_of(alike, Context.of_users(np.array([1], np.int32), past), past)
    assert reason.text == "because you liked Cherry"
    assert [item for item, _ in reason.items] == ["c"]


def test_an_item_without_a_title_goes_by_its_id(alike, past: Interactions) -> None:
    [[reason]] = reasons_of(alike, Context.of_histories([[2, 0]]), past)
    assert reason.text == "because you chose b"


def test_no_more_than_three_items_are_named_and_shares_stay_below_one(sums) -> None:
    sums.rows = torch.eye(6).roll(1, 1) + 0.1  # all speak for all
    past = Interactions.of(pl.Series(["u"] * 6), pl.Series(["a", "b", "c", "d", "e", "f"]))
    [[reason]] = reasons_of(sums, Context.of_histories([[0, 1, 2, 3, 4]]), past)
    shares = [share for _, share in reason.items]
    assert len(shares) == reasons.MOST
    assert shares == sorted(shares, reverse=True)
    assert 0 < sum(shares) < 1


def test_what_nothing_in_the_past_speaks_for_is_popular(sums, past: Interactions) -> None:
    sums.rows = torch.tensor([[0.0, -1.0, 0.0], [0.0, 0.0, 0.0], [0.0, 0.0, 0.0]])
    [row] = reasons_of(sums, Context.of_histories([[0]]), past, k=2)
    texts = {reason.text for reason in row}
    assert [reason.kind for reason in row] == ["popularity", "popularity"]
    assert texts == {"chosen by 1,234 people", "chosen by 3 people"}


def test_a_person_without_a_past_gets_popular_items_for_that_reason(always, past: Interactions) -> None:
    always.rows = torch.tensor([[0.1, 0.9, 0.5]])
    [row] = reasons_of(always, Context.nobody(), past, k=2)
    assert [reason.text for reason in row] == ["chosen by 1,234 people", "chosen by 3 people"]
    assert row[0].items == ()


def test_a_model_that_knows_no_likeness_explains_by_popularity(always, past: Interactions) -> None:
    always.rows = torch.tensor([[0.1, 0.9, 0.5]])
    [[reason]] = reasons_of(always, Context.of_users(np.array([0], np.int32), past), past)
    assert reason.kind == "popularity"


def test_every_filled_place_has_a_reason_and_no_empty_one(alike, past: Interactions) -> None:
    context = Context.of_users(np.array([0, 2], np.int32), past)
    one, two = reasons_of(alike, context, past, k=3)
    assert [len(one), len(two)] == [1, 2]  # ann has one item left, eve two


def test_blocks_change_nothing(alike, past: Interactions, monkeypatch: pytest.MonkeyPatch) -> None:
    context = Context.of_users(np.array([0, 1, 2], np.int32), past)
    whole = reasons_of(alike, context, past, k=2)
    monkeypatch.setattr(reasons, "block_size", lambda n_items: 1)
    assert reasons_of(alike, context, past, k=2) == whole
