"""Updates that are killed: a version is there whole or not at all, and the next update comes to the same.

strace names the steps of a publication and kills at each of them. Where it is not there, kills come at random moments.
"""

import re
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from contextlib import closing
from pathlib import Path
from typing import Any, NamedTuple

import bowerbird as bb
from _breaking import Effort, Found, Progress, Stages
from _victim import publish, victim
from bowerbird.store import bundles, histories
from bowerbird.store.database import Database
from bowerbird.store.events import TableLog
from bowerbird.store.log import LogEvent

stages = Stages()

MODELS: dict[str, dict[str, Any]] = {"itemknn": {}, "mf": {"dim": 8, "epochs": 4}}
EVENTS = 300  # that an update learns from
SERVED_EVERY = 6  # tries between two in which a server is started on what is left
MOMENTS = 5  # one kill of so many comes at a moment of its own, the others at a step
LATEST_S = 120.0
STEPS = "openat,write,fsync,rename,mkdir,unlink,unlinkat,rmdir"
CALL = re.compile(r"^(\d+) +(\w+)\((.*)")


class Result(NamedTuple):
    """What a run directory comes to: the sha256 of the files in force, how far they know the log, everybody's past."""

    files: dict[str, str]
    log_offset: int
    past: dict[str, list[Any]]


class Shop(NamedTuple):
    """A run that was not updated yet, and what an update that nobody disturbs makes of it."""

    folder: Path
    before: Result
    after: Result
    seconds: float
    steps: list[tuple[str, int]]  # a system call in the run directory, and which one of its kind it is


@stages("half_written", "An update that is killed leaves whole versions, and the next one comes to the same", n=110)
def half_written(effort: Effort) -> Found:
    """Kill updates at every step of a publication and at other moments, load what is left, and update again."""
    found, progress = Found(figures={"killed": 0, "old_left": 0, "new_left": 0, "differing": 0}), Progress(effort)
    shops = [opened(effort.folder / name, name, config) for name, config in list(MODELS.items())[: effort.n]]
    orders = [effort.rng(n).permutation(len(shop.steps)) for n, shop in enumerate(shops)]
    found.figures["steps"] = sum(len(shop.steps) for shop in shops)
    at_steps = [0] * len(shops)
    for turn in range(effort.n):
        number, rng = turn % len(shops), effort.rng(turn)
        shop, folder = shops[number], effort.folder / f"try-{turn}"
        shutil.copytree(shop.folder, folder)
        if shop.steps and turn % MOMENTS != MOMENTS - 1:
            call, which = shop.steps[orders[number][at_steps[number] % len(shop.steps)]]
            at_steps[number] += 1
            where = f"{call} {which}"
            status = updated(
                folder, ["strace", "-f", "-o", "/dev/null", "-e", f"inject={call}:signal=KILL:when={which}"]
            )
        else:
            moment = shop.seconds * float(rng.uniform(0.3, 1.0))
            where, status = f"{moment:.2f} s", updated(folder, kill_s=moment)
        found.add("killed", status < 0 or status == 128 + signal.SIGKILL)
        faults = left(shop, folder, found) + (served(folder) if turn % SERVED_EVERY == 0 else []) + again(shop, folder)
        found.add("differing", bool(faults))
        found.note(*(f"{folder.name}, {shop.folder.name} killed at {where}: {fault}" for fault in faults))
        shutil.rmtree(folder)
        progress(turn + 1)
    return found


