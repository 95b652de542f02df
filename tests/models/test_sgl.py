"""SGL: what views leave out, when they are drawn, and their contrast by a slow loop."""

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional

from bowerbird.core import ConfigError
from bowerbird.data import Interactions
from bowerbird.features import Pairs
from bowerbird.models.graph.lightgcn import LightGCN, LightGCNConfig
from bowerbird.models.graph.sgl import SGL, SGLConfig, thinned
from bowerbird.nn.graph import pair_matrix

PAPER = {"loss": "bpr", "cosine": False, "temperature": 1.0, "negatives": 1, "l2": 0.01}
BATCH = Pairs(torch.tensor([1, 4, 1]), torch.tensor([0, 2, 5]), torch.ones(3), torch.tensor([[3], [6], [7]]))


@pytest.fixture(scope="module")
def full_table(table) -> Interactions:
    return table([(user, item) for user in range(60) for item in range(50)], 60, 50)


@pytest.fixture(scope="module")
def random_table(table) -> Interactions:
    matrix = np.random.default_rng(0).random((12, 9)) < 0.5
    matrix[:, 0] = True
    return table(np.argwhere(matrix), 12, 9)


def made(train: Interactions, **settings: object) -> SGL:
    torch.manual_seed(0)
    model = SGL(SGLConfig(**(PAPER | {"dim": 3, "hops": 2} | settings)), train.schema)  # type: ignore[arg-type]
    model.prepare(train)
    return model


@pytest.mark.parametrize("view", ["edges", "walks"])
def test_a_share_of_the_edges_is_dropped(view: str, full_table: Interactions) -> None:
    kept = thinned(pair_matrix(full_table), SGLConfig(view=view, dropped=0.3), np.random.default_rng(0))
    assert kept.shape == (60, 50)
    assert kept.nnz / 3_000 == pytest.approx(0.7, abs=0.03)
    assert kept.getnnz(axis=1).min() > 0  # here and there, not whole people


def test_dropped_users_and_items_lose_all_their_edges(full_table: Interactions) -> None:
    kept = thinned(pair_matrix(full_table), SGLConfig(view="nodes", dropped=0.3), np.random.default_rng(0))
    for axis, n in ((1, 60), (0, 50)):
        edges = kept.getnnz(axis=axis)
        gone = edges == 0
        assert gone.mean() == pytest.approx(0.3, abs=0.15)
        assert len(set(edges[~gone])) == 1
        assert 0 < gone.sum() < n


def test_the_edges_of_a_view_are_weighed_by_the_degrees_that_it_leaves(random_table: Interactions) -> None:
    model = made(random_table, dropped=0.4)
    model.begin_epoch(np.random.default_rng(0))
    graph = model.views[0][0]
    there = (graph.user_item.to_dense() > 0).float()
    expected = there / (there.sum(1, keepdim=True) * there.sum(0)).clamp(min=1).sqrt()
    assert torch.allclose(graph.user_item.to_dense(), expected)
    assert there.sum() < len(random_table.positives)


@pytest.mark.parametrize(("view", "graphs"), [("edges", 1), ("nodes", 1), ("walks", 3)])
def test_views_differ_and_are_redrawn_each_epoch(view: str, graphs: int, random_table: Interactions) -> None:
    model = made(random_table, view=view, dropped=0.3, hops=3)
    assert all(one is model.graph for hops in model.views for one in hops)
    seen = set()
    for epoch in range(2):
        model.begin_epoch(np.random.default_rng(epoch))
        assert [len(hops) for hops in model.views] == [3, 3]
        seen |= {one.user_item.to_dense().numpy().tobytes() for hops in model.views for one in hops}
    assert len(seen) == 2 * 2 * graphs
    model.begin_epoch(np.random.default_rng(1))
    assert seen >= {one.user_item.to_dense().numpy().tobytes() for hops in model.views for one in hops}


def test_no_view_is_drawn_where_none_is_needed(random_table: Interactions) -> None:
    model = made(random_table, contrast=0.0)
    model.begin_epoch(np.random.default_rng(0))
    assert model.views[0][0] is model.graph


def test_without_contrast_it_is_lightgcn(random_table: Interactions) -> None:
    model = made(random_table, contrast=0.0)
    plain = LightGCN(LightGCNConfig(**(PAPER | {"dim": 3, "hops": 2})), random_table.schema)  # type: ignore[arg-type]
    plain.load_state_dict(model.state_dict())
    plain.prepare(random_table)
    assert torch.equal(model.loss(BATCH), plain.loss(BATCH))
    for one in (model, plain):
        one.freeze()
    ours, theirs = model.state_dict(), plain.state_dict()
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)


def slow_views(model: SGL) -> list[tuple[Tensor, Tensor]]:
    """Return users and items of both views, by dense matrices."""
    found = []
    for graphs in model.views:
        users, items = [model.user], [model.item]
        for graph in graphs:
            half = graph.user_item.to_dense()
            new = half @ items[-1], half.T @ users[-1]
            users.append(new[0])
            items.append(new[1])
        found.append((sum(users) / len(users), sum(items) / len(items)))
    return found


@pytest.mark.parametrize("view", ["edges", "nodes", "walks"])
@torch.no_grad()
def test_the_loss_by_a_slow_loop(view: str, random_table: Interactions) -> None:
    model = made(random_table, view=view, dropped=0.3, contrast=0.5, contrast_temperature=0.4)
    model.begin_epoch(np.random.default_rng(3))
    plain = made(random_table, contrast=0.0)
    one, other = slow_views(model)
    expected = plain.loss(BATCH).tolist()
    for row in range(3):
        for side, index in ((0, BATCH.user), (1, BATCH.item)):
            mine = int(index[row])
            cosine = {
                n: functional.cosine_similarity(one[side][mine], other[side][n], dim=0) for n in set(index.tolist())
            }
            whole = sum(float((value / 0.4).exp()) for value in cosine.values())
            expected[row] -= 0.5 * float(torch.log((cosine[mine] / 0.4).exp() / whole))
    assert model.loss(BATCH).tolist() == pytest.approx(expected, abs=1e-5)


def test_serving_knows_no_view(random_table: Interactions) -> None:
    model = made(random_table, dropped=0.5)
    model.freeze()
    before = model.items.clone()
    model.begin_epoch(np.random.default_rng(0))
    model.freeze()
    assert torch.equal(model.items, before)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"view": "edge"}, "view is 'edge'; it must be one of edges, nodes, walks. Try view = edges."),
        ({"dropped": 1.0}, "dropped is 1.0; it must be 0 or more and below 1. Try dropped = 0.1."),
        ({"contrast": -1.0}, "contrast is -1.0; it must be 0 or more. Try contrast = 0.05."),
        ({"contrast_temperature": 0.0}, "contrast_temperature is 0.0; it must be above 0. Try"),
    ],
)
def test_options_out_of_range_are_refused(settings: dict[str, object], said: str) -> None:
    with pytest.raises(ConfigError) as error:
        SGLConfig(**settings)  # type: ignore[arg-type]
    assert said in str(error.value)
