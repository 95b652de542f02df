"""Deeds: what people did, out of the log of a data directory, in the columns that `update` learns from."""

from pathlib import Path

import polars as pl

from bowerbird.store import events
from bowerbird.store.log import MERGE, SLATE
from bowerbird.store.opening import read_only

MERGES = """
    SELECT number - 1, session_id, CAST(user_id AS TEXT) FROM events
    WHERE event = ? AND number <= ? AND NOT retracted ORDER BY number
"""
OWNERS = {"offset": pl.Int64, "session_id": pl.String, "owner": pl.String}
SESSION = "session:"  # how the user of a session that became nobody's is called


def read_deeds(data: Path, start: int) -> tuple[pl.DataFrame, int]:
    """Return what was done from an offset of the log on, and the log's end, beside a server that may be writing it."""
    connection = read_only(data)
    try:
        frame = events.read(connection, start)
        merges = connection.execute(MERGES, (MERGE, start)).fetchall()
    finally:
        connection.close()
    end = start if not len(frame) else int(frame["offset"][-1]) + 1
    return deeds(frame, pl.DataFrame(merges, schema=OWNERS, orient="row")), end


def deeds(frame: pl.DataFrame, before: pl.DataFrame) -> pl.DataFrame:
    """Return user_id, item_id, event, weight and time of what people did, sessions under the names of their users.

    A session's deed is of the user that it was when it was done, or else of the first that it became; `before` are
    the merges (offset, session_id, owner) before `frame`.
    """
    own = pl.col("user_id").cast(pl.String).alias("owner")
    owners = pl.concat([before, frame.filter(pl.col("event") == MERGE).select("offset", "session_id", own)])
    done = frame.filter(~pl.col("event").is_in([SLATE, MERGE]) & pl.col("item_id").is_not_null())
    was, became = (owners.rename({"owner": name}) for name in ("was", "became"))
    done = done.join_asof(was, on="offset", by="session_id", check_sortedness=False)  # offsets grow in both
    done = done.join_asof(became, on="offset", by="session_id", strategy="forward", check_sortedness=False)
    if not done["session_id"].is_null().all():
        named = (pl.col("user_id").cast(pl.String), "was", "became", SESSION + pl.col("session_id"))
        done = done.with_columns(pl.coalesce(*named).alias("user_id"))
    return done.filter(pl.col("user_id").is_not_null()).select("user_id", "item_id", "event", "weight", "time")
