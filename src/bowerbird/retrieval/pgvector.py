"""Top-k by inner product in a PostgreSQL with the extension `vector`, for items that many processes look through.

The vectors lie in a table under an index of neighbours (HNSW), which is followed on until enough items pass a filter
(`hnsw.iterative_scan`, pgvector 0.8 or newer): without that it would return fewer than were asked for. Where few items
pass, the table is sorted instead, and the answer is exact. Scores come from the database in float32.

Shapes: B requests, I items, D vector size, n places.
"""

from contextlib import closing
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor

from bowerbird.core import BowerbirdError, ScoreError
from bowerbird.store.postgres import connect

NEIGHBOURS, BUILDING = 16, 200  # of an item in the index, and how many are looked at for them (m, ef_construction)
LOOKED_AT = 400  # places looked at for one answer, at least (ef_search)
FEW = 0.1  # share of items let through from which on sorting them is as good as following the index
MOST_DIM = 2_000  # numbers of a vector that the index takes


class VectorsError(BowerbirdError, RuntimeError):
    """The database cannot keep vectors."""


class InPostgres:
    """The best items of a query, nearly always; made by `of`, or over a table that another process made."""

    def __init__(self, url: str, name: str) -> None:
        """`name` is that of the table: letters, digits and _."""
        self._connection, self.name = connect(url), _named(name)
        [self.n] = self._connection.execute(f"SELECT count(*) FROM {self.name}").fetchone()
        for setting in ("hnsw.iterative_scan = 'relaxed_order'", "hnsw.max_scan_tuples = 1000000", "jit = off"):
            self._connection.execute(f"SET {setting}")
        self._connection.execute(f"SET hnsw.ef_search = {LOOKED_AT}")

    @classmethod
    def of(cls, vectors: Tensor, url: str, name: str) -> Self:
        """Return what searches item vectors, float32 (I, D), which it writes into a new table, or in the place of one.

        Raises `ScoreError` where a number is not finite, `VectorsError` where the database has no extension `vector`.
        """
        dim, table = vectors.shape[1], _named(name)
        wrong = (~vectors.isfinite().all(dim=1)).nonzero()
        if len(wrong):
            raise ScoreError(f"the vector of item row {int(wrong[0])} is not finite. Train the model again.")
        if dim > MOST_DIM:
            raise VectorsError(f"a vector has {dim:,} numbers; the index of pgvector takes {MOST_DIM:,}.")
        with closing(connect(url)) as connection:
            there = "SELECT 1 FROM pg_available_extensions WHERE name = 'vector'"
            if connection.execute(there).fetchone() is None:
                raise VectorsError(f"{url} has no extension vector. Install it: apt-get install postgresql-NN-pgvector")
            connection.execute("CREATE SCHEMA IF NOT EXISTS bowerbird")
            connection.execute("CREATE EXTENSION IF NOT EXISTS vector SCHEMA bowerbird")
            connection.execute("SET statement_timeout = 0")
            with connection.raw.transaction():  # whoever searches meanwhile has the old table
                connection.execute(f"DROP TABLE IF EXISTS {table}")
                connection.execute(f"CREATE TABLE {table} (item INTEGER PRIMARY KEY, place vector({dim}) NOT NULL)")
                with connection.raw.cursor() as cursor, cursor.copy(f"COPY {table} FROM STDIN") as copy:
                    for row, vector in enumerate(vectors.detach().tolist()):
                        copy.write_row((row, _said(vector)))
                connection.execute(
                    f"CREATE INDEX ON {table} USING hnsw (place vector_ip_ops) "
                    f"WITH (m = {NEIGHBOURS}, ef_construction = {BUILDING})"
                )
            connection.execute(f"ANALYZE {table}")
        return cls(url, name)

    def search(self, query: Tensor, n: int, allowed: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Return the n best scores float32 (B, n) and their rows int64 (B, n), best first, for queries (B, D).

        With `allowed`, bool (I,), only items of those rows come. n of n come wherever there are so many; past the last
        the score is minus infinity and the row −1. Raises `ScoreError` for a query that is not finite.
        """
        asked = query.detach().numpy()
        if not np.isfinite(asked).all():
            raise ScoreError("the vector of a request is not finite. Train the model again.")
        rows = None if allowed is None else allowed.nonzero()[:, 0]
        scores = torch.full((len(asked), n), -torch.inf)
        found = torch.full((len(asked), n), -1, dtype=torch.int64)
        for place, vector in enumerate(asked.tolist()):
            best = self._best(vector, n, rows)
            scores[place, : len(best)] = torch.tensor([score for _, score in best])
            found[place, : len(best)] = torch.tensor([row for row, _ in best], dtype=torch.int64)
        order = scores.argsort(dim=1, descending=True, stable=True)  # the index is followed in about their order
        return scores.gather(1, order), found.gather(1, order)

    def _best(self, vector: list[float], n: int, rows: Tensor | None) -> list[Any]:
        """Return rows and scores of some of the best."""
        where, values = "", [_said(vector)]
        if rows is not None:
            where = "WHERE item = ANY(?)"
            values.append(rows.tolist())  # type: ignore[arg-type]
        share = 1.0 if rows is None else len(rows) / max(self.n, 1)
        exact = share <= FEW or n >= self.n * share
        sql = f"SELECT item, -(place <#> CAST(? AS vector)) FROM {self.name} {where}"
        sql += " ORDER BY 2 DESC LIMIT ?" if exact else " ORDER BY place <#> CAST(? AS vector) LIMIT ?"
        if not exact:
            values.append(values[0])
        return list(self._connection.execute(sql, (*values, n)).fetchall())

    def close(self) -> None:
        """Let go of the connection; the table stays."""
        self._connection.close()


def _said(vector: list[float]) -> str:
    return "[" + ",".join(map(repr, vector)) + "]"


def _named(name: str) -> str:
    if not (name.isidentifier() and name.isascii()):
        raise VectorsError(f"the name {name!r} is none of a table. Take letters, digits and _.")
    return f'"{name}"'  # it may be a word of SQL
