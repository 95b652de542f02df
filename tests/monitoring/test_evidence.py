"""The tests of two windows: worked out by hand, and against what their p-values promise."""

import numpy as np
import polars as pl
import pytest
from scipy import stats

from bowerbird.evaluation.statistics import corrected
from bowerbird.monitoring.evidence import (
    OTHERS,
    Cells,
    calibration,
    chi_square,
    kolmogorov_smirnov,
    moved_most,
    range_cells,
    unseen,
    value_cells,
    welch,
)


def test_psi_by_hand() -> None:
    cells = Cells(["a", "b"], np.array([49.5, 49.5]), np.array([79.5, 19.5]))
    # half a row is added to each: 0.5 and 0.5 beside 0.8 and 0.2
    assert cells.psi == pytest.approx(0.3 * np.log(1.6) + -0.3 * np.log(0.4))
    assert cells.most == "b went from 50.0% to 19.7% of the rows"


def test_chi_square_by_hand() -> None:
    # expected 20 and 20 of each: Σ (10 - 0.5)² / 20 over four cells is 18.05
    assert chi_square(Cells(["a", "b"], np.array([30.0, 10]), np.array([10.0, 30]))) == pytest.approx(
        stats.chi2.sf(18.05, 1)
    )


def test_holm_by_hand() -> None:
    assert corrected([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert corrected([]) == []


def test_unseen_by_hand() -> None:
    # of 4 + 4 shuffled rows of which two hold "x", both are in now with chance 4/8 * 3/7
    before, now = pl.Series(["a", "a", "a", "a"]), pl.Series(["x", "x", "a", "a"])
    rows, p = unseen(before, now)
    assert rows == 2
    assert 3 / 14 <= p <= 1


def test_unseen_promises_no_more_than_it_keeps() -> None:
    rng = np.random.default_rng(0)
    found = []
    for _ in range(300):
        values = pl.Series(rng.zipf(1.3, 1_500).clip(max=10**6))
        found.append(unseen(values[:1_000], values[1_000:])[1])
    assert np.mean(np.array(found) < 0.05) <= 0.05
    before = pl.Series(rng.integers(0, 20, 1_000))
    assert unseen(before, pl.concat([before[:480], pl.Series([99] * 20)]))[1] < 1e-6


def test_cells_of_rare_values_are_taken_together() -> None:
    before = pl.Series("n", ["a"] * 90 + [f"x{place}" for place in range(10)])
    cells = value_cells(before, before)
    assert cells.names == ['"a"', OTHERS]
    assert cells.before.tolist() == cells.now.tolist() == [90, 10]
    assert cells.psi == 0


def test_ranges_are_tenths_of_the_reference() -> None:
    cells = range_cells(np.arange(100.0), np.arange(50.0, 150.0))
    assert cells.before.tolist() == [10] * 10
    assert cells.now.tolist() == [0] * 5 + [10] * 4 + [60]
    assert cells.most.startswith("what is above 89.1 went from 10.0% to 60.0%")


def test_calibration_is_of_the_change_and_not_of_the_level() -> None:
    rng = np.random.default_rng(0)
    predicted = rng.random(5_000)
    off, worse = (rng.random(5_000) < predicted * share for share in (0.8, 0.4))
    alike = rng.random(5_000) < predicted * 0.8
    assert calibration((predicted, off), (predicted, alike)).p > 0.01
    found = calibration((predicted, off), (predicted, worse))
    assert found.p < 1e-6
    assert found.most.startswith("where it says above 0.")


def test_the_slice_that_moved_is_named() -> None:
    before = pl.DataFrame({"n": [0.0, 1.0] * 100, "sum": ["a", "a", "b", "b"] * 50})
    now = before.with_columns(pl.when(pl.col("sum") == "b").then(0.0).otherwise("n").alias("n"))
    assert moved_most(before, now, "n", ("sum",)) == 'most where sum is "b" (0.5 → 0)'
    assert moved_most(before, now, "n", ()) == ""
    assert moved_most(before[:4], now[:4], "n", ("sum",)) == ""


def test_what_has_nothing_to_compare_is_quiet() -> None:
    one, none = np.ones(50), np.zeros(0)
    assert welch(one, 2 * one) < 1e-6  # neither varies, and they differ
    assert kolmogorov_smirnov(one, none) == welch(one, none) == welch(one, one) == 1
    assert chi_square(Cells(["a"], np.array([5.0]), np.array([9.0]))) == 1
    assert chi_square(Cells(["a", "b"], np.zeros(2), np.array([5.0, 5]))) == 1
    assert unseen(pl.Series(["a"]), pl.Series(["a"])) == (0, 1.0)
