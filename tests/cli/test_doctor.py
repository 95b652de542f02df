"""`bowerbird doctor`: each check on something sound and on something broken, and what a whole run of it says."""

import json
import os
import sqlite3
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from bowerbird.cli import doctor
from bowerbird.core import RealWorld
from bowerbird.store import bundles, histories


class Tomorrow(RealWorld):
    """A world whose clock is a day ahead."""

    def now(self) -> int:
        return super().now() + 86_400


def publish(run: Path, world: RealWorld | None = None) -> str:
    table = pl.DataFrame({"user_id": ["a", "b"], "item_id": [1, 2], "event": ["view", "view"], "weight": [1.0, 1.0]})
    with bundles.locked(run):
        histories.keep(run, bundles.next_version(run), table)
        return bundles.publish(run, {"model": "x"}, {"w": np.ones(9)}, {"users": table}, world=world)


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A run directory of two versions."""
    publish(tmp_path / "run")
    publish(tmp_path / "run")
    return tmp_path / "run"


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A data directory as a server leaves it, with one key."""
    folder = tmp_path / "data"
    folder.mkdir(mode=0o700)
    with sqlite3.connect(folder / doctor.DATABASE) as database:
        database.execute("CREATE TABLE keys (id TEXT)")
        database.execute("CREATE TABLE events (id TEXT)")
        database.execute("INSERT INTO keys VALUES ('one')")
        database.executemany("INSERT INTO events VALUES (?)", [("x" * 500,) for _ in range(200)])
    database.close()
    return folder


@pytest.fixture
def rows(capsys: pytest.CaptureFixture[str]) -> Any:
    """Return what runs the doctor and gives back its status and its rows by check."""

    def ask(run: Path | None = None, data_dir: Path | None = None) -> tuple[int, dict[str, doctor.Row]]:
        status = doctor.run_doctor(run, data_dir, as_json=True)
        found = [doctor.Row(**row) for row in json.loads(capsys.readouterr().out)]
        assert len({row.check for row in found}) == len(found)
        return status, {row.check: row for row in found}

    return ask


def test_a_sound_run_and_a_sound_data_directory_are_not_bad(run: Path, data: Path, rows: Any) -> None:
    status, found = rows(run, data)
    assert status == 0
    assert "bad" not in {row.state for row in found.values()}
    assert found["current version"].detail == "000002 of 000001, 000002; every checksum holds"
    assert found["histories"].detail == "2 events"
    assert found["leftovers"].state == "ok"
    assert found["keys"] == doctor.Row("keys", "ok", "1")
    assert found["lock"].detail == "no server holds this directory"
    assert found["permissions"].state == "ok"
    assert {"run disk", "run writable", "run sync", "data disk", "data writable", "data sync", "memory"} <= set(found)
    assert {"bowerbird", "torch", "threads", "SQLite", "open files", "clock"} <= set(found)


def test_the_machine_alone_is_looked_at_when_nothing_is_named(rows: Any) -> None:
    status, found = rows()
    assert status == 0
    assert set(found) == {"bowerbird", "torch", "threads", "SQLite", "open files", "clock"}


def test_the_data_directory_of_a_run_is_found(run: Path, data: Path, rows: Any) -> None:
    data.rename(run / "server")
    assert rows(run)[1]["keys"].detail == "1"


