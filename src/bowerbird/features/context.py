"""Context: everything a model may know about the requests it answers. Any part may be missing.

A context, never a bare user row, is why everyone can be served at once: a known user, a stranger with a history,
one with features only, and nobody.

Shapes: B requests, H events of all histories together.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from bowerbird.data import Interactions
from bowerbird.features.fields import Encoded


@dataclass(frozen=True)
class Ragged:
    """B lists of rows, flat: list b is `item[offsets[b]:offsets[b + 1]]`, oldest first.

    Only `item` is always there; `event`, `weight` (signed: negative for a dislike) and `time` may be None.
    """

    offsets: Tensor  # int64 (B+1,)
    item: Tensor  # int64 (H,)
    event: Tensor | None = None  # uint8 (H,)
    weight: Tensor | None = None  # float32 (H,)
    time: Tensor | None = None  # int64 (H,)

    @classmethod
    def empty(cls, n: int) -> "Ragged":
        """Return `n` empty lists."""
        return cls(torch.zeros(n + 1, dtype=torch.int64), torch.zeros(0, dtype=torch.int64))

    @classmethod
    def of(cls, lists: Sequence[Sequence[int] | np.ndarray]) -> "Ragged":
        """Return lists of item rows; negative (unknown) rows are dropped."""
        kept = [np.asarray(rows, dtype=np.int64) for rows in lists]
        kept = [rows[rows >= 0] for rows in kept]
        offsets = np.concatenate([[0], np.cumsum([len(rows) for rows in kept])])
        flat = np.concatenate(kept) if kept else np.zeros(0, np.int64)
        return cls(torch.from_numpy(offsets.astype(np.int64)), torch.from_numpy(flat))

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @property
    def lengths(self) -> Tensor:
        """The length of each list, int64 (B,)."""
        return self.offsets.diff()

    @cached_property
    def request(self) -> Tensor:
        """The request that each flat entry belongs to, int64 (H,)."""
        if len(self) == 1:
            return torch.zeros_like(self.item)
        return torch.repeat_interleave(
            torch.arange(len(self), device=self.item.device), self.lengths, output_size=len(self.item)
        )

    @cached_property
    def spoken(self) -> Tensor:
        """Which flat entries count, int64 (P,): the last word of each list on each item, where it is a good one.

        As in training, an item counts once however often it was chosen, and not at all after a dislike.
        """
        signed = torch.arange(len(self.item), device=self.item.device)
        if self.weight is not None:
            signed = signed[self.weight != 0]  # neutral events say nothing
        if not len(signed):
            return signed
        if len(self) == 1:
            item = self.item[signed].cpu().numpy()
            _, back = np.unique(item[::-1], return_index=True)
            spoken = signed[torch.from_numpy(np.sort(len(item) - 1 - back)).to(signed.device)]
            return spoken if self.weight is None else spoken[self.weight[spoken] > 0]
        key = self.request[signed] * (self.item.max() + 1) + self.item[signed]
        key, order = key.sort(stable=True)  # of each pair, oldest first
        last = torch.ones_like(key, dtype=torch.bool)
        last[:-1] = key[1:] != key[:-1]
        spoken = signed[order[last]].sort().values
        return spoken if self.weight is None else spoken[self.weight[spoken] > 0]

    @cached_property
    def positive(self) -> tuple[Tensor, Tensor]:
        """Request and item of the entries that count, int64 (P,) each, by request."""
        return self.request[self.spoken], self.item[self.spoken]

    @property
    def speaks(self) -> Tensor:
        """Which lists have an entry that counts, bool (B,)."""
        if len(self) == 1:
            return torch.tensor([len(self.spoken) > 0], device=self.item.device)
        return torch.bincount(self.positive[0], minlength=len(self)) > 0

    def take(self, index: Tensor) -> "Ragged":
        """Return the lists at `index` (int64), in that order."""
        lengths = self.lengths[index]
        offsets = torch.cat([lengths.new_zeros(1), lengths.cumsum(0)])
        start = torch.repeat_interleave(self.offsets[index] - offsets[:-1], lengths)
        flat = start + torch.arange(len(start), device=start.device)

        def part(column: Tensor | None) -> Tensor | None:
            return None if column is None else column[flat]

        return Ragged(offsets, self.item[flat], part(self.event), part(self.weight), part(self.time))

    def to(self, device: torch.device | str) -> "Ragged":
        """Return the lists on `device`."""
        if self.item.device == torch.device(device):
            return self

        def part(column: Tensor | None) -> Tensor | None:
            return None if column is None else column.to(device)

        return Ragged(
            self.offsets.to(device),
            self.item.to(device),
            part(self.event),
            part(self.weight),
            part(self.time),
        )


@dataclass(frozen=True)
class Context:
    """B requests."""

    user: Tensor  # int64 (B,): the user's row, −1 when unknown
    history: Ragged  # the user's past, or what a stranger posted; empty where there is none
    seeds: Ragged | None = None  # items the answer should resemble (similar to this, goes with this cart)
    columns: Encoded | None = None  # of the request itself, B rows, as its encoder encoded them
    time: Tensor | None = None  # int64 (B,): the moment of asking, seconds since 1970 UTC
    news: Tensor | None = None  # bool (B,): whose history holds what training has not seen; None: nobody's
    content: Mapping[str, Tensor] | None = None  # what requests say of themselves, (B, M) each, NaN rows for nothing

    @classmethod
    def nobody(cls, n: int = 1) -> "Context":
        """Return `n` requests about which nothing is known."""
        return cls(torch.full((n,), -1), Ragged.empty(n))

    @classmethod
    def of_histories(cls, lists: Sequence[Sequence[int] | np.ndarray]) -> "Context":
        """Return requests of strangers with these histories of item rows."""
        return replace(cls.nobody(len(lists)), history=Ragged.of(lists))

    @classmethod
    def of_seeds(cls, lists: Sequence[Sequence[int] | np.ndarray]) -> "Context":
        """Return requests for items like these."""
        return replace(cls.nobody(len(lists)), seeds=Ragged.of(lists))

    @classmethod
    def of_content(cls, content: Mapping[str, Tensor], n: int) -> "Context":
        """Return `n` requests of strangers of whom only this is known, (n, M) each."""
        return replace(cls.nobody(n), content=content)

    @classmethod
    def of_users(cls, users: np.ndarray, past: Interactions) -> "Context":
        """Return requests of these user rows with their whole past; rows that `past` lacks have none."""
        offsets, order = past.by_user
        known = (users >= 0) & (users < past.n_users)
        if len(users) == 1 and known[0]:  # the usual request is one slice
            flat = order[offsets[users[0]] : offsets[users[0] + 1]]
            starts = np.array([0, len(flat)])
        else:
            rows = np.where(known, users, 0)
            lengths = np.where(known, offsets[np.minimum(rows + 1, past.n_users)] - offsets[rows], 0)
            starts = np.concatenate([[0], np.cumsum(lengths)])
            flat = order[np.repeat(offsets[rows] - starts[:-1], lengths) + np.arange(starts[-1])]
        history = Ragged(
            torch.from_numpy(starts.astype(np.int64)),
            torch.from_numpy(past.item[flat].astype(np.int64)),
            torch.from_numpy(past.event[flat]),
            torch.from_numpy(past.signed_weight[flat]),
            None if past.time is None else torch.from_numpy(past.time[flat]),
        )
        return cls(torch.from_numpy(users.astype(np.int64)), history)

    def __len__(self) -> int:
        return len(self.user)

    @property
    def asked(self) -> Ragged:
        """What the answer should follow from: the seeds where given, else the history."""
        return self.history if self.seeds is None else self.seeds

    def take(self, index: Tensor) -> "Context":
        """Return the requests at `index` (int64), in that order."""
        return Context(
            self.user[index],
            self.history.take(index),
            None if self.seeds is None else self.seeds.take(index),
            None if self.columns is None else self.columns.take(index),
            None if self.time is None else self.time[index],
            None if self.news is None else self.news[index],
            None if self.content is None else {name: one[index] for name, one in self.content.items()},
        )

    def to(self, device: torch.device | str) -> "Context":
        """Return the requests on `device`."""
        if self.user.device == torch.device(device):
            return self
        return Context(
            self.user.to(device),
            self.history.to(device),
            None if self.seeds is None else self.seeds.to(device),
            None if self.columns is None else self.columns.to(device),
            None if self.time is None else self.time.to(device),
            None if self.news is None else self.news.to(device),
            None if self.content is None else {name: one.to(device) for name, one in self.content.items()},
        )
