from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import bowerbird as bb
from bowerbird.core import ConfigError, DataError
from bowerbird.data import EventType, Interactions
from bowerbird.features import Context
from bowerbird.models.baselines.popularity import EVERYBODY, PopularityConfig

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


DAY = 86_400


def timed(table, pairs, days, n_users, n_items, **options) -> Interactions:
    """Return the table with one event on each of these days."""
    return replace(table(pairs, n_users, n_items, **options), time=np.array(days, np.int64) * DAY)


def test_a_choice_of_one_half_life_ago_counts_half(table, closed) -> None:
    past = timed(table, [(0, 0), (1, 0), (0, 1), (2, 1)], [0, 10, 20, 20], 3, 3)
    # the newest event is of day 20: item 0 counts 2⁻² + 2⁻¹, item 1 twice 2⁰
    model = closed(PopularityConfig(half_life_days=10.0), past)
    assert model.scores(Context.nobody()).tolist() == [[0.75, 2.0, 0.0]]


def test_a_person_who_chose_twice_is_as_old_as_their_last_choice(table, closed) -> None:
    past = timed(table, [(0, 0), (1, 1), (0, 0)], [0, 0, 10], 2, 2)
    assert closed(PopularityConfig(half_life_days=10.0), past).scores(Context.nobody()).tolist() == [[1.0, 0.5]]


def test_a_vote_taken_back_stays_taken_back_when_choices_fade(table, closed) -> None:
    kinds = (EventType("like"), EventType("dislike", sign="negative"), EventType("view", sign="neutral"))
    past = timed(table, [(0, 0), (1, 0), (0, 0), (1, 0)], [0, 0, 5, 10], 2, 1, event=[0, 0, 1, 2], events=kinds)
    # user 1's view of day 10 says nothing, so that their like is 10 days old
    assert closed(PopularityConfig(half_life_days=10.0), past).scores(Context.nobody()).tolist() == [[0.5]]


@given(st.lists(st.tuples(st.integers(0, 4), st.integers(0, 3)), min_size=1, max_size=30))
def test_an_endless_half_life_is_none(table, closed, pairs: list[tuple[int, int]]) -> None:
    past = timed(table, pairs, range(len(pairs)), 5, 4)
    plain, endless = closed(PopularityConfig(), past), closed(PopularityConfig(half_life_days=1e12), past)
    assert torch.allclose(plain.counts, endless.counts)


@pytest.fixture
def clubs(table) -> Interactions:
    """Users 0 and 1 are of club a and like item 0, users 2 and 3 of club b and like item 1; user 4 is of none."""
    past = table([(0, 0), (1, 0), (0, 2), (2, 1), (3, 1), (4, 1)], 6, 4)
    return replace(past, users=pl.DataFrame({"club": ["a", "a", "b", "b", None, "b"]}))


def test_a_segment_gets_its_own_counts_mixed_with_everybodys(clubs, closed) -> None:
    model = closed(PopularityConfig(segment="club"), clubs)
    scores = model.scores(Context.of_users(np.arange(6), clubs)).numpy()
    # club a chose 2, 0, 1, 0 in 3 choices, all together 2, 3, 1, 0 in 6
    assert scores[0] == pytest.approx(
        (6 * np.array([2, 0, 1, 0]) + EVERYBODY * np.array([2, 3, 1, 0])) / (3 + EVERYBODY)
    )
    assert scores[5] == pytest.approx(
        (6 * np.array([0, 2, 0, 0]) + EVERYBODY * np.array([2, 3, 1, 0])) / (2 + EVERYBODY)
    )
    assert scores[0].sum() == pytest.approx(6.0)


def test_who_has_no_segment_gets_everybodys_list(clubs, closed) -> None:
    model, plain = closed(PopularityConfig(segment="club"), clubs), closed(PopularityConfig(), clubs)
    asked = Context(torch.tensor([4, -1]), Context.nobody(2).history)
    assert torch.equal(model.scores(asked), plain.scores(asked))
    assert torch.equal(model.scores(asked, torch.tensor([2, 0])), plain.scores(asked)[:, [2, 0]])
    assert bool(model.can(asked).all())


def test_many_choices_of_a_segment_outweigh_everybodys(table, closed) -> None:
    users = int(8 * EVERYBODY)
    past = table([(user, user % 2) for user in range(users)], users, 2)
    past = replace(past, users=pl.DataFrame({"club": [user % 2 for user in range(users)]}))
    scores = closed(PopularityConfig(segment="club"), past).scores(Context.of_users(np.array([0, 1]), past))
    assert scores.argmax(dim=1).tolist() == [0, 1]
    assert scores.max(dim=1).values.tolist() == pytest.approx([0.9 * users] * 2, rel=1e-3)


def test_segments_grow_and_fade_together_with_the_rest(clubs, closed) -> None:
    past = replace(clubs, time=np.arange(6, dtype=np.int64) * DAY)
    model = closed(PopularityConfig(segment="club", half_life_days=2.0), past)
    before = model.scores(Context.of_users(np.arange(6), past))
    model.grow(8, 5)
    after = model.scores(Context.of_users(np.arange(8), past))
    assert torch.equal(after[:6, :4], before)
    assert bool((after[:, 4] == 0).all())
    assert torch.equal(after[7], after[4])  # of a new user no segment is known


def test_a_saved_model_by_segment_loads(clubs, tmp_path: Path) -> None:
    rec = bb.fit(clubs, "popularity", segment="club")
    rec.save(tmp_path)
    again = bb.load(tmp_path)
    assert again.past.users is None  # what a person is stays outside the bundle
    asked = Context.of_users(np.arange(6), clubs)
    assert torch.equal(again.model.scores(asked), rec.model.scores(asked))


def test_the_plain_model_keeps_counts_and_nothing_else(table, closed) -> None:
    assert list(closed(PopularityConfig(), table(THREE, 3, 4)).state_dict()) == ["counts"]


def test_a_half_life_of_nothing_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"half_life_days is 0.0; it must be above 0. Try half_life_days = 30.0."):
        PopularityConfig(half_life_days=0.0)


def test_what_the_data_lacks_is_said(table, clubs, closed) -> None:
    with pytest.raises(DataError, match=r"half_life_days needs times, and the events have none. Name .* time=…"):
        closed(PopularityConfig(half_life_days=3.0), table(THREE, 3, 4))
    with pytest.raises(DataError, match=r'segment = "club" needs a table of users, and there is none'):
        closed(PopularityConfig(segment="club"), table(THREE, 3, 4))
    with pytest.raises(
        DataError, match=r'segment is "clubs", which is no column .* Did you mean "club"\? Columns: club.'
    ):
        closed(PopularityConfig(segment="clubs"), clubs)


def test_a_column_of_names_is_no_segment(table, closed) -> None:
    past = replace(table([(0, 0)], 1_001, 1), users=pl.DataFrame({"name": [f"n{row}" for row in range(1_001)]}))
    with pytest.raises(DataError, match=r'segment = "name" has 1,001 values; 1,000 are the most. Group them'):
        closed(PopularityConfig(segment="name"), past)
