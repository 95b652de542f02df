"""The one way in which pages learn and do anything: the HTTP API, with the key of whoever looks.

A console of its own process asks an address; one inside a server asks that application, without a socket between, by
the same routes, scopes and limits.
"""

import json
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

import httpx

TIMEOUT_S = 30.0
SHOWN = 500  # letters of a refusal that are shown
INSIDE = "http://127.0.0.1"  # the host that a server inside the same process is asked by


class Refused(Exception):
    """The server said no."""

    def __init__(self, status: int, code: str, detail: str) -> None:
        super().__init__(detail)
        self.status, self.code, self.detail = status, code, detail[:SHOWN]


class Unreachable(Exception):
    """The server said nothing."""


class Api:
    """Asks one server on behalf of one visitor."""

    def __init__(self, client: httpx.AsyncClient, key: str | None = None) -> None:
        self.client, self.key = client, key

    async def get(self, path: str, **query: Any) -> Any:
        """Return what a route answers; raises `Refused` and `Unreachable`."""
        given = {name: value for name, value in query.items() if value is not None}
        return json.loads(await self._ask("GET", path, params=given))

    async def text(self, path: str) -> str:
        """Return an answer that is no JSON, as `get` does."""
        return (await self._ask("GET", path)).decode()

    async def post(self, path: str, body: Mapping[str, Any] | None = None) -> Any:
        """Return what a route answers to a body, as `get` does."""
        return json.loads(await self._ask("POST", path, json=None if body is None else dict(body)))

    async def delete(self, path: str) -> None:
        """Take something away, as `get` does."""
        await self._ask("DELETE", path)

    async def _ask(self, method: str, path: str, **given: Any) -> bytes:
        headers = {} if self.key is None else {"Authorization": f"Bearer {self.key}"}
        try:
            answer = await self.client.request(method, path, headers=headers, **given)
        except httpx.HTTPError as error:
            raise Unreachable(str(error) or type(error).__name__) from None
        if answer.is_success:
            return answer.content
        try:
            said = answer.json()
            raise Refused(answer.status_code, str(said["code"]), str(said["detail"]))
        except (ValueError, LookupError, TypeError):
            raise Refused(answer.status_code, "unknown", answer.reason_phrase) from None


def client_of(server: str) -> httpx.AsyncClient:
    """Return a client of a server at an address."""
    return httpx.AsyncClient(base_url=server, timeout=TIMEOUT_S, follow_redirects=False, trust_env=False)


def client_inside(app: Any) -> httpx.AsyncClient:
    """Return a client of an application in this process."""
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    return httpx.AsyncClient(base_url=INSIDE, transport=transport, timeout=TIMEOUT_S)


def part(value: Any) -> str:
    """Return an id as a part of a path."""
    return quote(str(value), safe="")
