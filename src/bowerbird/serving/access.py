"""Who may ask what: keys with scopes, and how fast.

On loopback a server is open until there is a key; from then on every request needs one, even when all are revoked.
A route says its scope with `needs`; a route that says none is a mistake that a test finds.
"""

import threading
from collections import OrderedDict
from collections.abc import Callable, Coroutine, Iterable
from typing import Any

from fastapi import Depends, Request, Response
from fastapi.params import Depends as DependsParam
from fastapi.routing import APIRoute

from bowerbird.core import World
from bowerbird.serving.problems import Refusal
from bowerbird.store.keys import SCOPES, Key, Keys

OPEN = "open"  # the scope of what needs no key: health, readiness, version
PER_S, BURST = 1_000.0, 2_000.0  # requests of one caller, unless its key says otherwise
WRONG_A_MINUTE = 5.0  # wrong keys from one address; the next wait
BODIED, MOST_VALUES = ("POST", "PUT", "PATCH"), 1_000_000  # methods, and values in one body
CALLERS = 10_000  # remembered at once


class Bucket:
    """A token bucket for each caller."""

    def __init__(self, world: World) -> None:
        self.world = world
        self._left: OrderedDict[str, tuple[float, float]] = OrderedDict()  # tokens left, and when that was
        self._turn = threading.Lock()

    def take(self, caller: str, per_s: float, burst: float) -> float:
        """Take one token; return 0, or the seconds until there is one."""
        now = self.world.monotonic()
        with self._turn:
            left, then = self._left.pop(caller, (burst, now))
            left = min(burst, left + per_s * (now - then))
            wait = 0.0 if left >= 1 else (1 - left) / per_s
            self._left[caller] = (left - 1 if not wait else left, now)
            if len(self._left) > CALLERS:
                self._left.popitem(last=False)
        return wait


class Access:
    """Checks every request against the keys of a data directory."""

    def __init__(self, keys: Keys, *, world: World, always: bool = False) -> None:
        """`always` asks for a key before there is one: where others than this machine can reach the server."""
        self.keys, self._calls, self._wrong = keys, Bucket(world), Bucket(world)
        self._locked = always  # and once there was a key: that the last one is revoked must not open the server

    def check(self, secret: str | None, address: str, scope: str) -> Key | None:
        """Return the key that was shown, or None on an open server; raises `Refusal` where it does not suffice."""
        if scope == OPEN:
            return None
        self._locked = self._locked or bool(self.keys.all())
        if not self._locked:
            self._slow_down(f"address {address}", PER_S)
            return None
        key = None if secret is None else self.keys.check(secret)
        if key is None:
            if secret is not None and (wait := self._wrong.take(address, WRONG_A_MINUTE / 60, WRONG_A_MINUTE)):
                raise Refusal(
                    429, "too_many_wrong_keys", "Wait before trying another key.", headers={"Retry-After": _whole(wait)}
                )
            said = "This server needs a key" if secret is None else "That is no key of this server"
            raise Refusal(
                401, "no_key", f"{said}. Send it as: Authorization: Bearer bb_…", headers={"WWW-Authenticate": "Bearer"}
            )
        if not key.allows(scope):
            raise Refusal(403, "scope_missing", f'The key "{key.name}" lacks the scope {scope}.')
        self._slow_down(f"key {key.id}", key.limit_per_s or PER_S)
        return key

    def _slow_down(self, caller: str, per_s: float) -> None:
        wait = self._calls.take(caller, per_s, max(1.0, per_s * BURST / PER_S))
        if wait:
            raise Refusal(
                429, "too_fast", f"More than {per_s:g} requests a second.", headers={"Retry-After": _whole(wait)}
            )


def needs(scope: str) -> Callable[..., Coroutine[None, None, None]]:
    """Return what a route depends on so that only keys with `scope` pass."""
    assert scope in (*SCOPES, OPEN)

    async def check(request: Request) -> None:  # not in a thread: it never waits
        admit(request, scope)

    check.scope = scope  # type: ignore[attr-defined]
    return check


def admit(request: Request, scope: str) -> None:
    """Note the key of a request that may go on; raises `Refusal` for one that may not."""
    if getattr(request.state, "admitted", None) == scope:
        return
    secret, authorization = request.headers.get("x-api-key"), request.headers.get("authorization")
    if authorization is not None:
        kind, _, secret = authorization.partition(" ")
        if kind.lower() != "bearer":
            raise Refusal(401, "no_key", "Send the key as: Authorization: Bearer bb_…")
    address = request.client.host if request.client else "nowhere"
    request.state.key = request.app.state.access.check(secret, address, scope)
    if request.state.key is None and scope != OPEN and _by_a_page(request):
        raise Refusal(403, "foreign_page", "Pages of other origins may not ask this server.")
    request.state.admitted = scope


def _by_a_page(request: Request) -> bool:
    """Return whether a browser asks on behalf of a page that is not this server's, such as one that posts a form."""
    site, origin = request.headers.get("sec-fetch-site"), request.headers.get("origin")
    if site is not None:
        return site not in ("same-origin", "none")
    return origin is not None and origin.partition("//")[2] != request.headers.get("host")


async def let_in(request: Request, scope: str) -> None:
    """Look at the key, and then at how much a body holds, before any of it is parsed; raises `Refusal`."""
    admit(request, scope)
    if request.method in BODIED:
        body = await request.body()
        if len(body) > MOST_VALUES and body.count(b",") >= MOST_VALUES:  # each costs a hundred bytes and its time
            raise Refusal(413, "too_many_values", f"A body may hold {MOST_VALUES:,} values. Send it in parts.")


class GuardedRoute(APIRoute):
    """A route that lets nobody in whose key it has not seen: they make the server read nothing."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """Return what answers a request."""
        usual, scope = super().get_route_handler(), scope_of(self.dependencies)

        async def answer(request: Request) -> Response:
            await let_in(request, scope)
            return await usual(request)

        return answer


def scope_of(dependencies: Iterable[DependsParam]) -> str:
    """Return the scope that a route with these dependencies needs."""
    found = (getattr(one.dependency, "scope", None) for one in dependencies)
    return next(scope for scope in found if isinstance(scope, str))


def guarded(scope: str) -> list[DependsParam]:
    """Return the dependencies of a route with this scope."""
    return [Depends(needs(scope))]


def _whole(seconds: float) -> str:
    return str(max(1, round(seconds + 0.5)))
