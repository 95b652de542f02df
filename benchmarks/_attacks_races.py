"""Races: many ask for the same at once, and what comes out must be what some order of them would have made."""

import json
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx
import numpy as np

import _breaking
from _attacks_shop import EVENT
from _breaking import Effort, Found, Progress
from _victim import Victim, publish
from bowerbird.store import bundles
from bowerbird.store.database import Database
from bowerbird.store.keys import Keys

stages = _breaking.Stages()

AT_ONCE, JOBS = 12, {"kind": "export", "what": "users"}
RESTART_EVERY = 5  # rounds
LATER_S = 30.0  # for a job to end


@dataclass
class Ground:
    """A server with a key, and clients of it."""

    server: Victim
    client: httpx.Client
    threads: ThreadPoolExecutor
    versions: tuple[str, ...]
    kept: dict[str, str] = field(default_factory=dict)  # Idempotency-Key → the job that it made

    def ask(self, method: str, path: str, body: Any = None, **headers: str) -> httpx.Response:
        """Send one request."""
        return self.client.request(method, path, json=body, headers=headers)

    def all_at_once(self, asked: Sequence[Callable[[], httpx.Response]]) -> list[httpx.Response]:
        """Send requests in as many threads, which begin together."""
        gate = threading.Barrier(len(asked))

        def go(one: Callable[[], httpx.Response]) -> httpx.Response:
            gate.wait(LATER_S)
            return one()

        return list(self.threads.map(go, asked))

    @contextmanager
    def meanwhile(self, *asked: Callable[[], httpx.Response]) -> Iterator[list[tuple[float, httpx.Response]]]:
        """Send requests again and again while the block runs; note when each began, and its answer."""
        told: list[tuple[float, httpx.Response]] = []
        stop = threading.Event()

        def again(one: Callable[[], httpx.Response]) -> None:
            while not stop.is_set():
                began = time.perf_counter()
                told.append((began, one()))

        running = [self.threads.submit(again, one) for one in asked]
        try:
            yield told
            time.sleep(0.05)
        finally:
            stop.set()
            for one in running:
                one.result(LATER_S)


def _statuses(answers: Sequence[httpx.Response]) -> dict[int, int]:
    return dict(sorted(Counter(one.status_code for one in answers).items()))


# ── documents ─────────────────────────────────────────────────────────────────────────────────────────────────────


def same_item_put(ground: Ground, rng: np.random.Generator, name: str) -> list[str]:
    """Put one item many times at once, then once more under a condition that only one can meet."""

    def put(value: int, **headers: str) -> Callable[[], httpx.Response]:
        return lambda: ground.ask("PUT", f"/v1/items/{name}", {"properties": {"value": value}}, **headers)

    answers = ground.all_at_once([put(value) for value in range(AT_ONCE)])
    faults = [] if _statuses(answers) == {200: AT_ONCE - 1, 201: 1} else [f"puts answered {_statuses(answers)}"]
    tags = [int(one.headers["etag"].strip('"')) for one in answers]
    got = ground.ask("GET", f"/v1/items/{name}")
    if len(set(tags)) < AT_ONCE or got.json()["properties"]["value"] != tags.index(max(tags)):
        faults.append(f"the last of {tags} is not what is kept: {got.json()}")
    guarded = ground.all_at_once([put(value, **{"if-match": got.headers["etag"]}) for value in range(AT_ONCE)])
    if _statuses(guarded) != {200: 1, 412: AT_ONCE - 1}:
        faults.append(f"puts under one condition answered {_statuses(guarded)}")
    return faults


def same_item_patched(ground: Ground, rng: np.random.Generator, name: str) -> list[str]:
    """Patch one item in many places at once: no change may get lost."""
    ground.ask("PUT", f"/v1/items/{name}", {})
    parts = {f"p{number}": number for number in range(AT_ONCE)}
    ground.all_at_once(
        [
            lambda key=key, value=value: ground.ask("PATCH", f"/v1/items/{name}", {"properties": {key: value}})
            for key, value in parts.items()
        ]
    )
    kept = ground.ask("GET", f"/v1/items/{name}").json()["properties"]
    return [] if kept == parts else [f"of {len(parts)} patches {len(kept)} are kept"]


