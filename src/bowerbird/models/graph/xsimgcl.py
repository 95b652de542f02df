"""XSimGCL: LightGCN with noise at every hop, whose last vectors must know those of an early hop. One pass is enough.

Paper:   Yu et al., IEEE TKDE 2023, arXiv:2209.02544.
Differs: the loss is a choice; the paper's is "bpr" with 1 negative, cosine off and temperature 1. As there, the mean
         over layers leaves out what vectors are before the first hop, so that a stranger gets the vector of a user
         with that history.
Cost:    one pass of O(hops * 2E * D) multiplies a step, as LightGCN, and O(B² * D) for the contrast.
Shapes:  U users, I items, E observed pairs, B batch rows, D embedding size.
"""

from dataclasses import dataclass

from torch import Tensor

from bowerbird.core import check, register
from bowerbird.features import Pairs
from bowerbird.models.graph.lightgcn import LightGCN
from bowerbird.nn.graph import SEARCH, ContrastConfig, contrast, mean, travel
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
        **SEARCH,
        "contrast": (0.01, 2.0), "contrast_temperature": (0.1, 1.0), "noise": (0.01, 1.0),
    },
)  # fmt: skip
class XSimGCL(LightGCN):
    """Scores a user-item pair by the dot product of their propagated vectors, without noise."""

    first = 1
    config: XSimGCLConfig

    def loss(self, batch: Pairs) -> Tensor:
        """Return the loss of each positive, and the contrast of its user and item with an early layer (B,)."""
        config = self.config
        layers = travel([self.graph] * config.hops, self.user, self.item, noise=config.noise)
        users, items = (mean(side[self.first :]) for side in layers)
        loss = pair_loss(config, rows(users, batch.user), items, batch) + l2(config, self.user, self.item, batch)
        early = layers[0][config.layer], layers[1][config.layer]
        return loss + contrast(config, batch, (users, items), early) if config.contrast else loss
