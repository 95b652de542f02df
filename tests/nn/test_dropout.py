"""Dropout: what it leaves, how much, and that gradients follow."""

import pytest
import torch

from bowerbird.nn.dropout import LEVELS, dropout, levels


def test_a_share_is_dropped_and_the_rest_scaled_up() -> None:
    x = torch.ones(200, 500, requires_grad=True)
    y = dropout(x, 0.3, True)
    scale = LEVELS / (LEVELS - levels(0.3))
    assert y.detach().unique().tolist() == pytest.approx([0.0, scale])
    assert (y == 0).float().mean().item() == pytest.approx(0.3, abs=0.01)
    assert y.mean().item() == pytest.approx(1.0, abs=0.01)
    y.sum().backward()
    assert x.grad is not None
    torch.testing.assert_close(x.grad, y.detach())


def test_nothing_is_dropped_outside_training_or_at_no_share() -> None:
    x = torch.randn(3, 4)
    assert dropout(x, 0.5, False) is x
    assert dropout(x, 0.0, True) is x


def test_the_same_seed_drops_the_same() -> None:
    x = torch.randn(64, 64)
    drawn = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        drawn.append(dropout(x, 0.5, True))
    assert torch.equal(drawn[0], drawn[1])
    assert not torch.equal(drawn[0], drawn[2])
