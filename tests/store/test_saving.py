"""A recommender whose disk goes away while it is saved: histories, bundle and pointer belong together."""

from pathlib import Path

import polars as pl
import pytest

import bowerbird as bb
from bowerbird.core import RealWorld
from failing_world import FailsAt

STEPS = 11  # two of histories and their renames, two tables, weights, the manifest, its rename, the pointer and its own


def recommender(*chosen: str) -> bb.Recommender:
    frame = pl.DataFrame({"user": ["a", "a", "b", "b"], "item": ["x", "y", *chosen]})
    return bb.fit(bb.read(frame), "itemknn", shrink=0.0)


def answers(run: Path) -> pl.DataFrame:
    rec = bb.load(run)
    return rec.recommend(rec.user_ids.values.to_list(), k=3, explain=True).to_polars()


@pytest.mark.parametrize("step", range(STEPS))
def test_a_crash_at_any_step_leaves_the_old_version_with_its_pasts(tmp_path: Path, step: int) -> None:
    recommender("x", "z").save(tmp_path)
    before, newer = answers(tmp_path), recommender("y", "w")
    newer.pipeline.world = FailsAt(step)
    with pytest.raises(OSError, match="cut off"):
        newer.save(tmp_path)
    assert bb.load(tmp_path).version == "000001"
    assert answers(tmp_path).equals(before)
    newer.pipeline.world = RealWorld()
    newer.save(tmp_path)
    assert bb.load(tmp_path).item_ids == newer.item_ids
    assert not answers(tmp_path).equals(before)
    assert RealWorld().names(tmp_path / "histories") == RealWorld().names(tmp_path / "bundles")


def test_no_step_is_left_out(tmp_path: Path) -> None:
    recommender("x", "z").save(tmp_path)
    newer = recommender("y", "w")
    newer.pipeline.world = FailsAt(STEPS)
    assert newer.save(tmp_path) == bb.load(tmp_path).version == "000002"
