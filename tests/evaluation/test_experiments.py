"""Experiments: the split is even and sticky, and looking as often as one likes misleads no more often than is said."""

import math
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import chisquare

from bowerbird.evaluation.experiments import LEAST, Sums, allowed, arm_of, boundary, difference, sample_ratio

RUNS, LOOKS = 300, 60
Shown = Callable[[np.random.Generator, int], np.ndarray]


# ── the split ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_million_units_are_split_as_meant_to_a_thousandth() -> None:
    shares = [0.5, 0.25, 0.15, 0.1]
    arms = np.array([arm_of("salt", f"u{unit}", shares) for unit in range(1_000_000)])
    counts = np.bincount(arms, minlength=4)
    assert np.abs(counts / 1e6 - shares).max() < 1e-3
    assert sample_ratio(counts.tolist(), shares) > 0.01
    halves = np.bincount(arms[::2], minlength=4)  # of neighbouring ids too
    assert sample_ratio(halves.tolist(), shares) > 0.01


def test_a_unit_stays_in_its_arm_and_experiments_are_independent() -> None:
    shares = [0.5, 0.5]
    one, again, other = (
        np.array([arm_of(salt, f"u{unit}", shares) for unit in range(20_000)]) for salt in ("a", "a", "b")
    )
    assert (one == again).all()
    both = np.bincount(2 * one + other, minlength=4)
    assert sample_ratio(both.tolist(), [0.25] * 4) > 0.01


@given(st.text(max_size=20), st.lists(st.floats(0.01, 1.0), min_size=2, max_size=6))
def test_there_is_always_an_arm(unit: str, weights: list[float]) -> None:
    shares = [one / sum(weights) for one in weights]
    assert 0 <= arm_of("salt", unit.encode(errors="replace").decode(), shares) < len(shares)


@given(st.lists(st.integers(0, 10_000), min_size=2, max_size=5).filter(sum))
def test_the_sample_ratio_is_that_of_scipy(counts: list[int]) -> None:
    shares = np.arange(1.0, len(counts) + 1)
    shares /= shares.sum()
    meant = chisquare(counts, shares * sum(counts)).pvalue
    assert sample_ratio(counts, shares.tolist()) == pytest.approx(meant, abs=1e-9)


def test_a_split_that_lost_some_is_alarming_and_one_that_did_not_is_not() -> None:
    assert sample_ratio([50_200, 49_800], [0.5, 0.5]) > 0.1
    assert sample_ratio([50_000, 48_500], [0.5, 0.5]) < 0.001  # 3 % of an arm never arrived
    assert sample_ratio([0, 0], [0.5, 0.5]) == 1.0


# ── the difference ────────────────────────────────────────────────────────────────────────────────────────────────────


def test_two_arms_by_hand() -> None:
    arm, control = Sums(200, 60.0, 80.0), Sums(400, 80.0, 100.0)
    found = difference(arm, control)
    assert (arm.mean, control.mean) == (0.3, 0.2)
    assert arm.variance == pytest.approx((80 - 200 * 0.09) / 199)
    variance = arm.variance / 200 + control.variance / 400
    time = variance * (200 * 400 / 600) ** 2
    assert found.value == pytest.approx(0.1)
    assert found.high - found.value == pytest.approx(math.sqrt(variance) * boundary(time, 0.05, 250.0))
    assert found.verdict == "undecided"


def test_the_boundary_is_that_of_the_paper() -> None:
    """Howard et al. 2021, equation 14: |S| ≤ sqrt((v + ρ) log((v + ρ) / (ρ α²)))."""
    twice = -2 * math.log(0.05)
    rho = 250 / (twice + math.log1p(twice))
    for v in (1.0, 100.0, 1e5):
        meant = math.sqrt((v + rho) * math.log((v + rho) / (rho * 0.05**2)) / v)
        assert boundary(v, 0.05, 250.0) == pytest.approx(meant)
    near = min(np.geomspace(1, 1e5, 500), key=lambda rho_at: boundary(250.0, 0.05, rho_at))
    assert boundary(250.0, 0.05, 250.0) == pytest.approx(boundary(250.0, 0.05, near), rel=1e-3)
    assert boundary(250.0, 0.05, 250.0) == pytest.approx(3.03, abs=0.01)  # 1.96 for one look


