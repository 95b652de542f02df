"""Two towers: one makes a vector of a person, one of an item, each from a row of its own and from what is known of it.

Rows are left out at random in training, so that an item with content alone, and a person of whom only attributes are
known, are answered too.

Paper:   Covington et al., RecSys 2016 (towers); Yi et al., RecSys 2019 (softmax within the batch, log-Q correction);
         Yang et al., WWW 2020 (some negatives from all items); Volkovs et al., NeurIPS 2017 (rows left out at random).
Differs: a tower is one hidden layer beside a straight way through, so that it begins as matrix factorisation. The
         correction leaves the row's own item alone, which was not drawn; its copies in the batch are no negatives.
         Other items that the row's user chose stay, as in the softmax over all items that this estimates. Workers that
         share a batch take negatives from their own rows.
Cost:    O(n * (M + H + B) * D) for the n items that a step names, B * (1 + N) at most; keeps 2 * (U + I) * D numbers.
Shapes:  U users, I items, B batch rows or requests, N negatives, n rows, M size of a modality's vectors, H hidden size,
         D vector size.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor, nn

from bowerbird.core import check, register
from bowerbird.data import Interactions, Schema
from bowerbird.features import Context, Pairs
from bowerbird.nn.content import Directions, Vectors, tensors
from bowerbird.nn.debias import Debias
from bowerbird.nn.losses import NAMES, l2, local, pair_loss, rows
from bowerbird.nn.people import PeopleConfig
from bowerbird.nn.vectors import DotProduct, grown, ridge

STRANGER_L2 = 10.0  # as in mf: how many choices it takes before a history outweighs what is expected of anyone
IN_BATCH = "in_batch"
BLOCK = 16_384  # rows whose vectors are made at once


@dataclass(frozen=True, kw_only=True)
class TwoTowerConfig(PeopleConfig, Debias):
    """How large towers are, how often they do without a row, and what an item is told from."""

    losses = (IN_BATCH, *NAMES)
    loss: str = IN_BATCH  # in_batch, or any other
    negatives: int | None = None  # N, drawn for each row; in_batch shares them, 1 if None, beside the batch's items
    hidden: int = 128  # size H of the hidden layer of each tower
    id_dropout: float = 0.2  # share of the rows of users and items, of those with content, left out of a step
    temperature: float = 0.2  # scores are divided by it in the loss, but for cosine contrastive
    batch_size: int = 1_024
    learning_rate: float = 2e-3

    def __post_init__(self) -> None:
        super().__post_init__()
        check(self.hidden >= 1, "hidden", self.hidden, "must be 1 or more", try_instead=128)
        right = 0 <= self.id_dropout < 1
        check(right, "id_dropout", self.id_dropout, "must be 0 or more and below 1", try_instead=0.2)


class Tower(nn.Module):
    """A row of its own and content → a vector (n, D)."""

    def __init__(self, n: int, sizes: Mapping[str, int], dim: int, hidden: int) -> None:
        super().__init__()
        self.id = nn.Parameter(torch.randn(n, dim) * 0.1)
        self.directions = Directions(sizes)
        self.maps = nn.ParameterList(torch.randn(size, dim) * 0.1 for size in sizes.values())
        self.first, self.second = nn.Linear(dim, hidden), nn.Linear(hidden, dim)

    def forward(self, ids: Tensor, said: Tensor) -> Tensor:
        """Return vectors of rows and of what content says, (n, D) each; zeros stand for what is not there."""
        both = ids + said
        found: Tensor = both + self.second(torch.relu(self.first(both)))
        return found

    def said(self, vectors: list[Tensor], there: list[Tensor]) -> Tensor:
        """Return the mean of what the modalities say that there are (n, D), zeros without any."""
        total = torch.stack([one @ turn for one, turn in zip(vectors, self.maps, strict=True)]).sum(dim=0)
        return total / torch.stack(there).sum(dim=0).clamp(min=1)[:, None]

    def of_content(self, content: Vectors) -> tuple[Tensor, Tensor]:
        """Return what new content says (n, D), and which rows have any, bool (n,)."""
        vectors, there = self.directions(content)
        return self.said(vectors, there), torch.stack(there).any(dim=0)


@register(
    "twotower",
    config=TwoTowerConfig,
    batches=Pairs,
    tags=("multimodal", "content", "retriever", "trained", "cold-user", "cold-item"),
    search={
        "dim": (16, 256), "hidden": (32, 512), "learning_rate": (5e-4, 1e-2), "temperature": (0.05, 0.5),
        "id_dropout": (0.05, 0.8), "l2": (1e-6, 1e-2),
    },
)  # fmt: skip
class TwoTower(DotProduct):
    """Scores a pair by the dot product of what the towers make of its ends."""

    users: Tensor
    items: Tensor
    average: Tensor
    begun: Tensor

    def __init__(self, config: TwoTowerConfig, schema: Schema) -> None:
        super().__init__(schema)
        self.config, dim = config, config.dim
        self.contrast = replace(config, loss="sampled_softmax") if config.loss == IN_BATCH else config
        self.user = Tower(schema.n_users, dict(schema.user_content), dim, config.hidden)
        self.item = Tower(schema.n_items, dict(schema.item_content), dim, config.hidden)
        self.register_buffer("begun", torch.zeros((), dtype=torch.bool))  # whether content has been scaled
        self.register_buffer("users", torch.zeros(schema.n_users, dim))
        self.register_buffer("items", torch.zeros(schema.n_items, dim))
        self.register_buffer("average", torch.zeros(dim))
        if schema.user_content:  # user tables are not kept: what they said stays, in vectors
            self.register_buffer("said", torch.zeros(schema.n_users, dim))

    # ── training ──────────────────────────────────────────────────────────────────────────────────────────────

    @torch.no_grad()
    def prepare(self, train: Interactions) -> None:
        """Read what is known of people and items, and count how often each item stands in a batch."""
        device, pairs = self.items.device, train.positives
        sides = (self.user, train.user_content), (self.item, train.item_content)
        self._content = []  # of users, then of items: vectors and which rows have them; None where nothing is read
        for tower, content in sides:
            if tower.directions.names and content and not bool(self.begun):
                tower.directions.fit(tensors(content, device))
            self._content.append(
                tower.directions(tensors(content, device)) if tower.directions.names and content else None
            )
        self.begun.fill_(True)
        counts = [
            torch.from_numpy(np.bincount(rows_of, minlength=n)).to(device)
            for rows_of, n in ((pairs.user, train.n_users), (pairs.item, train.n_items))
        ]
        self._share = counts[1] / max(len(pairs), 1)
        self._chosen = [one > 0 for one in counts]
        self._told = [self._has_content(side) for side in (0, 1)]
        self.shaped_user, self.shaped_item = (self._chosen[side] | self._told[side] for side in (0, 1))

    def _has_content(self, side: int) -> Tensor:
        """Return which users (side 0) or items (1) have content, bool (n,)."""
        read = self._content[side]
        if read is not None:
            return torch.stack(read[1]).any(dim=0)
        kept: Tensor | None = getattr(self, "said", None) if side == 0 else None
        return torch.zeros_like(self._chosen[side]) if kept is None else kept.any(dim=1)

    def _says(self, side: int, index: Tensor) -> Tensor:
        """Return what is known of users or items beside their rows (n, D), zeros where nothing is."""
        read = self._content[side]
        if read is not None:
            tower = (self.user, self.item)[side]
            return tower.said([one[index] for one in read[0]], [one[index] for one in read[1]])
        kept: Tensor | None = getattr(self, "said", None) if side == 0 else None
        return self.items.new_zeros(len(index), self.config.dim) if kept is None else kept[index]

    def _vectors(self, side: int, index: Tensor, keep: Tensor) -> Tensor:
        """Return vectors of users or items (n, D), without their own rows but where `keep`, bool (n,)."""
        tower = (self.user, self.item)[side]
        found: Tensor = tower(rows(tower.id, index) * keep[:, None], self._says(side, index))
        return found

    def _kept(self, side: int, index: Tensor) -> Tensor:
        """Return whose own rows take part in a step, bool (n,): at random where content can stand for them."""
        if not self.training or not self.config.id_dropout:
            return torch.ones_like(index, dtype=torch.bool)
        drawn = torch.rand(len(index), device=index.device) < self.config.id_dropout
        return ~(drawn & self._told[side][index])

    def loss(self, batch: Pairs) -> Tensor:
        """Return the loss of each positive (B,)."""
        config = self.config
        named, near = self._in_batch(batch) if config.loss == IN_BATCH else local(batch, len(self.items))
        users = self._vectors(0, batch.user, self._kept(0, batch.user))
        items = self._vectors(1, named, self._kept(1, named))
        return pair_loss(self.contrast, users, items, near) + l2(config, self.user.id, self.item.id, batch)

    def _in_batch(self, batch: Pairs) -> tuple[Tensor, Pairs]:
        """Return the items of the batch and of what was drawn for its rows, and these as negatives that all rows share.

        An item is expected in B rows by its share of the choices, in the draws as every other; what is there several
        times is one negative that counts as many.
        """
        drawn = batch.negative.flatten()
        both = torch.cat([batch.item, drawn])
        named, place, count = torch.unique(both, return_inverse=True, return_counts=True)
        expected = len(batch) * self._share[named] + len(drawn) / len(self.items)
        every = torch.arange(len(named), device=named.device)
        near = replace(batch, item=place[: len(batch)], negative=every, log_q=(expected / count).log())
        return named, near

    # ── serving ───────────────────────────────────────────────────────────────────────────────────────────────

    @torch.no_grad()
    def freeze(self) -> None:
        """Keep every vector, of who chose nothing and of what nobody chose by content alone, and the average user."""
        self.users, self.items = self._frozen(0), self._frozen(1)
        if "said" in self._buffers and self._content[0] is not None:
            everyone = torch.arange(len(self.users), device=self.users.device)
            self.said = torch.cat([self._says(0, some) for some in torch.split(everyone, BLOCK)])
        weight = self._chosen[0].to(self.users.dtype)
        self.average = weight @ self.users / weight.sum().clamp(min=1)

    def _frozen(self, side: int) -> Tensor:
        chosen = self._chosen[side]
        blocks = torch.split(torch.arange(len(chosen), device=chosen.device), BLOCK)
        return torch.cat([self.config.scaled(self._vectors(side, some, chosen[some])) for some in blocks])

    @torch.no_grad()
    def embed(self, content: Vectors) -> Tensor:
        """Return what items with this content are before anybody chose them (n, D)."""
        said, _ = self.item.of_content(content)
        return self.config.scaled(self.item(torch.zeros_like(said), said))

    @torch.no_grad()
    def embed_users(self, content: Vectors) -> Tensor:
        """Return what people are who say this of themselves, before they chose anything (n, D)."""
        said, _ = self.user.of_content(content)
        return self.config.scaled(self.user(torch.zeros_like(said), said))

    def can(self, context: Context) -> Tensor:
        """Return which requests have a vector of their own, a history that speaks, attributes, or seeds, bool (B,)."""
        can = super().can(context)
        return can | self._presents_itself(context) if context.seeds is None else can

    def _presents_itself(self, context: Context) -> Tensor:
        if context.content is None or not self.user.directions.names:
            return torch.zeros_like(context.user, dtype=torch.bool)
        return self.user.of_content(context.content)[1]

    def query(self, context: Context) -> Tensor:
        """Return request vectors (B, D): the user's own, else what ridge regression finds, else of their attributes."""
        users = self.users if len(self.users) else self.average[None]  # a model that knows nobody
        query, own = users.index_select(0, context.user.clamp(min=0)), self.own(context)
        if bool(own.all()):
            return query
        strange = (~own).nonzero()[:, 0]
        found = ridge(context.history.take(strange), self.items, self.average, STRANGER_L2)
        query = query.index_copy(0, strange, self.config.scaled(found))
        if context.content is not None:
            alone = ~own & ~context.history.speaks & self._presents_itself(context)
            if bool(alone.any()):
                query = torch.where(alone[:, None], self.embed_users(context.content), query)
        return query

    def item_vectors(self) -> Tensor:
        """Return item vectors (I, D)."""
        return self.items

    def grow(self, n_users: int, n_items: int) -> None:
        """New rows start small and random; what they stand for is served by content until it is chosen, or chooses."""
        self.grow_shaped(n_users, n_items)
        self.user.id = nn.Parameter(grown(self.user.id, n_users, std=0.1))
        self.item.id = nn.Parameter(grown(self.item.id, n_items, std=0.1))
        self.users, self.items = grown(self.users, n_users), grown(self.items, n_items)
        if "said" in self._buffers:
            self.said = grown(self.said, n_users)
