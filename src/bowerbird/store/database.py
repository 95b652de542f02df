"""The embedded database of a server: one SQLite file, written by one thread that commits what waits together.

A sync to the disk takes milliseconds, so writes that arrive during one share the next. Only the committing thread
writes and moves the WAL into the file: versions of SQLite before 3.51.3 can damage a database where two connections do
that at once. Everyone else reads, through connections that cannot write.

    DATA/bowerbird.db, with -wal and -shm beside it while it is open
    DATA/lock

What the tables hold is for the modules that use them: `store.events`, `store.catalogue`, `store.schema`, `store.keys`,
`store.answers` and `store.experiments`. They ask a `Connection`, which is SQLite's or, with the same tables in a
PostgreSQL, that of `store.postgres`.
"""

import sqlite3
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, TypeVar

from bowerbird.core import BowerbirdError, RealWorld, World

T = TypeVar("T")

FILE, LOCK = "bowerbird.db", "lock"
SCRUBS, SCRUB_PAUSE_S = 100, 0.05  # tries to empty the WAL, which whoever reads just then keeps full
BATCH, BATCH_S = 500, 0.005  # pieces of work in one commit, and seconds spent on running them; then those who wait come
FULL = (sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR_SHMSIZE)  # the second: no room for a longer -shm
STORAGE = (  # what is wrong with the disk or the file, not with a piece of work
    sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_READONLY,
    sqlite3.SQLITE_CANTOPEN,
)  # fmt: skip

MIGRATIONS = (  # each makes the tables of one version into those of the next; one that was released never changes
    """
    CREATE TABLE events (
        number INTEGER PRIMARY KEY,  -- the offset + 1: rows are never deleted, so that SQLite counts without gaps
        key BLOB NOT NULL UNIQUE,  -- a digest of event_id, which keeps a retry out after the event was erased
        retracted INTEGER NOT NULL DEFAULT 0,
        event_id TEXT, event TEXT, user_id, item_id, time INTEGER, weight REAL, session_id TEXT, request_id TEXT,
        scenario TEXT, context TEXT, position INTEGER, propensity REAL, policy_version TEXT, model_version TEXT
    );
    CREATE INDEX events_of_user ON events (user_id) WHERE user_id IS NOT NULL;
    CREATE TABLE documents (
        kind TEXT NOT NULL,
        key TEXT NOT NULL,  -- the id as text
        id NOT NULL,
        properties TEXT NOT NULL,
        available INTEGER NOT NULL,
        expires INTEGER,
        since INTEGER NOT NULL,
        deleted INTEGER NOT NULL,
        change INTEGER NOT NULL UNIQUE,  -- the number of the one that made it so
        PRIMARY KEY (kind, key)
    ) WITHOUT ROWID;
    CREATE TABLE keys (
        id TEXT PRIMARY KEY, name TEXT NOT NULL, scopes TEXT NOT NULL, created INTEGER NOT NULL, expires INTEGER,
        limit_per_s REAL, last_used INTEGER, digest BLOB NOT NULL UNIQUE
    );
    CREATE TABLE answers (
        key TEXT PRIMARY KEY, body_sha256 TEXT NOT NULL, status INTEGER NOT NULL, body TEXT NOT NULL,
        time INTEGER NOT NULL
    );
    CREATE INDEX answers_by_time ON answers (time);
    """,
    """
    CREATE TABLE schemas (
        number INTEGER PRIMARY KEY,  -- of the change; the last one is in force
        time INTEGER NOT NULL,
        events TEXT NOT NULL  -- the event types that were declared, as JSON
    );
    """,
    """
    CREATE TABLE experiments (
        name TEXT NOT NULL UNIQUE,
        document TEXT NOT NULL,  -- what it is, as JSON
        state TEXT NOT NULL,  -- draft, running or stopped
        salt TEXT NOT NULL DEFAULT '',
        created INTEGER NOT NULL, started INTEGER, stopped INTEGER,
        start INTEGER NOT NULL DEFAULT 0, stop INTEGER,  -- the offsets of the log at which it began and ended
        reason TEXT NOT NULL DEFAULT ''
    );
    CREATE INDEX events_of_merges ON events (session_id, user_id) WHERE event = 'merge';
    """,
)


class DatabaseError(BowerbirdError, OSError):
    """The database of a data directory cannot be opened or copied."""


class Overloaded(BowerbirdError, RuntimeError):
    """More writes wait than are taken; nothing of this one was kept."""