def deleted_or_recommended(ground: Ground, rng: np.random.Generator, name: str) -> list[str]:
    """Delete an item, and put it back, while lists are asked for: whoever asks after it was said sees it so."""
    item = f"i{rng.integers(40)}"

    def ask() -> httpx.Response:
        return ground.ask("POST", "/v1/recommendations", {"k": 1000})

    with ground.meanwhile(ask, ask) as told:
        time.sleep(0.03)
        ground.ask("DELETE", f"/v1/items/{item}")
        gone = time.perf_counter()
        time.sleep(0.05)
        back_asked = time.perf_counter()
        ground.ask("PUT", f"/v1/items/{item}", {})
        back = time.perf_counter()
    # an answer may have been made of either state while the change was under way, so only those between count
    ended = [(began, one.elapsed.total_seconds() + began, item in _shown(one)) for began, one in told]
    late = sum(there for began, end, there in ended if gone < began and end < back_asked)
    missing = sum(not there for began, _, there in ended if began > back)
    faults = [f"{late} lists showed {item} after it was deleted"] if late else []
    return faults + ([f"{missing} lists lacked {item} after it was back"] if missing else [])


def _shown(answer: httpx.Response) -> set[Any]:
    assert answer.status_code == 200, answer.text[:300]
    return {one["item_id"] for one in answer.json()["items"]}


# ── versions, keys, events ────────────────────────────────────────────────────────────────────────────────────────


def promoted_both_ways(ground: Ground, rng: np.random.Generator, name: str) -> list[str]:
    """Promote different versions at once while lists are asked for; in the end there is one truth."""

    def ask() -> httpx.Response:
        return ground.ask("POST", "/v1/recommendations", {"user_id": "u1"})

    def promote(version: str) -> Callable[[], httpx.Response]:
        return lambda: ground.ask("POST", f"/v1/models/{version}:promote")

    with ground.meanwhile(ask) as told:
        answers = ground.all_at_once([promote(str(one)) for one in rng.choice(ground.versions, 6)])
    faults = [] if _statuses(answers) == {200: 6} else [f"promotions answered {_statuses(answers)}"]
    said = {one.json()["model_version"] if one.status_code == 200 else one.status_code for _, one in told}
    if not said <= set(ground.versions):
        faults.append(f"lists were of {said}")
    run = ground.server.run
    truth = {
        ground.ask("GET", "/v1/models").json()["in_use"],
        ground.ask("GET", "/readyz").json()["model_version"],
        json.loads(json.dumps((run / bundles.POINTER).read_text().strip().strip('"'))),
    }
    return faults if len(truth) == 1 else [*faults, f"in the end there are {truth}"]


def key_revoked_in_use(ground: Ground, rng: np.random.Generator, name: str) -> list[str]:
    """Revoke a key that is in use: nothing that begins later gets in."""
    made = ground.ask("POST", "/v1/keys", {"name": name, "scopes": ["models:read"]}).json()
    secret = f"Bearer {made['secret']}"

    def ask() -> httpx.Response:
        return ground.ask("GET", "/v1/status", authorization=secret)

    with ground.meanwhile(ask, ask) as told:
        time.sleep(0.03)
        ground.ask("DELETE", f"/v1/keys/{made['id']}")
        gone = time.perf_counter()
    late = [one.status_code for began, one in told if began > gone and one.status_code not in (401, 429)]
    early = [one.status_code for began, one in told if one.status_code == 200]
    return [f"after it was revoked it got {late}"] if late else [] if early else ["the key never worked"]


