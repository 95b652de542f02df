"""Wide & Deep against equation 3 of its paper, every term written out."""

import math
from collections.abc import Callable

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from bowerbird.core import ConfigError
from bowerbird.features import FeatureBatch, FeatureSchema, Field
from bowerbird.features.fields import Crossing
from bowerbird.models.ranking.widedeep import WideDeep, WideDeepConfig

BUCKETS = 5


def bucket(codes: list[int]) -> int:
    """The bucket of a cross: each code plus one is added, multiplied by 2⁶⁴ / φ at 64 bits, and its halves mixed."""
    mixed = 0
    for code in codes:
        mixed = (mixed + code + 1) * 0x9E3779B97F4A7C15 % 2**64
        mixed ^= (mixed >> 32) % 2**31
    return mixed % 2**31 % BUCKETS


@pytest.fixture(scope="module")
def schema() -> FeatureSchema:
    """Gender and app of 2 and 3 values, age as a number, and the cross of gender and app."""
    fields = (
        Field("gender", "categorical", start=1, rows=2, slot=0),
        Field("app", "categorical", start=3, rows=3, slot=1),
        Field("age", "numeric", start=6, rows=2, slot=2),
    )
    return FeatureSchema(fields, (Crossing(("gender", "app"), BUCKETS),))


@pytest.fixture(scope="module")
def model(schema: FeatureSchema) -> WideDeep:
    model = WideDeep(WideDeepConfig(dim=1, hidden=(2,)), schema).eval()
    model.linear.table.weight.data = torch.tensor([[9.0], [0.1], [0.2], [0.3], [0.4], [0.5], [9.0], [0.6]])
    model.linear.cross.weight.data = torch.tensor([[1.0], [2.0], [3.0], [4.0], [5.0]])
    model.linear.bias.data = torch.tensor([-2.0])
    model.fields.table.weight.data = torch.tensor([[9.0], [1.0], [-1.0], [0.5], [2.0], [3.0], [9.0], [-0.5]])
    model.deep.layers[0].weight.data = torch.tensor([[1.0, 2.0, 3.0], [-1.0, 1.0, -1.0]])
    model.deep.layers[0].bias.data = torch.tensor([0.25, 0.5])
    model.deep.out.weight.data = torch.tensor([[-1.0, 0.5]])
    model.deep.out.bias.data = torch.tensor([0.125])
    return model


def test_the_probability_is_that_of_the_paper_by_hand(model: WideDeep) -> None:
    # the second gender, the first app, age 1.5
    row = FeatureBatch(torch.tensor([[2, 3, 7]]), torch.tensor([[1.0, 1.0, 1.5]]), label=torch.ones(1, 1))
    # x is one at gender 2 and at app 1, and 1.5 at age; φ(x) is one at the bucket of (gender 2, app 1)
    wide_x = 0.2 * 1 + 0.3 * 1 + 0.6 * 1.5
    phi = [0.0] * BUCKETS
    phi[bucket([2, 3])] = 1.0
    wide_phi = sum(weight * there for weight, there in zip([1.0, 2.0, 3.0, 4.0, 5.0], phi, strict=True))
    # a⁰ is the three vectors: −1, 0.5 and −0.5 · 1.5; a¹ = max(0, W a⁰ + b)
    first = max(0.0, 1 * -1 + 2 * 0.5 + 3 * -0.75 + 0.25)  # −2, so 0
    second = max(0.0, -1 * -1 + 1 * 0.5 - 1 * -0.75 + 0.5)  # 2.75
    deep = -1 * first + 0.5 * second + 0.125
    logit = wide_x + wide_phi + deep - 2
    assert model(row).item() == pytest.approx(logit, abs=1e-6)
    probability = 1 / (1 + math.exp(-logit))
    assert torch.sigmoid(model(row)).item() == pytest.approx(probability)
    tables = model.linear.table, model.linear.cross, model.fields.table
    penalty = 0.5 * model.config.l2 * sum(one.weight.square().sum().item() for one in tables)
    assert model.loss(row).item() == pytest.approx(-math.log(probability) + penalty, abs=1e-6)


@given(st.integers(1, 2), st.integers(3, 5), st.floats(-3, 3))
def test_every_row_is_its_formula(model: WideDeep, gender: int, app: int, age: float) -> None:
    row = FeatureBatch(torch.tensor([[gender, app, 7]]), torch.tensor([[1.0, 1.0, age]]))
    weight, vector = model.linear.table.weight[:, 0].tolist(), model.fields.table.weight[:, 0].tolist()
    wide = weight[gender] + weight[app] + weight[7] * age + bucket([gender, app]) + 1 - 2
    a = vector[gender], vector[app], vector[7] * age
    deep = 0.5 * max(0, a[1] - a[0] - a[2] + 0.5) - max(0, a[0] + 2 * a[1] + 3 * a[2] + 0.25) + 0.125
    assert model(row).item() == pytest.approx(wide + deep, abs=1e-4)


def test_a_cross_learns_what_no_sum_of_columns_can(categories: Callable[..., FeatureSchema]) -> None:
    # the label is whether both columns agree; from the columns alone every weight's gradient cancels out
    crossing = categories(2, 2, crosses=(Crossing(("a", "b"), 64),))
    model = WideDeep(WideDeepConfig(dim=1, hidden=(1,), l2=0.0), crossing)
    model.deep.out.weight.data.zero_()
    batch = FeatureBatch(
        torch.tensor([[1, 3], [1, 4], [2, 3], [2, 4]]), label=torch.tensor([[1.0], [0.0], [0.0], [1.0]])
    )
    model.loss(batch).sum().backward()
    assert model.linear.table.weight.grad.abs().max() < 1e-6
    assert sorted(model.linear.cross.weight.grad.to_dense()[:, 0].tolist())[:2] == [-0.5, -0.5]
    assert sorted(model.linear.cross.weight.grad.to_dense()[:, 0].tolist())[-2:] == [0.5, 0.5]


def test_it_takes_every_kind_of_field(
    all_kinds: FeatureSchema, filled: Callable[..., FeatureBatch], unreached: Callable[..., list[str]]
) -> None:
    model, batch = WideDeep(WideDeepConfig(dim=4, hidden=(8, 8)), all_kinds), filled(all_kinds, 40)
    assert model(batch).shape == (40, 1)
    assert model.loss(batch).shape == (40,)
    assert unreached(model, batch) == []


def test_a_layer_of_no_units_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"hidden is \(8, 0\); it must list sizes of 1 or more."):
        WideDeepConfig(hidden=(8, 0))
