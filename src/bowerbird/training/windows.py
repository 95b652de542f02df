"""Cutting histories into windows: stored once, cut by length, so that hardly a position is padding.

Windows of equal length share a batch, and who is among them, and the order of batches, are drawn anew each epoch.

Shapes: E positive events, V windows, B windows of a batch, L positions of its longest, N negatives, I items.
"""

import math
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from bowerbird.core import torch_stream
from bowerbird.data import Interactions
from bowerbird.features import Windows
from bowerbird.nn.losses import SHARED, WHOLE
from bowerbird.nn.sequences import OWN, WindowConfig


class WindowBatches:
    """Every positive event but a person's first, once an epoch, to be foreseen from those before it.

    A history longer than `history_len` is cut into pieces, the last of them whole; with `prefixes`, each event to be
    foreseen has a row of its own instead. An event is no target where an earlier one has hidden its item: it could not
    have been recommended.
    """

    def __init__(self, train: Interactions, config: WindowConfig, *, seed: int, device: str) -> None:
        self.config, self.seed, self.device, self._train = config.settled(train.n_items), seed, device, train
        self.n_items = train.n_items
        offsets, order = train.by_user
        good = train.signed_weight[order] > 0
        kept = order[good]
        lengths = np.add.reduceat(np.r_[good, False], offsets[:-1]) * (np.diff(offsets) > 0)
        starts = np.concatenate([[0], np.cumsum(lengths)[:-1]])
        self.item = torch.from_numpy(train.item[kept].astype(np.int64)).to(device)
        self.time = None if train.time is None else torch.from_numpy(train.time[kept]).to(device)
        self._asked = torch.from_numpy(~_seen_before(train, kept)).to(device)
        cut = _prefixes if config.prefixes else _pieces
        self.user, self.start, self.length = cut(starts, lengths, config.history_len)
        order = np.argsort(self.length, kind="stable")
        self.user, self.start, self.length = (column[order] for column in (self.user, self.start, self.length))
        # each step foresees about as much: a row with a single target counts 1 however long it is
        self.bounds = _bounds(np.ones_like(self.length) if config.prefixes else self.length, config.batch_size)
        self._drawn = -1, order, order  # an epoch, its order of windows, its order of batches

    def __len__(self) -> int:
        """Return the number of steps in an epoch."""
        return len(self.bounds) - 1

    @cached_property
    def n_rows(self) -> int:
        """The number of targets in an epoch: positions that are trained on."""
        return len(self.length) if self.config.prefixes else int(self.length.sum())

    @property
    def padding(self) -> float:
        """The share of positions that are computed for nothing."""
        longest = self.length[self.bounds[1:] - 1]
        return 1 - float(self.length.sum()) / float((longest * np.diff(self.bounds)).sum())

    @property
    def fingerprint(self) -> str:
        """Sha256 of what the rows are cut from."""
        return self._train.fingerprint

    def batch(self, epoch: int, step: int, shard: tuple[int, int] = (0, 1)) -> Windows:
        """Return worker `shard[0]`'s rows of a batch that `shard[1]` workers share."""
        order, steps = self._order(epoch)
        low, high = self.bounds[steps[step]], self.bounds[steps[step] + 1]
        rows = order[low:high]
        length = torch.from_numpy(self.length[rows]).to(self.device)
        place = torch.arange(int(self.length[high - 1]), device=self.device)
        there = place < length[:, None]
        flat = torch.from_numpy(self.start[rows]).to(self.device)[:, None] + place
        flat = torch.where(there, flat, 0)
        item = torch.where(there, self.item[flat], -1)
        foreseen = there & self._asked[flat + 1]
        if self.config.prefixes:
            foreseen &= place == length[:, None] - 1
        target = torch.where(foreseen, self.item[flat + 1], -1)
        weight = (target >= 0).sum(dim=1).float()
        negative, log_q = self._negatives(epoch, step, item.shape)
        mine = slice(shard[0], None, shard[1])
        return Windows(
            user=torch.from_numpy(self.user[rows[mine]]).to(self.device),
            item=item[mine],
            target=target[mine],
            weight=weight[mine],
            negative=negative[mine] if negative.dim() == 3 else negative,
            time=None if self.time is None else self.time[flat[mine]],
            log_q=log_q,
            rate=self.config.draws / max(self.n_items - 1, 1),
            whole=weight.sum(),
        )

    def _order(self, epoch: int) -> tuple[np.ndarray, np.ndarray]:
        """Return windows in an order that keeps lengths sorted, and batches in any order."""
        if self._drawn[0] != epoch:
            draw = torch_stream(self.seed, "shuffle", epoch)
            lottery = torch.rand(len(self.length), generator=draw).numpy()
            order = np.lexsort([lottery, self.length])
            self._drawn = epoch, order, torch.randperm(len(self), generator=draw).numpy()
        return self._drawn[1], self._drawn[2]

    def _negatives(self, epoch: int, step: int, shape: torch.Size) -> tuple[Tensor, Tensor | None]:
        config = self.config
        if config.loss in WHOLE:
            return torch.empty(0, dtype=torch.int64, device=self.device), None
        draw = torch_stream(self.seed, "negatives", epoch, step, device=self.device)
        sizes = (*shape, config.draws) if config.loss in OWN else (config.draws,)
        negative = torch.randint(self.n_items, sizes, generator=draw, device=self.device)
        if config.loss not in SHARED:
            return negative, None
        return negative, torch.full(sizes, math.log(config.draws / self.n_items), device=self.device)


