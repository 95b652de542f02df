"""`bowerbird simulate`: a table, JSON, a picture, and what is wrong by name."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from bowerbird.cli.main import app
from bowerbird.core import BowerbirdError

SMALL = ["--worlds", "2", "--people", "8", "--items", "40", "--steps", "6", "-k", "2"]


def said(*words: str) -> str:
    done = CliRunner().invoke(app, ["simulate", *SMALL, *words], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done.stdout


def test_policies_are_compared_with_the_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    told = json.loads(said("--policy", "greedy,linucb,greedy", "--json", "--plot").splitlines()[-1])
    greedy, linucb = told["policies"]
    assert (greedy["policy"], linucb["policy"], told["worlds"]) == ("greedy", "linucb", 2)
    assert greedy["more"] == 0
    assert linucb["more"] == pytest.approx(linucb["clicks"] - greedy["clicks"])
    assert linucb["more_low"] <= linucb["more"] <= linucb["more_high"]
    assert (tmp_path / "simulation.svg").stat().st_size > 5_000
    again = json.loads(said("--policy", "greedy,linucb", "--json").splitlines()[-1])
    assert again["policies"][1]["clicks"] == linucb["clicks"]


def test_a_table_is_shown_and_data_sets_the_marginals(tmp_path: Path) -> None:
    events = tmp_path / "events.csv"
    events.write_text("user_id,item_id\n" + "".join(f"u{n % 7},i{min(n % 13, n % 5)}\n" for n in range(90)))
    shown = said("--policy", "random,ucb", "--data", str(events), "--control", "--late", "2", "--missing", "0.5")
    assert "regret" in shown
    assert "ucb" in shown


def test_a_policy_that_is_none_and_a_world_that_cannot_be_are_named() -> None:
    with pytest.raises(BowerbirdError, match="lunucb"):
        said("--policy", "lunucb")
    with pytest.raises(BowerbirdError, match="names none"):
        said("--policy", ",")
    with pytest.raises(BowerbirdError, match="candidates"):
        said("--items", "2")
