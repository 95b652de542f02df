"""Metrics of click models, from labels that are 0 or 1 and scores or probabilities; how sure they are, by bootstrap.

Everything is computed in float64; scores are sorted in their own precision. A metric that does not exist, such as the
AUC of rows of one class, is NaN. What is no label or no probability is an error.

Shapes: N rows, P of them positive and M negative, G groups, C clusters, b resamples computed together.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import polars as pl

from bowerbird.core import DataError, ScoreError, check, closest
from bowerbird.evaluation.statistics import Difference

BLOCK = 1_000_000  # weights of rows held at once: resamples times rows
TINY = np.finfo(np.float64).tiny

Statistic = Callable[[np.ndarray], np.ndarray]  # how often each cluster was drawn (b, C) → the metric (b,)


def auc(label: np.ndarray, score: np.ndarray, weight: np.ndarray | None = None) -> float:
    """Return the area under the ROC curve: how often a positive row scores above a negative one, ties as one half.

    Labels, scores and weights are (N,). NaN where one class is missing.
    """
    label = checked_labels(label)
    return float(_Order.of(label, checked_scores(score, label)).auc(_weights(weight, label)))


def auc_pulls(label: np.ndarray, score: np.ndarray, cluster: np.ndarray | None = None) -> tuple[float, np.ndarray]:
    """Return the AUC, and how fast it changes with the weight of each cluster, (C,) by their ids, or of each row (N,).

    Their squares sum to its variance, and those of the differences of two models' pulls to that of the models'
    difference: what a bootstrap of clusters comes near, after one sort (DeLong et al., Biometrics 1988, equations 2 to
    7; of clusters Obuchowski, Biometrics 1997). NaN where one class is missing.
    """
    label = checked_labels(label)
    score, positive = checked_scores(score, label), label > 0
    n_positive, n_negative = int(positive.sum()), int((~positive).sum())
    if not n_positive or not n_negative:
        return float("nan"), np.full(len(label), np.nan)
    rank, beaten = _ranks(score), np.empty(len(label))  # share of the other class that a row is rightly apart from
    beaten[positive] = (rank[positive] - _ranks(score[positive])) / n_negative
    beaten[~positive] = 1 - (rank[~positive] - _ranks(score[~positive])) / n_positive
    value = float(beaten[positive].mean())
    pulls = (beaten - value) / np.where(positive, n_positive, n_negative)
    return value, pulls if cluster is None else np.bincount(_dense(_aligned("cluster", cluster, label)), weights=pulls)


def average_precision(label: np.ndarray, score: np.ndarray) -> float:
    """Return the area under the precision-recall curve by steps: the precision at each positive row's score, averaged.

    Rows of one score enter together. NaN where no row is positive.
    """
    label = checked_labels(label)
    return float(_Order.of(label, checked_scores(score, label)).average_precision(np.ones(len(label))))


def log_loss(label: np.ndarray, probability: np.ndarray, weight: np.ndarray | None = None) -> float:
    """Return the mean negative log-likelihood in nats.

    Probabilities are kept from 0 and 1 by the precision they come in, 1.2e-7 for float32 and 1e-15 for float64, so
    that one row that is certain and wrong costs 16 or 35 nats.
    """
    label = checked_labels(label)
    loss, weight = _losses(label, checked_probabilities(probability, label)), _weights(weight, label)
    return float(_ratio(weight @ loss, weight.sum()))


def normalised_entropy(label: np.ndarray, probability: np.ndarray) -> float:
    """Return log loss over that of predicting the base rate for every row (He et al., ADKDD 2014, equation 1).

    Below 1 is better than knowing the base rate alone. NaN where one class is missing.
    """
    return float(_ratio(log_loss(label, probability), _entropy(checked_labels(label).mean())))


def grouped_auc(label: np.ndarray, score: np.ndarray, group: np.ndarray) -> tuple[float, float]:
    """Return the mean AUC of groups, weighted by their rows, and the share of all rows that are in these groups.

    `group` is (N,), ids of any kind. Groups of one class have no AUC and are left out (Zhou et al., KDD 2018,
    arXiv:1706.06978, user-weighted AUC). The value is NaN where no group has both.
    """
    label = checked_labels(label)
    value, rows = _auc_by_group(label, checked_scores(score, label), _dense(_aligned("group", group, label)))
    covered = ~np.isnan(value)
    total = rows[covered].sum()
    return float(_ratio(value[covered] @ rows[covered], total)), float(total / len(label))


def calibration(label: np.ndarray, probability: np.ndarray, bins: int = 10) -> pl.DataFrame:
    """Return one row for each bin of equal mass, ascending: `predicted` and `observed`, means, and `rows`.

    Rows of one probability stay together, in the bin that holds the middle of their ranks, so that the order of rows
    cannot matter; where ties are large, bins are uneven and some are empty and left out.
    """
    check(bins >= 1, "bins", bins, "must be 1 or more", try_instead=10)
    label = checked_labels(label)
    values, place, rows = np.unique(checked_probabilities(probability, label), return_inverse=True, return_counts=True)
    middle = rows.cumsum() - rows / 2  # of the ranks of each distinct probability
    bin_of = (middle * bins / len(label)).astype(np.int64)
    mass, predicted, observed = (
        np.bincount(bin_of, weights=column, minlength=bins)
        for column in (rows, values.astype(np.float64) * rows, np.bincount(place, weights=label))
    )
    full = mass > 0
    return pl.DataFrame(
        {
            "predicted": predicted[full] / mass[full],
            "observed": observed[full] / mass[full],
            "rows": mass[full].astype(np.int64),
        }
    )


def expected_calibration_error(label: np.ndarray, probability: np.ndarray, bins: int = 10) -> float:
    """Return the mean distance of predicted and observed over the bins of `calibration`, weighted by their rows.

    Guo et al., ICML 2017, equation 3, with bins of equal mass in place of equal width: clicks are rare, and most bins
    of equal width would be empty.
    """
    predicted, observed, rows = calibration(label, probability, bins).to_numpy().T
    return float(np.abs(predicted - observed) @ rows / rows.sum())


def intervals(
    label: np.ndarray,
    score: np.ndarray,
    probability: np.ndarray,
    cluster: np.ndarray | None,
    metrics: Sequence[str],
    rng: np.random.Generator,
    *,
    resamples: int = 500,
) -> dict[str, tuple[float, float]]:
    """Return the 95 % percentile bootstrap interval of each metric, all from the same resamples.

    `cluster` (N,) is what is drawn with replacement, whole, such as the user of each row; None draws rows. `metrics`
    are names of `RESAMPLED`; "gauc" groups by cluster. The expected calibration error is not among them: being a mean
    of distances, it is larger on every resample than on the sample. Resamples that lack a class are left out of the
    metrics that need both; an interval is NaN where all do.
    """
    sample = _Sample.of(label, score, probability, cluster)
    drawn = _resampled([sample.statistic(name) for name in metrics], sample, resamples, rng)
    return {name: _percentiles(values) for name, values in zip(metrics, drawn, strict=True)}


def paired_difference(
    label: np.ndarray,
    one: np.ndarray,
    other: np.ndarray,
    cluster: np.ndarray | None,
    metric: str,
    rng: np.random.Generator,
    *,
    resamples: int = 1000,
) -> Difference:
    """Return by how much the probabilities `one` are better than `other` on the same rows, from the same resamples.

    It is one − other, and other − one for "logloss" and "ne", which are better when lower, so that above zero always
    speaks for `one`. `cluster` and `metric` are as in `intervals`; p is twice the smaller tail, at least 1 / resamples,
    and 1 where the metric does not exist.
    """
    a, b = (_Sample.of(label, probability, probability, cluster) for probability in (one, other))
    pair, sign = [a.statistic(metric), b.statistic(metric)], -1 if metric in LOWER_IS_BETTER else 1
    mean = sign * float(np.subtract(*(statistic(np.ones((1, a.n_clusters)))[0] for statistic in pair)))
    gaps = sign * np.subtract(*_resampled(pair, a, resamples, rng))
    low, high = _percentiles(gaps)
    gaps = gaps[~np.isnan(gaps)]
    tail = min(float((gaps <= 0).mean()), float((gaps >= 0).mean())) if len(gaps) else 1.0
    return Difference(metric, mean, low, high, min(1.0, max(2 * tail, 1 / resamples)))


def checked_labels(label: np.ndarray) -> np.ndarray:
    """Return labels (N,) as float64; raises `DataError` unless there is a row and all are 0 or 1."""
    found = np.asarray(label)
    if found.ndim != 1 or not len(found):
        raise DataError(f"labels have shape {found.shape}; (N,) is needed, with at least one row.")
    bad = np.flatnonzero((found != 0) & (found != 1))
    if len(bad):
        raise DataError(
            f"{len(bad):,} of {len(found):,} labels are neither 0 nor 1 (first: row {bad[0] + 1:,}, {found[bad[0]]}). "
            "Turn ratings into 0 and 1 by a threshold, and leave out rows without a label."
        )
    return found.astype(np.float64)


def checked_scores(score: np.ndarray, label: np.ndarray) -> np.ndarray:
    """Return scores in their own precision; raises `DataError` unless (N,), and `ScoreError` where some are NaN."""
    found = _aligned("score", score, label)
    bad = np.flatnonzero(np.isnan(found))
    if len(bad):
        raise ScoreError(
            f"{len(bad):,} of {len(found):,} scores are not numbers (first: row {bad[0] + 1:,}). Train the model again."
        )
    return found


def checked_probabilities(probability: np.ndarray, label: np.ndarray) -> np.ndarray:
    """Return probabilities in their own precision; raises `DataError` unless (N,), `ScoreError` unless 0 to 1."""
    found = _aligned("probability", probability, label)
    found = found if np.issubdtype(found.dtype, np.floating) else found.astype(np.float64)
    bad = np.flatnonzero(~((found >= 0) & (found <= 1)))
    if len(bad):
        raise ScoreError(
            f"{len(bad):,} of {len(found):,} probabilities are not from 0 to 1 (first: row {bad[0] + 1:,}, "
            f"{found[bad[0]]}). Give the sigmoid of logits; train the model again where they are not finite."
        )
    return found


def _weights(weight: np.ndarray | None, label: np.ndarray) -> np.ndarray:
    """Return the weight of each row as float64 (N,), 1 unless given."""
    if weight is None:
        return np.ones(len(label))
    found = _aligned("weight", weight, label).astype(np.float64)
    bad = np.flatnonzero(~((found >= 0) & (found < np.inf)))
    if len(bad):
        raise DataError(
            f"{len(bad):,} of {len(found):,} weights are negative or not finite (first: row {bad[0] + 1:,}, "
            f"{found[bad[0]]}). Give 0 to leave a row out."
        )
    return found


def _aligned(name: str, column: np.ndarray, label: np.ndarray) -> np.ndarray:
    """Return a column as an array; raises `DataError` unless it is as long as the labels."""
    found = np.asarray(column)
    if found.shape != label.shape:
        raise DataError(f"{name} has shape {found.shape}; {label.shape} is needed, a value for each label.")
    return found


@dataclass(frozen=True, eq=False)
class _Order:
    """Positive and negative rows by ascending score, and how they lie between one another.

    It is sorted once; each metric of a weighting, and so of a resample, is then running sums and look-ups.
    """

    positive: np.ndarray  # int (P,): rows
    negative: np.ndarray  # int (M,)
    before: np.ndarray  # int (P,): positives that score less than each positive
    below: np.ndarray  # int (P,): negatives that score less
    level: np.ndarray  # int (P,): negatives that score no more

    @classmethod
    def of(cls, label: np.ndarray, score: np.ndarray) -> "_Order":
        order = np.argsort(score)
        hit = label[order] == 1
        positive, negative = order[hit], order[~hit]
        high, low = score[positive], score[negative]
        before, below = np.searchsorted(high, high), np.searchsorted(low, high)
        return cls(positive, negative, before, below, np.searchsorted(low, high, side="right"))

    def of_clusters(self, cluster: np.ndarray) -> "_Order":
        """Return the same order, to be weighted by the clusters of the rows."""
        return _Order(cluster[self.positive], cluster[self.negative], self.before, self.below, self.level)

    def auc(self, weight: np.ndarray) -> np.ndarray:
        """Return the AUC (…) under weights (…, N)."""
        won, lost = weight[..., self.positive], _running(weight[..., self.negative])
        wins = (won * (lost[..., self.below] + lost[..., self.level])).sum(axis=-1) / 2
        return _ratio(wins, won.sum(axis=-1) * lost[..., -1])

    def average_precision(self, weight: np.ndarray) -> np.ndarray:
        """Return the average precision (…) under weights (…, N)."""
        won, lost = weight[..., self.positive], _running(weight[..., self.negative])
        gained = _running(won)
        found = gained[..., -1:] - gained[..., self.before]
        shown = found + lost[..., -1:] - lost[..., self.below]  # 0 only where `won` is 0 too
        return _ratio((won * found / np.maximum(shown, TINY)).sum(axis=-1), gained[..., -1])


@dataclass(frozen=True, eq=False)
class _Sample:
    """The rows of one model and the clusters they are drawn by."""

    label: np.ndarray
    score: np.ndarray
    probability: np.ndarray
    cluster: np.ndarray  # int (N,): 0 to C − 1
    n_clusters: int
    by_row: bool  # every row is a cluster of its own

    @classmethod
    def of(cls, label: np.ndarray, score: np.ndarray, probability: np.ndarray, cluster: np.ndarray | None) -> "_Sample":
        label = checked_labels(label)
        score, probability = checked_scores(score, label), checked_probabilities(probability, label)
        if cluster is None:
            return cls(label, score, probability, np.arange(len(label)), len(label), by_row=True)
        dense = _dense(_aligned("cluster", cluster, label))
        return cls(label, score, probability, dense, int(dense.max()) + 1, by_row=False)

    @cached_property
    def order(self) -> _Order:
        return _Order.of(self.label, self.score).of_clusters(self.cluster)

    def sums(self, values: np.ndarray) -> np.ndarray:
        """Return the sum of values (N,) over each cluster (C,)."""
        return np.bincount(self.cluster, weights=values, minlength=self.n_clusters)

    def statistic(self, metric: str) -> Statistic:
        """Return what computes a metric of resamples; raises `ConfigError` for a name that has none."""
        rule = f"must be one of {', '.join(RESAMPLED)}"
        check(metric in RESAMPLED, "metric", metric, rule, try_instead=closest(metric, RESAMPLED) or "auc")
        check(metric != "gauc" or not self.by_row, "metric", metric, "needs the users as clusters", try_instead="auc")
        return RESAMPLED[metric](self)


def _resampled_log_loss(sample: _Sample) -> Statistic:
    loss, rows = sample.sums(_losses(sample.label, sample.probability)), sample.sums(np.ones(len(sample.label)))
    return lambda drawn: _ratio(drawn @ loss, drawn @ rows)


def _resampled_entropy(sample: _Sample) -> Statistic:
    loss = _resampled_log_loss(sample)
    positives, rows = sample.sums(sample.label), sample.sums(np.ones(len(sample.label)))
    return lambda drawn: _ratio(loss(drawn), _entropy(drawn @ positives / (drawn @ rows)))


def _resampled_grouped_auc(sample: _Sample) -> Statistic:
    value, rows = _auc_by_group(sample.label, sample.score, sample.cluster)
    rows = np.where(np.isnan(value), 0, rows)
    total = np.nan_to_num(value) * rows
    return lambda drawn: _ratio(drawn @ total, drawn @ rows)


RESAMPLED: dict[str, Callable[[_Sample], Statistic]] = {
    "auc": lambda sample: sample.order.auc,
    "logloss": _resampled_log_loss,
    "ne": _resampled_entropy,
    "pr_auc": lambda sample: sample.order.average_precision,
    "gauc": _resampled_grouped_auc,
}
LOWER_IS_BETTER = ("logloss", "ne")


def _resampled(
    statistics: Sequence[Statistic], sample: _Sample, resamples: int, rng: np.random.Generator
) -> np.ndarray:
    """Return each statistic (statistics, resamples) of clusters drawn with replacement, as many as there are."""
    check(resamples >= 1, "resamples", resamples, "must be 1 or more", try_instead=500)
    n, step = sample.n_clusters, max(1, BLOCK // len(sample.label))
    values = np.empty((len(statistics), resamples))
    for start in range(0, resamples, step):
        size = min(step, resamples - start)
        picks = rng.integers(0, n, (size, n)) + n * np.arange(size)[:, None]
        drawn = np.bincount(picks.ravel(), minlength=size * n).reshape(size, n).astype(np.float64)
        for row, statistic in enumerate(statistics):
            values[row, start : start + size] = statistic(drawn)
    return values


def _percentiles(values: np.ndarray) -> tuple[float, float]:
    """Return the 2.5th and 97.5th percentile of the values that exist."""
    found = values[~np.isnan(values)]
    if not len(found):
        return float("nan"), float("nan")
    low, high = np.quantile(found, [0.025, 0.975])
    return float(low), float(high)


def _auc_by_group(label: np.ndarray, score: np.ndarray, group: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the AUC (G,) and the rows (G,) of each group; `group` is int (N,), 0 to G − 1."""
    place = _dense(score)
    order = _Order.of(label, group * (place.max() + 1) + place)  # by group, then by score
    rows = np.bincount(group)
    of = group[order.positive]
    positives = np.bincount(of, minlength=len(rows))
    negatives = rows - positives
    earlier = negatives.cumsum() - negatives  # negatives of the groups before
    wins = np.bincount(of, weights=(order.below + order.level) / 2 - earlier[of], minlength=len(rows))
    return _ratio(wins, positives * negatives), rows


