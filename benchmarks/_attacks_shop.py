"""A server in this process, asked without a network: whatever is sent reaches the application as it is."""

import asyncio
import contextlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import quote, unquote

import bowerbird as bb
from _breaking import Effort
from bowerbird.core import RealWorld, RunOptions
from bowerbird.recommender import Recommender
from bowerbird.serving import Engine, create_app
from bowerbird.testing import halves

T = TypeVar("T")
JSON = {"content-type": "application/json"}
PROBLEM = {"type", "title", "status", "detail", "instance", "code", "request_id", "retryable", "errors"}
EVENT = {"event": "interaction", "user_id": "u1", "item_id": "i1"}
BODIES: dict[tuple[str, str], dict[str, Any]] = {  # a good body for each route that takes one
    ("POST", "/v1/recommendations"): {"user_id": "u1", "k": 5},
    ("POST", "/v1/recommendations:batch"): {"user_ids": ["u1", "u2"]},
    ("POST", "/v1/recommendations:why"): {"user_id": "u1", "item_id": "i1"},
    ("POST", "/v1/rankings"): {"user_id": "u1", "items": ["i1", "i2"]},
    ("POST", "/v1/items:similar"): {"items": ["i1"], "k": 5},
    ("POST", "/v1/search"): {"text": "even"},
    ("POST", "/v1/events"): {"events": [EVENT | {"event_id": "e1", "context": {"page": "x"}}]},
    ("POST", "/v1/events:validate"): {"events": [EVENT | {"event_id": "e1"}]},
    ("POST", "/v1/users/{user_id}:merge"): {"session_id": "s1"},
    ("PUT", "/v1/schema"): {"events": [{"name": "wish", "weight": 0.5, "sign": "positive", "phrase": "wished for"}]},
    ("POST", "/v1/items:batch"): {"rows": [{"id": "b1", "properties": {"title": "One", "price": 1.5}}]},
    ("POST", "/v1/users:batch"): {"rows": [{"id": "b1", "properties": {"age": 30}}]},
    ("PUT", "/v1/items/{document_id}"): {"properties": {"title": "One", "tags": ["a"]}, "available": True},
    ("PATCH", "/v1/items/{document_id}"): {"properties": {"title": "Two", "price": None}},
    ("PUT", "/v1/users/{document_id}"): {"properties": {"age": 31}},
    ("PATCH", "/v1/users/{document_id}"): {"properties": {"age": 32}},
    ("POST", "/v1/jobs"): {"kind": "export", "what": "items"},
    ("POST", "/v1/experiments"): {
        "name": "split",
        "arms": [{"name": "a", "share": 0.5}, {"name": "b", "share": 0.5, "changes": {"k": 3}}],
        "metrics": [{"event": "interaction", "once": True}],
        "guardrails": [{"event": "interaction", "worst_loss": 0.1}],
    },
    ("POST", "/v1/keys"): {"name": "shop", "scopes": ["recommend"], "limit_per_s": 5.0},
}
FILLED = {
    "user_id": "u1", "item_id": "i1", "document_id": "i1", "name": "popular", "version": "000009", "request_id": "none",
    "event_id": "none", "job_id": "none", "key_id": "none",
}  # fmt: skip


