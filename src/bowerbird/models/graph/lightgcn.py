"""LightGCN: user and item vectors averaged over a few hops of their graph.

Paper:   He et al., SIGIR 2020, arXiv:2002.02126, equations 3-8.
Differs: the loss is a choice; the paper's is "bpr" with 1 negative, cosine off and temperature 1. Strangers are
         served by new edges into the graph as it stands, on top of the average user.
Cost:    one pass is O(hops * 2E * D) multiplies; keeps (2 * U + 3 * I) * D numbers.
Shapes:  U users, I items, E observed pairs, B batch rows or requests, N negatives, D embedding size.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from bowerbird.core import check, register
from bowerbird.data import Interactions, Schema
from bowerbird.features import Context, Pairs
from bowerbird.nn.graph import Graph, propagate
from bowerbird.nn.losses import PairConfig, l2, pair_loss, rows
from bowerbird.nn.vectors import DotProduct, counts, grown, total


@dataclass(frozen=True, kw_only=True)
class LightGCNConfig(PairConfig):
    """How far vectors travel, and which loss shapes them."""

    hops: int = 3  # graph layers; 0 leaves plain matrix factorisation
    l2: float = 1e-4
    batch_size: int = 4096
    learning_rate: float = 1e-2

    def __post_init__(self) -> None:
        super().__post_init__()
        check(self.hops >= 0, "hops", self.hops, "must be 0 or more", try_instead=3)


@register(
    "lightgcn",
    config=LightGCNConfig,
    batches=Pairs,
    tags=("graph", "retriever", "trained", "cold-user"),
    search={"hops": [1, 2, 3, 4], "learning_rate": (1e-3, 3e-2), "temperature": (0.05, 0.5), "l2": (1e-6, 1e-2)},
)
class LightGCN(DotProduct):
    """Scores a user-item pair by the dot product of their propagated vectors."""

    graph: Graph
    users: Tensor
    items: Tensor
    outgoing: Tensor
    average: Tensor

    def __init__(self, config: LightGCNConfig, schema: Schema) -> None:
        super().__init__(schema)
        self.config = config
        self.user = nn.Parameter(torch.randn(schema.n_users, config.dim) * 0.1)
        self.item = nn.Parameter(torch.randn(schema.n_items, config.dim) * 0.1)
        self.register_buffer("users", torch.zeros(schema.n_users, config.dim))  # propagated
        self.register_buffer("items", torch.zeros(schema.n_items, config.dim))  # and as they meet requests
        self.register_buffer("outgoing", torch.zeros(schema.n_items, config.dim))  # what an item gives a stranger
        self.register_buffer("average", torch.zeros(config.dim))

    def prepare(self, train: Interactions) -> None:
        """Hold the training graph, and remember whom it reaches."""
        self.note_shaped(train)
        self.graph = Graph.of(train).to(self.user.device)

    def _layers(self) -> tuple[list[Tensor], list[Tensor]]:
        users: list[Tensor] = [self.user]
        items: list[Tensor] = [self.item]
        for _ in range(self.config.hops):
            one, other = propagate(self.graph, users[-1], items[-1])
            users.append(one)
            items.append(other)
        return users, items

    def forward(self) -> tuple[Tensor, Tensor]:
        """Return every user vector (U, D) and every item vector (I, D)."""
        users, items = self._layers()
        return _mean(users), _mean(items)

    def loss(self, batch: Pairs) -> Tensor:
        """Return the loss of each positive (B,)."""
        config = self.config
        users, items = self()
        loss = pair_loss(config, rows(users, batch.user), items, batch)
        return loss + l2(config, self.user, self.item, batch)

    @torch.no_grad()
    def freeze(self) -> None:
        """Keep the propagated vectors, and for strangers the average user and what each item sends along a new edge.

        Equation 8 without the stranger's own vector leaves the sum over layers 1 to K of what arrives; the last
        layer of the items is not sent on. Other people's vectors are taken to stand still.
        """
        users, items = self._layers()
        self.users, self.items = _mean(users), self.config.scaled(_mean(items))
        self.average = self.average_user(self.users)
        sent = sum(items[1 : self.config.hops], items[0]) / (self.config.hops + 1)
        degree = self.graph.item_degree
        self.outgoing = sent * torch.where(degree > 0, degree.clamp(min=1).rsqrt(), 0.0)[:, None]

    def query(self, context: Context) -> Tensor:
        """Return the user's vector; for a stranger what the history's items send, on top of the average user (B, D).

        The average stands for the stranger's own vector. Without it a short history says too little.
        """
        query, own = self.users.index_select(0, context.user.clamp(min=0)), self.own(context)
        if not bool(own.all()):
            strange = (~own).nonzero()[:, 0]
            history = context.history.take(strange)
            arrived = total(history, self.outgoing) * counts(history).rsqrt()[:, None]
            query = query.index_copy(0, strange, self.average + arrived)
        return self.config.scaled(query)

    def item_vectors(self) -> Tensor:
        """Return item vectors (I, D)."""
        return self.items

    def grow(self, n_users: int, n_items: int) -> None:
        """New users and items start small and random; they join the graph at the next `prepare`."""
        self.grow_shaped(n_users, n_items)
        self.user = nn.Parameter(grown(self.user, n_users, std=0.1))
        self.item = nn.Parameter(grown(self.item, n_items, std=0.1))
        self.users = grown(self.users, n_users)
        self.items, self.outgoing = grown(self.items, n_items), grown(self.outgoing, n_items)


def _mean(layers: list[Tensor]) -> Tensor:
    """Return the mean of the layers, without a stack of them in memory."""
    return sum(layers[1:], layers[0]) / len(layers)
