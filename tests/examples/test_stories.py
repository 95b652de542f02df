"""The six stories of examples/ at their smallest, as `python examples/NAME/run.py --size tiny` tells them."""

import io
import runpy
import sys
import time
from contextlib import redirect_stdout
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import polars as pl
import pytest

import bowerbird as bb
from bowerbird.core import lookup
from bowerbird.pipeline.scenario import Scenario, known_scenarios

EXAMPLES = Path(__file__).parents[2] / "examples"
STORIES = ("goods", "video", "news", "music", "friends", "ads")
SCENARIOS = known_scenarios(EXAMPLES / "music")
LONGEST_S = 20  # of the processor, for one story at this size


def tell(name: str, *words: str) -> Any:
    with patch.object(sys, "path", list(sys.path)):  # a script puts examples/ on it
        return runpy.run_path(str(EXAMPLES / name / "run.py"))["main"]([*words, "--size", "tiny"])


@cache
def told_and_said(name: str) -> tuple[Any, str, float]:
    """Return what a story of made-up data found and printed, and how many seconds of the processor it took."""
    started, said = time.process_time(), io.StringIO()
    with redirect_stdout(said):
        told = tell(name)
    return told, said.getvalue(), time.process_time() - started


@pytest.mark.parametrize("name", STORIES)
def test_a_story_compares_two_models_and_takes_one(name: str) -> None:
    told, said, seconds = told_and_said(name)
    assert seconds < LONGEST_S
    rows = {row["role"]: row for row in told.rows}
    base, deep = rows["baseline"], rows["deep"]
    assert told.difference.mean == pytest.approx(deep["test"] - base["test"])
    assert told.difference.low <= told.difference.mean <= told.difference.high
    assert not {"closed-form", "baseline"} & set(lookup(deep["model"]).tags)
    for row in told.rows:
        assert row["low"] <= row["test"] <= row["high"]
        assert f"{row['model']} ({row['role']})" in said
    taken = deep if told.difference.verdict == "better" else base
    assert told.taken.name == taken["model"]
    assert f"take {taken['model']}." in said
    assert told.protocol in said
    assert "data: made up" in said


@pytest.mark.parametrize("name", STORIES)
def test_a_story_ends_with_slates_that_keep_the_rules(name: str) -> None:
    told, said, _ = told_and_said(name)
    assert "bowerbird serve" in said
    assert len({(body["scenario"], body["user_id"]) for body in told.slates}) == len(told.slates) >= 2
    for body in told.slates:
        assert len(body["items"]) == (3 if name == "ads" else 5)
        assert body["model"] == told.taken.name
        assert all(place["reasons"][0]["text"] in said for place in body["items"])
        keeps_its_rules(body, told.taken, SCENARIOS[body["scenario"]])


def keeps_its_rules(body: dict[str, Any], rec: bb.Recommender, scenario: Scenario) -> None:
    """Check that nothing is shown that the scenario hides, and that no value takes more places than it may."""
    past, user = rec.past, rec.user_ids.row(body["user_id"])
    hides = np.array([kind.name in (scenario.hides or ()) for kind in past.events])
    hidden = past.item[(past.user == user) & hides[past.event]]
    shown = rec.item_ids.rows([place["item_id"] for place in body["items"]])
    assert not set(hidden.tolist()) & set(shown.tolist())
    assert past.items is not None
    capped = [column for column in scenario.caps if column in past.items.columns]
    assert capped  # the made-up items have what the scenario speaks of
    for column in capped:
        assert past.items[column].gather(shown).value_counts()["count"].max() <= scenario.caps[column]


def test_nobody_is_proposed_to_themselves() -> None:
    for body in told_and_said("friends")[0].slates:
        assert body["user_id"] not in {place["item_id"] for place in body["items"]}


