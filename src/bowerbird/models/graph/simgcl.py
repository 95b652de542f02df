"""SimGCL: LightGCN whose users and items must still be told from each other when noise is added at every hop.

Paper:   Yu et al., SIGIR 2022, arXiv:2112.08679.
Differs: the loss is a choice; the paper's is "bpr" with 1 negative, cosine off and temperature 1. As there, the mean
         over layers leaves out what vectors are before the first hop, so that a stranger gets the vector of a user
         with that history.
Cost:    three passes of O(hops * 2E * D) multiplies a step and O(B² * D) for the contrast; no view is drawn.
Shapes:  U users, I items, E observed pairs, B batch rows, D embedding size.
"""

from dataclasses import dataclass

from torch import Tensor

from bowerbird.core import check, register
from bowerbird.features import Pairs
from bowerbird.models.graph.lightgcn import LightGCN
from bowerbird.nn.graph import SEARCH, ContrastConfig, contrast, mean, travel


@dataclass(frozen=True, kw_only=True)
class SimGCLConfig(ContrastConfig):
    """How much noise makes a view."""

    hops: int = 3  # graph layers, 1 or more
    temperature: float = 0.1  # scores are divided by it in the loss, but for cosine contrastive
    decay: float = 0.95  # what the learning rate is multiplied by after every epoch
    noise: float = 0.1  # length of what a view adds to each vector at each hop

    def __post_init__(self) -> None:
        super().__post_init__()
        check(self.hops >= 1, "hops", self.hops, "must be 1 or more: layer 0 is left out", try_instead=3)
        check(self.noise >= 0, "noise", self.noise, "must be 0 or more", try_instead=0.1)


@register(
    "simgcl",
    config=SimGCLConfig,
    batches=Pairs,
    tags=("graph", "contrastive", "retriever", "trained", "cold-user"),
    search={
        **SEARCH,
        "contrast": (0.01, 2.0), "contrast_temperature": (0.1, 1.0), "noise": (0.01, 1.0),
    },
)  # fmt: skip
class SimGCL(LightGCN):
    """Scores a user-item pair by the dot product of their propagated vectors, without noise."""

    first = 1
    config: SimGCLConfig

    def view(self) -> tuple[Tensor, Tensor]:
        """Return every user vector (U, D) and every item vector (I, D), with new noise at each hop."""
        users, items = travel([self.graph] * self.config.hops, self.user, self.item, noise=self.config.noise)
        return mean(users[self.first :]), mean(items[self.first :])

    def loss(self, batch: Pairs) -> Tensor:
        """Return the loss of each positive, and the contrast of its user and item under two noises (B,)."""
        loss = super().loss(batch)
        return loss + contrast(self.config, batch, self.view(), self.view()) if self.config.contrast else loss
