"""`bowerbird doctor`: what is wrong with this machine, a run directory and a server's data directory.

Every check is a row: what was looked at, whether it is ok, worth a warning or bad, and what was found. What is not ok
says how to mend it. Nothing is changed; a file for the time of a sync is written and removed.
"""

import os
import platform
import resource
import shutil
import sqlite3
import stat
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import asdict, dataclass
from pathlib import Path

import torch

import bowerbird
from bowerbird.cli.output import out, show_json, show_table
from bowerbird.core import BowerbirdError, RealWorld, free_memory
from bowerbird.store import bundles, histories
from bowerbird.store.database import DatabaseError
from bowerbird.store.opening import url_of
from bowerbird.store.postgres import read_only

MB, GB = 1_000_000, 1_000_000_000
BUILT = 1_735_689_600  # 2025-01-01: before it, the clock is wrong
AHEAD_S = 60  # two machines may differ by that much
SYNCS, SLOW_MS = 20, 25.0  # a disk that needs longer lets few lone events through
WAL_RESET = (3, 7, 0), (3, 51, 2)  # the first and the last SQLite with it
FILES = 1_024  # open at once
LOADING, LOADED = 5, 2  # times the bytes on disk: the most a process holds while it loads, and what it keeps
LONG_WAL = GB
DATABASE, LOCK = "bowerbird.db", "lock"


@dataclass(frozen=True)
class Row:
    """What one check found."""

    check: str
    state: str  # ok, warn or bad
    detail: str


def run_doctor(run: Path | None, data_dir: Path | None, *, as_json: bool) -> int:
    """Print every row; return 1 where one is bad, else 0."""
    if run is not None and data_dir is None and (run / "server").is_dir():
        data_dir = run / "server"
    rows = [*_machine()]
    for folder, kind, checks in ((run, "run", _run), (data_dir, "data", _data)):
        if folder is None:
            continue
        if folder.is_dir():
            rows += [*_disk(folder, kind), *checks(folder)]
        else:
            mend = "Train into it." if kind == "run" else "`bowerbird serve` and `bowerbird key create` make it."
            rows.append(Row(f"{kind} directory", "bad", f"{folder} is no directory. {mend}"))
    bad = any(row.state == "bad" for row in rows)
    if as_json:
        show_json([asdict(row) for row in rows])
    else:
        show_table("Doctor", ("check", "state", "what was found"), [(*asdict(row).values(),) for row in rows], left=3)
        out.print("Something is bad." if bad else "Nothing is bad.")
    return int(bad)


# ── the machine ───────────────────────────────────────────────────────────────────────────────────────────────────


def _machine() -> Iterator[Row]:
    cores, threads = len(os.sched_getaffinity(0)), torch.get_num_threads()
    yield Row("bowerbird", "ok", f"{bowerbird.__version__}, Python {platform.python_version()}, {platform.machine()}")
    yield Row(
        "torch", "ok", f"{torch.__version__}, {'CUDA ' + torch.version.cuda if torch.version.cuda else 'CPU only'}"
    )
    if threads > cores:
        yield Row("threads", "warn", f"torch takes {threads} on {cores} cores. Set OMP_NUM_THREADS={cores}.")
    else:
        yield Row("threads", "ok", f"{threads} of torch on {cores} cores")
    yield _sqlite(sqlite3.sqlite_version_info)
    yield _open_files(resource.getrlimit(resource.RLIMIT_NOFILE)[0])
    yield _clock(int(time.time()))


def _sqlite(version: tuple[int, ...]) -> Row:
    name = ".".join(map(str, version))
    first, last = WAL_RESET
    if not first <= version <= last:
        return Row("SQLite", "ok", name)
    return Row(
        "SQLite",
        "warn",
        f"{name} can damage a database that several connections write or checkpoint at one moment (3.7.0 to 3.51.2). "
        "The server writes through one connection; let no other program write into its database, or take a Python with "
        "SQLite 3.51.3 or newer.",
    )


def _open_files(limit: int) -> Row:
    if 0 <= limit < FILES:  # −1 is no limit
        return Row("open files", "warn", f"{limit} at once; each connection is one. Raise it: ulimit -n {FILES}")
    return Row("open files", "ok", f"{limit:,} at once")


