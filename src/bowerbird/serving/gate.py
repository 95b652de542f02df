"""The gate: what every request passes before anything reads it. One piece of ASGI, no framework in between.

It names the request, refuses hosts and bodies that must not be read, sheds load, counts, times and logs. It knows no
route.
"""

import json
import logging
from collections.abc import Callable
from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from bowerbird.core import World
from bowerbird.serving.metrics import Metrics
from bowerbird.serving.problems import Refusal, problem

HOSTS = ("127.0.0.1", "localhost", "::1")  # a name of another site that leads here is a trick on the browser
LONGEST_BODY = 16 * 1024 * 1024
LONGEST_PATH, LONGEST_HEADERS = 8 * 1024, 32 * 1024
MOST_AT_ONCE = 64  # requests; beyond them one more is refused rather than kept waiting
UNHURRIED = ("/healthz", "/readyz", "/metrics")  # answered however busy the server is
EVERYWHERE = (403, 413, 414, 429, 431, 500, 503)  # statuses that any route may answer with

Shortcut = Callable[[Request], Response | None]

LOG = logging.getLogger("bowerbird.requests")


class Gate:
    """Stands before an application."""

    def __init__(
        self, app: ASGIApp, *, world: World, metrics: Metrics, any_host: bool = False, shortcut: Shortcut | None = None
    ) -> None:
        """`shortcut` answers some requests, which then go no further, and returns None for all others."""
        self.app, self.world, self.metrics, self.any_host, self.shortcut = app, world, metrics, any_host, shortcut
        self.inside = 0
        self.closing = False  # set when the server is asked to stop: what is inside ends, nothing new comes in

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        started, path = self.world.monotonic(), scope["path"]
        request_id = self.world.token()
        scope.setdefault("state", {})["request_id"] = request_id
        status, answered = 500, False

        async def reply(message: Message) -> None:
            nonlocal status, answered
            if message["type"] == "http.response.start":
                status, answered = message["status"], True
                names = {name for name, _ in message["headers"]}
                if b"x-request-id" not in names:
                    message["headers"] = [*message["headers"], (b"x-request-id", request_id.encode())]
            await send(message)

        self.inside += 1
        try:
            self._admit(scope)
            if self.shortcut is not None and scope["method"] == "GET":
                answer = self.shortcut(Request(scope))
                if answer is not None:
                    await answer(scope, receive, reply)
                    return
            await self.app(scope, _bounded(scope, receive), reply)
        except Refusal as error:
            if answered:
                raise
            refusal = problem(
                error.status_code, error.code, error.detail, path=path, request_id=request_id, headers=error.headers
            )
            await refusal(scope, receive, reply)
        finally:
            self.inside -= 1
            self._note(scope, status, self.world.monotonic() - started, request_id)

    def _admit(self, scope: Scope) -> None:
        """Raise `Refusal` for a request that must not be read."""
        headers = dict(scope["headers"])
        host = headers.get(b"host", b"").decode("latin-1").lower()
        host = (host if host.endswith("]") else host.rsplit(":", 1)[0]).strip("[]")
        if not self.any_host and host not in HOSTS:
            raise Refusal(403, "foreign_host", f"This server answers to {', '.join(HOSTS)} only.")
        if len(scope["raw_path"]) + len(scope["query_string"]) > LONGEST_PATH:
            raise Refusal(414, "too_long", f"A path with its query may have {LONGEST_PATH:,} bytes.")
        if sum(len(name) + len(value) for name, value in scope["headers"]) > LONGEST_HEADERS:
            raise Refusal(431, "headers_too_large", f"Headers may have {LONGEST_HEADERS:,} bytes together.")
        length = headers.get(b"content-length", b"0")
        if not length.isdigit() or int(length) > LONGEST_BODY:
            raise _too_large()
        if scope["path"] in UNHURRIED:
            return
        if self.closing:
            raise Refusal(503, "closing", "The server is being stopped. Try again in a moment.")
        if self.inside > MOST_AT_ONCE:
            raise Refusal(503, "overloaded", f"{MOST_AT_ONCE} requests are being answered. Try again in a moment.")

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


def _bounded(scope: Scope, receive: Receive) -> Receive:
    """Return `receive` for a body that may not grow beyond what is allowed, whatever its header promised."""
    size = 0

    async def bounded() -> Message:
        nonlocal size
        message = await receive()
        size += len(message.get("body", b""))
        if size > LONGEST_BODY:
            raise _too_large()
        return message

    return bounded


def _too_large() -> Refusal:
    return Refusal(413, "too_large", f"A body may have {LONGEST_BODY:,} bytes. Send it in parts.")