def _losses(label: np.ndarray, probability: np.ndarray) -> np.ndarray:
    """Return the negative log-likelihood of each row (N,)."""
    edge = max(float(np.finfo(probability.dtype).eps), 1e-15)
    kept = np.clip(probability.astype(np.float64), edge, 1 - edge)
    return -np.where(label == 1, np.log(kept), np.log1p(-kept))


def _entropy(rate: np.ndarray | float) -> np.ndarray:
    """Return the entropy in nats of a coin that shows 1 at this rate."""
    from scipy.special import entr  # here, since it takes a start of the server a quarter of a second

    return np.asarray(entr(rate) + entr(np.subtract(1.0, rate)))


def _dense(values: np.ndarray) -> np.ndarray:
    """Return the place of each value among the distinct ones, int (N,)."""
    place: np.ndarray = np.unique(values, return_inverse=True)[1]
    return place


def _ranks(score: np.ndarray) -> np.ndarray:
    """Return ranks from 1 (N,), the mean of theirs for equal scores; SciPy's take longer and 0.6 s to import."""
    return pl.Series(score).rank().to_numpy()


def _running(values: np.ndarray) -> np.ndarray:
    """Return running sums (…, n + 1) over the last axis, from 0."""
    sums = np.zeros((*values.shape[:-1], values.shape[-1] + 1))
    np.cumsum(values, axis=-1, out=sums[..., 1:])
    return sums


def _ratio(part: np.ndarray | float, whole: np.ndarray | float) -> np.ndarray:
    """Return part / whole, NaN where the whole is 0."""
    out = np.full(np.shape(whole), np.nan)
    np.divide(part, whole, where=np.asarray(whole) > 0, out=out)
    return out
