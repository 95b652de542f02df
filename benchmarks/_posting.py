"""Clients that post events to a server over all of its lives, and what they were told: no event may be lost or twice.

A client sends a part again, under the same ids, until it is told that it was kept. So it is with real ones, and so an
event that was kept but not answered is found out when it comes again.
"""

import http.client
import json
import sqlite3
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from bowerbird.core import BowerbirdError
from bowerbird.store.database import read_only

CLIENTS, MOST = 16, 20  # clients, and events that one of them sends at once
REST_S = 0.1  # the longest rest of a client between two parts
AGAIN_S = 0.01  # before a client tries again
PATIENCE_S = 30.0
Part = list[dict[str, Any]]


class Ledger:
    """What was acknowledged, and what of it is in the log of a data directory."""

    def __init__(self) -> None:
        self.acked: dict[str, int] = {}  # the end of the log that was told with it
        self.fresh: list[str] = []  # those that were not looked for yet
        self.stored: dict[str, int] = {}  # the offset of each event
        self.lost = self.end = 0
        self.turn = threading.Lock()

    def ack(self, part: Part, offset: int) -> None:
        """Note that a part was acknowledged."""
        ids = [event["event_id"] for event in part]
        with self.turn:
            self.acked.update(dict.fromkeys(ids, offset))
            self.fresh += ids

    def faults(self, data: Path, *, whole: bool = False) -> list[str]:
        """Return what is wrong with a log: look at all of it, or at what came since the last look."""
        sql = "SELECT event_id, number - 1 FROM events WHERE number > ? ORDER BY number"
        try:
            with closing(read_only(data)) as connection:
                rows = connection.execute(sql, (0 if whole else self.end,)).fetchall()
                sound = connection.execute("PRAGMA integrity_check(3)").fetchall() if whole else [("ok",)]
        except (sqlite3.Error, BowerbirdError) as error:
            return [f"the database cannot be read: {error}"]
        names = [event_id for event_id, _ in rows]
        wrong = [] if sound == [("ok",)] else [f"the database is damaged: {sound[0][0]}"]
        wrong += [f"{name} is in the log {n} times" for name, n in Counter(names).items() if n > 1]
        if whole:
            wrong += [f"{name} moved" for name, offset in rows if self.stored.get(name, offset) != offset]
            self.stored = {}
        else:
            wrong += [f"{name} is in the log again" for name in names if name in self.stored]
        self.stored.update(rows)
        self.end = max(self.stored.values(), default=-1) + 1
        with self.turn:
            due, self.fresh = list(self.acked) if whole else self.fresh, []
        lost = [name for name in due if name not in self.stored]
        early = [name for name in due if self.stored.get(name, 0) >= self.acked[name]]
        self.lost += len(lost)
        return [*wrong, *(f"{one} was lost" for one in lost), *(f"{one} was told too small an offset" for one in early)]


@dataclass
class Outcome:
    """What came of one request: `status` is 0 where the connection broke before there was one, −1 in the answer."""

    status: int
    body: dict[str, Any] = field(default_factory=dict)


class Client:
    """A connection to a port, made anew where it broke."""

    def __init__(self, port: int, timeout: float = PATIENCE_S) -> None:
        self.port, self.timeout = port, timeout
        self._connection: http.client.HTTPConnection | None = None

    def post(self, path: str, document: Any, method: str = "POST") -> Outcome:
        """Send a document; return what came of it."""
        if self._connection is None:
            self._connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=self.timeout)
        status = 0
        try:
            self._connection.request(method, path, json.dumps(document), {"Content-Type": "application/json"})
            answer = self._connection.getresponse()
            status = -1
            body = json.loads(answer.read())
            if answer.will_close:
                self.close()
            return Outcome(answer.status, body)
        except (OSError, http.client.HTTPException, ValueError):
            self.close()
            return Outcome(status)

    def close(self) -> None:
        """End the connection."""
        if self._connection is not None:
            self._connection.close()
        self._connection = None


