"""FinalNet: factorized layers against their formula, and what two blocks teach each other."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from bowerbird.core import ConfigError
from bowerbird.features import FeatureBatch, FeatureSchema
from bowerbird.models.ranking.finalnet import Block, FactorizedLayer, FinalNet, FinalNetConfig
from bowerbird.nn.losses import binary

PLAIN: dict[str, Any] = {"batch_norm": False, "dropout": 0.0}


def test_a_layer_by_hand() -> None:
    layer = FactorizedLayer(2, 4)
    layer.linear.weight.data = torch.tensor([[1.0, 0.0], [1.0, 1.0], [0.0, 2.0], [-1.0, 0.0]])
    layer.linear.bias.data = torch.tensor([0.0, 1.0, 0.0, 0.5])
    # x = (3, 2): h = (3, 3 + 2 + 1), g = (2 · 2, −3 + 0.5), h ⊙ g = (12, −15)
    assert layer(torch.tensor([[3.0, 2.0]]))[0].tolist() == [3.0, 6.0, 12.0, -15.0]


@given(st.floats(-3, 3))
def test_a_layer_doubles_degrees(scale: float) -> None:
    layer, x = FactorizedLayer(3, 4), torch.randn(5, 3)
    plain, product = layer(x).chunk(2, dim=1)
    assert torch.allclose(layer(scale * x), torch.cat([scale * plain, scale**2 * product], dim=1), atol=1e-4)


@given(st.integers(0, 1000), st.lists(st.sampled_from([2, 4, 6]), min_size=1, max_size=3), st.booleans())
def test_a_block_is_its_layers_one_behind_another(seed: int, hidden: list[int], batch_norm: bool) -> None:
    torch.manual_seed(seed)
    block = Block(3, tuple(hidden), FinalNetConfig(batch_norm=batch_norm)).double().eval()
    for parameter in block.parameters():
        parameter.data.normal_()
    start = torch.randn(4, 3, dtype=torch.float64)
    for row, found in zip(start.numpy(), block(start).detach().numpy(), strict=True):
        x = row
        for place, layer in enumerate(block.layers):
            both = layer.linear.weight.detach().numpy() @ x + layer.linear.bias.detach().numpy()
            h, g = np.split(both, 2)
            x = np.concatenate([h, h * g])
            if batch_norm:
                norm = block.norms[place]  # has seen nothing yet: mean 0, variance 1
                x = x / np.sqrt(1 + norm.eps) * norm.weight.detach().numpy() + norm.bias.detach().numpy()
            x = np.maximum(x, 0)
        expected = block.out.weight.detach().numpy()[0] @ x + block.out.bias.item()
        assert found.item() == pytest.approx(expected)


def test_dropout_keeps_the_mean_and_ends_with_training() -> None:
    block = Block(2, (2,), FinalNetConfig(batch_norm=False, dropout=0.5))
    block.layers[0].linear.weight.data.zero_()
    block.layers[0].linear.bias.data.fill_(1.0)
    block.out.weight.data = torch.tensor([[1.0, 0.0]])
    x = torch.zeros(20_000, 2)
    found = block(x)
    assert found.unique().tolist() == [0.0, 2.0]
    assert found.mean().item() == pytest.approx(1.0, abs=0.05)
    assert block.eval()(x).unique().tolist() == [1.0]


@pytest.fixture
def ln3(categories: Callable[..., FeatureSchema]) -> FinalNet:
    """Blocks that say ln 3 and −ln 3 whatever they see."""
    model = FinalNet(FinalNetConfig(hidden=(2,), l2=0.0, **PLAIN), categories(2, 2))
    for block, logit in zip(model.blocks, (np.log(3), -np.log(3)), strict=True):
        block.out.weight.data.zero_()
        block.out.bias.data.fill_(logit)
    return model


def test_both_blocks_learn_from_their_mean_by_hand(ln3: FinalNet) -> None:
    batch = FeatureBatch(torch.tensor([[1, 3]]), label=torch.ones(1, 1))
    loss = ln3.loss(batch)
    # the mean is 0, a probability of ½: ln 2; each block: ½ (ln 4/3 + ln 4) = 0.8370
    assert loss.item() == pytest.approx(np.log(2) + 2 * 0.8370, abs=1e-4)
    loss.backward()
    # the label asks for ½ (½ − 1) of each; the mean, which does not move, for 3/4 − ½ and 1/4 − ½
    assert [block.out.bias.grad.item() for block in ln3.blocks] == pytest.approx([-0.25 + 0.25, -0.25 - 0.25], abs=1e-6)


def test_the_logit_is_the_mean_of_the_blocks(ln3: FinalNet) -> None:
    ln3.blocks[1].out.bias.data.fill_(1.0)
    logit = ln3(FeatureBatch(torch.tensor([[1, 3]]))).item()
    assert logit == pytest.approx((np.log(3) + 1) / 2)


def test_one_block_learns_from_the_label_alone(all_kinds: FeatureSchema, filled: Callable[..., FeatureBatch]) -> None:
    model, batch = FinalNet(FinalNetConfig(blocks=1, l2=0.0, **PLAIN), all_kinds), filled(all_kinds, 6)
    assert len(model.blocks) == 1
    assert torch.equal(model.loss(batch), binary(model(batch), batch.label))


def test_only_the_first_block_sees_gated_fields(all_kinds: FeatureSchema, filled: Callable[..., FeatureBatch]) -> None:
    model, batch = FinalNet(FinalNetConfig(dim=2, hidden=(4,), **PLAIN), all_kinds), filled(all_kinds, 6)
    model.fields.table.weight.data.normal_()
    flat, (first, second) = model.fields(batch).flatten(1), model.blocks
    # gates are 1 to begin with
    assert torch.allclose(model.logits(batch), torch.cat([first(flat.repeat(1, 2)), second(flat)], dim=1), atol=1e-5)
    # gate of field k: weight[k] · all fields + bias[k], for each of their D numbers
    model.gate.weight.data.normal_()
    fields = model.fields(batch)
    gates = torch.stack([model.gate.weight @ fields[..., d, None] + model.gate.bias[:, None] for d in range(2)], dim=2)
    seen = torch.cat([flat, (fields * gates[..., 0]).flatten(1)], dim=1)
    assert torch.allclose(model.logits(batch), torch.cat([first(seen), second(flat)], dim=1), atol=1e-5)


def test_the_penalty_is_added_once(all_kinds: FeatureSchema, filled: Callable[..., FeatureBatch]) -> None:
    batch, settings = filled(all_kinds, 6), {"dim": 2, "hidden": (4,), **PLAIN}
    free, bound = (FinalNet(FinalNetConfig(l2=l2, **settings), all_kinds) for l2 in (0.0, 0.5))
    bound.load_state_dict(free.state_dict())
    penalty = 0.5 * 0.5 * free.fields.table.weight.square().sum()
    assert torch.allclose(bound.loss(batch) - free.loss(batch), penalty.expand(6), atol=1e-5)


@pytest.mark.parametrize(
    "settings", [{}, {"blocks": 1}, {"field_gate": False}, {"hidden2": (6,)}, {"batch_norm": False, "dropout": 0.5}]
)
def test_it_takes_every_kind_of_field(
    all_kinds: FeatureSchema,
    filled: Callable[..., FeatureBatch],
    unreached: Callable[..., list[str]],
    settings: dict[str, Any],
) -> None:
    model = FinalNet(FinalNetConfig(**({"dim": 4, "hidden": (8, 8)} | settings)), all_kinds)
    model.fields.table.weight.data.normal_()
    batch = filled(all_kinds, 40)
    assert model(batch).shape == (40, 1)
    assert model.loss(batch).shape == (40,)
    assert unreached(model, batch) == []


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"blocks": 3}, "blocks is 3; it must be 1 or 2. Try blocks = 2."),
        ({"hidden": (8, 7)}, r"hidden is \(8, 7\); it must list even sizes: half of them are products."),
        ({"hidden2": (0,)}, r"hidden2 is \(0,\); it must list even sizes: half of them are products."),
    ],
)
def test_sizes_that_do_not_fit_are_refused(wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        FinalNetConfig(**wrong)
