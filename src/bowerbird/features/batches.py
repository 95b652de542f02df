"""Batches: what a training step eats. A model names one of these types; the training loop cuts it from arrays.

Shapes: B batch rows, N negatives, L packed positions, T tasks, D columns of a vector.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

from bowerbird.features.context import Context, Ragged


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
    """Pieces of histories, packed one behind another: piece b is `item[offsets[b]:offsets[b + 1]]`."""

    user: Tensor  # int64 (B,)
    offsets: Tensor  # int64 (B+1,)
    item: Tensor  # int64 (L,), oldest first
    target: Tensor  # int64 (L,): the item that comes next at each position, −1 where none is to be foreseen
    weight: Tensor  # float32 (B,)
    negative: Tensor  # int64 (N,), shared
    event: Tensor | None = None  # uint8 (L,)
    time: Tensor | None = None  # int64 (L,)
    log_q: Tensor | None = None  # float32 (N,)
    whole: Tensor | None = None  # as in Pairs

    def __len__(self) -> int:
        return len(self.user)


@dataclass(frozen=True)
class FeatureBatch:
    """Rows of encoded columns: what a ranker eats, offline and live. `Rows` are cut into these."""

    columns: Mapping[str, Tensor]  # (B, …) each
    label: Tensor | None = None  # float32 (B, T), NaN where unobserved
    weight: Tensor | None = None  # float32 (B,): of the rows in training
    user: Tensor | None = None  # int64 (B,)
    item: Tensor | None = None  # int64 (B,)
    request: Tensor | None = None  # int64 (B,): which of the lists in `history`, and of the times, is a row's
    history: Ragged | None = None  # a list for each request, not for each row
    time: Tensor | None = None  # int64 (requests,)
    whole: Tensor | None = None  # as in Pairs

    def __len__(self) -> int:
        columns = (self.item, self.user, *self.columns.values())
        return next(len(column) for column in columns if column is not None)


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


@dataclass(frozen=True)
class FeatureTable:
    """Encoded columns of all users and items, by row; row −1 (the last) is the unknown one."""

    user: Mapping[str, Tensor] = field(default_factory=dict)  # (U+1, …) each
    item: Mapping[str, Tensor] = field(default_factory=dict)  # (I+1, …) each


def join(context: Context, candidates: Tensor, table: FeatureTable) -> FeatureBatch:
    """Return one row for each request and candidate (B, C), request after request: B·C rows.

    This is the only place where user, item and request columns meet, offline and live. Unknown users and items
    (−1) take the last row of their table.
    """
    n_requests, n_candidates = candidates.shape
    request = torch.arange(n_requests, device=candidates.device).repeat_interleave(n_candidates)
    columns = {f"user.{name}": column[context.user][request] for name, column in table.user.items()}
    columns |= {f"item.{name}": column[candidates.flatten()] for name, column in table.item.items()}
    columns |= {f"request.{name}": column[request] for name, column in context.features.items()}
    return FeatureBatch(
        columns, user=context.user[request], item=candidates.flatten(), request=request,
        history=context.history, time=context.time,
    )  # fmt: skip
