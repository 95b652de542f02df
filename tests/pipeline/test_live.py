"""One request, live: what is forbidden never appears, k is k, and every step down is named."""

from dataclasses import replace

import numpy as np
import polars as pl
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor

from bowerbird.core import RealWorld, ScoreError
from bowerbird.features import Context, Ragged
from bowerbird.pipeline import Ladder, filters
from bowerbird.pipeline.answers import Asked, Shelf
from bowerbird.pipeline.live import LivePipeline
from bowerbird.pipeline.policy import Greedy
from bowerbird.pipeline.scenario import Boost, Freshness, Pin, Scenario, Source
from bowerbird.pipeline.sources import Scorer

N_KNOWN, N_ITEMS = 6, 8


class Falls:
    """Scores the first item best, the last known worst, for users 0 and up; likes the seeds' neighbours."""

    def can(self, context: Context) -> Tensor:
        return context.user >= 0 if context.seeds is None else context.seeds.lengths > 0

    def scores(self, context: Context, items: Tensor | None = None) -> Tensor:
        if context.seeds is None:
            whole = torch.arange(N_KNOWN, 0, -1).float().repeat(len(context), 1)
        else:
            whole = -(torch.arange(N_KNOWN) - context.seeds.item[:1]).abs().float()[None]
        return whole if items is None else whole.gather(1, items)

    def grow(self, n_users: int, n_items: int) -> None:
        raise AssertionError("the pipeline grows nothing")


class Clock(RealWorld):
    """A clock that stands still, but where somebody spends time."""

    def __init__(self) -> None:
        self.at = 0.0

    def monotonic(self) -> float:
        return self.at


def shelf(**changes: object) -> Shelf:
    """Eight items, of which the model knows six; 7 and 6 are the newest, 3 and 2 the most popular."""
    items = pl.DataFrame(
        {
            "item_id": [f"i{n}" for n in range(N_ITEMS)],
            "price": list(range(N_ITEMS)),
            "kind": ["a", "a", "a", "b", "b", "c", "c", "d"],
            "published_at": [n * 86_400 for n in range(N_ITEMS)],
        }
    )
    rows = {"popular": [3, 2, 0], "trending": [4, 5], "latest": [7, 6, 5, 4, 3, 2, 1, 0]}
    boards = {name: np.array(board) for name, board in rows.items()}
    return replace(Shelf(items, N_KNOWN, np.ones(N_ITEMS, bool), **boards), **changes)


def pipeline(scenario: Scenario | None = None, on: Shelf | None = None, **options: object) -> LivePipeline:
    return LivePipeline(Ladder({"model": Falls()}), scenario or shop(), on or shelf(), **options)


def shop(*sources: Source, **options: object) -> Scenario:
    return Scenario(name="shop", sources=sources or (Source(name="model", n=500),), **options)


def asked(k: int = 3, user: int = 0, **options: object) -> Asked:
    return Asked(Context(torch.tensor([user]), Ragged.empty(1)), k, **options)


def rows(*items: int) -> np.ndarray:
    return np.array(items, np.int64)


def turned(context: Context, candidates: Tensor) -> Tensor:
    """Score items by their number."""
    return candidates.float()


# ── filters ───────────────────────────────────────────────────────────────────────────────────────────────────


def test_the_models_best_come_first_and_nothing_is_less_than_wished() -> None:
    answer = pipeline().run(asked())
    assert answer.items.tolist() == [0, 1, 2]
    assert answer.scores.tolist() == [6.0, 5.0, 4.0]
    assert answer.propensity.tolist() == [1.0, 1.0, 1.0]
    assert answer.sources == [["model"]] * 3
    assert (answer.rung, answer.fallback) == ("model", [])
    assert [step.stage for step in answer.trace] == ["filter", "sources", "ranking", "reranking", "slate"]
    assert [step.candidates for step in answer.trace] == [8, 6, 6, 3, 3]


