"""The classic benchmark on a tiny file: its protocol, its search, what it prints and what it keeps."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

import _shared
import bowerbird as bb
import classic

LastRow = Callable[[], dict[str, Any]]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Forty users of 140 items: even users like even items; lines in time order."""
    rng = np.random.default_rng(0)
    liked = {user: rng.permutation(np.arange(user % 2, 140, 2))[:30] for user in range(40)}
    lines = [f"{user} {item}" for user, items in liked.items() for item in items]
    folder = tmp_path / "ml-1m" / "sasrec"
    folder.mkdir(parents=True)
    (folder / "ml-1m.txt").write_text("\n".join(lines))
    return folder


def run(folder: Path, *words: str) -> int:
    options = classic.options_of(["--data", str(folder), "--threads", "1", "--tries", "0", *words])
    return _shared.main(options, classic.measure)


def test_the_last_line_is_one_json_object_with_the_agreed_fields(folder: Path, last_row: LastRow) -> None:
    assert run(folder, "--json") == 0
    row = last_row()
    wanted = {"benchmark", "data", "data_sha256", "model", "protocol", "seeds", "metrics", "sd", "users", "items",
              "seconds", "memory_mb", "machine", "versions"}  # fmt: skip
    assert wanted <= set(row)
    assert (row["data"], row["model"], row["users"]) == ("ml-1m/sasrec", "ease", 40)
    assert row["published"] == {"hit@10": 0.7192, "ndcg@10": 0.4494}
    assert "3,706 items" in row["note"]
    assert "split=leave-one-out" in row["protocol"]
    assert "part=valid ranking=uniform-99 masked=history" in row["protocol"]
    assert "draws=20" in row["protocol"]


def test_figures_are_means_of_twenty_draws_of_99_negatives(folder: Path, last_row: LastRow) -> None:
    assert run(folder, "--model", "itemknn", "--json") == 0
    row = last_row()
    rows = [line.split() for line in (folder / "ml-1m.txt").read_text().splitlines()]
    parts = bb.split(bb.read(pl.DataFrame(rows, schema=["user", "item"], orient="row")), "leave-one-out")
    rec = bb.fit(parts, "itemknn")
    draws = [
        bb.evaluate(rec, parts.valid, metrics=["hit@10"], sampled=99, seed=seed, intervals=False).metrics["hit@10"]
        for seed in range(20)
    ]
    assert row["metrics"]["hit@10"] == pytest.approx(np.mean(draws), abs=0.02)  # other ids, other draws
    assert 0 < row["sd"]["hit@10"] < 0.1


def test_test_is_asked_of_a_model_that_knows_the_validation_item(
    folder: Path, results: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = []
    evaluate = classic.evaluate

    def noted(rec: bb.Recommender, part: Any, **how: Any) -> Any:
        seen.append((part.name, len(rec.past), len(part.history)))
        return evaluate(rec, part, **how)

    monkeypatch.setattr(classic, "evaluate", noted)
    assert run(folder, "--report", "test", "--save") == 0
    assert set(seen) == {("test", 40 * 29, 40 * 29)}
    look = json.loads((results / "test_looks.jsonl").read_text())
    kept = json.loads((results / "classic.jsonl").read_text())
    assert look["metrics"] == kept["metrics"]
    assert kept["report"] == "test"


def test_validation_is_no_look_at_test(folder: Path, results: Path) -> None:
    assert run(folder) == 0
    assert list(results.iterdir()) == []


def test_tries_choose_on_validation_and_are_kept(folder: Path, results: Path, last_row: LastRow) -> None:
    assert run(folder, "--tries", "4", "--save", "--json") == 0
    row = last_row()
    tries = [json.loads(line) for line in (results / "classic_tries.jsonl").read_text().splitlines()]
    assert row["tries"] == len(tries) == 4
    best = max(tries, key=lambda one: one["value"])
    assert json.loads(best["key"])["config"] == row["config"]
    assert "select=valid-uniform-99 tries=4" in row["protocol"]


def test_settings_and_recipes_set_the_model(folder: Path, tmp_path: Path, last_row: LastRow) -> None:
    recipe = tmp_path / "knn.toml"
    recipe.write_text('[model]\nname = "itemknn"\nneighbours = 9\n')
    assert run(folder, "--recipe", str(recipe), "--set", "shrink=3", "--json") == 0
    assert last_row()["config"] == {"neighbours": 9, "shrink": 3.0, "nearest_to": "chosen"}


def test_the_limit_cuts_the_search_and_says_so(folder: Path, last_row: LastRow) -> None:
    words = ("--model", "mf", "--set", "dim=8", "--set", "epochs=40", "--tries", "50", "--limit-seconds", "3", "--json")
    assert run(folder, *words) == 0
    row = last_row()
    assert row["cut_by_limit"] is True
    assert row["tries"] < 50


def test_bad_input_is_said(tmp_path: Path, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(tmp_path / "nowhere") == 2
    assert "ml-1m.txt.gz or a file of `user item` lines is needed" in capsys.readouterr().err
    assert run(folder, "--seeds", "a") == 2
    assert "write numbers with commas" in capsys.readouterr().err


def test_bars_decide_the_exit_status(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(folder, "--require", "hit@10>=0.1") == 0
    assert run(folder, "--require", "hit@10>=1.1") == 1
    assert "bar not reached: hit@10>=1.1" in capsys.readouterr().err


def test_the_table_shows_kept_rows_beside_published_figures(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run(folder, "--save")
    capsys.readouterr()
    assert _shared.table("classic", classic.PUBLISHED) == 0
    said = capsys.readouterr().out
    assert "ml-1m/sasrec  ease  valid  hit@10" in said
    assert "published, on test: hit@10 0.7192, ndcg@10 0.4494" in said
