"""Content: what items say, as sparse vectors of words, and how like a few items that makes all others.

Nothing is trained: an item can be found by what it says before anybody chose it. Words count by how few items have
them (TF-IDF; Salton and Buckley, 1988). Texts, categories, tags and lists of them are words; whole numbers are where
they seem to be codes (`features.inference`); other numbers and moments say nothing here.

Cost:   100,000 items of 50 words are read in 1 to 2 seconds and take 75 MB; then a question takes 1 to 2 ms.
Shapes: I items, W places of words, N words of all items together.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import polars as pl
from scipy.sparse import csc_array, csr_array, vstack

from bowerbird.features.columns import Bag, Categorical
from bowerbird.features.inference import infer
from bowerbird.features.values import inner, listed

PLACES = 1 << 20  # W: words are told apart by hashes, so that new ones have their places too
LETTERS = 2_000  # of one text that are read
REWEIGHED = 0.1  # share of items that may change before all are weighed anew
LEAST = 0.01  # cosine below which items only share words such as "the"
LOOKED_AT = 1_000_000  # entries that one question looks at: those of the words that tell most
LONE = r"[\p{Han}\p{Hiragana}\p{Katakana}]"  # letters that are written without spaces: each is a word
WORD = rf"{LONE}|[\p{{L}}\p{{N}}--{LONE}]+"
Read = Mapping[str, pl.DataType]  # the columns that are read


@dataclass(frozen=True, eq=False)
class ItemWords:
    """What items say, in rows of unit length; empty for an item that says nothing, or only what all say."""

    items: csr_array  # float32 (I, W)
    words: csc_array  # the same by word
    spread: np.ndarray  # int32 (W,): how many items have each word
    read: Read
    changed: int = 0  # items since all were weighed

    @classmethod
    def of(cls, table: pl.DataFrame) -> "ItemWords | None":
        """Return what a table says of its items, in columns other than `item_id`; None where that is nothing."""
        read = _readable(table)
        counts = _counted(table, read)
        spread = np.bincount(counts.indices, minlength=PLACES).astype(np.int32)
        items = _weighed(counts, spread, len(table))
        return cls(items, items.tocsc(), spread, read) if items.nnz else None

    def renewed(self, table: pl.DataFrame, rows: np.ndarray) -> "ItemWords | None":
        """Return what a table says in which these rows have changed, and others follow the old ones.

        The others keep the weights that their words had, until a tenth of all has changed.
        """
        n = self.items.shape[0]
        rows = np.union1d(rows, np.arange(n, len(table)))
        changed = self.changed + len(rows)
        if changed > REWEIGHED * len(table) or _readable(table) != self.read:
            return ItemWords.of(table)
        counts = _counted(table[rows], self.read)
        spread = self.spread.copy()
        np.subtract.at(spread, self.items[rows[rows < n]].indices, 1)
        np.add.at(spread, counts.indices, 1)
        place = np.arange(len(table))
        place[rows] = n + np.arange(len(rows))
        items = csr_array(vstack([self.items, _weighed(counts, spread, len(table))], format="csr")[place])
        return ItemWords(items, items.tocsc(), spread, self.read, changed)

    def likeness(self, rows: np.ndarray) -> np.ndarray:
        """Return the cosine of the sum of some items with each item, float32 (I,); minus infinity for next to nothing.

        Where its words have very many items, those that tell least are left out.
        """
        asked = self.items[rows]
        place, back = np.unique(asked.indices, return_inverse=True)
        weight = np.bincount(back, asked.data, len(place)).astype(np.float32)
        weight /= np.linalg.norm(weight) or 1.0
        heavy = np.argsort(-weight * _rarity(self.spread[place], self.items.shape[0]), kind="stable")
        starts = self.words.indptr
        looked_at = np.cumsum(starts[place[heavy] + 1] - starts[place[heavy]])
        heavy = heavy[: max(1, int(np.searchsorted(looked_at, LOOKED_AT, side="right")))]
        shared = self.words[:, place[heavy]] @ weight[heavy]
        return np.where(shared >= LEAST, shared, np.float32(-np.inf))


def _readable(table: pl.DataFrame) -> dict[str, pl.DataType]:
    """Return the columns whose values are words or codes."""
    found: dict[str, pl.DataType] = {}
    for name, kind in table.schema.items():
        value = inner(kind)
        words = value in (pl.String, pl.Categorical, pl.Enum)
        if name != "item_id" and (words or (value.is_integer() and _are_codes(table[name]))):
            found[name] = kind
    return found


def _are_codes(values: pl.Series) -> bool:
    return any(isinstance(one, Categorical | Bag) for one in infer(values.to_frame()))


def _counted(table: pl.DataFrame, read: Read) -> csr_array:
    """Return how often each item has each word, float32 (I, W)."""
    row, place = [np.zeros(0, np.int64)], [np.zeros(0, np.int64)]
    for name, kind in read.items():
        hashes, lengths = _words(table[name], kind)
        row.append(np.repeat(np.arange(len(table)), lengths))
        place.append((hashes % PLACES).astype(np.int64))
    key = np.sort(np.concatenate(row) * PLACES + np.concatenate(place))
    first = np.flatnonzero(np.diff(key, prepend=-1))
    times = np.diff(first, append=len(key)).astype(np.float32)
    rows, places = np.divmod(key[first], PLACES)
    starts = np.searchsorted(rows, np.arange(len(table) + 1))
    return csr_array((times, places.astype(np.int32), starts.astype(np.int32)), shape=(len(table), PLACES))


def _words(values: pl.Series, kind: pl.DataType) -> tuple[np.ndarray, np.ndarray]:
    """Return a hash of each word of a column, uint64 (N,), and how many words each item has there (I,)."""
    if inner(kind).is_integer():
        lists = values if kind.is_nested() else values.reshape((-1, 1))
        codes, lengths = listed(lists.cast(pl.List(pl.String)).list.drop_nulls())
        return (f"{values.name}=" + codes).hash().to_numpy(), lengths
    if kind.is_nested():
        values = values.cast(pl.List(pl.String)).list.join(" ", ignore_nulls=True)
    texts = values.cast(pl.String).str.slice(0, LETTERS).str.to_lowercase()
    words, lengths = listed(texts.str.extract_all(WORD))
    return words.hash().to_numpy(), lengths


def _weighed(counts: csr_array, spread: np.ndarray, n: int) -> csr_array:
    """Return rows of unit length: 1 + the log of how often, times the log of n over how many of n items have it."""
    row = np.repeat(np.arange(counts.shape[0]), np.diff(counts.indptr))
    weight = (1 + np.log(counts.data)) * _rarity(spread[counts.indices], n)
    length = np.sqrt(np.bincount(row, weight * weight, counts.shape[0])).astype(np.float32)
    weight /= np.maximum(length, np.float32(1e-9))[row]
    found = csr_array((weight, counts.indices, counts.indptr), shape=counts.shape)
    found.eliminate_zeros()
    return found


def _rarity(spread: np.ndarray, n: int) -> np.ndarray:
    """Return the log of n over how many of n items have each word, float32."""
    return np.log(np.maximum(n / spread, 1)).astype(np.float32)
