"""What tests of a search have in common: vectors, the slow and obvious answer, and how much of it was found."""

import math

import torch
from torch import Tensor

from bowerbird.core import torch_stream


def normal(*shape: int, name: str = "vectors") -> Tensor:
    """Return normal random numbers, the same for the same name."""
    return torch.randn(*shape, generator=torch_stream(0, name))


def best(vectors: Tensor, query: Tensor, n: int, allowed: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Return the slow, obvious answer."""
    scores = query @ vectors.T
    if allowed is not None:
        scores = scores.masked_fill(~allowed, -math.inf)
    values, rows = scores.sort(dim=1, descending=True)
    return values[:, :n], rows[:, :n]


def share_found(found: Tensor, wanted: Tensor) -> float:
    """Return which share of the wanted rows were found."""
    pairs = zip(found.tolist(), wanted.tolist(), strict=True)
    return sum(len(set(one) & set(other)) for one, other in pairs) / wanted.numel()
