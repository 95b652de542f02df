"""EASE: an item is foretold by a weighted sum of the others, in closed form. Shallow, and hard to beat.

Paper:  Steck, WWW 2019, arXiv:1905.03375, equation 8.
Cost:   one inverse of an I * I matrix, O(I^3); keeps I^2 weights, and three times that while fitting: 40,000 items
        are 6.4 GB and 20.
Shapes: B requests, I items, n listed items, P positive history entries.
"""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from bowerbird.core import ConfigError, ModelConfig, check, register
from bowerbird.data import Interactions, Schema
from bowerbird.features import Context
from bowerbird.nn.graph import pair_matrix
from bowerbird.nn.vectors import grown, listed, total

LARGEST = 50_000  # items


@dataclass(frozen=True, kw_only=True)
class EASEConfig(ModelConfig):
    """How far to trust what two items have in common."""

    l2: float = 300.0  # weight of the penalty: more for more people or less certain data

    def __post_init__(self) -> None:
        check(self.l2 > 0, "l2", self.l2, "must be above 0", try_instead=300.0)


@register(
    "ease",
    config=EASEConfig,
    tags=("baseline", "retriever", "closed-form", "cold-user"),
    search={"l2": (1.0, 10_000.0)},
)
class EASE(nn.Module):
    """Scores an item by the summed weights from the items of the history."""

    weights: Tensor

    def __init__(self, config: EASEConfig, schema: Schema) -> None:
        super().__init__()
        n = schema.n_items
        if n > LARGEST:
            raise ConfigError(f"ease keeps {n:,}² weights, {4e-9 * n * n:.0f} GB. Use itemknn or mf here.")
        self.config = config
        self.register_buffer("weights", torch.zeros(schema.n_items, schema.n_items))  # (I, I): from row to column

    def fit(self, train: Interactions, rng: np.random.Generator) -> None:
        """Invert the Gram matrix; the diagonal is kept at 0 so that no item foretells itself."""
        matrix = pair_matrix(train)
        gram = torch.from_numpy((matrix.T @ matrix).toarray()).to(self.weights.device)
        gram.diagonal().add_(self.config.l2)
        gram = torch.linalg.cholesky(gram)  # one name for each step, so that two matrices live at once, not three
        gram = torch.cholesky_inverse(gram).mT  # symmetric, so only its layout changes: rows are what scoring sums
        gram /= -gram.diagonal().clone()[None, :]
        self.weights = gram.fill_diagonal_(0.0)

    def can(self, context: Context) -> Tensor:
        """Return which requests have a history or seeds that speak for something, bool (B,)."""
        return context.asked.speaks

    def scores(self, context: Context, items: Tensor | None = None) -> Tensor:
        """Return summed weights from the history or seeds (B, I) or (B, n)."""
        return listed(total(context.asked, self.weights), items)

    def grow(self, n_users: int, n_items: int) -> None:
        """New items foretell nothing yet."""
        self.weights = grown(self.weights, n_items, n_items)
