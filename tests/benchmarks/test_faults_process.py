"""Real servers that are broken: the stages hold at a small scale, and notice what is broken on purpose."""

import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

import _faults_answers
import _faults_machine
import _faults_process
import _faults_update
from _breaking import Effort, Found, Stage
from _faults_machine import Outcome, loud
from _faults_update import steps_of
from _posting import Ledger
from _victim import publish
from bowerbird.store import bundles
from bowerbird.store.database import FILE, Database
from bowerbird.store.events import TableLog
from bowerbird.store.log import LogEvent


def tried(stage: Stage, n: int, folder: Path) -> Found:
    """Return what came of so many tries of a stage; none of them may have gone wrong."""
    found = stage.run(Effort(n, 0, folder))
    if not found.tried:
        pytest.skip(f"this system has no {next(iter(found.figures))}")
    assert (found.wrong, found.told) == (0, [])
    assert found.tried == n
    return found


# ── the stages ────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_kills(tmp_path: Path) -> None:
    found = tried(_faults_process.kills, 1, tmp_path)
    assert found.figures["acked"] > 0 == found.figures["lost"]


def test_drain(tmp_path: Path) -> None:
    found = tried(_faults_process.drain, 1, tmp_path)
    assert found.figures["acked"] > 0 == found.figures["lost"]
    assert found.figures["slow_answered"] == 1


def test_two_servers(tmp_path: Path) -> None:
    assert tried(_faults_process.two_servers, 1, tmp_path).figures["answered"] > 0


def test_descriptors(tmp_path: Path) -> None:
    found = tried(_faults_process.descriptors, 1, tmp_path)
    assert found.figures["acked_meanwhile"] > 0 == found.figures["lost"]


def test_full_disk(tmp_path: Path) -> None:
    found = tried(_faults_machine.full_disk, 1, tmp_path)
    assert min(found.figures[name] for name in ("acked", "refused")) > 0 == found.figures["lost"]


@pytest.mark.slow
def test_failing_sync(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_faults_machine, "LAST_SYNC", 10)
    found = tried(_faults_machine.failing_sync, 1, tmp_path)
    assert found.figures["failed"] == 1
    assert found.figures["acked"] > 0 == found.figures["lost"]


@pytest.mark.slow
def test_clocks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_faults_machine, "CLOCKS", ((-25 * _faults_machine.YEAR, 0),))
    found = tried(_faults_machine.clocks, 1, tmp_path)
    assert (found.figures["moves"], found.figures["events"], found.figures["clamped"]) == (2, 14, 4)


@pytest.mark.slow
def test_backup(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_faults_answers, "ASKED", 90)
    found = tried(_faults_answers.backup, 1, tmp_path)
    assert found.figures["answers"] > 180
    assert found.figures["events"] > 0 == found.figures["differing"]


@pytest.mark.slow
def test_restart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"EVENTS": 20_000, "USERS": 1_000, "READY_S": 60.0, "REPEATS": 1}.items():
        monkeypatch.setattr(_faults_answers, name, value)
    found = tried(_faults_answers.restart, 1, tmp_path)
    assert found.figures["answers"] > 200
    assert found.figures["ready_s"] > 0


@pytest.mark.slow
def test_half_written(tmp_path: Path) -> None:
    found = tried(_faults_update.half_written, 1, tmp_path)
    assert found.figures["differing"] == 0
    if shutil.which("strace"):  # else it is killed at a moment, which may be too late
        assert found.figures["killed"] == 1
        assert found.figures["steps"] > 10


# ── their eyes ────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    """A ledger of two parts that were acknowledged, and a log that holds them."""
    ledger = Ledger()
    with closing(Database(tmp_path)) as database:
        for names in ("ab", "cd"):
            end = TableLog(database).append([LogEvent(name, "like", user_id="u", item_id="i") for name in names])
            ledger.ack([{"event_id": name} for name in names], end)
    return ledger


def change(folder: Path, sql: str) -> None:
    with closing(sqlite3.connect(folder / FILE, isolation_level=None)) as connection:
        connection.execute(sql)


TWICE = "INSERT INTO events (key, event_id, event) VALUES (x'00', 'a', 'like')"
SWAPPED = "UPDATE events SET event_id = CASE event_id WHEN 'a' THEN 'd' WHEN 'd' THEN 'a' ELSE event_id END"


@pytest.mark.parametrize(
    ("sql", "said"),
    [
        ("DELETE FROM events WHERE event_id = 'd'", "d was lost"),
        ("UPDATE events SET event_id = NULL WHERE event_id = 'c'", "c was lost"),
        (TWICE, "a is in the log 2 times"),
        (SWAPPED, "d moved"),
    ],
)
def test_a_ledger_notices_a_log_that_lies(ledger: Ledger, tmp_path: Path, sql: str, said: str) -> None:
    assert ledger.faults(tmp_path) == []
    change(tmp_path, sql)
    assert said in ledger.faults(tmp_path, whole=True)
    assert ledger.lost == said.endswith("lost")


