"""Policies: how a slate is chosen from what is believed of candidates, and the chance of each choice.

A slate is filled place by place. The propensity of a place is the chance of its item there, given the places before it;
the product over places is that of the slate. At weight 0 every policy is greedy: the best first, with chance 1.

    epsilon-greedy   with chance ε any of those left, else the best
    softmax          in proportion to exp(mean / temperature): Plackett and Luce, drawn by Gumbel noise
    ucb              most mean + α · sd first (Auer et al., 2002; LinUCB: Li et al., WWW 2010)
    thompson         the best of one draw from the belief (Thompson, 1933; Agrawal and Goyal, ICML 2013)

Thompson draws `DRAWS` times and takes one of the draws: the propensity is the share of draws that agree, exactly the
chance given them, and never below 1 / `DRAWS`. What wins more rarely than that has, now and then, no chance at all, so
that estimates for a policy that shows it often are a little low.

Shapes: B requests, C candidates (best first, −1 for empty places), k places.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl
import torch
from torch import Tensor

from bowerbird.bandits.beliefs import Belief, Believed, Feedback
from bowerbird.core import DataError, check, torch_stream

DRAWS = 64
RULES = ("epsilon-greedy", "softmax", "ucb", "thompson")
RULE_OF = {"linucb": "ucb", "neural-linear": "thompson"}  # of policies that are named after what they believe


@dataclass
class Explorer:
    """A policy for the last stage of a pipeline: a belief, a rule, and how much is tried."""

    belief: Belief
    rule: str  # one of `RULES`
    weight: float  # ε, temperature, α, or what standard deviations are multiplied by; 0 tries nothing
    name: str = ""
    candidates: int = 50  # of the best, among which is chosen
    half_life: float = 0.0  # requests after which the weight is half; 0 keeps it

    def __post_init__(self) -> None:
        check(self.rule in RULES, "rule", self.rule, f"must be one of {', '.join(RULES)}", try_instead="thompson")
        check(self.weight >= 0, "weight", self.weight, "must be 0 or more", try_instead=0.1)
        within = self.rule != "epsilon-greedy" or self.weight <= 1
        check(within, "weight", self.weight, "is a chance here, at most 1", try_instead=0.1)
        check(self.candidates >= 1, "candidates", self.candidates, "must be 1 or more", try_instead=50)
        self.name = self.name or self.rule
        self._asked = 0

    @property
    def version(self) -> str:
        """What logs call it: which propensities belong together."""
        return f"{self.name} {self.weight:g}"

    def depth(self, k: int) -> int:
        """Return how many candidates there are to choose k from."""
        return max(k, self.candidates)

    def choose(self, context: Any, candidates: Tensor, scores: Tensor, k: int, seed: int) -> tuple[Tensor, Tensor]:
        """Return the slate and its propensities (B, k), −1 and 0 for empty places."""
        slate, chance, _ = self.explore(context, candidates, scores, k, seed)
        return slate, chance

    @torch.no_grad()
    def explore(
        self, context: Any, candidates: Tensor, scores: Tensor, k: int, seed: int
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Return the same as `choose`, and the chance of each candidate for the first place (B, C)."""
        weight = self._now()
        self._asked += len(candidates)
        believed = self.belief.believe(context, candidates, scores)
        k = min(k, candidates.shape[1])
        place, chance, first = _filled(self.rule, believed, weight, k, torch_stream(seed, "policy", self.name))
        items = candidates.gather(1, place)
        empty = (items < 0) | (chance <= 0)
        return items.masked_fill(empty, -1), chance.masked_fill(empty, 0.0), first

    def _now(self) -> float:
        return self.weight * 0.5 ** (self._asked / self.half_life) if self.half_life else self.weight

    def learn(self, feedback: Feedback) -> None:
        """Learn from what came of places."""
        self.belief.learn(feedback)

    def update(self, log: pl.DataFrame) -> None:
        """Learn from a table with a row for each shown place: `item` (its row), `position`, `reward` (null where it is
        not known yet), and `features` where the belief asks for them.
        """
        self.learn(feedback_of(log))


def feedback_of(log: pl.DataFrame) -> Feedback:
    """Return a table of shown places as tensors; raises `DataError` with the row of what cannot be learned from."""
    for name in ("item", "position", "reward"):
        if name not in log.columns:
            raise DataError(f"the log has no column {name}; it has {', '.join(log.columns)}.")
    reward = log["reward"].cast(pl.Float32).to_numpy()
    wrong = np.isinf(reward) | (log["item"].to_numpy() < 0)
    if wrong.any():
        row = int(np.flatnonzero(wrong)[0])
        raise DataError(
            f"row {row} has item {log['item'][row]} and reward {reward[row]}; both must be numbers, 0 or more."
        )
    features = None
    if "features" in log.columns and log["features"].null_count() == 0:
        features = torch.tensor(
            np.stack(log["features"].to_list()) if len(log) else np.zeros((0, 0)), dtype=torch.float32
        )
    item, position = (torch.tensor(log[name].to_numpy(), dtype=torch.int64) for name in ("item", "position"))
    return Feedback(item, torch.tensor(reward), position, features)


