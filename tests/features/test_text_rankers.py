"""Rankers of feature tables with a text: fitted, saved and loaded."""

from pathlib import Path

import numpy as np
import polars as pl
import pytest

import bowerbird as bb
from bowerbird.data import Rows
from bowerbird.features import Numeric, Text

QUIET = bb.RunOptions(device="cpu", progress=False)


def table(of: str, n: int = 400) -> Rows:
    """Return rows that are liked where their text says so; no two texts are the same."""
    words = [f"{'sweet' if row % 2 else 'bitter'} thing {of} {row}" for row in range(n)]
    labels = (np.arange(n) % 2).astype(np.float32)[:, None]
    return Rows(pl.DataFrame({"says": words, "price": np.arange(n) % 7}), labels, ("like",))


@pytest.mark.parametrize("name", ["fm", "dcnv2"])
def test_a_ranker_reads_what_new_texts_say(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    columns = (Text(name="says", encoder="words"), Numeric(name="price"))
    made = bb.fit(table("train"), name, columns=columns, run=QUIET, dim=4, epochs=8, learning_rate=0.02, batch_size=64)
    new = table("new")
    found = made.predict(new)[:, 0]
    assert found[1::2].min() > found[::2].max()
    made.save(tmp_path / "run")
    again = bb.Predictor.load(tmp_path / "run")
    assert again.encoder.columns == {"": columns}
    assert np.array_equal(again.predict(new)[:, 0], found)
