"""Checks: everything that is wrong with a table, or merely suspicious, in one go."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import polars as pl

from bowerbird.core import DataError
from bowerbird.core.ids import Ids
from bowerbird.data.interactions import Interactions
from bowerbird.data.named import load
from bowerbird.data.readers import interpret, open_table
from bowerbird.data.sets import LIKE

RATINGS = ("rating", "ratings", "stars", "score", "review_score", "review_rating")
ABSENT = ("nan", "null", "none", "na", "n/a", "nil", "undefined", "-")
MOJIBAKE = r"[ÂÃ][\x{80}-\x{bf}]|\x{fffd}"  # UTF-8 read as latin-1, or letters already lost
EARLY = 631_152_000  # 1990: few logs are older, and zeros are


@dataclass(frozen=True)
class Problem:
    """Something that stops a table from being read ("error"), or that its owner may want to know ("warning")."""

    level: str
    message: str


def find_problems(
    source: str | Path,
    *,
    now: int,
    user: str | None = None,
    item: str | None = None,
    time: str | None = None,
    event: str | None = None,
    weight: str | None = None,
    items: str | None = None,
    format: str | None = None,
    query: str | None = None,
    data_root: str | None = None,
) -> tuple[list[Problem], Interactions | None]:
    """Read a source as `load` does; return all its problems, and its interactions where there is no error.

    `now`, in seconds since 1970, tells which times are in the future.
    """
    columns = {"user": user, "item": item, "time": time, "event": event, "weight": weight}
    try:
        events = load(source, data_root=data_root, items=items, format=format, query=query, **columns)
    except DataError as first:
        try:  # `load` stops at the first error of a table that can be opened
            table = open_table(source, format=format, query=query)
            errors = interpret(table, columns, sides={"items": items})[1] or [first]
        except DataError:
            errors = [first]
        return [Problem("error", str(error)) for error in errors], None
    return [Problem("warning", text) for text in warnings_of(events, now=now)], events


def warnings_of(events: Interactions, *, now: int) -> list[str]:
    """Return what is suspicious about interactions, in sentences."""
    about_ids = [text for kind, ids in _both(events) for text in _of_ids(kind, ids)]
    return [*_of_counts(events), *_of_times(events, now), *_of_values(events), *about_ids, *_of_tables(events)]


def _both(events: Interactions) -> tuple[tuple[str, Ids], tuple[str, Ids]]:
    return ("user", events.user_ids), ("item", events.item_ids)


def _of_counts(events: Interactions) -> Iterator[str]:
    for kind, ids in _both(events):
        if len(ids) == 1:
            yield f"there is only one {kind} ({ids[0]}): nothing can be compared. Is it the right column?"
    most = np.bincount(events.user).max(initial=0)
    if most == 1 and events.n_users > 1:
        yield (
            "every user has one event: what somebody chose says nothing about their next choice. "
            "Is the user column an order or a session?"
        )
    columns = {"user": events.user, "item": events.item, "event": events.event}
    same = pl.DataFrame(columns if events.time is None else columns | {"time": events.time})
    repeated = len(same) - same.n_unique()
    if repeated:
        alike = "user and item" if events.time is None else "user, item and time"
        yield f"{repeated:,} of {len(events):,} rows repeat an earlier one of the same {alike}."


def _of_times(events: Interactions, now: int) -> Iterator[str]:
    time = events.time
    if time is None:
        yield "there is no time: splits are at random, and figures may look better than they will live."
        return
    first, last = int(time[0]), int(time[-1])  # events are in time order
    if first == last and len(time) > 1:
        yield f"all times are {_day(first)}: they order nothing."
    later = len(time) - int(np.searchsorted(time, now, side="right"))
    if later:
        yield f"{later:,} of {len(time):,} times are in the future (last: {_day(last)}). Is the unit right?"
    early = int(np.searchsorted(time, EARLY))
    if early:
        yield f"{early:,} of {len(time):,} times are before 1990 (first: {_day(first)}). Do they stand for none?"


def _day(second: int) -> str:
    try:
        return datetime.fromtimestamp(second, UTC).strftime("%Y-%m-%d %H:%M:%S")
    except (ValueError, OverflowError, OSError):
        return f"second {second:,}"


def _of_values(events: Interactions) -> Iterator[str]:
    weights = events.weight
    if len(weights) > 1 and weights[0] != 1 and (weights == weights[0]).all():
        yield f"all weights are {weights[0]:g}: they tell no row from another."
    for column in [] if events.extra is None else events.extra:
        if column.name.lower() in RATINGS and column.dtype.is_numeric() and LIKE not in events.events:
            least, most = column.cast(pl.Float64).to_numpy()[[column.arg_min() or 0, column.arg_max() or 0]]
            yield (
                f'column "{column.name}" ({least:g} to {most:g}) is not used, so every row counts alike. '
                f"Name it with weight={column.name} (--weight {column.name}) if more means better."
            )


def _of_ids(kind: str, ids: Ids) -> Iterator[str]:
    """Speak of distinct ids, which are few."""
    if ids.is_integer:
        return
    texts = ids.values
    for bad, what, mend in (
        (texts != texts.str.strip_chars(), "have spaces around them", "Strip them: with and without are two."),
        (texts.str.to_lowercase().is_in(ABSENT), "spell that there is none", "Drop these rows."),
        (
            texts.str.contains(r"^-?\d+\.0$"),
            "are whole numbers with .0",
            "Write them as integers, to match other tables.",
        ),
        (texts.str.contains(MOJIBAKE), "hold letters of a wrong encoding", "Is it latin-1 text? Convert it to UTF-8."),
    ):
        count = int(bad.sum())
        if count:
            yield f'{count:,} of {len(ids):,} {kind} ids {what} (such as "{texts.filter(bad)[0]}"). {mend}'


def _of_tables(events: Interactions) -> Iterator[str]:
    for kind, table in (("user", events.users), ("item", events.items)):
        if table is None or not table.width or not table.height:
            continue
        known = table.select(pl.any_horizontal(pl.all().is_not_null()).sum()).item()
        if known < table.height / 2:
            yield f"the table of {kind}s knows {known:,} of {table.height:,} {kind}s. Are its ids written alike?"
    if events.items is not None and "title" in events.items.columns:
        wrong = events.items["title"].cast(pl.String).str.contains(MOJIBAKE).fill_null(False)
        if wrong.any():
            shown = events.items["title"].filter(wrong)[0]
            yield f'{wrong.sum():,} titles hold letters of a wrong encoding (such as "{shown}"). Convert them to UTF-8.'
