"""Rankings: calibration against an oracle, and what a ranker is chosen by."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn.linear_model import LogisticRegression

import bowerbird as bb
from bowerbird.core import BundleError, ConfigError, DataError
from bowerbird.data import Rows, RowSplit, given_rows
from bowerbird.evaluation.binary import auc, log_loss
from bowerbird.models.ranking.fm import FMConfig
from bowerbird.recommender.ranking import Ranking, calibrated
from bowerbird.testing import halves_as_rows
from bowerbird.testing.halves import COLUMNS

QUIET = bb.RunOptions(device="cpu", progress=False)
CONFIG = FMConfig(dim=4, epochs=4, learning_rate=0.02, batch_size=256, patience=4)


def drawn(n: int, scale: float, shift: float, spread: float, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Return logits (N, 1), and labels drawn under scale and shift."""
    rng = np.random.default_rng(seed)
    logit = rng.normal(0, spread, (n, 1))
    return logit, (rng.logistic(size=(n, 1)) < logit * scale + shift).astype(np.float32)


def pair_of(logit: np.ndarray, label: np.ndarray) -> list[float]:
    found: list[float] = calibrated(torch.from_numpy(logit), torch.from_numpy(label))[0].tolist()
    return found


@pytest.mark.parametrize(
    ("n", "scale", "shift", "spread"),
    [(4_000, 0.5, -1.0, 2.0), (4_000, 2.0, 1.0, 10.0), (20_000, 0.3, -4.0, 3.0), (4_000, 1e-3, 0.0, 1000.0),
     (4_000, 1.0, 6.0, 1.0), (4_000, 0.1, 3.0, 100.0)],
)  # fmt: skip
def test_calibration_is_logistic_regression_on_the_logits(n: int, scale: float, shift: float, spread: float) -> None:
    logit, label = drawn(n, scale, shift, spread)
    oracle = LogisticRegression(C=np.inf, tol=1e-9, max_iter=10_000).fit(logit, label[:, 0])
    assert pair_of(logit, label) == pytest.approx([oracle.coef_[0, 0], oracle.intercept_[0]], rel=2e-3, abs=2e-3)


def test_rows_weigh_in_calibration_as_if_they_were_there_more_often() -> None:
    logit, label = drawn(900, 0.5, -1.0, 2.0)
    times = np.random.default_rng(2).integers(1, 5, len(logit))
    weighed = calibrated(*map(torch.from_numpy, (logit, label, times.astype(np.float32))))[0].tolist()
    assert weighed == pytest.approx(pair_of(np.repeat(logit, times, 0), np.repeat(label, times, 0)), abs=1e-5)
    assert weighed != pytest.approx(pair_of(logit, label), abs=1e-3)


def test_each_label_is_calibrated_by_the_rows_that_have_it() -> None:
    (one, first), (other, second) = drawn(900, 0.5, -1.0, 2.0), drawn(900, 1.5, 0.5, 1.0, seed=1)
    half = second.copy()
    half[::2] = np.nan
    both = calibrated(torch.from_numpy(np.hstack([one, other])), torch.from_numpy(np.hstack([first, half])))
    assert both[0].tolist() == pair_of(one, first)
    assert both[1].tolist() == pytest.approx(pair_of(other[1::2], second[1::2]), abs=1e-6)


def test_where_calibration_is_hopeless_logits_stay_as_they_are() -> None:
    logit, label = drawn(500, 1.0, 0.0, 2.0)
    assert pair_of(logit, 1 - label) == [1, 0]  # it would turn the order round
    assert pair_of(logit, label * 0) == pair_of(logit, label * 0 + 1) == [1, 0]  # one class says nothing of the other
    assert pair_of(logit, label * np.nan) == pair_of(logit[:0], label[:0]) == [1, 0]


def test_logits_that_tell_nothing_are_shifted_to_the_base_rate() -> None:
    label = np.repeat([1, 0], [100, 900])[:, None].astype(np.float32)
    scale, shift = pair_of(np.zeros((1000, 1)), label)
    assert (scale, shift) == (1, pytest.approx(np.log(1 / 9), abs=1e-3))


@given(st.lists(st.tuples(st.floats(-1e6, 1e6), st.booleans()), min_size=1, max_size=40))
def test_calibration_keeps_the_order_and_costs_nothing(rows: list[tuple[float, bool]]) -> None:
    logit = np.array([[one] for one, _ in rows])
    label = np.array([[float(other)] for _, other in rows], np.float32)
    scale, shift = pair_of(logit, label)
    assert scale > 0
    assert np.isfinite([scale, shift]).all()

    def loss(x: np.ndarray) -> float:
        return float(np.logaddexp(0, np.where(label == 1, -x, x)).sum())

    assert loss(logit * scale + shift) <= loss(logit) * (1 + 1e-4) + 1e-4


def fitted(**settings: object) -> bb.Predictor:
    return bb.fit(halves_as_rows(), replace(CONFIG, **settings), run=QUIET, columns=COLUMNS)


