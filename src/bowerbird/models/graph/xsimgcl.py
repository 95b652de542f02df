"""XSimGCL: LightGCN with noise at every hop, whose last vectors must know those of an early hop. One pass is enough.

Paper:   Yu et al., IEEE TKDE 2023, arXiv:2209.02544.
Differs: the loss is a choice; the paper's is "bpr" with 1 negative, cosine off and temperature 1. As there, the mean
         over layers leaves out what vectors are before the first hop, so that a stranger gets the vector of a user
         with that history.
Cost:    one pass of O(hops * 2E * D) multiplies a step, as LightGCN, and O(B² * D) for the contrast.
Shapes:  U users, I items, E observed pairs, B batch rows, D embedding size.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from bowerbird.core import check, register
from bowerbird.data import Interactions
from bowerbird.features import Pairs
from bowerbird.nn.graph import ContrastConfig, Graph, GraphModel, contrast, mean, sent, smoothed, travel
from bowerbird.nn.losses import l2, pair_loss, rows


@dataclass(frozen=True, kw_only=True)
class XSimGCLConfig(ContrastConfig):
    """How much noise is added, and which layer is contrasted with the mean."""

    hops: int = 3  # graph layers, 1 or more
    contrast_temperature: float = 0.15  # cosines are divided by it
    noise: float = 0.1  # length of what training adds to each vector at each hop
    layer: int = 1  # which of the layers, 1 to hops, is contrasted with the mean of all

    def __post_init__(self) -> None:
        super().__post_init__()
        check(self.hops >= 1, "hops", self.hops, "must be 1 or more: layer 0 is left out", try_instead=3)
        check(self.noise >= 0, "noise", self.noise, "must be 0 or more", try_instead=0.1)
        check(1 <= self.layer <= self.hops, "layer", self.layer, f"must be 1 to hops, {self.hops}", try_instead=1)


@register(
    "xsimgcl",
    config=XSimGCLConfig,
    batches=Pairs,
    tags=("graph", "contrastive", "retriever", "trained", "cold-user"),
    search={
        "hops": [1, 2, 3, 4], "learning_rate": (1e-3, 3e-2), "temperature": (0.05, 0.5), "l2": (1e-6, 1e-2),
        "contrast": (0.01, 2.0), "contrast_temperature": (0.1, 1.0), "noise": (0.01, 1.0),
    },
)  # fmt: skip
class XSimGCL(GraphModel):
    """Scores a user-item pair by the dot product of their propagated vectors, without noise."""

    first = 1
    config: XSimGCLConfig

    def prepare(self, train: Interactions) -> None:
        """Hold the training graph, and remember whom it reaches."""
        self.note_shaped(train)
        self.graph = Graph.of(train).to(self.user.device)

    def _layers(self, noise: float = 0.0) -> tuple[list[Tensor], list[Tensor]]:
        return travel([self.graph] * self.config.hops, self.user, self.item, noise=noise)

    def forward(self) -> tuple[Tensor, Tensor]:
        """Return every user vector (U, D) and every item vector (I, D)."""
        return smoothed(self.graph, self.user, self.item, hops=self.config.hops, first=self.first)

    def loss(self, batch: Pairs) -> Tensor:
        """Return the loss of each positive, and the contrast of its user and item with an early layer (B,)."""
        config = self.config
        layers = self._layers(config.noise)
        users, items = (mean(side[self.first :]) for side in layers)
        loss = pair_loss(config, rows(users, batch.user), items, batch) + l2(config, self.user, self.item, batch)
        if not config.contrast:
            return loss
        early = layers[0][config.layer], layers[1][config.layer]
        return loss + contrast(config, batch, (users, items), early)

    @torch.no_grad()
    def freeze(self) -> None:
        """Keep the propagated vectors, and what each item sends along a new edge."""
        users, items = self._layers()
        self.keep(mean(users[self.first :]), mean(items[self.first :]), sent(self.graph, items[:-1], self.config.hops))
