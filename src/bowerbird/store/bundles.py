"""Bundles: a model on disk, published atomically, checksummed, with nothing in it that could be executed.

A run directory holds numbered versions and one pointer:

    RUN/bundles/000001/{manifest.json, weights.safetensors, *.parquet}
    RUN/current
    RUN/lock

A version is written beside its place and renamed into it; the pointer follows. A reader sees the old version or the
new one. Who publishes holds the lock, so that two of them take turns. A bundle holds no event and no history of a
person; those stay in the run's history table.

The format is a number, and the last two are read: whoever raises FORMAT writes what turns the format before into the
new one, and drops the one before that.
"""

import hashlib
import io
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from safetensors import SafetensorError
from safetensors.numpy import load, save

from bowerbird.core import BundleError, RealWorld, World

FORMAT = 1
KEEP = 3  # versions; older ones are removed after a publication
WAIT_S = 60.0  # for another process that publishes
PAUSE_S = 0.05
MANIFEST, WEIGHTS, POINTER, LOCK = "manifest.json", "weights.safetensors", "current", "lock"


@dataclass(frozen=True)
class Bundle:
    """One version, read whole."""

    version: str
    manifest: dict[str, Any]
    tensors: dict[str, np.ndarray]
    tables: dict[str, pl.DataFrame]


MIGRATIONS: dict[int, Callable[[Bundle], Bundle]] = {}  # by format: what makes a bundle of it one of the next


@contextmanager
def locked(run: Path, *, world: World | None = None) -> Iterator[None]:
    """Hold a run directory for one publication; raises `BundleError` when another one does not end in time."""
    world = world or RealWorld()
    world.make_folder(run)
    end = world.monotonic() + WAIT_S
    while (let_go := world.lock(run / LOCK)) is None:
        if world.monotonic() >= end:
            raise BundleError(
                f"{run}: another process has been publishing here for {WAIT_S:.0f} s. Wait for it or end it, then save "
                "again, or save into another run directory."
            )
        world.sleep(PAUSE_S)
    try:
        yield
    finally:
        let_go()


def publish(
    run: Path,
    manifest: dict[str, Any],
    tensors: dict[str, np.ndarray],
    tables: dict[str, pl.DataFrame],
    *,
    world: World | None = None,
) -> str:
    """Write a new version and make it the current one; return its name. Whole or not at all, and inside `locked`."""
    world = world or RealWorld()
    folder = run / "bundles"
    world.make_folder(folder)
    numbers = [int(name) for name in world.names(folder) if name.isdigit()]
    version = f"{max(numbers, default=0) + 1:06d}"
    scratch = folder / f".{version}.part"
    world.remove_folder(scratch)
    world.make_folder(scratch)
    files = {WEIGHTS: save({name: np.ascontiguousarray(array) for name, array in tensors.items()})}
    for name, table in tables.items():
        buffer = io.BytesIO()
        table.write_parquet(buffer)
        files[f"{name}.parquet"] = buffer.getvalue()
    for name, data in files.items():
        world.write(scratch / name, data)
    whole = manifest | {
        "format": FORMAT,
        "version": version,
        "created": world.now(),
        "files": {name: hashlib.sha256(data).hexdigest() for name, data in files.items()},
    }
    whole["sha256"] = _digest(whole)
    world.write(scratch / MANIFEST, _text(whole))
    world.replace(scratch, folder / version)
    point(run, version, world=world)
    for number in sorted(numbers)[: -(KEEP - 1) or None]:
        world.remove_folder(folder / f"{number:06d}")
    return version


def point(run: Path, version: str, *, world: World | None = None) -> None:
    """Make a version the current one: what publication, promotion and rollback come down to."""
    world = world or RealWorld()
    if version not in world.names(run / "bundles"):
        raise BundleError(f"{run}: there is no version {version}.")
    scratch = run / f".{POINTER}.part"
    world.write(scratch, version.encode())
    world.replace(scratch, run / POINTER)


def read(run: Path, *, version: str | None = None, world: World | None = None) -> Bundle:
    """Return the current version, or a named one; raises `BundleError` unless every byte is as written."""
    world = world or RealWorld()
    folder = _folder(run, version, world)
    manifest = _manifest(folder, world)
    data = {name: _checked(folder, name, sha256, world) for name, sha256 in manifest["files"].items()}
    try:
        tensors = load(data.pop(WEIGHTS))
        tables = {name.removesuffix(".parquet"): pl.read_parquet(io.BytesIO(one)) for name, one in data.items()}
    except (SafetensorError, pl.exceptions.PolarsError, KeyError) as error:
        raise BundleError(f"{folder}: {error}") from None
    bundle = Bundle(folder.name, manifest, tensors, tables)
    return bundle if manifest["format"] == FORMAT else MIGRATIONS[manifest["format"]](bundle)


def kind_of(run: Path, *, world: World | None = None) -> str:
    """Return what the current version of a run holds: "rows" for a predictor, else "recommender"."""
    world = world or RealWorld()
    folder = _folder(run, None, world)
    return str(_manifest(folder, world).get("kind", "recommender"))


def _folder(run: Path, version: str | None, world: World) -> Path:
    """Return where a version lies, the current one where none is named."""
    if version is None:
        if POINTER not in world.names(run):
            raise BundleError(f"{run}: this is not a run directory. Make one with: bowerbird train … --out {run}")
        version = world.read(run / POINTER).decode(errors="replace").strip()
    if version not in world.names(run / "bundles"):
        raise BundleError(f"{run}: version {version} is gone. Point to another one of {world.names(run / 'bundles')}.")
    return run / "bundles" / version


def _manifest(folder: Path, world: World) -> dict[str, Any]:
    mend = "Restore it from a backup or train again."
    try:
        data = world.read(folder / MANIFEST)
        manifest = json.loads(data)
        same = _text(manifest) == data  # a digest of what was parsed does not see spaces
        written = manifest.pop("sha256")
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        raise BundleError(f"{folder / MANIFEST} cannot be read. {mend}") from None
    if not same or _digest(manifest) != written:
        raise BundleError(f"{folder / MANIFEST} was changed after it was written. {mend}")
    if manifest["format"] not in (FORMAT, *MIGRATIONS):
        reads = " and ".join(map(str, sorted((FORMAT, *MIGRATIONS))))
        writer = manifest.get("versions", {}).get("bowerbird")
        mend = f'Read it with: pip install "bowerbird=={writer}"' if writer else "Read it with the one that wrote it"
        raise BundleError(
            f"{folder}: the bundle has format {manifest['format']}; this bowerbird reads {reads}. "
            f"{mend}, or train again."
        )
    return dict(manifest)


def _checked(folder: Path, name: str, sha256: str, world: World) -> bytes:
    try:
        data = world.read(folder / name)
    except OSError:
        raise BundleError(f"{folder / name} is missing. Restore it from a backup or train again.") from None
    if hashlib.sha256(data).hexdigest() != sha256:
        raise BundleError(f"{folder / name} was changed after it was written. Restore it or train again.")
    return data


def _text(manifest: dict[str, Any]) -> bytes:
    return json.dumps(manifest, indent=1, ensure_ascii=False).encode()


def _digest(manifest: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(manifest, sort_keys=True, ensure_ascii=False).encode()).hexdigest()
