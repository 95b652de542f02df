"""Whoever may not: every route with every key and none, ways around both, guessed keys, and how a server starts."""

import contextlib
import re
import socket
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest.mock import patch

import httpx
from fastapi import FastAPI
from fastapi.routing import iter_route_contexts

import _breaking
from _attacks_shop import Clock, Shop, path_of, picked, shop
from _breaking import Effort, Found, Progress
from _victim import Victim, publish
from bowerbird.store import keys as store_keys
from bowerbird.store.database import Database
from bowerbird.store.keys import SCOPES, Keys

stages = _breaking.Stages()

PAGE = Path(__file__).parent.parent / "docs" / "http.md"
PAGES = {"/docs", "/docs/oauth2-redirect", "/redoc", "/openapi.json", "/static-offline-docs"}  # hold nothing of anybody
METHODS = ("GET", "HEAD", "OPTIONS", "TRACE", "CONNECT", "POST", "PUT", "PATCH", "DELETE", "get", "BREW")
REFUSED = (401, 403, 429)
NOBODY = ("nobody", "wrong", "expired", "revoked")  # callers without a key that holds


# ── scopes ────────────────────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True)
class Try:
    """One request, and whether it may pass."""

    caller: str
    method: str
    target: str
    passes: bool
    why: str
    headers: tuple[tuple[str, str], ...] = ()


def documented() -> dict[tuple[str, str], str]:
    """Return the scope of each method and route, as the page of the API has it."""
    rows = re.findall(r"^\| `([A-Z]+) (/[^`]*)` \| `([a-z:]+)` \|", PAGE.read_text(encoding="utf-8"), re.MULTILINE)
    return {(method, path): scope for method, path, scope in rows}


def inventory(app: FastAPI) -> Iterator[tuple[str, str, str | None]]:
    """Yield method, route and declared scope of all that an application answers to, pages of its documents aside."""
    for context in iter_route_contexts(app.routes):
        route: Any = context.original_route
        path = route.path.replace(":path", "")
        if path not in PAGES:
            known = getattr(route, "dependant", None)
            said = [getattr(one.call, "scope", None) for one in (known.dependencies if known else ())]
            for method in getattr(route, "methods", None) or {"GET"}:
                yield method, path, next((one for one in reversed(said) if one), None)


def undeclared(app: FastAPI) -> list[str]:
    """Return what is wrong with the routes of an application: no scope, or another than the page says."""
    page, faults = documented(), []
    for method, path, scope in inventory(app):
        if scope is None or page.get((method, path)) != scope:
            faults.append(f"{method} {path} needs {scope}; the page says {page.get((method, path))}")
    return faults


def _matrix(routes: dict[tuple[str, str], str]) -> Iterator[Try]:
    """Yield every route with every caller."""
    for (method, route), needed in routes.items():
        for caller in (*SCOPES, *NOBODY):
            passes = needed == "open" or caller in (needed, "admin")
            yield Try(caller, method, path_of(route), passes, f"needs {needed}")


def _methods(routes: dict[tuple[str, str], str]) -> Iterator[Try]:
    """Yield other methods of every path, for callers that no method of it lets in."""
    for route in sorted({route for _, route in routes}):
        for method in set(METHODS) - {method for method, one in routes if one == route}:
            if "open" not in {scope for (_, one), scope in routes.items() if one == route}:
                for caller in NOBODY:
                    yield Try(caller, method, path_of(route), False, "another method")


def variants(path: str) -> Iterable[str]:
    """Return spellings that may mean a path to one part of a server and not to another."""
    first, rest = path[:2], path[2:]
    yield from (f"{path}/", f"/{path}", path.replace("/", "//"), f"/.{path}", f"{path}/.", f"{path}%2f", f"{path}%00")
    yield from (f"/healthz/..{path}", f"/healthz/%2e%2e{path}", f"/docs/..%2f{path[1:]}", f"/version%2f..{path}")
    yield from (path.upper(), path.title(), f"{first.replace('v', '%76')}{rest}", path.replace("/v1", "/%2576%31"))
    yield from (f"{path};x=/healthz", f"{path}?/healthz", f"{path}%3f", f"{path}%23", f"/healthz#{path}", f"{path}%20")
    yield from (
        path.replace("/", "\\"),
        path.replace("/", "%5c"),
        f"http://127.0.0.1{path}",
        f"{path}.json",
        f"{path}~",
    )
    yield from (f"/static-offline-docs/..{path}", f"/static-offline-docs/%2e%2e{path}", f"/healthz{path}", f"*{path}")


def _paths(routes: dict[tuple[str, str], str]) -> Iterator[Try]:
    """Yield other spellings of every guarded path."""
    for (method, route), needed in routes.items():
        if needed != "open":
            for target in variants(path_of(route)):
                yield Try("nobody", method, target, False, f"spelling of {route}")


