import resource
import sqlite3
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, wait
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest
from staged_disk import Stage

from bowerbird.core import BowerbirdError, RealWorld
from bowerbird.store import database as module
from bowerbird.store.database import Database, DatabaseBroken, DatabaseError, DiskFull, Overloaded, read_only

WAIT_S = 10.0  # for what comes at once unless something is wrong


class Still(RealWorld):
    """Its clock stands still, so that only the number of pieces ends a batch."""

    def monotonic(self) -> float:
        return 0.0


class Slow(RealWorld):
    """Every look at its clock takes 3 ms."""

    def __init__(self) -> None:
        self.time_s = 0.0

    def monotonic(self) -> float:
        self.time_s += 0.003
        return self.time_s


@pytest.fixture
def stage() -> Stage:
    return Stage()


@pytest.fixture
def database(tmp_path: Path, stage: Stage) -> Iterator[Database]:
    with opened(tmp_path, world=stage.on()) as database:
        yield database


@contextmanager
def opened(folder: Path, **options: Any) -> Iterator[Database]:
    """A database with a table of words beside its own."""
    with closing(Database(folder, **options)) as database:
        database.write(lambda connection: connection.execute("CREATE TABLE IF NOT EXISTS words (word)")).result(WAIT_S)
        yield database


def put(word: str) -> Callable[[sqlite3.Connection], str]:
    def work(connection: sqlite3.Connection) -> str:
        connection.execute("INSERT INTO words VALUES (?)", (word,))
        return word

    return work


def words(database: Database) -> list[str]:
    with database.reader() as connection:
        return [word for (word,) in connection.execute("SELECT word FROM words ORDER BY rowid")]


@contextmanager
def held(database: Database) -> Iterator[None]:
    """Hold the committing thread inside a piece of work, so that what is written meanwhile waits together."""
    there, go = threading.Event(), threading.Event()

    def work(_: sqlite3.Connection) -> None:
        there.set()
        assert go.wait(WAIT_S)

    holding = database.write(work)
    assert there.wait(WAIT_S)
    try:
        yield
    finally:
        go.set()
        wait([holding], WAIT_S)


def settled(futures: list["Future[Any]"]) -> list[Any]:
    """What became of writes: their results, or the types of their errors."""
    assert not wait(futures, WAIT_S).not_done
    return [type(one.exception()) if one.exception() else one.result() for one in futures]


# ── writing and reading ───────────────────────────────────────────────────────────────────────────────────────────────


def test_a_write_returns_what_its_work_returned_when_others_can_see_it(database: Database, tmp_path: Path) -> None:
    assert database.write(put("a")).result(WAIT_S) == "a"
    with closing(sqlite3.connect(tmp_path / "bowerbird.db")) as other:
        assert other.execute("SELECT word FROM words").fetchall() == [("a",)]


def test_the_file_is_written_ahead_and_synced_and_forgets_what_is_deleted(database: Database) -> None:
    def pragmas(connection: sqlite3.Connection) -> list[Any]:
        names = ("journal_mode", "synchronous", "secure_delete")
        return [connection.execute(f"PRAGMA {name}").fetchone()[0] for name in names]

    assert database.write(pragmas).result(WAIT_S) == ["wal", 2, 1]  # 2 is FULL


def test_what_waits_together_is_committed_together_in_order(database: Database, stage: Stage) -> None:
    before = stage.run.count("COMMIT")
    with held(database):
        futures = [database.write(put(word)) for word in "abcde"]
    assert settled(futures) == list("abcde")
    assert words(database) == list("abcde")
    assert stage.run.count("COMMIT") == before + 1


def test_a_lone_write_shares_its_commit_with_nobody(database: Database, stage: Stage) -> None:
    before = stage.run.count("COMMIT")
    for word in "abc":
        database.write(put(word)).result(WAIT_S)
    assert stage.run.count("COMMIT") == before + 3


def test_a_commit_takes_500_pieces_at_most(tmp_path: Path, stage: Stage) -> None:
    with opened(tmp_path, world=stage.on(Still())) as database:
        before = stage.run.count("COMMIT")
        with held(database):
            futures = [database.write(put(str(n))) for n in range(500)]  # and the one that holds
        settled(futures)
        assert stage.run.count("COMMIT") == before + 2


