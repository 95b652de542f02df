"""FinalMLP: the bilinear fusion and the gates against their equations, and what each gate looks at."""

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from bowerbird.core import ConfigError
from bowerbird.features import FeatureBatch, FeatureSchema
from bowerbird.models.ranking.finalmlp import FinalMLP, FinalMLPConfig, Fusion, Gate
from bowerbird.nn.fields import Fields

SMALL: dict[str, Any] = {"dim": 4, "hidden": (8, 6), "gate_hidden": (5,)}


def test_two_heads_by_hand() -> None:
    fusion = Fusion(2, 2, heads=2)
    fusion.linear.weight.data = torch.tensor([[0.5, 1.0, 0.0, -1.0]])
    fusion.linear.bias.data = torch.tensor([0.1])
    fusion.weight.data = torch.tensor([[[2.0]], [[-1.0]]])
    # linear: 0.5 · 1 + 1 · 2 + 0 · 3 − 1 · 4 + 0.1 = −1.4; heads: 1 · 2 · 3 = 6 and 2 · −1 · 4 = −8
    assert fusion(torch.tensor([[1.0, 2.0]]), torch.tensor([[3.0, 4.0]])).item() == pytest.approx(-3.4)


@given(st.integers(0, 1000), st.integers(1, 3), st.integers(1, 3), st.integers(1, 3))
def test_heads_are_bilinear_forms_of_parts(seed: int, heads: int, one: int, other: int) -> None:
    torch.manual_seed(seed)
    fusion = Fusion(heads * one, heads * other, heads).double()
    x, y = (torch.randn(3, heads * size, dtype=torch.float64) for size in (one, other))
    for row in range(3):
        expected = fusion.linear.bias[0] + fusion.linear.weight[0] @ torch.cat([x[row], y[row]])
        for head in range(heads):
            for i in range(one):
                for j in range(other):
                    weight = fusion.weight[head, i, j]
                    expected = expected + weight * x[row, head * one + i] * y[row, head * other + j]
        assert fusion(x, y)[row].item() == pytest.approx(expected.item())


def test_a_gate_by_hand(categories: Callable[..., FeatureSchema]) -> None:
    gate = Gate(Fields(categories(2, 2), 1), [0], ())
    gate.perceptron.out.weight.data = torch.tensor([[1.0], [0.0]])
    # 2 σ(ln 3) = 2 · 3 / 4, 2 σ(0) = 1
    assert gate(torch.tensor([[[math.log(3)], [7.0]]]))[0].tolist() == pytest.approx([1.5, 1.0])


def test_a_learned_vector_opens_the_same_gate_to_all_rows(
    all_kinds: FeatureSchema, filled: Callable[..., FeatureBatch]
) -> None:
    model = FinalMLP(FinalMLPConfig(**SMALL), all_kinds)
    first, second = (gate(model.fields(filled(all_kinds, 6))) for gate in model.gates)
    assert first.shape == second.shape == (1, 7 * 4)
    assert not torch.allclose(first, second, atol=1e-3)


@pytest.mark.parametrize("named", ["a", "b", "v"])
def test_a_gate_looks_at_the_columns_it_names(
    all_kinds: FeatureSchema, filled: Callable[..., FeatureBatch], named: str
) -> None:
    model = FinalMLP(FinalMLPConfig(gate_fields=(named,), **SMALL), all_kinds)
    model.fields.table.weight.data.normal_()
    batch, other = filled(all_kinds, 6, 0), filled(all_kinds, 6, 1)
    gates = model.gates[0](model.fields(batch))
    if named == "v":
        elsewhere, here = replace(other, vector=batch.vector), replace(batch, vector=other.vector)
    else:
        slot, code = all_kinds.field(named).slot, batch.code.clone()
        code[:, slot] = batch.code[:, slot] % 3 + all_kinds.field(named).start  # another row of the table
        here = replace(batch, code=code)
        code = other.code.clone()
        code[:, slot] = batch.code[:, slot]
        elsewhere = replace(other, code=code)
    assert torch.allclose(model.gates[0](model.fields(elsewhere)), gates, atol=1e-6)
    assert not torch.allclose(model.gates[0](model.fields(here)), gates, atol=1e-3)


def test_the_logit_fuses_two_gated_perceptrons(all_kinds: FeatureSchema, filled: Callable[..., FeatureBatch]) -> None:
    config = FinalMLPConfig(hidden2=(4,), gate_fields=("a",), gate_fields2=("x", "b"), **SMALL)
    model, batch = FinalMLP(config, all_kinds).eval(), filled(all_kinds, 6)
    model.fields.table.weight.data.normal_()
    fields = model.fields(batch)
    flat, (first, second) = fields.flatten(1), model.gates
    expected = model.fusion(model.one(flat * first(fields)), model.other(flat * second(fields)))
    assert torch.allclose(model(batch), expected)
    assert model.other.n_out == 4


def test_without_gates_both_perceptrons_see_the_fields(
    all_kinds: FeatureSchema, filled: Callable[..., FeatureBatch]
) -> None:
    model, batch = FinalMLP(FinalMLPConfig(gated=False, **SMALL), all_kinds).eval(), filled(all_kinds, 6)
    flat = model.fields(batch).flatten(1)
    assert torch.equal(model(batch), model.fusion(model.one(flat), model.other(flat)))


@pytest.mark.parametrize(
    "settings",
    [{}, {"gated": False}, {"gate_fields": ("a", "v"), "gate_fields2": ("look",)}, {"hidden2": (4,), "heads": 1}],
)
def test_it_takes_every_kind_of_field(
    all_kinds: FeatureSchema,
    filled: Callable[..., FeatureBatch],
    unreached: Callable[..., list[str]],
    settings: dict[str, Any],
) -> None:
    model, batch = FinalMLP(FinalMLPConfig(**(SMALL | settings)), all_kinds), filled(all_kinds, 40)
    model.fields.table.weight.data.normal_()
    assert model(batch).shape == (40, 1)
    assert model.loss(batch).shape == (40,)
    assert unreached(model, batch) == []


def test_a_gate_of_an_unknown_column_is_answered_with_the_closest(all_kinds: FeatureSchema) -> None:
    message = (
        r'gate_fields2 names "lok", which is no column. Did you mean "look"\? Columns: a, mean, x, sum, look, b, v'
    )
    with pytest.raises(ConfigError, match=message):
        FinalMLP(FinalMLPConfig(gate_fields2=("lok",)), all_kinds)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"hidden2": (8, 0)}, r"hidden2 is \(8, 0\); it must list sizes of 1 or more."),
        ({"heads": 0}, "heads is 0; it must be 1 or more. Try heads = 2."),
        ({"hidden": (9,), "heads": 2}, r"hidden is \(9,\); it must end in a multiple of heads \(2\)."),
        ({"hidden2": (7,), "heads": 2}, r"hidden2 is \(7,\); it must end in a multiple of heads \(2\)."),
        ({"gate_hidden": (0,)}, r"gate_hidden is \(0,\); it must list sizes of 1 or more."),
    ],
)
def test_sizes_that_do_not_fit_are_refused(wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        FinalMLPConfig(**wrong)