def opened(folder: Path, model: str, config: dict[str, Any]) -> Shop:
    """Publish a first version, note events for the second, and make that once without being disturbed."""
    publish(folder / "run", model, **config)
    with closing(Database(folder / "data")) as database:
        events = [
            LogEvent(f"e{n}", "interaction", f"u{n * 7 % 65}", f"i{n * n % 43}", 1_700_000_000 + n)
            for n in range(EVENTS)
        ]
        TableLog(database).append(events)
    copy, traced = folder.with_name(f"{model}-copy"), folder.with_name(f"{model}-traced")
    shutil.copytree(folder, copy)
    started = time.perf_counter()
    status = updated(copy)
    seconds = time.perf_counter() - started
    assert status == 0, f"an update that nobody disturbs ended with {status}"
    steps = list[tuple[str, int]]()
    if shutil.which("strace"):
        shutil.copytree(folder, traced)
        tape = folder.with_name(f"{model}-tape")
        updated(traced, ["strace", "-f", "-y", "-o", str(tape), "-e", f"trace={STEPS}"])
        steps = steps_of(tape.read_text(errors="replace"), traced / "run")
    return Shop(folder, result(folder / "run"), result(copy / "run"), seconds, steps)


def steps_of(tape: str, run: Path) -> list[tuple[str, int]]:
    """Return the calls that changed something in a run directory, and which ones of their kind and thread they were."""
    counts, steps = Counter[tuple[str, str]](), list[tuple[str, int]]()
    for line in tape.splitlines():
        if (call := CALL.match(line)) is None:
            continue
        thread, name, given = call.groups()
        counts[thread, name] += 1
        if str(run) in given and (name != "openat" or "O_CREAT" in given):
            steps.append((name, counts[thread, name]))
    return steps


def updated(folder: Path, before: list[str] | None = None, kill_s: float | None = None) -> int:
    """Update a run from its log, and kill the update after so long; return its exit status."""
    words = [sys.executable, "-m", "bowerbird", "update", folder / "run", "--data-dir", folder / "data"]
    with subprocess.Popen(
        [*(before or []), *map(str, words)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    ) as process:
        try:
            return process.wait(LATEST_S if kill_s is None else kill_s)
        except subprocess.TimeoutExpired:
            process.kill()
            return process.wait()


def result(run: Path) -> Result:
    """Return what a run directory comes to; raises what is wrong with it."""
    rec, version = bb.load(run), bundles.current(run)
    bundles.read(run, moments=True)
    if rec.recommend(["u1", "u2"], k=3).to_polars().height != 6:
        raise ValueError("it recommends less than it should")
    past = histories.recall(run, version)
    return Result(bundles.manifest_of(run)["files"], rec.log_offset, past.to_dict(as_series=False))


def left(shop: Shop, folder: Path, found: Found) -> list[str]:
    """Return what is wrong with a run whose update was killed: it is the old one or the new one, and nothing else."""
    try:
        now = result(folder / "run")
    except Exception as error:  # whatever it is, it is not whole
        return [f"it does not load: {error}"]
    found.add("old_left", now == shop.before)
    found.add("new_left", now == shop.after)
    return [] if now in (shop.before, shop.after) else ["what loads is neither the old nor the new version"]


def served(folder: Path) -> list[str]:
    """Return what is wrong with a server on what an update left."""
    copy = shutil.copytree(folder, folder / "served")  # a server notes what it answers, and an update would find that
    with victim(copy) as one, one.client() as client:
        said = client.post("/v1/recommendations", json={"user_id": "u1", "k": 3}).json()
    right = said["model_version"] in ("000001", "000002") and len(said["items"]) == 3 and not said["fallback"]
    return [] if right else [f"a server answers {said}"]


def again(shop: Shop, folder: Path) -> list[str]:
    """Return what is wrong with the next update, which nobody disturbs: it comes to what an undisturbed one does."""
    there = (folder / "run" / bundles.POINTER).read_text() != "000001"
    status = updated(folder)
    faults = [] if status == (4 if there else 0) else [f"the next update ended with {status}"]
    try:
        now = result(folder / "run")
    except Exception as error:
        return [*faults, f"after the next update it does not load: {error}"]
    parts = [name for name, one, other in zip(Result._fields, now, shop.after, strict=True) if one != other]
    scraps = [path.name for path in (folder / "run").rglob("*.part")]
    faults += [f"after the next update {', '.join(parts)} are others"] if parts else []
    return faults + ([f"after the next update {scraps} are left"] if scraps else [])
