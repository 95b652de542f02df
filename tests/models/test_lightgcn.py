import numpy as np
import pytest
import torch

from bowerbird.core import ConfigError
from bowerbird.data import Interactions
from bowerbird.features import Context, Pairs
from bowerbird.models.baselines.mf import MF, MFConfig
from bowerbird.models.graph.lightgcn import LightGCN, LightGCNConfig
from bowerbird.nn.losses import NAMES
from bowerbird.training import batches_for

# two_by_two: user 0 chose item 0; user 1 chose items 0 and 1
PAPER = {"loss": "bpr", "cosine": False, "temperature": 1.0, "negatives": 1, "l2": 0.0}


@pytest.fixture(scope="module")
def random_table(table) -> Interactions:
    matrix = np.random.default_rng(0).random((12, 9)) < 0.3
    matrix[:, 0] = True
    return table(np.argwhere(matrix), 12, 9)


def one_two_three_four(train: Interactions, hops: int) -> LightGCN:
    model = LightGCN(LightGCNConfig(dim=1, hops=hops, **PAPER), train.schema)
    model.prepare(train)
    model.user.data, model.item.data = torch.tensor([[1.0], [2.0]]), torch.tensor([[3.0], [4.0]])
    return model


def test_one_hop_matches_the_paper_by_hand(two_by_two: Interactions) -> None:
    users, items = one_two_three_four(two_by_two, hops=1)()
    # user 0 has one edge, item 0 has two: (1 + 3 / sqrt(1 * 2)) / 2
    assert users[0].item() == pytest.approx(1.5607, abs=1e-4)
    # user 1 has two: (2 + 3 / sqrt(2 * 2) + 4 / sqrt(2 * 1)) / 2
    assert users[1].item() == pytest.approx(3.1642, abs=1e-4)
    # item 0: (3 + 1 / sqrt(2 * 1) + 2 / sqrt(2 * 2)) / 2; item 1: (4 + 2 / sqrt(1 * 2)) / 2
    assert items[0].item() == pytest.approx(2.3536, abs=1e-4)
    assert items[1].item() == pytest.approx(2.7071, abs=1e-4)


def test_two_hops_match_the_paper_by_hand(two_by_two: Interactions) -> None:
    users, _ = one_two_three_four(two_by_two, hops=2)()
    # after one hop item 0 is 1 / sqrt(2) + 2 / 2, which reaches user 0 over sqrt(2): (1 + 2.1213 + 1.2071) / 3
    assert users[0].item() == pytest.approx(1.4428, abs=1e-4)


def test_repeated_events_are_one_edge(table, two_by_two: Interactions) -> None:
    again = table([(0, 0), (1, 0), (1, 1), (1, 1), (0, 0)], 2, 2)
    once, twice = one_two_three_four(two_by_two, hops=2)(), one_two_three_four(again, hops=2)()
    assert torch.equal(once[0], twice[0])
    assert torch.equal(once[1], twice[1])


@pytest.mark.parametrize("loss", NAMES)
def test_zero_hops_is_matrix_factorisation(loss: str, random_table: Interactions) -> None:
    settings = {"dim": 4, "loss": loss, "l2": 0.01, "negatives": 5, "temperature": 0.2}
    graph = LightGCN(LightGCNConfig(hops=0, **settings), random_table.schema)
    plain = MF(MFConfig(**settings), random_table.schema)
    plain.user.data, plain.item.data = graph.user.data.clone(), graph.item.data.clone()
    graph.prepare(random_table)
    batch = batches_for(Pairs, random_table, plain.config, seed=0, device="cpu").batch(0, 0)
    ours, theirs = graph.loss(batch), plain.loss(batch)
    assert torch.allclose(ours, theirs, rtol=1e-5)
    ours.mean().backward()
    theirs.mean().backward()
    assert torch.allclose(graph.user.grad, plain.user.grad, rtol=1e-4, atol=1e-5)
    assert torch.allclose(graph.item.grad, plain.item.grad, rtol=1e-4, atol=1e-5)


