"""Predictors: fitted on a feature table, asked, saved, loaded, trained again, and what they refuse."""

import json
from dataclasses import asdict
from pathlib import Path

import numpy as np
import polars as pl
import pytest

import bowerbird as bb
from bowerbird.core import BundleError, ConfigError, DataError
from bowerbird.data import Interactions, Rows, RowSplit, given_rows
from bowerbird.evaluation.binary import auc
from bowerbird.features import Categorical, Numeric
from bowerbird.models.ranking.fm import FM
from bowerbird.testing import halves_as_rows
from bowerbird.testing.halves import COLUMNS

QUIET = bb.RunOptions(device="cpu", progress=False)
QUICK = {"dim": 4, "epochs": 4, "patience": 4, "learning_rate": 0.02, "batch_size": 256}


@pytest.fixture(scope="module")
def split() -> RowSplit:
    return halves_as_rows()


@pytest.fixture(scope="module")
def predictor(split: RowSplit) -> bb.Predictor:
    return bb.fit(split, "fm", columns=COLUMNS, run=QUIET, **QUICK)


def test_it_says_how_likely_each_label_is_for_rows_and_for_tables(predictor: bb.Predictor, split: RowSplit) -> None:
    found = predictor.predict(split.test)
    assert found.shape == (480, 1)
    assert ((found > 0) & (found < 1)).all()
    assert np.array_equal(predictor.predict(split.test.table), found)
    assert auc(split.test.labels[:, 0], found[:, 0]) > 0.85
    assert (predictor.name, predictor.tasks, predictor.version) == ("fm", ("label",), None)
    assert repr(predictor) == "Predictor(fm, 5 columns, version None)"


def test_other_columns_and_their_order_do_not_matter(predictor: bb.Predictor, split: RowSplit) -> None:
    table = split.test.table
    other = table.select(pl.lit("x").alias("more"), *reversed(table.columns))
    assert np.array_equal(predictor.predict(other), predictor.predict(table))


def test_columns_are_inferred_where_none_are_given(split: RowSplit) -> None:
    made = bb.fit(split, "logistic", run=QUIET, epochs=2)
    assert [(one.name, one.kind) for one in made.encoder.columns[""]] == [
        ("user", "categorical"), ("item", "categorical"), ("price", "numeric"), ("tags", "bag"), ("past", "bag"),
    ]  # fmt: skip


def test_a_bare_table_is_learned_for_all_epochs_and_not_calibrated(split: RowSplit) -> None:
    made = bb.fit(split.train, "fm", columns=COLUMNS, run=QUIET, **QUICK)
    assert made.training is not None
    assert (made.training.epochs, made.training.best_epoch, made.training.select) == (4, 4, "")
    assert made.ranking.calibration.tolist() == [[1, 0]]


def test_several_labels_are_learned_each_by_the_rows_that_have_it(split: RowSplit) -> None:
    rng = np.random.default_rng(0)

    def second(part: Rows) -> Rows:
        other = np.where(rng.random((len(part), 1)) < 0.5, 1 - part.labels, np.nan)
        return Rows(part.table, np.hstack([part.labels, other]).astype(np.float32), ("like", "skip"))

    two = given_rows(*(second(part) for part in (split.train, split.valid, split.test)))
    made = bb.fit(two, "mmoe", columns=COLUMNS, run=QUIET, **QUICK | {"hidden": (16,), "tower": (8,), "epochs": 6})
    like, skip = made.predict(two.test).T
    label = split.test.labels[:, 0]
    assert auc(label, like) > 0.8
    assert auc(1 - label, skip) > 0.8
    with pytest.raises(
        ConfigError, match=r"FM learns one label; there are 2: like, skip\. Name one of them, or take mm"
    ):
        bb.fit(two, "fm", columns=COLUMNS, run=QUIET)


def test_loaded_it_is_what_was_saved(predictor: bb.Predictor, split: RowSplit, tmp_path: Path) -> None:
    predictor.measured = {"metrics": {"auc": 0.9}, "trained_on": "the train part"}
    assert predictor.save(tmp_path) == "000001"
    again = bb.Predictor.load(tmp_path)
    assert np.array_equal(again.predict(split.test), predictor.predict(split.test))
    assert np.array_equal(again.predict(split.test, raw=True), predictor.predict(split.test, raw=True))
    assert again.encoder.columns == predictor.encoder.columns
    assert (again.name, again.tasks, again.version) == ("fm", ("label",), "000001")
    assert again.measured == predictor.measured
    assert again.ranking.config == predictor.ranking.config
    assert again.training is not None
    assert asdict(again.training) == asdict(predictor.training) | {"curve": []}  # type: ignore[arg-type]