def same_event_sent(ground: Ground, rng: np.random.Generator, name: str) -> list[str]:
    """Send one event many times at once, with and without others around it: it is kept once."""
    events = [EVENT | {"event_id": f"{name}-{n}", "user_id": name} for n in range(3)]
    bodies = [{"events": [events[number] for number in rng.permutation(3)]} for _ in range(AT_ONCE)]
    answers = ground.all_at_once([lambda body=body: ground.ask("POST", "/v1/events", body) for body in bodies])
    accepted = sum(one.json()["accepted"] for one in answers)
    duplicates = sum(one.json()["duplicates"] for one in answers)
    kept = ground.ask("GET", f"/v1/events?user_id={name}&event=interaction").json()["events"]
    ids = sorted(one["event_id"] for one in kept)
    right = (accepted, duplicates, ids) == (3, 3 * AT_ONCE - 3, [f"{name}-{n}" for n in range(3)])
    return [] if right else [f"accepted {accepted}, duplicates {duplicates}, kept {ids}"]


# ── once ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def _made_by(ground: Ground, key: str, bodies: Sequence[dict[str, str]]) -> list[httpx.Response]:
    def post(body: dict[str, str]) -> Callable[[], httpx.Response]:
        return lambda: ground.ask("POST", "/v1/jobs", body, **{"idempotency-key": key})

    return ground.all_at_once([post(body) for body in bodies])


def same_key_same_body(ground: Ground, rng: np.random.Generator, name: str) -> list[str]:
    """Start one job many times at once under one Idempotency-Key: it is started once."""
    before = len(ground.ask("GET", "/v1/jobs").json()["jobs"])
    answers = _made_by(ground, name, [JOBS] * 20)
    again = ground.ask("POST", "/v1/jobs", JOBS, **{"idempotency-key": name})
    jobs = {one.json()["id"] for one in [*answers, again] if one.status_code == 202}
    made = len(ground.ask("GET", "/v1/jobs").json()["jobs"]) - before
    other = ground.ask("POST", "/v1/jobs", JOBS | {"what": "items"}, **{"idempotency-key": name}).status_code
    faults = [] if set(_statuses(answers)) <= {202, 409} and len(jobs) == made == 1 else [
        f"{_statuses(answers)} made {made} jobs, told of {jobs}"
    ]  # fmt: skip
    if other != 422 or again.headers.get("idempotency-replayed") != "true":
        faults.append(f"another body got {other}; the same again {dict(again.headers)}")
    ground.kept[name] = again.json().get("id", "")
    return faults


def same_key_other_bodies(ground: Ground, rng: np.random.Generator, name: str) -> list[str]:
    """Start different jobs at once under one Idempotency-Key: one body wins."""
    bodies = [JOBS | {"what": what} for what in ("users", "items")] * 10
    answers = _made_by(ground, f"{name}-other", bodies)
    won = {
        (body["what"], one.json()["id"]) for body, one in zip(bodies, answers, strict=True) if one.status_code == 202
    }
    lost = {one.status_code for one in answers} - {202}
    return [] if len(won) == 1 and lost <= {409, 422} else [f"won: {won}; the others got {lost}"]


def kept_over_a_restart(ground: Ground, name: str) -> list[str]:
    """Restart the server, and send everything that was kept under an Idempotency-Key again."""
    ground.server.kill(signal.SIGKILL if len(ground.kept) % 2 else signal.SIGTERM)
    ground.server.start()
    faults = []
    for key, job in ground.kept.items():
        again = ground.ask("POST", "/v1/jobs", JOBS, **{"idempotency-key": key})
        if again.status_code != 202 or again.json()["id"] != job or "idempotency-replayed" not in again.headers:
            faults.append(f"{key} made {job}, and after a restart {again.status_code} {again.text[:100]}")
    if jobs := ground.ask("GET", "/v1/jobs").json()["jobs"]:
        faults.append(f"after the restart there are {len(jobs)} jobs that nobody asked for anew")
    ground.kept.clear()
    return faults


