"""What a report on labelled rows prints and keeps, its slices, and which reports may be compared."""

import json
import math
from dataclasses import replace

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bowerbird.core import ConfigError, DataError, ScoreError
from bowerbird.data import Rows
from bowerbird.evaluation import RowReport, compare_rows, evaluate_rows
from bowerbird.evaluation.binary import auc, expected_calibration_error, grouped_auc, log_loss

N, N_USERS = 1200, 60


def sigmoid(logit: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-logit))


@pytest.fixture(scope="module")
def logit() -> np.ndarray:
    return np.random.default_rng(0).normal(size=(N, 2))


@pytest.fixture(scope="module")
def funnel(logit: np.ndarray) -> Rows:
    """Return views with two labels, the second unknown for every third row."""
    rng = np.random.default_rng(1)
    labels = (rng.random((N, 2)) < sigmoid(logit - [0.0, 1.0])).astype(np.float32)
    labels[::3, 1] = np.nan
    table = pl.DataFrame({"page": rng.choice(["home", "cart", "other"], N), "price": np.arange(N) % 30})
    return Rows(table, labels, ("click", "cart"), user=rng.integers(0, N_USERS, N).astype(np.int32))


@pytest.fixture(scope="module")
def clicks(funnel: Rows) -> Rows:
    return replace(funnel, labels=funnel.labels[:, :1], tasks=("click",))


@pytest.fixture(scope="module")
def report(clicks: Rows, logit: np.ndarray) -> RowReport:
    return evaluate_rows(sigmoid(logit[:, :1]), clicks, slices=["page"], protocol="split=by-hand", part="valid", seed=3)


def test_the_protocol_line_says_how_it_was_measured(report: RowReport, clicks: Rows, logit: np.ndarray) -> None:
    assert report.protocol == f"split=by-hand part=valid rows={N} tasks=click users={N_USERS} seed=3"
    plain = evaluate_rows(sigmoid(logit[:, :1]), replace(clicks, user=None), intervals=False)
    assert plain.protocol == f"rows={N} tasks=click seed=0"


def test_one_task_has_plain_names_and_each_metric_its_value(report: RowReport, clicks: Rows, logit: np.ndarray) -> None:
    label, probability = clicks.labels[:, 0], sigmoid(logit[:, 0])
    names = ["auc", "logloss", "ne", "pr_auc", "gauc", "gauc_share", "ece", "base_rate"]
    assert list(report.metrics) == names
    assert list(report.intervals) == ["auc", "logloss", "ne", "pr_auc", "gauc"]
    assert report.metrics["auc"] == auc(label, probability)
    assert report.metrics["logloss"] == log_loss(label, probability)
    assert (report.metrics["gauc"], report.metrics["gauc_share"]) == grouped_auc(label, probability, clicks.user)
    assert report.metrics["ece"] == expected_calibration_error(label, probability)
    assert report.metrics["base_rate"] == pytest.approx(label.mean())
    assert all(low < report.metrics[name] < high for name, (low, high) in report.intervals.items())


def test_several_tasks_have_names_of_their_own_and_only_the_rows_that_have_their_label(
    funnel: Rows, logit: np.ndarray
) -> None:
    probability = sigmoid(logit - [0.0, 1.0])
    found = evaluate_rows(probability, funnel, slices=["page"])
    known = ~np.isnan(funnel.labels[:, 1])
    assert found.metrics["click.auc"] == auc(funnel.labels[:, 0], probability[:, 0])
    assert found.metrics["cart.auc"] == auc(funnel.labels[known, 1], probability[known, 1])
    assert found.metrics["cart.logloss"] == log_loss(funnel.labels[known, 1], probability[known, 1])
    assert set(found.intervals) < set(found.metrics)
    assert {task: curve["rows"].sum() for task, curve in found.calibration.items()} == {"click": N, "cart": known.sum()}
    assert dict(found.slices.group_by("task").agg(pl.col("rows").sum()).iter_rows()) == {
        "click": N,
        "cart": known.sum(),
    }
    assert found.protocol == f"rows={N} tasks=click,cart users={N_USERS} seed=0"


def test_without_users_there_is_no_grouped_auc(clicks: Rows, logit: np.ndarray) -> None:
    found = evaluate_rows(sigmoid(logit[:, :1]), replace(clicks, user=None))
    assert not {"gauc", "gauc_share"} & set(found.metrics)
    assert list(found.intervals) == ["auc", "logloss", "ne", "pr_auc"]


