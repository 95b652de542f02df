"""The benchmark of policies, in worlds so small that it takes seconds: what it reports, and that its bars can fail."""

import json
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import pytest

import _shared
import bandits
from bowerbird.bandits.simulate import Played

TINY = {"people": 10, "items": 40, "candidates": 10, "k": 2, "horizon": 8, "dim": 4}


def here(jobs: Iterable[bandits.Job]) -> list[Played]:
    return [bandits.one(job) for job in jobs]


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(bandits, "all_of", here)
    monkeypatch.setattr(bandits, "PICTURES", tmp_path)
    monkeypatch.setattr(bandits, "NEWS", replace(bandits.NEWS, **TINY))
    monkeypatch.setattr(bandits, "EPSILONS", ((0.05, 0.0), (0.5, 50.0)))
    monkeypatch.setattr(bandits, "WEIGHTS", {"linucb": (0.5,), "thompson": (0.5,), "ucb": (0.5,)})
    monkeypatch.setattr(_shared, "RESULTS", tmp_path)


def test_regret_is_told_with_what_was_chosen_elsewhere_and_drawn(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = bandits.options_of(["--tasks", "regret", "--runs", "2", "--json", "--save"])
    assert _shared.main(options, bandits.measure) == 0
    row = json.loads(capsys.readouterr().out.splitlines()[-1])
    metrics = row["metrics"]
    assert metrics["regret.epsilon-greedy.weight"] in (0.05, 0.5)
    assert metrics["regret.linucb.less_low"] <= metrics["regret.linucb.less"] <= metrics["regret.linucb.less_high"]
    less = metrics["regret.epsilon-greedy"] - metrics["regret.linucb"]
    assert metrics["regret.linucb.less"] == pytest.approx(less)
    assert set(bandits.TUNED).isdisjoint(bandits.TESTED)
    assert (tmp_path / "bandits.png").stat().st_size > 5_000
    assert bandits.table() == 0
    assert "regret.linucb.less" in capsys.readouterr().out


def test_the_long_run_is_compared_with_the_ranker(tmp_path: Path) -> None:
    config = replace(bandits.LATER, **(TINY | {"horizon": 80}))
    found = bandits.later(config, "later.png", 1)
    assert found["more"] == pytest.approx(found["reinforce"] - found["greedy"])
    assert (tmp_path / "later.png").exists()
    assert config.control().long_term == config.control().boredom == 0


def test_a_bar_that_is_missed_is_an_exit_status_and_a_task_that_is_none_is_named(
    capsys: pytest.CaptureFixture[str],
) -> None:
    words = ["--tasks", "regret", "--runs", "1", "--require", "regret.linucb<=-1"]
    assert _shared.main(bandits.options_of(words), bandits.measure) == 1
    assert "bar not reached: regret.linucb<=-1" in capsys.readouterr().err
    assert _shared.main(bandits.options_of(["--tasks", "regrets"]), bandits.measure) == 2
    assert "regrets" in capsys.readouterr().err
    assert "speed.world_steps_per_s>=50000" in bandits.options_of(["--tasks", "speed", "--bars"]).require
