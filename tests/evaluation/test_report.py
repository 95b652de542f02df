"""What a report prints and keeps, and which reports may be compared."""

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from bowerbird.core import ConfigError
from bowerbird.data import Holdout
from bowerbird.evaluation import Report, compare, evaluate

Build = Callable[..., Any]
N_USERS, N_ITEMS = 200, 12


@pytest.fixture(scope="module")
def cut(holdout_of: Build) -> Holdout:
    """Users who saw one item each and later choose the next one."""
    past = [(user, user % N_ITEMS) for user in range(N_USERS)]
    return holdout_of(past, [(user, (item + 1) % N_ITEMS) for user, item in past])  # type: ignore[no-any-return]


@pytest.fixture(scope="module")
def good(cut: Holdout, fixed_scorer: Build) -> Report:
    user, item = np.arange(N_USERS)[:, None], np.arange(N_ITEMS)[None, :]
    noise = np.random.default_rng(0).random((N_USERS, N_ITEMS))
    return evaluate(fixed_scorer(noise + 0.5 * (item == (user + 1) % N_ITEMS), cut), cut, k=[3, 5])


@pytest.fixture(scope="module")
def chance(cut: Holdout, fixed_scorer: Build) -> Report:
    return evaluate(fixed_scorer(np.random.default_rng(1).random((N_USERS, N_ITEMS)), cut), cut, k=[3, 5])


def test_the_protocol_line_says_how_it_was_measured(good: Report) -> None:
    assert good.protocol == (
        f"split=by-hand part=test ranking=full masked=history k=5 users={N_USERS} (all) items={N_ITEMS} seed=0"
    )


def test_a_report_prints_its_protocol_and_every_metric_with_its_interval(good: Report) -> None:
    lines = str(good).splitlines()
    assert lines[0] == good.protocol
    assert len(lines) == 1 + len(good.metrics)
    low, high = good.intervals["ndcg@3"]
    row = next(line for line in lines if "ndcg@3" in line)
    assert f"{good.metrics['ndcg@3']:.4f}  [{low:.4f}, {high:.4f}]" in row
    assert "[" not in next(line for line in lines if "coverage@3" in line)


def test_a_report_becomes_json_and_comes_back(good: Report) -> None:
    kept = json.loads(json.dumps(good.to_dict()))
    assert kept["metrics"] == good.metrics
    assert kept["intervals"]["mrr@5"] == list(good.intervals["mrr@5"])
    assert (kept["users"], kept["items"], kept["protocol"]) == (N_USERS, N_ITEMS, good.protocol)


def test_intervals_can_be_left_out(cut: Holdout, fixed_scorer: Build) -> None:
    report = evaluate(fixed_scorer(np.zeros((N_USERS, N_ITEMS)), cut), cut, intervals=False)
    assert report.intervals == {}
    assert "[" not in str(report)


def test_chosen_metrics_are_the_only_columns(cut: Holdout, fixed_scorer: Build) -> None:
    report = evaluate(fixed_scorer(np.zeros((N_USERS, N_ITEMS)), cut), cut, metrics=["recall@7", "mrr@2"])
    assert report.per_user.columns == ["user_id", "recall@7", "mrr@2"]
    assert set(report.intervals) == {"recall@7", "mrr@2"}


def test_a_better_scorer_is_called_better_and_the_other_worse(good: Report, chance: Report) -> None:
    forth = {one.metric: one for one in compare(good, chance)}
    back = {one.metric: one for one in compare(chance, good)}
    assert set(forth) == set(good.intervals)
    assert forth["ndcg@5"].verdict == "better"
    assert back["ndcg@5"].verdict == "worse"
    assert forth["ndcg@5"].mean == pytest.approx(good.metrics["ndcg@5"] - chance.metrics["ndcg@5"])


def test_a_report_is_level_with_itself(good: Report) -> None:
    assert [(one.verdict, one.p, one.mean) for one in compare(good, good, metrics=["mrr@3"])] == [("level", 1.0, 0.0)]


def test_comparing_more_metrics_raises_each_p(good: Report, chance: Report) -> None:
    alone = compare(good, chance, metrics=["ndcg@3"])[0].p
    among = {one.metric: one.p for one in compare(good, chance)}["ndcg@3"]
    assert among == pytest.approx(12 * alone)  # all twelve are at the smallest p there is


def test_reports_of_different_protocols_are_refused(good: Report, cut: Holdout, fixed_scorer: Build) -> None:
    sampled = evaluate(fixed_scorer(np.zeros((N_USERS, N_ITEMS)), cut), cut, k=[3, 5], sampled=4)
    with pytest.raises(ConfigError, match=r"these reports cannot be compared: .*full.* is not .*uniform-4"):
        compare(good, sampled)


def test_reports_of_different_users_are_refused(good: Report) -> None:
    other = replace(good, per_user=good.per_user.reverse())
    with pytest.raises(ConfigError, match="cannot be compared"):
        compare(good, other)


@pytest.mark.parametrize("metrics", [None, ["ndcg@3"], ["ndcg@99"]])
def test_a_metric_that_only_one_report_has_is_a_config_error(
    good: Report, cut: Holdout, fixed_scorer: Build, metrics: list[str] | None
) -> None:
    shallow = evaluate(fixed_scorer(np.zeros((N_USERS, N_ITEMS)), cut), cut, k=5)
    with pytest.raises(ConfigError, match="must be in both reports, which share ndcg@5, "):
        compare(good, shallow, metrics=metrics)
