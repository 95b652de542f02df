"""Sources: where labelled rows lie until a batch is cut from them. Encoded rows of one table, or of tables that meet.

Shapes: N rows, B rows of a batch, T tasks, H past items of everybody.
"""

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from bowerbird.data import Interactions, Rows
from bowerbird.features.batches import FeatureBatch, FeatureTable, join
from bowerbird.features.context import Context, Ragged
from bowerbird.features.fields import Encoded


class Source(Protocol):
    """Rows by number, with their labels."""

    @property
    def label(self) -> Tensor:
        """The labels, float32 (N, T), NaN where unobserved."""
        ...

    @property
    def weight(self) -> Tensor | None:
        """What rows weigh in training, float32 (N,); None where all weigh the same."""
        ...

    def __len__(self) -> int: ...

    def cut(self, index: Tensor) -> FeatureBatch:
        """Return the rows at `index`, int64 (B,), on the device of the source."""
        ...


@dataclass(frozen=True, eq=False)
class EncodedRows:
    """Rows of one table."""

    encoded: Encoded
    label: Tensor
    weight: Tensor | None = None

    @classmethod
    def of(
        cls, encoded: Encoded, rows: Rows, device: str = "cpu", *, weight: np.ndarray | None = None
    ) -> "EncodedRows":
        """Return the encoded table of `rows` with its labels, and what rows weigh."""
        return cls(encoded.to(device), torch.tensor(rows.labels).to(device), _on(device, weight))

    def __len__(self) -> int:
        return len(self.label)

    def cut(self, index: Tensor) -> FeatureBatch:
        """Return the rows at `index`."""
        part = self.encoded.take(index)
        return FeatureBatch(part.code.long(), part.value, part.vector, self.label.index_select(0, index))


@dataclass(frozen=True, eq=False)
class JoinedRows:
    """Rows of interactions: user, item and request columns meet as each batch is cut, and so does the history.

    The history of a row is what its user did before it, or before the cut where the row comes after it.
    """

    table: FeatureTable
    user: Tensor  # int64 (N,), −1 unknown
    item: Tensor  # int64 (N,), −1 unknown
    label: Tensor
    past: Tensor  # int64 (H,): past items that count, user after user, oldest first
    start: Tensor  # int64 (N,): where the history of each row starts in `past`
    end: Tensor  # int64 (N,)
    columns: Encoded | None = None  # of the request of each row
    weight: Tensor | None = None

    @classmethod
    def of(
        cls,
        table: FeatureTable,
        rows: Rows,
        past: Interactions,
        *,
        event: np.ndarray | None = None,
        columns: Encoded | None = None,
        weight: np.ndarray | None = None,
        device: str = "cpu",
    ) -> "JoinedRows":
        """Return rows with the histories in `past`, whose rows of users and items they share.

        `event` (N,) tells which event of `past` each row is made of: its history ends there. Users and items beyond
        those of the table are unknown; such a user has a history all the same.
        """
        assert rows.user is not None
        assert rows.item is not None
        n_users, n_items = len(table.user) - 1, len(table.item) - 1
        counts = (past.signed_weight > 0) & (past.item < n_items)
        if table.counts is not None:
            counts &= table.counts.cpu().numpy()[past.event]
        offsets, order = past.by_user
        kept = np.concatenate([[0], np.cumsum(counts[order])])  # of the events, user after user: how many count so far
        known = (rows.user >= 0) & (rows.user < past.n_users)
        user = np.where(known, rows.user, 0)
        start = np.where(known, kept[offsets[user]], 0)
        end = np.where(known, kept[offsets[user + 1]], 0)
        if event is not None:
            place = np.empty(len(past), np.int64)
            place[order] = np.arange(len(past))
            end = kept[place[event]]
        width = max((one.width for one in table.schema.of_part("history")), default=0)
        start = np.maximum(start, end - width)
        item = np.where(rows.item < n_items, rows.item, -1)
        flat = past.item[order][counts[order]]
        arrays = (np.where(rows.user < n_users, rows.user, -1), item, flat, start, end)
        user_t, item_t, past_t, start_t, end_t = (torch.from_numpy(one.astype(np.int64)).to(device) for one in arrays)
        label = torch.tensor(rows.labels).to(device)
        columns = None if columns is None else columns.to(device)
        return cls(table.to(device), user_t, item_t, label, past_t, start_t, end_t, columns, _on(device, weight))

    def __len__(self) -> int:
        return len(self.label)

    @cached_property
    def _any(self) -> bool:
        return bool(self.table.schema.of_part("history"))

    def cut(self, index: Tensor) -> FeatureBatch:
        """Return the rows at `index`."""
        lengths = self.end[index] - self.start[index] if self._any else torch.zeros_like(index)
        offsets = torch.cat([lengths.new_zeros(1), lengths.cumsum(0)])
        shift = torch.repeat_interleave(self.start[index] - offsets[:-1], lengths)
        history = Ragged(offsets, self.past[shift + torch.arange(len(shift), device=index.device)])
        columns = None if self.columns is None else self.columns.take(index)
        batch = join(Context(self.user[index], history, columns=columns), self.item[index][:, None], self.table)
        return replace(batch, label=self.label.index_select(0, index))


def _on(device: str, weight: np.ndarray | None) -> Tensor | None:
    return None if weight is None else torch.from_numpy(weight).to(device)
