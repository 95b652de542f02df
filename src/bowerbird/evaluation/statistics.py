"""How sure a figure is: bootstrap intervals over users, and paired tests between two models on the same users."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

BLOCK = 1_000_000  # draws held at once


def resampled_means(values: np.ndarray, draws: int, rng: np.random.Generator) -> np.ndarray:
    """Return means over users drawn with replacement, (draws,); `values` is (users,)."""
    n = len(values)
    step = max(1, BLOCK // n)
    return np.concatenate(
        [values[rng.integers(0, n, (min(step, draws - start), n))].mean(axis=1) for start in range(0, draws, step)]
    )


def interval(values: np.ndarray, rng: np.random.Generator, *, draws: int = 1000) -> tuple[float, float]:
    """Return the 95 % percentile bootstrap interval of the mean over users."""
    low, high = np.quantile(resampled_means(values, draws, rng), [0.025, 0.975])
    return float(low), float(high)


@dataclass(frozen=True)
class Difference:
    """One metric of two models on the same users: the mean of a − b, its 95 % interval, and a two-sided p-value."""

    metric: str
    mean: float
    low: float
    high: float
    p: float  # Holm-corrected over the metrics compared together

    @property
    def verdict(self) -> str:
        """Return "better", "worse" or "level": whether the interval is clear of zero and p is below 0.05."""
        if self.p >= 0.05 or self.low <= 0 <= self.high:
            return "level"
        return "better" if self.mean > 0 else "worse"


def paired(metric: str, a: np.ndarray, b: np.ndarray, rng: np.random.Generator, *, draws: int = 10_000) -> Difference:
    """Return the paired bootstrap of per-user differences; p is twice the smaller tail, at least 1 / draws."""
    means = resampled_means(a - b, draws, rng)
    low, high = np.quantile(means, [0.025, 0.975])
    tail = min(float((means <= 0).mean()), float((means >= 0).mean()))
    return Difference(metric, float((a - b).mean()), float(low), float(high), min(1.0, max(2 * tail, 1 / draws)))


def holm(differences: list[Difference]) -> list[Difference]:
    """Return the same differences with p-values corrected for being several (Holm 1979)."""
    return [replace(one, p=p) for one, p in zip(differences, corrected([one.p for one in differences]), strict=True)]


def corrected(p: Sequence[float]) -> list[float]:
    """Return p-values corrected for being several: below α by chance alone is any of them at most as often as α.

    Holm, Scandinavian Journal of Statistics 1979: the r-th smallest of n times n − r + 1, never below the one before.
    """
    order = sorted(range(len(p)), key=lambda index: p[index])
    found, worst = list(p), 0.0
    for rank, index in enumerate(order):
        worst = max(worst, min(1.0, p[index] * (len(p) - rank)))
        found[index] = worst
    return found