def test_each_filter_hides_its_items_and_is_counted_where_that_is_explained() -> None:
    available = np.ones(N_ITEMS, bool)
    available[0] = False
    question = asked(
        9, seen=rows(1), served=rows(1, 2), exclude=rows(3), where=filters.parse("item.price >= 4"), explain=True
    )
    line = pipeline(shop(where="item.price < 7"), shelf(available=available))
    answer = line.run(question)
    assert sorted(answer.items.tolist()) == [4, 5, 6]
    assert answer.removed == {"unavailable": 1, "seen": 1, "served": 1, "excluded": 1, "scenario": 1, "where": 0}
    assert line.run(replace(question, explain=False)).removed == {}


def test_what_is_like_an_item_is_never_that_item() -> None:
    context = replace(Context.nobody(), seeds=Ragged.of([[2]]))
    answer = pipeline().run(Asked(context, 2))
    assert sorted(answer.items.tolist()) == [1, 3]


def test_a_filter_of_what_was_seen_asks_for_the_rows() -> None:
    question = asked(2, where=filters.parse("not seen()"), seen_rows=lambda _: rows(0, 2))
    assert pipeline().run(question).items.tolist() == [1, 3]


# ── sources ───────────────────────────────────────────────────────────────────────────────────────────────────


def test_what_is_newer_than_the_model_comes_from_boards() -> None:
    answer = pipeline(shop(Source(name="latest"))).run(asked(2))
    assert answer.items.tolist() == [7, 6]
    assert answer.rung == ""


def test_several_sources_are_merged_and_named() -> None:
    both = shop(Source(name="model", n=2), Source(name="trending", n=2, weight=0.5), Source(name="popular", n=3))
    answer = pipeline(both).run(asked(6))
    # 0: 1/61 + 1/63 leads, then 3 with 1/61, then 1 and 2 at 1/62, in random order, then 4 and 5 at half of that
    assert answer.items[[0, 1]].tolist() == [0, 3]
    assert sorted(answer.items[[2, 3]].tolist()) == [1, 2]
    assert answer.items[[4, 5]].tolist() == [4, 5]
    assert answer.sources[0] == ["model", "popular"]
    assert answer.fallback == []


def test_what_is_like_the_last_items_and_what_has_like_content_is_found() -> None:
    context = Context(torch.tensor([0]), Ragged.of([[4]]))
    content = np.array([0, 0, 0, 0, 0, 0, 5, 9], np.float32)
    both = shop(Source(name="similar", n=1), Source(name="content", n=1))
    answer = pipeline(both, shelf(content=lambda past: content * (past == 4).all())).run(
        Asked(context, 2, seen=rows(4))
    )
    assert sorted(zip(answer.items.tolist(), answer.sources, strict=True)) in (
        [(3, ["similar"]), (7, ["content"])],
        [(5, ["similar"]), (7, ["content"])],
    )


def test_sources_that_are_short_are_asked_deeper() -> None:
    answer = pipeline(shop(Source(name="model", n=2))).run(asked(4))
    assert answer.items.tolist() == [0, 1, 2, 3]
    assert answer.fallback == ["deeper"]


def test_the_popular_then_the_latest_then_anything_fill_what_is_left() -> None:
    available = np.ones(N_ITEMS, bool)
    on = shelf(latest=rows(7), available=available)
    answer = pipeline(shop(Source(name="similar")), on).run(asked(6))
    assert answer.items[:4].tolist() == [3, 2, 0, 7]
    assert answer.sources[:4] == [["popular"]] * 3 + [["latest"]]
    assert answer.sources[4:] == [["any"]] * 2
    assert answer.fallback == ["popular", "latest", "any"]
    assert (np.diff(answer.scores) < 0).all()


