"""The event log: what happened, in the order it was accepted. Everything that learns from use reads it.

Only the contract and its plainest form stand here; the durable form comes with the server and must pass the same
tests.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import polars as pl

SLATE = "slate"  # the event of a served answer: event_id is its request_id, context its document
MERGE = "merge"  # the event of a session that becomes a user: what was the session's is the user's


@dataclass(frozen=True)
class LogEvent:
    """One event; impressions are events too, with their request, position, propensity and versions."""

    event_id: str  # makes a retry harmless
    event: str  # the type
    user_id: str | int | None = None
    item_id: str | int | None = None
    time: int = 0  # seconds since 1970 UTC
    weight: float = 1.0
    session_id: str | None = None  # of someone who has no user id
    request_id: str | None = None
    scenario: str | None = None
    context: str | None = None  # what the policy saw, as JSON
    position: int | None = None
    propensity: float | None = None
    policy_version: str | None = None
    model_version: str | None = None


class Note(NamedTuple):
    """An answer or a merge, as much of it as memory is made of."""

    offset: int
    event: str
    who: str  # as `people.key_of` says it; of a merge the session
    time: int
    told: str  # the items of an answer, as JSON; the user that a session became


class Stretch(NamedTuple):
    """What happened one after the other: deeds, each of somebody on an item, and notes between them."""

    deeds: pl.DataFrame  # offset, event, item_id (text), weight, time, and who, as `people.key_of` says it
    notes: Sequence[Note]


class EventLog(Protocol):
    """Append-only, numbered from 0; an offset, once given, always means the same event."""

    def append(self, events: Sequence[LogEvent]) -> int:
        """Add the events whose id is new; return the offset after the last one. Whole or not at all."""
        ...

    def read(self, start: int = 0) -> pl.DataFrame:
        """Return events from offset `start`: an Arrow-backed frame with `offset` and the fields of `LogEvent`.

        Retracted events are left out; erased ones keep their offset and have every payload field null.
        """
        ...

    def retract(self, event_id: str) -> bool:
        """Take one event back; return whether there was one to take."""
        ...

    def erase(self, user_id: str | int) -> int:
        """Blank every event of a person, keeping offsets; return how many were blanked."""
        ...


class MemoryLog:
    """A log in memory: for tests, simulations and servers that promise nothing."""

    def __init__(self) -> None:
        self._events: list[LogEvent | None] = []  # None: erased
        self._offset_of: dict[str, int] = {}
        self._retracted: set[int] = set()

    def append(self, events: Sequence[LogEvent]) -> int:
        """Add the events whose id is new; return the offset after the last one."""
        for event in events:
            if event.event_id not in self._offset_of:
                self._offset_of[event.event_id] = len(self._events)
                self._events.append(event)
        return len(self._events)

    def read(self, start: int = 0) -> pl.DataFrame:
        """Return events from offset `start`."""
        names = list(LogEvent.__dataclass_fields__)
        rows: list[dict[str, Any]] = [
            {"offset": offset} | {name: getattr(event, name, None) for name in names}
            for offset, event in enumerate(self._events)
            if offset >= start and offset not in self._retracted
        ]
        return pl.DataFrame(rows, schema=["offset", *names], infer_schema_length=None)

    def retract(self, event_id: str) -> bool:
        """Take one event back; return whether there was one to take."""
        offset = self._offset_of.get(event_id)
        if offset is None or offset in self._retracted:
            return False
        self._retracted.add(offset)
        return True

    def erase(self, user_id: str | int) -> int:
        """Blank every event of a person, keeping offsets; return how many were blanked."""
        mine = [offset for offset, event in enumerate(self._events) if event is not None and event.user_id == user_id]
        for offset in mine:
            self._events[offset] = None
        return len(mine)
