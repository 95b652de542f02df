"""Caller's ids and our int32 rows, both ways.

An id is any integer or any text of 1 to 256 UTF-8 bytes. Integers keep their type in every answer; a text that
spells a known integer finds it too, since a URL knows texts only.
"""

import re
import unicodedata
from collections.abc import Iterable, Sequence
from functools import cached_property
from typing import Any

import numpy as np
import polars as pl

from bowerbird.core.errors import DataError

MAX_ID_BYTES = 256
MANY = 2_000_000  # values from which Arrow's numbering is worth its import, half a second and 100 MB
_CHUNK = 2_000_000  # texts compared at a time
_INTEGER = re.compile(r"[+-]?[0-9]{1,19}")  # narrower than int(), which takes "1_0", " 1" and other scripts' digits


def clean(text: str) -> str:
    """Return an id as it is kept: in Unicode's composed form (NFC), so that one word spelt in two ways is one id.

    Raises `ValueError` for control characters, lone surrogates and more than `MAX_ID_BYTES` bytes.
    """
    text = unicodedata.normalize("NFC", text)
    if any(unicodedata.category(letter) in ("Cc", "Cs") for letter in text):
        raise ValueError("an id holds no control characters and no halves of characters")
    if len(text.encode()) > MAX_ID_BYTES:
        raise ValueError(f"an id has {MAX_ID_BYTES} bytes at most")
    return text


class Ids:
    """An immutable list of distinct ids; the row of an id is its place in the list."""

    def __init__(self, values: pl.Series) -> None:
        self.values = values.cast(pl.Int64 if values.dtype.is_integer() else pl.String).rename("id")

    @classmethod
    def of(cls, values: Iterable[Any]) -> "Ids":
        """Return ids in the given order; raises `DataError` on duplicates."""
        series = pl.Series("id", list(values))
        if series.n_unique() != len(series):
            raise DataError("ids must be distinct.")
        return cls(series if len(series) else series.cast(pl.Int64))

    def __len__(self) -> int:
        return len(self.values)

    def __getitem__(self, row: int) -> Any:
        return self._listed[row]

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Ids) and self.values.equals(other.values)

    def __hash__(self) -> int:
        return hash((len(self), self.values.dtype))

    @cached_property  # it is asked for each id that is looked up
    def is_integer(self) -> bool:
        """Whether the ids are integers."""
        return self.values.dtype == pl.Int64

    @cached_property
    def _listed(self) -> list[Any]:
        return self.values.to_list()

    @cached_property
    def _row_of(self) -> dict[Any, int]:
        return dict(zip(self._listed, range(len(self)), strict=True))

    def row(self, value: Any) -> int:
        """Return the row of one id, −1 when unknown."""
        if self.is_integer and isinstance(value, str):
            if not _INTEGER.fullmatch(value):
                return -1
            value = int(value)
        elif not self.is_integer and isinstance(value, int | np.integer):
            value = str(value)
        return self._row_of.get(value, -1)

    def rows(self, values: Sequence[Any] | pl.Series) -> np.ndarray:
        """Return int32 rows of many ids, −1 where unknown."""
        if not isinstance(values, pl.Series):
            return np.fromiter((self.row(value) for value in values), np.int32, len(values))
        keys = values.rename("id").cast(self.values.dtype, strict=False)
        table = pl.DataFrame({"id": self.values, "row": np.arange(len(self), dtype=np.int32)})
        found = keys.to_frame().join(table, on="id", how="left", maintain_order="left")
        return found["row"].fill_null(-1).to_numpy()

    def names(self, rows: np.ndarray) -> pl.Series:
        """Return the caller's ids of rows; −1 becomes null."""
        index = pl.Series(rows).cast(pl.Int64)
        known = pl.select(pl.when(index >= 0).then(index)).to_series().cast(pl.UInt32)
        return self.values.gather(known)

    def head(self, n: int) -> "Ids":
        """Return the first `n` ids; their rows stay what they were."""
        return self if n == len(self) else Ids(self.values.head(n))


def encode(column: pl.Series) -> tuple[Ids, np.ndarray]:
    """Return distinct ids in order of first appearance and the int32 row of every value."""
    if column.dtype == pl.String:
        # numbering hashes is a third of the work of numbering texts; two texts of one hash would show below
        _, rows = _numbered(column.hash())
        first = np.zeros(rows.max(initial=-1) + 1, np.int64)
        first[rows[::-1]] = np.arange(len(rows))[::-1]  # written last, the first appearance stays
        texts = column.gather(first)
        parts = [slice(start, start + _CHUNK) for start in range(0, len(rows), _CHUNK)]
        if all((texts.gather(rows[part]) == column[part]).all() for part in parts):
            return Ids(texts), rows
    values, rows = _numbered(column)
    return Ids(values), rows


def _numbered(column: pl.Series) -> tuple[pl.Series, np.ndarray]:
    """Return distinct values as they come, and the place of every value among them, int32."""
    if len(column) < MANY:
        values = column.unique(maintain_order=True).rename("id")
        table = pl.DataFrame({"id": values, "row": np.arange(len(values), dtype=np.int32)})
        found = column.rename("id").to_frame().join(table, on="id", how="left", maintain_order="left", nulls_equal=True)
        return values, found["row"].to_numpy()
    coded = column.to_arrow().dictionary_encode()
    return pl.Series("id", coded.dictionary), coded.indices.to_numpy(zero_copy_only=False)
