"""A training that is killed goes on with the same command and ends with the same model."""

import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import polars as pl
import torch

import bowerbird as bb

COMMAND = (
    "train", "--data", "events.csv", "--model", "mf", "--set", "epochs=60", "--set", "patience=60",
    "--set", "batch_size=64", "--set", "dim=8", "--device", "cpu",
)  # fmt: skip


def train(folder: Path, out: str) -> subprocess.Popen[str]:
    words = [sys.executable, "-m", "bowerbird", *COMMAND, "--out", out]
    return subprocess.Popen(words, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def test_a_killed_training_goes_on_with_the_same_command(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    n = 6000
    table = pl.DataFrame({"user": rng.integers(0, 60, n), "item": rng.integers(0, 40, n), "time": np.arange(n)})
    table.write_csv(tmp_path / "events.csv")
    straight = train(tmp_path, "straight")
    straight.communicate()
    assert straight.returncode == 0
    torn = train(tmp_path, "torn")
    state = tmp_path / "torn" / "state"
    end = time.monotonic() + 60
    while not list(state.glob("*.safetensors")) and time.monotonic() < end:
        assert torn.poll() is None, "it ended before it could be killed"
        time.sleep(0.01)
    torn.send_signal(signal.SIGKILL)
    torn.communicate()
    again = train(tmp_path, "torn")
    _, said = again.communicate()
    assert again.returncode == 0, said
    assert "went on after epoch" in said
    assert not state.exists()
    one, other = (bb.load(tmp_path / name).model.state_dict() for name in ("straight", "torn"))
    assert all(torch.equal(one[name], other[name]) for name in one)
