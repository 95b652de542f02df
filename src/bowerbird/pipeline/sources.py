"""Sources: where candidates come from. Each gives item rows, best first, of those that are allowed; all are merged.

The model and what is like past items come from the ladder, boards from counts of events, content from what items are.

Shapes: I items, K of them known to the model (the first rows), E events, n candidates of one source.
"""

from collections.abc import Callable, Sequence
from copy import copy
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from bowerbird.core import ScoreError
from bowerbird.features import Context, Ragged, VectorRetriever
from bowerbird.pipeline.answers import Index
from bowerbird.pipeline.ladder import Ladder
from bowerbird.retrieval import top_k

FUSION = 60  # the k of reciprocal rank fusion: how far below the first place the second may fall
RECENT = 5  # past items that candidates are to be like: the wish of the moment, not the taste of years
HOUR_S = 3_600
KINDRED, MOST_KEPT = 64, 100_000  # nearest items that are kept of an item, and of how many: 50 MB

Draw = Callable[[], torch.Generator]


@dataclass(frozen=True)
class Found:
    """What one source gave, best first."""

    name: str
    items: np.ndarray  # int64 (n,)
    scores: np.ndarray  # float32 (n,), in a scale of its own
    weight: float = 1.0


def best(scores: Tensor, allowed: np.ndarray, n: int, draw: Draw) -> tuple[np.ndarray, np.ndarray]:
    """Return the n best allowed items of the first rows, and their scores (1, K), which are overwritten.

    Equal ones come in random order. Raises `ScoreError` when a score is not a number.
    """
    mask = torch.from_numpy(allowed[: scores.shape[1]]).to(scores.device)
    values, items = top_k(scores.masked_fill_(~mask, -torch.inf), n, draw)
    found = items[0] >= 0
    return items[0][found].cpu().numpy(), values[0][found].cpu().numpy()


def of_board(board: np.ndarray, allowed: np.ndarray, n: int) -> np.ndarray:
    """Return the first n allowed items of a board."""
    head = board[: 4 * n]  # usually enough, and never the whole catalogue
    head = head[allowed[head]]
    found: np.ndarray = head[:n] if len(head) >= n else board[allowed[board]][:n]
    return found


def place_scores(n: int) -> np.ndarray:
    """Return the scores of n places of a list that has none of its own, float32 (n,): those of the fusion."""
    scores: np.ndarray = (1 / (FUSION + 1 + np.arange(n))).astype(np.float32)
    return scores


