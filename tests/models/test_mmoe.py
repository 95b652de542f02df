"""MMoE: the mixture of experts against its equations, task by task, and what an unobserved label moves."""

import math
from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from bowerbird.core import ConfigError
from bowerbird.features import FeatureBatch, FeatureSchema
from bowerbird.models.ranking.mmoe import MMoE, MMoEConfig

SMALL = MMoEConfig(dim=4, hidden=(8, 6), experts=3, tower=(5,))


def test_two_experts_and_two_tasks_by_hand(categories: Callable[..., FeatureSchema]) -> None:
    schema = categories(2, tasks=("cart", "buy"))
    model = MMoE(MMoEConfig(dim=1, hidden=(1,), experts=2, tower=()), schema).eval()
    model.fields.table.weight.data = torch.tensor([[0.0], [2.0], [0.0]])
    for expert, weight in zip(model.experts, (1.0, 3.0), strict=True):
        expert.layers[0].weight.data.fill_(weight)
    for tower in model.towers:
        tower.out.weight.data.fill_(1.0)
    model.gates.weight.data = torch.tensor([[0.0], [0.0], [math.log(3) / 2], [0.0]])
    # v = 2: experts say 2 and 6; gates are (½, ½), and for ln 3 and 0 (¾, ¼)
    assert model(FeatureBatch(torch.tensor([[1]])))[0].tolist() == pytest.approx([4.0, 3.0])


@given(st.integers(0, 1000), st.integers(1, 3), st.integers(1, 4))
def test_each_task_mixes_the_experts_its_own_way(
    all_kinds: FeatureSchema, filled: Callable[..., FeatureBatch], seed: int, n_tasks: int, experts: int
) -> None:
    torch.manual_seed(seed)
    schema = replace(all_kinds, tasks=tuple("abc"[:n_tasks]))
    model, batch = MMoE(replace(SMALL, experts=experts), schema).eval(), filled(schema, 5)
    model.fields.table.weight.data.normal_()
    flat, found = model.fields(batch).flatten(1), model(batch)
    assert found.shape == (5, n_tasks)
    for task, tower in enumerate(model.towers):
        for row in range(5):
            said = [model.experts[e](flat[row : row + 1]) for e in range(experts)]
            score = [(model.gates.weight[task * experts + e] @ flat[row]).exp() for e in range(experts)]
            mixed = sum(one / sum(score) * x for one, x in zip(score, said, strict=True))
            assert found[row, task].item() == pytest.approx(tower(mixed).item(), abs=1e-4)


def test_labels_that_nobody_saw_move_no_tower(all_kinds: FeatureSchema, filled: Callable[..., FeatureBatch]) -> None:
    schema = replace(all_kinds, tasks=("cart", "buy"))
    model, batch = MMoE(SMALL, schema), filled(schema, 12)
    label = batch.label.clone()
    label[:, 1] = math.nan
    loss = model.loss(replace(batch, label=label))
    assert loss.isfinite().all()
    loss.mean().backward()
    moved = [any(one.grad.any() for one in tower.parameters()) for tower in model.towers]
    assert moved == [True, False]
    assert not model.gates.weight.grad[SMALL.experts :].any()


@pytest.mark.parametrize("tasks", [("label",), ("cart", "buy"), ("view", "cart", "buy")])
def test_it_takes_every_kind_of_field(
    all_kinds: FeatureSchema,
    filled: Callable[..., FeatureBatch],
    unreached: Callable[..., list[str]],
    tasks: tuple[str, ...],
) -> None:
    schema = replace(all_kinds, tasks=tasks)
    model, batch = MMoE(SMALL, schema), filled(schema, 40)
    model.fields.table.weight.data.normal_()
    assert model(batch).shape == (40, len(tasks))
    assert model.loss(batch).shape == (40,)
    assert unreached(model, batch) == []


def test_without_an_expert_it_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"experts is 0; it must be 1 or more. Try experts = 4."):
        MMoEConfig(experts=0)


def test_sizes_of_towers_below_one_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"tower is \(8, 0\); it must list sizes of 1 or more."):
        MMoEConfig(tower=(8, 0))
