"""A ranker behind the ladder: it orders the best that the ladder found, and nothing else."""

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor

from bowerbird.core import ScoreError
from bowerbird.features import Context
from bowerbird.pipeline import Ladder, Pipeline
from bowerbird.retrieval import top_k

N_ITEMS = 4


def turned(context: Context, candidates: Tensor) -> Tensor:
    """Score items by their number, so that 3 is the best; empty places get nothing."""
    return candidates.float().masked_fill(candidates < 0, -torch.inf)


def pipeline(known, candidates: int, always=None) -> Pipeline:
    rungs = {"model": known} | ({} if always is None else {"popularity": always})
    return Pipeline(Ladder(rungs), N_ITEMS, [True], rank=turned, candidates=candidates)


def asked(*users: int) -> Context:
    context = Context.nobody(len(users))
    return Context(torch.tensor(users), context.history)


def test_the_best_of_the_ladder_are_ordered_anew(known) -> None:
    slate = pipeline(known, 2).run(asked(0, 1), 2)
    # user 0 likes 0 and 1 best, user 1 likes 3 and 2
    assert slate.items.tolist() == [[1, 0], [3, 2]]
    assert slate.scores.tolist() == [[1.0, 0.0], [3.0, 2.0]]
    assert [step.stage for step in slate.trace] == ["sources", "filter", "ranking", "slate"]


def test_as_many_candidates_as_places_are_taken_at_least(known) -> None:
    assert pipeline(known, 1).run(asked(0), 3).items.tolist() == [[2, 1, 0]]


def test_one_candidate_leaves_the_ladders_choice(known) -> None:
    assert pipeline(known, 1).run(asked(0, 1), 1).items.tolist() == [[0], [3]]


def test_places_that_nothing_is_left_for_stay_empty(known) -> None:
    allowed = torch.tensor([True, False, True, False])
    slate = pipeline(known, 3).run(asked(0), 3, allowed=allowed)
    assert slate.items.tolist() == [[2, 0, -1]]
    assert slate.scores.tolist() == [[2.0, 0.0, -torch.inf]]


def test_what_was_seen_is_no_candidate(known) -> None:
    history = Context.of_histories([[0, 3]]).history
    slate = pipeline(known, 4).run(Context(torch.tensor([0]), history), 2)
    assert slate.items.tolist() == [[2, 1]]


def test_whoever_answers_is_ordered(known, always) -> None:
    slate = pipeline(known, 2, always).run(asked(0, -1), 2)
    assert slate.rung.tolist() == [0, 1]
    assert slate.items.tolist() == [[1, 0], [1, 0]]  # popularity likes 1 and 0 best


def test_what_is_like_an_item_is_left_as_the_ladder_has_it(sums) -> None:
    slate = pipeline(sums, 4).run(Context.of_seeds([[0]]), 2)
    assert slate.items.tolist() == [[1, 2]]


def test_equal_ones_stay_in_the_order_of_the_ladder(known) -> None:
    ladder = Ladder({"model": known})
    alike = Pipeline(ladder, N_ITEMS, [True], rank=lambda _, items: torch.zeros(items.shape), candidates=4)
    assert alike.run(asked(0, 1), 4).items.tolist() == [[0, 1, 2, 3], [3, 2, 1, 0]]


def test_a_rankers_score_that_is_not_a_number_is_an_error(known) -> None:
    broken = Pipeline(
        Ladder({"model": known}),
        N_ITEMS,
        [True],
        rank=lambda _, items: torch.full(items.shape, torch.nan),
        candidates=2,
    )
    with pytest.raises(ScoreError, match="4 of 4 scores of the ranker are not a number"):
        broken.run(asked(0, 1), 2)


def test_scores_of_all_items_are_the_rankers_for_candidates_and_nothing_for_others(known) -> None:
    scores = pipeline(known, 2).scores(asked(0, 1))
    assert scores.tolist() == [[0.0, 1.0, -torch.inf, -torch.inf], [-torch.inf, -torch.inf, 2.0, 3.0]]


@given(candidates=st.integers(1, 4), k=st.integers(1, 4), users=st.lists(st.integers(0, 1), min_size=1, max_size=5))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_slate_holds_the_best_of_the_candidates(known, candidates: int, k: int, users: list[int]) -> None:
    slate = pipeline(known, candidates).run(asked(*users), k)
    scores = known.scores(asked(*users))
    _, best = top_k(scores, max(k, candidates), lambda: torch.Generator())
    assert slate.items.tolist() == best.sort(dim=1, descending=True).values[:, :k].tolist()
