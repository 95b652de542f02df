"""What each worker of `scale.py` does: a ranker on made columns that computes, and hardly does anything else."""

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

FIELDS, VALUES = 20, 1_000  # columns, and values of each
CONFIG = {"dim": 16, "hidden": (512, 512, 512), "dropout": 0.0, "batch_size": 4096, "learning_rate": 1e-3}
SEED = 0


def train(steps: int, state: str = "", epochs: int = 1, look: Callable[[Any], None] | None = None) -> dict[str, Any]:
    """Train dcnv2 for so many steps an epoch, with one thread; return seconds without the start, and losses."""
    import numpy as np
    import polars as pl
    import torch

    from bowerbird import RunOptions
    from bowerbird.core import build, lookup
    from bowerbird.data import Rows
    from bowerbird.features import Categorical, Encoder
    from bowerbird.recommender.predictor import Predictor
    from bowerbird.recommender.ranking import Ranking

    torch.set_num_threads(1)
    n = steps * int(CONFIG["batch_size"])  # type: ignore[call-overload]
    rng = np.random.default_rng(SEED)
    codes = rng.integers(0, VALUES, (n, FIELDS))
    chance = 1 / (1 + np.exp(-rng.normal(0, 0.5, (FIELDS, VALUES))[np.arange(FIELDS), codes].sum(axis=1)))
    label = (rng.random(n) < chance).astype(np.float32)
    table = pl.DataFrame({f"c{one}": codes[:, one] for one in range(FIELDS)})
    rows = Rows(table, label[:, None], ("label",))
    encoder = Encoder.fit({"": table}, {"": [Categorical(name=name) for name in table.columns]})
    run = RunOptions(device="cpu", seed=SEED, threads=1, progress=False, checkpoint=state)
    made = Predictor(Ranking(build(lookup("dcnv2").config, CONFIG), encoder, run))  # type: ignore[arg-type]
    source = made.source(rows)
    started, cpu = time.perf_counter(), time.process_time()
    made.ranking.learn(source, fingerprint="made", epochs=epochs, on_epoch=look)
    training = made.training
    assert training is not None
    return {
        "seconds": training.seconds,
        "whole": time.perf_counter() - started,
        "cpu_seconds": time.process_time() - cpu,  # of this worker, which does not count while it waits
        "loss": [row["loss"] for row in training.curve],
        "resumed_from": training.resumed_from,
    }


def lose_one(folder: str, steps: int, epochs: int, killed_after: int) -> dict[str, Any]:
    """Train with checkpoints; the second worker is killed once, in the middle of an epoch. Note every epoch's end."""
    import os
    import signal
    import threading

    from bowerbird.training import Workers

    first, mark, ends = Workers.here().first, Path(folder) / "killed", Path(folder) / "ends.jsonl"

    def kill() -> None:
        mark.write_text(str(time.time()))
        os.kill(os.getpid(), signal.SIGKILL)

    def look(training: Any) -> None:
        if first:
            with open(ends, "a") as file:
                file.write(
                    json.dumps({"epoch": training.epochs, "time": time.time(), "seconds": training.seconds}) + "\n"
                )
        elif training.epochs == killed_after and not mark.exists():
            threading.Timer(training.seconds / training.epochs / 2, kill).start()

    return train(steps, str(Path(folder) / "state"), epochs, look)


if __name__ == "__main__":  # torchrun starts this
    from bowerbird.distributed.group import joined

    with joined() as workers:
        told = train(int(sys.argv[1]))
        if workers.first:
            Path(sys.argv[2]).write_text(json.dumps(told))
