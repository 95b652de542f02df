"""Hetero: every kind of edge by dense matrices, learned shares of those that reach somebody, and behaviours."""

from dataclasses import replace

import numpy as np
import polars as pl
import pytest
import torch
from torch import Tensor

import bowerbird as bb
from bowerbird.core import DataError
from bowerbird.data import Edges, EventType, Interactions
from bowerbird.features import Context, Pairs
from bowerbird.models.graph.hetero import Hetero, HeteroConfig, acts, matrix_of
from bowerbird.models.graph.lightgcn import LightGCN, LightGCNConfig

PAPER = {"loss": "bpr", "cosine": False, "temperature": 1.0, "negatives": 1, "l2": 0.01}
SHOP = (EventType("view", sign="neutral"), EventType("cart", weight=2.0), EventType("buy", weight=3.0),
        EventType("return", sign="negative"))  # fmt: skip


def edges(source: str, target: str, *pairs: tuple[int, int]) -> Edges:
    ends = np.array(pairs, np.int32).reshape(-1, 2).T
    return Edges(source, target, ends[0], ends[1], np.full(len(pairs), 7.0, np.float32))


@pytest.fixture(scope="module")
def random_table(table) -> Interactions:
    matrix = np.random.default_rng(0).random((12, 9)) < 0.4
    matrix[:, 0] = True
    return table(np.argwhere(matrix), 12, 9)


@pytest.fixture(scope="module")
def related(random_table: Interactions) -> Interactions:
    return replace(
        random_table,
        relations={
            "friend": edges("user", "user", (0, 1), (1, 0), (1, 2), (4, 4), (4, 5), (4, 5)),
            "brand": edges("item", "brand", (0, 0), (1, 0), (2, 1), (3, 1), (3, 0)),
            "wished": edges("item", "user", (5, 0), (6, 0), (5, 3)),
            "town": edges("town", "user", (0, 0), (0, 6)),
        },
    )


def made(train: Interactions, **settings: object) -> Hetero:
    torch.manual_seed(0)
    model = Hetero(HeteroConfig(**(PAPER | {"dim": 3, "hops": 2} | settings)), train.schema)  # type: ignore[arg-type]
    model.prepare(train)
    return model


def normal(matrix: Tensor) -> Tensor:
    return matrix / (matrix.sum(1, keepdim=True).clamp(min=1) * matrix.sum(0).clamp(min=1)).sqrt()


def filled(shape: tuple[int, int], *pairs: tuple[int, int]) -> Tensor:
    matrix = torch.zeros(shape)
    for row, column in pairs:
        matrix[row, column] = 1.0
    return normal(matrix)


def test_one_hop_by_hand(table) -> None:
    past = table([(0, 0), (1, 0), (1, 1)], 2, 2)
    past = replace(past, relations={"friend": edges("user", "user", (0, 1))})
    model = made(past, dim=1, hops=1)
    model.user.data, model.item.data = torch.tensor([[1.0], [2.0]]), torch.tensor([[3.0], [4.0]])
    model.weight.data = torch.tensor([[[0.0, np.log(3.0)], [0.0, 0.0]]])
    users, items = model()
    # user 0: a quarter of 3 / √2 from its item, three quarters of 2 from its friend; then the mean with layer 0
    assert users[0].item() == pytest.approx((1 + 0.25 * 3 / 2**0.5 + 0.75 * 2) / 2, abs=1e-5)
    # no friendship reaches items: item 1 gets all of 2 / √2
    assert items[1].item() == pytest.approx((4 + 2 / 2**0.5) / 2, abs=1e-5)


