"""Readers: a table of any kind becomes Interactions.

Columns are named by the caller or inferred from their usual names, and what was read is kept in `origin`. Every
refusal names the file, the line or row, the column, and a way to mend it.
"""

import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from bowerbird.core import DataError, did_you_mean
from bowerbird.core.ids import MAX_ID_BYTES, Ids, encode
from bowerbird.data.archives import open_zip
from bowerbird.data.databases import is_address, query_database
from bowerbird.data.files import Table, open_files, typed
from bowerbird.data.interactions import EventType, Interactions
from bowerbird.data.places import Place

USUAL_NAMES = {
    "user": ("user", "user_id", "userid", "uid", "customer_id", "visitor_id", "visitorid", "person_id"),
    "item": ("item", "item_id", "itemid", "iid", "sku", "product_id", "movie_id", "movieid", "article_id"),
    "time": ("time", "timestamp", "ts", "datetime", "event_time", "created_at", "date"),
    "event": ("event", "event_type", "action", "behavior", "behaviour"),
    "weight": ("weight",),
}
TITLES = ("title", "name", "movie_title", "item_name", "product_name")
UNITS = ((1e17, 10**9), (1e14, 10**6), (1e11, 10**3))  # ns, µs, ms: larger numbers are no sensible seconds
DAY, LATEST = 86_400, 2.0**63
HEAVIEST = 3.4e38  # weight that 32 bits hold
SMALL = 10_000_000  # cells: other columns of a Parquet file are kept unasked up to this many


def read(
    source: Any,
    *,
    user: str | None = None,
    item: str | None = None,
    time: str | None = None,
    event: str | None = None,
    weight: str | None = None,
    event_types: Sequence[EventType] | None = None,
    items: Any = None,
    users: Any = None,
    format: str | None = None,
    query: str | None = None,
    extra: Sequence[str] | None = None,
) -> Interactions:
    """Return the interactions in a source.

    `source` is a file, a list of files, a glob, a folder of parts (Parquet, CSV or TSV), a MovieLens zip, a data frame
    (Polars, pandas, Arrow), or with `query` a database (duckdb:///file, sqlite:///file, postgresql://host/name).

    `user` … `weight` name columns; those left out are inferred. `event_types` gives meaning to the values of the
    event column; values it does not name count as positive. `items` and `users` are tables (file or frame) whose
    id column has a usual name or stands first; RecBole's `.item` and `.user` files, and those of a zip, are taken
    where they lie beside the interactions. `format` overrides the file's ending: one of csv, tsv, parquet, lists,
    recbole, movielens. `extra` names the other columns to keep; left out, all are kept, except those of a Parquet
    table of more than 10 million cells, and `origin` says which stayed on disk. Raises `DataError`.
    """
    wanted = {"user": user, "item": item, "time": time, "event": event, "weight": weight}
    table = open_table(source, format=format, query=query)
    interactions, errors = interpret(
        table, wanted, event_types=event_types, sides={"items": items, "users": users}, extra=extra
    )
    if interactions is None:
        raise errors[0]
    return interactions


def interpret(
    table: Table,
    wanted: Mapping[str, str | None],
    *,
    event_types: Sequence[EventType] | None = None,
    sides: Mapping[str, Any],
    extra: Sequence[str] | None = None,
) -> tuple[Interactions | None, list[DataError]]:
    """Return the interactions of a table, or everything that is wrong with it, one error for each column."""
    place, errors = table.place, list[DataError]()

    def attempt(part: Callable[..., Any], *arguments: Any) -> Any:
        try:
            return part(*arguments)
        except DataError as error:
            errors.append(error)

    names = table.names
    found = attempt(columns_of, names, wanted, table)
    if found is None:
        return None, errors
    rest = attempt(_others, names, set(found.values()), extra, table) or []
    frame = attempt(table.columns, list(dict.fromkeys([*found.values(), *rest])))
    if frame is None:
        return None, errors
    if frame.height == 0:
        return None, [DataError(f"{place}: there is a header and no row. Give a table with at least one interaction.")]
    users = attempt(encode_ids, frame[found["user"]], place)
    items = attempt(encode_ids, frame[found["item"]], place)
    times = attempt(seconds_of, frame[found["time"]], place) if "time" in found else None
    weights = attempt(numbers_of, frame[found["weight"]], place) if "weight" in found else None
    events = attempt(_events, frame, found.get("event"), event_types, place)
    others = attempt(_typed_extra, frame, rest, table)
    tables = {
        key: attempt(side_table, given, key[:-1])
        for key in ("items", "users")
        if (given := sides.get(key) if sides.get(key) is not None else table.sides.get(key)) is not None
    }
    if errors:
        return None, errors
    left = [name for name in names if name not in found.values() and name not in rest]
    interactions = Interactions.encoded(
        users,
        items,
        time=times,
        weight=weights,
        event=events[0],
        events=events[1],
        extra=others,
        origin=_origin(place, found, rest, left),
    )
    return interactions.with_tables(**tables), errors


