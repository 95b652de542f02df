"""A client of a server's HTTP API: asks again until there is an answer, and follows no redirection with a key."""

import json
import re
from collections.abc import Callable
from http.client import HTTPException
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.parse import urlsplit
from urllib.request import HTTPRedirectHandler, Request, build_opener

from bowerbird.core import RealWorld, RequestError, World
from bowerbird.serving.gate import LONGEST_BODY

TRIES = 10  # of one request
WAIT_S, LONGEST_S = 1, 60  # before the next try, where the server does not say, and at most
TIMEOUT_S = 60.0  # for one answer
LATER = (429, 503)  # statuses after which the same request may be sent again
TOO_LARGE = 413
LONGEST_ANSWER, SHOWN = 1 << 24, 1_000  # bytes of an answer, and letters of a refusal that are shown
KEY = re.compile(r"[\x21-\x7e]{1,1000}")

Open = Callable[..., Any]  # as `urllib.request.urlopen`


class TooLarge(Exception):
    """The server takes no body of this size."""


class _Stay(HTTPRedirectHandler):
    """Takes a redirection for the refusal that it is to whoever sends a key."""

    def redirect_request(self, *_: Any) -> None:
        """Go nowhere."""


class Client:
    """Asks one server, and posts to it."""

    def __init__(
        self, server: str, key: str | None = None, *, world: World | None = None, open: Open | None = None
    ) -> None:
        """`open` stands in for what opens an address. Raises `RequestError` where `server` is none."""
        try:
            parts = urlsplit(server)
        except ValueError:
            parts = urlsplit("")
        if parts.scheme not in ("http", "https") or not parts.netloc or parts.query or parts.fragment:
            raise RequestError(f"{server} is no address of a server. Write --server http://127.0.0.1:8321.")
        if key is not None and not KEY.fullmatch(key):  # an error of the HTTP library would tell it
            raise RequestError("the key has letters or spaces that no key has. Copy it again, without line breaks.")
        self.server, self.world = server.rstrip("/"), world or RealWorld()
        self._open = open or build_opener(_Stay).open
        self._headers = {"Content-Type": "application/json", "User-Agent": "bowerbird"}
        if key is not None:
            self._headers["Authorization"] = f"Bearer {key}"
        self._met = False  # whether the server ever answered

    def post(self, path: str, document: Any) -> Any:
        """Return what the server answers; waits and tries again where it is busy, or was met and cannot be reached.

        Only for what may be sent twice. Raises `TooLarge`, and `RequestError` for any other refusal.
        """
        body = json.dumps(document).encode()
        if len(body) > LONGEST_BODY:
            raise TooLarge
        return self._ask("POST", path, body)

    def get(self, path: str) -> Any:
        """Return what the server answers, as `post` does."""
        return self._ask("GET", path, None)

    def _ask(self, method: str, path: str, body: bytes | None) -> Any:
        for turn in range(1, TRIES + 1):
            request = Request(self.server + path, body, self._headers, method=method)
            try:
                with self._open(request, timeout=TIMEOUT_S) as answer:
                    self._met = True
                    return json.loads(answer.read(LONGEST_ANSWER))
            except HTTPError as error:
                self._met = True
                with error:
                    if error.code not in LATER or turn == TRIES:
                        raise self._refused(error) from None
                    wait = error.headers.get("Retry-After", "")
                self.world.sleep(min(int(wait), LONGEST_S) if wait.isdigit() else WAIT_S)
            except (URLError, OSError, HTTPException, ValueError, RecursionError) as error:
                if not self._met or turn == TRIES:
                    why = getattr(error, "reason", error)
                    raise RequestError(f"{self.server} cannot be reached: {why}. Does the server run there?") from None
                self.world.sleep(WAIT_S)
        raise AssertionError("the last try returns or raises")

    def _refused(self, error: HTTPError) -> Exception:
        if error.code == TOO_LARGE:
            return TooLarge()
        try:
            said = str(json.loads(error.read(LONGEST_ANSWER))["detail"])[:SHOWN]
        except (ValueError, LookupError, TypeError, OSError, HTTPException, RecursionError):
            said = error.reason
        hint = " Give one with --key, or in BOWERBIRD_KEY." if error.code == 401 else ""
        return RequestError(f"{self.server} answers {error.code}: {said}{hint}")
