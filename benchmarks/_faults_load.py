"""Servers under load: versions that change or are broken, people who look at once, too many, and hostile clients."""

import math
import threading
import time
from collections.abc import Callable
from typing import Any

import numpy as np

import serving
from _breaking import Effort, Found, Progress, Stages
from _crowd import Answer, Asker, Crowd, percentile_ms
from _pressure import Watch, capacity, connections, hostile, loaded, memory_mb, pressed, until_gone
from _versions import (
    ITEMS,
    USERS,
    WORKER,
    Swaps,
    Truth,
    break_version,
    changed,
    checked,
    constant,
    later,
    nan,
    refused,
    shop,
)
from _victim import Victim
from bowerbird.recommender import Recommender
from bowerbird.store import bundles

stages = Stages()

CROWD = 4  # clients at once
CALM_S = 3.0  # in which a server is asked before, or after, anything happens to it
KEEPER_S = 1.5  # in which a server has looked at what was published
ROLLBACK_S = 2.0  # in which a rollback is through
BY_ITSELF_S = 10.0  # in which a version that fails in use is gone
TIMES = (1, 2, 4, 6, 8, 10)  # what a server is asked, of what it can answer
CALM = 0.3  # of that, before and after
STEP_S = 8.0  # of a load
SHARE = 0.8  # of its most that a server answers under any load
ANSWERED_S = 1.0  # for 99 of 100 that are let in: at most 64 wait, each for the milliseconds that those before it take
HEALTH_S = 1.0  # in which a server says that it lives
RECOVERED_S = 5.0  # in which it is as before
NOISE_MS = 20.0  # less than that is not told from other work of the machine
VICTIM = 40.0  # requests a second of the client that hostile ones are beside
HOSTILE = {  # clients of each kind, and for how many seconds: longer than the server is patient
    "heads": (500, 14.0), "bodies": (300, 34.0), "deaf": (60, 14.0), "idle": (2_000, 14.0), "garbage": (100, 8.0),
}  # fmt: skip
LOOKS = 3  # at each kind, until one is good: other work of the machine may slow down a client as well
GROWN_MB = 100.0  # that a server may grow by for them
HELD_S = 60.0  # that a connection may be held for


# ── swaps ─────────────────────────────────────────────────────────────────────────────────────────────────────────────


@stages("swaps", "Versions are swapped under load: no request fails, and no answer mixes two of them", n=200)
def swaps(effort: Effort) -> Found:
    """Promote versions in random order under load, most of them in one process, some beside a worker."""
    found, truth = Found(), Truth()
    beside = effort.n // 5
    swap(effort, found, truth, effort.n - beside)
    if beside:
        swap(effort, found, truth, beside, WORKER)
    if blind := truth.blind():
        found.note(*blind)
    return found


def swap(effort: Effort, found: Found, truth: Truth, n: int, words: tuple[str, ...] = ()) -> None:
    """Swap n times on one server, a try each."""
    rng, name, progress = effort.rng(len(words), CROWD), "worker_" if words else "", Progress(effort, "swaps")
    with shop(effort, truth, words) as (one, swaps):
        rngs = [effort.rng(len(words), number) for number in range(CROWD)]
        with Crowd(one.port, checked(truth, swaps), rngs) as crowd:
            time.sleep(CALM_S)
            began = time.monotonic()
            for number in range(n):
                version = str(rng.choice([other for other in sorted(truth.scores) if other != swaps.settled]))
                wrong = swaps.promote(version)
                time.sleep(rng.uniform(0, 0.1))
                found.note(*(f"swap {number} to {version}: {fault}" for fault in [*wrong, *crowd.faults()]))
                progress(number + 1)
        if late := crowd.faults():
            found.note(*late)
    for what, value in (("swaps", n), ("requests", crowd.turns), ("failed", crowd.failed)):
        found.add(what, value)
    found.figures |= {
        f"{name}p99_ms_before": crowd.milliseconds(99, until=began),
        f"{name}p99_ms_during": crowd.milliseconds(99, since=began),
        f"{name}swap_p50_ms": percentile_ms(swaps.seconds, 50),
        f"{name}swap_max_ms": percentile_ms(swaps.seconds, 100),
    }


