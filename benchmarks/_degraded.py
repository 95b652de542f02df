"""Parts that a server loses one by one: what it still answers, and what it says of it."""

import os
import shutil
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

import torch

import bowerbird as bb
from _breaking import Effort
from _crowd import Asker, Crowd
from _versions import USERS, WORKER, WORKER_S, Truth, checked, shop
from bowerbird.core import MissingExtraError
from bowerbird.recommender import Recommender
from bowerbird.serving import Engine
from bowerbird.store import bundles
from bowerbird.testing import halves

K, SCENARIOS = 5, ("default", "goods")
ASKERS: list[dict[str, Any]] = [*({"user_id": user} for user in USERS), {"session_id": "s"}, {"history": ["i1"]}, {}]
Answers = list[dict[str, Any]]


@contextmanager
def engine_of(folder: Path, rec: Recommender) -> Iterator[Engine]:
    """Run an engine over a recommender, which does not log what is broken on purpose."""
    engine = Engine(folder / "run", folder / "data", recommender=rec)
    try:
        with mock.patch("bowerbird.serving.engine.LOG"), mock.patch("bowerbird.serving.maker.LOG"):
            yield engine
    finally:
        engine.close()


def everyone(engine: Engine, **more: Any) -> Answers:
    """Return what everyone is answered, in two scenarios."""
    return [
        engine.recommend({**who, "scenario": scenario, "k": K, **more}, engine.world.token())
        for scenario in SCENARIOS
        for who in ASKERS
    ]


def faults(answers: Answers, *wanted: str) -> list[str]:
    """Return what is wrong with answers that are less than was wished: each is full, and says one of these words."""
    short = [f"{len(one['items'])} places of {K}" for one in answers if len(one["items"]) != K]
    silent = [f"says {one['fallback']}" for one in answers if wanted and not {*wanted} & {*one["fallback"]}]
    return [*short, *silent]


def whole(answers: Answers, before: Answers) -> list[str]:
    """Return which answers are others than before."""
    pairs = zip(answers, before, strict=True)
    return [f"{one['items']} is another answer" for one, other in pairs if shown(one) != shown(other)]


def shown(answer: dict[str, Any]) -> tuple[list[Any], list[str]]:
    """Return what is the same whenever the same is asked of the same."""
    return [one["item_id"] for one in answer["items"]], answer["fallback"]


# ── what goes ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def ranker(effort: Effort) -> tuple[Answers, list[str]]:
    """The ranker raises, gives what is no number, or more than it was asked for."""
    said: Answers = []
    wrong: list[str] = []
    with engine_of(effort.folder / "ranker", bb.fit(halves(), "deepfm", epochs=1)) as engine:
        before = everyone(engine)
        pipelines = [engine.view.pipelines[name] for name in SCENARIOS]
        for broken in (_raises, _no_numbers, _too_many):
            with mock.patch.multiple(pipelines[0], rank=broken), mock.patch.multiple(pipelines[1], rank=broken):
                answers = everyone(engine)
            said, wrong = [*said, *answers], [*wrong, *faults(answers, "model_failed")]
        return said, [*wrong, *whole(everyone(engine), before)]


def index(effort: Effort) -> tuple[Answers, list[str]]:
    """What makes an index is not installed: all items are looked through. Or the index raises."""
    rec = bb.fit(halves(), "mf", epochs=2, dim=8)
    with engine_of(effort.folder / "exact", rec) as engine:
        before = everyone(engine)
    missing = mock.patch("bowerbird.serving.maker.Approximate.of", side_effect=MissingExtraError("no index"))
    with mock.patch("bowerbird.serving.maker.choose", return_value="approximate"):
        with missing, engine_of(effort.folder / "without", rec) as engine:
            without = everyone(engine)
        with engine_of(effort.folder / "raising", rec) as engine:
            with mock.patch.object(engine.view.scorer, "near", _raises):
                raising = everyone(engine)
            wrong = [*whole(without, before), *faults(raising, "model_failed")]
    return [*without, *raising], wrong


def moments(effort: Effort) -> tuple[Answers, list[str]]:
    """There is no time for the ranker, or for anything."""
    with engine_of(effort.folder / "moments", bb.fit(halves(), "deepfm", epochs=1)) as engine:
        pipelines = [engine.view.pipelines[name] for name in SCENARIOS]
        for pipeline in pipelines:
            pipeline.costs.update(ranking=60.0)
        light = everyone(engine, timeout_ms=1000)
        for pipeline in pipelines:
            pipeline.costs.update(sources=60.0)
        popular = everyone(engine, timeout_ms=1000)
    return [*light, *popular], [*faults(light, "light"), *faults(popular, "popular", "latest", "any")]


def model_file(effort: Effort) -> tuple[Answers, list[str]]:
    """The published version is gone from the disk: it still answers, and after a restart the one before it does."""
    truth = Truth()
    with shop(effort, truth) as (one, swaps), Crowd(one.port, checked(truth, swaps), [effort.rng(0)], 0.01) as crowd:
        shutil.rmtree(one.run / "bundles" / swaps.settled)
        time.sleep(1)
        wrong = crowd.faults()
        answer = swaps.ask("POST", f"/v1/models/{swaps.settled}:promote")
        wrong += [] if answer.status == 404 else [f"the version that is gone was promoted: {answer.status}"]
        swaps.unsettle()
    with shop(effort, truth) as (one, swaps):
        swaps.settled = max(bundles.versions(one.run))
        with Crowd(one.port, checked(truth, swaps), [effort.rng(1)], most=100) as after:
            while after.alive:
                time.sleep(0.05)
        wrong += after.faults()
        wrong += [] if f"version {swaps.settled} answers" in one.told() else ["the server does not say what it does"]
    return [{"items": [None] * K, "fallback": []}] * (crowd.turns + after.turns), wrong


def worker(effort: Effort) -> tuple[Answers, list[str]]:
    """The worker is killed, and the next one hangs: the server computes slates itself meanwhile."""
    truth = Truth()
    rngs = effort.rng(2).spawn(2)
    with shop(effort, truth, WORKER) as (one, swaps), Crowd(one.port, checked(truth, swaps), rngs, 0.01) as crowd:
        for sign in (signal.SIGKILL, signal.SIGSTOP):
            (pid,) = children(one.process.pid)
            os.kill(pid, sign)
            end = time.monotonic() + WORKER_S
            while time.monotonic() < end and not (children(one.process.pid) not in ([], [pid]) and workers(swaps.ask)):
                time.sleep(0.1)
            assert workers(swaps.ask), "no other worker was started"
        time.sleep(0.5)
    return [{"items": [None] * K, "fallback": []}] * crowd.turns, crowd.faults()


def children(pid: int) -> list[int]:
    """Return the processes that a process started and that still run."""
    told = [path.read_text().split() for path in Path(f"/proc/{pid}/task").glob("*/children")]
    return [int(one) for ones in told for one in ones]


def workers(ask: Asker) -> int:
    """Return how many workers are ready."""
    return int(ask("GET", "/v1/status").document["workers"])


def _raises(*_: Any, **__: Any) -> Any:
    raise RuntimeError("broken for a test")


def _no_numbers(_: Any, items: torch.Tensor) -> torch.Tensor:
    return torch.full(items.shape, torch.nan)


def _too_many(_: Any, items: torch.Tensor) -> torch.Tensor:
    return torch.zeros(1, items.shape[1] + 1)


LOST: dict[str, Callable[[Effort], tuple[Answers, list[str]]]] = {
    "ranker": ranker,
    "index": index,
    "moments": moments,
    "model_file": model_file,
    "worker": worker,
}
