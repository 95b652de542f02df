"""The user-item graph as sparse matrices, how vectors travel along it, and what models that let them travel share.

Shapes: U users, I items, P distinct pairs, D vector size, B batch rows or requests.
"""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from scipy.sparse import csr_matrix
from torch import Tensor, nn
from torch.nn import functional

from bowerbird.core import check, check_room
from bowerbird.data import Interactions, Schema
from bowerbird.features import Context, Pairs
from bowerbird.nn.debias import Debias
from bowerbird.nn.losses import PairConfig, info_nce, rows
from bowerbird.nn.vectors import DotProduct, counts, grown, total

OTHERS = 2_048  # of whom a user or an item is told apart at once
EDGE_BYTES = 40  # of each edge at the peak, while both halves are made
SEARCH: dict[str, Any] = {  # what is tried of options that all models on the graph have
    "hops": [1, 2, 3, 4],
    "length": [0.0, 0.2, 0.4, 0.8],
    "learning_rate": (1e-3, 3e-2),
    "temperature": (0.05, 0.5),
    "l2": (1e-6, 1e-2),
}


def pair_matrix(train: Interactions) -> csr_matrix:
    """Return the distinct positive pairs as a matrix of ones (U, I)."""
    pairs = train.positives
    shape = (train.n_users, train.n_items)
    return csr_matrix((np.ones(len(pairs), np.float32), (pairs.user, pairs.item)), shape=shape)


@dataclass(frozen=True)
class Graph:
    """The symmetrically normalised adjacency matrix, in its two halves.

    `user_item` (U, I) and its transpose `item_user` (I, U) hold 1 / √(degree(u) · degree(i)) at each pair, as CSR:
    rows are summed without a scatter, and the transpose makes the backward pass one such product too.
    """

    user_item: Tensor
    item_user: Tensor
    user_degree: Tensor  # float32 (U,)
    item_degree: Tensor  # float32 (I,)

    @classmethod
    def of(cls, train: Interactions) -> "Graph":
        """Return the graph of the distinct positive pairs."""
        return cls.of_matrix(pair_matrix(train))

    @classmethod
    def of_matrix(cls, matrix: csr_matrix) -> "Graph":
        """Return the graph whose edges are the ones of a matrix (U, I).

        Raises `ConfigError` where it would not fit into memory.
        """
        instead = "Keep fewer events, such as the newest, or take a model without a graph, such as mf."
        check_room(f"{matrix.nnz:,} edges", EDGE_BYTES * matrix.nnz, instead=instead)
        degrees = [np.asarray(matrix.sum(axis=axis)).ravel().astype(np.float32) for axis in (1, 0)]
        row, column = (np.maximum(degree, 1) ** -0.5 for degree in degrees)
        matrix = matrix.multiply(row[:, None]).multiply(column[None, :]).tocsr()
        return cls(_csr(matrix), _csr(matrix.T.tocsr()), *(torch.from_numpy(degree) for degree in degrees))

    def to(self, device: torch.device | str) -> "Graph":
        """Return the graph on `device`."""
        return Graph(
            self.user_item.to(device),
            self.item_user.to(device),
            self.user_degree.to(device),
            self.item_degree.to(device),
        )


def _csr(matrix: Any) -> Tensor:
    """Return a SciPy CSR matrix as a torch one with int32 indices."""
    matrix.sort_indices()
    with warnings.catch_warnings():  # torch calls CSR beta; the products used here have been stable since 1.13
        warnings.filterwarnings("ignore", message="Sparse CSR tensor support is in beta")
        return torch.sparse_csr_tensor(
            torch.from_numpy(matrix.indptr.astype(np.int32)),
            torch.from_numpy(matrix.indices.astype(np.int32)),
            torch.from_numpy(matrix.data.astype(np.float32)),
            matrix.shape,
            check_invariants=False,
        )


def _times(matrix: Tensor, dense: Tensor) -> Tensor:
    """Return `matrix` @ `dense`; on a processor as bags of embeddings, three times as fast as its product with CSR."""
    if matrix.is_cuda or not len(dense):
        return matrix @ dense
    bags = matrix.col_indices(), matrix.crow_indices()
    return functional.embedding_bag(
        bags[0], dense.contiguous(), bags[1], mode="sum", per_sample_weights=matrix.values(), include_last_offset=True
    )


class _Product(torch.autograd.Function):
    """matrix @ dense, whose gradient is transpose @ gradient: no transpose is built at each step."""

    @staticmethod
    def forward(ctx: Any, matrix: Tensor, transpose: Tensor, dense: Tensor) -> Tensor:
        ctx.transpose = transpose
        return _times(matrix, dense)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[None, None, Tensor]:
        return None, None, _times(ctx.transpose, gradients[0])


def product(matrix: Tensor, transpose: Tensor, dense: Tensor) -> Tensor:
    """Return `matrix` @ `dense`; the gradient of `dense` takes the transpose."""
    found: Tensor = _Product.apply(matrix, transpose, dense)  # type: ignore[no-untyped-call]
    return found


