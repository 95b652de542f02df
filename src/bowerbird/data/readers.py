"""Readers: CSV, TSV, Parquet, data frames and `user item item …` lists become Interactions.

Columns are named by the caller or inferred from their usual names, and what was read is kept in `origin`. Every
refusal names the file, the line or row, the column, and a way to mend it.
"""

import csv
import gzip
import zlib
from collections.abc import Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, TextIO, cast

import numpy as np
import polars as pl

from bowerbird.core import DataError, did_you_mean
from bowerbird.core.ids import MAX_ID_BYTES
from bowerbird.data.interactions import EventType, Interactions

USUAL_NAMES = {
    "user": ("user", "user_id", "userid", "uid", "customer_id", "visitor_id", "visitorid", "person_id"),
    "item": ("item", "item_id", "itemid", "iid", "sku", "product_id", "movie_id", "movieid", "article_id"),
    "time": ("time", "timestamp", "ts", "datetime", "event_time", "created_at", "date"),
    "event": ("event", "event_type", "action", "behavior", "behaviour"),
    "weight": ("weight",),
}
TITLES = ("title", "name", "movie_title", "item_name", "product_name")
FORMATS = ("csv", "tsv", "parquet", "lists")
UNPACKING = (OSError, EOFError, zlib.error)  # what a damaged .gz raises
UNITS = ((1e17, 10**9), (1e14, 10**6), (1e11, 10**3))  # ns, µs, ms: larger numbers are no sensible seconds


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
) -> Interactions:
    """Return the interactions in a file or a data frame (Polars, pandas, Arrow).

    `user` … `weight` name columns; those left out are inferred. `event_types` gives meaning to the values of the
    event column; values it does not name count as positive. `items` and `users` are tables (file or frame) whose
    id column has a usual name or stands first. `format` overrides the file's ending: one of csv, tsv, parquet,
    lists. Raises `DataError`.
    """
    frame, place = _frame(source, format)
    if isinstance(source, str | Path) and _format_of(Path(source), format) == "lists":
        found = {"user": "user", "item": "item"}
    else:
        wanted = {"user": user, "item": item, "time": time, "event": event, "weight": weight}
        found = _columns(frame.columns, wanted, place)
    if frame.height == 0:
        raise DataError(f"{place}: there is a header and no row. Give a table with at least one interaction.")
    for role in ("user", "item"):
        _check_ids(frame[found[role]], found[role], place)
    codes, kinds = _events(frame, found.get("event"), event_types)
    rest = [name for name in frame.columns if name not in found.values()]
    shown = ", ".join(f"{role}={name}" for role, name in found.items())
    interactions = Interactions.of(
        frame[found["user"]],
        frame[found["item"]],
        time=_times(frame[found["time"]], place) if "time" in found else None,
        weight=_numbers(frame[found["weight"]], place) if "weight" in found else None,
        event=codes,
        events=kinds,
        extra=frame.select(rest) if rest else None,
        origin=f"{place.name}: {shown}; other columns: {', '.join(rest) or 'none'}",
    )
    tables = {"items": items, "users": users}
    return interactions.with_tables(
        **{key: _side_table(table, key[:-1]) for key, table in tables.items() if table is not None}
    )


class _Place:
    """Where a row came from, for messages: a file's line, or a row of a frame."""

    def __init__(self, name: str, first_line: int | None) -> None:
        self.name, self.first_line = name, first_line

    def __str__(self) -> str:
        return self.name

    def of(self, row: int) -> str:
        """Return "line 7" for a text file and "row 7" for a table; `row` counts from 0."""
        return f"row {row + 1:,}" if self.first_line is None else f"line {row + self.first_line:,}"


def _frame(source: Any, format: str | None) -> tuple[pl.DataFrame, _Place]:
    if isinstance(source, str | Path):
        return _read_file(Path(source), format)
    if isinstance(source, pl.DataFrame):
        return source, _Place("data frame", None)
    if isinstance(source, pl.LazyFrame):
        return source.collect(), _Place("lazy frame", None)
    if type(source).__module__.startswith("pandas"):
        return pl.from_pandas(source), _Place("pandas frame", None)
    try:
        return pl.DataFrame(source), _Place("table", None)
    except (TypeError, ValueError, pl.exceptions.PolarsError) as error:
        raise DataError(
            f"{type(source).__name__} is not a table. Give a path or a Polars, pandas or Arrow table. ({error})"
        ) from None


