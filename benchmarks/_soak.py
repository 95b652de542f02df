"""A server that works at a steady rate, and how much it grows meanwhile."""

import math
import os
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from _crowd import Asker
from _versions import ITEMS, USERS, K, Swaps

SLATES, POSTS, TOGETHER, CHANGES = 50.0, 2.0, 10, 0.2  # a second: slates, posts of so many events, changes of items
MOST = 150.0  # slates a second while it warms up
ACTIVE = [*({"user_id": user} for user in USERS[:15]), *({"session_id": f"s{one}"} for one in range(5))]  # who acts
SWAP_S, WARM_SWAPS = 120.0, 30  # between two swaps, and how many come first: until then, memory finds its places
BLOCK_S, DRAWS = 30, 2_000  # neighbouring samples that are drawn together, and how often that is done
LOOK = [{"name": "look", "weight": 0.5, "hides": False}]
VERSIONS = 3


@dataclass
class Grown:
    """What came of it."""

    mb: list[float] = field(default_factory=list)  # held, second by second
    told: list[tuple[float, str]] = field(default_factory=list)  # what went wrong, and when
    slates: int = 0
    events: int = 0
    swaps: int = 0
    remembered: int = 0  # slates before the first sample
    seconds: list[float] = field(default_factory=list)  # of answers

    def by_minute(self, minutes: int) -> list[list[str]]:
        """Return what went wrong in each minute of a run."""
        found: list[list[str]] = [[] for _ in range(minutes)]
        for moment, said in self.told:
            found[min(minutes - 1, int(moment // 60))].append(said)
        return found

    def slope(self, rng: np.random.Generator) -> tuple[float, float, float]:
        """Return by how many MB an hour it grows, with the ends of the interval that holds 95 %.

        Neighbouring samples are alike, so that what the line leaves is drawn in blocks.
        """
        hours, mb = np.arange(len(self.mb)) / 3600, np.array(self.mb)
        slope, start = np.polyfit(hours, mb, 1)
        rest, block = mb - start - slope * hours, min(BLOCK_S, len(mb) // 3)
        pieces = math.ceil(len(mb) / block)
        first = rng.integers(0, len(mb) - block + 1, (DRAWS, pieces))
        drawn = rest[(first[:, :, None] + np.arange(block)).reshape(DRAWS, -1)[:, : len(mb)]]
        centred = hours - hours.mean()
        slopes = slope + drawn @ centred / (centred @ centred)
        low, high = np.percentile(slopes, [2.5, 97.5])
        return float(slope), float(low), float(high)


class Paced(threading.Thread):
    """Does something at a rate, which may change; what it is late with is left out."""

    def __init__(self, rate: Callable[[], float], act: Callable[[], None], enough: threading.Event) -> None:
        super().__init__(daemon=True)
        self.rate, self.act, self.enough = rate, act, enough

    def run(self) -> None:
        """Go on until it is enough."""
        due = time.monotonic()
        while not self.enough.wait(max(0.0, due - time.monotonic())):
            self.act()
            due = max(due + 1 / self.rate(), time.monotonic())


class Work:
    """What is asked of a server, and told to it."""

    def __init__(self, port: int, grown: Grown, rng: np.random.Generator) -> None:
        self.port, self.grown, self.began, self.lock = port, grown, time.monotonic(), threading.Lock()
        self.rngs, self.askers = rng.spawn(8), list[Asker]()
        self.run = f"{rng.integers(1 << 60):x}"

    def asker(self) -> Asker:
        """Return another client."""
        self.askers.append(Asker(self.port))
        return self.askers[-1]

    def close(self) -> None:
        """End what the clients have open."""
        for one in self.askers:
            one.close()

    def ask(self, asker: Asker, method: str, path: str, document: dict[str, Any]) -> float:
        """Ask, and note what is wrong; return the seconds it took."""
        try:
            answer = asker(method, path, document)
            said = "" if answer.status in (200, 201) else f"{method} {path}: {answer.status} {answer.document}"
            seconds = answer.seconds
        except OSError as error:
            said, seconds = str(error), math.nan
        if said:
            with self.lock:
                self.grown.told.append((time.monotonic() - self.began, said))
        return seconds

    def slates(self, number: int) -> Callable[[], None]:
        """Return what asks for a slate of anyone."""
        asker, rng = self.asker(), self.rngs[number]

        def act() -> None:
            who = str(rng.choice(USERS))
            seconds = self.ask(asker, "POST", "/v1/recommendations", {"user_id": who, "k": K})
            with self.lock:
                self.grown.slates += 1
                self.grown.seconds.append(seconds)

        return act

    def events(self) -> Callable[[], None]:
        """Return what tells of some events of a few people: what is kept of each is bounded."""
        asker, rng = self.asker(), self.rngs[-1]

        def act() -> None:
            rows = [
                {"event_id": f"{self.run}-{self.grown.events + n}", "event": "look", "item_id": f"i{item}"}
                | ACTIVE[int(rng.integers(len(ACTIVE)))]
                for n, item in enumerate(rng.integers(ITEMS, size=TOGETHER).tolist())
            ]
            self.ask(asker, "POST", "/v1/events", {"events": rows})
            self.grown.events += TOGETHER

        return act

    def changes(self) -> Callable[[], None]:
        """Return what changes an item."""
        asker, rng = self.asker(), self.rngs[-2]

        def act() -> None:
            price, item = round(float(rng.uniform(1, 100)), 2), f"i{rng.integers(ITEMS)}"
            self.ask(asker, "PUT", f"/v1/items/{item}", {"properties": {"price": price}})

        return act


def soaked(
    swaps: Swaps, pid: int, seconds: float, warm_s: float, remember: int, rng: np.random.Generator, threads: int = 4
) -> Grown:
    """Let a server work, and measure after `warm_s`, in which it is asked for so many slates as it is to remember."""
    grown, enough = Grown(), threading.Event()
    work = Work(swaps.ask.port, grown, rng)
    work.ask(swaps.ask, "PUT", "/v1/schema", {"events": LOOK})
    began = time.monotonic()
    warm = max(SLATES, min(MOST, 1.1 * remember / warm_s)) if warm_s else SLATES

    def rate() -> float:
        return (warm if time.monotonic() < began + warm_s else SLATES) / threads

    paced = [Paced(rate, work.slates(number), enough) for number in range(threads)]
    paced += [Paced(lambda: POSTS, work.events(), enough), Paced(lambda: CHANGES, work.changes(), enough)]
    for one in paced:
        one.start()
    try:
        due = list(np.linspace(0, warm_s, min(WARM_SWAPS, int(warm_s)), endpoint=False))
        due += list(np.arange(warm_s, warm_s + seconds, min(SWAP_S, seconds / 3)))
        while (elapsed := time.monotonic() - began) < warm_s + seconds:
            if due and elapsed >= due[0]:
                version = f"{1 + (int(swaps.settled) + int(rng.integers(VERSIONS - 1))) % VERSIONS:06d}"
                moment = due.pop(0)
                grown.told += [(moment, fault) for fault in swaps.promote(version)]
                grown.swaps += 1
            if elapsed < warm_s:
                grown.remembered = grown.slates
            else:
                grown.mb.append(held_mb(pid))
            time.sleep(1 - (time.monotonic() - began) % 1)
    finally:
        enough.set()
        for one in paced:
            one.join()
        work.close()
    return grown


def held_mb(pid: int) -> float:
    """Return what a process holds now."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6
