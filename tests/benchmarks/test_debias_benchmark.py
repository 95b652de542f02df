"""The benchmark of debiased training: its figures by hand, its balanced cut, and both tasks on small worlds."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

import _shared
import debias
from bowerbird import read, split
from bowerbird.data import Split

LastRow = Callable[[], dict[str, Any]]


def ratings() -> Split:
    """Thirty people who rate what they like five times as often; the test asks everybody about half of the items."""
    rng = np.random.default_rng(0)
    user, item = (side.ravel() for side in np.meshgrid(np.arange(30), np.arange(40), indexing="ij"))
    rating = np.where(rng.random(len(user)) < np.where(user % 2 == item % 2, 0.6, 0.1), 5, 1)
    chance = np.where(rating == 5, 0.6, 0.12)
    frame = pl.DataFrame({"user_id": user, "item_id": item, "rating": rating, "propensity": chance})
    asked = (item + user) % 4 < 2
    train, test = frame.filter(~asked & (rng.random(len(user)) < chance)), frame.filter(asked)
    return split(read(train), test=read(test))


def readings() -> Split:
    """Forty people of two tastes who mostly read what is at the top; the test has each article as often."""
    rng = np.random.default_rng(1)
    user, item = (side.ravel() for side in np.meshgrid(np.arange(40), np.arange(60), indexing="ij"))
    own = (user + item) % 2 == 0
    test = own & (rng.random(len(user)) < 0.1)
    train = own & ~test & (rng.random(len(user)) < np.where(item < 30, 0.8, 0.15))
    frame = pl.DataFrame({"user_id": user, "item_id": item})
    return split(read(frame.filter(train)), test=read(frame.filter(test)))


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    worlds = {"coat": ratings, "adressa-macr": readings}
    monkeypatch.setattr(debias, "load_split", lambda name, data_root: worlds[name]())
    monkeypatch.setattr(debias, "COAT", {"dim": (2,), "l2": (1e-4, 1e-3)})
    monkeypatch.setattr(debias, "ADRESSA", {"temperature": (0.1, 0.2)})
    monkeypatch.setattr(debias, "EPOCHS", 20)


@pytest.mark.usefixtures("small")
def test_both_tasks_make_a_row_on_test_and_a_picture(
    last_row: LastRow, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    words = ["--data", ".", "--report", "test", "--seeds", "2", "--json", "--save"]
    bar = ["--require", "coat.gain_over_plain.mse.low>=0.0001"]
    assert _shared.main(debias.options_of([*words, *bar]), debias.measure) == 0
    row = last_row()
    found = row["metrics"]
    assert found["coat.plain.mse"] - found["coat.debiased.mse"] == pytest.approx(found["coat.gain_over_plain.mse"])
    assert found["adressa.gain_over_plain.recall@20.low"] <= found["adressa.gain_over_plain.recall@20"]
    assert row["chosen"]["adressa.debiased"]["debias"] == "popularity"
    assert len(row["chosen"]["coat.curve"]["coat.plain"]) == 10
    assert debias.table() == 0
    assert "published 1.093" in capsys.readouterr().out
    pytest.importorskip("matplotlib")
    assert debias.picture(tmp_path / "debias.png") == 0
    assert (tmp_path / "debias.png").stat().st_size > 1_000


@pytest.mark.usefixtures("small")
def test_validation_looks_at_no_test_and_bars_can_fail(last_row: LastRow) -> None:
    words = ["--data", ".", "--tasks", "coat", "--json", "--require", "coat.debiased.valid.ips_mse>=99"]
    assert _shared.main(debias.options_of(words), debias.measure) == 1
    assert set(last_row()["metrics"]) == {
        f"coat.{arm}.valid.{name}" for arm in ("plain", "debiased", "naive") for name in ("mse", "ips_mse")
    }
    assert not (_shared.RESULTS / "test_looks.jsonl").exists()


def test_a_task_that_is_none_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    options = debias.options_of(["--data", ".", "--tasks", "nothing"])
    assert _shared.main(options, debias.measure) == 2
    assert "there are coat, adressa" in capsys.readouterr().err
    assert debias.picture(Path("nowhere.png")) == 2


def test_figures_of_a_person_are_as_counted_by_hand() -> None:
    known, _ = debias.Ratings.of(ratings().test.targets)
    three = np.flatnonzero(known.rows.user == 0)[:3]
    keep = np.isin(np.arange(len(known.rows)), three)
    one = known.take(keep)
    one = debias.Ratings(one.rows, one.encoded, np.array([5.0, 1.0, 4.0]), one.propensity)
    found = debias.rated(one, np.array([3.0, 2.0, 3.5]))
    assert found["mse"].tolist() == pytest.approx([(4 + 1 + 0.25) / 3])
    assert found["mae"].tolist() == pytest.approx([(2 + 1 + 0.5) / 3])
    assert found["auc"].tolist() == [1.0]
    ideal, discount = np.array([31, 15, 1]), 1 / np.log2([2, 3, 4])
    assert found["ndcg@5"].tolist() == pytest.approx([np.array([15, 31, 1]) @ discount / (ideal @ discount)])


def test_the_balanced_cut_takes_as_many_of_each_item_but_never_more_than_half() -> None:
    item = np.repeat([0, 1, 2, 3], [20, 8, 3, 1])
    item = np.random.default_rng(0).permutation(item)
    held = debias.balanced(item, np.random.default_rng(0))
    assert np.bincount(item[held], minlength=4).tolist() == [4, 4, 1, 0]
    assert not np.array_equal(held, debias.balanced(item, np.random.default_rng(1)))
