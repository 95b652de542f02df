"""iALS: a vector for each item, found by alternating least squares over all pairs; a person's follows from their past.

Paper:   Hu, Koren and Volinsky, ICDM 2008; penalty, weights and start as in Rendle et al., RecSys 2022,
         arXiv:2110.14037, equations 1-6 and sections 4.1-4.4.
Differs: what was chosen counts 1, whatever its weight. α is given for all items together, so that a setting means
         the same for small and large catalogues. No user vector is kept: everyone is answered by the half-step
         u = (Σ_h v_h v_hᵀ + α VᵀV + λ (n + α I)^ν · 1)⁻¹ Σ_h v_h over the n items of their history.
Cost:    an epoch is 4P * D² + (U + I) * D³ multiplies, in blocks; keeps I * D weights. A request costs n * D² + D³.
Shapes:  U users, I items, P distinct pairs, B requests, D vector size, b lists of a block, W its longest list.
"""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from bowerbird.core import ModelConfig, check, register
from bowerbird.data import Interactions, Schema
from bowerbird.features import Context
from bowerbird.nn.factors import LeastSquares
from bowerbird.nn.graph import pair_matrix
from bowerbird.nn.vectors import DotProduct, grown


@dataclass(frozen=True, kw_only=True)
class IALSConfig(ModelConfig):
    """How large the vectors are, and what holds them back."""

    dim: int = 64  # vector size D
    l2: float = 0.006  # weight λ of the penalty, for each choice
    unobserved: float = 1_000.0  # weight of all items together as not chosen, α I; what was chosen weighs 1 more
    exponent: float = 1.0  # ν: 1 penalises a vector for each of its choices, 0 all vectors alike
    epochs: int = 10  # times that users and items take turns

    def __post_init__(self) -> None:
        check(self.dim >= 1, "dim", self.dim, "must be 1 or more", try_instead=64)
        check(self.l2 > 0, "l2", self.l2, "must be above 0", try_instead=0.006)
        check(self.unobserved > 0, "unobserved", self.unobserved, "must be above 0", try_instead=1_000.0)
        check(0 <= self.exponent <= 1, "exponent", self.exponent, "must be 0 to 1", try_instead=1.0)
        check(self.epochs >= 1, "epochs", self.epochs, "must be 1 or more", try_instead=10)


@register(
    "ials",
    config=IALSConfig,
    tags=("baseline", "retriever", "closed-form", "cold-user"),
    search={"dim": (16, 256), "l2": (3e-4, 0.1), "unobserved": (30.0, 3_000.0)},
)
class IALS(DotProduct):
    """Scores an item by the dot product of its vector with the one that least squares finds for the history."""

    item: Tensor
    gram: Tensor

    def __init__(self, config: IALSConfig, schema: Schema) -> None:
        super().__init__(schema)
        self.config = config
        self.register_buffer("item", torch.zeros(schema.n_items, config.dim))  # (I, D)
        self.register_buffer("gram", torch.zeros(config.dim, config.dim))  # VᵀV, kept so that a request need not sum it

    @property
    def squares(self) -> LeastSquares:
        """What holds vectors back."""
        return LeastSquares(self.config.l2, self.config.unobserved, self.config.exponent)

    def fit(self, train: Interactions, rng: np.random.Generator) -> None:
        """Let users and items take turns, each solved exactly with the other held."""
        config, device, pairs = self.config, self.item.device, pair_matrix(train)
        self.shaped_item = torch.from_numpy(np.asarray(pairs.sum(axis=0)).ravel() > 0).to(device)
        self.item = self.squares.alternate(pairs, config.dim, config.epochs, rng, device)
        self.gram = self.item.T @ self.item

    def query(self, context: Context) -> Tensor:
        """Return the vectors that least squares finds for the histories (B, D), zeros where nothing speaks."""
        return self.squares.answers(context.history, self.item, self.gram, int(self.shaped_item.sum()))

    def queries_without_each(self, context: Context) -> Tensor:
        """Return the vectors for one history without each of its items that count, two at least (P, D)."""
        return self.squares.without_each(context.history, self.item, self.gram, int(self.shaped_item.sum()))

    def item_vectors(self) -> Tensor:
        """Return item vectors (I, D)."""
        return self.item

    def grow(self, n_users: int, n_items: int) -> None:
        """New items have no vector yet."""
        self.grow_shaped(n_users, n_items)
        self.item = grown(self.item, n_items)
