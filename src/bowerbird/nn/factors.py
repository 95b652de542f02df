"""Alternating least squares over all pairs of users and items: the vectors of one side, exactly, with the other held.

Hu, Koren and Volinsky, ICDM 2008; penalty, weights and start as in Rendle et al., RecSys 2022, arXiv:2110.14037,
equations 1-6 and sections 4.1-4.4. What was chosen counts 1, whatever its weight.

Shapes: R lists of rows of a table, D vector size, b lists of a block, W its longest list.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from scipy.sparse import csr_matrix
from torch import Tensor
from torch.nn import functional

from bowerbird.features import Ragged

START = 0.1  # length of an item vector before the first half-step
BLOCK_NUMBERS = 1_000_000  # numbers held for the lists of a block: 4 MB, which stay near the processor


@dataclass(frozen=True)
class LeastSquares:
    """What holds vectors back."""

    l2: float  # weight λ of the penalty, for each choice
    unobserved: float  # weight of all items together as not chosen, α I; what was chosen weighs 1 more
    exponent: float  # ν: 1 penalises a vector for each of its choices, 0 all vectors alike

    def alpha(self, n_items: int) -> float:
        """Return the weight α of a pair that was not chosen, of so many items: never more than what a choice adds."""
        return min(1.0, self.unobserved / max(n_items, 1))

    def half_step(self, offsets: Tensor, chosen: Tensor, table: Tensor, gram: Tensor, n: int, alpha: float) -> Tensor:
        """Return a vector for each list (R, D), `chosen[offsets[r]:offsets[r + 1]]` of rows of `table`.

        Of these n are more than zeros. `gram` is tableᵀ · table (D, D). An empty list gets zeros.
        """
        lengths = offsets.diff()
        strength = self.l2 * (lengths + alpha * n) ** self.exponent
        return regress(offsets, chosen, table, strength, gram=alpha * gram)

    def answers(self, history: Ragged, table: Tensor, gram: Tensor, n: int) -> Tensor:
        """Return the vector of each history (B, D), with a row of `table` for each item; zeros where nothing speaks.

        `gram` and `n` are those of `half_step`.
        """
        request, item = history.positive
        offsets = torch.searchsorted(request, torch.arange(len(history) + 1, device=request.device))
        return self.half_step(offsets, item, table, gram, n, self.alpha(n))

    def without_each(self, history: Ragged, table: Tensor, gram: Tensor, n: int) -> Tensor:
        """Return the vectors of one history without each of the P items that count in it, two at least (P, D).

        They share one matrix but for a vector's outer product, so that one inverse serves all (Sherman and Morrison,
        Annals of Mathematical Statistics 1950): without v, (A − v vᵀ)⁻¹ (s − v) = q − z (1 − vᵀq) / (1 − vᵀz) with
        q = A⁻¹ s and z = A⁻¹ v.
        """
        vectors, alpha = table[history.positive[1]].double(), self.alpha(n)
        left = alpha * gram.double() + vectors.T @ vectors
        left.diagonal().add_(self.l2 * (len(vectors) - 1 + alpha * n) ** self.exponent)
        solved = torch.cholesky_solve(vectors.T, torch.linalg.cholesky(left)).T  # z of each, (P, D)
        whole = solved.sum(dim=0)
        gone = (1 - vectors @ whole) / (1 - (vectors * solved).sum(dim=1))
        return (whole - solved * gone[:, None]).to(table.dtype)

    def alternate(
        self, pairs: csr_matrix, dim: int, epochs: int, rng: np.random.Generator, device: torch.device
    ) -> Tensor:
        """Return item vectors (I, D) after users and items took turns; zeros for items that nobody chose."""
        # sums of floats depend on their order: users go by what they chose, so that their row numbers change nothing
        pairs = pairs[np.argsort(pairs.astype(np.int64) @ rng.integers(1 << 40, size=pairs.shape[1]), kind="stable")]
        of_users, of_items = lists(pairs, device), lists(pairs.T.tocsr(), device)
        n_users, n_items = (int((side[0].diff() > 0).sum()) for side in (of_users, of_items))
        alpha = self.alpha(n_items)
        start = rng.normal(0.0, START / dim**0.5, (pairs.shape[1], dim)).astype(np.float32)
        item = torch.from_numpy(start).to(device)
        item[of_items[0].diff() == 0] = 0.0
        for _ in range(epochs):
            user = self.half_step(*of_users, item, item.T @ item, n_items, alpha)
            item = self.half_step(*of_items, user, user.T @ user, n_users, alpha)
        return item


def regress(
    offsets: Tensor,
    chosen: Tensor,
    table: Tensor,
    strength: Tensor,
    *,
    gram: Tensor | None = None,
    prior: Tensor | None = None,
) -> Tensor:
    """Return a vector for each list (R, D): u = (G + Σ v vᵀ + λ I)⁻¹ (Σ v + λ μ), of rows of `table`.

    `strength` (R,) is λ, `gram` (D, D) is G, `prior` (D,) is μ; both are zeros where left out. An empty list gets μ.
    """
    lengths, dim = offsets.diff(), table.shape[1]
    gram = table.new_zeros(dim, dim) if gram is None else gram
    prior = table.new_zeros(dim) if prior is None else prior
    solved = prior.repeat(len(lengths), 1)
    for rows in _blocks(lengths, dim):
        shortest, longest = (int(lengths[row]) for row in (rows[0], rows[-1]))
        place = torch.arange(longest, device=table.device)  # (W,)
        where = (offsets[rows, None] + place).clamp_(max=len(chosen) - 1)
        vectors = functional.embedding(chosen[where], table)  # (b, W, D)
        vectors[:, shortest:].masked_fill_((place[shortest:] >= lengths[rows, None])[:, :, None], 0.0)
        left = torch.baddbmm(gram.expand(len(rows), -1, -1), vectors.mT, vectors)
        left.diagonal(dim1=1, dim2=2).add_(strength[rows, None])
        right = (vectors.sum(dim=1) + strength[rows, None] * prior)[:, :, None]
        solved[rows] = torch.cholesky_solve(right, torch.linalg.cholesky(left))[:, :, 0]
    return solved


def lists(matrix: csr_matrix, device: torch.device) -> tuple[Tensor, Tensor]:
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
