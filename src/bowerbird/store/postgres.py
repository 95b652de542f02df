"""The database of a server in a PostgreSQL: the same tables, over the network, for several servers at once.

Whoever commits holds one lock of the database until it is done. So replicas take turns, offsets have no gaps, and an
offset that can be seen has all before it. A commit whose answer was lost is asked after by its transaction's number:
what was kept is not done again, and what was not kept is. While the server is away, writes wait a little and are then
refused; what was acknowledged is kept, as far as PostgreSQL keeps what it says is committed.

The modules that use the tables write one SQL, that of SQLite; `translated` and a handful of functions beside the tables
(`json_extract`, `randomblob` …) are all that is different here. Ids are JSON, which tells 7 from "7".

psycopg (extra `postgres`) is imported where a database is opened.
"""

import re
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import closing, contextmanager, suppress
from functools import lru_cache
from pathlib import Path
from typing import Any, TypeVar

from bowerbird.core import BowerbirdError, MissingExtraError, RealWorld, World
from bowerbird.store.database import (
    BATCH,
    Committer,
    Connection,
    DatabaseBroken,
    DatabaseError,
    DiskFull,
    Piece,
    StoreAway,
)

T = TypeVar("T")

SCHEMA = "bowerbird"  # that of the tables: one shop, one database
TURN = 0x626F776572  # the lock of whoever commits
GATHER_S = 0.02  # spent on the pieces of one commit, most of it on their round trips
PATIENCE_S = 4.0  # in which a batch is tried again
PAUSE_S, LONGEST_PAUSE_S = 0.05, 0.5  # between two tries
CONNECT_S = 2  # for one try to connect
STATEMENT_MS = 8_000  # for one statement: below the ten seconds in which HTTP waits for an event
TIMEOUTS = ("statement_timeout", "lock_timeout", "idle_in_transaction_session_timeout")  # the last: of a cut client
LISTEN_S = 1.0  # between two looks whether to stop listening
NEWS = "bowerbird"  # the channel on which commits are told
FULL = ("53100",)  # the SQLSTATE of a full disk
AWAY = ("08", "53", "55P03", "57")  # how those begin that time mends: connections, room, locks, cancelled or shut down

