"""The benchmarks of speed on a tiny folder: what they print, and that ours and a peer read the same split."""

import json
import sys
from pathlib import Path

import polars as pl
import pytest

import _shared
import evaluate
import peers
from bowerbird.core import BowerbirdError


def test_evaluate_reports_seconds_and_milliseconds(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["--data", str(folder), "--model", "ease", "--threads", "1", "--json", "--require", "seconds.evaluate<=5"]
    assert _shared.main(_shared.parser("").parse_args(words), evaluate.measure) == 0
    row = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert (row["benchmark"], row["users"], row["items"]) == ("evaluate", 40, 40)
    assert 0 < row["seconds"]["evaluate"] < 5
    assert set(row["latency_ms"]) == {"recommend", "scorer"}
    assert min(row["latency_ms"].values()) > 0
    assert "masked=train+valid" in row["protocol"]


def test_the_split_that_both_read_is_the_one_that_was_cut(folder: Path, tmp_path: Path) -> None:
    parts = peers.parts_of(str(folder))
    scratch = tmp_path / "scratch"
    digest = peers._write(parts, scratch)
    for name, part in (("train", parts.train), ("valid", parts.valid.targets), ("test", parts.test.targets)):
        written = pl.read_csv(scratch / "split" / f"split.{name}.inter", separator="\t")
        assert written.columns == ["user_id:token", "item_id:token"]
        assert set(written.rows()) == set(zip(part.user.tolist(), part.item.tolist(), strict=True))
    assert digest == peers._write(parts, tmp_path / "again")


@pytest.mark.parametrize("model", ["mf", "ease"])
def test_our_side_trains_and_evaluates_in_a_process_of_its_own(folder: Path, tmp_path: Path, model: str) -> None:
    scratch = tmp_path / "scratch"
    parts = peers.parts_of(str(folder))
    peers._write(parts, scratch)
    spec = {"folder": str(scratch), "model": model, "threads": 1, "seed": 0, "reach": 0.0, "epochs": 2, "batches": 0}
    ours = peers.child(sys.executable, "_peer_bowerbird.py", spec)
    assert ours["users"] == 40
    assert 0 < ours["first_result"] < 60
    assert 0 < ours["metrics"]["recall@20"] <= 1
    assert ours["memory_mb"] > 100


def test_our_side_stops_where_the_mark_is_reached(folder: Path, tmp_path: Path) -> None:
    scratch = tmp_path / "scratch"
    peers._write(peers.parts_of(str(folder)), scratch)
    spec = {"folder": str(scratch), "model": "mf", "threads": 1, "seed": 0, "reach": 0.05, "epochs": 2, "batches": 0}
    assert peers.child(sys.executable, "_peer_bowerbird.py", spec)["recall@20"] >= 0.05


def test_a_child_that_fails_says_why(tmp_path: Path) -> None:
    with pytest.raises(BowerbirdError, match=r"^_peer_bowerbird\.py failed: .*KeyError"):
        peers.child(sys.executable, "_peer_bowerbird.py", {"folder": str(tmp_path)})
