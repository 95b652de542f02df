"""The factorisation machine against every pair written out."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from bowerbird.core import ConfigError
from bowerbird.features import FeatureBatch, FeatureSchema, Field
from bowerbird.models.ranking.fm import FM, FMConfig


def test_pairs_and_weights_add_up_by_hand() -> None:
    schema = FeatureSchema(
        (
            Field("a", "categorical", start=1, rows=1, slot=0),
            Field("b", "categorical", start=2, rows=1, slot=1),
            Field("x", "numeric", start=3, rows=2, slot=2),
        )
    )
    model = FM(FMConfig(dim=2), schema)
    model.fields.table.weight.data = torch.tensor([[9.0, 9.0], [1.0, 2.0], [3.0, -1.0], [9.0, 9.0], [2.0, 0.5]])
    model.linear.table.weight.data = torch.tensor([[9.0], [0.1], [0.2], [9.0], [0.3]])
    model.linear.bias.data = torch.tensor([-1.0])
    row = FeatureBatch(torch.tensor([[1, 2, 4]]), torch.tensor([[1.0, 1.0, 2.0]]))
    # weights 0.1 + 0.2 + 0.3 · 2 − 1; a·b = 3 − 2; a·x = 2 · (2 + 1); b·x = 2 · (6 − 0.5)
    assert model(row).item() == pytest.approx(-0.1 + 1 + 6 + 11)


@given(st.integers(0, 1000))
def test_it_is_the_sum_over_pairs(all_kinds: FeatureSchema, filled: Callable[..., FeatureBatch], seed: int) -> None:
    torch.manual_seed(seed)
    model, batch = FM(FMConfig(dim=3), all_kinds), filled(all_kinds, 4, seed)
    model.fields.table.weight.data.normal_()
    model.linear.table.weight.data.normal_()
    fields = model.fields(batch).detach().numpy().astype(np.float64)
    pairs = [sum(row[i] @ row[j] for i in range(len(row)) for j in range(i)) for row in fields]
    expected = model.linear(batch).detach().numpy()[:, 0] + np.array(pairs)
    assert np.allclose(model(batch).detach().numpy()[:, 0], expected, rtol=1e-4, atol=1e-4)


def test_it_takes_every_kind_of_field(
    all_kinds: FeatureSchema, filled: Callable[..., FeatureBatch], unreached: Callable[..., list[str]]
) -> None:
    model, batch = FM(FMConfig(dim=4), all_kinds), filled(all_kinds, 40)
    assert model(batch).shape == (40, 1)
    assert model.loss(batch).shape == (40,)
    assert unreached(model, batch) == []


def test_a_cross_weighs_in(all_kinds: FeatureSchema, filled: Callable[..., FeatureBatch]) -> None:
    model, batch = FM(FMConfig(dim=4), all_kinds), filled(all_kinds, 10)
    before = model(batch)
    model.linear.cross.weight.data.fill_(2.0)
    assert torch.allclose(model(batch), before + 2)


def test_vectors_without_numbers_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"dim is 0; it must be 1 or more. Try dim = 16."):
        FMConfig(dim=0)


def test_two_labels_are_one_too_many(categories: Callable[..., FeatureSchema]) -> None:
    with pytest.raises(ConfigError, match=r"FM learns one label; there are 2: cart, buy"):
        FM(FMConfig(), categories(3, tasks=("cart", "buy")))
