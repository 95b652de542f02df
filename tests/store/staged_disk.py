"""Connections whose disk fails when a test says so, and that tell what was asked of them."""

import sqlite3
from functools import partial
from typing import Any

from bowerbird.core import RealWorld, World


class Stage:
    """Errors that the next statements of a kind meet, and how often each kind was run."""

    def __init__(self) -> None:
        self.errors: dict[str, list[int]] = {}
        self.run: list[str] = []

    def on(self, world: World | None = None) -> World:
        """Let the connections of a world fail as the test says."""
        stage, world = self, world or RealWorld()

        class Staged(sqlite3.Connection):
            def execute(self, sql: str, parameters: Any = ()) -> sqlite3.Cursor:
                stage.run.append(sql)
                if stage.errors.get(sql):
                    error = sqlite3.OperationalError("staged")
                    error.sqlite_errorcode = stage.errors[sql].pop(0)
                    raise error
                return super().execute(sql, parameters)

        options = {"uri": True, "isolation_level": None, "check_same_thread": False, "factory": Staged}
        world.connect = partial(sqlite3.connect, **options)  # type: ignore[method-assign, arg-type]
        return world