# ── broken versions ───────────────────────────────────────────────────────────────────────────────────────────────────


@stages("rollback", "A broken version is refused, goes by itself, or is rolled back within two seconds", n=8)
def rollback(effort: Effort) -> Found:
    """Promote versions that are broken in one way each, under load, and roll back sound ones too."""
    found, truth, back, progress = Found(), Truth(), list[float](), Progress(effort, "versions")
    for first in range(0, effort.n, len(BROKEN)):
        words = WORKER if first // len(BROKEN) % 2 else ()
        rngs = [effort.rng(first, client) for client in range(CROWD)]
        with shop(effort, truth, words) as (one, swaps), Crowd(one.port, checked(truth, swaps), rngs, 0.005) as crowd:
            sound = swaps.settled
            for spoil, meet in list(BROKEN.items())[: effort.n - first]:
                broken = break_version(one.run, sound, spoil)
                wrong = meet(Meeting(found, truth, one, swaps, sound, broken))
                wrong += to_and_fro(swaps, sound, back)
                said = f"{spoil.__name__} {' '.join(words)}".strip()
                found.note(*(f"{said}: {fault}" for fault in [*wrong, *crowd.faults()]))
                progress(found.tried)
        found.add("requests", crowd.turns)
        found.add("failed", crowd.failed)
    found.figures |= {"degraded": truth.degraded, "rollbacks": len(back)}
    found.figures |= {"rollback_p50_ms": percentile_ms(back, 50), "rollback_max_ms": percentile_ms(back, 100)}
    return found


class Meeting:
    """A server, a sound version that it serves, and a broken one."""

    def __init__(self, found: Found, truth: Truth, one: Victim, swaps: Swaps, sound: str, broken: str) -> None:
        self.found, self.truth, self.one, self.swaps, self.sound, self.broken = found, truth, one, swaps, sound, broken

    def refuses(self) -> list[str]:
        """Promote and publish the broken version: neither may take it into use. Return what was wrong."""
        answer = self.swaps.ask("POST", f"/v1/models/{self.broken}:promote")
        wrong = [] if answer.status == 409 else [f"promoting it was answered with {answer.status} {answer.document}"]
        bundles.point(self.one.run, self.broken)
        time.sleep(KEEPER_S)
        if (used := self.swaps.in_use()) != self.sound:
            wrong.append(f"version {used} is in use after it was published")
        self.found.add("refused", 1)
        return [*wrong, *self.swaps.promote(self.sound)]

    def goes(self) -> list[str]:
        """Promote a version that fails in use, and wait until it is gone by itself; return what was wrong."""
        self.truth.failing.add(self.broken)
        self.swaps.unsettle()
        wrong = refused(self.swaps.ask("POST", f"/v1/models/{self.broken}:promote"))
        began = time.monotonic()
        while (used := self.swaps.in_use()) != self.sound and time.monotonic() < began + BY_ITSELF_S:
            time.sleep(0.05)
        self.found.figures["went_by_itself_s"] = round(time.monotonic() - began, 2)
        if used != self.sound:
            wrong.append(f"version {used} is in use {BY_ITSELF_S:g} s after it began to fail")
        time.sleep(KEEPER_S)  # a worker follows a little later
        return [*wrong, *self.swaps.promote(self.sound)]

    def stays(self) -> list[str]:
        """Promote a version that answers badly but well-formed, and roll it back; return what was wrong."""
        self.truth.learn(self.one.run, self.broken)
        wrong = self.swaps.promote(self.broken)
        time.sleep(KEEPER_S)
        self.found.add("rolled_back_by_hand", 1)
        return [*wrong, *self.swaps.roll_back(self.sound)]


