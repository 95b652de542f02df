from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from bowerbird.features import Ragged

LISTS = st.lists(st.lists(st.integers(-1, 9), max_size=4), max_size=6)


def lists(ragged: Ragged) -> list[list[int]]:
    ends = ragged.offsets.tolist()
    return [ragged.item[start:stop].tolist() for start, stop in pairwise(ends)]


@pytest.fixture
def full() -> Ragged:
    """Lists [1, 2], [] and [3], with an event, a weight and a time each."""
    return Ragged(
        offsets=torch.tensor([0, 2, 2, 3]),
        item=torch.tensor([1, 2, 3]),
        event=torch.tensor([0, 1, 0], dtype=torch.uint8),
        weight=torch.tensor([1.0, -1.0, 0.0]),
        time=torch.tensor([10, 20, 30]),
    )


def test_lists_lie_one_behind_another() -> None:
    ragged = Ragged.of([[4, 2], [], [7]])
    assert ragged.offsets.tolist() == [0, 2, 2, 3]
    assert ragged.item.tolist() == [4, 2, 7]
    assert (ragged.offsets.dtype, ragged.item.dtype) == (torch.int64, torch.int64)


def test_unknown_items_are_dropped() -> None:
    assert lists(Ragged.of([[4, -1, 2], [-1], np.array([-1, 7], np.int32)])) == [[4, 2], [], [7]]


def test_no_lists_at_all_are_none() -> None:
    assert len(Ragged.of([])) == 0
    assert Ragged.of([]).item.dtype == torch.int64


def test_empty_lists_have_no_length() -> None:
    empty = Ragged.empty(3)
    assert len(empty) == 3
    assert empty.lengths.tolist() == [0, 0, 0]
    assert empty.request.tolist() == []


def test_every_entry_knows_its_request(full: Ragged) -> None:
    assert full.request.tolist() == [0, 0, 2]
    assert full.lengths.tolist() == [2, 0, 1]


def test_only_entries_of_positive_weight_speak_for_their_item(full: Ragged) -> None:
    request, item = full.positive
    assert (request.tolist(), item.tolist()) == ([0], [1])


def test_without_weights_every_entry_speaks_for_its_item() -> None:
    request, item = Ragged.of([[4, 2], [7]]).positive
    assert (request.tolist(), item.tolist()) == ([0, 0, 1], [4, 2, 7])


def test_taken_lists_bring_all_their_columns(full: Ragged) -> None:
    taken = full.take(torch.tensor([2, 1, 0, 2]))
    assert lists(taken) == [[3], [], [1, 2], [3]]
    assert taken.event is not None
    assert taken.event.tolist() == [0, 0, 1, 0]
    assert taken.weight is not None
    assert taken.weight.tolist() == [0.0, 1.0, -1.0, 0.0]
    assert taken.time is not None
    assert taken.time.tolist() == [30, 10, 20, 30]


def test_taking_nothing_leaves_nothing(full: Ragged) -> None:
    assert lists(full.take(torch.tensor([], dtype=torch.int64))) == []


def test_a_request_that_is_not_there_cannot_be_taken(full: Ragged) -> None:
    with pytest.raises(IndexError):
        full.take(torch.tensor([3]))


def test_moving_to_a_device_keeps_what_is_there(full: Ragged) -> None:
    assert lists(full.to("cpu")) == lists(full)
    assert Ragged.of([[1]]).to("cpu").weight is None


@given(LISTS)
def test_lists_come_back_without_their_unknown_items(rows: list[list[int]]) -> None:
    ragged = Ragged.of(rows)
    assert lists(ragged) == [[row for row in one if row >= 0] for one in rows]
    assert torch.equal(torch.bincount(ragged.request, minlength=len(rows)), ragged.lengths)


@given(LISTS.filter(bool), st.data())
def test_taking_is_what_indexing_a_list_of_lists_is(rows: list[list[int]], data: st.DataObject) -> None:
    index = data.draw(st.lists(st.integers(0, len(rows) - 1)))
    ragged = Ragged.of(rows)
    wanted = lists(ragged)
    assert lists(ragged.take(torch.tensor(index, dtype=torch.int64))) == [wanted[place] for place in index]
