"""The stories benchmark on a tiny table: its row holds what the story found, and an unknown story is refused."""

from pathlib import Path

import numpy as np
import polars as pl
import pytest

import _shared
import stories


@pytest.fixture
def clicks(tmp_path: Path) -> Path:
    """Rows whose click hangs on two columns together, so that no sum of the two can know it."""
    rng = np.random.default_rng(0)
    place, device = rng.choice(["top", "side"], 900), rng.choice(["phone", "desk"], 900)
    click = (rng.random(900) < np.where((place == "top") == (device == "phone"), 0.9, 0.1)).astype(int)
    table = pl.DataFrame({"click": click, "place": place, "device": device})
    table.write_csv(tmp_path / "clicks.csv")
    return tmp_path / "clicks.csv"


def test_a_row_holds_what_the_story_found(clicks: Path) -> None:
    row = stories.measure(stories.options_of(["--model", "ads", "--data", str(clicks)]))
    metrics = row["metrics"]
    assert row["report"] == "test"
    assert row["config"]["baseline"][0] == "logistic"
    assert row["verdict"] == "better"  # the deep model sees the two columns together
    assert metrics["difference"] == pytest.approx(metrics["deep.auc"] - metrics["baseline.auc"])
    assert row["intervals"]["difference"][0] > 0
    assert "rows=225" in row["protocol"]
    assert "select=valid" in row["protocol"]


def test_a_story_that_is_none_is_refused(clicks: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = stories.options_of(["--model", "weather", "--data", str(clicks)])
    assert _shared.main(options, stories.measure) == 2
    assert "the stories are goods, video" in capsys.readouterr().err
