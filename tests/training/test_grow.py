"""Growing a model and its optimiser together: old rows go on as if nothing had happened."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from bowerbird.core.ids import Ids
from bowerbird.data import Interactions
from bowerbird.models.baselines.mf import MF, MFConfig
from bowerbird.models.graph.lightgcn import LightGCN, LightGCNConfig
from bowerbird.training import Adam, PairBatches, grow

Step = Callable[[int], float]
OPTIONS: dict[str, Any] = {"dim": 4, "batch_size": 500, "negatives": 16, "learning_rate": 0.05}


def enlarged(events: Interactions, n_users: int, n_items: int) -> Interactions:
    """Return the events and one for each new user and item, who choose each other in turn."""
    old_users, old_items = events.n_users, events.n_items
    more = max(n_users - old_users, n_items - old_items)
    user = np.append(events.user, old_users + np.arange(more) % (n_users - old_users)).astype(np.int32)
    item = np.append(events.item, old_items + np.arange(more) % (n_items - old_items)).astype(np.int32)
    n = len(user)
    return Interactions(
        user, item, np.ones(n, np.float32), np.zeros(n, np.uint8), None, Ids.of(range(n_users)), Ids.of(range(n_items))
    )


class Run:
    """A model, its optimiser and its batches, stepped by hand."""

    def __init__(self, name: str, events: Interactions) -> None:
        model, config = {"mf": (MF, MFConfig), "lightgcn": (LightGCN, LightGCNConfig)}[name]
        self.config: Any = config(**OPTIONS)
        with torch.random.fork_rng():
            torch.manual_seed(0)
            self.model: Any = model(self.config, events.schema)
        self.optimiser = Adam(self.model.parameters(), self.config.learning_rate)
        self.eat(events)

    def eat(self, events: Interactions) -> None:
        self.model.prepare(events)
        self.batches = PairBatches(events, self.config, seed=0, device="cpu")

    def steps(self, n: int) -> list[float]:
        losses = []
        for epoch in range(n):
            self.optimiser.zero_grad()
            loss = self.model.loss(self.batches.batch(epoch, 0)).mean()
            loss.backward()
            self.optimiser.step()
            losses.append(loss.item())
        return losses

    def tables(self) -> dict[str, Tensor]:
        return {name: parameter.detach().clone() for name, parameter in self.model.named_parameters()}

    def moments(self) -> dict[str, dict[str, Tensor]]:
        states = {name: self.optimiser.state[parameter] for name, parameter in self.model.named_parameters()}
        return {name: {key: value.clone() for key, value in state.items()} for name, state in states.items()}


@pytest.fixture(params=["mf", "lightgcn"])
def run(request: pytest.FixtureRequest, even_odd: Interactions) -> Run:
    """A model of 40 users and 12 items after five steps."""
    trained = Run(request.param, even_odd)
    trained.steps(5)
    return trained


def test_old_rows_keep_their_values_and_new_rows_are_small_and_random(run: Run) -> None:
    before = run.tables()
    grow(run.model, run.optimiser, 45, 15)
    for name, n_new in (("user", 5), ("item", 3)):
        table = run.tables()[name]
        assert torch.equal(table[:-n_new], before[name])
        assert table.shape == (len(before[name]) + n_new, 4)
        assert 0 < table[-n_new:].abs().max() < 1.0


def test_old_rows_keep_their_moments_and_new_moments_are_zero(run: Run) -> None:
    before = run.moments()
    grow(run.model, run.optimiser, 45, 15)
    after = run.moments()
    for name, n_new in (("user", 5), ("item", 3)):
        assert after[name]["steps"].item() == before[name]["steps"].item() == 5
        for key in ("mean", "square"):
            assert torch.equal(after[name][key][:-n_new], before[name][key])
            assert before[name][key].abs().sum() > 0
            assert after[name][key][-n_new:].abs().sum() == 0
            assert len(after[name][key]) == len(before[name][key]) + n_new


def test_the_optimiser_moves_the_new_parameters_and_forgets_the_old_ones(run: Run) -> None:
    grow(run.model, run.optimiser, 41, 13)
    assert {id(parameter) for parameter in run.optimiser.parameters} == {
        id(parameter) for parameter in run.model.parameters()
    }
    assert set(run.optimiser.state) == set(run.model.parameters())


def test_training_continues_and_moves_new_rows(run: Run, even_odd: Interactions) -> None:
    grow(run.model, run.optimiser, 45, 15)
    run.eat(enlarged(even_odd, 45, 15))
    before = run.tables()
    losses = run.steps(30)
    assert losses[-1] < losses[0]
    for name, table in run.tables().items():
        assert (table - before[name]).abs().sum(dim=1).min() > 0


def test_growing_by_nothing_changes_no_later_step(run: Run, even_odd: Interactions) -> None:
    name = "mf" if isinstance(run.model, MF) else "lightgcn"
    twin = Run(name, even_odd)
    twin.steps(5)
    grow(run.model, run.optimiser, 40, 12)
    run.steps(3)
    twin.steps(3)
    for grown, straight in zip(run.tables().values(), twin.tables().values(), strict=True):
        assert torch.equal(grown, straight)


def test_growing_before_the_first_step_needs_no_moments(even_odd: Interactions) -> None:
    fresh = Run("mf", even_odd)
    grow(fresh.model, fresh.optimiser, 42, 14)
    assert len(fresh.optimiser.state) == 0
    fresh.eat(enlarged(even_odd, 42, 14))
    fresh.steps(1)
    assert fresh.moments()["user"]["mean"].shape == (42, 4)


def test_growing_twice_is_growing_once(run: Run) -> None:
    before, moments = run.tables(), run.moments()
    grow(run.model, run.optimiser, 41, 13)
    grow(run.model, run.optimiser, 50, 20)
    assert torch.equal(run.tables()["user"][:40], before["user"])
    assert torch.equal(run.moments()["item"]["mean"][:12], moments["item"]["mean"])
    assert run.moments()["item"]["mean"][12:].abs().sum() == 0