def open_table(source: Any, *, format: str | None = None, query: str | None = None) -> Table:
    """Return the columns of any source; raises `DataError`."""
    if is_address(source):
        frame, place = query_database(source, query)
        return Table(frame.lazy(), place)
    if query is not None:
        raise DataError("query is for a database, such as sqlite:///shop.db; this source is read whole. Leave it out.")
    if isinstance(source, str | Path) and Path(source).suffix == ".zip" and Path(source).is_file():
        return open_zip(Path(source))
    if isinstance(source, str | Path):
        return open_files(source, format)
    if isinstance(source, list | tuple) and source and all(isinstance(one, str | Path) for one in source):
        return open_files(source, format)
    if isinstance(source, pl.DataFrame):
        return Table(source.lazy(), Place("data frame"))
    if isinstance(source, pl.LazyFrame):
        return Table(source, Place("lazy frame"))
    if type(source).__module__.startswith("pandas"):
        return Table(pl.from_pandas(source).lazy(), Place("pandas frame"))
    try:
        return Table(pl.DataFrame(source).lazy(), Place("table"))
    except (TypeError, ValueError, pl.exceptions.PolarsError) as error:
        raise DataError(
            f"{type(source).__name__} is not a table. Give a path or a Polars, pandas or Arrow table. ({error})"
        ) from None


def columns_of(
    names: list[str], wanted: Mapping[str, str | None], table: Table, *, needed: Sequence[str] = ("user", "item")
) -> dict[str, str]:
    """Return role → column for every role named or recognised; those `needed` must be found."""
    plain = {name.split(":")[0].strip().lower(): name for name in names}  # RecBole writes user_id:token
    headed = {f"{name}:{kind}": name for name, kind in table.kinds.items()}
    found = dict(table.roles)
    for role, name in wanted.items():
        if role in found:
            continue
        if name is not None:
            if headed.get(name, name) not in names:
                raise DataError(
                    f'{table.place}: there is no column "{name}".{did_you_mean(name, names)} '
                    f"It has: {', '.join(names)}."
                )
            found[role] = headed.get(name, name)
            continue
        usual = next((plain[usual] for usual in USUAL_NAMES[role] if usual in plain), None)
        if usual is not None:
            found[role] = usual
        elif role in needed:
            raise DataError(
                f"{table.place}: no column is recognised as the {role}. It has: {', '.join(names)}. "
                f"{_headless(names, table)}Name it with {role}=… (--{role} on the command line)."
            )
    return found


def _headless(names: list[str], table: Table) -> str:
    """Return a hint where the first line of a text looks like a row: names that are numbers."""
    is_number = [name.replace(".", "", 1).removeprefix("-").isdigit() for name in names]
    if not (table.is_text and any(is_number)):
        return ""
    return "The first line looks like a row: put a line of names above it. "


def _others(names: list[str], taken: set[str], extra: Sequence[str] | None, table: Table) -> list[str]:
    """Return the columns to keep beside those that have a role."""
    for name in extra or ():
        if name not in names:
            raise DataError(
                f'{table.place}: there is no column "{name}" to keep.{did_you_mean(name, names)} '
                f"It has: {', '.join(names)}."
            )
    if extra is not None:
        return [name for name in extra if name not in taken]
    rest = [name for name in names if name not in taken]
    on_disk = not table.is_text and table.place.parts
    return [] if on_disk and len(rest) * sum(part.n_rows for part in table.place.parts) > SMALL else rest


