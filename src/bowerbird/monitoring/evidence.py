"""What two windows say against their being alike: one test for each kind of column, and what moved most.

Letters: n rows of the reference, m rows of now, C cells. Every p-value is that of one test alone; `windows` corrects
them for being several. Rows are taken to be independent: of people who come with many rows each, give one row a person.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import polars as pl
from scipy import optimize, stats

from bowerbird.core import DataError

CELLS = 10  # bins of numbers: by PSI's custom, tenths of the reference
LEAST = 5.0  # rows that a cell must lead to expect in both windows, for chi-square to hold (Cochran 1954)
FEW = 20  # distinct numbers up to which they are compared one by one
SMALL, HUGE = 1e-300, 1e100  # squares of larger numbers are none
OTHERS = "all other values"


@dataclass(frozen=True)
class Cells:
    """How often each value, or each range of numbers, was met in the two windows; the names are for people."""

    names: list[str]
    before: np.ndarray  # (C,)
    now: np.ndarray  # (C,)

    @property
    def shares(self) -> tuple[np.ndarray, np.ndarray]:
        """Shares of both windows (C,), half a row added to each cell, so that none is 0."""
        both = self.before + 0.5, self.now + 0.5
        return both[0] / both[0].sum(), both[1] / both[1].sum()

    @property
    def parts(self) -> np.ndarray:
        """What each cell adds to the population stability index (C,)."""
        p, q = self.shares
        return np.asarray((q - p) * np.log(q / p))

    @property
    def psi(self) -> float:
        """Population stability index: Σ (q − p) ln(q / p); 0.1 is custom for "look", 0.25 for "act"."""
        return float(self.parts.sum())

    @property
    def most(self) -> str:
        """The cell that moved most, and its shares, in words."""
        place = int(self.parts.argmax())
        was, is_now = self.before[place] / max(self.before.sum(), 1), self.now[place] / max(self.now.sum(), 1)
        return f"{self.names[place]} went from {was:.1%} to {is_now:.1%} of the rows"


# ── cells ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def value_cells(before: pl.Series, now: pl.Series) -> Cells:
    """Return a cell for each value that leads to expect enough rows in both windows, and one for all others.

    Which these are is told by both windows together, so that it favours neither.
    """
    was, is_now = (one.alias("value").value_counts(name=side) for one, side in ((before, "n"), (now, "m")))
    counts = was.join(is_now, on="value", how="full", coalesce=True).fill_null(0)
    counts = counts.sort(pl.col("n") + pl.col("m"), "value", descending=[True, False])
    n, m = (counts[side].to_numpy().astype(float) for side in ("n", "m"))
    smaller = min(n.sum(), m.sum()) / max(n.sum() + m.sum(), 1)
    often = (n + m) * smaller >= LEAST
    names = [f'"{value}"' for value in counts["value"].filter(pl.Series(often)).to_list()]
    if not often.all():
        names.append(OTHERS)
        n, m = (np.append(one[often], one[~often].sum()) for one in (n, m))
    return Cells(names, n, m)


def range_cells(before: np.ndarray, now: np.ndarray) -> Cells:
    """Return the rows of both windows within tenths of the reference; fewer where numbers are often the same."""
    edges = np.unique(np.quantile(before, np.linspace(0, 1, CELLS + 1)[1:-1]))
    counts = [np.bincount(np.searchsorted(edges, one, side="left"), minlength=len(edges) + 1) for one in (before, now)]
    said = [f"{edge:.4g}" for edge in edges]
    inner = [f"what is above {low} and up to {high}" for low, high in pairwise(said)]
    names = [f"what is up to {said[0]}", *inner, f"what is above {said[-1]}"]
    return Cells(names, counts[0].astype(float), counts[1].astype(float))


# ── tests ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def chi_square(cells: Cells) -> float:
    """Return Pearson's p-value for two rows of C cells; 1 where there is but one cell, or a window is empty.

    Cells that lead to expect too few rows are taken together; with two cells the distance is made smaller by half a
    row (Yates), which keeps what the test promises for rare events.
    """
    table = np.stack([cells.before, cells.now])
    total = table.sum()
    if not table.sum(axis=1).all():
        return 1.0
    rare = table.sum(axis=0) * table.sum(axis=1).min() / total < LEAST
    if rare.any():
        table = np.column_stack([table[:, ~rare], table[:, rare].sum(axis=1)])
    table = table[:, table.sum(axis=0) > 0]
    if table.shape[1] < 2:
        return 1.0
    return float(stats.chi2_contingency(table, correction=True).pvalue)


def kolmogorov_smirnov(before: np.ndarray, now: np.ndarray) -> float:
    """Return the two-sample p-value, asymptotic; too large, never too small, where numbers repeat."""
    if not len(before) or not len(now):
        return 1.0
    return float(stats.ks_2samp(before, now, method="asymp").pvalue)


def welch(before: np.ndarray, now: np.ndarray) -> float:
    """Return the p-value of Welch's t for two means; 1 where a window has fewer than two numbers.

    Where neither window varies, that of chi-square for their two numbers.
    """
    if min(len(before), len(now)) < 2:
        return 1.0
    told = [(float(one.mean()), float(one.std(ddof=1)), len(one)) for one in (before, now)]
    if not np.ptp(before) and not np.ptp(now):
        n, m, moved = len(before), len(now), before[0] != now[0]
        return chi_square(Cells(["", ""], np.array([n, 0.0]), np.array([0.0, m]))) if moved else 1.0
    return float(stats.ttest_ind_from_stats(*told[0], *told[1], equal_var=False).pvalue)


def unseen(before: pl.Series, now: pl.Series) -> tuple[int, float]:
    """Return how many rows of now hold a value that the reference lacks, and how likely so many are by chance.

    Were the n + m rows shuffled, a value with c of them would be in now alone with chance Π (m − i) / (n + m − i), i
    from 0 to c − 1. The p-value is Chernoff's bound on their sum, which never promises too much: such chances of
    several values hinder one another (Joag-Dev and Proschan 1983).
    """
    n, m = len(before), len(now)
    both = pl.concat([before.alias("value"), now.alias("value")]).value_counts(name="c")
    known = both["value"].is_in(before.unique().implode())
    rows = int(both.filter(~known)["c"].sum())
    if not rows or not n:
        return rows, 1.0
    c, values = (one.astype(float) for one in np.unique(both["c"].to_numpy(), return_counts=True))
    longest = np.arange(int(c.max()))
    log_chance = np.cumsum(np.log(np.maximum(m - longest, SMALL) / (n + m - longest)))[c.astype(int) - 1]
    chance = np.exp(log_chance)
    if rows <= (values * c * chance).sum():
        return rows, 1.0

    def bound(t: float) -> float:
        grown = np.log1p(chance * np.expm1(np.minimum(t * c, 600.0)))
        return float((values * grown).sum() - t * rows)

    found = optimize.minimize_scalar(bound, bounds=(0.0, 20.0), method="bounded")
    return rows, float(min(1.0, np.exp(found.fun)))


@dataclass(frozen=True)
class Calibrated:
    """How far labels are from what was predicted for them, in both windows, by ranges of the prediction."""

    p: float
    names: list[str]
    before: np.ndarray  # (C,): mean of the label less the prediction
    now: np.ndarray  # (C,)
    z: np.ndarray  # (C,): difference of the two over its standard error

    @property
    def most(self) -> str:
        """The range that moved most, in words."""
        place = int(np.abs(self.z).argmax())
        return (
            f"where {self.names[place]}, labels less predictions went from {self.before[place]:+.3f} to "
            f"{self.now[place]:+.3f}"
        )


def calibration(before: tuple[np.ndarray, np.ndarray], now: tuple[np.ndarray, np.ndarray]) -> Calibrated:
    """Return a chi-square test over ranges of the prediction: z² of the change of label − prediction, summed.

    `before` and `now` are predictions (n,) and labels (n,). A model that was never calibrated raises no alarm while it
    stays as it was: what is tested is the change.
    """
    edges = np.unique(np.quantile(before[0], np.linspace(0, 1, CELLS + 1)[1:-1]))
    said = [f"{edge:.2g}" for edge in edges]
    names = [f"it says up to {said[0]}"] + [
        f"it says above {low}" + (f" and up to {high}" if high else "")
        for low, high in zip(said, [*said[1:], ""], strict=True)
    ]
    size, mean, spread = (np.zeros((2, len(names))) for _ in range(3))
    for side, (predicted, label) in enumerate((before, now)):
        cell, left = np.searchsorted(edges, predicted, side="left"), label - predicted
        size[side] = np.bincount(cell, minlength=len(names))
        many = np.maximum(size[side], 1)
        mean[side] = np.bincount(cell, left, len(names)) / many
        spread[side] = np.maximum(np.bincount(cell, left**2, len(names)) / many - mean[side] ** 2, 0)
    told = (size.min(axis=0) >= 2 * LEAST) & (spread.sum(axis=0) > 0)
    pooled = (size * spread).sum(axis=0) / np.maximum(size.sum(axis=0), 1)
    error = np.sqrt(pooled * (1 / np.maximum(size, 1)).sum(axis=0))
    z = np.where(told, (mean[1] - mean[0]) / np.where(told, error, 1), 0.0)
    p = float(stats.chi2.sf((z**2).sum(), int(told.sum()))) if told.any() else 1.0
    return Calibrated(p, names, mean[0], mean[1], z)


# ── slices ────────────────────────────────────────────────────────────────────────────────────────────────────────


def check_slices(frame: pl.DataFrame, names: Sequence[str]) -> None:
    """Raise `DataError` where a column has no values that can be named."""
    for name in names:
        kind = frame.schema[name]
        if kind.is_nested() or kind == pl.Binary:
            raise DataError(f'column "{name}" holds {kind}; slices are texts, numbers or true and false.')


def moved_most(before: pl.DataFrame, now: pl.DataFrame, column: str, slices: tuple[str, ...]) -> str:
    """Return the slice whose mean of a column moved most by its standard error, in words; "" where there is none."""
    found = []
    x = pl.col("x")
    for name in slices:
        sums = [
            one.select(pl.col(column).cast(pl.Float64).alias("x"), pl.col(name).cast(pl.String).alias("slice"))
            .drop_nulls()
            .group_by("slice")
            .agg(pl.len().alias("n"), x.sum().alias("sum"), x.pow(2).sum().alias("square"))
            .sort("slice")
            for one in (before, now)
        ]
        both = sums[0].join(sums[1], on="slice", suffix="_now", maintain_order="left")
        both = both.filter(pl.min_horizontal("n", "n_now") >= 2 * LEAST)
        if not len(both):
            continue
        n, s, q, m, t, r = (both[key].to_numpy() for key in ("n", "sum", "square", "n_now", "sum_now", "square_now"))
        pooled = np.maximum((q + r) / (n + m) - ((s + t) / (n + m)) ** 2, SMALL)
        z = np.abs(t / m - s / n) / np.sqrt(pooled * (1 / n + 1 / m))
        place = int(z.argmax())
        value = both["slice"][place]
        found.append(
            (z[place], f'most where {name} is "{value}" ({s[place] / n[place]:.4g} → {t[place] / m[place]:.4g})')
        )
    return max(found)[1] if found else ""