def test_two_hops_and_their_gradient_agree_with_dense_matrices(related: Interactions) -> None:
    model = made(related)
    model.weight.data = torch.randn(2, 2, 5, generator=torch.Generator().manual_seed(1))
    users, items = model()
    (users.square().sum() + items.sum()).backward()
    chosen = model.relations[0].graph.user_item.to_dense()
    friend = filled((12, 12), (0, 1), (1, 0), (1, 2), (2, 1), (4, 5), (5, 4))
    brand = filled((9, 2), (0, 0), (1, 0), (2, 1), (3, 1), (3, 0))
    wished = filled((12, 9), (0, 5), (0, 6), (3, 5))
    town = filled((12, 1), (0, 0), (6, 0))
    user, item, weight = (one.detach().clone().requires_grad_() for one in (model.user, model.item, model.weight))
    layers = [(user, item)]
    for hop in range(2):
        u, i = layers[-1]
        come = (
            {0: chosen @ i, 1: friend @ u, 3: wished @ i, 4: town @ (town.T @ u)},
            {0: chosen.T @ u, 2: brand @ (brand.T @ i), 3: wished.T @ u},
        )
        edge = ({0: chosen, 1: friend, 3: wished, 4: town}, {0: chosen.T, 2: brand, 3: wished.T})
        new = []
        for side in (0, 1):
            rows = []
            for row in range((12, 9)[side]):
                kinds = [kind for kind in come[side] if edge[side][kind][row].any()]
                shares = weight[hop, side, kinds].softmax(dim=0)
                rows.append(sum(share * come[side][kind][row] for share, kind in zip(shares, kinds, strict=True)))
            new.append(torch.stack(rows))
        layers.append((new[0], new[1]))
    expected = [sum(one[side] for one in layers) / 3 for side in (0, 1)]
    assert torch.allclose(users, expected[0], atol=1e-5)
    assert torch.allclose(items, expected[1], atol=1e-5)
    (expected[0].square().sum() + expected[1].sum()).backward()
    for mine, other in ((model.user, user), (model.item, item), (model.weight, weight)):
        assert torch.allclose(mine.grad, other.grad, atol=1e-5)
    assert model.weight.grad[:, 0, :2].abs().min() > 0


@pytest.mark.parametrize("hops", [0, 1, 3])
@pytest.mark.parametrize("empty", [{}, {"friend": edges("user", "user"), "tag": edges("item", "tag")}])
def test_without_any_relation_it_is_lightgcn(hops: int, empty: dict[str, Edges], random_table: Interactions) -> None:
    model = made(replace(random_table, relations=empty), hops=hops)
    plain = LightGCN(LightGCNConfig(**(PAPER | {"dim": 3, "hops": hops})), random_table.schema)  # type: ignore[arg-type]
    plain.load_state_dict({name: one for name, one in model.state_dict().items() if name != "weight"})
    plain.prepare(random_table)
    batch = Pairs(torch.tensor([1, 4]), torch.tensor([0, 2]), torch.ones(2), torch.tensor([[3], [6]]))
    assert torch.equal(model.loss(batch), plain.loss(batch))
    for one in (model, plain):
        one.freeze()
    asked = [Context.of_users(np.arange(12, dtype=np.int32), random_table), Context.of_histories([[0, 3], [1]])]
    for context in asked:
        assert torch.allclose(model.scores(context), plain.scores(context), atol=1e-6)


def test_a_user_without_friends_is_not_weakened_by_those_of_others(random_table: Interactions) -> None:
    pair = {"friend": edges("user", "user", (0, 1))}
    alone, with_friends = made(random_table, hops=1), made(replace(random_table, relations=pair), hops=1)
    before, after = alone()[0], with_friends()[0]
    assert torch.equal(after[2:], before[2:])
    assert (after[:2] - before[:2]).abs().min() > 0


def test_renumbering_users_and_items_renumbers_their_rows(related: Interactions) -> None:
    rng = np.random.default_rng(2)
    users, items = rng.permutation(12), rng.permutation(9)
    model, moved = made(related), made(related)
    moved.user.data, moved.item.data = model.user.data[users], model.item.data[items]
    moved.prepare(related.reorder_ids(users, items))
    for one, other, order in zip(model(), moved(), (users, items), strict=True):
        assert torch.allclose(other, one[order], atol=1e-6)


def test_edges_of_any_kind_are_enough_to_be_answered_and_recommended(table) -> None:
    past = table([(0, 0), (1, 1), (2, 2), (0, 3)], 5, 6, event=[2, 2, 0, 3], events=SHOP)
    past = replace(
        past, relations={"friend": edges("user", "user", (0, 3)), "tag": edges("item", "tag", (1, 0), (4, 0))}
    )
    model = made(past)
    assert model.shaped_user.tolist() == [True, True, True, True, False]  # 2 has only viewed, 3 has only a friend
    assert model.shaped_item.tolist() == [True, True, True, False, True, False]  # 3 was only returned
    model.freeze()
    everyone = Context.of_users(np.arange(5, dtype=np.int32), past)
    assert model.can(everyone).tolist() == [True, True, True, True, False]
    assert torch.isfinite(model.scores(everyone)[3]).tolist() == model.shaped_item.tolist()