def _headers(routes: dict[tuple[str, str], str], secret: str) -> Iterator[Try]:
    """Yield ways to send what is no key, or a key where none is looked for."""
    almost = [
        secret[:-1],
        f"{secret}x",
        secret.swapcase(),
        secret[::-1],
        f"{secret}\x00",
        f"bb_{'A' * 43}",
        "",
        "*",
        "null",
    ]
    sent = [(("authorization", f"Bearer {one}"),) for one in almost] + [(("x-api-key", one),) for one in almost]
    sent += [
        (("authorization", f"{kind} {secret}"),) for kind in ("Basic", "Digest", "Token", "", "Bearer,", "Bearer\t")
    ]
    sent += [
        ((name, secret),) for name in ("cookie", "x-auth-token", "proxy-authorization", "x-forwarded-authorization")
    ]
    sent += [(("cookie", f"authorization=Bearer {secret}"),), (("x-original-url", "/healthz"),)]
    sent += [
        (("x-rewrite-url", "/healthz"),),
        (("x-http-method-override", "GET"),),
        (("x-forwarded-for", "127.0.0.1"),),
    ]
    sent += [
        (("authorization", "Basic"), ("x-api-key", secret)),
        (("x-forwarded-user", "admin"), ("remote-user", "admin")),
    ]
    for method, route in routes:
        for headers in sent:
            if routes[method, route] != "open":
                yield Try("own", method, path_of(route), False, f"headers {[name for name, _ in headers]}", headers)
        yield from (
            Try("own", method, f"{path_of(route)}?{name}={secret}", routes[method, route] == "open", "key in the query")
            for name in ("key", "api_key", "access_token", "authorization")
        )


def _keys(place: Shop) -> dict[str, str]:
    """Return a secret for each caller; there is none for nobody."""
    held = place.engine.keys
    found = {scope: held.create(scope, [scope], limit_per_s=1e6)[1] for scope in SCOPES}
    gone, revoked = held.create("revoked", ["admin"])
    held.revoke(gone.id)
    expired = held.create("expired", ["admin"], expires=1)[1]
    return found | {"wrong": f"bb_{'x' * 43}", "revoked": revoked, "expired": expired}


@stages("scopes", "only a key with the scope of a route passes, whatever method, path or header is tried", n=20_000)
def scopes(effort: Effort) -> Found:
    """Try every route with every caller, and ways around."""
    found = Found()
    with shop(effort.folder) as place:
        for fault in undeclared(place.app):
            found.note(fault)
        found.note(*_control())
        secrets, routes = _keys(place), documented()
        groups = [_matrix(routes), _methods(routes), _paths(routes), _headers(routes, place.admin)]
        for group, name in zip(groups, ("callers", "methods", "spellings", "headers"), strict=True):
            for number, one in enumerate(picked(effort, list(group))):
                own = one.caller == "own" or one.caller == "nobody"
                key = {"authorization": "" if own else f"Bearer {secrets[one.caller]}"}
                client = f"10.{number >> 16}.{number >> 8 & 255}.{number & 255}"  # wrong keys are slowed by address
                answer = place.ask(one.method, one.target, b"", key | dict(one.headers), client)
                passed = answer.status < 300 if name != "callers" else answer.status not in REFUSED
                wrong = [] if passed == one.passes else [f"{one} was answered {answer.status}"]
                found.note(*wrong, *answer.faults())
                found.add(name, 1)
                if name == "spellings":  # the key is what they lack: with it, some reach the route
                    found.add("spellings_with_a_key", place.ask(one.method, one.target).status < 300)
        found.figures["routes"] = len(routes)
    return found


def _control() -> list[str]:
    """Return a fault where an application with a route that declares no scope would not be noticed."""
    bare = FastAPI(openapi_url=None)
    bare.get("/v1/status")(lambda: None)
    return [] if undeclared(bare) else ["a route without a scope was not noticed"]


# ── guessed keys ──────────────────────────────────────────────────────────────────────────────────────────────────


@stages(
    "wrong_keys", "guessed keys are slowed down to five a minute; right ones from the same address are not", n=6_000
)
def wrong_keys(effort: Effort) -> Found:
    """Guess ten times a second, in every way that a key is sent, and use the right key in between."""
    found, clock, compared = Found(), Clock(), list[tuple[bytes, bytes]]()

    def compare(one: bytes, other: bytes) -> bool:
        compared.append((one, other))
        return one == other

    with shop(effort.folder, world=clock) as place, patch.object(store_keys.hmac, "compare_digest", compare):
        n_keys, allowed = len(place.engine.keys.all()), 0
        for number in range(effort.n):
            rng = effort.rng(number)
            clock.ticks += 0.1
            guess = place.admin[: rng.integers(len(place.admin))] + str(rng.integers(10**9))
            name, value = [("authorization", f"Bearer {guess}"), ("x-api-key", guess)][number % 2]
            forged = {"x-forwarded-for": f"10.0.0.{rng.integers(255)}", "forwarded": "for=10.0.0.1"}
            compared.clear()
            answer = place.ask("GET", "/v1/status", b"", forged | {"authorization": "", name: value}, "192.0.2.7")
            allowed += answer.status == 401
            faults = [] if answer.status in (401, 429) else [f"try {number}: {name} {value} got {answer.status}"]
            if len(compared) != n_keys or not all(len(one) == len(other) == 32 for one, other in compared):
                faults.append(f"try {number}: {len(compared)} comparisons, not of digests alone")
            if number % 10 == 9 and place.ask("GET", "/v1/status", client="192.0.2.7").status != 200:
                faults.append(f"try {number}: the right key was refused too")
            found.note(*faults, *answer.faults())
    minutes = max(1.0, effort.n / 600)
    if allowed > 5 + 5 * minutes:
        found.note(f"{allowed} guesses were looked at in {minutes:g} minutes")
    found.figures |= {"guesses_a_minute": round(allowed / minutes, 1), "sent_a_minute": 600}
    return found


