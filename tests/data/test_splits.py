from dataclasses import replace
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bowerbird.core import ConfigError, DataError
from bowerbird.data import Edges, EventType, Interactions, Split, later, read, split

COUNTED = "before others' training"


def table(rows: list[tuple[Any, Any, int]], **columns: Any) -> Interactions:
    """Rows of user, item, time."""
    user, item, time = zip(*rows, strict=True)
    return Interactions.of(pl.Series(user), pl.Series(item), time=np.array(time, np.int64), **columns)


def timeless(rows: list[tuple[Any, Any]]) -> Interactions:
    user, item = zip(*rows, strict=True)
    return Interactions.of(pl.Series(user), pl.Series(item))


def rows(events: Interactions) -> list[tuple[Any, ...]]:
    """Events in the caller's ids, with their times where known."""
    users, items = events.user_ids.names(events.user), events.item_ids.names(events.item)
    columns = [users.to_list(), items.to_list()] + ([] if events.time is None else [events.time.tolist()])
    return list(zip(*columns, strict=True))


def line(n: int) -> Interactions:
    """One event a second by three users in turn."""
    return table([(f"u{second % 3}", f"i{second % 4}", second) for second in range(n)])


DIARY = [
    ("a", "x", 1), ("b", "x", 2), ("a", "y", 3), ("b", "y", 4), ("c", "x", 5), ("a", "z", 6), ("c", "y", 7),
    ("b", "z", 8), ("a", "w", 9), ("d", "x", 10),
]  # fmt: skip