BROKEN: dict[Callable[[Recommender], None], Callable[[Meeting], list[str]]] = {
    nan: Meeting.refuses,
    changed: Meeting.refuses,
    later: Meeting.goes,
    constant: Meeting.stays,
}


def to_and_fro(swaps: Swaps, newest: str, back: list[float]) -> list[str]:
    """Roll back once and twice, to a version that is still held and to one that is not; return what was wrong."""
    wrong = list[str]()
    older = [f"{int(newest) - 1:06d}", f"{int(newest) - 2:06d}"]
    for versions in (older[:1], older):
        for version in versions:
            wrong += swaps.roll_back(version)
            back.append(swaps.seconds[-1])
            if back[-1] > ROLLBACK_S:
                wrong.append(f"rolling back to {version} took {back[-1]:.1f} s")
        wrong += swaps.promote(newest)
    return wrong


# ── people and what they just did ─────────────────────────────────────────────────────────────────────────────────────


@stages("own_writes", "Whoever was told that an event is kept finds it in the next answer, or reads `stale`", n=10_000)
def own_writes(effort: Effort) -> Found:
    """Choose and look at once: in peace, while versions are swapped, and beside a worker while they are."""
    found, truth, people = Found(), Truth(), People()
    swapped, beside = effort.n // 4, effort.n // 5
    with shop(effort, truth) as (_, swaps):
        choose(effort, found, people, swaps, effort.n - swapped - beside, [])
        choose(effort, found, people, swaps, swapped, sorted(truth.scores))
    if beside:
        with shop(effort, truth, WORKER) as (_, swaps):
            choose(effort, found, people, swaps, beside, sorted(truth.scores))
    found.figures |= {
        "pairs": found.tried,
        "taken_back": people.taken_back,
        "stale_share": people.stale / max(1, found.tried),
        "look_p99_ms": percentile_ms(people.before, 99),
        "own_p99_ms": percentile_ms(people.after, 99),
        "added_p99_ms": round(percentile_ms(people.after, 99) - percentile_ms(people.before, 99), 2),
    }
    return found


def choose(effort: Effort, found: Found, people: "People", swaps: Swaps, n: int, versions: list[str]) -> None:
    """Let people choose n times, a try each, while these versions are swapped and others ask."""
    rng, progress, port = effort.rng(found.tried), Progress(effort, "pairs"), swaps.ask.port

    def one(asker: Asker, rng: np.random.Generator) -> tuple[float, list[str]]:
        try:
            wrong = people.choose(asker, rng)
        except OSError as error:
            wrong = [str(error)]
        with people.lock:
            found.note(*wrong)
        return 0.0, []

    with Crowd(port, checked(Truth(), swaps), rng.spawn(1), 0.02), Crowd(port, one, rng.spawn(CROWD), most=n) as crowd:
        while crowd.alive:
            time.sleep(0.2)
            progress(found.tried)
            if versions and (wrong := swaps.promote(str(rng.choice(versions)))):
                found.note(*wrong)


