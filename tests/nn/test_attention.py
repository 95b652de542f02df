"""Self-attention: one step worked by hand, and who sees whom."""

import math

import pytest
import torch

from bowerbird.core import ConfigError
from bowerbird.nn.attention import Attention, AttentionConfig, Block, Feedforward


def test_a_step_by_hand() -> None:
    step = Attention(1, 1)
    step.project.weight.data = torch.tensor([[1.0], [2.0], [3.0]])  # q = x, k = 2 x, v = 3 x
    step.project.bias.data = torch.zeros(3)
    step.out.weight.data, step.out.bias.data = torch.tensor([[10.0]]), torch.tensor([1.0])
    found = step(torch.tensor([[[1.0], [2.0]]]), None)[0, :, 0].tolist()
    # the first sees itself: 3. The second weighs 2 · 2 against 2 · 4: e⁻⁴ to 1, of 3 and 6
    share = math.exp(-4) / (math.exp(-4) + 1)
    assert found == pytest.approx([10 * 3 + 1, 10 * (share * 3 + (1 - share) * 6) + 1])


def test_nobody_sees_the_future_or_a_neighbour() -> None:
    block = Block(AttentionConfig(dim=8, dropout=0.0)).eval()
    x = torch.randn(3, 6, 8)
    before = block(x)
    other = x.clone()
    other[:, 4] = torch.randn(8)
    other[2] = 7.0
    after = block(other)
    assert torch.equal(after[:2, :4], before[:2, :4])
    assert not torch.isclose(after[:2, 4:], before[:2, 4:]).all(dim=2).any()


def test_from_both_sides_only_what_is_there_is_seen() -> None:
    block = Block(AttentionConfig(dim=8, dropout=0.0), both=True).eval()
    x, seen = torch.randn(2, 5, 8), torch.tensor([[True] * 5, [True] * 3 + [False] * 2])
    before = block(x, seen)
    other = x.clone()
    other[1, 3:] = 9.0  # behind the end
    other[0, 4] = 9.0
    after = block(other, seen)
    assert torch.equal(after[1, :3], before[1, :3])
    assert not torch.isclose(after[0, 0], before[0, 0]).all()


def test_the_feedforward_layer_has_the_activation_that_was_asked_for() -> None:
    x = torch.randn(2, 3, 4)
    for name, function in (("relu", torch.relu), ("gelu", torch.nn.functional.gelu)):
        layer = Feedforward(AttentionConfig(dim=4, activation=name))
        assert torch.equal(layer(x), layer.out(function(layer.wide(x))))
    with pytest.raises(ConfigError, match="activation is 'tanh'; it must be relu or gelu"):
        AttentionConfig(activation="tanh")
