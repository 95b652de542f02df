from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bowerbird.core import ConfigError
from bowerbird.core.ids import Ids
from bowerbird.data import Edges, EventType, Interactions, Schema, declared

LIKE, VIEW, DISLIKE = EventType("like"), EventType("view", sign="neutral"), EventType("dislike", sign="negative")
KINDS = (LIKE, VIEW, DISLIKE)
EVENTS = st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3), st.integers(0, 2), st.integers(0, 5)), max_size=30)


def table(user: list[Any], item: list[Any], time: list[int] | None = None, **columns: Any) -> Interactions:
    when = None if time is None else np.array(time)
    return Interactions.of(pl.Series(user), pl.Series(item), time=when, **columns)


def of_kinds(rows: list[tuple[int, int, int, int]]) -> Interactions:
    """Rows of user, item, kind, time."""
    user, item, kind, time = (list(column) for column in zip(*rows, strict=True)) if rows else ([], [], [], [])
    return Interactions.of(
        pl.Series(user, dtype=pl.Int64), pl.Series(item, dtype=pl.Int64), time=np.array(time, np.int64),
        event=np.array(kind, np.uint8), events=KINDS,
    )  # fmt: skip


def pairs(events: Interactions) -> list[tuple[Any, Any, float]]:
    """Positives in the caller's ids."""
    found = events.positives
    users, items = events.user_ids.names(found.user), events.item_ids.names(found.item)
    return list(zip(users.to_list(), items.to_list(), found.weight.tolist(), strict=True))


def test_events_stand_in_time_order() -> None:
    events = table(["a", "b", "a"], ["x", "x", "y"], [30, 10, 20])
    assert events.time is not None
    assert events.time.tolist() == [10, 20, 30]
    assert events.user_ids.names(events.user).to_list() == ["b", "a", "a"]
    assert events.item_ids.names(events.item).to_list() == ["x", "y", "x"]


def test_file_order_breaks_ties() -> None:
    events = table(["a"] * 4, ["w", "x", "y", "z"], [2, 1, 2, 1])
    assert events.item_ids.names(events.item).to_list() == ["x", "z", "w", "y"]


def test_without_times_file_order_stands() -> None:
    events = table(["a", "b", "a"], ["x", "y", "z"])
    assert events.time is None
    assert events.item.tolist() == [0, 1, 2]


def test_ids_are_numbered_as_they_first_appear_in_the_file() -> None:
    events = table(["late", "early"], ["x", "y"], [2, 1])
    assert events.user_ids == Ids.of(["late", "early"])


def test_columns_have_their_narrow_types() -> None:
    events = table([1, 2], [3, 4], [5, 6])
    kinds = [column.dtype for column in (events.user, events.item, events.weight, events.event, events.time)]
    assert kinds == [np.int32, np.int32, np.float32, np.uint8, np.int64]


def test_extra_columns_follow_their_rows() -> None:
    events = table(["a", "b"], ["x", "y"], [2, 1], extra=pl.DataFrame({"page": ["first", "second"]}))
    assert events.extra is not None
    assert events.extra["page"].to_list() == ["second", "first"]
    assert events.rows(np.array([False, True])).extra["page"].to_list() == ["first"]  # type: ignore[index]


def test_a_pair_counts_once_with_its_largest_weight() -> None:
    events = table(["a", "a", "a"], ["x", "y", "x"], [1, 2, 3], weight=np.array([5.0, 1.0, 2.0]))
    assert pairs(events) == [("a", "x", 5.0), ("a", "y", 1.0)]


def test_a_later_dislike_takes_the_pair_away() -> None:
    assert pairs(of_kinds([(1, 1, 0, 1), (1, 2, 0, 1), (1, 1, 2, 2)])) == [(1, 2, 1.0)]


def test_a_like_after_a_dislike_stands() -> None:
    assert pairs(of_kinds([(1, 1, 2, 1), (1, 1, 0, 2)])) == [(1, 1, 1.0)]


def test_a_dislike_of_the_same_second_counts_by_file_order() -> None:
    assert pairs(of_kinds([(1, 1, 0, 1), (1, 1, 2, 1)])) == []
    assert pairs(of_kinds([(1, 1, 2, 1), (1, 1, 0, 1)])) == [(1, 1, 1.0)]


def test_someone_elses_dislike_changes_nothing() -> None:
    assert pairs(of_kinds([(1, 1, 0, 1), (2, 1, 2, 2)])) == [(1, 1, 1.0)]


def test_neutral_events_neither_make_a_pair_nor_save_one() -> None:
    assert pairs(of_kinds([(1, 1, 1, 1)])) == []
    assert pairs(of_kinds([(1, 1, 0, 1), (1, 1, 2, 2), (1, 1, 1, 3)])) == []


