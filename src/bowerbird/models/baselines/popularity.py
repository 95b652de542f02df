"""Popularity: the same list for everyone, most chosen first. What a model must beat to be worth its name.

Differs: counts distinct people, each weighted by their strongest event with the item, not raw events.
Cost:    O(E) to fit, I numbers to keep.
Shapes:  B requests, I items, n listed items.
"""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from bowerbird.core import ModelConfig, register
from bowerbird.data import Interactions, Schema
from bowerbird.features import Context
from bowerbird.nn.vectors import grown, listed


@dataclass(frozen=True, kw_only=True)
class PopularityConfig(ModelConfig):
    """Nothing to choose."""


@register("popularity", config=PopularityConfig, tags=("baseline", "retriever", "closed-form", "cold-user"))
class Popularity(nn.Module):
    """Scores an item by the weight of the people who chose it."""

    counts: Tensor

    def __init__(self, config: PopularityConfig, schema: Schema) -> None:
        super().__init__()
        self.register_buffer("counts", torch.zeros(schema.n_items))

    def fit(self, train: Interactions, rng: np.random.Generator) -> None:
        """Count."""
        pairs = train.positives
        weight = np.bincount(pairs.item, weights=pairs.weight, minlength=train.n_items)
        self.counts = torch.from_numpy(weight.astype(np.float32))

    def can(self, context: Context) -> Tensor:
        """Return true for everyone who does not ask for similar items, bool (B,)."""
        return torch.full((len(context),), context.seeds is None, device=context.user.device)

    def scores(self, context: Context, items: Tensor | None = None) -> Tensor:
        """Return the weighted number of people (B, I) or (B, n)."""
        return listed(self.counts.repeat(len(context), 1), items)

    def grow(self, n_users: int, n_items: int) -> None:
        """New items have been chosen by nobody."""
        self.counts = grown(self.counts, n_items)
