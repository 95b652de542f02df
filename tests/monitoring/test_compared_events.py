"""A recommender beside what came after its training: new items are named, and what it foresees is measured."""

from dataclasses import replace

import numpy as np
import polars as pl
import pytest

import bowerbird as bb
from bowerbird.core import DataError
from bowerbird.data import Interactions
from bowerbird.monitoring import compare_events, foreseen
from bowerbird.recommender.pasts import table_of


def liked(users: range, start: int, items: str = "i", turn: int = 0) -> pl.DataFrame:
    """Four items of their half for each user, one after the other."""
    rows = [(f"u{u}", f"{items}{u % 2 + 2 * ((u // 2 + k + turn) % 6)}") for k in range(4) for u in users]
    table = pl.DataFrame(rows, schema=["user_id", "item_id"], orient="row")
    return table.with_columns(time=start + pl.int_range(len(table)))


@pytest.fixture
def past() -> Interactions:
    kinds = pl.DataFrame({"item_id": [f"i{n}" for n in range(12)], "title": "x", "kind": ["even", "odd"] * 6})
    return bb.read(liked(range(60), 1_000), items=kinds)


def test_more_of_the_same_is_quiet_and_new_items_are_named(past: Interactions) -> None:
    rec = bb.fit(past, "itemknn")
    same = table_of(bb.read(liked(range(60), 9_000, turn=2)))
    drift = compare_events(rec, same)
    assert not drift.alarms
    assert {one.name for one in drift.series} == {"item_id", "item.kind"}  # neither title, type nor weight
    new = table_of(bb.read(pl.concat([liked(range(40), 9_000), liked(range(20), 9_500, "new")])))
    drift = compare_events(rec, new)
    assert drift.alarms
    assert any("of the rows hold 12 values that the reference lacks" in one.said for one in drift.alarms)
    assert all(one.kind != "empty" for one in drift.series)  # what is not known of new items is no second alarm


def test_other_tastes_are_named_by_what_the_items_are(past: Interactions) -> None:
    even = table_of(bb.read(liked(range(0, 120, 2), 9_000)))
    said = [str(one) for one in compare_events(bb.fit(past, "itemknn"), even).alarms]
    assert any(one.startswith('item.kind: "odd" went from 50.0% to 0.0%') for one in said)


def test_no_event_and_no_items_are_refused(past: Interactions) -> None:
    rec, events = bb.fit(past, "itemknn"), table_of(past)
    with pytest.raises(DataError, match="now holds no row"):
        compare_events(rec, events.clear())
    with pytest.raises(DataError, match='no column "item_id"'):
        compare_events(rec, events.drop("item_id"))


def test_what_is_foreseen_is_asked_before_it_is_told(past: Interactions) -> None:
    rec = bb.fit(past, "itemknn")
    warm = bb.read(liked(range(10, 20), 9_000, turn=4))
    found = foreseen(rec, past, warm, k=2)
    assert found.columns == ["user_id", "ndcg@2"]
    assert set(found["user_id"]) == {f"u{u}" for u in range(10, 20)}
    assert found["ndcg@2"].min() == 1  # two of the six of their half are left, and the model says which
    strangers = bb.read(liked(range(100, 110), 9_000))
    # of four that are left of their half two are asked for, and the other half stands behind all four
    assert foreseen(rec, past, strangers, warmup=2, k=4).to_series(1).to_numpy().min() > 0.5
    assert foreseen(rec, past, strangers, warmup=4).is_empty()  # all of it was told
    assert foreseen(rec, past, bb.read(liked(range(5), 9_000, "new"))).is_empty()


def test_order_of_events_is_the_order_of_rows(past: Interactions) -> None:
    turned = bb.read(liked(range(19, 9, -1), 9_000, turn=4))
    found = foreseen(bb.fit(past, "popularity"), past, turned)
    assert found["user_id"].to_list() == [f"u{u}" for u in range(19, 9, -1)]
    without = replace(past, time=None)
    assert np.isfinite(
        foreseen(bb.fit(without, "popularity"), without, replace(turned, time=None))["ndcg@10"].to_numpy()
    ).all()
