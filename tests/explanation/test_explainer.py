"""Reasons in words and data, by models whose answers are written down."""

import numpy as np
import polars as pl
import pytest
import torch
from torch import Tensor

import bowerbird as bb
from bowerbird.core import Reason
from bowerbird.data import EventType, Interactions
from bowerbird.explanation import Explainer, Past, words
from bowerbird.explanation.explainer import MOST, with_chance
from bowerbird.features import Context
from bowerbird.nn.vectors import listed

KINDS = (EventType("like", phrase="liked"), EventType("buy", phrase="bought"), EventType("ban", sign="negative"))


class Sums:
    """Answers requests with a history: the sum of the rows of its items."""

    def __init__(self, rows: list[list[float]] | Tensor) -> None:
        self.rows = torch.as_tensor(rows)

    def can(self, context: Context) -> Tensor:
        return context.history.speaks

    def scores(self, context: Context, items: Tensor | None = None) -> Tensor:
        request, item = context.asked.positive
        whole = torch.zeros(len(context), self.rows.shape[1]).index_add_(0, request, self.rows[item])
        return listed(whole, items)

    def grow(self, n_users: int, n_items: int) -> None:
        raise AssertionError("nothing grows here")


ALIKE = [[0.0, 0.2, 0.3], [0.2, 0.0, 0.9], [0.3, 0.9, 0.0]]  # a, c, b: b is more like c than like a


@pytest.fixture
def past() -> Interactions:
    """User "ann" liked apple and bought cherry; user "bob" banned apple and liked cherry; five others liked cherry."""
    others = ["o1", "o2", "o3", "o4", "o5"]
    events = Interactions.of(
        pl.Series(["ann", "ann", "bob", "bob", "eve", *others]),
        pl.Series(["a", "c", "a", "c", "b", *["c"] * 5]),
        event=np.array([0, 1, 2, 0, 0, *[0] * 5]),
        events=KINDS,
    )
    assert events.item_ids.values.to_list() == ["a", "c", "b"]
    return events.with_tables(items=pl.DataFrame({"item_id": ["a", "c"], "title": ["Apple", "Cherry"]}))


def of_user(past: Interactions, user: int) -> Context:
    return Context.of_users(np.array([user], np.int32), past)


def reason_of(rows: list[list[float]], context: Context, past: Interactions, item: int) -> Reason:
    [reasons] = Explainer(Sums(rows), past).reasons(context, torch.tensor([item]))
    return reasons[0]


def test_a_reason_names_the_past_item_that_adds_most_in_its_events_words(past: Interactions) -> None:
    reason = reason_of(ALIKE, of_user(past, 0), past, 2)
    assert (reason.kind, reason.method) == ("history", "leave-one-out")
    assert reason.text == "because you bought Cherry"
    assert reason.text_zh == "因为你购买过《Cherry》"


def test_a_reason_shares_the_score_among_past_items(past: Interactions) -> None:
    first, second = reason_of(ALIKE, of_user(past, 0), past, 2).causes
    assert (first.id, first.label, second.id) == ("c", "Cherry", "a")
    assert first.share == pytest.approx(0.9 / 1.2)
    assert second.share == pytest.approx(0.3 / 1.2)


def test_a_disliked_item_is_no_reason(past: Interactions) -> None:
    reason = reason_of(ALIKE, of_user(past, 1), past, 2)
    assert reason.text == "because you liked Cherry"
    assert [one.id for one in reason.causes] == ["c"]


def test_an_item_without_a_title_goes_by_its_id(past: Interactions) -> None:
    assert reason_of(ALIKE, Context.of_histories([[2, 0]]), past, 1).text == "because you chose b"


def test_no_more_than_three_items_are_named_and_shares_stay_below_one() -> None:
    past = Interactions.of(pl.Series(["u"] * 6), pl.Series(["a", "b", "c", "d", "e", "f"]))
    rows = (torch.eye(6).roll(1, 1) + 0.1).tolist()  # all speak for all
    shares = [one.share for one in reason_of(rows, Context.of_histories([[0, 1, 2, 3, 4]]), past, 5).causes]
    assert len(shares) == MOST
    assert shares == sorted(shares, reverse=True)
    assert 0 < sum(shares) < 1