def test_a_commit_takes_no_more_work_after_5_ms(tmp_path: Path, stage: Stage) -> None:
    with opened(tmp_path, world=stage.on(Slow())) as database:
        before = stage.run.count("COMMIT")
        with held(database):
            futures = [database.write(put(word)) for word in "abc"]
        settled(futures)
        assert stage.run.count("COMMIT") == before + 2  # a look at the clock before each but the first


def test_work_that_raises_is_undone_alone(database: Database) -> None:
    def half(connection: sqlite3.Connection) -> None:
        put("half")(connection)
        raise KeyError("mine")

    with held(database):
        futures = [database.write(put("a")), database.write(half), database.write(put("b"))]
    assert settled(futures) == ["a", KeyError, "b"]
    assert words(database) == ["a", "b"]


def test_wrong_sql_fails_alone(database: Database) -> None:
    with held(database):
        futures = [database.write(put("a")), database.write(lambda connection: connection.execute("NONSENSE"))]
    assert settled(futures) == ["a", sqlite3.OperationalError]
    assert words(database) == ["a"]


def test_then_follows_in_the_order_of_the_commits_and_before_the_future(database: Database) -> None:
    told: list[tuple[str, bool]] = []
    futures: dict[str, Future[str]] = {}

    def then(word: str) -> None:
        assert word in words(database)  # it is committed
        told.append((word, futures[word].done()))

    with held(database):
        for word in "abc":
            futures[word] = database.write(put(word), then)
    settled(list(futures.values()))
    assert told == [("a", False), ("b", False), ("c", False)]


