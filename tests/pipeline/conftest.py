"""Rungs whose answers are written down, so that a test can read what comes back."""

from collections.abc import Sequence

import pytest
import torch
from torch import Tensor

from bowerbird.features import Context
from bowerbird.nn.vectors import listed


class Known:
    """Answers users it has a row for, and nobody else."""

    def __init__(self, rows: Sequence[Sequence[float]]) -> None:
        self.rows = torch.tensor(rows)

    def can(self, context: Context) -> Tensor:
        return (context.user >= 0) & (context.user < len(self.rows))

    def scores(self, context: Context, items: Tensor | None = None) -> Tensor:
        return listed(self.rows[context.user], items)

    def grow(self, n_users: int, n_items: int) -> None:
        raise AssertionError("the pipeline grows nothing")


class Sums(Known):
    """Answers requests with a history or seeds: the sum of the rows of their items."""

    def can(self, context: Context) -> Tensor:
        return context.asked.lengths > 0

    def scores(self, context: Context, items: Tensor | None = None) -> Tensor:
        request, item = context.asked.positive
        whole = torch.zeros(len(context), self.rows.shape[1]).index_add_(0, request, self.rows[item])
        return listed(whole, items)


class Always(Known):
    """Answers everyone who asks for nothing similar, with its first row."""

    def can(self, context: Context) -> Tensor:
        return torch.full((len(context),), context.seeds is None)

    def scores(self, context: Context, items: Tensor | None = None) -> Tensor:
        return listed(self.rows[:1].repeat(len(context), 1), items)


@pytest.fixture
def known() -> Known:
    """Two users, four items."""
    return Known([[4.0, 3.0, 2.0, 1.0], [1.0, 2.0, 3.0, 4.0]])


@pytest.fixture
def sums() -> Sums:
    """Items 0 and 1 are alike, and items 2 and 3; 0 speaks against 3."""
    return Sums([[0.0, 0.5, 0.1, -0.2], [0.5, 0.0, 0.0, 0.0], [0.1, 0.0, 0.0, 0.9], [-0.2, 0.0, 0.9, 0.0]])


@pytest.fixture
def always() -> Always:
    return Always([[0.3, 0.4, 0.1, 0.2]])
