"""The perceptron of ranking models: dropout that keeps the mean, and numbers that all rows share."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from bowerbird.nn.dropout import LEVELS, kept_by
from bowerbird.nn.fields import Perceptron


@given(st.integers(1, 6), st.integers(0, 5), st.integers(0, 9))
def test_numbers_that_all_rows_share_are_multiplied_once(rows: int, alike: int, seed: int) -> None:
    torch.manual_seed(seed)
    model = Perceptron(5, (4, 3), 1, dropout=0.5).eval()
    x = torch.randn(rows, 5)
    x[:, :alike] = x[:1, :alike]
    with torch.no_grad():
        assert model(x, alike).flatten().tolist() == pytest.approx(model(x).flatten().tolist(), abs=1e-5)


def test_a_share_of_the_outputs_is_dropped_and_the_mean_stays() -> None:
    torch.manual_seed(0)
    model = Perceptron(3, (4096,), dropout=0.25).train()
    torch.nn.init.zeros_(model.layers[0].weight)
    torch.nn.init.ones_(model.layers[0].bias)
    found = model(torch.zeros(64, 3))
    assert found.unique().tolist() == pytest.approx([0.0, 4 / 3])
    assert (found == 0).float().mean().item() == pytest.approx(0.25, abs=0.005)
    assert found.mean().item() == pytest.approx(1.0, abs=0.01)


def test_a_mask_is_all_ones_or_nothing_with_the_chance_that_was_asked_for() -> None:
    torch.manual_seed(0)
    first, second = kept_by(torch.zeros(1000, 1), (50, 30), 64)
    assert first is not None
    assert second is not None
    assert (first.shape, second.shape) == ((1000, 50), (1000, 30))
    assert set(first.unique().tolist()) == {-1, 0}
    assert (first == 0).float().mean().item() == pytest.approx(64 / LEVELS, abs=0.01)
    assert kept_by(torch.zeros(2, 1), (5,), 0) == [None]


def test_the_gradient_is_that_of_what_was_kept() -> None:
    torch.manual_seed(0)
    model = Perceptron(2, (8,), 1, dropout=0.5).train()
    x = torch.randn(5, 2, requires_grad=True)
    state = torch.get_rng_state()
    [slope] = torch.autograd.grad(model(x).sum(), x)
    step = torch.zeros_like(x)
    step[2, 1] = 1e-3
    values = []
    for sign in (1, -1):
        torch.set_rng_state(state)  # the same mask
        values.append(model(x + sign * step).sum().item())
    assert slope[2, 1].item() == pytest.approx((values[0] - values[1]) / 2e-3, abs=1e-2)
