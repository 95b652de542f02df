"""Sources: where candidates come from. Each gives item rows, best first, of those that are allowed; all are merged.

The model and what is like past items come from the ladder, boards from counts of events, content from what items are.

Shapes: I items, K of them known to the model (the first rows), E events, n candidates of one source.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from bowerbird.features import Context, Ragged
from bowerbird.nn.vectors import DotProduct
from bowerbird.pipeline.ladder import Ladder
from bowerbird.retrieval import top_k

FUSION = 60  # the k of reciprocal rank fusion: how far below the first place the second may fall
TINY = 1e-12  # length of a vector below which it has no direction
RECENT = 5  # past items that candidates are to be like: the wish of the moment, not the taste of years
HOUR_S = 3_600

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
    """Scores of all known items for one request, by the ladder, and how like the last few chosen items they are.

    Where the first rung is a dot product, a copy of the item vectors is kept with one component of all after the other:
    a product with a single query takes a third of the time then. It costs K * D numbers; pipelines of one ladder share
    one.
    """

    def __init__(self, ladder: Ladder) -> None:
        self.ladder = ladder
        first = ladder.rungs[0]
        self.first = first if isinstance(first, DotProduct) else None
        if self.first is not None:
            self.across = self.first.item_vectors().detach().T.contiguous()  # (D, K)
            self.length = self.across.norm(dim=0).clamp_(min=TINY)  # (K,)
            shaped = self.first.shaped_item
            self.unshaped = None if bool(shaped.all()) else ~shaped  # which items may not be scored

    def scores(self, context: Context) -> tuple[Tensor, int]:
        """Return scores (1, K), the caller's to overwrite, and the rung that gave them, −1 for none."""
        if self.first is None or context.seeds is not None or not bool(self.first.can(context)):
            scores, rung = self.ladder.scores(context)
            return scores, int(rung)
        return self._masked(self.first.query(context) @ self.across), 0

    def likeness(self, context: Context) -> Tensor | None:
        """Return how like the seeds, or else the last few chosen items, all are (1, K); None where nobody can tell."""
        _, items = context.asked.positive
        if context.seeds is None:
            items = items[-RECENT:]
        if not len(items):
            return None
        if self.first is None:
            seeds = Ragged(items.new_tensor([0, len(items)]), items)
            nobody = Context.nobody().to(items.device)
            scores, rung = self.ladder.scores(Context(nobody.user, nobody.history, seeds))
            return scores if int(rung) >= 0 else None
        query = functional.normalize((self.across[:, items] / self.length[items]).sum(dim=1), dim=0)
        return self._masked((query @ self.across).div_(self.length))[None]

    def _masked(self, scores: Tensor) -> Tensor:
        return scores if self.unshaped is None else scores.masked_fill_(self.unshaped, -torch.inf)


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
    sums = torch.from_numpy(np.bincount(where, places).astype(np.float32))[None]
    values, order = top_k(sums, len(items), draw)
    return items[order[0].numpy()], values[0].numpy()
