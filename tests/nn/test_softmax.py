"""Softmax over all items in blocks: the loss and gradients of the whole table of scores, without the table."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import functional

from bowerbird.nn import softmax as blocks
from bowerbird.nn.softmax import softmax_over_all


@given(
    seed=st.integers(0, 1000), positions=st.integers(1, 40), items=st.integers(1, 30), even=st.booleans(),
    spread=st.sampled_from([0.1, 1.0, 30.0]),
)  # fmt: skip
def test_it_is_cross_entropy(seed: int, positions: int, items: int, even: bool, spread: float) -> None:
    draw = torch.Generator().manual_seed(seed)
    weight = torch.full((positions,), 0.3) if even else torch.randn(positions, generator=draw)
    target = torch.randint(items, (positions,), generator=draw)
    start = [torch.randn(n, 5, generator=draw) * spread for n in (positions, items)]
    found = []
    for loss in (softmax_over_all, lambda q, v, t: functional.cross_entropy(q @ v.T, t, reduction="none")):
        query, table = (one.clone().requires_grad_() for one in start)
        losses = loss(query, table, target)
        (losses * weight).sum().backward()
        assert query.grad is not None
        assert table.grad is not None
        found.append((losses.detach(), query.grad, table.grad))
    for mine, theirs in zip(*found, strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-4, atol=1e-4 * spread)


def test_blocks_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    query, table, target = torch.randn(50, 4), torch.randn(20, 4), torch.randint(20, (50,))
    whole = softmax_over_all(query, table, target)
    monkeypatch.setattr(blocks, "CELLS", 1)  # the fewest positions that a block may have
    torch.testing.assert_close(softmax_over_all(query, table, target), whole)


def test_no_table_of_positions_and_items_is_held(monkeypatch: pytest.MonkeyPatch) -> None:
    made = []
    monkeypatch.setattr(torch, "mm", lambda *args, out, _mm=torch.mm: made.append(out.numel()) or _mm(*args, out=out))
    query = torch.randn(1000, 4, requires_grad=True)
    table = torch.randn(70_000, 4, requires_grad=True)
    softmax_over_all(query, table, torch.zeros(1000, dtype=torch.int64)).mean().backward()
    assert max(made) <= max(blocks.CELLS, blocks.FEWEST * 70_000) < 1000 * 70_000
