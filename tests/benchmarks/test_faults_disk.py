"""Faults below SQLite: the stages hold at a small scale, and notice a product that breaks its promises."""

import shutil
from pathlib import Path

import pytest

import _breaking
import _faults_disk
import _faults_tape
import _simulator
from _breaking import Effort, Found, Stage
from _disk import available
from _tape import Call, Copy, calls
from bowerbird.serving.view import View
from bowerbird.store import database
from bowerbird.store.events import TableLog

below = pytest.mark.skipif(not available(), reason="SQLite is a part of this Python: there is no way below it")
traced = pytest.mark.skipif(not shutil.which("strace"), reason="there is no strace here to record a process")


def tried(stage: Stage, n: int, folder: Path) -> Found:
    """Return what came of so many tries of a stage; none of them may have gone wrong."""
    found = stage.run(Effort(n, 0, folder))
    assert (found.wrong, found.told) == (0, [])
    assert found.tried >= n
    return found


@below
def test_lives_keep_what_was_promised(tmp_path: Path) -> None:
    found = tried(_faults_disk.simulated, 12, tmp_path)
    assert found.figures["lost"] == 0
    assert min(found.figures[name] for name in ("acked", "answers", "kill", "cut", "full", "learn")) > 0


@below
def test_a_life_dies_at_the_same_write_again(tmp_path: Path) -> None:
    first = _simulator.first_run(tmp_path / "run")
    one, two = (_simulator.live(7, tmp_path / name, first) for name in "ab")
    assert one.counts == two.counts
    assert one.promised.events == two.promised.events


@below
@pytest.mark.parametrize("stage", [_faults_disk.lying_disk, _faults_disk.power_cut_lying], ids=lambda one: one.name)
def test_a_disk_that_lies_is_noticed(stage: Stage, tmp_path: Path) -> None:
    assert tried(stage, 20, tmp_path).figures["lost"] > 0


@below
@pytest.mark.parametrize("broken", ["a commit that is not synced", "an item that stays", "an event that comes back"])
def test_a_life_notices_what_is_broken(broken: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if broken == "a commit that is not synced":
        made = database._migrate

        def careless(folder: Path, connection: database.sqlite3.Connection) -> None:
            made(folder, connection)
            connection.execute("PRAGMA synchronous = NORMAL")

        monkeypatch.setattr(database, "_migrate", careless)
    elif broken == "an item that stays":
        monkeypatch.setattr(View, "obey", lambda view, documents, now: None)
    else:
        monkeypatch.setattr(TableLog, "retract", lambda log, event_id: True)
    first, faults = _simulator.first_run(tmp_path / "run"), list[str]()
    for seed in range(40):
        faults += _simulator.live(seed, tmp_path / str(seed), first).faults
        if faults:
            break
    assert faults


@below
@pytest.mark.parametrize(
    ("stage", "n"),
    [(_faults_disk.power_cut, 60), (_faults_disk.no_room, 20), (_faults_disk.failing_write, 20),
     (_faults_disk.failing_sync_staged, 20)],
    ids=lambda one: getattr(one, "name", one),
)  # fmt: skip
def test_cuts_and_errors_lose_nothing(stage: Stage, n: int, tmp_path: Path) -> None:
    assert tried(stage, n, tmp_path).figures["lost"] == 0


def test_a_log_that_is_cut_or_turned_yields_whole_events(tmp_path: Path) -> None:
    figures = tried(_faults_disk.log_cut, 90, tmp_path).figures
    assert figures["cuts"] > 60
    assert figures["flips"] > 5


@traced
@pytest.mark.slow
@pytest.mark.parametrize(
    "stage", [_faults_tape.power_cut_server, _faults_tape.power_cut_publish_lying], ids=lambda one: one.name
)
def test_a_real_process_keeps_its_word_over_a_power_cut(stage: Stage, tmp_path: Path) -> None:
    assert tried(stage, 24, tmp_path).figures["said"] > 0


def test_a_tape_is_read_in_the_order_in_which_calls_ended(tmp_path: Path) -> None:
    def hexed(text: str) -> str:
        return "".join(f"\\x{byte:02x}" for byte in text.encode())

    tape = tmp_path / "tape"
    tape.write_text(
        f'7  openat(AT_FDCWD, "{hexed("/d/a")}", O_WRONLY|O_CREAT|O_TRUNC, 0666) = 3<{hexed("/d/a")}>\n'
        f'7  write(3<{hexed("/d/a")}>, "{hexed("hello")}", 5) = 5\n'
        f"7  fsync(3<{hexed('/d/a')}> <unfinished ...>\n"
        f'8  write(5<TCP:[1->2]>, "{hexed("kept")}", 4) = 4\n'
        "7  <... fsync resumed>) = 0\n"
        f'7  rename("{hexed("/d/a")}", "{hexed("/d/b")}") = 0\n'
        f'7  openat(AT_FDCWD, "{hexed("/d/no")}", O_WRONLY|O_CREAT) = -1 ENOENT (No such file or directory)\n'
        "7  +++ exited with 0 +++\n"
    )
    assert list(calls(tape)) == [
        Call("make", "/d/a", place=0),
        Call("write", "/d/a", data=b"hello"),
        Call("say", data=b"kept"),
        Call("sync", "/d/a"),
        Call("rename", "/d/a", "/d/b"),
    ]


def test_a_name_is_certain_once_its_folder_was_synced(tmp_path: Path) -> None:
    (tmp_path / "old").write_bytes(b"old")
    copy, path = Copy(tmp_path), str(tmp_path / "new")
    for call in (Call("make", path, place=0), Call("write", path, data=b"new"), Call("sync", path)):
        assert copy.heed(call)
    rng = Effort(1, 0, tmp_path).rng()
    images = [copy.after_cut(rng) for _ in range(40)]
    assert {len(one) for one in images} == {1, 2}
    assert {one.get(path) for one in images} == {None, b"new"}
    copy.heed(Call("sync", str(tmp_path)))
    copy.heed(Call("rename", path, str(tmp_path / "old")))
    assert {one[str(tmp_path / "old")] for one in (copy.after_cut(rng) for _ in range(40))} == {b"old", b"new"}


def test_a_row_says_what_so_many_tries_are_worth() -> None:
    assert _breaking.bound(200, 0) == "< 0.015"
    assert _breaking.bound(200, 3) == "1.50%"
    assert _breaking.bound(0, 0) == "nothing was tried"
