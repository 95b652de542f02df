"""Re-ranking: boosts, freshness, diversity, caps and pins, by hand."""

from datetime import UTC, date, datetime

import numpy as np
import polars as pl
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import functional

from bowerbird.core import ConfigError
from bowerbird.pipeline.rerank import Cap, Rules, advantage, below, codes, pick, scaled, seconds
from bowerbird.pipeline.scenario import Boost, Freshness, Pin, Scenario

DAY_S = 86_400


def test_the_advantage_of_the_new_halves_with_each_half_life() -> None:
    published = np.array([10.0, 9.0, 8.0, 11.0, np.nan]) * DAY_S
    assert advantage(published, 10 * DAY_S, 1.0, 4.0).tolist() == [5.0, 3.0, 2.0, 5.0, 1.0]


def test_moments_of_any_kind_become_seconds() -> None:
    assert seconds(pl.Series("at", [5, None], dtype=pl.Int64)).tolist()[0] == 5.0
    assert np.isnan(seconds(pl.Series("at", [5, None], dtype=pl.Int64))[1])
    assert seconds(pl.Series("at", [datetime(1970, 1, 2, tzinfo=UTC)])).tolist() == [DAY_S]
    assert seconds(pl.Series("at", [date(1970, 1, 2)])).tolist() == [DAY_S]
    with pytest.raises(ConfigError, match="column at, of type String, which holds no moments"):
        seconds(pl.Series("at", ["yesterday"]))


def test_scores_above_zero_are_simply_multiplied() -> None:
    assert scaled(np.array([2.0, 1.0]), np.array([1.0, 3.0])).tolist() == [2.0, 3.0]


def test_a_factor_above_one_never_lowers_a_score_below_zero() -> None:
    # the lowest is -4: distances 4, 2 and 0 become 4, 6 and 0
    assert scaled(np.array([0.0, -2.0, -4.0]), np.array([1.0, 3.0, 3.0])).tolist() == [0.0, 2.0, -4.0]


@pytest.mark.parametrize("lowest", [-3.0, 0.5])
def test_what_follows_lies_below(lowest) -> None:
    scores = below(lowest, 5)
    assert scores[0] < lowest
    assert (np.diff(scores) < 0).all()


def test_without_rules_the_order_is_that_of_scores() -> None:
    assert pick(np.array([1.0, 3.0, 2.0]), 2).tolist() == [1, 2]


def test_maximal_marginal_relevance_by_hand() -> None:
    scores = np.array([3.0, 2.8, 1.0])
    likeness = np.array([[1.0, 0.9, 0.0], [0.9, 1.0, 0.0], [0.0, 0.0, 1.0]])
    # relevance is 1, 0.9 and 0; after the first, 0.6 · 0.9 - 0.4 · 0.9 = 0.18 stands against 0
    assert pick(scores, 3, likeness=likeness, diversity=0.4).tolist() == [0, 1, 2]
    # 0.4 · 0.9 - 0.6 · 0.9 = -0.18 against 0
    assert pick(scores, 3, likeness=likeness, diversity=0.6).tolist() == [0, 2, 1]


def test_equal_scores_are_told_apart_by_difference_alone() -> None:
    likeness = np.array([[1.0, 1.0, 0.0], [1.0, 1.0, 0.0], [0.0, 0.0, 1.0]])
    assert pick(np.ones(3), 3, likeness=likeness, diversity=0.2).tolist() == [0, 2, 1]


def test_caps_leave_out_what_is_too_much_of_one_kind_and_nothing_without_a_kind() -> None:
    cap = Cap(np.array([7, 7, 7, 8, -1, -1, -1]), 2)
    assert pick(np.arange(7, 0, -1), 7, caps=[cap]).tolist() == [0, 1, 3, 4, 5, 6]


def test_several_caps_hold_at_once() -> None:
    caps = [Cap(np.array([0, 0, 1, 1]), 1), Cap(np.array([5, 6, 5, 6]), 1)]
    assert pick(np.array([4.0, 3.0, 2.0, 1.0]), 4, caps=caps).tolist() == [0, 3]


def test_the_first_come_first_as_far_as_caps_allow() -> None:
    cap = Cap(np.array([1, 1, 1, 2]), 1)
    assert pick(np.array([0.0, 0.0, 9.0, 1.0]), 3, first=2, caps=[cap]).tolist() == [0, 3]


