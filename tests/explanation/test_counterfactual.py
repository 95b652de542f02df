"""What must leave a past: by hand, against every subset, and enlarged until the dear truth agrees."""

from itertools import combinations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from bowerbird.explanation import Counterfactual, counterfactual
from bowerbird.explanation.counterfactual import ranks

ALL = torch.ones(3, dtype=torch.bool)


def sums(rows: list[list[float]]):
    """Return what scores variants by the sum of the rows that stay."""
    table = torch.tensor(rows)
    return lambda removed: (~removed).float() @ table


def test_the_one_item_that_carries_the_place() -> None:
    rescore = sums([[1.0, 0.0, 0.5], [0.5, 0.0, 0.1]])  # item 0 leads by 1.5 to 0.6; without the first by 0.5 to 0.1
    assert counterfactual(rescore, np.array([1.0, 0.5]), 0, 1, ALL) is None  # whatever goes, it leads
    rescore = sums([[1.0, 0.0, 0.5], [0.1, 0.0, 0.3]])
    assert counterfactual(rescore, np.array([1.0, 0.1]), 0, 1, ALL) == Counterfactual((0,), smallest=True)


def test_an_item_that_is_not_in_the_list_cannot_leave_it() -> None:
    assert counterfactual(sums([[0.0, 1.0, 0.0]]), np.array([1.0]), 0, 1, ALL) is None


@given(st.lists(st.lists(st.integers(0, 9), min_size=4, max_size=4), min_size=1, max_size=5))
def test_nothing_smaller_does_where_it_says_so(rows: list[list[int]]) -> None:
    rescore, p = sums([[float(one) for one in row] for row in rows]), len(rows)
    allowed = torch.ones(4, dtype=torch.bool)

    def leaves(removed: tuple[int, ...]) -> bool:
        mask = torch.zeros(1, p, dtype=torch.bool)
        mask[0, list(removed)] = True
        return ranks(rescore(mask), 0, allowed)[0] > 2

    found = counterfactual(rescore, np.array([row[0] for row in rows]), 0, 2, allowed)
    if found is None:
        return
    assert not leaves(())
    assert leaves(found.removed)
    if found.smallest:
        smaller = (one for n in range(1, len(found.removed)) for one in combinations(range(p), n))
        assert not any(leaves(one) for one in smaller)
    else:
        assert not any(leaves(tuple(set(found.removed) - {one})) for one in found.removed)


def test_what_only_comes_near_is_enlarged_until_the_truth_agrees() -> None:
    def near(removed: Tensor) -> Tensor:
        mine = (~removed).float() @ torch.tensor([[1.0], [0.4], [0.3], [0.2]])
        return torch.cat([mine, torch.zeros_like(mine), torch.ones_like(mine)], dim=1)

    def truth(removed: Tensor) -> Tensor:
        gone = removed.sum(dim=1, keepdim=True)
        return torch.cat(
            [torch.where(gone >= 3, 0.0, 1.0), torch.zeros(len(removed), 1), torch.full_like(gone, 0.5)], 1
        )

    said = np.array([1.0, 0.4, 0.3, 0.2])
    found = counterfactual(near, said, 0, 1, ALL, confirm=truth)
    assert found is not None
    assert len(found.removed) == 3
    assert not found.smallest
    assert counterfactual(near, said, 0, 1, ALL, confirm=lambda removed: near(removed & False)) is None


@pytest.mark.parametrize(("scores", "place"), [([2.0, 1.0, 0.0], 1), ([1.0, 1.0, 0.0], 2), ([-torch.inf, 1.0, 0.0], 4)])
def test_places(scores: list[float], place: int) -> None:
    assert ranks(torch.tensor([scores]), 0, ALL) == [place]
