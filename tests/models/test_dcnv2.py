"""DCN V2: cross layers against their recursion, at full and at low rank, and where the perceptron stands."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from bowerbird.core import ConfigError
from bowerbird.features import FeatureBatch, FeatureSchema
from bowerbird.models.ranking.dcnv2 import Cross, DCNv2, DCNv2Config


def test_two_cross_layers_by_hand() -> None:
    cross = Cross(2, 2, 0)
    cross.layers[0].weight.data = torch.tensor([[1.0, 0.0], [2.0, 1.0]])
    cross.layers[0].bias.data = torch.tensor([0.5, -1.0])
    cross.layers[1].weight.data = torch.tensor([[0.0, 1.0], [1.0, 0.0]])
    cross.layers[1].bias.data = torch.tensor([1.0, 0.0])
    # x₀ = (1, 2): W x₀ + b = (1 + 0.5, 2 + 2 − 1), so x₁ = (1 · 1.5 + 1, 2 · 3 + 2) = (2.5, 8)
    # W x₁ + b = (8 + 1, 2.5), so x₂ = (1 · 9 + 2.5, 2 · 2.5 + 8)
    assert cross(torch.tensor([[1.0, 2.0]]))[0].tolist() == pytest.approx([11.5, 13.0])


def test_a_cross_layer_of_rank_one_by_hand() -> None:
    cross = Cross(2, 1, 1)
    down, up = cross.layers[0]
    down.weight.data = torch.tensor([[1.0, -1.0]])  # Vᵀ
    up.weight.data = torch.tensor([[2.0], [3.0]])  # U
    up.bias.data = torch.tensor([0.5, 0.0])
    # x₀ = (3, 1): Vᵀ x₀ = 2, U of it + b = (4.5, 6), so x₁ = (3 · 4.5 + 3, 1 · 6 + 1)
    assert cross(torch.tensor([[3.0, 1.0]]))[0].tolist() == pytest.approx([16.5, 7.0])


@given(st.integers(0, 1000), st.integers(1, 3), st.integers(0, 3))
def test_layers_follow_the_recursion(seed: int, layers: int, low_rank: int) -> None:
    torch.manual_seed(seed)
    cross, start = Cross(3, layers, low_rank).double(), torch.randn(4, 3, dtype=torch.float64)
    for layer in cross.layers:
        (layer[-1] if isinstance(layer, nn.Sequential) else layer).bias.data.normal_()
    for row, found in zip(start.numpy(), cross(start).detach().numpy(), strict=True):
        x = row
        for layer in cross.layers:
            matrix = layer[1].weight @ layer[0].weight if low_rank else layer.weight
            bias = (layer[1] if low_rank else layer).bias
            mapped = [sum(matrix[i, j].item() * x[j] for j in range(3)) + bias[i].item() for i in range(3)]
            x = np.array([row[i] * mapped[i] + x[i] for i in range(3)])
        assert np.allclose(found, x)


@given(st.integers(1, 4), st.floats(-2, 2))
def test_each_layer_raises_the_degree_by_one(layers: int, x: float) -> None:
    cross = Cross(1, layers, 0).double()
    for layer in cross.layers:
        layer.weight.data.fill_(1.0)
    # x ← x₀ x + x = (1 + x₀) x
    found = cross(torch.tensor([[x]], dtype=torch.float64)).item()
    assert found == pytest.approx(x * (1 + x) ** layers, abs=1e-9)


def test_parallel_weighs_crosses_and_hidden_units_together(
    all_kinds: FeatureSchema, filled: Callable[..., FeatureBatch]
) -> None:
    model, batch = DCNv2(DCNv2Config(dim=2, hidden=(5,)), all_kinds).eval(), filled(all_kinds, 6)
    model.fields.table.weight.data.normal_()
    flat = model.fields(batch).flatten(1)
    units = torch.relu(model.deep.layers[0](flat))
    weight = model.out.weight[0]
    expected = model.cross(flat) @ weight[:14] + units @ weight[14:] + model.out.bias
    assert torch.allclose(model(batch)[:, 0], expected, atol=1e-5)


def test_stacked_reads_hidden_units_off_the_crosses(
    all_kinds: FeatureSchema, filled: Callable[..., FeatureBatch]
) -> None:
    model = DCNv2(DCNv2Config(dim=2, hidden=(5,), structure="stacked"), all_kinds).eval()
    model.fields.table.weight.data.normal_()
    batch = filled(all_kinds, 6)
    units = torch.relu(model.deep.layers[0](model.cross(model.fields(batch).flatten(1))))
    assert torch.allclose(model(batch), model.deep.out(units), atol=1e-5)


@pytest.mark.parametrize("structure", ["parallel", "stacked"])
@pytest.mark.parametrize("low_rank", [0, 2])
def test_it_takes_every_kind_of_field(
    all_kinds: FeatureSchema,
    filled: Callable[..., FeatureBatch],
    unreached: Callable[..., list[str]],
    structure: str,
    low_rank: int,
) -> None:
    config = DCNv2Config(dim=4, hidden=(8, 8), structure=structure, low_rank=low_rank)
    model, batch = DCNv2(config, all_kinds), filled(all_kinds, 40)
    assert model(batch).shape == (40, 1)
    assert model.loss(batch).shape == (40,)
    assert unreached(model, batch) == []


def test_fewer_than_one_cross_layer_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"cross_layers is 0; it must be 1 or more. Try cross_layers = 3."):
        DCNv2Config(cross_layers=0)


def test_a_negative_rank_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"low_rank is -4; it must be 0 or more. Try low_rank = 0."):
        DCNv2Config(low_rank=-4)


def test_an_unknown_structure_is_answered_with_the_closest() -> None:
    with pytest.raises(ConfigError, match=r"structure is 'paralel'; it must be one of parallel, stacked. Did you mean"):
        DCNv2Config(structure="paralel")
