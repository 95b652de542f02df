"""Connections whose disk fails when a test says so, and that tell what was asked of them."""

import sqlite3
from collections.abc import Callable
from functools import partial
from typing import Any


class Stage:
    """Errors that the next statements of a kind meet, and how often each kind was run."""

    def __init__(self) -> None:
        self.errors: dict[str, list[int]] = {}
        self.run: list[str] = []

    @property
    def connect(self) -> Callable[..., sqlite3.Connection]:
        stage = self

        class Staged(sqlite3.Connection):
            def execute(self, sql: str, parameters: Any = ()) -> sqlite3.Cursor:
                stage.run.append(sql)
                if stage.errors.get(sql):
                    error = sqlite3.OperationalError("staged")
                    error.sqlite_errorcode = stage.errors[sql].pop(0)
                    raise error
                return super().execute(sql, parameters)

        return partial(sqlite3.connect, factory=Staged)
