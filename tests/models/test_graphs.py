"""What all trained models on the graph have in common: renumbering, odd tables, strangers, what serving keeps."""

from typing import Any

import numpy as np
import pytest
import torch

from bowerbird.core import ConfigError, build, lookup, room
from bowerbird.data import Interactions, Schema
from bowerbird.features import Context, Pairs
from bowerbird.models.baselines.mf import MF, MFConfig
from bowerbird.nn.losses import NAMES
from bowerbird.training import batches_for

MODELS = ("lightgcn", "ngcf", "sgl", "simgcl", "xsimgcl", "hetero")
CONTRASTIVE = ("sgl", "simgcl", "xsimgcl")


@pytest.fixture(scope="module")
def random_table(table) -> Interactions:
    matrix = np.random.default_rng(0).random((12, 9)) < 0.3
    matrix[:, 0] = True  # an item with every user
    return table(np.argwhere(matrix), 12, 9)


def made(name: str, train: Interactions, **settings: Any) -> Any:
    config = build(lookup(name).config, {"dim": 4, "hops": 2, **settings})
    torch.manual_seed(0)
    model = lookup(name).model(config, train.schema).eval()
    model.prepare(train)
    return model


@pytest.mark.parametrize("name", MODELS)
def test_permuting_users_permutes_rows(name: str, random_table: Interactions) -> None:
    model = made(name, random_table)
    order = np.random.default_rng(1).permutation(12)
    moved = made(name, random_table)
    moved.user.data = model.user.data[order]
    moved.prepare(random_table.reorder_ids(order, np.arange(9)))
    with torch.no_grad():
        (users, items), (moved_users, moved_items) = model(), moved()
    assert torch.allclose(moved_users, users[order], atol=1e-6)
    assert torch.allclose(moved_items, items, atol=1e-6)


@pytest.mark.parametrize("name", MODELS)
def test_repeated_events_are_one_edge(name: str, random_table: Interactions) -> None:
    twice = random_table.rows(np.arange(len(random_table)).repeat(2))
    once, again = made(name, random_table), made(name, twice)
    assert all(torch.equal(one, other) for one, other in zip(once(), again(), strict=True))


@pytest.mark.parametrize("name", MODELS)
def test_a_graph_without_edges_is_frozen_and_answers_nobody(name: str, table) -> None:
    model = made(name, table([], 3, 4))
    model.freeze()
    assert all(bool(one.isfinite().all()) for one in model.state_dict().values())
    asked = Context(torch.tensor([0, -1]), Context.of_histories([[], []]).history)
    assert model.can(asked).tolist() == [False, False]


@pytest.mark.parametrize("name", MODELS)
def test_a_user_without_edges_is_a_stranger(name: str, table) -> None:
    past = table([(0, 0), (0, 1), (1, 1)], 3, 3)
    model = made(name, past)
    model.freeze()
    everyone = Context.of_users(np.arange(3, dtype=np.int32), past)
    assert model.can(everyone).tolist() == [True, True, False]
    scores = model.scores(everyone)
    assert torch.isfinite(scores[:2, :2]).all()
    assert (scores[:, 2] == -torch.inf).all()  # nobody chose it
    unknown = model.query(Context.of_histories([[2]]))  # and it tells nothing of who does
    assert torch.isfinite(unknown).all()
    assert unknown.abs().sum() > 0


@pytest.mark.parametrize("name", MODELS)
def test_an_item_of_everyone_and_edges_named_twice(name: str, table) -> None:
    pairs = [(user, 0) for user in range(4)] + [(1, 1)]
    once, twice = (made(name, table(given, 4, 2)) for given in (pairs, pairs + pairs))
    for model in (once, twice):
        model.freeze()
    assert torch.isfinite(once.items).all()
    assert torch.equal(once.items, twice.items)
    assert torch.equal(once.users, twice.users)


@pytest.mark.parametrize("name", MODELS)
def test_a_mixed_batch_folds_in_strangers_only(name: str, random_table: Interactions) -> None:
    model = made(name, random_table, cosine=False)
    model.freeze()
    context = Context.of_users(np.array([1, 2], np.int32), random_table)
    query = model.query(Context(torch.tensor([1, -1]), context.history))
    assert torch.equal(query[0], model.users[1])
    alone = model.query(Context(torch.tensor([-1]), context.take(torch.tensor([1])).history))
    assert torch.allclose(query[[1]], alone, atol=1e-6)


