"""The durable event log: the contract of `store.log`, kept in the database of a server.

A person's id is looked for as an integer and as the text that spells it, since a URL knows texts only.
"""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, fields
from hashlib import blake2b
from operator import attrgetter
from typing import Any

import polars as pl

from bowerbird.store.database import Connection, Store
from bowerbird.store.log import MERGE, SLATE, LogEvent, Note, Stretch
from bowerbird.store.postgres import PostgresConnection

AT_ONCE = 50_000  # rows that are Python's before they are the frame's
STEP = 1_000  # rows of one step of a walk
STRETCH = 20_000  # events of a stretch
LAST = 2**63 - 1
RETRACTED = "retracted"  # what those who follow are told, with the offset
NAMES = tuple(field.name for field in fields(LogEvent))
IDS = ("user_id", "item_id")  # whose type is the caller's
TYPES: dict[str, Any] = {"offset": pl.Int64, **dict.fromkeys(NAMES, pl.String)} | {
    "time": pl.Int64, "weight": pl.Float64, "position": pl.Int64, "propensity": pl.Float64,
}  # fmt: skip
DEEDS: dict[str, Any] = {  # the columns of deeds; SQLite tells weights as texts, which then lose nothing
    "offset": pl.Int64, "event": pl.String, "item_id": pl.String, "weight": pl.String, "time": pl.Int64,
    "who": pl.String,
}  # fmt: skip
PLACE = (  # the columns of an impression
    "offset", "request_id", "user_id", "session_id", "item_id", "position", "propensity", "scenario", "policy_version",
    "model_version", "time",
)  # fmt: skip
_COLUMNS = ", ".join(NAMES)
_INSERT = f"INSERT INTO events (key, {_COLUMNS}) VALUES (?{', ?' * len(NAMES)}) ON CONFLICT (key) DO NOTHING"
_SELECT = f"SELECT number - 1, {_COLUMNS} FROM events WHERE NOT retracted"
_BETWEEN = "NOT retracted AND event_id IS NOT NULL AND number > ? AND number <= ?"
_WHO = "coalesce('u' || CAST(user_id AS TEXT), 's' || session_id)"
_DEEDS = f"""
    SELECT json_group_array(number - 1), json_group_array(event), json_group_array(CAST(item_id AS TEXT)),
        json_group_array(quote(weight)), json_group_array(time), json_group_array({_WHO})
    FROM events
    WHERE event NOT IN ('{SLATE}', '{MERGE}') AND item_id IS NOT NULL
        AND (user_id IS NOT NULL OR session_id IS NOT NULL) AND {_BETWEEN}
"""
_NOTES = f"""
    SELECT number - 1, event, CASE event WHEN '{MERGE}' THEN 's' || session_id ELSE {_WHO} END, time,
        CASE
            WHEN event = '{MERGE}' THEN 'u' || CAST(user_id AS TEXT)
            WHEN json_valid(context) THEN json_extract(context, '$.items')
        END
    FROM events WHERE event IN ('{SLATE}', '{MERGE}') AND {_BETWEEN} ORDER BY number
"""
_ERASE = f"UPDATE events SET {', '.join(f'{name} = NULL' for name in NAMES)} WHERE user_id IN (?, ?)"
_values = attrgetter(*NAMES)


@dataclass(frozen=True)
class Appended:
    """What became of events that were handed in."""

    start: int  # the offset of the first new one
    end: int  # the offset after the last event of the log
    fresh: tuple[LogEvent, ...]  # the new ones, in the order of their offsets
    duplicates: int


