"""Properties: what documents say under one name, as a column of one type, whatever some of them say.

A column has the type that it has in the item table, or else that of what most documents say. What is of another type is
converted where that loses nothing and is empty elsewhere, so that no document changes what a column is for all others.
"""

from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa

MOST_NAMES = 256  # of the objects under one name, all of them together: each object of a column has a place for each
WHOLE = 2**63  # whole numbers below it, of either sign, are kept exactly
KINDS: tuple[tuple[type, str], ...] = (  # the first that fits: a truth value is an int to Python
    (bool, "truth"), (int, "number"), (float, "number"), (str, "text"), (list, "list"), (dict, "object")
)  # fmt: skip
NO_WORDS = (ValueError, TypeError, OverflowError, OSError)  # what a value of the wrong kind raises


def column_of(said: Sequence[Any], name: str, old: pl.DataType | None) -> pl.Series:
    """Return values out of JSON as a column: of the type `old`, that of the item table, or a wider one of numbers."""
    if old is None or old == pl.Null:
        return _series(said, name, _usual(said))
    if old in (pl.Date, pl.Datetime):
        moments = pl.Series(name, [_moment(one) for one in said], dtype=pl.Datetime("us", "UTC"))
        zone = getattr(old, "time_zone", None)
        local = moments.dt.convert_time_zone(zone) if zone else moments.dt.replace_time_zone(None)
        return local.cast(old)
    if isinstance(old, pl.List | pl.Array):
        return _series(said, name, "list", old.inner)  # type: ignore[arg-type]
    return _series(said, name, "truth" if old == pl.Boolean else "number" if old.is_numeric() else "text")


def is_name(text: str) -> bool:
    """Return whether a property of this name can be a column; one with a NUL byte in it ends Arrow."""
    return "\0" not in text


def _series(said: Sequence[Any], name: str, kind: str, inner: pl.DataType | None = None) -> pl.Series:
    """Return values as a column of one kind, of lists of a type where that is given."""
    values = [_as(kind, one) for one in said]
    if kind == "list":
        parts = column_of([part for one in values for part in one or ()], name, inner)
        ends = np.cumsum([0, *(len(one or ()) for one in values)])
        empty = pa.array([one is None for one in values], pa.bool_())
        lists = pa.LargeListArray.from_arrays(pa.array(ends), parts.to_arrow(), mask=empty)
        return pl.Series(name, lists).cast(pl.List(parts.dtype))
    if kind == "number":
        whole = all(isinstance(one, int) and abs(one) < WHOLE for one in values if one is not None)
        numbers = values if whole else [_float(one) for one in values]
        return pl.Series(name, numbers, dtype=pl.Int64 if whole else pl.Float64)
    if kind == "object":
        return _objects(values, name)
    return pl.Series(name, values, dtype=pl.Boolean if kind == "truth" else pl.String)


def _objects(values: Sequence[Any], name: str) -> pl.Series:
    """Return objects as a column, of nothing where their parts are of no type together."""
    empty = pl.Series(name, [None] * len(values), dtype=pl.String)
    try:
        found = pl.Series(name, [_storable(one) for one in values], strict=False) if _few_names(values) else empty
    except (*NO_WORDS, pl.exceptions.PolarsError):
        found = empty
    return found if found.dtype == pl.Struct else empty


def _storable(value: Any) -> Any:
    """Return what stands within an object: large whole numbers as floats, nothing whose name Arrow cannot hold."""
    if isinstance(value, dict):
        return {name: _storable(one) for name, one in value.items() if is_name(name)}
    if isinstance(value, list):
        return [_storable(one) for one in value]
    return _float(value) if isinstance(value, int) and abs(value) >= WHOLE else value


def _few_names(objects: Sequence[Any]) -> bool:
    """Return whether objects, and those within them, have no more than `MOST_NAMES` names together."""
    names = set[tuple[str, ...]]()
    waiting: list[tuple[tuple[str, ...], Any]] = [((), one) for one in objects]
    while waiting and len(names) <= MOST_NAMES:
        place, one = waiting.pop()
        if isinstance(one, dict):
            names.update((*place, name) for name in one)
            waiting += [((*place, name), part) for name, part in one.items() if isinstance(part, dict | list)]
        elif isinstance(one, list):
            waiting += [(place, part) for part in one if isinstance(part, dict | list)]
    return len(names) <= MOST_NAMES


def _usual(said: Sequence[Any]) -> str:
    """Return the kind of most values."""
    kinds = Counter(_kind(one) for one in said if one is not None)
    return kinds.most_common(1)[0][0] if kinds else "text"


def _kind(value: Any) -> str:
    return next(name for kind, name in KINDS if isinstance(value, kind))


def _as(kind: str, value: Any) -> Any:
    """Return a value as one of a kind, None where it is none."""
    if value is None or _kind(value) == kind:
        return value
    if kind == "text":
        return "|".join(map(str, value)) if isinstance(value, list) else str(value)
    if kind == "list":
        return [value]
    return _float(value) if kind == "number" and isinstance(value, str) else None


def _float(value: Any) -> float | None:
    try:
        return None if value is None else float(value)
    except NO_WORDS:
        return None


def _moment(value: Any) -> datetime | None:
    """Return seconds since 1970, or a moment in the spelling of ISO 8601, which is UTC where it does not say."""
    try:
        if isinstance(value, int | float):
            return None if isinstance(value, bool) else datetime.fromtimestamp(value, UTC)
        moment = datetime.fromisoformat(value)
        return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
    except NO_WORDS:
        return None
