"""`bowerbird federate`: clients, silos, a promise, and what is saved."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from typer.testing import CliRunner

import bowerbird as bb
from bowerbird.cli.main import app
from bowerbird.core import BowerbirdError


@pytest.fixture
def table(tmp_path: Path) -> Path:
    user, turn = (column.ravel() for column in np.meshgrid(np.arange(40), np.arange(5), indexing="ij"))
    item = 2 * ((user // 2 + turn) % 6) + user % 2
    pl.DataFrame({"user_id": user, "item_id": item, "time": 1_000 * turn + user}).write_csv(tmp_path / "events.csv")
    return tmp_path / "events.csv"


def federate(*words: object) -> dict[str, Any]:
    done = CliRunner().invoke(app, ["federate", *map(str, words), "--json"])
    assert done.exit_code == 0, (done.output, done.exception)
    found = json.loads(done.stdout)
    assert isinstance(found, dict)
    return found


SMALL = ("--budget", 1.0, "--set", "dim=8", "--rounds", 12, "--share", 0.5)


def test_it_trains_tells_and_saves(table: Path, tmp_path: Path) -> None:
    found = federate("--data", table, *SMALL, "--failing", 0.2, "--clients", 40, "--out", tmp_path / "run")
    assert len(found["rounds"]) == 12
    assert sum(one["failed"] for one in found["rounds"]) > 0
    assert found["share_of_table"] <= 1.0
    assert "ndcg@10" in found["metrics"]
    rec = bb.load(tmp_path / "run")
    assert (len(rec.user_ids), len(rec.past), rec.version) == (0, 0, found["version"])
    assert rec.recommend(histories=[[0, 2]], k=3).to_polars()["rung"].unique().to_list() == ["model"]


def test_people_are_kept_on_request(table: Path, tmp_path: Path) -> None:
    federate("--data", table, *SMALL, "--keep-people", "--out", tmp_path / "run", "--clients", 4)
    assert len(bb.load(tmp_path / "run").user_ids) == 40


def test_a_promise_is_told(table: Path) -> None:
    pytest.importorskip("opacus")
    found = federate("--data", table, "--budget", 2, "--set", "dim=8", "--rounds", 3, "--epsilon", 8, "--delta", 1e-3)
    assert 0 < found["epsilon"] <= 8.01
    assert found["options"]["noise"] > 0


def test_people_see_a_table(table: Path) -> None:
    done = CliRunner().invoke(app, ["federate", "--data", str(table), *map(str, SMALL)])
    assert done.exit_code == 0, done.exception
    assert "of the item table" in done.stdout


@pytest.mark.parametrize(
    ("words", "told"), [(("--clients", "41"), "clients is 41"), (("--model", "itemknn"), "mf or twotower")]
)
def test_mistakes_are_told(table: Path, words: tuple[str, ...], told: str) -> None:
    done = CliRunner().invoke(app, ["federate", "--data", str(table), *words])
    assert isinstance(done.exception, BowerbirdError)
    assert told in str(done.exception)
