"""What models of histories share: their windows, the item vectors at both ends, the loss of every position, serving.

Shapes: B windows or requests, L positions, I items, D embedding size, S values of side columns, G buckets of time.
"""

import logging
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Self

import numpy as np
import polars as pl
import torch
from torch import Tensor, nn

from bowerbird.core import ConfigError, check, did_you_mean
from bowerbird.data import Interactions, Schema
from bowerbird.features import Context, Pairs, Windows
from bowerbird.features.batches import last_places
from bowerbird.features.values import hashed, keys, listed
from bowerbird.nn.losses import NAMES, PairConfig, pair_loss, rows
from bowerbird.nn.memory import Memory
from bowerbird.nn.vectors import DotProduct, grown

SPREAD = 0.02  # standard deviation of initial vectors
OWN = ("bpr", "bce")  # losses whose few negatives are each position's own; those of others are the batch's
MANY_ITEMS = 50_000  # from which softmax over all of them costs more than it gains
GAPS = 32  # buckets of the time between two events: under a second, then doubling
HOURS, DAYS = 24, 7
VALUES = 8  # values of all side columns that an item may have

LOG = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class WindowConfig(PairConfig):
    """What models of histories have in common."""

    losses: ClassVar[tuple[str, ...]] = ("auto", *NAMES)

    history_len: int = 50  # latest events L of a history that the model sees
    loss: str = "auto"  # any loss of mf; auto is softmax up to 50,000 items, sampled softmax beyond
    cosine: bool = False  # whether vectors are scaled to length 1 before they meet
    temperature: float = 1.0  # scores are divided by it in the loss, but for cosine contrastive
    batch_size: int = 512  # targets of one step, over all workers
    prefixes: bool = False  # whether each event to foresee has a row of its own, whose places count from its end
    plateau: float = 0.7
    dropout: float = 0.2  # share of the numbers between layers that training drops
    time_gaps: bool = False  # whether a position knows how long ago the one before it was
    time_of_day: bool = False  # whether a position knows its hour and its day of the week, in UTC
    sides: tuple[str, ...] = ()  # columns of the item table that add to the vector of an item, cold ones included
    side_buckets: int = 10_000  # rows that their values are hashed into

    def __post_init__(self) -> None:
        super().__post_init__()
        check(self.history_len >= 1, "history_len", self.history_len, "must be 1 or more", try_instead=50)
        check(0 <= self.dropout < 1, "dropout", self.dropout, "must be 0 or more and below 1", try_instead=0.2)
        check(self.side_buckets >= 1, "side_buckets", self.side_buckets, "must be 1 or more", try_instead=10_000)

    def settled(self, n_items: int) -> Self:
        """Return the same configuration with a loss that suits the number of items, where it was left open."""
        if self.loss != "auto":
            return self
        loss = "softmax" if n_items <= MANY_ITEMS else "sampled_softmax"
        LOG.info("%s: %s for %s items", type(self).__name__, loss, f"{n_items:,}")
        return replace(self, loss=loss)


