"""Bundles: a model on disk, published atomically, checksummed, with nothing in it that could be executed.

A run directory holds numbered versions and one pointer:

    RUN/bundles/000001/{manifest.json, weights.safetensors, *.parquet}, and optimiser.safetensors of what was trained
    RUN/histories/000001/{histories.parquet, histories.sha256}, see `store.histories`
    RUN/current
    RUN/retired, where versions were taken away for good
    RUN/lock

A version is written beside its place and renamed into it; the pointer follows. A reader sees the old version or the
new one. Who publishes holds the lock, so that two of them take turns. A bundle holds no event and no history of a
person; those stay in the run's histories.

The format is a number, and the last two are read: whoever raises FORMAT writes what turns the format before into the
new one, and drops the one before that.
"""

import hashlib
import io
import json
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from safetensors.numpy import save

from bowerbird.core import BundleError, RealWorld, World
from bowerbird.store import contents

FORMAT = 2
KEEP = 3  # versions: the one that was served before, and the newest; others are removed after a publication
WAIT_S = 60.0  # for another process that publishes
PAUSE_S = 0.05
MANIFEST, WEIGHTS, OPTIMISER = "manifest.json", "weights.safetensors", "optimiser.safetensors"
POINTER, LOCK, RETIRED = "current", "lock", "retired"
TABLE = re.compile(r"[a-z0-9_]{1,64}\.parquet")  # no other files are read, and none elsewhere
SHAPE: dict[str, tuple[type, ...]] = {  # what a manifest says in which type, where it says it
    "format": (int,), "files": (dict,), "created": (int,), "seed": (int,), "log_offset": (int,), "events": (list,),
    "config": (dict,), "schema": (dict,), "model": (str,), "origin": (str,), "parent": (str, type(None)),
    "measured": (dict, type(None)), "training": (dict, type(None)), "versions": (dict, type(None)),
    "shards": (dict, type(None)),
}  # fmt: skip


@dataclass(frozen=True)
class Bundle:
    """One version, read whole."""

    version: str
    manifest: dict[str, Any]
    tensors: dict[str, np.ndarray]
    tables: dict[str, pl.DataFrame]
    moments: dict[str, np.ndarray] = field(default_factory=dict)  # of the optimiser, where they were asked for


MIGRATIONS: dict[int, Callable[[Bundle], Bundle]] = {  # by format: what makes a bundle of it one of the next
    1: lambda bundle: bundle,  # it has no moments; `store.histories` knows where its histories lie
}


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
    moments: dict[str, np.ndarray] | None = None,
    world: World | None = None,
) -> str:
    """Write a new version and make it the current one; return its name. Whole or not at all, and inside `locked`.

    `moments` are those of the optimiser: with them, training goes on. Raises `BundleError` for what was learnt from a
    version that is retired by now.
    """
    world = world or RealWorld()
    if manifest.get("parent") in retired(run, world=world):
        raise BundleError(
            f"{run}: version {manifest['parent']}, from which this one was learnt, was retired meanwhile: it knew "
            "somebody who is erased. Load the current version and learn again."
        )
    folder = run / "bundles"
    world.make_folder(folder)
    there, version = versions(run, world=world), next_version(run, world=world)
    served = current(run, world=world) if POINTER in world.names(run) else None
    scratch = folder / f".{version}.part"
    world.remove_folder(scratch)
    world.make_folder(scratch)
    files = {WEIGHTS: _tensors(tensors)} | ({OPTIMISER: _tensors(moments)} if moments else {})
    for name, table in tables.items():
        buffer = io.BytesIO()
        contents.plain(table).write_parquet(buffer)
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
    for name in sorted(there, key=lambda name: (name == served, name))[: -(KEEP - 1)]:
        world.remove_folder(folder / name)
    return version


def versions(run: Path, *, world: World | None = None) -> list[str]:
    """Return the versions that are there, oldest first."""
    names = (world or RealWorld()).names(run / "bundles")
    return [name for name in names if name.isascii() and name.isdigit()]