def ask(port: int, path: str, document: Any = None, method: str = "POST", timeout: float = PATIENCE_S) -> Outcome:
    """Send a document over a connection of its own; return what came of it."""
    client = Client(port, timeout)
    try:
        return client.post(path, document, method)
    finally:
        client.close()


class Posting:
    """Clients in threads: they post while they may, and rest while they are held."""

    def __init__(
        self, port: int, seed: int, *, clients: int = CLIENTS, most: int = MOST, rest_s: float = REST_S, words: int = 0
    ) -> None:
        """Each part has up to `most` events, each event a context of so many `words` letters."""
        self.port, self.seed, self.most, self.rest_s, self.words = port, seed, most, rest_s, words
        self.ledger, self.outcomes, self.wrong = Ledger(), Counter[str](), list[str]()
        self.open: dict[int, Part] = {}  # what each client sent and was not told of
        self._may, self._end = threading.Event(), threading.Event()
        self._quiet = threading.Condition()
        self._busy = 0
        self.threads = [threading.Thread(target=self._run, args=(n,), daemon=True) for n in range(clients)]
        for one in self.threads:
            one.start()

    def go(self) -> None:
        """Let them post."""
        self._may.set()

    def hold(self) -> None:
        """Let them rest, and return when all do."""
        self._may.clear()
        with self._quiet:
            if not self._quiet.wait_for(lambda: not self._busy, 2 * PATIENCE_S):
                self.wrong.append("a client waits without end")

    def stop(self) -> None:
        """End them."""
        self._end.set()
        self._may.set()
        for one in self.threads:
            one.join(2 * PATIENCE_S)

    @property
    def told(self) -> list[str]:
        """What was wrong with answers since this was asked last."""
        wrong, self.wrong = self.wrong, []
        return wrong

    def _run(self, number: int) -> None:
        rng, client, parts, part = np.random.default_rng([self.seed, number]), Client(self.port), 0, Part()
        while self._may.wait() and not self._end.is_set():
            if not part:
                part, parts = self._part(rng, f"{number}-{parts}"), parts + 1
            with self._quiet:
                if not self._may.is_set():
                    continue
                self._busy += 1
                self.open[number] = part
            kept = self._send(client, part)
            with self._quiet:
                if kept:
                    del self.open[number]
                self._busy -= 1
                self._quiet.notify_all()
            part = [] if kept else part
            time.sleep(rng.uniform(0, self.rest_s) if kept else AGAIN_S)
        client.close()

    def _send(self, client: Client, part: Part) -> bool:
        """Send a part; return whether it was kept."""
        found = client.post("/v1/events", {"events": part})
        with self._quiet:
            self.outcomes[str(found.status)] += 1
        if found.status == 200:
            kept = found.body["accepted"] + found.body["duplicates"]
            if kept != len(part) or found.body["rejected"]:
                self.wrong.append(f"of {len(part)} events {found.body} was said")
            self.ledger.ack(part, found.body["offset"])
        elif found.status > 0 and (found.status not in (429, 503, 507) or not found.body.get("retryable")):
            self.wrong.append(f"{found.status} {found.body} was said")
        return found.status == 200

    def _part(self, rng: np.random.Generator, name: str) -> Part:
        made = []
        for n in range(int(rng.integers(1, self.most + 1))):
            event: dict[str, Any] = {"event_id": f"{name}-{n}", "event": "interaction"}
            event["item_id"] = f"i{rng.integers(40)}"
            who = (
                ("session_id", f"s{rng.integers(500)}") if rng.random() < 0.2 else ("user_id", f"u{rng.integers(500)}")
            )
            event[who[0]] = who[1]
            made.append(event | ({"context": {"words": "x" * self.words}} if self.words else {}))
        return made


@contextmanager
def posting(port: int, seed: int, **options: Any) -> Iterator[Posting]:
    """Lend clients, and end them."""
    clients = Posting(port, seed, **options)
    try:
        yield clients
    finally:
        with suppress(RuntimeError):
            clients.stop()