# ── starts ────────────────────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True)
class Start:
    """How a server is started."""

    host: str
    inner: bool  # whether only this machine can reach that host
    keyed: bool
    proxied: bool


def _own_address() -> str:
    """Return an address of this machine that others can reach, empty where it has none."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as one, contextlib.suppress(OSError):
        one.connect(("192.0.2.1", 9))  # sends nothing
        return str(one.getsockname()[0])
    return ""


def starts() -> list[Start]:
    """Return every way to start; hosts that this machine does not have are left out."""
    inner = ["127.0.0.1", "localhost", "127.0.0.2", "::1"]
    outer = ["0.0.0.0", "::", "0", _own_address(), socket.gethostname()]
    hosts = [(host, host in inner) for host in (*inner, *outer) if host and _listens(host)]
    return [Start(host, near, keyed, proxied) for host, near in hosts for keyed in (0, 1) for proxied in (0, 1)]


def _listens(host: str) -> bool:
    with contextlib.suppress(OSError):
        family, *_, place = socket.getaddrinfo(host, 0, type=socket.SOCK_STREAM)[0]
        with socket.socket(family) as one:
            one.bind(place)
            return True
    return False


@stages("open_by_default", "a server that others can reach asks for a key, or does not start", n=40)
def open_by_default(effort: Effort) -> Found:
    """Start a server in every way, and ask it."""
    found, step = Found(), Progress(effort, "starts")
    publish(effort.folder / "run")
    for number, one in enumerate(picked(effort, starts())):
        data = effort.folder / f"data-{number}"
        secret = _key_in(data) if one.keyed else ""
        server = Victim(effort.folder / "run", data, "--host", one.host, *["--behind-proxy"] * one.proxied)
        server.start(wait=False)
        try:
            found.note(*[f"{one}: {fault}" for fault in _asked(server, one, secret)])
            found.add("refused_to_start", server.process is not None and server.process.poll() is not None)
        finally:
            server.kill()
        step(number)
    return found


def _key_in(data: Path) -> str:
    database = Database(data)
    try:
        return Keys(database).create("admin", ["admin"])[1]
    finally:
        database.close()


def _asked(server: Victim, one: Start, secret: str) -> Sequence[str]:
    """Return what is wrong with how a server that was started so answers."""
    near = {"::": "[::1]", "::1": "[::1]", "0.0.0.0": "127.0.0.1", "0": "127.0.0.1"}.get(one.host, one.host)
    url = f"http://{near}:{server.port}"
    assert server.process is not None
    until = time.monotonic() + 60
    while server.process.poll() is None and time.monotonic() < until:
        with contextlib.suppress(httpx.TransportError):
            httpx.get(f"{url}/healthz")
            break
        time.sleep(0.05)
    if not one.inner and not one.keyed:
        ended = server.process.poll() == 2 and "bowerbird key create" in server.told()
        return [] if ended else [f"it did not refuse to start: {server.process.poll()}"]
    if server.process.poll() is not None:
        return [f"it did not start: {server.told()[-500:]}"]
    closed = one.keyed or one.proxied
    wanted = {"bare": 401 if closed else 200, "foreign": (401 if closed else 403) if _any_host(one) else 403}
    host = {"host": f"{near}:{server.port}"} if near in ("127.0.0.1", "[::1]", "localhost") else {"host": "127.0.0.1"}
    told = {
        "bare": httpx.get(f"{url}/v1/status", headers=host).status_code,
        "foreign": httpx.get(f"{url}/v1/status", headers={"host": "evil.example"}).status_code,
    }
    if secret:
        wanted["key"] = 200
        told["key"] = httpx.get(f"{url}/v1/status", headers=host | {"x-api-key": secret}).status_code
    faults = [] if told == wanted else [f"it answered {told}, not {wanted}"]
    if one.inner and (far := _own_address()):
        with contextlib.suppress(OSError), socket.create_connection((far, server.port), timeout=1):
            faults.append(f"it can be reached at {far}")
    return faults


def _any_host(one: Start) -> bool:
    return one.proxied or not one.inner
