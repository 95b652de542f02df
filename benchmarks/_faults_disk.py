"""Stages below SQLite: simulated lives, power cuts at every write, a log cut at every byte, full and failing disks.

They stage faults on a `Disk` under the SQLite of this Python, in one process. Where that library is built into Python
there is no way below it, and nothing counts as tried.
"""

import logging
import os
import shutil
import sqlite3
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import closing, contextmanager, suppress
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import TypeVar

import numpy as np

import _simulator
from _breaking import Effort, Found, Progress, Stages
from _disk import FULL, IOERR_FSYNC, IOERR_WRITE, Disk, available
from bowerbird.core import BowerbirdError, RealWorld
from bowerbird.store.database import FILE, Database, DatabaseBroken, DiskFull
from bowerbird.store.events import TableLog
from bowerbird.store.log import LogEvent

stages = Stages()
T = TypeVar("T")

LAST_BYTES = 64 * 1024
MANY = 100  # lives that are worth a process for each core
WAL = f"{FILE}-wal"
SELECT = "SELECT number - 1, event_id, event, item_id, user_id, time, context FROM events ORDER BY number"


class OnDisk(RealWorld):
    """The operating system, but for the disk below SQLite."""

    def __init__(self, disk: Disk) -> None:
        self.connect = disk.connect  # type: ignore[method-assign]


@contextmanager
def quiet() -> Iterator[None]:
    """Keep what the product logs of the faults that it meets off the screen."""
    logging.disable(logging.CRITICAL)
    try:
        yield
    finally:
        logging.disable(logging.NOTSET)


def event(n: int, rng: np.random.Generator) -> LogEvent:
    """Return an event whose length varies, so that pages of the log fill unevenly."""
    words = "x" * int(rng.integers(400))
    return LogEvent(event_id=f"e{n}", event="like", item_id=f"i{n % 40}", user_id=f"u{n % 7}", time=n, context=words)


# ── lives ─────────────────────────────────────────────────────────────────────────────────────────────────────────────


@stages("simulated", "Whatever happens in a server's life, what it acknowledged holds", n=2_000)
def simulated(effort: Effort) -> Found:
    """Live seeded lives on an honest disk."""
    return lives(effort, honest=True)


@stages("lying_disk", "Control: on a disk that says it synced and did not, the same lives do lose", n=20)
def lying_disk(effort: Effort) -> Found:
    """Live seeded lives on a disk that forgets; a run in which nothing is lost means that the test is blind."""
    found = lives(effort, honest=False)
    blind = not found.figures.get("lost") and found.tried >= 5
    return Found(found.tried, found.tried if blind else 0, found.figures, ["nothing was lost"] if blind else [])


def lives(effort: Effort, *, honest: bool) -> Found:
    """Live one life for each try."""
    found = Found()
    if not available():
        return found
    started, progress = time.monotonic(), Progress(effort, "lives")
    run = effort.folder / "run"
    first = _simulator.first_run(run)
    lived = partial(_lived, folder=effort.folder, first=first, honest=honest)
    seeds = range(effort.seed * 1_000_000, effort.seed * 1_000_000 + effort.n)
    with _each(lived, seeds) as ended:
        for n, (faults, counts) in enumerate(ended):
            found.note(*(f"life {n}: {one}" for one in faults))
            for name in ("acked", "lost", "answers", "kill", "cut", "full", "sync", "learn", "restart", "starts"):
                found.add(name, counts.get(name, 0))
            progress(n)
    found.figures["seeds_per_minute"] = round(60 * effort.n / (time.monotonic() - started))
    return found


def _lived(seed: int, folder: Path, first: dict[Path, bytes], honest: bool) -> tuple[list[str], dict[str, int]]:
    """Live the life of a seed; return what went wrong, and counts."""
    mine = folder / str(seed)
    with quiet():
        life = _simulator.live(seed, mine, first, honest=honest)
    shutil.rmtree(mine, ignore_errors=True)
    return life.faults, life.counts | {"starts": life.lives}


@contextmanager
def _each(lived: Callable[[int], T], seeds: Sequence[int]) -> Iterator[Iterator[T]]:
    """Give what comes of seeds, in their order: each in one process, of which there are as many as cores for many."""
    if len(seeds) < MANY:
        yield map(lived, seeds)
        return
    with ProcessPoolExecutor(os.cpu_count(), mp_context=get_context("spawn")) as pool:
        yield pool.map(lived, seeds, chunksize=8)


# ── cuts ──────────────────────────────────────────────────────────────────────────────────────────────────────────────


@stages("power_cut", "An acknowledged event is not lost by a power cut, at whichever write or sync", n=4_000)
def power_cut(effort: Effort) -> Found:
    """Cut the power before every write and sync of commits and checkpoints, and open what is left."""
    return cuts(effort, honest=True)