def propagate(graph: Graph, users: Tensor, items: Tensor) -> tuple[Tensor, Tensor]:
    """Return one hop: each user's vector (U, D) from its items, each item's vector (I, D) from its users."""
    from_items = product(graph.user_item, graph.item_user, items)
    from_users = product(graph.item_user, graph.user_item, users)
    return from_items, from_users


class _Smoothed(torch.autograd.Function):
    """The mean of layers `first` to `hops` of users and items: a symmetric product, and so its own gradient."""

    @staticmethod
    def forward(ctx: Any, graph: Graph, hops: int, first: int, users: Tensor, items: Tensor) -> tuple[Tensor, Tensor]:
        ctx.graph, ctx.hops, ctx.first = graph, hops, first
        return _smoothed(graph, hops, first, users, items)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[None, None, None, Tensor, Tensor]:
        return None, None, None, *_smoothed(ctx.graph, ctx.hops, ctx.first, *gradients)


def _smoothed(graph: Graph, hops: int, first: int, users: Tensor, items: Tensor) -> tuple[Tensor, Tensor]:
    """Return x + A(x + A(x + …)) over its terms, where the ones before layer `first` are left out: Horner's scheme."""
    found = users, items
    for layer in reversed(range(hops)):
        found = _times(graph.user_item, found[1]), _times(graph.item_user, found[0])
        if layer >= first:
            found = found[0].add_(users), found[1].add_(items)
    n = hops + 1 - first
    return found[0].div_(n), found[1].div_(n)


def smoothed(graph: Graph, users: Tensor, items: Tensor, *, hops: int, first: int = 0) -> tuple[Tensor, Tensor]:
    """Return the means over layers `first` to `hops` of users (U, D) and of items (I, D), with no layer in memory."""
    if not hops:
        return users, items
    found: tuple[Tensor, Tensor] = _Smoothed.apply(graph, hops, first, users, items)  # type: ignore[no-untyped-call]
    return found


def travel(
    graphs: Sequence[Graph], users: Tensor, items: Tensor, *, noise: float = 0.0
) -> tuple[list[Tensor], list[Tensor]]:
    """Return users and items before the first hop and after each, along one graph a hop, with `noise` of that length.

    The noise turns a vector within its own orthant: uniform numbers of the signs that it has (Yu et al., SIGIR 2022).
    """
    layers = [users], [items]
    for graph in graphs:
        for side, arrived in zip(layers, propagate(graph, layers[0][-1], layers[1][-1]), strict=True):
            side.append(_disturbed(arrived, noise) if noise else arrived)
    return layers


def _disturbed(vectors: Tensor, noise: float) -> Tensor:
    with torch.no_grad():
        added = torch.rand_like(vectors)
        added.mul_(noise / added.norm(dim=1, keepdim=True).clamp(min=1e-12)).mul_(vectors.sign())
    return vectors + added


def mean(layers: list[Tensor]) -> Tensor:
    """Return the mean of the layers, without a stack of them in memory."""
    return sum(layers[1:], layers[0]) / len(layers)


def sent(graph: Graph, layers: list[Tensor], n: int) -> Tensor:
    """Return what each item sends along a new edge (I, D): the sum of the layers that travel on, over the n averaged.

    The new edge's other half, 1 / √(its user's degree), is for the user to apply.
    """
    degree = graph.item_degree
    whole = sum(layers[1:], layers[0]) / n
    return whole * torch.where(degree > 0, degree.clamp(min=1).rsqrt(), 0.0)[:, None]


# ── what models share ─────────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, kw_only=True)
class GraphConfig(PairConfig, Debias):
    """How far vectors travel, and which loss shapes them."""

    hops: int = 3  # graph layers; 0 leaves plain matrix factorisation
    length: float = 0.2  # where the loss sees cosines: how much of an item's length is served; 0 nothing, 1 all of it
    spread: float = 0.1  # standard deviation of the numbers that vectors begin with
    l2: float = 1e-4
    patience: int = 15  # validations without a gain before training stops: random vectors begin well once they travel
    batch_size: int = 4096
    learning_rate: float = 1e-2

    def __post_init__(self) -> None:
        super().__post_init__()
        check(self.hops >= 0, "hops", self.hops, "must be 0 or more", try_instead=3)
        check(self.length >= 0, "length", self.length, "must be 0 or more", try_instead=0.2)
        check(self.spread > 0, "spread", self.spread, "must be above 0", try_instead=0.1)

    def served(self, items: Tensor) -> Tensor:
        """Return item vectors (I, D) as they meet requests.

        A loss on cosines is blind to how much arrives at an item, which is what many people's choices have in common:
        it shows in the vector's length. A little of it makes a better ranking than none.
        """
        if not self.cosine:
            return items
        lengths: Tensor = items.norm(dim=1, keepdim=True)
        return functional.normalize(items, dim=1) * lengths.pow(self.length)


