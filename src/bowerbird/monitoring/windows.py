"""Two windows, and what changed between them: inputs, scores, calibration and quality, with an alarm in words.

| series | test | alarms where p after Holm is below α, and |
|---|---|---|
| values of a column, few of them or texts | chi-square | PSI reaches `psi` |
| numbers | Kolmogorov–Smirnov | PSI reaches `psi` |
| values that the reference lacks, rows that are empty | Chernoff's bound, chi-square | |
| calibration: a prediction and its label | chi-square over ranges of the prediction | |
| quality: clicks; NDCG and other means | chi-square; Welch's t | |

All series of a comparison share one α by Holm's correction: quiet windows raise any alarm at most that often.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import polars as pl

from bowerbird.core import ConfigError, DataError, check, did_you_mean
from bowerbird.evaluation.statistics import corrected
from bowerbird.monitoring import evidence
from bowerbird.monitoring.evidence import Cells

SHOWN = 3  # unseen values that a sentence names


@dataclass(frozen=True, kw_only=True)
class WatchOptions:
    """When a change is worth an alarm."""

    alpha: float = 0.005  # how often quiet windows may raise any alarm, over all series together
    psi: float = 0.1  # least population stability index of values that alarms: large windows find what does not matter

    def __post_init__(self) -> None:
        check(0 < self.alpha < 1, "alpha", self.alpha, "must be above 0 and below 1", try_instead=0.005)
        check(self.psi >= 0, "psi", self.psi, "must be 0 or more", try_instead=0.1)


@dataclass(frozen=True)
class Series:
    """One thing that was watched, and what the two windows say about it."""

    name: str  # a column
    kind: str  # "values", "unseen", "empty", "calibration" or "quality"
    test: str
    psi: float | None  # of values only
    p: float  # after Holm's correction
    alarm: bool
    said: str  # what moved most, in words

    def __str__(self) -> str:
        psi = "" if self.psi is None else f"PSI {self.psi:.2f}; "
        return f"{self.name}: {self.said} ({psi}{self.test}, p {_p(self.p)} after Holm)"


@dataclass(frozen=True)
class Drift:
    """What came of comparing two windows."""

    series: tuple[Series, ...]  # those that alarm first, then by p
    left_out: dict[str, str]  # columns that were not compared, and why
    n_reference: int
    n_now: int
    options: WatchOptions

    @property
    def alarms(self) -> tuple[Series, ...]:
        """The series that alarm, the surest first."""
        return tuple(one for one in self.series if one.alarm)

    def __str__(self) -> str:
        head = f"{self.n_now:,} rows beside {self.n_reference:,}, {len(self.series)} series"
        return "\n".join([f"{head}: {len(self.alarms)} alarms", *map(str, self.alarms)])

    def to_dict(self) -> dict[str, Any]:
        """Return everything as JSON needs it."""
        rows = [{**vars(one), "sentence": str(one)} for one in self.series]
        return {
            "rows": {"reference": self.n_reference, "now": self.n_now},
            "alpha": self.options.alpha, "psi": self.options.psi, "correction": "Holm",
            "drift": bool(self.alarms), "alarms": [str(one) for one in self.alarms],
            "series": rows, "left_out": self.left_out,
        }  # fmt: skip


def compare_windows(
    reference: pl.DataFrame,
    now: pl.DataFrame,
    *,
    columns: Sequence[str] | None = None,
    prediction: str | None = None,
    label: str | None = None,
    quality: Sequence[str] = (),
    slices: Sequence[str] = (),
    partial: Sequence[str] = (),
    options: WatchOptions | None = None,
    on_alarm: Callable[[Drift], Any] | None = None,
) -> Drift:
    """Return what changed from the rows of `reference` to those of `now`.

    `columns` are inputs and scores; left out, all but those named otherwise. A `prediction` and its `label` are watched
    for calibration, and the label as quality; `quality` names columns of 0 and 1 (a click) or of gains (NDCG of a
    request). `slices` are columns by whose values the sentence of a mean says where it moved most; `partial` are those
    whose empty cells mean nothing. `on_alarm` is called once where anything alarms: it may update a model. Raises
    `DataError` for windows that cannot be compared.
    """
    options, quality = options or WatchOptions(), list(dict.fromkeys(quality))
    if (prediction is None) != (label is None):
        raise ConfigError("calibration needs both a prediction and a label. Name the other one, or neither.")
    if label is not None and label not in quality:
        quality = [label, *quality]
    before, now = _tidy(reference, "the reference"), _tidy(now, "now")
    apart = {*quality, *([label] if label else [])}
    wanted = [name for name in before.columns if name not in apart] if columns is None else list(columns)
    extra = [] if columns is not None else [name for name in now.columns if name not in (*apart, *wanted)]
    named = [*wanted, *extra, *quality, *slices, *([prediction] if prediction else [])]
    for name in dict.fromkeys(named):
        _same_column(name, before, now)
    for frame in (before, now):
        evidence.check_slices(frame, slices)
    left_out = {name: kind for name in wanted if (kind := _odd(before[name], now[name]))}
    found = [one for name in wanted if name not in left_out for one in _inputs(before[name], now[name])]
    found = [one for one in found if one.kind != "empty" or one.name not in partial]
    found += [_quality(before, now, name) for name in quality]
    if prediction is not None and label is not None:
        found.append(_calibration(before, now, prediction, label))
    p = corrected([one.p for one in found])
    judged = [replace(one, p=each, alarm=_alarms(one, each, options)) for one, each in zip(found, p, strict=True)]
    judged = [_sliced(one, before, now, tuple(slices)) if one.alarm else one for one in judged]
    judged.sort(key=lambda one: (not one.alarm, one.p, -(one.psi or 0.0)))
    drift = Drift(tuple(judged), left_out, len(before), len(now), options)
    if drift.alarms and on_alarm is not None:
        on_alarm(drift)
    return drift


def _alarms(one: Series, p: float, options: WatchOptions) -> bool:
    return p < options.alpha and (one.psi is None or one.psi >= options.psi)


# ── windows ───────────────────────────────────────────────────────────────────────────────────────────────────────


def _tidy(frame: pl.DataFrame, what: str) -> pl.DataFrame:
    """Return a window whose numbers are sensible or null, and whose other values are texts, where they can be."""
    if not frame.height:
        raise DataError(f"{what} holds no row. Give a window with rows, or wait for some.")
    made: list[pl.Expr] = []
    for name, kind in frame.schema.items():
        if kind.is_numeric():
            number = pl.col(name).cast(pl.Float64)
            made.append(pl.when(number.abs() <= evidence.HUGE).then(number))
        elif kind in (pl.Boolean, pl.Categorical, pl.Enum):
            made.append(pl.col(name).cast(pl.String))
    return frame.with_columns(made)


def _same_column(name: str, before: pl.DataFrame, now: pl.DataFrame) -> None:
    for one, other, where, there in ((before, now, "the reference", "now"), (now, before, "now", "the reference")):
        if name not in one.columns:
            beside = f" {there} has it" if name in other.columns else ""
            raise DataError(
                f'{where} has no column "{name}"{":" if beside else "."}{beside}{"." if beside else ""}'
                f"{did_you_mean(name, one.columns)} It has: {', '.join(one.columns)}. Mend it, or name the columns to "
                f"compare."
            )
    kinds = [one.schema[name] for one in (before, now)]
    if pl.Null not in kinds and kinds[0] != kinds[1] and not (kinds[0].is_temporal() and kinds[1].is_temporal()):
        raise DataError(f'column "{name}" holds {kinds[0]} in the reference and {kinds[1]} now. Cast one of them.')


def _odd(before: pl.Series, now: pl.Series) -> str:
    """Return why a column is not compared, or ""."""
    if before.dtype.is_temporal() or now.dtype.is_temporal():
        return "times always move"
    if before.dtype.is_nested() or before.dtype == pl.Binary or now.dtype.is_nested() or now.dtype == pl.Binary:
        return f"{before.dtype} is neither a number nor a text"
    return ""


# ── series ────────────────────────────────────────────────────────────────────────────────────────────────────────


def _sliced(one: Series, before: pl.DataFrame, now: pl.DataFrame, slices: tuple[str, ...]) -> Series:
    """Return a series whose sentence says in which slice its mean moved most, where it has one."""
    if one.kind not in ("values", "quality") or not before.schema[one.name].is_numeric():
        return one
    where = evidence.moved_most(before, now, one.name, tuple(name for name in slices if name != one.name))
    return replace(one, said=f"{one.said}, {where}") if where else one


def _inputs(was: pl.Series, is_now: pl.Series) -> Iterator[Series]:
    """Yield the series of a column of inputs or scores."""
    name = was.name
    if was.dtype == pl.Null:
        was = was.cast(is_now.dtype if is_now.dtype != pl.Null else pl.String)
    is_now = is_now.cast(was.dtype)
    empty = [one.null_count() for one in (was, is_now)]
    if any(empty):
        cells = Cells(["empty", "not empty"], *(np.array([k, len(one) - k], float)
                                                for k, one in zip(empty, (was, is_now), strict=True)))  # fmt: skip
        said = f"{empty[1] / len(is_now):.1%} of the rows are empty, and {empty[0] / len(was):.1%} were"
        yield Series(name, "empty", "chi-square", None, evidence.chi_square(cells), False, said)
    was, is_now = was.drop_nulls(), is_now.drop_nulls()
    if not len(was) or not len(is_now):
        return
    few = was.n_unique() <= evidence.FEW and is_now.n_unique() <= evidence.FEW
    if was.dtype.is_numeric() and not few:
        x, y = was.to_numpy(), is_now.to_numpy()
        cells = evidence.range_cells(x, y)
        said = f"{cells.most}; the median went from {np.median(x):.4g} to {np.median(y):.4g}"
        yield Series(name, "values", "KS", cells.psi, evidence.kolmogorov_smirnov(x, y), False, said)
        return
    if was.dtype.is_numeric():
        was, is_now = (one.cast(pl.String).str.strip_suffix(".0") for one in (was, is_now))
    cells = evidence.value_cells(was, is_now)
    yield Series(name, "values", "chi-square", cells.psi, evidence.chi_square(cells), False, cells.most)
    rows, p = evidence.unseen(was, is_now)
    if rows:
        new = is_now.filter(~is_now.is_in(was.unique().implode())).value_counts(sort=True)
        shown = ", ".join(f'"{value}"' for value in new[name].head(SHOWN))
        held = f"{len(new):,} values" if len(new) > 1 else "a value"
        said = f"{rows / len(is_now):.1%} of the rows hold {held} that the reference lacks, such as {shown}"
    else:
        said = "the reference knows every value"
    yield Series(name, "unseen", "Chernoff", None, p, False, said)


def _quality(before: pl.DataFrame, now: pl.DataFrame, name: str) -> Series:
    for frame, where in ((before, "the reference"), (now, "now")):
        if not (frame.schema[name].is_numeric() or frame.schema[name] == pl.Null):
            raise DataError(f'column "{name}" of {where} holds {frame.schema[name]}, and quality is a number.')
    x, y = (one[name].drop_nulls().to_numpy() for one in (before, now))
    if not len(x) or not len(y):
        return Series(name, "quality", "Welch", None, 1.0, False, "a window has no number")
    said = f"the mean {'fell' if y.mean() < x.mean() else 'rose'} from {x.mean():.4g} to {y.mean():.4g}"
    if np.isin(np.concatenate([x, y]), (0.0, 1.0)).all():
        cells = Cells(["1", "0"], *(np.array([one.sum(), len(one) - one.sum()]) for one in (x, y)))
        return Series(name, "quality", "chi-square", None, evidence.chi_square(cells), False, said)
    return Series(name, "quality", "Welch", None, evidence.welch(x, y), False, said)


def _calibration(before: pl.DataFrame, now: pl.DataFrame, prediction: str, label: str) -> Series:
    pairs = []
    for frame, where in ((before, "the reference"), (now, "now")):
        for name in (prediction, label):
            if not (frame.schema[name].is_numeric() or frame.schema[name] == pl.Null):
                raise DataError(f'column "{name}" of {where} holds {frame.schema[name]}; calibration needs numbers.')
        both = frame.select(prediction, label).drop_nulls()
        pairs.append((both[prediction].to_numpy(), both[label].to_numpy()))
    if not len(pairs[0][0]) or not len(pairs[1][0]):
        return Series(prediction, "calibration", "chi-square", None, 1.0, False, "a window has no labelled prediction")
    found = evidence.calibration(*pairs)
    return Series(prediction, "calibration", "chi-square", None, found.p, False, found.most)


def _p(p: float) -> str:
    return "below 0.001" if p < 0.001 else f"{p:.3f}"
