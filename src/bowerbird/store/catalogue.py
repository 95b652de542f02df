"""The catalogue: what callers tell of items and users, one document each.

An id is filed under its text, so that 7 and "7" are one document: a URL knows texts only. It comes back as an integer
once it was given as one. A deleted document leaves a mark behind, for views in memory that follow the changes.
"""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from itertools import chain
from typing import Any, Literal, overload

from bowerbird.core import BowerbirdError, DataError, UnknownItemError
from bowerbird.store.database import Connection, Store

Kind = Literal["item", "user"]
MOST_NAMES, MOST_DEEP, MOST_VALUES = 256, 16, 10_000  # of properties: they become columns of types, read at each change
STEP = 1_000  # rows that others wait for, where they need not be kept whole
KINDS: tuple[Kind, ...] = ("item", "user")
Row = tuple[str | int, Mapping[str, Any], bool, int | None]  # id, properties, available, expires

_COLUMNS = "id, properties, available, expires, since, deleted, change"
_SELECT = f"SELECT {_COLUMNS} FROM documents"
_PUT = f"""
    INSERT INTO documents (kind, key, {_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)
    ON CONFLICT (kind, key) DO UPDATE SET {", ".join(f"{name} = excluded.{name}" for name in _COLUMNS.split(", "))}
"""
_OLD = "SELECT id, since FROM documents WHERE kind = ? AND key = ? AND NOT deleted"


class Stale(BowerbirdError, ValueError):
    """The document is not what the caller believes it to be."""


@dataclass(frozen=True)
class Stored:
    """A document as it is kept."""

    id: str | int
    properties: dict[str, Any]
    available: bool
    expires: int | None  # seconds since 1970 UTC
    since: int  # when it was first put, or put again after it was deleted
    deleted: bool
    change: int  # the number of the last change, among all changes of the catalogue
    created: bool = False  # whether this call brought it

    @property
    def etag(self) -> str:
        """What HTTP calls this state of the document."""
        return f'"{self.change}"'


class Catalogue:
    """Documents of items and users. Writes return when they are on the disk."""

    def __init__(self, database: Store) -> None:
        self._database = database

    def put(
        self,
        kind: Kind,
        id: str | int,
        properties: Mapping[str, Any],
        *,
        available: bool = True,
        expires: int | None = None,
        if_match: str | None = None,
    ) -> Stored:
        """Put a document in the place of what was known.

        Raises `DataError` for properties that are no JSON, `Stale` unless the etag is `if_match`, where that is given.
        """
        row = (id, _text(id, properties), available, expires)

        def work(connection: Connection) -> Stored:
            _match(kind, id, _live(connection, kind, id), if_match)
            return self._put(connection, kind, [row])[0]

        return self._database.write(work).result()

    @overload
    def put_many(self, kind: Kind, rows: Iterable[Row], *, whole: Literal[True] = True) -> list[Stored]: ...
    @overload
    def put_many(self, kind: Kind, rows: Iterable[Row], *, whole: bool) -> list[Stored | DataError]: ...
    def put_many(self, kind: Kind, rows: Iterable[Row], *, whole: bool = True) -> list[Any]:
        """Put many documents; return what became of each, in order: of one that cannot be kept, the error.

        With `whole` that is raised and nothing is kept. Without, other writes come in between.
        """
        outcomes: list[Any] = []
        for id, properties, available, expires in rows:
            try:
                outcomes.append((id, _text(id, properties), available, expires))
            except DataError as error:
                if whole:
                    raise
                outcomes.append(error)
        good = [one for one in outcomes if not isinstance(one, DataError)]
        step = max(len(good), 1) if whole else STEP
        parts = [partial(self._put, kind=kind, rows=good[place : place + step]) for place in range(0, len(good), step)]
        stored = chain.from_iterable([one.result() for one in [self._database.write(part) for part in parts]])
        return [one if isinstance(one, DataError) else next(stored) for one in outcomes]

    def patch(self, kind: Kind, id: str | int, change: Mapping[str, Any], *, if_match: str | None = None) -> Stored:
        """Merge a change of `properties`, `available` and `expires` into a document, by RFC 7396.

        Raises `UnknownItemError` where there is none, and as `put`.
        """

        def work(connection: Connection) -> Stored:
            old = _live(connection, kind, id)
            _match(kind, id, old, if_match)
            if old is None:
                raise UnknownItemError(f"the catalogue has no {kind} {id!r}. Put it first.")
            before = {"properties": old.properties, "available": old.available, "expires": old.expires}
            after = {"properties": {}, "available": True, "expires": None} | merged(before, change)
            text = _text(id, after["properties"])
            return self._put(connection, kind, [(id, text, after["available"], after["expires"])])[0]

        return self._database.write(work).result()

    def delete(self, kind: Kind, id: str | int, *, if_match: str | None = None) -> bool:
        """Take a document away; return whether there was one. Raises `Stale` as `put`."""

        def work(connection: Connection) -> bool:
            old = _live(connection, kind, id)
            _match(kind, id, old, if_match)
            if old is not None:
                self._put(connection, kind, [(id, "{}", False, None)], deleted=True)
            return old is not None

        return self._database.write(work).result()

    def get(self, kind: Kind, id: str | int) -> Stored | None:
        """Return a document, None where there is none."""
        with self._database.reader() as connection:
            return _live(connection, kind, id)

    def page(self, kind: Kind, after: str | int | None = None, limit: int = 100) -> list[Stored]:
        """Return the first `limit` documents behind the id `after`, in the order of their ids as texts.

        A document that is there during a whole walk is returned exactly once.
        """
        sql = f"{_SELECT} WHERE kind = ? AND key > ? AND NOT deleted ORDER BY key LIMIT ?"
        with self._database.reader() as connection:
            return [_stored(row) for row in connection.execute(sql, (kind, "" if after is None else str(after), limit))]

    def changes(self, kind: Kind, since: int) -> list[Stored]:
        """Return what was put or deleted after change number `since`, oldest first, each document as it is now."""
        sql = f"{_SELECT} WHERE change > ? AND kind = ? ORDER BY change"
        with self._database.reader() as connection:
            return [_stored(row) for row in connection.execute(sql, (since, kind))]

    @property
    def last(self) -> int:
        """The number of the last change, 0 before the first."""
        with self._database.reader() as connection:
            return _last(connection)

    def _put(
        self,
        connection: Connection,
        kind: Kind,
        rows: list[tuple[str | int, str, bool, int | None]],
        *,
        deleted: bool = False,
    ) -> list[Stored]:
        """Write documents, properties as JSON, and return them."""
        first, now, stored = _last(connection) + 1, self._database.world.now(), []
        for change, (id, text, available, expires) in enumerate(rows, first):
            key = str(id)
            old = connection.execute(_OLD, (kind, key)).fetchone()
            kept, since = (id, now) if old is None else old
            row = (kept if isinstance(kept, int) else id, text, available, expires, since, deleted, change)
            connection.execute(_PUT, (kind, key, *row))
            stored.append(_stored(row, created=old is None))
        return stored


