from dataclasses import replace
from itertools import pairwise

import numpy as np
import polars as pl
import torch
from hypothesis import given
from hypothesis import strategies as st

from bowerbird.data import EventType, Interactions
from bowerbird.features import Context, Encoded, Ragged


def lists(ragged: Ragged) -> list[list[int]]:
    ends = ragged.offsets.tolist()
    return [ragged.item[start:stop].tolist() for start, stop in pairwise(ends)]


def test_a_known_user_brings_their_past_oldest_first(two_by_two: Interactions) -> None:
    context = Context.of_users(np.array([1, 0]), two_by_two)
    assert context.user.tolist() == [1, 0]
    assert lists(context.history) == [[0, 1], [0]]
    assert context.history.time is not None
    assert context.history.time.tolist() == [2, 3, 1]


def test_an_unknown_user_has_no_past(two_by_two: Interactions) -> None:
    context = Context.of_users(np.array([-1, 0]), two_by_two)
    assert context.user.tolist() == [-1, 0]
    assert lists(context.history) == [[], [0]]


def test_a_user_beyond_the_table_has_no_past(two_by_two: Interactions) -> None:
    context = Context.of_users(np.array([7, 1, 2]), two_by_two)
    assert context.user.tolist() == [7, 1, 2]
    assert lists(context.history) == [[], [0, 1], []]


def test_the_last_word_on_an_item_counts_once() -> None:
    weight = torch.tensor([1.0, 1.0, -1.0, 0.0, 2.0, -1.0, 1.0])
    history = replace(Ragged.of([[5, 5, 6, 5], [7, 6, 6]]), weight=weight)
    request, item = history.positive  # 5 was chosen twice, 6 disliked by one and forgiven by the other
    assert list(zip(request.tolist(), item.tolist(), strict=True)) == [(0, 5), (1, 7), (1, 6)]
    assert history.spoken.tolist() == [1, 4, 6]


def test_a_dislike_takes_a_choice_back() -> None:
    history = replace(Ragged.of([[5, 5], [5]]), weight=torch.tensor([1.0, -1.0, 1.0]))
    assert history.speaks.tolist() == [False, True]


def test_a_table_without_users_knows_nobody(two_by_two: Interactions) -> None:
    nobody = two_by_two.rows(np.zeros(3, bool)).head_ids(0, 0)
    assert lists(Context.of_users(np.array([-1, 0]), nobody).history) == [[], []]


def test_no_users_make_no_requests(two_by_two: Interactions) -> None:
    assert len(Context.of_users(np.array([], np.int64), two_by_two)) == 0


def test_dislikes_have_negative_weight_in_a_history() -> None:
    past = Interactions.of(
        pl.Series([1, 1]), pl.Series([1, 2]), event=np.array([0, 1]),
        events=(EventType("like"), EventType("dislike", weight=2.0, sign="negative")),
    )  # fmt: skip
    history = Context.of_users(np.array([0]), past).history
    assert history.weight is not None
    assert history.weight.tolist() == [1.0, -2.0]
    assert history.event is not None
    assert history.event.tolist() == [0, 1]
    assert history.time is None
    assert history.positive[1].tolist() == [0]


@given(st.lists(st.tuples(st.integers(0, 4), st.integers(0, 4)), min_size=1), st.lists(st.integers(-1, 7)))
def test_a_history_is_what_a_slow_reading_of_the_table_finds(pairs: list[tuple[int, int]], users: list[int]) -> None:
    user, item = zip(*pairs, strict=True)
    past = Interactions.of(pl.Series(user), pl.Series(item))
    context = Context.of_users(np.array(users, np.int64), past)
    assert lists(context.history) == [past.item[past.user == user].tolist() for user in users]


def test_nobody_asks_without_user_history_or_seeds() -> None:
    context = Context.nobody(2)
    assert context.user.tolist() == [-1, -1]
    assert lists(context.asked) == [[], []]


def test_a_posted_history_belongs_to_a_stranger() -> None:
    context = Context.of_histories([[3, -1, 1], []])
    assert context.user.tolist() == [-1, -1]
    assert lists(context.history) == [[3, 1], []]


def test_the_answer_follows_from_the_seeds_where_there_are_some() -> None:
    seeds = Context.of_seeds([[5], [6, 7]])
    assert lists(seeds.asked) == [[5], [6, 7]]
    assert lists(seeds.history) == [[], []]
    assert lists(Context.of_histories([[3]]).asked) == [[3]]


def full() -> Context:
    return Context(
        user=torch.tensor([4, -1, 6]),
        history=Ragged.of([[1], [2, 3], []]),
        seeds=Ragged.of([[], [8], [9]]),
        columns=Encoded(torch.tensor([[10], [20], [30]]), None, torch.zeros(3, 0)),
        time=torch.tensor([100, 200, 300]),
        content={"attributes": torch.tensor([[1.0], [2.0], [3.0]])},
    )


def test_taken_requests_bring_all_their_parts() -> None:
    taken = full().take(torch.tensor([2, 0]))
    assert len(taken) == 2
    assert taken.user.tolist() == [6, 4]
    assert lists(taken.history) == [[], [1]]
    assert lists(taken.asked) == [[9], []]
    assert taken.columns is not None
    assert taken.columns.code.tolist() == [[30], [10]]
    assert taken.time is not None
    assert taken.time.tolist() == [300, 100]
    assert taken.content is not None
    assert taken.content["attributes"].tolist() == [[3.0], [1.0]]


def test_taking_invents_no_missing_part() -> None:
    taken = Context.nobody(3).take(torch.tensor([0]))
    assert (len(taken), taken.seeds, taken.time, taken.columns, taken.content) == (1, None, None, None, None)


def test_moving_to_a_device_keeps_all_parts() -> None:
    moved = full().to("cpu")
    assert lists(moved.asked) == lists(full().asked)
    assert moved.columns is not None
    assert moved.columns.code.tolist() == [[10], [20], [30]]
    assert Context.nobody().to("cpu").seeds is None
    there = full().to("meta").content  # a device that every machine has
    assert there is not None
    assert there["attributes"].device.type == "meta"
    assert Context.nobody().to("meta").content is None


def test_what_somebody_says_of_themselves_belongs_to_a_stranger_without_a_past() -> None:
    context = Context.of_content({"attributes": torch.ones(2, 3)}, 2)
    assert context.user.tolist() == [-1, -1]
    assert lists(context.asked) == [[], []]
    assert context.content is not None
    assert context.content["attributes"].shape == (2, 3)
