"""Bad bodies: what is no JSON, what is JSON and means nothing, and what is nearly right."""

import gzip
import json
import math
import time
from collections.abc import Callable
from typing import Any

import numpy as np

import _breaking
from _attacks_shop import BODIES, JSON, Shop, path_of, shop
from _breaking import Effort, Found, Progress

stages = _breaking.Stages()

# ── bodies ────────────────────────────────────────────────────────────────────────────────────────────────────────

GARBAGE: list[bytes] = [
    b"", b" ", b"{", b"}", b"[", b"null", b"[]", b"1", b'"x"', b"true", b"{}x", b"{},", b"{'a':1}", b"{}{}",
    b'{"a":1,}', b"\xef\xbb\xbf{}", b"\xef\xbb\xbf\xef\xbb\xbf{}", "{}".encode("utf-16"), "{}".encode("utf-32"),
    b"\x00", b"{\x00}", b'{"a":"\xff"}', b'{"a":"\xc0\xaf"}', b'{"a":"\xed\xa0\x80"}', b'{"a":"\\u12"}',
    b'{"\\ud800":1}', b'{"a":"\n"}', b"[" * 1_000_000, b'{"a":' * 300_000, b"[" * 50_000 + b"]" * 50_000, b"NaN",
    b"-Infinity", b"-", b"1e400", b"01", b"9" * 5_000, b'{"a":' + b"9" * 5_000 + b"}", b"/**/{}", b"{}//", b"\x0c{}",
    b"\x1f\x8b\x08\x00", b"a=1&b=2", b"<x/>", b"--x\r\n\r\n--x--", b"a: 1", b"{}\n{}", b"\xff\xfe\xfd",
    b'{"' + b"k" * 1_000_000 + b'":1}', b'{"a":"' + b"x" * 8_000_000 + b'"}', b"[" + b"0," * 1_000_000 + b"0]",
    b'{"__proto__":{"k":1}}', b"{:}", b'{"k"}', gzip.compress(b"{}"),
]  # fmt: skip
DEEP = {"many": [0] * 20_000, "dict": {f"k{n}": n for n in range(500)}}
for _ in range(400):
    DEEP = {"d": DEEP}
VALUES: list[Any] = [
    None, True, False, -1, 0, 1, 2**31, 2**53 + 1, 2**63 - 1, 2**63, -(2**63), 2**64, 10**30, 1e-320, 1e308, -0.0,
    1.5, "", " ", "x", "x" * 257, "x" * 100_000, "\ud800", "\udfff\ud800", "\x00", "\n", "é", "e\u0301", "\u202e",
    "🐦" * 64, "true", "1", "1e5", "NaN", "../../etc/passwd", "%2e%2e%2f", "{{7*7}}", "<script>alert(1)</script>",
    "=1+1", "'; DROP TABLE x", "__proto__", "$ne", "\\", '"', [], {}, [[]], [None], [{}], {"": 1}, {"\ud800": 1},
    {"__proto__": {"k": 1}}, {"$ref": "#"}, [0] * 3_000, ["x"] * 3_000, [{"id": "x"}] * 50, DEEP, "\x01raw:1e400",
    "\x01raw:NaN", "\x01raw:-Infinity", f"\x01raw:{'9' * 4_000}", "\x01raw:-0", "\x01raw:1E+2",
    "\x01raw:[" + "[" * 500 + "]" * 501,
]  # fmt: skip
KINDS = [
    "text/plain", "", "application/xml", "application/json; charset=utf-16", "application/x-www-form-urlencoded",
    "multipart/form-data; boundary=x", "application/ld+json", "APPLICATION/JSON", "application/json,text/html",
]  # fmt: skip


def written(document: Any) -> bytes:
    """Return a document as JSON, with what `VALUES` spell out that Python would not write."""
    text = json.dumps(document)
    while (place := text.find('"\\u0001raw:')) >= 0:
        end = text.index('"', place + 1)
        text = text[:place] + text[place + len('"\\u0001raw:') : end] + text[end + 1 :]
    return text.encode()