def test_the_gradient_agrees_with_a_dense_matrix(random_table: Interactions) -> None:
    model = LightGCN(LightGCNConfig(dim=3, hops=2, **PAPER), random_table.schema)
    model.prepare(random_table)
    users, items = model()
    (users.square().sum() + items.sum()).backward()
    adjacency = model.graph.user_item.to_dense()
    user, item = (one.detach().clone().requires_grad_() for one in (model.user, model.item))
    u, i = [user], [item]
    for _ in range(2):
        new = adjacency @ i[-1], adjacency.T @ u[-1]
        u.append(new[0])
        i.append(new[1])
    ((sum(u) / 3).square().sum() + (sum(i) / 3).sum()).backward()
    assert torch.allclose(model.user.grad, user.grad, atol=1e-5)
    assert torch.allclose(model.item.grad, item.grad, atol=1e-5)


def test_a_stranger_gets_what_a_user_without_a_vector_would_on_top_of_the_average(random_table: Interactions) -> None:
    model = LightGCN(LightGCNConfig(dim=4, hops=1, cosine=False), random_table.schema)
    model.prepare(random_table)
    model.user.data[7] = 0.0  # the user is in the graph with their edges, and has learned nothing else
    model.freeze()
    known = Context.of_users(np.array([7], np.int32), random_table)
    stranger = Context(torch.tensor([-1]), known.history)
    assert known.history.lengths.item() > 1
    assert model.users[7].abs().max() > 0.01
    assert torch.allclose(model.query(stranger), model.users[[7]] + model.users.mean(dim=0), atol=1e-7)


def test_a_mixed_batch_folds_in_strangers_only(random_table: Interactions) -> None:
    model = LightGCN(LightGCNConfig(dim=4, hops=2, cosine=False), random_table.schema)
    model.prepare(random_table)
    model.freeze()
    context = Context.of_users(np.array([1, 2], np.int32), random_table)
    query = model.query(Context(torch.tensor([1, -1]), context.history))
    assert torch.equal(query[0], model.users[1])
    assert not torch.allclose(query[1], model.users[2])


def test_l2_adds_the_squared_length_of_unpropagated_vectors(two_by_two: Interactions) -> None:
    batch = Pairs(torch.tensor([1]), torch.tensor([1]), torch.ones(1), torch.tensor([[0]]))
    plain = one_two_three_four(two_by_two, hops=2)
    heavy = LightGCN(LightGCNConfig(dim=1, hops=2, **(PAPER | {"l2": 0.5})), two_by_two.schema)
    heavy.load_state_dict(plain.state_dict())
    heavy.prepare(two_by_two)
    # user 1 is 2, item 1 is 4
    assert (heavy.loss(batch) - plain.loss(batch)).item() == pytest.approx(0.5 * (4 + 16), rel=1e-5)


def test_serving_needs_no_graph(random_table: Interactions) -> None:
    model = LightGCN(LightGCNConfig(dim=4), random_table.schema)
    model.prepare(random_table)
    model.freeze()
    served = LightGCN(LightGCNConfig(dim=4), random_table.schema)
    served.load_state_dict(model.state_dict())
    everyone = Context.of_users(np.arange(12, dtype=np.int32), random_table)
    assert torch.equal(served.scores(everyone), model.scores(everyone))


def test_similar_items_share_their_people(table) -> None:
    past = table([(user, item) for user in range(8) for item in range(6) if user % 2 == item % 2], 8, 6)
    model = LightGCN(LightGCNConfig(dim=2, hops=1), past.schema)
    model.prepare(past)
    model.user.data = torch.eye(2).repeat(4, 1)  # even users point one way, odd users the other
    model.item.data.zero_()
    model.freeze()
    alike = model.scores(Context.of_seeds([[0], [1]]))
    assert torch.allclose(alike, torch.eye(2).repeat(1, 3), atol=1e-6)


def test_fewer_than_zero_hops_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"hops is -1; it must be 0 or more. Try hops = 3."):
        LightGCNConfig(hops=-1)