def test_whom_the_ladder_cannot_answer_first_is_cold(always) -> None:
    always.rows = torch.tensor([[1.0, 3.0, 2.0, 0.0, 0.0, 0.0]])
    ladder = Ladder({"model": Falls(), "popularity": always})
    answer = LivePipeline(ladder, shop(), shelf()).run(asked(2, user=-1))
    assert answer.items.tolist() == [1, 2]
    assert (answer.rung, answer.fallback) == ("popularity", ["cold"])


def test_nobody_knows_a_stranger_and_the_popular_answer() -> None:
    answer = pipeline().run(asked(2, user=-1))
    assert answer.items.tolist() == [3, 2]
    assert (answer.rung, answer.fallback) == ("", ["cold", "popular"])


def test_a_score_that_is_not_a_number_is_an_error() -> None:
    broken = shelf(content=lambda _: np.full(N_ITEMS, np.nan, np.float32))
    context = Context(torch.tensor([0]), Ragged.of([[4]]))
    with pytest.raises(ScoreError, match="not a number"):
        pipeline(shop(Source(name="content")), broken).run(Asked(context, 2))


class Near:
    """An index that finds the items with the largest numbers."""

    def __init__(self) -> None:
        self.asked: list[int] = []

    def search(self, query: Tensor, n: int, allowed: Tensor | None = None) -> tuple[Tensor, Tensor]:
        self.asked.append(n)
        assert allowed is not None
        near = [row for row in range(N_KNOWN - 1, 1, -1) if allowed[row]][:n]  # it does not find the first two
        items = torch.tensor([[*near, *[-1] * (n - len(near))]])
        return items.float(), items


class Dots(Falls):
    def query(self, context: Context) -> Tensor:
        return torch.ones(len(context), 1)

    def item_vectors(self) -> Tensor:
        return torch.arange(N_KNOWN, 0, -1).float()[:, None]


def indexed(scenario: Scenario) -> tuple[LivePipeline, Near]:
    index, ladder = Near(), Ladder({"model": Dots()})
    return LivePipeline(ladder, scenario, shelf(), scorer=Scorer(ladder, lambda vectors, shaped: index)), index


def test_where_there_is_an_index_it_is_asked() -> None:
    line, index = indexed(shop(Source(name="model", n=3)))
    answer = line.run(asked(2, seen=rows(5)))
    assert answer.items.tolist() == [4, 3]
    assert index.asked == [3]
    assert (answer.rung, answer.fallback) == ("model", [])


def test_where_the_index_finds_too_little_the_search_is_exact() -> None:
    line, _ = indexed(shop())
    answer = line.run(asked(3, seen=rows(5, 4, 3)))
    assert answer.items.tolist() == [0, 1, 2]
    assert answer.fallback == ["deeper"]


# ── ranking ───────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_ranker_orders_the_best_candidates() -> None:
    answer = pipeline(shop(candidates=3), rank=turned).run(asked(2))
    assert answer.items.tolist() == [2, 1]
    assert answer.scores.tolist() == [2.0, 1.0]


def test_a_scenario_may_leave_the_ranker_out() -> None:
    assert pipeline(shop(ranker=False), rank=turned).run(asked(2)).items.tolist() == [0, 1]


def test_what_the_ranker_does_not_know_keeps_its_place() -> None:
    both = shop(Source(name="latest", n=1, weight=9.0), Source(name="model", n=3))
    answer = pipeline(both, rank=turned).run(asked(4))
    # merged: 7, 0, 1, 2; the ranker says 2, 1, 0, and 7 gets what its best is worth
    assert answer.items.tolist()[0] in (7, 2)
    assert sorted(answer.items.tolist()[:2]) == [2, 7]
    assert answer.items.tolist()[2:] == [1, 0]
    assert answer.scores.tolist() == [2.0, 2.0, 1.0, 0.0]


def test_what_is_like_an_item_is_not_ranked() -> None:
    context = replace(Context.nobody(), seeds=Ragged.of([[0]]))
    assert pipeline(rank=turned).run(Asked(context, 2)).items.tolist() == [1, 2]


