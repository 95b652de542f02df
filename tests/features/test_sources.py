"""Sources: encoded rows of one table, and rows of interactions with the history that was there before each."""

from collections.abc import Sequence

import numpy as np
import polars as pl
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from bowerbird.core.ids import Ids
from bowerbird.data import EventType, Interactions, Rows
from bowerbird.features import Categorical, Encoder, FeatureBatch, FeatureTable, Numeric
from bowerbird.features.sources import EncodedRows, JoinedRows

KINDS = (EventType("like"), EventType("buy"), EventType("dislike", sign="negative"))
LONGEST = 3
Event = tuple[int, int, int]  # user, item, event type


def log(events: Sequence[Event], n_users: int = 4, n_items: int = 6) -> Interactions:
    """Return events, a second apart."""
    user, item, event = np.array(events, np.int64).reshape(-1, 3).T
    return Interactions(
        user.astype(np.int32), item.astype(np.int32), np.ones(len(events), np.float32), event.astype(np.uint8),
        np.arange(len(events)), Ids.of(range(n_users)), Ids.of(range(n_items)), KINDS,
    )  # fmt: skip


def known(n_users: int = 4, n_items: int = 6, *, counts: Sequence[bool] | None = None, history: int = LONGEST):
    """Return the table of users and items by their ids, with a history of items, and its encoder."""
    users, items = (pl.DataFrame({name: [*range(n), None]}) for name, n in (("user", n_users), ("item", n_items)))
    columns = {"user": (Categorical(name="user"),), "item": (Categorical(name="item"),), "request": ()}
    encoder = Encoder.fit({"user": users[:-1], "item": items[:-1], "request": pl.DataFrame()}, columns)
    if history:
        encoder = encoder.with_history("item.item", history)
    parts = encoder.encode(users, "user"), encoder.encode(items, "item"), encoder.encode(pl.DataFrame([{}]), "request")
    return FeatureTable(encoder.schema, *parts, None if counts is None else torch.tensor(counts)), encoder


def rows_of(events: Sequence[Event]) -> Rows:
    user, item, _ = np.array(events, np.int64).reshape(-1, 3).T
    label = np.arange(len(events), dtype=np.float32)[:, None]
    return Rows(pl.DataFrame({"user": user}), label, ("label",), user.astype(np.int32), item.astype(np.int32))


def read(batch: FeatureBatch, encoder: Encoder) -> list[tuple[int | None, int | None, list[int]]]:
    """Return user, item and history of every row as ids; None is unknown."""
    found = []
    for code, value in zip(batch.code.tolist(), batch.value.tolist(), strict=True):  # type: ignore[union-attr]
        user, item, *past = (id_of(one, encoder, place) for place, one in enumerate(code))
        found.append((user, item, [one for one, there in zip(past, value[2:], strict=True) if there]))
    return found


def id_of(code: int, encoder: Encoder, slot: int) -> int | None:
    field = encoder.schema.fields[0 if slot == 0 else 1]
    row = code - field.start - 2
    return None if row < 0 else encoder.vocabularies[field.name][row]


def everything(source: JoinedRows, encoder: Encoder) -> list[tuple[int | None, int | None, list[int]]]:
    return read(source.cut(torch.arange(len(source))), encoder)


def test_rows_of_a_table_are_cut_with_their_labels() -> None:
    table = pl.DataFrame({"colour": ["red", "blue", "red"], "price": [1.0, 2.0, 3.0]})
    encoder = Encoder.fit({"": table}, {"": (Categorical(name="colour"), Numeric(name="price"))})
    encoded = encoder.encode(table)
    source = EncodedRows.of(encoded, Rows(table, np.array([[0], [1], [np.nan]], np.float32), ("label",)))
    batch = source.cut(torch.tensor([2, 0]))
    assert len(source) == 3
    assert batch.code.dtype == torch.int64
    assert torch.equal(batch.code, encoded.code[[2, 0]].long())
    assert batch.value is not None
    assert torch.equal(batch.value, encoded.values[[2, 0]])
    assert batch.label is not None
    assert batch.label.isnan().tolist() == [[True], [False]]


def test_the_history_of_a_row_made_of_an_event_is_what_came_strictly_before_it() -> None:
    events = [(0, 1, 0), (1, 5, 0), (0, 2, 1), (0, 3, 0), (0, 4, 0), (0, 5, 0)]
    table, encoder = known()
    source = JoinedRows.of(table, rows_of(events), log(events), event=np.arange(6))
    assert everything(source, encoder) == [
        (0, 1, []), (1, 5, []), (0, 2, [1]), (0, 3, [1, 2]), (0, 4, [1, 2, 3]), (0, 5, [2, 3, 4]),
    ]  # fmt: skip


