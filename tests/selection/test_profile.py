"""What data are like: by hand, with and without times, and of rows with labels; and parts of a split."""

from dataclasses import replace

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

import bowerbird as bb
from bowerbird.data import Interactions, RowSplit, Split, read_rows, split_rows
from bowerbird.selection import profile
from bowerbird.selection.profile import drift_of
from bowerbird.selection.sampling import thinned


def table(n_users: int = 40, each: int = 8, n_items: int = 20) -> Interactions:
    rng = np.random.default_rng(0)
    user = np.repeat(np.arange(n_users), each)
    item = np.concatenate([rng.choice(n_items, each, replace=False) for _ in range(n_users)])
    return Interactions.of(pl.Series(user), pl.Series(item), time=rng.permutation(n_users * each))


@pytest.fixture
def rows() -> RowSplit:
    rng = np.random.default_rng(0)
    frame = pl.DataFrame({"device": rng.choice(["a", "b"], 400), "price": rng.random(400), "click": [0, 1, 1, 0] * 100})
    return split_rows(read_rows(frame, labels="click"))


def test_a_profile_by_hand(two_by_two: Interactions) -> None:
    events = replace(two_by_two, items=pl.DataFrame({"title": ["A long way", "The short day"]}))
    one = profile(bb.split(events, "leave-one-out"))
    # bob's later event is test; nobody has three, so nobody is asked on validation
    assert (one.task, one.events, one.users, one.items, one.asked) == ("retrieval", 2, 2, 1, 0)
    assert (one.density, one.length, one.longest, one.repeats) == (1.0, 1.0, 1, 0.0)
    assert (one.timed, one.ordered, one.item_columns, one.content) == (True, True, ("title",), ("text",))


def test_without_times_there_is_neither_order_nor_drift() -> None:
    one = profile(bb.split(replace(table(), time=None)))
    assert (one.timed, one.ordered, one.drift) == (False, False, None)


def test_rows_with_labels_are_a_ranking_task(rows: RowSplit) -> None:
    one = profile(rows)
    assert (one.task, one.events, one.asked, one.kinds) == ("ranking", 320, 40, ("click",))
    assert one.row_columns == ("device", "price")
    assert one.positive == pytest.approx(0.5, abs=0.05)
    assert one.to_dict()["cold_users"] is None


def test_popularity_that_moves_is_drift_and_chance_is_none() -> None:
    item = np.random.default_rng(0).integers(0, 10, 1_000)
    quiet = Interactions.of(pl.Series(item), pl.Series(item), time=np.arange(1_000))
    moved = np.r_[item[:900] % 5, item[900:] % 5 + 5]
    loud = Interactions.of(pl.Series(moved), pl.Series(moved), time=np.arange(1_000))
    assert (drift_of(quiet) or 0) < 0.06
    assert (drift_of(loud) or 0) > 0.8  # all of it went to other items, less what chance moves


# ── parts ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def pairs(one: Interactions) -> set[tuple[int, int, int]]:
    assert one.time is not None
    names = one.user_ids.names(one.user).to_list(), one.item_ids.names(one.item).to_list()
    return set(zip(*names, one.time.tolist(), strict=True))


@given(st.sampled_from(["temporal", "per-user", "leave-one-out"]), st.floats(0.1, 0.9), st.integers(0, 3))
def test_a_part_holds_whole_people_and_nothing_else(method: str, share: float, seed: int) -> None:
    whole = bb.split(table(), method)
    part = thinned(whole, share, seed=seed)
    assert isinstance(part, Split)
    for mine, all_ in ((part.train, whole.train), (part.valid.history, whole.valid.history)):
        kept = set(mine.user_ids.names(mine.user).to_list())
        assert pairs(mine) == {one for one in pairs(all_) if one[0] in kept}
    assert pairs(part.valid.targets) <= pairs(whole.valid.targets)
    assert part.train.n_users <= part.valid.history.n_users == part.valid.targets.n_users
    assert len(np.unique(part.train.item)) == part.train.n_items  # no row that nobody chose
    assert len(part.train) <= share * len(whole.train) + 8  # one person more than the share, of eight events
    assert f"train={share:g}" in part.protocol


def test_larger_parts_hold_smaller_ones() -> None:
    whole = bb.split(table(), "per-user")
    small, large = (thinned(whole, share) for share in (0.25, 0.5))
    assert isinstance(small, Split)
    assert isinstance(large, Split)
    assert pairs(small.train) < pairs(large.train) < pairs(whole.train)
    assert thinned(whole, 1.0) is whole


def test_a_part_can_be_trained_and_measured() -> None:
    part = thinned(bb.split(table(), "temporal"), 0.5)
    assert isinstance(part, Split)
    report = bb.evaluate(bb.fit(part, "itemknn"), part.valid)
    assert 0 <= report.metrics["ndcg@10"] <= 1


def test_rows_of_a_part(rows: RowSplit) -> None:
    part = thinned(rows, 0.25)
    assert isinstance(part, RowSplit)
    assert (len(part.train), len(part.valid)) == (80, len(rows.valid))