def test_a_rankers_score_that_is_not_a_number_is_an_error() -> None:
    with pytest.raises(ScoreError, match="6 of 6 scores of the ranker"):
        pipeline(rank=lambda _, items: torch.full(items.shape, torch.nan)).run(asked())


# ── re-ranking ────────────────────────────────────────────────────────────────────────────────────────────────


def test_boosts_lift_and_bury() -> None:
    boosts = (Boost(where="item.price >= 5", factor=10.0), Boost(where="item.price < 1", factor=0.0))
    answer = pipeline(shop(boosts=boosts)).run(asked(6))
    assert answer.items.tolist() == [5, 1, 2, 3, 4, 0]
    assert answer.scores.tolist() == [10.0, 5.0, 4.0, 3.0, 2.0, 0.0]


def test_the_new_get_an_advantage() -> None:
    fresh = Freshness(half_life_days=1.0, strength=8.0)
    answer = pipeline(shop(freshness=fresh)).run(asked(1, now=5 * 86_400))
    # item 5 of score 1 was published just now: 1 · 9; item 0 of score 6, five days ago: 6 · 1.25; item 4: 2 · 5
    assert answer.items.tolist() == [4]
    assert answer.scores.tolist() == [10.0]


def test_diversity_puts_what_differs_forward_and_a_request_may_change_it() -> None:
    vectors = torch.tensor([[1.0, 0.0]] * 3 + [[0.0, 1.0]] * 3)
    line = pipeline(shop(diversity=0.9), vectors=vectors)
    assert line.run(asked(2)).items.tolist() == [0, 3]
    assert line.run(asked(2, diversity=0.0)).items.tolist() == [0, 1]


def test_items_newer_than_the_vectors_are_like_nothing() -> None:
    both = shop(Source(name="model", n=3), Source(name="latest", n=1, weight=0.1), diversity=0.9)
    assert pipeline(both, vectors=torch.ones(N_KNOWN, 2)).run(asked(2)).items.tolist() == [0, 7]


def test_diversity_that_nobody_can_tell_is_named() -> None:
    answer = pipeline(shop(diversity=0.5)).run(asked(2))
    assert answer.items.tolist() == [0, 1]
    assert answer.fallback == ["no_vectors"]


def test_caps_bound_a_kind_and_the_boards_fill_what_they_leave() -> None:
    answer = pipeline(shop(caps={"kind": 1})).run(asked(4))
    assert answer.items.tolist() == [0, 3, 5, 7]  # 6 is of the kind of 5
    assert answer.fallback == ["latest"]
    assert pipeline(shop(caps={"kind": 1})).run(asked(9)).items.tolist() == [0, 3, 5, 7]


def test_a_pin_has_its_place_and_the_score_of_it() -> None:
    answer = pipeline(shop(pins=(Pin(item="i7", position=2),))).run(asked(3))
    assert answer.items.tolist() == [0, 7, 1]
    assert answer.scores.tolist() == [6.0, 5.0, 5.0]
    assert answer.sources == [["model"], ["pin"], ["model"]]
    assert answer.propensity.tolist() == [1.0, 1.0, 1.0]


@pytest.mark.parametrize(
    "hidden",
    [{"seen": rows(7)}, {"served": rows(7)}, {"exclude": rows(7)}, {"where": filters.parse("item.price < 7")}],
)
def test_what_is_hidden_is_not_pinned(hidden) -> None:
    line = pipeline(shop(pins=(Pin(item="i7", position=1),)))
    assert line.run(asked(2, **hidden)).items.tolist() == [0, 1]


def test_pins_count_where_caps_do_and_come_even_alone() -> None:
    pins = (Pin(item="i1", position=1), Pin(item="i2", position=3))
    answer = pipeline(shop(pins=pins, caps={"kind": 1})).run(asked(3))
    assert answer.items.tolist() == [1, 3, 5]  # 2 is of the kind of 1, and so is 0
    assert pipeline(shop(pins=pins)).run(asked(1)).items.tolist() == [1]
    assert pipeline(shop(pins=pins)).run(asked(3, where=filters.parse("item.price == 2"))).items.tolist() == [2]