def _leaves(document: Any, place: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    inner = (
        document.items() if isinstance(document, dict) else enumerate(document) if isinstance(document, list) else ()
    )
    return [place, *(leaf for key, one in inner for leaf in _leaves(one, (*place, key)))]


def _changed(document: Any, place: tuple[Any, ...], change: Callable[[Any], Any]) -> Any:
    """Return a document in which one part is another."""
    if not place:
        return change(document)
    copy = dict(document) if isinstance(document, dict) else list(document)
    copy[place[0]] = _changed(document[place[0]], place[1:], change)
    return copy


def mangled(good: dict[str, Any], rng: np.random.Generator) -> bytes:
    """Return a body that is like a good one, or like none."""
    places = _leaves(good)
    place = places[rng.integers(len(places))]
    value = VALUES[rng.integers(len(VALUES))]
    ways: list[Callable[[], bytes]] = [
        lambda: GARBAGE[rng.integers(len(GARBAGE))],
        lambda: written(_changed(good, place, lambda _: value)),
        lambda: written(_changed(good, place, lambda _: value)),
        lambda: written(
            _changed(good, place, lambda old: {**old, str(value)[:99]: 1} if isinstance(old, dict) else [old])
        ),
        lambda: written(
            _changed(good, place, lambda old: dict(list(old.items())[1:]) if isinstance(old, dict) else None)
        ),
        lambda: written(good)[:-1] + b"," + written(good)[1:],  # each key twice
        lambda: written(good)[: rng.integers(1, len(written(good)))],
        lambda: _noisy(written(good), rng),
    ]
    return ways[rng.integers(len(ways))]()


def _noisy(body: bytes, rng: np.random.Generator) -> bytes:
    noise = bytearray(body)
    for _ in range(rng.integers(1, 4)):
        noise[rng.integers(len(noise))] = rng.integers(256)
    return bytes(noise)


def _is_json(body: bytes) -> bool:
    """Return whether a body is JSON to anybody, be it in another encoding or with NaN."""
    try:
        json.loads(body)
    except (ValueError, RecursionError):
        return False
    return True


@stages("bad_json", "whatever a body holds is answered below 500, in JSON, and harms no later answer", n=20_000)
def bad_json(effort: Effort) -> Found:
    """Send bodies to every route that takes one; then look whether the shop still works."""
    found, step, slowest = Found(), Progress(effort, "bodies"), 0.0
    with shop(effort.folder) as place:
        routes = list(BODIES)
        for number in range(effort.n):
            rng = effort.rng(number)
            method, route = routes[number % len(routes)]
            body = mangled(BODIES[method, route], rng)
            kind = JSON if rng.random() < 0.9 else {"content-type": KINDS[rng.integers(len(KINDS))]}
            started = time.perf_counter()
            answer = place.ask(method, path_of(route), body, kind)
            faults = answer.faults()
            if answer.status < 400 and not _is_json(body):
                faults.append(f"{body[:80]!r} was taken for JSON")
            if answer.status < 300 and method != "GET":
                faults += tended(place)
            slowest = max(slowest, time.perf_counter() - started)
            if number % 200 == 199 or number == effort.n - 1:
                faults += sound(place)
            found.note(*(f"body {number} of {method} {route}, {body[:120]!r}: {fault}" for fault in faults))
            found.add("refused" if answer.status >= 400 else "taken", 1)
            step(number)
    found.figures |= {"routes": len(routes), "slowest_ms": round(1000 * slowest)}
    return found


def tended(place: Shop) -> list[str]:
    """Let the server do what it does twice a second; return what it fails of."""
    try:
        place.engine.tend(boards=False)
    except Exception as error:  # whatever it is, it is what we look for
        return [f"the keeper failed: {type(error).__name__}: {error}"[:300]]
    return []


def sound(place: Shop) -> list[str]:
    """Return what is wrong with answers that everything else rests upon."""
    slate = place.ask("POST", "/v1/recommendations", {"user_id": "u1", "k": 20, "fields": ["title", "price", "tags"]})
    others = [place.ask("GET", path) for path in ("/v1/items?limit=1000", "/v1/schema", "/v1/users", "/metrics")]
    others += [place.ask("GET", f"/v1/lists/{name}?k=100") for name in ("popular", "trending", "latest")]
    faults = [
        f"afterwards {one.status}: {one.faults()}" for one in (slate, *others) if one.status != 200 or one.faults()
    ]
    if slate.status == 200:
        scores = [one["score"] for one in slate.json()["items"]]
        if not scores or not all(map(math.isfinite, scores)):
            faults.append(f"afterwards the scores are {scores[:5]}")
    return faults
