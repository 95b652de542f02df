"""Policies: the last stage, which turns scored candidates into the slate that is shown, and says with what chance.

Nothing reorders after a policy, so that the logged propensity is that of the slate shown.

Shapes: B requests, C candidates (best first, −1 for empty places), k places.
"""

from typing import Protocol, runtime_checkable

import polars as pl
import torch
from torch import Tensor

from bowerbird.features import Context


class Policy(Protocol):
    """How a slate is chosen, and what is learned from what came of it."""

    @property
    def version(self) -> str:
        """Its name and settings as a short text: what is logged as `policy_version`."""
        ...

    def depth(self, k: int) -> int:
        """Return how many candidates C to choose k from, at least k."""
        ...

    def choose(self, context: Context, candidates: Tensor, scores: Tensor, k: int, seed: int) -> tuple[Tensor, Tensor]:
        """Return the slate, items out of `candidates`, and their propensities, (B, k) each; −1 for empty places.

        All chance derives from `seed` and the policy's own name for its stream.
        """
        ...

    def update(self, log: pl.DataFrame) -> None:
        """Learn from logged impressions and what followed them."""
        ...


@runtime_checkable
class Explores(Protocol):
    """What a policy has besides when it may choose otherwise: then all that it chose from is logged with its chance."""

    def explore(
        self, context: Context, candidates: Tensor, scores: Tensor, k: int, seed: int
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Return what `choose` does, and the chance of each candidate for the first place, (B, C); rows sum to 1.

        Of the item that is put there, it is the propensity.
        """
        ...


class Greedy:
    """The best k, always: every propensity is 1."""

    version = "greedy"

    def depth(self, k: int) -> int:
        """Return k: nothing else can be chosen."""
        return k

    def choose(self, context: Context, candidates: Tensor, scores: Tensor, k: int, seed: int) -> tuple[Tensor, Tensor]:
        """Return the first k candidates."""
        return candidates[:, :k], torch.ones_like(scores[:, :k])

    def update(self, log: pl.DataFrame) -> None:
        """Learn nothing."""
