"""What one server process sustains: requests a second, latency, durable events beside them, and how fresh lists are.

`bowerbird serve` runs pinned to one core, the load generator to another. The world is made up and kept in `--data`, so
that a second run finds it: `--items` items and `--users` users in clusters, d 64, about twenty events each; vectors are
drawn and not trained, which costs a server the same. Every run serves a fresh copy of it with an empty data directory.

`--rows` says what is asked, each time of a server that was just started:

- `full`: slates of the scenario `goods` at `--rate`, `--events` events a second, ten to a request, and a probe of
  freshness every second: an event of a user on the first item of their list, then that list until the item is gone;
- `trainer`: the same while `bowerbird update` runs on the generator's core at the lowest priority, over and over;
- `lists`: popular items and items like one, half and half, at `--lists`.

Latency counts from the moment at which a request was due (see `_load.py`). `requests_per_s` is what was answered well.
`ready_s` counts from the start of the process to its first yes at /readyz, `memory_mb` is the most it held.
"""

import argparse
import contextlib
import hashlib
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import torch

import _load
import _shared
from bowerbird import RunOptions
from bowerbird.core import BowerbirdError, build, lookup, torch_stream
from bowerbird.core.ids import Ids
from bowerbird.data import EventType, Interactions
from bowerbird.models.baselines.mf import MF, MFConfig
from bowerbird.recommender import RankingOptions, Recommender
from bowerbird.recommender.two_stage import TwoStage
from bowerbird.store.opening import place

BOWERBIRD = Path(sys.executable).parent / "bowerbird"
DIM, EACH, CLUSTERS = 64, 20, 100  # size of a vector, events of a user on average, tastes
FIRST, LAST = 1_690_000_000, 1_700_000_000  # seconds: the times of the made events
RANKED = 20_000  # events that the ranker is fitted on: its speed does not depend on them
READY_S = 300.0  # wait for a server no longer than that
HEAD = ("requests_per_s", "p50_ms", "p99_ms", "events_per_s", "failed", "freshness_p99_ms", "memory_mb", "ready_s")


# ── the world ─────────────────────────────────────────────────────────────────────────────────────────────────────


def past_of(n_users: int, n_items: int, rng: np.random.Generator) -> tuple[Interactions, np.ndarray]:
    """Return events of users who choose within their cluster, popular items more often, and each user's cluster."""
    clusters = min(CLUSTERS, n_items)
    cluster = rng.integers(clusters, size=n_users)
    user = np.repeat(np.arange(n_users, dtype=np.int32), rng.poisson(EACH - 1, n_users) + 1)
    rng.shuffle(user)  # events are in the order of their times
    place = (rng.random(len(user)) ** 2 * (n_items // clusters)).astype(np.int32)
    past = Interactions(
        user=user,
        item=(place * clusters + cluster[user]).astype(np.int32),
        weight=np.ones(len(user), np.float32),
        event=np.zeros(len(user), np.uint8),
        time=np.sort(rng.integers(FIRST, LAST, len(user))),
        user_ids=Ids(pl.Series(np.arange(n_users))),
        item_ids=Ids(pl.Series(np.arange(n_items))),
        events=(EventType("purchase"),),
    )
    items = pl.DataFrame(
        {
            "item_id": np.arange(n_items),
            "title": pl.Series(np.arange(n_items)).cast(pl.String),
            "category": np.arange(n_items) % clusters,
            "price": rng.random(n_items) * 100,
            "published_at": rng.integers(FIRST, LAST, n_items),
        }
    )
    return past.with_tables(items=items), cluster


def vectors_into(model: MF, cluster: np.ndarray, past: Interactions) -> None:
    """Give a factorisation vectors of clusters, as training would have shaped them."""
    draw = torch_stream(0, "world")
    clusters = min(CLUSTERS, past.n_items)
    centres = torch.randn(clusters, DIM, generator=draw)
    for table, of in ((model.user, torch.from_numpy(cluster)), (model.item, torch.arange(past.n_items) % clusters)):
        table.data = centres[of] + 0.7 * torch.randn(len(of), DIM, generator=draw)
    model.prepare(past)
    model.freeze()


def make(folder: Path, n_users: int, n_items: int, ranker: str) -> None:
    """Publish the world into a run directory."""
    rng = np.random.default_rng(0)
    past, cluster = past_of(n_users, n_items, rng)
    retriever = MFConfig(dim=DIM)
    run = RunOptions(threads=1, progress=False)
    config = build(lookup(ranker).config, {"epochs": 1}) if ranker else retriever
    recommender = Recommender(config, past, run=run, ranking=RankingOptions(retriever=retriever))
    vectors_into(recommender.model, cluster, past)
    recommender.popularity.fit(past, rng)
    if ranker:
        some = past.rows(np.sort(rng.choice(len(past), min(RANKED, len(past)), replace=False)))
        recommender.take(TwoStage.fit(config, some, None, recommender.ranking, run=run, epochs=1))
    recommender.save(folder)


def made(options: argparse.Namespace) -> Path:
    """Return the run directory of the world; another process makes it, so that its memory is not held here."""
    name = f"{options.users}-{options.items}-{options.ranker or 'none'}"
    folder = Path(options.data) / name
    if not folder.exists():
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder.parent) as scratch:
            sizes = (options.users, options.items, options.ranker)
            code = f"import serving, pathlib; serving.make(pathlib.Path({f'{scratch}/run'!r}), *{sizes!r})"
            subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(__file__).parent)
            os.replace(f"{scratch}/run", folder)
    return folder


