from itertools import count

import numpy as np
import polars as pl
import pytest
import torch
from torch import Tensor

from bowerbird.core import ScoreError
from bowerbird.features import Context, Ragged
from bowerbird.pipeline import Greedy, Ladder, Pipeline

N_ITEMS = 4


class Ticking:
    """A world whose clock moves on by one second each time it is read."""

    def __init__(self) -> None:
        self.ticks = count()

    def monotonic(self) -> float:
        return float(next(self.ticks))


class Reversed:
    """Shows the candidates worst first, and is half sure of it."""

    def depth(self, k: int) -> int:
        return k

    def choose(self, context: Context, candidates: Tensor, scores: Tensor, k: int, seed: int) -> tuple[Tensor, Tensor]:
        return candidates.flip(1), torch.full_like(scores, 0.5)

    def update(self, log: pl.DataFrame) -> None:
        raise AssertionError("nothing to learn here")


class OnlyTheBest(Reversed):
    """Shows one item and leaves the other places empty."""

    def choose(self, context: Context, candidates: Tensor, scores: Tensor, k: int, seed: int) -> tuple[Tensor, Tensor]:
        shown = torch.full_like(candidates, -1)
        shown[:, 0] = candidates[:, 0]
        return shown, torch.ones_like(scores)


class Shuffled(Reversed):
    """Shows the candidates in an order drawn for each request."""

    def choose(self, context: Context, candidates: Tensor, scores: Tensor, k: int, seed: int) -> tuple[Tensor, Tensor]:
        order = torch.from_numpy(
            np.random.default_rng(seed).permuted(np.tile(np.arange(k), (len(candidates), 1)), axis=1)
        )
        return candidates.gather(1, order), torch.full_like(scores, 1 / 6)


@pytest.fixture
def pipeline(known, always) -> Pipeline:
    """A pipeline in which events of type 0 hide their item and events of type 1 do not."""
    return Pipeline(Ladder({"model": known, "popularity": always}), N_ITEMS, [True, False])


def of(user: int, history: list[int] | None = None, events: list[int] | None = None) -> Context:
    ragged = Ragged.of([history or []])
    if events is not None:
        ragged = Ragged(ragged.offsets, ragged.item, torch.tensor(events, dtype=torch.uint8))
    return Context(torch.tensor([user]), ragged)


def test_the_best_come_first_with_their_scores(pipeline: Pipeline) -> None:
    slate = pipeline.run(Context(torch.tensor([0, 1]), Ragged.empty(2)), 3)
    assert slate.items.tolist() == [[0, 1, 2], [3, 2, 1]]
    assert slate.scores.tolist() == [[4.0, 3.0, 2.0], [4.0, 3.0, 2.0]]
    assert slate.rung.tolist() == [0, 0]


def test_seen_items_are_hidden(pipeline: Pipeline) -> None:
    assert pipeline.run(of(0, [0, 2]), 2).items.tolist() == [[1, 3]]


def test_only_event_types_that_hide_hide_their_item(pipeline: Pipeline) -> None:
    assert pipeline.run(of(0, [0, 1], events=[1, 0]), 3).items.tolist() == [[0, 2, 3]]


def test_seeds_are_hidden_like_the_history(sums) -> None:
    slate = Pipeline(Ladder({"model": sums}), N_ITEMS, [True]).run(Context.of_seeds([[0]]), 4)
    assert slate.items.tolist() == [[1, 2, 3, -1]]


def test_only_allowed_items_are_candidates(pipeline: Pipeline) -> None:
    allowed = torch.tensor([False, True, False, True])
    assert pipeline.run(of(0), 2, allowed=allowed).items.tolist() == [[1, 3]]


def test_a_slate_has_exactly_k_places_where_k_items_are_left(pipeline: Pipeline) -> None:
    slate = pipeline.run(of(1, [3]), 3)
    assert slate.items.tolist() == [[2, 1, 0]]


@pytest.mark.parametrize("k", [3, 7])
def test_places_that_cannot_be_filled_are_minus_one(pipeline: Pipeline, k: int) -> None:
    slate = pipeline.run(of(1, [3, 1]), k)
    assert slate.items.tolist() == [[2, 0] + [-1] * (k - 2)]
    assert slate.scores.tolist() == [[3.0, 1.0] + [-torch.inf] * (k - 2)]
    assert slate.propensity.shape == (1, k)


def test_a_request_that_nobody_can_answer_gets_an_empty_slate(pipeline: Pipeline) -> None:
    slate = pipeline.run(Context.of_seeds([[0]]), 2)
    assert slate.rung.tolist() == [-1]
    assert slate.items.tolist() == [[-1, -1]]
    assert slate.scores.tolist() == [[-torch.inf, -torch.inf]]


