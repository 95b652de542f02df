"""Dropout whose random bits cost little on a CPU: 8 for each number, drawn 64 at once, laid over it as a mask.

Paper: Srivastava et al., JMLR 2014. Differs: a share is rounded to 1/256.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

LOWEST = -(1 << 63)  # from which 64 random bits are drawn: without it torch leaves the first one 0
LEVELS = 256  # of the random numbers that decide


def levels(dropout: float) -> int:
    """Return how many of the 256 levels mean that an output is dropped: all of them never do."""
    return min(round(LEVELS * dropout), LEVELS - 1)


def kept_by(x: Tensor, sizes: Sequence[int], dropped: int) -> list[Tensor | None]:
    """Return an int32 mask (B, H) for the outputs of each layer, all ones with a chance of 1 − dropped / 256, else 0.

    `x` is (B, …), `sizes` the layers' H. None stands for a mask of ones. Masks are drawn together, and are words to
    "and" with: a tenth of the time of torch's own dropout on a CPU.
    """
    if not dropped:
        return [None] * len(sizes)
    counts = [len(x) * size for size in sizes]
    drawn = _random_words((sum(counts) + 7) // 8, x.device).view(torch.int8)[: sum(counts)]
    words = drawn.int().sub_(LEVELS // 2 - dropped).bitwise_right_shift_(31)  # the sign, all over
    return [part.view(len(x), size) for part, size in zip(torch.split(words, counts), sizes, strict=True)]


def _random_words(count: int, device: torch.device) -> Tensor:
    """Return random bits, int64 (count,), of torch's generator; on a CPU it seeds NumPy's, which is twice as fast."""
    if device.type == "cpu":
        seed = int(torch.empty((), dtype=torch.int64).random_())
        return torch.from_numpy(np.random.SFC64(seed).random_raw(count).view(np.int64))
    return torch.empty(count, dtype=torch.int64, device=device).random_(LOWEST, None)


class _Dropped(torch.autograd.Function):
    """x · scale where a mask says so, else 0; the gradient likewise."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, kept: Tensor, scale: float) -> Tensor:
        ctx.save_for_backward(kept)
        ctx.scale = scale
        return _laid(x, kept, scale)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        (kept,) = ctx.saved_tensors
        return _laid(gradients[0], kept, ctx.scale), None, None


def _laid(x: Tensor, kept: Tensor, scale: float) -> Tensor:
    y = x * scale
    y.view(torch.int32).bitwise_and_(kept)
    return y


def dropout(x: Tensor, share: float, training: bool) -> Tensor:
    """Return x, float32, with a share of its numbers set to 0 and the others scaled up, in training only."""
    dropped = levels(share) if training else 0
    (kept,) = kept_by(x[None], [x.numel()], dropped)
    if kept is None:
        return x
    found: Tensor = _Dropped.apply(x, kept.view(x.shape), LEVELS / (LEVELS - dropped))  # type: ignore[no-untyped-call]
    return found
