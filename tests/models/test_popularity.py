import numpy as np
import torch

from bowerbird.data import EventType
from bowerbird.features import Context
from bowerbird.models.baselines.popularity import PopularityConfig

THREE = [(0, 0), (1, 0), (2, 0), (0, 1), (0, 1), (1, 2)]


def test_distinct_people_are_counted(table, closed) -> None:
    model = closed(PopularityConfig(), table(THREE, 3, 4))
    # user 0 chose item 1 twice and counts once; nobody chose item 3
    assert model.scores(Context.nobody()).tolist() == [[3.0, 1.0, 1.0, 0.0]]


def test_a_person_counts_with_their_strongest_event(table, closed) -> None:
    kinds = (EventType("view", weight=0.5), EventType("buy", weight=2.0))
    past = table([(0, 0), (0, 0), (1, 0), (1, 1)], 2, 2, event=[0, 1, 0, 0], weight=[1, 3, 1, 4], events=kinds)
    # item 0: user 0 bought at 2 · 3 after a view, user 1 viewed at 0.5; item 1: a view at 0.5 · 4
    assert closed(PopularityConfig(), past).scores(Context.nobody()).tolist() == [[6.5, 2.0]]


def test_a_dislike_takes_the_persons_vote_back(table, closed) -> None:
    kinds = (EventType("like"), EventType("dislike", sign="negative"), EventType("view", sign="neutral"))
    past = table([(0, 0), (0, 0), (1, 0), (1, 1)], 2, 2, event=[0, 1, 0, 2], events=kinds)
    assert closed(PopularityConfig(), past).scores(Context.nobody()).tolist() == [[1.0, 0.0]]


def test_everyone_gets_the_same_scores(table, closed) -> None:
    past = table(THREE, 3, 4)
    scores = closed(PopularityConfig(), past).scores(Context.of_users(np.arange(3), past))
    assert torch.equal(scores, scores[:1].expand(3, -1))


def test_popularity_knows_no_likeness(table, closed) -> None:
    model = closed(PopularityConfig(), table(THREE, 3, 4))
    assert model.can(Context.of_seeds([[0], [1]])).tolist() == [False, False]
    assert model.can(Context.nobody(2)).tolist() == [True, True]


def test_new_items_have_been_chosen_by_nobody(table, closed) -> None:
    model = closed(PopularityConfig(), table(THREE, 3, 4))
    model.grow(3, 6)
    assert model.scores(Context.nobody()).tolist() == [[3.0, 1.0, 1.0, 0.0, 0.0, 0.0]]