def test_what_was_heard_comes_again_but_for_podcasts() -> None:
    told = told_and_said("music")[0]
    again = {"music": 0, "podcasts": 0}
    for body in told.slates:
        past, user = told.taken.past, told.taken.user_ids.row(body["user_id"])
        heard = set(told.taken.item_ids.names(past.item[(past.user == user) & (past.event == 0)]))
        again[body["scenario"]] += len(heard & {place["item_id"] for place in body["items"]})
    assert again["music"] > again["podcasts"] == 0


def test_clips_begin_as_what_their_pictures_show() -> None:
    with patch.object(sys, "path", list(sys.path)):
        script = runpy.run_path(str(EXAMPLES / "video" / "run.py"))
    films = script["made"](40, np.random.default_rng(0))
    assert script["with_pictures"](bb.split(films))[1] == {}
    pictures = np.random.default_rng(0).normal(size=(films.n_items, 4)).astype(np.float32)
    table = pl.DataFrame({"item_id": films.item_ids.values, "image": pictures})
    parts, begin = script["with_pictures"](bb.split(films.with_tables(items=table)))
    assert begin == {"start": "image", "dim": 4}
    shown = films.item_ids.rows(parts.train.item_ids.values)
    np.testing.assert_array_equal(parts.train.item_content["image"], pictures[shown])
    rec = bb.fit(parts, "lightgcn", epochs=1, **begin)
    assert rec.model.item_vectors().shape == (parts.train.n_items, 4)


def test_a_story_is_told_of_ones_own_table(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rng = np.random.default_rng(0)
    user = np.repeat(np.arange(60), 12)
    item = 2 * rng.integers(20, size=len(user)) + user % 2
    table = pl.DataFrame({"uid": user, "sku": item, "ts": 1_700_000_000 + 60 * rng.permutation(len(user))})
    table.write_csv(tmp_path / "sales.csv")
    told = tell("goods", "--data", str(tmp_path / "sales.csv"), "--out", str(tmp_path / "run"))
    assert told.data == str(tmp_path / "sales.csv")
    assert "split=temporal" in told.protocol
    assert bb.load(tmp_path / "run").past.fingerprint == bb.read(tmp_path / "sales.csv").fingerprint
    assert "made up" not in capsys.readouterr().out


def test_a_shop_of_ones_own_is_judged_by_what_it_calls_buying(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    user = np.repeat(np.arange(60), 12)
    table = {"user": user, "item": 2 * rng.integers(20, size=720) + user % 2, "time": 60 * rng.permutation(720)}
    kinds = pl.Series("event", ["buy", "view", "cart"] * 240)
    pl.DataFrame(table).with_columns(kinds).write_csv(tmp_path / "sales.csv")
    told = tell("goods", "--data", str(tmp_path / "sales.csv"))
    assert [(kind.name, kind.hides) for kind in told.taken.past.events] == [
        ("purchase", True), ("view", False), ("cart", False),
    ]  # fmt: skip
    holdout = bb.split(bb.read(tmp_path / "sales.csv").meaning(told.taken.past.events)).test
    bought = replace(holdout, targets=holdout.targets.rows(holdout.targets.event == 0))
    popular = bb.evaluate(bb.fit(holdout.known, "popularity"), bought, metrics=["ndcg@10"])
    assert told.rows[0]["test"] == popular.metrics["ndcg@10"]
    assert popular.n_users < bb.evaluate(bb.fit(holdout.known, "popularity"), holdout).n_users


def test_the_story_of_ads_is_told_of_rows(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    place, device = rng.integers(20, size=800), rng.choice(["phone", "desk"], 800)
    click = (rng.random(800) < np.where((place % 2 == 0) == (device == "phone"), 0.7, 0.2)).astype(int)
    pl.DataFrame({"click": click, "place": place.astype(str), "device": device}).write_csv(tmp_path / "clicks.csv")
    told = tell("ads", "--data", str(tmp_path / "clicks.csv"), "--out", str(tmp_path / "run"))
    assert "rows=200" in told.protocol
    assert told.slates == []
    assert bb.Predictor.load(tmp_path / "run").predict(pl.read_csv(tmp_path / "clicks.csv")).shape == (800, 1)
