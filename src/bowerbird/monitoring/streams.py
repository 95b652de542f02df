"""Streams of numbers, watched row by row: scores, residuals, clicks, NDCG of requests. ADWIN and Page–Hinkley of River.

Rows are averaged in blocks, which are near to normal and are few; each series has both detectors over its blocks, in
standard deviations of the reference's blocks. What they may cry wolf is set, not guessed: of S series over windows of
C blocks at most α of the windows, half of it for each detector,

    ADWIN          δ = α / 2SC, since δ bounds each look (Bifet and Gavaldà, SDM 2007, theorem 3.1)
    Page–Hinkley   the threshold h at which the mean number of blocks between false alarms of one side is 4SC / α:
                   (exp(2k(h + 1.166)) − 2k(h + 1.166) − 1) / 2k² (Siegmund 1985, Sequential Analysis, 2.5), where
                   k, its slack, is half of the shift that is to be found

The first wants no idea of the change and says since when; the second is quick at shifts of the size it is told.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any, cast

import numpy as np
import polars as pl
from scipy import optimize

from bowerbird.core import DataError, MissingExtraError, check, did_you_mean
from bowerbird.monitoring.evidence import HUGE, check_slices, moved_most

SETTLE = 30  # blocks from which the mean and the spread of a quiet stream are learnt
LEANS = 0.01  # skewness below which a mean is as good as normal
KEPT = 20_000  # newest rows of which slices are remembered


@dataclass(frozen=True, kw_only=True)
class StreamOptions:
    """When a change of a stream is worth an alarm."""

    alpha: float = 0.005  # share of windows that may raise a false alarm, over all series together
    window: int = 1_000  # rows of a window
    block: int = 100  # rows averaged before they are looked at
    shift: float = 0.2  # change of a mean that is to be found soon, in standard deviations of a row

    def __post_init__(self) -> None:
        check(0 < self.alpha < 1, "alpha", self.alpha, "must be above 0 and below 1", try_instead=0.005)
        check(self.block >= 1, "block", self.block, "must be 1 or more", try_instead=100)
        check(self.window >= self.block, "window", self.window, "must hold a block or more", try_instead=1_000)
        check(self.shift > 0, "shift", self.shift, "must be above 0", try_instead=0.2)


@dataclass(frozen=True)
class StreamAlarm:
    """A change of one series."""

    name: str
    detector: str  # "ADWIN" or "Page–Hinkley"
    row: int  # of the stream, from 0, after which it was raised
    since: int  # row at about which the change began, by what the detector tells
    before: float  # mean before it
    after: float  # and since then
    slice: str  # where it moved most, in words, or ""

    def __str__(self) -> str:
        moved = "fell" if self.after < self.before else "rose"
        where = f", {self.slice}" if self.slice else ""
        change = f"the mean {moved} from {self.before:.4g} to {self.after:.4g} at about row {self.since:,}"
        return f"{self.name}: {change}{where} ({self.detector}, after row {self.row:,})"


class StreamWatch:
    """Watches named columns of numbers over frames that come one after another."""

    def __init__(
        self,
        reference: pl.DataFrame,
        columns: Sequence[str],
        *,
        slices: Sequence[str] = (),
        options: StreamOptions | None = None,
        on_alarm: Callable[[list[StreamAlarm]], Any] | None = None,
    ) -> None:
        """`reference` are rows in their order while all was well, 30 blocks or more.

        `slices` are columns by whose values an alarm says where a mean moved most. `on_alarm` is called with the
        alarms of an update that raised any: it may update a model. Columns that never change in the reference have no
        scale to be watched by: `unwatched` names them, for `compare_windows` to compare. Raises `MissingExtraError`
        without River, and `DataError`.
        """
        if find_spec("river") is None:
            raise MissingExtraError('a watch of streams needs river. Install it with: pip install "bowerbird[drift]"')
        self.options, self.slices, self.on_alarm = options or StreamOptions(), tuple(slices), on_alarm
        self._columns = tuple(dict.fromkeys(columns))
        told = self._numbers(reference, self._columns, "the reference")
        for name, values in told.items():
            if len(values) < SETTLE * self.options.block:
                raise DataError(
                    f'column "{name}": the reference has {len(values):,} numbers, and {SETTLE} blocks of '
                    f"{self.options.block} are needed. Give more rows, or smaller blocks."
                )
        self.unwatched = tuple(name for name, values in told.items() if values.std() == 0)
        self._columns = tuple(name for name in self._columns if name not in self.unwatched)
        limits = Limits.of(len(self._columns), self.options)
        self._streams = {name: _Stream(told[name], self.options.block, limits) for name in self._columns}
        self._rest = {name: np.zeros(0) for name in self._columns}  # numbers that fill no block yet
        self._seen = dict.fromkeys(self._columns, 0)  # numbers since the reference
        self._kept = self._remembered(reference)

    def update(self, frame: pl.DataFrame) -> list[StreamAlarm]:
        """Take the next rows, in their order; return the alarms they raise, after which a series starts afresh.

        Empty cells are passed over: rows of a series are those where it has a number. For 30 blocks after an alarm a
        series learns its new mean and raises none.
        """
        numbers = self._numbers(frame, self._columns, "this frame")
        self._kept = pl.concat([self._kept, self._remembered(frame)], how="vertical_relaxed").tail(KEPT)
        raised, size = [], self.options.block
        for name, values in numbers.items():
            start, stream = self._seen[name] - len(self._rest[name]), self._streams[name]
            self._seen[name] += len(values)
            values = np.concatenate([self._rest[name], values])
            whole = len(values) // size * size
            self._rest[name] = values[whole:]
            for place, mean in enumerate(values[:whole].reshape(-1, size).mean(axis=1).tolist()):
                detector = stream.take(mean)
                if detector:
                    n_since, before, after = stream.change()
                    stream.restart()
                    row = start + (place + 1) * size
                    where = self._where(name, row - n_since * size, row)
                    raised.append(StreamAlarm(name, detector, row, max(row - n_since * size, 0), before, after, where))
        if raised and self.on_alarm is not None:
            self.on_alarm(raised)
        return raised

    def _numbers(self, frame: pl.DataFrame, names: Sequence[str], where: str) -> dict[str, np.ndarray]:
        """Return the numbers of the named columns; raises `DataError` where one is missing, or none."""
        for name in (*names, *self.slices):
            if name not in frame.columns:
                close = did_you_mean(name, frame.columns)
                raise DataError(f'{where} has no column "{name}".{close} It has: {", ".join(frame.columns)}.')
        check_slices(frame, self.slices)
        for name in names:
            kind = frame.schema[name]
            if not (kind.is_numeric() or kind in (pl.Boolean, pl.Null)):
                raise DataError(f'column "{name}" of {where} holds {kind}; a stream is of numbers.')
        floats = frame.select(pl.col(name).cast(pl.Float64).fill_nan(None) for name in names)
        found = {name: floats[name].drop_nulls().to_numpy() for name in names}
        for name, values in found.items():
            if not (np.abs(values) <= HUGE).all():
                raise DataError(
                    f'column "{name}" of {where} holds numbers that are infinite or above {HUGE:g}. Drop them.'
                )
        return found

    def _remembered(self, frame: pl.DataFrame) -> pl.DataFrame:
        """Return what slices are told from, of the newest rows."""
        if not self.slices:
            return pl.DataFrame()
        numbers = [pl.col(name).cast(pl.Float64).fill_nan(None) for name in self._columns]
        others = [pl.col(name).cast(pl.String).alias(_aside(name)) for name in self.slices]
        return frame.tail(KEPT).select(*numbers, *others)

    def _where(self, name: str, since: int, until: int) -> str:
        """Return the slice that moved most between as many rows before a change and those since, in words."""
        if not self.slices:
            return ""
        mine = self._kept.filter(pl.col(name).is_not_null())
        first = self._seen[name] - len(mine)  # the row that is the oldest kept, below 0 within the reference
        cut, end = max(since - first, 0), max(until - first, 0)
        slices = {_aside(one): one for one in self.slices}
        before, now = mine[:cut], mine[cut:end]
        if not len(before) or not len(now):
            return ""
        was, is_now = (one.select(pl.col(name).alias("\0"), *slices).rename(slices) for one in (before, now))
        return moved_most(was, is_now, "\0", self.slices)


def _aside(name: str) -> str:
    return f"\0{name}"  # a slice may be a number that is watched too


@dataclass(frozen=True)
class Limits:
    """From where on the detectors of a series speak, in standard deviations of a block."""

    delta: float  # of ADWIN
    slack: float  # of Page–Hinkley
    threshold: float

    @classmethod
    def of(cls, n_series: int, options: StreamOptions) -> "Limits":
        """Return those that keep the promise of α for so many series."""
        looks = max(n_series, 1) * max(options.window // options.block, 1)
        slack = options.shift * np.sqrt(options.block) / 2
        return cls(options.alpha / (2 * looks), slack, threshold_of(4 * looks / options.alpha, slack))


def threshold_of(length: float, slack: float) -> float:
    """Return the height at which a one-sided cumulative sum of standard normals crosses once in `length` steps."""

    def missing(height: float) -> float:
        grown = 2 * slack * (height + 1.166)
        return float(np.exp(grown) - grown - 1 - 2 * slack**2 * length)

    if missing(0.0) >= 0:  # a single step above the slack is as rare
        return 0.0
    return float(optimize.brentq(missing, 0.0, (np.log(2 * slack**2 * length + 2) + 10) / slack))


def normal(z: float, skew: float) -> float:
    """Return what is nearly a standard normal, of a standardised mean that leans: of rare clicks, or of prices.

    Wilson and Hilferty, PNAS 1931: the cube root, which is exact enough for gamma variables of this skewness.
    """
    if abs(skew) < LEANS:
        return z
    return float(6 / skew * (np.cbrt(max(1 + skew * z / 2, 0.0)) - 1) + skew / 6)


class _Stream:
    """Both detectors of one series, and the means of its blocks since they started."""

    def __init__(self, values: np.ndarray, block: int, limits: Limits) -> None:
        self.limits, self.learning = limits, False
        self.blocks = values[: len(values) // block * block].reshape(-1, block).mean(axis=1).tolist()
        self.spread = max(float(np.std(self.blocks, ddof=1)), float(values.std()) / np.sqrt(block))
        self.skew = float(np.mean(((values - values.mean()) / values.std()) ** 3)) / np.sqrt(block)
        self._start()

    def _start(self) -> None:
        """Begin with the blocks that are there, as quiet ones."""
        from river import drift

        self.centre = float(np.mean(self.blocks))
        one, river = self.limits, cast(Any, drift)  # whose calls have no types
        self.detectors = {
            "Page–Hinkley": river.PageHinkley(min_instances=1, delta=one.slack, threshold=one.threshold, alpha=1.0),
            "ADWIN": river.ADWIN(delta=one.delta, clock=1),
        }
        for mean in self.blocks:
            self._look(mean)

    def _look(self, mean: float) -> str:
        """Return the first detector that speaks, or ""."""
        z = normal((mean - self.centre) / self.spread, self.skew)
        for one in self.detectors.values():
            one.update(z)
        return next((name for name, one in self.detectors.items() if one.drift_detected), "")

    def take(self, mean: float) -> str:
        """Take a block; return the detector that speaks, or ""."""
        self.blocks.append(mean)
        if not self.learning:
            return self._look(mean)
        if len(self.blocks) == SETTLE:
            self.learning = False
            self.spread = max(self.spread, float(np.std(self.blocks, ddof=1)))
            self._start()
        return ""

    def change(self) -> tuple[int, float, float]:
        """Return how many blocks ago the mean most likely changed, and the means before and since."""
        means, n = np.array(self.blocks), len(self.blocks)
        cuts, sums = np.arange(1, n), np.cumsum(means)[:-1]
        before, after = sums / cuts, (means.sum() - sums) / (n - cuts)
        place = int(((after - before) ** 2 * cuts * (n - cuts)).argmax())
        return n - int(cuts[place]), float(before[place]), float(after[place])

    def restart(self) -> None:
        """Learn the new mean, and look again after that."""
        self.blocks, self.learning = [], True
