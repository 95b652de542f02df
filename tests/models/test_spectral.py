"""Spectral: the filters by hand and by dense matrices, both ways to their vectors, and what it answers whom."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from bowerbird.core import ConfigError
from bowerbird.data import Interactions
from bowerbird.features import Context
from bowerbird.models.graph import spectral
from bowerbird.models.graph.spectral import SpectralConfig, smoothest

Closed = Callable[[SpectralConfig, Interactions], Any]

# user 0 chose item 0; user 1 chose items 0 and 1
TWO = [(0, 0), (1, 0), (1, 1)]


@pytest.fixture(scope="module")
def random_table(table) -> Interactions:
    matrix = np.random.default_rng(0).random((30, 14)) < 0.3
    matrix[:, 0] = True  # an item with every user
    matrix[29] = False  # a user without any
    return table(np.argwhere(matrix), 30, 14)


def everyone(past: Interactions) -> Context:
    return Context.of_users(np.arange(past.n_users, dtype=np.int32), past)


def dense(past: Interactions, config: SpectralConfig) -> tuple[Tensor, Tensor]:
    """Return what becomes of each item of a history, and of a seed, (I, I) both, by dense matrices."""
    pairs = np.zeros((past.n_users, past.n_items))
    pairs[past.user, past.item] = 1.0
    of_user, of_item = np.maximum(pairs.sum(axis=1), 1), np.maximum(pairs.sum(axis=0), 1)
    normal = pairs / of_user[:, None] ** config.user_exponent / of_item**config.item_exponent
    vectors = np.linalg.svd(normal)[2][: config.rank].T
    linear, ideal, scale = normal.T @ normal, vectors @ vectors.T, of_item**config.item_exponent
    whole = linear + config.weight * ideal / scale[:, None] * scale
    return torch.from_numpy(whole).float(), torch.from_numpy(linear + config.weight * ideal).float()


def test_both_filters_by_hand(table, closed: Closed) -> None:
    past = table(TWO, 2, 2)
    # R̃ = (1/√2, 0; 1/2, 1/√2) and R̃ᵀR̃ = (3/4, 1/√8; 1/√8, 1/2), whose eigenvalues are 1 and 1/4: V = (√2, 1) / √3
    linear = closed(SpectralConfig(rank=1, weight=0.0), past).scores(Context.of_histories([[0], [1]]))
    assert torch.allclose(linear, torch.tensor([[0.75, 8**-0.5], [8**-0.5, 0.5]]))
    both = closed(SpectralConfig(rank=1, weight=3.0), past).scores(Context.of_histories([[0], [1]]))
    # 3 V Vᵀ = (2, √2; √2, 1), the first row over √2, the first column times it
    assert torch.allclose(both - linear, torch.tensor([[2.0, 1.0], [2.0, 1.0]]), atol=1e-5)


@pytest.mark.parametrize(
    "config",
    [
        SpectralConfig(rank=4, weight=0.7),
        SpectralConfig(rank=9, weight=2.0, user_exponent=0.3, item_exponent=0.8),
        SpectralConfig(rank=2, weight=0.0, user_exponent=0.0, item_exponent=0.0),
    ],
)
def test_scores_are_those_of_dense_matrices(config: SpectralConfig, random_table: Interactions, closed: Closed) -> None:
    model = closed(config, random_table)
    whole, alike = dense(random_table, config)
    pairs = torch.zeros(30, 14)
    pairs[random_table.user, random_table.item] = 1.0
    assert torch.allclose(model.scores(everyone(random_table)), pairs @ whole, atol=1e-5)
    seeds = model.scores(Context.of_seeds([[item] for item in range(14)] + [[0, 3]]))
    assert torch.allclose(seeds, torch.cat([alike, alike[[0]] + alike[[3]]]), atol=1e-5)


def test_a_stranger_is_answered_as_a_user_with_that_history(random_table: Interactions, closed: Closed) -> None:
    model, known = closed(SpectralConfig(rank=4), random_table), everyone(random_table)
    strangers = Context(torch.full((30,), -1), known.history)
    assert torch.equal(model.scores(strangers), model.scores(known))


def test_likeness_is_mutual(random_table: Interactions, closed: Closed) -> None:
    alike = closed(SpectralConfig(rank=4), random_table).scores(Context.of_seeds([[item] for item in range(14)]))
    assert torch.allclose(alike, alike.T, atol=1e-6)


@pytest.mark.parametrize("shape", [(30, 20), (20, 30)])
def test_both_ways_find_the_same_directions(shape: tuple[int, int], monkeypatch: pytest.MonkeyPatch, table) -> None:
    pairs = np.argwhere(np.random.default_rng(1).random(shape) < 0.4)
    matrix = spectral.pair_matrix(table(pairs, *shape)).astype(np.float64)
    whole = smoothest(matrix, 5, np.random.default_rng(0))
    monkeypatch.setattr(spectral, "SMALL", 10)
    sparse = smoothest(matrix, 5, np.random.default_rng(0))
    assert whole.shape == sparse.shape == (shape[1], 5)
    assert np.allclose(whole @ whole.T, sparse @ sparse.T, atol=1e-8)
    assert np.array_equal(sparse, smoothest(matrix, 5, np.random.default_rng(0)))


def test_directions_that_are_a_matter_of_rounding_are_left_out(table, closed: Closed) -> None:
    past = table([(user, item) for user in range(6) for item in range(4) if user % 2 == item % 2], 6, 4)
    model = closed(SpectralConfig(rank=4), past)  # two groups: two directions
    assert int((model.vectors.abs().sum(dim=0) > 0).sum()) == 2


def test_the_largest_weights_of_each_item_are_kept(random_table: Interactions, closed: Closed) -> None:
    whole = closed(SpectralConfig(weight=0.0), random_table)
    model = closed(SpectralConfig(weight=0.0, neighbours=3), random_table)
    asked = Context.of_histories([[item] for item in range(14)])
    full, few = whole.scores(asked), model.scores(asked)
    assert (few > 0).sum(dim=1).tolist() == [3] * 14
    assert torch.equal(few, full * (full >= full.topk(3, dim=1).values[:, -1:]))


def test_blocks_change_nothing(random_table: Interactions, closed: Closed, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = closed(SpectralConfig(rank=3), random_table)
    before = whole.scores(everyone(random_table))
    monkeypatch.setattr(spectral, "block_size", lambda n_items: 4)
    monkeypatch.setattr(spectral, "NUMBERS", 30)
    assert torch.equal(closed(SpectralConfig(rank=3), random_table).scores(everyone(random_table)), before)


def test_no_user_and_no_square_of_items_is_held(table, closed: Closed) -> None:
    n, rng = 2_500, np.random.default_rng(0)
    pairs = np.unique(np.stack([rng.integers(1_500, size=8_000), rng.integers(n, size=8_000)], axis=1), axis=0)
    model = closed(SpectralConfig(rank=8, neighbours=20), table(pairs, 1_500, n))
    assert {one.shape[0] for one in model.state_dict().values()} == {n}
    assert sum(one.numel() for one in model.state_dict().values()) == n * (20 + 20 + 8 + 1)


def test_what_nobody_chose_is_neither_shown_nor_heard(table, closed: Closed) -> None:
    model = closed(SpectralConfig(rank=1), table(TWO, 2, 3))
    asked = Context.of_histories([[0], [2], [2, 1], []])
    assert model.can(asked).tolist() == [True, False, True, False]
    assert (model.scores(asked)[:, 2] == -torch.inf).all()
    assert torch.allclose(model.scores(asked)[2], model.scores(Context.of_histories([[1]]))[0])


def test_repeated_events_count_once(table, closed: Closed) -> None:
    once, twice = (closed(SpectralConfig(rank=1), table(pairs, 2, 2)) for pairs in (TWO, TWO + TWO[1:]))
    assert all(torch.equal(one, twice.state_dict()[name]) for name, one in once.state_dict().items())


def test_a_table_without_pairs_answers_nobody(table, closed: Closed) -> None:
    model = closed(SpectralConfig(), table([], 3, 4))
    assert model.can(Context.of_histories([[0], [1, 2]])).tolist() == [False, False]
    assert not any(bool(one.any()) for one in (model.linear, model.vectors, model.degree))


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"rank": 0}, "rank is 0; it must be 1 or more. Try rank = 128."),
        ({"weight": -0.3}, "weight is -0.3; it must be 0 or more. Try weight = 0.3."),
        ({"neighbours": 0}, "neighbours is 0; it must be 1 or more. Try neighbours = 500."),
        ({"item_exponent": 1.5}, "item_exponent is 1.5; it must be 0 to 1. Try item_exponent = 0.5."),
    ],
)
def test_options_out_of_range_are_refused(settings: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError) as error:
        SpectralConfig(**settings)
    assert said in str(error.value)