def test_what_nothing_in_the_past_speaks_for_is_popular(past: Interactions) -> None:
    rows = [[0.0, -1.0, 0.0], [0.0, 0.0, 0.0], [0.0, 0.0, 0.0]]
    [cherry], [b] = Explainer(Sums(rows), past).reasons(Context.of_histories([[0, 2]]), torch.tensor([1, 2]))
    assert (cherry.kind, cherry.text, cherry.people) == ("popularity", "chosen by 7 people", 7)
    assert (b.kind, b.people, b.causes) == ("popularity", None, ())


def test_few_people_are_never_counted_out(past: Interactions) -> None:
    assert words.popularity(words.CROWD - 1).people is None
    assert "4" not in words.popularity(words.CROWD - 1).text
    cause = words.shares(np.array([1.0]), ["c"], ["Cherry"], 1)
    for make in (
        lambda n: words.neighbours(cause, "liked", "sum", n),
        lambda n: words.path(cause, "liked", "sum", n, "B"),
    ):
        few, many = make(words.CROWD - 1), make(words.CROWD)
        assert (few.kind, few.people) == ("history", None)
        assert many.people == words.CROWD
        assert f"{words.CROWD} people" in many.text


def test_who_chose_both_is_counted_without_the_person_asked(past: Interactions) -> None:
    explainer = Explainer(Sums(ALIKE), past)
    assert explainer.both(0, 1) == 1  # ann alone; bob banned apple
    assert explainer.both(0, 1, user=0) == 0


def test_a_person_without_a_past_gets_popular_items_for_that_reason(past: Interactions) -> None:
    assert reason_of(ALIKE, Context.nobody(), past, 1).text == "chosen by 7 people"


def test_every_filled_place_has_reasons_and_no_empty_one(past: Interactions) -> None:
    context = Context.of_users(np.array([0, 2], np.int32), past)
    one, two = Explainer(Sums(ALIKE), past).slates(context, torch.tensor([[2, -1], [0, 1]]))
    assert [len(one), len(two)] == [1, 2]


def test_a_place_that_was_drawn_says_so_first_where_it_was_unlikely(past: Interactions) -> None:
    plain = (words.NEW,)
    assert with_chance(plain, 1.0) == plain
    assert [one.kind for one in with_chance(plain, 0.04)] == ["exploration", "new"]
    assert [one.kind for one in with_chance(plain, 0.9)] == ["new", "exploration"]
    assert with_chance(plain, 0.04)[0].text == "drawn with a chance of 4 %, to learn whether you like it"


@pytest.mark.parametrize("name", ["ease", "itemknn", "spectral"])
def test_what_past_items_add_sums_to_the_score(name: str, films: Interactions) -> None:
    rec = bb.fit(bb.split(films), name)
    context, items = of_user(rec.past, 5), torch.tensor([3, 40, 100])
    said = Past(context).said(rec.model, items)
    assert torch.allclose(said.sum(dim=0), rec.model.scores(context, items)[0], atol=1e-3)


def test_what_least_squares_loses_without_a_past_item_is_what_asking_again_would_tell(films: Interactions) -> None:
    rec = bb.fit(bb.split(films), "ials", dim=8, epochs=2)
    past, items = Past(of_user(rec.past, 5)), torch.tensor([3, 40, 100])
    each = torch.eye(len(past), dtype=torch.bool)
    asked = past.rescored(rec.model, torch.cat([torch.zeros_like(each[:1]), each]), items)
    torch.testing.assert_close(past.said(rec.model, items), asked[0] - asked[1:], atol=1e-5, rtol=1e-4)


def test_what_a_graph_sends_sums_to_the_score_with_what_the_person_is_alone(films: Interactions) -> None:
    rec = bb.fit(bb.split(films), "lightgcn", epochs=1)
    past, items = Past(of_user(rec.past, 5)), torch.tensor([3, 40])
    said = past.said(rec.model, items).sum(dim=0)
    alone = rec.model.user[5] / (rec.model.config.hops + 1)
    query = rec.model.users[5]
    scale = rec.model.config.scaled(query[None])[0].norm() / query.norm()
    expected = rec.model.scores(past.context, items)[0] - scale * alone @ rec.model.items[items].T
    assert torch.allclose(said, expected, atol=1e-4)
    nothing = past.rescored(rec.model, torch.zeros(1, len(past), dtype=torch.bool), items)
    assert torch.allclose(nothing[0], rec.model.scores(past.context, items)[0], atol=1e-5)
