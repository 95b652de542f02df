"""The off-policy benchmark: its worlds know the truth, its tasks make figures, and its real log is read as it is."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

import _shared
import off_policy

LastRow = Callable[[], dict[str, Any]]


def test_tasks_make_figures_beside_what_is_published(last_row: LastRow, capsys: pytest.CaptureFixture[str]) -> None:
    options = off_policy.options_of(["--tasks", "coverage,digits", "--runs", "2", "--json", "--save"])
    assert _shared.main(options, off_policy.measure) == 0
    metrics = last_row()["metrics"]
    assert {f"coverage.{name}" for name in off_policy.COVERED} < set(metrics)
    assert metrics["digits.ipw"] < 0.2
    assert off_policy.table() == 0
    assert "published 0.0303" in capsys.readouterr().out


def test_a_task_that_is_none_or_lacks_its_data_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    for words, said in ((["--tasks", "nothing"], "there are synthetic"), (["--tasks", "obd"], "the folder obd-small")):
        assert _shared.main(off_policy.options_of(words), off_policy.measure) == 2
        assert said in capsys.readouterr().err


def test_arms_are_drawn_by_their_chances() -> None:
    chance = np.tile([0.2, 0.0, 0.8], (20_000, 1))
    shares = np.bincount(off_policy.drawn(chance, np.random.default_rng(0)), minlength=3) / 20_000
    assert shares == pytest.approx([0.2, 0.0, 0.8], abs=0.01)


def test_the_other_policy_of_a_real_log_is_judged_beside_what_it_earned(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for campaign in ("all", "men"):
        for name, chance in (("random", [0.25] * 4), ("bts", [0.4, 0.3, 0.2, 0.1])):
            item = rng.choice(4, 4_000, p=chance)
            frame = pl.DataFrame(
                {
                    "item_id": item,
                    "position": rng.integers(1, 4, 4_000),
                    "click": (rng.random(4_000) < 0.1 * (4 - item)).astype(int),
                    "propensity_score": np.array(chance)[item],
                }
            )
            frame.write_csv(tmp_path / f"{name}_{campaign}.csv.gz", compression="gzip")
    found = off_policy.obd(1, tmp_path)
    assert found["bts_all.truth"] == pytest.approx(300, abs=20)
    for key in ("bts_all", "random_men"):
        for name in ("ipw", "snipw", "dr", "auto"):
            assert found[f"{key}.{name}_low"] <= found[f"{key}.{name}"] <= found[f"{key}.{name}_high"]
            assert found[f"{key}.{name}"] == pytest.approx(found[f"{key}.truth"], abs=40)
