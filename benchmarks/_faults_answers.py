"""What a server answers is the same before and after: a kill with a large log, a backup that is restored elsewhere."""

import json
import statistics
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import Any

import numpy as np

import bowerbird as bb
from _breaking import Effort, Found, Progress, Stages
from _posting import posting
from _victim import Victim, publish, victim
from bowerbird.core import BowerbirdError
from bowerbird.store.database import Database, read_only
from bowerbird.store.deeds import read_deeds
from bowerbird.store.events import TableLog
from bowerbird.store.log import LogEvent
from bowerbird.store.people import LATEST

stages = Stages()

EVENTS, AT_ONCE, USERS = 1_000_000, 10_000, 100_000  # of a large log
READY_S, REPEATS = 5.0, 3  # in which a server with a large log is ready, the median of so many starts
ASKED = 220  # people whose lists are compared
BOARDS_S = 2.5  # until lists of items show what was counted
JOB_S = 60.0  # for a backup


# ── killed, and started again ─────────────────────────────────────────────────────────────────────────────────────────


@stages("restart", "A server with a million events is ready again in 5 s, and answers as before it was killed", n=1)
def restart(effort: Effort) -> Found:
    """Kill a server that holds a large log and took some events itself; compare what it answers before and after."""
    found, ready = Found(), list[float]()
    run, data = effort.folder / "run", effort.folder / "data"
    publish(run)
    fill(data, EVENTS, effort.rng())
    for turn in range(effort.n):
        with victim(effort.folder) as one:
            live(one, effort.rng(turn))
            time.sleep(BOARDS_S)
            before = answers(one)
            faults = recounted(one, before["/v1/lists/popular"]) + shown_again(one, before)
            for _ in range(REPEATS):
                one.kill()
                ready.append(one.start())
                after = answers(one)
                faults += [
                    f"{name} is answered otherwise than before" for name in before if before[name] != after[name]
                ]
            median = statistics.median(ready)
            if median > READY_S:
                faults.append(f"it was ready after {median:.1f} s")
            found.note(*faults)
    found.figures = {"events": EVENTS, "answers": len(before), "ready_s": round(statistics.median(ready), 2)}
    found.figures |= {"ready_max_s": round(max(ready), 2)}
    return found


