"""`bowerbird train` with tries: the search before it, what is kept of it, and the health of what came out."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from typer.testing import CliRunner, Result

import bowerbird as bb
from bowerbird.cli.main import app
from bowerbird.core import ConfigError
from bowerbird.models.baselines.ease import EASE


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Forty people, thirty items: even people choose even items."""
    rng = np.random.default_rng(0)
    rows = [(f"u{u}", f"i{i}", 1_700_000_000 + 60 * int(rng.integers(10_000)))
            for u in range(40) for i in rng.permutation(np.arange(u % 2, 30, 2))[:10]]  # fmt: skip
    path = tmp_path_factory.mktemp("shop") / "events.csv"
    pl.DataFrame(rows, schema=["user_id", "item_id", "time"], orient="row").write_csv(path)
    return path


def call(*words: str) -> Result:
    result = CliRunner().invoke(app, ["train", *words], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result


def document(*words: str) -> dict[str, Any]:
    found = json.loads(call(*words, "--json").stdout)
    assert isinstance(found, dict)
    return found


def test_the_best_of_the_tries_is_trained_saved_and_said(table: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    row = document("--data", str(table), "--model", "ease", "--tries", "5", "--out", str(run))
    assert len(row["search"]["tries"]) == 5
    assert row["search"]["value"] == max(one["value"] for one in row["search"]["tries"])
    assert row["search"]["first"] == row["search"]["tries"][0]["value"]
    assert row["config"] == row["search"]["best"]
    assert row["metrics"]["ndcg@10"] == row["search"]["value"]
    assert bb.load(run).config.l2 == row["config"]["l2"]  # type: ignore[attr-defined]
    said = call("--data", str(table), "--model", "ease", "--tries", "5", "--out", str(run))
    assert len((run / "search.jsonl").read_text().splitlines()) == 5  # none was repeated
    assert f"→ {row['search']['value']:.4f} in 5 tries" in " ".join(said.output.split())


def test_a_recipe_searches_and_an_option_wins_over_it(table: Path, tmp_path: Path) -> None:
    recipe = tmp_path / "recipe.toml"
    recipe.write_text(f'[data]\npath = "{table}"\n[model]\nname = "itemknn"\nneighbours = 3\n[search]\ntries = 3\n')
    assert bb.Recipe.load(recipe).search.tries == 3
    row = document(str(recipe))
    assert len(row["search"]["tries"]) == 3
    assert row["config"]["neighbours"] == 3  # what is set stays
    assert document(str(recipe), "--tries", "0")["search"] is None


def test_tries_that_fail_are_counted(table: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fit = EASE.fit

    def picky(self: EASE, *what: Any) -> None:
        if self.config.l2 != 300.0:
            raise ConfigError("l2 is not to my taste.")
        fit(self, *what)

    monkeypatch.setattr(EASE, "fit", picky)
    said = " ".join(call("--data", str(table), "--model", "ease", "--tries", "3").output.split())
    assert "2 tries failed, the first with: l2 is not to my taste." in said
    assert "l2 = 300.0 stays" in said


def test_fewer_than_no_tries_are_refused(table: Path) -> None:
    with pytest.raises(ConfigError, match=r"tries is -1; it must be 0 or more. Try tries = 20."):
        CliRunner().invoke(
            app, ["train", "--data", str(table), "--model", "ease", "--tries", "-1"], catch_exceptions=False
        )


def test_training_ends_with_a_look_at_the_lists(table: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    row = document("--data", str(table), "--model", "ease", "--out", str(run))
    assert row["health"]["users"] == 40
    assert 0 < row["health"]["personalisation"] < 1
    assert row["health"] == json.loads(json.dumps(bb.load(run).health.to_dict()))  # type: ignore[union-attr]
    said = " ".join(call("--data", str(table), "--model", "ease").output.split())
    assert "personalisation" in said


def test_what_is_odd_about_the_lists_is_said(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    appeal = 1 / np.arange(1, 201)
    rows = [(f"u{u}", f"i{i}", 60 * int(rng.integers(10_000)))
            for u in range(100) for i in rng.choice(200, 20, replace=False, p=appeal / appeal.sum())]  # fmt: skip
    path = tmp_path / "events.csv"
    pl.DataFrame(rows, schema=["user_id", "item_id", "time"], orient="row").write_csv(path)
    said = " ".join(call("--data", str(path), "--model", "ease", "--set", "l2=1e7").output.split())
    assert "of the places are what popularity shows: the model has learned little beside it" in said
    assert "what popularity shows" not in call("--data", str(path), "--model", "popularity").output