class Last(Greedy):
    """Chooses the last of its candidates, and says that this was one of two chances."""

    def depth(self, k: int) -> int:
        return 2 * k

    def choose(self, context: Context, candidates: Tensor, scores: Tensor, k: int, seed: int) -> tuple[Tensor, Tensor]:
        chosen = candidates.flip(1)[:, :k]
        return chosen, torch.full(chosen.shape, 0.5)


def test_a_policy_chooses_last_and_pins_keep_their_places() -> None:
    answer = pipeline(shop(pins=(Pin(item="i7", position=1),)), policy=Last()).run(asked(3))
    # two places are free: the policy chooses from 0, 1, 2 and 3
    assert answer.items.tolist() == [7, 3, 2]
    assert answer.scores.tolist() == [3.0, 3.0, 4.0]
    assert answer.propensity.tolist() == [1.0, 0.5, 0.5]


class Doubtful(Last):
    """Says what chance each candidate had for the first place."""

    version = "doubtful"

    def explore(
        self, context: Context, candidates: Tensor, scores: Tensor, k: int, seed: int
    ) -> tuple[Tensor, Tensor, Tensor]:
        return *self.choose(context, candidates, scores, k, seed), torch.softmax(scores, dim=1)


def test_what_a_policy_that_explores_chose_from_is_told_without_pins() -> None:
    pins = (Pin(item="i7", position=1),)
    answer = pipeline(shop(pins=pins), policy=Doubtful()).run(asked(3))
    assert answer.policy == "doubtful"
    assert answer.candidates is not None
    assert answer.candidate_propensity is not None
    assert answer.candidates.tolist() == [0, 1, 2, 3]
    odds = np.exp([6.0, 5.0, 4.0, 3.0])
    assert answer.candidate_propensity == pytest.approx(odds / odds.sum(), rel=1e-5)
    plain = pipeline(shop(pins=pins)).run(asked(3))
    assert (plain.policy, plain.candidates, plain.candidate_propensity) == ("greedy", None, None)


# ── time ──────────────────────────────────────────────────────────────────────────────────────────────────────


def timed(scenario: Scenario, **takes_s: float) -> tuple[LivePipeline, Clock]:
    """A pipeline whose ladder and ranker take so many seconds."""
    clock = Clock()

    class Slow(Falls):
        def scores(self, context: Context, items: Tensor | None = None) -> Tensor:
            clock.at += takes_s.get("sources", 0.0)
            return super().scores(context, items)

    def rank(context: Context, candidates: Tensor) -> Tensor:
        clock.at += takes_s.get("ranking", 0.0)
        return turned(context, candidates)

    line = LivePipeline(
        Ladder({"model": Slow()}), scenario, shelf(), rank=rank, vectors=torch.ones(N_KNOWN, 2), world=clock
    )
    return line, clock


def test_with_too_little_time_for_the_ranker_the_answer_is_light() -> None:
    line, clock = timed(shop(diversity=0.5), sources=1.0, ranking=3.0)
    assert line.run(asked(2)).fallback == []  # no deadline: from here on it is known what a step takes
    answer = line.run(asked(2, deadline=clock.at + 2.0))
    assert answer.items.tolist() == [0, 1]
    assert answer.fallback == ["light"]


def test_with_too_little_time_for_the_sources_the_popular_answer() -> None:
    line, clock = timed(shop(pins=(Pin(item="i5", position=2),)), sources=1.0)
    line.run(asked(2))
    answer = line.run(asked(3, deadline=clock.at + 0.5, seen=rows(3)))
    assert answer.items.tolist() == [2, 5, 0]
    assert answer.fallback == ["popular"]