@stages("power_cut_lying", "Control: without syncs the same power cuts do lose acknowledged events", n=200)
def power_cut_lying(effort: Effort) -> Found:
    """Cut the power of a disk that forgets."""
    found = cuts(effort, honest=False)
    blind = not found.figures.get("lost") and found.tried >= 20
    return Found(found.tried, found.tried if blind else 0, found.figures, ["nothing was lost"] if blind else [])


def cuts(effort: Effort, *, honest: bool) -> Found:
    """Write event after event, with a checkpoint now and then; before each change note what a cut would leave."""
    found = Found()
    if not available():
        return found
    rng, progress = effort.rng(), Progress(effort, "cuts")
    with closing(Disk(effort.folder / "disk", honest=honest)) as disk:
        database = Database(disk.folder, world=OnDisk(disk))
        log = TableLog(database)
        sent: list[LogEvent] = []
        acked = 0

        def before(what: str, name: str) -> int:
            if found.tried < effort.n:
                found.note(*left_whole(effort.folder / "left", disk.after_cut(rng), sent, acked, found))
            return 0

        disk.before = before
        while found.tried < effort.n:
            group = [event(len(sent) + n, rng) for n in range(int(rng.integers(1, 4)))]
            sent += group
            log.append(group)
            acked = len(sent)
            if rng.random() < 0.1:
                database.write(lambda connection: None, then=lambda _: checkpoint(database)).result()
            progress(found.tried)
        database.close()
    found.figures["acked"] = acked
    return found


def checkpoint(database: Database) -> None:
    """Move the log into the file, as SQLite does by itself every thousand pages."""
    database._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")


def left_whole(folder: Path, files: dict[str, bytes], sent: list[LogEvent], acked: int, found: Found) -> list[str]:
    """Open what a cut left; return what is wrong with it, where the first `acked` events must be there."""
    try:
        there = stored(folder, files)
    except (BowerbirdError, sqlite3.Error) as error:
        found.add("lost", acked)
        return [f"cut {found.tried}: it does not open: {error}"] if acked else []
    found.add("lost", max(acked - len(there), 0))
    if there != [row_of(n, one) for n, one in enumerate(sent[: len(there)])]:
        return [f"cut {found.tried}: what is there is no beginning of what was sent"]
    if len(there) < acked:
        return [f"cut {found.tried}: {acked} events were acknowledged, {len(there)} are there"]
    return []


def stored(folder: Path, files: dict[str, bytes]) -> list[tuple[object, ...]]:
    """Return the rows of a log that lies in these files, opened as a server opens it."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    for name, data in files.items():
        (folder / name).write_bytes(data)
    with closing(Database(folder)) as database, database.reader() as connection:
        whole = connection.execute("PRAGMA integrity_check").fetchone()[0]
        return connection.execute(SELECT).fetchall() if whole == "ok" else [(whole,)]


def glanced_at(folder: Path, files: dict[str, bytes]) -> list[tuple[object, ...]]:
    """Return the rows as `stored` does, by SQLite alone, in a fifth of the time."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, data in files.items():
        (folder / name).write_bytes(data)
    (folder / f"{FILE}-shm").unlink(missing_ok=True)
    with closing(RealWorld().connect((folder / FILE).as_uri())) as connection:
        return connection.execute(SELECT).fetchall()


def row_of(offset: int, one: LogEvent) -> tuple[object, ...]:
    """Return the row of an event."""
    return offset, one.event_id, one.event, one.item_id, one.user_id, one.time, one.context


@stages(
    "log_cut", "A log that is cut at any byte, or has a bit turned, never yields half an event", n=LAST_BYTES + 8_192
)
def log_cut(effort: Effort) -> Found:
    """Cut the write-ahead log at every byte of its last 64 KiB, then turn bits of it, and open what is left."""
    found, progress = Found(figures={"cuts": 0, "flips": 0, "refused": 0}), Progress(effort, "cuts")
    rng, sent = effort.rng(), list[LogEvent]()
    database = Database(effort.folder / "whole")
    log = TableLog(database)
    database.write(lambda connection: None, then=lambda _: checkpoint(database)).result()  # tables lie in the file
    while not sent or (effort.folder / "whole" / WAL).stat().st_size < 2 * LAST_BYTES:
        sent += (group := [event(len(sent) + n, rng) for n in range(3)])
        log.append(group)
    files = {name: (effort.folder / "whole" / name).read_bytes() for name in (FILE, WAL)}
    database.close()
    whole = files[WAL]
    ends = [len(whole) - n for n in range(1, LAST_BYTES + 1)]
    ends = ends[:: max(1, round(LAST_BYTES / effort.n * 9 / 8))]
    for end in ends:
        found.figures["cuts"] += 1
        found.note(*beginning(effort, files | {WAL: whole[:end]}, sent, found, f"cut at {end}"))
        progress(found.tried)
    for n in range(effort.n - len(ends)):
        place, bit = int(effort.rng(n).integers(len(whole))), int(effort.rng(n, 1).integers(8))
        turned = bytearray(whole)
        turned[place] ^= 1 << bit
        found.figures["flips"] += 1
        found.note(*beginning(effort, files | {WAL: bytes(turned)}, sent, found, f"bit {bit} of byte {place}"))
        progress(found.tried)
    return found


