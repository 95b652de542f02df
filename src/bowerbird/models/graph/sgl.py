"""SGL: LightGCN whose users and items must still be told from each other when parts of the graph are left out.

Paper:   Wu et al., SIGIR 2021, arXiv:2010.10783, sections 3.1 and 3.2.
Differs: the loss is a choice; the paper's is "bpr" with 1 negative, cosine off and temperature 1. Users and items are
         told from those of the batch; each edge, user or item is dropped by a lot of its own.
Cost:    three passes of O(hops * 2E * D) multiplies a step and O(B² * D) for the contrast; an epoch draws two views.
Shapes:  U users, I items, E observed pairs, B batch rows, D embedding size.
"""

from dataclasses import dataclass

import numpy as np
from scipy.sparse import csr_matrix
from torch import Tensor

from bowerbird.core import check, closest, register
from bowerbird.data import Interactions
from bowerbird.features import Pairs
from bowerbird.models.graph.lightgcn import LightGCN
from bowerbird.nn.graph import SEARCH, ContrastConfig, Graph, contrast, mean, pair_matrix, smoothed, travel

VIEWS = ("edges", "nodes", "walks")


@dataclass(frozen=True, kw_only=True)
class SGLConfig(ContrastConfig):
    """What a view of the graph leaves out."""

    hops: int = 2  # graph layers; 0 leaves plain matrix factorisation
    temperature: float = 0.1  # scores are divided by it in the loss, but for cosine contrastive
    decay: float = 0.95  # what the learning rate is multiplied by after every epoch
    contrast: float = 0.02  # weight of the contrast; 0 leaves it out
    view: str = "edges"  # what is dropped: "edges", "nodes" with theirs, or "walks": other edges at each hop
    dropped: float = 0.1  # share of them

    def __post_init__(self) -> None:
        super().__post_init__()
        meant = closest(self.view, VIEWS) or "edges"
        check(self.view in VIEWS, "view", self.view, f"must be one of {', '.join(VIEWS)}", try_instead=meant)
        check(0 <= self.dropped < 1, "dropped", self.dropped, "must be 0 or more and below 1", try_instead=0.1)


@register(
    "sgl",
    config=SGLConfig,
    batches=Pairs,
    tags=("graph", "contrastive", "retriever", "trained", "cold-user"),
    search={
        **SEARCH,
        "contrast": (0.005, 1.0), "contrast_temperature": (0.1, 1.0), "dropped": (0.05, 0.5), "view": list(VIEWS),
    },
)  # fmt: skip
class SGL(LightGCN):
    """Scores a user-item pair by the dot product of their vectors, propagated along the whole graph."""

    config: SGLConfig
    pairs: csr_matrix
    views: tuple[list[Graph], list[Graph]]  # a graph for each hop

    def prepare(self, train: Interactions) -> None:
        """Hold the training graph; until an epoch begins, both views are all of it."""
        self.note_shaped(train)
        self.pairs = pair_matrix(train)
        self.graph = Graph.of_matrix(self.pairs).to(self.user.device)
        self.views = [self.graph] * self.config.hops, [self.graph] * self.config.hops

    def begin_epoch(self, rng: np.random.Generator) -> None:
        """Draw two new views."""
        if self.config.contrast:
            self.views = self._drawn(rng), self._drawn(rng)

    def _drawn(self, rng: np.random.Generator) -> list[Graph]:
        hops = self.config.hops
        n = hops if self.config.view == "walks" else min(hops, 1)
        graphs = [Graph.of_matrix(thinned(self.pairs, self.config, rng)).to(self.user.device) for _ in range(n)]
        return graphs if n == hops else graphs * hops

    def view(self, graphs: list[Graph]) -> tuple[Tensor, Tensor]:
        """Return every user vector (U, D) and every item vector (I, D), having travelled along one graph a hop."""
        if all(graph is graphs[0] for graph in graphs):
            return smoothed(graphs[0] if graphs else self.graph, self.user, self.item, hops=len(graphs))
        users, items = travel(graphs, self.user, self.item)
        return mean(users), mean(items)

    def loss(self, batch: Pairs) -> Tensor:
        """Return the loss of each positive, and the contrast of its user and item in two views (B,)."""
        loss = super().loss(batch)
        return loss + contrast(self.config, batch, *map(self.view, self.views)) if self.config.contrast else loss


def thinned(pairs: csr_matrix, config: SGLConfig, rng: np.random.Generator) -> csr_matrix:
    """Return the pairs (U, I) without a share of them, or without all those of a share of users and items."""
    user, item = np.repeat(np.arange(pairs.shape[0]), np.diff(pairs.indptr)), pairs.indices
    if config.view == "nodes":
        stays = [rng.random(size) >= config.dropped for size in pairs.shape]
        kept = stays[0][user] & stays[1][item]
    else:
        kept = rng.random(len(item)) >= config.dropped
    ones = np.ones(int(kept.sum()), np.float32)
    return csr_matrix((ones, (user[kept], item[kept])), shape=pairs.shape)
