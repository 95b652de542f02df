"""Matrix factorisation: a vector for each user and each item, trained with any loss. The loss is the model.

Paper:  Rendle et al., UAI 2009, arXiv:1205.2618 (BPR); Wu et al., ACM TOIS 2024, arXiv:2201.02327 (softmax).
Cost:   O(B * N * D) a step where tables are long, as rows move alone; keeps (U + 2 * I) * D numbers.
Shapes: U users, I items, B batch rows or requests, N negatives, D embedding size.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from bowerbird.core import register
from bowerbird.data import Interactions, Schema
from bowerbird.features import Context, Pairs
from bowerbird.nn.debias import Debias
from bowerbird.nn.losses import PairConfig, l2, pair_loss, rows
from bowerbird.nn.vectors import DotProduct, grown, ridge

STRANGER_L2 = 10.0  # how many choices it takes before a history outweighs what is expected of anyone


@dataclass(frozen=True, kw_only=True)
class MFConfig(PairConfig, Debias):
    """What the vectors are, and which loss shapes them."""

    learning_rate: float = 5e-3


@register(
    "mf",
    config=MFConfig,
    batches=Pairs,
    tags=("baseline", "retriever", "trained", "cold-user"),
    search={"dim": (16, 256), "learning_rate": (1e-3, 3e-2), "temperature": (0.05, 0.5), "l2": (1e-6, 1e-2)},
)
class MF(DotProduct):
    """Scores a user-item pair by the dot product of their vectors."""

    items: Tensor
    average: Tensor

    def __init__(self, config: MFConfig, schema: Schema) -> None:
        super().__init__(schema)
        self.config = config
        self.user = nn.Parameter(torch.randn(schema.n_users, config.dim) * 0.1)
        self.item = nn.Parameter(torch.randn(schema.n_items, config.dim) * 0.1)
        self.register_buffer("items", torch.zeros(schema.n_items, config.dim))  # as they meet requests
        self.register_buffer("average", torch.zeros(config.dim))

    def prepare(self, train: Interactions) -> None:
        """Remember whom training shapes."""
        self.note_shaped(train)

    def loss(self, batch: Pairs) -> Tensor:
        """Return the loss of each positive (B,)."""
        config = self.config
        loss = pair_loss(config, rows(self.user, batch.user), self.item, batch)
        return loss + l2(config, self.user, self.item, batch)

    @torch.no_grad()
    def freeze(self) -> None:
        """Keep the items as requests meet them, and the average user: what is expected of a stranger."""
        self.items = self.config.scaled(self.item.detach()).clone()
        self.average = self.average_user(self.config.scaled(self.user))

    def query(self, context: Context) -> Tensor:
        """Return the user's vector, or for a stranger the one that ridge regression finds in the history (B, D)."""
        users = self.user if len(self.user) else self.average[None]  # a model that knows nobody
        query, own = self.config.scaled(users.index_select(0, context.user.clamp(min=0))), self.own(context)
        if not bool(own.all()):
            strange = (~own).nonzero()[:, 0]
            found = ridge(context.history.take(strange), self.items, self.average, STRANGER_L2)
            query = query.index_copy(0, strange, self.config.scaled(found))
        return query

    def item_vectors(self) -> Tensor:
        """Return item vectors (I, D)."""
        return self.items

    def grow(self, n_users: int, n_items: int) -> None:
        """New users and items start small and random."""
        self.grow_shaped(n_users, n_items)
        self.user = nn.Parameter(grown(self.user, n_users, std=0.1))
        self.item = nn.Parameter(grown(self.item, n_items, std=0.1))
        self.items = grown(self.items, n_items)