def test_then_is_not_called_for_work_that_failed(database: Database) -> None:
    told: list[object] = []
    with pytest.raises(ZeroDivisionError):
        database.write(lambda _: 1 // 0, told.append).result(WAIT_S)
    assert told == []


def test_then_that_raises_tells_its_caller_and_nobody_else(database: Database) -> None:
    def then(_: str) -> None:
        raise KeyError("then")

    with held(database):
        futures = [database.write(put("a"), then), database.write(put("b"))]
    assert settled(futures) == [KeyError, "b"]
    assert words(database) == ["a", "b"]


def test_a_write_that_was_cancelled_in_time_is_not_done(database: Database) -> None:
    with held(database):
        cancelled, other = database.write(put("a")), database.write(put("b"))
        assert cancelled.cancel()
    settled([other])
    assert words(database) == ["b"]


def test_more_than_may_wait_is_refused_at_once_and_nothing_of_it_is_kept(tmp_path: Path) -> None:
    with opened(tmp_path, most_waiting=2) as database:
        with held(database):
            futures = [database.write(put("a")), database.write(put("b"))]
            with pytest.raises(Overloaded, match="2 writes wait"):
                database.write(put("c"))
        assert settled(futures) == ["a", "b"]
        assert database.write(put("d")).result(WAIT_S) == "d"
        assert words(database) == ["a", "b", "d"]


def test_a_reader_cannot_write(database: Database) -> None:
    with database.reader() as connection, pytest.raises(sqlite3.OperationalError, match="readonly"):
        connection.execute("INSERT INTO words VALUES ('a')")


def test_readers_at_one_time_have_connections_of_their_own_and_share_them_later(database: Database) -> None:
    with database.reader() as one, database.reader() as two:
        assert one is not two
    with database.reader() as three:
        assert three in (one, two)


def test_many_threads_write_everything_once(database: Database) -> None:
    def many(name: int) -> None:
        for n in range(20):
            database.write(put(f"{name}.{n}")).result(WAIT_S)

    threads = [threading.Thread(target=many, args=(name,)) for name in range(16)]
    for one in threads:
        one.start()
    for one in threads:
        one.join(WAIT_S)
    there = words(database)
    assert sorted(there) == sorted(f"{name}.{n}" for name in range(16) for n in range(20))
    for name in range(16):  # and each thread's in its own order
        assert [one for one in there if one.startswith(f"{name}.")] == [f"{name}.{n}" for n in range(20)]


# ── opening and closing ───────────────────────────────────────────────────────────────────────────────────────────────


def test_closing_commits_what_waits_and_takes_no_more(tmp_path: Path) -> None:
    database = Database(tmp_path)
    database.write(lambda connection: connection.execute("CREATE TABLE words (word)"))
    futures = [database.write(put(word)) for word in "abc"]
    database.close()
    database.close()
    assert [one.done() for one in futures] == [True] * 3
    with pytest.raises(DatabaseBroken, match="is closed"):
        database.write(put("d"))
    with opened(tmp_path) as again:
        assert words(again) == ["a", "b", "c"]


def test_a_directory_has_one_holder_until_it_lets_go(tmp_path: Path) -> None:
    with closing(Database(tmp_path)), pytest.raises(DatabaseError, match="another process has this data directory"):
        Database(tmp_path)
    Database(tmp_path).close()


def test_a_directory_is_made_with_odd_signs_in_its_name(tmp_path: Path) -> None:
    folder = tmp_path / "a b?mode=ro#%41" / "c"
    Database(folder).close()
    assert (folder / "bowerbird.db").is_file()


def test_a_file_of_a_newer_bowerbird_is_refused_untouched_and_let_go(tmp_path: Path) -> None:
    Database(tmp_path).close()
    with closing(sqlite3.connect(tmp_path / "bowerbird.db")) as other:
        other.execute("PRAGMA user_version = 99")
    before = (tmp_path / "bowerbird.db").read_bytes()
    for _ in range(2):
        with pytest.raises(
            DatabaseError, match=rf"version 99; this bowerbird knows {len(module.MIGRATIONS)}\. Install"
        ):
            Database(tmp_path)
    assert (tmp_path / "bowerbird.db").read_bytes() == before


def test_a_file_that_is_no_database_is_refused(tmp_path: Path) -> None:
    (tmp_path / "bowerbird.db").write_bytes(b"something else" * 100)
    with pytest.raises(DatabaseError, match=r"cannot be opened: file is not a database\. Restore"):
        Database(tmp_path)


def test_a_migration_keeps_what_is_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with opened(tmp_path) as database:
        database.write(put("a")).result(WAIT_S)
    monkeypatch.setattr(module, "MIGRATIONS", (*module.MIGRATIONS, "ALTER TABLE words ADD COLUMN length"))
    for _ in range(2):
        with opened(tmp_path) as database, database.reader() as connection:
            assert connection.execute("SELECT * FROM words").fetchall() == [("a", None)]


def test_a_migration_that_fails_leaves_the_file_as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with opened(tmp_path) as database:
        database.write(put("a")).result(WAIT_S)
    with monkeypatch.context() as patch:
        patch.setattr(module, "MIGRATIONS", (*module.MIGRATIONS, "CREATE TABLE half (a); NONSENSE"))
        with pytest.raises(DatabaseError, match="NONSENSE"):
            Database(tmp_path)
    with opened(tmp_path) as database, database.reader() as connection:
        assert words(database) == ["a"]
        assert connection.execute("SELECT count(*) FROM sqlite_master WHERE name = 'half'").fetchone() == (0,)


def test_another_process_may_read_beside_the_holder_and_after_it(tmp_path: Path) -> None:
    with opened(tmp_path) as database:
        database.write(put("a")).result(WAIT_S)
        with closing(read_only(tmp_path)) as connection:
            assert connection.execute("SELECT word FROM words").fetchall() == [("a",)]
    with closing(read_only(tmp_path)) as connection:
        assert connection.execute("SELECT word FROM words").fetchall() == [("a",)]


def test_there_is_nothing_to_read_where_no_server_was(tmp_path: Path) -> None:
    with pytest.raises(DatabaseError, match="Is this the data directory of a server"):
        read_only(tmp_path)
    assert list(tmp_path.iterdir()) == []


# ── a disk that fails ─────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("code", [sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR_SHMSIZE])
def test_a_commit_that_finds_no_room_keeps_nothing_of_it_and_the_next_goes_on(
    database: Database, stage: Stage, code: int
) -> None:
    told: list[str] = []
    with held(database):
        stage.errors["COMMIT"] = [code]
        futures = [database.write(put("a"), told.append), database.write(put("b"), told.append)]
    assert settled(futures) == [DiskFull, DiskFull]
    assert (words(database), told) == ([], [])
    assert database.write(put("c"), told.append).result(WAIT_S) == "c"
    assert (words(database), told) == (["c"], ["c"])


def test_a_disk_that_fills_in_the_middle_of_a_batch_keeps_nothing_of_it(database: Database) -> None:
    def room(pages: int) -> Callable[[sqlite3.Connection], object]:
        return lambda connection: connection.execute(f"PRAGMA max_page_count = {pages}").fetchall()

    with database.reader() as connection:
        pages = connection.execute("PRAGMA page_count").fetchone()[0]
    database.write(room(pages + 2)).result(WAIT_S)  # SQLite itself says that the disk is full
    with held(database):
        futures = [database.write(put("a")), database.write(put("b" * 100_000)), database.write(put("c"))]
    assert settled(futures) == [DiskFull, DiskFull, "c"]
    assert words(database) == ["c"]
    database.write(room(1_000_000)).result(WAIT_S)
    database.write(put("b" * 100_000)).result(WAIT_S)
    assert len(words(database)) == 2


@pytest.mark.parametrize("code", [sqlite3.SQLITE_IOERR_FSYNC, sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_IOERR])
def test_after_a_failed_commit_no_write_is_tried_again(
    tmp_path: Path, database: Database, stage: Stage, code: int
) -> None:
    database.write(put("before")).result(WAIT_S)
    with held(database):
        stage.errors["COMMIT"] = [code]
        futures = [database.write(put(str(n))) for n in range(600)]  # more than one commit takes
    assert settled(futures) == [DatabaseBroken] * 600
    begun = stage.run.count("BEGIN IMMEDIATE")
    with pytest.raises(DatabaseBroken, match="the disk failed"):
        database.write(put("later"))
    assert stage.run.count("BEGIN IMMEDIATE") == begun
    assert words(database) == ["before"]  # reading goes on
    database.close()
    with opened(tmp_path) as again:
        assert words(again) == ["before"]


def test_an_io_error_inside_a_piece_of_work_breaks_the_database(database: Database, stage: Stage) -> None:
    stage.errors["SELECT word FROM words"] = [sqlite3.SQLITE_IOERR_READ]
    future = database.write(lambda connection: connection.execute("SELECT word FROM words"))
    assert settled([future]) == [DatabaseBroken]
    with pytest.raises(DatabaseBroken):
        database.write(put("a"))


def test_a_full_disk_that_cannot_undo_breaks_the_database(database: Database, stage: Stage) -> None:
    stage.errors = {"COMMIT": [sqlite3.SQLITE_FULL], "ROLLBACK": [sqlite3.SQLITE_IOERR]}
    assert settled([database.write(put("a"))]) == [DatabaseBroken]
    with pytest.raises(DatabaseBroken):
        database.write(put("b"))


def test_a_transaction_that_cannot_begin_leaves_nobody_waiting(database: Database, stage: Stage) -> None:
    stage.errors["BEGIN IMMEDIATE"] = [sqlite3.SQLITE_IOERR]
    assert settled([database.write(put("a"))]) == [DatabaseBroken]


def test_a_disk_that_is_full_at_the_start_is_called_full(tmp_path: Path, stage: Stage) -> None:
    stage.errors["PRAGMA journal_mode = WAL"] = [sqlite3.SQLITE_FULL]
    with pytest.raises(DiskFull):
        Database(tmp_path, world=stage.on())
    Database(tmp_path).close()  # the lock was let go


@pytest.mark.parametrize("kind", [DatabaseError, Overloaded, DiskFull, DatabaseBroken])
def test_its_errors_are_ours_and_keep_their_words(kind: type[BowerbirdError]) -> None:
    assert isinstance(kind("what and how"), BowerbirdError)
    assert str(kind("what and how")) == "what and how"


# ── backups ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_backup_taken_during_writes_is_the_state_of_one_moment(database: Database, tmp_path: Path) -> None:
    stop = threading.Event()

    def pairs() -> None:
        n = 0
        while not stop.is_set():
            n += 1
            both = str(n)
            database.write(lambda connection, both=both: (put(both)(connection), put(both)(connection))).result(WAIT_S)

    writer = threading.Thread(target=pairs)
    writer.start()
    try:
        target = tmp_path / "backup" / "bowerbird.db"
        target.parent.mkdir()
        database.backup(target)
    finally:
        stop.set()
        writer.join(WAIT_S)
    assert [one.name for one in target.parent.iterdir()] == ["bowerbird.db"]
    with opened(target.parent) as copy:
        there = words(copy)
        assert there == words(database)[: len(there)]
        assert len(there) % 2 == 0
        copy.write(put("more")).result(WAIT_S)


def test_a_backup_overwrites_nothing(database: Database, tmp_path: Path) -> None:
    target = tmp_path / "there.db"
    target.write_bytes(b"precious")
    with pytest.raises(DatabaseError, match="is there already"):
        database.backup(target)
    assert target.read_bytes() == b"precious"


def test_a_backup_that_fails_leaves_no_file(tmp_path: Path) -> None:
    class NeverReplaces(RealWorld):
        def replace(self, old: Path, new: Path) -> None:
            raise OSError("cut off before the rename")

    folder = tmp_path / "backup"
    with opened(tmp_path / "data", world=NeverReplaces()) as database, pytest.raises(OSError, match="cut off"):
        database.backup(folder / "bowerbird.db")
    assert list(folder.iterdir()) == []


def test_a_commit_opens_no_file(tmp_path: Path) -> None:
    """A process with as many open files as it may have: more pages than SQLite keeps of a savepoint by itself."""
    with opened(tmp_path) as database:
        numbers = "WITH RECURSIVE n (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM n LIMIT 999)"
        fill = f"{numbers} INSERT INTO words SELECT hex(randomblob(400)) FROM n"
        database.write(lambda connection: connection.execute(fill)).result(WAIT_S)
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (0, hard))
        try:
            database.write(lambda connection: connection.execute("UPDATE words SET word = word || 1")).result(WAIT_S)
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        database.write(put("more")).result(WAIT_S)