def test_a_report_prints_its_protocol_and_every_metric_with_its_interval(report: RowReport) -> None:
    lines = str(report).splitlines()
    assert lines[0] == report.protocol
    assert len(lines) == 1 + len(report.metrics)
    low, high = report.intervals["auc"]
    assert f"{report.metrics['auc']:.4f}  [{low:.4f}, {high:.4f}]" in lines[1]
    assert "[" not in next(line for line in lines if "base_rate" in line)


def test_a_report_becomes_json_and_comes_back_without_its_rows(report: RowReport) -> None:
    kept = json.loads(json.dumps(report.to_dict(), allow_nan=False))
    assert kept["metrics"] == report.metrics
    assert kept["intervals"]["auc"] == list(report.intervals["auc"])
    assert (kept["rows"], kept["protocol"]) == (N, report.protocol)
    assert pl.DataFrame(kept["calibration"]["click"]).equals(report.calibration["click"])
    assert pl.DataFrame(kept["slices"], schema=report.slices.schema).equals(report.slices)
    assert not {"probability", "label", "user"} & set(kept)


def test_a_metric_that_does_not_exist_is_null_in_json() -> None:
    rows = Rows(pl.DataFrame({"page": ["a", "b"]}), np.ones((2, 1), np.float32), ("click",))
    found = evaluate_rows(np.full((2, 1), 0.9), rows, slices=["page"])
    assert math.isnan(found.metrics["auc"])
    kept = json.loads(json.dumps(found.to_dict(), allow_nan=False))
    assert (kept["metrics"]["auc"], kept["intervals"]["auc"]) == (None, [None, None])
    assert [one["auc"] for one in kept["slices"]] == [None, None]


def test_slices_by_hand() -> None:
    table = pl.DataFrame({"page": ["a", "a", "b", "a", None, "b"]})
    labels = np.array([[1, 0, 1, 0, 1, np.nan]], np.float32).T
    probability = np.array([[0.9, 0.2, 0.5, 0.95, 0.5, 0.5]]).T
    found = evaluate_rows(probability, Rows(table, labels, ("click",)), slices=["page"], intervals=False)
    loss = -(math.log(0.9) + math.log(0.8) + math.log(0.05)) / 3
    half = pytest.approx(math.log(2))
    assert found.slices.rows() == [
        ("click", "page", "a", 3, 0.5, pytest.approx(loss)),
        ("click", "page", "b", 1, None, half),
        ("click", "page", None, 1, None, half),
    ]