def test_a_relation_that_reaches_neither_is_refused(random_table: Interactions) -> None:
    odd = replace(random_table, relations={"near": edges("town", "land", (0, 1))})
    with pytest.raises(DataError, match=r'relation "near" joins town and land, and reaches neither users nor items\.'):
        made(odd)


def test_edges_beyond_the_table_are_left_out() -> None:
    found = edges("user", "item", (0, 1), (9, 0), (1, 8), (-1, 0), (0, -1)).within({"user": 3, "item": 2})
    ends, matrix = matrix_of("x", found, {"user": 3, "item": 2})
    assert ends == ("user", "item")
    assert matrix.toarray().tolist() == [[0, 1], [0, 0], [0, 0]]


def test_behaviours_are_relations_of_their_own(table) -> None:
    pairs = [(0, 0), (0, 1), (0, 1), (1, 1), (1, 2), (1, 2), (2, 0)]
    past = table(pairs, 3, 3, event=[0, 0, 2, 1, 2, 3, 2], events=SHOP)
    views, carts, buys = (matrix.toarray().tolist() for matrix in acts(past))
    assert views == [[1, 1, 0], [0, 0, 0], [0, 0, 0]]
    assert carts == [[0, 0, 0], [0, 1, 0], [0, 0, 0]]
    assert buys == [[0, 1, 0], [0, 0, 0], [1, 0, 0]]  # what was returned is no edge
    model = made(past)
    assert model.weight.shape == (2, 2, 3)
    model.freeze()
    assert torch.isfinite(model.scores(Context.of_histories([[0], [2]]))).any(dim=1).all()


def test_a_stranger_has_an_edge_of_every_behaviour(table) -> None:
    past = table([(0, 0), (1, 0), (1, 1), (0, 0)], 2, 2, event=[0, 1, 1, 1],
                 events=(EventType("cart"), EventType("buy")))  # fmt: skip
    model = made(past, dim=1, hops=1)
    model.user.data, model.item.data = torch.tensor([[1.0], [2.0]]), torch.tensor([[3.0], [4.0]])
    model.weight.data = torch.tensor([[[0.0, np.log(3.0)], [0.0, 0.0]]])
    model.freeze()
    # item 0 sends a quarter of 3 as put into one cart, and three quarters of 3 / √2 as bought twice
    arrived = (0.25 * 3 + 0.75 * 3 / 2**0.5) / 2
    assert model.query(Context.of_histories([[0]])).item() == pytest.approx(float(model.average) + arrived, abs=1e-5)


def test_friends_help_where_the_past_says_little() -> None:
    rng = np.random.default_rng(0)
    pairs = [(user, 2 * item + user % 2) for user in range(40) for item in rng.choice(10, 6, replace=False)]
    pairs += [(user, int(item)) for user in range(40, 60) for item in rng.choice(20, 1)]  # one choice, by chance
    user, item = np.array(pairs).T
    past = bb.read(pl.DataFrame({"user_id": user, "item_id": item}))
    friends = [(user, int(other)) for user in range(40, 60) for other in rng.choice(20, 5) * 2 + user % 2]
    ids = [past.user_ids.rows(np.array(friends)[:, side].tolist()) for side in (0, 1)]
    known = edges("user", "user", *zip(*ids, strict=True))
    found = []
    for relations in ({}, {"friend": known}):
        rec = bb.fit(replace(past, relations=relations), "hetero", dim=8, epochs=20, batch_size=256,
                     run=bb.RunOptions(device="cpu", progress=False))  # fmt: skip
        slates = rec.recommend(list(range(40, 60)), k=5).to_polars()
        found.append(float((slates["user_id"] % 2 == slates["item_id"] % 2).mean()))
    assert found[1] > 0.7
    assert found[1] > found[0] + 0.2


def test_a_bundle_keeps_the_kinds_of_edges_and_goes_on_without_them(related: Interactions, tmp_path) -> None:
    run = bb.RunOptions(device="cpu", progress=False)
    rec = bb.fit(related, "hetero", dim=4, epochs=2, run=run)
    rec.save(tmp_path)
    again = bb.load(tmp_path, options=run)
    everyone = Context.of_users(np.arange(12, dtype=np.int32), related)
    assert torch.equal(again.model.scores(everyone), rec.model.scores(everyone))
    again.model.prepare(again.past)  # which holds no relation
    assert again.model.reached[0].sum(dim=0).tolist() == [12, 0, 0, 0, 0]