def _format_of(path: Path, format: str | None) -> str:
    name = path.name.removesuffix(".gz")
    ending = {".tsv": "tsv", ".parquet": "parquet", ".pq": "parquet", ".txt": "lists"}
    chosen = format or ending.get(Path(name).suffix, "csv")
    if chosen not in FORMATS:
        raise DataError(f'no format is named "{chosen}".{did_you_mean(chosen, FORMATS)} Allowed: {FORMATS}.')
    return chosen


def _read_file(path: Path, format: str | None) -> tuple[pl.DataFrame, _Place]:
    if not path.exists():
        near = did_you_mean(path.name, (other.name for other in path.parent.glob("*")))
        raise DataError(f"{path}: there is no such file.{near}")
    if path.is_dir():
        raise DataError(f"{path}: this is a folder. Name one file in it.")
    kind, separator = _format_of(path, format), ""
    if path.stat().st_size == 0:
        raise DataError(f"{path}: the file is empty.")
    try:
        if kind == "parquet":
            return pl.read_parquet(path), _Place(str(path), None)
        if kind == "lists":
            return _read_lists(path), _Place(str(path), None)
        separator = "\t" if kind == "tsv" else _separator(path)
        frame = pl.read_csv(path, separator=separator, infer_schema=False)
        return frame.rename({name: name.strip() for name in frame.columns}), _Place(str(path), 2)
    except (pl.exceptions.PolarsError, UnicodeDecodeError, *UNPACKING) as error:
        hint = _ragged_line(path, separator) if separator else ""
        first = str(error).strip().split("\n")[0]
        raise DataError(f"{path}: cannot be read as {kind}. {hint or first}") from None


def _opened(path: Path, errors: str = "strict") -> TextIO:
    """Return a text file, unpacked where its name ends in .gz."""
    packed = path.suffix == ".gz"
    return cast(TextIO, (gzip.open if packed else open)(path, "rt", encoding="utf-8", errors=errors))


def _read_lists(path: Path) -> pl.DataFrame:
    """Read `user item item …`, one user a line, as NGCF and S3-Rec publish them; numbers stay integers."""
    with _opened(path) as file:
        lines = pl.Series("line", file.read().splitlines())
    fields = lines.str.strip_chars().str.replace_all(r"\s+", " ").str.split(" ")
    frame = pl.DataFrame({"user": fields.list.first(), "item": fields.list.slice(1)})
    frame = frame.filter(pl.col("item").list.len() > 0).explode("item")
    whole = frame.select(pl.all().cast(pl.Int64, strict=False))
    return frame if sum(whole.null_count().row(0)) else whole


def _separator(path: Path) -> str:
    with _opened(path, errors="replace") as file:
        header = file.readline()
    return max(",\t;|", key=header.count)


def _ragged_line(path: Path, separator: str) -> str:
    """Return which line has another number of fields than the header; empty when none has."""
    try:
        with _opened(path, errors="replace") as file:
            rows = csv.reader(file, delimiter=separator)
            header = next(rows, [])
            for row in islice(rows, 10_000_000):
                if len(row) > len(header):
                    return (
                        f"Line {rows.line_num:,} has {len(row)} fields where the header has {len(header)}. "
                        "Quote the field that holds the separator, or mend the line."
                    )
    except (csv.Error, *UNPACKING):
        pass  # the first error says it better
    return ""


def _columns(names: list[str], wanted: Mapping[str, str | None], place: _Place) -> dict[str, str]:
    """Return role → column for every role named or recognised; user and item must be found."""
    plain = {name.split(":")[0].strip().lower(): name for name in names}  # RecBole writes user_id:token
    found = {}
    for role, name in wanted.items():
        if name is not None:
            if name not in names:
                raise DataError(
                    f'{place}: there is no column "{name}".{did_you_mean(name, names)} It has: {", ".join(names)}.'
                )
            found[role] = name
        else:
            usual = next((plain[usual] for usual in USUAL_NAMES[role] if usual in plain), None)
            if usual is not None:
                found[role] = usual
            elif role in ("user", "item"):
                raise DataError(
                    f"{place}: no column is recognised as the {role}. It has: {', '.join(names)}. "
                    f"Name it with {role}=… (--{role} on the command line)."
                )
    return found


def _bad_rows(bad: pl.Series, column: str, place: _Place, problem: str, mend: str) -> None:
    """Raise `DataError` naming the first row of the mask `bad`, if there is one."""
    count = int(bad.sum())
    if count:
        first = place.of(int(bad.arg_max() or 0))
        rows = f"{count:,} of {len(bad):,} rows {problem}"
        raise DataError(f'{place}, column "{column}": {rows} (first: {first}). {mend}')


