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
from bowerbird.features import Pairs, Windows
from bowerbird.nn.debias import Debias
from bowerbird.nn.losses import SHARED, WHOLE, PairConfig
from bowerbird.training.windows import WindowBatches

REDRAWS = 8  # times a negative that is a positive of its user is drawn again; what is left after that stays
AHEAD = 1_000_000  # rows, or negatives, that are drawn at once for the steps ahead
CELLS = 32_000_000  # users times items up to which a table of bytes says who chose what: 32 MB; else it is searched


class PairBatches:
    """Positive pairs in a new order each epoch, with uniform negatives."""

    def __init__(self, train: Interactions, config: PairConfig, *, seed: int, device: str) -> None:
        pairs = train.positives
        self.user = torch.from_numpy(pairs.user.astype("int64")).to(device)
        self.item = torch.from_numpy(pairs.item.astype("int64")).to(device)
        unlikely = config.pair_weights(train) if isinstance(config, Debias) else None
        weight = pairs.weight if unlikely is None else pairs.weight * unlikely
        self.weight = torch.from_numpy(weight).to(device)
        self.n_items, self.batch_size = train.n_items, config.batch_size
        self.negatives, self.loss = config.draws, config.loss
        self.seed, self.device = seed, device
        self._train = train
        self._order: tuple[int, Tensor] = (-1, self.user)
        self._ahead: tuple[int, int, tuple[Tensor, Tensor, Tensor, Tensor]] = (-1, -1, (self.user,) * 4)
        self._chosen = self.user * self.n_items + self.item  # sorted, since the pairs are
        if train.n_users * train.n_items <= CELLS:
            table = torch.zeros(train.n_users * train.n_items, dtype=torch.bool, device=device)
            self._chosen = table.index_fill_(0, self._chosen, True)

    def __len__(self) -> int:
        """Return the number of steps in an epoch."""
        return math.ceil(len(self.user) / self.batch_size)

    @property
    def n_rows(self) -> int:
        """The number of rows in an epoch."""
        return len(self.user)

    @property
    def fingerprint(self) -> str:
        """Sha256 of what the rows are cut from."""
        return self._train.fingerprint

    def batch(self, epoch: int, step: int, shard: tuple[int, int] = (0, 1)) -> Pairs:
        """Return worker `shard[0]`'s rows of a batch that `shard[1]` workers share, negatives the whole batch's."""
        user, item, weight, negative = self._drawn(epoch, step)
        mine, whole = slice(shard[0], None, shard[1]), weight.sum()
        user, item, weight = user[mine], item[mine], weight[mine]
        if self.loss in WHOLE:
            return Pairs(user, item, weight, negative, whole=whole)
        rate = self.negatives / max(self.n_items - 1, 1)
        if self.loss in SHARED:
            draw = torch_stream(self.seed, "negatives", epoch, step, device=self.device)
            negative = torch.randint(self.n_items, (self.negatives,), generator=draw, device=self.device)
            expected = self.negatives / self.n_items  # all items are in the urn; the row's own is left out later
            log_q = torch.full((self.negatives,), math.log(expected), device=self.device)
            return Pairs(user, item, weight, negative, log_q, rate, whole)
        return Pairs(user, item, weight, negative[mine], rate=rate, whole=whole)

    def _drawn(self, epoch: int, step: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Return user, item and weight (B,) of a step, and (B, N) negatives where rows have their own.

        They are drawn for several steps at once, which costs a fraction of drawing for each.
        """
        own = self.negatives if self.loss not in (*WHOLE, *SHARED) else 0
        steps = max(1, AHEAD // (self.batch_size * max(own, 1)))
        part, within = divmod(step, steps)
        if self._ahead[:2] != (epoch, part):
            if self._order[0] != epoch:
                shuffle = torch_stream(self.seed, "shuffle", epoch, device=self.device)
                self._order = epoch, torch.randperm(len(self.user), generator=shuffle, device=self.device)
            size = steps * self.batch_size
            rows = self._order[1][part * size : (part + 1) * size]
            user = self.user[rows]
            draw = torch_stream(self.seed, "negatives", epoch, "part", part, device=self.device)
            self._ahead = epoch, part, (user, self.item[rows], self.weight[rows], self._own_negatives(user, own, draw))
        mine = slice(within * self.batch_size, (within + 1) * self.batch_size)
        user, item, weight, negative = (column[mine] for column in self._ahead[2])
        return user, item, weight, negative

    def _own_negatives(self, user: Tensor, each: int, draw: torch.Generator) -> Tensor:
        """Return (rows, each) items that the row's user did not choose."""
        user = user.repeat_interleave(each)
        negative = torch.randint(self.n_items, (len(user),), generator=draw, device=self.device)
        again = torch.arange(len(user), device=self.device)
        for _ in range(REDRAWS):
            again = again[self._is_chosen(user[again], negative[again])]
            if not len(again):
                break
            negative[again] = torch.randint(self.n_items, (len(again),), generator=draw, device=self.device)
        return negative.view(-1, each) if each else negative

    def _is_chosen(self, user: Tensor, item: Tensor) -> Tensor:
        """Return which of these pairs are positive, bool (n,)."""
        key = user * self.n_items + item
        if self._chosen.dtype == torch.bool:
            return self._chosen[key]
        place = torch.searchsorted(self._chosen, key).clamp_(max=len(self._chosen) - 1)
        return self._chosen[place] == key


def batches_for(
    kind: type, train: Interactions, config: Any, *, seed: int, device: str
) -> "PairBatches | WindowBatches":
    """Return what cuts batches of this kind; raises `ConfigError` for a kind that no cutter makes yet."""
    if kind is Pairs:
        return PairBatches(train, config, seed=seed, device=device)
    if kind is Windows:
        return WindowBatches(train, config, seed=seed, device=device)
    raise ConfigError(f"no batches of kind {kind.__name__} can be cut. A model may eat Pairs or Windows.")