def _typed_extra(frame: pl.DataFrame, rest: list[str], table: Table) -> pl.DataFrame | None:
    if not rest:
        return None
    others = frame.select(rest)
    return typed(others, table.kinds, table.place) if table.is_text else others


def _origin(place: Place, found: Mapping[str, str], rest: list[str], left: list[str]) -> str:
    shown = ", ".join(f"{role}={name}" for role, name in found.items())
    on_disk = f"; left on disk (extra=… keeps them): {', '.join(left)}" if left else ""
    return f"{place}: {shown}; other columns: {', '.join(rest) or 'none'}{on_disk}"


def encode_ids(column: pl.Series, place: Place) -> tuple[Ids, np.ndarray]:
    """Return the distinct ids of a column and the row of every value; raises `DataError` on what is no id."""
    if column.dtype in (pl.Categorical, pl.Enum):
        column = column.cast(pl.String)
    if not (column.dtype.is_integer() or column.dtype == pl.String):
        raise DataError(
            f'{place}, column "{column.name}": ids are {column.dtype}; integers or texts are needed. '
            f"Cast the column first, or name another one."
        )

    fill = "Fill them or drop them."
    if column.null_count():
        is_text = column.dtype == pl.String
        empty = column.is_null() | (column == "").fill_null(True) if is_text else column.is_null()
        place.refuse(empty, column.name, "are empty", fill)
    if column.dtype.is_integer():
        large = column.cast(pl.Int64, strict=False).is_null()
        place.refuse(large, column.name, "do not fit 64 bits with a sign", "Cast the column to text.")
        return encode(column)
    ids, rows = encode(column)
    texts = ids.values  # distinct, so few
    for bad, problem, mend in (
        (texts == "", "are empty", fill),
        (texts.str.len_bytes() > MAX_ID_BYTES, f"are over {MAX_ID_BYTES} bytes", "Shorten or hash these ids."),
        (texts.str.contains("\0", literal=True), "hold NUL bytes", "Is this a text file? Write it again."),
    ):
        if bad.any():
            place.refuse(pl.Series(bad.to_numpy()[rows]), column.name, problem, mend)
    return ids, rows


def _check_kind(column: pl.Series, place: Place, role: str, *also: type[pl.DataType]) -> None:
    kind = column.dtype
    if not (kind.is_numeric() or kind in (pl.String, pl.Boolean, pl.Null, *also)):
        raise DataError(
            f'{place}, column "{column.name}": {kind} cannot be read as {role}. '
            f"Cast the column first, or name another one with {role}=…"
        )


def numbers_of(column: pl.Series, place: Place) -> np.ndarray:
    """Return weights float32; raises `DataError` where they are not 0 or more."""
    _check_kind(column, place, "weight")
    numbers = column.cast(pl.Float64, strict=False)
    bad = numbers.is_null() | ~numbers.is_between(0, HEAVIEST).fill_null(False)
    place.refuse(bad, column.name, "are not numbers of 0 or more", "Mend or drop them.")
    return numbers.to_numpy().astype(np.float32)


