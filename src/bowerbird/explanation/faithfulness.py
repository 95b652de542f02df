"""Whether reasons are the real ones: the score must fall further without the named causes than without as many others.

Deletion and sufficiency as DeYoung et al., ACL 2020, arXiv:1911.03429, section 4 (comprehensiveness and sufficiency),
beside causes drawn at random. A score's fall is told in standard deviations of the person's scores over all items, so
that people and models can be averaged.

Shapes: P causes, n = 1 item.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from bowerbird.evaluation.statistics import interval

NAMED = 3  # causes that are deleted
DRAWS = 10  # sets of as many others


@dataclass(frozen=True)
class Faith:
    """Means over people, with 95 % bootstrap intervals over people."""

    people: int
    deletion: float  # how much further the score falls without the named causes than without as many drawn ones
    deletion_interval: tuple[float, float]
    sufficiency: float  # how much higher it is with the named ones alone than with as many drawn ones alone
    sufficiency_interval: tuple[float, float]


def trial(
    said: np.ndarray, rescored: Callable[[np.ndarray], np.ndarray], rng: np.random.Generator, *, named: int = NAMED
) -> tuple[float, float] | None:
    """Return for one item of one person the gains of deletion and of sufficiency over drawn causes.

    `said` (P,) is how strongly each cause is told to speak, `rescored` the score without those that are True, bool
    (N, P) → (N,). None where there are no others to be drawn.
    """
    p = len(said)
    if p <= named:
        return None
    best = np.zeros(p, bool)
    best[np.argsort(-said, kind="stable")[:named]] = True
    drawn = np.zeros((DRAWS, p), bool)
    for row in drawn:
        row[rng.choice(p, named, replace=False)] = True
    scores = rescored(np.concatenate([best[None], drawn, ~best[None], ~drawn]))
    without, without_drawn = scores[0], scores[1 : DRAWS + 1]
    alone, alone_drawn = scores[DRAWS + 1], scores[DRAWS + 2 :]
    return float(without_drawn.mean() - without), float(alone - alone_drawn.mean())


def faith(trials: list[tuple[float, float]], rng: np.random.Generator) -> Faith:
    """Return the means of what `trial` found, one of each person."""
    gains = np.array(trials)
    deletion, sufficiency = (interval(gains[:, one], rng) for one in (0, 1))
    return Faith(len(gains), float(gains[:, 0].mean()), deletion, float(gains[:, 1].mean()), sufficiency)


def agreement(one: list[np.ndarray], other: list[np.ndarray]) -> float:
    """Return the mean rank correlation of the causes that two seeds of a method find, over the same items."""
    from scipy.stats import spearmanr

    found = [spearmanr(a, b).statistic for a, b in zip(one, other, strict=True) if np.ptp(a) > 0 and np.ptp(b) > 0]
    return float(np.mean(found))
