"""Answers of requests that create something, kept for a day: sent again with the same key, the first answer comes back.

What runs is known in memory only; a request that a crash interrupts can be sent again at once.
"""

import threading
from dataclasses import dataclass

from bowerbird.core import BowerbirdError
from bowerbird.store.database import Store

KEPT_S = 24 * 60 * 60
_PUT = """
    INSERT INTO answers (key, body_sha256, status, body, time) VALUES (?, ?, ?, ?, ?)
    ON CONFLICT (key) DO UPDATE
    SET body_sha256 = excluded.body_sha256, status = excluded.status, body = excluded.body, time = excluded.time
"""


class Used(BowerbirdError, ValueError):
    """The key came with another body before."""


class Running(BowerbirdError, RuntimeError):
    """The first request with this key is not answered yet."""


@dataclass(frozen=True)
class Kept:
    """An answer that was given."""

    status: int
    body: str


class Answers:
    """The answers of a data directory, by the key of the caller."""

    def __init__(self, database: Store) -> None:
        self._database, self._world = database, database.world
        self._running: dict[str, str] = {}  # the sha256 of the body, by key
        self._turn = threading.Lock()

    def begin(self, key: str, body_sha256: str) -> Kept | None:
        """Return the answer that was given, or None: then the caller acts, and calls `finish` or `forget`.

        Raises `Used` for another body under the same key, `Running` where somebody acts already.
        """
        with self._turn:
            running = self._running.get(key)
            if running is not None and running == body_sha256:
                raise Running(f"the first request with the key {key!r} is not answered yet. Try again in a moment.")
            before, kept = (running, None) if running is not None else self._find(key)
            if before is not None and before != body_sha256:
                raise Used(f"the key {key!r} came with another body before. Take a new one.")
            if kept is None:
                self._running[key] = body_sha256
            return kept

    def finish(self, key: str, status: int, body: str) -> None:
        """Keep the answer of what was begun; returns when it is on the disk."""
        now = self._world.now()
        values = (key, self._running[key], status, body, now)
        try:
            self._database.write(
                lambda connection: (
                    connection.execute("DELETE FROM answers WHERE time <= ?", (now - KEPT_S,)),
                    connection.execute(_PUT, values),
                )
            ).result()
        finally:
            self.forget(key)

    def forget(self, key: str) -> None:
        """Let a request that came to nothing be sent again."""
        with self._turn:
            self._running.pop(key, None)

    def _find(self, key: str) -> tuple[str | None, Kept | None]:
        """Return the sha256 of the body and the answer that are kept."""
        sql = "SELECT body_sha256, status, body FROM answers WHERE key = ? AND time > ?"
        with self._database.reader() as connection:
            row = connection.execute(sql, (key, self._world.now() - KEPT_S)).fetchone()
        return (None, None) if row is None else (row[0], Kept(row[1], row[2]))
