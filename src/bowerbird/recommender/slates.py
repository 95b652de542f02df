"""Slates: the answer to one call, as lists of ids, as a table, and as the body that the HTTP API sends."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import polars as pl

from bowerbird.core import MissingExtraError, Reason
from bowerbird.core.ids import Ids
from bowerbird.pipeline import Slate


@dataclass(frozen=True, eq=False)
class Slates:
    """One slate for each request; what people read is made of it when they ask."""

    slate: Slate  # in rows
    item_ids: Ids
    titles: pl.Series  # what to call each item before people, null where only its id is known
    users: Sequence[Any] | None  # who asked, None for requests of nobody known
    reasons: list[list[tuple[Reason, ...]]]  # for each request, for each place, main ones first; empty unless asked for
    rungs: list[str]  # who answered each request: "model", "popularity", "content" or "none"
    unknown_items: list[int]  # ids of each request's history that are not known here, and were dropped
    model: str
    model_version: str | None

    def __len__(self) -> int:
        return len(self.rungs)

    def __str__(self) -> str:
        with pl.Config(tbl_rows=40, tbl_cols=-1, tbl_width_chars=160, fmt_str_lengths=60,
                       tbl_hide_dataframe_shape=True, tbl_hide_column_data_types=True):  # fmt: skip
            return str(self.frame)

    @cached_property
    def ids(self) -> list[list[Any]]:
        """The item ids of each request, best first: k of them, or as many as there are."""
        return [[self.item_ids[row] for row in rows if row >= 0] for rows in self.slate.items.tolist()]

    @property
    def propensities(self) -> list[list[float]]:
        """The chance with which each place of each slate was filled as it is."""
        values: list[list[float]] = self.slate.propensity.tolist()
        return values

    @cached_property
    def frame(self) -> pl.DataFrame:
        """All slates, long: columns request, user_id, rank, item_id, title, score, rung, reason: the main one."""
        items = self.slate.items.cpu().numpy()
        request, place = np.nonzero(items >= 0)  # places of a slate fill from the front
        rows = items[request, place]
        asked = pl.Series("user_id", self.users if self.users is not None else [None] * len(self), strict=False)
        texts = pl.Series([one[0].text for mine in self.reasons for one in mine], dtype=pl.String)
        return pl.DataFrame(
            {
                "request": request.astype(np.int32),
                "user_id": asked.gather(request),
                "rank": (place + 1).astype(np.int32),
                "item_id": self.item_ids.names(rows),
                "title": self.titles.gather(rows),
                "score": self.slate.scores.cpu().numpy()[request, place],
                "rung": pl.Series(self.rungs, dtype=pl.String).gather(request),
                "reason": texts if self.reasons else pl.repeat(None, len(rows), dtype=pl.String, eager=True),
            }
        )

    def to_polars(self) -> pl.DataFrame:
        """Return the table as it is."""
        return self.frame

    def to_pandas(self) -> Any:
        """Return the table as a pandas frame; raises `MissingExtraError` without pandas."""
        try:
            return self.frame.to_pandas()
        except ImportError:
            raise MissingExtraError("to_pandas needs pandas. Install it with: pip install pandas") from None

    def body(self, request_id: str, request: int = 0) -> dict[str, Any]:
        """Return one request's answer as the body of `POST /v1/recommendations`."""
        rung, slate = self.rungs[request], self.slate
        columns = (column[request].tolist() for column in (slate.items, slate.scores, slate.propensity))
        items = [
            {
                "item_id": self.item_ids[row],
                "title": self.titles[row],
                "position": place + 1,
                "score": score,
                "sources": [rung],
                "propensity": propensity,
                "reasons": [one.to_dict() for one in self.reasons[request][place]] if self.reasons else [],
                "properties": {},
            }
            for place, (row, score, propensity) in enumerate(zip(*columns, strict=True))
            if row >= 0
        ]
        return {
            "request_id": request_id,
            "user_id": None if self.users is None or not items else self.users[request],
            "scenario": None,
            "model": self.model,
            "model_version": self.model_version,
            "policy": "greedy",
            "rung": rung,
            "fallback": [] if rung in ("model", "content") else ["cold"],
            "stale": False,
            "experiment": None,
            "unknown_items": self.unknown_items[request],
            "items": items,
            "trace": [
                {"stage": step.stage, "candidates": step.candidates, "ms": round(step.ms, 3)} for step in slate.trace
            ],
            "timings_ms": {step.stage: round(step.ms, 3) for step in slate.trace},
        }
