"""Values: cells of any type as numbers, as keys of a vocabulary, as hashes and as lists. One row is read as a million.

Shapes: N rows, F values of all lists together.
"""

from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import polars as pl

PRIME = 0x100000001B3  # at which the polynomial of a text is evaluated
BLOCK = 1 << 16  # texts hashed at once: what they need stays in the processor's cache
DENSE = 1 << 20  # span of whole numbers that a table finds at once, however few they are
WHOLE = (pl.Int8, pl.Int16, pl.Int32, pl.Int64, pl.UInt8, pl.UInt16, pl.UInt32)  # what fits into Int64
FACTORS = ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB))  # of SplitMix64


def cast(series: pl.Series, kind: pl.DataType) -> pl.Series:
    """Return values as `kind`, which is not nested, null where that cannot be, whatever type they have."""
    if isinstance(series.dtype, pl.Categorical | pl.Enum):
        series = series.cast(pl.String)
    if not series.dtype.is_nested():
        with suppress(pl.exceptions.PolarsError):  # some types never can
            return series.cast(kind, strict=False)
    return pl.Series(series.name, [None] * len(series), dtype=kind)


def nulls(series: pl.Series) -> np.ndarray:
    """Return which values are null, bool (N,)."""
    found: np.ndarray = series.is_null().to_numpy() if series.null_count() else np.zeros(len(series), bool)
    return found


def empty(series: pl.Series) -> np.ndarray:
    """Return which values are null or not a number, bool (N,)."""
    return np.isnan(series.to_numpy()) if series.dtype.is_float() else nulls(series)


def floats(series: pl.Series) -> np.ndarray:
    """Return float64 numbers (N,), NaN where a value is empty or no number."""
    found: np.ndarray = cast(series, pl.Float64()).to_numpy()
    return found


def keys(series: pl.Series, kind: pl.DataType) -> pl.Series:
    """Return values as a vocabulary holds them: Int64, or texts in which a whole number has no point; else null.

    Each value by itself decides how it is written: 3, 3.0 and "3" are one key, beside whatever they stand.
    """
    if series.dtype.is_decimal():
        series = series.cast(pl.Float64)
    if kind == pl.Int64 and series.dtype == pl.Boolean:
        return pl.Series(series.name, [None] * len(series), dtype=kind)
    if not series.dtype.is_float():
        return cast(series, kind)
    series = series.fill_nan(None)
    whole = series.cast(pl.Int64, strict=False)
    same = whole.cast(series.dtype) == series
    same = same.fill_null(False) if same.null_count() else same
    if same.all():
        return whole.cast(kind)
    other = series.cast(pl.String) if kind == pl.String else whole.clear(len(whole))
    return whole.cast(kind).zip_with(same, other)


def inner(kind: pl.DataType) -> pl.DataType:
    """Return the type of the values in lists of this type, or the type itself."""
    return kind.inner if isinstance(kind, pl.List | pl.Array) else kind  # type: ignore[return-value]


def key_type(kind: pl.DataType) -> pl.DataType:
    """Return the type of the keys of values of a type, or of lists of it."""
    return pl.Int64() if inner(kind) in WHOLE else pl.String()


def hashed(texts: pl.Series) -> np.ndarray:
    """Return a 64-bit number for each text, uint64 (N,), the same on every machine and in every version; null is "".

    A polynomial of the bytes, evaluated at a prime, then mixed (Steele et al., OOPSLA 2014: SplitMix64).
    """
    found = np.empty(len(texts), np.uint64)
    for start in range(0, len(texts), BLOCK):
        found[start : start + BLOCK] = _polynomial(texts[start : start + BLOCK])
    for shift, factor in FACTORS:
        found = (found ^ (found >> np.uint64(shift))) * np.uint64(factor)
    return found ^ (found >> np.uint64(31))