@pytest.fixture(scope="module")
def predictor() -> bb.Predictor:
    return fitted()


def test_probabilities_are_calibrated_logits_and_raw_ones_are_not(predictor: bb.Predictor) -> None:
    ranking, source = predictor.ranking, predictor.source(halves_as_rows().test)
    scale, shift = ranking.calibration[0].tolist()
    logit = ranking.logits(source).double().numpy()
    assert ranking.probabilities(source) == pytest.approx(1 / (1 + np.exp(-logit * scale - shift)), abs=1e-6)
    assert ranking.probabilities(source, raw=True) == pytest.approx(1 / (1 + np.exp(-logit)), abs=1e-6)
    assert (scale, shift) != (1, 0)
    assert ranking.probabilities(source).dtype == np.float64


@pytest.mark.parametrize("select", ["auc", "logloss"])
def test_the_epoch_is_chosen_by_the_metric_asked_for(select: str) -> None:
    made, valid = fitted(select=select), halves_as_rows().valid
    assert made.training is not None
    assert made.training.select == select
    values = [row[select] for row in made.training.curve]
    assert made.training.best == max(values) == values[made.training.best_epoch - 1]
    label, raw = valid.labels[:, 0], made.predict(valid, raw=True)[:, 0]
    reached = auc(label, raw) if select == "auc" else -log_loss(label, raw)  # larger is better, of a loss too
    assert made.training.best == pytest.approx(reached, abs=1e-6)


def test_a_ranker_is_not_chosen_by_lists() -> None:
    with pytest.raises(ConfigError, match=r"select is 'ndcg@10'; a ranker is chosen by auc or logloss\. Try select ="):
        fitted(select="ndcg@10")


def relabelled(train: np.ndarray, valid: np.ndarray) -> RowSplit:
    split = halves_as_rows()
    parts = [Rows(part.table, labels.astype(np.float32), part.tasks) for part, labels in
             ((split.train, train), (split.valid, valid))]  # fmt: skip
    return given_rows(*parts, split.test)


def test_labels_that_are_neither_0_nor_1_are_refused() -> None:
    split = halves_as_rows()
    stars = 1 + split.train.labels * 4
    says = r'task "label": [\d,]+ of 1,440 training rows have a label that is neither 0 nor 1 \(first: row \d+, 5\)'
    with pytest.raises(DataError, match=says):
        bb.fit(relabelled(stars, split.valid.labels), CONFIG, run=QUIET, columns=COLUMNS)
    with pytest.raises(
        DataError, match=r"480 of 480 validation rows .*\(first: row 1, 0\.5\)\. Turn ratings into 0 and"
    ):
        bb.fit(relabelled(split.train.labels, split.valid.labels * 0 + 0.5), CONFIG, run=QUIET, columns=COLUMNS)


def test_validation_that_says_nothing_is_told_before_training() -> None:
    split = halves_as_rows()
    ones, none = split.valid.labels * 0 + 1, split.valid.labels * np.nan
    with pytest.raises(
        DataError, match='task "label": of 480 validation rows all have label 1, so that auc says nothin'
    ):
        bb.fit(relabelled(split.train.labels, ones), CONFIG, run=QUIET, columns=COLUMNS)
    with pytest.raises(DataError, match="of 480 validation rows none has a label, so that logloss says nothing"):
        bb.fit(relabelled(split.train.labels, none), replace(CONFIG, select="logloss"), run=QUIET, columns=COLUMNS)
    made = bb.fit(relabelled(split.train.labels, ones), replace(CONFIG, select="logloss"), run=QUIET, columns=COLUMNS)
    assert made.ranking.calibration.tolist() == [[1, 0]]


def test_a_training_goes_on_only_with_the_same_rows_and_columns(tmp_path: object) -> None:
    run, split = replace(QUIET, checkpoint=str(tmp_path)), halves_as_rows()
    resumed = []
    for data, columns in ((split, COLUMNS), (split, COLUMNS), (split, COLUMNS[:2]), (relabelled(
            1 - split.train.labels, split.valid.labels), COLUMNS)):  # fmt: skip
        made = bb.fit(data, replace(CONFIG, epochs=1), run=run, columns=columns)
        assert made.training is not None
        resumed.append(made.training.resumed_from)
    assert resumed == [0, 1, 0, 0]


def test_weights_of_another_model_are_refused(predictor: bb.Predictor) -> None:
    ranking = predictor.ranking
    document, vocabulary = ranking.document, ranking.encoder.vocabulary
    with pytest.raises(BundleError, match="the weights do not fit fm: "):
        Ranking.of(document | {"config": document["config"] | {"dim": 8}}, ranking.tensors, vocabulary, QUIET)
    without = {name: one for name, one in ranking.tensors.items() if name != "calibration"}
    with pytest.raises(BundleError, match="the weights do not fit fm: 'calibration'"):
        Ranking.of(document, without, vocabulary, QUIET)
