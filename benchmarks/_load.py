"""An open-loop load generator: requests leave when they are due, however the server is doing.

    python _load.py < load.json

It is a process of its own, so that it can have a core of its own. A latency counts from the moment at which a request
was due, not from the one at which it could be sent, so that a server that stalls cannot hide what it kept waiting
(coordinated omission). It knows HTTP/1.1 with keep-alive and `Content-Length`, and no more: that costs a fifth of what
httpx takes, and its own share of its core is part of the result.

Who asks and who acts is drawn evenly over the users, which is the worst for caches; which item is acted on is skewed.
The last users are kept for the probes of freshness, so that nobody else changes their lists.
"""

import asyncio
import json
import random
import re
import selectors
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np

EVENTS_TOGETHER = 10  # in one request
K = 20
MOST_CONNECTIONS = 400  # beyond them requests wait here, and their clocks run
IDLE_S = 3.0  # a connection that rested longer is not used again: the server may be closing it
PROBES = 1_000  # users that only probes of freshness touch, at most a tenth of all
LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)


@dataclass(frozen=True)
class Load:
    """What is asked of a server."""

    port: int
    rates: dict[str, float]  # requests a second, by kind: slates, events, popular, similar
    users: int
    items: int
    seconds: float
    warm_s: float = 5.0  # before them, under the same load: not counted
    host: str = "127.0.0.1"
    key: str = ""
    arrivals: str = "poisson"  # or "fixed"
    event: str = "purchase"
    scenario: str = "goods"
    probe_every_s: float = 0.0  # 0: freshness is not probed
    timeout_s: float = 10.0
    seed: int = 0

    @property
    def probed(self) -> int:
        """The number of users that only probes touch."""
        return min(PROBES, self.users // 10)


@dataclass
class Tally:
    """What became of the requests of one kind that were due while it counted."""

    latency_s: list[float] = field(default_factory=list)  # of good answers
    late_s: list[float] = field(default_factory=list)  # how long after it was due each request left
    outcomes: Counter[str] = field(default_factory=Counter)  # statuses; "timeout", "broken" and "empty" beside them

    def document(self, seconds: float) -> dict[str, Any]:
        """Return the figures."""
        return {
            "sent": len(self.late_s),
            "failed": len(self.late_s) - len(self.latency_s),
            "per_s": len(self.latency_s) / seconds,
            "outcomes": dict(self.outcomes),
            "late_p99_ms": milliseconds(self.late_s, 99),
        } | {f"p{level}_ms": milliseconds(self.latency_s, level) for level in (50, 90, 99, 100)}


def milliseconds(seconds: list[float], level: float) -> float | None:
    """Return a percentile, None of nothing."""
    return 1000 * float(np.percentile(seconds, level)) if seconds else None


class Connection(asyncio.Protocol):
    """A connection that carries one request at a time."""

    def __init__(self) -> None:
        self.open, self.rested = True, 0.0
        self._got, self._answer = bytearray(), asyncio.get_running_loop().create_future()

    def connection_made(self, transport: Any) -> None:
        self.transport = transport

    def ask(self, request: bytes) -> asyncio.Future[tuple[int, bytes]]:
        """Send a request; return its status and body to come, `ConnectionError` where the connection ends before."""
        self._got.clear()
        self._answer = asyncio.get_running_loop().create_future()
        self.transport.write(request)
        return self._answer

    def data_received(self, data: bytes) -> None:
        self._got += data
        end = self._got.find(b"\r\n\r\n")
        if end < 0 or self._answer.done():
            return
        length = LENGTH.search(self._got, 0, end)
        if length is None:
            self._answer.set_exception(ConnectionError("an answer without Content-Length"))
        elif len(self._got) >= end + 4 + int(length[1]):
            self._answer.set_result((int(self._got[9:12]), bytes(self._got[end + 4 :])))

    def connection_lost(self, error: Exception | None) -> None:
        self.open = False
        if not self._answer.done():
            self._answer.set_exception(ConnectionError("the server closed the connection"))
            self._answer.exception()  # a connection at rest has nobody who would ask for it


class Client:
    """Keeps connections open and lends the one that was used last."""

    def __init__(self, load: Load) -> None:
        self.load, self._idle, self._free = load, list[Connection](), asyncio.Semaphore(MOST_CONNECTIONS)

    async def ask(self, request: bytes) -> tuple[int, bytes]:
        """Return status and body; raises `TimeoutError` or `OSError`."""
        async with asyncio.timeout(self.load.timeout_s), self._free:
            connection = await self._connection()
            try:
                answer = await connection.ask(request)
            except BaseException:
                connection.transport.abort()
                raise
            connection.rested = time.perf_counter()
            self._idle.append(connection)
            return answer

    async def _connection(self) -> Connection:
        while self._idle:
            connection = self._idle.pop()
            if connection.open and time.perf_counter() - connection.rested < IDLE_S:
                return connection
            connection.transport.abort()
        loop = asyncio.get_running_loop()
        return (await loop.create_connection(Connection, self.load.host, self.load.port))[1]

    def close(self) -> None:
        """End every connection."""
        for connection in self._idle:
            connection.transport.abort()


class Requests:
    """Makes requests as they go over the wire."""

    def __init__(self, load: Load) -> None:
        self.load, self._draw = load, random.Random(load.seed)
        self._run, self._sent = f"{time.time_ns():x}", 0  # so that no event has the id of an earlier run
        key = f"Authorization: Bearer {load.key}\r\n" if load.key else ""
        self._head = f"Host: {load.host}:{load.port}\r\n{key}"

    def slates(self) -> bytes:
        """Return the question of any user."""
        return self.slate(self._user())

    def slate(self, user: int) -> bytes:
        """Return the question of a user."""
        return self._post("/v1/recommendations", {"scenario": self.load.scenario, "user_id": user, "k": K})

    def events(self) -> bytes:
        """Return the post of some events."""
        return self.deeds([(self._user(), self._item()) for _ in range(EVENTS_TOGETHER)])

    def deeds(self, pairs: list[tuple[int, Any]]) -> bytes:
        """Return the post of what users did with items just now."""
        self._sent += 1
        now, event = int(time.time()), self.load.event
        rows = [
            {"event_id": f"{self._run}-{self._sent}-{n}", "event": event, "user_id": user, "item_id": item, "time": now}
            for n, (user, item) in enumerate(pairs)
        ]
        return self._post("/v1/events", {"events": rows})

    def popular(self) -> bytes:
        """Return the question for the popular items."""
        return self._get(f"/v1/lists/popular?k={K}")

    def similar(self) -> bytes:
        """Return the question for what is like an item."""
        return self._get(f"/v1/items/{self._item()}/similar?k={K}")

    def _user(self) -> int:
        return self._draw.randrange(self.load.users - self.load.probed)

    def _item(self) -> int:
        return int(self.load.items * self._draw.random() ** 2)

    def _get(self, path: str) -> bytes:
        return f"GET {path} HTTP/1.1\r\n{self._head}\r\n".encode()

    def _post(self, path: str, document: dict[str, Any]) -> bytes:
        body = json.dumps(document)
        head = f"POST {path} HTTP/1.1\r\n{self._head}Content-Type: application/json\r\nContent-Length: {len(body)}"
        return f"{head}\r\n\r\n{body}".encode()


def outcome(kind: str, status: int, body: bytes) -> str:
    """Return what to count an answer as: "200" where it is as it should be."""
    if not 200 <= status < 300:
        return str(status)
    if kind == "events":
        return "200" if json.loads(body)["accepted"] == EVENTS_TOGETHER else "not all accepted"
    return "200" if b'"item_id"' in body else "empty"


def due_times(rate: float, seconds: float, arrivals: str, draw: random.Random) -> Iterator[float]:
    """Yield the moments of requests, in seconds from the start."""
    due = 0.0
    while (due := due + (draw.expovariate(rate) if arrivals == "poisson" else 1 / rate)) < seconds:
        yield due


async def drive(client: Client, kind: str, make: Callable[[], bytes], load: Load, start: float) -> Tally:
    """Send the requests of one kind when they are due; return what became of those after the warm-up."""
    tally, tasks = Tally(), set[asyncio.Task[None]]()

    async def one(due: float) -> None:
        left = time.perf_counter()
        try:
            said = outcome(kind, *await client.ask(make()))
        except TimeoutError:
            said = "timeout"
        except OSError:
            said = "broken"
        if due < start + load.warm_s:
            return
        tally.late_s.append(left - due)
        tally.outcomes[said] += 1
        if said == "200":
            tally.latency_s.append(time.perf_counter() - due)

    draw = random.Random(f"{load.seed} {kind}")
    for after in due_times(load.rates[kind], load.warm_s + load.seconds, load.arrivals, draw):
        await asyncio.sleep(max(0.0, start + after - time.perf_counter()))
        task = asyncio.create_task(one(start + after))
        tasks.add(task)
        task.add_done_callback(tasks.discard)
    await asyncio.gather(*tasks)
    return tally


async def probe(client: Client, requests: Requests, user: int) -> float | None:
    """Return the seconds from posting an event on the first item of a list until a list comes without that item.

    None where an answer fails or the item stays for as long as a request may take.
    """

    async def items() -> list[Any]:
        status, body = await client.ask(requests.slate(user))
        if status != 200:
            raise OSError(f"status {status}")
        return [place["item_id"] for place in json.loads(body)["items"]]

    try:
        first = (await items())[0]
        posted = time.perf_counter()
        status, _ = await client.ask(requests.deeds([(user, first)]))
        if not 200 <= status < 300:
            return None
        while first in await items():
            if time.perf_counter() - posted > client.load.timeout_s:
                return None
    except (OSError, IndexError):  # TimeoutError is an OSError
        return None
    return time.perf_counter() - posted


async def probes(client: Client, requests: Requests, load: Load, start: float) -> list[float | None]:
    """Probe freshness, one user after another, until the load ends."""
    found, due = [], start + load.warm_s
    while due < start + load.warm_s + load.seconds:
        await asyncio.sleep(max(0.0, due - time.perf_counter()))
        found.append(await probe(client, requests, load.users - 1 - len(found) % load.probed))
        due = max(due + load.probe_every_s, time.perf_counter())
    return found


async def run(load: Load) -> dict[str, Any]:
    """Put a load on a server; return the figures by kind, those of freshness, and this process's share of a core."""
    client, requests = Client(load), Requests(load)
    start = time.perf_counter()
    before = time.process_time()
    async with asyncio.TaskGroup() as group:
        kinds = {
            kind: group.create_task(drive(client, kind, getattr(requests, kind), load, start)) for kind in load.rates
        }
        probing = group.create_task(probes(client, requests, load, start)) if load.probe_every_s else None
    share = (time.process_time() - before) / (time.perf_counter() - start)
    client.close()
    found: list[float | None] = probing.result() if probing else []
    seen = [seconds for seconds in found if seconds is not None]
    return {
        "kinds": {kind: task.result().document(load.seconds) for kind, task in kinds.items()},
        "freshness": {
            "probes": len(found),
            "failed": len(found) - len(seen),
            "p50_ms": milliseconds(seen, 50),
            "p99_ms": milliseconds(seen, 99),
        },
        "generator_share": share,
    }


def main() -> None:
    """Read a load from standard input, put it on the server, print the figures."""
    load = Load(**json.load(sys.stdin))
    # select wakes within microseconds of the due moment; epoll would round up to the next millisecond
    with asyncio.Runner(loop_factory=lambda: asyncio.SelectorEventLoop(selectors.SelectSelector())) as runner:
        print(json.dumps(runner.run(run(load))))


if __name__ == "__main__":
    main()