class TableLog:
    """An event log that outlives the process: what was acknowledged is on the disk."""

    def __init__(self, database: Store) -> None:
        self._database = database
        with database.reader() as connection:
            self.end = _end(connection)  # the offset after the last event; it follows the commits in their order

    def look(self) -> None:
        """Find the end anew, where another process writes."""
        with self._database.reader() as connection:
            self.end = _end(connection)

    def append(self, events: Sequence[LogEvent]) -> int:
        """Add the events whose id is new; return the offset after the last one when they are on the disk."""
        return self.submit(events).result().end

    def submit(self, events: Sequence[LogEvent], then: Callable[[Appended], None] | None = None) -> Future[Appended]:
        """Add the events whose id is new; the future is done when they are on the disk. Raises as `Database.write`.

        `then` is called on the committing thread, in the order of offsets, before the future is done.
        """
        events = tuple(events)
        rows = [(_key(event.event_id), *_values(event)) for event in events]

        def follow(appended: Appended) -> None:
            self.end = max(self.end, appended.end)  # `look` may have found more
            if then is not None:
                then(appended)

        return self._database.write(lambda connection: _append(connection, events, rows), follow)

    def read(self, start: int = 0, stop: int | None = None) -> pl.DataFrame:
        """Return events from offset `start`, and before `stop`; see `read`."""
        with self._database.reader() as connection:
            return read(connection, start, stop)

    def walk(self, start: int = 0, stop: int = LAST) -> Iterator[tuple[int, LogEvent]]:
        """Yield offsets and events from offset `start`, and before `stop`, without what was retracted or erased."""
        while start < stop and (found := self._found("number > ? AND number <= ?", (start, stop), STEP)):
            yield from found
            start = found[-1][0] + 1

    def stretches(self, start: int, stop: int) -> Iterator[Stretch]:
        """Yield what `walk` does, as much of it as memory is made of: a million events in a second or two.

        SQLite writes columns as JSON, in a thread beside: rows that become Python's one by one take thrice as long.
        """
        with self._database.reader() as connection, ThreadPoolExecutor(1) as beside:

            def read(first: int) -> tuple[Sequence[str], list[Note]]:
                place = (first, min(first + STRETCH, stop))
                columns = [one or "[]" for one in connection.execute(_DEEDS, place).fetchone()]
                return columns, [Note(*row) for row in connection.execute(_NOTES, place) if None not in row]

            coming = beside.submit(read, start)
            for following in range(start + STRETCH, stop + STRETCH, STRETCH):
                columns, notes = coming.result()
                if following < stop:
                    coming = beside.submit(read, following)
                yield Stretch(_frame(columns), notes)

    def page(
        self,
        *,
        user_id: str | int | None = None,
        item_id: str | int | None = None,
        event: str | None = None,
        start: int = 0,
        limit: int = 100,
    ) -> list[tuple[int, LogEvent]]:
        """Return the first `limit` offsets and events from offset `start` that fit, but no retracted or erased one."""
        where = "number > ?"
        values: list[str | int] = [start]
        for name, value in (("user_id", user_id), ("item_id", item_id)):
            if value is not None:
                where, values = f"{where} AND {name} IN (?, ?)", [*values, *spellings(value)]
        if event is not None:
            where, values = f"{where} AND event = ?", [*values, event]
        return self._found(where, values, limit)

    def at(self, offset: int) -> LogEvent | None:
        """Return the event of an offset, taken back or not; None where it was erased."""
        sql = f"SELECT {_COLUMNS} FROM events WHERE number = ? AND event_id IS NOT NULL"
        with self._database.reader() as connection:
            row = connection.execute(sql, (offset + 1,)).fetchone()
        return None if row is None else LogEvent(*row)

    def find(self, event_id: str) -> tuple[int, LogEvent] | None:
        """Return one event and its offset; None where there is none, or none any more."""
        return next(iter(self._found("key = ?", [_key(event_id)], 1)), None)

    def retract(self, event_id: str) -> bool:
        """Take one event back; return whether there was one to take."""
        sql, key = "UPDATE events SET retracted = TRUE WHERE key = ? AND NOT retracted", _key(event_id)

        def work(connection: Connection) -> bool:
            gone = connection.execute(sql, (key,)).rowcount == 1
            if gone:
                [number] = connection.execute("SELECT number FROM events WHERE key = ?", (key,)).fetchone()
                self._database.tell(connection, RETRACTED, number - 1)
            return gone

        return self._database.write(work).result()

    def erase(self, user_id: str | int) -> int:
        """Blank every event of a person, keeping offsets; return how many were blanked.

        The bytes leave the file with the next checkpoint: after some thousand writes, or when the database closes.
        """
        both = spellings(user_id)
        return self._database.write(lambda connection: connection.execute(_ERASE, both).rowcount).result()

    def _found(self, where: str, values: Sequence[Any], limit: int) -> list[tuple[int, LogEvent]]:
        sql = f"{_SELECT} AND event_id IS NOT NULL AND {where} ORDER BY number LIMIT ?"
        with self._database.reader() as connection:
            return [(row[0], LogEvent(*row[1:])) for row in connection.execute(sql, (*values, limit))]


