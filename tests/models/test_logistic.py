"""Logistic regression against w·x + b written out."""

import math
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from bowerbird.core import ConfigError
from bowerbird.features import FeatureBatch, FeatureSchema, Field, crossed
from bowerbird.models.ranking.logistic import Logistic, LogisticConfig


@pytest.fixture
def weighted() -> Logistic:
    """A category of 2 values, a number, a bag of 2 values and a vector of 2 numbers: weights 1 to 9, bias 0.5."""
    schema = FeatureSchema(
        (
            Field("a", "categorical", start=1, rows=2, slot=0),
            Field("x", "numeric", start=3, rows=2, slot=1),
            Field("bag", "bag", start=5, rows=2, slot=2, width=2),
            Field("v", "vector", slot=0, width=2),
        )
    )
    model = Logistic(LogisticConfig(l2=0.1), schema)
    model.linear.table.weight.data = torch.arange(7.0)[:, None]
    model.linear.vector.weight.data = torch.tensor([[8.0, 9.0]])
    model.linear.bias.data = torch.tensor([0.5])
    return model


ROW = FeatureBatch(  # the second value of a, x = 0.25, both values of the bag
    torch.tensor([[2, 4, 5, 6]]), torch.tensor([[1.0, 0.25, 1.0, 1.0]]), torch.tensor([[1.0, -1.0]]), torch.ones(1, 1)
)


def test_a_row_is_weighed_by_hand(weighted: Logistic) -> None:
    # 2 of a, 4 · 0.25 of x, (5 + 6) / 2 of the bag, 8 − 9 of the vector, 0.5
    assert weighted(ROW).item() == pytest.approx(2 + 1 + 5.5 - 1 + 0.5)


def test_the_penalty_is_half_the_squared_weights_of_columns_and_crosses(weighted: Logistic) -> None:
    # −log σ(8), and 0.1 / 2 · (1 + 4 + 9 + 16 + 25 + 36)
    expected = math.log(1 + math.exp(-8)) + 0.05 * 91
    assert weighted.loss(ROW).item() == pytest.approx(expected, rel=1e-6)


def test_crosses_are_penalised_too(all_kinds: FeatureSchema, filled: Callable[..., FeatureBatch]) -> None:
    plain, heavy = (Logistic(LogisticConfig(l2=l2), all_kinds) for l2 in (0.0, 0.5))
    plain.linear.cross.weight.data = torch.arange(8.0)[:, None]
    heavy.load_state_dict(plain.state_dict())
    batch = filled(all_kinds, 40)
    # ½ · ½ · (0 + 1 + 4 + … + 49)
    assert torch.allclose(heavy.loss(batch) - plain.loss(batch), torch.tensor(35.0))


@given(st.integers(0, 1000))
def test_it_is_a_dot_product_with_a_long_sparse_row(
    all_kinds: FeatureSchema, filled: Callable[..., FeatureBatch], seed: int
) -> None:
    rng = np.random.default_rng(seed)
    model = Logistic(LogisticConfig(), all_kinds).double()
    table, cross, vector = rng.standard_normal(26), rng.standard_normal(8), rng.standard_normal(3)
    model.linear.table.weight.data = torch.from_numpy(table)[:, None]
    model.linear.cross.weight.data = torch.from_numpy(cross)[:, None]
    model.linear.vector.weight.data = torch.from_numpy(vector)[None]
    model.linear.bias.data = torch.tensor([0.3], dtype=torch.float64)
    batch = filled(all_kinds, 5, seed)
    batch = replace(batch, value=batch.value.double(), vector=batch.vector.double())
    x, buckets = np.zeros((5, 26)), crossed(batch.code, all_kinds).numpy()
    for row in range(5):
        for one in all_kinds.fields:
            if one.kind == "vector":
                continue
            value = batch.value[row, one.slot : one.slot + one.width].numpy()
            share = max(value.sum(), 1) if one.name in ("mean", "look") else 1
            for place in range(one.width):
                x[row, batch.code[row, one.slot + place]] += value[place] / share
    expected = x @ table + cross[buckets[:, 0]] + batch.vector.numpy() @ vector + 0.3
    assert np.allclose(model(batch).detach().numpy()[:, 0], expected)


def test_it_takes_every_kind_of_field(
    all_kinds: FeatureSchema, filled: Callable[..., FeatureBatch], unreached: Callable[..., list[str]]
) -> None:
    model, batch = Logistic(LogisticConfig(), all_kinds), filled(all_kinds, 40)
    assert model(batch).shape == (40, 1)
    assert model.loss(batch).shape == (40,)
    assert unreached(model, batch) == []


def test_it_holds_no_vectors(all_kinds: FeatureSchema) -> None:
    # 26 rows of the table, 8 buckets, 3 numbers and the bias
    assert sum(one.numel() for one in Logistic(LogisticConfig(), all_kinds).parameters()) == 26 + 8 + 3 + 1


def test_two_labels_are_one_too_many(categories: Callable[..., FeatureSchema]) -> None:
    with pytest.raises(ConfigError, match=r"Logistic learns one label; there are 2: cart, buy. Name one of them"):
        Logistic(LogisticConfig(), categories(3, tasks=("cart", "buy")))


def test_a_negative_penalty_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"l2 is -1.0; it must be 0 or more. Try l2 = 1e-05."):
        LogisticConfig(l2=-1.0)