# ── the server ────────────────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True)
class Server:
    """A server that answers."""

    pid: int
    port: int
    ready_s: float
    run: Path
    data: Path
    key: str = ""

    @property
    def memory_mb(self) -> float:
        """The most that it and its workers held so far, each of them by itself."""
        workers = Path(f"/proc/{self.pid}/task/{self.pid}/children").read_text().split()
        said = [Path(f"/proc/{pid}/status").read_text() for pid in (self.pid, *workers)]
        return sum(int(held) for one in said for held in re.findall(r"VmHWM:\s*(\d+) kB", one)) / 1024


@contextlib.contextmanager
def served(world: Path, core: str, workers: int = 0, store: str = "") -> Iterator[Server]:
    """Serve a copy of the world from some cores, with a data directory of its own and a key that nothing slows down.

    Its database is a file, or in the PostgreSQL of the address `store`.
    """
    with tempfile.TemporaryDirectory(dir=world.parent) as scratch:
        run, data = Path(scratch) / "run", Path(scratch) / "data"
        shutil.copytree(world, run, copy_function=os.link)  # what is published is never written into again
        data.mkdir()
        if store:
            place(data, store)
        key = key_of(data)
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        words = ["taskset", "-c", core, BOWERBIRD, "serve", run, "--data-dir", data, "--port", str(port)]
        words += ["--workers", str(workers)] if workers else []
        started = time.perf_counter()
        with open(Path(scratch) / "said", "w+") as said, subprocess.Popen(words, stderr=said) as process:
            try:
                wait_until_ready(port, process, started + READY_S, said.name)
                ready_s = time.perf_counter() - started
                while workers and status(port, key)["workers"] < workers:
                    time.sleep(0.1)
                yield Server(process.pid, port, ready_s, run, data, key)
            finally:
                process.terminate()


def key_of(data: Path) -> str:
    """Return a new key for a data directory that no server holds yet."""
    from bowerbird.store.keys import Keys
    from bowerbird.store.opening import opened

    data.mkdir(parents=True, exist_ok=True)
    database = opened(data)
    try:
        return Keys(database).create("benchmark", ("admin",), limit_per_s=1e6)[1]
    finally:
        database.close()


def status(port: int, key: str) -> dict[str, Any]:
    """Return what the server says of itself."""
    asked = urllib.request.Request(f"http://127.0.0.1:{port}/v1/status", headers={"Authorization": f"Bearer {key}"})
    with urllib.request.urlopen(asked, timeout=30) as answer:
        found: dict[str, Any] = json.load(answer)
    return found


