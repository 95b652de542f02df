"""Streams: thresholds by hand, changes found in time and named, quiet ones quiet, and bad rows refused."""

from typing import Any

import numpy as np
import polars as pl
import pytest

from bowerbird.core import ConfigError, DataError, MissingExtraError
from bowerbird.monitoring import StreamAlarm, StreamOptions, StreamWatch, streams
from bowerbird.monitoring.streams import Limits, normal, threshold_of

SMALL = StreamOptions(block=20, window=200, shift=0.5)


def clicks(rate: float, n: int, seed: int) -> pl.DataFrame:
    rng = np.random.default_rng(seed)
    where = rng.choice(["home", "search"], n)
    chance = np.where(where == "home", rate, 0.2)
    return pl.DataFrame({"click": (rng.random(n) < chance).astype(int), "score": rng.normal(size=n), "scenario": where})


def test_the_threshold_is_what_sums_cross_as_seldom_as_was_asked() -> None:
    slack, length, rng = 0.5, 200.0, np.random.default_rng(0)
    height, total, crossed = threshold_of(length, slack), 0.0, 0
    for z in rng.normal(size=40_000).tolist():
        total = max(total + z - slack, 0.0)
        if total > height:
            total, crossed = 0.0, crossed + 1
    assert 40_000 / crossed == pytest.approx(length, rel=0.15)


def test_alpha_is_shared_by_series_looks_and_detectors() -> None:
    one, many = (Limits.of(n, StreamOptions(alpha=0.01, window=1_000, block=100)) for n in (1, 30))
    assert one.delta == pytest.approx(0.01 / 20)
    assert many.delta == pytest.approx(0.01 / 600)
    assert many.threshold > one.threshold
    assert one.slack == pytest.approx(0.2 * 10 / 2)


def test_means_that_lean_become_normal() -> None:
    rng = np.random.default_rng(0)
    shape = 4.0
    z = (rng.gamma(shape, size=50_000) - shape) / shape**0.5
    made = np.array([normal(one, 2 / shape**0.5) for one in z.tolist()])
    for q in (0.001, 0.5, 0.999):
        assert np.quantile(made, q) == pytest.approx(np.quantile(rng.normal(size=200_000), q), abs=0.15)
    assert normal(1.5, 0.0) == 1.5


def test_a_change_is_found_soon_with_its_moment_its_means_and_its_slice() -> None:
    called: list[list[StreamAlarm]] = []
    watch = StreamWatch(clicks(0.3, 2_000, 0), ["click", "score"], slices=["scenario"], options=SMALL,
                        on_alarm=called.append)  # fmt: skip
    assert watch.update(clicks(0.3, 2_000, 1)) == []
    [one] = watch.update(clicks(0.02, 1_000, 2))
    assert called == [[one]]
    assert one.name == "click"
    assert 2_000 < one.row <= 2_500
    assert abs(one.since - 2_000) <= 100
    assert one.after < one.before == pytest.approx(0.25, abs=0.03)
    assert one.slice.startswith('most where scenario is "home"')
    assert str(one).startswith("click: the mean fell from 0.2")


def test_frames_of_any_length_give_the_same_alarms() -> None:
    rows = pl.concat([clicks(0.3, 700, 1), clicks(0.02, 2_000, 2), clicks(0.3, 3_000, 3)])
    found = []
    for step in (7, 1_000, len(rows)):
        watch = StreamWatch(clicks(0.3, 2_000, 0), ["click"], options=SMALL)
        found.append([one for start in range(0, len(rows), step) for one in watch.update(rows[start : start + step])])
    assert found[0] == found[1] == found[2]
    assert len(found[0]) == 2  # there, and back again


def test_adwin_finds_a_change_that_is_too_slow_for_page_hinkley() -> None:
    rng = np.random.default_rng(0)
    watch = StreamWatch(pl.DataFrame({"x": rng.normal(size=10_000)}), ["x"], options=StreamOptions(shift=3.0))
    raised = watch.update(pl.DataFrame({"x": rng.normal(size=40_000) + np.linspace(0, 0.4, 40_000)}))
    assert [one.detector for one in raised][:1] == ["ADWIN"]


def test_quiet_streams_are_quiet() -> None:
    rng = np.random.default_rng(0)

    def rows(n: int) -> pl.DataFrame:
        kinds = {f"n{place}": rng.normal(size=n) for place in range(4)}
        kinds |= {f"c{place}": (rng.random(n) < 0.05).astype(float) for place in range(4)}
        return pl.DataFrame(kinds | {f"p{place}": rng.lognormal(0, 0.7, n) for place in range(4)})

    watch = StreamWatch(rows(10_000), rows(1).columns)
    assert sum(bool(watch.update(rows(1_000))) for _ in range(100)) <= 2


def test_empty_cells_are_passed_over_and_frames_without_rows_too() -> None:
    watch = StreamWatch(clicks(0.3, 2_000, 0), ["click"], options=SMALL)
    gaps = pl.DataFrame({"click": [None, 0] * 500}, schema={"click": pl.Int64})
    assert watch.update(gaps.clear()) == []
    assert watch.update(pl.DataFrame({"click": [None] * 10})) == []
    [one] = watch.update(gaps)
    assert one.row <= 300  # of the 500 that are there


def test_a_column_that_never_changes_has_no_scale() -> None:
    reference = clicks(0.3, 2_000, 0).with_columns(same=pl.lit(1.0))
    watch = StreamWatch(reference, ["same", "click"], options=SMALL)
    assert watch.unwatched == ("same",)
    assert watch.update(reference.with_columns(same=pl.lit(5.0))) == []


@pytest.mark.parametrize(
    ("reference", "columns", "said"),
    [
        ({"x": []}, ["x"], "the reference has 0 numbers, and 30 blocks of 20 are needed"),
        ({"x": [None] * 900}, ["x"], "the reference has 0 numbers"),
        ({"x": [1.0, 2.0] * 20}, ["x"], "has 40 numbers"),
        ({"price": [1.0, 2.0] * 500}, ["prize"], 'no column "prize". Did you mean "price"'),
        ({"x": ["a"] * 1_000}, ["x"], "holds String; a stream is of numbers"),
        ({"x": [1.0, float("inf")] * 500}, ["x"], "holds numbers that are infinite"),
    ],
)
def test_what_cannot_be_watched_is_refused(reference: Any, columns: list[str], said: str) -> None:
    with pytest.raises(DataError, match=said):
        StreamWatch(pl.DataFrame(reference), columns, options=SMALL)


def test_a_frame_that_lacks_a_column_is_refused() -> None:
    watch = StreamWatch(clicks(0.3, 2_000, 0), ["click"], slices=["scenario"], options=SMALL)
    for name in ("click", "scenario"):
        with pytest.raises(DataError, match=f'this frame has no column "{name}"'):
            watch.update(clicks(0.3, 10, 1).drop(name))


def test_options_and_the_extra_are_checked(monkeypatch: pytest.MonkeyPatch) -> None:
    for wrong in ({"alpha": 0.0}, {"block": 0}, {"window": 10, "block": 20}, {"shift": 0.0}):
        with pytest.raises(ConfigError):
            StreamOptions(**wrong)
    monkeypatch.setattr(streams, "find_spec", lambda name: None)
    with pytest.raises(MissingExtraError, match=r"bowerbird\[drift\]"):
        StreamWatch(clicks(0.3, 2_000, 0), ["click"], options=SMALL)