class SequenceModel(DotProduct):
    """Scores items by the dot product with what `encode` makes of a history; a model adds `encode`.

    Everyone is served from their history alone, known user or stranger.
    """

    items: Tensor
    code: Tensor
    chosen: Tensor

    def __init__(self, config: WindowConfig, schema: Schema) -> None:
        super().__init__(schema)
        self.config, dim = config.settled(schema.n_items), config.dim
        self.item = nn.Parameter(torch.randn(schema.n_items, dim) * SPREAD)
        self.register_buffer("items", torch.zeros(schema.n_items, dim))  # as they meet requests
        sizes = {"gap": GAPS} if config.time_gaps else {}
        sizes |= {"hour": HOURS, "day": DAYS} if config.time_of_day else {}
        sizes |= {"side": config.side_buckets} if config.sides else {}
        self.extra = nn.ParameterDict({name: torch.randn(size, dim) * SPREAD for name, size in sizes.items()})
        self.memory = Memory()
        self.register_load_state_dict_post_hook(lambda model, _: model.memory.forget())  # type: ignore[no-untyped-call]
        if config.sides:
            self.register_buffer("code", torch.full((schema.n_items, VALUES), -1))
            self.register_buffer("chosen", torch.zeros(schema.n_items, dtype=torch.bool))

    def encode(self, item: Tensor, time: Tensor | None = None) -> Tensor:
        """Return what each position (B, L) knows of its row up to there, (B, L, D); −1 stands behind the end."""
        raise NotImplementedError

    def answer(self, item: Tensor, time: Tensor | None) -> Tensor:
        """Return what the end of each row (B, L) knows, (B, D)."""
        ends = ((item >= 0).sum(dim=1) - 1).clamp(min=0)
        return self.encode(item, time)[torch.arange(len(item), device=item.device), ends]

    def further(self, x: Tensor, read: int, state: Any) -> tuple[Tensor, Any, int] | None:
        """Return what the end of a row knows (1, D), the state after it, and its bytes; None where blocks cannot go on.

        `x` (1, L, D) is the row as embedded, of which `state` has read the first `read`, None having read nothing.
        """
        return None

    def vectors(self) -> Tensor:
        """Return what items are, at both ends (I, D): their own vectors, and what their side columns add."""
        return self.item + self._sides(self.code) if self.config.sides else self.item

    def _sides(self, code: Tensor) -> Tensor:
        """Return the mean vector (…, D) of side values (…, S), zeros where there is none."""
        there = (code >= 0)[..., None]
        found = rows(self.extra["side"], code.clamp(min=0)) * there
        return found.sum(dim=-2) / there.sum(dim=-2).clamp(min=1)

    def places(self, item: Tensor) -> Tensor:
        """Return the place of each position (B, L) or (L,): from the start, with `prefixes` from the end of its row."""
        place = torch.arange(item.shape[1], device=item.device)
        if not self.config.prefixes:
            return place
        there = item >= 0
        return place.flip(0) if bool(there.all()) else (there.sum(dim=1, keepdim=True) - 1 - place).clamp(min=0)

    def embedded(self, item: Tensor, time: Tensor | None) -> Tensor:
        """Return the vectors of items (B, L, D), and what their times add; zeros where there is no item."""
        there, known = item >= 0, item.clamp(min=0)
        found = rows(self.item, known.flatten()).view(*item.shape, -1)
        if self.config.sides:
            found = found + self._sides(self.code[known])
        if time is not None and self.config.time_gaps:
            found = found + rows(self.extra["gap"], gap_bucket(time.diff(dim=1, prepend=time[:, :1])))
        if time is not None and self.config.time_of_day:
            hour = time.div(3600, rounding_mode="floor")
            day = hour.div(HOURS, rounding_mode="floor")
            found = found + rows(self.extra["hour"], hour % HOURS) + rows(self.extra["day"], day % DAYS)
        return found if bool(there.all()) else found * there[:, :, None]

    def prepare(self, train: Interactions) -> None:
        """Remember what training shapes, and the side columns of items, by which those never chosen are known too."""
        if (self.config.time_gaps or self.config.time_of_day) and train.time is None:
            raise ConfigError("time_gaps and time_of_day need events with times. Leave them out, or name the column.")
        self.note_shaped(train)
        if self.config.sides:
            self.chosen = self.shaped_item.clone()
            self.code = side_codes(train, self.config).to(self.item.device)
            told = torch.isin(self.code, self.code[self.chosen]) & (self.code >= 0)
            self.shaped_item |= told.any(dim=1)

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
        each = pair_loss(self.config, encoded[row, place], self.vectors(), pairs)
        total = each.new_zeros(len(batch)).index_add_(0, row, each)
        return total / torch.bincount(row, minlength=len(batch)).clamp(min=1)

    @torch.no_grad()
    def freeze(self) -> None:
        """Keep the items as requests meet them; one that nobody chose is what its side columns say."""
        self.memory.forget()
        found = self.vectors()
        if self.config.sides:
            found = torch.where(self.chosen[:, None], found, self._sides(self.code))
        self.items = self.config.scaled(found).clone()

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
        if len(item) == 1 and not self.training and 0 < len(history.item) <= self.config.history_len:
            alone = self._read_on(item[:, : int(length)], None if time is None else time[:, : int(length)])
            if alone is not None:
                return self.config.scaled(alone)
        found = item.new_empty((len(item), self.config.dim), dtype=self.item.dtype)
        size = (4 * torch.log2(length.clamp(min=1))).ceil().long()  # a fifth longer at most: little is padding
        for one in torch.unique(size).tolist():
            alike = (size == one).nonzero()[:, 0]
            longest = max(1, int(length[alike].amax()))
            near = None if time is None else time[alike, :longest]
            found[alike] = self.answer(item[alike, :longest], near)
        return self.config.scaled(found)

    def _read_on(self, item: Tensor, time: Tensor | None) -> Tensor | None:
        """Return what the end of a single row (1, L) knows (1, D), going on from where it was read before."""
        if self.config.prefixes or not item.shape[1]:  # their places count from the end, and all move
            return None
        moments = time[0] if time is not None and (self.config.time_gaps or self.config.time_of_day) else None
        read, state, known = self.memory.recall(item[0], moments) or (0, None, None)
        if known is None or read < item.shape[1]:
            went_on = self.further(self.embedded(item, time), read, state)
            if went_on is None:
                return None
            known, state, n_bytes = went_on
            self.memory.keep(item[0], moments, (item.shape[1], state, known), n_bytes)
        return known

    def item_vectors(self) -> Tensor:
        """Return item vectors (I, D)."""
        return self.items

    def grow(self, n_users: int, n_items: int) -> None:
        """New items start small and random."""
        self.grow_shaped(n_users, n_items)
        self.item = nn.Parameter(grown(self.item, n_items, std=SPREAD))
        self.items = grown(self.items, n_items)
        if self.config.sides:
            self.code, self.chosen = grown(self.code, n_items, fill=-1), grown(self.chosen, n_items)