# ── walks ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def walked_while_it_changes(ground: Ground, rng: np.random.Generator, name: str) -> list[str]:
    """Walk through all documents while others come and go: each that stays is met once, in order."""
    stays = [f"{name} é{n:02}" for n in range(40)]
    ground.ask("POST", "/v1/users:batch", {"rows": [{"id": one} for one in stays]})
    turn = iter(range(10**9))

    def change() -> httpx.Response:
        number = next(turn)
        ground.ask("PUT", f"/v1/users/{quote(f'{name} é{number % 40:02}x')}", {})
        return ground.ask("DELETE", f"/v1/users/{quote(f'{name} é{(number - 7) % 40:02}x')}")

    with ground.meanwhile(change):
        met = _walk(ground, int(rng.integers(1, 12)))
    seen = [one for one in met if one in set(stays)]
    faults = [] if seen == stays else [f"met {len(seen)} of {len(stays)}, {len(set(seen))} of them different"]
    return faults if met == sorted(met, key=str.encode) else [*faults, "not in order"]


def _walk(ground: Ground, limit: int) -> list[str]:
    met, after = list[str](), None
    while True:
        page = ground.ask("GET", f"/v1/users?limit={limit}" + (f"&after={quote(after)}" if after else "")).json()
        met += [one["id"] for one in page["users"]]
        if (after := page["next"]) is None:
            return met


FORGED = [
    "",
    "0",
    "-1",
    "9" * 30,
    "zzzz",
    "é",
    "\ufffd",
    "' OR 1=1--",
    "%",
    "../",
    "NaN",
    "null",
    "🐦" * 64,
    "x" * 256,
    "x" * 300,
]


def forged_cursors(ground: Ground, rng: np.random.Generator, name: str) -> list[str]:
    """Ask for pages that nobody was told of."""
    faults = []
    for one in [*FORGED, "".join(map(chr, rng.integers(32, 0x2FF, 5)))]:
        page = ground.ask("GET", f"/v1/users?limit=5&after={quote(one)}")
        if page.status_code == 200 and any(row["id"].encode() <= one.encode() for row in page.json()["users"]):
            faults.append(f"after {one!r} came what stands before it")
        events = ground.ask("GET", f"/v1/events?limit=5&start={quote(one)}")
        more = ground.ask("POST", f"/v1/recommendations/{quote(one, safe='') or 'x'}:next")
        told = [page.status_code, events.status_code, more.status_code]
        if max(told) >= 500 or more.status_code == 200:
            faults.append(f"{one!r} answered {told}")
    return faults


RACES: list[Callable[[Ground, np.random.Generator, str], list[str]]] = [
    same_item_put, same_item_patched, deleted_or_recommended, promoted_both_ways, key_revoked_in_use, same_event_sent,
    same_key_same_body, same_key_other_bodies, walked_while_it_changes, forged_cursors,
]  # fmt: skip


@contextmanager
def ground_of(folder: Path) -> Iterator[Ground]:
    """Serve two versions from a folder, and end the server."""
    versions = tuple(publish(folder / "run", shrink=shrink) for shrink in (0.0, 10.0))
    database = Database(folder / "data")
    secret = Keys(database).create("admin", ["admin"], limit_per_s=1e6)[1]
    database.close()
    server = Victim(folder / "run", folder / "data")
    server.start()
    try:
        with server.client(authorization=f"Bearer {secret}") as client, ThreadPoolExecutor(32) as threads:
            yield Ground(server, client, threads, versions)
    finally:
        server.kill()


@stages("races", "what many do at once comes out as if one had done it after the other", n=30)
def races(effort: Effort) -> Found:
    """Run every race again and again, with restarts in between."""
    found, step = Found(), Progress(effort, "rounds")
    with ground_of(effort.folder) as ground:
        for number in range(effort.n):
            for place, race in enumerate(RACES):
                faults = race(ground, effort.rng(number, place), f"{race.__name__} {number}")
                found.note(*(f"round {number}, {race.__name__}: {fault}" for fault in faults))
            if number % RESTART_EVERY == RESTART_EVERY - 1:
                found.note(*kept_over_a_restart(ground, f"round {number}"))
                found.add("restarts", 1)
            step(number)
    found.figures["kinds"] = len(RACES) + 1
    return found
