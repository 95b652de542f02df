"""The gate: what every request passes before anything reads it. One piece of ASGI, no framework in between.

It names the request, refuses hosts and bodies that must not be read, sheds load, counts, times and logs. It knows no
route.

What counts as being answered begins when the request is there whole and ends when its answer begins: whoever sends
or reads slowly takes the place of nobody.
"""

import asyncio
import json
import logging
import re
from collections import deque
from collections.abc import Callable
from typing import Any
from urllib.parse import unquote_to_bytes

from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from bowerbird.core import World
from bowerbird.serving.metrics import Metrics
from bowerbird.serving.problems import Refusal, problem

HOSTS = ("127.0.0.1", "localhost", "[::1]")  # a name of another site that leads here is a trick on the browser
PORT = re.compile(r":[0-9]*\Z")
LONGEST_BODY = 16 * 1024 * 1024
LONGEST_PATH, LONGEST_HEADERS = 8 * 1024, 32 * 1024
BODY_S = 30.0  # in which a body must be there
LONG, MOST_LONG = 64 * 1024, 16  # bodies of more bytes that are being read at once; small ones are not counted
MOST_AT_ONCE = 64  # requests; beyond them one more is refused rather than kept waiting
BREATHS = 16  # turns of the event loop between two requests that wait: in each, uvloop takes in one connection
FULL = f"{MOST_AT_ONCE} requests are being answered. Try again in a moment."
UNHURRIED = ("/healthz", "/readyz", "/metrics")  # answered however busy the server is
EVERYWHERE = (400, 403, 408, 413, 414, 429, 431, 500, 503)  # statuses that any route may answer with

Shortcut = Callable[[Request], Response | None]

LOG = logging.getLogger("bowerbird.requests")


