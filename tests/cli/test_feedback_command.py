"""`bowerbird export --feedback`: from the data directory of a server to tables of what came of it."""

import json
from contextlib import closing
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from typer.testing import CliRunner

import bowerbird as bb
from bowerbird.cli.feedback import moment_of, seconds_of
from bowerbird.cli.main import app
from bowerbird.core import RequestError
from bowerbird.data import EventType
from bowerbird.store.database import Database
from bowerbird.store.events import TableLog
from bowerbird.store.log import SLATE, LogEvent
from bowerbird.store.schema import Schemas


def call(*words: object) -> Any:
    return CliRunner().invoke(app, ["export", *map(str, words)], catch_exceptions=False)


def fails(*words: object) -> str:
    return str(CliRunner().invoke(app, ["export", *map(str, words)]).exception)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with a server's data in it: one slate, a like, a wish that was declared since, and a lost click."""
    run = tmp_path_factory.mktemp("feedback") / "run"
    rows = pl.DataFrame({"user_id": ["a", "a", "b"], "item_id": ["x", "y", "x"], "event": ["like"] * 3})
    bb.fit(bb.read(rows, event_types=[EventType("like", weight=2.0)]), "popularity").save(run)
    with closing(Database(run / "server")) as database:
        Schemas(database).put([{"name": "wish", "weight": 3.0}], if_match=None)
        document = json.dumps({"items": ["x", "y"], "propensity": [1.0, 1.0], "scores": [2.0, 1.0]})
        TableLog(database).append(
            [
                LogEvent("r", SLATE, user_id="a", time=1000, context=document, policy_version="greedy"),
                LogEvent("e1", "like", user_id="a", item_id="x", time=1060, request_id="r"),
                LogEvent("e2", "wish", user_id="a", item_id="x", time=5000, request_id="r"),
                LogEvent("e3", "like", user_id="a", item_id="x", time=1060, request_id="lost"),
            ]
        )
    return run


def test_tables_of_what_was_shown_and_of_what_is_lost_are_written(run: Path, tmp_path: Path) -> None:
    out, orphans = tmp_path / "new" / "feedback.parquet", tmp_path / "orphans.parquet"
    told = call(run, "--feedback", "--out", out, "--orphans", orphans, "--json")
    assert json.loads(told.stdout) == {
        "out": str(out), "slates": 1, "places": 2, "rewarded": 1, "late": 0, "orphans": 1,
    }  # fmt: skip
    assert pl.read_parquet(out)["reward"].to_list() == [3.0, 0.0]
    assert pl.read_parquet(orphans)["event_id"].to_list() == ["e3"]
    assert sorted(one.name for one in tmp_path.rglob("*.*")) == ["feedback.parquet", "orphans.parquet"]


def test_a_window_leaves_late_events_out_and_says_so(run: Path) -> None:
    told = call(run, "--feedback", "--window", "30m", "--data-dir", run / "server")
    assert "2 places of 1 slates" in told.stdout
    assert "1 events came later than 30m" in told.stderr
    assert "1 events have no place in a known slate. Name a file for them" in told.stderr
    frame = pl.read_parquet(run / "feedback.parquet")
    assert frame.select("event", "reward", "late").rows() == [("like", 2.0, 1), (None, 0.0, 0)]
    assert json.loads(call(run, "--feedback", "--since", "1970-01-02", "--json").stdout)["places"] == 0


def test_durations_and_moments() -> None:
    assert [seconds_of(one) for one in ("30m", "1d", "2w")] == [1800, 86_400, 1_209_600]
    assert moment_of("1970-01-02") == moment_of("1970-01-02T02:00+02:00") == 86_400


@pytest.mark.parametrize("window", ["1", "d", "0d", "-1d", "1.5h", "1y", "9999999999w", "١d"])
def test_what_is_no_duration_is_refused(window: str) -> None:
    with pytest.raises(RequestError, match="--window is"):
        seconds_of(window)


def test_mistakes_say_what_to_do(run: Path, tmp_path: Path) -> None:
    assert "Add --onnx, --vectors or --feedback" in fails(run, "--onnx", "--feedback")
    assert "Try --since 2026-11-01" in fails(run, "--feedback", "--since", "yesterday")
    assert "what is written is Parquet" in fails(run, "--feedback", "--out", tmp_path / "a.csv")
    assert "what is written is Parquet" in fails(run, "--feedback", "--orphans", tmp_path / "a.csv")
    assert "Is this the data directory of a server?" in fails(run, "--feedback", "--data-dir", tmp_path)
    assert "not a run directory" in fails(tmp_path, "--feedback")
    assert not list(tmp_path.iterdir())
