"""How sure it is that one try is better than another: intervals, paired tests, and how many more people it would take.

Tries are compared on the same users, or rows; see `measure` for what their values are.

Shapes: A users asked, N validation rows.
"""

import math
from dataclasses import dataclass, field

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
    _sorted: dict[int, tuple[np.ndarray, tuple[float, np.ndarray]]] = field(default_factory=dict, repr=False)

    @classmethod
    def of(cls, split: Split | RowSplit, *, seed: int = 0) -> "Judge":
        """Return the judge of a split's validation part."""
        if isinstance(split, Split):
            return cls(seed=seed)
        return cls(split.valid.labels[:, 0], split.valid.user, seed=seed)

    @property
    def metric(self) -> str:
        """What is compared."""
        return METRIC if self.label is None else ROW_METRIC

    @property
    def chance(self) -> float:
        """What guessing is worth: an AUC of a half."""
        return 0.0 if self.label is None else 0.5

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
        if self.label is None:
            return interval(values, numpy_stream(self.seed, "bootstrap"))
        value, pulls = self._pulls(values)
        error = float(np.linalg.norm(pulls))
        return max(value - WIDTH / 2 * error, 0.0), min(value + WIDTH / 2 * error, 1.0)

    def difference(self, a: np.ndarray, b: np.ndarray) -> Difference:
        """Return the paired test of a − b."""
        if self.label is None:
            return paired(METRIC, a, b, numpy_stream(self.seed, "compare"), draws=2_000)
        (one, its), (other, others) = self._pulls(a), self._pulls(b)
        mean, error = one - other, float(np.linalg.norm(its - others))
        p = math.erfc(abs(mean) / error / math.sqrt(2)) if error else float(mean == 0)
        return Difference(ROW_METRIC, mean, mean - WIDTH / 2 * error, mean + WIDTH / 2 * error, p)

    def _pulls(self, values: np.ndarray) -> tuple[float, np.ndarray]:
        """Return the AUC of probabilities (N,) and how it hangs on each user or row; sorted once for each try."""
        if id(values) not in self._sorted:
            assert self.label is not None
            there = ~np.isnan(self.label)
            found = binary.auc_pulls(self.label[there], values[there], None if self.user is None else self.user[there])
            self._sorted[id(values)] = values, found
        return self._sorted[id(values)][1]


def needed(one: Difference, n: int) -> int | None:
    """Return how many users, or rows, would show a difference as large as the one seen, 4 times in 5 and at 5 %.

    A standard error falls as the square root of their number. None where no difference was seen at all.
    """
    if one.mean == 0 or not math.isfinite(one.mean):
        return None
    error = (one.high - one.low) / WIDTH
    return math.ceil(n * (SURE * error / abs(one.mean)) ** 2)
