import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from bowerbird.core import ConfigError
from bowerbird.features import Context
from bowerbird.models.baselines import itemknn
from bowerbird.models.baselines.itemknn import ItemKNNConfig

# three people, three items: item 0 by users 0 and 1, item 1 by users 0, 1 and 2, item 2 by user 2
THREE = [(0, 0), (1, 0), (0, 1), (1, 1), (2, 1), (2, 2)]


def test_cosine_with_shrinkage_by_hand(table, closed) -> None:
    model = closed(ItemKNNConfig(shrink=1.0), table(THREE, 3, 3))
    alike = model.scores(Context.of_histories([[0], [1], [2]]))
    first = 2 / (6**0.5 + 1)  # two people of both; √2 · √3 people, and 1 more
    second = 1 / (3**0.5 + 1)
    expected = torch.tensor([[0.0, first, 0.0], [first, 0.0, second], [0.0, second, 0.0]])
    assert torch.allclose(alike, expected, atol=1e-6)


def test_without_shrinkage_it_is_the_cosine(table, closed) -> None:
    model = closed(ItemKNNConfig(shrink=0.0), table(THREE, 3, 3))
    assert model.scores(Context.of_histories([[0]]))[0, 1].item() == pytest.approx(2 / 6**0.5)


def test_an_item_nobody_chose_is_like_nothing(table, closed) -> None:
    model = closed(ItemKNNConfig(shrink=0.0), table(THREE, 3, 4))
    alike = model.scores(Context.of_histories([[3], [1]]))
    assert alike[0].tolist() == [0.0] * 4
    assert alike[1, 3].item() == 0.0


def test_a_history_sums_its_items(table, closed) -> None:
    model = closed(ItemKNNConfig(shrink=1.0), table(THREE, 3, 3))
    each = model.scores(Context.of_histories([[0], [2]]))
    both = model.scores(Context.of_histories([[0, 2]]))
    assert torch.allclose(both[0], each.sum(0))
    assert both[0, 1] > each[0, 1]


def test_only_the_nearest_neighbours_are_kept(table, closed) -> None:
    model = closed(ItemKNNConfig(shrink=1.0, neighbours=1), table(THREE, 3, 3))
    # item 1 keeps item 0 and forgets item 2, but item 2 still keeps item 1
    assert (model.scores(Context.of_histories([[1]]))[0] > 0).tolist() == [True, False, False]
    assert (model.scores(Context.of_histories([[2]]))[0] > 0).tolist() == [False, True, False]


def test_blocks_change_nothing(table, closed, monkeypatch: pytest.MonkeyPatch) -> None:
    past = table(THREE, 3, 3)
    whole = closed(ItemKNNConfig(), past)
    monkeypatch.setattr(itemknn, "block_size", lambda n_items: 2)
    blocks = closed(ItemKNNConfig(), past)
    asked = Context.of_histories([[0], [1], [2]])
    assert torch.equal(whole.scores(asked), blocks.scores(asked))


@settings(max_examples=25, deadline=None)
@given(matrix=arrays(bool, (7, 5)), shrink=st.sampled_from([0.0, 1.0, 10.0]))
def test_any_matrix_agrees_with_the_slow_formula(table, closed, matrix: np.ndarray, shrink: float) -> None:
    model = closed(ItemKNNConfig(shrink=shrink), table(np.argwhere(matrix), 7, 5))
    scores = model.scores(Context.of_histories([[item] for item in range(5)]))
    for one in range(5):
        for other in range(5):
            common = (matrix[:, one] & matrix[:, other]).sum()
            norm = np.sqrt(matrix[:, one].sum() * matrix[:, other].sum()) + shrink
            expected = common / norm if one != other and common else 0.0
            assert scores[one, other].item() == pytest.approx(expected, abs=1e-6)


def test_a_person_who_only_disliked_or_looked_is_left_to_others(table, closed) -> None:
    model = closed(ItemKNNConfig(), table(THREE, 3, 3))
    history = Context.of_histories([[0, 1], [0], []]).history
    signed = type(history)(history.offsets, history.item, weight=torch.tensor([1.0, -1.0, 0.0]))
    assert model.can(Context(torch.tensor([0, 1, -1]), signed)).tolist() == [True, False, False]


@pytest.mark.parametrize(("key", "value"), [("neighbours", 0), ("shrink", -0.5)])
def test_values_out_of_range_are_refused_with_one_that_works(key: str, value: float) -> None:
    with pytest.raises(ConfigError, match=rf"{key} is {value}; it must be . or more. Try {key} ="):
        ItemKNNConfig(**{key: value})


def test_by_neighbours_of_the_scored_item(table, closed) -> None:
    model = closed(ItemKNNConfig(shrink=1.0, neighbours=1, nearest_to="scored"), table(THREE, 3, 3))
    # item 1 keeps item 0, items 0 and 2 keep item 1: a history of item 1 speaks for both, one of item 2 for none
    assert (model.scores(Context.of_histories([[1]]))[0] > 0).tolist() == [True, False, True]
    assert (model.scores(Context.of_histories([[2]]))[0] > 0).tolist() == [False, False, False]


@settings(max_examples=25, deadline=None)
@given(matrix=arrays(bool, (7, 5)), neighbours=st.sampled_from([1, 2, 5]))
def test_any_history_agrees_with_a_slow_sum_over_neighbours_of_the_scored(
    table, closed, matrix: np.ndarray, neighbours: int
) -> None:
    model = closed(ItemKNNConfig(neighbours=neighbours, nearest_to="scored"), table(np.argwhere(matrix), 7, 5))
    scores = model.scores(Context.of_histories([np.flatnonzero(row) for row in matrix]), torch.tensor([4, 1]))
    for user, row in enumerate(matrix):
        for place, item in enumerate((4, 1)):
            kept = zip(model.neighbour[item].tolist(), model.similarity[item].tolist(), strict=True)
            assert scores[user, place].item() == pytest.approx(sum(alike for one, alike in kept if row[one]), abs=1e-6)


def test_with_all_neighbours_kept_it_does_not_matter_whose(table, closed) -> None:
    past = table(np.argwhere(np.random.default_rng(0).random((20, 6)) < 0.4), 20, 6)
    asked = Context.of_users(np.arange(20, dtype=np.int32), past)
    chosen, scored = (closed(ItemKNNConfig(nearest_to=one), past).scores(asked) for one in ("chosen", "scored"))
    assert torch.allclose(chosen, scored, atol=1e-6)


def test_whose_neighbours_must_be_known() -> None:
    with pytest.raises(
        ConfigError, match=r"nearest_to is 'scores'; it must be one of chosen, scored. Try .* = scored."
    ):
        ItemKNNConfig(nearest_to="scores")