def test_nothing_is_said_of_few_or_of_nothing() -> None:
    few, many = Sums(LEAST - 1, 50.0, 50.0), Sums(10_000, 50.0, 50.0)
    assert difference(few, many).verdict == difference(many, few).verdict == "undecided"
    nothing = Sums(10_000, 0.0, 0.0)
    assert (difference(nothing, nothing).low, difference(nothing, nothing).high) == (-math.inf, math.inf)
    assert difference(Sums(0, 0.0, 0.0), Sums(0, 0.0, 0.0)).value == 0.0


def looks(did: np.ndarray, arm: np.ndarray, n: np.ndarray) -> tuple[bool, bool]:
    """Return whether any look found a difference: by the sequence, and by a t-test that pretends to be the only one.

    `did` (looks, units) is what each did by each look, `arm` (units,) is 0 or 1, `n` (looks,) how many had come.
    """
    there = np.arange(len(arm)) < n[:, None]
    did, arms = did * there, np.stack([arm == 0, arm == 1], axis=1)
    counts, totals, squares = there @ arms.astype(float), did @ arms, did**2 @ arms
    always = naive = False
    for row in zip(counts.tolist(), totals.tolist(), squares.tolist(), strict=True):
        control, other = (Sums(int(count), total, square) for count, total, square in zip(*row, strict=True))
        always |= difference(other, control).verdict != "undecided"
        spread = math.sqrt(control.variance / control.n + other.variance / other.n)
        naive |= abs(other.mean - control.mean) > 1.96 * spread > 0
    return always, naive


def newcomers(rng: np.random.Generator, units: int) -> np.ndarray:
    """New units at every look, who do all that they will do at once; rare, and heavy-tailed."""
    rate = rng.gamma(0.5, 0.1, units)
    return np.tile(rng.poisson(rate), (LOOKS, 1))


def regulars(rng: np.random.Generator, units: int) -> np.ndarray:
    """The same units at all looks, who come back: some often, some seldom."""
    rate = rng.gamma(0.5, 0.6, units) / LOOKS
    return rng.poisson(rate, (LOOKS, units)).cumsum(axis=0)


def buyers(rng: np.random.Generator, units: int) -> np.ndarray:
    """The same units at all looks, who buy once or not at all: at last 30 % did."""
    return rng.random(units) < np.linspace(0.3 / LOOKS, 0.3, LOOKS)[:, None]


@pytest.mark.parametrize("shown", [newcomers, regulars, buyers])
def test_without_an_effect_few_experiments_ever_win_however_often_they_are_looked_at(shown: Shown) -> None:
    units = 3_000
    n = np.full(LOOKS, units) if shown is not newcomers else np.linspace(2 * LEAST + 60, units, LOOKS).astype(int)
    found = []
    for run in range(RUNS):
        rng = np.random.default_rng(run)
        found.append(looks(shown(rng, units).astype(float), rng.integers(0, 2, units), n))
    always, naive = np.mean(found, axis=0)
    assert always <= 0.05
    assert naive > 0.15  # the looks are many enough to mislead whoever may only look once


def test_an_effect_is_found_and_the_interval_holds_it() -> None:
    found = held = 0
    for run in range(100):
        rng = np.random.default_rng(run)
        arm = rng.random((2, 8_000)) < np.array([[0.10], [0.13]])
        control, other = (Sums(len(one), float(one.sum()), float(one.sum())) for one in arm)
        told = difference(other, control)
        found += told.verdict == "more"
        held += told.low <= 0.03 <= told.high
        assert difference(control, other).verdict != "more"
    assert found >= 95
    assert held >= 95


def test_a_loss_beyond_what_is_allowed_is_found_and_one_within_is_not() -> None:
    control = Sums(50_000, 5_000.0, 5_000.0)
    within, beyond = Sums(50_000, 4_850.0, 4_850.0), Sums(50_000, 4_000.0, 4_000.0)
    assert allowed(within, control, -0.05).verdict == "undecided"
    assert allowed(beyond, control, -0.05).verdict == "less"
    assert allowed(beyond, control, -0.5).verdict == "more"  # it kept more than a half
    assert allowed(Sums(50_000, 6_000.0, 6_000.0), control, 0.05).verdict == "more"  # where more is worse
