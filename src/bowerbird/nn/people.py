"""What people say of themselves, for models that know someone new by it: which columns of the user table are read.

A user table is not kept with a model, so what a request says is read by what the configuration remembers of it.

Shapes: n rows, M size of a vector.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Self

import numpy as np
import polars as pl

from bowerbird.core import ConfigError, RequestError, did_you_mean
from bowerbird.features.attributes import attributes
from bowerbird.features.inference import said
from bowerbird.nn.content import ContentConfig


@dataclass(frozen=True, kw_only=True)
class PeopleConfig(ContentConfig):
    """Which columns of the user table are read, too; with none named, what seem to be attributes."""

    user_attributes: tuple[str, ...] = ()  # columns of the user table: categories, tags and numbers
    user_numbers: tuple[str, ...] = ()  # those of them that hold numbers; found out where a user table is there

    def settled_on(self, users: pl.DataFrame | None) -> Self:
        """Return this configuration with its columns decided; raises `ConfigError` for unknown ones."""
        table = pl.DataFrame() if users is None else users
        for column in self.user_attributes:
            if column not in table.columns:
                raise ConfigError(
                    f'the user table has no column "{column}".{did_you_mean(column, table.columns)} '
                    f"Columns: {', '.join(table.columns) or 'none'}."
                )
        columns = self.user_attributes or said(table)["attributes"]
        numbers = tuple(name for name in columns if table[name].dtype.is_numeric())
        return replace(self, user_attributes=columns, user_numbers=numbers)

    def read_users(self, table: pl.DataFrame) -> dict[str, np.ndarray]:
        """Return what the rows of a user table say, float32 (n, M); nothing where no column is read."""
        there = [name for name in self.user_attributes if name in table.columns]
        typed = [pl.col(name).cast(pl.Float64) if name in self.user_numbers else pl.col(name) for name in there]
        return {"attributes": attributes(table.select(typed))} if there else {}

    def read_requests(self, features: Sequence[Mapping[str, Any]]) -> dict[str, np.ndarray]:
        """Return what requests say, read as a user table would be; raises `RequestError` for what cannot be read."""
        columns = self.user_attributes
        if not columns:
            raise RequestError("the model knows no attributes of people. Train it on events with a user table.")
        for name in dict.fromkeys(name for row in features for name in row):
            if name not in columns:
                close = did_you_mean(name, columns)
                raise RequestError(f'people have no attribute "{name}".{close} Known: {", ".join(columns)}.')
        table = {name: self._column(name, [row.get(name) for row in features]) for name in columns}
        return self.read_users(pl.DataFrame(table))

    def _column(self, name: str, values: list[Any]) -> pl.Series:
        if name in self.user_numbers:
            return pl.Series(name, [_number(name, value) for value in values], pl.Float64)
        if any(isinstance(value, list | tuple) for value in values):
            lists = [list(value) if isinstance(value, list | tuple) else [value] for value in values]
            return pl.Series(name, [[_text(one) for one in value] for value in lists], pl.List(pl.String))
        return pl.Series(name, [_text(value) for value in values], pl.String)


def _number(name: str, value: Any) -> float | None:
    try:
        return None if value is None or value == "" else float(value)
    except (TypeError, ValueError):
        raise RequestError(f"{name} is {value!r}; it must be a number.") from None


def _text(value: Any) -> str | None:
    """Return a value as a table's own would be written."""
    return None if value is None else str(value).lower() if isinstance(value, bool) else str(value)