def test_equal_scores_are_drawn_by_the_seed(always) -> None:
    always.rows = torch.zeros(1, 50)
    pipeline = Pipeline(Ladder({"popularity": always}), N_ITEMS, [True])

    def run(seed: int) -> list[int]:
        return pipeline.run(Context.nobody(), 5, seed=seed).items[0].tolist()

    assert run(0) == run(0)
    assert run(0) != run(1)
    assert run(0) != [0, 1, 2, 3, 4]


def test_a_run_leaves_the_models_numbers_alone(pipeline: Pipeline, known) -> None:
    before = known.rows.clone()
    pipeline.run(of(0, [0]), 4)
    assert torch.equal(known.rows, before)


def test_a_score_that_is_not_a_number_is_an_error(pipeline: Pipeline, known) -> None:
    known.rows[0, 2] = torch.nan
    with pytest.raises(ScoreError, match="the score of item row 2 is not a number"):
        pipeline.run(of(0), 2)


def test_the_trace_counts_what_left_each_stage(known, always) -> None:
    pipeline = Pipeline(Ladder({"model": known, "popularity": always}), N_ITEMS, [True], world=Ticking())
    trace = pipeline.run(of(0, [0]), 5, allowed=torch.tensor([True, True, True, False])).trace
    assert [(step.stage, step.candidates) for step in trace] == [("sources", 4), ("filter", 2), ("slate", 2)]
    assert [step.ms for step in trace] == [1000.0, 1000.0, 1000.0]


def test_greedy_is_certain(pipeline: Pipeline) -> None:
    assert pipeline.run(of(0), 3).propensity.tolist() == [[1.0, 1.0, 1.0]]


def test_greedy_takes_no_more_than_k() -> None:
    candidates, scores = torch.tensor([[3, 1, 2]]), torch.tensor([[3.0, 2.0, 1.0]])
    items, propensity = Greedy().choose(Context.nobody(), candidates, scores, 2, 0)
    assert items.tolist() == [[3, 1]]
    assert propensity.tolist() == [[1.0, 1.0]]


def test_a_policy_that_reorders_keeps_each_items_score(known) -> None:
    pipeline = Pipeline(Ladder({"model": known}), N_ITEMS, [True], policy=Reversed())
    slate = pipeline.run(Context(torch.tensor([0, 1]), Ragged.of([[0], []])), 3)
    assert slate.items.tolist() == [[3, 2, 1], [1, 2, 3]]
    assert slate.scores.tolist() == [[1.0, 2.0, 3.0], [2.0, 3.0, 4.0]]
    assert slate.propensity.tolist() == [[0.5] * 3] * 2


def test_a_policy_draws_from_the_seed(known) -> None:
    pipeline = Pipeline(Ladder({"model": known}), N_ITEMS, [True], policy=Shuffled())
    context = Context(torch.zeros(30, dtype=torch.int64), Ragged.empty(30))
    slate = pipeline.run(context, 3, seed=4)
    assert torch.equal(slate.items, pipeline.run(context, 3, seed=4).items)
    assert not torch.equal(slate.items, pipeline.run(context, 3, seed=5).items)
    assert torch.equal(slate.scores, known.rows[0][slate.items])


def test_a_place_that_a_policy_leaves_empty_has_no_score(known) -> None:
    slate = Pipeline(Ladder({"model": known}), N_ITEMS, [True], policy=OnlyTheBest()).run(of(0), 3)
    assert slate.items.tolist() == [[0, -1, -1]]
    assert slate.scores.tolist() == [[4.0, -torch.inf, -torch.inf]]


def test_a_policy_may_choose_from_more_than_it_shows(known) -> None:
    class Fourth(Reversed):
        def depth(self, k: int) -> int:
            return 4

        def choose(
            self, context: Context, candidates: Tensor, scores: Tensor, k: int, seed: int
        ) -> tuple[Tensor, Tensor]:
            return candidates[:, 3:], torch.full((len(candidates), 1), 0.25)

    context = Context(torch.tensor([1, 0]), Ragged.empty(2))
    slate = Pipeline(Ladder({"model": known}), N_ITEMS, [True], policy=Fourth()).run(context, 1)
    assert slate.items.tolist() == [[0], [3]]
    assert slate.scores.tolist() == [[1.0], [1.0]]


def test_many_requests_are_answered_in_blocks_as_they_are_alone(pipeline: Pipeline, monkeypatch) -> None:
    context = Context(torch.tensor([0, 1, -1, 1, 0]), Ragged.of([[0], [], [2], [3], []]))
    whole = pipeline.run(context, 3)
    monkeypatch.setattr("bowerbird.pipeline.pipeline.block_size", lambda n_items: 2)
    blocked = pipeline.run(context, 3)
    assert torch.equal(blocked.items, whole.items)
    assert torch.equal(blocked.rung, whole.rung)
    assert [step.candidates for step in blocked.trace] == [step.candidates for step in whole.trace]
