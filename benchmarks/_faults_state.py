"""What a server holds and answers: after events in any order, without parts of it, made twice, and for long."""

import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

import _degraded
import _orders
from _breaking import Effort, Found, Progress, Stages
from _crowd import percentile_ms
from _soak import soaked
from _versions import Truth, shop
from bowerbird.serving.engine import REMEMBERED
from bowerbird.store import bundles

stages = Stages()

MANY = 260  # events, nine of ten of them of one person: more than are kept of each
BUSY_EVERY = 10  # sequences between two with so many
BACK = 0.2  # share of events that are taken back
MODELS = ("mf", "sasrec", "deepfm")  # trained twice: by pairs, by histories, by rows
WARM_S, MOST_MB_PER_H = 300.0, 10.0  # before growth is measured, and what of it is too much


# ── orders ────────────────────────────────────────────────────────────────────────────────────────────────────────────


@stages(
    "reorderings", "Events in any order, in parts and again and again leave the state of each once, in order", n=300
)
def reorderings(effort: Effort) -> Found:
    """Deliver the same events in order and in disorder, with a restart at times, and compare what is held."""
    found, progress = Found(), Progress(effort, "sequences")
    for number in range(effort.n):
        rng = effort.rng(number)
        wrong = reordered(effort.folder / str(number), number, rng, found)
        found.note(*(f"sequence {number}: {fault}" for fault in wrong))
        progress(number + 1)
    return found


def reordered(folder: Path, number: int, rng: np.random.Generator, found: Found) -> list[str]:
    """Return what differs between one sequence of events in order and in disorder, and from what should be."""
    busy = number % BUSY_EVERY == BUSY_EVERY - 1
    equal_times = number % 3 == 2 and not busy
    events = _orders.drawn(rng, MANY if busy else int(rng.integers(5, 40)), equal_times=equal_times, busy=busy)
    names = [one.event_id for one in events if one.event != _orders.MERGE]
    back = [] if busy else [str(one) for one in rng.choice(names, int(BACK * len(names)), replace=False)]
    disorder, model = _orders.in_disorder(rng, events, back), _orders.MODELS[number % len(_orders.MODELS)][0]
    plain, other = _orders.begun(folder / "plain", model), _orders.begun(folder / "other", model)
    try:
        _orders.deliver(plain, _orders.in_order(events, back))
        half = int(rng.integers(len(disorder) + 1))
        _orders.deliver(other, disorder[:half])
        if rng.random() < 0.5:
            other.close()
            other = _orders.begun(folder / "other", model)
            found.add("restarts", 1)
        _orders.deliver(other, disorder[half:])
        should = _orders.expected(events, back)
        wrong = [f"in order, {one}" for one in _orders.held_by(plain).unlike(should, times_differ=not equal_times)]
        wrong += [f"in disorder, {one}" for one in _orders.held_by(other).unlike(should, times_differ=not equal_times)]
        if not (equal_times and model == "sasrec"):  # which reads histories in their order
            wrong += _orders.differ(plain, other)
    finally:
        plain.close()
        other.close()
    found.add("events", len(events))
    found.add("delivered", sum(len(part) for part in disorder if not isinstance(part, str)))
    found.add("taken_back", len(back))
    return wrong


# ── less than all of it ───────────────────────────────────────────────────────────────────────────────────────────────


@stages("degrades", "Without ranker, index, time, file or worker there is an answer, and it says what it lacks", n=5)
def degrades(effort: Effort) -> Found:
    """Take one part after the other away, and ask."""
    found = Found()
    for number in range(effort.n):
        name = list(_degraded.LOST)[number % len(_degraded.LOST)]
        answers, wrong = _degraded.LOST[name](replace(effort, folder=effort.folder / str(number)))
        found.note(*(f"{name}: {fault}" for fault in wrong))
        found.add("answers", len(answers))
        found.add("empty", sum(not one["items"] for one in answers))
        found.add("with_fallback", sum(bool(one["fallback"]) for one in answers))
    return found


# ── twice ─────────────────────────────────────────────────────────────────────────────────────────────────────────────


@stages("same_twice", "The same seed, data and version make the same model and the same answers, bit by bit", n=3)
def same_twice(effort: Effort) -> Found:
    """Train, publish and ask in two processes, one after the other; another seed must make something else."""
    found, models = Found(), MODELS[: effort.n]
    folders = [effort.folder / name for name in ("one", "other", "control")]
    for folder, seed in zip(folders, (effort.seed, effort.seed, effort.seed + 1), strict=True):
        folder.mkdir()
        again(folder, seed, models if seed == effort.seed else models[:1])
    for model in models:
        tensors, wrong = unlike(folders[0], folders[1], model)
        found.note(*(f"{model}: {fault}" for fault in wrong))
        found.add("tensors", tensors)
    if not unlike(folders[0], folders[2], models[0])[1]:
        found.note("another seed makes the same model: nothing would be noticed")
    return found


def again(folder: Path, seed: int, models: Sequence[str]) -> None:
    """Do it all in a new process."""
    subprocess.run([sys.executable, Path(__file__).with_name("_same.py"), folder, str(seed), *models], check=True)


def unlike(one: Path, other: Path, model: str) -> tuple[int, list[str]]:
    """Return how many tensors two runs hold, and in what bundles and answers differ."""
    bundle, same = (bundles.read(folder / model) for folder in (one, other))
    wrong = [] if bundle.tensors.keys() == same.tensors.keys() else ["there are other tensors"]
    wrong += [
        f"{name} differs"
        for name, tensor in bundle.tensors.items()
        if tensor.tobytes() != same.tensors.get(name, np.zeros(0)).tobytes()
    ]
    files, others = bundle.manifest["files"], same.manifest["files"]
    wrong += [f"{name} differs" for name in files if files[name] != others.get(name)]
    if (one / f"{model}.json").read_bytes() != (other / f"{model}.json").read_bytes():
        wrong.append("answers differ")
    return len(bundle.tensors), wrong


# ── for long ──────────────────────────────────────────────────────────────────────────────────────────────────────────


@stages("soak", "A server that works on and on does not grow, beyond what it is to remember", n=20)
def soak(effort: Effort) -> Found:
    """Ask and tell a server at a steady rate for n minutes, change its items and its version, and see how it grows.

    The slates that it remembers come first: that is to grow, up to a bound. A short run does not get there, and then
    nothing is said of growth. A try is a minute.
    """
    found, warm_s = Found(), min(WARM_S, 60.0 * effort.n / 4)
    with shop(effort, Truth()) as (one, swaps):
        assert one.process is not None
        grown = soaked(swaps, one.process.pid, 60.0 * effort.n - warm_s, warm_s, REMEMBERED, effort.rng(0))
    for minute, wrong in enumerate(grown.by_minute(effort.n)):
        found.note(*(f"minute {minute}: {fault}" for fault in wrong))
    slope, low, high = grown.slope(effort.rng(1))
    judged = grown.remembered >= REMEMBERED
    if judged and high > MOST_MB_PER_H:
        found.note(f"it grows by up to {high:.1f} MB an hour")
    found.figures = {"slates": grown.slates, "events": grown.events, "swaps": grown.swaps, "judged": int(judged)}
    found.figures |= {"mb_per_h": round(slope, 2), "low": round(low, 2), "high": round(high, 2)}
    found.figures |= {"start_mb": round(grown.mb[0], 1), "end_mb": round(grown.mb[-1], 1)}
    found.figures |= {"p99_ms": percentile_ms(grown.seconds, 99)}
    return found
