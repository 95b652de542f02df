"""NGCF: one hop by hand, dense matrices, strangers who go every hop, and what training drops."""

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional

from bowerbird.core import ConfigError
from bowerbird.data import Interactions
from bowerbird.features import Context, Pairs
from bowerbird.models.graph.ngcf import NGCF, NGCFConfig

# two_by_two: user 0 chose item 0; user 1 chose items 0 and 1
PAPER = {"loss": "bpr", "cosine": False, "temperature": 1.0, "negatives": 1, "l2": 0.0}


@pytest.fixture(scope="module")
def random_table(table) -> Interactions:
    matrix = np.random.default_rng(0).random((12, 9)) < 0.3
    matrix[:, 0] = True
    return table(np.argwhere(matrix), 12, 9)


def made(train: Interactions, **settings: object) -> NGCF:
    model = NGCF(NGCFConfig(**(PAPER | {"dim": 3, "hops": 2} | settings)), train.schema).eval()  # type: ignore[arg-type]
    model.prepare(train)
    return model


def test_one_hop_matches_the_paper_by_hand(two_by_two: Interactions) -> None:
    model = made(two_by_two, dim=2, hops=1)
    model.user.data = torch.tensor([[1.0, 0.0], [2.0, 1.0]])
    model.item.data = torch.tensor([[3.0, -1.0], [4.0, 1.0]])
    model.plain.data = torch.tensor([[[1.0, 0.0], [0.0, 2.0]]])
    model.met.data = torch.tensor([[[0.0, 1.0], [1.0, 0.0]]])
    # user 0: item 0 arrives over √(1 · 2) as (2.1213, −0.7071). W₁ of its sum with (1, 0): (3.1213, −1.4142); W₂ swaps
    # the product (2.1213, 0): (0, 2.1213). LeakyReLU leaves (3.1213, 0.7071)
    users, _ = model()
    expected = torch.tensor([3.1213, 0.7071])
    assert users[0, :2].tolist() == [1.0, 0.0]
    assert torch.allclose(users[0, 2:], expected / expected.norm(), atol=1e-4)


def test_what_is_below_zero_leaks(two_by_two: Interactions) -> None:
    model = made(two_by_two, dim=2, hops=1)
    model.plain.data, model.met.data = -torch.eye(2)[None], torch.zeros(1, 2, 2)
    model.user.data, model.item.data = torch.tensor([[1.0, 2.0]] * 2), torch.zeros(2, 2)
    assert torch.allclose(model._layers()[0][1], torch.tensor([[-0.2, -0.4]] * 2))


def test_two_hops_and_their_gradient_agree_with_dense_matrices(random_table: Interactions) -> None:
    model = made(random_table)
    users, items = model()
    (users.square().sum() + items.sum()).backward()
    half = model.graph.user_item.to_dense()
    adjacency = torch.cat(
        [torch.cat([torch.zeros(12, 12), half], dim=1), torch.cat([half.T, torch.zeros(9, 9)], dim=1)]
    )
    parameters = [one.detach().clone().requires_grad_() for one in (model.user, model.item, model.plain, model.met)]
    user, item, plain, met = parameters
    layer = torch.cat([user, item])
    whole = [layer]
    for hop in range(2):
        first = (adjacency + torch.eye(21)) @ layer @ plain[hop]
        second = ((adjacency @ layer) * layer) @ met[hop]
        layer = functional.leaky_relu(first + second, 0.2)
        whole.append(layer / layer.norm(dim=1, keepdim=True))
    expected = torch.cat(whole, dim=1)
    assert torch.allclose(torch.cat([users, items]), expected, atol=1e-5)
    (expected[:12].square().sum() + expected[12:].sum()).backward()
    for mine, other in zip((model.user, model.item, model.plain, model.met), parameters, strict=True):
        assert torch.allclose(mine.grad, other.grad, atol=1e-5)


def test_a_stranger_is_the_average_user_with_edges_of_their_own(random_table: Interactions) -> None:
    model = made(random_table)
    others = torch.arange(12) != 7
    model.user.data[7] = model.user.data[others].mean(dim=0)
    model.freeze()
    known = Context.of_users(np.array([7], np.int32), random_table)
    assert torch.allclose(model.query(Context(torch.tensor([-1]), known.history)), model.users[[7]], atol=1e-6)


def test_loss_of_a_row_is_that_of_its_pair_and_negative(random_table: Interactions) -> None:
    model = made(random_table, l2=0.5)
    batch = Pairs(torch.tensor([1, 4]), torch.tensor([0, 2]), torch.ones(2), torch.tensor([[3], [5]]))
    users, items = model()
    expected: list[Tensor] = []
    for row in range(2):
        u, i, j = int(batch.user[row]), int(batch.item[row]), int(batch.negative[row, 0])
        gap = users[u] @ items[i] - users[u] @ items[j]
        expected.append(-torch.log(torch.sigmoid(gap)) + 0.5 * (model.user[u].square() + model.item[i].square()).sum())
    assert torch.allclose(model.loss(batch), torch.stack(expected), atol=1e-5)


def test_messages_are_dropped_in_training_only(random_table: Interactions) -> None:
    model = made(random_table, dropout=0.5, dim=8, hops=1)
    still = model._layers()[0][1]
    assert torch.equal(still, model._layers()[0][1])
    model.train()
    shaken = model._layers()[0][1]
    dropped = shaken == 0
    assert 0.3 < dropped.float().mean() < 0.7
    assert torch.allclose(shaken[~dropped], 2 * still[~dropped], atol=1e-6)


def test_options_out_of_range_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"hops is -1; it must be 0 or more. Try hops = 3."):
        NGCFConfig(hops=-1)
    with pytest.raises(ConfigError, match=r"dropout is 1.0; it must be 0 or more and below 1. Try dropout = 0.1."):
        NGCFConfig(dropout=1.0)
