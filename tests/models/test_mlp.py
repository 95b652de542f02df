"""The perceptron over all fields, its layers written out."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from bowerbird.core import ConfigError
from bowerbird.features import FeatureBatch, FeatureSchema
from bowerbird.models.ranking.mlp import MLP, MLPConfig


def test_a_layer_and_a_logit_by_hand(categories: Callable[..., FeatureSchema]) -> None:
    model = MLP(MLPConfig(dim=1, hidden=(2,)), categories(2, 2)).eval()
    model.fields.table.weight.data = torch.tensor([[9.0], [1.0], [2.0], [3.0], [4.0]])
    model.deep.layers[0].weight.data = torch.tensor([[1.0, 1.0], [1.0, -1.0]])
    model.deep.layers[0].bias.data = torch.tensor([-4.0, 0.5])
    model.deep.out.weight.data = torch.tensor([[2.0, 10.0]])
    model.deep.out.bias.data = torch.tensor([0.1])
    # v = (2, 3): max(0, 2 + 3 − 4) = 1 and max(0, 2 − 3 + 0.5) = 0, so 2 · 1 + 0.1
    assert model(FeatureBatch(torch.tensor([[2, 3]]))).item() == pytest.approx(2.1)


@given(st.integers(0, 1000), st.lists(st.integers(1, 5), min_size=1, max_size=3))
def test_it_is_a_chain_of_layers(
    all_kinds: FeatureSchema, filled: Callable[..., FeatureBatch], seed: int, hidden: list[int]
) -> None:
    torch.manual_seed(seed)
    model, batch = MLP(MLPConfig(dim=2, hidden=tuple(hidden)), all_kinds).eval(), filled(all_kinds, 4, seed)
    model.fields.table.weight.data.normal_()
    fields = model.fields(batch).detach().numpy()
    for row, logit in zip(fields, model(batch).detach().numpy()[:, 0], strict=True):
        x = np.concatenate(list(row))
        for layer in model.deep.layers:
            x = np.maximum(0, layer.weight.detach().numpy() @ x + layer.bias.detach().numpy())
        expected = model.deep.out.weight.detach().numpy()[0] @ x + model.deep.out.bias.item()
        assert logit == pytest.approx(expected, rel=1e-4, abs=1e-5)


def test_batch_normalisation_forgets_a_shift(all_kinds: FeatureSchema, filled: Callable[..., FeatureBatch]) -> None:
    model, batch = MLP(MLPConfig(dim=4, hidden=(8,), dropout=0.0, batch_norm=True), all_kinds), filled(all_kinds, 40)
    before = model(batch)
    model.deep.layers[0].bias.data += 5
    assert before.std() > 0.1
    assert torch.allclose(model(batch), before, atol=1e-4)


def test_it_takes_every_kind_of_field(
    all_kinds: FeatureSchema, filled: Callable[..., FeatureBatch], unreached: Callable[..., list[str]]
) -> None:
    model, batch = MLP(MLPConfig(dim=4, hidden=(8, 8)), all_kinds), filled(all_kinds, 40)
    assert model(batch).shape == (40, 1)
    assert model.loss(batch).shape == (40,)
    assert unreached(model, batch) == []


def test_a_perceptron_without_layers_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"hidden is \(\); it must list sizes of 1 or more."):
        MLPConfig(hidden=())


def test_dropping_everything_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"dropout is 1.0; it must be 0 or more and below 1. Try dropout = 0.2."):
        MLPConfig(dropout=1.0)
