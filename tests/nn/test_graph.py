"""The normalised graph against dense matrices, forward and backward, and what models on it share."""

import math
from collections.abc import Sequence

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from bowerbird.core.ids import Ids
from bowerbird.data import EventType, Interactions
from bowerbird.features import Pairs
from bowerbird.nn import graph as graphs
from bowerbird.nn.graph import ContrastConfig, Graph, contrast, mean, propagate, sent, smoothed, travel


def interactions(
    pairs: Sequence[tuple[int, int]], n_users: int, n_items: int, *, event: Sequence[int] | None = None
) -> Interactions:
    user, item = np.array(pairs, np.int32).reshape(-1, 2).T
    kinds = (EventType("buy", weight=3.0), EventType("dislike", sign="negative"))
    return Interactions(
        user=user, item=item, weight=np.ones(len(pairs), np.float32), time=None, events=kinds,
        event=np.zeros(len(pairs), np.uint8) if event is None else np.array(event, np.uint8),
        user_ids=Ids.of(range(n_users)), item_ids=Ids.of(range(n_items)),
    )  # fmt: skip


def dense(pairs: Sequence[tuple[int, int]], n_users: int, n_items: int) -> Tensor:
    """Return D^−½ A D^−½ of the whole bipartite graph, users first, with loops for all to read."""
    n = n_users + n_items
    adjacency = torch.zeros(n, n)
    for user, item in set(pairs):
        adjacency[user, n_users + item] = adjacency[n_users + item, user] = 1.0
    degree = adjacency.sum(1)
    for row in range(n):
        for column in range(n):
            if adjacency[row, column]:
                adjacency[row, column] /= math.sqrt(degree[row] * degree[column])
    return adjacency


some_pairs = st.lists(st.tuples(st.integers(0, 4), st.integers(0, 3)), min_size=1, max_size=15)


def test_one_hop_by_hand() -> None:
    graph = Graph.of(interactions([(0, 0), (1, 0), (1, 1)], 2, 2))
    users, items = propagate(graph, torch.tensor([[1.0], [2.0]]), torch.tensor([[3.0], [4.0]]))
    # user 0 has one edge, user 1 two; item 0 has two, item 1 one
    assert users[:, 0].tolist() == pytest.approx([3 / math.sqrt(2), 3 / 2 + 4 / math.sqrt(2)])
    assert items[:, 0].tolist() == pytest.approx([1 / math.sqrt(2) + 2 / 2, 2 / math.sqrt(2)])


@given(some_pairs)
@settings(max_examples=40)
def test_propagation_and_its_gradient_equal_the_dense_product(pairs: list[tuple[int, int]]) -> None:
    n_users, n_items = 5, 4
    graph, matrix = Graph.of(interactions(pairs, n_users, n_items)), dense(pairs, n_users, n_items)
    stream = torch.Generator().manual_seed(len(pairs))
    start, pull = torch.randn(2, n_users + n_items, 3, generator=stream)
    sparse_in, dense_in = start.clone().requires_grad_(), start.clone().requires_grad_()
    one = propagate(graph, *sparse_in.split([n_users, n_items]))
    two = torch.cat(propagate(graph, *one))  # two hops, so that gradients pass through both halves
    expected = matrix @ (matrix @ dense_in)
    (two * pull).sum().backward()
    (expected * pull).sum().backward()
    assert torch.allclose(two, expected, atol=1e-5)
    assert sparse_in.grad is not None
    assert dense_in.grad is not None
    assert torch.allclose(sparse_in.grad, dense_in.grad, atol=1e-5)


@given(some_pairs, st.integers(0, 3), st.integers(0, 1))
@settings(max_examples=40)
def test_smoothing_is_the_mean_of_the_layers_and_so_is_its_gradient(
    pairs: list[tuple[int, int]], hops: int, first: int
) -> None:
    first = min(first, hops)
    graph = Graph.of(interactions(pairs, 5, 4))
    start, pull = torch.randn(2, 9, 3, generator=torch.Generator().manual_seed(len(pairs)))
    one, other = start.clone().requires_grad_(), start.clone().requires_grad_()
    found = torch.cat(smoothed(graph, *one.split([5, 4]), hops=hops, first=first))
    layers = travel([graph] * hops, *other.split([5, 4]))
    expected = torch.cat([mean(side[first:]) for side in layers])
    (found * pull).sum().backward()
    (expected * pull).sum().backward()
    assert torch.allclose(found, expected, atol=1e-6)
    assert one.grad is not None
    assert other.grad is not None
    assert torch.allclose(one.grad, other.grad, atol=1e-6)


