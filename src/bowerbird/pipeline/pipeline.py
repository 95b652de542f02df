"""From requests to slates: ladder → filters → ranking → policy → slate, with a trace of every step.

Shapes: B requests, I items, C candidates, k places.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from bowerbird.core import RealWorld, ScoreError, World, derive, torch_stream
from bowerbird.features import Context
from bowerbird.pipeline.ladder import Ladder
from bowerbird.pipeline.policy import Greedy, Policy
from bowerbird.retrieval import block_size, hide_seen, top_k


@dataclass(frozen=True)
class Step:
    """One stage of one run: how many candidates left it, over all requests, and how long it took."""

    stage: str
    candidates: int
    ms: float


@dataclass(frozen=True)
class Slate:
    """What B requests are answered with."""

    items: Tensor  # int64 (B, k), best first, −1 for empty places
    scores: Tensor  # float32 (B, k), minus infinity for empty places
    propensity: Tensor  # float32 (B, k)
    rung: Tensor  # int64 (B,): row of the ladder's names, −1 where nothing could answer
    trace: tuple[Step, ...]


Rank = Callable[[Context, Tensor], Tensor]  # a context and candidates (B, C), −1 for empty places → scores (B, C)


class Pipeline:
    """The ladder, the filter of what was seen, a ranker where there is one, a policy."""

    def __init__(
        self,
        ladder: Ladder,
        n_items: int,
        hides: Sequence[bool],
        *,
        rank: Rank | None = None,
        candidates: int = 0,
        policy: Policy | None = None,
        world: World | None = None,
    ) -> None:
        self.rank, self.candidates = rank, candidates  # who orders the ladder's best, and how many of them
        self.ladder, self.n_items = ladder, n_items
        self.hides = None if all(hides) else torch.tensor(list(hides), dtype=torch.bool)  # (event types,); None: all
        self.policy: Policy = policy or Greedy()
        self.world: World = world or RealWorld()

    def run(self, context: Context, k: int, *, allowed: Tensor | None = None, seed: int = 0) -> Slate:
        """Return a slate of exactly k where k items are left; `allowed`, bool (I,), limits the candidates.

        Seeds are hidden like the history: what is like an item is never that item. Any number of requests may be
        asked at once; they are scored in blocks.
        """
        size = block_size(self.n_items)
        if len(context) <= size:
            return self._block(context, k, allowed, derive(seed, 0))
        rows = torch.split(torch.arange(len(context), device=context.user.device), size)
        blocks = [self._block(context.take(part), k, allowed, derive(seed, n)) for n, part in enumerate(rows)]
        return Slate(
            torch.cat([block.items for block in blocks]),
            torch.cat([block.scores for block in blocks]),
            torch.cat([block.propensity for block in blocks]),
            torch.cat([block.rung for block in blocks]),
            tuple(
                Step(one[0].stage, sum(step.candidates for step in one), sum(step.ms for step in one))
                for one in zip(*(block.trace for block in blocks), strict=True)
            ),
        )

    def scores(self, context: Context, seed: int = 0) -> Tensor:
        """Return scores of all items (B, I), the caller's to overwrite; minus infinity for what is no candidate."""
        scores = self.ladder.scores(context)[0]
        if self.rank is None or context.seeds is not None:
            return scores
        hide_seen(scores, context.history, self.hides)
        values, items = self._ranked(context, scores, self.candidates, seed)
        whole = torch.full_like(scores, -torch.inf)
        row, place = (items >= 0).nonzero(as_tuple=True)
        whole[row, items[row, place]] = values[row, place]
        return whole

    def _ranked(self, context: Context, scores: Tensor, k: int, seed: int) -> tuple[Tensor, Tensor]:
        """Return the k best scores and items (B, k): the ladder's, or those of its candidates in the ranker's eyes."""
        draw = partial(torch_stream, seed, "ties", device=scores.device.type)
        if self.rank is None or context.seeds is not None:
            return top_k(scores, k, draw)
        _, items = top_k(scores, max(k, self.candidates), draw)
        values = self.rank(context, items)
        if bool(values.isnan().any()):
            wrong = f"{int(values.isnan().sum()):,} of {values.numel():,} scores"
            raise ScoreError(f"{wrong} of the ranker are not a number. Train the model again.")
        values, order = values.sort(dim=1, descending=True, stable=True)  # equal ones stay in the ladder's order
        return values[:, :k], items.gather(1, order)[:, :k]

    @torch.inference_mode()
    def _block(self, context: Context, k: int, allowed: Tensor | None, seed: int) -> Slate:
        clock = self.world.monotonic
        trace: list[Step] = []
        started = clock()

        def step(stage: str, candidates: int) -> None:
            nonlocal started
            now = clock()
            trace.append(Step(stage, candidates, 1000 * (now - started)))
            started = now

        scores, rung = self.ladder.scores(context)
        step("sources", scores.numel())
        for past in (context.history, context.seeds):
            if past is not None:
                hide_seen(scores, past, self.hides)
        if allowed is not None:
            scores[:, ~allowed.to(scores.device)] = -torch.inf
        step("filter", int((scores > -torch.inf).sum()))
        values, candidates = self._ranked(context, scores, max(k, self.policy.depth(k)), seed)
        if self.rank is not None:
            step("ranking", int((candidates >= 0).sum()))
        items, propensity = self.policy.choose(context, candidates, values, k, seed)
        if not torch.equal(items, candidates):  # a policy may choose, reorder, and leave places empty
            place = (items[:, :, None] == candidates[:, None, :]).int().argmax(dim=2)  # of each item among candidates
            values = values.gather(1, place).masked_fill(items < 0, -torch.inf)
        step("slate", int((items >= 0).sum()))
        return Slate(items, values, propensity, rung, tuple(trace))