class DiskFull(BowerbirdError, OSError):
    """The disk has no room; nothing of this write was kept."""


class DatabaseBroken(BowerbirdError, OSError):
    """The database takes no more writes: the disk failed, or it was closed."""


class StoreAway(DatabaseBroken):
    """A database on the network does not answer now; it is tried again until it does."""


class Rows(Protocol):
    """What a statement found or changed."""

    @property
    def rowcount(self) -> int:
        """How many rows were changed."""
        ...

    def fetchone(self) -> Any:
        """Return the next row, None behind the last one."""
        ...

    def fetchall(self) -> list[Any]:
        """Return the rows that are left."""
        ...

    def __iter__(self) -> Iterator[Any]: ...


class Connection(Protocol):
    """What the tables are asked through; `?` and `:name` stand for values."""

    def execute(self, sql: str, parameters: Sequence[Any] | Mapping[str, Any] = ..., /) -> Rows:
        """Do one statement."""
        ...

    def executemany(self, sql: str, rows: Iterable[Sequence[Any]], /) -> Rows:
        """Do one statement for each row of values."""
        ...

    def close(self) -> None:
        """Let go of it."""
        ...


class Store(Protocol):
    """A database that a server works with, wherever it is."""

    folder: Path
    world: World

    @property
    def shared(self) -> bool:
        """Whether others write too, so that it has to be looked at anew."""
        ...

    def write(self, work: Callable[[Connection], T], then: Callable[[T], None] | None = None) -> Future[T]:
        """Have `work` done in a transaction; the future holds what it returned once that is kept."""
        ...

    def between(self, act: Callable[[], None]) -> None:
        """Call `act` while nothing is followed."""
        ...

    def reader(self) -> AbstractContextManager[Connection]:
        """Lend a connection that can change nothing."""
        ...

    def tell(self, connection: Connection, kind: str, number: int = 0) -> None:
        """Let others who follow know, with the transaction, what no row of the tables shows them."""
        ...

    def close(self) -> None:
        """Let go of it."""
        ...


@dataclass(eq=False)
class Piece:
    """Work that waits for a commit, and what came of it."""

    work: Callable[[Any], Any]
    then: Callable[[Any], None] | None
    future: Future[Any] = field(default_factory=Future)
    value: Any = None
    error: Exception | None = None

    def answer(self) -> None:
        """Tell of what was committed, first `then`, and next whoever waits."""
        if self.then is not None and self.error is None:
            try:
                self.then(self.value)
            except Exception as error:
                self.error = error
        if self.error is None:
            self.future.set_result(self.value)
        else:
            self.future.set_exception(self.error)


class Committer:
    """Pieces of work that wait, and the one thread that commits them, some at a time."""

    def __init__(self, name: str, commit: Callable[[Piece], None], most_waiting: int) -> None:
        self.name, self.most_waiting, self.closing = name, most_waiting, False
        self._commit, self._broken = commit, ""
        self._waiting: deque[Piece] = deque()
        self._turn = threading.Condition()  # guards what waits, and wakes the committing thread
        self._thread = threading.Thread(target=self._work, name="committer", daemon=True)
        self._thread.start()

    def add(self, piece: Piece) -> None:
        """Let a piece wait; raises `Overloaded` and `DatabaseBroken`."""
        with self._turn:
            if self._broken or self.closing:
                raise DatabaseBroken(self._broken or f"{self.name} is closed.")
            if len(self._waiting) >= self.most_waiting:
                raise Overloaded(f"{self.most_waiting:,} writes wait for the disk already. Try again in a second.")
            self._waiting.append(piece)
            self._turn.notify()

    def take(self) -> Piece | None:
        """Return the next piece that nobody gave up, None where there is none."""
        with self._turn:
            while self._waiting:
                piece = self._waiting.popleft()
                if piece.future.set_running_or_notify_cancel():
                    return piece
        return None

    def stop(self, why: str) -> list[Piece]:
        """Take no more, and return what waits."""
        with self._turn:
            self._broken = why
            left = list(self._waiting)
            self._waiting.clear()
        return left

    def close(self) -> bool:
        """Have what waits committed, and take no more; return whether that is new."""
        with self._turn:
            closed, self.closing = self.closing, True
            self._turn.notify()
        if not closed:
            self._thread.join()
        return not closed

    def _work(self) -> None:
        while self._something_waits():
            if (first := self.take()) is not None:
                self._commit(first)

    def _something_waits(self) -> bool:
        """Wait for work; return False when there will be none."""
        with self._turn:
            self._turn.wait_for(lambda: self._waiting or self.closing)
            return bool(self._waiting)