def test_an_event_types_weight_multiplies_that_of_the_row() -> None:
    events = table(
        ["a", "a"], ["x", "y"], weight=np.array([2.0, 3.0]), event=np.array([0, 1]),
        events=(EventType("buy", weight=10.0), EventType("dislike", weight=0.5, sign="negative")),
    )  # fmt: skip
    assert events.signed_weight.tolist() == [20.0, -1.5]


def test_an_event_type_says_whether_it_hides_the_item() -> None:
    events = table([1, 1], [1, 2], event=np.array([1, 0]), events=(EventType("buy"), EventType("view", hides=False)))
    assert events.hides.tolist() == [False, True]


@given(EVENTS)
def test_positives_are_what_a_slow_reading_of_the_log_finds(rows: list[tuple[int, int, int, int]]) -> None:
    last: dict[tuple[int, int], int] = {}
    for user, item, kind, _ in sorted(rows, key=lambda row: row[3]):
        if KINDS[kind].sign != "neutral":
            last[user, item] = kind
    wanted = {pair for pair, kind in last.items() if kind == 0}
    found = pairs(of_kinds(rows))
    assert {(user, item) for user, item, _ in found} == wanted
    assert len(found) == len(wanted)


@given(EVENTS)
def test_positives_are_sorted_by_user_then_item(rows: list[tuple[int, int, int, int]]) -> None:
    found = of_kinds(rows).positives
    order = list(zip(found.user.tolist(), found.item.tolist(), strict=True))
    assert order == sorted(order)


def test_the_view_by_user_lists_event_positions_oldest_first() -> None:
    events = table(["a", "b", "a"], ["x", "y", "z"], [3, 2, 1])  # in time order: a-z, b-y, a-x
    offsets, order = events.by_user
    assert offsets.tolist() == [0, 2, 3]
    assert order.tolist() == [0, 2, 1]


@given(EVENTS)
def test_views_hold_every_event_once_in_time_order(rows: list[tuple[int, int, int, int]]) -> None:
    events = of_kinds(rows)
    for (offsets, order), column, n in (
        (events.by_user, events.user, events.n_users),
        (events.by_item, events.item, events.n_items),
    ):
        assert sorted(order.tolist()) == list(range(len(events)))
        assert len(offsets) == n + 1
        for row in range(n):
            mine = order[offsets[row] : offsets[row + 1]]
            assert mine.tolist() == np.flatnonzero(column == row).tolist()


def with_everything() -> Interactions:
    """Users a b c, items x y z; a and c are friends; x and z are of brand 0, y of brand 1."""
    events = table(["a", "b", "c"], ["x", "y", "z"], [1, 2, 3])
    one = np.ones(3, np.float32)
    relations = {
        "friend": Edges("user", "user", np.array([0], np.int32), np.array([2], np.int32), one[:1]),
        "brand": Edges("item", "brand", np.array([0, 1, 2], np.int32), np.array([0, 1, 0], np.int32), one),
    }
    tables = events.with_tables(
        users=pl.DataFrame({"user": ["c", "a"], "age": [30, 10]}),
        items=pl.DataFrame({"sku": ["z", "x", "y"], "title": ["Zoo", "", None], "price": [3, 1, 2]}),
    )
    return Interactions(**{**vars(tables), "relations": relations})


def test_a_table_is_aligned_with_the_rows_of_its_ids() -> None:
    events = with_everything()
    assert events.users is not None
    assert events.items is not None
    assert events.users.to_dict(as_series=False) == {"age": [10, None, 30]}
    assert events.items["price"].to_list() == [1, 2, 3]


def test_a_title_stands_for_an_item_where_there_is_one() -> None:
    events = with_everything()
    assert [events.title(row) for row in range(3)] == ["x", "y", "Zoo"]
    assert table([1], [42]).title(0) == "42"


def test_a_table_of_numbers_as_texts_still_finds_integer_ids() -> None:
    events = table([1, 2], [10, 20]).with_tables(items=pl.DataFrame({"id": ["20", "10", "20"], "title": list("abc")}))
    assert [events.title(row) for row in range(2)] == ["b", "a"]  # the first of two rows counts


def test_fewer_ids_keep_their_rows_tables_and_the_edges_between_them() -> None:
    events = with_everything()
    head = events.rows(events.user < 2).head_ids(2, 2)
    assert (head.user_ids, head.item_ids) == (Ids.of(["a", "b"]), Ids.of(["x", "y"]))
    assert head.items is not None
    assert head.items["price"].to_list() == [1, 2]
    assert head.users is not None
    assert head.users["age"].to_list() == [10, None]
    assert len(head.relations["friend"].source) == 0  # c is gone
    assert head.relations["brand"].source.tolist() == [0, 1]
    assert head.relations["brand"].target.tolist() == [0, 1]


