"""A made shop of a million people in Parquet parts, and its way through the house in a process of its own.

People have one of 100 tastes and choose seven times of ten within it; within a taste, and among all items, few items
are popular. Some people come often, many seldom. Times rise over the parts, as in a log.
"""

import json
import resource
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import polars as pl

TASTES, OWN = 100, 0.7
PART = 2_000_000  # rows of a file
FIRST, LAST = 1_600_000_000, 1_700_000_000  # seconds
ASKED, SEED = 10_000, 0  # people of the test who are measured
REQUESTS, READY_S = 300, 600

T = TypeVar("T")


def make(folder: Path, n_rows: int, n_users: int, n_items: int, seed: int = SEED) -> Path:
    """Write the world's events, texts as ids, unless they are there; return the folder."""
    if (folder / "_made").exists():
        return folder
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(seed)
    taste, each = rng.integers(TASTES, size=n_users), n_items // TASTES
    names = rng.permutation(n_items)  # a popular item has any id
    for number, start in enumerate(range(0, n_rows, PART)):
        n = min(PART, n_rows - start)
        user = (rng.random(n) ** 1.6 * n_users).astype(np.int64)
        place = (rng.random(n) ** 3 * each).astype(np.int64)
        own = np.where(rng.random(n) < OWN, taste[user], rng.integers(TASTES, size=n))
        step = (LAST - FIRST) / n_rows
        frame = pl.DataFrame({
            "user_id": pl.Series(user).cast(pl.String).str.zfill(8),
            "item_id": pl.Series(names[place * TASTES + own]).cast(pl.String).str.zfill(7),
            "timestamp": FIRST + ((start + np.sort(rng.random(n)) * n) * step).astype(np.int64),
        })  # fmt: skip
        frame = frame.with_columns(user_id="u" + pl.col("user_id"), item_id="sku-" + pl.col("item_id"))
        frame.write_parquet(folder / f"part-{number:05}.parquet")
    (folder / "_made").touch()
    return folder


class Steps:
    """Times each step, and writes what is known after it, so that a run that was ended has told what it did."""

    def __init__(self, out: Path) -> None:
        self.out, self.rows = out, list[dict[str, Any]]()

    def __call__(self, name: str, do: Callable[[], T], **told: Any) -> T:
        """Do one step; note its seconds, its processor seconds and the most memory held so far."""
        wall, cpu = time.perf_counter(), time.process_time()
        found = do()
        row = {
            "step": name,
            "seconds": round(time.perf_counter() - wall, 1),
            "cpu_seconds": round(time.process_time() - cpu, 1),
            "memory_mb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024),
        }
        self.rows.append(row | told)
        self.out.write_text(json.dumps(self.rows))
        print(self.rows[-1], file=sys.stderr, flush=True)
        return found

    def note(self, **told: Any) -> None:
        """Add to the last step."""
        self.rows[-1] |= told
        self.out.write_text(json.dumps(self.rows))
        print(told, file=sys.stderr, flush=True)


def walk(source: str, work: str, model: str, settings: str, threads: str = "1") -> None:
    """Take the world through read, split, train, evaluate, save and serve; write work/steps.json."""
    import torch

    import bowerbird as bb
    from bowerbird.core import build, lookup
    from bowerbird.data import encode
    from bowerbird.recommender import Recommender

    torch.set_num_threads(int(threads))
    folder = Path(work)
    steps = Steps(folder / "steps.json")
    codes = steps("encode", lambda: encode(source, folder / "codes"))
    split = _split(codes, steps)
    config = build(lookup(model).config, json.loads(settings))
    rec = Recommender(config, split.train, run=bb.RunOptions(seed=SEED, progress=False))
    steps("train", lambda: rec.learn(epochs=config.epochs))
    assert rec.training is not None
    steps.note(rows_per_s=round(rec.training.rows_per_s), loss=[row["loss"] for row in rec.training.curve])
    warm = np.unique(split.valid.targets.user)
    warm = warm[warm < split.train.n_users]
    asked = np.random.default_rng(SEED).choice(warm, min(ASKED, len(warm)), replace=False)
    part = replace(split.valid, targets=split.valid.targets.rows(np.isin(split.valid.targets.user, asked)))
    metrics = ["ndcg@10", "recall@10", "recall@100"]
    report = steps("evaluate", lambda: bb.evaluate(rec, part, metrics=metrics, intervals=False))
    steps.note(metrics=report.metrics, protocol=report.protocol, people=len(asked))
    popular = Recommender(build(lookup("popularity").config, {}), split.train)
    popular.learn()
    steps.note(popularity=bb.evaluate(popular, part, metrics=metrics, intervals=False).metrics)
    steps("save", lambda: rec.save(folder / "run"))
    _serve(folder / "run", steps)


def _split(codes: Path, steps: Steps) -> Any:
    """Read codes and cut them by time; what was read is not held any longer."""
    import bowerbird as bb
    from bowerbird.data import load

    events = steps("read", lambda: load(codes))
    steps.note(rows=len(events), users=events.n_users, items=events.n_items)
    return steps("split", lambda: bb.split(events, "temporal"))


def _serve(run: Path, steps: Steps) -> None:
    """Ask a server of the run for lists of people, one at a time; note when it was ready and how long lists took."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        port = one.getsockname()[1]
    address = f"http://127.0.0.1:{port}"
    command = [sys.executable, "-m", "bowerbird", "serve", str(run), "--port", str(port)]
    server = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        steps("serve", lambda: _ready(address))
        users = pl.scan_parquet(next((run / "bundles").glob("*/users.parquet")))
        names = users.collect()["user_id"].sample(REQUESTS, seed=SEED, with_replacement=True).to_list()
        laps = []
        for name in names:
            body = json.dumps({"user_id": name, "k": 10}).encode()
            asked = urllib.request.Request(f"{address}/v1/recommendations", body, {"Content-Type": "application/json"})
            started = time.perf_counter()
            with urllib.request.urlopen(asked) as answer:
                slate = json.loads(answer.read())
            laps.append(1000 * (time.perf_counter() - started))
            assert len(slate["items"]) == 10, slate
        held = Path(f"/proc/{server.pid}/status").read_text().split("VmHWM:")[1].split()[0]
        low, high = np.quantile(laps, [0.5, 0.99]).round(1).tolist()
        steps.note(p50_ms=low, p99_ms=high, requests=REQUESTS, server_mb=round(int(held) / 1024))
    finally:
        server.terminate()
        server.wait()


def _ready(address: str) -> None:
    end = time.monotonic() + READY_S
    while time.monotonic() < end:
        try:
            with urllib.request.urlopen(f"{address}/readyz"):
                return
        except OSError:
            time.sleep(0.2)
    raise TimeoutError(f"the server was not ready in {READY_S} s")


if __name__ == "__main__":
    walk(*sys.argv[1:])