MIGRATIONS = (
    r"""
    CREATE FUNCTION id(text) RETURNS jsonb IMMUTABLE LANGUAGE sql AS 'SELECT to_jsonb($1)';
    CREATE FUNCTION id(bigint) RETURNS jsonb IMMUTABLE LANGUAGE sql AS 'SELECT to_jsonb($1)';
    CREATE FUNCTION hex(bytea) RETURNS text IMMUTABLE LANGUAGE sql AS $$ SELECT encode($1, 'hex') $$;
    CREATE FUNCTION instr(text, text) RETURNS integer IMMUTABLE LANGUAGE sql AS 'SELECT strpos($1, $2)';
    CREATE FUNCTION quote(double precision) RETURNS text IMMUTABLE LANGUAGE sql AS 'SELECT CAST($1 AS text)';
    CREATE FUNCTION randomblob(integer) RETURNS bytea VOLATILE LANGUAGE sql AS
        $$ SELECT decode(replace(CAST(gen_random_uuid() AS text), '-', ''), 'hex') $$;  -- 16 bytes, 122 random bits
    CREATE FUNCTION json_valid(text) RETURNS boolean IMMUTABLE LANGUAGE plpgsql AS $$
        BEGIN RETURN CAST($1 AS json) IS NOT NULL; EXCEPTION WHEN others THEN RETURN false; END $$;
    CREATE FUNCTION json_extract(text, text) RETURNS text IMMUTABLE LANGUAGE sql AS
        $$ SELECT CAST($1 AS json) #>> string_to_array(substr($2, 3), '.') $$;  -- of $.a.b the names

    CREATE TABLE events (
        number BIGINT PRIMARY KEY,  -- the offset + 1, given below: a sequence would leave gaps
        key BYTEA NOT NULL UNIQUE,
        retracted BOOLEAN NOT NULL DEFAULT FALSE,
        event_id TEXT, event TEXT, user_id JSONB, item_id JSONB, time BIGINT, weight DOUBLE PRECISION, session_id TEXT,
        request_id TEXT, scenario TEXT, context TEXT, position BIGINT, propensity DOUBLE PRECISION, policy_version TEXT,
        model_version TEXT
    );
    CREATE FUNCTION next_number() RETURNS bigint VOLATILE LANGUAGE plpgsql AS
        $$ BEGIN RETURN (SELECT coalesce(max(number), 0) + 1 FROM events); END $$;  -- whoever asks holds the lock
    ALTER TABLE events ALTER number SET DEFAULT next_number();
    CREATE INDEX events_of_user ON events (user_id) WHERE user_id IS NOT NULL;
    CREATE INDEX events_of_merges ON events (session_id, user_id) WHERE event = 'merge';
    CREATE TABLE documents (
        kind TEXT NOT NULL, key TEXT COLLATE "C" NOT NULL, id JSONB NOT NULL, properties TEXT NOT NULL,
        available BOOLEAN NOT NULL, expires BIGINT, since BIGINT NOT NULL, deleted BOOLEAN NOT NULL,
        change BIGINT NOT NULL UNIQUE,
        PRIMARY KEY (kind, key)
    );
    CREATE TABLE keys (
        rowid BIGINT GENERATED ALWAYS AS IDENTITY, id TEXT PRIMARY KEY, name TEXT NOT NULL, scopes TEXT NOT NULL,
        created BIGINT NOT NULL, expires BIGINT, limit_per_s DOUBLE PRECISION, last_used BIGINT,
        digest BYTEA NOT NULL UNIQUE
    );
    CREATE TABLE answers (
        key TEXT PRIMARY KEY, body_sha256 TEXT NOT NULL, status BIGINT NOT NULL, body TEXT NOT NULL,
        time BIGINT NOT NULL
    );
    CREATE INDEX answers_by_time ON answers (time);
    CREATE TABLE schemas (number BIGINT PRIMARY KEY, time BIGINT NOT NULL, events TEXT NOT NULL);
    CREATE TABLE experiments (
        rowid BIGINT GENERATED ALWAYS AS IDENTITY, name TEXT NOT NULL UNIQUE, document TEXT NOT NULL,
        state TEXT NOT NULL, salt TEXT NOT NULL DEFAULT '', created BIGINT NOT NULL, started BIGINT, stopped BIGINT,
        start BIGINT NOT NULL DEFAULT 0, stop BIGINT, reason TEXT NOT NULL DEFAULT ''
    );
    CREATE TABLE notices (  -- what no row above shows to those who follow
        number BIGINT PRIMARY KEY, kind TEXT NOT NULL, told BIGINT NOT NULL
    );
    """,
)
TABLES = ("events", "documents", "keys", "answers", "schemas", "experiments")  # what a dump holds
IDS = {"events": ("user_id", "item_id"), "documents": ("id",)}  # columns whose type is the caller's

_INSERT = re.compile(r"INSERT INTO (\w+) \(([^)]*)\) VALUES \(([?, ]+)\)")


@lru_cache(maxsize=512)
def translated(sql: str) -> str:
    """Return SQLite's SQL as psycopg takes it: other marks for values, and ids, which are JSON, made and read."""
    sql = _INSERT.sub(_with_ids, sql.replace("%", "%%"))
    sql = re.sub(r"\b(user_id|item_id) IN \(\?, \?\)", r"\1 IN (id(?), id(?))", sql)
    sql = re.sub(r"CAST\((user_id|item_id) AS TEXT\)", r"(\1 #>> '{}')", sql)
    sql = sql.replace("json_group_array(", "json_agg(")
    return re.sub(r"(?<![:\w]):([a-z]\w*)", r"%(\1)s", sql.replace("?", "%s"))


