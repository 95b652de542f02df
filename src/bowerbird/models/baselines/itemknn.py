"""ItemKNN: items are alike when the same people chose them; a person gets what is like their past.

Paper:  Deshpande and Karypis, ACM TOIS 2004; shrinkage, and neighbours of the scored item, as in Ferrari Dacrema et
        al., RecSys 2019, section 3.2. The first suits long tests, the second the foretelling of one next item.
Cost:   one sparse product of the interactions with themselves; keeps I * K similarities. B requests cost P * K sums
        by neighbours of what was chosen, B * I * K by neighbours of what is scored.
Shapes: B requests, I items, K neighbours, n listed items, P positive history entries.
"""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from bowerbird.core import ModelConfig, check, closest, register
from bowerbird.data import Interactions, Schema
from bowerbird.features import Context
from bowerbird.nn.graph import pair_matrix
from bowerbird.nn.vectors import grown, listed
from bowerbird.retrieval import block_size

NEAREST_TO = ("chosen", "scored")


@dataclass(frozen=True, kw_only=True)
class ItemKNNConfig(ModelConfig):
    """What counts as alike."""

    neighbours: int = 100  # similar items kept for each item, K
    shrink: float = 10.0  # people added to the denominator, so that few common people count less
    nearest_to: str = "chosen"  # whose neighbours count: each "chosen" item's, or each "scored" one's

    def __post_init__(self) -> None:
        check(self.neighbours >= 1, "neighbours", self.neighbours, "must be 1 or more", try_instead=100)
        check(self.shrink >= 0, "shrink", self.shrink, "must be 0 or more", try_instead=10.0)
        known, meant = self.nearest_to in NEAREST_TO, closest(self.nearest_to, NEAREST_TO) or "chosen"
        check(known, "nearest_to", self.nearest_to, f"must be one of {', '.join(NEAREST_TO)}", try_instead=meant)


@register(
    "itemknn",
    config=ItemKNNConfig,
    tags=("baseline", "retriever", "closed-form", "cold-user"),
    search={"neighbours": (10, 1_000), "shrink": (0.1, 300.0), "nearest_to": list(NEAREST_TO)},
)
class ItemKNN(nn.Module):
    """Scores an item by the summed similarity to the items of the history."""

    neighbour: Tensor
    similarity: Tensor
    item_rows = ("neighbour",)  # weights that are rows of items

    def __init__(self, config: ItemKNNConfig, schema: Schema) -> None:
        super().__init__()
        self.config = config
        kept = (schema.n_items, min(config.neighbours, schema.n_items))
        self.register_buffer("neighbour", torch.zeros(kept, dtype=torch.int32))  # (I, K): rows of items
        self.register_buffer("similarity", torch.zeros(kept))  # (I, K): 0 where there is no neighbour

    def fit(self, train: Interactions, rng: np.random.Generator) -> None:
        """Compute cosine with shrinkage, block by block, and keep the K best of each item."""
        matrix = pair_matrix(train).T.tocsr()
        length = np.sqrt(np.asarray(matrix.sum(axis=1)).ravel()).astype(np.float32)
        kept = self.neighbour.shape[1]
        size = block_size(train.n_items)
        for start in range(0, train.n_items, size):
            stop = min(start + size, train.n_items)
            common = torch.from_numpy((matrix[start:stop] @ matrix.T).toarray())  # people of both (b, I)
            norm = torch.from_numpy(np.outer(length[start:stop], length) + self.config.shrink)
            alike = common / norm.clamp(min=1e-9)
            alike[torch.arange(stop - start), torch.arange(start, stop)] = 0.0
            value, column = alike.topk(kept, dim=1)
            self.neighbour[start:stop], self.similarity[start:stop] = column.int(), value

    def can(self, context: Context) -> Tensor:
        """Return which requests have a history or seeds that speak for something, bool (B,)."""
        return context.asked.speaks

    def scores(self, context: Context, items: Tensor | None = None) -> Tensor:
        """Return summed similarities to the history or seeds (B, I) or (B, n)."""
        request, item = context.asked.positive
        n_items = len(self.neighbour)
        if self.config.nearest_to == "scored":
            chosen = torch.zeros(n_items, len(context), device=self.similarity.device)
            chosen[item, request] = 1.0  # a column for each request, so that all of them are summed at once
            found = functional.embedding_bag(self.neighbour, chosen, per_sample_weights=self.similarity, mode="sum")
            return listed(found.T, items)
        flat = torch.zeros(len(context) * n_items, device=self.similarity.device)
        place = request[:, None] * n_items + self.neighbour[item]  # (P, K)
        flat.index_add_(0, place.flatten(), self.similarity[item].flatten())
        return listed(flat.view(-1, n_items), items)

    def grow(self, n_users: int, n_items: int) -> None:
        """New items have no neighbours yet."""
        kept = min(self.config.neighbours, n_items)
        self.neighbour = grown(self.neighbour, n_items, kept)
        self.similarity = grown(self.similarity, n_items, kept)
