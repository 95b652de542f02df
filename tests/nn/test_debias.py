"""Inverse propensities as weights: against an obvious loop, clipped, of pairs and of rows, and what is refused."""

from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bowerbird.core import ConfigError, DataError, build
from bowerbird.core.ids import Ids
from bowerbird.data import EventType, Interactions
from bowerbird.models.baselines.mf import MFConfig
from bowerbird.models.ranking.fm import FMConfig
from bowerbird.nn.debias import Debias, inverse, popularity

CHANCES = st.lists(st.floats(1e-3, 1.0), min_size=1, max_size=30)


def table(*chances: Any) -> pl.DataFrame:
    return pl.DataFrame({"propensity": chances}, strict=False)


def events(chances: list[float] | None) -> Interactions:
    """Seven events: user 0 likes item 2 twice, and takes item 1 back."""
    users, items, kinds = [0, 0, 0, 1, 1, 0, 2], [2, 1, 2, 0, 2, 1, 2], [0, 0, 0, 0, 0, 1, 0]
    return Interactions(
        user=np.array(users, np.int32), item=np.array(items, np.int32), weight=np.ones(7, np.float32),
        event=np.array(kinds, np.uint8), time=None, user_ids=Ids.of(range(3)), item_ids=Ids.of(range(3)),
        events=(EventType("like"), EventType("dislike", sign="negative")),
        extra=None if chances is None else table(*chances),
    )  # fmt: skip


@given(CHANCES, st.floats(1.0, 20.0))
def test_weights_are_clipped_inverses_of_mean_one(chances: list[float], clip: float) -> None:
    raw = [1 / one for one in chances]
    most = clip * sum(raw) / len(raw)
    cut = [min(one, most) for one in raw]
    expected = [one / (sum(cut) / len(cut)) for one in cut]
    found = Debias(debias="given", debias_clip=clip).row_weights(None, table(*chances))
    assert found is not None
    assert found == pytest.approx(expected, rel=1e-5)
    assert found.mean() == pytest.approx(1.0, rel=1e-5)


def test_clipping_is_in_means_of_what_was_there_before() -> None:
    rare = np.array([0.5, 0.5, 0.5, 0.01])  # inverses 2, 2, 2, 100: of mean 26.5
    assert inverse(rare, 2.0) == pytest.approx(np.array([2, 2, 2, 53]) / 14.75)
    assert inverse(rare, 10.0) == pytest.approx(np.array([2, 2, 2, 100]) / 26.5)
    assert inverse(rare, 1.0)[3] == pytest.approx(26.5 / 8.125)


@given(st.lists(st.integers(0, 5), min_size=1, max_size=40), st.sampled_from([0.0, 0.5, 1.0, 2.0]))
def test_popularity_is_a_power_of_the_share_of_the_most_popular(items: list[int], power: float) -> None:
    most = max(items.count(one) for one in items)
    expected = [(items.count(one) / most) ** power for one in items]
    assert popularity(np.array(items), power) == pytest.approx(expected)


def test_pairs_weigh_by_their_people_and_by_their_likeliest_event() -> None:
    log = events([0.1, 0.9, 0.4, 0.5, 0.2, 0.9, 0.8])
    pairs = log.positives
    assert list(zip(pairs.user.tolist(), pairs.item.tolist(), strict=True)) == [(0, 2), (1, 0), (1, 2), (2, 2)]
    told = MFConfig(debias="given", debias_clip=100.0).pair_weights(log)
    raw = np.array([1 / 0.4, 1 / 0.5, 1 / 0.2, 1 / 0.8])
    assert told == pytest.approx(raw / raw.mean())
    counted = MFConfig(debias="popularity", debias_power=1.0, debias_clip=100.0).pair_weights(log)
    raw = np.array([1.0, 3.0, 1.0, 1.0])  # item 2 has three people, item 0 one
    assert counted == pytest.approx(raw / raw.mean())
    assert MFConfig().pair_weights(log) is None


@pytest.mark.parametrize("bad", [0.0, -0.1, 1.5, float("nan"), None, "much"])
def test_what_is_no_chance_is_refused_with_its_row(bad: Any) -> None:
    chances = table(0.5, 0.5, "0.25") if isinstance(bad, str) else table(0.5, 0.5, 0.25)
    chances[2, "propensity"] = bad
    with pytest.raises(DataError, match=r'"propensity": 1 of 3 weighed rows are no chance .* \(first: row 3 of them, '):
        FMConfig(debias="given").row_weights(None, chances)


def test_what_is_missing_is_said() -> None:
    with pytest.raises(DataError, match=r'no column "propensity"\. Did you mean "propensty"'):
        FMConfig(debias="given").row_weights(None, pl.DataFrame({"propensty": [0.5]}))
    with pytest.raises(DataError, match="take debias = popularity"):
        MFConfig(debias="given").pair_weights(events(None))
    with pytest.raises(ConfigError, match="the rows name no items"):
        FMConfig(debias="popularity").row_weights(None, table(0.5))


def test_options_are_checked_and_read_as_texts() -> None:
    config = build(MFConfig, {"debias": "popularity", "debias_power": "1", "debias_clip": "5"})
    assert (config.debias, config.debias_power, config.debias_clip) == ("popularity", 1.0, 5.0)
    with pytest.raises(ConfigError, match=r'must be one of none, popularity, given\. Did you mean "popularity"'):
        MFConfig(debias="popularty")
    with pytest.raises(ConfigError, match=r"debias_clip is 0\.5; it must be 1 or more"):
        FMConfig(debias_clip=0.5)
    with pytest.raises(ConfigError, match="debias_power is -1"):
        FMConfig(debias_power=-1)