def test_the_commonest_values_are_slices_and_the_rest_is_one(clicks: Rows, logit: np.ndarray) -> None:
    probability = sigmoid(logit[:, :1])
    found = evaluate_rows(probability, clicks, slices=["price", "page"], intervals=False).slices
    price = found.filter(column="price")
    assert price["value"].to_list() == [*sorted(map(str, range(30)))[:20], "other"]  # all are equally common
    assert price["rows"].to_list() == [N // 30] * 20 + [N // 3]
    rest = ~clicks.table["price"].cast(pl.String).is_in(price["value"].to_list()).to_numpy()
    expected = auc(clicks.labels[rest, 0], probability[rest, 0])
    assert price["auc"].last() == expected
    page = found.filter(column="page")
    assert set(page["value"]) == {"home", "cart", "other"}  # this time a value of the column
    assert page["rows"].sum() == N


@given(st.lists(st.sampled_from(["a", "b", None, *map(str, range(30))]), min_size=1, max_size=200))
def test_slices_of_a_column_share_out_all_rows(values: list[str | None]) -> None:
    n = len(values)
    labels = (np.arange(n) % 2).astype(np.float32)[:, None]
    rows = Rows(pl.DataFrame({"len": pl.Series(values, dtype=pl.String)}), labels, ("click",))
    found = evaluate_rows(np.full((n, 1), 0.25), rows, slices=["len"], intervals=False)
    assert found.slices["rows"].sum() == n
    assert found.slices.height == min(len(set(values)), 21)
    assert found.slices["logloss"] @ found.slices["rows"] / n == pytest.approx(found.metrics["logloss"])


def test_without_slices_the_frame_is_empty_and_has_its_columns(clicks: Rows, logit: np.ndarray) -> None:
    found = evaluate_rows(sigmoid(logit[:, :1]), clicks, intervals=False)
    assert found.slices.columns == ["task", "column", "value", "rows", "auc", "logloss"]
    assert found.slices.height == 0
    assert found.intervals == {}


def test_one_seed_gives_one_report_and_another_seed_other_intervals(clicks: Rows, logit: np.ndarray) -> None:
    first, again, other = (evaluate_rows(sigmoid(logit[:, :1]), clicks, seed=seed) for seed in (0, 0, 1))
    assert first.to_dict() == again.to_dict()
    assert first.metrics == other.metrics
    assert first.intervals["auc"] != other.intervals["auc"]


def test_the_better_of_two_models_is_found_in_either_order(funnel: Rows, logit: np.ndarray) -> None:
    noise = np.random.default_rng(2).normal(size=(N, 2))
    good, poor = (evaluate_rows(sigmoid(one), funnel, intervals=False) for one in (logit, logit + [1.0, 0.0] * noise))
    found = {one.metric: one for one in compare_rows(good, poor)}
    assert list(found) == ["click.auc", "click.logloss", "cart.auc", "cart.logloss"]
    assert [one.verdict for one in found.values()] == ["better", "better", "level", "level"]
    assert found["click.auc"].mean == pytest.approx(good.metrics["click.auc"] - poor.metrics["click.auc"])
    assert found["click.logloss"].mean == pytest.approx(poor.metrics["click.logloss"] - good.metrics["click.logloss"])
    assert found["click.auc"].p == pytest.approx(0.004)  # Holm: four tests, and the least p of one is 0.001
    assert [one.verdict for one in compare_rows(poor, good, metrics=["click.gauc", "click.ne"])] == ["worse", "worse"]


def test_reports_of_other_rows_cannot_be_compared(report: RowReport) -> None:
    with pytest.raises(ConfigError, match=r"these reports cannot be compared: 'split=by-hand .+' is not 'split=other'"):
        compare_rows(report, replace(report, protocol="split=other"))
    for other in (replace(report, label=1 - report.label), replace(report, user=None)):
        with pytest.raises(ConfigError, match=r"their labels or users differ\. Evaluate both on one table"):
            compare_rows(report, other)


def test_a_metric_that_is_not_tested_is_answered_with_those_that_are(report: RowReport) -> None:
    rule = r"metrics is 'log_loss'; it must be one of auc, logloss, ne, pr_auc, gauc\. Try metrics = logloss"
    with pytest.raises(ConfigError, match=rule):
        compare_rows(report, report, metrics=["log_loss"])
    with pytest.raises(ConfigError, match=r"it must be one of auc, logloss, ne, pr_auc\."):
        compare_rows(replace(report, user=None), replace(report, user=None), metrics=["gauc"])


def test_shapes_that_differ_are_shown(funnel: Rows) -> None:
    with pytest.raises(DataError, match=rf"probability has shape \({N},\); \({N}, 2\) \(rows, tasks\) is needed"):
        evaluate_rows(np.full(N, 0.5), funnel)


def test_what_is_wrong_with_a_task_is_said_with_its_name_and_the_callers_row(funnel: Rows) -> None:
    half = np.full((N, 2), 0.5)
    labels = funnel.labels.copy()
    labels[4, 1] = 5
    with pytest.raises(
        DataError, match=rf"1 of {N:,} labels are neither 0 nor 1 \(first: row 5, 5\.0\).+\(task \"cart"
    ):
        evaluate_rows(half, replace(funnel, labels=labels))
    labels[:, 1] = np.nan
    with pytest.raises(DataError, match=rf'task "cart": none of {N:,} rows has a label\. Leave the task out\.'):
        evaluate_rows(half, replace(funnel, labels=labels))
    half[3, 1] = np.nan  # a row without this label: a score that is no number is wrong all the same
    with pytest.raises(ScoreError, match=rf"1 of {N:,} probabilities are not from 0 to 1 \(first: row 4, nan\).+cart"):
        evaluate_rows(half, funnel)


def test_a_slice_that_is_no_column_or_holds_lists_is_refused(clicks: Rows) -> None:
    half = np.full((N, 1), 0.5)
    with pytest.raises(
        ConfigError, match=r'slices: there is no column "pages"\. Did you mean "page"\? It has: page, p'
    ):
        evaluate_rows(half, clicks, slices=["pages"])
    bags = replace(clicks, table=pl.DataFrame({"genres": [["a"]] * N}))
    with pytest.raises(ConfigError, match=r'slices: column "genres" holds List\(String\); numbers or texts are needed'):
        evaluate_rows(half, bags, slices=["genres"])