def seconds_of(column: pl.Series, place: Place) -> np.ndarray:
    """Return int64 seconds since 1970 UTC from numbers (s, ms, µs, ns), dates or ISO 8601 texts."""
    _check_kind(column, place, "time", pl.Date, pl.Datetime)
    if column.null_count():
        place.refuse(column.is_null(), column.name, "are empty", "Fill them or drop them.")
    if column.dtype.is_temporal():
        return column.cast(pl.Datetime("us")).dt.epoch("s").to_numpy().astype(np.int64)
    exact = column.cast(pl.Int64, strict=False)
    numbers = exact if exact.null_count() == 0 else column.cast(pl.Float64, strict=False)
    if column.dtype == pl.String and numbers.null_count() == len(numbers):
        moments = column.str.to_datetime(time_unit="us", time_zone="UTC", strict=False)
        mend = "Write seconds since 1970 or ISO 8601, such as 2026-11-24T08:00:00Z."
        place.refuse(moments.is_null(), column.name, "are not times", mend)
        return moments.dt.epoch("s").to_numpy().astype(np.int64)
    bad = numbers.is_null() | (numbers < 0).fill_null(False)
    if numbers.dtype.is_float():
        bad |= ~(numbers < LATEST).fill_null(False)
    place.refuse(bad, column.name, "are not times after 1970", "Mend or drop them.")
    largest = float(numbers.max() or 0)  # type: ignore[arg-type]
    unit = next((unit for above, unit in UNITS if largest > above), 1)
    _refuse_mixed(numbers, unit, column.name, place)
    seconds = numbers if numbers.dtype == pl.Int64 else numbers.floor().cast(pl.Int64)
    return seconds.to_numpy() // unit


def _refuse_mixed(numbers: pl.Series, unit: int, column: str, place: Place) -> None:
    """Refuse numbers that are a day of 1970 in the unit of the largest, and a sensible time in a smaller unit."""
    finer = [1, *(one for _, one in UNITS if 1 < one < unit)] if unit > 1 else []
    for smaller in finer:
        # 10**9 seconds is the year 2001; in the larger unit it is within days of 1970
        mixed = (numbers >= 10**9 * smaller) & (numbers < 10**11 * smaller) & (numbers < 200 * DAY * unit)
        mend = "Write all of them in seconds."
        name = {1: "seconds", 10**3: "milliseconds", 10**6: "microseconds", 10**9: "nanoseconds"}
        place.refuse(mixed, column, f"look like {name[smaller]} among {name[unit]}", mend)


def _events(
    frame: pl.DataFrame, column: str | None, types: Sequence[EventType] | None, place: Place
) -> tuple[np.ndarray | None, tuple[EventType, ...]]:
    """Return the code of every row and the event types; types the caller declared come first."""
    declared = {kind.name: kind for kind in types or ()}
    if column is None:
        return None, tuple(declared.values())[:1] or (EventType("interaction"),)
    values = frame[column].cast(pl.String).fill_null("interaction")
    found = values.unique(maintain_order=True).to_list()
    undeclared = [name for name in found if name not in declared]
    for name in declared:
        close = "" if name in found else did_you_mean(name, undeclared)
        if close:  # a type that merely does not occur is fine
            warnings.warn(f'no row of column "{column}" has the event "{name}".{close}', stacklevel=5)
    names = list(declared) + undeclared
    if len(names) > 255:
        raise DataError(
            f'{place}, column "{column}" has {len(names)} kinds of event; 255 at most. Is it the right one?'
        )
    codes = values.replace_strict(names, list(range(len(names))), return_dtype=pl.UInt8)
    return codes.to_numpy(), tuple(declared.get(name) or EventType(name) for name in names)


def is_title(kind: pl.DataType) -> bool:
    """Return whether values of this type can be shown as texts."""
    return not (kind.is_nested() or kind in (pl.Binary, pl.Object))


def side_table(given: Any, role: str) -> pl.DataFrame:
    """Return an item or user table with its id column first and a title column named so; texts get their types."""
    table = given if isinstance(given, Table) else open_table(given)
    frame = table.columns(table.names)
    plain = {name.split(":")[0].strip().lower(): name for name in frame.columns}
    key = next((plain[name] for name in USUAL_NAMES[role] if name in plain), frame.columns[0])
    title = next((plain[name] for name in TITLES if name in plain and plain[name] != key), None)
    if table.is_text:
        texts = [name for name in (key, title) if name is not None]
        others = typed(frame.drop(texts), table.kinds, table.place)
        frame = frame.with_columns(others)
    if title is not None:
        kind = frame.schema[title]
        if not is_title(kind):
            raise DataError(f'{table.place}, column "{title}": {kind} cannot be read as titles. Cast it, or rename it.')
        frame = frame.rename({title: "title"})
    return frame.select(key, pl.exclude(key))