class Gate:
    """Stands before an application."""

    def __init__(
        self, app: ASGIApp, *, world: World, metrics: Metrics, any_host: bool = False, shortcut: Shortcut | None = None
    ) -> None:
        """`shortcut` answers some requests, which then go no further, and returns None for all others."""
        self.app, self.world, self.metrics, self.any_host, self.shortcut = app, world, metrics, any_host, shortcut
        self.inside = 0  # requests that are being answered
        self.long = 0  # long bodies that are being read
        self.turns = Turns()
        full = problem(503, "overloaded", FULL, path="\0", request_id="\1")
        self._full = bytes(full.body).replace(rb"\u0000", b"%b").replace(rb"\u0001", b"%b")
        self._full_headers = [one for one in full.raw_headers if one[0] not in (b"content-length", b"x-request-id")]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        started, path = self.world.monotonic(), scope["path"]
        request_id = self.world.token()
        scope.setdefault("state", {})["request_id"] = request_id
        visit = _Visit(self, request_id, receive, send, hurried=path not in UNHURRIED)
        try:
            if self.inside >= MOST_AT_ONCE and visit.hurried:
                await self._refuse(path, request_id, visit.send)
                return
            if self._admit(scope):
                await visit.enter()
            if self.shortcut is not None and scope["method"] == "GET":
                answer = self.shortcut(Request(scope))
                if answer is not None:
                    await answer(scope, receive, visit.send)
                    return
            await self.app(scope, visit.receive, visit.send)
        except Refusal as error:
            if visit.status:
                raise
            refusal = problem(
                error.status_code, error.code, error.detail, path=path, request_id=request_id, headers=error.headers
            )
            await refusal(scope, receive, visit.send)
        finally:
            visit.leave()
            self._note(scope, visit.status or 500, self.world.monotonic() - started, request_id)

    def _admit(self, scope: Scope) -> bool:
        """Return whether a request is there whole; raises `Refusal` for one that must not be read."""
        headers = dict(scope["headers"])
        if sum(name == b"host" for name, _ in scope["headers"]) > 1:
            raise Refusal(400, "two_hosts", "A request has one Host.")
        if not self.any_host and PORT.sub("", headers.get(b"host", b"").decode("latin-1").lower()) not in HOSTS:
            raise Refusal(403, "foreign_host", f"This server answers to {', '.join(HOSTS)} only.")
        if len(scope["raw_path"]) + len(scope["query_string"]) > LONGEST_PATH:
            raise Refusal(414, "too_long", f"A path with its query may have {LONGEST_PATH:,} bytes.")
        if not _is_utf8(scope["raw_path"] + scope["query_string"]) or "\n" in scope["path"]:  # one would get lost
            raise Refusal(400, "no_text", "Path and query are percent-encoded UTF-8, without line ends in the path.")
        if sum(len(name) + len(value) for name, value in scope["headers"]) > LONGEST_HEADERS:
            raise Refusal(431, "headers_too_large", f"Headers may have {LONGEST_HEADERS:,} bytes together.")
        length = headers.get(b"content-length", b"0")
        if not length.isdigit() or int(length) > LONGEST_BODY:
            raise _too_large()
        return int(length) == 0 and b"transfer-encoding" not in headers

    async def _refuse(self, path: str, request_id: str, send: Send) -> None:
        """Say that the server has enough to do: to say so must cost as little as can be."""
        body = self._full % (json.dumps(path)[1:-1].encode(), request_id.encode())
        headers = [*self._full_headers, (b"content-length", b"%d" % len(body))]
        await send({"type": "http.response.start", "status": 503, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    def _note(self, scope: Scope, status: int, seconds: float, request_id: str) -> None:
        route: Any = scope.get("route")
        name = getattr(route, "path", "none")
        self.metrics.request(scope["method"], name, status, seconds)
        if LOG.isEnabledFor(logging.INFO):
            line = {
                "time": self.world.now(),
                "request_id": request_id,
                "method": scope["method"],
                "route": name,  # never the path itself: it holds ids of people
                "status": status,
                "ms": round(1000 * seconds, 2),
            }
            LOG.info(json.dumps(line))


class Turns:
    """Lets requests begin one after the other, and the event loop turn between them.

    Whoever computes holds the loop. Without turns, all requests that came together would hold it together; nobody
    would be let in, told no, or told that the server lives until the last of them was through.
    """

    def __init__(self) -> None:
        self._waiting: deque[asyncio.Future[None]] = deque()

    async def take(self) -> None:
        """Return when it is one's turn: at once, or rather in the next turn of the loop, where nobody waits."""
        loop = asyncio.get_running_loop()
        mine = loop.create_future()
        self._waiting.append(mine)
        if len(self._waiting) == 1:
            loop.call_soon(self._next, loop, 0)
        await mine

    def _next(self, loop: asyncio.AbstractEventLoop, breaths: int) -> None:
        if breaths:
            loop.call_soon(self._next, loop, breaths - 1)
            return
        mine = self._waiting.popleft()
        if not mine.done():
            mine.set_result(None)
        if self._waiting:
            loop.call_soon(self._next, loop, BREATHS)


class _Visit:
    """A request on its way through the gate."""

    def __init__(self, gate: Gate, request_id: str, receive: Receive, send: Send, *, hurried: bool) -> None:
        self.gate, self.request_id, self.hurried = gate, request_id, hurried
        self._receive, self._send = receive, send
        self.status = 0  # of the answer, once that began
        self._size, self._whole, self._inside, self._long = 0, False, False, False
        self._end = asyncio.get_running_loop().time() + BODY_S

    async def enter(self) -> None:
        """Count as being answered, and wait for one's turn; raises `Refusal` where too many do already."""
        self._whole = True
        if not self.hurried:
            return
        if self.gate.inside >= MOST_AT_ONCE:
            raise _overloaded()
        self.gate.inside, self._inside = self.gate.inside + 1, True
        await self.gate.turns.take()

    def leave(self) -> None:
        """Count no longer."""
        self._read()
        if self._inside:
            self.gate.inside, self._inside = self.gate.inside - 1, False

    async def receive(self) -> Message:
        """Return the next part of the body, which may neither grow nor take longer than is allowed."""
        if self._whole:
            return await self._receive()
        try:
            async with asyncio.timeout_at(self._end):
                message = await self._receive()
        except TimeoutError:
            said = f"The body was not there within {BODY_S:g} s."
            raise Refusal(408, "slow_body", said, headers={"Connection": "close"}) from None
        if message["type"] == "http.disconnect":
            raise Refusal(400, "cut_off", "The body ended before it was there whole.")
        self._size += len(message.get("body", b""))
        if self._size > LONGEST_BODY:
            raise _too_large()
        if not message.get("more_body"):
            self._read()
            await self.enter()
        elif self._size > LONG and not self._long:
            if self.gate.long >= MOST_LONG:
                raise _overloaded()
            self.gate.long, self._long = self.gate.long + 1, True
        return message

    async def send(self, message: Message) -> None:
        """Send a part of the answer, named in its headers."""
        if message["type"] == "http.response.start":
            self.status = message["status"]
            self.leave()
            names = {name for name, _ in message["headers"]}
            own = ((b"x-request-id", self.request_id.encode()), (b"x-content-type-options", b"nosniff"))
            message["headers"] = [*message["headers"], *(one for one in own if one[0] not in names)]
        await self._send(message)

    def _read(self) -> None:
        """Count no longer as a long body."""
        if self._long:
            self.gate.long, self._long = self.gate.long - 1, False


def _is_utf8(quoted: bytes) -> bool:
    """Return whether what is percent-encoded is a text: what is none would be read as one all the same."""
    try:
        (unquote_to_bytes(quoted) if b"%" in quoted else quoted).decode()
    except UnicodeDecodeError:
        return False
    return True


def _overloaded() -> Refusal:
    return Refusal(503, "overloaded", FULL)


def _too_large() -> Refusal:
    said = f"A body may have {LONGEST_BODY:,} bytes. Send it in parts."
    return Refusal(413, "too_large", said, headers={"Connection": "close"})  # the rest of it is not waited for
