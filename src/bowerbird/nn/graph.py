"""The user-item graph as sparse matrices, and how vectors travel along it.

Shapes: U users, I items, P distinct pairs, D vector size.
"""

import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from scipy.sparse import csr_matrix
from torch import Tensor

from bowerbird.data import Interactions


def pair_matrix(train: Interactions) -> csr_matrix:
    """Return the distinct positive pairs as a matrix of ones (U, I)."""
    pairs = train.positives
    shape = (train.n_users, train.n_items)
    return csr_matrix((np.ones(len(pairs), np.float32), (pairs.user, pairs.item)), shape=shape)


@dataclass(frozen=True)
class Graph:
    """The symmetrically normalised adjacency matrix, in its two halves.

    `user_item` (U, I) and its transpose `item_user` (I, U) hold 1 / √(degree(u) · degree(i)) at each pair, as CSR:
    a product with CSR is many times faster than with COO, and the transpose makes the backward pass one too.
    """

    user_item: Tensor
    item_user: Tensor
    user_degree: Tensor  # float32 (U,)
    item_degree: Tensor  # float32 (I,)

    @classmethod
    def of(cls, train: Interactions) -> "Graph":
        """Return the graph of the distinct positive pairs."""
        matrix = pair_matrix(train)
        degrees = [np.asarray(matrix.sum(axis=axis)).ravel().astype(np.float32) for axis in (1, 0)]
        row, column = (np.maximum(degree, 1) ** -0.5 for degree in degrees)
        matrix = matrix.multiply(row[:, None]).multiply(column[None, :]).tocsr()
        return cls(_csr(matrix), _csr(matrix.T.tocsr()), *(torch.from_numpy(degree) for degree in degrees))

    def to(self, device: torch.device | str) -> "Graph":
        """Return the graph on `device`."""
        return Graph(
            self.user_item.to(device),
            self.item_user.to(device),
            self.user_degree.to(device),
            self.item_degree.to(device),
        )


def _csr(matrix: Any) -> Tensor:
    """Return a SciPy CSR matrix as a torch one with int32 indices."""
    matrix.sort_indices()
    with warnings.catch_warnings():  # torch calls CSR beta; the products used here have been stable since 1.13
        warnings.filterwarnings("ignore", message="Sparse CSR tensor support is in beta")
        return torch.sparse_csr_tensor(
            torch.from_numpy(matrix.indptr.astype(np.int32)),
            torch.from_numpy(matrix.indices.astype(np.int32)),
            torch.from_numpy(matrix.data.astype(np.float32)),
            matrix.shape,
            check_invariants=False,
        )


class _Product(torch.autograd.Function):
    """matrix @ dense, whose gradient is transpose @ gradient: no transpose is built at each step."""

    @staticmethod
    def forward(ctx: Any, matrix: Tensor, transpose: Tensor, dense: Tensor) -> Tensor:
        ctx.transpose = transpose
        return matrix @ dense

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[None, None, Tensor]:
        return None, None, ctx.transpose @ gradients[0].contiguous()


def propagate(graph: Graph, users: Tensor, items: Tensor) -> tuple[Tensor, Tensor]:
    """Return one hop: each user's vector (U, D) from its items, each item's vector (I, D) from its users."""
    from_items = _Product.apply(graph.user_item, graph.item_user, items)  # type: ignore[no-untyped-call]
    from_users = _Product.apply(graph.item_user, graph.user_item, users)  # type: ignore[no-untyped-call]
    return from_items, from_users
