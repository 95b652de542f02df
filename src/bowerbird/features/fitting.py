"""Fitting: what training rows say about one column. A lazy table is read in pieces, a column at a time."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl

from bowerbird.core import DataError, did_you_mean
from bowerbird.features.columns import Bag, Categorical, Column, History, Numeric, Vector
from bowerbird.features.fields import VALUES
from bowerbird.features.values import hashed, inner, key_type, keys

FAR = 1e100  # where numbers are cut before anything is reckoned with them: their squares can still be summed
SAMPLE = 1_000_000  # rows whose quantiles are taken
PLACE = "\x1fplace"  # number of a row: a name that no column has
FLAT = 1e-12  # of the mean: a deviation below it is rounding, and the column constant
LISTS = (pl.List, pl.Array)


@dataclass(frozen=True)
class Learned:
    """What one column takes and holds."""

    rows: int  # of the embedding table
    width: int  # slots, or the size of a vector
    numbers: dict[str, Any]  # for `Encoder.numbers`
    vocabulary: pl.Series | None = None  # of a column with one, the most frequent first


def learn(table: pl.LazyFrame, column: Column) -> Learned:
    """Return what the rows of `table` say about `column`; raises `DataError` where they cannot be of its kind."""
    schema = table.collect_schema()
    check_there(column, schema)
    kind = schema[column.name]
    _check_kind(column, kind)
    if isinstance(column, Numeric):
        return _number(table, column, kind)
    if isinstance(column, Vector):
        return _vector(table, column)
    cells = table.select(value=_cells(column, kind))
    many = isinstance(kind, LISTS) or (isinstance(column, Bag) and bool(column.separator))
    longest, missing = _lengths(cells) if many else (1, 0.0)
    if isinstance(column, History):
        return Learned(0, min(column.most, longest), {"empty": missing})
    assert isinstance(column, Categorical | Bag)
    width = min(column.most, longest) if isinstance(column, Bag) else 1
    found, null = _distinct(cells, column, pl.String() if column.buckets else key_type(kind), many=many)
    total = int(found["len"].sum())
    numbers = {"empty": missing if many else null / max(total + null, 1), "values": len(found)}
    if column.buckets:
        bucket = (hashed(found["value"]) % np.uint64(column.buckets)).astype(np.int64)
        return Learned(VALUES + column.buckets, width, numbers | {"colliding": colliding(bucket)})
    kept = found.filter(pl.col("len") >= column.min_count)
    unknown = 1 - int(kept["len"].sum()) / total if total else 0.0
    return Learned(VALUES + len(kept), width, numbers | {"colliding": 0, "unknown": unknown}, kept["value"])


def check_there(column: Column, schema: Any) -> None:
    """Raise `DataError` unless the schema has the column."""
    if column.name not in schema:
        raise DataError(
            f'there is no column "{column.name}".{did_you_mean(column.name, list(schema))} It has: {", ".join(schema)}.'
        )


def colliding(bucket: np.ndarray) -> int:
    """Return how many of distinct values, in these buckets, share theirs with another: what hashing costs."""
    _, used = np.unique(bucket, return_counts=True)
    return int(used[used > 1].sum())


def _check_kind(column: Column, kind: pl.DataType) -> None:
    lists, mend = isinstance(kind, LISTS), ""
    if kind == pl.Object or inner(kind).is_nested() or (kind == pl.Binary and isinstance(column, Numeric)):
        mend = "Leave it out."
    elif lists and isinstance(column, Numeric | Categorical):
        mend = 'Take kind = "bag", or "vector" for numbers.'
    elif not lists and isinstance(column, History | Vector):
        mend = "Give it a list in each row."
    if mend:
        raise DataError(f'column "{column.name}" is of type {kind}, which kind = "{column.kind}" cannot read. {mend}')


def _cells(column: Column, kind: pl.DataType) -> pl.Expr:
    """Return the values of a column: lists, where a row has several."""
    value = pl.col(column.name)
    if isinstance(kind, pl.Array):
        return value.arr.to_list()
    separator = column.separator if isinstance(column, Bag) else ""
    return value.cast(pl.String).str.split(separator) if separator and not isinstance(kind, pl.List) else value


def _lengths(cells: pl.LazyFrame) -> tuple[int, float]:
    """Return the length of the longest list, 1 at least, and the share of rows without one."""
    value = pl.col("value")
    asked = cells.select(value.list.len().max().alias("longest"), value.is_null().mean().alias("missing"))
    longest, missing = asked.collect(engine="streaming").row(0)
    return max(int(longest or 0), 1), float(missing or 0.0)


def _distinct(
    cells: pl.LazyFrame, column: Categorical | Bag, kind: pl.DataType, *, many: bool
) -> tuple[pl.DataFrame, int]:
    """Return distinct values as keys and how often each is there (value, len), most frequent first; and empty ones."""
    values = cells.explode("value") if many else cells
    counted = values.group_by("value").len().collect(engine="streaming")
    key = keys(counted["value"], kind)
    if many and isinstance(column, Bag) and column.separator and kind == pl.String:  # as `values.listed` cuts
        key = key.str.strip_chars()
        key = key.set(key == "", None)
    counted = counted.with_columns(value=key).group_by("value").agg(pl.col("len").sum())
    found = counted.drop_nulls().sort(["len", "value"], descending=[True, False])
    return found, int(counted["len"].sum()) - int(found["len"].sum())


def _number(table: pl.LazyFrame, column: Numeric, kind: pl.DataType) -> Learned:
    value = pl.col(column.name)
    value = value.cast(pl.String) if isinstance(kind, pl.Categorical | pl.Enum) else value
    value = value.cast(pl.Float64, strict=False)
    value = pl.when(value.is_finite()).then(value.clip(-FAR, FAR))
    there, filled = value.count().alias("numbers"), pl.col(column.name).count().alias("filled")
    scaled = value.sign() * value.abs().log1p() if column.transform == "log" else value
    asked = [scaled.mean().alias("mean"), scaled.std(ddof=0).alias("deviation")]
    found = table.select(pl.len().alias("rows"), there, filled, *asked).collect(engine="streaming").row(0, named=True)
    if found["filled"] and not found["numbers"] and not kind.is_numeric():
        raise DataError(f'column "{column.name}": no value is a number. Take kind = "categorical".')
    numbers: dict[str, Any] = {"empty": 1 - found["numbers"] / found["rows"] if found["rows"] else 0.0}
    if column.buckets:
        ordered = _ordered(table, value, found["rows"])
        cuts = _quantiles(ordered, np.linspace(0, 1, column.buckets + 1)[1:-1])
        return Learned(2 + len(cuts), 1, numbers | {"edges": cuts})
    if column.transform == "knots":
        ordered, half = _ordered(table, value, found["rows"]), column.knots // 2
        rows, distinct = np.linspace(0, 1, column.knots - half), np.linspace(0, 1, half)
        knots = sorted({*_quantiles(ordered, rows), *_quantiles(np.unique(ordered), distinct)})
        return Learned(1 + max(len(knots), 1), 2, numbers | {"knots": knots or [0.0]})
    mean, deviation = (float(f"{found[one] or 0.0:.12g}") for one in ("mean", "deviation"))  # pieces sum in any order
    if column.transform == "none":
        mean, deviation = 0.0, 1.0
    constant = deviation <= FLAT * abs(mean)
    return Learned(2, 1, numbers | {"mean": mean, "deviation": 0.0 if constant else deviation})


def _ordered(table: pl.LazyFrame, value: pl.Expr, rows: int) -> np.ndarray:
    """Return the numbers of at most `SAMPLE` rows, spread over the whole table, in order."""
    every = max(1, -(-rows // SAMPLE))
    kept = table.with_row_index(PLACE).filter(pl.col(PLACE) % every == 0) if every > 1 else table
    found = kept.select(value.alias("value")).collect(engine="streaming")["value"].drop_nulls()
    return found.sort().to_numpy()


def _quantiles(ordered: np.ndarray, levels: np.ndarray) -> list[float]:
    """Return the distinct values nearest to these quantiles of ordered numbers, in order."""
    if not len(ordered):
        return []
    place = np.floor(levels * (len(ordered) - 1) + 0.5).astype(np.int64)
    found: list[float] = np.unique(ordered[place]).tolist()
    return found


def _vector(table: pl.LazyFrame, column: Vector) -> Learned:
    length = _cells(column, table.collect_schema()[column.name]).list.len()
    asked = table.select(length.is_null().mean().alias("empty"), (length == column.size).any().alias("right"),
                         length.max().alias("longest"))  # fmt: skip
    found = asked.collect(engine="streaming").row(0, named=True)
    if found["longest"] is not None and not found["right"]:
        raise DataError(
            f'column "{column.name}": no list has {column.size} numbers; the longest has {found["longest"]}. '
            "Set size to the length of its lists."
        )
    return Learned(0, column.size, {"empty": found["empty"] or 0.0})
