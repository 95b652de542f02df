"""What models have read of histories, kept for a while: somebody who did one thing more is not read anew.

Shapes: L events of a history.
"""

import threading
from collections import OrderedDict
from typing import Any

import torch
from torch import Tensor

BYTES = 64 * 1024 * 1024  # kept at most
BACK = 8  # events that may have come since a history was read


class Memory:
    """States of histories; of those that do not fit, the ones that were used longest ago are forgotten."""

    def __init__(self, most_bytes: int = BYTES) -> None:
        self.most_bytes, self.held = most_bytes, 0
        self._kept: OrderedDict[tuple[bytes, bytes], tuple[Any, int]] = OrderedDict()
        self._turn = threading.Lock()

    def __len__(self) -> int:
        return len(self._kept)

    def __deepcopy__(self, _: Any) -> "Memory":
        return Memory(self.most_bytes)

    def recall(self, item: Tensor, time: Tensor | None) -> Any:
        """Return the state of the longest part of a history (L,) that lacks `BACK` events at most; None of none."""
        items, times = _bytes(item, time)
        for left in range(min(BACK, len(item) - 1) + 1):
            end = 8 * (len(item) - left)
            key = items[:end], times[:end]
            with self._turn:
                if key in self._kept:
                    self._kept.move_to_end(key)
                    return self._kept[key][0]
        return None

    def keep(self, item: Tensor, time: Tensor | None, state: Any, n_bytes: int) -> None:
        """Keep the state of a history (L,)."""
        with self._turn:
            _, before = self._kept.pop(_bytes(item, time), (None, 0))
            self._kept[_bytes(item, time)] = state, n_bytes
            self.held += n_bytes - before
            while self.held > self.most_bytes:
                self.held -= self._kept.popitem(last=False)[1][1]

    def forget(self) -> None:
        """Forget all: the weights are others now."""
        with self._turn:
            self._kept.clear()
            self.held = 0


def _bytes(item: Tensor, time: Tensor | None) -> tuple[bytes, bytes]:
    return item.cpu().numpy().tobytes(), b"" if time is None else time.cpu().numpy().tobytes()


def size_of(*tensors: Tensor) -> int:
    """Return the bytes of tensors."""
    return sum(one.numel() * torch.finfo(one.dtype).bits // 8 for one in tensors)