def _with_ids(found: re.Match[str]) -> str:
    table, columns, _ = found.groups()
    names = [name.strip() for name in columns.split(",")]
    marks = ", ".join("id(?)" if name in IDS.get(table, ()) else "?" for name in names)
    return f"INSERT INTO {table} ({columns}) VALUES ({marks})"


class PostgresConnection:
    """A connection that is asked in SQLite's SQL."""

    def __init__(self, raw: Any) -> None:
        self.raw = raw

    def execute(self, sql: str, parameters: Sequence[Any] | Mapping[str, Any] = (), /) -> Any:
        """Do one statement."""
        return self.raw.execute(translated(sql), parameters)

    def executemany(self, sql: str, rows: Iterable[Sequence[Any]], /) -> Any:
        """Do one statement for each row of values, all in one round trip."""
        cursor = self.raw.cursor()
        cursor.executemany(translated(sql), rows)
        return cursor

    def returned(self, sql: str, rows: Iterable[Sequence[Any]]) -> list[list[Any]]:
        """Do one statement for each row of values, in one round trip; return what each returned."""
        cursor = self.raw.cursor()
        cursor.executemany(translated(sql), rows, returning=True)
        found = [cursor.fetchall()]
        while cursor.nextset():
            found.append(cursor.fetchall())
        return found

    def close(self) -> None:
        """Let go of it."""
        self.raw.close()


def driver() -> Any:
    """Return psycopg; raises `MissingExtraError`."""
    try:
        import psycopg
    except ImportError as error:
        raise MissingExtraError(
            'a database in PostgreSQL needs psycopg. Install it with: pip install "bowerbird[postgres]"'
        ) from error
    return psycopg


def connect(url: str, *, read_only: bool = False) -> PostgresConnection:
    """Return a connection without implied transactions; raises `StoreAway`, and `DatabaseError` where none can be."""
    psycopg = driver()
    from psycopg.types.string import StrDumper

    asked: dict[str, Any] = {"search_path": SCHEMA} | dict.fromkeys(TIMEOUTS, STATEMENT_MS)
    if read_only:
        asked["default_transaction_read_only"] = "on"
    options = " ".join(f"-c {name}={value}" for name, value in asked.items())
    try:
        raw = psycopg.connect(
            url, autocommit=True, connect_timeout=CONNECT_S, options=options, application_name=SCHEMA,
            tcp_user_timeout=STATEMENT_MS, keepalives_idle=5, keepalives_interval=2, keepalives_count=3,
        )  # fmt: skip
    except psycopg.ProgrammingError as error:
        raise DatabaseError(f"{url} is no address of a PostgreSQL: {error}.") from None
    except psycopg.OperationalError as error:
        raise StoreAway(f"{url} does not answer: {_said(error)}.") from error
    raw.adapters.register_dumper(str, StrDumper)  # a text, and not whatever the place of it asks for
    raw.adapters.register_loader("json", psycopg.types.string.TextLoader)
    return PostgresConnection(raw)


def prepare(url: str) -> None:
    """Make the tables, or bring them up to date; raises `DatabaseError`."""
    psycopg = driver()
    try:
        with closing(connect(url)) as connection, connection.raw.transaction():
            connection.execute("SELECT pg_advisory_xact_lock(?)", (TURN,))
            encoding = connection.execute("SHOW server_encoding").fetchone()[0]
            if encoding != "UTF8":
                raise DatabaseError(f"{url}: the encoding is {encoding}. Create the database with ENCODING 'UTF8'.")
            if connection.execute("SELECT to_regnamespace(?)", (SCHEMA,)).fetchone()[0] is None:
                connection.execute(f"CREATE SCHEMA {SCHEMA}")
            connection.execute("CREATE TABLE IF NOT EXISTS versions (version BIGINT PRIMARY KEY)")
            version = connection.execute("SELECT coalesce(max(version), 0) FROM versions").fetchone()[0]
            if version > len(MIGRATIONS):
                raise DatabaseError(
                    f"{url} has version {version}; this bowerbird knows {len(MIGRATIONS)}. "
                    "Install the bowerbird that wrote it or a newer one, or restore a backup of before."
                )
            for number, script in enumerate(MIGRATIONS[version:], version + 1):
                connection.raw.execute(script)
                connection.execute("INSERT INTO versions (version) VALUES (?)", (number,))
    except psycopg.Error as error:
        raise DatabaseError(f"{url}: the tables cannot be made: {_said(error)}.") from error


