"""`bowerbird train` on sets that bring their own parts."""

import json
from pathlib import Path

import numpy as np
import polars as pl
import pytest

import bowerbird as bb
from bowerbird.cli import training
from bowerbird.core import ConfigError
from bowerbird.data import Split


@pytest.fixture
def published(monkeypatch: pytest.MonkeyPatch) -> Split:
    """The parts that stand in for those of gowalla, which nobody may pass on."""
    rng = np.random.default_rng(0)
    table = pl.DataFrame({"user": rng.integers(0, 30, 900), "item": rng.integers(0, 40, 900)}).unique()
    parts = bb.split(bb.read(table[:500]), valid=bb.read(table[500:550]), test=bb.read(table[550:]))
    monkeypatch.setattr(training, "load_split", lambda name, data_root: parts)
    return parts


def run(out: Path, **split: object) -> None:
    given = {"data": {"path": "gowalla"}, "model": {"name": "itemknn"}, "split": split}
    training.run_training(None, given, out, refit=True, as_json=True)


def test_published_parts_are_taken_as_they_are(
    published: Split, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run(tmp_path)
    row = json.loads(capsys.readouterr().out)
    assert row["split"] == published.protocol
    assert row["protocol"].startswith("split=given")


def test_what_is_served_has_never_seen_the_published_test(published: Split, tmp_path: Path) -> None:
    run(tmp_path)
    served = bb.load(tmp_path).past
    assert len(served) == len(published.test.known) < len(published.test.known) + len(published.test.targets)


def test_published_parts_are_not_cut_anew(published: Split, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="gowalla brings its own parts; method 'random' would cut them anew"):
        run(tmp_path, method="random")
