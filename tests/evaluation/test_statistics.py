"""Intervals cover the truth as often as they say; paired tests and Holm's correction."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bowerbird.core import numpy_stream
from bowerbird.evaluation.statistics import Difference, holm, interval, paired, resampled_means


def test_intervals_cover_the_true_mean_about_95_times_in_100() -> None:
    world, rng = np.random.default_rng(1), numpy_stream(0, "bootstrap")
    covered = 0
    for _ in range(600):
        low, high = interval(world.normal(3.0, 2.0, 100), rng, draws=400)
        covered += low <= 3.0 <= high
    assert 0.92 <= covered / 600 <= 0.975  # the standard error is 0.009; percentile intervals are a little short


def test_an_interval_has_the_width_of_the_normal_one_on_many_users() -> None:
    values = np.random.default_rng(2).normal(0.0, 1.0, 4000)
    low, high = interval(values, numpy_stream(0, "bootstrap"), draws=2000)
    assert high - low == pytest.approx(2 * 1.96 * values.std() / np.sqrt(4000), rel=0.08)
    assert low < values.mean() < high


def test_the_interval_of_equal_values_has_no_width() -> None:
    assert interval(np.full(20, 0.25), numpy_stream(0, "bootstrap")) == (0.25, 0.25)


def test_one_seed_gives_one_interval_and_another_seed_another() -> None:
    values = np.random.default_rng(3).random(50)
    first, again, other = (interval(values, numpy_stream(seed, "bootstrap")) for seed in (0, 0, 1))
    assert first == again != other


def test_resampling_in_blocks_returns_every_draw(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bowerbird.evaluation.statistics.BLOCK", 25)
    means = resampled_means(np.arange(10.0), 7, np.random.default_rng(0))
    assert means.shape == (7,)
    assert len(np.unique(means)) > 1


def test_identical_models_are_level_with_p_one() -> None:
    same = np.random.default_rng(4).random(80)
    result = paired("ndcg@10", same, same.copy(), numpy_stream(0, "compare"))
    assert (result.verdict, result.p, result.mean, result.low, result.high) == ("level", 1.0, 0.0, 0.0, 0.0)


def test_a_clear_gain_is_better_and_its_mirror_image_worse() -> None:
    rng = np.random.default_rng(5)
    base = rng.random(300)
    gain = base + 0.1 + rng.normal(0, 0.1, 300)
    up, down = (paired("m", *pair, numpy_stream(0, "compare")) for pair in ((gain, base), (base, gain)))
    assert (up.verdict, down.verdict) == ("better", "worse")
    assert up.low < 0.1 < up.high
    assert up.mean == pytest.approx(-down.mean)
    assert up.p == pytest.approx(1e-4)  # never 0: one over the number of draws


def test_pairing_sees_a_small_gain_that_users_differences_would_hide() -> None:
    rng = np.random.default_rng(6)
    base = rng.normal(0, 10, 200)
    assert paired("m", base + rng.normal(0.1, 0.2, 200), base, numpy_stream(0, "compare")).verdict == "better"


def test_without_a_difference_five_in_a_hundred_tests_are_below_five_percent() -> None:
    world, rng = np.random.default_rng(7), numpy_stream(0, "compare")
    found = sum(paired("m", *world.normal(size=(2, 100)), rng, draws=400).p < 0.05 for _ in range(600))
    assert 0.025 <= found / 600 <= 0.085


@pytest.mark.parametrize(
    ("low", "high", "p", "verdict"),
    [(0.1, 0.3, 0.01, "better"), (-0.3, -0.1, 0.01, "worse"), (-0.1, 0.3, 0.01, "level"), (0.1, 0.3, 0.05, "level")],
)
def test_a_verdict_needs_both_the_interval_and_p(low: float, high: float, p: float, verdict: str) -> None:
    assert Difference("m", (low + high) / 2, low, high, p).verdict == verdict


def test_holm_by_hand() -> None:
    p_values = [0.04, 0.01, 0.03, 0.5]
    corrected = holm([Difference(str(p), 0.1, 0.0, 0.2, p) for p in p_values])
    # sorted 0.01·4, 0.03·3, 0.04·2 (raised to the 0.09 before it), 0.5·1
    assert [one.p for one in corrected] == pytest.approx([0.09, 0.04, 0.09, 0.5])
    assert [one.metric for one in corrected] == ["0.04", "0.01", "0.03", "0.5"]


@given(st.lists(st.floats(0, 1), min_size=1, max_size=8))
def test_holm_never_lowers_p_never_exceeds_one_and_keeps_the_order(p_values: list[float]) -> None:
    corrected = [one.p for one in holm([Difference("m", 0.0, 0.0, 0.0, p) for p in p_values])]
    assert all(before <= after <= 1.0 for before, after in zip(p_values, corrected, strict=True))
    order = np.argsort(p_values, kind="stable")
    assert (np.diff(np.array(corrected)[order]) >= 0).all()
    assert corrected[order[0]] == pytest.approx(min(1.0, min(p_values) * len(p_values)))
