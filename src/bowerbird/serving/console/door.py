"""The door of the console: who looks, by which key; what a browser may do on these pages; where they hang.

A key is kept in this process and named by a random cookie that no script and no other site can read. It is forgotten
after `STAYS_S`, at the sign-out and when the process ends.

NiceGUI's pages need inline scripts, evaluated templates and inline styles; everything else is forbidden to them, and
all of that to every page outside the console.
"""

import secrets
import time
import warnings
from collections import OrderedDict
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any
from urllib.parse import parse_qs

import httpx
from fastapi import FastAPI, Request
from fastapi.responses import RedirectResponse, Response
from nicegui import app as nicegui_app
from nicegui import ui
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from bowerbird.serving.console import choosing, flow, home, mapping, quality, trying, versions
from bowerbird.serving.console.api import Api, Refused, Unreachable
from bowerbird.serving.console.frame import ADDRESSES, PAGES, Visit, around, card, heading, soft
from bowerbird.serving.console.words import language

PATH = "/console"
COOKIE, SPOKEN, SHADE = "bowerbird_console", "bowerbird_language", "bowerbird_shade"
STAYS_S = 12 * 3600.0  # a key, without being used anew
MOST_SESSIONS = 1_000
LONGEST_FORM = 4_096
YEAR_S = 365 * 24 * 3600
POLICY = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self' 'unsafe-inline' 'unsafe-eval'",  # Vue compiles templates in the browser
        "style-src 'self' 'unsafe-inline'",
        "img-src 'self' data:",
        "font-src 'self' data:",
        "connect-src 'self'",  # the socket that pages are moved by, too
        "form-action 'self'",
        "base-uri 'none'",
        "frame-ancestors 'none'",
    )
)
HEADERS = {
    "content-security-policy": POLICY,
    "x-content-type-options": "nosniff",
    "referrer-policy": "same-origin",
}
DRAWN: dict[str, Callable[[Visit], Awaitable[None]]] = {
    "home": home.draw, "try": trying.draw, "pipeline": flow.draw, "quality": quality.draw, "choose": choosing.draw,
    "map": mapping.draw, "versions": versions.draw,
}  # fmt: skip


class Sessions:
    """Keys of visitors, by the random name in their cookie."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self.clock = clock
        self._keys: OrderedDict[str, tuple[str, float]] = OrderedDict()

    def begin(self, key: str) -> str:
        """Remember a key; return the name of the session."""
        name = secrets.token_urlsafe(32)
        self._keys[name] = key, self.clock() + STAYS_S
        if len(self._keys) > MOST_SESSIONS:
            self._keys.popitem(last=False)
        return name

    def key(self, name: str | None) -> str | None:
        """Return the key of a session; None where there is none, or none any more."""
        known = self._keys.get(name or "")
        if known is None or known[1] < self.clock():
            self._keys.pop(name or "", None)
            return None
        return known[0]

    def end(self, name: str | None) -> None:
        """Forget a key."""
        self._keys.pop(name or "", None)


class Guard:
    """Stands before the pages: refuses sockets and forms of other sites, and says what a browser may do."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let one request in, or one socket."""
        if scope["type"] == "websocket" and foreign(scope):
            await send({"type": "websocket.close", "code": 1008})
            return
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return

        async def said(message: Message) -> None:
            if message["type"] == "http.response.start":
                kept = [one for one in message["headers"] if one[0].decode("latin-1").lower() not in HEADERS]
                message["headers"] = [*kept, *((name.encode(), value.encode()) for name, value in HEADERS.items())]
            await send(message)

        if scope["method"] not in ("GET", "HEAD") and foreign(scope):
            await Response("Pages of other origins may not ask this console.", 403)(scope, receive, said)
            return
        await self.app(scope, receive, said)


def foreign(scope: Scope) -> bool:
    """Return whether a page of another origin sent this."""
    headers = {name: value.decode("latin-1") for name, value in scope["headers"]}
    origin = headers.get(b"origin")
    return origin is not None and origin.partition("//")[2] != headers.get(b"host")


