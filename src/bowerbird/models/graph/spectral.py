"""Spectral: what somebody chose, as a signal on the graph of items, of which only the smooth part is kept. No training.

Paper:   Shen et al., CIKM 2021, arXiv:2108.07567 (GF-CF): s = r (R̃ᵀR̃ + w D^−½ V Vᵀ D^½), R̃ = D_U^−½ R D^−½.
Differs: of R̃ᵀR̃ each item keeps its largest weights, so that nobody's history is in the model. The exponents of D_U and
         D are a choice. Seeds go through the filter alone, without D, so that likeness does not mean popularity.
Cost:    one sparse product in blocks and a truncated SVD; keeps I * (2 * K + R) numbers. A request costs P * K sums and
         I * R multiplies.
Shapes:  U users, I items, R singular vectors, K neighbours, B requests, n listed items, P positive history entries.
"""

from dataclasses import dataclass

import numpy as np
import torch
from scipy.sparse import csr_matrix, diags
from scipy.sparse.linalg import svds
from torch import Tensor, nn

from bowerbird.core import ModelConfig, check, check_room, register
from bowerbird.data import Interactions, Schema
from bowerbird.features import Context
from bowerbird.nn.graph import pair_matrix
from bowerbird.nn.vectors import grown, listed
from bowerbird.retrieval import block_size

SMALL = 1_000  # users or items up to which all eigenvectors are found at once
NUMBERS = 8_000_000  # weights summed at once
LEAST = 1e-5  # of the largest singular value: below, a direction is a matter of rounding


@dataclass(frozen=True, kw_only=True)
class SpectralConfig(ModelConfig):
    """What counts as smooth, and how much degrees count."""

    rank: int = 128  # smoothest directions R that the ideal low-pass filter keeps
    weight: float = 0.3  # w of the ideal filter, beside the linear one
    neighbours: int = 500  # largest weights of the linear filter kept for each item, K
    user_exponent: float = 0.5  # of D_U: how much less a choice counts where its user chose much
    item_exponent: float = 0.5  # of D: how much less it counts where many chose the item

    def __post_init__(self) -> None:
        check(self.rank >= 1, "rank", self.rank, "must be 1 or more", try_instead=128)
        check(self.weight >= 0, "weight", self.weight, "must be 0 or more", try_instead=0.3)
        check(self.neighbours >= 1, "neighbours", self.neighbours, "must be 1 or more", try_instead=500)
        for key in ("user_exponent", "item_exponent"):
            value = getattr(self, key)
            check(0 <= value <= 1, key, value, "must be 0 to 1", try_instead=0.5)


@register(
    "spectral",
    config=SpectralConfig,
    tags=("graph", "retriever", "closed-form", "cold-user"),
    search={"rank": (16, 512), "weight": (0.03, 3.0), "neighbours": (50, 1_000)},
)
class Spectral(nn.Module):
    """Scores an item by what the linear and the ideal low-pass filter leave of the history there."""

    neighbour: Tensor
    linear: Tensor
    vectors: Tensor
    degree: Tensor
    item_rows = ("neighbour",)  # weights that are rows of items

    def __init__(self, config: SpectralConfig, schema: Schema) -> None:
        super().__init__()
        self.config, n_items = config, schema.n_items
        kept = (n_items, min(config.neighbours, n_items))
        weights = f"{kept[1]:,} weights for each of {n_items:,} items"
        check_room(weights, 8 * kept[0] * kept[1], instead="Choose fewer neighbours.")
        self.register_buffer("neighbour", torch.zeros(kept, dtype=torch.int32))  # (I, K): rows of items
        self.register_buffer("linear", torch.zeros(kept))  # (I, K): their weights, 0 where there is none
        self.register_buffer("vectors", torch.zeros(n_items, config.rank))  # V (I, R), 0 where there are fewer
        self.register_buffer("degree", torch.zeros(n_items))  # people who chose each item

    def fit(self, train: Interactions, rng: np.random.Generator) -> None:
        """Keep the largest entries of the linear filter, block by block, and the first singular vectors."""
        pairs = pair_matrix(train).astype(np.float64)
        users, items = (np.asarray(pairs.sum(axis=axis)).ravel() for axis in (1, 0))
        self.degree = torch.from_numpy(items.astype(np.float32)).to(self.degree.device)
        left = diags(np.maximum(users, 1) ** -self.config.user_exponent)
        right = diags(np.maximum(items, 1) ** -self.config.item_exponent)
        normal = (left @ pairs @ right).tocsr()
        found = torch.from_numpy(smoothest(normal, self.config.rank, rng).astype(np.float32))
        self.vectors.zero_()[:, : found.shape[1]] = found
        normal = normal.astype(np.float32)
        columns, size = normal.T.tocsr(), block_size(train.n_items)
        for start in range(0, train.n_items, size):
            rows = slice(start, min(start + size, train.n_items))
            block = torch.from_numpy((columns[rows] @ normal).toarray())
            value, column = block.topk(self.linear.shape[1], dim=1)
            self.neighbour[rows], self.linear[rows] = column.int(), value

    def can(self, context: Context) -> Tensor:
        """Return which requests have a history or seeds with an item that somebody chose, bool (B,)."""
        request, item = context.asked.positive
        return torch.bincount(request[self.degree[item] > 0], minlength=len(context)) > 0

    def scores(self, context: Context, items: Tensor | None = None) -> Tensor:
        """Return what both filters leave of the history or seeds (B, I) or (B, n)."""
        request, item = context.asked.positive
        n, n_items = len(context), len(self.degree)
        power = self.config.item_exponent if context.seeds is None else 0.0
        scale = self.degree.clamp(min=1) ** power
        signal = self.vectors.new_zeros(n, self.vectors.shape[1])
        signal.index_add_(0, request, self.vectors[item] / scale[item, None])
        found = self.config.weight * (signal @ self.vectors.T) * scale
        size = max(1, NUMBERS // self.linear.shape[1])
        for start in range(0, len(item), size):
            chosen, asking = item[start : start + size], request[start : start + size, None]
            place = asking * n_items + self.neighbour[chosen]  # (p, K)
            found.view(-1).index_add_(0, place.flatten(), self.linear[chosen].flatten())
        return listed(found.masked_fill_(self.degree == 0, -torch.inf), items)

    def grow(self, n_users: int, n_items: int) -> None:
        """New items have no place on the graph yet."""
        kept = min(self.config.neighbours, n_items)
        self.neighbour, self.linear = grown(self.neighbour, n_items, kept), grown(self.linear, n_items, kept)
        self.vectors, self.degree = grown(self.vectors, n_items, self.config.rank), grown(self.degree, n_items)


def smoothest(matrix: csr_matrix, rank: int, rng: np.random.Generator) -> np.ndarray:
    """Return the right singular vectors of the largest singular values of a matrix (U, I), at most `rank`, (I, R)."""
    small, wide = min(matrix.shape), matrix.shape[0] < matrix.shape[1]
    if not matrix.nnz:
        return np.zeros((matrix.shape[1], 0))
    if small > max(SMALL, rank):
        _, _, vectors = svds(matrix, k=rank, v0=rng.standard_normal(small), return_singular_vectors="vh")
        return np.ascontiguousarray(vectors.T)
    value, vectors = np.linalg.eigh((matrix @ matrix.T if wide else matrix.T @ matrix).toarray())
    kept = value[-rank:] > LEAST**2 * value[-1]
    value, vectors = value[-rank:][kept], vectors[:, -rank:][:, kept]
    return matrix.T @ vectors / np.sqrt(value) if wide else vectors