class Scorer:
    """What the ladder finds for one request, and what is like the last few items that somebody chose.

    Where the first rung is a dot product, likeness is the cosine of item vectors, and an index may search both kinds of
    vectors; pipelines of one ladder share one scorer. Its copy of the vectors, scaled to length 1, costs K * D numbers.
    """

    def __init__(self, ladder: Ladder, indexed: Callable[[Tensor, Tensor], Index | None] | None = None) -> None:
        """`indexed` makes an index of vectors (K, D), of those that a mask, bool (K,), says may be found."""
        self.ladder = ladder
        first = ladder.rungs[0]
        self.first = first if isinstance(first, VectorRetriever) else None
        self.unit: Tensor | None = None
        self._hidden: Tensor | None = None  # bool (K,): items that nothing is known of
        self.taste: Index | None = None
        self.kinship: Index | None = None
        self._kept: dict[int, tuple[np.ndarray, np.ndarray]] = {}  # the nearest of single items, oldest first
        if self.first is not None:
            vectors = self.first.item_vectors().detach()
            shaped = getattr(first, "shaped_item", torch.ones(len(vectors), dtype=torch.bool))
            self.unit = functional.normalize(vectors, dim=1)
            self._vectors = vectors
            self._hidden = None if bool(shaped.all()) else ~shaped
            self._n_indexed = len(vectors)
            if indexed is not None:
                self.taste, self.kinship = indexed(vectors, shaped), indexed(self.unit, shaped)

    def over(self, ladder: Ladder) -> "Scorer":
        """Return this scorer, its indexes too, for a ladder with the same first rung."""
        other = copy(self)
        other.ladder = ladder
        return other

    def beyond(self, newer: Tensor) -> "Scorer":
        """Return this scorer for items newer than the model too, whose vectors (n, D) follow those of its own.

        A row of NaN is an item that nothing is known of.
        """
        other, own = copy(self), self._n_indexed
        mine = newer.new_zeros(own, dtype=torch.bool) if self._hidden is None else self._hidden[:own]
        hidden = torch.cat([mine, newer.isnan().any(dim=1)])
        newer = newer.nan_to_num(0.0)
        other._vectors = torch.cat([self._vectors[:own], newer])
        other.unit = torch.cat([self._units[:own], functional.normalize(newer, dim=1)])
        other._hidden = hidden if bool(hidden.any()) else None
        other._kept = {}
        return other

    @property
    def reach(self) -> int:
        """How many items it knows: those of the model, and those that `beyond` brought."""
        return 0 if self.unit is None else len(self.unit)

    def knows(self, rows: np.ndarray, n_known: int) -> np.ndarray:
        """Return of which item rows something is known, bool (n,), where the model has the first n_known."""
        known = np.ones(max(n_known, self.reach), bool)
        if self._hidden is not None:
            known = ~self._hidden.cpu().numpy()
        found: np.ndarray = (rows < len(known)) & known[np.minimum(rows, len(known) - 1)]
        return found

    def scores(self, context: Context) -> tuple[Tensor, int]:
        """Return scores (1, K), the caller's to overwrite, and the rung that gave them, −1 for none."""
        if self.first is None or not self._direct(context):
            scores, rung = self.ladder.scores(context)
            return scores, int(rung)
        return self._masked(torch.mv(self._vectors, self.first.query(context)[0])), 0

    def likeness(self, context: Context) -> Tensor | None:
        """Return how like the seeds, or else the last few chosen items, all are (1, K); None where nobody can tell."""
        items = _recent(context)
        if not len(items):
            return None
        if self.first is None:
            seeds = Ragged(items.new_tensor([0, len(items)]), items)
            nobody = Context.nobody().to(items.device)
            scores, rung = self.ladder.scores(Context(nobody.user, nobody.history, seeds))
            return scores if int(rung) >= 0 else None
        return self._masked(torch.mv(self._units, self._mean(items)))

    def near(self, context: Context, n: int, allowed: np.ndarray) -> tuple[np.ndarray, np.ndarray] | None:
        """Return what the index takes for the n best allowed items and their scores; None where it cannot help."""
        if self.taste is None or self.first is None or not self._direct(context):
            return None
        return self._searched(self.taste, self.first.query(context), self._vectors, n, allowed)

    def kin(self, context: Context, n: int, allowed: np.ndarray) -> tuple[np.ndarray, np.ndarray] | None:
        """Return what the index takes for the n allowed items most like the seeds, or else the last few chosen."""
        if self.kinship is None or not len(items := _recent(context)):
            return None
        return self._searched(self.kinship, self._mean(items)[None], self._units, n, allowed)

    def _searched(
        self, index: Index, query: Tensor, vectors: Tensor, n: int, allowed: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return what an index finds for a query (1, D), best first, and what is newer than the index, as exactly."""
        own = self._n_indexed
        found, values = _searched(index, query, n, allowed[:own])
        if len(vectors) == own:
            return found, values
        newer = (vectors[own:] @ query[0]).cpu()
        newer[~torch.from_numpy(allowed[own : len(vectors)])] = -torch.inf
        if self._hidden is not None:
            newer[self._hidden[own:].cpu()] = -torch.inf
        best_values, rows = newer.topk(min(n, len(newer)))
        there = best_values > -torch.inf
        found = np.concatenate([found, own + rows[there].numpy()])
        values = np.concatenate([values, best_values[there].numpy()])
        order = np.argsort(-values, kind="stable")[:n]
        return found[order], values[order]

    def like(self, rows: np.ndarray, n: int, allowed: np.ndarray, draw: Draw) -> tuple[np.ndarray, np.ndarray] | None:
        """Return the n allowed items most like these, best first, and how like; None where nobody can tell."""
        seeds = Context.of_seeds([rows])
        if self.unit is not None and len(rows) == 1:
            near, values = self._kindred(int(rows[0]), seeds, draw)
            free = allowed[near]
            if np.count_nonzero(free) >= n:
                return near[free][:n], values[free][:n]
        found = self.kin(seeds, n, allowed)
        if found is not None and len(found[0]) == n:
            return found
        scores = self.likeness(seeds)
        return None if scores is None else best(scores, allowed, n, draw)

    def _kindred(self, row: int, seeds: Context, draw: Draw) -> tuple[np.ndarray, np.ndarray]:
        """Return the nearest items of one, the same for everybody, which are kept for the next who asks."""
        kept = self._kept.get(row)
        if kept is None:
            others = np.ones(len(self._units), bool)
            others[row] = False
            found = self.kin(seeds, KINDRED, others)
            if found is None:
                scores = self.likeness(seeds)
                assert scores is not None
                found = best(scores, others, KINDRED, draw)
            kept = found[0].astype(np.int32), found[1]
            if len(self._kept) >= MOST_KEPT:
                self._kept.pop(next(iter(self._kept)), None)
            self._kept[row] = kept
        return kept

    def _direct(self, context: Context) -> bool:
        """Return whether the first rung answers with a vector of the request."""
        return context.seeds is None and self.first is not None and bool(self.first.can(context))

    @property
    def _units(self) -> Tensor:
        assert self.unit is not None
        return self.unit

    def _mean(self, items: Tensor) -> Tensor:
        """Return the direction between items (D,)."""
        return functional.normalize(self._units.index_select(0, items).sum(dim=0), dim=0)

    def _masked(self, scores: Tensor) -> Tensor:
        """Return scores (K,) as (1, K), without those of items that nothing is known of."""
        return (scores if self._hidden is None else scores.masked_fill_(self._hidden, -torch.inf))[None]


def _recent(context: Context) -> Tensor:
    """Return the seeds, or else the last few chosen items, int64 (n,)."""
    _, items = context.asked.positive
    return items if context.seeds is not None else items[-RECENT:]


def _searched(index: Index, query: Tensor, n: int, allowed: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the rows and the scores that an index finds for a query (1, D), best first."""
    scores, rows = index.search(query, n, torch.from_numpy(allowed))
    values, found = scores[0].numpy(), rows[0].numpy()
    there = found >= 0
    values, found = values[there], found[there]
    if np.isnan(values).any():
        raise ScoreError("a score of the index is not a number. Train the model again.")
    return found, values


def fuse(found: Sequence[Found], draw: Draw) -> tuple[np.ndarray, np.ndarray]:
    """Return the items of several sources in one order, and their scores; a single source keeps its own.

    Weighted reciprocal rank fusion: an item is worth Σ weight / (60 + place) over the sources that found it (Cormack,
    Clarke and Büttcher, SIGIR 2009), since scores of different sources have no common scale.
    """
    found = [one for one in found if len(one.items)]
    if not found:
        return np.zeros(0, np.int64), np.zeros(0, np.float32)
    if len(found) == 1:
        return found[0].items, found[0].scores
    places = np.concatenate([one.weight * place_scores(len(one.items)) for one in found])
    items, where = np.unique(np.concatenate([one.items for one in found]), return_inverse=True)
    sums = np.bincount(where, places).astype(np.float32)
    order = np.argsort(-sums, kind="stable")
    falling = sums[order]
    if (falling[1:] == falling[:-1]).any():  # equal ones come in random order
        order = order[np.lexsort([torch.rand(len(order), generator=draw()).numpy(), -falling])]
    return items[order], sums[order]
