"""Real Ray on this machine, two CPUs and no dashboard: `make test-ray` runs it in an environment of its own."""

import json
import os
import signal
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from made_parts import write_parts, write_rows
from typer.testing import CliRunner

import bowerbird as bb
from bowerbird.cli.main import app
from bowerbird.core import BowerbirdError, ConfigError, DataError, RunOptions
from bowerbird.data import encode, load
from bowerbird.distributed import cluster
from bowerbird.distributed.tune import Tries
from bowerbird.training import Training, Workers

EPOCHS, KILLED_AFTER = 4, 2
pytestmark = pytest.mark.filterwarnings("default")  # of Ray, whose warnings are its own


@pytest.fixture(scope="module", autouse=True)
def _ray() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("PYTHONPATH", os.pathsep.join([str(Path(__file__).parent), *sys.path]))  # as here, so there
        patched.setenv("RAY_worker_niceness", "0")  # Ray's usual 15 starves workers on a machine that others use too
        with cluster.started(2):
            yield


def trained(*words: str) -> dict[str, Any]:
    result = CliRunner().invoke(app, ["train", *words, "--json"])
    assert result.exception is None, (result.output, result.exception)
    found: dict[str, Any] = json.loads(result.stdout)
    return found


# ── tasks ──


def test_tasks_encode_what_one_process_encodes(tmp_path: Path) -> None:
    parts = write_parts(tmp_path / "parts")
    here, there = encode(parts, tmp_path / "here"), encode(parts, tmp_path / "there", run=cluster.tasks)
    assert load(here).fingerprint == load(there).fingerprint == bb.read(parts).fingerprint


def _refuse(task: int) -> int:
    if task == 1:
        raise DataError("part 1: the rows cannot be read.")
    return task


def test_a_mistake_in_a_task_is_told_as_it_is() -> None:
    with pytest.raises(DataError, match=r"^part 1: the rows cannot be read\.$"):
        cluster.tasks(_refuse, range(3))


# ── trainings ──


MODELS = {
    "pairs": ("--model", "mf", "--set", "dim=16"),
    "two towers": ("--model", "twotower", "--set", "loss=sampled_softmax", "--set", "dim=16"),
    "histories": ("--model", "sasrec", "--set", "dropout=0", "--set", "dim=16"),
}


@pytest.mark.parametrize("kind", MODELS)
def test_two_workers_train_from_parts_what_one_process_trains(tmp_path: Path, kind: str) -> None:
    words = ("--data", str(write_parts(tmp_path / "parts")), *MODELS[kind], "--set", "epochs=3", "--seed", "1")
    alone = trained(*words, "--out", str(tmp_path / "one"))
    together = trained(*words, "--on", "ray", "--workers", "2", "--out", str(tmp_path / "two"))
    assert together["metrics"] == pytest.approx(alone["metrics"], abs=0.01)
    assert together["training"]["epochs"] == alone["training"]["epochs"] == 3
    assert together["data_sha256"] == alone["data_sha256"]
    assert together["refit"]
    one, two = (bb.load(tmp_path / name) for name in ("one", "two"))
    assert one.user_ids == two.user_ids
    for name, weight in one.model.state_dict().items():
        off = (weight.float() - two.model.state_dict()[name].float()).norm()
        assert off <= 0.02 * weight.float().norm() + 0.01, name


def test_a_ranker_of_a_feature_table(tmp_path: Path) -> None:
    words = ("--data", str(write_rows(tmp_path / "rows.parquet")), "--label", "label", "--model", "dcnv2")
    words += ("--set", "dropout=0", "--set", "epochs=3")
    alone = trained(*words, "--out", str(tmp_path / "one"))
    together = trained(*words, "--on", "ray", "--out", str(tmp_path / "two"))
    assert together["metrics"] == pytest.approx(alone["metrics"], abs=1e-3)


# ── losing one ──


def _fit(parts: str, state: str, kill: bool) -> tuple[list[dict[str, float]], int, list[int]]:
    """Train; where asked, the second worker is killed once. Return losses, where they went on, and epochs computed."""
    computed = list[int]()

    def look(training: Training) -> None:
        computed.append(training.epochs)
        mark = Path(state) / "killed"
        if kill and Workers.here().rank == 1 and training.epochs == KILLED_AFTER and not mark.exists():
            mark.touch()
            os.kill(os.getpid(), signal.SIGKILL)

    run = RunOptions(device="cpu", progress=False, checkpoint=state)
    rec = bb.Recommender(bb.models.baselines.mf.MFConfig(dim=8), bb.read(parts), run=run)
    rec.learn(epochs=EPOCHS, on_epoch=look)
    assert rec.training is not None
    return rec.training.curve, rec.training.resumed_from, computed


def test_a_killed_worker_costs_one_epoch_and_changes_nothing(tmp_path: Path) -> None:
    parts = str(write_parts(tmp_path / "parts"))
    for name in ("straight", "killed"):
        (tmp_path / name).mkdir()
    straight, _, _ = cluster.train(partial(_fit, parts, str(tmp_path / "straight"), False), 2)
    curve, resumed, computed = cluster.train(partial(_fit, parts, str(tmp_path / "killed"), True), 2)
    assert (tmp_path / "killed" / "killed").exists()
    assert curve == straight
    assert resumed >= KILLED_AFTER  # the first worker had kept that epoch, or one more
    assert computed == list(range(resumed + 1, EPOCHS + 1))


def _mistake() -> None:
    raise DataError("there is no positive event to learn from.")


def test_a_mistake_of_a_worker_is_told_and_not_tried_again() -> None:
    with pytest.raises(DataError, match="there is no positive event"):
        cluster.train(_mistake, 2)


def test_a_place_for_the_run_is_asked_for(tmp_path: Path) -> None:
    words = ["train", "--data", str(write_parts(tmp_path / "parts")), "--model", "mf", "--on", "ray"]
    error = CliRunner().invoke(app, words).exception
    assert isinstance(error, BowerbirdError)
    assert "Name it with --out RUN." in str(error)


# ── tries ──


def _doubled(task: int) -> int:
    if task == 2:
        raise OSError("lost")
    return 2 * task


def test_tries_are_answered_in_their_order_and_lost_ones_by_nothing() -> None:
    assert Tries(2)(_doubled, [1, 2, 3], 120.0) == [2, None, 6]


def test_the_advisor_races_on_ray(tmp_path: Path) -> None:
    parts = write_parts(tmp_path / "parts")
    words = ["select", str(parts), "--budget", "150s", "--model", "ease", "--model", "itemknn", "--on", "ray"]
    words += ["--study", str(tmp_path / "study"), "--out", str(tmp_path / "selected.toml"), "--threads", "1", "--json"]
    result = CliRunner().invoke(app, words)
    assert result.exception is None, (result.output, result.exception)
    found = json.loads(result.stdout)
    assert {trial["model"] for trial in found["trials"]} == {"ease", "itemknn"}
    assert (tmp_path / "selected.toml").exists()


def _die() -> None:
    """Stand last: Ray 2.60 keeps the CPUs of workers that die while they start."""
    os.kill(os.getpid(), signal.SIGKILL)


def test_a_training_that_loses_workers_again_and_again_is_given_up() -> None:
    with pytest.raises(ConfigError, match="workers were lost more than 0 times"):
        cluster.train(_die, 2, restarts=0)