@dataclass(frozen=True)
class Answer:
    """What came back."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    def json(self) -> Any:
        """Return the body, which must be JSON without what JSON has no word for."""
        return json.loads(self.body, parse_constant=_no_json)

    def faults(self) -> list[str]:
        """Return what no answer may be: a 5xx, a refusal of another shape, JSON that is none."""
        if self.status >= 500:
            return [f"answered {self.status}: {self.body[:200]!r}"]
        try:
            said = self.json() if "json" in self.headers.get("content-type", "") else None
        except ValueError as error:
            return [f"the answer is no JSON: {error}"]
        if self.status < 400:
            return []
        shape = self.headers.get("content-type") == "application/problem+json" and set(said) == PROBLEM
        right = shape and said["status"] == self.status and said["request_id"] == self.headers["x-request-id"]
        return [] if right else [f"{self.status} in another shape: {self.body[:200]!r}"]


def _no_json(word: str) -> None:
    raise ValueError(f"{word} is no JSON")


@cache
def model() -> Recommender:
    """Return a model of 60 users "u0" and on, and 40 items "i0" and on."""
    return bb.fit(halves(), "itemknn", run=RunOptions(progress=False))


def path_of(route: str, **names: str) -> str:
    """Return a path of a route, with ids in its places."""
    for name, value in (FILLED | names).items():
        route = route.replace(f"{{{name}}}", quote(value, safe=""))
    return route


class Shop:
    """An engine, its application, and a loop to ask it in."""

    def __init__(self, folder: Path, recommender: Recommender | None = None, **options: Any) -> None:
        self.engine = Engine(folder / "run", folder / "data", recommender=recommender or model(), **options)
        self.admin = self.engine.keys.create("admin", ["admin"], limit_per_s=1e6)[1]
        self.app = create_app(self.engine)
        self.loop = asyncio.new_event_loop()
        self.life = self.app.router.lifespan_context(self.app)
        self.loop.run_until_complete(self.life.__aenter__())

    def close(self) -> None:
        """End it."""
        self.loop.run_until_complete(self.life.__aexit__(None, None, None))
        self.loop.close()

    def ask(
        self, method: str, target: str, body: bytes | Any = b"", headers: Mapping[str, str] = {}, client: str = "::1"
    ) -> Answer:
        """Send one request: a target as it stands in its first line, and a body of bytes, or what JSON says of it.

        The key of `admin` goes with it where `headers` name no other; an empty header is not sent.
        """
        return self.loop.run_until_complete(self._asked(method, target, body, headers, client))

    def together(self, *asked: tuple[Any, ...]) -> list[Answer]:
        """Send many at once."""

        async def all_of_them() -> list[Answer]:
            given = ((*one, *(b"", {}, "::1")[len(one) - 2 :]) for one in asked)
            return list(await asyncio.gather(*(self._asked(*one) for one in given)))

        return self.loop.run_until_complete(all_of_them())

    async def _asked(
        self, method: str, target: str, body: bytes | Any, headers: Mapping[str, str], client: str
    ) -> Answer:
        if not isinstance(body, bytes):
            body, headers = json.dumps(body).encode(), JSON | headers
        path, _, query = target.partition("?")
        sent = {"host": "127.0.0.1", "content-length": str(len(body)), "authorization": f"Bearer {self.admin}"}
        sent = {k: v for k, v in (sent | {k.lower(): v for k, v in headers.items()}).items() if v}
        scope = {
            "type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": method, "scheme": "http",
            "path": unquote(path), "raw_path": path.encode("latin-1"), "query_string": query.encode("latin-1"),
            "root_path": "", "headers": [(k.encode("latin-1"), v.encode("latin-1")) for k, v in sent.items()],
            "client": (client, 1), "server": ("127.0.0.1", 80), "state": {},
        }  # fmt: skip
        whole, told = asyncio.Event(), list[Any]()
        coming = [{"type": "http.request", "body": body, "more_body": False}]

        async def receive() -> Any:
            if coming:
                return coming.pop()
            await whole.wait()
            return {"type": "http.disconnect"}

        async def send(message: Any) -> None:
            told.append(message)
            if message["type"] == "http.response.body" and not message.get("more_body"):
                whole.set()

        with contextlib.suppress(Exception):  # what was raised was answered with 500, or nothing was
            await self.app(scope, receive, send)
        if not told:
            return Answer(599, {}, b"nothing was answered")
        names = {name.decode("latin-1"): value.decode("latin-1") for name, value in told[0]["headers"]}
        return Answer(told[0]["status"], names, b"".join(part.get("body", b"") for part in told[1:]))


@contextlib.contextmanager
def shop(folder: Path, recommender: Recommender | None = None, **options: Any) -> Iterator[Shop]:
    """Open a shop in a folder, and close it at the end."""
    one = Shop(folder, recommender, **options)
    try:
        yield one
    finally:
        one.close()


class Clock(RealWorld):
    """The operating system, with clocks that stand still until they are moved."""

    def __init__(self) -> None:
        self.at, self.ticks = 1_700_000_000, 0.0

    def now(self) -> int:
        """Return what was set."""
        return self.at

    def monotonic(self) -> float:
        """Return what was set."""
        return self.ticks


def picked(effort: Effort, cases: Sequence[T]) -> list[T]:
    """Return all cases where there are tries for them, else as many as there are tries, from all over."""
    if effort.n >= len(cases):
        return list(cases)
    return [cases[place] for place in sorted(effort.rng().choice(len(cases), effort.n, replace=False))]