def test_the_history_of_a_later_row_is_what_was_there_at_the_cut() -> None:
    table, encoder = known()
    past = log([(0, 1, 0), (0, 2, 0), (1, 3, 0)])
    source = JoinedRows.of(table, rows_of([(0, 4, 0), (1, 3, 0), (0, 5, 0), (2, 1, 0)]), past)
    assert everything(source, encoder) == [(0, 4, [1, 2]), (1, 3, [3]), (0, 5, [1, 2]), (2, 1, [])]


def test_only_good_events_of_the_kinds_that_count_stand_in_a_history() -> None:
    events = [(0, 1, 0), (0, 2, 1), (0, 3, 2), (0, 4, 0)]
    for counts, past in ((None, [1, 2]), ([True, False, False], [1]), ([False, True, False], [2])):
        table, encoder = known(counts=counts)
        source = JoinedRows.of(table, rows_of(events[-1:]), log(events), event=np.array([3]))
        assert everything(source, encoder) == [(0, 4, past)]


def test_users_and_items_beyond_the_table_are_unknown_but_what_such_users_chose_is_not() -> None:
    table, encoder = known(n_users=1, n_items=3)
    past = log([(0, 1, 0), (1, 2, 0), (1, 4, 0)])  # item 4 is none that the table knows
    source = JoinedRows.of(table, rows_of([(1, 5, 0), (0, 2, 0), (3, 0, 0)]), past)
    assert everything(source, encoder) == [(None, None, [2]), (0, 2, [1]), (None, 0, [])]


def test_users_that_the_past_does_not_hold_have_none() -> None:
    table, encoder = known()
    source = JoinedRows.of(table, rows_of([(3, 1, 0), (-1, -1, 0)]), log([(0, 2, 0), (1, 2, 0)], n_users=2))
    assert everything(source, encoder) == [(3, 1, []), (None, None, [])]


def test_a_ranker_without_a_history_is_given_none() -> None:
    table, _ = known(history=0)
    source = JoinedRows.of(table, rows_of([(0, 4, 0)]), log([(0, 1, 0)]))
    assert source.cut(torch.tensor([0])).code.shape == (1, 2)


def test_columns_of_requests_follow_their_rows() -> None:
    users, items, asked = pl.DataFrame({"user": [0, 1]}), pl.DataFrame({"item": [0, 1]}), pl.DataFrame({"hour": [8, 9]})
    parts = {"user": users, "item": items, "request": asked}
    columns = {part: (Categorical(name=table.columns[0]),) for part, table in parts.items()}
    encoder = Encoder.fit(parts, columns)
    table = FeatureTable(encoder.schema, *(encoder.encode(one, part) for part, one in parts.items()))
    rows = rows_of([(0, 0, 0), (1, 1, 0)])
    source = JoinedRows.of(table, rows, log([], 1, 1), columns=encoder.encode(asked, "request"))
    assert torch.equal(source.cut(torch.tensor([1, 0])).code[:, 2:], encoder.encode(asked[[1, 0]], "request").code)


EVENTS = st.lists(st.tuples(st.integers(0, 3), st.integers(0, 5), st.integers(0, 2)), min_size=1, max_size=25)


@given(EVENTS, EVENTS, st.data())
def test_joining_equals_a_slow_search(events: list[Event], later: list[Event], data: st.DataObject) -> None:
    table, encoder = known(n_users=3, n_items=4)
    of = np.array(data.draw(st.lists(st.integers(0, len(events) - 1), min_size=1, max_size=10)))
    past = log(events)

    def slow(user: int, item: int, before: int) -> tuple[int | None, int | None, list[int]]:
        good = [two for one, two, kind in events[:before] if one == user and kind != 2 and two < 4]
        return user if user < 3 else None, item if item < 4 else None, good[-LONGEST:]

    made = [(events[place][0], item, 0) for place, (_, item, _) in zip(of, later * len(of), strict=False)]
    source = JoinedRows.of(table, rows_of(made), past, event=of)
    expected = [slow(user, item, place) for (user, item, _), place in zip(made, of, strict=True)]
    assert everything(source, encoder) == expected
    source = JoinedRows.of(table, rows_of(later), past)
    assert everything(source, encoder) == [slow(user, item, len(events)) for user, item, _ in later]
    order = torch.from_numpy(np.random.default_rng(0).permutation(len(later)))
    assert torch.equal(source.cut(order).code, source.cut(torch.arange(len(later))).code[order])
    assert source.cut(order).label.flatten().tolist() == order.tolist()  # type: ignore[union-attr]


@pytest.mark.parametrize("n", [0, 1])
def test_few_rows_are_rows_too(n: int) -> None:
    table, _ = known()
    source = JoinedRows.of(table, rows_of([(0, 1, 0)] * n), log([(0, 1, 0)]))
    assert len(source.cut(torch.arange(n))) == len(source) == n
