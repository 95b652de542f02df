"""What the parts of a filter are in a table of items: Polars expressions, with the types checked.

A node is one of the functions below, given its own parts; called with a scope, it says what it is there. The language
that nodes are written in, and what is empty, stand in `pipeline.filters`.

Shapes: I items.
"""

import math
import operator
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import polars as pl

from bowerbird.core import RequestError, did_you_mean

Binary = Callable[[pl.Expr, pl.Expr], pl.Expr]
COMPUTE: dict[str, Binary] = {"+": operator.add, "-": operator.sub, "*": operator.mul, "/": operator.truediv}
COMPARE: dict[str, Binary] = {
    "==": operator.eq, "!=": operator.ne, "<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge
}  # fmt: skip
KINDS = {"number": "a number", "text": "a text", "truth": "a truth value", "null": "empty", "other": "something else"}
FALSE = pl.lit(False)


@dataclass(frozen=True)
class Scope:
    """What nodes are bound to."""

    schema: Mapping[str, pl.DataType]  # of the item table
    now: int  # seconds since 1970
    seen: Sequence[np.ndarray]  # bool (I,) each


@dataclass(frozen=True)
class Value:
    """What a node is in a table."""

    expr: pl.Expr
    kind: str  # one of KINDS; "null" is a column without any value
    said: str  # what an error calls it
    many: bool = False  # a list of such values
    whole: bool = False  # an integer, and kept as one: floats are not exact beyond 2^53

    def __str__(self) -> str:
        return f"{self.said} is {'a list' if self.many else KINDS[self.kind]}"


Node = Callable[[Scope], Value]


@dataclass(frozen=True)
class Literal:
    """A value that the filter spells out."""

    said: str
    value: float | str | bool

    @property
    def kind(self) -> str:
        """Return one of KINDS."""
        return {bool: "truth", str: "text"}.get(type(self.value), "number")

    def __call__(self, scope: Scope) -> Value:
        """Return the value."""
        whole = type(self.value) is int
        return Value(pl.lit(self.value, pl.Int64 if whole else None), self.kind, self.said, whole=whole)


def null(scope: Scope) -> Value:
    """Raise `RequestError`: null is no value, and only `present` asks about it."""
    raise RequestError("null only stands beside == or !=. Write item.price == null for items without a price.")


def now(scope: Scope) -> Value:
    """Return the moment of the request."""
    return Value(pl.lit(scope.now, pl.Int64), "number", "now()", whole=True)


def seen(place: int, scope: Scope) -> Value:
    """Return whether the person met the item, in the sense of one of the scope's arrays."""
    return Value(pl.lit(pl.Series(scope.seen[place])), "truth", "seen()")


def column(name: str, scope: Scope) -> Value:
    """Return a column; raises `RequestError` where items have none of this name."""
    if name not in scope.schema:
        there = ", ".join(scope.schema)
        raise RequestError(f'items have no column "{name}".{did_you_mean(name, scope.schema)} There are {there}.')
    place, dtype = list(scope.schema).index(name), scope.schema[name]
    return _typed(pl.nth(place), dtype, f"item.{name} ({dtype})")  # pl.col takes some names for patterns


def _typed(expr: pl.Expr, dtype: Any, said: str) -> Value:
    """Return the values of a column or of its lists: moments as seconds, texts decoded, NaN as empty."""
    if dtype in (pl.List, pl.Array):
        one = _typed(pl.element(), dtype.inner, said)
        kind = "other" if one.many else one.kind
        return replace(one, expr=expr.cast(pl.List(dtype.inner)).list.eval(one.expr), kind=kind, many=True)
    if dtype in (pl.Date, pl.Datetime):
        return Value(expr.dt.epoch("us") / 1_000_000, "number", said)
    if dtype.is_integer():
        return Value(expr, "number", said, whole=True)
    if dtype.is_numeric():
        return Value(expr.cast(pl.Float64).fill_nan(None), "number", said)
    if dtype in (pl.String, pl.Categorical, pl.Enum):
        return Value(expr.cast(pl.String), "text", said)
    return Value(expr, {pl.Boolean: "truth", pl.Null: "null"}.get(dtype.base_type(), "other"), said)