def fill(data: Path, n: int, rng: np.random.Generator) -> None:
    """Write a log of so many events: what users and sessions did, what they were shown, and who became whom."""
    with closing(Database(data)) as database:
        log, now = TableLog(database), int(time.time()) - n // 10
        for first in range(0, n, AT_ONCE):
            numbers = range(first, min(first + AT_ONCE, n))
            drawn = rng.integers(0, [[USERS], [USERS // 10], [40], [20]], (4, len(numbers))).T.tolist()
            log.append([logged(number, now + number // 10, *row) for number, row in zip(numbers, drawn, strict=True)])


def logged(number: int, time: int, user: int, session: int, item: int, kind: int) -> LogEvent:
    """Return one event: of twenty one is a slate, two are of sessions, and now and then a session becomes a user."""
    name, session_id = f"old-{number}", f"t{session}" if kind in (1, 2) else None
    user_id = None if session_id else f"v{user}" if number % 50 else f"u{user % 60}"
    if number % 1000 == 999:
        return LogEvent(name, "merge", user_id=f"v{user % ASKED}", session_id=f"t{session}", time=time)
    if kind == 0:
        shown = json.dumps({"question": {"k": 10}, "items": [f"i{(item + n) % 40}" for n in range(10)], "previous": []})
        return LogEvent(name, "slate", user_id=user_id, time=time, context=shown)
    weight = 0.5 + number % 4 / 2
    return LogEvent(
        name, "interaction", user_id=user_id, session_id=session_id, item_id=f"i{item}", time=time, weight=weight
    )


def live(one: Victim, rng: np.random.Generator) -> None:
    """Let a server take events itself, take some back, and make users of sessions."""
    with one.client() as client:
        for part in range(30):
            events = [
                {"event_id": f"new-{part}-{n}", "event": "interaction", "item_id": f"i{rng.integers(40)}"}
                | ({"session_id": f"t{rng.integers(50)}"} if n % 5 == 0 else {"user_id": f"v{rng.integers(200)}"})
                for n in range(20)
            ]
            client.post("/v1/events", json={"events": events}).raise_for_status()
            client.delete(f"/v1/events/new-{part}-{rng.integers(20)}").raise_for_status()
            client.delete(f"/v1/events/old-{rng.integers(EVENTS)}").raise_for_status()
            client.post(f"/v1/users/v{rng.integers(200)}:merge", json={"session_id": f"t{rng.integers(50)}"})


def answers(one: Victim, people: Sequence[dict[str, str]] | None = None) -> dict[str, Any]:
    """Return what a server answers: boards, counts, and the lists of some people, without what differs by itself."""
    if people is None:
        people = [{"user_id": f"u{n}"} for n in range(20)] + [{"session_id": f"t{n}"} for n in range(60)]
        people += [{"user_id": f"v{n}"} for n in range(ASKED - len(people))]
    found: dict[str, Any] = {}
    with one.client() as client:
        for name in ("popular", "trending", "latest"):
            items = client.get(f"/v1/lists/{name}", params={"k": 40}).raise_for_status().json()["items"]
            counted = name == "popular"  # the others' scores are of the moment
            found[f"/v1/lists/{name}"] = [(one["item_id"], one["score"] if counted else None) for one in items]
        for who in people:
            body = client.post("/v1/recommendations", json=who | {"k": 10}).raise_for_status().json()
            found[json.dumps(who)] = {name: body[name] for name in body.keys() - {"request_id", "trace", "timings_ms"}}
        status = client.get("/v1/status").raise_for_status().json()
    return found | {name: status[name] for name in ("people_since", "items", "users", "model_version")}


def recounted(one: Victim, popular: list[tuple[str, float]]) -> list[str]:
    """Return which items were chosen otherwise often than the log and the model's past say."""
    with closing(read_only(one.data)) as connection:
        sql = "SELECT item_id, sum(weight) FROM events WHERE event = 'interaction' AND NOT retracted GROUP BY item_id"
        counts = Counter(dict(connection.execute(sql).fetchall()))
    rec = bb.load(one.run)
    counts.update(dict(zip(rec.item_ids.values.to_list(), rec.popularity.counts.tolist(), strict=True)))
    return [
        f"{item} was chosen {score} times, and {counts[item]} by the log"
        for item, score in popular
        if counts[item] != score
    ]


def shown_again(one: Victim, found: dict[str, Any]) -> list[str]:
    """Return who is shown what they, or a session that became theirs, chose already by the log.

    Whoever did more than is remembered of them may be.
    """
    chosen = read_deeds(one.data, 0)[0].group_by("user_id").agg("item_id")
    did = dict(chosen.iter_rows())
    faults = []
    for who, body in found.items():
        if (user := who.startswith('{"user_id"') and json.loads(who)["user_id"]) and len(did.get(user, ())) < LATEST:
            again = {item["item_id"] for item in body["items"]}.intersection(did.get(user, ()))
            faults += [f"{user} is shown {sorted(again)} again"] * bool(again)
    return faults


# ── restored ──────────────────────────────────────────────────────────────────────────────────────────────────────────


@stages(
    "backup", "A backup that is taken under load restores to a server that answers as the log of its moment says", n=5
)
def backup(effort: Effort) -> Found:
    """Take backups while clients post and while they rest, restore them elsewhere, and compare what is answered."""
    found, progress = Found(figures={"answers": 0, "differing": 0, "events": 0}), Progress(effort)
    with victim(effort.folder) as one, posting(one.port, effort.seed, clients=8) as clients:
        catalogued(one)
        for turn in range(effort.n):
            folder = effort.folder / str(turn)
            clients.go()
            time.sleep(effort.rng(turn).uniform(0.5, 1.5))
            known = set(clients.ledger.acked)
            moving = taken(one)
            clients.hold()
            time.sleep(BOARDS_S)
            now, still = answers(one), taken(one)
            with ExitStack() as stack:
                pair = [stack.enter_context(restored(moving, folder / name)) for name in ("a", "b")]
                quiet = stack.enter_context(restored(still, folder / "c"))
                faults = clients.told + prefix(pair[0].data, one.data, known, found)
                faults += differing(answers(pair[0]), answers(pair[1]), "the second copy", found)
                faults += differing(now, answers(quiet), "the copy", found)
            found.note(*(f"backup {turn}: {fault}" for fault in faults))
            progress(turn + 1)
    return found


def catalogued(one: Victim) -> None:
    """Put a few items into the catalogue: new ones, one that is hidden, one that has expired."""
    rows = [{"id": f"new{n}", "properties": {"title": f"New {n}", "kind": "even"}} for n in range(5)]
    rows += [{"id": "i4", "available": False}, {"id": "i7", "expires": 1}]
    with one.client() as client:
        client.post("/v1/items:batch", json={"rows": rows}).raise_for_status()


def taken(one: Victim) -> Path:
    """Let a server take a backup; return its folder."""
    with one.client() as client:
        job = client.post("/v1/jobs", json={"kind": "backup"}).raise_for_status().json()
        end = time.monotonic() + JOB_S
        while job["state"] not in ("done", "failed") and time.monotonic() < end:
            time.sleep(0.02)
            job = client.get(f"/v1/jobs/{job['id']}").raise_for_status().json()
    if job["state"] != "done":
        raise BowerbirdError(f"there is no backup: {job}")
    return one.data / "backups" / job["detail"].partition(":")[0]


@contextmanager
def restored(backup: Path, folder: Path) -> Iterator[Victim]:
    """Serve what `bowerbird restore` makes of a backup."""
    words = ["restore", backup, folder / "run", "--data-dir", folder / "data"]
    ran = [sys.executable, "-m", "bowerbird", *map(str, words)]
    subprocess.run(ran, check=True, capture_output=True, timeout=JOB_S)
    with victim(folder) as one:
        yield one


def prefix(copy: Path, data: Path, known: set[str], found: Found) -> list[str]:
    """Return what is wrong with a copy of a log that went on since: it is the beginning, and holds what was known."""
    rows = []
    for folder in (copy, data):
        with closing(read_only(folder)) as connection:
            rows.append(connection.execute("SELECT * FROM events ORDER BY number").fetchall())
    there = {row[3] for row in rows[0]}
    found.add("events", len(rows[0]))
    faults = [] if rows[0] == rows[1][: len(rows[0])] else ["the copy is no beginning of the log"]
    return faults + [f"{name} was acknowledged before, and is not in the copy" for name in known - there][:3]


def differing(one: dict[str, Any], other: dict[str, Any], whose: str, found: Found) -> list[str]:
    """Return which answers differ."""
    names = [name for name in one if one[name] != other[name]]
    found.add("answers", len(one))
    found.add("differing", len(names))
    return [f"{whose} answers {name} otherwise" for name in names]
