"""Histories: what each person did, kept beside the bundles, never inside them, so that erasure has one place to go.

One Parquet file in the caller's ids, columns user_id, item_id, event, weight and, where known, time, oldest first,
and the sha256 of its bytes beside it: Parquet alone does not notice a changed byte, and reading one may end the
process. It stands in for the event log until a server keeps one.
"""

import hashlib
import io
from pathlib import Path

import polars as pl

from bowerbird.core import BundleError, RealWorld, World

FILE, SUMS = "histories.parquet", "histories.sha256"


def keep(run: Path, table: pl.DataFrame, *, world: World | None = None) -> None:
    """Write everybody's past, whole or not at all."""
    world = world or RealWorld()
    buffer = io.BytesIO()
    table.write_parquet(buffer)
    world.make_folder(run)
    data = buffer.getvalue()
    sums = [hashlib.sha256(data).hexdigest().encode()]
    if {FILE, SUMS} <= set(world.names(run)):  # until the new file has its name, the old one counts too
        old = hashlib.sha256(world.read(run / FILE)).hexdigest().encode()
        sums += [one for one in world.read(run / SUMS).split() if one == old]
    for name, content in ((SUMS, b"\n".join(sums)), (FILE, data)):
        world.write(run / f".{name}.part", content)
        world.replace(run / f".{name}.part", run / name)


def recall(run: Path, *, world: World | None = None) -> pl.DataFrame:
    """Return everybody's past as it was kept; raises `BundleError` when it is missing or damaged."""
    world = world or RealWorld()
    try:
        data, sums = world.read(run / FILE), world.read(run / SUMS)
    except FileNotFoundError as error:
        name = Path(error.filename or FILE).name
        raise BundleError(f"{run / name} is missing: nobody's past is known. Restore it or train again.") from None
    if hashlib.sha256(data).hexdigest().encode() not in sums.split():
        raise BundleError(f"{run / FILE} was changed after it was written. Restore it or train again.")
    return pl.read_parquet(io.BytesIO(data))
