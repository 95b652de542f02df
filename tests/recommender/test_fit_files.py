"""Fitting on files: it learns what a fit in memory learns, takes columns and validation rows as told, and refuses."""

from pathlib import Path

import numpy as np
import polars as pl
import pytest

from bowerbird.core import ConfigError, DataError, RunOptions
from bowerbird.data import Rows, read_rows
from bowerbird.evaluation.binary import auc
from bowerbird.features import Categorical, Numeric
from bowerbird.models.ranking.logistic import LogisticConfig
from bowerbird.recommender import Predictor, predictor

QUIET = RunOptions(device="cpu", progress=False)
CONFIG = LogisticConfig(batch_size=64, epochs=8, learning_rate=0.05)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """2,400 training rows in two parts and 600 of validation: large numbers and the colour red make a click likely."""
    rng = np.random.default_rng(0)
    n = 3000
    colour, size = rng.integers(0, 4, n), rng.normal(0, 1, n)
    frame = pl.DataFrame({
        "colour": np.array(["red", "green", "blue", "grey"])[colour],
        "size": size,
        "click": (rng.logistic(size=n) < 2 * size + 2 * (colour == 0) - 1).astype(np.int8),
    })  # fmt: skip
    (tmp_path / "train").mkdir()
    frame[:1000].write_parquet(tmp_path / "train" / "a.parquet", row_group_size=300)
    frame[1000:2400].write_parquet(tmp_path / "train" / "b.parquet")
    frame[2400:].write_parquet(tmp_path / "valid.parquet")
    return tmp_path


def test_it_learns_what_a_fit_in_memory_learns(folder: Path) -> None:
    valid = read_rows(folder / "valid.parquet", labels="click")
    streamed = Predictor.fit_files(folder / "train", folder / "valid.parquet", CONFIG, labels="click", run=QUIET)
    held = Predictor.fit(read_rows(folder / "train", labels="click"), valid, CONFIG, run=QUIET)
    assert [column.name for column in streamed.encoder.columns[""]] == ["colour", "size"]
    assert streamed.encoder.schema == held.encoder.schema
    first, second = streamed.predict(valid), held.predict(valid)
    areas = [auc(valid.labels[:, 0], one[:, 0]) for one in (first, second)]
    assert areas[0] == pytest.approx(areas[1], abs=0.01)  # the order of the rows is another one
    assert areas[0] > 0.8
    assert streamed.training is not None
    assert streamed.training.select == "auc"


def test_it_can_be_saved_and_loaded(folder: Path, tmp_path: Path) -> None:
    made = Predictor.fit_files(folder / "train", None, CONFIG, labels="click", run=QUIET, epochs=1)
    made.save(tmp_path / "run")
    rows = pl.read_parquet(folder / "valid.parquet")
    assert np.array_equal(Predictor.load(tmp_path / "run", options=QUIET).predict(rows), made.predict(rows))
    assert made.training is not None
    assert (made.training.epochs, made.training.select) == (1, "")


def test_columns_are_taken_as_told(folder: Path) -> None:
    columns = (Categorical(name="colour", min_count=10), Numeric(name="size", buckets=5))
    made = Predictor.fit_files(
        str(folder / "train" / "*.parquet"), None, CONFIG, labels=["click"], columns=columns, run=QUIET, epochs=1
    )
    assert made.encoder.columns[""] == columns


def test_of_long_validation_files_evenly_spread_rows_are_taken(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = list[Rows]()
    source = Predictor.source
    monkeypatch.setattr(predictor, "MOST", 250)
    monkeypatch.setattr(Predictor, "source", lambda made, rows: seen.append(rows) or source(made, rows))
    Predictor.fit_files(folder / "train", folder / "valid.parquet", CONFIG, labels="click", run=QUIET, epochs=1)
    whole = read_rows(folder / "valid.parquet", labels="click")
    assert seen[0].table.equals(whole.table.gather_every(3))  # 600 rows, 250 at most
    assert np.array_equal(seen[0].labels, whole.labels[::3])


def test_what_cannot_be_learned_is_refused_before_anything_is_read(folder: Path) -> None:
    train = folder / "train"
    with pytest.raises(DataError, match=r'train: there is no column "clic"\. Did you mean "click"\?'):
        Predictor.fit_files(train, None, CONFIG, labels="clic", run=QUIET)
    with pytest.raises(DataError, match=r'column "colour": a label is a number, not String'):
        Predictor.fit_files(train, None, CONFIG, labels="colour", run=QUIET)
    with pytest.raises(DataError, match=r'no column "shape"'):
        Predictor.fit_files(train, None, CONFIG, labels="click", columns=[Categorical(name="shape")], run=QUIET)
    with pytest.raises(ConfigError, match="there is no column to learn from"):
        Predictor.fit_files(train, None, CONFIG, labels="click", columns=[], run=QUIET)