def test_the_table_says_the_same_to_people(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert doctor.run_doctor(run, None, as_json=False) == 0
    said = capsys.readouterr().out
    assert "current version" in said
    assert "Nothing is bad." in said


def test_nothing_is_left_or_changed(run: Path, data: Path, rows: Any) -> None:
    before = {path: path.read_bytes() for path in sorted(run.parent.rglob("*")) if path.is_file()}
    rows(run, data)
    assert {path: path.read_bytes() for path in sorted(run.parent.rglob("*")) if path.is_file()} == before


def test_a_changed_byte_is_bad(run: Path, rows: Any) -> None:
    weights = run / "bundles" / "000002" / bundles.WEIGHTS
    weights.write_bytes(weights.read_bytes()[:-1] + b"\x01")
    status, found = rows(run)
    assert status == 1
    assert found["current version"].state == "bad"
    assert "was changed after it was written. Restore it" in found["current version"].detail


def test_histories_that_are_gone_are_bad(run: Path, rows: Any) -> None:
    (run / "histories" / "000002" / histories.FILE).unlink()
    status, found = rows(run)
    assert status == 1
    assert "nobody's past is known" in found["histories"].detail


def test_a_folder_that_is_no_run_and_one_that_is_not_there_are_bad(tmp_path: Path, rows: Any) -> None:
    status, found = rows(tmp_path, tmp_path / "nowhere")
    assert status == 1
    assert "bowerbird train" in found["current version"].detail
    assert found["data directory"].state == "bad"


def test_what_an_interrupted_publication_left_is_named(run: Path, rows: Any) -> None:
    (run / "bundles" / ".000003.part").mkdir()
    (run / "histories" / "000003").mkdir()
    status, found = rows(run)
    assert status == 0
    assert found["leftovers"].state == "warn"
    assert "bundles/.000003.part" in found["leftovers"].detail
    assert "histories/000003" in found["leftovers"].detail


def test_a_version_from_the_future_says_that_the_clock_is_wrong(run: Path) -> None:
    publish(run, Tomorrow())
    clock = [row for row in doctor._run(run) if row.check == "run clock"]
    assert [row.state for row in clock] == ["bad"]


def test_a_server_that_holds_the_directory_is_told(data: Path, rows: Any) -> None:
    let_go = RealWorld().lock(data / doctor.LOCK)
    assert let_go is not None
    assert rows(None, data)[1]["lock"].detail == "a server holds this directory"
    let_go()
    assert rows(None, data)[1]["lock"].detail == "no server holds this directory"
    assert RealWorld().lock(data / doctor.LOCK) is not None  # the doctor let go of it too


def test_a_damaged_database_is_bad(data: Path, rows: Any) -> None:
    path = data / doctor.DATABASE
    content = bytearray(path.read_bytes())
    content[4096 * 3 : 4096 * 6] = os.urandom(4096 * 3)
    path.write_bytes(content)
    status, found = rows(None, data)
    assert status == 1
    assert "a backup" in found["database"].detail
    path.write_bytes(b"no database at all" * 100)
    assert rows(None, data)[1]["database"].state == "bad"


def test_a_directory_without_keys_or_without_a_database_is_a_warning(data: Path, tmp_path: Path, rows: Any) -> None:
    with sqlite3.connect(data / doctor.DATABASE) as database:
        database.execute("DELETE FROM keys")
    database.close()
    assert rows(None, data)[1]["keys"].state == "warn"
    (tmp_path / "new").mkdir(mode=0o700)
    status, found = rows(None, tmp_path / "new")
    assert (status, found["database"].state) == (0, "warn")


def test_a_long_wal_is_a_warning(data: Path) -> None:
    with open(data / f"{doctor.DATABASE}-wal", "wb") as wal:
        wal.truncate(2 * doctor.LONG_WAL)  # sparse
    assert doctor._wal(data).state == "warn"


@pytest.mark.parametrize(
    ("folder", "file", "state"),
    [(0o755, 0o644, "warn"), (0o700, 0o644, "ok"), (0o750, 0o640, "ok"), (0o755, 0o640, "warn"), (0o700, 0o666, "bad")],
)
def test_what_strangers_may_read_or_change_is_told(data: Path, folder: int, file: int, state: str) -> None:
    (data / doctor.DATABASE).chmod(file)
    data.chmod(folder)
    row = doctor._rights(data)
    assert row.state == state
    assert ("chmod -R o=" in row.detail) == (state != "ok")


@pytest.mark.parametrize(
    ("version", "state"),
    [((3, 6, 23), "ok"), ((3, 7, 0), "warn"), ((3, 40, 1), "warn"), ((3, 51, 2), "warn"), ((3, 51, 3), "ok")],
)
def test_sqlite_with_the_wal_reset_bug_is_a_warning(version: tuple[int, ...], state: str) -> None:
    assert doctor._sqlite(version).state == state


@pytest.mark.parametrize(("limit", "state"), [(64, "warn"), (1024, "ok"), (-1, "ok")])
def test_few_open_files_are_a_warning(limit: int, state: str) -> None:
    assert doctor._open_files(limit).state == state


@pytest.mark.parametrize(("now", "state"), [(0, "bad"), (1_735_689_599, "bad"), (doctor.BUILT, "ok")])
def test_a_clock_that_was_never_set_is_bad(now: int, state: str) -> None:
    assert doctor._clock(now).state == state


@pytest.mark.parametrize(("available", "state"), [(1_000, "bad"), (3_000, "warn"), (9_000, "ok")])
def test_memory_is_held_against_the_size_of_the_version(available: int, state: str) -> None:
    row = doctor._memory(1_000 * doctor.MB, available * doctor.MB)
    assert row.state == state
    assert f"{available:,} MB are free for a version of 1,000 MB" in row.detail


def test_a_full_disk_and_one_that_cannot_be_written_are_bad(
    run: Path, rows: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(folder: Path) -> float:
        raise PermissionError(13, "Permission denied", str(folder))

    monkeypatch.setattr(doctor, "_sync_ms", refused)
    full = type("Usage", (), {"free": 50_000_000, "total": 10_000_000_000})
    monkeypatch.setattr(doctor.shutil, "disk_usage", lambda folder: full)
    status, found = rows(run)
    assert status == 1
    assert found["run disk"].state == "bad"
    assert "Permission denied" in found["run writable"].detail
    assert "run sync" not in found


def test_a_slow_disk_is_a_warning(run: Path, rows: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "_sync_ms", lambda folder: 80.0)
    assert rows(run)[1]["run sync"].state == "warn"
