"""LightGCN: user and item vectors averaged over a few hops of their graph.

Paper:   He et al., SIGIR 2020, arXiv:2002.02126, equations 3-8.
Differs: the loss is a choice; the paper's is "bpr" with 1 negative, cosine off and temperature 1. Where the
         loss sees cosines, a part of an item's length is served all the same (`length`). Strangers are served by new
         edges into the graph as it stands, on top of the average user.
Cost:    one pass is O(hops * 2E * D) multiplies; keeps (2 * U + 3 * I) * D numbers.
Shapes:  U users, I items, E observed pairs, B batch rows or requests, N negatives, D embedding size.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from bowerbird.core import register
from bowerbird.data import Interactions
from bowerbird.features import Pairs
from bowerbird.nn.graph import SEARCH, Graph, GraphConfig, GraphModel, mean, sent, smoothed, travel
from bowerbird.nn.losses import l2, pair_loss, rows


@dataclass(frozen=True, kw_only=True)
class LightGCNConfig(GraphConfig):
    """How far vectors travel, and which loss shapes them."""

    hops: int = 2  # graph layers; 0 leaves plain matrix factorisation
    temperature: float = 0.1  # scores are divided by it in the loss, but for cosine contrastive
    decay: float = 0.95  # what the learning rate is multiplied by after every epoch


@register(
    "lightgcn",
    config=LightGCNConfig,
    batches=Pairs,
    tags=("graph", "retriever", "trained", "cold-user"),
    search=SEARCH,
)
class LightGCN(GraphModel):
    """Scores a user-item pair by the dot product of their propagated vectors."""

    graph: Graph

    def prepare(self, train: Interactions) -> None:
        """Hold the training graph, and remember whom it reaches."""
        self.note_shaped(train)
        self.graph = Graph.of(train).to(self.user.device)

    def forward(self) -> tuple[Tensor, Tensor]:
        """Return every user vector (U, D) and every item vector (I, D)."""
        return smoothed(self.graph, self.user, self.item, hops=self.config.hops, first=self.first)

    def loss(self, batch: Pairs) -> Tensor:
        """Return the loss of each positive (B,)."""
        users, items = self()
        loss = pair_loss(self.config, rows(users, batch.user), items, batch)
        return loss + l2(self.config, self.user, self.item, batch)

    @torch.no_grad()
    def freeze(self) -> None:
        """Keep the propagated vectors, and what each item sends along a new edge.

        Equation 8 without the stranger's own vector leaves the sum over layers 1 to K of what arrives; the last
        layer of the items is not sent on.
        """
        users, items = travel([self.graph] * self.config.hops, self.user, self.item)
        sending = sent(self.graph, items[: max(self.config.hops, 1)], len(items) - self.first)
        self.keep(mean(users[self.first :]), mean(items[self.first :]), sending)
