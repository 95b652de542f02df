"""Ranking metrics against hand cases and against ir-measures."""

import math

import ir_measures
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from ir_measures import AP, RR, P, R, Success, nDCG

from bowerbird.core import ConfigError
from bowerbird.evaluation.metrics import METRICS, beyond_accuracy, parse

ORACLE = {"recall": R, "precision": P, "hit": Success, "mrr": RR, "map": AP, "ndcg": nDCG}


def one(metric: str, hits: list[int], relevant: int, k: int) -> float:
    return METRICS[metric](torch.tensor([hits], dtype=torch.bool), torch.tensor([relevant]), k).item()


@pytest.mark.parametrize(
    ("metric", "expected"),
    [
        ("recall", 2 / 3),
        ("precision", 2 / 4),
        ("hit", 1.0),
        ("mrr", 1 / 2),
        ("map", (1 / 2 + 2 / 4) / 3),
        ("ndcg", (1 / math.log2(3) + 1 / math.log2(5)) / (1 + 1 / math.log2(3) + 1 / 2)),
    ],
)
def test_hits_at_places_two_and_four_of_three_targets_by_hand(metric: str, expected: float) -> None:
    assert one(metric, [0, 1, 0, 1, 1], relevant=3, k=4) == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("metric", METRICS)
def test_a_list_without_a_hit_is_worth_nothing(metric: str) -> None:
    assert one(metric, [0, 0, 0, 1], relevant=2, k=3) == 0.0


def test_precision_of_a_list_shorter_than_k_still_divides_by_k() -> None:
    assert one("precision", [1, 1], relevant=2, k=5) == pytest.approx(0.4)


def test_the_ideal_list_of_ndcg_has_no_more_than_k_hits() -> None:
    assert one("ndcg", [1, 1, 0], relevant=9, k=2) == pytest.approx(1.0)
    assert one("ndcg", [1, 0, 0], relevant=9, k=2) == pytest.approx(1 / (1 + 1 / math.log2(3)))


def test_recall_divides_by_all_targets_even_beyond_k() -> None:
    assert one("recall", [1, 1], relevant=8, k=2) == pytest.approx(0.25)


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("k", [1, 3, 10])
def test_random_lists_agree_with_ir_measures(metric: str, k: int) -> None:
    rng = np.random.default_rng(7)
    n_users, places, n_items = 60, 10, 25
    hits = torch.zeros(n_users, places, dtype=torch.bool)
    relevant = torch.zeros(n_users, dtype=torch.int64)
    judged, runs = [], []
    for user in range(n_users):
        length = int(rng.integers(1, places + 1))  # lists may be shorter than k
        ranked = rng.permutation(n_items)[:length]
        targets = rng.permutation(n_items)[: rng.integers(1, 16)]  # users may have more targets than k
        relevant[user] = len(targets)
        hits[user, :length] = torch.from_numpy(np.isin(ranked, targets))
        judged += [ir_measures.Qrel(str(user), str(item), 1) for item in targets]
        runs += [ir_measures.ScoredDoc(str(user), str(item), 100.0 - place) for place, item in enumerate(ranked)]
    oracle = ORACLE[metric] @ k
    expected = {int(row.query_id): row.value for row in ir_measures.iter_calc([oracle], judged, runs)}
    mine = METRICS[metric](hits, relevant, k)
    assert len(expected) == n_users
    assert mine.tolist() == pytest.approx([expected[user] for user in range(n_users)], abs=1e-6)


@given(relevant=st.integers(1, 12), k=st.integers(1, 12))
def test_ndcg_is_one_exactly_for_the_ideal_order(relevant: int, k: int) -> None:
    ideal = [1] * min(relevant, k) + [0] * (12 - min(relevant, k))
    assert one("ndcg", ideal, relevant, k) == pytest.approx(1.0)
    assert one("ndcg", [0, *ideal[:-1]], relevant, k) < 1.0 - 1e-6