def wait_until_ready(port: int, process: subprocess.Popen[bytes], end: float, said: str) -> None:
    """Return when /readyz says yes; raises `BowerbirdError` when the server ends or time is up before."""
    while time.perf_counter() < end:
        try:
            urllib.request.urlopen(f"http://127.0.0.1:{port}/readyz", timeout=5).close()
            return
        except (urllib.error.URLError, OSError):  # it does not listen yet, or it is not ready
            if process.poll() is not None:
                break
            time.sleep(0.02)
    raise BowerbirdError(f"the server did not become ready: {Path(said).read_text()[-2000:]}")


@contextlib.contextmanager
def trainer(server: Server, core: str) -> Iterator[None]:
    """Let `bowerbird update` run over and over, at the lowest priority."""
    update = f"nice -n 19 taskset -c {core} {BOWERBIRD} update {server.run} --data-dir {server.data}"
    loop = f"while :; do {update} > {server.run.parent}/updates 2>&1; sleep 1; done"
    with subprocess.Popen(["sh", "-c", loop], start_new_session=True) as process:
        try:
            yield
        finally:
            os.killpg(process.pid, signal.SIGTERM)


# ── the figures ───────────────────────────────────────────────────────────────────────────────────────────────────


def loads(options: argparse.Namespace) -> dict[str, _load.Load]:
    """Return what each row asks of its server."""
    slates = {"slates": options.rate, "events": options.events / _load.EVENTS_TOGETHER}
    full = _load.Load(
        port=0,
        rates={kind: rate for kind, rate in slates.items() if rate > 0},
        users=options.users,
        items=options.items,
        seconds=options.seconds,
        warm_s=options.warm,
        arrivals=options.arrivals,
        probe_every_s=options.probe_every,
        seed=_shared.seeds(options.seeds)[0],
    )
    lists = replace(full, rates={"popular": options.lists / 2, "similar": options.lists / 2}, probe_every_s=0.0)
    return {"full": full, "trainer": full, "lists": lists}


def generated(load: _load.Load, core: str) -> dict[str, Any]:
    """Return what the generator found, from a process of its own."""
    words = ["taskset", "-c", core, sys.executable, str(Path(__file__).parent / "_load.py")]
    ran = subprocess.run(words, input=json.dumps(asdict(load)), text=True, stdout=subprocess.PIPE, check=True)
    found = json.loads(ran.stdout)
    assert isinstance(found, dict)
    return found


def row_of(name: str, load: _load.Load, world: Path, cores: list[str], workers: int = 0) -> dict[str, Any]:
    """Start a server, put a load on it; return the figures of a row, under the names of the whole."""
    with contextlib.ExitStack() as stack:
        server = stack.enter_context(served(world, cores[0], workers))
        if name == "trainer":
            stack.enter_context(trainer(server, cores[1]))
        found = generated(replace(load, port=server.port, key=server.key), cores[1])
        versions = int((server.run / "current").read_text())
        memory_mb = server.memory_mb
    kinds, fresh = found["kinds"], found["freshness"]
    row = {
        "failed": sum(kind["failed"] for kind in kinds.values()) + fresh["failed"],
        "generator_share": found["generator_share"],
        "memory_mb": memory_mb,
        "ready_s": server.ready_s,
        "kinds": kinds,
    }
    if name == "lists":
        return row | {
            "lists_per_s": sum(kind["per_s"] for kind in kinds.values()),
            "lists_p99_ms": max((kind["p99_ms"] for kind in kinds.values() if kind["p99_ms"]), default=None),
        }
    slates, events = kinds.get("slates", {}), kinds.get("events", {})
    return row | {
        "requests_per_s": slates.get("per_s", 0.0),
        "p50_ms": slates.get("p50_ms"),
        "p99_ms": slates.get("p99_ms"),
        "events_per_s": events.get("per_s", 0.0) * _load.EVENTS_TOGETHER,
        "freshness_p50_ms": fresh["p50_ms"],
        "freshness_p99_ms": fresh["p99_ms"],
        "freshness_probes": fresh["probes"],
        "versions_published": versions - 1,
    }


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """Measure the rows that were asked for; return one of all, the keys of the whole from `full` where it is there."""
    names, cores = options.rows.split(","), options.cores.split(",")
    wanted = loads(options)
    if strange := [name for name in names if name not in wanted]:
        raise BowerbirdError(f"--rows names {strange[0]!r}; the rows are {', '.join(wanted)}.")
    if len(cores) != 2:
        raise BowerbirdError(f"--cores is {options.cores!r}; write two numbers, such as 0,1: server, then generator.")
    world = made(options)
    rows = {name: row_of(name, wanted[name], world, cores, options.workers) for name in names}
    whole: dict[str, Any] = {}
    for name in sorted(names, key=list(wanted).index, reverse=True):  # what comes last counts
        whole |= {key: value for key, value in rows[name].items() if key != "kinds"}
    whole["failed"] = sum(row["failed"] for row in rows.values())
    show(rows)
    asked = {
        key: getattr(options, key)
        for key in ("users", "items", "ranker", "rate", "events", "lists", "arrivals", "workers")
    }
    return {
        "benchmark": "serving",
        "data": "made-up",
        "model": f"mf + {options.ranker}" if options.ranker else "mf",
        "config": asked,
        "config_sha256": hashlib.sha256(json.dumps(asked, sort_keys=True).encode()).hexdigest(),
        "protocol": " ".join(f"{key}={value}" for key, value in asked.items())
        + f" d={DIM} k={_load.K} rows={options.rows} open-loop from=due warm={options.warm:g}s"
        f" measured={options.seconds:g}s cores={options.cores}",
        "report": "valid",
        "seeds": _shared.seeds(options.seeds),
        "metrics": {},
        "rows": rows,
        "seconds": {"measured": options.seconds, "ready": whole["ready_s"]},
    } | whole


