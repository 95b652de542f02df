import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from bowerbird.core import ConfigError
from bowerbird.features import Context
from bowerbird.models.baselines.ease import EASEConfig


def slow(matrix: np.ndarray, l2: float) -> np.ndarray:
    """Return the weights by equation 8 of the paper, column by column, in double precision."""
    gram = matrix.astype(float).T @ matrix.astype(float)
    inverse = np.linalg.inv(gram + l2 * np.eye(len(gram)))
    weights = np.zeros_like(inverse)
    for row in range(len(gram)):
        for column in range(len(gram)):
            if row != column:
                weights[row, column] = -inverse[row, column] / inverse[column, column]
    return weights


@settings(max_examples=25, deadline=None)
@given(matrix=arrays(bool, (8, 5)), l2=st.sampled_from([0.5, 10.0, 300.0]))
def test_any_matrix_agrees_with_a_slow_inverse(table, closed, matrix: np.ndarray, l2: float) -> None:
    model = closed(EASEConfig(l2=l2), table(np.argwhere(matrix), 8, 5))
    assert np.allclose(model.weights.numpy(), slow(matrix, l2), atol=1e-4)
    assert model.weights.diagonal().tolist() == [0.0] * 5


def test_scores_are_the_history_times_the_weights(table, closed) -> None:
    matrix = np.random.default_rng(0).random((20, 6)) < 0.4
    model = closed(EASEConfig(l2=2.0), table(np.argwhere(matrix), 20, 6))
    past = table(np.argwhere(matrix), 20, 6)
    scores = model.scores(Context.of_users(np.arange(20, dtype=np.int32), past))
    assert np.allclose(scores.numpy(), matrix @ slow(matrix, 2.0), atol=1e-4)


def test_two_items_by_hand(table, closed) -> None:
    # Gram matrix [[2, 1], [1, 1]] plus 1 on the diagonal is [[3, 1], [1, 2]], its inverse [[2, -1], [-1, 3]] / 5
    model = closed(EASEConfig(l2=1.0), table([(0, 0), (1, 0), (1, 1)], 2, 2))
    assert model.weights[0, 1].item() == pytest.approx(1 / 3)
    assert model.weights[1, 0].item() == pytest.approx(1 / 2)


def test_permuting_items_permutes_the_weights(table, closed) -> None:
    matrix = np.random.default_rng(1).random((30, 7)) < 0.3
    past, order = table(np.argwhere(matrix), 30, 7), np.array([3, 0, 6, 2, 5, 1, 4])
    moved = closed(EASEConfig(l2=5.0), past.reorder_ids(np.arange(30), order))
    first = closed(EASEConfig(l2=5.0), past)
    assert torch.allclose(moved.weights, first.weights[order][:, order], atol=1e-5)


def test_a_disliked_item_says_nothing(table, closed) -> None:
    matrix = np.random.default_rng(2).random((20, 5)) < 0.5
    model = closed(EASEConfig(l2=5.0), table(np.argwhere(matrix), 20, 5))
    liked = Context.of_histories([[0, 2]])
    mixed = Context.of_histories([[0, 1, 2]])
    history = mixed.history
    signed = type(history)(history.offsets, history.item, weight=torch.tensor([1.0, -1.0, 1.0]))
    assert torch.equal(model.scores(Context(mixed.user, signed)), model.scores(liked))


def test_a_person_who_only_disliked_or_looked_is_left_to_others(table, closed) -> None:
    model = closed(EASEConfig(), table([(0, 0), (1, 0), (1, 1)], 2, 2))
    history = Context.of_histories([[0, 1], [0], []]).history
    signed = type(history)(history.offsets, history.item, weight=torch.tensor([1.0, -1.0, 0.0]))
    assert model.can(Context(torch.tensor([0, 1, -1]), signed)).tolist() == [True, False, False]


def test_new_items_foretell_nothing(table, closed) -> None:
    model = closed(EASEConfig(l2=1.0), table([(0, 0), (1, 0), (1, 1)], 2, 2))
    model.grow(2, 3)
    assert model.scores(Context.of_histories([[2]])).tolist() == [[0.0, 0.0, 0.0]]
    assert model.scores(Context.of_histories([[0]]))[0, 1].item() == pytest.approx(1 / 3)


def test_no_penalty_is_refused(table) -> None:
    with pytest.raises(ConfigError, match=r"l2 is 0.0; it must be above 0. Try l2 = 300.0."):
        EASEConfig(l2=0.0)
