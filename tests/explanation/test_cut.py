"""Edges cut out of a graph: by hand the scores of the smaller graph, and nobody else's answer moves meanwhile."""

import numpy as np
import pytest
import torch

import bowerbird as bb
from bowerbird.data import Interactions
from bowerbird.explanation import Past, cut
from bowerbird.explanation.cut import without_edges
from bowerbird.features import Context
from bowerbird.nn.graph import Graph, pair_matrix


@pytest.fixture(params=["lightgcn", "ngcf"])
def rec(request: pytest.FixtureRequest, even_odd: Interactions) -> bb.Recommender:
    return bb.fit(even_odd, request.param, epochs=1)


def asked(rec: bb.Recommender) -> tuple[Past, torch.Tensor]:
    past = Past(Context.of_users(np.array([3], np.int32), rec.past))
    removed = torch.zeros(3, len(past), dtype=torch.bool)
    removed[1, 0] = removed[2, 1] = True
    return past, removed


def test_with_nothing_cut_the_scores_are_those_that_are_served(rec: bb.Recommender) -> None:
    past, removed = asked(rec)
    found = without_edges(rec.model, rec.past, past, removed)
    assert torch.allclose(found[0], rec.model.scores(past.context)[0], atol=1e-5)
    assert not torch.allclose(found[1], found[0], atol=1e-5)


def test_a_cut_is_a_graph_without_that_pair(rec: bb.Recommender) -> None:
    past, removed = asked(rec)
    found = without_edges(rec.model, rec.past, past, removed)
    pairs = pair_matrix(rec.past).tolil()
    pairs[3, int(past.items[0])] = 0
    before, rec.model.graph = rec.model.graph, Graph.of_matrix(pairs.tocsr())
    with torch.no_grad():
        users, items = rec.model()
    rec.model.graph = before
    expected = rec.model.config.scaled(users[3]) @ rec.model.config.served(items).T
    assert torch.allclose(found[1], expected, atol=1e-5)


def test_the_model_that_others_ask_keeps_its_graph_meanwhile(
    rec: bb.Recommender, monkeypatch: pytest.MonkeyPatch
) -> None:
    past, removed = asked(rec)
    before, seen = rec.model.graph, []
    made = Graph.of_matrix

    def noted(matrix):
        seen.append(rec.model.graph is before)
        return made(matrix)

    monkeypatch.setattr(cut.Graph, "of_matrix", noted)
    without_edges(rec.model, rec.past, past, removed)
    assert seen == [True] * 3
    assert rec.model.graph is before
