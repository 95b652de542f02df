"""A membership attack in the box: can somebody who sees a model tell who was in its training data?

The attacker sees one number for each unit, such as its loss under the model, and says "member" below a threshold. Its
AUC over all thresholds is the chance that a member has the lower loss of the two when a member and an outsider are
drawn: 0.5 is blind, 1 certain. It is a lower bound on what attackers can do; a promise (ε, δ) is an upper bound:
whatever an attacker sees, its AUC stays below `most(ε, δ)`.

Papers: Yeom et al., CSF 2018, arXiv:1709.01604 (loss thresholds); Carlini et al., S&P 2022, arXiv:2112.03570 (rates at
        few false alarms); Kairouz, Oh and Viswanath, ICML 2015, arXiv:1311.0776 (the region that a promise leaves).
Shapes: N members, M outsiders.
"""

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch

from bowerbird.core import DataError, check, numpy_stream
from bowerbird.data import Interactions
from bowerbird.evaluation.binary import auc
from bowerbird.features import Context
from bowerbird.recommender import Recommender

DRAWS = 1_000  # of the bootstrap
BLOCK = 512  # people scored at once
FLOOR = -50.0  # log of a chance below which it does not matter by how much
FALSE_ALARMS = 0.01  # at which the share of members found is told


@dataclass(frozen=True)
class Attack:
    """How well members were told from outsiders."""

    auc: float
    low: float  # of its 95 % interval
    high: float
    found: float  # share of members found at 1 % false alarms
    n_members: int
    n_outsiders: int

    def __str__(self) -> str:
        people = f"{self.n_members:,} members, {self.n_outsiders:,} outsiders"
        return f"AUC {self.auc:.3f} [{self.low:.3f}, {self.high:.3f}], {people}"

    def to_dict(self) -> dict[str, Any]:
        """Return what JSON keeps."""
        return asdict(self)


def attack(members: np.ndarray, outsiders: np.ndarray, *, seed: int = 0) -> Attack:
    """Return the attack by a threshold on losses (N,) and (M,): members are those with the lower ones.

    The interval resamples members and outsiders. Raises `DataError` where there is nobody on a side, or a NaN.
    """
    members, outsiders = np.asarray(members, np.float64), np.asarray(outsiders, np.float64)
    for name, losses in (("members", members), ("outsiders", outsiders)):
        if not len(losses) or np.isnan(losses).any():
            raise DataError(f"the losses of {name} are {'missing' if not len(losses) else 'not all numbers'}.")
    rng = numpy_stream(seed, "membership")
    drawn = [_auc(rng.choice(members, len(members)), rng.choice(outsiders, len(outsiders))) for _ in range(DRAWS)]
    low, high = np.quantile(drawn, [0.025, 0.975])
    threshold = np.quantile(outsiders, FALSE_ALARMS, method="lower")
    found = float((members < threshold).mean())
    return Attack(_auc(members, outsiders), float(low), float(high), found, len(members), len(outsiders))


def most(epsilon: float, delta: float) -> float:
    """Return the largest AUC that any attack on one unit can have under a promise of ε at δ.

    True alarms are at most min(e^ε f + δ, 1 − e^−ε (1 − δ − f)) at a rate f of false ones; this is the area below.
    """
    check(epsilon >= 0, "epsilon", epsilon, "must be 0 or more", try_instead=1.0)
    false = np.linspace(0, 1, 200_001)
    grown = float(np.exp(min(epsilon, 700.0)))
    true = np.minimum(np.minimum(grown * false + delta, 1 - (1 - delta - false) / grown), 1.0)
    return float(np.trapezoid(true, false))


def person_losses(rec: Recommender, events: Interactions) -> np.ndarray:
    """Return what everybody's own choices cost under a model that is shown them as a history (N,), those with any.

    The cost of a choice is the log of the summed exponentials of all scores less its own, scores being scaled to a
    deviation of 1 for each person. `events` have the items of the model.
    """
    pairs = events.positives
    people, starts = np.unique(pairs.user, return_index=True)
    histories = np.split(pairs.item, starts[1:])
    losses = []
    for first in range(0, len(people), BLOCK):
        some = histories[first : first + BLOCK]
        with torch.inference_mode():
            scores = rec.scores(Context.of_histories(some))
            known = scores.isfinite()
            scores = scores.masked_fill(~known, 0.0)
            scores = (scores / scores.std(dim=1, keepdim=True).clamp(min=1e-12)).masked_fill(~known, -torch.inf)
            log = torch.log_softmax(scores, dim=1)
        losses += [
            float(-row[torch.from_numpy(one)].clamp(min=FLOOR).mean()) for row, one in zip(log, some, strict=True)
        ]
    return np.array(losses)


def _auc(members: np.ndarray, outsiders: np.ndarray) -> float:
    """Return the chance that a member's loss is lower, ties half."""
    return auc(np.arange(len(members) + len(outsiders)) < len(members), -np.concatenate([members, outsiders]))
