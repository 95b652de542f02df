"""Labels: which events become rows, which of them count as 1, and what stands against them."""

from collections.abc import Sequence

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bowerbird.core import ConfigError
from bowerbird.core.ids import Ids
from bowerbird.data import EventType, Interactions, Labels

SHOP = (EventType("view", sign="neutral", hides=False), EventType("cart"), EventType("buy", weight=3.0))
Event = tuple[int, int, int]


def events(rows: Sequence[Event], kinds: tuple[EventType, ...], n_users: int = 4, n_items: int = 5) -> Interactions:
    """Return events (user, item, event type), a second apart."""
    user, item, event = np.array(rows, np.int64).reshape(-1, 3).T
    return Interactions(
        user.astype(np.int32), item.astype(np.int32), np.ones(len(rows), np.float32), event.astype(np.uint8),
        np.arange(len(rows)), Ids.of([f"u{row}" for row in range(n_users)]),
        Ids.of([f"i{row}" for row in range(n_items)]), kinds,
    )  # fmt: skip


def test_where_some_events_are_not_positive_those_that_are_count_as_1() -> None:
    kinds = (EventType("watched", sign="neutral"), EventType("like"), EventType("dislike", sign="negative"))
    rows, event = Labels().rows(events([(0, 1, 0), (0, 2, 1), (1, 3, 2), (1, 2, 1)], kinds))
    assert rows.labels.tolist() == [[0], [1], [0], [1]]
    assert event.tolist() == [0, 1, 2, 3]
    assert rows.tasks == ("label",)


def test_a_row_says_who_what_and_when_in_rows_and_in_ids() -> None:
    kinds = (EventType("dislike", sign="negative"), EventType("like"))
    rows, _ = Labels().rows(events([(3, 1, 1), (0, 4, 0)], kinds))
    assert rows.table.to_dict(as_series=False) == {"user_id": ["u3", "u0"], "item_id": ["i1", "i4"]}
    assert rows.user is not None
    assert rows.item is not None
    assert rows.time is not None
    assert (rows.user.tolist(), rows.item.tolist(), rows.time.tolist()) == ([3, 0], [1, 4], [0, 1])


def test_other_columns_of_an_event_are_columns_of_its_rows() -> None:
    extra = pl.DataFrame({"device": ["phone", "desk"], "user_id": ["of another system", "of another system"]})
    users, items = pl.Series(["a", "b"]), pl.Series(["x", "y"])
    rows, event = Labels(negatives=2).rows(Interactions.of(users, items, extra=extra))
    assert rows.table.columns == ["user_id", "item_id", "device"]
    assert rows.table["device"].to_list() == extra["device"].gather(event.tolist()).to_list()
    assert set(rows.table["user_id"]) == {"a", "b"}


def test_likes_count_as_1_among_events_that_are_all_positive() -> None:
    kinds = (EventType("rate"), EventType("like", weight=2.0))
    rows, _ = Labels().rows(events([(0, 1, 0), (0, 2, 1)], kinds))
    assert rows.labels.tolist() == [[0], [1]]


@pytest.mark.parametrize("kinds", [(EventType("like"),), (EventType("click"), EventType("buy"))])
def test_where_nothing_speaks_against_anything_items_are_drawn_against_it(kinds: tuple[EventType, ...]) -> None:
    rows, event = Labels(negatives=3).rows(events([(0, 1, 0), (2, 2, 0)], kinds, n_items=50))
    assert rows.labels[:, 0].tolist() == [1, 1, 0, 0, 0, 0, 0, 0]
    assert event.tolist() == [0, 1, 0, 0, 0, 1, 1, 1]
    assert rows.user is not None
    assert rows.user.tolist() == [0, 2, 0, 0, 0, 2, 2, 2]


def test_the_event_named_is_what_counts_as_1() -> None:
    rows, _ = Labels(label=("buy",)).rows(events([(0, 1, 1), (0, 1, 2), (1, 2, 0)], SHOP))
    assert rows.labels.tolist() == [[0], [1], [0]]
    assert rows.tasks == ("buy",)


def test_given_views_each_label_says_what_followed_on_the_same_pair() -> None:
    log = [(0, 1, 0), (0, 1, 1), (0, 1, 0), (0, 1, 2), (0, 2, 0), (1, 1, 0), (1, 2, 2), (1, 2, 0)]
    rows, event = Labels(label=("cart", "buy"), given="view").rows(events(log, SHOP))
    assert event.tolist() == [0, 2, 4, 5, 7]
    # the first view leads to a cart and a buy, the second to a buy; a buy before the view is none that followed
    assert rows.labels.tolist() == [[1, 1], [0, 1], [0, 0], [0, 0], [0, 0]]
    assert rows.tasks == ("cart", "buy")


def test_nothing_follows_where_no_event_of_the_type_is_there() -> None:
    rows, _ = Labels(label=("buy",), given="view").rows(events([(0, 1, 0)], SHOP))
    assert rows.labels.tolist() == [[0]]