@given(
    scores=st.lists(st.integers(-5, 5), max_size=12),
    k=st.integers(0, 14),
    first=st.integers(0, 3),
    most=st.integers(1, 3),
    data=st.data(),
)
def test_a_pick_is_greedy_by_the_slow_way(scores, k, first, most, data) -> None:
    n = len(scores)
    first = min(first, n)
    kind = np.array(data.draw(st.lists(st.integers(-1, 2), min_size=n, max_size=n)), np.int64)
    unit = functional.normalize(torch.randn(n, 3, generator=torch.Generator().manual_seed(n)), dim=1)
    likeness, diversity = (unit @ unit.T).numpy(), 0.4
    value = np.array(scores, float)
    relevance = 0.6 * (value - value.min()) / (np.ptp(value) or 1.0) if n else value
    taken: list[int] = []

    def open_to(one: int) -> bool:
        full = kind[one] >= 0 and sum(kind[other] == kind[one] for other in taken) >= most
        return one not in taken and not full

    for one in range(first):
        if len(taken) < k and open_to(one):
            taken.append(one)
    while len(taken) < k and (left := [one for one in range(n) if open_to(one)]):
        near = {one: max((float(likeness[one, other]) for other in taken), default=-1.0) for one in left}
        taken.append(max(left, key=lambda one: (relevance[one] - 0.4 * near[one], -one)))
    caps = [Cap(kind, most)]
    found = pick(value, k, first=first, caps=caps, likeness=likeness, diversity=diversity).tolist()
    assert found == taken


def test_kinds_are_numbered_and_lists_are_refused() -> None:
    assert codes(pl.Series("genre", ["b", None, "a", "b"])).tolist() == [2, -1, 1, 2]
    assert codes(pl.Series("new", [True, False, True])).tolist() == [2, 1, 2]
    with pytest.raises(ConfigError, match="column tags, which holds lists"):
        codes(pl.Series("tags", [["a"], ["b", "c"]]))


ITEMS = pl.DataFrame({"item_id": [10, 11, 12], "price": [1.0, 5.0, 9.0], "published_at": [0, DAY_S, 2 * DAY_S]})


def nobody(_: object) -> np.ndarray:
    return np.zeros(0, np.int64)


def test_boosts_and_freshness_multiply() -> None:
    boosts = (Boost(where="item.price < 6", factor=3.0), Boost(where="item.price < 2", factor=0.5))
    fresh = Freshness(half_life_days=1.0, strength=1.0)
    rules = Rules(Scenario(name="shop", boosts=boosts, freshness=fresh), ITEMS)
    factor = rules.factor(np.array([2, 0, 1]), 2 * DAY_S, nobody)
    assert factor is not None
    assert factor.tolist() == [2.0, 1.5 * 1.25, 3.0 * 1.5]


def test_no_rule_changes_no_score() -> None:
    assert Rules(Scenario(name="shop"), ITEMS).factor(np.array([0]), 0, nobody) is None


def test_pins_hold_while_their_filter_does_and_an_item_has_one_place() -> None:
    pins = (
        Pin(item="12", position=3),
        Pin(item="12", position=2),
        Pin(item="11", position=4, where="item.price < 2"),
        Pin(item="10", position=1, where="item.price < 2"),
    )
    rules = Rules(Scenario(name="shop", pins=pins), ITEMS)
    assert rules.pins(10, 0, nobody) == {1: 0, 2: 2}
    assert rules.pins(1, 0, nobody) == {1: 0}


def test_what_the_table_lacks_is_named_and_has_no_effect() -> None:
    scenario = Scenario(
        name="shop", caps={"brand": 2}, freshness=Freshness(column="born"), pins=(Pin(item="x", position=1),)
    )
    rules = Rules(scenario, ITEMS)
    assert rules.missing == ("brand", "born", "item x")
    assert rules.caps(np.array([0])) == []
    assert rules.factor(np.array([0]), 0, nobody) is None
    assert rules.pins(3, 0, nobody) == {}


def test_a_filter_that_the_table_cannot_answer_is_refused_at_once() -> None:
    with pytest.raises(ConfigError, match="brand") as caught:
        Rules(Scenario(name="shop", where="item.brand == 1"), ITEMS)
    assert caught.match("scenario shop")


def test_a_filter_of_the_scenario_is_answered_once_a_second() -> None:
    rules = Rules(Scenario(name="shop", where="item.price < 6"), ITEMS)
    assert rules.where is not None
    mask = rules.own_mask(rules.where, 5, nobody)
    assert mask.tolist() == [True, True, False]
    assert rules.own_mask(rules.where, 5, nobody) is mask
    assert rules.own_mask(rules.where, 6, nobody) is not mask


def test_what_somebody_has_seen_is_asked_at_every_request() -> None:
    rules = Rules(Scenario(name="shop", where="not seen()"), ITEMS)
    assert rules.where is not None
    assert rules.own_mask(rules.where, 5, lambda _: np.array([1])).tolist() == [True, False, True]
    assert rules.own_mask(rules.where, 5, nobody).tolist() == [True, True, True]
