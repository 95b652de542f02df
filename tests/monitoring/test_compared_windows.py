"""Two windows: what changed is named, what did not is quiet, and what cannot be compared is refused or left out."""

from typing import Any

import numpy as np
import polars as pl
import pytest

from bowerbird.core import ConfigError, DataError
from bowerbird.monitoring import Drift, WatchOptions, compare_windows

ROLES: dict[str, Any] = {"prediction": "chance", "label": "click", "slices": ["scenario"]}


def of(drift: Drift, name: str, kind: str) -> Any:
    [one] = [one for one in drift.series if (one.name, one.kind) == (name, kind)]
    return one


def test_nothing_changed_and_nothing_alarms(rows: Any) -> None:
    called: list[Drift] = []
    for seed in range(20):
        drift = compare_windows(rows(3_000, 100 + seed), rows(1_000, seed), **ROLES, on_alarm=called.append)
        assert not drift.alarms
    assert called == []
    assert {(one.name, one.kind, one.test) for one in drift.series} == {
        ("device", "values", "chi-square"), ("device", "unseen", "Chernoff"), ("price", "values", "KS"),
        ("stars", "values", "chi-square"), ("stars", "unseen", "Chernoff"), ("scenario", "values", "chi-square"),
        ("scenario", "unseen", "Chernoff"), ("chance", "values", "KS"), ("click", "quality", "chi-square"),
        ("chance", "calibration", "chi-square"),
    }  # fmt: skip


def test_tests_alone_keep_alpha_over_all_series() -> None:
    rng = np.random.default_rng(0)
    options = WatchOptions(alpha=0.2, psi=0.0)
    names = [f"x{place}" for place in range(10)]

    def window(n: int) -> pl.DataFrame:
        return pl.DataFrame({name: rng.normal(size=n) for name in names})

    alarms = sum(bool(compare_windows(window(500), window(500), options=options).alarms) for _ in range(150))
    assert alarms / 150 <= 0.3  # 0.2 is promised; three standard deviations are 0.1
    assert alarms > 5  # and it is no test that never speaks


@pytest.mark.parametrize(
    ("change", "name", "kind", "said"),
    [
        ({"device": ["tablet"] * 400 + ["desk", "phone"] * 300}, "device", "values", '"tablet" went from'),
        ({"device": ["watch"] * 100 + ["desk"] * 900}, "device", "unseen", '10.0% of the rows hold a value that the'),
        ({"price": np.linspace(1, 9, 1_000)}, "price", "values", "the median went from"),
        ({"price": [None] * 100 + [1.0] * 900}, "price", "empty", "10.0% of the rows are empty, and 0.0% were"),
        ({"price": [float("nan")] * 1_000}, "price", "empty", "100.0% of the rows are empty"),
        ({"price": [float("inf")] * 100 + [1.0] * 900}, "price", "empty", "10.0% of the rows are empty"),
        ({"click": [0] * 1_000}, "click", "quality", "the mean fell from"),
        ({"click": [0] * 1_000}, "chance", "calibration", "where it says above"),
        ({"chance": np.linspace(0.01, 0.02, 1_000)}, "chance", "values", "what is up to"),
    ],
)  # fmt: skip
def test_a_change_alarms_and_is_named(rows: Any, change: dict[str, Any], name: str, kind: str, said: str) -> None:
    called: list[Drift] = []
    drift = compare_windows(rows(3_000, 1), rows(1_000, 2, **change), **ROLES, on_alarm=called.append)
    one = of(drift, name, kind)
    assert one.alarm
    assert said in one.said
    assert called == [drift]
    assert all(each.name in change or each.name == "chance" for each in drift.alarms)
    assert one in drift.alarms
    assert str(one) in str(drift)


def test_the_slice_of_a_mean_is_in_the_sentence(rows: Any) -> None:
    now = rows(2_000, 2).with_columns(click=pl.when(pl.col("scenario") == "search").then(0).otherwise("click"))
    drift = compare_windows(rows(4_000, 1), now, **ROLES)
    assert 'most where scenario is "search"' in of(drift, "click", "quality").said


def test_a_large_window_does_not_alarm_for_what_does_not_matter() -> None:
    rng = np.random.default_rng(0)
    before, now = (pl.DataFrame({"x": rng.normal(mean, 1, 100_000)}) for mean in (0, 0.05))
    [one] = compare_windows(before, now).series
    assert one.p < 1e-6
    assert not one.alarm
    assert compare_windows(before, now, options=WatchOptions(psi=0)).alarms