def test_pairs_without_the_given_event_are_left_out_and_counted() -> None:
    log = events([(0, 1, 0), (0, 1, 2), (1, 1, 2), (1, 1, 1), (2, 3, 1), (3, 3, 0)], SHOP)
    labels = Labels(label=("cart", "buy"), given="view")
    assert len(labels.rows(log)[0]) == 2
    assert labels.left_out(log) == 2  # user 1 on item 1, once though it is carted and bought, and user 2 on item 3
    assert Labels().left_out(log) == 0


def test_what_counts_as_1_is_what_a_history_holds() -> None:
    log = events([(0, 1, 0)], SHOP)
    assert Labels().chosen(log.events).tolist() == [False, True, True]  # type: ignore[union-attr]
    assert Labels(label=("buy",)).chosen(log.events).tolist() == [False, False, True]  # type: ignore[union-attr]
    assert Labels(label=("cart", "buy"), given="view").chosen(log.events) is None
    assert Labels().chosen((EventType("click"),)) is None


def test_a_label_goes_on_to_mean_what_it_meant_when_other_types_come() -> None:
    later = (*SHOP, EventType("wish"), EventType("return", sign="negative"))
    assert Labels().chosen(later, SHOP).tolist() == [False, True, True, True, False]  # type: ignore[union-attr]
    assert Labels(label=("buy",)).chosen(later, SHOP).tolist() == [False, False, True, False, False]  # type: ignore[union-attr]
    rated = (EventType("rate"), EventType("like"))
    assert Labels().chosen((*rated, *later), rated).tolist() == [False, True, *[False] * 5]  # type: ignore[union-attr]
    one = (EventType("click"),)
    assert Labels().chosen((*one, *later), one) is None
    rows, _ = Labels(negatives=1).rows(
        events([(0, 1, 0), (1, 2, 1)], (*one, EventType("return", sign="negative"))), trained=one
    )
    assert rows.labels.tolist() == [[1], [0]]  # of what was chosen and what was drawn, as before


LOGS = st.lists(st.tuples(st.integers(0, 3), st.integers(0, 4), st.integers(0, 2)), min_size=1, max_size=30)


@given(LOGS)
def test_following_equals_a_slow_search(log: list[Event]) -> None:
    rows, event = Labels(label=("cart", "buy"), given="view").rows(events(log, SHOP))
    slow = [
        [float(any(log[later] == (*log[place][:2], kind) for later in range(place + 1, len(log)))) for kind in (1, 2)]
        for place in range(len(log)) if log[place][2] == 0
    ]  # fmt: skip
    assert rows.labels.tolist() == slow
    assert all(log[place][2] == 0 for place in event)


@given(LOGS, LOGS, st.integers(1, 5), st.integers(0, 3))
def test_no_negative_was_ever_chosen_by_its_user(log: list[Event], past: list[Event], each: int, seed: int) -> None:
    kinds = (EventType("click"), EventType("cart"), EventType("buy"))
    now, before = events(log, kinds), events(past, kinds)
    rows, event = Labels(negatives=each).rows(now, past=before, seed=seed)
    chosen = {(user, item) for user, item, _ in (*log, *past)}
    negative = rows.labels[:, 0] == 0
    assert rows.user is not None
    assert rows.item is not None
    pairs = list(zip(rows.user[negative].tolist(), rows.item[negative].tolist(), strict=True))
    assert not chosen & set(pairs)
    assert (np.bincount(event[negative], minlength=len(log)) <= each).all()
    assert event[~negative].tolist() == list(range(len(log)))
    assert (now.user[event] == rows.user).all()


def test_whoever_chose_everything_has_no_negatives() -> None:
    log = events([(0, item, 0) for item in range(5)] + [(1, 0, 0)], (EventType("click"),))
    rows, event = Labels(negatives=2).rows(log)
    assert event.tolist() == [0, 1, 2, 3, 4, 5, 5, 5]
    assert rows.labels[:, 0].tolist() == [1] * 6 + [0] * 2


def test_negatives_follow_their_seed() -> None:
    log = events([(user, 0, 0) for user in range(4)], (EventType("click"),), n_items=1_000)
    one, same, other = (Labels().rows(log, seed=seed)[0].item for seed in (0, 0, 1))
    assert np.array_equal(one, same)  # type: ignore[arg-type]
    assert not np.array_equal(one, other)  # type: ignore[arg-type]


def test_no_event_makes_no_row() -> None:
    assert len(Labels().rows(events([], SHOP))[0]) == 0
    assert len(Labels().rows(events([], (EventType("click"),), n_items=0))[0]) == 0


def test_an_unknown_event_is_answered_with_the_closest() -> None:
    log = events([(0, 1, 0)], SHOP)
    with pytest.raises(ConfigError, match=r'no event is named "bye"\. Did you mean "buy"\? Events: view, cart, buy\.'):
        Labels(label=("bye",)).rows(log)
    with pytest.raises(ConfigError, match=r'no event is named "views"\. Did you mean "view"\?'):
        Labels(label=("buy",), given="views").rows(log)


def test_options_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"negatives is 0; it must be 1 or more\. Try negatives = 4\."):
        Labels(negatives=0)
    with pytest.raises(ConfigError, match=r"label is \('cart', 'buy'\); it must be one event, unless given names"):
        Labels(label=("cart", "buy"))
    with pytest.raises(ConfigError, match=r"label is \(\); it must name what may follow\. Try label = buy\."):
        Labels(given="view")
