"""Online experiments: who gets which arm, whether the split held, and what may be said at any moment while one runs.

Arithmetic over what users did, summed by arm; nothing here is stored. A unit is a user, never an event.

Paper: Robbins, Ann. Math. Statist. 1970 (normal mixture); Howard, Ramdas, McAuliffe, Sekhon, Ann. Statist. 2021,
       arXiv:1810.08240, equation 14; asymptotic as in Waudby-Smith et al., Ann. Statist. 2024, arXiv:2103.06476.
Differs: time is the variance of the difference of sums, not a number of users, so that it also goes on while the users
       who are there come back. Between two looks a user's sum may then grow, as long as whoever did much does not do
       less later than others; where a single event ends it (0 or 1), that holds nearly while most are 0.
"""

import math
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import blake2b
from itertools import accumulate

ALARM = 0.001  # p of the split below which an experiment is not to be believed
LEAST = 100  # units of an arm before the normal approximation is worth anything


def arm_of(salt: str, unit: str, shares: Sequence[float]) -> int:
    """Return the arm of a unit: always the same under one salt, and independent of that under another."""
    point = int.from_bytes(blake2b(f"{salt}/{unit}".encode(), digest_size=8).digest(), "big") / 2**64
    return min(bisect_right(list(accumulate(shares)), point), len(shares) - 1)


def sample_ratio(counts: Sequence[int], shares: Sequence[float]) -> float:
    """Return the p-value of Pearson's chi-square test that units were split as meant; 1 where there are none."""
    n = sum(counts)
    if not n:
        return 1.0
    square = sum((count - n * share) ** 2 / (n * share) for count, share in zip(counts, shares, strict=True))
    from scipy.special import gammaincc  # here, since it takes a start of the server a quarter of a second

    return float(gammaincc((len(counts) - 1) / 2, square / 2))


@dataclass(frozen=True)
class Sums:
    """What the units of an arm did: how many there are, the sum of what each did, and the sum of its squares."""

    n: int
    total: float
    squares: float

    @property
    def mean(self) -> float:
        """The mean over units, those who did nothing among them."""
        return self.total / self.n if self.n else 0.0

    @property
    def variance(self) -> float:
        """The variance among units."""
        return max(0.0, (self.squares - self.n * self.mean**2) / (self.n - 1)) if self.n > 1 else 0.0


@dataclass(frozen=True)
class Difference:
    """An arm's mean less a multiple of the control's, and the interval that holds the truth at all moments at once."""

    value: float
    low: float
    high: float

    @property
    def verdict(self) -> str:
        """Return "more", "less" or "undecided"."""
        return "more" if self.low > 0 else "less" if self.high < 0 else "undecided"


def difference(
    arm: Sums, control: Sums, *, alpha: float = 0.05, tightest_at: float = 1000.0, times: float = 1.0
) -> Difference:
    """Return `arm.mean − times · control.mean` with its confidence sequence.

    Over all looks together, the interval misses the truth with a probability of `alpha`. It is narrowest, beside one
    that may be looked at once, when both arms together saw about `tightest_at` events, of which each user has few.
    Without enough units, or where nobody did anything, it is infinite.
    """
    value = arm.mean - times * control.mean
    if min(arm.n, control.n) < LEAST:
        return Difference(value, -math.inf, math.inf)
    variance = arm.variance / arm.n + times**2 * control.variance / control.n
    if variance == 0:
        return Difference(value, -math.inf, math.inf)
    time = variance * (arm.n * control.n / (arm.n + control.n)) ** 2
    radius = math.sqrt(variance) * boundary(time, alpha, tightest_at / 4)
    return Difference(value, value - radius, value + radius)


def boundary(time: float, alpha: float, tightest_at: float) -> float:
    """Return how many standard deviations a Brownian motion never leaves, after `time`, with probability 1 − alpha.

    That of a normal mixture (Robbins 1970); `tightest_at` is the time at which it is nearly as low as one can be.
    """
    twice = -2 * math.log(alpha)
    prior = tightest_at / (twice + math.log1p(twice))
    return math.sqrt((1 + prior / time) * (math.log1p(time / prior) + twice))


def allowed(arm: Sums, control: Sums, change: float, *, alpha: float = 0.05, tightest_at: float = 1000.0) -> Difference:
    """Return the arm's mean less what is allowed of it: the control's, changed by a share such as −0.05 for 5 % less.

    A loss is too large once `high` is below 0; a rise, where more is worse, once `low` is above 0.
    """
    return difference(arm, control, alpha=alpha, tightest_at=tightest_at, times=1 + change)
