"""Intake: rows that come in are looked at one by one; what is wrong is told by its place, and the others are kept.

Requests, the import jobs of a server and `bowerbird import` all take rows in here, wherever these go.
"""

import json
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any, Protocol

from pydantic import ValidationError

from bowerbird.core import DataError, RequestError, did_you_mean
from bowerbird.data import EventType
from bowerbird.serving.bodies import EventBody, Row, first_wrong
from bowerbird.store.catalogue import Kind, Stored
from bowerbird.store.catalogue import Row as Document
from bowerbird.store.log import MERGE, SLATE, LogEvent

AHEAD_S = 300  # how far the clock of whoever sends an event may be ahead of ours
TOLD = 5  # rows that were wrong and are told by their places; the others are counted
LINES = (".jsonl", ".ndjson")  # files with a JSON object in each line

Numbered = tuple[int, Any]  # the row of a file, from 0, and what it holds
Rejected = dict[str, Any]  # the `index` of a row among those of a part, and what is wrong with it


# ── rows ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def sensible(rows: Sequence[Any], kinds: Iterable[EventType], now: int) -> tuple[list[LogEvent], list[Rejected]]:
    """Return the events that make sense, and for each of the others its place and what is wrong with it."""
    good: list[LogEvent] = []
    rejected: list[Rejected] = []
    names = [kind.name for kind in kinds]
    for place, row in enumerate(rows):
        try:
            one = EventBody.model_validate(row)
        except ValidationError as error:
            rejected.append({"index": place, "code": "invalid", **first_wrong(error)})
            continue
        if one.event not in names or one.event in (SLATE, MERGE):
            said = f'no event is named "{one.event}".{did_you_mean(one.event, names)} Known: {", ".join(names)}.'
            rejected.append({"index": place, "code": "unknown_event", "pointer": "/event", "detail": said})
        elif (one.user_id is None) == (one.session_id is None):
            said = "send one of user_id and session_id"
            rejected.append({"index": place, "code": "nobody", "pointer": "/user_id", "detail": said})
        else:
            good.append(_event_of(one, now))
    return good, rejected


def _event_of(one: EventBody, now: int) -> LogEvent:
    """Return what the log keeps; a time that lies far ahead of ours is now, and the one that was sent is kept too."""
    context = dict(one.context or {})
    time = now if one.time is None else one.time
    if time > now + AHEAD_S:
        context["sent_time"], time = time, now
    return LogEvent(
        event_id=one.event_id,
        event=one.event,
        user_id=one.user_id,
        item_id=one.item_id,
        time=time,
        weight=one.weight,
        session_id=None if one.session_id is None else str(one.session_id),
        request_id=one.request_id,
        context=json.dumps(context, ensure_ascii=False) if context else None,
        position=one.position,
    )


class Keeper(Protocol):
    """Whoever keeps documents: an engine, or a catalogue that no server holds."""

    def put_many(self, kind: Kind, rows: Sequence[Document], *, whole: bool) -> list[Stored | DataError]:
        """Put many documents; return what became of each, in order: of one that cannot be kept, the error."""
        ...


def put_rows(
    keeper: Keeper, kind: Kind, rows: Sequence[Any], *, whole: bool = False
) -> tuple[list[Stored], list[Rejected]]:
    """Return what was kept of rows, and for each of the others its place and what is wrong with it.

    With `whole`, raises `RequestError` where one is wrong.
    """
    good: dict[int, Row] = {}
    rejected: list[Rejected] = []
    for place, row in enumerate(rows):
        try:
            good[place] = Row.model_validate(row)
        except ValidationError as error:
            rejected.append({"index": place, **first_wrong(error)})
    if whole and rejected:
        raise RequestError(f"row {rejected[0]['index']}: {rejected[0]['detail']}. Nothing was kept.")
    outcomes = keeper.put_many(kind, [one.stored for one in good.values()], whole=whole)
    kept = [one for one in outcomes if isinstance(one, Stored)]
    for place, one in zip(good, outcomes, strict=True):
        if isinstance(one, DataError):
            rejected.append({"index": place, "pointer": "/properties", "detail": str(one)})
    return kept, sorted(rejected, key=lambda one: int(one["index"]))


# ── files ─────────────────────────────────────────────────────────────────────────────────────────────────────────


@dataclass
class Outcome:
    """What became of the rows of a file."""

    kept: int = 0
    known: int = 0  # of those, how many were there before
    rejected: int = 0
    told: list[dict[str, Any]] = field(default_factory=list)  # the first of them: `row`, from 0, and what is wrong


Sink = Callable[[list[Any]], tuple[int, list[Rejected]]]  # rows → how many were known before, what is wrong with which


def take_in(rows: Iterable[Numbered], sink: Sink, *, at_once: int, after: Callable[[int], None]) -> Outcome:
    """Hand rows to a sink, part by part; `after` is called with the number of rows that each part kept."""
    outcome, coming = Outcome(), iter(rows)
    while part := list(islice(coming, at_once)):
        known, rejected = sink([row for _, row in part])
        kept = len(part) - len(rejected)
        outcome.kept, outcome.known = outcome.kept + kept, outcome.known + known
        outcome.rejected += len(rejected)
        for one in rejected[: TOLD - len(outcome.told)]:
            said = {key: value for key, value in one.items() if key != "index"}
            outcome.told.append({"row": part[int(one["index"])][0]} | said)
        after(kept)
    return outcome


def json_lines(path: Path, *, links: bool = True) -> Iterator[Numbered]:
    """Yield what stands in each line of a file; None, which is no row, where that is no JSON.

    Without `links`, raises `OSError` for a path that leads elsewhere.
    """

    def opened(name: str, flags: int) -> int:
        return os.open(name, flags | (0 if links else getattr(os, "O_NOFOLLOW", 0)))

    # bytes that are no text become halves of characters, and their row is wrong
    with open(path, encoding="utf-8", errors="surrogateescape", opener=opened) as file:
        for number, line in enumerate(file):
            try:
                yield number, json.loads(line)
            except (ValueError, RecursionError):
                yield number, None
