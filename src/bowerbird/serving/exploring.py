"""Policies that explore, one for each scenario that asks for one, and taught by the server's own log.

What came of a slate is learned once, when it was shown `settle_s` seconds ago: later events teach nothing. A new
version of the model has other rows and vectors, and is taught again from the whole log.

Shapes: B requests, C candidates, I items, D features.
"""

from dataclasses import dataclass
from functools import partial
from math import inf

import polars as pl
import torch
from torch import Tensor

from bowerbird.bandits.beliefs import Belief, Feedback, Linear, Means, NeuralLinear, Scores, examination
from bowerbird.bandits.policies import RULE_OF, Explorer
from bowerbird.core import World
from bowerbird.features import Context
from bowerbird.pipeline.policy import Greedy, Policy
from bowerbird.pipeline.scenario import MOST, Exploration, Scenario
from bowerbird.serving.view import View
from bowerbird.store.events import TableLog
from bowerbird.store.feedback import STEP, feedback, in_parts
from bowerbird.store.log import SLATE

TEACH_S = 60.0  # between two lessons
ASPECTS = 8  # of items' vectors, the first of their principal components
LOOKS = examination(0.5, 100)  # how likely each place is looked at
RANKED = torch.stack([torch.ones(MOST), 1 / (2.0 + torch.arange(MOST)).log2()], dim=1)  # one, and a discount, by rank


@dataclass
class _Taught:
    """A policy, and how far in the log it was taught."""

    policy: Explorer
    version: str
    aspects: Tensor  # (I, ASPECTS)
    offset: int = 0  # of the first slate that had not settled
    until: int = 0  # the last moment whose slates it knows


class Exploring:
    """The policies of scenarios."""

    def __init__(self, log: TableLog, world: World) -> None:
        self.log, self.world = log, world
        self._taught: dict[tuple[str, Exploration], _Taught] = {}
        self._next = -inf  # when there is a lesson again

    def policy(self, scenario: Scenario, view: View) -> Explorer | None:
        """Return the policy of a scenario for a view, None where it asks for none; it is taught by `teach`."""
        asked = scenario.exploration
        if asked is None:
            return None
        known = self._taught.get((scenario.name, asked))
        if known is None or known.version != view.version:
            aspects, rule = aspects_of(view.scorer.unit), RULE_OF.get(asked.policy, asked.policy)
            made = Explorer(believed(asked, aspects), rule, asked.weight, asked.policy, asked.candidates)
            known = self._taught[scenario.name, asked] = _Taught(made, view.version, aspects)
        return known.policy

    def teach(self, view: View) -> None:
        """Let policies learn what has settled since they were last taught, once in a while, from anybody's slates."""
        if self.world.monotonic() < self._next:
            return
        self._next = self.world.monotonic() + TEACH_S
        for (name, asked), known in list(self._taught.items()):
            if known.version != view.version or asked.policy in ("softmax", "epsilon-greedy"):
                continue
            end, before = self.log.end, self.world.now() - asked.settle_s
            parts = in_parts(partial(self._read, known.offset), end - known.offset)
            worth = {kind.name: kind.reward for kind in view.kinds}
            places = feedback(parts, window_s=asked.settle_s, worth=worth).places
            mine = places.filter(pl.col("scenario") == name, ~pl.col("pinned"))
            settled = mine.filter(pl.col("time").is_between(known.until, before, closed="right"))
            known.offset, known.until = self._first_open(known.offset, end, before), before
            if len(settled):
                known.policy.learn(self._told(view, known, settled))

    def _read(self, start: int, low: int, high: int) -> pl.DataFrame:
        return self.log.read(start + low, start + high)

    def _first_open(self, start: int, end: int, before: int) -> int:
        """Return the offset of the first slate that was shown after a moment."""
        while start < end:
            part = self.log.read(start, min(start + STEP, end))
            later = part.filter(pl.col("time") > before, pl.col("event") == SLATE)
            if len(later):
                return int(later["offset"][0])
            start = min(start + STEP, end)
        return end

    def _told(self, view: View, known: _Taught, places: pl.DataFrame) -> Feedback:
        """Return places of a log as a policy learns from them."""
        ids = pl.col("item_id").cast(pl.String)
        drawn = (
            places.filter(pl.col("candidates").list.len() > 0)
            .select("request_id", "candidates", rank=pl.int_ranges(pl.col("candidates").list.len()))
            .explode("candidates", "rank")
            .select("request_id", "rank", key=pl.col("candidates").cast(pl.String))
        )
        found = places.with_columns(key=ids).join(drawn, ["request_id", "key"], "left", maintain_order="left")
        rows = view.rows(found["item_id"].to_list())
        good = torch.from_numpy((rows >= 0) & found["rank"].is_not_null().to_numpy())
        item = torch.from_numpy(rows)
        rank = torch.tensor(found["rank"].fill_null(0).to_numpy(), dtype=torch.int64)
        reward = torch.tensor(found["reward"].cast(pl.Float32).to_numpy()).clamp(0, 1)
        position = torch.tensor(found["position"].to_numpy(), dtype=torch.int64)
        features = features_of(known.aspects, item, rank)
        return Feedback(item[good], reward[good], position[good], features[good])


def trying(chance: float) -> Policy:
    """Return the policy of one request that says itself how much is tried: epsilon-greedy by the ranker's scores."""
    return Explorer(Scores(), "epsilon-greedy", chance) if chance else Greedy()


def believed(asked: Exploration, aspects: Tensor) -> Belief:
    """Return what a policy that was just made believes."""
    if asked.policy in ("softmax", "epsilon-greedy"):
        return Scores()
    if asked.policy == "ucb":
        return Means(LOOKS)

    def describe(context: Context, candidates: Tensor, scores: Tensor) -> Tensor:
        return features_of(aspects, candidates, torch.arange(candidates.shape[1]).expand_as(candidates))

    dim = aspects.shape[1] + 2
    if asked.policy == "neural-linear":
        return NeuralLinear(describe, dim, examined=LOOKS)
    return Linear(describe, dim, examined=LOOKS)


def features_of(aspects: Tensor, items: Tensor, rank: Tensor) -> Tensor:
    """Return what describes items at their ranks among the candidates, from 0: one, 1 / log2(2 + rank), aspects."""
    first = RANKED[rank]
    if not len(aspects):
        return first
    known = (items >= 0) & (items < len(aspects))
    return torch.cat([first, aspects[torch.where(known, items, 0)] * known[..., None]], dim=-1)


def aspects_of(unit: Tensor | None) -> Tensor:
    """Return the principal components of items' vectors, of unit variance (I, n); nothing where there are none."""
    if unit is None or len(unit) < 2:
        return torch.zeros(0, 0)
    centred = unit.float().cpu() - unit.float().cpu().mean(dim=0)
    values, axes = torch.linalg.eigh(centred.T @ centred / len(centred))
    good = values > 1e-9 * values.max()
    best = axes[:, good][:, -ASPECTS:] / values[good][-ASPECTS:].sqrt()
    found: Tensor = centred @ (best * best.sum(dim=0).sign())  # of two axes, opposite and as good, always the same
    return found
