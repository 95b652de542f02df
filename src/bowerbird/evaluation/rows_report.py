"""Evaluation of a ranker on labelled rows: a report with intervals, calibration, slices and its protocol line.

Shapes: N rows, T tasks.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl

from bowerbird.core import BowerbirdError, ConfigError, DataError, check, closest, did_you_mean, numpy_stream
from bowerbird.data import Rows
from bowerbird.evaluation import binary
from bowerbird.evaluation.statistics import Difference, holm

MOST_VALUES = 20  # of a column that are slices of their own; the others are one together


@dataclass(frozen=True, eq=False)
class RowReport:
    """What was measured, on which rows, and how. Names begin with the task, as "cart.auc", where there are several."""

    metrics: dict[str, float]  # NaN where one does not exist, such as the AUC of rows of one class
    intervals: dict[str, tuple[float, float]]  # 95 %, drawn by user where rows have users
    calibration: dict[str, pl.DataFrame]  # by task: predicted, observed, rows, of ten bins of equal mass
    slices: pl.DataFrame  # task, column, value, rows, auc, logloss; null where a value or metric is missing
    protocol: str
    n_rows: int
    tasks: tuple[str, ...]
    probability: np.ndarray  # float (N, T)
    label: np.ndarray  # float32 (N, T), NaN where unobserved
    user: np.ndarray | None  # int32 (N,)

    def __str__(self) -> str:
        lines = [self.protocol]
        for name, value in self.metrics.items():
            low, high = self.intervals.get(name, (math.nan, math.nan))
            spread = f"  [{low:.4f}, {high:.4f}]" if name in self.intervals else ""
            lines.append(f"{name:>20}  {value:.4f}{spread}")
        return "\n".join(lines)

    def to_dict(self) -> dict[str, Any]:
        """Return all but the rows themselves as JSON needs it, None for NaN."""
        return {
            "protocol": self.protocol,
            "metrics": {name: _or_none(value) for name, value in self.metrics.items()},
            "intervals": {name: [_or_none(end) for end in pair] for name, pair in self.intervals.items()},
            "calibration": {task: curve.to_dicts() for task, curve in self.calibration.items()},
            "slices": self.slices.to_dicts(),
            "rows": self.n_rows,
        }


def evaluate_rows(
    probability: np.ndarray,
    rows: Rows,
    *,
    slices: Sequence[str] = (),
    protocol: str = "",
    intervals: bool = True,
    seed: int = 0,
    part: str = "",
) -> RowReport:
    """Report how well probabilities (N, T) foretell the labels of rows; each task by the rows that have its label.

    Metrics are "auc", "logloss", "ne", "pr_auc", "gauc" and "gauc_share" (the AUC within users and the share of rows
    it covers, where rows have users), "ece" and "base_rate". `slices` names columns of the table: AUC and log loss are
    given for each of their 20 commonest values and for the others together, as "other". `protocol` says how rows
    were split and `part` which of the parts these are. `intervals=False` saves the bootstrap. Raises `DataError` for
    labels that are not 0 or 1, `ScoreError` for what is no probability, `ConfigError` for a slice that is no column.
    """
    probability = np.asarray(probability)
    if probability.shape != rows.labels.shape:
        raise DataError(
            f"probability has shape {probability.shape}; {rows.labels.shape} (rows, tasks) is needed, as the labels."
        )
    groups = {name: _groups(rows.table, name) for name in slices}
    metrics: dict[str, float] = {}
    spread: dict[str, tuple[float, float]] = {}
    curves, frames = {}, [_slice_frame()]
    for column, task in enumerate(rows.tasks):
        name = _prefix(rows.tasks, task)
        one = _Task.of(task, probability[:, column], rows.labels[:, column], rows.user)
        metrics |= {name + metric: value for metric, value in one.metrics().items()}
        if intervals:
            spread |= {name + metric: pair for metric, pair in one.intervals(seed).items()}
        curves[task] = binary.calibration(one.label, one.probability)
        frames += [one.slices(task, group, *values) for group, values in groups.items()]
    return RowReport(
        metrics=metrics,
        intervals=spread,
        calibration=curves,
        slices=pl.concat(frames),
        protocol=_protocol(rows, protocol, part, seed),
        n_rows=len(rows),
        tasks=rows.tasks,
        probability=probability,
        label=rows.labels,
        user=rows.user,
    )


def compare_rows(
    a: RowReport, b: RowReport, *, metrics: Sequence[str] | None = None, seed: int = 0
) -> list[Difference]:
    """Return paired tests of two models on the same rows, drawn by user where rows have users, Holm-corrected.

    A difference above zero speaks for `a`: it is a − b, and b − a for log loss and normalised entropy. `metrics` are
    names such as "auc" or "cart.auc"; left out, they are the AUC and log loss of every task. Raises `ConfigError`
    unless both reports follow the same protocol on the same rows.
    """
    if a.protocol != b.protocol:
        raise ConfigError(f"these reports cannot be compared: {a.protocol!r} is not {b.protocol!r}.")
    if not _same(a.label, b.label) or not _same(a.user, b.user):
        raise ConfigError("these reports cannot be compared: their labels or users differ. Evaluate both on one table.")
    known = {
        _prefix(a.tasks, task) + metric: (column, metric)
        for column, task in enumerate(a.tasks)
        for metric in binary.RESAMPLED
        if metric != "gauc" or a.user is not None
    }
    names = (
        [name for name, (_, metric) in known.items() if metric in ("auc", "logloss")] if metrics is None else metrics
    )
    rng = numpy_stream(seed, "compare")
    differences = []
    for name in names:
        rule = f"must be one of {', '.join(known)}"
        check(name in known, "metrics", name, rule, try_instead=closest(name, known))
        column, metric = known[name]
        one, other = (
            _Task.of(name, report.probability[:, column], report.label[:, column], report.user) for report in (a, b)
        )
        found = binary.paired_difference(one.label, one.probability, other.probability, one.user, metric, rng)
        differences.append(Difference(name, found.mean, found.low, found.high, found.p))
    return holm(differences)


@dataclass(frozen=True, eq=False)
class _Task:
    """The rows of one task that have its label."""

    observed: np.ndarray  # bool (N,)
    label: np.ndarray
    probability: np.ndarray
    user: np.ndarray | None

    @classmethod
    def of(cls, task: str, probability: np.ndarray, label: np.ndarray, user: np.ndarray | None) -> "_Task":
        observed = ~np.isnan(label)
        try:  # on all rows, so that the row a message names is the caller's
            binary.checked_labels(np.where(observed, label, 0))
            binary.checked_probabilities(probability, label)
        except BowerbirdError as error:
            raise type(error)(error.message, where=f'task "{task}"') from None
        if not observed.any():
            raise DataError(f'task "{task}": none of {len(label):,} rows has a label. Leave the task out.')
        return cls(observed, label[observed], probability[observed], None if user is None else user[observed])

    def metrics(self) -> dict[str, float]:
        label, probability = self.label, self.probability
        found = {
            "auc": binary.auc(label, probability),
            "logloss": binary.log_loss(label, probability),
            "ne": binary.normalised_entropy(label, probability),
            "pr_auc": binary.average_precision(label, probability),
        }
        if self.user is not None:
            found["gauc"], found["gauc_share"] = binary.grouped_auc(label, probability, self.user)
        found["ece"] = binary.expected_calibration_error(label, probability)
        return found | {"base_rate": float(label.mean(dtype=np.float64))}

    def intervals(self, seed: int) -> dict[str, tuple[float, float]]:
        names = [name for name in binary.RESAMPLED if name != "gauc" or self.user is not None]
        rng = numpy_stream(seed, "bootstrap")
        return binary.intervals(self.label, self.probability, self.probability, self.user, names, rng)

    def slices(self, task: str, column: str, values: list[str | None], group: np.ndarray) -> pl.DataFrame:
        """Return a row for each value of a column that has rows; `group` (N,) is the place of its value."""
        group = group[self.observed]
        lines = []
        for place in np.unique(group):
            keep = group == place
            label, probability = self.label[keep], self.probability[keep]
            figures = binary.auc(label, probability), binary.log_loss(label, probability)
            lines.append((task, column, values[place], len(label), *figures))
        return _slice_frame(lines).with_columns(pl.col("auc").fill_nan(None))


def _slice_frame(lines: Sequence[tuple[Any, ...]] = ()) -> pl.DataFrame:
    text, number = pl.String, pl.Float64
    kinds = {"task": text, "column": text, "value": text, "rows": pl.Int64, "auc": number, "logloss": number}
    return pl.DataFrame(lines, schema=kinds, orient="row")


def _groups(table: pl.DataFrame, name: str) -> tuple[list[str | None], np.ndarray]:
    """Return the commonest values of a column, "other" after them, and the place of each row's value among these."""
    if name not in table.columns:
        listed = ", ".join(table.columns)
        raise ConfigError(f'slices: there is no column "{name}".{did_you_mean(name, table.columns)} It has: {listed}.')
    if table[name].dtype.is_nested():
        raise ConfigError(f'slices: column "{name}" holds {table[name].dtype}; numbers or texts are needed.')
    column = table[name].cast(pl.String).alias("value").to_frame()
    common = column.group_by("value").len().sort("len", "value", descending=[True, False]).head(MOST_VALUES)
    places = common.select("value", place=pl.int_range(pl.len()))
    place = column.join(places, on="value", how="left", nulls_equal=True, maintain_order="left")["place"]
    return [*common["value"], "other"], place.fill_null(len(common)).to_numpy()


def _prefix(tasks: Sequence[str], task: str) -> str:
    return f"{task}." if len(tasks) > 1 else ""


def _protocol(rows: Rows, protocol: str, part: str, seed: int) -> str:
    said = [protocol, f"part={part}" if part else "", f"rows={len(rows)}", f"tasks={','.join(rows.tasks)}"]
    said += [] if rows.user is None else [f"users={len(np.unique(rows.user))}"]
    return " ".join([one for one in said if one] + [f"seed={seed}"])


def _same(a: np.ndarray | None, b: np.ndarray | None) -> bool:
    if a is None or b is None:
        return a is b
    return np.array_equal(a, b, equal_nan=True)


def _or_none(value: float) -> float | None:
    return None if math.isnan(value) else value