class Database:
    """The one holder of a data directory's database; raises `DatabaseError` where there is another one."""

    shared = False

    def __init__(self, folder: Path, *, world: World | None = None, most_waiting: int = 10_000) -> None:
        self.folder, self.world = folder, world or RealWorld()
        self._idle: deque[sqlite3.Connection] = deque()  # connections that nobody reads from now
        self.world.make_folder(folder)
        let_go = self.world.lock(folder / LOCK)
        if let_go is None:
            raise DatabaseError(f"{folder}: another process has this data directory. Stop it, or ask it over HTTP.")
        self._let_go = let_go
        try:
            self._connection = _opened(folder, self.world)
        except BaseException:
            let_go()
            raise
        self._committer = Committer(str(folder / FILE), self._commit, most_waiting)

    # ── for everyone ──────────────────────────────────────────────────────────────────────────────────────────────

    def write(self, work: Callable[[Connection], T], then: Callable[[T], None] | None = None) -> Future[T]:
        """Have `work` done in a transaction; the future holds what it returned once that is on the disk.

        Work that raises is undone alone, and the future raises what it raised. `then` is called with the result on the
        committing thread, in the order of the commits and before the future is done; neither may wait for a write.
        Raises `Overloaded` and `DatabaseBroken` at once; the future raises `DiskFull` and `DatabaseBroken`.
        """
        piece = Piece(work, then)
        self._committer.add(piece)
        return piece.future

    def between(self, act: Callable[[], None]) -> None:
        """Call `act` on the committing thread, between two commits, and return when it was done."""
        self.write(lambda connection: None, then=lambda _: act()).result()

    @contextmanager
    def reader(self) -> Iterator[sqlite3.Connection]:
        """Lend a connection for this thread alone, which sees all that was committed and can change nothing."""
        try:
            connection = self._idle.pop()
        except IndexError:
            connection = read_only(self.folder, world=self.world)
        try:
            yield connection
        finally:
            if self._committer.closing:
                connection.close()
            else:
                self._idle.append(connection)

    def tell(self, connection: Connection, kind: str, number: int = 0) -> None:
        """Tell nobody: whoever follows here is told by the process that writes."""

    def backup(self, target: Path) -> None:
        """Copy the database as it is at one moment into a new file, while reads and writes go on."""
        scratch = target.parent / f".{target.name}.part"
        if target.name in self.world.names(target.parent):
            raise DatabaseError(f"{target} is there already. Name a new file.")
        self.world.remove_folder(scratch)
        self.world.make_folder(scratch)
        try:
            copy = self.world.connect((scratch / FILE).resolve().as_uri())
            try:
                with self.reader() as connection:
                    connection.backup(copy)  # SQLite syncs it, as it does any commit
            finally:
                copy.close()
            self.world.replace(scratch / FILE, target)
        except sqlite3.Error as error:
            raise (DiskFull if _code(error) in FULL else DatabaseError)(
                f"{target} cannot be written: {error}."
            ) from error
        finally:
            self.world.remove_folder(scratch)

    def scrub(self) -> None:
        """Rewrite the file without what was deleted, and empty the WAL: the bytes are gone when this returns.

        Writes wait meanwhile, a second or two for a million events. Raises `DiskFull` where there is no room for a
        second copy of the file, and `DatabaseError` where somebody keeps on reading what is to go.
        """
        try:
            self.between(self._scrub)
        except sqlite3.Error as error:
            full = _code(error) in FULL
            mend = "Make room for a second copy of it, and erase again." if full else "Erase again."
            kind: type[BowerbirdError] = DiskFull if full else DatabaseError
            raise kind(f"{self.folder / FILE} cannot be rewritten: {error}. {mend}") from error

    def close(self) -> None:
        """Commit what waits, then let go of the file and of the directory."""
        if not self._committer.close():
            return
        while self._idle:
            self._idle.pop().close()
        self._connection.close()
        self._let_go()

    # ── on the committing thread ──────────────────────────────────────────────────────────────────────────────────

    def _scrub(self) -> None:
        connection = self._connection
        connection.execute("PRAGMA temp_store = FILE")  # a copy of the whole file is no matter for memory
        try:
            connection.execute("VACUUM")
        finally:
            connection.execute("PRAGMA temp_store = MEMORY")
        for _ in range(SCRUBS):
            if not connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0]:
                return
            self.world.sleep(SCRUB_PAUSE_S)
        raise DatabaseError(f"{self.folder / FILE}: somebody keeps reading an older state of it. Erase again.")

    def _commit(self, first: Piece) -> None:
        """Do what waits in one transaction, and tell of it."""
        taken = [first]
        end = self.world.monotonic() + BATCH_S
        try:
            self._connection.execute("BEGIN IMMEDIATE")
            self._do(first)
            while len(taken) < BATCH and self.world.monotonic() < end and (piece := self._committer.take()) is not None:
                taken.append(piece)
                self._do(piece)
            self._connection.execute("COMMIT")
        except sqlite3.Error as error:
            self._fail(taken, error)
            return
        for piece in taken:
            piece.answer()

    def _do(self, piece: Piece) -> None:
        """Do one piece of work, or nothing of it; raises `sqlite3.Error` where the fault is not its own."""
        self._connection.execute("SAVEPOINT piece")
        try:
            piece.value = piece.work(self._connection)
        except Exception as error:
            if _code(error) & 0xFF in STORAGE:
                raise
            piece.error = error
            self._connection.execute("ROLLBACK TO piece")
        self._connection.execute("RELEASE piece")

    def _fail(self, taken: list[Piece], error: sqlite3.Error) -> None:
        """Undo a transaction and tell why. After anything but a full disk nobody knows what the disk holds: stop."""
        full = _code(error) in FULL
        try:
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")
        except sqlite3.Error:
            full = False
        kind: type[BowerbirdError] = DiskFull if full else DatabaseBroken
        why = f"{self.folder}: the disk is full. Nothing was kept; make room and send it again."
        if not full:
            why = f"{self.folder / FILE}: the disk failed ({error}). No more is written; check the disk, then restart."
            taken = [*taken, *self._committer.stop(why)]
        for piece in taken:
            if piece.future.running() or piece.future.set_running_or_notify_cancel():
                piece.future.set_exception(piece.error or kind(why))