@st.composite
def logs(draw: st.DrawFn) -> Interactions:
    """10 to 40 events of few users and items, up to 3 of them in one second."""
    n, together = draw(st.integers(10, 40)), draw(st.integers(1, 3))
    column = st.lists(st.integers(0, 6), min_size=n, max_size=n)
    return table(list(zip(draw(column), draw(column), (np.arange(n) // together).tolist(), strict=True)))


METHODS = st.sampled_from(["temporal", "per-user", "leave-one-out", "random"])


@given(logs(), METHODS)
def test_the_parts_hold_every_event_once(events: Interactions, method: str) -> None:
    cut = split(events, method, valid=0.2, test=0.3)
    parts = [*rows(cut.train), *rows(cut.valid.targets), *rows(cut.test.targets)]
    assert sorted(parts) == sorted(rows(events))


@given(logs(), METHODS, st.integers(0, 3))
def test_what_is_asked_and_what_is_shown_hold_every_event_once(events: Interactions, method: str, warmup: int) -> None:
    cut = split(events, method, valid=0.2, test=0.3, warmup=warmup if method == "temporal" else 0)
    assert sorted([*rows(cut.test.history), *rows(cut.test.targets)]) == sorted(rows(events))
    assert sorted([*rows(cut.valid.history), *rows(cut.valid.targets)]) == sorted(rows(cut.test.known))
    assert rows(cut.valid.known) == rows(cut.train)


@given(logs(), METHODS)
def test_ids_of_training_come_first_then_those_of_validation(events: Interactions, method: str) -> None:
    cut = split(events, method, valid=0.2, test=0.3)
    for holdout in (cut.valid, cut.test):
        assert set(holdout.known.user) == set(range(holdout.known.n_users))
        assert set(holdout.known.item) == set(range(holdout.known.n_items))
        assert holdout.known.user_ids == holdout.targets.user_ids.head(holdout.known.n_users)
        assert holdout.known.item_ids == holdout.targets.item_ids.head(holdout.known.n_items)
    assert cut.train.user_ids == cut.valid.known.user_ids


@given(logs())
def test_nothing_at_or_after_a_cut_was_known_before_it(events: Interactions) -> None:
    cut = split(events, "temporal", valid=0.2, test=0.3)
    for holdout in (cut.valid, cut.test):
        if len(holdout.targets):
            assert holdout.known.time.max() < holdout.targets.time.min()  # type: ignore[union-attr]


@given(logs())
def test_a_temporal_split_leaks_nothing(events: Interactions) -> None:
    leaks = split(events, "temporal", valid=0.2, test=0.3).audit[COUNTED].drop_nulls()
    assert (leaks == 0).all()


@given(logs(), st.integers(1, 3))
def test_only_strangers_are_warmed_up_and_each_by_their_first_events(events: Interactions, warmup: int) -> None:
    cold = split(events, "temporal", valid=0.2, test=0.3).test
    warm = split(events, "temporal", valid=0.2, test=0.3, warmup=warmup).test
    for user in range(cold.targets.n_users):
        asked = [row for row in rows(cold.targets) if row[0] == cold.targets.user_ids[user]]
        left = [row for row in rows(warm.targets) if row[0] == cold.targets.user_ids[user]]
        assert left == (asked[warmup:] if user in cold.strangers else asked)


@given(logs(), st.integers(0, 5))
def test_a_random_split_follows_its_seed(events: Interactions, seed: int) -> None:
    one, same = (split(events, "random", valid=0.2, test=0.3, seed=seed) for _ in range(2))
    assert one.protocol == same.protocol
    assert rows(one.test.targets) == rows(same.test.targets)


def test_a_temporal_split_by_hand() -> None:
    cut = split(table(DIARY))
    assert rows(cut.train) == DIARY[:8]
    assert rows(cut.valid.targets) == [("a", "w", 9)]
    assert rows(cut.test.known) == DIARY[:9]
    assert rows(cut.test.targets) == [("d", "x", 10)]
    assert cut.protocol.startswith("split=temporal cuts=0.80,0.90 hash=")


def test_a_stranger_is_a_user_of_the_targets_whom_training_cannot_know() -> None:
    cut = split(table(DIARY))
    assert cut.test.targets.user_ids.names(cut.test.strangers).to_list() == ["d"]
    assert cut.valid.strangers.tolist() == []


def test_events_of_one_second_stay_together() -> None:
    seconds = [0, 1, 2, 3, 4, 5, 6, 8, 8, 8]  # the cuts would fall between the eights
    cut = split(table([("u", f"i{place}", second) for place, second in enumerate(seconds)]))
    assert len(cut.train) == 7
    assert len(cut.valid.targets) == 0
    assert len(cut.test.targets) == 3


def test_the_audit_of_a_temporal_split_by_hand() -> None:
    assert split(table(DIARY)).audit.rows() == [
        ("train", 3, 3, 8, None, None, None),
        ("valid", 1, 1, 1, 0.0, 0, 1),
        ("test", 1, 1, 1, 0.0, 1, 0),
    ]


def test_the_audit_of_leave_one_out_by_hand() -> None:
    cut = split(table(DIARY[:9]), "leave-one-out")
    assert rows(cut.train) == [("a", "x", 1), ("b", "x", 2), ("a", "y", 3), ("c", "x", 5)]
    assert rows(cut.valid.targets) == [("b", "y", 4), ("a", "z", 6)]
    assert rows(cut.test.targets) == [("c", "y", 7), ("b", "z", 8), ("a", "w", 9)]
    # of the validation targets only the one at 4 comes before somebody else's training event, c's at 5
    assert cut.audit.rows() == [
        ("train", 3, 2, 4, None, None, None),
        ("valid", 2, 2, 2, 0.5, 0, 1),
        ("test", 3, 3, 3, 0.0, 0, 1),
    ]


def test_ones_own_later_events_are_no_leak() -> None:
    train = table([("b", "x", 5), ("a", "x", 10)])
    cut = split(train, test=table([("a", "y", 9), ("b", "y", 9)]), valid=table([("a", "z", 11)]))
    # known are b's event at 5 and a's at 10 and 11: only b's target precedes another user's
    assert cut.audit.filter(pl.col("part") == "test")[COUNTED].item() == 0.5


def test_without_times_no_leak_is_counted() -> None:
    cut = split(timeless([("a", item) for item in range(10)]), "random")
    assert cut.audit[COUNTED].to_list() == [None, None, None]


def test_a_users_last_events_are_the_test_part_of_a_per_user_split() -> None:
    busy = [("busy", f"i{second}", second) for second in range(10)]
    events = table([*busy, ("once", "x", 100), *[("some", f"j{second}", 50 + second) for second in range(4)]])
    cut = split(events, "per-user", valid=0.1, test=0.2)
    assert rows(cut.test.targets) == [*busy[8:], ("some", "j3", 53)]  # three events and more: one at least
    assert rows(cut.valid.targets) == [*busy[7:8], ("some", "j2", 52)]
    assert {user for user, *_ in rows(cut.train)} == {"busy", "once", "some"}
    assert cut.protocol.startswith("split=per-user valid=0.1 test=0.2 hash=")


def test_file_order_stands_for_time_where_there_is_none() -> None:
    cut = split(timeless([("a", item) for item in range(5)]), "leave-one-out")
    assert rows(cut.test.targets) == [("a", 4)]
    assert rows(cut.valid.targets) == [("a", 3)]


def test_a_single_event_stays_in_training_when_one_is_left_out() -> None:
    cut = split(table([("a", "x", 1), ("a", "y", 2), ("b", "x", 3)]), "leave-one-out")
    assert rows(cut.train) == [("a", "x", 1), ("b", "x", 3)]
    assert rows(cut.test.targets) == [("a", "y", 2)]


def test_shares_of_each_users_events_are_cut_at_random(even_odd: Interactions) -> None:
    cut = split(even_odd, "random", valid=0.2, test=0.4)
    for part, per_user in ((cut.train, 2), (cut.valid.targets, 1), (cut.test.targets, 2)):
        assert np.bincount(part.user).tolist() == [per_user] * 40
    assert "seed=0" in cut.protocol


def test_another_seed_gives_another_random_split(even_odd: Interactions) -> None:
    one, other = (split(even_odd, "random", test=0.4, seed=seed) for seed in (0, 1))
    assert rows(one.test.targets) != rows(other.test.targets)
    assert one.protocol != other.protocol


def test_a_strangers_first_events_are_posted_when_they_ask() -> None:
    past = [("old", f"i{second}", second) for second in range(7)]
    new = [("new", "p", 7), ("new", "q", 8), ("new", "r", 9)]
    posted = {}
    for warmup in (0, 1, 3):
        holdout = split(table(past + new), valid=0.1, test=0.3, warmup=warmup).test
        assert rows(holdout.known) == past
        assert rows(holdout.targets) == new[warmup:]
        posted[warmup] = rows(holdout.history)[len(past) :]
    assert posted == {0: [], 1: new[:1], 3: new}


def test_a_user_who_came_with_validation_is_no_stranger_to_test() -> None:
    past = [("old", f"i{second}", second) for second in range(6)]
    cut = split(table([*past, ("new", "p", 6), ("new", "q", 7), ("new", "r", 8), ("old", "p", 9)]),
                valid=0.2, test=0.2, warmup=1)  # fmt: skip
    assert cut.valid.strangers.tolist() == [1]
    assert rows(cut.valid.targets) == [("new", "q", 7)]
    assert ("new", "p", 6) in rows(cut.test.known)
    assert cut.test.strangers.tolist() == []
    assert rows(cut.test.targets) == [("new", "r", 8), ("old", "p", 9)]
    assert "warmup=1" in cut.protocol


def test_folds_roll_forward_and_know_nothing_after_their_test_part() -> None:
    cuts = split(line(20), folds=3)
    seconds = [
        [part.time.tolist() for part in (cut.train, cut.valid.targets, cut.test.targets)]  # type: ignore[union-attr]
        for cut in cuts
    ]
    assert seconds == [
        [list(range(12)), [12, 13], [14, 15]],
        [list(range(14)), [14, 15], [16, 17]],
        [list(range(16)), [16, 17], [18, 19]],
    ]


def test_the_last_fold_is_the_plain_split() -> None:
    assert split(line(20), folds=3)[-1].protocol == split(line(20)).protocol


def test_many_folds_step_by_equal_shares() -> None:
    assert [len(cut.train) for cut in split(line(20), folds=8)] == [2, 4, 6, 8, 10, 12, 14, 16]


def test_with_times_the_split_is_temporal() -> None:
    assert split(line(20)).protocol == split(line(20), "temporal").protocol


def test_without_times_the_split_is_random_and_says_what_to_do() -> None:
    cut = split(timeless([("a", item) for item in range(10)]))
    assert cut.protocol.startswith("split=random")
    assert "there is no time column" in cut.warnings[0]
    assert "Name the time column with time=… (--time on the command line)." in cut.warnings[0]


def test_a_random_split_that_was_asked_for_needs_no_warning_about_time() -> None:
    assert not any("time column" in text for text in split(line(20), "random").warnings)


def crowd(n: int) -> Interactions:
    return timeless([(user, (user + step) % 7) for user in range(n) for step in range(5)])


def test_under_500_warm_test_users_are_pointed_out() -> None:
    cut = split(crowd(499), "per-user", valid=0.2, test=0.2)
    assert cut.warnings == ("only 499 users have both a past and a test part: read the intervals.",)
    assert split(crowd(500), "per-user", valid=0.2, test=0.2).warnings == ()


def test_strangers_do_not_count_as_warm() -> None:
    assert "only 0 users have both" in split(table(DIARY)).warnings[-1]


def test_a_split_prints_its_protocol_audit_and_warnings() -> None:
    cut = split(table(DIARY))
    text = str(cut)
    assert text.startswith(cut.protocol)
    assert COUNTED in text
    assert text.endswith(f"warning: {cut.warnings[-1]}")


def test_the_hash_follows_the_events_and_the_cut() -> None:
    def digest(cut: Split) -> str:
        return cut.protocol.rsplit("hash=", 1)[1]

    plain = digest(split(line(20)))
    assert digest(split(line(20))) == plain
    assert digest(split(line(20), test=0.2)) != plain
    assert digest(split(line(20), "leave-one-out")) != plain
    assert digest(split(line(21))) != plain


def test_given_parts_are_joined_by_the_callers_ids() -> None:
    train = table([("a", "x", 1), ("b", "y", 2)])
    valid, test = table([("b", "x", 3)]), table([("c", "x", 4), ("a", "z", 5)])
    cut = split(train, valid=valid, test=test)
    assert rows(cut.train) == rows(train)
    assert rows(cut.valid.targets) == rows(valid)
    assert rows(cut.test.known) == [*rows(train), *rows(valid)]
    assert rows(cut.test.targets) == rows(test)
    assert cut.test.targets.user_ids.names(cut.test.strangers).to_list() == ["c"]
    assert cut.protocol.startswith("split=given hash=")


def test_given_parts_keep_the_relations_of_training_between_those_who_are_left() -> None:
    train = timeless([("a", "x"), ("b", "y"), ("c", "x")])
    friends = Edges("user", "user", np.array([0, 1], np.int32), np.array([2, 0], np.int32), np.ones(2, np.float32))
    tags = Edges("item", "tag", np.array([1, 0], np.int32), np.array([9, 8], np.int32), np.ones(2, np.float32))
    train = replace(train.rows(np.array([1, 2])), relations={"friend": friends, "tag": tags})  # a has no event left
    cut = split(train, test=timeless([("d", "y"), ("a", "y")]), valid=timeless([("c", "y")]))
    for part, pairs in ((cut.train, []), (cut.test.history, [("a", "c"), ("b", "a")])):
        ends = part.relations["friend"]
        found = zip(part.user_ids.names(ends.source), part.user_ids.names(ends.target), strict=True)
        assert sorted(found) == pairs
        named = part.item_ids.names(part.relations["tag"].source).to_list()
        assert dict(zip(named, part.relations["tag"].target.tolist(), strict=True)) == {"y": 9, "x": 8}


def test_without_a_given_validation_part_one_is_cut_from_each_users_training() -> None:
    train = timeless([(user, item) for user in "ab" for item in range(10)])
    cut = split(train, "given", valid=0.3, test=timeless([("a", 99)]), seed=4)
    assert np.bincount(cut.valid.targets.user).tolist() == [3, 3]
    assert sorted([*rows(cut.train), *rows(cut.valid.targets)]) == sorted(rows(train))
    assert rows(cut.test.targets) == [("a", 99)]
    assert cut.protocol.startswith("split=given valid=0.3-of-train seed=4 hash=")


def test_given_parts_agree_on_what_an_event_means() -> None:
    view, dislike = EventType("view"), EventType("dislike", sign="negative")
    train = table([("a", "x", 1), ("a", "y", 2)], event=np.array([0, 0]), events=(view,))
    valid = table([("a", "x", 3)], event=np.array([0]), events=(dislike,))
    test = table([("a", "x", 4), ("a", "y", 5)], event=np.array([0, 1]), events=(dislike, view))
    cut = split(train, valid=valid, test=test)
    assert cut.train.events == (view, dislike)
    assert cut.valid.targets.signed_weight.tolist() == [-1.0]
    assert cut.test.targets.signed_weight.tolist() == [-1.0, 1.0]
    assert rows(cut.test.known) == [("a", "x", 1), ("a", "y", 2), ("a", "x", 3)]


def test_given_parts_that_overlap_in_time_are_merged_in_time_order() -> None:
    cut = split(table([("a", "x", 1), ("a", "y", 5)]), valid=table([("a", "z", 3)]), test=table([("b", "x", 4)]))
    assert rows(cut.test.known) == [("a", "x", 1), ("a", "z", 3), ("a", "y", 5)]
    assert cut.audit[COUNTED].to_list() == [None, 0.0, 1.0]


def test_given_parts_without_times_have_none() -> None:
    cut = split(table([("a", "x", 1), ("b", "x", 2)]), valid=timeless([("a", "y")]), test=timeless([("b", "y")]))
    assert cut.train.time is None
    assert rows(cut.test.known) == [("a", "x"), ("b", "x"), ("a", "y")]


def test_given_ids_take_the_type_of_training() -> None:
    cut = split(timeless([(1, 1), (1, 2)]), valid=timeless([("1", "2")]), test=timeless([("1", "7")]))
    assert rows(cut.test.targets) == [(1, 7)]


def test_given_ids_that_cannot_take_the_type_of_training_are_refused() -> None:
    with pytest.raises(DataError, match="ids are texts where"):
        split(timeless([(1, 1), (1, 2)]), test=timeless([("ann", "7")]))


def test_later_events_keep_the_rows_of_the_past_and_add_new_ones() -> None:
    past = table([("a", "x", 1), ("b", "y", 2)])
    holdout = later(past, table([("c", "y", 3), ("b", "z", 4)]))
    assert holdout.known is past
    assert rows(holdout.history) == rows(past)
    assert rows(holdout.targets) == [("c", "y", 3), ("b", "z", 4)]
    assert holdout.targets.user_ids.head(2) == past.user_ids
    assert holdout.targets.item_ids.head(2) == past.item_ids
    assert holdout.strangers.tolist() == [2]


def test_later_events_of_another_kind_of_id_are_refused() -> None:
    with pytest.raises(DataError, match="ids are texts where the run has integers"):
        later(timeless([(1, 1)]), timeless([("ann", 1)]))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"method": "tempral"}, r'no split is named "tempral"\. Did you mean "temporal"\? Allowed: temporal, per-user'),
        ({"method": "given"}, r'test is 0\.1; it must be a table of interactions for method "given"'),
        ({"method": "per-user", "folds": 3}, "folds is 3; it needs the temporal method"),
        ({"method": "random", "warmup": 2}, r"warmup is 2; it needs the temporal method\. Try warmup = 0"),
        ({"warmup": -1}, r"warmup is -1; it must be 0 or more\. Try warmup = 0"),
        ({"folds": 0}, r"folds is 0; it must be 1 or more\. Try folds = 3"),
        ({"folds": 9}, "folds is 9; it must leave something to train on, and 9 cuts reach back 1"),
        ({"valid": line(5)}, "valid is 'a table'; it must be a share unless test is a table too"),
        ({"valid": 0.5, "test": 0.5}, r"valid \+ test is 1\.0; it must leave something to train on"),
        ({"test": 0.0}, r"test is 0\.0; it must be above 0\. Try test = 0\.1"),
        ({"valid": -0.1}, r"valid is -0\.1; it must be above 0\. Try valid = 0\.1"),
        ({"test": float("nan")}, "test is nan; it must be above 0"),
        ({"method": "temporal", "test": line(5)}, "method is 'temporal'; it must be \"given\" when test is a table"),
        ({"valid": 1.5, "test": line(5)}, r"valid is 1\.5; it must be a share between 0 and 1, or a table"),
    ],
)
def test_options_that_do_not_fit_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        split(line(20), **options)


def test_a_temporal_split_needs_times() -> None:
    with pytest.raises(ConfigError, match=r'a temporal split needs times\. Try method="random"'):
        split(timeless([("a", 1), ("a", 2)]), "temporal")


def test_events_of_one_second_alone_cannot_be_split_by_time() -> None:
    with pytest.raises(ConfigError, match=r"split=temporal .* leaves no event to train on\. Take smaller shares"):
        split(table([("a", item, 5) for item in range(10)]))


def test_given_parts_keep_what_is_known_about_items() -> None:
    titles = pl.DataFrame({"item_id": [1, 2, 3], "title": ["one", "two", "three"]})
    train = read(pl.DataFrame({"user_id": [1, 1, 2], "item_id": [1, 2, 1]}), items=titles)
    test = read(pl.DataFrame({"user_id": [1, 2], "item_id": [3, 2]}), items=titles)
    parts = split(train, test=test, valid=0.4)
    history = parts.test.history
    assert {history.item_ids[row]: history.title(row) for row in range(3)} == {1: "one", 2: "two", 3: "three"}
