"""Cutting batches of labelled rows: from a source in memory, in a new order each epoch.

Shapes: N rows, B batch rows.
"""

import math
from dataclasses import replace

import torch

from bowerbird.core import TrainedConfig, torch_stream
from bowerbird.features import FeatureBatch
from bowerbird.features.sources import Source


class RowBatches:
    """Rows of a source; a batch depends on the seed, the epoch and the step alone."""

    def __init__(self, source: Source, config: TrainedConfig, *, seed: int, fingerprint: str) -> None:
        self.source, self.batch_size, self.seed, self.fingerprint = source, config.batch_size, seed, fingerprint
        self._device = source.label.device
        self._ones = torch.ones(self.batch_size, device=self._device)
        self._order = (-1, torch.empty(0, dtype=torch.int64))

    def __len__(self) -> int:
        """Return the number of steps in an epoch."""
        return math.ceil(len(self.source) / self.batch_size)

    @property
    def n_rows(self) -> int:
        """The number of rows in an epoch."""
        return len(self.source)

    def batch(self, epoch: int, step: int, shard: tuple[int, int] = (0, 1)) -> FeatureBatch:
        """Return worker `shard[0]`'s rows of a batch that `shard[1]` workers share."""
        if self._order[0] != epoch:
            draw = torch_stream(self.seed, "shuffle", epoch, device=self._device.type)
            self._order = epoch, torch.randperm(len(self.source), generator=draw, device=self._device)
        index = self._order[1][step * self.batch_size : (step + 1) * self.batch_size]
        weight = self._ones[: len(index)] if self.source.weight is None else self.source.weight[index]
        mine = slice(shard[0], None, shard[1])
        return replace(self.source.cut(index[mine]), weight=weight[mine], whole=weight.sum())
