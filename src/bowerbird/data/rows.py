"""Rows: a feature table with labels, for ranking models. User, item and time are optional."""

from dataclasses import dataclass

import numpy as np
import polars as pl

from bowerbird.core import DataError


@dataclass(frozen=True, eq=False)
class Rows:
    """N rows of features and T labels each.

    `labels` is float32 (N, T) with NaN where a task was not observed; `tasks` names its T columns.
    """

    table: pl.DataFrame
    labels: np.ndarray
    tasks: tuple[str, ...]
    user: np.ndarray | None = None  # int32 (N,)
    item: np.ndarray | None = None  # int32 (N,)
    time: np.ndarray | None = None  # int64 (N,)

    def __post_init__(self) -> None:
        wanted = (self.table.height, len(self.tasks))
        if self.labels.shape != wanted:
            raise DataError(f"labels have shape {self.labels.shape}; {wanted} (rows, tasks) is needed.")

    def __len__(self) -> int:
        return self.table.height

    def take(self, keep: np.ndarray) -> "Rows":
        """Return the rows selected by a mask (N,) or an index."""

        def part(column: np.ndarray | None) -> np.ndarray | None:
            return None if column is None else column[keep]

        return Rows(
            self.table[np.arange(len(self))[keep]],
            self.labels[keep],
            self.tasks,
            part(self.user),
            part(self.item),
            part(self.time),
        )
