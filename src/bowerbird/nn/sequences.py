"""What models of histories share: their windows, the item table at both ends, the loss of every position, serving.

Shapes: B windows or requests, L positions, P positions with a target, I items, D embedding size.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from bowerbird.core import check
from bowerbird.data import Interactions, Schema
from bowerbird.features import Context, Pairs, Windows
from bowerbird.features.batches import last_places
from bowerbird.nn.losses import PairConfig, pair_loss, rows
from bowerbird.nn.vectors import DotProduct, grown

SPREAD = 0.02  # standard deviation of initial vectors
OWN = ("bpr", "bce")  # losses whose few negatives are each position's own; those of others are the batch's


@dataclass(frozen=True, kw_only=True)
class WindowConfig(PairConfig):
    """What models of histories have in common."""

    history_len: int = 50  # latest events L of a history that the model sees
    loss: str = "softmax"  # bpr, bce, gbce, softmax, sampled_softmax or cosine_contrastive
    cosine: bool = False  # whether vectors are scaled to length 1 before they meet
    temperature: float = 1.0  # scores are divided by it in the loss, but for cosine contrastive
    batch_size: int = 4096  # positions of one step, over all workers
    dropout: float = 0.2  # share of the numbers between layers that training drops

    def __post_init__(self) -> None:
        super().__post_init__()
        check(self.history_len >= 1, "history_len", self.history_len, "must be 1 or more", try_instead=50)
        check(0 <= self.dropout < 1, "dropout", self.dropout, "must be 0 or more and below 1", try_instead=0.2)


class SequenceModel(DotProduct):
    """Scores items by the dot product with what `encode` makes of a history; a model adds `encode`.

    Everyone is served from their history alone, known user or stranger.
    """

    config: WindowConfig
    items: Tensor

    def __init__(self, config: WindowConfig, schema: Schema) -> None:
        super().__init__(schema)
        self.config = config
        self.item = nn.Parameter(torch.randn(schema.n_items, config.dim) * SPREAD)
        self.register_buffer("items", torch.zeros(schema.n_items, config.dim))  # as they meet requests

    def encode(self, item: Tensor, time: Tensor | None = None) -> Tensor:
        """Return what each position (B, L) knows of its row up to there, (B, L, D); −1 stands behind the end."""
        raise NotImplementedError

    def answer(self, item: Tensor, time: Tensor | None) -> Tensor:
        """Return what the end of each row (B, L) knows, (B, D)."""
        ends = ((item >= 0).sum(dim=1) - 1).clamp(min=0)
        return self.encode(item, time)[torch.arange(len(item), device=item.device), ends]

    def embedded(self, item: Tensor, time: Tensor | None) -> Tensor:
        """Return the vectors of items (B, L, D), zeros where there is none."""
        found = rows(self.item, item.clamp(min=0).flatten()).view(*item.shape, -1)
        return found if bool((item >= 0).all()) else found * (item >= 0)[:, :, None]

    def prepare(self, train: Interactions) -> None:
        """Remember what training shapes."""
        self.note_shaped(train)

    def loss(self, batch: Windows) -> Tensor:
        """Return the mean loss over the targets of each window (B,)."""
        return self.loss_of(self.encode(batch.item, batch.time), batch, batch.target)

    def loss_of(self, encoded: Tensor, batch: Windows, target: Tensor) -> Tensor:
        """Return the mean loss (B,) over the positions (B, L), encoded as (B, L, D), whose target is not −1."""
        row, place = (target >= 0).nonzero(as_tuple=True)
        negative = batch.negative
        if negative.dim() == 3:
            negative = negative[row, place.clamp(max=negative.shape[1] - 1)]
        pairs = Pairs(batch.user[row], target[row, place], batch.weight[row], negative, batch.log_q, batch.rate)
        each = pair_loss(self.config, encoded[row, place], self.item, pairs)
        total = each.new_zeros(len(batch)).index_add_(0, row, each)
        return total / torch.bincount(row, minlength=len(batch)).clamp(min=1)

    @torch.no_grad()
    def freeze(self) -> None:
        """Keep the items as requests meet them."""
        self.items = self.config.scaled(self.item.detach()).clone()

    def own(self, context: Context) -> Tensor:
        """Return False for every request: nobody has a vector but that of their history."""
        return torch.zeros_like(context.user, dtype=torch.bool)

    def query(self, context: Context) -> Tensor:
        """Return what the end of each history knows (B, D), histories of about one length at a time."""
        history = context.history
        flat = last_places(history, self.config.history_len)
        length = (flat >= 0).sum(dim=1)
        item = torch.where(flat >= 0, history.item[flat], -1) if len(history.item) else flat
        time = None if history.time is None or not len(history.item) else history.time[flat]
        found = item.new_empty((len(item), self.config.dim), dtype=self.item.dtype)
        size = (4 * torch.log2(length.clamp(min=1))).ceil().long()  # a fifth longer at most: little is padding
        for one in torch.unique(size).tolist():
            rows = (size == one).nonzero()[:, 0]
            longest = max(1, int(length[rows].amax()))
            near = None if time is None else time[rows, :longest]
            found[rows] = self.answer(item[rows, :longest], near)
        return self.config.scaled(found)

    def item_vectors(self) -> Tensor:
        """Return item vectors (I, D)."""
        return self.items

    def grow(self, n_users: int, n_items: int) -> None:
        """New items start small and random."""
        self.grow_shaped(n_users, n_items)
        self.item = nn.Parameter(grown(self.item, n_items, std=SPREAD))
        self.items = grown(self.items, n_items)


GAPS = 32  # buckets of the time between two events: under a second, then doubling


def gap_bucket(seconds: Tensor) -> Tensor:
    """Return the bucket, int64, of times between two events: ⌊log₂(1 + seconds)⌋; what is negative is in the first."""
    return torch.log2(seconds.clamp(min=0) + 1.0).long().clamp_(max=GAPS - 1)
