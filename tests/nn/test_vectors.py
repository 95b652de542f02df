"""Dot-product scoring, folding in, and tables that grow."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from bowerbird.data import Schema
from bowerbird.features import Context, Ragged
from bowerbird.nn.vectors import DotProduct, counts, grown, listed, ridge, total

ITEMS = torch.tensor([[1.0, 0.0], [0.0, 2.0], [3.0, 3.0], [-1.0, 0.5]])
USERS = torch.tensor([[1.0, 2.0], [0.5, -1.0]])


class Two(DotProduct):
    """Two users and four items, all written above."""

    def __init__(self) -> None:
        super().__init__(Schema(2, 4))
        self.shaped_user.fill_(True)
        self.shaped_item.fill_(True)

    def query(self, context: Context) -> Tensor:
        return USERS[context.user]

    def item_vectors(self) -> Tensor:
        return ITEMS


def both_users() -> Context:
    return Context(torch.tensor([0, 1]), Ragged.empty(2))


@pytest.fixture
def history() -> Ragged:
    """Request 0 likes 0 and 2 and dislikes 1, request 1 has nothing, request 2 likes 2 twice."""
    return replace(Ragged.of([[0, 1, 2], [], [2, 2]]), weight=torch.tensor([1.0, -1.0, 2.0, 1.0, 1.0]))


def test_scores_are_dot_products() -> None:
    assert Two().scores(both_users()).tolist() == [[1.0, 4.0, 9.0, 0.0], [0.5, -2.0, -1.5, -1.0]]


def test_scores_of_one_list_for_all_and_of_a_list_each_are_columns_of_the_full_ones() -> None:
    full = Two().scores(both_users())
    shared, own = torch.tensor([3, 1, 1]), torch.tensor([[0, 2], [3, 3]])
    assert torch.equal(Two().scores(both_users(), shared), full[:, shared])
    assert torch.equal(Two().scores(both_users(), own), full.gather(1, own))


def test_seeds_are_answered_by_cosine_whatever_the_lengths() -> None:
    scores = Two().scores(Context.of_seeds([[2], [0]]))
    lengths = ITEMS.norm(dim=1)
    for row, seed in enumerate((2, 0)):
        cosines = (ITEMS @ ITEMS[seed]) / (lengths * lengths[seed])
        assert scores[row].tolist() == pytest.approx(cosines.tolist(), abs=1e-6)


def test_several_seeds_count_alike_whatever_their_lengths() -> None:
    scores = Two().scores(Context.of_seeds([[0, 1]]))
    assert scores[0, 0].item() == pytest.approx(scores[0, 1].item())  # item 1 is twice as long as item 0
    assert scores[0, 2].item() == pytest.approx(1.0)  # it points between the two


def test_seeds_of_listed_items_are_columns_of_the_full_scores() -> None:
    context, own = Context.of_seeds([[2], [0, 3]]), torch.tensor([[3, 1], [2, 0]])
    full = Two().scores(context)
    assert torch.allclose(Two().scores(context, own), full.gather(1, own))
    assert torch.allclose(Two().scores(context, own[0]), full[:, own[0]])


def test_the_scores_are_the_callers_to_overwrite() -> None:
    model = Two()
    first = model.scores(both_users())
    expected = first.clone()
    first.fill_(-1.0)
    assert torch.equal(model.scores(both_users()), expected)


def test_can_needs_a_known_user_or_a_history_or_seeds() -> None:
    known_or_not = Context(torch.tensor([0, -1, -1]), Ragged.of([[], [1], []]))
    assert Two().can(known_or_not).tolist() == [True, True, False]


def test_can_refuses_a_known_user_whose_seeds_are_all_unknown() -> None:
    context = replace(both_users(), seeds=Ragged.of([[1], [-1]]))
    assert Two().can(context).tolist() == [True, False]


def test_total_sums_what_speaks_for_an_item(history: Ragged) -> None:
    assert total(history, ITEMS).tolist() == [[4.0, 3.0], [0.0, 0.0], [3.0, 3.0]]  # twice chosen counts once


def test_total_without_weights_sums_everything() -> None:
    assert total(Ragged.of([[0, 1], [3]]), ITEMS).tolist() == [[1.0, 2.0], [-1.0, 0.5]]


def test_counts_are_of_positive_entries_and_never_zero(history: Ragged) -> None:
    assert counts(history).tolist() == [2.0, 1.0, 1.0]
    assert counts(history).dtype == torch.float32


PRIOR = torch.tensor([0.5, -1.0])


@pytest.mark.parametrize("l2", [0.1, 1.0, 30.0])
def test_ridge_is_the_least_squares_towards_the_prior_that_numpy_solves(history: Ragged, l2: float) -> None:
    items, prior = ITEMS.numpy().astype(np.float64), PRIOR.numpy().astype(np.float64)
    strength = l2 * (items**2).sum() / len(items)
    expected = []
    for liked in ([0, 2], [], [2]):
        left = strength * np.eye(2) + sum((np.outer(items[i], items[i]) for i in liked), np.zeros((2, 2)))
        expected.append(np.linalg.solve(left, sum((items[i] for i in liked), strength * prior)))
    assert np.allclose(ridge(history, ITEMS, PRIOR, l2).numpy(), np.array(expected), atol=1e-5)


def test_ridge_without_a_history_is_the_prior() -> None:
    assert torch.allclose(ridge(Ragged.empty(2), ITEMS, PRIOR, 3.0), PRIOR.expand(2, 2))


def test_ridge_scores_chosen_items_near_one_when_nothing_is_expected() -> None:
    items = torch.eye(4)
    vector = ridge(Ragged.of([[1, 3]]), items, torch.zeros(4), 0.01)
    assert (vector @ items.T)[0].tolist() == pytest.approx([0.0, 1 / 1.01, 0.0, 1 / 1.01])


def test_ridge_does_not_depend_on_the_scale_of_the_items() -> None:
    history = Ragged.of([[0, 2], [3]])
    one, ten = (ridge(history, scale * ITEMS, PRIOR / scale, 0.1) @ (scale * ITEMS).T for scale in (1.0, 10.0))
    assert torch.allclose(one, ten, atol=1e-5)


def test_ridge_answers_each_request_as_if_it_came_alone(history: Ragged) -> None:
    together = ridge(history, ITEMS, PRIOR, 0.1)
    for row in range(3):
        alone = ridge(history.take(torch.tensor([row])), ITEMS, PRIOR, 0.1)
        assert torch.allclose(alone[0], together[row], atol=1e-6)


def test_listed_returns_columns_by_one_list_or_a_list_each() -> None:
    scores = torch.arange(6.0).view(2, 3)
    assert listed(scores, None) is scores
    assert listed(scores, torch.tensor([2, 0])).tolist() == [[2.0, 0.0], [5.0, 3.0]]
    assert listed(scores, torch.tensor([[1], [2]])).tolist() == [[1.0], [5.0]]


@given(st.integers(0, 4), st.integers(0, 3))
def test_grown_keeps_old_rows_and_fills_new_ones(old: int, more: int) -> None:
    table = torch.arange(old * 2.0).view(old, 2)
    wider = grown(table, old + more, fill=7.0)
    assert torch.equal(wider[:old], table)
    assert wider[old:].tolist() == [[7.0, 7.0]] * more


def test_grown_along_both_axes_keeps_the_corner() -> None:
    wider = grown(torch.ones(2, 2), 3, 4)
    assert wider.tolist() == [[1.0, 1.0, 0.0, 0.0], [1.0, 1.0, 0.0, 0.0], [0.0] * 4]


def test_grown_with_a_spread_draws_new_rows_and_keeps_old_ones() -> None:
    wider = grown(torch.ones(2, 3), 4_002, std=0.1)
    assert torch.equal(wider[:2], torch.ones(2, 3))
    assert float(wider[2:].std()) == pytest.approx(0.1, rel=0.05)
    assert float(wider[2:].mean()) == pytest.approx(0.0, abs=0.005)


def test_grown_keeps_the_type_and_no_gradient() -> None:
    parameter = torch.nn.Parameter(torch.ones(1, 2, dtype=torch.float64))
    wider = grown(parameter, 2)
    assert wider.dtype == torch.float64
    assert not wider.requires_grad
    assert grown(torch.tensor([5], dtype=torch.int64), 2, fill=-1).tolist() == [5, -1]


def test_who_did_something_new_is_answered_from_the_history() -> None:
    liked = replace(Ragged.of([[0], [1], []]), weight=torch.tensor([1.0, -1.0]))
    context = Context(torch.tensor([0, 0, 1]), liked, news=torch.tensor([True, True, True]))
    assert Two().own(context).tolist() == [False, True, True]  # a dislike alone says too little to start anew from
    assert Two().own(replace(context, news=None)).tolist() == [True, True, True]
    assert context.take(torch.tensor([2, 0])).news is not None


def test_a_lone_request_is_answered_as_among_others_and_by_the_vectors_of_now() -> None:
    items, prior = torch.randn(9, 4), torch.randn(4)
    one, two = Ragged.of([[1, 5, 7]]), Ragged.of([[1, 5, 7], [2]])
    torch.testing.assert_close(ridge(one, items, prior, 0.3), ridge(two, items, prior, 0.3)[:1])
    items.mul_(3)  # what was kept of them is of no use any more
    torch.testing.assert_close(ridge(one, items, prior, 0.3), ridge(two, items.clone(), prior, 0.3)[:1])