class People:
    """People who look at their list, choose its first item and look again: it must be gone. Some take it back."""

    def __init__(self) -> None:
        self.lock, self.idle, self.number = threading.Lock(), list(USERS), 0
        self.stale = self.taken_back = 0
        self.before, self.after = list[float](), list[float]()  # seconds of the first look and of the second

    def choose(self, asker: Asker, rng: np.random.Generator) -> list[str]:
        """Let somebody known, somebody new or a session choose; return what was wrong."""
        with self.lock:
            self.number += 1
            known = self.idle.pop(int(rng.integers(len(self.idle))))
        try:
            name = f"{self.number}"
            who = [{"user_id": known}, {"user_id": f"new{name}"}, {"session_id": f"s{name}"}][int(rng.integers(3))]
            return self.chosen(asker, f"own{name}", who, back=who.get("user_id") == known)
        finally:
            with self.lock:
                self.idle.append(known)

    def chosen(self, asker: Asker, name: str, who: dict[str, str], *, back: bool) -> list[str]:
        """Let one person choose what stands first, and take it `back`; return what was wrong."""
        before = look(asker, who)
        item = before.document["items"][0]["item_id"]
        row = {"event_id": name, "event": "interaction", "item_id": item, **who}
        kept = asker("POST", "/v1/events", {"events": [row]})
        if kept.status != 200 or kept.document["accepted"] != 1:
            return [f"{name} was not kept: {kept.status} {kept.document}"]
        after = look(asker, who, min_offset=kept.document["offset"])
        self.before.append(before.seconds)
        self.after.append(after.seconds)
        self.stale += after.document["stale"]
        wrong = [] if after.document["stale"] or item not in shown(after) else [f"{who} chose {item} and was shown it"]
        if back:
            self.taken_back += 1
            gone = asker("DELETE", f"/v1/events/{name}")
            wrong += [] if gone.status == 204 else [f"{name} was not taken back: {gone.status}"]
            wrong += [] if item in shown(look(asker, who)) else [f"{who} took {item} back and was not shown it"]
        return wrong


def look(asker: Asker, who: dict[str, str], **more: Any) -> Answer:
    """Return a whole list of somebody; raises `OSError` where there is none."""
    answer = asker("POST", "/v1/recommendations", {**who, "k": ITEMS, **more})
    if answer.status != 200:
        raise OSError(f"{who} was not answered: {answer.status} {answer.document}")
    return answer


def shown(answer: Answer) -> list[str]:
    """Return the items of a list."""
    return [one["item_id"] for one in answer.document["items"]]


# ── too many ──────────────────────────────────────────────────────────────────────────────────────────────────────────


@stages("overload", "Asked far more than it can answer, a server answers nearly as much as ever, and in time", n=6)
def overload(effort: Effort) -> Found:
    """Ask once, twice, … ten times what the server answers at its best; then look whether it is as before.

    The generator has a core of its own; how far behind it was stands as `late`.
    """
    found, rows, progress = Found(), list[dict[str, Any]](), Progress(effort, "steps")
    with pressed(effort.folder) as server:
        best = capacity(server, effort.rng(0).spawn(2 * CROWD), CALM_S)
        calm = loaded(server, CALM * best, CALM_S, effort.seed)
        for number, times in enumerate(TIMES[: effort.n]):
            with Watch(server) as watch:
                row = loaded(server, times * best, STEP_S, effort.seed + number)
            rows.append(row)
            found.note(*(f"{times} times: {fault}" for fault in [*strained(row), *watch.faults(HEALTH_S)]))
            found.figures |= {
                f"x{times}_sent_per_s": round(row["sent"] / STEP_S),
                f"x{times}_answered_per_s": round(row["per_s"]),
                f"x{times}_core_percent": round(100 * row["core"]),
                f"x{times}_p99_ms": round(row["p99_ms"] or 0),
                f"x{times}_late_ms": round(row["late_p99_ms"]),
                f"x{times}_health_ms": round(1000 * watch.slowest_s),
            }
            progress(number + 1)
        after = loaded(server, CALM * best, CALM_S, effort.seed, warm_s=RECOVERED_S - CALM_S)
        if wrong := [*collapsed(rows), *spoilt(calm, after)]:
            found.note(*wrong)
        found.figures = {"capacity_per_s": round(best), "calm_p50_ms": round(calm["p50_ms"], 1)} | found.figures
        found.figures |= {"after_p50_ms": round(after["p50_ms"] or 0, 1), "memory_mb": round(server.memory_mb)}
    return found


def strained(row: dict[str, Any]) -> list[str]:
    """Return what is wrong with what a server answered under a load: it may refuse, but not keep anyone waiting."""
    wrong = [f"{n} requests: {said}" for said, n in row["outcomes"].items() if said not in ("200", "429", "503")]
    if row["p99_ms"] is None or row["p99_ms"] > 1000 * ANSWERED_S + row["late_p99_ms"]:
        wrong.append(f"one answer of a hundred takes {row['p99_ms']} ms")
    return wrong


