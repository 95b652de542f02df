"""What travels in a round: its rows, its rounding, its bytes."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from bowerbird.core import ConfigError
from bowerbird.privacy.wire import HEADER, Wire, WireOptions


def test_bytes_by_hand() -> None:
    wire = Wire(WireOptions(budget=0.25, bits=8), n_items=100, dim=16)
    # the table is 6,400 bytes; 1,600 less two headers are 1,568, and a row there and back is 32
    assert (wire.table_bytes, wire.n_rows) == (6_400, 49)
    assert wire.down_bytes == wire.up_bytes == HEADER + 49 * 16


@given(st.integers(10, 400), st.integers(4, 64), st.sampled_from([8, 16, 32]), st.floats(0.2, 2.0))
def test_the_budget_holds(n_items: int, dim: int, bits: int, budget: float) -> None:
    wire = Wire(WireOptions(budget=budget, bits=bits), n_items, dim)
    if budget * wire.table_bytes < 2 * HEADER + 4 * dim * bits / 8:
        with pytest.raises(ConfigError, match="two rows or more"):
            _ = wire.n_rows
    else:
        assert wire.down_bytes + wire.up_bytes <= budget * wire.table_bytes
        assert 2 <= wire.n_rows <= n_items


def test_rows_come_from_seed_and_round_alone() -> None:
    wire = Wire(WireOptions(), n_items=300, dim=8)
    first = wire.rows(0, 1)
    assert torch.equal(first, wire.rows(0, 1))
    assert (first[1:] > first[:-1]).all()
    assert not torch.equal(first, wire.rows(0, 2))
    seen = torch.zeros(300)
    for number in range(400):
        seen[wire.rows(0, number)] += 1
    assert float(seen.std()) < 1.6 * (400 * 0.25) ** 0.5  # every row is as likely as another


def test_answers_are_whole_numbers_that_are_right_on_average() -> None:
    wire = Wire(WireOptions(bits=8, limit=0.5), n_items=40, dim=4)
    true = torch.linspace(-0.4, 0.4, wire.n_rows * 4).view(1, -1, 4)
    sent = torch.stack([
        wire.up(true / wire.step, wire.dither(0, number), torch.tensor([3]))[0] for number in range(2_000)
    ])  # fmt: skip
    assert torch.equal(sent, sent.round())
    assert float(sent.abs().max()) <= 127
    assert torch.allclose(sent.mean(dim=0) * wire.step, true[0], atol=3 * wire.step / 2_000**0.5)


def test_dither_of_many_clients_is_even() -> None:
    """The sum over clients of what rounds them is nearly exact: their shifts lie evenly."""
    wire = Wire(WireOptions(bits=8), n_items=40, dim=4)
    clients = torch.arange(144)
    true = torch.full((144, wire.n_rows, 4), 0.3)
    sent = wire.up(true.clone(), wire.dither(0, 1), clients).sum(dim=0)
    assert float((sent - 0.3 * 144).abs().max()) <= 3


def test_float32_travels_as_it_is() -> None:
    wire = Wire(WireOptions(bits=32), n_items=80, dim=4)
    answers = torch.randn(2, wire.n_rows, 4)
    assert torch.equal(wire.up(answers.clone(), wire.dither(0, 0), torch.arange(2)), answers)
    assert wire.step == 1.0


def test_item_vectors_are_rounded_to_the_nearest() -> None:
    wire = Wire(WireOptions(bits=8), n_items=80, dim=4)
    vectors = torch.from_numpy(np.random.default_rng(0).normal(size=(20, 4)).astype(np.float32))
    assert float((wire.down(vectors) - vectors).abs().max()) <= float(vectors.abs().max()) / 127 / 2 + 1e-6


@pytest.mark.parametrize("wrong", [{"bits": 4}, {"budget": 0.0}, {"limit": -1.0}])
def test_wrong_options_are_told(wrong: dict[str, float]) -> None:
    with pytest.raises(ConfigError, match="must be"):
        WireOptions(**wrong)  # type: ignore[arg-type]
