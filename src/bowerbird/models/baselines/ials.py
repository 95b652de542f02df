"""iALS: a vector for each item, found by alternating least squares over all pairs; a person's follows from their past.

Paper:   Hu, Koren and Volinsky, ICDM 2008; penalty, weights and start as in Rendle et al., RecSys 2022,
         arXiv:2110.14037, equations 1-6 and sections 4.1-4.4.
Differs: what was chosen counts 1, whatever its weight. α is given for all items together, so that a setting means
         the same for small and large catalogues. No user vector is kept: everyone is answered by the half-step
         u = (Σ_h v_h v_hᵀ + α VᵀV + λ (n + α I)^ν · 1)⁻¹ Σ_h v_h over the n items of their history.
Cost:    an epoch is 4P * D² + (U + I) * D³ multiplies, in blocks; keeps I * D weights. A request costs n * D² + D³.
Shapes:  U users, I items, P distinct pairs, B requests, D vector size, b lists of a block, W its longest list.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from scipy.sparse import csr_matrix
from torch import Tensor
from torch.nn import functional

from bowerbird.core import ModelConfig, check, register
from bowerbird.data import Interactions, Schema
from bowerbird.features import Context
from bowerbird.nn.graph import pair_matrix
from bowerbird.nn.vectors import DotProduct, grown

START = 0.1  # length of an item vector before the first half-step
BLOCK_NUMBERS = 1_000_000  # numbers held for the lists of a block: 4 MB, which stay near the processor


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

    def fit(self, train: Interactions, rng: np.random.Generator) -> None:
        """Let users and items take turns, each solved exactly with the other held."""
        dim, device = self.config.dim, self.item.device
        pairs = pair_matrix(train)
        # sums of floats depend on their order: users go by what they chose, so that their row numbers change nothing
        pairs = pairs[np.argsort(pairs.astype(np.int64) @ rng.integers(1 << 40, size=train.n_items), kind="stable")]
        of_users, of_items = _lists(pairs, device), _lists(pairs.T.tocsr(), device)
        self.shaped_item = of_items[0].diff() > 0
        n_users, n_items = int((of_users[0].diff() > 0).sum()), int(self.shaped_item.sum())
        start = rng.normal(0.0, START / dim**0.5, (train.n_items, dim)).astype(np.float32)
        item = torch.from_numpy(start).to(device)
        item[~self.shaped_item] = 0.0
        for _ in range(self.config.epochs):
            user = self._half_step(*of_users, item, item.T @ item, n_items)
            item = self._half_step(*of_items, user, user.T @ user, n_users)
        self.item, self.gram = item, item.T @ item

    def query(self, context: Context) -> Tensor:
        """Return the vectors that least squares finds for the histories (B, D), zeros where nothing speaks."""
        request, item = context.history.positive
        offsets = torch.searchsorted(request, torch.arange(len(context) + 1, device=request.device))
        return self._half_step(offsets, item, self.item, self.gram, int(self.shaped_item.sum()))

    def item_vectors(self) -> Tensor:
        """Return item vectors (I, D)."""
        return self.item

    def grow(self, n_users: int, n_items: int) -> None:
        """New items have no vector yet."""
        self.grow_shaped(n_users, n_items)
        self.item = grown(self.item, n_items)

    @property
    def _alpha(self) -> float:
        """The weight α of a pair that was not chosen: never more than what a choice adds."""
        return min(1.0, self.config.unobserved / max(int(self.shaped_item.sum()), 1))

    def _half_step(self, offsets: Tensor, chosen: Tensor, table: Tensor, gram: Tensor, n: int) -> Tensor:
        """Return a vector for each list, `chosen[offsets[r]:offsets[r + 1]]` of rows of `table`, of which n count."""
        config, lengths, alpha = self.config, offsets.diff(), self._alpha
        strength = config.l2 * (lengths + alpha * n) ** config.exponent
        solved = table.new_zeros(len(lengths), config.dim)
        for rows in _blocks(lengths, config.dim):
            shortest, longest = (int(lengths[row]) for row in (rows[0], rows[-1]))
            place = torch.arange(longest, device=table.device)  # (W,)
            where = (offsets[rows, None] + place).clamp_(max=len(chosen) - 1)
            vectors = functional.embedding(chosen[where], table)  # (b, W, D)
            vectors[:, shortest:].masked_fill_((place[shortest:] >= lengths[rows, None])[:, :, None], 0.0)
            left = torch.baddbmm(gram.expand(len(rows), -1, -1), vectors.mT, vectors, beta=alpha)
            left.diagonal(dim1=1, dim2=2).add_(strength[rows, None])
            right = vectors.sum(dim=1)[:, :, None]
            solved[rows] = torch.cholesky_solve(right, torch.linalg.cholesky(left))[:, :, 0]
        return solved


def _lists(matrix: csr_matrix, device: torch.device) -> tuple[Tensor, Tensor]:
    """Return offsets and columns of a CSR matrix, int64."""
    offsets, columns = (torch.from_numpy(part.astype(np.int64)).to(device) for part in (matrix.indptr, matrix.indices))
    return offsets, columns


def _blocks(lengths: Tensor, dim: int) -> Iterator[Tensor]:
    """Yield the rows of lists that are not empty, shortest first: a block's lists are about as long as its last."""
    ascending, order = lengths.sort(stable=True)
    start, most = int((ascending == 0).sum()), max(1, BLOCK_NUMBERS // dim**2)
    while start < len(order):
        length = ascending[start : start + most]
        numbers = torch.arange(1, len(length) + 1, device=length.device) * (length + dim) * dim
        stop = start + max(1, int((numbers <= BLOCK_NUMBERS).sum()))
        yield order[start:stop]
        start = stop