def test_a_deadline_that_has_passed_is_answered_too() -> None:
    line, clock = timed(shop())
    clock.at = 9.0
    assert line.run(asked(2, deadline=1.0)).items.tolist() == [3, 2]


def test_a_scenario_sets_a_deadline_where_the_request_does_not() -> None:
    line, clock = timed(shop(timeout_ms=500.0), sources=1.0)
    line.run(asked(2))
    assert line.run(asked(2)).fallback == ["popular"]
    assert line.run(asked(2, deadline=clock.at + 5.0)).fallback == []


def test_one_slow_run_does_not_end_a_step_for_good() -> None:
    line, clock = timed(shop(ranker=False), sources=1.0)
    line.run(asked(2))
    steps = [line.run(asked(2, deadline=clock.at + 0.9)).fallback for _ in range(5)]
    assert steps[0] == ["popular"]
    assert [] in steps


# ── lists, doubts, failures ───────────────────────────────────────────────────────────────────────────────────


def test_a_given_list_is_ordered_and_nothing_is_added() -> None:
    line = pipeline(shop(caps={"kind": 1}, pins=(Pin(item="i0", position=1),)))
    answer = line.rank_list(asked(9, exclude=rows(4)), rows(7, 2, 1, 4, 2, 5))
    assert answer.items.tolist() == [1, 2, 5, 7]  # the model knows nothing of 7
    assert (np.diff(answer.scores) < 0).all()
    assert answer.sources == [["given"]] * 4
    assert answer.fallback == []


def test_a_given_list_is_ranked_and_cut_to_k() -> None:
    assert pipeline(shop(candidates=1), rank=turned).rank_list(asked(2), rows(0, 3, 5)).items.tolist() == [5, 3]


def test_a_list_for_a_stranger_stays_as_it_is() -> None:
    answer = pipeline().rank_list(asked(3, user=-1), rows(4, 0, 2))
    assert answer.items.tolist() == [4, 0, 2]
    assert answer.fallback == ["cold"]


def test_an_empty_list_stays_empty() -> None:
    assert pipeline().rank_list(asked(3), rows()).items.tolist() == []


def test_a_failed_model_is_replaced_by_the_popular() -> None:
    answer = pipeline(rank=turned).popular(asked(4, exclude=rows(2)), "model_failed")
    assert answer.items.tolist() == [3, 0, 7, 6]
    assert answer.fallback == ["model_failed", "popular", "latest"]


def test_other_boards_leave_the_rest_as_it_was() -> None:
    line = pipeline(shop(Source(name="popular", n=2)))
    assert line.on(shelf(popular=rows(5, 4))).run(asked(2)).items.tolist() == [5, 4]
    assert line.run(asked(2)).items.tolist() == [3, 2]


def stages(line: LivePipeline, question: Asked, item: int) -> list[tuple[str, bool, str]]:
    return [(one.stage, one.kept, one.detail) for one in line.why(question, item)]


def test_why_names_the_filter_that_hides_an_item() -> None:
    line = pipeline(shop(where="item.price < 7"))
    question = asked(2, seen=rows(1), where=filters.parse("item.price >= 1"))
    assert stages(line, question, 1) == [("filter", False, "seen")]
    assert stages(line, question, 7) == [("filter", False, "scenario")]
    assert stages(line, question, 0) == [("filter", False, "where")]


def test_why_follows_an_item_to_where_it_is_lost() -> None:
    line = pipeline(shop(Source(name="model", n=4), candidates=3, caps={"kind": 2}), rank=turned)
    question = asked(2)
    assert stages(line, question, 1) == [
        ("filter", True, "allowed"),
        ("sources", True, "model: place 2"),
        ("ranking", True, "place 2 of 3"),
        ("reranking", True, "place 2 of 2"),
        ("slate", True, "place 2 of 2"),
    ]
    assert stages(line, question, 5)[-1] == ("sources", False, "no source found it")
    assert stages(line, question, 0)[-1] == ("slate", False, "not among the 2 best")
    assert ("reranking", False, "all places for its kind are taken") in stages(line, question, 0)
    assert ("ranking", False, "not among the 3 best") in stages(line, question, 3)


