"""Candidates and their estimates, paired tests and how many more users, the front and the pick: by hand."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import bowerbird.models  # noqa: F401
from bowerbird.core import ConfigError, lookup
from bowerbird.evaluation import Difference
from bowerbird.models.baselines import ease
from bowerbird.models.baselines.ease import EASEConfig
from bowerbird.models.baselines.popularity import PopularityConfig
from bowerbird.selection import advice
from bowerbird.selection.candidates import Candidate, Sizes, candidates, estimate, scaled
from bowerbird.selection.front import Place, cost, front, pick
from bowerbird.selection.judging import Judge, needed
from bowerbird.selection.measure import Measured, lines_of
from bowerbird.selection.profile import Profile
from bowerbird.selection.race import Limits, Trial, shares_of

PLAIN = Profile(
    task="retrieval", events=1_000, users=100, items=50, asked=90, density=0.2, length=10.0, longest=40, repeats=0.0,
    drift=0.0, cold_users=0.0, cold_items=0.0, timed=True, ordered=True, kinds=("watch",), relations=(),
    user_columns=(), item_columns=(), row_columns=(), content=(), positive=None, protocol="split=temporal",
)  # fmt: skip
SIZES = Sizes(events=100_000, users=1_000, items=2_000, asked=500, squares=2e7)


def names(one: Profile) -> set[str]:
    return {each.name for each in candidates(one)[0]}


def why(one: Profile, model: str) -> str:
    return next(each.why for each in candidates(one)[1] if each.model == model)


def test_candidates_are_chosen_by_tags_and_data() -> None:
    plain = names(PLAIN)
    assert {"ease", "itemknn", "lightgcn", "sasrec"} <= plain
    assert plain.isdisjoint({"deepfm", "vbpr", "crossmodal", "twotower", "hetero"})
    assert {"vbpr", "crossmodal"} <= names(replace(PLAIN, content=("text",)))
    assert "twotower" in names(replace(PLAIN, user_columns=("age",)))
    assert "hetero" in names(replace(PLAIN, relations=("friend",)))
    assert "sasrec" not in names(replace(PLAIN, ordered=False))
    assert "no later events" in why(replace(PLAIN, ordered=False), "sasrec")
    assert "10 GB for 50,001" in why(replace(PLAIN, items=50_001), "ease")


def test_rows_are_for_rankers() -> None:
    rows = replace(PLAIN, task="ranking", kinds=("click",))
    assert {"logistic", "deepfm", "dcnv2"} <= names(rows)
    assert names(rows).isdisjoint({"ease", "mmoe", "din"})
    assert "mmoe" in names(replace(rows, kinds=("click", "buy")))


def test_models_that_do_not_suit_and_spaces_that_name_nothing_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"no model suits these data\. deepfm"):
        candidates(PLAIN, models=["deepfm"])
    with pytest.raises(ConfigError, match="space of ease is 'l3'"):
        candidates(PLAIN, models=["ease"], space={"ease": {"l3": [1.0]}})


def test_estimates_grow_with_what_they_depend_on() -> None:
    for one in candidates(replace(PLAIN, content=("text",)))[0]:
        small = estimate(one, one.config, SIZES, 3e10)
        large = estimate(one, one.config, replace(SIZES, events=400_000, items=8_000, squares=8e7), 3e10)
        assert 0 < small.seconds < large.seconds, one.name
        assert 0 < small.mb <= large.mb, one.name
        assert small.ms <= large.ms, one.name


def test_the_estimate_of_ease_by_hand() -> None:
    cost = estimate(Candidate(lookup("ease"), EASEConfig()), EASEConfig(), SIZES, 1e10)
    assert cost.mb == pytest.approx(16)  # 2,000 squared numbers of four bytes
    assert cost.seconds == pytest.approx(2_000**3 * 1.4 / 1e10 + 0.04)
    assert scaled(cost, cost, replace(cost, seconds=2 * cost.seconds)).seconds == pytest.approx(2 * cost.seconds)


def test_parts_of_a_race() -> None:
    assert shares_of(9_000) == [1.0]
    assert shares_of(400_000) == [0.25, 1.0]
    assert shares_of(500_000) == [1 / 16, 0.25, 1.0]


# ── how sure ──────────────────────────────────────────────────────────────────────────────────────────────────────


def test_how_many_users_would_tell_by_hand() -> None:
    # an interval of ±0.0196 is a standard error of 0.01 over 100 users; 0.01 is found with (1.96 + 0.8416)² as many
    assert needed(Difference("ndcg@10", 0.01, -0.0096, 0.0296, 0.3), 100) == 785
    assert needed(Difference("ndcg@10", 0.0, -0.01, 0.01, 1.0), 100) is None


def test_so_many_users_do_tell() -> None:
    rng = np.random.default_rng(0)
    gaps = rng.normal(0.02, 0.2, 150)
    n = needed(Judge().difference(gaps, np.zeros(150)), 150)
    assert n is not None
    mean, sd = float(gaps.mean()), float(gaps.std())
    draws = [Judge(seed=seed).difference(rng.normal(mean, sd, n), np.zeros(n)) for seed in range(60)]
    assert 0.6 < np.mean([one.verdict == "better" for one in draws]) < 0.95  # 0.8 is meant


def test_rows_are_judged_by_their_auc() -> None:
    label = np.array([0, 1, 0, 1, np.nan] * 40, np.float32)
    good, bad = np.where(label == 1, 0.9, 0.1), np.full(len(label), 0.5)
    judge = Judge(label=label)
    assert judge.n(good) == 160
    assert judge.difference(good, bad).mean == pytest.approx(0.5)
    assert judge.difference(good, bad).verdict == "better"
    assert judge.interval(good) == (1.0, 1.0)
    assert (judge.metric, judge.who, Judge(label=label, user=np.zeros(200)).who) == ("auc", "rows", "users")


def test_a_loss_of_auc_is_a_share_of_what_is_above_a_half() -> None:
    behind = Judge(label=np.array([0, 1] * 40)).difference(np.tile([0.0, 1.0], 40), np.full(80, 0.5))
    place = Place(trial("logistic", [0.5], 1, 1, 1), 0, 1, behind, "", 0.5)
    assert behind.mean == pytest.approx(0.5)
    assert place.loss == pytest.approx(1.0)


# ── the front ─────────────────────────────────────────────────────────────────────────────────────────────────────


def trial(model: str, values: Sequence[float] | np.ndarray, seconds: float, ms: float, mb: float) -> Trial:
    config = EASEConfig() if model == "ease" else PopularityConfig()
    measured = Measured(
        value=float(np.mean(values)), seconds=seconds, ms=ms, ms_high=2 * ms, mb=mb, peak_mb=2 * mb, epochs=0,
        packages=(), cut=False,
    )  # fmt: skip
    return Trial(model, config, 1.0, measured, np.asarray(values, float), True, 0)


@pytest.fixture
def people() -> np.ndarray:
    found = np.random.default_rng(0).random(400)
    return found - found.mean() + 0.5


def test_the_front_by_hand(people: np.ndarray) -> None:
    noise = np.random.default_rng(1).normal(0, 0.2, 400)
    noise -= noise.mean()
    trials = [
        trial("ease", people + 0.1, 100, 1, 400),  # the best, at a price
        trial("itemknn", people, 2, 1, 10),
        trial("mf", people + noise + 0.0005, 50, 1, 10),  # a little better by chance alone, and dearer
        trial("popularity", people - 0.3, 1, 1, 1),
        trial("spectral", people - 0.1, 3, 1, 20),  # beaten in all
    ]
    places = {one.trial.model: one for one in front(trials, Judge())}
    assert {name for name, one in places.items() if one.on_front} == {"ease", "itemknn", "popularity"}
    assert places["mf"].beaten_by == "itemknn"
    assert places["spectral"].beaten_by == "itemknn"
    assert places["ease"].behind is None
    assert not places["itemknn"].level


def test_the_pick_is_the_best_or_much_cheaper_and_hardly_worse(people: np.ndarray) -> None:
    dear, near, far = (trial(name, values, *costs) for name, values, costs in (
        ("ease", people + 0.5, (100, 5, 400)), ("itemknn", people + 0.497, (2, 1, 10)), ("mf", people + 0.4, (1, 1, 1))
    ))  # fmt: skip
    assert pick(front([dear, near, far], Judge())).trial is near  # 0.3 % for a tenth of the costs
    assert pick(front([dear, far], Judge())).trial is dear
    alike = trial("itemknn", people + 0.497, 90, 5, 390)
    assert pick(front([dear, alike], Judge())).trial is dear  # as dear, and worse


def test_the_pick_never_gives_up_more_than_is_said(people: np.ndarray) -> None:
    rng = np.random.default_rng(2)
    for _ in range(20):
        trials = [trial(name, people + rng.normal(0, 0.1, 400), *10 ** rng.uniform(-1, 3, 3)) for name in "abcd"]
        places = front(trials, Judge())
        taken = pick(places)
        assert taken.loss <= 0.01
        assert taken is places[0] or cost(taken.trial) <= cost(places[0].trial)


def test_words_say_gain_price_and_doubt(people: np.ndarray) -> None:
    mine, other = trial("ease", people, 1, 1, 1), trial("mf", people + 0.01, 1, 1, 9)
    a, b = Place(mine, 0, 1, None, ""), Place(other, 0, 1, None, "")
    sure = advice.beside(a, b, Difference("ndcg@10", 0.01, 0.005, 0.015, 0.001), "ndcg@10", 400, "users")
    assert sure == "mf gains 2.0% NDCG@10 for 9 times the memory (paired difference +0.0050 to +0.0150)."
    unsure = advice.beside(a, b, Difference("ndcg@10", 0.01, -0.01, 0.03, 0.3), "ndcg@10", 400, "users")
    assert "400 users cannot tell the two apart" in unsure
    assert "about 2,900 more users" in unsure  # 400 · (2.8016 · 0.0102 / 0.01)² less the 400, two digits


def test_small_data_are_called_small(people: np.ndarray) -> None:
    noise = np.random.default_rng(3).normal(0.01, 0.3, 400)
    places = front([trial("ease", people + noise, 1, 1, 1), trial("mf", people, 1, 1, 1)], Judge())
    assert "too small to tell ease and mf apart: 400 users" in advice.small(places, 400, "users")
    clear = front([trial("ease", people + 0.5, 1, 1, 1), trial("mf", people, 1, 1, 1)], Judge())
    assert advice.small(clear, 400, "users") == ""


def test_growth_is_foreseen() -> None:
    one = Candidate(lookup("ease"), EASEConfig())
    taken = Place(trial("ease", [0.5], 1, 1, 16.0), 0, 1, None, "")
    limits = Limits(60.0, memory_mb=64.0)
    [said] = advice._as_it_grows(one, EASEConfig(), limits, SIZES, 3e10, taken)
    assert said.startswith(("Beyond about 4,0", "Beyond about 4,1"))  # 64 MB are 4,000 squared
    assert "64 MB" in said


def test_lines_of_a_model_are_those_of_its_file() -> None:
    assert lines_of(lookup("ease")) == len(Path(ease.__file__).read_text().splitlines())
