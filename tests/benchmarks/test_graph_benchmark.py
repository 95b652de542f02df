"""The graph benchmark on a tiny folder: what it prints, what it keeps, and when it fails."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import _shared
import graph

LastRow = Callable[[], dict[str, Any]]


def run(folder: Path, *words: str) -> int:
    small = ["--set", "dim=8", "--set", "epochs=4", "--set", "batch_size=64", "--threads", "1"]
    options = graph.options_of(["--data", str(folder), *small, *words])
    return _shared.main(options, graph.measure)


def test_the_last_line_is_one_json_object_with_the_agreed_fields(folder: Path, last_row: LastRow) -> None:
    assert run(folder, "--json", "--seeds", "0,1") == 0
    row = last_row()
    wanted = {"benchmark", "data", "data_sha256", "model", "protocol", "seeds", "metrics", "sd", "users", "items",
              "seconds", "rows_per_s", "memory_mb", "machine", "versions"}  # fmt: skip
    assert wanted <= set(row)
    assert row["seeds"] == [0, 1]
    assert "part=valid ranking=full" in str(row["protocol"])
    assert row["metrics"]["recall@20"] > 0.5  # type: ignore[index]


@pytest.mark.parametrize(("text", "found"), [("0", [0]), ("3", [0, 1, 2]), ("4,2", [4, 2])])
def test_seeds_are_how_many_or_which_ones(text: str, found: list[int]) -> None:
    assert _shared.seeds(text) == found


def test_bars_decide_the_exit_status(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(folder, "--require", "recall@20>=0.0", "--require", "seconds.train<=1e6") == 0
    assert run(folder, "--require", "recall@20>=1.1") == 1
    assert "bar not reached: recall@20>=1.1" in capsys.readouterr().err
    assert run(folder, "--require", "recall@20 is good") == 2


def test_a_folder_without_the_files_is_bad_input(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "empty").mkdir()
    assert run(tmp_path / "empty") == 2
    assert "train.txt (or train.txt.gz) and test.txt are needed" in capsys.readouterr().err


def test_a_look_at_test_is_logged_and_a_row_is_kept_when_asked(folder: Path, results: Path) -> None:
    assert run(folder) == 0
    assert list(results.iterdir()) == []
    assert run(folder, "--report", "test", "--save") == 0
    look = json.loads((results / "test_looks.jsonl").read_text())
    kept = json.loads((results / "graph.jsonl").read_text())
    assert look["metrics"] == kept["metrics"]
    assert kept["report"] == "test"
    assert kept["users"] == 40


def test_a_recipe_sets_the_model(folder: Path, tmp_path: Path, last_row: LastRow) -> None:
    recipe = tmp_path / "mf.toml"
    recipe.write_text('[model]\nname = "mf"\nloss = "bpr"\n')
    assert run(folder, "--recipe", str(recipe), "--json") == 0
    row = last_row()
    assert row["model"] == "mf"
    assert row["config"]["loss"] == "bpr"  # type: ignore[index]


def test_training_is_cut_by_the_limit_and_says_so(folder: Path, last_row: LastRow) -> None:
    assert run(folder, "--limit-seconds", "0", "--json") == 0
    row = last_row()
    assert row["cut_by_limit"] is True
    assert row["epochs"] == 1


def test_the_table_shows_kept_rows_beside_published_figures(
    folder: Path, results: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run(folder, "--save")
    capsys.readouterr()
    key = (folder.name, "lightgcn")
    assert _shared.table("graph", {key: {"recall@20": 0.5}}) == 0
    said = capsys.readouterr().out
    assert f"{folder.name}  lightgcn  valid  recall@20" in said
    assert "published, on test: recall@20 0.5000" in said
