"""Moving: every row of one database into another one, of whichever form, and a look whether all of them arrived."""

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from itertools import islice
from pathlib import Path
from typing import Any

from bowerbird.core import BundleError
from bowerbird.store.database import FILE, Connection, Database, DatabaseError, read_only
from bowerbird.store.postgres import TURN, Postgres, PostgresConnection, connect, prepare

AT_ONCE = 5_000  # rows on the way
TABLES = {  # the columns of each, and what orders its rows, which no two of them share
    "events": (
        "number, key, retracted, event_id, event, user_id, item_id, time, weight, session_id, request_id, scenario, "
        "context, position, propensity, policy_version, model_version",
        "number",
    ),
    "documents": ("kind, key, id, properties, available, expires, since, deleted, change", "change"),
    "keys": ("id, name, scopes, created, expires, limit_per_s, last_used, digest", "rowid"),
    "answers": ("key, body_sha256, status, body, time", "key"),
    "schemas": ("number, time, events", "number"),
    "experiments": ("name, document, state, salt, created, started, stopped, start, stop, reason", "rowid"),
}
TRUTHS = {("events", "retracted"), ("documents", "available"), ("documents", "deleted")}  # SQLite keeps them as 0 and 1


def save(database: Postgres, target: Path) -> dict[str, int]:
    """Write the rows of a database, as they are at one moment, into a new SQLite file; return how many of each table.

    Raises `DatabaseError` where the file does not hold afterwards what the database held.
    """
    world = database.world
    scratch = target.parent / f".{target.name}.part"
    world.remove_folder(scratch)
    try:
        with closing(Database(scratch, world=world)) as file, _moment(database) as source:
            counts = file.write(lambda connection: copy(source, connection)).result()
        world.replace(scratch / FILE, target)
    finally:
        world.remove_folder(scratch)
    return counts


def load(file: Path, url: str) -> dict[str, int]:
    """Bring the rows of a SQLite file into a database that holds none, whole or not at all; raises as `save`."""
    prepare(url)
    with closing(read_only(file.parent, still=True)) as source, closing(connect(url)) as target:
        target.execute("SET statement_timeout = 0")
        with target.raw.transaction():
            target.execute("SELECT pg_advisory_xact_lock(?)", (TURN,))
            for table in TABLES:
                if target.execute(f"SELECT 1 FROM {table} LIMIT 1").fetchone() is not None:
                    raise BundleError(f"{url} holds {table} already. Restore into a database that is empty.")
            return copy(source, target)


def copy(source: Connection, target: Connection) -> dict[str, int]:
    """Copy every table, inside a transaction of the target, and compare all rows; raises `DatabaseError`."""
    counts = {}
    for table, (columns, _) in TABLES.items():
        names = columns.split(", ")
        told, sql = _Told(), f"INSERT INTO {table} ({columns}) VALUES ({', '.join('?' * len(names))})"
        rows = told.of(_rows(source, table))
        truths = [place for place, name in enumerate(names) if (table, name) in TRUTHS]
        while part := list(islice(rows, AT_ONCE)):
            target.executemany(sql, [_with_truths(row, truths) for row in part])
        arrived = _Told()
        for _ in arrived.of(_rows(target, table)):
            pass
        if (told.n, told.digest) != (arrived.n, arrived.digest):
            raise DatabaseError(f"{table}: {told.n:,} rows were sent, and {arrived.n:,} arrived, not all as they were.")
        counts[table] = told.n
    return counts


class _Told:
    """How many rows went by, and a digest of them in their order."""

    def __init__(self) -> None:
        self.n, self._sum = 0, hashlib.sha256()

    @property
    def digest(self) -> bytes:
        return self._sum.digest()

    def of(self, rows: Iterable[Sequence[Any]]) -> Iterator[Sequence[Any]]:
        for row in rows:
            self.n += 1
            self._sum.update(repr([int(one) if isinstance(one, bool) else one for one in row]).encode())
            yield row


def _rows(connection: Connection, table: str) -> Iterator[Sequence[Any]]:
    columns, order = TABLES[table]
    sql = f"SELECT {columns} FROM {table} ORDER BY {order}"
    if isinstance(connection, PostgresConnection):
        with connection.raw.cursor(name=f"all_{table}") as cursor:  # on the server, which sends some at a time
            cursor.itersize = AT_ONCE
            yield from cursor.execute(sql)
    else:
        yield from connection.execute(sql)


def _with_truths(row: Sequence[Any], places: Sequence[int]) -> Sequence[Any]:
    if not places:
        return row
    changed = list(row)
    for place in places:
        changed[place] = bool(changed[place])
    return changed


@contextmanager
def _moment(database: Postgres) -> Iterator[PostgresConnection]:
    """Lend a connection that sees the database as it is now, whatever others commit."""
    with closing(connect(database.url, read_only=True)) as connection:
        connection.execute("SET statement_timeout = 0")
        connection.execute("SET idle_in_transaction_session_timeout = 0")
        connection.execute("BEGIN ISOLATION LEVEL REPEATABLE READ")
        yield connection