def test_gains_are_compared_by_their_means() -> None:
    rng = np.random.default_rng(0)
    before, now = (pl.DataFrame({"ndcg": rng.choice([0.0, 0.5, 1.0], 2_000, p=p)})
                   for p in ((0.8, 0.1, 0.1), (0.9, 0.05, 0.05)))  # fmt: skip
    [one] = compare_windows(before, now, quality=["ndcg"]).series
    assert (one.test, one.alarm) == ("Welch", True)
    assert one.said.startswith("the mean fell from")


def test_columns_that_say_nothing_are_no_trouble() -> None:
    before = pl.DataFrame({"same": [1] * 50, "nothing": [None] * 50, "when": [1] * 50, "tags": [["a"]] * 50})
    before = before.with_columns(pl.col("when").cast(pl.Datetime("us")), flag=pl.Series([True, False] * 25))
    drift = compare_windows(before, before)
    assert drift.left_out == {"when": "times always move", "tags": "List(String) is neither a number nor a text"}
    assert {one.name for one in drift.series} == {"same", "nothing", "flag"}
    assert all(one.p == 1 and not one.alarm for one in drift.series)
    filled = before.with_columns(nothing=pl.lit("x"), same=pl.lit(2))
    assert {one.name for one in compare_windows(before, filled).alarms} == {"nothing", "same"}


def test_a_column_named_as_our_own_are_is_compared() -> None:
    before = pl.DataFrame({name: ["a", "b"] * 50 for name in ("n", "m", "c", "value", "x", "slice")})
    assert not compare_windows(before, before).alarms


@pytest.mark.parametrize(
    ("before", "now", "named", "said"),
    [
        ({"a": []}, {"a": [1]}, {}, "the reference holds no row"),
        ({"a": [1]}, {"a": []}, {}, "now holds no row"),
        ({"price": [1], "b": [1]}, {"b": [1]}, {}, 'now has no column "price": the reference has it.'),
        ({"b": [1]}, {"price": [1], "b": [1]}, {}, 'the reference has no column "price": now has it.'),
        ({"price": [1]}, {"price": [1]}, {"columns": ["prize"]}, 'no column "prize". Did you mean "price"?'),
        ({"a": [1]}, {"a": ["x"]}, {}, 'column "a" holds Float64 in the reference and String now'),
        ({"a": ["x"]}, {"a": ["x"]}, {"quality": ["a"]}, "quality is a number"),
        ({"a": [1], "b": [["x"]]}, {"a": [1], "b": [["x"]]}, {"columns": ["a"], "slices": ["b"]}, "slices are texts"),
        (
            {"p": ["x"], "y": [1]},
            {"p": ["x"], "y": [1]},
            {"prediction": "p", "label": "y", "columns": []},
            "needs numb",
        ),
    ],
)
def test_what_cannot_be_compared_is_refused(before: Any, now: Any, named: dict[str, Any], said: str) -> None:
    with pytest.raises(DataError, match=said.replace("?", r"\?")):
        compare_windows(pl.DataFrame(before), pl.DataFrame(now), **named)


def test_options_are_checked() -> None:
    for wrong in ({"alpha": 0.0}, {"alpha": 1.0}, {"psi": -1.0}):
        with pytest.raises(ConfigError, match=next(iter(wrong))):
            WatchOptions(**wrong)
    with pytest.raises(ConfigError, match="both a prediction and a label"):
        compare_windows(pl.DataFrame({"a": [1]}), pl.DataFrame({"a": [1]}), prediction="a")


def test_a_quality_that_nobody_told_is_quiet() -> None:
    before = pl.DataFrame({"click": [0, 1] * 50, "p": [0.5] * 100})
    now = pl.DataFrame({"click": [None] * 100, "p": [0.5] * 100}).cast({"click": pl.Int64})
    drift = compare_windows(before, now, prediction="p", label="click")
    assert not drift.alarms
    assert of(drift, "click", "quality").said == "a window has no number"
    nulls = pl.DataFrame({"click": [None] * 100, "p": [None] * 100})
    assert not compare_windows(before, nulls, columns=[], prediction="p", label="click").alarms
