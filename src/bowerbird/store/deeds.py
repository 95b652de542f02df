"""Deeds: what people did, out of the log of a data directory, in the columns that `update` learns from."""

from pathlib import Path

import polars as pl

from bowerbird.store import events
from bowerbird.store.database import read_only
from bowerbird.store.log import MERGE, SLATE

SESSION = "session:"  # how the user of a session that became nobody's is called


def read_deeds(data: Path, start: int) -> tuple[pl.DataFrame, int]:
    """Return what was done from an offset of the log on, and the log's end, beside a server that may be writing it."""
    connection = read_only(data)
    try:
        frame = events.read(connection, start)
    finally:
        connection.close()
    end = start if not len(frame) else int(frame["offset"][-1]) + 1
    return deeds(frame), end


def deeds(frame: pl.DataFrame) -> pl.DataFrame:
    """Return user_id, item_id, event, weight and time of what people did; a session's deeds become its user's."""
    owners = frame.filter(pl.col("event") == MERGE).select("session_id", pl.col("user_id").alias("owner"))
    done = frame.filter(~pl.col("event").is_in([SLATE, MERGE]) & pl.col("item_id").is_not_null())
    done = done.join(owners.unique("session_id", keep="last"), on="session_id", how="left", maintain_order="left")
    if not done["session_id"].is_null().all():
        done = done.with_columns(pl.col("user_id", "owner").cast(pl.String))
        done = done.with_columns(pl.coalesce("user_id", "owner", SESSION + pl.col("session_id")).alias("user_id"))
    return done.filter(pl.col("user_id").is_not_null()).select("user_id", "item_id", "event", "weight", "time")
