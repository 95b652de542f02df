"""`bowerbird train --on`: what it refuses, and two processes of torchrun that train what one trains."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from made_parts import write_parts, write_rows
from typer.testing import CliRunner

from bowerbird.cli.main import app
from bowerbird.core import BowerbirdError
from bowerbird.distributed import group

WAIT_S = 240
TORCHRUN = ("-m", "torch.distributed.run", "--nproc-per-node", "2", "--standalone")


def refused(*words: str) -> str:
    result = CliRunner().invoke(app, ["train", *words])
    assert isinstance(result.exception, BowerbirdError)
    return str(result.exception)


def test_what_cannot_be_spread_is_told_before_anything_starts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in group.TOLD:
        monkeypatch.delenv(name, raising=False)
    parts = str(write_parts(tmp_path / "parts"))
    mf = ("--data", parts, "--model", "mf")
    assert "on is 'rai'; it must be one of ray, torchrun. Did you mean \"ray\"?" in refused(*mf, "--on", "rai")
    ease = refused("--data", parts, "--model", "ease", "--on", "torchrun")
    assert "ease is not trained in steps, which workers could share" in ease
    assert "workers share one training, not tries" in refused(*mf, "--tries", "3", "--on", "torchrun")
    alone = refused(*mf, "--on", "torchrun")
    assert "torchrun did not start this process: RANK, WORLD_SIZE, MASTER_ADDR, MASTER_PORT is not set" in alone


def test_without_ray_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    monkeypatch.delitem(sys.modules, "bowerbird.distributed.cluster", raising=False)
    parts = str(write_parts(tmp_path / "parts"))
    said = refused("--data", parts, "--model", "mf", "--on", "ray", "--out", str(tmp_path / "run"))
    assert said == '--on ray needs ray. Install it with: pip install "bowerbird[ray]"'


def run(*words: str) -> dict[str, object]:
    """Run the command line in processes of its own; return the one document that it prints."""
    env = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(
        [sys.executable, *words], env=env, capture_output=True, text=True, timeout=WAIT_S, check=False
    )
    assert done.returncode == 0, done.stderr
    found: dict[str, object] = json.loads(done.stdout)
    return found


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["events", "rows"])
def test_two_processes_of_torchrun_save_what_one_process_saves(tmp_path: Path, kind: str) -> None:
    if kind == "events":
        words = ["--data", str(write_parts(tmp_path / "parts")), "--model", "mf", "--set", "epochs=2"]
    else:
        words = ["--data", str(write_rows(tmp_path / "rows.parquet")), "--label", "label", "--model", "deepfm"]
        words += ["--set", "epochs=2", "--set", "dropout=0"]
    command = ("-m", "bowerbird", "train", *words, "--json", "--out")
    together = run(*TORCHRUN, *command, str(tmp_path / "two"), "--on", "torchrun")
    alone = run(*command, str(tmp_path / "one"))
    assert together["metrics"] == pytest.approx(alone["metrics"], rel=1e-4)
    assert (together["refit"], together["data_sha256"]) == (True, alone["data_sha256"])
    assert not (tmp_path / "two" / "state").exists()
    assert len(list((tmp_path / "two" / "bundles").iterdir())) == 1