def gap_bucket(seconds: Tensor) -> Tensor:
    """Return the bucket, int64, of times between two events: ⌊log₂(1 + seconds)⌋; what is negative is in the first."""
    return torch.log2(seconds.clamp(min=0) + 1.0).long().clamp_(max=GAPS - 1)


def side_codes(train: Interactions, config: WindowConfig) -> Tensor:
    """Return the buckets of every item's values in its side columns (I, S), −1 behind them.

    Texts may hold several values with "|" between them, as may lists. Raises `ConfigError` for an unknown column.
    """
    table = pl.DataFrame() if train.items is None else train.items
    item, bucket = [], []
    for name in config.sides:
        if name not in table.columns:
            raise ConfigError(
                f'sides: the item table has no column "{name}".{did_you_mean(name, table.columns)} '
                f"Columns: {', '.join(table.columns) or 'none'}."
            )
        values, lengths = listed(table[name], "|")
        texts = keys(values, pl.String())
        there = texts.is_not_null().to_numpy()
        item.append(np.repeat(np.arange(len(table)), lengths)[there])
        bucket.append(hashed(name + "=" + texts.filter(there)) % np.uint64(config.side_buckets))
    owner, values_of = np.concatenate(item), np.concatenate(bucket).astype(np.int64)
    order = np.argsort(owner, kind="stable")
    owner, values_of = owner[order], values_of[order]
    place = np.arange(len(owner)) - np.searchsorted(owner, owner)
    code = np.full((train.n_items, VALUES), -1)
    kept = place < VALUES
    code[owner[kept], place[kept]] = values_of[kept]
    return torch.from_numpy(code)
