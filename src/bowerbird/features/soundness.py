"""Soundness: whether what a bundle keeps of an encoder holds together. Checksums do not tell who wrote it."""

import math
from collections.abc import Mapping
from itertools import pairwise
from typing import Any

import polars as pl

from bowerbird.core import BundleError
from bowerbird.features.columns import Bag, Categorical, Column, History, Numeric, Vector
from bowerbird.features.fields import VALUES, FeatureSchema, Field

WIDEST = 100_000  # slots of a field: no row of any table needs more


def check_sound(
    columns: Mapping[str, Column],
    schema: FeatureSchema,
    vocabularies: Mapping[str, pl.Series],
    numbers: Mapping[str, Mapping[str, Any]],
) -> None:
    """Raise `BundleError` unless fields are those of their columns, by name, and stand one behind another."""
    ends = {True: 0, False: 0}  # of vectors, and of slots
    for one in schema.fields:
        vector, column = one.kind == "vector", columns.get(one.name)
        right = one.slot == ends[vector] and 1 <= one.width <= WIDEST and one.start >= 0 and one.rows >= 0
        if column is not None:  # the history of a context stands in no table
            right &= _fits(one, column, vocabularies.get(one.name), numbers[one.name])
        if not right:
            raise BundleError(f'column "{one.name}": what is kept of it does not hold together. Train again.')
        ends[vector] += one.width
    names = {one.name for one in schema.fields}
    if any(name not in names for cross in schema.crosses for name in cross.names):
        raise BundleError("a cross is kept of columns that are not. Train again.")


def _fits(one: Field, column: Column, vocabulary: pl.Series | None, told: Mapping[str, Any]) -> bool:
    if isinstance(column, Numeric):
        return _of_numbers(one, column, told)
    if isinstance(column, History):
        return one.width <= column.most
    if isinstance(column, Vector):
        return one.width == column.size
    if not isinstance(column, Categorical | Bag):
        return True  # a medium: its width is that of the weights
    most = column.most if isinstance(column, Bag) else 1
    values = column.buckets or (-1 if vocabulary is None else len(vocabulary))
    return one.rows == VALUES + values and one.width <= most


def _of_numbers(one: Field, column: Numeric, told: Mapping[str, Any]) -> bool:
    if column.buckets:
        return one.rows == 2 + len(told["edges"]) and one.width == 1 and _ordered(told["edges"])
    if column.transform == "knots":
        return one.rows == 1 + len(told["knots"]) and one.width == 2 and _ordered(told["knots"])
    return one.width == 1 and all(type(told[key]) in (int, float) for key in ("mean", "deviation"))


def _ordered(values: list[Any]) -> bool:
    """Return whether these are finite numbers, none below the one before."""
    plain = all(type(one) in (int, float) and math.isfinite(one) for one in values)
    return plain and all(first <= second for first, second in pairwise(values))