def hang(app: FastAPI, client: httpx.AsyncClient, *, path: str = PATH) -> None:
    """Mount the console in an application; its pages ask the server of `client`.

    NiceGUI knows one set of pages in a process, so that the last console that was hung is the one that answers.
    """
    first = not hasattr(nicegui_app.state, "sessions")
    nicegui_app.state.client, nicegui_app.state.sessions = client, Sessions()
    if first:
        for name, address in ADDRESSES.items():
            ui.page(f"/{address.removeprefix('./')}", title=f"bowerbird · {name}")(_page(name))
        ui.page("/login", title="bowerbird · sign in")(_login)
        nicegui_app.add_api_route("/session", _begin, methods=["POST"], include_in_schema=False)
        nicegui_app.add_api_route("/session/end", _end, methods=["POST"], include_in_schema=False)
        nicegui_app.add_api_route("/prefs", _prefs, methods=["GET"], include_in_schema=False)
    nicegui_app.middleware_stack = None  # where a console of this process has ended, another one may begin
    nicegui_app.user_middleware.clear()
    nicegui_app.add_middleware(Guard)
    ui.run_with(
        app, mount_path=path, title="bowerbird", favicon="🐦", tailwind=False, show_welcome_message=False,
        binding_refresh_interval=0.25, reconnect_timeout=10.0,
    )  # fmt: skip
    hung = app.router.lifespan_context

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[Any]:
        async with AsyncExitStack() as stack:
            with warnings.catch_warnings():  # NiceGUI looks through all objects for its server, and torch minds that
                warnings.simplefilter("ignore", FutureWarning)
                state = await stack.enter_async_context(hung(app))
            yield state

    app.router.lifespan_context = lifespan


def _visit(request: Request, page: str) -> Visit:
    state = nicegui_app.state
    key = state.sessions.key(request.cookies.get(COOKIE))
    spoken = request.cookies.get(SPOKEN) or request.headers.get("accept-language", "")[:2]
    return Visit(Api(state.client, key), language(spoken), request.cookies.get(SHADE) == "dark", page)


def _page(name: str) -> Callable[[Request], Awaitable[None]]:
    async def shown(request: Request) -> None:
        visit = _visit(request, name)
        with around(visit):
            place = ui.element("div").classes("bb-main").style("padding: 0")

        async def fill() -> None:
            with place:
                await DRAWN[name](visit)

        ui.timer(0, fill, once=True)  # when the frame is there

    return shown


# ── keys ──────────────────────────────────────────────────────────────────────────────────────────────────────────────


async def _login(request: Request, wrong: str = "") -> None:
    visit = _visit(request, "home")
    with around(visit), card().style("max-width: 460px; align-self: center; width: 100%"):
        heading(visit.say("sign_in"))
        if wrong in ("key_wrong", "key_slow", "unreachable"):
            ui.label(visit.say(wrong)).classes("bb-alarm").props("role=alert")
        with ui.element("form").props('method=post action="session"').classes("bb-steps"):
            ui.input(visit.say("key")).props("outlined name=key type=password autocomplete=off autofocus")
            soft(visit.say("key_hint"))
            ui.button(visit.say("sign_in")).props("type=submit unelevated no-caps").style("align-self: flex-start")


async def _begin(request: Request) -> Response:
    """Keep a key that the server knows, whatever it allows."""
    body = await request.body()
    key = parse_qs(body[:LONGEST_FORM].decode("latin-1")).get("key", [""])[0].strip()
    wrong = "" if key.isascii() and key.isprintable() and key else "key_wrong"
    if not wrong:
        try:
            await Api(nicegui_app.state.client, key).get("/v1/status")
        except Refused as error:
            wrong = {401: "key_wrong", 429: "key_slow"}.get(error.status, "")
        except Unreachable:
            wrong = "unreachable"
    if wrong:
        return RedirectResponse(f"login?wrong={wrong}", 303)
    answer = RedirectResponse("./", 303)
    answer.set_cookie(
        COOKIE, nicegui_app.state.sessions.begin(key), max_age=int(STAYS_S), path=_path(request), httponly=True,
        samesite="strict", secure=request.url.scheme == "https",
    )  # fmt: skip
    return answer


async def _end(request: Request) -> Response:
    nicegui_app.state.sessions.end(request.cookies.get(COOKIE))
    answer = RedirectResponse("../login", 303)
    answer.delete_cookie(COOKIE, path=_path(request))
    return answer


async def _prefs(request: Request, lang: str = "", shade: str = "", back: str = "home") -> Response:
    """Remember in which language and in which light the console is looked at."""
    answer = RedirectResponse(ADDRESSES[back] if back in PAGES else "./", 303)
    given: dict[str, Any] = {"max_age": YEAR_S, "path": _path(request), "httponly": True, "samesite": "lax"}
    if lang:
        answer.set_cookie(SPOKEN, language(lang), **given)
    if shade in ("dark", "light"):
        answer.set_cookie(SHADE, shade, **given)
    return answer


def _path(request: Request) -> str:
    return str(request.scope.get("root_path") or "/")
