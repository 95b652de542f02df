"""The accountant: what a chain of noisy steps gives away, as ε at a δ, and how much noise a promise needs.

Paper: Gopi, Lee and Wutschitz, NeurIPS 2021, arXiv:2106.02848, as Opacus computes it (an upper bound, within 0.01).

A promise is about one unit: two data sets that differ by one unit more or less give, but for a chance of δ, no outcome
that is more than exp(ε) times as likely with one as with the other. A rating is a smaller unit than a person. Values
that are tried on the same data and thrown away (hyper-parameters chosen by hand) are steps too unless they are counted.
"""

import math
from dataclasses import dataclass, field
from importlib.util import find_spec

import numpy as np

from bowerbird.core import ConfigError, MissingExtraError, check

UNITS = ("rating", "person")
MOST, LEAST = 1e4, 0.1  # noise multipliers between which one is sought
CLOSE = 1e-3  # how near to the least noise that will do, as a share of it


@dataclass
class Accountant:
    """Counts the steps of one training or release. `unit` is what a step's noise is measured against."""

    unit: str  # "rating" or "person"
    steps: list[tuple[float, float, int]] = field(default_factory=list)  # noise multiplier, share drawn, how many

    def __post_init__(self) -> None:
        check(self.unit in UNITS, "unit", self.unit, f"must be one of {', '.join(UNITS)}", try_instead="person")

    def step(self, noise: float, share: float = 1.0, times: int = 1) -> None:
        """Count steps that add noise of `noise` clips to a sum over units, each drawn by itself with chance `share`."""
        check(noise >= 0, "noise", noise, "must be 0 or more", try_instead=1.0)
        check(0 < share <= 1, "share", share, "must be above 0, and 1 at most", try_instead=1.0)
        check(times >= 1, "times", times, "must be 1 or more", try_instead=1)
        self.steps.append((noise, share, times))

    def epsilon(self, delta: float) -> float:
        """Return ε at δ; infinity where a step had no noise, 0 before the first.

        Raises `MissingExtraError` without Opacus.
        """
        check(0 < delta < 1, "delta", delta, "must be above 0 and below 1", try_instead=1e-6)
        if not self.steps:
            return 0.0
        if any(noise == 0 for noise, _, _ in self.steps):
            return float("inf")
        need_opacus()
        from opacus.accountants import PRVAccountant

        found = PRVAccountant()
        found.history = [(noise, share, times) for noise, share, times in self.steps]
        with np.errstate(divide="ignore"):  # where every unit is drawn, Opacus takes the log of a share of none
            return float(found.get_epsilon(delta))

    def told(self, delta: float) -> str:
        """Return the promise in words."""
        return f"ε {self.epsilon(delta):.3g} at δ {delta:g}; the unit is one {self.unit}"


def noise_for(epsilon: float, delta: float, *, share: float = 1.0, steps: int = 1) -> float:
    """Return the least noise multiplier at which that many steps keep ε at δ; 0 for infinite ε."""
    check(epsilon > 0, "epsilon", epsilon, "must be above 0", try_instead=8.0)
    if epsilon == float("inf"):
        return 0.0

    def over(log_noise: float) -> float:
        return math.log(Accountant("rating", [(math.exp(log_noise), share, steps)]).epsilon(delta) / epsilon)

    from scipy import optimize  # takes half a second, which a server does not have

    low, high = 0.0, 0.0
    while over(high) > 0:
        high += 1.0
        if high > math.log(MOST):
            raise ConfigError(f"epsilon is {epsilon:g} at {steps:,} steps; no noise below {MOST:g} clips keeps it.")
    low = high - 1.0
    while over(low) <= 0 and low > math.log(LEAST):
        low, high = low - 1.0, low
    if over(low) <= 0:
        return LEAST
    found: float = optimize.brentq(over, low, high, xtol=CLOSE / 4)
    while over(found) > 0:
        found += CLOSE / 2
    return math.exp(found)


def need_opacus() -> None:
    """Raise `MissingExtraError` where Opacus is not installed."""
    if find_spec("opacus") is None:
        raise MissingExtraError('privacy accounts need opacus. Install it with: pip install "bowerbird[privacy]"')