def test_why_finds_a_pin_and_does_not_look_at_the_clock() -> None:
    line, clock = timed(shop(pins=(Pin(item="i7", position=1),)), sources=1.0)
    line.run(asked(2))
    said = stages(line, asked(2, deadline=clock.at), 7)
    assert all(kept for _, kept, _ in said)
    assert said[-1] == ("slate", True, "place 1 of 2")
    assert stages(line, asked(2, deadline=clock.at), 0)[1] == ("sources", True, "model: place 1")


# ── whatever happens ──────────────────────────────────────────────────────────────────────────────────────────

ITEM = st.integers(0, N_ITEMS - 1)
SOME = st.lists(ITEM, max_size=6).map(lambda found: np.array(found, np.int64))
SOURCES = st.lists(
    st.sampled_from(["model", "popular", "trending", "latest", "similar", "content"]), min_size=1, unique=True
)


@given(
    names=SOURCES,
    n=st.integers(1, 5),
    k=st.integers(1, 10),
    user=st.integers(-1, 0),
    history=SOME,
    hidden=st.lists(SOME, min_size=4, max_size=4),
    pins=st.lists(ITEM, max_size=3),
    limit=st.none() | st.integers(0, N_ITEMS),
    ranked=st.booleans(),
    diversity=st.sampled_from([0.0, 0.5, 1.0]),
    deadline=st.sampled_from([None, -1.0, 1e12]),
    policy=st.sampled_from([Greedy(), Last()]),
    candidates=st.integers(1, 8),
    seed=st.integers(0, 99),
    item=ITEM,
)
@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_whatever_is_asked_k_allowed_items_come_each_once(
    names, n, k, user, history, hidden, pins, limit, ranked, diversity, deadline, policy, candidates, seed, item
) -> None:
    scenario = shop(
        *(Source(name=name, n=n) for name in names),
        pins=tuple(Pin(item=f"i{item}", position=place) for place, item in enumerate(pins, 1)),
        boosts=(Boost(where="item.price >= 4", factor=3.0),),
        freshness=Freshness(),
        candidates=candidates,
    )
    content = np.linspace(-1, 1, N_ITEMS).astype(np.float32)
    unavailable, seen, served, exclude = hidden
    available = np.ones(N_ITEMS, bool)
    available[unavailable] = False
    line = pipeline(
        scenario,
        shelf(available=available, content=lambda _: content),
        rank=turned if ranked else None,
        vectors=torch.eye(N_KNOWN),
        policy=policy,
    )
    where = None if limit is None else filters.parse(f"item.price < {limit}")
    context = Context(torch.tensor([user]), Ragged.of([history[history < N_KNOWN]]))
    question = Asked(
        context,
        k,
        seen=seen,
        served=served,
        exclude=exclude,
        where=where,
        diversity=diversity,
        deadline=deadline,
        seed=seed,
    )
    allowed = set(range(N_ITEMS if limit is None else limit)) - set(np.concatenate(hidden).tolist())
    answer = line.run(question)
    items = answer.items.tolist()
    assert set(items) <= allowed
    assert len(items) == len(set(items)) == min(k, len(allowed))
    assert len(answer.scores) == len(answer.propensity) == len(answer.sources) == len(items)
    assert np.isfinite(answer.scores).all()
    assert all(answer.sources)
    assert line.run(question).items.tolist() == items
    given = line.rank_list(question, np.array(pins, np.int64)).items.tolist()
    assert len(given) == len(set(given)) == min(k, len(set(pins) & allowed))
    assert set(given) <= set(pins) & allowed
    said = line.why(question, item)
    assert said[0].kept == (item in allowed)
    if deadline is None:
        assert said[-1].kept == (item in items)
