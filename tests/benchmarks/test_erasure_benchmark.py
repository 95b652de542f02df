"""The erasure benchmark: folds share nobody who is erased, figures have bars that can be missed, time is of all."""

import json
from pathlib import Path

import numpy as np
import polars as pl
import pytest

import _erasure_people as people
import _shared
import bowerbird as bb
import erasure
from bowerbird.data import Interactions


@pytest.fixture
def few(monkeypatch: pytest.MonkeyPatch) -> Interactions:
    """120 people; 20 of them are erased in a fold."""
    for name, n in (("ERASED", 20), ("KEPT", 20), ("NEVER", 30), ("SINGLY", 2)):
        monkeypatch.setattr(people, name, n)
    monkeypatch.setattr(people, "SETTINGS", {"ease": {"l2": 10.0}, people.SHARDED: {"dim": 4, "epochs": 2}})
    rng = np.random.default_rng(0)
    rows = [(u, i, u + 100 * n) for u in range(120) for n, i in enumerate(rng.permutation(40)[:8])]
    events = bb.read(pl.DataFrame(rows, schema=["user_id", "item_id", "time"], orient="row"))
    monkeypatch.setattr(erasure, "load", lambda *_, **__: events)
    return events


def test_folds_share_nobody_who_is_erased(few: Interactions) -> None:
    folds = [people.Fold.of(few, number) for number in range(3)]
    assert len(set(np.concatenate([one.erased for one in folds]))) == 60
    for one in folds:
        assert sorted(np.concatenate([one.erased, one.kept, one.never, one.others])) == list(range(120))
    assert folds[0].histories(folds[0].erased[:1])[0].tolist() == few.item[few.user == folds[0].erased[0]].tolist()


def test_figures_are_made_and_bars_can_be_missed(
    few: Interactions, results: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["--data", ".", "--parts", "attack,others,row,time", "--models", f"ease,{people.SHARDED}", "--folds", "2"]
    options = erasure.options_of([*words, "--seeds", "2", "--bars", "--save", "--require", "ease.row.gap<=-1"])
    assert _shared.main(options, erasure.measure) == 1
    assert "bar not reached: ease.row.gap<=-1" in capsys.readouterr().err
    [metrics] = [json.loads(line)["metrics"] for line in (results / "erasure.jsonl").read_text().splitlines()]
    assert metrics["ease.erased.people"] == 40
    assert metrics["ease.erased.before.auc"] > 0.8
    assert metrics["ease.kept.low"] > 0.6
    assert metrics["ease.erased.low"] < 0.5 < metrics["ease.erased.high"]
    assert metrics["ease.row.gap"] < 1e-5
    assert metrics[f"{people.SHARDED}.row.gap"] == 0
    assert metrics["ease.ndcg.off"] == metrics[f"{people.SHARDED}.ndcg.off"] == 0
    assert 0 < metrics["ease.time.model_s"] <= metrics["ease.time.all_s"] < 120
    assert metrics["ease.time.events"] == 8
    assert erasure.table() == 0


def test_auc_is_that_of_the_slow_way() -> None:
    rng = np.random.default_rng(0)
    inside, outside = rng.integers(0, 5, 30).astype(float), rng.integers(0, 5, 20).astype(float)
    slow = np.mean([(a > b) + (a == b) / 2 for a in inside for b in outside])
    assert people._auc(inside, outside) == pytest.approx(slow)


def test_words_that_are_none_are_told(capsys: pytest.CaptureFixture[str]) -> None:
    for words, said in ((["--parts", "all"], "there are attack"), (["--models", "bert"], "there are ease")):
        assert _shared.main(erasure.options_of(["--data", ".", *words]), erasure.measure) == 2
        assert said in capsys.readouterr().err
