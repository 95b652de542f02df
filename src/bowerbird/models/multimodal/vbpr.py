"""VBPR: matrix factorisation, beside it a second taste for what items say, show and sound like.

A new item is served by its content alone. How well content foretells a choice is learnt only as far as the vectors of
known items leave it something to explain.

Paper:   He and McAuley, AAAI 2016, arXiv:1510.01784, equations 3-5.
Differs: all modalities count, not pictures alone; the loss and the cosine are choices, the paper's are BPR and none;
         there is no bias of users, which orders nothing. Where an item lacks a modality the others weigh more, so that
         all content is equally long.
Cost:    O(n * F * C) a step for the n items it names, then as mf; keeps (U + 2 * I) * D numbers and F * C weights.
Shapes:  U users, I items, B batch rows or requests, n items, K latent numbers, C of content, D = K + C + 1, F of all
         modalities together.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from bowerbird.core import check, register
from bowerbird.data import Interactions, Schema
from bowerbird.features import Context, Pairs
from bowerbird.nn.content import ContentConfig, Directions, Vectors, content_of
from bowerbird.nn.debias import Debias
from bowerbird.nn.losses import local, pair_loss, rows
from bowerbird.nn.vectors import DotProduct, grown, ridge

STRANGER_L2 = 10.0  # as in mf: how many choices it takes before a history outweighs what is expected of anyone
SMALLEST = 1e-3  # mean score of what people chose


@dataclass(frozen=True, kw_only=True)
class VBPRConfig(ContentConfig, Debias):
    """How much is latent, and how much is content."""

    content_dim: int = 32  # size of the vectors that content becomes, beside `dim`
    temperature: float = 0.2  # scores are divided by it in the loss, but for cosine contrastive
    learning_rate: float = 5e-3

    def __post_init__(self) -> None:
        super().__post_init__()
        check(self.content_dim >= 1, "content_dim", self.content_dim, "must be 1 or more", try_instead=32)


@register(
    "vbpr",
    config=VBPRConfig,
    batches=Pairs,
    tags=("multimodal", "content", "retriever", "trained", "cold-user", "cold-item"),
    search={
        "dim": (16, 256), "content_dim": (8, 128), "learning_rate": (1e-3, 3e-2), "temperature": (0.05, 2.0),
        "l2": (1e-6, 1e-2),
    },
)  # fmt: skip
class VBPR(DotProduct):
    """Scores a pair by the dot product of [latent, taste for content, 1] and [latent, content, how good it looks]."""

    items: Tensor
    average: Tensor
    level: Tensor
    begun: Tensor

    def __init__(self, config: VBPRConfig, schema: Schema) -> None:
        super().__init__(schema)
        self.config, sizes = config, dict(schema.item_content)
        self.user = nn.Parameter(torch.randn(schema.n_users, config.dim + config.content_dim) * 0.1)
        self.item = nn.Parameter(torch.randn(schema.n_items, config.dim) * 0.1)
        self.bias = nn.Parameter(torch.zeros(schema.n_items, 1))
        self.content = nn.Parameter(torch.randn(sum(sizes.values()), config.content_dim) * 0.1)  # E, transposed
        self.looks = nn.Parameter(torch.zeros(sum(sizes.values()), 1))  # β′
        self.scaled_content = Directions(sizes)
        self.register_buffer("begun", torch.zeros((), dtype=torch.bool))  # whether content has been scaled
        self.register_buffer("items", torch.zeros(schema.n_items, config.dim + config.content_dim + 1))
        self.register_buffer("average", torch.zeros(config.dim + config.content_dim + 1))
        self.register_buffer("level", torch.ones(()))  # mean score of what people chose: the unit of what is served

    @torch.no_grad()
    def prepare(self, train: Interactions) -> None:
        """Read content, and remember whom and what training shapes."""
        device, pairs = self.items.device, train.positives
        content = content_of(train, device)
        if not bool(self.begun):
            self.scaled_content.fit(content)
            self.begun.fill_(True)
        self._features, told = self._read(content)
        self.note_shaped(train)
        self._pairs = tuple(torch.from_numpy(one).long().to(device) for one in (pairs.user, pairs.item))
        self._chosen = torch.zeros_like(self.shaped_item)
        self._chosen[self._pairs[1]] = True
        self.shaped_item = self._chosen | told

    def _read(self, content: Vectors) -> tuple[Tensor, Tensor]:
        """Return all modalities side by side (n, F), rows of the same length on average, and which rows have one."""
        vectors, there = self.scaled_content(content)
        count = torch.stack(there).sum(dim=0)
        return torch.cat(vectors, dim=1) / count.clamp(min=1).sqrt()[:, None], count > 0

    def _joined(self, latent: Tensor, bias: Tensor, features: Tensor) -> Tensor:
        """Return the vectors of items (n, D)."""
        return torch.cat([latent, features @ self.content, bias + features @ self.looks], dim=1)

    def loss(self, batch: Pairs) -> Tensor:
        """Return the loss of each positive (B,)."""
        named, near = local(batch, len(self.item))
        items = self._joined(rows(self.item, named), rows(self.bias, named), self._features[named])
        loss = pair_loss(self.config, self._users(batch.user), items, near)
        if not self.config.l2:
            return loss
        ends = rows(self.user, batch.user), rows(self.item, batch.item)
        return loss + self.config.l2 * torch.cat(ends, dim=1).square().sum(dim=1)

    def _users(self, user: Tensor) -> Tensor:
        found = rows(self.user, user)
        return torch.cat([found, torch.ones_like(found[:, :1])], dim=1)

    @torch.no_grad()
    def freeze(self) -> None:
        """Keep the items as requests meet them, those that nobody chose by content alone, and the average user.

        Scores are told in units of what people chose: ridge regression wants the items of a history to score 1.
        """
        config, known = self.config, self._chosen[:, None]
        items = config.scaled(self._joined(self.item * known, self.bias * known, self._features))
        users = config.scaled(self._users(torch.arange(len(self.user), device=items.device)))
        user, item = self._pairs
        block = max(1, (1 << 24) // items.shape[1])
        parts = zip(torch.split(user, block), torch.split(item, block), strict=True)
        score = sum(float((users[who] * items[what]).sum(dtype=torch.float64)) for who, what in parts)
        self.level.fill_(max(score / max(len(user), 1), SMALLEST))
        self.items, self.average = items / self.level, self.average_user(users)

    @torch.no_grad()
    def embed(self, content: Vectors) -> Tensor:
        """Return what items with this content are before anybody chose them (n, D)."""
        features, _ = self._read(content)
        latent, bias = features.new_zeros(len(features), self.config.dim), features.new_zeros(len(features), 1)
        return self.config.scaled(self._joined(latent, bias, features)) / self.level

    def query(self, context: Context) -> Tensor:
        """Return the user's vector, or for a stranger the one that ridge regression finds in the history (B, D)."""
        query, own = self.config.scaled(self._users(context.user.clamp(min=0))), self.own(context)
        if not bool(own.all()):
            strange = (~own).nonzero()[:, 0]
            found = ridge(context.history.take(strange), self.items, self.average, STRANGER_L2)
            query = query.index_copy(0, strange, self.config.scaled(found))
        return query

    def item_vectors(self) -> Tensor:
        """Return item vectors (I, D)."""
        return self.items

    def grow(self, n_users: int, n_items: int) -> None:
        """New users start small and random; new items are what their content says, from the next `freeze` on."""
        self.grow_shaped(n_users, n_items)
        self.user = nn.Parameter(grown(self.user, n_users, std=0.1))
        self.item = nn.Parameter(grown(self.item, n_items))
        self.bias = nn.Parameter(grown(self.bias, n_items))
        self.items = grown(self.items, n_items)
