"""The click-through benchmark on a small made-up triple: its row, its table, and its bar."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

import _shared
import ctr


@pytest.fixture
def triple(tmp_path: Path) -> list[str]:
    """Three files whose label follows from user and item: the words that name them on the command line."""
    rng = np.random.default_rng(0)
    folder, words = tmp_path / "made", []
    folder.mkdir()
    for part, n in (("train", 1500), ("valid", 400), ("test", 400)):
        user, item = rng.integers(20, size=n), rng.integers(30, size=n)
        label = (rng.random(n) < np.where(user % 2 == item % 2, 0.8, 0.1)).astype(int)
        pl.DataFrame({"user": user, "item": item, "label": label}).write_csv(folder / f"{part}.csv")
        words += [f"--{part}", str(folder / f"{part}.csv")]
    return words


def run(words: list[str], capsys: pytest.CaptureFixture[str]) -> tuple[int, dict[str, Any]]:
    status = _shared.main(ctr.options_of([*words, "--json", "--threads", "1"]), ctr.measure)
    return status, json.loads(capsys.readouterr().out.strip().splitlines()[-1])


@pytest.fixture(autouse=True)
def results(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(_shared, "RESULTS", tmp_path)
    return tmp_path


SMALL = ["--set", "epochs=6", "--set", "dim=4", "--set", "hidden=16", "--set", "learning_rate=0.01"]


def test_the_row_tells_model_protocol_and_both_log_losses(
    triple: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    status, row = run([*triple, "--label", "label", "--model", "deepfm", *SMALL, "--set", "batch_size=64"], capsys)
    assert status == 0
    assert row["model"] == "deepfm"
    assert row["data"] == "made"
    assert row["metrics"]["auc"] > 0.8
    assert {"logloss", "calibrated_logloss", "auc_new", "ece"} <= set(row["metrics"])
    low, high = row["intervals"]["auc"]
    assert low < row["metrics"]["auc"] < high
    assert "rows=400 select=valid" in row["protocol"]


def test_a_bar_that_is_missed_is_told(triple: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    status, row = run([*triple, "--model", "logistic", "--require", "auc>=0.999"], capsys)
    assert status == 1
    assert row["metrics"]["auc"] < 0.7  # parity is no sum of two weights


def test_the_lookup_of_pairs_stands_beside(triple: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    status, row = run([*triple, "--model", "pair-lookup"], capsys)
    assert status == 0
    assert 0.7 < row["metrics"]["auc"] < 0.95  # pairs come back here, and were mostly liked alike


@pytest.mark.parametrize(("theirs", "status"), [(0.5, 0), (0.999, 1)])
def test_all_models_are_held_against_another_library(
    triple: list[str], results: Path, capsys: pytest.CaptureFixture[str], theirs: float, status: int
) -> None:
    peer = {"data": "made", "model": "logistic", "mode": "quality", "valid": {"auc": theirs}}
    (results / "ctr_peers.jsonl").write_text(json.dumps(peer) + "\n")
    words = [*triple, "--model", "logistic", "--setting", "published", "--save", "--set", "epochs=1"]
    run(words, capsys)
    asked = ctr.options_of([*triple, "--model", "all", "--setting", "published", "--set", "epochs=1"])
    assert ctr.all_models(asked) == status
    said = capsys.readouterr().out
    assert ("bar missed" in said) == bool(status)
    assert "logistic" in said


def test_two_of_three_files_are_refused(triple: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    options = ctr.options_of([*triple[:4], "--model", "logistic"])
    assert _shared.main(options, ctr.measure) == 2
    assert "--train needs --valid and --test" in capsys.readouterr().err
