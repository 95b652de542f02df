"""Overview: the columns of a feature table at a glance, before anything is fitted."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import polars as pl

from bowerbird.data import Interactions, Rows
from bowerbird.features.columns import Bag, Column
from bowerbird.features.values import empty, listed

USER, ITEM = "user_id", "item_id"  # columns of ids in the tables that `tables_of` returns


def overview(table: pl.DataFrame, columns: Sequence[Column]) -> list[dict[str, Any]]:
    """Return a row for each column of a table: column, kind, type, distinct, empty, lowest, highest.

    `kind` is None where `columns` leaves it out; `distinct` counts the values, of lists those in them; `empty` is a
    share; `lowest` and `highest` are None where there is no finite number. Constant columns have one distinct value.
    """
    by_name = {column.name: column for column in columns}
    return [_glance(table[name], by_name.get(name)) for name in table.columns]


def _glance(values: pl.Series, column: Column | None) -> dict[str, Any]:
    flat, _ = listed(values, column.separator if isinstance(column, Bag) else "")
    there = flat.filter(~empty(flat))
    there = there.cast(pl.Float64) if there.dtype.is_decimal() else there
    numbers = there.filter(there.is_finite()) if there.dtype.is_float() else there
    ranged = numbers.dtype.is_numeric() and len(numbers) > 0
    return {
        "column": values.name,
        "kind": column.kind if column else None,
        "type": str(values.dtype),
        "distinct": 0 if there.dtype.is_nested() or there.dtype == pl.Object else there.n_unique(),
        "empty": float(empty(values).mean()) if len(values) else 0.0,
        "lowest": numbers.min() if ranged else None,
        "highest": numbers.max() if ranged else None,
    }


def base_rates(rows: Rows) -> dict[str, dict[str, float | None]]:
    """Return for each label on how many rows it was observed, and its rate there: the mean, None without any."""
    observed = ~np.isnan(rows.labels)
    sums, counts = np.where(observed, rows.labels, 0).sum(axis=0, dtype=float), observed.sum(axis=0)
    return {
        task: {"observed": int(count), "rate": float(total / count) if count else None}
        for task, total, count in zip(rows.tasks, sums, counts, strict=True)
    }


def tables_of(events: Interactions) -> dict[str, pl.DataFrame]:
    """Return the tables of users and items by part, by row, each with its ids first."""
    sides = {"user": (USER, events.user_ids, events.users), "item": (ITEM, events.item_ids, events.items)}
    return {
        part: pl.DataFrame({key: ids.values}).hstack(pl.DataFrame() if table is None else table.drop(key, strict=False))
        for part, (key, ids, table) in sides.items()
    }
