"""Paths add up to the score, and the score falls where they are cut."""

from typing import Any

import numpy as np
import polars as pl
import pytest
import torch

import bowerbird as bb
from bowerbird.core import ConfigError, RequestError, UnknownItemError, lookup
from bowerbird.data import Interactions
from bowerbird.evaluation.statistics import interval
from bowerbird.explanation import Paths
from bowerbird.models.baselines.mf import MF, MFConfig
from bowerbird.models.graph.lightgcn import LightGCN, LightGCNConfig
from bowerbird.nn.graph import Graph, pair_matrix, smoothed

HOPS = (2, 3, 4)


def chosen(user: list[Any], item: list[Any]) -> Interactions:
    return Interactions.of(pl.Series(user), pl.Series(item))


@pytest.fixture(scope="module")
def train() -> Interactions:
    pairs = np.argwhere(np.random.default_rng(0).random((12, 9)) < 0.4)
    return chosen(*pairs.T.tolist())


def made(train: Interactions, name: str = "lightgcn", **options: Any) -> Any:
    torch.manual_seed(1)
    model = lookup(name).model(lookup(name).config(dim=4, **options), train.schema)
    model.prepare(train)
    model.freeze()
    return model


@pytest.mark.parametrize("name", ["lightgcn", "sgl", "simgcl", "xsimgcl"])
@pytest.mark.parametrize("hops", HOPS)
@pytest.mark.parametrize("cosine", [True, False])
def test_the_parts_add_up_to_the_score(train: Interactions, name: str, hops: int, cosine: bool) -> None:
    model = made(train, name, hops=hops, cosine=cosine)
    paths, users = Paths(model, train), model.config.scaled(model.users)
    for user in range(train.n_users):
        for item in range(train.n_items):
            assert paths.parts(user, item).score == pytest.approx(float(users[user] @ model.items[item]), abs=1e-5)


def test_a_path_by_hand() -> None:
    train = chosen([0, 1, 1], [0, 0, 1])  # 0 → item 0 → 1 → item 1
    model = LightGCN(LightGCNConfig(dim=1, hops=2, cosine=False), train.schema)
    model.prepare(train)
    model.user.data, model.item.data = torch.tensor([[1.0], [2.0]]), torch.tensor([[3.0], [4.0]])
    model.freeze()
    parts = Paths(model, train).parts(0, 1)
    half = 2**-0.5  # of the edges: (0, 0) √½, (1, 0) ½, (1, 1) √½
    end = (4 + half * 2 + half * (half * 4 + 0.5 * 3)) / 3  # of item 1 after none, one and two hops
    assert parts.alone == pytest.approx(1 * end / 3)
    assert parts.itself.tolist() == pytest.approx([half * 3 * end / 3])
    assert parts.both.tolist() == pytest.approx([half * 0.5 * 2 * end / 3])
    assert parts.others.tolist() == pytest.approx([half * half * 1 * end / 3])  # user 0 chose item 0 as well
    assert [people.tolist() for people in parts.people] == [[1]]


def test_the_people_of_a_path_chose_both_ends(train: Interactions) -> None:
    there = pair_matrix(train).toarray() > 0
    parts = Paths(made(train), train).parts(3, 5)
    assert parts.items.tolist() == np.flatnonzero(there[3]).tolist()
    for over, people in zip(parts.items, parts.people, strict=True):
        both = np.flatnonzero(there[:, over] & there[:, 5])
        assert people.tolist() == both[both != 3].tolist()


def test_reasons_name_the_strongest_paths_in_words() -> None:
    train = chosen(list("abbccddeeff"), ["Alien", *["Alien", "Aliens"] * 5])
    model = made(train, hops=2)
    model.user.data.fill_(1.0)
    model.item.data.fill_(1.0)
    found = Paths(model, train).reasons("a", "Aliens", k=2)
    assert [reason.text for reason in found] == ["you → Alien → 5 people → Aliens"]
    assert found[0].causes[0].id == "Alien"
    assert 0 < found[0].causes[0].share < 1


def test_what_is_unknown_or_has_no_paths_is_refused(train: Interactions) -> None:
    paths = Paths(made(train), train)
    with pytest.raises(UnknownItemError, match="999"):
        paths.reasons(0, 999)
    with pytest.raises(RequestError, match="chose nothing"):
        paths.reasons(999, 0)
    with pytest.raises(ConfigError, match="hops is 1"):
        Paths(made(train, hops=1), train)
    with pytest.raises(ConfigError, match="MF does not sum along a graph"):
        Paths(MF(MFConfig(), train.schema), train)  # type: ignore[arg-type]


def test_cutting_a_named_path_costs_more_than_cutting_as_many_edges_around_it(films: Interactions) -> None:
    """Of the first item of 60 people: the edges of the strongest path, against edges of the other items they chose."""
    rec = bb.fit(bb.split(films), "lightgcn", epochs=3)
    model, rng = rec.model, np.random.default_rng(0)
    paths, pairs = Paths(model, rec.past), pair_matrix(rec.past)
    whole, users = Graph.of_matrix(pairs), model.config.scaled(model.users)
    row, column = np.repeat(np.arange(pairs.shape[0]), np.diff(pairs.indptr)), pairs.indices
    back_order = np.lexsort((row, column))

    def score(user: int, item: int, gone: np.ndarray) -> float:
        """Return the score along the edges that are left, each weighing what it did."""
        half, back = whole.user_item.clone(), whole.item_user.clone()
        half.values()[torch.from_numpy(gone)] = 0.0
        back.values()[torch.from_numpy(gone[back_order])] = 0.0
        left = Graph(half, back, whole.user_degree, whole.item_degree)
        found = smoothed(left, model.user, model.item, hops=model.config.hops)
        return float(model.config.scaled(found[0][user]) @ model.config.scaled(found[1][item]))

    gains = []
    with torch.no_grad():
        for user in rng.choice(np.flatnonzero(np.diff(pairs.indptr) > 5), 60, replace=False).tolist():
            known = torch.from_numpy(pairs[user].toarray()[0] > 0)
            item = int((users[user] @ model.items.T).masked_fill(known, -9.0).argmax())
            parts = paths.parts(user, item)
            best = int(parts.both.argmax())
            over, people = parts.items[best], parts.people[best]
            named = (row == user) & (column == over)
            named |= np.isin(row, people) & ((column == over) | (column == item))
            around = np.flatnonzero(np.isin(column, np.delete(parts.items, best)))
            other = np.zeros(len(row), bool)
            other[rng.choice(around, min(int(named.sum()), len(around)), replace=False)] = True
            gains.append(score(user, item, other) - score(user, item, named))
    assert interval(np.array(gains), rng)[0] > 0
    assert np.mean(np.array(gains) > 0) > 0.75