def test_each_save_is_a_version_that_can_be_asked_for(split: RowSplit, tmp_path: Path) -> None:
    first, second = (bb.fit(split, "logistic", columns=COLUMNS[:2], run=QUIET, epochs=1, l2=l2) for l2 in (0.0, 0.5))
    assert (first.save(tmp_path), second.save(tmp_path)) == ("000001", "000002")
    assert bb.Predictor.load(tmp_path).ranking.config == second.ranking.config
    oldest = bb.Predictor.load(tmp_path, version="000001")
    assert np.array_equal(oldest.predict(split.test), first.predict(split.test))
    second.save(tmp_path)
    manifest = json.loads((tmp_path / "bundles" / "000003" / "manifest.json").read_text())
    assert (manifest["kind"], manifest["parent"]) == ("rows", "000002")


def test_a_bundle_holds_no_row(predictor: bb.Predictor, tmp_path: Path) -> None:
    predictor.save(tmp_path)
    assert sorted(one.name for one in (tmp_path / "bundles" / "000001").iterdir()) == [
        "manifest.json", "vocabulary.parquet", "weights.safetensors",
    ]  # fmt: skip


def test_trained_again_it_keeps_epochs_columns_and_calibration(predictor: bb.Predictor, split: RowSplit) -> None:
    predictor.measured = {"metrics": {"auc": 0.9}}
    everything = Rows.concat([split.train, split.valid, split.test])
    again = predictor.refit(everything)
    assert predictor.training is not None
    assert again.training is not None
    assert again.training.epochs == predictor.training.best_epoch
    assert again.encoder.columns == predictor.encoder.columns
    assert again.ranking.calibration.tolist() == predictor.ranking.calibration.tolist()
    assert again.measured == predictor.measured
    assert not np.array_equal(again.predict(split.test), predictor.predict(split.test))


def test_trained_again_after_loading_it_is_the_same(predictor: bb.Predictor, split: RowSplit, tmp_path: Path) -> None:
    predictor.save(tmp_path)
    one, other = predictor.refit(split.valid), bb.Predictor.load(tmp_path, options=QUIET).refit(split.valid)
    assert np.array_equal(one.predict(split.test), other.predict(split.test))


def test_stopped_while_trained_again_it_is_nothing_half_done(
    predictor: bb.Predictor, split: RowSplit, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(self: FM, batch: object) -> None:
        raise KeyboardInterrupt

    before = predictor.predict(split.test)
    monkeypatch.setattr(FM, "loss", stop)
    with pytest.raises(KeyboardInterrupt):
        predictor.refit(split.train)
    assert np.array_equal(predictor.predict(split.test), before)


def test_what_it_cannot_read_is_counted(split: RowSplit) -> None:
    columns = [Categorical(name="user"), Categorical(name="item"), Numeric(name="price", transform="standard")]
    made = bb.fit(split, "logistic", columns=columns, run=QUIET, epochs=1)
    made.encoder.counts.clear()
    made.predict(pl.DataFrame({"user": ["u1", "nobody", None], "item": ["i1"] * 3, "price": [np.inf, None, 1e9]}))
    assert dict(made.encoder.counts) == {
        "user: empty": 1, "user: not seen in training": 1, "price: empty": 1, "price: not finite": 1,
        "price: out of bounds": 1,
    }  # fmt: skip


def test_a_table_without_a_column_is_refused(predictor: bb.Predictor, split: RowSplit) -> None:
    table = split.test.table.rename({"price": "prize"})
    with pytest.raises(
        DataError, match=r'there is no column "price"\. Did you mean "prize"\? It has: user, item, prize'
    ):
        predictor.predict(table)
    with pytest.raises(DataError, match=r'there is no column "age"\. .*It has: user, item, price, tags, past'):
        bb.fit(split, "fm", columns=[Categorical(name="user"), Numeric(name="age")], run=QUIET)


def test_a_table_without_any_column_that_says_something_is_refused() -> None:
    rows = Rows(pl.DataFrame({"note": [None] * 4}), np.array([[0], [1], [0], [1]], np.float32), ("label",))
    with pytest.raises(ConfigError, match=r"there is no column to learn from\. Describe them in TOML"):
        bb.fit(rows, "fm", run=QUIET)


def test_labels_of_another_shape_are_refused(split: RowSplit) -> None:
    with pytest.raises(DataError, match=r"labels have shape \(3, 2\); \(3, 1\) \(rows, tasks\) is needed"):
        Rows(split.train.table[:3], np.zeros((3, 2), np.float32), ("label",))


def test_a_model_of_interactions_learns_no_feature_table(split: RowSplit) -> None:
    with pytest.raises(ConfigError, match=r"itemknn learns from interactions, not from a feature table\. Take deepfm"):
        bb.fit(split, "itemknn")


def test_each_kind_of_bundle_is_loaded_by_its_own_door(
    predictor: bb.Predictor, numbered: Interactions, tmp_path: Path
) -> None:
    predictor.save(tmp_path / "rows")
    bb.fit(numbered, "popularity").save(tmp_path / "events")
    with pytest.raises(
        BundleError, match=r"rows holds a predictor of feature rows\. Load it with bb\.Predictor\.load\("
    ):
        bb.load(tmp_path / "rows")
    with pytest.raises(BundleError, match=r"events holds a recommender\. Load it with bb\.load\("):
        bb.Predictor.load(tmp_path / "events")
