"""The schema: event types as callers declare them while a server runs.

Every change is kept whole, with its moment, and the last one is in force. What a type means is not for this module.
"""

import json
import sqlite3
from collections.abc import Mapping, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bowerbird.store.catalogue import Stale
from bowerbird.store.database import Connection, Store
from bowerbird.store.opening import read_only

Kinds = tuple[Mapping[str, Any], ...]  # what `data.EventType` is made of, each

_LAST = "SELECT number, events FROM schemas ORDER BY number DESC LIMIT 1"


@dataclass(frozen=True)
class Declared:
    """What is declared at one moment."""

    number: int = 0  # of the change that made it so; 0 before the first
    events: Kinds = ()

    @property
    def etag(self) -> str:
        """What HTTP calls this state of the schema."""
        return f'"{self.number}"'


class Schemas:
    """The schema of a data directory. Writes return when they are on the disk."""

    def __init__(self, database: Store) -> None:
        self._database = database

    @property
    def current(self) -> Declared:
        """What is in force."""
        with self._database.reader() as connection:
            return _last(connection)

    def put(self, events: Sequence[Mapping[str, Any]], *, if_match: str | None = None) -> Declared:
        """Put declarations in the place of those in force, and return them; the same once more is no change.

        Raises `Stale` unless the etag is `if_match`, where that is given.
        """
        now, text = self._database.world.now(), json.dumps(list(events), ensure_ascii=False, allow_nan=False)

        def work(connection: Connection) -> Declared:
            old = _last(connection)
            if if_match not in (None, "*", old.etag):
                raise Stale(f"the schema was to be {if_match}; it is {old.etag} now. Fetch it again and decide anew.")
            if list(old.events) == json.loads(text):
                return old
            sql = "INSERT INTO schemas (number, time, events) VALUES (?, ?, ?)"
            connection.execute(sql, (old.number + 1, now, text))
            return _last(connection)

        return self._database.write(work).result()


def read_declared(data: Path) -> Kinds:
    """Return the event types that are declared in a data directory, beside a server that may be writing it."""
    with closing(read_only(data)) as connection, suppress(sqlite3.OperationalError):
        return _last(connection).events
    return ()  # an older bowerbird, which knew no schema, wrote it last


def _last(connection: Connection) -> Declared:
    row = connection.execute(_LAST).fetchone()
    return Declared() if row is None else Declared(row[0], tuple(json.loads(row[1])))
