"""Hetero: LightGCN on a graph with edges of several kinds: views and purchases, friends, categories, tags, brands.

Paper:   Schlichtkrull et al., ESWC 2018, arXiv:1703.06103, equation 2.
Differs: each kind is LightGCN's: no matrix and no activation, but one learned weight a hop, a softmax over the kinds
         that reach somebody. A value of an attribute has no vector of its own: what items send there comes back to
         them. Weights of edges do not count; an edge between two users or two items goes both ways.
Cost:    one pass is O(hops * 2E * D) multiplies, E edges of all kinds; keeps (2 * U + 3 * I) * D numbers.
Shapes:  U users, I items, K kinds of edges, B batch rows or requests, D embedding size.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import torch
from scipy.sparse import csr_matrix
from torch import Tensor, nn

from bowerbird.core import DataError, register
from bowerbird.data import Edges, EventType, Interactions, Schema
from bowerbird.features import Pairs
from bowerbird.nn.graph import (
    SEARCH,
    Graph,
    GraphConfig,
    GraphModel,
    mean,
    pair_matrix,
    product,
    propagate,
    sent,
    travel,
)
from bowerbird.nn.losses import NEVER, l2, pair_loss, rows

SIDES = ("user", "item")


@dataclass(frozen=True, kw_only=True)
class HeteroConfig(GraphConfig):
    """How far vectors travel, and which loss shapes them."""

    temperature: float = 0.1  # scores are divided by it in the loss, but for cosine contrastive
    decay: float = 0.95  # what the learning rate is multiplied by after every epoch


@dataclass(frozen=True)
class Relation:
    """Edges of one kind; in `graph` the first end stands for users and the other for items, whatever they are."""

    ends: tuple[str, str]  # the first is "user" or "item"
    graph: Graph

    def arriving(self, users: Tensor, items: Tensor) -> tuple[Tensor | None, Tensor | None]:
        """Return what reaches users (U, D) and items (I, D) over one hop; None where nothing can."""
        graph, (first, other) = self.graph, self.ends
        if self.ends == SIDES:
            return propagate(graph, users, items)
        come = users if first == "user" else items
        if first != other:  # to the values of an attribute, and back
            come = product(graph.item_user, graph.user_item, come)
        come = product(graph.user_item, graph.item_user, come)
        return (come, None) if first == "user" else (None, come)

    def reached(self, side: str, n: int) -> Tensor:
        """Return which users, or items, have an edge of this kind, bool (n,)."""
        if side not in self.ends:
            return torch.zeros(n, dtype=torch.bool, device=self.graph.user_degree.device)
        return (self.graph.user_degree if side == self.ends[0] else self.graph.item_degree) > 0


@register(
    "hetero",
    config=HeteroConfig,
    batches=Pairs,
    tags=("graph", "retriever", "trained", "cold-user"),
    search=SEARCH,
)
class Hetero(GraphModel):
    """Scores a user-item pair by the dot product of their vectors, propagated along edges of every kind."""

    config: HeteroConfig
    relations: list[Relation]  # behaviours first
    reached: tuple[Tensor, Tensor]  # who has edges of which kind: bool (U, K) and (I, K)

    def __init__(self, config: HeteroConfig, schema: Schema) -> None:
        super().__init__(config, schema)
        self.names, self.n_behaviours = schema.relations, len(behaviours(schema.events))
        kinds = self.n_behaviours + len(self.names)
        self.weight = nn.Parameter(torch.zeros(max(config.hops, 1), 2, kinds))  # of kinds for users, and for items

    def prepare(self, train: Interactions) -> None:
        """Hold the edges of every kind: relations that `train` does not have are without any."""
        self.note_shaped(train)
        sizes = {"user": train.n_users, "item": train.n_items}
        device, none = self.user.device, np.zeros(0, np.int32)
        self.relations = [Relation(("user", "item"), Graph.of_matrix(pairs).to(device)) for pairs in acts(train)]
        for name in self.names:
            edges = train.relations.get(name, Edges("user", "user", none, none, none.astype(np.float32)))
            ends, matrix = matrix_of(name, edges.within(sizes), sizes)
            self.relations.append(Relation(ends, Graph.of_matrix(matrix).to(device)))
        found = [torch.stack([one.reached(side, sizes[side]) for one in self.relations], dim=1) for side in SIDES]
        self.reached = found[0], found[1]
        self.shaped_user |= found[0].any(dim=1)  # friends alone, or tags, are enough to have a vector
        self.shaped_item |= found[1].any(dim=1)

    def _layers(self) -> tuple[list[Tensor], list[Tensor]]:
        layers = travel([], self.user, self.item)
        for hop in range(self.config.hops):
            come = [relation.arriving(layers[0][-1], layers[1][-1]) for relation in self.relations]
            for side, layer in enumerate(layers):
                share = torch.where(self.reached[side], self.weight[hop, side], NEVER).softmax(dim=1)
                there = ((share[:, kind, None], one[side]) for kind, one in enumerate(come))
                parts = [weight * vectors for weight, vectors in there if vectors is not None]
                layer.append(sum(parts[1:], parts[0]))
        return layers

    def forward(self) -> tuple[Tensor, Tensor]:
        """Return every user vector (U, D) and every item vector (I, D)."""
        users, items = self._layers()
        return mean(users), mean(items)

    def loss(self, batch: Pairs) -> Tensor:
        """Return the loss of each positive (B,)."""
        config = self.config
        users, items = self()
        loss = pair_loss(config, rows(users, batch.user), items, batch)
        return loss + l2(config, self.user, self.item, batch)

    @torch.no_grad()
    def freeze(self) -> None:
        """Keep the propagated vectors, and what each item sends along a new edge: one of every behaviour."""
        users, items = self._layers()
        share = self.weight[:, 0, : self.n_behaviours].softmax(dim=1)
        outgoing = torch.zeros_like(self.item)
        for kind, relation in enumerate(self.relations[: self.n_behaviours]):
            travelling = [layer * weight for layer, weight in zip(items, share[:, kind], strict=False)]
            outgoing += sent(relation.graph, travelling, len(items))
        self.keep(mean(users), mean(items), outgoing)


def behaviours(events: tuple[EventType, ...]) -> list[int]:
    """Return which event types are behaviours of their own: all but dislikes."""
    return [number for number, kind in enumerate(events) if kind.sign != "negative"]


def acts(train: Interactions) -> Iterator[csr_matrix]:
    """Yield the distinct pairs of each behaviour (U, I), as if nobody did anything else that is not a dislike."""
    disliked = np.array([kind.sign == "negative" for kind in train.events])[train.event]
    for number in behaviours(train.events):
        kinds = list(train.events)
        kinds[number] = replace(kinds[number], sign="positive", weight=1.0)
        yield pair_matrix(replace(train, events=tuple(kinds)).rows((train.event == number) | disliked))


def matrix_of(name: str, edges: Edges, sizes: dict[str, int]) -> tuple[tuple[str, str], csr_matrix]:
    """Return the ends of a relation, users or items first, and its distinct edges as a matrix of ones."""
    ends, row, column = (edges.source_kind, edges.target_kind), edges.source, edges.target
    if ends[0] not in SIDES or ends == ("item", "user"):
        ends, row, column = (ends[1], ends[0]), column, row
    if ends[0] not in SIDES:
        raise DataError(f'relation "{name}" joins {ends[1]} and {ends[0]}, and reaches neither users nor items.')
    if ends[0] == ends[1]:  # both ways, and none to oneself
        apart = row != column
        row, column = np.concatenate([row[apart], column[apart]]), np.concatenate([column[apart], row[apart]])
    shape = tuple(sizes.get(kind, int(rows.max(initial=0)) + 1) for kind, rows in zip(ends, (row, column), strict=True))
    matrix = csr_matrix((np.ones(len(row), np.float32), (row, column)), shape=shape)
    matrix.data[:] = 1.0  # an edge that is there twice is one
    return ends, matrix