def computed(sign: str, left: Node, right: Node, scope: Scope) -> Value:
    """Return a sum, difference, product or ratio; empty where it is no number or divides by zero."""
    sides = left(scope), right(scope)
    for side in sides:
        if side.many or side.kind not in ("number", "null"):
            raise RequestError(f"{side}, and {sign} computes with numbers and moments.")
    first, second = (side.expr.cast(pl.Float64) for side in sides)
    if sign == "/":
        # Polars multiplies by the inverse of a single number, and 49 * (1 / 49) is not 1: make it a column
        second = second.replace(0.0, None) + 0.0 * pl.int_range(pl.len())
    said = f"{sides[0].said} {sign} {sides[1].said}"
    # `replace` takes its operand once; `fill_nan` takes it three times, which is 3^n for n of them in one another
    return Value(COMPUTE[sign](first, second).replace(math.nan, None), "number", said)


def compared(sign: str, left: Node, right: Node, scope: Scope) -> Value:
    """Return whether a comparison holds; false where a side is empty."""
    first, second = left(scope), right(scope)
    _match(first, second)
    if "truth" in (first.kind, second.kind) and sign not in ("==", "!="):
        raise RequestError(f"{first if first.kind == 'truth' else second}, which {sign} cannot order. Use == or !=.")
    return _answer(COMPARE[sign](first.expr, second.expr), first, second)


def present(node: Node, scope: Scope) -> Value:
    """Return whether there is a value."""
    return _answer(node(scope).expr.is_not_null())


def within(node: Node, holder: Node, scope: Scope) -> Value:
    """Return whether a column of lists, or of texts such as "drama|war", holds a value."""
    one, held = node(scope), holder(scope)
    if not held.many and held.kind not in ("text", "null"):
        raise RequestError(f"{held}, and in looks into lists and texts. Compare with == instead.")
    _match(one, replace(held, many=False, said=f"a part of {held.said}"))
    value, values = one.expr, held.expr if held.many else held.expr.str.split("|")
    if one.kind == "number" and not (one.whole and held.whole):
        value, values = value.cast(pl.Float64), values.cast(pl.List(pl.Float64))
    return _answer(values.list.contains(value) & value.is_not_null(), one, held)


def one_of(node: Node, literals: Sequence[Literal], scope: Scope) -> Value:
    """Return whether a value is in a list that the filter spells out."""
    one, values = node(scope), [literal.value for literal in literals]
    for literal in literals:
        _match(one, literal(scope))
    numbers = [literal.kind == "number" for literal in literals]
    if any(numbers) and not (one.whole and all(type(value) is int for value in values)):
        return _answer(one.expr.cast(pl.Float64).is_in([float(value) for value in values]), one)
    return _answer(one.expr.is_in(values) if values else FALSE, one)


def negated(node: Node, scope: Scope) -> Value:
    """Return the opposite."""
    return _answer(~truth(node, scope))


def joined(word: str, nodes: Sequence[Node], scope: Scope) -> Value:
    """Return whether all nodes are true, or any."""
    join = pl.all_horizontal if word == "and" else pl.any_horizontal
    return _answer(join([truth(node, scope) for node in nodes]))


def truth(node: Node, scope: Scope) -> pl.Expr:
    """Return what is true or false, never empty; raises `RequestError` for a node that is neither."""
    value = node(scope)
    if value.many or value.kind not in ("truth", "null"):
        raise RequestError(f"{value}, where true or false is needed. Compare it with something.")
    return _answer(value.expr, value).expr


def _answer(expr: pl.Expr, *of: Value) -> Value:
    """Return a truth, false where it is empty; `of` are values of which one that is empty throughout has no type."""
    empty = any(value.kind == "null" for value in of)
    return Value(FALSE if empty else expr.fill_null(FALSE), "truth", "a comparison")


def _match(one: Value, other: Value) -> None:
    """Raise `RequestError` unless two values can be compared."""
    kinds = {one.kind, other.kind} - {"null"}
    if one.many or other.many:
        mend = 'Ask for one value of a list: "drama" in item.tags.'
    elif "other" in kinds:
        mend = "Filters read numbers, texts, truth values, dates, and lists of them."
    elif len(kinds) < 2:
        return
    elif "truth" in kinds:
        mend = "Compare true or false with true or false."
    else:
        mend = "Quote texts and nothing else; keep moments as dates or as seconds since 1970."
    raise RequestError(f"{one}, and {other}: they cannot be compared. {mend}")