@dataclass(frozen=True, kw_only=True)
class ContrastConfig(GraphConfig):
    """How much it counts that two views of a user or an item are alike, and unlike those of others."""

    contrast: float = 0.05  # weight of the contrast; 0 leaves it out
    contrast_temperature: float = 0.2  # cosines are divided by it
    once: bool = False  # whether a user or an item of the batch is contrasted once, however many rows name it

    def __post_init__(self) -> None:
        super().__post_init__()
        check(self.contrast >= 0, "contrast", self.contrast, "must be 0 or more", try_instead=0.05)
        warm = self.contrast_temperature > 0
        check(warm, "contrast_temperature", self.contrast_temperature, "must be above 0", try_instead=0.2)


def check_vectors(config: GraphConfig, schema: Schema) -> None:
    """Raise `ConfigError` where the vectors that training holds at once would not fit into memory.

    They are the parameters, their gradients and two moments, what is served, and the layers with what they are made of.
    """
    n = schema.n_users + schema.n_items
    what = f"The vectors of {schema.n_users:,} users and {schema.n_items:,} items"
    instead = "Choose a smaller dim or fewer hops, or leave out who has few events."
    check_room(what, 4 * n * config.dim * (8 + config.hops), instead=instead)


def contrast(config: ContrastConfig, batch: Pairs, one: tuple[Tensor, Tensor], other: tuple[Tensor, Tensor]) -> Tensor:
    """Return what it costs that the user and the item of each row know their other view too little (B,).

    A view is all users (U, D) and all items (I, D). Each is to be told from the others of the batch, named once, and
    from `OTHERS` of them at most, so that a large batch costs no more a row; workers who share a batch contrast their
    own rows.
    """
    found = batch.weight.new_zeros(len(batch))
    for index, here, there in zip((batch.user, batch.item), one, other, strict=True):
        distinct, place = torch.unique(index, return_inverse=True)
        if len(distinct) > OTHERS:  # in an order of chance: neighbouring rows are alike
            order = torch.randperm(len(distinct), device=index.device)
            distinct, place = distinct[order], order.argsort()[place]
        views = zip(*(torch.split(rows(side, distinct), OTHERS) for side in (here, there)), strict=True)
        cost = torch.cat([info_nce(*pair, temperature=config.contrast_temperature) for pair in views])
        found = found + (cost.mean() if config.once else cost[place])
    return config.contrast * found


class GraphModel(DotProduct):
    """Scores by the dot product of vectors that have travelled; a model adds `prepare`, `loss` and `freeze`.

    A stranger is a user who joins the graph with new edges; other people's vectors are taken to stand still.
    """

    first: ClassVar[int] = 0  # the layer from which on vectors are averaged
    users: Tensor
    items: Tensor
    outgoing: Tensor
    average: Tensor

    def __init__(self, config: GraphConfig, schema: Schema) -> None:
        super().__init__(schema)
        check_vectors(config, schema)
        self.config = config
        self.user = nn.Parameter(torch.randn(schema.n_users, config.dim) * config.spread)
        self.item = nn.Parameter(torch.randn(schema.n_items, config.dim) * config.spread)
        self.register_buffer("users", torch.zeros(schema.n_users, config.dim))  # propagated
        self.register_buffer("items", torch.zeros(schema.n_items, config.dim))  # and as they meet requests
        self.register_buffer("outgoing", torch.zeros(schema.n_items, config.dim))  # what an item gives a stranger
        self.register_buffer("average", torch.zeros(config.dim))

    def keep(self, users: Tensor, items: Tensor, outgoing: Tensor) -> None:
        """Keep users (U, D) and items (I, D) as they are served, and what items send along a new edge (I, D)."""
        self.users, self.items = users, self.config.served(items)
        self.average, self.outgoing = self.average_user(users), outgoing

    def query(self, context: Context) -> Tensor:
        """Return the user's vector; for a stranger what the history's items send (B, D).

        Where layer 0 counts, the average user stands for what the stranger is there. Without it a short history says
        too little.
        """
        query, own = self.users.index_select(0, context.user.clamp(min=0)), self.own(context)
        if not bool(own.all()):
            strange = (~own).nonzero()[:, 0]
            history = context.history.take(strange)
            arrived = total(history, self.outgoing) * counts(history).rsqrt()[:, None]
            if self.first == 0:
                arrived = self.average + arrived
            else:  # from items that nobody chose before nothing arrives
                arrived = torch.where(arrived.any(dim=1, keepdim=True), arrived, self.average)
            query = query.index_copy(0, strange, arrived)
        return self.config.scaled(query)

    def item_vectors(self) -> Tensor:
        """Return item vectors (I, D)."""
        return self.items

    def grow(self, n_users: int, n_items: int) -> None:
        """New users and items start small and random; they join the graph at the next `prepare`."""
        self.grow_shaped(n_users, n_items)
        self.user = nn.Parameter(grown(self.user, n_users, std=self.config.spread))
        self.item = nn.Parameter(grown(self.item, n_items, std=self.config.spread))
        self.users = grown(self.users, n_users)
        self.items, self.outgoing = grown(self.items, n_items), grown(self.outgoing, n_items)
