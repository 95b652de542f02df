"""Limits: bodies, heads and questions as large as can be, and what they cost the server in memory."""

import gzip
import http.client
import json
import time
import zlib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import _breaking
from _attacks_shop import EVENT
from _breaking import Effort, Found, Progress
from _victim import Victim, victim

stages = _breaking.Stages()

MIB, PART = 1024 * 1024, 65_536
MOST_MB = 256  # that a request may cost; a body of 16 MiB is held twice while it comes in
LONGEST_S = 20.0  # that any of them may take
REFUSED, KEPT = frozenset(range(400, 500)), frozenset({200, 201, 202})
HEAD = {"Content-Type": "application/json"}
FILTERS = [
    ("ors", " or ".join(["item.title == 'x'"] * 180), True),
    ("64 sums", " + ".join(["1"] * 65) + " > 0", True),
    ("65 sums", " + ".join(["1"] * 66) + " > 0", False),
    ("16 nots", "not " * 16 + "true", True),
    ("17 nots", "not " * 17 + "true", False),
    ("brackets", "(" * 4_096, False),
    ("256 values", f"item.title in {['x'] * 256}", True),
    ("257 values", f"item.title in {['x'] * 257}", False),
    ("4,096 bytes", "true" + " " * 4_092, True),
    ("4,097 bytes", "true" + " " * 4_093, False),
]


@dataclass(frozen=True)
class Large:
    """One request, made when it is sent."""

    name: str
    body: Callable[[], bytes]
    statuses: frozenset[int] = REFUSED
    method: str = "POST"
    path: str = "/v1/recommendations"
    headers: dict[str, str] = field(default_factory=dict)
    how: str = "declared"  # or "chunked", or "lying": it declares ten bytes, or "silent": it declares and sends none
    at_once: int = 1


