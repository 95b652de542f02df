"""How sure it is that one try is better than another: intervals, paired tests, and how many more people it would take.

Tries are compared on the same users, or rows; see `measure` for what their values are.

Shapes: A users asked, N validation rows.
"""

import math
from dataclasses import dataclass

import numpy as np

from bowerbird.core import numpy_stream
from bowerbird.data import RowSplit, Split
from bowerbird.evaluation import Difference, binary
from bowerbird.evaluation.statistics import interval, paired
from bowerbird.selection.measure import METRIC, ROW_METRIC

WIDTH = 2 * 1.96  # of a 95 % interval, in standard errors
SURE = 1.96 + 0.8416  # standard errors that a difference has to be, to be found 4 times in 5


@dataclass(frozen=True)
class Judge:
    """Compares values of tries on one part of the data."""

    label: np.ndarray | None = None  # (N,) of rows
    user: np.ndarray | None = None  # (N,) whose rows they are, where that is known
    seed: int = 0

    @classmethod
    def of(cls, split: Split | RowSplit, *, seed: int = 0) -> "Judge":
        """Return the judge of a split's validation part."""
        if isinstance(split, Split):
            return cls(seed=seed)
        return cls(split.valid.labels[:, 0], split.valid.user, seed)

    @property
    def metric(self) -> str:
        """What is compared."""
        return METRIC if self.label is None else ROW_METRIC

    @property
    def who(self) -> str:
        """Whom values are of."""
        return "users" if self.label is None or self.user is not None else "rows"

    def n(self, values: np.ndarray) -> int:
        """Return how many there are to resample."""
        if self.label is None:
            return len(values)
        there = ~np.isnan(self.label)
        return int(there.sum()) if self.user is None else len(np.unique(self.user[there]))

    def interval(self, values: np.ndarray) -> tuple[float, float]:
        """Return the 95 % interval of a try's value."""
        rng = numpy_stream(self.seed, "bootstrap")
        if self.label is None:
            return interval(values, rng)
        label, one, user = self._there(values)
        return binary.intervals(label, one, one, user, [ROW_METRIC], rng)[ROW_METRIC]

    def difference(self, a: np.ndarray, b: np.ndarray) -> Difference:
        """Return the paired test of a − b."""
        rng = numpy_stream(self.seed, "compare")
        if self.label is None:
            return paired(METRIC, a, b, rng, draws=2_000)
        label, one, user = self._there(a)
        found = binary.paired_difference(label, one, self._there(b)[1], user, ROW_METRIC, rng, resamples=500)
        return Difference(ROW_METRIC, found.mean, found.low, found.high, found.p)

    def _there(self, values: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
        assert self.label is not None
        there = ~np.isnan(self.label)
        return self.label[there], values[there], None if self.user is None else self.user[there]


def needed(one: Difference, n: int) -> int | None:
    """Return how many users, or rows, would show a difference as large as the one seen, 4 times in 5 and at 5 %.

    A standard error falls as the square root of their number. None where no difference was seen at all.
    """
    if one.mean == 0 or not math.isfinite(one.mean):
        return None
    error = (one.high - one.low) / WIDTH
    return math.ceil(n * (SURE * error / abs(one.mean)) ** 2)