def read_only(folder: Path, *, still: bool = False, world: World | None = None) -> sqlite3.Connection:
    """Return a connection that can only read, for processes beside the holder too; raises `DatabaseError`.

    Of a file that nobody writes, such as a backup, `still` makes no -wal and no -shm.
    """
    try:
        connection = (world or RealWorld()).connect(_address(folder, "ro") + ("&immutable=1" if still else ""))
        connection.execute("PRAGMA query_only = ON")
        connection.execute("PRAGMA schema_version")  # the first look at the file
    except sqlite3.Error as error:
        raise DatabaseError(
            f"{folder / FILE} cannot be read: {error}. Is this the data directory of a server?"
        ) from error
    return connection


def _opened(folder: Path, world: World) -> sqlite3.Connection:
    """Return the connection that writes, its file made or brought up to date."""
    try:
        connection = world.connect(_address(folder, "rwc"))
        try:
            _migrate(folder, connection)
        except BaseException:
            connection.close()
            raise
    except sqlite3.Error as error:
        if _code(error) in FULL:
            raise DiskFull(f"{folder}: the disk is full. Make room and start again.") from error
        raise DatabaseError(f"{folder / FILE} cannot be opened: {error}. Restore it from a backup.") from error
    return connection


def _migrate(folder: Path, connection: sqlite3.Connection) -> None:
    version = connection.execute("PRAGMA user_version").fetchone()[0]
    if version > len(MIGRATIONS):
        raise DatabaseError(
            f"{folder / FILE} has version {version}; this bowerbird knows {len(MIGRATIONS)}. "
            "Install the bowerbird that wrote it or a newer one, or restore a backup of before."
        )
    for pragma in (
        "journal_mode = WAL",
        "synchronous = FULL",
        "fullfsync = ON",  # macOS keeps what was synced in the disk's cache without it; elsewhere it does nothing
        "secure_delete = ON",  # what is erased leaves no bytes in the file
        "temp_store = MEMORY",  # or a commit opens files, which a server with many connections may not be allowed
    ):
        connection.execute(f"PRAGMA {pragma}")
    for number, script in enumerate(MIGRATIONS[version:], version + 1):
        connection.executescript(f"BEGIN IMMEDIATE; {script}; PRAGMA user_version = {number}; COMMIT")


def _address(folder: Path, mode: str) -> str:
    return f"{(folder / FILE).resolve().as_uri()}?mode={mode}"


def _code(error: BaseException) -> int:
    """Return SQLite's code of an error, 0 where it is not SQLite's."""
    return int(getattr(error, "sqlite_errorcode", 0))
