"""Batches: what a training step eats. A model names one of these types; the training loop cuts it from arrays.

Shapes: B batch rows, N negatives, L positions of a window, T tasks, D columns of a vector.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from bowerbird.features.context import Context, Ragged
from bowerbird.features.fields import PADDING, Encoded, FeatureSchema


@dataclass(frozen=True)
class Pairs:
    """Positive user-item pairs and negatives for them.

    `negative` is int64 (N,) where all rows share their negatives, (B, N) where each row has its own, and has no
    element for losses over all items. `log_q` is the log of the expected number of draws of each negative, of the
    same shape; None where a loss does not correct for sampling. `rate` is N over the number of items that could have
    been drawn.
    """

    user: Tensor  # int64 (B,)
    item: Tensor  # int64 (B,)
    weight: Tensor  # float32 (B,)
    negative: Tensor
    log_q: Tensor | None = None
    rate: float = 1.0
    whole: Tensor | None = None  # summed weight of the batch over all workers; None where this is all of it

    def __len__(self) -> int:
        return len(self.user)


@dataclass(frozen=True)
class Windows:
    """Pieces of histories of about the same length: row b is one person's, oldest first, −1 behind its end."""

    user: Tensor  # int64 (B,)
    item: Tensor  # int64 (B, L), −1 behind the end
    target: Tensor  # int64 (B, L): the item that comes next at each position, −1 where none is to be foreseen
    weight: Tensor  # float32 (B,): the targets of each row, so that every target counts the same
    negative: Tensor  # int64 (N,) shared by the batch, or (B, L, N); no element for losses over all items
    time: Tensor | None = None  # int64 (B, L), seconds
    log_q: Tensor | None = None  # as in Pairs
    rate: float = 1.0  # as in Pairs
    whole: Tensor | None = None  # as in Pairs

    def __len__(self) -> int:
        return len(self.user)


@dataclass(frozen=True)
class FeatureBatch:
    """Rows of encoded columns: what a ranker eats, offline and live. `features.fields` says what the slots mean."""

    code: Tensor  # int64 (B, S)
    value: Tensor | None = None  # float32 (B, S); None where all are 1
    vector: Tensor | None = None  # float32 (B, V)
    label: Tensor | None = None  # float32 (B, T), NaN where unobserved
    weight: Tensor | None = None  # float32 (B,): of the rows in training
    whole: Tensor | None = None  # as in Pairs
    alike: int = 0  # leading slots that are the same in every row, so that one row of them needs to be computed
    own: tuple[int, int] | None = None  # the slots that may differ between rows, where the others do not; else None

    def __len__(self) -> int:
        return len(self.code)


@dataclass(frozen=True)
class Content:
    """Items with their encoded content, for models that align what an item says with who chooses it."""

    item: Tensor  # int64 (B,)
    columns: Mapping[str, Tensor]  # (B, D) each
    weight: Tensor  # float32 (B,)
    user: Tensor | None = None  # int64 (B,): someone who chose the item
    whole: Tensor | None = None  # as in Pairs

    def __len__(self) -> int:
        return len(self.item)


@dataclass(frozen=True, eq=False)
class FeatureTable:
    """Encoded columns of all users and items, by row; row −1 (the last) is the unknown one."""

    schema: FeatureSchema  # its fields stand in the order user, item, request, history
    user: Encoded  # U+1 rows
    item: Encoded  # I+1 rows
    request: Encoded  # one row: a request that says nothing of itself
    counts: Tensor | None = None  # bool (event types,): whose items a history holds; None: all positive ones

    def to(self, device: torch.device | str) -> "FeatureTable":
        """Return the table on `device`."""
        counts = None if self.counts is None else self.counts.to(device)
        user, item, request = (part.to(device) for part in (self.user, self.item, self.request))
        return FeatureTable(self.schema, user, item, request, counts)


def join(context: Context, candidates: Tensor, table: FeatureTable) -> FeatureBatch:
    """Return one row for each request and candidate (B, C), request after request: B·C rows.

    This is the only place where user, item and request columns meet, offline and live. Unknown users and items
    (−1) take the last row of their table.
    """
    n_requests, n_candidates = candidates.shape
    asked = table.request.take(torch.zeros_like(context.user)) if context.columns is None else context.columns
    parts = [table.user.take(context.user), table.item.take(candidates.flatten()), asked]
    before = parts[0].code.shape[1]
    for one in table.schema.of_part("history"):
        past = table.item.code[:, table.schema.field(one.of).slot - before]
        item = last(context.history, one.width, table.counts)
        there = item >= 0
        code = past.index_select(0, item.clamp(min=0).flatten()).view(item.shape).masked_fill(~there, PADDING)
        parts.append(Encoded(code, there.float(), code.new_empty(n_requests, 0, dtype=torch.float32)))
    parts = [one if one is parts[1] else one.repeated(n_candidates) for one in parts]
    code = torch.cat([part.code for part in parts], dim=1).long()
    value = None if table.schema.plain else torch.cat([part.values for part in parts], dim=1)
    vector = torch.cat([part.vector for part in parts], dim=1)
    if n_requests > 1:
        return FeatureBatch(code, value, vector)
    return FeatureBatch(code, value, vector, alike=before, own=(before, before + parts[1].code.shape[1]))


def last(history: Ragged, most: int, counts: Tensor | None = None) -> Tensor:
    """Return the items at `last_places`, int64 (B, most), −1 behind them."""
    flat = last_places(history, most, counts)
    return torch.where(flat >= 0, history.item[flat], -1) if len(history.item) else flat


def last_places(history: Ragged, most: int, counts: Tensor | None = None) -> Tensor:
    """Return where the last `most` entries of each list stand, int64 (B, most), oldest first, −1 behind them.

    Only entries of positive weight count, and where `counts`, bool (event types,), is given, of those events.
    """
    keep = torch.ones_like(history.item, dtype=torch.bool) if history.weight is None else history.weight > 0
    if counts is not None and history.event is not None:
        keep &= counts[history.event.long()]
    flat = keep.nonzero()[:, 0]
    if len(history) == 1:  # the usual request
        flat = flat[-most:]
        return functional.pad(flat, (0, most - len(flat)), value=-1)[None]
    request = history.request[flat]
    lengths = torch.bincount(request, minlength=len(history))
    skipped = lengths.cumsum(0) - lengths + (lengths - most).clamp(min=0)
    place = torch.arange(len(flat), device=flat.device) - skipped[request]
    found = flat.new_full((len(history), most), -1)
    found[request[place >= 0], place[place >= 0]] = flat[place >= 0]
    return found