def next_version(run: Path, *, world: World | None = None) -> str:
    """Return the name that `publish` gives the next version; it stays so inside `locked`."""
    there = (*versions(run, world=world), *retired(run, world=world))
    return f"{max(map(int, there), default=0) + 1:06d}"


def retired(run: Path, *, world: World | None = None) -> list[str]:
    """Return the versions that were taken away for good; their names are not used again."""
    world = world or RealWorld()
    return world.read(run / RETIRED).decode().split() if RETIRED in world.names(run) else []


def retire(run: Path, names: Sequence[str], *, world: World | None = None) -> None:
    """Take versions away for good, inside `locked`: nothing that was learnt from them is published any more.

    Raises `BundleError` for the current one, and where one cannot be removed.
    """
    world = world or RealWorld()
    if current(run, world=world) in names:
        raise BundleError(f"{run}: version {current(run, world=world)} is the current one. Publish another one first.")
    if set(names) - set(retired(run, world=world)):
        scratch = run / f".{RETIRED}.part"
        world.write(scratch, "\n".join(sorted({*retired(run, world=world), *names})).encode())
        world.replace(scratch, run / RETIRED)
    for name in names:
        world.remove_folder(run / "bundles" / name)
    if left := sorted(set(names) & set(versions(run, world=world))):
        raise BundleError(f"{run / 'bundles' / left[0]} cannot be removed. Remove it by hand, and erase again.")


def current(run: Path, *, world: World | None = None) -> str:
    """Return the version that is loaded where none is named; raises `BundleError` for a folder that is no run."""
    world = world or RealWorld()
    if POINTER not in world.names(run):
        raise BundleError(f"{run}: this is not a run directory. Make one with: bowerbird train … --out {run}")
    try:
        return world.read(run / POINTER).decode(errors="replace").strip()
    except OSError as error:
        raise BundleError(f"{run / POINTER} cannot be read: {error.strerror}. Promote a version.") from None


def before(run: Path, version: str, *, world: World | None = None) -> str:
    """Return the version that a version was made from, or else the one before it; raises `BundleError` without one."""
    there = versions(run, world=world)
    older = [name for name in there if name < version]
    if not older:
        raise BundleError(f"{run}: there is no version before {version} to go back to.")
    parent = manifest_of(run, version, world=world).get("parent") if version in there else None
    return str(parent) if parent in older else older[-1]


def point(run: Path, version: str, *, world: World | None = None) -> None:
    """Make a version the current one: what publication, promotion and rollback come down to."""
    world = world or RealWorld()
    if version not in versions(run, world=world):
        raise BundleError(f"{run}: there is no version {version}.")
    scratch = run / f".{POINTER}.part"
    world.write(scratch, version.encode())
    world.replace(scratch, run / POINTER)


def read(run: Path, *, version: str | None = None, moments: bool = False, world: World | None = None) -> Bundle:
    """Return the current version, or a named one; raises `BundleError` unless every byte is as written.

    The optimiser's moments, twice as large as the weights, are only read where they are asked for.
    """
    world = world or RealWorld()
    folder = _folder(run, version, world)
    manifest = _manifest(folder, world)
    wanted = {name: sha256 for name, sha256 in manifest["files"].items() if moments or name != OPTIMISER}
    data = {name: _checked(folder, name, sha256, world) for name, sha256 in wanted.items()}
    tensors, kept = contents.arrays(data.pop(WEIGHTS), folder / WEIGHTS), data.pop(OPTIMISER, None)
    learnt = {} if kept is None else contents.arrays(kept, folder / OPTIMISER)
    tables = {name.removesuffix(".parquet"): contents.table(one, folder / name) for name, one in data.items()}
    bundle = Bundle(folder.name, manifest, tensors, tables, learnt)
    return bundle if manifest["format"] == FORMAT else MIGRATIONS[manifest["format"]](bundle)