def merged(target: Any, change: Any) -> Any:
    """Return a JSON document with a merge patch applied (RFC 7396)."""
    if not isinstance(change, Mapping):
        return change
    result = dict(target) if isinstance(target, Mapping) else {}
    for name, value in change.items():
        if value is None:
            result.pop(name, None)
        else:
            result[name] = merged(result.get(name), value)
    return result


def _live(connection: Connection, kind: Kind, id: str | int) -> Stored | None:
    row = connection.execute(f"{_SELECT} WHERE kind = ? AND key = ? AND NOT deleted", (kind, str(id))).fetchone()
    return None if row is None else _stored(row)


def _match(kind: Kind, id: str | int, old: Stored | None, if_match: str | None) -> None:
    if if_match is None or (old is not None and if_match in ("*", old.etag)):
        return
    now = "there is none" if old is None else f"it is {old.etag} now"
    raise Stale(f"{kind} {id!r} was to be {if_match}; {now}. Fetch it again and decide anew.")


def _stored(row: tuple[Any, ...], *, created: bool = False) -> Stored:
    id, properties, available, expires, since, deleted, change = row
    return Stored(id, json.loads(properties), bool(available), expires, since, bool(deleted), change, created)


def _text(id: str | int, properties: Mapping[str, Any]) -> str:
    """Return properties as JSON; raises `DataError` where they are none."""
    if not isinstance(properties, Mapping):
        raise DataError(f"{id!r}: properties are {properties!r}; they must be an object of names and values.")
    try:
        text = json.dumps(dict(properties), ensure_ascii=False, allow_nan=False)
        f"{id}{text}".encode()  # halves of characters cannot be stored
        _shaped(properties)
    except (TypeError, ValueError, RecursionError) as error:
        raise DataError(f"{id!r}: the document cannot be kept: {error}.") from None
    return text


def _shaped(properties: Mapping[str, Any]) -> None:
    """Raise `ValueError` for a document with too many names in one place, values, or levels."""
    level: list[Any] = [dict(properties)]
    values = 0
    for _ in range(MOST_DEEP):
        values += sum(map(len, level))
        if values > MOST_VALUES:
            raise ValueError(f"a document holds {MOST_VALUES:,} values at most")
        if any(isinstance(one, dict) and len(one) > MOST_NAMES for one in level):
            raise ValueError(f"an object has {MOST_NAMES} names at most")
        inside = chain.from_iterable(one.values() if isinstance(one, dict) else one for one in level)
        level = [one for one in inside if isinstance(one, dict | list)]
    if level:
        raise ValueError(f"objects and lists lie in one another {MOST_DEEP} deep at most")


def _last(connection: Connection) -> int:
    return int(connection.execute("SELECT coalesce(max(change), 0) FROM documents").fetchone()[0])