def _clock(now: int) -> Row:
    said = time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(now))
    if now < BUILT:
        return Row("clock", "bad", f"{said} is past. Set it, best through NTP: events carry its times.")
    return Row("clock", "ok", said)


# ── any directory ─────────────────────────────────────────────────────────────────────────────────────────────────


def _disk(folder: Path, kind: str) -> Iterator[Row]:
    """Free space, the right to write, and how long a sync takes."""
    usage = shutil.disk_usage(folder)
    state = "bad" if usage.free < 100 * MB else "warn" if usage.free < GB else "ok"
    mend = "" if state == "ok" else " Make room, or move the directory to a larger disk."
    yield Row(f"{kind} disk", state, f"{usage.free / GB:.1f} of {usage.total / GB:.1f} GB are free.{mend}")
    try:
        middle = _sync_ms(folder)
    except OSError as error:
        yield Row(
            f"{kind} writable", "bad", f"{folder}: {error.strerror}. Let the user of the server own it: chown -R …"
        )
        return
    yield Row(f"{kind} writable", "ok", str(folder))
    if middle > SLOW_MS:
        yield Row(
            f"{kind} sync", "warn", f"{middle:.1f} ms at the median; a lone event waits that long. Take a local SSD."
        )
    else:
        yield Row(f"{kind} sync", "ok", f"{middle:.1f} ms at the median of {SYNCS}")