def test_renumbered_ids_take_events_tables_and_edges_with_them() -> None:
    events = with_everything().reorder_ids(np.array([2, 0, 1]), np.array([1, 2, 0]))  # c a b, y z x
    assert events.user_ids == Ids.of(["c", "a", "b"])
    assert events.item_ids == Ids.of(["y", "z", "x"])
    assert events.user.tolist() == [1, 2, 0]
    assert events.item.tolist() == [2, 0, 1]
    assert events.users is not None
    assert events.users["age"].to_list() == [30, 10, None]
    assert events.items is not None
    assert events.items["price"].to_list() == [2, 3, 1]
    friend, brand = events.relations["friend"], events.relations["brand"]
    assert (friend.source.tolist(), friend.target.tolist()) == ([1], [0])  # a → c
    assert (brand.source.tolist(), brand.target.tolist()) == ([2, 0, 1], [0, 1, 0])  # x y z; brands keep their rows


@given(EVENTS, st.randoms())
def test_renumbering_changes_no_event_in_the_callers_ids(rows: list[tuple[int, int, int, int]], random: Any) -> None:
    events = of_kinds(rows)
    orders = [list(range(events.n_users)), list(range(events.n_items))]
    for order in orders:
        random.shuffle(order)
    other = events.reorder_ids(*(np.array(order, np.int64) for order in orders))
    assert sorted(pairs(other)) == sorted(pairs(events))
    assert other.user_ids.names(other.user).to_list() == events.user_ids.names(events.user).to_list()
    assert other.item_ids.names(other.item).to_list() == events.item_ids.names(events.item).to_list()


def test_equal_tables_have_equal_fingerprints() -> None:
    assert table(["a", "b"], ["x", "y"], [1, 2]).fingerprint == table(["a", "b"], ["x", "y"], [1, 2]).fingerprint


def test_every_change_of_an_event_or_an_id_changes_the_fingerprint() -> None:
    events = [
        table(["a", "b"], ["x", "y"], [1, 2]),
        table(["a", "b"], ["x", "y"]),
        table(["a", "b"], ["x", "y"], [1, 3]),
        table(["a", "b"], ["x", "x"], [1, 2]),
        table(["a", "c"], ["x", "y"], [1, 2]),
        table(["b", "a"], ["x", "y"], [1, 2]),
        table(["a", "b"], ["x", "y"], [1, 2], weight=np.array([1.0, 2.0])),
        table(["a", "b"], ["x", "y"], [1, 2], event=np.array([0, 1]), events=(LIKE, VIEW)),
    ]
    assert len({one.fingerprint for one in events}) == len(events)


def test_the_schema_names_sizes_events_and_relations() -> None:
    assert with_everything().schema == Schema(3, 3, (EventType("interaction"),), ("friend", "brand"))


def test_the_summary_counts_pairs_not_events(two_by_two: Interactions) -> None:
    assert two_by_two.summary() == {"events": 3, "users": 2, "items": 2, "density": 0.75, "timed": True}


def test_even_users_have_even_items_only(even_odd: Interactions) -> None:
    users, items = even_odd.user_ids.names(even_odd.user), even_odd.item_ids.names(even_odd.item)
    assert ((users - items) % 2 == 0).all()
    assert len(even_odd.positives) == len(even_odd) == 200


def test_other_types_give_the_same_rows_another_meaning() -> None:
    events = table(["a", "a", "b"], ["x", "y", "x"], [1, 2, 3], event=np.array([0, 1, 1]), events=(LIKE, VIEW))
    views, _ = events.by_user, events.signed_weight
    other = events.meaning((EventType("like", sign="negative"), EventType("view", weight=3.0), EventType("wish")))
    assert other.by_user is views
    assert other.signed_weight.tolist() == [-1.0, 3.0, 3.0]
    assert other.hides.tolist() == [True, True, True]
    assert events.events == (LIKE, VIEW)


def test_declared_types_take_the_places_of_their_names_and_new_ones_follow() -> None:
    muted, wish = EventType("like", weight=0.0), EventType("wish")
    assert declared((LIKE, VIEW), [wish, muted]) == (muted, VIEW, wish)
    assert declared((LIKE, VIEW), []) == (LIKE, VIEW)


def test_an_unknown_sign_is_answered_with_the_signs_there_are() -> None:
    with pytest.raises(ConfigError) as caught:
        EventType("like", sign="good")
    assert str(caught.value) == "sign is 'good'; it must be one of positive, neutral, negative. Try sign = positive."


def test_a_dislike_is_a_sign_not_a_negative_weight() -> None:
    with pytest.raises(ConfigError, match=r"weight is -1\.0; it must be 0 or more"):
        EventType("dislike", weight=-1.0)