def _pieces(starts: np.ndarray, lengths: np.ndarray, most: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return user, first event and length of every window (V,), none longer than `most` and none empty.

    A window of length n holds n events and the n that come after each. The last window of a history is the longest.
    """
    targets = np.maximum(lengths - 1, 0)
    pieces = -(-targets // most)
    user = np.repeat(np.arange(len(lengths)), pieces)
    place = np.arange(len(user)) - np.repeat(np.cumsum(pieces) - pieces, pieces)  # 0 is the first, and the short one
    first = targets - (pieces - 1) * most
    start = starts[user] + np.where(place == 0, 0, first[user] + (place - 1) * most)
    return user, start, np.where(place == 0, first[user], most)


def _prefixes(starts: np.ndarray, lengths: np.ndarray, most: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return user, first event and length of every window (V,): the last `most` events before each but the first."""
    targets = np.maximum(lengths - 1, 0)
    user = np.repeat(np.arange(len(lengths)), targets)
    before = np.arange(len(user)) - np.repeat(np.cumsum(targets) - targets, targets) + 1
    length = np.minimum(before, most)
    return user, starts[user] + before - length, length


def _bounds(length: np.ndarray, positions: int) -> np.ndarray:
    """Return where batches begin (n+1,): each has as many windows, of sorted length, as `positions` have room for."""
    bounds = [0]
    while bounds[-1] < len(length):
        start = bounds[-1]
        low, high = start + 1, min(len(length), start + max(1, positions // max(int(length[start]), 1)))
        while low < high:  # the last end at which the longest window times their number still fits
            middle = (low + high + 1) // 2
            fits = int(length[middle - 1]) * (middle - start) <= positions
            low, high = (middle, high) if fits else (low, middle - 1)
        bounds.append(low)
    return np.array(bounds)


def _seen_before(train: Interactions, kept: np.ndarray) -> np.ndarray:
    """Return which events (in order of users, then time) come after one that hides their item, bool (E,)."""
    hides = train.hides[kept]
    key = train.user[kept].astype(np.int64) * max(train.n_items, 1) + train.item[kept]
    order = np.argsort(key, kind="stable")
    hidden = np.cumsum(hides[order]) - hides[order]  # events that hide, before this one
    key = key[order]
    first = np.r_[True, key[1:] != key[:-1]]
    since = np.maximum.accumulate(np.where(first, np.arange(len(key)), 0)) if len(key) else key
    seen = np.zeros(len(key), bool)
    seen[order] = hidden > hidden[since]
    return seen
