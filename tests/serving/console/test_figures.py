"""Figures of the console: what is made of Prometheus' text, shares with intervals, the flow of a trace, the front."""

from math import inf

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bowerbird.serving.console.figures import Sample, changes, flow, front, wilson
from bowerbird.serving.metrics import BUCKETS, Metrics


def counted(*requests: tuple[str, int, float]) -> str:
    metrics = Metrics()
    for route, status, seconds in requests:
        metrics.request("POST", route, status, seconds)
    return metrics.text().decode()


def test_only_lists_are_counted_as_lists() -> None:
    text = counted(
        ("/v1/recommendations", 200, 0.003), ("/v1/items/{item_id:path}/similar", 200, 0.001), ("/v1/status", 200, 0.3),
        ("/metrics", 200, 0.2), ("/v1/models", 500, 0.1), ("/v1/recommendations", 503, 0.001),
    )  # fmt: skip
    found = Sample.of(text, 0.0)
    assert (found.lists, found.failed) == (3, 1)  # to shed load is no failure


def test_a_quantile_lies_where_its_bucket_says() -> None:
    found = Sample.of(counted(*[("/v1/recommendations", 200, 0.003)] * 10), 0.0)
    assert found.quantile_ms(0.5) == pytest.approx(3.5)  # half way from 2 to 5 ms
    assert found.quantile_ms(1.0) == pytest.approx(5.0)
    assert Sample.of(counted(("/v1/recommendations", 200, 9.0)), 0.0).quantile_ms(0.99) == inf
    assert Sample.of(counted(), 0.0).quantile_ms(0.99) is None


@given(st.lists(st.floats(0.0, 4.9), min_size=1, max_size=30))
def test_a_quantile_is_in_the_bucket_of_the_true_one(seconds: list[float]) -> None:
    found = Sample.of(counted(*[("/v1/recommendations", 200, one) for one in seconds]), 0.0).quantile_ms(0.99)
    assert found is not None
    longest = max(seconds)
    bound = min(one for one in BUCKETS if longest <= one)
    assert found / 1000 <= bound + 1e-9


def test_what_came_since_is_the_difference_and_all_after_a_restart() -> None:
    first = Sample.of(counted(("/v1/recommendations", 200, 0.003)), 1.0)
    then = Sample.of(counted(*[("/v1/recommendations", 200, 0.003)] * 5), 3.0)
    gone = then.since(first)
    assert (gone.lists, gone.at) == (4, 2.0)
    assert gone.quantile_ms(0.5) == pytest.approx(3.5)
    assert first.since(then) == first


def test_a_share_of_one_in_eight_is_known_badly() -> None:
    low, high = wilson(1, 8) or (0, 0)
    assert (low, high) == (pytest.approx(0.0224, abs=1e-4), pytest.approx(0.4709, abs=1e-4))  # by the formula
    assert wilson(0, 0) is None


@given(st.integers(0, 500), st.integers(1, 500))
def test_an_interval_holds_its_share_and_stays_a_share(good: int, more: int) -> None:
    n = good + more
    low, high = wilson(good, n) or (1, 0)
    assert 0 <= low <= good / n <= high <= 1


def test_changes_are_places_gained_and_none_for_what_is_new() -> None:
    assert changes(["a", "b", "c"], ["c", "a", "d"]) == {"c": 2, "a": -1, "d": None}


TRACE = [
    {"stage": "filter", "candidates": 90, "ms": 0.1, "removed": {"seen": 8, "where": 2}},
    {"stage": "sources", "candidates": 40, "ms": 1.0, "found": {"model": 30, "popular": 20}},
    {"stage": "ranking", "candidates": 40, "ms": 0.5},
    {"stage": "reranking", "candidates": 10, "ms": 0.2},
    {"stage": "slate", "candidates": 10, "ms": 0.1},
]


def test_what_flows_in_flows_out_again() -> None:
    nodes, links = flow(TRACE, 100)
    for node in nodes:
        into = sum(n for _, b, n in links if b == node)
        out = sum(n for a, _, n in links if a == node)
        assert not into or not out or into == pytest.approx(out), node
    assert sum(n for a, _, n in links if a == "all:") == 100
    assert ("source:model", "candidates:", pytest.approx(24)) in links  # of 50 finds, 40 items: 30 count as 24
    assert ("reranking:", "slate:", 10) in links
    assert "ranking:" not in nodes  # it left as many


def test_a_flow_of_a_plain_answer_has_no_sources_and_no_names() -> None:
    plain = [{"stage": "filter", "candidates": 90, "ms": 0.1}, {"stage": "sources", "candidates": 5, "ms": 1.0}]
    nodes, links = flow(plain, 100)
    assert ("all:", "removed:", 10) in links
    assert ("allowed:", "candidates:", 5) in links
    assert all(n > 0 for _, _, n in links)
    assert len(nodes) == len(set(nodes))


def test_the_front_is_what_no_other_beats() -> None:
    models = [
        {"model": "slow", "value": 0.3, "ms": 9.0}, {"model": "quick", "value": 0.2, "ms": 1.0},
        {"model": "beaten", "value": 0.1, "ms": 2.0}, {"model": "level", "value": 0.2, "ms": 3.0},
    ]  # fmt: skip
    assert front(models, "ms") == ["quick", "slow"]
