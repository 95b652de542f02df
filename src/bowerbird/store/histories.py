"""Histories: what each person did, kept beside the bundles, never inside them, so that erasure has one place to go.

    RUN/histories/000001/{histories.parquet, histories.sha256}

One Parquet file for each version, in its own rows, columns user, item, event, weight and, where known, time, oldest
first: a server reads them in a second, where ids would take half a minute. Beside it lies the sha256 of its bytes, as
Parquet alone does not notice a changed byte, and reading one may end the process. An older version thus answers from
what it knew; what came later is in the event log, from the version's `log_offset` on.

Runs that were written before versions had histories of their own hold one pair of files in RUN, which is read for
versions without their own, and goes with the last of them.
"""

import hashlib
import io
from collections.abc import Sequence
from pathlib import Path

import polars as pl

from bowerbird.core import BundleError, RealWorld, World
from bowerbird.store import contents

FOLDER, FILE, SUMS = "histories", "histories.parquet", "histories.sha256"


def keep(run: Path, version: str, table: pl.DataFrame, *, world: World | None = None) -> None:
    """Write everybody's past as a version knows it, whole or not at all; an earlier one of it is replaced."""
    world = world or RealWorld()
    buffer = io.BytesIO()
    table.write_parquet(buffer)
    folder, data = run / FOLDER / version, buffer.getvalue()
    world.make_folder(folder)
    sums = [hashlib.sha256(data).hexdigest().encode()]
    if {FILE, SUMS} <= set(world.names(folder)):  # until the new file has its name, the old one counts too
        old = hashlib.sha256(world.read(folder / FILE)).hexdigest().encode()
        sums += [one for one in world.read(folder / SUMS).split() if one == old]
    for name, content in ((SUMS, b"\n".join(sums)), (FILE, data)):
        world.write(folder / f".{name}.part", content)
        world.replace(folder / f".{name}.part", folder / name)


def recall(run: Path, version: str, *, world: World | None = None) -> pl.DataFrame:
    """Return everybody's past as a version knows it; raises `BundleError` when it is missing or damaged."""
    world = world or RealWorld()
    shared = version not in world.names(run / FOLDER) and FILE in world.names(run)
    folder = run if shared else run / FOLDER / version
    try:
        if folder.is_symlink():
            raise BundleError(f"{folder} is a link. Put the histories themselves in its place.")
        data, sums = world.read(folder / FILE), world.read(folder / SUMS)
    except FileNotFoundError as error:
        name = Path(error.filename or FILE).name
        raise BundleError(f"{folder / name} is missing: nobody's past is known. Restore it or train again.") from None
    except (OSError, MemoryError) as error:
        raise BundleError(f"{folder / FILE} cannot be read ({error}). Restore it or train again.") from None
    if hashlib.sha256(data).hexdigest().encode() not in sums.split():
        raise BundleError(f"{folder / FILE} was changed after it was written. Restore it or train again.")
    return contents.table(data, folder / FILE)


def prune(run: Path, versions: Sequence[str], *, world: World | None = None) -> None:
    """Keep the histories of these versions only, and the shared ones of old for as long as one of them needs them."""
    world = world or RealWorld()
    there, gone = set(world.names(run / FOLDER)), run / ".histories.gone"
    for name in there - set(versions):
        world.remove_folder(run / FOLDER / name)
    if set(versions) <= there and FILE in world.names(run):
        world.make_folder(gone)
        for name in (SUMS, FILE):  # what says that there is something to do goes last
            if name in world.names(run):
                world.replace(run / name, gone / name)
    world.remove_folder(gone)
