"""Clients of a server that is being broken: one that asks, and a crowd that asks on and on."""

import http.client
import json
import math
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

RESTED_S = 3.0  # after which a connection is opened anew: the server may be closing it


class Answer(NamedTuple):
    """What came back."""

    status: int
    document: Any  # None where it is not JSON
    headers: dict[str, str]  # names in small letters
    seconds: float


class Asker:
    """A client with one connection; whatever goes wrong on it is an `OSError`."""

    def __init__(self, port: int, *, key: str = "", timeout_s: float = 10.0) -> None:
        self.port, self.timeout_s = port, timeout_s
        self._headers = {"Authorization": f"Bearer {key}"} if key else {}
        self._connection: http.client.HTTPConnection | None = None
        self._used = 0.0

    def __call__(self, method: str, path: str, document: Any = None) -> Answer:
        """Ask, and wait for the answer."""
        body = None if document is None else json.dumps(document)
        headers = self._headers | ({"Content-Type": "application/json"} if body else {})
        if time.monotonic() - self._used > RESTED_S:
            self.close()
        started = time.perf_counter()
        try:
            if self._connection is None:
                self._connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=self.timeout_s)
            self._connection.request(method, path, body, headers)
            answer = self._connection.getresponse()
            said = answer.read()
        except (OSError, http.client.HTTPException) as error:
            self.close()
            raise OSError(f"{method} {path}: {error!r}") from error
        self._used = time.monotonic()
        seconds = time.perf_counter() - started
        names = {name.lower(): value for name, value in answer.getheaders()}
        document = json.loads(said) if "json" in names.get("content-type", "") else None
        return Answer(answer.status, document, names, seconds)

    def slate(self, user: str | int, **question: Any) -> Answer:
        """Ask for a slate."""
        return self("POST", "/v1/recommendations", {"user_id": user, **question})

    def close(self) -> None:
        """End the connection."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None


Turn = Callable[[Asker, np.random.Generator], tuple[float, list[str]]]  # → the seconds that count, and what was wrong


class Crowd:
    """Threads that do the same on and on until the crowd is left, each as soon as it is answered."""

    def __init__(
        self,
        port: int,
        turn: Turn,
        rngs: Sequence[np.random.Generator],
        pause_s: float = 0.0,
        *,
        most: int | None = None,
        key: str = "",
    ) -> None:
        """There is a thread for each stream of chance; with `most`, they end after so many turns together."""
        self.turns = self.failed = 0
        self.most, self._told = most, list[str]()
        self._seconds: list[tuple[float, float]] = []  # when an answer was there, and after how long
        self._lock, self._enough = threading.Lock(), threading.Event()
        self._threads = [
            threading.Thread(target=self._go, args=(Asker(port, key=key), turn, rng, pause_s), daemon=True)
            for rng in rngs
        ]

    def __enter__(self) -> "Crowd":
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._enough.set()
        for thread in self._threads:
            thread.join()

    @property
    def alive(self) -> bool:
        """Whether anyone still has something to do."""
        return any(thread.is_alive() for thread in self._threads)

    def _go(self, asker: Asker, turn: Turn, rng: np.random.Generator, pause_s: float) -> None:
        while not self._enough.wait(pause_s) and self._another():
            try:
                seconds, wrong = turn(asker, rng)
            except OSError as error:
                seconds, wrong = math.nan, [f"no answer: {error}"]
            with self._lock:
                self.failed += math.isnan(seconds)
                self._told += wrong
                self._seconds.append((time.monotonic(), seconds))
        asker.close()

    def _another(self) -> bool:
        with self._lock:
            if self.turns == self.most:
                return False
            self.turns += 1
        return True

    def faults(self) -> list[str]:
        """Return what was wrong since the last call."""
        with self._lock:
            told, self._told = self._told, []
        return told

    def milliseconds(self, level: float, since: float = 0.0, until: float = math.inf) -> float:
        """Return a percentile of how long answers took that came within a span of `time.monotonic`."""
        with self._lock:
            took = [one for moment, one in self._seconds if since <= moment < until]
        return percentile_ms(took, level)


def percentile_ms(seconds: Sequence[float], level: float) -> float:
    """Return a percentile in milliseconds, of what is a number; 0 of nothing."""
    known = [one for one in seconds if not math.isnan(one)]
    return round(1000 * float(np.percentile(known, level)), 2) if known else 0.0
