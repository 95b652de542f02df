"""A server on one core, and those who press it on another: a load, a watch over its health, hostile clients."""

import contextlib
import json
import math
import os
import re
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

import _load
import serving
from _crowd import Answer, Asker, Crowd

USERS, ITEMS, RANKER, SCENARIO = 2_000, 20_000, "deepfm", "goods"  # of the shop that is pressed
WARM_S = 1.0  # of a load, not counted
EACH_S = 0.1  # between two looks at the server's health
GONE_S = 25.0  # in which connections are gone that nobody renews


@dataclass(frozen=True)
class Cores:
    """Where server and generator run; on a machine with one core they share it."""

    server: str
    generator: str


@cache
def cores() -> Cores:
    """Return the first and the last core that this process might use when it began."""
    there = sorted(os.sched_getaffinity(0))
    return Cores(str(there[0]), str(there[-1]))


@contextlib.contextmanager
def pressed(folder: Path) -> Iterator[serving.Server]:
    """Serve a shop of made-up vectors from the first core, with a key that nothing slows down; be on the other one."""
    mine, where = os.sched_getaffinity(0), cores()
    serving.make(folder / "world", USERS, ITEMS, RANKER)
    with serving.served(folder / "world", where.server) as server:
        os.sched_setaffinity(0, {int(where.generator)})  # threads that begin from now on stay there too
        try:
            yield server
        finally:
            os.sched_setaffinity(0, mine)


def capacity(server: serving.Server, rngs: Sequence[np.random.Generator], seconds: float) -> float:
    """Return how many slates a second a server answers a few clients that wait for each."""

    def turn(asker: Asker, rng: np.random.Generator) -> tuple[float, list[str]]:
        answer = asker.slate(int(rng.integers(USERS)), scenario=SCENARIO, k=_load.K)
        return answer.seconds, [] if answer.status == 200 else [str(answer.status)]

    with Crowd(server.port, turn, rngs, key=server.key) as crowd:
        time.sleep(WARM_S)
        warm, began = crowd.turns, time.monotonic()
        time.sleep(seconds)
        found = (crowd.turns - warm) / (time.monotonic() - began)
    assert not crowd.faults(), "a calm server refuses"
    return found


def loaded(server: serving.Server, rate: float, seconds: float, seed: int, *, warm_s: float = WARM_S) -> dict[str, Any]:
    """Ask for so many slates a second, each when it is due; return the figures of `_load`, and the server's `core`.

    That is the share of its core that nothing but the server used: where it is less than 1, so is what it can answer.
    """
    load = _load.Load(
        port=server.port, key=server.key, rates={"slates": rate}, users=USERS, items=ITEMS, seconds=seconds,
        warm_s=warm_s, seed=seed, scenario=SCENARIO,
    )  # fmt: skip
    before, began = busy_s(server.pid), time.monotonic()
    found: dict[str, Any] = serving.generated(load, cores().generator)["kinds"]["slates"]
    own, whole = np.subtract(busy_s(server.pid), before)
    return found | {"core": min(1.0, 1 - (whole - own) / (time.monotonic() - began))}


def busy_s(pid: int) -> tuple[float, float]:
    """Return for how many seconds so far a process was busy, and the core that servers have here."""
    ticks = os.sysconf("SC_CLK_TCK")
    mine = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    core = re.search(rf"^cpu{cores().server} (.*)$", Path("/proc/stat").read_text(), re.MULTILINE)
    assert core is not None
    user, nice, system, _, _, *interrupts = map(int, core[1].split()[:7])
    return (int(mine[11]) + int(mine[12])) / ticks, (user + nice + system + sum(interrupts)) / ticks


def memory_mb(pid: int) -> float:
    """Return what a process holds now."""
    said = Path(f"/proc/{pid}/status").read_text()
    return sum(int(held) for held in re.findall(r"VmRSS:\s*(\d+) kB", said)) / 1024


# ── health ────────────────────────────────────────────────────────────────────────────────────────────────────────────


@dataclass
class Watch:
    """Asks now and then whether a server lives, on a new connection each time, and looks at how it refuses."""

    server: serving.Server
    slowest_s: float = 0.0  # answer of /healthz
    refusals: int = 0  # that it met itself
    wrong: list[str] = field(default_factory=list)

    def __enter__(self) -> "Watch":
        self._enough = threading.Event()
        self._thread = threading.Thread(target=self._go, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._enough.set()
        self._thread.join()

    def faults(self, health_s: float) -> list[str]:
        """Return what was wrong, so slow an answer about health among it."""
        slow = [f"/healthz took {self.slowest_s:.1f} s"] if self.slowest_s > health_s else []
        return [*slow, *self.wrong]

    def _go(self) -> None:
        with contextlib.closing(Asker(self.server.port, key=self.server.key)) as asker:
            while not self._enough.wait(EACH_S):
                try:
                    self._look(asker)
                except OSError as error:
                    self.slowest_s = math.inf
                    self.wrong.append(str(error))

    def _look(self, asker: Asker) -> None:
        asker.close()  # who looks in has no connection yet
        lives = asker("GET", "/healthz")
        self.slowest_s = max(self.slowest_s, lives.seconds)
        if lives.status != 200:
            self.wrong.append(f"/healthz says {lives.status}")
        self.wrong += self.refusal(asker("GET", "/v1/status"))

    def refusal(self, answer: Answer) -> list[str]:
        """Return what is wrong with an answer, where it is a refusal."""
        if answer.status == 200:
            return []
        self.refusals += 1
        if answer.status not in (429, 503):
            return [f"refused with {answer.status}"]
        later = answer.headers.get("retry-after", "")
        return [] if later.isdecimal() and int(later) > 0 else [f"{answer.status} says {later!r} in Retry-After"]


# ── hostile clients ───────────────────────────────────────────────────────────────────────────────────────────────────


@contextlib.contextmanager
def hostile(server: serving.Server, kind: str, number: int) -> Iterator[dict[str, Any]]:
    """Let clients loose on a server; what became of them is in the dictionary when they are gone."""
    told: dict[str, Any] = {}
    words = ["taskset", "-c", cores().generator, sys.executable, str(Path(__file__).parent / "_hostile_clients.py")]
    words += [str(server.port), kind, str(number), server.key]
    process = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n", "the hostile clients did not get in"
        yield told
        told |= json.loads(process.communicate("", timeout=30)[0])
    finally:
        process.kill()
        process.wait()


def connections(pid: int) -> int:
    """Return how many files, connections among them, a process has open."""
    return len(os.listdir(f"/proc/{pid}/fd"))


def until_gone(pid: int, before: int) -> float:
    """Return the seconds until a process has no more open than before, and a few; infinity where it stays so."""
    began = time.monotonic()
    while connections(pid) > before + 8:
        if time.monotonic() > began + GONE_S:
            return math.inf
        time.sleep(0.1)
    return time.monotonic() - began