def collapsed(rows: list[dict[str, Any]]) -> list[str]:
    """Return the loads under which a server answered much less than under another, for the core that it had."""
    found = [row["per_s"] / row["core"] for row in rows]
    return [
        f"{one:.0f} answers a second of its core, {max(found):.0f} at most" for one in found if one < SHARE * max(found)
    ]


def spoilt(calm: dict[str, Any], after: dict[str, Any]) -> list[str]:
    """Return what is worse after a load than before it."""
    slow = after["p50_ms"] is None or after["p50_ms"] > max(2 * calm["p50_ms"], NOISE_MS)
    wrong = [f"afterwards half the answers take {after['p50_ms']} ms, before {calm['p50_ms']}"] if slow else []
    return [*wrong, *([f"afterwards {after['outcomes']}"] if after["failed"] else [])]


# ── hostile clients ───────────────────────────────────────────────────────────────────────────────────────────────────


@stages("hostile_clients", "Clients that send slowly, read nothing, wait or send nonsense slow nobody else down", n=5)
def hostile_clients(effort: Effort) -> Found:
    """Let many clients of one kind loose beside one that asks at a steady rate, again where that one is slowed down."""
    found, progress = Found(), Progress(effort, "kinds")
    with pressed(effort.folder) as server:
        loaded(server, VICTIM, CALM_S, effort.seed)  # what is made at first stays
        for number, kind in enumerate(list(HOSTILE)[: effort.n]):
            for look in range(LOOKS):
                figures, wrong = beside(server, kind, effort.seed + LOOKS * number + look)
                if not wrong:
                    break
            found.note(*(f"{kind}: {fault}" for fault in wrong))
            found.figures |= {f"{kind}_{name}": value for name, value in figures.items()} | {f"{kind}_looks": look + 1}
            progress(number + 1)
    return found


def beside(server: serving.Server, kind: str, seed: int) -> tuple[dict[str, float], list[str]]:
    """Return the figures of a client beside hostile ones of a kind, and what was wrong."""
    many, seconds = HOSTILE[kind]
    calm = loaded(server, VICTIM, STEP_S, seed)
    held, files = memory_mb(server.pid), connections(server.pid)
    with hostile(server, kind, many) as told:
        with_them = loaded(server, VICTIM, seconds, seed)
        grown = memory_mb(server.pid) - held
    wrong = ["their connections stay"] if until_gone(server.pid, files) == math.inf else []
    wrong += [*slowed(calm, with_them), *spoilt(calm, loaded(server, VICTIM, CALM_S, seed))]
    wrong += [f"{told['refused']} could not connect"] if told["refused"] else []
    wrong += [f"the server grew by {grown:.0f} MB"] if grown > GROWN_MB else []
    wrong += [f"one was held for {told['longest_s']:.0f} s"] if told["longest_s"] > HELD_S else []
    figures = {"clients": many, "p99_ms_before": round(calm["p99_ms"], 1), "p99_ms": round(with_them["p99_ms"] or 0, 1)}
    figures |= {"ended": told["ended"], "longest_s": round(told["longest_s"], 1), "grown_mb": round(grown, 1)}
    return figures, wrong


def slowed(calm: dict[str, Any], with_them: dict[str, Any]) -> list[str]:
    """Return what is worse for a client beside hostile ones than it was alone."""
    wrong = [f"beside them {with_them['outcomes']}"] if with_them["failed"] else []
    if with_them["p99_ms"] is None or with_them["p99_ms"] > 2 * max(calm["p99_ms"], NOISE_MS):
        wrong.append(f"one answer of a hundred takes {with_them['p99_ms']} ms beside them, {calm['p99_ms']} without")
    return wrong