def manifest_of(run: Path, version: str | None = None, *, world: World | None = None) -> dict[str, Any]:
    """Return what the current version, or a named one, says of itself; raises `BundleError` where it was changed."""
    world = world or RealWorld()
    return _manifest(_folder(run, version, world), world)


def kind_of(run: Path, version: str | None = None, *, world: World | None = None) -> str:
    """Return what a version holds: "rows" for a predictor, else "recommender"."""
    return str(manifest_of(run, version, world=world).get("kind", "recommender"))


def _folder(run: Path, version: str | None, world: World) -> Path:
    """Return where a version lies, the current one where none is named."""
    if version is None:
        version = current(run, world=world)
    there = versions(run, world=world)
    if version not in there:
        raise BundleError(f"{run}: version {version[:80]} is gone. Point to another one of {there}.")
    folder = run / "bundles" / version
    if folder.is_symlink():
        raise BundleError(f"{folder} is a link. Put the version itself in its place.")
    return folder


def _manifest(folder: Path, world: World) -> dict[str, Any]:
    mend = "Restore it from a backup or train again."
    try:
        data = world.read(folder / MANIFEST)
        manifest = json.loads(data)
        same = _text(manifest) == data  # a digest of what was parsed does not see spaces
        written = manifest.pop("sha256")
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError, MemoryError):
        raise BundleError(f"{folder / MANIFEST} cannot be read. {mend}") from None
    if not same or _digest(manifest) != written:
        raise BundleError(f"{folder / MANIFEST} was changed after it was written. {mend}")
    _check(manifest, folder)
    if manifest["format"] not in (FORMAT, *MIGRATIONS):
        reads = " and ".join(map(str, sorted((FORMAT, *MIGRATIONS))))
        writer = (manifest.get("versions") or {}).get("bowerbird")
        mend = f'Read it with: pip install "bowerbird=={writer}"' if writer else "Read it with the one that wrote it"
        raise BundleError(
            f"{folder}: the bundle has format {manifest['format']}; this bowerbird reads {reads}. "
            f"{mend}, or train again."
        )
    return dict(manifest)


def _check(manifest: dict[str, Any], folder: Path) -> None:
    """Raise `BundleError` unless a manifest is one, and names only files that a bundle has."""
    for key, kinds in SHAPE.items():
        if key not in manifest and key in ("format", "files"):
            raise BundleError(f"{folder / MANIFEST} says nothing of {key}. Restore it from a backup or train again.")
        if key in manifest and type(manifest[key]) not in kinds:
            kind = type(manifest[key]).__name__
            raise BundleError(f"{folder / MANIFEST}: {key} is of type {kind}. Restore it from a backup or train again.")
    strange = [name for name in manifest["files"] if name not in (WEIGHTS, OPTIMISER) and not TABLE.fullmatch(name)]
    if strange or WEIGHTS not in manifest["files"]:
        what = f"names {strange[0][:80]!r}, which no bundle has" if strange else f"names no {WEIGHTS}"
        raise BundleError(f"{folder / MANIFEST} {what}. Restore it from a backup or train again.")


def _checked(folder: Path, name: str, sha256: str, world: World) -> bytes:
    try:
        data = world.read(folder / name)
    except FileNotFoundError:
        raise BundleError(f"{folder / name} is missing. Restore it from a backup or train again.") from None
    except (OSError, MemoryError) as error:
        raise BundleError(
            f"{folder / name} cannot be read ({error}). Restore it from a backup or train again."
        ) from None
    if hashlib.sha256(data).hexdigest() != sha256:
        raise BundleError(f"{folder / name} was changed after it was written. Restore it or train again.")
    return data


def _tensors(tensors: dict[str, np.ndarray]) -> bytes:
    return save({name: np.asarray(array, order="C") for name, array in tensors.items()})


def _text(manifest: dict[str, Any]) -> bytes:
    return json.dumps(manifest, indent=1, ensure_ascii=False).encode()


def _digest(manifest: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(manifest, sort_keys=True, ensure_ascii=False).encode()).hexdigest()