@given(st.lists(st.booleans(), min_size=1, max_size=12), st.integers(0, 5), st.integers(1, 12))
def test_every_metric_lies_between_zero_and_one_and_is_positive_only_with_a_hit(
    hits: list[bool], missed: int, k: int
) -> None:
    relevant = max(sum(hits) + missed, 1)
    for metric in METRICS:
        value = one(metric, [int(hit) for hit in hits], relevant, k)
        assert 0.0 <= value <= 1.0 + 1e-6
        assert (value > 0) == any(hits[:k])


@given(st.lists(st.booleans(), min_size=2, max_size=10), st.data())
def test_moving_a_hit_up_never_lowers_a_metric(hits: list[bool], data: st.DataObject) -> None:
    place = data.draw(st.integers(1, len(hits) - 1))
    better = list(hits)
    if better[place] > better[place - 1]:
        better[place - 1], better[place] = better[place], better[place - 1]
    k, relevant = data.draw(st.integers(1, 10)), sum(hits) + 1
    for metric in METRICS:
        before, after = (one(metric, [int(hit) for hit in row], relevant, k) for row in (hits, better))
        assert after >= before - 1e-6


def test_parse_returns_name_and_depth() -> None:
    assert parse("ndcg@20") == ("ndcg", 20)


@pytest.mark.parametrize("wrong", ["ndcg", "ndcg@", "ndcg@0", "ndcg@-1", "ndcg@1.5", "ndcg@²", "auc@10", "@10"])
def test_what_is_not_a_metric_is_a_config_error_that_shows_the_form(wrong: str) -> None:
    with pytest.raises(ConfigError, match=r"such as ndcg@10") as error:
        parse(wrong)
    assert repr(wrong) in str(error.value)


def test_a_misspelt_metric_gets_the_closest_name() -> None:
    with pytest.raises(ConfigError, match='Did you mean "recall"'):
        parse("recal@5")


def test_a_metric_without_its_depth_is_not_corrected_to_itself() -> None:
    with pytest.raises(ConfigError) as error:
        parse("ndcg")
    assert "Did you mean" not in str(error.value)


def test_beyond_accuracy_by_hand() -> None:
    top = np.array([[0, 1], [0, -1]])  # item 0 twice, item 1 once, one empty place
    people = np.array([6, 1, 1, 0, 0])
    result = beyond_accuracy(top, people)
    assert result["coverage"] == pytest.approx(2 / 5)
    assert result["gini"] == pytest.approx((2 * 1 + 4 * 2) / (5 * 3))  # ascending 0 0 0 1 2, weights −4 −2 0 2 4
    assert result["novelty"] == pytest.approx((2 * -math.log2(6 / 8) + 3) / 3)
    assert result["popularity_share"] == pytest.approx(2 / 3)  # the head is item 0, the only one of 20 % of 5


def test_gini_is_zero_when_all_items_appear_alike() -> None:
    assert beyond_accuracy(np.arange(12).reshape(4, 3), np.ones(12))["gini"] == pytest.approx(0.0)


def test_gini_is_near_one_when_one_item_takes_every_place() -> None:
    result = beyond_accuracy(np.full((50, 1), 3), np.ones(200))
    assert result["gini"] == pytest.approx(199 / 200)
    assert result["coverage"] == pytest.approx(1 / 200)


def test_an_item_that_nobody_chose_counts_as_chosen_once_for_novelty() -> None:
    assert beyond_accuracy(np.array([[1]]), np.array([16, 0]))["novelty"] == pytest.approx(4.0)


def test_lists_without_any_item_cover_nothing() -> None:
    result = beyond_accuracy(np.full((3, 2), -1), np.array([2, 1, 1]))
    assert result == {"coverage": 0.0, "gini": 0.0, "novelty": 0.0, "popularity_share": 0.0}


@given(st.lists(st.integers(0, 40), min_size=2, max_size=30).filter(lambda counts: sum(counts) > 0))
def test_gini_agrees_with_the_mean_absolute_difference(counts: list[int]) -> None:
    top = np.repeat(np.arange(len(counts)), counts)[:, None]
    pairs = sum(abs(a - b) for a in counts for b in counts)
    expected = pairs / (2 * len(counts) * sum(counts))
    assert beyond_accuracy(top, np.ones(len(counts)))["gini"] == pytest.approx(expected, abs=1e-9)
