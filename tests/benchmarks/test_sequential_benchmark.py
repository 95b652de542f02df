"""The benchmarks of histories on tiny files: both forms of a file, bars and their table, speed, costs."""

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import _shared
import sequential
import sequential_cost
import sequential_speed

LastRow = Callable[[], dict[str, Any]]
SMALL = ["--set", "dim=8", "--set", "epochs=8", "--set", "batch_size=128", "--set", "learning_rate=0.01"]


@pytest.fixture(params=["lists", "pairs"])
def file(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """Fifty histories that go round a circle of twenty items."""
    histories = {user: [(user + step) % 20 for step in range(8)] for user in range(50)}
    if request.param == "lists":
        lines = [" ".join(map(str, [user, *items])) for user, items in histories.items()]
    else:
        lines = [f"{user} {item}" for user, items in histories.items() for item in items]
    path = tmp_path / "Circle.txt"
    path.write_text("\n".join(lines) + "\n")
    return path


def run(path: Path, *words: str) -> int:
    options = sequential.options_of(["--data", str(path), "--threads", "1", *SMALL, *words])
    return _shared.main(options, sequential.measure)


def test_a_row_has_the_agreed_fields(file: Path, last_row: LastRow) -> None:
    assert run(file, "--model", "default", "--json", "--seeds", "0,1", "--require", "hr@10>=0.5") == 0
    row = last_row()
    assert (row["benchmark"], row["data"], row["model"]) == ("sequential", "Circle", sequential.DEFAULT)
    assert (row["users"], row["items"], row["seeds"]) == (50, 20, [0, 1])
    assert "split=leave-one-out" in row["protocol"]
    assert "part=valid ranking=full masked=history" in row["protocol"]
    assert set(row["metrics"]) == set(row["sd"]) == {"hr@10", "ndcg@10"}
    assert row["metrics"] == row["valid"]


def test_test_follows_the_validation_event(file: Path, results: Path) -> None:
    assert run(file, "--model", "gru4rec", "--report", "test", "--save") == 0
    row = json.loads((results / "sequential.jsonl").read_text())
    look = json.loads((results / "test_looks.jsonl").read_text())
    assert "part=test" in row["protocol"]
    assert look["metrics"] == row["metrics"]
    assert row["metrics"]["hr@10"] > 0.5


def test_repeats_are_kept_where_asked(tmp_path: Path, last_row: LastRow) -> None:
    path = tmp_path / "Songs.txt"
    path.write_text("\n".join(f"{user} 1 2 1 2 1 2 1 2 1 2" for user in range(30)) + "\n")
    assert run(path, "--model", "gru4rec", "--repeats", "keep", "--json") == 0
    row = last_row()
    assert "repeats=keep" in row["protocol"]
    assert row["metrics"]["hr@10"] == 1.0
    assert run(path, "--model", "gru4rec", "--json") == 2  # nothing is left to ask


def test_the_table_fails_under_a_bar(
    file: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    run(file, "--model", "sasrec", "--report", "test", "--save")
    monkeypatch.setattr(sequential, "BARS", {("Circle", "sasrec"): {"hr@10": 1.1}})
    monkeypatch.setattr(sequential, "PUBLISHED", {("Circle", "sasrec"): {"hr@10": 0.9}})
    assert _shared.table("sequential", sequential.PUBLISHED, sequential.BARS) == 1
    said = capsys.readouterr()
    assert "published, on test: hr@10 0.9000" in said.out
    assert "bar not reached: Circle sasrec: hr@10" in said.err
    monkeypatch.setattr(sequential, "BARS", {("Circle", "sasrec"): {"hr@10": 0.1}})
    assert _shared.table("sequential", sequential.PUBLISHED, sequential.BARS) == 0


def test_speed_is_compared_in_one_run(file: Path, monkeypatch: pytest.MonkeyPatch, last_row: LastRow) -> None:
    stand_in = file.with_name("peer.py")
    stand_in.write_text(
        "import json, sys\n"
        "spec = json.loads(sys.argv[1])\n"
        "rows = len(open(spec['folder'] + '/train.csv').readlines()) - 1\n"
        "print(json.dumps({'epoch': 10.0, 'rows': rows, 'rows_per_s': rows / 10, 'memory_mb': 1.0}))\n"
    )
    monkeypatch.setattr(sequential_speed, "PEERS", {"other": (str(stand_in), "other", "speed")})
    monkeypatch.setattr(sequential_speed, "environment", lambda *_: Path(sys.executable))
    parser = _shared.parser("")
    for name, usual in (("peers", "other"), ("peers-home", "."), ("epochs", 2), ("peer-batches", 0)):
        parser.add_argument(f"--{name}", default=usual)
    options = parser.parse_args(["--data", str(file), "--threads", "1", "--json"])
    assert _shared.main(options, sequential_speed.measure) == 0
    row = last_row()
    peer = row["peers"]["other"]
    assert peer["rows"] == 50 * 6
    assert peer["ratio"] == pytest.approx(row["rows_per_s"] / peer["rows_per_s"])
    assert row["rows_per_s"] == pytest.approx(50 * 5 / row["seconds"]["epoch"])


def test_costs_are_shown_by_length_and_items(last_row: LastRow) -> None:
    parser = _shared.parser("")
    parser.set_defaults(data="made up", model="sasrec", positions=64, steps=1, lengths=[4, 8], items=[20, 60_000])
    assert _shared.main(parser.parse_args(["--threads", "1", "--json", "--set", "dim=8"]), sequential_cost.measure) == 0
    cells = last_row()["cells"]
    assert [(one["items"], one["length"], one["loss"]) for one in cells] == [
        (20, 4, "softmax"), (20, 8, "softmax"), (60_000, 4, "sampled_softmax"), (60_000, 8, "sampled_softmax"),
    ]  # fmt: skip
    assert all(one["step_ms"] > 0 for one in cells)


def test_a_named_set_in_parts_is_one_table_again(data_root: Path) -> None:
    events = sequential.named("lastfm-1k-cfm", str(data_root))
    assert (len(events), events.n_users, events.n_items) == (214_574, 414, 14_387)
    assert events.time is not None
    assert bool((np.diff(events.time) >= 0).all())