def test_the_gradient_agrees_with_finite_differences() -> None:
    graph = Graph.of(interactions([(0, 0), (0, 1), (1, 1), (2, 0)], 3, 2))
    doubles = Graph(graph.user_item.double(), graph.item_user.double(), graph.user_degree, graph.item_degree)
    users, items = torch.randn(3, 2, dtype=torch.float64), torch.randn(2, 2, dtype=torch.float64)
    arguments = (users.requires_grad_(), items.requires_grad_())
    assert torch.autograd.gradcheck(lambda u, i: torch.cat(propagate(doubles, u, i)), arguments)


def test_degrees_count_distinct_positive_pairs() -> None:
    events = interactions([(0, 0), (0, 0), (0, 1), (1, 1), (1, 0)], 3, 2, event=[0, 0, 0, 0, 1])
    graph = Graph.of(events)
    assert graph.user_degree.tolist() == [2.0, 1.0, 0.0]  # the dislike is no edge
    assert graph.item_degree.tolist() == [1.0, 2.0]


def test_the_weight_of_an_event_does_not_weigh_its_edge() -> None:
    graph = Graph.of(interactions([(0, 0)], 1, 1))  # an event of weight 3
    assert graph.user_item.to_dense().tolist() == [[1.0]]


def test_someone_without_edges_receives_nothing() -> None:
    graph = Graph.of(interactions([(0, 0)], 2, 2))
    users, items = propagate(graph, torch.ones(2, 3), torch.ones(2, 3))
    assert users[1].tolist() == items[1].tolist() == [0.0, 0.0, 0.0]


def test_a_graph_without_edges_gives_zeros() -> None:
    graph = Graph.of(interactions([], 2, 3))
    users, items = propagate(graph, torch.ones(2, 4), torch.ones(3, 4))
    assert (users.shape, items.shape) == ((2, 4), (3, 4))
    assert float(users.abs().sum() + items.abs().sum()) == 0.0


def test_the_two_halves_are_transposes_with_int32_indices() -> None:
    graph = Graph.of(interactions([(0, 2), (1, 0), (1, 2)], 2, 3)).to("cpu")
    assert torch.equal(graph.user_item.to_dense(), graph.item_user.to_dense().T)
    assert graph.user_item.col_indices().dtype == torch.int32


@given(some_pairs, st.permutations(range(5)))
@settings(max_examples=30)
def test_renumbering_users_renumbers_their_rows(pairs: list[tuple[int, int]], order: list[int]) -> None:
    stream = torch.Generator().manual_seed(5)
    users, items = torch.randn(5, 2, generator=stream), torch.randn(4, 2, generator=stream)
    index = torch.tensor(order)
    moved_users = torch.empty_like(users)
    moved_users[index] = users
    straight = propagate(Graph.of(interactions(pairs, 5, 4)), users, items)
    moved = propagate(Graph.of(interactions([(order[u], i) for u, i in pairs], 5, 4)), moved_users, items)
    assert torch.allclose(moved[0][index], straight[0], atol=1e-6)
    assert torch.allclose(moved[1], straight[1], atol=1e-6)


# ── what models share ──


def test_travelling_is_one_hop_after_another_each_along_its_graph() -> None:
    graphs = [Graph.of(interactions(pairs, 2, 2)) for pairs in ([(0, 0), (1, 0), (1, 1)], [(0, 1), (1, 0)])]
    start = torch.tensor([[1.0], [2.0]]), torch.tensor([[3.0], [4.0]])
    first = propagate(graphs[0], *start)
    second = propagate(graphs[1], *first)
    users, items = travel(graphs, *start)
    assert all(torch.equal(one, two) for one, two in zip(users, (start[0], first[0], second[0]), strict=True))
    assert all(torch.equal(one, two) for one, two in zip(items, (start[1], first[1], second[1]), strict=True))
    assert torch.allclose(mean(users), (start[0] + first[0] + second[0]) / 3)
    assert [len(side) for side in travel([], *start)] == [1, 1]


