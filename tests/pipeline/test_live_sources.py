"""Sources: boards, likeness, and the fusion of what several found."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from bowerbird.core import ScoreError, torch_stream
from bowerbird.data import EventType, Schema
from bowerbird.features import Context, Ragged
from bowerbird.nn.vectors import DotProduct
from bowerbird.pipeline import Ladder
from bowerbird.pipeline.sources import Found, Scorer, best, fuse, of_board

EVERYTHING = np.ones(4, bool)


def draw() -> torch.Generator:
    return torch_stream(0, "test")


def found(name: str, items: list[int], weight: float = 1.0) -> Found:
    return Found(name, np.array(items), np.arange(len(items), 0, -1, dtype=np.float32), weight)


def test_the_best_are_of_those_that_are_allowed() -> None:
    scores = torch.tensor([[4.0, 3.0, 2.0, 1.0]])
    items, values = best(scores, np.array([True, False, True, False]), 3, draw)
    assert items.tolist() == [0, 2]
    assert values.tolist() == [4.0, 2.0]


def test_what_may_not_be_scored_is_not_found() -> None:
    assert best(torch.tensor([[-torch.inf, 1.0]]), EVERYTHING, 2, draw)[0].tolist() == [1]


def test_a_score_that_is_not_a_number_is_an_error() -> None:
    with pytest.raises(ScoreError, match="item row 1"):
        best(torch.tensor([[1.0, torch.nan]]), EVERYTHING, 1, draw)


def test_a_board_skips_what_is_not_allowed_however_far_it_must_look() -> None:
    allowed = np.zeros(100, bool)
    allowed[[3, 90, 95]] = True
    assert of_board(np.arange(100), allowed, 2).tolist() == [3, 90]
    assert of_board(np.arange(100), allowed, 9).tolist() == [3, 90, 95]


def test_a_single_source_keeps_its_own_scores() -> None:
    items, scores = fuse([found("model", [5, 3]), found("latest", [])], draw)
    assert items.tolist() == [5, 3]
    assert scores.tolist() == [2.0, 1.0]


def test_places_are_merged_by_hand() -> None:
    items, scores = fuse([found("model", [0, 1, 2]), found("latest", [2, 3], weight=0.5)], draw)
    # 2: 1/63 + 0.5/61 = 0.0241; 0: 1/61 = 0.0164; 1: 1/62 = 0.0161; 3: 0.5/62 = 0.0081
    assert items.tolist() == [2, 0, 1, 3]
    assert scores == pytest.approx([1 / 63 + 0.5 / 61, 1 / 61, 1 / 62, 0.5 / 62])


def test_equal_places_are_ordered_by_chance() -> None:
    two = [found("model", [0]), found("latest", [1])]
    first = {int(fuse(two, lambda seed=seed: torch_stream(seed, "x"))[0][0]) for seed in range(30)}
    assert first == {0, 1}


@given(st.lists(st.lists(st.integers(0, 20), unique=True), max_size=4))
def test_a_fusion_holds_every_item_once_best_first(lists: list[list[int]]) -> None:
    items, scores = fuse([found("model", one) for one in lists], draw)
    assert sorted(items.tolist()) == sorted(set().union(*lists))
    assert (np.diff(scores) <= 0).all()


class Dots(DotProduct):
    def __init__(self) -> None:
        super().__init__(Schema(1, 4, (EventType("click"),), ()))
        self.items = torch.tensor([[2.0, 0.0], [3.0, 4.0], [0.0, -1.0], [1.0, 1.0]])
        self.shaped_item[:3] = True

    def query(self, context: Context) -> torch.Tensor:
        return torch.zeros(len(context), 2)

    def item_vectors(self) -> torch.Tensor:
        return self.items


def test_likeness_of_vectors_is_that_of_the_ladder() -> None:
    model = Dots()
    context = Context.of_histories([[0, 1]])
    scores = Scorer(Ladder({"model": model})).likeness(context)
    assert scores is not None
    asked = model.scores(Context.of_seeds([[0, 1]]))
    assert torch.allclose(scores[0, :3], asked[0, :3])
    assert scores[0, 3] == asked[0, 3] == -torch.inf


def test_likeness_looks_at_the_last_few_or_at_the_seeds(sums) -> None:
    scorer = Scorer(Ladder({"model": sums}))
    history = Ragged.of([[0, 2, 2, 3, 3, 3, 3, 1]])
    last = scorer.likeness(Context(torch.tensor([-1]), Ragged.of([[3, 3, 0, 0, 0, 0, 0, 1]])))
    assert last is not None
    seeded = scorer.likeness(Context(torch.tensor([-1]), history, Ragged.of([[3]])))
    assert seeded is not None
    assert seeded.tolist() == sums.rows[[3]].tolist()


def test_without_a_past_or_without_a_model_of_likeness_there_is_none(sums, always) -> None:
    assert Scorer(Ladder({"model": sums})).likeness(Context.nobody()) is None
    assert Scorer(Ladder({"model": always})).likeness(Context.of_histories([[1]])) is None
