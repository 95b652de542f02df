"""Adam: torch's own step for dense gradients, and the same step for the rows that a sparse gradient names."""

import subprocess
import sys

import pytest
import torch

from bowerbird.training import Adam


def tables(*shape: int) -> tuple[torch.nn.Parameter, torch.nn.Parameter]:
    start = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    return torch.nn.Parameter(start.clone()), torch.nn.Parameter(start.clone())


def gradient(step: int, *shape: int) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(100 + step))


def test_the_first_step_by_hand() -> None:
    one = torch.nn.Parameter(torch.tensor([1.0, 1.0]))
    one.grad = torch.tensor([0.5, -2.0])
    Adam([one], 0.1).step()
    assert one.tolist() == pytest.approx([0.9, 1.1])  # the mean over the root of the square is the sign


def test_dense_steps_are_those_of_torch() -> None:
    ours, theirs = tables(7, 3)
    mine, reference = Adam([ours], 0.01), torch.optim.Adam([theirs], lr=0.01)
    for step in range(5):
        ours.grad, theirs.grad = gradient(step, 7, 3), gradient(step, 7, 3)
        mine.step()
        reference.step()
    assert torch.allclose(ours, theirs, atol=1e-6)


def test_moments_taken_over_by_name_go_on_as_if_nothing_had_happened() -> None:
    model, heir = torch.nn.Linear(3, 2), torch.nn.Linear(3, 2)
    mine, theirs = Adam(model.parameters(), 0.1), Adam(heir.parameters(), 0.1)

    def step(model: torch.nn.Module, optimiser: Adam, number: int) -> None:
        for place, parameter in enumerate(model.parameters()):
            parameter.grad = gradient(10 * number + place, *parameter.shape)
        optimiser.step()

    for number in range(3):
        step(model, mine, number)
    heir.load_state_dict(model.state_dict())
    kept = mine.moments(model)
    assert set(kept) == {f"{name}.{key}" for name in ("weight", "bias") for key in ("mean", "square", "steps")}
    theirs.restore(heir, kept)
    for number in range(3, 6):
        step(model, mine, number)
        step(heir, theirs, number)
    assert all(torch.equal(*pair) for pair in zip(model.parameters(), heir.parameters(), strict=True))
    assert mine.state[model.bias]["steps"].item() == theirs.state[heir.bias]["steps"].item() == 6


def test_a_parameter_without_moments_starts_anew() -> None:
    model = torch.nn.Linear(3, 2)
    optimiser = Adam(model.parameters(), 0.1)
    assert optimiser.moments(model) == {}
    optimiser.restore(model, {})
    assert optimiser.state == {}


def test_sparse_steps_that_name_every_row_are_dense_steps() -> None:
    ours, theirs = tables(7, 3)
    mine, dense = Adam([ours], 0.01), Adam([theirs], 0.01)
    for step in range(4):
        ours.grad, theirs.grad = gradient(step, 7, 3).to_sparse(1), gradient(step, 7, 3)
        mine.step()
        dense.step()
    assert torch.allclose(ours, theirs, atol=1e-6)


def test_rows_without_a_gradient_stay_where_they_are() -> None:
    table, _ = tables(5, 2)
    optimiser = Adam([table], 0.1)
    table.grad = torch.ones(5, 2)
    optimiser.step()
    moved = table.detach().clone()
    index, values = torch.tensor([[3, 1, 3]]), torch.tensor([[1.0, 1.0], [2.0, 0.0], [0.5, 0.0]])
    table.grad = torch.sparse_coo_tensor(index, values, (5, 2), check_invariants=True)
    optimiser.step()
    assert torch.equal(table[[0, 2, 4]], moved[[0, 2, 4]])
    assert (table[[1, 3]] != moved[[1, 3]]).all()
    assert optimiser.state[table]["steps"].item() == 2


def test_a_parameter_without_a_gradient_is_left_alone() -> None:
    table, before = tables(3, 2)
    optimiser = Adam([table], 0.1)
    optimiser.step()
    assert torch.equal(table, before)
    assert not optimiser.state


def test_gradients_are_dropped() -> None:
    table, _ = tables(3, 2)
    table.grad = torch.ones(3, 2)
    Adam([table], 0.1).zero_grad()
    assert table.grad is None


def test_a_step_does_not_import_the_compiler() -> None:
    code = (
        "import sys, torch; from bowerbird.training import Adam; p = torch.nn.Parameter(torch.ones(2));"
        "p.grad = torch.ones(2); Adam([p], 0.1).step(); print('torch._dynamo' in sys.modules)"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout == "False\n"
