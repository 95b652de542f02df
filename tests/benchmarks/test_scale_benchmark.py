"""The benchmark of scale: its world, what a worker trains, and what becomes of laps; Ray has its own tests."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

import _scale_work
import _scale_world
import scale
from bowerbird.core import BowerbirdError


def options(folder: Path, *words: str) -> Any:
    return scale.options_of(["--data", str(folder), "--rows", "3000", "--users", "200", "--items", "300", *words])


def test_a_world_rises_in_time_and_people_keep_to_their_taste(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_scale_world, "PART", 1000)
    folder = _scale_world.make(tmp_path / "world", 2500, 50, 400)
    frame = pl.read_parquet(folder / "*.parquet")
    assert [path.name for path in sorted(folder.glob("*.parquet"))] == [f"part-0000{n}.parquet" for n in range(3)]
    assert frame.height == 2500
    assert (np.diff(frame["timestamp"].to_numpy()) >= 0).all()
    assert frame["user_id"][0].startswith("u0")
    again = _scale_world.make(tmp_path / "again", 2500, 50, 400)
    assert pl.read_parquet(again / "*.parquet").equals(frame)
    often = frame.group_by("user_id", "item_id").len()["len"].max()
    assert isinstance(often, int)
    assert often > 5  # 200 items of one taste would hardly repeat without one


def test_a_worker_trains_a_ranker_that_learns(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(_scale_work.CONFIG, "batch_size", 256)
    monkeypatch.setitem(_scale_work.CONFIG, "hidden", (16,))
    told = _scale_work.train(8, epochs=4)
    assert told["loss"][-1] < told["loss"][0]
    assert 0 < told["seconds"] <= told["whole"]
    assert told["resumed_from"] == 0


def test_figures_are_medians_of_laps_and_what_is_there_is_not_measured_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = list[tuple[str, ...]]()
    laps = {"ray 1": [20.0, 21.0, 90.0], "ray 2": [11.0, 10.5, 10.0], "torchrun 1": [20.0], "torchrun 2": [10.0]}
    held = {kind: [{"seconds": one, "cpu_seconds": one / 2} for one in each] for kind, each in laps.items()}

    def with_ray(self: scale.Bench, *words: str | Path) -> None:
        asked.append(tuple(map(str, words)))
        found = {"laps": held, "kill": {"lost_epochs": 0.5}, "encode": {"seconds": 9.0}}[str(words[0])]
        Path(words[1]).write_text(json.dumps(found))

    monkeypatch.setattr(scale.Bench, "_with_ray", with_ray)
    row = scale.measure(options(tmp_path, "--tasks", "ray,kill"))
    assert row["metrics"]["ray.speedup"] == row["metrics"]["ray.cpu_speedup"] == 2.0
    assert row["metrics"]["ray.overhead"] == pytest.approx(0.05)
    assert row["metrics"]["ray.laps"] == 1.0
    assert row["metrics"]["kill.lost_epochs"] == 0.5
    scale.measure(options(tmp_path, "--tasks", "kill"))
    assert [words[0] for words in asked] == ["laps", "kill"]
    scale.measure(options(tmp_path, "--tasks", "kill", "--again", "kill"))
    assert [words[0] for words in asked] == ["laps", "kill", "kill"]
    with pytest.raises(BowerbirdError, match="--again names 'lap'; there are ray, kill, encode, million"):
        scale.measure(options(tmp_path, "--again", "lap"))


@pytest.mark.slow
def test_a_small_world_goes_all_the_way(tmp_path: Path) -> None:
    row = scale.measure(options(tmp_path, "--tasks", "million", "--threads", "1"))
    assert [one["step"] for one in row["steps"]] == [
        "encode", "read", "split", "train", "evaluate", "save", "serve"
    ]  # fmt: skip
    assert row["steps"][1]["rows"] == 3000
    assert row["steps"][-1]["requests"] == _scale_world.REQUESTS
    assert row["metrics"]["million.memory_mb"] > 100