class Postgres:
    """One of several that work with a database; with `follow`, one that only reads and is told of what others write."""

    shared = True

    def __init__(
        self,
        folder: Path,
        url: str,
        *,
        world: World | None = None,
        follow: bool = False,
        most_waiting: int = 10_000,
    ) -> None:
        self.folder, self.url, self.world = folder, url, world or RealWorld()
        self._psycopg = driver()
        self.turn = threading.RLock()  # held by whoever reads on, and while something takes the place of something
        self._name = self.world.token()  # by which it knows its own commits among those that are told
        self._idle: deque[PostgresConnection] = deque()
        self._connection: PostgresConnection | None = None  # that of the committing thread
        self._doubtful: int | None = None  # the number of a transaction of which nobody said whether it is kept
        self._away = False
        self._moved = threading.Event()
        self._closing = threading.Event()
        prepare(url)
        self._listener = threading.Thread(target=self._listen, name="listener", daemon=True)
        self._listener.start()
        self._committer = None if follow else Committer(url, self._commit, most_waiting)

    # ── for everyone ──────────────────────────────────────────────────────────────────────────────────────────────

    def write(self, work: Callable[[Connection], T], then: Callable[[T], None] | None = None) -> Future[T]:
        """Have `work` done in a transaction; the future holds what it returned once the server says it is kept.

        As `Database.write`; the future also raises `StoreAway` where the server does not answer for some seconds:
        then nobody knows whether it was kept, and events may be sent again. `work` may be called more than once.
        """
        if self._committer is None:
            raise DatabaseBroken(f"{self.url}: another process writes here.")
        piece = Piece(work, then)
        self._committer.add(piece)
        return piece.future

    def between(self, act: Callable[[], None]) -> None:
        """Call `act` while nothing is followed."""
        with self.turn:
            act()

    @contextmanager
    def reader(self) -> Iterator[Connection]:
        """Lend a connection that can change nothing, for this thread alone; raises `StoreAway`."""
        connection, fine = self._reader(), True
        try:
            yield connection
        except self._psycopg.Error as error:
            fine = False
            raise self._meaning(error) from error
        finally:
            if fine and not self._closing.is_set():
                self._idle.append(connection)
            else:
                connection.close()

    def moved(self) -> bool:
        """Return whether another one committed something since the last call; nothing is asked for that."""
        moved = self._moved.is_set()
        self._moved.clear()
        return moved

    def missed(self) -> None:
        """Have `moved` say yes once more: what was to be read could not be."""
        self._moved.set()

    def tell(self, connection: Connection, kind: str, number: int = 0) -> None:
        """Let those who follow know, with the transaction, what no row of the tables shows them."""
        sql = "INSERT INTO notices (number, kind, told) SELECT coalesce(max(number), 0) + 1, ?, ? FROM notices"
        connection.execute(sql, (kind, number))

    def notices(self, since: int) -> list[tuple[int, str, int]]:
        """Return number, kind and what is told of the notices after one, oldest first."""
        with self.reader() as connection:
            sql = "SELECT number, kind, told FROM notices WHERE number > ? ORDER BY number"
            return list(connection.execute(sql, (since,)).fetchall())

    def scrub(self) -> None:
        """Rewrite the tables without what was deleted, while others wait: their files hold none of it afterwards.

        The write-ahead log, archives of it, replicas of the server and its backups are not ours to rewrite.
        """
        try:
            with closing(connect(self.url)) as connection:
                connection.execute("SET statement_timeout = 0")
                for table in ("events", "documents", "answers"):
                    connection.execute(f"VACUUM (FULL) {table}")
        except self._psycopg.Error as error:
            raise DatabaseError(f"{self.url} cannot be rewritten: {_said(error)}. Erase again.") from error

    def close(self) -> None:
        """Commit what waits, then let go of the connections."""
        if self._committer is not None:
            self._committer.close()
        self._closing.set()
        self._listener.join()
        while self._idle:
            self._idle.pop().close()
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    # ── on the committing thread ──────────────────────────────────────────────────────────────────────────────────

    def _commit(self, first: Piece) -> None:
        """Do what waits in one transaction, again where the server went away meanwhile, and tell of it."""
        batch, pause = [first], PAUSE_S
        end = self.world.monotonic() + (0.0 if self._away else PATIENCE_S)
        while True:
            try:
                if not self._kept():
                    self._transact(batch)
                break
            except (self._psycopg.Error, StoreAway) as error:
                self._let_go()
                wrong = error if isinstance(error, BowerbirdError) else self._meaning(error)
                if not isinstance(wrong, StoreAway) or self.world.monotonic() >= end:
                    self._fail(batch, wrong)
                    return
                self.world.sleep(pause)
                pause = min(2 * pause, LONGEST_PAUSE_S)
        self._away, self._doubtful = False, None
        with self.turn:
            for piece in batch:
                piece.answer()

    def _transact(self, batch: list[Piece]) -> None:
        """Do a batch in one transaction; where a piece of it fails, once more with a way back before each.

        Each way back is a round trip or two, and pieces seldom fail. Raises psycopg's errors.
        """
        if not self._tried(batch, careful=False):
            self._tried(batch, careful=True)

    def _tried(self, batch: list[Piece], *, careful: bool) -> bool:
        """Do a batch, to which what waits is added the first time; return whether it was committed."""
        assert self._committer is not None
        connection, grows = self._writer(), not careful and len(batch) == 1
        number, end = self._begin(connection), self.world.monotonic() + GATHER_S
        place = 0
        while place < len(batch):
            fine = self._do(connection, batch[place], careful=careful)
            if not (fine or careful):
                connection.execute("ROLLBACK")
                return False
            place += 1
            grows = grows and len(batch) < BATCH and self.world.monotonic() < end
            if grows and place == len(batch) and (piece := self._committer.take()) is not None:
                batch.append(piece)
        self._doubtful = number
        connection.execute("COMMIT")
        return True

    def _begin(self, connection: PostgresConnection) -> int:
        """Begin a transaction when it is this one's turn, and return its number."""
        told = f"pg_advisory_xact_lock({TURN}), pg_notify('{NEWS}', '{self._name}'), CAST(pg_current_xact_id() AS text)"
        cursor = connection.raw.execute(f"BEGIN; SELECT {told}")
        cursor.nextset()
        return int(cursor.fetchone()[2])

    def _do(self, connection: PostgresConnection, piece: Piece, *, careful: bool) -> bool:
        """Do one piece of work, where `careful` or nothing of it; return whether it could be done.

        Raises psycopg's errors where the fault is not its own.
        """
        piece.value = piece.error = None
        if careful:
            connection.execute("SAVEPOINT piece")
        try:
            piece.value = piece.work(connection)
        except Exception as error:
            if isinstance(error, self._psycopg.Error) and (connection.raw.closed or _of_store(error)):
                raise
            piece.error = error
        if careful:
            connection.execute("RELEASE piece" if piece.error is None else "ROLLBACK TO piece")
        return piece.error is None

    def _kept(self) -> bool:
        """Return whether the transaction in doubt is kept; raises `StoreAway` where the server does not know yet."""
        if self._doubtful is None:
            return False
        sql = "SELECT pg_xact_status(CAST(CAST(? AS text) AS xid8))"
        status = self._writer().execute(sql, (str(self._doubtful),)).fetchone()[0]
        if status == "in progress":
            raise StoreAway(f"{self.url}: a commit before this one is not done yet.")
        if status != "committed":
            self._doubtful = None
        return bool(status == "committed")

    def _fail(self, batch: list[Piece], why: BowerbirdError) -> None:
        """Tell those who wait that it came to nothing, or that nobody knows."""
        assert self._committer is not None
        self._away, self._doubtful = isinstance(why, StoreAway), None
        waiting: Piece | None = None
        taken = list(batch)
        while self._away and (waiting := self._committer.take()) is not None:
            taken.append(waiting)
        for piece in taken:
            piece.future.set_exception(why)

    def _writer(self) -> PostgresConnection:
        if self._connection is None:
            connection = connect(self.url)
            if connection.execute("SHOW synchronous_commit").fetchone()[0] == "off":
                connection.execute("SET synchronous_commit = on")  # what is acknowledged is on the disk
            self._connection = connection
        return self._connection

    def _let_go(self) -> None:
        """End the connection that failed, and with it the transaction."""
        if self._connection is not None:
            with suppress(self._psycopg.Error):
                self._connection.close()
            self._connection = None

    # ── reading and hearing ───────────────────────────────────────────────────────────────────────────────────────

    def _reader(self) -> PostgresConnection:
        """Return a connection that answers: one that idled while the server was restarted does not."""
        while self._idle:
            with suppress(IndexError):  # another thread took the last one
                connection = self._idle.pop()
                try:
                    connection.execute("SELECT 1")
                    return connection
                except self._psycopg.Error:
                    connection.close()
        return connect(self.url, read_only=True)

    def _listen(self) -> None:
        """Note that others committed, until this is closed; after a silence anything may have happened."""
        while not self._closing.is_set():
            with suppress(StoreAway, self._psycopg.Error), closing(connect(self.url)) as connection:
                connection.execute(f"LISTEN {NEWS}")
                self._moved.set()
                while not self._closing.is_set():
                    for notice in connection.raw.notifies(timeout=LISTEN_S, stop_after=1):
                        if notice.payload != self._name:
                            self._moved.set()
            self._closing.wait(PAUSE_S)

    def _meaning(self, error: Exception) -> BowerbirdError:
        """Return our error that says what an error of psycopg means."""
        said = _said(error)
        if getattr(error, "sqlstate", None) in FULL:
            return DiskFull(f"{self.url}: the disk of the server is full. Nothing was kept; make room, send it again.")
        if _of_store(error):
            return StoreAway(f"{self.url} does not answer ({said}). Send it again: no event counts twice.")
        return DatabaseBroken(f"{self.url}: {said}.")