def show(rows: dict[str, dict[str, Any]]) -> None:
    """Print a line for each row and kind of request."""
    print(
        f"{'row':>8} {'kind':>8} {'sent':>8} {'failed':>6} {'per s':>8} {'p50 ms':>8} {'p99 ms':>8} {'max ms':>8}  said"
    )
    for name, row in rows.items():
        for kind, one in row["kinds"].items():
            times = " ".join(f"{one[key] or float('nan'):8.1f}" for key in ("p50_ms", "p99_ms", "p100_ms"))
            said = ", ".join(f"{key}: {n:,}" for key, n in one["outcomes"].items())
            print(f"{name:>8} {kind:>8} {one['sent']:8,} {one['failed']:8,} {one['per_s']:8.1f} {times}  {said}")
        print(f"{name:>8}  " + ", ".join(f"{key} {row[key]:.4g}" for key in (*HEAD, "generator_share") if row.get(key)))


def options_of(words: list[str] | None = None) -> argparse.Namespace:
    """Return the options."""
    return parser_of().parse_args(words)


def parser_of() -> argparse.ArgumentParser:
    """Return a parser with the shared options and those of the load."""
    parser = _shared.parser(__doc__ or "")
    parser.set_defaults(model="mf", data=str(Path(tempfile.gettempdir()) / "bowerbird-serving"), threads=1)
    parser.add_argument("--items", type=int, default=100_000)
    parser.add_argument("--users", type=int, default=1_000_000)
    parser.add_argument("--ranker", default="", help="who orders candidates, such as deepfm")
    parser.add_argument("--rows", default="full", help="full, trainer, lists; with commas between them")
    parser.add_argument("--rate", type=float, default=150.0, help="slates a second")
    parser.add_argument("--events", type=float, default=1000.0, help="events a second")
    parser.add_argument("--lists", type=float, default=1500.0, help="lists a second, in the row of that name")
    parser.add_argument("--seconds", type=float, default=600.0, help="measured")
    parser.add_argument("--warm", type=float, default=10.0, help="seconds before them that do not count")
    parser.add_argument("--probe-every", type=float, default=1.0, help="seconds between probes of freshness; 0: none")
    parser.add_argument("--arrivals", choices=("poisson", "fixed"), default="poisson")
    parser.add_argument("--workers", type=int, default=0, help="processes that compute slates")
    parser.add_argument("--cores", default="0,1", help="of the server, of the generator")
    return parser


if __name__ == "__main__":
    options = options_of()
    sys.exit(_shared.table("serving", {}) if options.table else _shared.main(options, measure))