def read(connection: Connection, start: int = 0, stop: int | None = None) -> pl.DataFrame:
    """Return events from offset `start`, and before `stop`: `offset` and the fields of `LogEvent`.

    Ids are integers where all of them are, else texts. Retracted events are left out; erased ones have every payload
    field null.
    """
    sql = f"{_SELECT} AND number > ? AND number <= ? ORDER BY number LIMIT ?"
    parts = [pl.DataFrame(schema=TYPES | dict.fromkeys(IDS, pl.Null))]
    while part := connection.execute(sql, (start, LAST if stop is None else stop, AT_ONCE)).fetchall():
        start = part[-1][0] + 1
        columns = zip(TYPES.items(), zip(*part, strict=True), strict=True)
        parts.append(
            pl.DataFrame(
                [
                    pl.Series(name, values, _type(values) if name in IDS else kind, strict=False)
                    for (name, kind), values in columns
                ]
            )
        )
    kinds = {name: {one.schema[name] for one in parts} - {pl.Null} for name in IDS}
    final: dict[Any, Any] = {name: pl.Int64 if kinds[name] == {pl.Int64} else pl.String for name in IDS}
    return pl.concat([one.cast(final) for one in parts])


def impressions(frame: pl.DataFrame) -> pl.DataFrame:
    """Return one row for each place of each slate that `frame`, as `read` returns it, holds.

    Columns offset, request_id, user_id, session_id, item_id, position (from 1), propensity, scenario, policy_version,
    model_version and time. Items are integers where all of them are, else texts.
    """
    slates = frame.filter(pl.col("event") == SLATE)
    try:
        places = _places(slates, pl.Int64)
    except pl.exceptions.ComputeError:  # Polars refuses a text where it is told to find integers
        places = _places(slates, pl.String)
    return (
        slates.drop("request_id", "item_id", "position", "propensity")
        .rename({"event_id": "request_id"})
        .hstack(places)
        .filter(pl.col("item_id").list.len() > 0)
        .explode("item_id", "propensity", "position")
        .select(PLACE)
    )


def _places(slates: pl.DataFrame, item_type: Any) -> pl.DataFrame:
    """Return items, propensities and positions of slates, a list of each in a row."""
    document = pl.Struct({"items": pl.List(item_type), "propensity": pl.List(pl.Float64)})
    told = slates["context"].str.json_decode(document).struct.unnest().rename({"items": "item_id"})
    return told.with_columns(position=pl.int_ranges(1, pl.col("item_id").list.len() + 1, dtype=pl.Int64))


def _append(connection: Connection, events: Sequence[LogEvent], rows: Sequence[tuple[Any, ...]]) -> Appended:
    if isinstance(connection, PostgresConnection):
        return _append_there(connection, events, rows)
    start = _end(connection)
    connection.executemany(_INSERT, rows)
    end = _end(connection)
    fresh = tuple(events)
    if end - start < len(events):
        first = dict(zip((row[0] for row in reversed(rows)), reversed(events), strict=True))
        new = connection.execute("SELECT key FROM events WHERE number > ? ORDER BY number", (start,))
        fresh = tuple(first[key] for (key,) in new)
    return Appended(start, end, fresh, len(events) - len(fresh))


def _append_there(
    connection: PostgresConnection, events: Sequence[LogEvent], rows: Sequence[tuple[Any, ...]]
) -> Appended:
    """Append in one round trip, where each is worth more than what is done in it."""
    new = connection.returned(f"{_INSERT} RETURNING number", rows) if rows else []
    fresh = tuple(event for event, found in zip(events, new, strict=True) if found)
    numbers = [found[0][0] for found in new if found]
    start, end = (numbers[0] - 1, numbers[-1]) if numbers else 2 * (_end(connection),)
    return Appended(start, end, fresh, len(events) - len(fresh))


def _frame(columns: Sequence[str]) -> pl.DataFrame:
    """Return deeds whose columns are arrays of JSON."""
    said = zip(columns, DEEDS.items(), strict=True)
    frame = pl.DataFrame(
        [pl.Series(name, [text]).str.json_decode(pl.List(kind)).explode() for text, (name, kind) in said]
    )
    return frame.drop_nulls().cast({"weight": pl.Float64}).sort("offset")  # of no deeds there was a row of nulls


def _end(connection: Connection) -> int:
    return int(connection.execute("SELECT coalesce(max(number), 0) FROM events").fetchone()[0])


def _key(event_id: str) -> bytes:
    return blake2b(event_id.encode(), digest_size=16).digest()


def _type(values: Sequence[Any]) -> Any:
    """Return the type of a column of ids."""
    kinds = set(map(type, values)) - {type(None)}
    return pl.String if str in kinds else pl.Int64 if kinds else pl.Null


def spellings(given: str | int) -> tuple[str | int, str | int]:
    """Return an id as an integer and as a text, where it is one that spells the other; else the id twice."""
    if isinstance(given, int):
        return given, str(given)
    number = int(given) if given.removeprefix("-").isdecimal() and len(given) <= 20 else 0
    return given, number if str(number) == given and abs(number) <= LAST else given