def _polynomial(texts: pl.Series) -> np.ndarray:
    """Return Σ (byteᵢ + 1) · PRIMEⁱ modulo 2⁶⁴ for each text."""
    array = texts.to_arrow()
    _, offsets, data = array.buffers()
    ends = np.frombuffer(offsets, np.int64)[array.offset : array.offset + len(array) + 1]
    flat = np.frombuffer(data or b"", np.uint8)[ends[0] : ends[-1]].astype(np.uint64) + np.uint64(1)
    ends = ends - ends[0]
    lengths = np.diff(ends)
    powers = np.full(int(lengths.max()) + 1, PRIME, np.uint64)
    powers[0] = 1
    powers = np.cumprod(powers, dtype=np.uint64)
    flat *= powers[np.arange(len(flat)) - np.repeat(ends[:-1], lengths)]
    sums = np.concatenate([np.zeros(1, np.uint64), np.cumsum(flat, dtype=np.uint64)])
    return np.diff(sums[ends])


@dataclass(eq=False)
class Lookup:
    """Finds keys in a vocabulary. Made once and kept, since sorting costs more than a request."""

    vocabulary: pl.Series  # Int64 or String, every key once

    def find(self, keys: pl.Series) -> np.ndarray:
        """Return the place of each key in the vocabulary, int64 (N,), −1 where it is null or not there."""
        if not len(self.vocabulary) or not len(keys):
            return np.full(len(keys), -1)
        if self.vocabulary.dtype == pl.String:
            place = self._searched(hashed(keys))
            same = self.vocabulary[place.clip(min=0)] == keys  # and not only their hashes
            there = (same.fill_null(False) if same.null_count() else same).to_numpy()
        else:
            there = ~nulls(keys)
            numbers = (keys.fill_null(self._low) if keys.null_count() else keys).to_numpy()
            place = self._searched(numbers) if self._dense is None else self._indexed(numbers)
        return np.where(there, place, -1)

    @cached_property
    def _low(self) -> int:
        return int(self.vocabulary.min())  # type: ignore[arg-type]

    @cached_property
    def _dense(self) -> np.ndarray | None:
        """The place of every whole number from the lowest to the highest key, where they lie close together."""
        span = int(self.vocabulary.max()) - self._low + 1  # type: ignore[arg-type]
        if span > max(DENSE, 8 * len(self.vocabulary)):
            return None
        table = np.full(span, -1, np.int32)
        table[self.vocabulary.to_numpy() - self._low] = np.arange(len(self.vocabulary))
        return table

    def _indexed(self, numbers: np.ndarray) -> np.ndarray:
        assert self._dense is not None
        inside = (numbers >= self._low) & (numbers < self._low + len(self._dense))
        place: np.ndarray = self._dense[np.where(inside, numbers, self._low) - self._low]
        return place if inside.all() else np.where(inside, place, -1)

    @cached_property
    def _sorted(self) -> tuple[np.ndarray, np.ndarray]:
        """Numbers or hashes in order, and the place of each."""
        text = self.vocabulary.dtype == pl.String
        numbers = hashed(self.vocabulary) if text else self.vocabulary.to_numpy()
        order = np.argsort(numbers, kind="stable")
        return numbers[order], order

    def _searched(self, numbers: np.ndarray) -> np.ndarray:
        known, order = self._sorted
        at = np.searchsorted(known, numbers).clip(max=len(known) - 1)
        return np.where(known[at] == numbers, order[at], -1)


def listed(series: pl.Series, separator: str = "") -> tuple[pl.Series, np.ndarray]:
    """Return values of all lists one after another (F,), and the length of each, int64 (N,).

    A text is cut at the separator, if there is one: its parts lose the spaces around them, and empty parts are null.
    Any other value that is no list stands alone.
    """
    if isinstance(series.dtype, pl.Array):
        series = series.arr.to_list()
    if isinstance(series.dtype, pl.List):
        lengths = series.list.len().fill_null(0).to_numpy().astype(np.int64)
        return series.filter(lengths > 0).explode(), lengths
    if not separator:
        return series, np.ones(len(series), np.int64)
    parts, lengths = listed(cast(series, pl.String()).str.split(separator))
    parts = parts.str.strip_chars()
    return pl.select(pl.when(parts != "").then(parts)).to_series(), lengths