def _filled(
    rule: str, believed: Believed, weight: float, k: int, generator: torch.Generator
) -> tuple[Tensor, Tensor, Tensor]:
    """Return which candidates fill k places, with what chance (B, k), and all chances for the first place (B, C)."""
    mean = believed.mean
    if rule == "ucb" or weight == 0:
        worth = mean + weight * believed.sd
        place = worth.sort(dim=1, descending=True, stable=True).indices[:, :k]
        return place, torch.ones(place.shape), torch.zeros_like(mean).scatter(1, place[:, :1], 1.0)
    if rule == "softmax":
        return *_plackett_luce(mean / weight, k, generator), (mean / weight).softmax(dim=1)
    if rule == "epsilon-greedy":
        there = (mean > -torch.inf).float()
        first = weight * there / there.sum(dim=1, keepdim=True)
        best = torch.full_like(mean[:, :1], 1 - weight)
        first = first.scatter_add(1, mean.argmax(dim=1, keepdim=True), best)
        return *_epsilon(mean, weight, k, generator), first
    draws = _drawn(believed, weight, generator)
    wins = draws.argmax(dim=2).T  # (B, draws)
    first = torch.zeros_like(mean).scatter_add(1, wins, torch.full(wins.shape, 1 / DRAWS))
    return *_thompson(draws, k, generator), first


def _drawn(believed: Believed, weight: float, generator: torch.Generator) -> Tensor:
    """Return draws (draws, B, C), apart from the mean by `weight` times as much."""
    root = None if believed.root is None else weight * believed.root
    return Believed(believed.mean, weight * believed.sd, root).draws(DRAWS, generator)


def _plackett_luce(logits: Tensor, k: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Return k places drawn one after the other in proportion to exp(logits), with their chances."""
    uniform = torch.rand(logits.shape, generator=generator).clamp(min=1e-20)
    order = (logits - (-uniform.log()).log()).sort(dim=1, descending=True).indices
    ordered = logits.gather(1, order)
    left = ordered.flip(1).logcumsumexp(dim=1).flip(1)  # of those that were not taken before a place
    chance = (ordered - left).exp().nan_to_num(nan=0.0)  # nobody is left: empty places only
    return order[:, :k], chance[:, :k]


def _epsilon(mean: Tensor, epsilon: float, k: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Return k places, each the best that is left or, with chance ε, any that is."""
    shape = (k, len(mean))
    tries = (torch.rand(shape, generator=generator) < epsilon).numpy()
    ranks = torch.rand(shape, generator=generator).numpy()
    left, rows = mean.numpy().copy(), np.arange(len(mean))  # of many small steps NumPy's take a third of the time
    n = np.maximum((left > -np.inf).sum(axis=1) - np.arange(k)[:, None], 0)  # that are left at each place
    places, bests = np.zeros((2, *shape), np.int64)
    for one in range(k):
        bests[one] = places[one] = left.argmax(axis=1)
        if tries[one].any():
            nth = (ranks[one] * n[one]).astype(np.int64)  # of those left, counted from 0
            other = ((left > -np.inf).cumsum(axis=1) > nth[:, None]).argmax(axis=1)
            places[one] = np.where(tries[one], other, bests[one])
        left[rows, places[one]] = -np.inf
    chances = (epsilon / np.maximum(n, 1) + (1 - epsilon) * (places == bests)) * (n > 0)
    return torch.from_numpy(places.T.copy()), torch.from_numpy(chances.T.astype(np.float32))


def _thompson(draws: Tensor, k: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Return k places, each the best that is left in one of the draws (draws, B, C)."""
    n, rows = len(draws), np.arange(draws.shape[1])
    taken = torch.randint(n, (k, len(rows)), generator=generator).numpy()
    left = draws.numpy()
    places = np.zeros((k, len(rows)), np.int64)
    chances, worth = np.zeros((2, k, len(rows)), np.float32)
    for one in range(k):
        best = left.argmax(axis=2)  # (draws, B)
        place = best[taken[one], rows]
        places[one] = place
        chances[one] = (best == place).sum(axis=0)
        worth[one] = left[taken[one], rows, place]
        left[:, rows, place] = -np.inf
    chances *= (worth > -np.inf) / n  # nobody is left: the place stays empty
    return torch.from_numpy(places.T.copy()), torch.from_numpy(chances.T.copy())
