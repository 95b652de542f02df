"""NGCF: at each hop vectors are transformed, also where they meet, and all layers stand side by side.

Paper:   Wang et al., SIGIR 2019, arXiv:1905.08108, equations 3-10.
Differs: the loss is a choice; the paper's is "bpr" with 1 negative, cosine off and temperature 1. As in the authors'
         code, layers behind a hop have length 1 in the result, and messages are dropped number by number. No node
         dropout; the penalty leaves the transforms alone.
Cost:    one pass is O(hops * (2E * D + (U + I) * D²)) multiplies; keeps U and twice I times (hops + 1) * D numbers.
Shapes:  U users, I items, E observed pairs, B batch rows or requests, D embedding size, K hops.
"""

from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn
from torch.nn import functional

from bowerbird.core import check, register
from bowerbird.data import Interactions, Schema
from bowerbird.features import Context, Pairs
from bowerbird.nn.dropout import dropout
from bowerbird.nn.graph import SEARCH, Graph, GraphConfig, check_vectors, propagate, sent
from bowerbird.nn.losses import WHOLE, l2, pair_loss, rows
from bowerbird.nn.vectors import DotProduct, counts, grown, total

SLOPE = 0.2  # of the activation below 0, as in the authors' code


@dataclass(frozen=True, kw_only=True)
class NGCFConfig(GraphConfig):
    """How far vectors travel, and what training drops on the way."""

    learning_rate: float = 3e-3
    dropout: float = 0.1  # share of the numbers of messages that training drops

    def __post_init__(self) -> None:
        super().__post_init__()
        check(0 <= self.dropout < 1, "dropout", self.dropout, "must be 0 or more and below 1", try_instead=0.1)


@register(
    "ngcf",
    config=NGCFConfig,
    batches=Pairs,
    tags=("graph", "retriever", "trained", "cold-user"),
    search={
        **SEARCH, "learning_rate": (1e-4, 1e-2), "dropout": (0.01, 0.5),
    },
)  # fmt: skip
class NGCF(DotProduct):
    """Scores a user-item pair by the dot product of what they are at all layers, side by side."""

    graph: Graph
    users: Tensor
    items: Tensor
    outgoing: Tensor
    average: Tensor

    def __init__(self, config: NGCFConfig, schema: Schema) -> None:
        super().__init__(schema)
        check_vectors(config, schema)
        self.config, dim, wide = config, config.dim, config.dim * (config.hops + 1)
        self.user = nn.Parameter(torch.randn(schema.n_users, dim) * config.spread)
        self.item = nn.Parameter(torch.randn(schema.n_items, dim) * config.spread)
        self.plain = nn.Parameter(torch.empty(config.hops, dim, dim))  # W₁ of what arrives
        self.met = nn.Parameter(torch.empty(config.hops, dim, dim))  # W₂ of its product with what is there
        for matrix in (*self.plain, *self.met):
            nn.init.xavier_uniform_(matrix)
        self.register_buffer("users", torch.zeros(schema.n_users, wide))  # propagated
        self.register_buffer("items", torch.zeros(schema.n_items, wide))  # and as they meet requests
        self.register_buffer("outgoing", torch.zeros(schema.n_items, dim * max(config.hops, 1)))  # to a stranger
        self.register_buffer("average", torch.zeros(dim))

    def prepare(self, train: Interactions) -> None:
        """Hold the training graph, and remember whom it reaches."""
        self.note_shaped(train)
        self.graph = Graph.of(train).to(self.user.device)

    def _step(self, hop: int, own: Tensor, arrived: Tensor) -> Tensor:
        """Return what vectors (N, D) become when these arrive: equations 4 and 5, of all at once as in 7."""
        mixed = torch.addmm((own + arrived) @ self.plain[hop], own * arrived, self.met[hop])
        return dropout(functional.leaky_relu(mixed, SLOPE), self.config.dropout, self.training)

    def _layers(self) -> tuple[list[Tensor], list[Tensor]]:
        users: list[Tensor] = [self.user]
        items: list[Tensor] = [self.item]
        for hop in range(self.config.hops):
            arrived = propagate(self.graph, users[-1], items[-1])
            users.append(self._step(hop, users[-1], arrived[0]))
            items.append(self._step(hop, items[-1], arrived[1]))
        return users, items

    def forward(self) -> tuple[Tensor, Tensor]:
        """Return every user vector (U, (K+1)·D) and every item vector (I, (K+1)·D)."""
        users, items = self._layers()
        return _beside(users), _beside(items)

    def loss(self, batch: Pairs) -> Tensor:
        """Return the loss of each positive (B,)."""
        config = self.config
        users, items = self._layers()
        query, near = _beside([rows(layer, batch.user) for layer in users]), batch
        if config.loss not in WHOLE:  # only the items of the batch are put side by side
            both = torch.cat([batch.item, batch.negative.flatten()])
            distinct, place = torch.unique(both, return_inverse=True)
            own, others = place.tensor_split([len(batch)])
            items = [rows(layer, distinct) for layer in items]
            near = replace(batch, item=own, negative=others.view_as(batch.negative))
        return pair_loss(config, query, _beside(items), near) + l2(config, self.user, self.item, batch)

    @torch.no_grad()
    def freeze(self) -> None:
        """Keep all layers, and for strangers the average user and what each item sends along a new edge at each hop."""
        users, items = self._layers()
        self.users, self.items = _beside(users), self.config.served(_beside(items))
        self.average = self.average_user(self.user.detach())
        travelling = items[: max(self.config.hops, 1)]
        self.outgoing = torch.cat([sent(self.graph, [layer], 1) for layer in travelling], dim=1)

    def query(self, context: Context) -> Tensor:
        """Return the user's vector; a stranger goes every hop as the average user with edges of their own (B, (K+1)·D).

        Other people's vectors are taken to stand still.
        """
        query, own = self.users.index_select(0, context.user.clamp(min=0)), self.own(context)
        if not bool(own.all()):
            strange = (~own).nonzero()[:, 0]
            query = query.index_copy(0, strange, self._stranger(context.take(strange)))
        return self.config.scaled(query)

    def _stranger(self, context: Context) -> Tensor:
        history = context.history
        together = total(history, self.outgoing) * counts(history).rsqrt()[:, None]
        arrived = torch.split(together, self.config.dim, dim=1)
        layers = [self.average.expand_as(arrived[0])]
        if not self.config.hops:
            return layers[0] + arrived[0]
        for hop, one in enumerate(arrived):
            layers.append(self._step(hop, layers[-1], one))
        return _beside(layers)

    def item_vectors(self) -> Tensor:
        """Return item vectors (I, (K+1)·D)."""
        return self.items

    def grow(self, n_users: int, n_items: int) -> None:
        """New users and items start small and random; they join the graph at the next `prepare`."""
        self.grow_shaped(n_users, n_items)
        self.user = nn.Parameter(grown(self.user, n_users, std=self.config.spread))
        self.item = nn.Parameter(grown(self.item, n_items, std=self.config.spread))
        self.users = grown(self.users, n_users)
        self.items, self.outgoing = grown(self.items, n_items), grown(self.outgoing, n_items)


def _beside(layers: list[Tensor]) -> Tensor:
    """Return the layers side by side (N, (K+1)·D), those behind a hop at length 1: equation 9."""
    return torch.cat([layers[0], *(functional.normalize(layer, dim=1) for layer in layers[1:])], dim=1)
