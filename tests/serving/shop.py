"""A small shop to serve: people who like the even things or the odd ones, and a clock that stands still."""

from collections.abc import Callable
from typing import Any

import numpy as np
import polars as pl
from fastapi.testclient import TestClient

import bowerbird as bb
from bowerbird.core import RealWorld
from bowerbird.data import EventType, Interactions
from bowerbird.serving import Engine, create_app
from bowerbird.store.log import LogEvent

BASE = "http://127.0.0.1:8321"
NOW = 1_700_000_000
KINDS = [
    EventType("like", weight=1.0),
    EventType("look", weight=0.5, hides=False),
    EventType("dislike", sign="negative", hides=True),
]
N_USERS, N_ITEMS = 40, 20
Start = Callable[..., Engine]


class Clock(RealWorld):
    """The operating system, with a clock that tests move."""

    def __init__(self) -> None:
        self.at, self.ticks = NOW, 0.0

    def now(self) -> int:
        """Return what the test said."""
        return self.at

    def monotonic(self) -> float:
        """Return what the test said, in seconds."""
        return self.ticks


def taste() -> Interactions:
    """40 people who like even or odd things, as they are themselves: 6 of 10 each, one after the other."""
    rng = np.random.default_rng(0)
    rows = [
        (f"u{user}", f"i{item}", "like", NOW - 100_000 + 100 * turn + user)
        for user in range(N_USERS)
        for turn, item in enumerate(rng.permutation(np.arange(user % 2, N_ITEMS, 2))[:6])
    ]
    rows += [("u0", f"i{item}", "look", NOW - 50_000) for item in range(N_ITEMS)]  # every thing is known
    items = pl.DataFrame(
        {
            "item_id": [f"i{item}" for item in range(N_ITEMS)],
            "title": [f"Thing {item}" for item in range(N_ITEMS)],
            "kind": ["even" if item % 2 == 0 else "odd" for item in range(N_ITEMS)],
            "price": [float(item) for item in range(N_ITEMS)],
        }
    )
    frame = pl.DataFrame(rows, schema=["user_id", "item_id", "event", "time"], orient="row")
    return bb.read(frame, items=items, event_types=KINDS)


def ids(body: dict[str, Any]) -> list[Any]:
    """Return the items of a slate, in order."""
    return [one["item_id"] for one in body["items"]]


def event(number: int | str, item_id: Any, **more: Any) -> LogEvent:
    """Return an event of now."""
    return LogEvent(**({"event_id": f"e{number}", "event": "like", "item_id": item_id, "time": NOW} | more))


def client_of(engine: Engine, **options: Any) -> TestClient:
    """Return a client of an engine's application; it closes both when it is left."""
    return TestClient(create_app(engine, **options), base_url=BASE, raise_server_exceptions=False)