def _check_ids(column: pl.Series, name: str, place: _Place) -> None:
    if not (column.dtype.is_integer() or column.dtype == pl.String):
        raise DataError(
            f'{place}, column "{name}": ids are {column.dtype}; integers or texts are needed. '
            f"Cast the column first, or name another one."
        )
    _bad_rows(column.is_null(), name, place, "are empty", "Fill them or drop them.")
    if column.dtype.is_integer():
        large = column.cast(pl.Int64, strict=False).is_null()
        _bad_rows(large, name, place, "do not fit 64 bits with a sign", "Cast the column to text.")
    else:
        _bad_rows(column.str.len_bytes() == 0, name, place, "are empty", "Fill them or drop them.")
        long = column.str.len_bytes() > MAX_ID_BYTES
        _bad_rows(long, name, place, f"are over {MAX_ID_BYTES} bytes", "Shorten or hash these ids.")


def _check_kind(column: pl.Series, place: _Place, role: str, *also: type[pl.DataType]) -> None:
    kind = column.dtype
    if not (kind.is_numeric() or kind in (pl.String, pl.Boolean, pl.Null, *also)):
        raise DataError(
            f'{place}, column "{column.name}": {kind} cannot be read as {role}. '
            f"Cast the column first, or name another one with {role}=…"
        )


def _numbers(column: pl.Series, place: _Place) -> np.ndarray:
    _check_kind(column, place, "weight")
    numbers = column.cast(pl.Float64, strict=False)
    bad = numbers.is_null() | ~numbers.is_finite().fill_null(False) | (numbers < 0).fill_null(False)
    _bad_rows(bad, column.name, place, "are not numbers of 0 or more", "Mend or drop them.")
    return numbers.to_numpy().astype(np.float32)


def _times(column: pl.Series, place: _Place) -> np.ndarray:
    """Return int64 seconds since 1970 UTC from numbers (s, ms, µs, ns), dates or ISO 8601 texts."""
    _check_kind(column, place, "time", pl.Date, pl.Datetime)
    _bad_rows(column.is_null(), column.name, place, "are empty", "Fill them or drop them.")
    if column.dtype.is_temporal():
        return column.cast(pl.Datetime("us")).dt.epoch("s").to_numpy().astype(np.int64)
    numbers = column.cast(pl.Float64, strict=False)
    if column.dtype == pl.String and numbers.null_count() == len(numbers):
        moments = column.str.to_datetime(time_unit="us", time_zone="UTC", strict=False)
        mend = "Write seconds since 1970 or ISO 8601, such as 2026-11-24T08:00:00Z."
        _bad_rows(moments.is_null(), column.name, place, "are not times", mend)
        return moments.dt.epoch("s").to_numpy().astype(np.int64)
    bad = numbers.is_null() | ~numbers.is_finite().fill_null(False) | (numbers < 0).fill_null(False)
    _bad_rows(bad, column.name, place, "are not times after 1970", "Mend or drop them.")
    largest = float(numbers.max() or 0)  # type: ignore[arg-type]
    unit = next((unit for above, unit in UNITS if largest > above), 1)
    exact = column.cast(pl.Int64, strict=False)
    seconds = exact if exact.null_count() == 0 else numbers.floor().cast(pl.Int64)
    return (seconds.to_numpy() // unit).astype(np.int64)


def _events(
    frame: pl.DataFrame, column: str | None, types: Sequence[EventType] | None
) -> tuple[np.ndarray | None, tuple[EventType, ...]]:
    """Return the code of every row and the event types; types the caller declared come first."""
    declared = {kind.name: kind for kind in types or ()}
    if column is None:
        return None, tuple(declared.values())[:1] or (EventType("interaction"),)
    values = frame[column].cast(pl.String).fill_null("interaction")
    names = list(declared) + [name for name in values.unique(maintain_order=True) if name not in declared]
    if len(names) > 255:
        raise DataError(f'column "{column}" has {len(names)} kinds of event; 255 at most. Is it the right one?')
    codes = values.replace_strict(names, list(range(len(names))), return_dtype=pl.UInt8)
    return codes.to_numpy(), tuple(declared.get(name) or EventType(name) for name in names)


def _side_table(table: Any, role: str) -> pl.DataFrame:
    """Return an item or user table with its id column first and a title column named so."""
    frame, _ = _frame(table, None)
    plain = {name.split(":")[0].strip().lower(): name for name in frame.columns}
    key = next((plain[name] for name in USUAL_NAMES[role] if name in plain), frame.columns[0])
    title = next((plain[name] for name in TITLES if name in plain and plain[name] != key), None)
    if title is not None and title != "title":
        frame = frame.rename({title: "title"})
    return frame.select(key, pl.exclude(key))
