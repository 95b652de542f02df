"""Histories: what each person did, kept beside the bundles, never inside them, so that erasure has one place to go.

One Parquet file in the caller's ids, columns user_id, item_id, event, weight and, where known, time, oldest first.
It stands in for the event log until a server keeps one.
"""

import io
from pathlib import Path

import polars as pl

from bowerbird.core import BundleError, RealWorld, World

FILE = "histories.parquet"


def keep(run: Path, table: pl.DataFrame, *, world: World | None = None) -> None:
    """Write everybody's past, whole or not at all."""
    world = world or RealWorld()
    buffer = io.BytesIO()
    table.write_parquet(buffer)
    world.make_folder(run)
    world.write(run / f".{FILE}.part", buffer.getvalue())
    world.replace(run / f".{FILE}.part", run / FILE)


def recall(run: Path, *, world: World | None = None) -> pl.DataFrame:
    """Return everybody's past as it was kept; raises `BundleError` when it is missing or damaged."""
    world = world or RealWorld()
    try:
        return pl.read_parquet(io.BytesIO(world.read(run / FILE)))
    except FileNotFoundError:
        raise BundleError(f"{run / FILE} is missing: nobody's past is known. Restore it or train again.") from None
    except pl.exceptions.PolarsError as error:
        raise BundleError(f"{run / FILE} is damaged: {error}. Restore it or train again.") from None