# ── scrubbing ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_scrub_leaves_no_page_of_what_was_deleted_while_the_database_is_open(tmp_path: Path) -> None:
    with closing(Database(tmp_path)) as database:
        database.write(lambda connection: connection.execute("CREATE TABLE t (x)")).result()
        rows = [(f"secret {n}" * 200,) for n in range(200)]
        database.write(lambda connection: connection.executemany("INSERT INTO t VALUES (?)", rows)).result()
        database.write(lambda connection: connection.execute("DELETE FROM t")).result()
        held = b"".join(path.read_bytes() for path in tmp_path.iterdir())
        database.scrub()
        left = b"".join(path.read_bytes() for path in tmp_path.iterdir())
        assert b"secret" in held
        assert b"secret" not in left
        assert (tmp_path / "bowerbird.db-wal").stat().st_size == 0
        database.write(lambda connection: connection.execute("INSERT INTO t VALUES (1)")).result()  # it goes on


def test_a_scrub_that_somebody_reads_through_is_told(tmp_path: Path) -> None:
    class Hasty(RealWorld):
        def sleep(self, seconds: float) -> None:
            pass

    with closing(Database(tmp_path, world=Hasty())) as database, database.reader() as connection:
        database._connection.execute("PRAGMA busy_timeout = 0")
        database.write(lambda writer: writer.execute("CREATE TABLE t (x)")).result()
        connection.execute("BEGIN")
        connection.execute("SELECT * FROM sqlite_master").fetchone()
        with pytest.raises(DatabaseError, match=r"keeps reading an older state.*Erase again"):
            database.scrub()
        connection.execute("COMMIT")
        database.scrub()


def test_a_scrub_without_room_is_told(tmp_path: Path) -> None:
    stage = Stage()
    with closing(Database(tmp_path, world=stage.on())) as database:
        stage.errors["VACUUM"] = [sqlite3.SQLITE_FULL]
        with pytest.raises(DiskFull, match=r"cannot be rewritten.*Make room"):
            database.scrub()
        database.scrub()
