"""AutoInt: a layer of attention against the paper's equations, head by head and field by field."""

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from bowerbird.core import ConfigError
from bowerbird.features import FeatureBatch, FeatureSchema
from bowerbird.models.ranking.autoint import AutoInt, AutoIntConfig, Interacting


def test_two_fields_attend_to_each_other_by_hand() -> None:
    layer = Interacting(1, AutoIntConfig(heads=1, attention_dim=1, layer_norm=False)).eval()
    layer.project.weight.data = torch.tensor([[1.0], [1.0], [3.0]])  # query, key, value
    found = layer(torch.tensor([[[1.0], [2.0]]]))[0, :, 0]
    # field 1: scores 1 · 1 and 1 · 2, shares 0.2689 and 0.7311 of values 3 and 6, and itself: 5.1932 + 1
    # field 2: scores 2 and 4, shares 0.1192 and 0.8808: 5.6424 + 2
    assert found.tolist() == pytest.approx([6.1932, 7.6424], abs=1e-4)


def test_what_falls_below_zero_is_cut_off() -> None:
    layer = Interacting(1, AutoIntConfig(heads=1, attention_dim=1, layer_norm=False)).eval()
    layer.project.weight.data = torch.tensor([[0.0], [0.0], [-1.0]])
    # every score is 0, so all hear the average value −1.5, and add themselves
    assert layer(torch.tensor([[[1.0], [2.0]]]))[0, :, 0].tolist() == pytest.approx([0.0, 0.5])


def slow(layer: Interacting, fields: np.ndarray, heads: int) -> np.ndarray:
    """Return the layer's output for one row (K, n_in), from equations 5 to 8."""
    query, key, value = np.split(layer.project.weight.detach().numpy(), 3)
    size = len(query) // heads
    found = np.zeros((len(fields), heads * size))
    for head in range(heads):
        mine = slice(head * size, (head + 1) * size)
        for m in range(len(fields)):
            like = [(query[mine] @ fields[m]) @ (key[mine] @ other) / math.sqrt(size) for other in fields]
            share = np.exp(like) / np.exp(like).sum()
            found[m, mine] = sum(a * (value[mine] @ other) for a, other in zip(share, fields, strict=True))
    if isinstance(layer.residual, torch.nn.Linear):
        found += fields @ layer.residual.weight.detach().numpy().T
    elif layer.residual is not None:
        found += fields
    if isinstance(layer.norm, torch.nn.LayerNorm):
        centred = found - found.mean(axis=1, keepdims=True)
        found = centred / np.sqrt((centred**2).mean(axis=1, keepdims=True) + 1e-5)
    return np.maximum(found, 0)


@given(st.integers(0, 1000), st.sampled_from([4, 6]), st.booleans(), st.booleans(), st.sampled_from([1, 2, 3]))
def test_a_layer_is_attention_head_by_head(seed: int, n_in: int, residual: bool, norm: bool, heads: int) -> None:
    torch.manual_seed(seed)
    config = AutoIntConfig(heads=heads, attention_dim=6, residual=residual, layer_norm=norm)
    layer, fields = Interacting(n_in, config).double().eval(), torch.randn(3, 5, n_in, dtype=torch.float64)
    expected = np.stack([slow(layer, row, heads) for row in fields.numpy()])
    assert np.allclose(layer(fields).detach().numpy(), expected, atol=1e-8)


@given(st.permutations(range(5)))
def test_permuting_fields_permutes_what_they_become(order: list[int]) -> None:
    layer, fields = Interacting(4, AutoIntConfig(attention_dim=4)).eval(), torch.randn(3, 5, 4)
    assert torch.allclose(layer(fields[:, order]), layer(fields)[:, order], atol=1e-5)


def test_the_logit_adds_both_parts(all_kinds: FeatureSchema, filled: Callable[..., FeatureBatch]) -> None:
    model = AutoInt(AutoIntConfig(dim=4, hidden=(5,), attention_dim=6, attention_layers=2), all_kinds).eval()
    batch = filled(all_kinds, 6)
    fields = model.fields(batch)
    attended = model.attention[1](model.attention[0](fields)).reshape(6, 7 * 6)
    expected = attended @ model.out.weight[0] + model.out.bias + model.deep(fields.reshape(6, 7 * 4))[:, 0]
    assert torch.allclose(model(batch)[:, 0], expected, atol=1e-5)


@pytest.mark.parametrize("deep", [True, False])
@pytest.mark.parametrize("plain", [True, False])
def test_it_takes_every_kind_of_field(
    all_kinds: FeatureSchema,
    filled: Callable[..., FeatureBatch],
    unreached: Callable[..., list[str]],
    deep: bool,
    plain: bool,
) -> None:
    config = AutoIntConfig(dim=4, hidden=(8, 8), attention_dim=8, deep=deep, residual=not plain, layer_norm=not plain)
    model, batch = AutoInt(config, all_kinds), filled(all_kinds, 40)
    assert model(batch).shape == (40, 1)
    assert model.loss(batch).shape == (40,)
    assert unreached(model, batch) == []


def test_attention_alone_has_no_perceptron(all_kinds: FeatureSchema) -> None:
    names = [name for name, _ in AutoInt(AutoIntConfig(deep=False), all_kinds).named_parameters()]
    assert not any(name.startswith("deep") for name in names)


def test_dropout_ends_with_training(all_kinds: FeatureSchema, filled: Callable[..., FeatureBatch]) -> None:
    model, batch = AutoInt(AutoIntConfig(dropout=0.5), all_kinds), filled(all_kinds, 8)
    assert not torch.equal(model.attention(model.fields(batch)), model.attention(model.fields(batch)))
    model.eval()
    assert torch.equal(model(batch), model(batch))


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"attention_layers": 0}, "attention_layers is 0; it must be 1 or more. Try attention_layers = 3."),
        ({"heads": 0}, "heads is 0; it must be 1 or more. Try heads = 2."),
        (
            {"heads": 3, "attention_dim": 64},
            r"attention_dim is 64; it must be a multiple of heads \(3\). Try attention_dim = 96.",
        ),
        (
            {"attention_dim": 0},
            r"attention_dim is 0; it must be a multiple of heads \(2\). Try attention_dim = 64.",
        ),
    ],
)
def test_sizes_that_do_not_fit_are_refused(wrong: dict[str, int], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        AutoIntConfig(**wrong)
