"""Cutting batches from arrays on the device: one index and one draw a step, no loader, no worker process.

A batch depends on the seed, the epoch and the step alone, so that any worker can cut any shard of any batch.

Shapes: P pairs, B batch rows, N negatives, I items.
"""

import math
from typing import Any

import torch
from torch import Tensor

from bowerbird.core import ConfigError, torch_stream
from bowerbird.data import Interactions
from bowerbird.features import Pairs
from bowerbird.nn.losses import SHARED, WHOLE, PairConfig

REDRAWS = 8  # times a negative that is a positive of its user is drawn again; what is left after that stays


class PairBatches:
    """Positive pairs in a new order each epoch, with uniform negatives."""

    def __init__(self, train: Interactions, config: PairConfig, *, seed: int, device: str) -> None:
        pairs = train.positives
        self.user = torch.from_numpy(pairs.user.astype("int64")).to(device)
        self.item = torch.from_numpy(pairs.item.astype("int64")).to(device)
        self.weight = torch.from_numpy(pairs.weight).to(device)
        self.n_items, self.batch_size = train.n_items, config.batch_size
        self.negatives, self.loss = config.draws, config.loss
        self.seed, self.device = seed, device
        self.keys = self.user * self.n_items + self.item  # sorted, since the pairs are
        self._order: tuple[int, Tensor] = (-1, self.user)

    def __len__(self) -> int:
        """Return the number of steps in an epoch."""
        return math.ceil(len(self.user) / self.batch_size)

    @property
    def n_rows(self) -> int:
        """The number of rows in an epoch."""
        return len(self.user)

    def batch(self, epoch: int, step: int, shard: tuple[int, int] = (0, 1)) -> Pairs:
        """Return worker `shard[0]`'s rows of a batch that `shard[1]` workers share, negatives the whole batch's."""
        if self._order[0] != epoch:
            shuffle = torch_stream(self.seed, "shuffle", epoch, device=self.device)
            self._order = epoch, torch.randperm(len(self.user), generator=shuffle, device=self.device)
        rows = self._order[1][step * self.batch_size : (step + 1) * self.batch_size]
        user, item, weight = self.user[rows], self.item[rows], self.weight[rows]
        draw = torch_stream(self.seed, "negatives", epoch, step, device=self.device)
        mine, whole = slice(shard[0], None, shard[1]), weight.sum()
        if self.loss in WHOLE:
            none = torch.zeros(0, dtype=torch.int64, device=self.device)
            return Pairs(user[mine], item[mine], weight[mine], none, whole=whole)
        rate = self.negatives / max(self.n_items - 1, 1)
        if self.loss in SHARED:
            negative = torch.randint(self.n_items, (self.negatives,), generator=draw, device=self.device)
            expected = self.negatives / self.n_items  # all items are in the urn; the row's own is left out later
            log_q = torch.full((self.negatives,), math.log(expected), device=self.device)
            return Pairs(user[mine], item[mine], weight[mine], negative, log_q, rate, whole)
        negative = self._own_negatives(user, draw)
        return Pairs(user[mine], item[mine], weight[mine], negative[mine], rate=rate, whole=whole)

    def _own_negatives(self, user: Tensor, draw: torch.Generator) -> Tensor:
        """Return (B, N) items that the row's user did not choose."""
        shape = (len(user), self.negatives)
        negative = torch.randint(self.n_items, shape, generator=draw, device=self.device)
        for _ in range(REDRAWS):
            key = user[:, None] * self.n_items + negative
            place = torch.searchsorted(self.keys, key).clamp(max=len(self.keys) - 1)
            taken = self.keys[place] == key
            count = int(taken.sum())
            if not count:
                break
            negative[taken] = torch.randint(self.n_items, (count,), generator=draw, device=self.device)
        return negative


def batches_for(kind: type, train: Interactions, config: Any, *, seed: int, device: str) -> PairBatches:
    """Return what cuts batches of this kind; raises `ConfigError` for a kind that no cutter makes yet."""
    if kind is not Pairs:
        raise ConfigError(f"no batches of kind {kind.__name__} can be cut. A model may eat Pairs.")
    return PairBatches(train, config, seed=seed, device=device)
