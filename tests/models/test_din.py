"""DIN: the activation unit against its equation, and where its vector goes."""

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from bowerbird.core import ConfigError
from bowerbird.features import FeatureBatch, FeatureSchema, Field
from bowerbird.models.ranking.din import DIN, ActivationUnit, DINConfig

SMALL = DINConfig(dim=4, hidden=(8, 8), attention_hidden=(6, 5))


@pytest.fixture(scope="module")
def shop() -> FeatureSchema:
    """An item and its brand, the histories of both around a number, a bag and a vector."""
    return FeatureSchema(
        (
            Field("v", "vector", slot=0, width=3),
            Field("brand", "categorical", start=1, rows=4, slot=0),
            Field("brands", "history", start=1, rows=4, slot=1, width=3, of="brand"),
            Field("x", "numeric", start=5, rows=2, slot=4),
            Field("tags", "bag", start=7, rows=5, slot=5, width=3),
            Field("item", "categorical", start=12, rows=6, slot=8),
            Field("items", "history", start=12, rows=6, slot=9, width=4, of="item"),
        )
    )


def test_an_interest_by_hand() -> None:
    unit = ActivationUnit(1, (1,))
    first, squash, last = unit.weigh
    first.weight.data = torch.tensor([[0.0, 0.0, 1.0, 1.0]])  # past − target + past · target
    first.bias.data = torch.tensor([-2.0])
    squash.weight.data = torch.tensor([0.25])
    last.weight.data, last.bias.data = torch.tensor([[2.0]]), torch.tensor([0.5])
    # target 3; past 1: 1 − 3 + 3 − 2 = −1, a quarter of it, 2 · −0.25 + 0.5 = 0
    # past 2: 2 − 3 + 6 − 2 = 3, 2 · 3 + 0.5 = 6.5; the third slot is empty: 0 · 2 + 6.5 · 2
    found = unit(torch.tensor([[[1.0], [2.0], [0.0]]]), torch.tensor([[[3.0]]]))
    assert found.shape == (1, 1, 1)
    assert found.item() == pytest.approx(13.0)


def slow(unit: ActivationUnit, past: Tensor, target: Tensor) -> Tensor:
    """Return the vector (D,) of one history (L, D) under one target (D,), item by item."""
    total = torch.zeros_like(target)
    for one in past:
        weight = unit.weigh(torch.cat([one, target, one - target, one * target])[None])
        total = total + weight[0, 0] * one
    return total


@given(st.integers(0, 1000), st.integers(1, 5), st.integers(1, 4))
def test_weights_are_found_item_by_item(seed: int, length: int, dim: int) -> None:
    torch.manual_seed(seed)
    unit = ActivationUnit(dim, (4, 3)).double()
    past, target = (torch.randn(3, n, dim, dtype=torch.float64) for n in (length, 1))
    expected = torch.stack([slow(unit, one, other[0]) for one, other in zip(past, target, strict=True)])
    assert torch.allclose(unit(past, target)[:, 0], expected)


@given(st.permutations(range(4)))
def test_order_and_empty_slots_do_not_matter(order: list[int]) -> None:
    unit, past, target = ActivationUnit(2, (4,)), torch.randn(3, 4, 2), torch.randn(3, 1, 2)
    longer = torch.cat([past[:, order], torch.zeros(3, 2, 2)], dim=1)
    assert torch.allclose(unit(longer, target), unit(past, target), atol=1e-5)


def test_twice_the_interest_is_twice_the_vector() -> None:
    unit, past, target = ActivationUnit(2, (4,)), torch.randn(3, 4, 2), torch.randn(3, 1, 2)
    assert torch.allclose(unit(past.repeat(1, 2, 1), target), 2 * unit(past, target), atol=1e-5)


def test_the_vector_stands_where_the_pooled_history_did(
    shop: FeatureSchema, filled: Callable[..., FeatureBatch]
) -> None:
    model, batch = DIN(SMALL, shop).eval(), filled(shop, 6)
    model.fields.table.weight.data.normal_()
    fields = model.fields(batch).clone()  # brand, brands, x, tags, item, items, v
    vectors = model.fields.table.weight[batch.code] * batch.value[:, :, None]
    for row in range(6):
        fields[row, 1] = slow(model.units[0], vectors[row, 1:4], vectors[row, 0])
        fields[row, 5] = slow(model.units[1], vectors[row, 9:13], vectors[row, 8])
    assert torch.allclose(model(batch), model.deep(fields.flatten(1)), atol=1e-5)


def test_the_target_weighs_the_history(shop: FeatureSchema, filled: Callable[..., FeatureBatch]) -> None:
    model = DIN(SMALL, shop).eval()
    model.fields.table.weight.data.normal_()
    batch = filled(shop, 1)
    items = batch.code.repeat(6, 1)
    items[:, 8] = torch.arange(12, 18)
    items[:, 9:13], value = 12, batch.value.repeat(6, 1)
    value[:, 9:13] = 1.0
    six = replace(batch, code=items, value=value, vector=batch.vector.repeat(6, 1))
    slots = model.fields.slots(six)
    found = model.units[1](slots[:, 9:13], slots[:, 8:9])
    assert len(found.flatten(1).unique(dim=0)) == 6


def test_it_takes_every_kind_of_field(
    shop: FeatureSchema, filled: Callable[..., FeatureBatch], unreached: Callable[..., list[str]]
) -> None:
    model, batch = DIN(SMALL, shop), filled(shop, 40)
    model.fields.table.weight.data.normal_()
    assert model(batch).shape == (40, 1)
    assert model.loss(batch).shape == (40,)
    assert unreached(model, batch) == []


def test_an_empty_history_is_a_vector_of_zeros(shop: FeatureSchema, filled: Callable[..., FeatureBatch]) -> None:
    model, batch = DIN(SMALL, shop).eval(), filled(shop, 5)
    code, value = batch.code.clone(), batch.value.clone()
    for slots in (slice(1, 4), slice(9, 13)):
        code[:, slots], value[:, slots] = 0, 0.0
    batch = replace(batch, code=code, value=value)
    assert torch.allclose(model(batch), model.deep(model.fields(batch).flatten(1)), atol=1e-6)


def test_columns_without_a_history_are_refused(categories: Callable[..., FeatureSchema]) -> None:
    message = "din weighs a history, and none of the columns is one: a, b. Add a history of the item column, or take"
    with pytest.raises(ConfigError, match=message):
        DIN(DINConfig(), categories(3, 4))


@pytest.mark.parametrize("sizes", [(), (64, 0)])
def test_sizes_below_one_are_refused(sizes: tuple[int, ...]) -> None:
    with pytest.raises(ConfigError, match=r"attention_hidden is \(.*\); it must list sizes of 1 or more."):
        DINConfig(attention_hidden=sizes)
