"""The benchmark of training from files, on small ones: what it makes, what it prints, and when it fails."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

import _shared
import ctr_memory


@pytest.fixture
def made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name, value in {"VALUES": 200, "CHUNK": 4000, "GROUP": 1000, "VALID": 3000}.items():
        monkeypatch.setattr(ctr_memory, name, value)
    ctr_memory.make(tmp_path, 0.001, "integer", 0)
    return tmp_path


def test_the_made_rows_are_shaped_like_a_log_of_ads(made: Path) -> None:
    frame = pl.read_parquet(made / "train.parquet")
    assert (made / "train.parquet").stat().st_size >= 1e6
    assert frame.width == 1 + 13 + 26
    assert frame["label"].mean() == pytest.approx(0.25, abs=0.03)
    counts = np.sort(frame["c1"].value_counts()["count"].to_numpy())[::-1]
    assert counts[0] / len(frame) == pytest.approx(
        np.log(2) / np.log(201), rel=0.1
    )  # of rank 1: what exp(u ln 201) < 2
    missing = frame.select(pl.col(r"^n\d+$").null_count() / pl.len()).row(0)
    assert missing == pytest.approx(np.linspace(0, 0.45, 13), abs=0.03)


def test_texts_and_whole_numbers_are_the_same_rows(made: Path, tmp_path: Path) -> None:
    (tmp_path / "text").mkdir()
    ctr_memory.make(tmp_path / "text", 0.001, "text", 0)
    whole, text = (pl.read_parquet(folder / "valid.parquet") for folder in (made, tmp_path / "text"))
    assert text["c3"].to_list() == [f"v{value}" for value in whole["c3"]]
    assert text.select("label", "n4").equals(whole.select("label", "n4"))


def test_it_learns_and_says_what_it_needed(made: Path, last_row: Callable[[], dict[str, Any]]) -> None:
    words = ["--data", str(made), "--json", "--set", "batch_size=256", "--require", "rows_per_s>=1"]
    assert _shared.main(ctr_memory.options_of(words), ctr_memory.measure) == 0
    row = last_row()
    assert {"memory_mb", "rows_per_s", "file_mb", "seconds", "protocol"} <= set(row)
    assert row["metrics"]["logloss"] < row["base_logloss"]
    assert row["metrics"]["auc"] > 0.55
    assert not row["interrupted"]
    n = pl.scan_parquet(made / "train.parquet").select(pl.len()).collect().item()
    assert row["protocol"] == f"rows={n} seen={n} epoch=1 batch=256"


def test_a_training_that_is_cut_says_so_and_bars_decide_the_exit_status(
    made: Path, last_row: Callable[[], dict[str, Any]]
) -> None:
    words = ["--data", str(made), "--json", "--limit-seconds", "0", "--require", "memory_mb<=1"]
    assert _shared.main(ctr_memory.options_of(words), ctr_memory.measure) == 1
    row = last_row()
    assert row["interrupted"]
    assert "seen=0 limit=0s" in row["protocol"]
