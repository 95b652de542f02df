"""Slates: the answer to one call, as a table, and as the body that the HTTP API sends."""

from dataclasses import dataclass
from typing import Any

import polars as pl

from bowerbird.core import MissingExtraError, Reason
from bowerbird.pipeline import Step


@dataclass(frozen=True, eq=False)
class Slates:
    """One slate for each request, long: columns request, user_id, rank, item_id, title, score, rung, reason."""

    frame: pl.DataFrame
    reasons: list[list[Reason]]  # for each request, for each place; empty unless asked for
    rungs: list[str]  # who answered each request: "model", "popularity" or "none"
    propensities: list[list[float]]
    unknown_items: list[int]  # ids of each request's history that are not known here, and were dropped
    trace: tuple[Step, ...]
    model: str
    model_version: str | None

    def __len__(self) -> int:
        return len(self.rungs)

    def __str__(self) -> str:
        with pl.Config(tbl_rows=40, tbl_cols=-1, tbl_width_chars=160, fmt_str_lengths=60,
                       tbl_hide_dataframe_shape=True, tbl_hide_column_data_types=True):  # fmt: skip
            return str(self.frame)

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
        rows = self.frame.filter(pl.col("request") == request).to_dicts()
        rung = self.rungs[request]
        items = [
            {
                "item_id": row["item_id"],
                "title": row["title"],
                "position": row["rank"],
                "score": row["score"],
                "sources": [rung],
                "propensity": self.propensities[request][row["rank"] - 1],
                "reasons": [self.reasons[request][place].to_dict()] if self.reasons else [],
            }
            for place, row in enumerate(rows)
        ]
        return {
            "request_id": request_id,
            "user_id": rows[0]["user_id"] if rows else None,
            "model": self.model,
            "model_version": self.model_version,
            "rung": rung,
            "fallback": rung != "model",
            "unknown_items": self.unknown_items[request],
            "items": items,
            "timings_ms": {step.stage: round(step.ms, 3) for step in self.trace},
        }