def test_a_ledger_notices_what_comes_again_and_what_never_came(ledger: Ledger, tmp_path: Path) -> None:
    assert ledger.faults(tmp_path) == []
    change(tmp_path, TWICE)
    ledger.ack([{"event_id": "z"}], 9)
    assert ledger.faults(tmp_path) == ["a is in the log again", "z was lost"]


def test_a_ledger_notices_an_offset_that_does_not_cover_the_event(ledger: Ledger, tmp_path: Path) -> None:
    ledger.acked["d"] = 3
    assert ledger.faults(tmp_path) == ["d was told too small an offset"]


def test_a_damaged_index_is_noticed(ledger: Ledger, tmp_path: Path) -> None:
    change(tmp_path, "DROP INDEX events_of_user")
    change(tmp_path, "CREATE INDEX events_of_user ON events (user_id) WHERE user_id IS NOT NULL AND event <> 'like'")
    with closing(sqlite3.connect(tmp_path / FILE)) as connection:
        connection.execute("PRAGMA writable_schema = ON")
        connection.execute("UPDATE sqlite_schema SET sql = replace(sql, ?, '')", (" AND event <> 'like'",))
        connection.commit()
    assert any("damaged" in fault for fault in ledger.faults(tmp_path, whole=True))


def test_a_damaged_database_is_noticed(ledger: Ledger, tmp_path: Path) -> None:
    with closing(sqlite3.connect(tmp_path / FILE)) as connection:
        connection.execute("PRAGMA writable_schema = ON")
        connection.execute("UPDATE sqlite_schema SET rootpage = 3 WHERE name = 'events_of_user'")
        connection.commit()
    assert any("cannot be read" in fault for fault in ledger.faults(tmp_path, whole=True))


@pytest.mark.parametrize(
    ("said", "well"),
    [
        (Outcome(503, {"code": "storage_failed", "detail": "x: the disk failed (y)."}), True),
        (Outcome(503, {"code": "overloaded", "detail": "busy"}), False),
        (Outcome(500, {"code": "internal_error", "detail": "the disk failed"}), False),
        (Outcome(0), False),
    ],
)
def test_a_failing_disk_must_be_told_as_one(said: Outcome, well: bool) -> None:
    assert (loud(said) == []) == well


def test_a_copy_that_is_no_beginning_of_the_log_is_noticed(tmp_path: Path) -> None:
    for name, events in {"live": "abc", "copy": "ab", "other": "ba"}.items():
        with closing(Database(tmp_path / name)) as database:
            TableLog(database).append([LogEvent(one, "like", user_id="u", item_id="i") for one in events])

    def faults(copy: str, *known: str) -> list[str]:
        return _faults_answers.prefix(tmp_path / copy, tmp_path / "live", set(known), Found())

    assert faults("copy", "a") == []
    assert faults("copy", "c") == ["c was acknowledged before, and is not in the copy"]
    assert faults("other") == ["the copy is no beginning of the log"]


def test_steps_are_calls_that_change_the_run_counted_for_each_thread() -> None:
    tape = """\
7  openat(AT_FDCWD</x>, "/run/weights", O_RDONLY) = 3
7  openat(AT_FDCWD</x>, "/run/.part/weights", O_WRONLY|O_CREAT) = 3</run/.part/weights>
8  write(4</elsewhere>, "x", 1) = 1
7  write(3</run/.part/weights>, "x", 1) = 1
7  fsync(3</run/.part/weights> <unfinished ...>
8  write(4</run/two>, "x", 1) = 1
7  <... fsync resumed>) = 0
7  rename("/run/.part", "/run/000002") = 0
7  +++ exited with 0 +++
"""
    assert steps_of(tape, Path("/run")) == [("openat", 2), ("write", 1), ("fsync", 1), ("write", 2), ("rename", 1)]


def point_nowhere(run: Path) -> None:
    (run / bundles.POINTER).write_text("000002")


def half_a_file(run: Path) -> None:
    (run / "bundles" / "000001" / bundles.WEIGHTS).write_bytes(b"half")


def no_past(run: Path) -> None:
    shutil.rmtree(run / "histories")


@pytest.mark.parametrize("damage", [point_nowhere, half_a_file, no_past], ids=lambda one: str(one.__name__))
def test_what_is_not_whole_is_noticed(damage: Callable[[Path], Any], tmp_path: Path) -> None:
    publish(tmp_path / "run")
    before = _faults_update.result(tmp_path / "run")
    shop = _faults_update.Shop(tmp_path, before, before, 1.0, [])
    assert _faults_update.left(shop, tmp_path, Found()) == []
    damage(tmp_path / "run")
    assert _faults_update.left(shop, tmp_path, Found()) != []