def beginning(effort: Effort, files: dict[str, bytes], sent: list[LogEvent], found: Found, what: str) -> list[str]:
    """Return a fault unless these files are refused or hold a beginning of what was sent, each event whole."""
    try:
        there = (stored if found.tried % 16 == 0 else glanced_at)(effort.folder / "left", files)
    except (BowerbirdError, sqlite3.Error):
        found.figures["refused"] += 1
        return []
    same = there == [row_of(n, one) for n, one in enumerate(sent[: len(there)])]
    return [] if same else [f"{what}: what is there is no beginning of what was sent"]


# ── full and failing ──────────────────────────────────────────────────────────────────────────────────────────────────


@stages("no_room", "A full disk refuses writes, keeps nothing of them, and takes them again once there is room", n=400)
def no_room(effort: Effort) -> Found:
    """Let the disk fill at the n-th write of a session, for a while."""
    return sessions(effort, FULL)


@stages("failing_write", "A write that the disk fails stops all writing, and is never called kept", n=400)
def failing_write(effort: Effort) -> Found:
    """Let the n-th write of a session fail."""
    return sessions(effort, IOERR_WRITE)


@stages("failing_sync_staged", "A sync that fails stops all writing, and is never called kept", n=200)
def failing_sync_staged(effort: Effort) -> Found:
    """Let the n-th sync of a session fail, and lose what it should have synced."""
    return sessions(effort, IOERR_FSYNC)


def sessions(effort: Effort, error: int) -> Found:
    """Meet an error at one change of the disk after the other, in sessions of some commits and a checkpoint."""
    found, progress = Found(figures={"acked": 0, "refused": 0, "lost": 0}), Progress(effort, "sessions")
    if not available():
        return found
    for n in range(effort.n):
        with quiet(), closing(Disk(effort.folder / str(n))) as disk:
            found.note(*(f"change {n}: {one}" for one in session(disk, n, error, effort.rng(n), found)))
        shutil.rmtree(disk.folder)
        progress(n)
    return found


def session(disk: Disk, n: int, error: int, rng: np.random.Generator, found: Found) -> list[str]:
    """Write eight times, with an error from the n-th change on; return what is wrong."""
    database = Database(disk.folder, world=OnDisk(disk))
    log, acked, faults = TableLog(database), dict[str, LogEvent](), list[str]()
    kind, left, lasts = "sync" if error == IOERR_FSYNC else "write", n % 60, int(rng.integers(1, 4))

    def before(what: str, name: str) -> int:
        nonlocal left
        left -= what == kind
        return error if -lasts <= left < 0 and what == kind else 0

    def send(number: int) -> type[BaseException] | None:
        one = event(number, rng)
        try:
            log.append([one])
        except (DiskFull, DatabaseBroken) as refusal:
            found.figures["refused"] += 1
            return type(refusal)
        acked[one.event_id] = one
        return None

    disk.before = before
    refusals = []
    for number in range(8):
        refusals.append(send(number))
        if number % 4 == 3:
            with suppress(BowerbirdError, sqlite3.Error):
                database.write(lambda connection: None, then=lambda _: checkpoint(database)).result()
    disk.before = lambda what, name: 0
    refusals.append(send(99))
    if error == FULL and (DatabaseBroken in refusals or refusals[-1] is not None):
        faults.append("a full disk was not got over")
    if error != FULL and DatabaseBroken in refusals and refusals[-1] is not DatabaseBroken:
        faults.append("writing went on after the disk had failed")
    if error != FULL and DiskFull in refusals:
        faults.append("a disk that failed was called full")
    readable = {one.event_id for _, one in log.walk()}
    left_over = disk.after_cut(rng)
    database.close()
    there = {str(row[1]): row for row in stored(disk.folder / "left", left_over)}
    found.figures["acked"] += len(acked)
    found.figures["lost"] += len(acked.keys() - there.keys())
    faults += [f"{one} was acknowledged and is lost" for one in acked.keys() - there.keys()]
    faults += [f"{one} was acknowledged and could not be read" for one in acked.keys() - readable]
    return faults
