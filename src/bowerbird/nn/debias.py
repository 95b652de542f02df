"""Debiased training: an event weighs by the inverse of its propensity, the chance that it was observed at all.

What people find and choose by themselves is no fair sample of what they would like. Weighed so, its average loss is
that over everything, seen or not, as far as propensities are true. The loop divides by the weights of a batch.

Papers: Schnabel et al., ICML 2016, arXiv:1602.05352 (propensities that are given); Saito et al., WSDM 2020,
        arXiv:1909.03601 (a power of popularity, clipped); Swaminathan and Joachims, NIPS 2015 (dividing by the sum of
        weights).
Shapes: N rows or events, P distinct pairs.
"""

from dataclasses import dataclass

import numpy as np
import polars as pl

from bowerbird.core import ConfigError, DataError, TrainedConfig, check, did_you_mean
from bowerbird.data import Interactions
from bowerbird.data.rows import PROPENSITY

WAYS = ("none", "popularity", "given")


@dataclass(frozen=True, kw_only=True)
class Debias(TrainedConfig):
    """How much events weigh that were unlikely to be observed: a part of the options of a model."""

    debias: str = "none"  # inverse propensities as weights: none, by the item's popularity, or given in a column
    debias_power: float = 0.5  # "popularity": the power of an item's share of the most popular one's events
    debias_clip: float = 10.0  # what an event weighs at most, in means over all events

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.debias not in WAYS:
            close = did_you_mean(self.debias, WAYS)
            raise ConfigError(f"debias is {self.debias!r}; it must be one of {', '.join(WAYS)}.{close}")
        check(self.debias_power >= 0, "debias_power", self.debias_power, "must be 0 or more", try_instead=0.5)
        check(self.debias_clip >= 1, "debias_clip", self.debias_clip, "must be 1 or more", try_instead=10.0)

    def row_weights(self, item: np.ndarray | None, table: pl.DataFrame | None) -> np.ndarray | None:
        """Return what rows weigh, float32 (N,) of mean 1, by their items (N,) or their table; None: all the same.

        Raises `ConfigError` for rows without items, `DataError` for propensities that are missing or none.
        """
        if self.debias == "none":
            return None
        if self.debias == "given":
            return inverse(given(table), self.debias_clip)
        if item is None:
            raise ConfigError("debias is 'popularity', and the rows name no items. Name their column, or take given.")
        return inverse(popularity(item, self.debias_power), self.debias_clip)

    def pair_weights(self, train: Interactions) -> np.ndarray | None:
        """Return what the distinct positive pairs weigh, float32 (P,) of mean 1; None: all the same.

        Of several events of a pair, the one that was likeliest to be observed tells.
        """
        pairs = train.positives
        if self.debias != "given":
            return self.row_weights(pairs.item, None)
        good = np.flatnonzero(train.signed_weight > 0)
        chance = given(train.extra)[good]
        key, known = (one.user.astype(np.int64) * train.n_items + one.item for one in (train.rows(good), pairs))
        place = np.searchsorted(known, key).clip(max=len(known) - 1)
        there = known[place] == key  # a pair may have been taken back
        largest = np.zeros(len(pairs))
        np.maximum.at(largest, place[there], chance[there])
        return inverse(largest, self.debias_clip)


def popularity(item: np.ndarray, power: float) -> np.ndarray:
    """Return (n / most)ᵖᵒʷᵉʳ for rows of items that have n rows, float64 (N,)."""
    _, place, count = np.unique(item, return_inverse=True, return_counts=True)
    return np.asarray((count / count.max(initial=1))[place] ** power)


def given(table: pl.DataFrame | None) -> np.ndarray:
    """Return the column of propensities, float64 (N,); raises `DataError` unless all are above 0, and 1 at most."""
    if table is None or PROPENSITY not in table.columns:
        names = [] if table is None else table.columns
        raise DataError(
            f"debias is 'given', and there is no column \"{PROPENSITY}\".{did_you_mean(PROPENSITY, names)} "
            "Add the chance that each row was observed, or take debias = popularity."
        )
    chance = table[PROPENSITY].cast(pl.Float64, strict=False).fill_null(np.nan).to_numpy()
    bad = np.flatnonzero(~((chance > 0) & (chance <= 1)))
    if len(bad):
        raise DataError(
            f'column "{PROPENSITY}": {len(bad):,} of {len(chance):,} weighed rows are no chance above 0, and 1 at most '
            f"(first: row {bad[0] + 1:,} of them, {table[PROPENSITY][int(bad[0])]}). "
            "What could not be observed has no row."
        )
    return np.asarray(chance)


def inverse(propensity: np.ndarray, clip: float) -> np.ndarray:
    """Return 1 / propensity, no more than `clip` times its mean, over the mean of what is left; float32 (N,)."""
    weight = 1 / propensity
    weight = np.minimum(weight, clip * weight.mean()) if len(weight) else weight
    return np.asarray(weight / weight.mean() if len(weight) else weight, np.float32)
