"""Attributes: categories, tags and numbers of an item or a person as one vector that needs no fitting.

Each value of each column has a sign in one of `PLACES` numbers, decided by its hash (Weinberger et al., ICML 2009,
arXiv:0902.2206). So has each part of a text of several, and a number to 2, 3 and 4 digits, so that what is alike shares
some.

Shapes: N rows.
"""

from collections.abc import Iterator

import numpy as np
import polars as pl

from bowerbird.features.values import cast, hashed, keys, listed

PLACES = 256
DIGITS = (2, 3, 4)
SEPARATORS = r"[\s|;,]+"


def attributes(table: pl.DataFrame) -> np.ndarray:
    """Return float32 (N, PLACES), rows of length 1, and of NaN where every column is empty."""
    found = np.zeros((len(table), PLACES), np.float32)
    for name in table.columns:
        values, lengths = listed(table[name])
        owner = np.repeat(np.arange(len(table)), lengths)
        for row, texts in _texts(values):
            there = texts.is_not_null().to_numpy()
            codes = hashed(f"{name}=" + texts.filter(there))
            sign = np.where(codes >> np.uint64(63), np.float32(1), np.float32(-1))
            np.add.at(found, (owner[row[there]], (codes % np.uint64(PLACES)).astype(np.int64)), sign)
    length = np.linalg.norm(found, axis=1, keepdims=True)
    return np.where(length > 0, found / np.maximum(length, 1), np.float32(np.nan))


def _texts(values: pl.Series) -> Iterator[tuple[np.ndarray, pl.Series]]:
    """Yield what values are told by, texts or null, and the place of the value that each belongs to."""
    whole = np.arange(len(values))
    if values.dtype.is_numeric():
        numbers = cast(values, pl.Float64()).fill_nan(None).replace(0.0, 0.0)  # −0.0 is written otherwise
        for digits in DIGITS:
            yield whole, f"{digits}:" + numbers.round_sig_figs(digits).cast(pl.String)
        return
    texts = keys(values, pl.String()).str.strip_chars().replace("", None)
    yield whole, texts
    parts, lengths = listed(texts.str.replace_all(SEPARATORS, "|").str.split("|"))
    several = np.repeat(lengths > 1, lengths)
    yield np.repeat(whole, lengths)[several], parts.filter(several).replace("", None)