def _whole(start: str, part: str, end: str, size: int = 16 * MIB) -> Callable[[], bytes]:
    """Return what makes a body of so many bytes of a repeated part."""
    return lambda: (start + part * ((size - len(start) - len(end)) // len(part)) + end).encode()


def _said(document: Any) -> Callable[[], bytes]:
    return lambda: json.dumps(document).encode()


def _bomb(level: int = 9) -> bytes:
    return gzip.compress(b'{"user_id":"' + b"x" * (300 * MIB) + b'"}', level)


def _sizes() -> Iterator[Large]:
    """Yield bodies and heads beyond what is allowed, however they tell of it."""
    big = _whole('{"user_id":"', "x", '"}', 17 * MIB)
    for how in ("declared", "chunked", "lying"):
        yield Large(f"17 MiB, {how}", big, how=how)
        yield Large(f"17 MiB for an item, {how}", big, method="PUT", path="/v1/items/x", how=how)
    yield Large("100 MiB, chunked", _whole('{"user_id":"', "x", '"}', 100 * MIB), how="chunked")
    yield Large("100 MiB, declared", _whole('{"user_id":"', "x", '"}', 100 * MIB))
    yield Large("a length of 19 digits", lambda: b"{}", headers={"Content-Length": "9" * 19}, how="silent")
    yield Large("17 MiB for a route that takes none", big, method="GET", path="/v1/status")
    yield Large("33 KiB of headers", lambda: b"{}", headers={"X-Long": "x" * 33 * 1024})
    yield Large("1,000 headers", lambda: b"{}", headers={f"X-{n}": "x" * 40 for n in range(1000)})
    yield Large("300 headers", lambda: b"{}", headers={f"X-{n}": "x" for n in range(300)}, statuses=KEPT | REFUSED)
    yield Large("a path of 9 KiB", lambda: b"", method="GET", path="/v1/items/" + "x" * 9 * 1024)
    yield Large("a query of 9 KiB", lambda: b"", method="GET", path="/v1/lists/popular?where=" + "x" * 9 * 1024)
    yield Large("a path of 8 KiB", lambda: b"", method="GET", path="/v1/items/" + "%41" * 2_700)


def _documents() -> Iterator[Large]:
    """Yield 16 MiB of whatever costs most to read."""
    parts = {"lists": "[],", "objects": "{},", "numbers": "1,", "texts": '"",', "nulls": "null,", "floats": "1e9,"}
    for path, key in (("/v1/items:batch", "rows"), ("/v1/events", "events"), ("/v1/recommendations", "exclude_items")):
        for name, part in parts.items():
            yield Large(f"16 MiB of {name} as {key}", _whole(f'{{"{key}":[', part, "0]}"), path=path)
    for name, part in parts.items():
        inner = _whole('{"properties":{"a":[', part, "0]}}")
        yield Large(f"an item of 16 MiB of {name}", inner, method="PUT", path="/v1/items/large")
        inner = _whole('{"properties":{"a":[', part, "0]}}", 3 * MIB)
        yield Large(f"an item of 3 MiB of {name}", inner, method="PUT", path="/v1/items/large")
    yield Large("16 MiB of opening brackets", _whole("", "[", ""))
    yield Large("16 MiB of opening objects", _whole("", '{"a":', ""))
    yield Large("16 MiB of closed brackets", lambda: b"[" * 8 * MIB + b"]" * 8 * MIB)
    yield Large(
        "a million levels of an item",
        lambda: b'{"properties":' + b'{"a":' * 10**6 + b"1" + b"}" * 10**6 + b"}",
        method="PUT",
        path="/v1/items/deep",
    )
    yield Large("16 million digits", _whole('{"k":', "9", "}"))
    yield Large("an exponent of 16 million digits", _whole('{"k":1e', "9", "}"))
    yield Large("16 MiB of escapes", _whole('{"user_id":"', "\\u0041", '"}'))
    yield Large("16 MiB of one key", _whole('{"', "k", '":1}'))
    yield Large("16 MiB of the same key", _whole("{", '"k":1,', '"k":1}'))
    yield Large("two million keys", lambda: ("{" + ",".join(f'"{n}":1' for n in range(1_500_000)) + "}").encode())
    yield Large(
        "an event of 16 MiB",
        _whole('{"events":[{"event_id":"e","context":{"a":"', "x", '"}}]}'),
        KEPT,
        path="/v1/events",
    )
    yield Large("16 MiB of an image", _whole('{"image":"', "QUJD", '"}'), path="/v1/search")
    yield Large("16 MiB of no image", _whole('{"image":"', "é", '"}', 8 * MIB), path="/v1/search")
    yield Large("16 MiB of spaces", _whole("", " ", ""))


def _bombs() -> Iterator[Large]:
    """Yield bodies that say that they are packed: nothing unpacks them."""
    for coding, packed in (
        ("gzip", _bomb),
        ("deflate", lambda: zlib.compress(bytes(300 * MIB), 9)),
        ("br", lambda: b"\x8f" * MIB),
    ):
        for path in ("/v1/recommendations", "/v1/items:batch"):
            yield Large(f"a bomb of {coding} for {path}", packed, path=path, headers={"Content-Encoding": coding})
    yield Large("a bomb within a coding", _bomb, headers={"Content-Encoding": "gzip, gzip"})
    yield Large("a bomb by its type", _bomb, headers={"Content-Type": "application/gzip"})


def _questions() -> Iterator[Large]:
    """Yield questions as large as is allowed, and one more."""
    for n, statuses in ((100_000, KEPT), (100_001, REFUSED)):
        yield Large(f"{n} excluded", _said({"exclude_items": [f"i{one}" for one in range(n)], "k": 1000}), statuses)
    for n, statuses in ((10_000, KEPT), (10_001, REFUSED)):
        yield Large(f"a history of {n}", _said({"history": [f"i{one % 40}" for one in range(n)]}), statuses)
    rows = [{"id": f"row {n}", "properties": {"text": "x" * 1_500}} for n in range(10_001)]
    yield Large("10,000 rows of 1.5 KB", _said({"rows": rows[:-1]}), KEPT, path="/v1/items:batch")
    yield Large("10,001 rows", _said({"rows": [{"id": f"row {n}"} for n in range(10_001)]}), path="/v1/items:batch")
    events = [EVENT | {"event_id": f"large {n}", "context": {"a": "x" * 16_000}} for n in range(1_001)]
    yield Large("1,000 events of 16 KB", _said({"events": events[:-1]}), KEPT, path="/v1/events")
    yield Large(
        "1,001 events", _said({"events": [EVENT | {"event_id": f"{n}"} for n in range(1001)]}), path="/v1/events"
    )
    yield Large("every field of every item", _said({"k": 1000, "fields": ["title"] * 100}), KEPT)
    yield Large("101 fields", _said({"k": 1000, "fields": ["title"] * 101}))
    yield Large(
        "100 users, all items",
        _said({"user_ids": [f"u{n % 60}" for n in range(100)], "k": 1000}),
        KEPT,
        path="/v1/recommendations:batch",
    )
    for name, where, fits in FILTERS:
        yield Large(f"a filter of {name}", _said({"where": where}), KEPT if fits else REFUSED)
    for n in (4, 16):
        yield Large(
            f"{n} bodies of 16 MiB at once",
            _whole('{"rows":[', "{},", "{}]}"),
            REFUSED | {503},
            path="/v1/items:batch",
            at_once=n,
        )


CASES = [one for part in (_sizes, _documents, _bombs, _questions) for one in part()]


def memory_mb(pid: int, name: str = "VmRSS") -> float:
    """Return the memory that a process holds, or with `VmHWM` the most that it held since `forget`."""
    told = Path(f"/proc/{pid}/status").read_text()
    return int(told.split(f"{name}:")[1].split()[0]) / 1024


def forget(pid: int) -> None:
    """Let the most that a process held be what it holds now."""
    Path(f"/proc/{pid}/clear_refs").write_text("5")


def sent(port: int, one: Large, body: bytes) -> int:
    """Send a request; return the status of its answer, 0 where the connection was ended, −1 after `LONGEST_S`."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=LONGEST_S)
    try:
        connection.putrequest(one.method, one.path, skip_accept_encoding=True)
        for name, value in (HEAD | one.headers).items():
            connection.putheader(name, value)
        if one.how == "chunked":
            connection.putheader("Transfer-Encoding", "chunked")
        elif "Content-Length" not in one.headers:
            connection.putheader("Content-Length", "10" if one.how == "lying" else str(len(body)))
        connection.endheaders()
        with suppress(BrokenPipeError, ConnectionResetError):  # it was refused before it was sent
            for place in range(0, 0 if one.how == "silent" else len(body), PART):
                part = body[place : place + PART]
                connection.send(b"%x\r\n%b\r\n" % (len(part), part) if one.how == "chunked" else part)
            if one.how == "chunked":
                connection.send(b"0\r\n\r\n")
        try:
            return connection.getresponse().status
        except (ConnectionError, http.client.BadStatusLine):
            return 0
        except TimeoutError:
            return -1
    finally:
        connection.close()


def tried(server: Victim, one: Large) -> tuple[list[str], float, float]:
    """Return what is wrong with how a request is answered, the megabytes that it cost, and the seconds."""
    assert server.process is not None
    pid, body = server.process.pid, one.body()
    forget(pid)
    before, began = memory_mb(pid), time.perf_counter()
    with ThreadPoolExecutor(one.at_once) as threads:
        statuses = list(threads.map(lambda _: sent(server.port, one, body), range(one.at_once)))
    took_s = time.perf_counter() - began
    if server.process.poll() is not None:
        return [f"the server ended: {server.told()[-300:]}"], 0.0, took_s
    cost = memory_mb(pid, "VmHWM") - before
    allowed = one.statuses | ({0} if one.how in ("chunked", "lying", "declared") and len(body) > 16 * MIB else set())
    faults = [f"answered {status}" for status in set(statuses) if status not in allowed]
    if cost > MOST_MB + 48 * (one.at_once - 1):
        faults.append(f"it cost {cost:.0f} MB")
    return faults, cost, took_s


@stages("limits", "what is too large is refused below 500, and costs the server a bounded memory and time", n=90)
def limits(effort: Effort) -> Found:
    """Send everything that is too large, or as large as may be."""
    found, step, peak, longest = Found(), Progress(effort, "requests"), 0.0, 0.0
    places = effort.rng().permutation(len(CASES)) if effort.n < len(CASES) else range(len(CASES))
    with victim(effort.folder) as server, server.client() as client:
        for number in range(effort.n):
            one = CASES[places[number % len(CASES)]]
            faults, cost, took_s = tried(server, one)
            if server.process is None or server.process.poll() is not None:
                found.note(f"{one.name}: {faults}")
                break
            if client.post("/v1/recommendations", json={"user_id": "u1"}).status_code != 200:
                faults.append("afterwards no list is made")
            peak, longest = max(peak, cost), max(longest, took_s)
            found.note(*(f"{one.name}: {fault}" for fault in faults))
            step(number)
        found.note(*["the server printed a traceback"] * ("Traceback" in server.told()))
    found.figures |= {"kinds": len(CASES), "peak_mb": round(peak), "longest_s": round(longest, 1)}
    return found
