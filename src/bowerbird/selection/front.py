"""The Pareto front of what was measured: models that no other beats in accuracy, latency, memory and training alike.

A difference in accuracy that a paired test takes for chance is none, and costs that nobody would notice are alike: else
every model stands on the front by its noise.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from bowerbird.evaluation import Difference
from bowerbird.selection.judging import Judge
from bowerbird.selection.race import Trial

FLOORS = {"seconds": 1.0, "ms": 1.0, "mb": 1.0}  # below these, costs are alike
MARGIN = 1.25  # so many times as much is a difference in cost
GIVEN_UP = 0.01  # share of the best value, above chance, that a cheaper model may be below it
CHEAPER = 2.0  # so many times cheaper has a model to be, to be taken instead of a better one


@dataclass(frozen=True)
class Place:
    """A model's best try beside those of the others."""

    trial: Trial
    low: float  # 95 % interval of its value
    high: float
    behind: Difference | None  # the best one less this one; None for the best one itself
    beaten_by: str  # one model that is no worse in anything and surely better in something; "" on the front
    chance: float = 0.0  # the value of whoever guesses

    @property
    def on_front(self) -> bool:
        """Whether no other model beats it."""
        return not self.beaten_by

    @property
    def level(self) -> bool:
        """Whether the paired test cannot tell it from the best."""
        return self.behind is None or self.behind.verdict == "level"

    @property
    def loss(self) -> float:
        """How far it is below the best, as a share of what that is above chance; 0 for the best itself."""
        if self.behind is None or not self.behind.mean:
            return 0.0
        return self.behind.mean / max(self.trial.value + self.behind.mean - self.chance, 1e-12)


def costs(one: Trial) -> dict[str, float]:
    """Return what a model costs, of costs that nobody would notice the floor."""
    return {name: max(float(getattr(one.measured, name)), floor) for name, floor in FLOORS.items()}


def cost(one: Trial) -> float:
    """Return one number for all costs: the geometric mean of seconds, milliseconds and megabytes."""
    return math.prod(costs(one).values()) ** (1 / len(FLOORS))


def front(trials: Sequence[Trial], judge: Judge) -> list[Place]:
    """Return a place for each try, the best value first; all have been measured on one part of the data."""
    ordered = sorted(trials, key=lambda one: -one.value)
    places = []
    for one in ordered:
        behind = None if one is ordered[0] else judge.difference(ordered[0].values, one.values)
        beaten = next((other.model for other in ordered if other is not one and _beats(other, one, judge)), "")
        places.append(Place(one, *judge.interval(one.values), behind, beaten, judge.chance))
    return places


def _beats(one: Trial, other: Trial, judge: Judge) -> bool:
    """Return whether one is no worse in anything, and surely better in something."""
    mine, theirs = costs(one), costs(other)
    if any(mine[name] > MARGIN * theirs[name] for name in mine):
        return False
    cheaper = any(MARGIN * mine[name] < theirs[name] for name in mine)
    verdict = judge.difference(one.values, other.values).verdict
    return verdict == "better" or (verdict == "level" and cheaper)


def pick(places: Sequence[Place]) -> Place:
    """Return the model to take: the best, or a cheaper one on the front that is a hundredth below it at most.

    It has to cost half, unless the best is not on the front itself. A difference that may be chance, but is larger, is
    not given up: what is worth more in the sample is the better guess.
    """
    best = places[0]
    near = [one for one in places if one.on_front and one.loss <= GIVEN_UP]
    near = [one for one in near if not best.on_front or CHEAPER * cost(one.trial) <= cost(best.trial)]
    return min(near, key=lambda one: (cost(one.trial), -one.trial.value), default=best)