def _sync_ms(folder: Path) -> float:
    """Return the median time in which four kilobytes reach the disk."""
    laps = []
    with tempfile.NamedTemporaryFile(dir=folder) as file:
        for _ in range(SYNCS):
            file.write(bytes(4096))
            file.flush()
            started = time.perf_counter()
            os.fsync(file.fileno())
            laps.append(1000 * (time.perf_counter() - started))
    return sorted(laps)[SYNCS // 2]


def _tried(check: str, look: Callable[[], str]) -> Row:
    """Return what a look found; our own errors already say what, where, and how to mend it."""
    try:
        return Row(check, "ok", look())
    except BowerbirdError as error:
        return Row(check, "bad", str(error))
    except OSError as error:
        return Row(check, "bad", f"{error.filename}: {error.strerror}. Give this user the right to read it.")


# ── a run directory ───────────────────────────────────────────────────────────────────────────────────────────────


def _run(run: Path) -> Iterator[Row]:
    versions, created = bundles.versions(run), 0

    def whole() -> str:
        nonlocal created
        bundle = bundles.read(run, moments=True)
        created = bundle.manifest["created"]
        return f"{bundle.version} of {', '.join(versions)}; every checksum holds"

    current = _tried("current version", whole)
    yield current
    if current.state == "ok":
        version = bundles.current(run)
        if created > time.time() + AHEAD_S:
            yield Row(
                "run clock", "bad", f"version {version} was published in the future. Set the clock, best through NTP."
            )
        if bundles.kind_of(run) == "recommender":
            yield _tried("histories", lambda: f"{len(histories.recall(run, version)):,} events")
            loaded = _size(run / "bundles" / version) + _size(run / histories.FOLDER / version)
            yield _memory(loaded, free_memory())
    left = [path for path in run.rglob(".*") if path.suffix in (".part", ".gone")]
    left += [path for path in (run / histories.FOLDER).glob("*") if path.name not in versions]
    if left:
        names = ", ".join(str(path.relative_to(run)) for path in left)
        yield Row(
            "leftovers", "warn", f"{names}: a publication was interrupted, or is under way. The next one removes them."
        )
    else:
        yield Row("leftovers", "ok", "no publication was interrupted")


def _size(folder: Path) -> int:
    """Return the bytes that who answers reads from a folder."""
    paths = (path for path in folder.rglob("*") if path.is_file() and path.name != bundles.OPTIMISER)
    return sum(path.stat().st_size for path in paths)


def _memory(size: int, available: int | None) -> Row:
    if available is None:
        return Row("memory", "warn", "This system does not say how much memory is free.")
    state = "bad" if available < LOADED * size else "warn" if available < LOADING * size else "ok"
    mend = "" if state == "ok" else f" Loading takes up to {LOADING * size / MB:,.0f} MB; free some, or add memory."
    found = f"{available / MB:,.0f} MB are free for a version of {size / MB:,.0f} MB on disk."
    return Row("memory", state, found + mend)


# ── the data directory of a server ────────────────────────────────────────────────────────────────────────────────


def _data(folder: Path) -> Iterator[Row]:
    yield _lock(folder)
    yield _rights(folder)
    if (url := url_of(folder)) is not None:
        yield _tried("database", lambda: _postgres(url))
        return
    if not (folder / DATABASE).exists():
        yield Row("database", "warn", f"{folder / DATABASE} is not there: no server has used this directory yet.")
        return
    yield _wal(folder)
    address = f"{(folder / DATABASE).resolve().as_uri()}?mode=ro"
    try:
        with closing(sqlite3.connect(address, uri=True)) as database:
            yield _checked(database)
            yield _keys(database)
    except sqlite3.Error as error:
        yield Row("database", "bad", f"{folder / DATABASE}: {error}. Restore it from a backup.")


def _postgres(url: str) -> str:
    """Say which server answers; raises `DatabaseError` where what it acknowledges is not kept."""
    with closing(read_only(url)) as connection:
        version, fsync = (connection.execute(f"SHOW {name}").fetchone()[0] for name in ("server_version", "fsync"))
    if fsync != "on":
        raise DatabaseError(f"{url}: fsync is {fsync}, so that a power cut loses what was acknowledged. Turn it on.")
    return f"{url} answers: PostgreSQL {version}"


def _lock(folder: Path) -> Row:
    if not (folder / LOCK).exists():
        return Row("lock", "ok", "no server holds this directory")
    let_go = RealWorld().lock(folder / LOCK)
    if let_go is None:
        return Row("lock", "ok", "a server holds this directory")
    let_go()
    return Row("lock", "ok", "no server holds this directory")


def _rights(folder: Path) -> Row:
    """Everyone's deeds lie here: no stranger on the machine may read them."""
    modes = {path: path.stat().st_mode for path in (folder, *folder.rglob("*")) if path.is_file() or path.is_dir()}
    readable = stat.S_IROTH if modes[folder] & stat.S_IXOTH else 0  # nobody comes past a directory that is closed
    bad = [path for path, mode in modes.items() if mode & stat.S_IWOTH]
    found = bad or [path for path, mode in modes.items() if mode & readable]
    if not found:
        return Row("permissions", "ok", "closed to strangers on this machine")
    which = str(found[0]) if len(found) == 1 else f"{found[0]} and {len(found) - 1} more"
    may = "changed" if bad else "read"
    return Row(
        "permissions",
        "bad" if bad else "warn",
        f"{which} can be {may} by everyone on this machine. Close it: chmod -R o= {folder}",
    )


def _wal(folder: Path) -> Row:
    wal = folder / f"{DATABASE}-wal"
    size = wal.stat().st_size if wal.exists() else 0
    if size > LONG_WAL:
        return Row(
            "WAL", "warn", f"{size / MB:,.0f} MB wait to be moved into the database. End what reads it for long."
        )
    return Row("WAL", "ok", f"{size / MB:,.1f} MB")


def _checked(database: sqlite3.Connection) -> Row:
    [found] = database.execute("PRAGMA quick_check(1)").fetchone()
    if found != "ok":
        return Row("database", "bad", f"{found}. Stop the server and restore the directory from a backup.")
    return Row("database", "ok", "quick_check finds nothing")


def _keys(database: sqlite3.Connection) -> Row:
    there = database.execute("SELECT count(*) FROM sqlite_master WHERE type = 'table' AND name = 'keys'").fetchone()[0]
    n = database.execute("SELECT count(*) FROM keys").fetchone()[0] if there else 0
    if n:
        return Row("keys", "ok", f"{n:,}")
    return Row(
        "keys",
        "warn",
        "none: the server is open to everyone on this machine and refuses other addresses. "
        "Make one: bowerbird key create",
    )
