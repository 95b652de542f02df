"""The ingest benchmark on a small table: what it makes, what it prints, and when it fails."""

import json
import tempfile
from pathlib import Path

import numpy as np
import polars as pl
import pytest

import _shared
import ingest

SMALL = ["--rows", "5000", "--users", "300", "--items", "50"]


@pytest.fixture(autouse=True)
def scratch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Made tables and kept rows stay with the test."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr(_shared, "RESULTS", tmp_path)
    return tmp_path


@pytest.mark.parametrize(("ids", "kind"), [("integer", pl.Int64), ("text", pl.String)])
def test_the_made_table_has_its_rows_in_no_order_and_a_few_popular_items(
    scratch: Path, ids: str, kind: pl.DataType
) -> None:
    path = Path(ingest.options_of([*SMALL, "--ids", ids]).data)
    frame = pl.read_parquet(path)
    assert path.parent == scratch
    assert frame.height == 5000
    assert frame["user_id"].dtype == frame["item_id"].dtype == kind
    assert not frame["timestamp"].is_sorted()
    counts = np.sort(frame["item_id"].value_counts()["count"].to_numpy())[::-1]
    assert counts[0] / 5000 == pytest.approx(1 / 4.499, rel=0.1)  # 4.499 is the sum of 1/k for k = 1 … 50


def test_the_same_seed_makes_the_same_table(scratch: Path) -> None:
    for name in ("a", "b"):
        ingest.make(scratch / name, 3000, 100, 20, "text", 7)
    assert (scratch / "a").read_bytes() == (scratch / "b").read_bytes()


def test_the_last_line_is_one_json_object_with_the_agreed_fields(capsys: pytest.CaptureFixture[str]) -> None:
    assert _shared.main(ingest.options_of([*SMALL, "--json"]), ingest.measure) == 0
    row = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert {"benchmark", "data", "protocol", "seeds", "seconds", "rows_per_s", "memory_mb", "machine"} <= set(row)
    assert set(row["seconds"]) == set(row["cpu_seconds"]) == {"read", "encode", "split", "total"}
    assert row["items"] == 50
    assert "rows=5000 ids=texts" in row["protocol"]


def test_bars_decide_the_exit_status() -> None:
    options = ingest.options_of([*SMALL, "--require", "seconds.total<=600", "--require", "memory_mb<=1e6"])
    assert _shared.main(options, ingest.measure) == 0
    options.require = ["rows_per_s>=1e12"]
    assert _shared.main(options, ingest.measure) == 1


def test_another_table_is_taken_by_path(scratch: Path, capsys: pytest.CaptureFixture[str]) -> None:
    table = {"user": [1, 2, 1, 2], "item": [1, 1, 2, 3], "time": [4, 3, 2, 1]}
    pl.DataFrame(table).write_parquet(scratch / "own.parquet")
    options = ingest.options_of(["--data", str(scratch / "own.parquet"), "--json"])
    assert _shared.main(options, ingest.measure) == 0
    assert "rows=4 ids=integers" in json.loads(capsys.readouterr().out.splitlines()[-1])["protocol"]


def test_the_table_shows_what_was_kept_and_measures_nothing(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert _shared.main(ingest.options_of([*SMALL, "--save"]), ingest.measure) == 0
    capsys.readouterr()
    for name in ("made", "open_table"):
        monkeypatch.setattr(ingest, name, None)
    assert _shared.main(ingest.options_of(["--table"]), ingest.measure) == 0
    [figures, protocol] = capsys.readouterr().out.splitlines()
    assert "total" in figures
    assert protocol.endswith("rows=5000 ids=texts")