@pytest.mark.parametrize("name", MODELS)
def test_serving_needs_no_graph(name: str, random_table: Interactions) -> None:
    model = made(name, random_table)
    model.freeze()
    served = lookup(name).model(model.config, random_table.schema).eval()
    served.load_state_dict(model.state_dict())
    everyone = Context.of_users(np.arange(12, dtype=np.int32), random_table)
    strangers = Context(torch.full((12,), -1), everyone.history)
    for asked in (everyone, strangers):
        assert torch.equal(served.scores(asked), model.scores(asked))


@pytest.mark.parametrize("name", MODELS)
def test_as_much_of_an_items_length_is_served_as_told(name: str, random_table: Interactions) -> None:
    served = {}
    for length in (0.0, 0.5, 1.0):
        model = made(name, random_table, length=length)
        model.freeze()
        served[length] = model.item_vectors()[model.shaped_item]
    lengths = {length: items.norm(dim=1) for length, items in served.items()}
    assert torch.allclose(lengths[0.0], torch.ones(len(served[0.0])), atol=1e-6)
    assert torch.allclose(lengths[0.5].square(), lengths[1.0], atol=1e-6)
    assert lengths[1.0].std() > 0.01
    assert torch.allclose(served[0.0] * lengths[1.0][:, None], served[1.0], atol=1e-6)


@pytest.mark.parametrize("name", MODELS)
def test_dot_products_are_served_as_they_are_learned(name: str, random_table: Interactions) -> None:
    models = [made(name, random_table, length=length, cosine=False) for length in (0.0, 1.0)]
    for model in models:
        model.freeze()
    assert torch.equal(models[0].item_vectors(), models[1].item_vectors())


@pytest.mark.parametrize("loss", NAMES)
@pytest.mark.parametrize("name", ["ngcf", "sgl", "hetero"])
def test_zero_hops_is_matrix_factorisation(name: str, loss: str, random_table: Interactions) -> None:
    settings = {"dim": 4, "loss": loss, "l2": 0.01, "negatives": 5, "temperature": 0.2}
    graph = made(name, random_table, hops=0, **settings, **({"contrast": 0.0} if name == "sgl" else {}))
    plain = MF(MFConfig(**settings), random_table.schema)
    plain.user.data, plain.item.data = graph.user.data.clone(), graph.item.data.clone()
    batch = batches_for(Pairs, random_table, plain.config, seed=0, device="cpu").batch(0, 0)
    ours, theirs = graph.loss(batch), plain.loss(batch)
    assert torch.allclose(ours, theirs, rtol=1e-5)
    ours.mean().backward()
    theirs.mean().backward()
    for mine, other in ((graph.user.grad, plain.user.grad), (graph.item.grad, plain.item.grad)):
        assert torch.allclose(mine, other.to_dense(), rtol=1e-4, atol=1e-5)
    graph.freeze()
    scores = graph.scores(Context.of_histories([[0, 1], [3]]))
    assert torch.isfinite(scores[:, graph.shaped_item]).all()


@pytest.mark.parametrize("name", CONTRASTIVE)
def test_the_contrast_weighs_as_told_and_costs_something(name: str, random_table: Interactions) -> None:
    batch = Pairs(torch.tensor([1, 1, 4]), torch.tensor([0, 2, 0]), torch.ones(3), torch.tensor([[3], [4], [5]]))
    found = []
    for weight in (0.0, 0.3, 0.6):
        quiet = {"noise": 0.0} if name != "sgl" else {}
        model = made(name, random_table, loss="bpr", negatives=1, contrast=weight, **quiet)
        found.append(model.loss(batch))
    assert bool((found[1] > found[0]).all())
    assert torch.allclose(found[2] - found[0], 2 * (found[1] - found[0]), atol=1e-5)


@pytest.mark.parametrize("name", CONTRASTIVE)
def test_a_share_of_a_batch_without_rows_has_no_loss(name: str, random_table: Interactions) -> None:
    model, none = made(name, random_table), torch.zeros(0, dtype=torch.int64)
    batch = Pairs(none, none, torch.zeros(0), torch.tensor([3]), torch.zeros(1))
    assert model.loss(batch).shape == (0,)


@pytest.mark.parametrize("name", [*MODELS, "spectral"])
def test_more_than_memory_holds_is_refused_before_it_is_taken(name: str) -> None:
    entry = lookup(name)
    with pytest.raises(ConfigError, match=r"take about [\d,.]+ GB, and [\d,.]+ GB are free\. Choose"):
        entry.model(entry.config(), Schema(10**9, 10**9))


@pytest.mark.parametrize("name", [*MODELS])
def test_more_edges_than_memory_holds_are_refused(
    name: str, random_table: Interactions, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = made(name, random_table)
    monkeypatch.setattr(room, "free_memory", lambda: 100)
    with pytest.raises(ConfigError, match=r"edges take about .* Keep fewer events"):
        model.prepare(random_table)