def read_only(url: str) -> PostgresConnection:
    """Return a connection that can only read; raises `DatabaseError` where nothing of ours is there."""
    psycopg = driver()
    connection = connect(url, read_only=True)
    try:
        connection.execute("SELECT version FROM versions")
    except psycopg.Error as error:
        connection.close()
        raise DatabaseError(f"{url} cannot be read: {_said(error)}. Has a server used it?") from error
    return connection


def hits(url: str, text: str) -> list[str]:
    """Return the tables in which some row holds a text."""
    with closing(read_only(url)) as connection:
        connection.execute("SET statement_timeout = 0")
        counts = {
            table: connection.execute(
                f"SELECT count(*) FROM {table} WHERE strpos(CAST({table} AS text), ?) > 0", (text,)
            ).fetchone()[0]
            for table in TABLES
        }
    return [f"{url}, table {table}" for table, n in counts.items() if n]


def _of_store(error: Exception) -> bool:
    """Return whether an error is of the server or of the way to it, and goes away with time."""
    state = getattr(error, "sqlstate", None)
    lost = type(error).__name__ in ("OperationalError", "InterfaceError")  # without a state: the connection ended
    return lost if state is None else state.startswith(AWAY)


def _said(error: Exception) -> str:
    return str(error).strip().splitlines()[0].rstrip(".") if str(error).strip() else type(error).__name__