def test_noise_has_its_length_and_turns_no_sign() -> None:
    graph = Graph.of(interactions([(0, 0), (1, 0), (1, 1)], 3, 2))
    start = torch.randn(3, 8), torch.randn(2, 8)
    quiet, loud = travel([graph], *start), travel([graph], *start, noise=0.25)
    for side in (0, 1):
        added = loud[side][1] - quiet[side][1]
        assert torch.allclose(added[:2].norm(dim=1), torch.full((2,), 0.25), atol=1e-6)
        assert (added * quiet[side][1] >= 0).all()
    assert loud[0][1][2].tolist() == [0.0] * 8  # nothing arrives, so there is no sign


def test_noise_leaves_the_gradient_alone() -> None:
    graph = Graph.of(interactions([(0, 0), (1, 0), (1, 1)], 2, 2))
    found = []
    for noise in (0.0, 0.5):
        users = torch.ones(2, 3, requires_grad=True)
        travel([graph, graph], users, torch.ones(2, 3), noise=noise)[0][-1].sum().backward()
        found.append(users.grad)
    assert torch.equal(found[0], found[1])


def test_what_an_item_sends_by_hand() -> None:
    graph = Graph.of(interactions([(0, 0), (1, 0), (1, 1)], 2, 3))
    layers = [torch.tensor([[1.0], [2.0], [5.0]]), torch.tensor([[3.0], [4.0], [6.0]])]
    # item 0 has two edges, item 1 one, item 2 none
    assert sent(graph, layers, 4)[:, 0].tolist() == pytest.approx([1 / math.sqrt(2), 6 / 4, 0.0])


def test_a_large_batch_is_told_apart_in_groups(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = torch.Generator().manual_seed(0)
    one, other = ((torch.randn(9, 4, generator=stream), torch.randn(9, 4, generator=stream)) for _ in range(2))
    batch = Pairs(torch.arange(9).repeat(2), torch.arange(9).repeat(2), torch.ones(18), torch.tensor([1]))
    whole = contrast(ContrastConfig(), batch, one, other)
    monkeypatch.setattr(graphs, "OTHERS", 3)
    found = contrast(ContrastConfig(), batch, one, other)
    assert torch.equal(found[:9], found[9:])
    assert bool(((found > 0) & (found < whole)).all())
    monkeypatch.setattr(graphs, "OTHERS", 1)
    assert contrast(ContrastConfig(), batch, one, other).abs().max() < 1e-6  # nobody else is there


def test_the_contrast_by_a_slow_loop_names_everybody_once() -> None:
    stream = torch.Generator().manual_seed(0)
    one, other = ((torch.randn(6, 4, generator=stream), torch.randn(5, 4, generator=stream)) for _ in range(2))
    batch = Pairs(torch.tensor([3, 1, 3, 3]), torch.tensor([0, 4, 0, 2]), torch.ones(4), torch.tensor([1]))
    expected = []
    for row in range(4):
        whole = 0.0
        for side, index in ((0, batch.user), (1, batch.item)):
            mine = int(index[row])
            cosine = {
                n: torch.cosine_similarity(one[side][mine], other[side][n], dim=0) / 0.3 for n in set(index.tolist())
            }
            whole -= math.log(math.exp(cosine[mine]) / sum(math.exp(value) for value in cosine.values()))
        expected.append(0.7 * whole)
    found = contrast(ContrastConfig(contrast=0.7, contrast_temperature=0.3), batch, one, other)
    assert found.tolist() == pytest.approx(expected, abs=1e-5)
    assert found[0] == found[2]
    once = contrast(ContrastConfig(contrast=0.7, contrast_temperature=0.3, once=True), batch, one, other)
    user, item = ([expected[row] for row in rows] for rows in ((0, 1), (0, 1, 3)))
    assert once.tolist() == [once[0].item()] * 4  # the mean over two users, and over three items
    assert min(user + item) < once[0] < max(user + item)
