"""Metrics of click models against hand cases, slow versions and scikit-learn; intervals that cover the truth."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import norm
from sklearn.calibration import calibration_curve
from sklearn.metrics import average_precision_score, roc_auc_score
from sklearn.metrics import log_loss as sklearn_log_loss

from bowerbird.core import ConfigError, DataError, ScoreError, numpy_stream
from bowerbird.evaluation.binary import (
    RESAMPLED,
    auc,
    auc_pulls,
    average_precision,
    calibration,
    expected_calibration_error,
    grouped_auc,
    intervals,
    log_loss,
    normalised_entropy,
    paired_difference,
)

Sample = tuple[np.ndarray, np.ndarray, np.ndarray]

# rows of label, probability (of few values, so that many tie) and weight (also 0)
rows = st.lists(
    st.tuples(st.integers(0, 1), st.sampled_from([0.05, 0.2, 0.5, 0.8]) | st.floats(1e-6, 1 - 1e-6), st.integers(0, 3)),
    min_size=1,
    max_size=40,
)


def columns(found: list[tuple[int, float, int]]) -> Sample:
    label, probability, weight = (np.array(column, dtype=np.float64) for column in zip(*found, strict=True))
    return label, probability, weight


def world(seed: int, n: int, n_users: int, *, spread: float = 0.0) -> Sample:
    """Return labels, probabilities and users; `spread` makes rows of a user alike in what the probability misses."""
    rng = np.random.default_rng(seed)
    user = rng.integers(0, n_users, n)
    known, hidden = rng.normal(size=n), spread * rng.normal(size=n_users)[user]
    label = rng.random(n) < 1 / (1 + np.exp(-known - hidden))
    return label.astype(np.float32), 1 / (1 + np.exp(-known)), user


@given(rows)
def test_auc_agrees_with_scikit_learn_under_ties_and_weights(found: list[tuple[int, float, int]]) -> None:
    label, score, weight = columns(found)
    if label.min() == label.max():
        assert math.isnan(auc(label, score))
        return
    assert auc(label, score) == pytest.approx(roc_auc_score(label, score), abs=1e-12)
    if min((weight * label).sum(), (weight * (1 - label)).sum()) > 0:
        assert auc(label, score, weight) == pytest.approx(roc_auc_score(label, score, sample_weight=weight), abs=1e-12)
        repeats = weight.astype(int)
        assert auc(label, score, weight) == pytest.approx(auc(label.repeat(repeats), score.repeat(repeats)), abs=1e-12)


@given(rows)
def test_average_precision_agrees_with_scikit_learn_under_ties(found: list[tuple[int, float, int]]) -> None:
    label, score, _ = columns(found)
    if not label.any():
        assert math.isnan(average_precision(label, score))
        return
    assert average_precision(label, score) == pytest.approx(average_precision_score(label, score), abs=1e-12)


@given(rows)
def test_log_loss_agrees_with_scikit_learn_under_weights(found: list[tuple[int, float, int]]) -> None:
    label, probability, weight = columns(found)
    expected = sklearn_log_loss(label, probability, labels=[0, 1])
    assert log_loss(label, probability) == pytest.approx(expected, rel=1e-9)
    if weight.any():
        expected = sklearn_log_loss(label, probability, labels=[0, 1], sample_weight=weight)
        assert log_loss(label, probability, weight) == pytest.approx(expected, rel=1e-9)


@given(st.permutations(range(40)), st.integers(2, 8))
def test_calibration_agrees_with_scikit_learn_where_bins_are_even(order: list[int], bins: int) -> None:
    n = 40 // bins * bins
    probability = (np.array(order)[:n] + 0.5) / 40
    label = (np.arange(n) % 3 == 0).astype(float)
    curve = calibration(label, probability, bins)
    observed, predicted = calibration_curve(label, probability, n_bins=bins, strategy="quantile")
    assert curve["observed"].to_numpy() == pytest.approx(observed)
    assert curve["predicted"].to_numpy() == pytest.approx(predicted)
    assert curve["rows"].to_list() == [n // bins] * bins


@given(rows, st.integers(1, 12), st.randoms())
def test_calibration_keeps_every_row_whatever_their_order(
    found: list[tuple[int, float, int]], bins: int, random: Any
) -> None:
    label, probability, _ = columns(found)
    curve = calibration(label, probability, bins)
    assert curve["rows"].sum() == len(label)
    assert curve["rows"] @ curve["observed"] == pytest.approx(label.sum())
    assert curve["rows"] @ curve["predicted"] == pytest.approx(probability.sum())
    assert curve["predicted"].is_sorted()
    random.shuffle(found)
    shuffled = calibration(*columns(found)[:2], bins)
    assert curve["rows"].equals(shuffled["rows"])
    assert curve["observed"].to_numpy() == pytest.approx(shuffled["observed"].to_numpy())


@given(rows, st.integers(1, 5))
def test_grouped_auc_agrees_with_a_loop_over_groups(found: list[tuple[int, float, int]], n_groups: int) -> None:
    label, score, _ = columns(found)
    group = np.arange(len(label)) * 7 % n_groups * 10 - 5  # ids with gaps, negative ones too
    total = covered = 0.0
    for one in np.unique(group):
        mine = group == one
        if 0 < label[mine].mean() < 1:
            total += mine.sum() * roc_auc_score(label[mine], score[mine])
            covered += mine.sum()
    value, share = grouped_auc(label, score, group)
    assert share == pytest.approx(covered / len(label))
    assert value == pytest.approx(total / covered if covered else math.nan, nan_ok=True)


def test_auc_by_hand() -> None:
    # of 2 × 2 pairs: 0.9 beats both, 0.4 beats 0.1 and ties with 0.4
    assert auc(np.array([1, 1, 0, 0]), np.array([0.9, 0.4, 0.4, 0.1])) == 3.5 / 4
    # the tied negative counts three times: (2·(1 + 3) + 1·(1 + 3/2)) / (3 · 4)
    weight = np.array([2.0, 1.0, 3.0, 1.0])
    assert auc(np.array([1, 1, 0, 0]), np.array([0.9, 0.4, 0.4, 0.1]), weight) == pytest.approx(10.5 / 12)


def test_infinite_scores_have_their_place_in_the_order() -> None:
    assert auc(np.array([1, 0, 0]), np.array([np.inf, 0.0, -np.inf])) == 1.0


def test_auc_is_one_minus_itself_when_scores_are_turned_round() -> None:
    label, score, _ = world(0, 500, 5)
    assert auc(label, -score) == pytest.approx(1 - auc(label, score))


def test_average_precision_by_hand() -> None:
    # thresholds 0.9 (1 of 1), 0.5 (both tied rows enter: 2 of 3): (1 + 2/3) / 2
    assert average_precision(np.array([1, 0, 1, 0]), np.array([0.9, 0.5, 0.5, 0.1])) == pytest.approx((1 + 2 / 3) / 2)


def test_log_loss_and_normalised_entropy_by_hand() -> None:
    label, probability = np.array([1, 0, 0, 0]), np.array([0.5, 0.5, 0.2, 0.2])
    loss = -(2 * math.log(0.5) + 2 * math.log(0.8)) / 4
    assert log_loss(label, probability) == pytest.approx(loss)
    entropy = -(0.25 * math.log(0.25) + 0.75 * math.log(0.75))
    assert normalised_entropy(label, probability) == pytest.approx(loss / entropy)


def test_predicting_the_base_rate_has_normalised_entropy_one_and_no_calibration_error() -> None:
    label = np.array([1.0, 0.0, 0.0, 0.0, 0.0])
    same = np.full(5, 0.2)
    assert normalised_entropy(label, same) == pytest.approx(1.0)
    assert expected_calibration_error(label, same) == pytest.approx(0.0)


def test_normalised_entropy_of_one_class_is_nan() -> None:
    assert math.isnan(normalised_entropy(np.ones(3), np.full(3, 0.9)))
    assert math.isnan(normalised_entropy(np.zeros(3), np.full(3, 0.1)))


@pytest.mark.parametrize(
    ("kind", "cost"), [(np.float32, -math.log(np.finfo(np.float32).eps)), (np.float64, -math.log(1e-15)), (int, 34.54)]
)
def test_a_certain_and_wrong_row_costs_what_its_precision_allows(kind: type, cost: float) -> None:
    assert log_loss(np.array([1, 0]), np.array([0, 1], dtype=kind)) == pytest.approx(cost, abs=0.1)
    assert log_loss(np.array([0, 1]), np.array([0, 1], dtype=kind)) == pytest.approx(0.0, abs=1e-6)


def test_calibration_and_its_error_by_hand() -> None:
    label = np.array([0, 1, 1, 1])
    probability = np.array([0.1, 0.3, 0.6, 0.8])
    curve = calibration(label, probability, bins=2)
    assert curve.rows() == [(pytest.approx(0.2), 0.5, 2), (pytest.approx(0.7), 1.0, 2)]
    assert expected_calibration_error(label, probability, bins=2) == pytest.approx((0.3 + 0.3) / 2)


def test_ties_go_whole_into_the_bin_of_their_middle() -> None:
    # ranks 1 to 3 tie, their middle is in the lower half; a cut by row number would split them after rank 2
    curve = calibration(np.array([1, 0, 0, 1]), np.array([0.2, 0.2, 0.2, 0.9]), bins=2)
    assert curve["rows"].to_list() == [3, 1]
    # and here ranks 2 to 4, their middle in the upper half
    assert calibration(np.array([0, 1, 1, 0]), np.array([0.1, 0.9, 0.9, 0.9]), bins=2)["rows"].to_list() == [1, 3]
    assert calibration(np.ones(4), np.full(4, 0.9), bins=10)["rows"].to_list() == [4]


def test_grouped_auc_by_hand() -> None:
    label = np.array([1, 0, 0, 1, 0, 1, 1])
    score = np.array([0.9, 0.5, 0.1, 0.2, 0.8, 0.7, 0.6])
    user = np.array(["a", "a", "a", "b", "b", "c", "c"])
    # a: 1.0 of 3 rows, b: 0.0 of 2, c has no negative
    assert grouped_auc(label, score, user) == (pytest.approx(3 / 5), pytest.approx(5 / 7))


def test_grouped_auc_without_a_mixed_group_is_nan_and_covers_nothing() -> None:
    value, share = grouped_auc(np.array([1, 0]), np.array([0.3, 0.4]), np.array([0, 1]))
    assert math.isnan(value)
    assert share == 0.0


class Picks:
    """A random generator that draws what it is told."""

    def __init__(self, picks: list[int]) -> None:
        self.picks = picks

    def integers(self, low: int, high: int, size: tuple[int, int]) -> np.ndarray:
        assert size == (1, len(self.picks))
        assert low <= min(self.picks) <= max(self.picks) < high
        return np.array([self.picks])


OBVIOUS: dict[str, Callable[[np.ndarray, np.ndarray, np.ndarray], float]] = {
    "auc": lambda label, probability, user: auc(label, probability),
    "logloss": lambda label, probability, user: log_loss(label, probability),
    "ne": lambda label, probability, user: normalised_entropy(label, probability),
    "pr_auc": lambda label, probability, user: average_precision(label, probability),
    "gauc": lambda label, probability, user: grouped_auc(label, probability, user)[0],
}


@given(st.lists(st.integers(0, 5), min_size=6, max_size=6), st.integers(0, 50))
@settings(max_examples=60)
def test_a_resample_is_the_metric_of_the_rows_of_the_users_drawn(picks: list[int], seed: int) -> None:
    label, probability, user = world(seed, 60, 6)
    user[:6] = np.arange(6)
    label[user == 0] = 1  # a user of one class
    probability = probability.round(1)  # ties
    found = intervals(label, probability, probability, user, list(RESAMPLED), Picks(picks), resamples=1)  # type: ignore[arg-type]
    drawn = np.concatenate([np.flatnonzero(user == one) for one in picks])
    assert set(found) == set(OBVIOUS) == set(RESAMPLED)
    for name, (low, high) in found.items():
        expected = OBVIOUS[name](label[drawn], probability[drawn], user[drawn])
        assert (low, high) == (pytest.approx(expected, nan_ok=True), pytest.approx(expected, nan_ok=True))


def test_intervals_cover_the_true_auc_about_95_times_in_100() -> None:
    truth, rng = norm.cdf(1 / math.sqrt(2)), numpy_stream(0, "bootstrap")
    chance = np.random.default_rng(1)
    covered = 0
    for _ in range(400):
        label = (np.arange(150) < 60).astype(float)
        score = norm.cdf(chance.normal(size=150) + label)
        low, high = intervals(label, score, score, None, ["auc"], rng, resamples=300)["auc"]
        covered += low <= truth <= high
    assert 0.915 <= covered / 400 <= 0.98  # the standard error is 0.011; percentile intervals are a little short


def test_intervals_by_user_are_wider_where_rows_of_a_user_are_alike() -> None:
    label, probability, user = world(2, 3000, 40, spread=2.0)
    wide, narrow = (
        intervals(label, probability, probability, cluster, ["auc", "logloss"], numpy_stream(0, "bootstrap"))
        for cluster in (user, None)
    )
    for name, value in {"auc": auc(label, probability), "logloss": log_loss(label, probability)}.items():
        assert wide[name][0] < value < wide[name][1]
        assert np.ptp(wide[name]) > 1.5 * np.ptp(narrow[name])


def test_an_interval_for_log_loss_has_the_width_of_the_normal_one() -> None:
    label, probability, _ = world(3, 4000, 5)
    loss = -np.where(label == 1, np.log(probability), np.log1p(-probability))
    low, high = intervals(label, probability, probability, None, ["logloss"], numpy_stream(0, "b"), resamples=1000)[
        "logloss"
    ]
    assert high - low == pytest.approx(2 * 1.96 * loss.std() / math.sqrt(4000), rel=0.1)


def test_resampling_in_blocks_draws_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    label, probability, user = world(4, 200, 20)
    at_once = intervals(label, probability, probability, user, ["auc", "gauc"], numpy_stream(0, "b"), resamples=25)
    monkeypatch.setattr("bowerbird.evaluation.binary.BLOCK", 700)  # three resamples at a time, and one left over
    assert intervals(label, probability, probability, user, ["auc", "gauc"], numpy_stream(0, "b"), resamples=25) == (
        at_once
    )


def test_the_interval_of_a_metric_that_does_not_exist_is_nan() -> None:
    label, probability = np.ones(5), np.full(5, 0.9)
    found = intervals(label, probability, probability, None, ["auc", "ne", "logloss"], numpy_stream(0, "b"))
    assert all(math.isnan(end) for name in ("auc", "ne") for end in found[name])
    assert found["logloss"] == (pytest.approx(-math.log(0.9)), pytest.approx(-math.log(0.9)))


def test_a_better_model_is_better_in_metrics_that_rise_and_in_those_that_fall() -> None:
    label, good, user = world(5, 3000, 100)
    noise = np.random.default_rng(0).normal(size=3000)
    poor = 1 / (1 + np.exp(-np.log(good / (1 - good)) - noise))
    for metric in RESAMPLED:
        up, down = (
            paired_difference(label, *pair, user, metric, numpy_stream(0, "compare"), resamples=300)
            for pair in ((good, poor), (poor, good))
        )
        assert (up.metric, up.verdict, down.verdict) == (metric, "better", "worse")
        assert up.low < up.mean < up.high
        assert (up.mean, up.p) == (-down.mean, pytest.approx(1 / 300))
    gain = paired_difference(label, good, poor, user, "logloss", numpy_stream(0, "compare"), resamples=10)
    assert gain.mean == pytest.approx(log_loss(label, poor) - log_loss(label, good))


def test_identical_models_are_level() -> None:
    label, probability, user = world(6, 300, 10)
    found = paired_difference(label, probability, probability.copy(), user, "auc", numpy_stream(0, "compare"))
    assert (found.verdict, found.p, found.mean, found.low, found.high) == ("level", 1.0, 0.0, 0.0, 0.0)


def test_pairing_sees_a_gain_that_two_intervals_would_hide() -> None:
    label, good, _ = world(7, 1500, 5)
    worse = 1 / (1 + np.exp(-np.log(good / (1 - good)) - 0.35 * np.random.default_rng(0).normal(size=1500)))
    (low, _), (_, high) = (
        intervals(label, one, one, None, ["logloss"], numpy_stream(0, "b"))["logloss"] for one in (worse, good)
    )
    assert low < high
    found = paired_difference(label, good, worse, None, "logloss", numpy_stream(0, "compare"))
    assert found.verdict == "better"


def test_without_a_difference_about_five_in_a_hundred_tests_are_below_five_percent() -> None:
    chance, rng = np.random.default_rng(8), numpy_stream(0, "compare")
    found = 0
    for _ in range(300):
        label = (np.arange(120) < 50).astype(float)
        a, b = norm.cdf(chance.normal(size=(2, 120)) + label)
        found += paired_difference(label, a, b, None, "auc", rng, resamples=200).p < 0.05
    assert 0.02 <= found / 300 <= 0.1


def test_a_difference_that_does_not_exist_is_level() -> None:
    found = paired_difference(np.ones(4), np.full(4, 0.9), np.full(4, 0.8), None, "auc", numpy_stream(0, "compare"))
    assert (found.verdict, found.p, math.isnan(found.mean)) == ("level", 1.0, True)


HALF = np.full(3, 0.5)


@pytest.mark.parametrize("metric", [auc, average_precision, log_loss, normalised_entropy, calibration])
def test_labels_that_are_not_0_or_1_are_counted_and_the_first_named(metric: Callable[..., Any]) -> None:
    with pytest.raises(DataError, match=r"2 of 3 labels are neither 0 nor 1 \(first: row 2, 4\.0\)\. Turn ratings"):
        metric(np.array([1.0, 4.0, np.nan]), HALF)


@pytest.mark.parametrize("metric", [auc, average_precision, log_loss, normalised_entropy, calibration])
def test_shapes_that_differ_are_shown(metric: Callable[..., Any]) -> None:
    with pytest.raises(DataError, match=r"has shape \(3,\); \(2,\) is needed, a value for each label"):
        metric(np.array([1, 0]), HALF)
    with pytest.raises(DataError, match=r"labels have shape \(0,\); \(N,\) is needed, with at least one row"):
        metric(np.array([]), np.array([]))


@pytest.mark.parametrize("bad", [1.5, -0.1, math.nan, math.inf])
@pytest.mark.parametrize("metric", [log_loss, normalised_entropy, calibration, expected_calibration_error])
def test_what_is_no_probability_is_counted_and_the_first_named(metric: Callable[..., Any], bad: float) -> None:
    with pytest.raises(ScoreError, match=r"1 of 3 probabilities are not from 0 to 1 \(first: row 3, .+\)\. Give the"):
        metric(np.array([1, 0, 0]), np.array([0.5, 0.5, bad]))


def test_scores_that_are_nan_are_counted() -> None:
    with pytest.raises(ScoreError, match=r"2 of 3 scores are not numbers \(first: row 2\)\. Train the model again\."):
        auc(np.array([1, 0, 0]), np.array([0.5, math.nan, math.nan]))


@pytest.mark.parametrize("bad", [-1.0, math.nan, math.inf])
def test_weights_that_weigh_nothing_sensible_are_refused(bad: float) -> None:
    with pytest.raises(DataError, match=r"1 of 3 weights are negative or not finite \(first: row 1, .+\)\. Give 0"):
        log_loss(np.array([1, 0, 0]), HALF, np.array([bad, 1.0, 1.0]))
    with pytest.raises(DataError, match="weight has shape"):
        auc(np.array([1, 0, 0]), HALF, np.ones(2))


def test_groups_and_clusters_need_a_value_for_each_row() -> None:
    label = np.array([1, 0, 0])
    with pytest.raises(DataError, match=r"group has shape \(2,\); \(3,\) is needed"):
        grouped_auc(label, HALF, np.zeros(2))
    with pytest.raises(DataError, match=r"cluster has shape \(2,\); \(3,\) is needed"):
        intervals(label, HALF, HALF, np.zeros(2), ["auc"], numpy_stream(0, "b"))


def test_options_that_cannot_be_are_answered_with_ones_that_can() -> None:
    label, rng = np.array([1, 0, 0]), numpy_stream(0, "b")
    with pytest.raises(ConfigError, match=r"bins is 0; it must be 1 or more\. Try bins = 10"):
        calibration(label, HALF, bins=0)
    with pytest.raises(ConfigError, match=r"resamples is 0; it must be 1 or more\. Try resamples = 500"):
        intervals(label, HALF, HALF, None, ["auc"], rng, resamples=0)
    with pytest.raises(ConfigError, match=r"metric is 'log_loss'; it must be one of auc, logloss, .+ Try metric = log"):
        intervals(label, HALF, HALF, None, ["log_loss"], rng)
    with pytest.raises(ConfigError, match="metric is 'gauc'; it needs the users as clusters"):
        paired_difference(label, HALF, HALF, None, "gauc", rng)


def test_pulls_are_how_fast_the_auc_changes_with_weights() -> None:
    rng = np.random.default_rng(0)
    label, score = rng.integers(0, 2, 60).astype(float), rng.integers(0, 9, 60) / 9  # with ties
    user = rng.integers(0, 12, 60)
    value, pulls = auc_pulls(label, score, user)
    assert value == pytest.approx(auc(label, score))
    for one in range(12):
        weight = 1.0 + 1e-6 * (user == one)
        assert pulls[one] == pytest.approx((auc(label, score, weight) - value) / 1e-6, abs=1e-6)
    assert auc_pulls(label, score)[1].sum() == pytest.approx(0)
    assert np.isnan(auc_pulls(np.ones(3), score[:3])[0])


def test_pulls_sum_to_the_interval_of_a_bootstrap() -> None:
    rng = np.random.default_rng(1)
    label, user = rng.integers(0, 2, 4_000).astype(float), rng.integers(0, 400, 4_000)
    taste = rng.normal(size=400)[user]
    one, other = (norm.cdf(label * lift + taste + rng.normal(size=4_000)) for lift in (0.8, 0.6))
    (a, its), (b, others) = (auc_pulls(label, score, user) for score in (one, other))
    low, high = intervals(label, one, one, user, ["auc"], rng)["auc"]
    assert 2 * 1.96 * np.linalg.norm(its) == pytest.approx(high - low, rel=0.1)
    paired = paired_difference(label, one, other, user, "auc", rng)
    assert a - b == pytest.approx(paired.mean)
    assert 2 * 1.96 * np.linalg.norm(its - others) == pytest.approx(paired.high - paired.low, rel=0.1)
