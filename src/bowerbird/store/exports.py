"""Exports: a note of every file that was written out of a run or a data directory, and of when it was fetched.

    FOLDER/exports.json

Who erases a person looks here for copies that lie elsewhere. Nobody reads the files through it.
"""

import json
from pathlib import Path
from typing import Any

from bowerbird.core import BundleError, RealWorld, World

FILE = "exports.json"


def note(folder: Path, kind: str, path: Path | str, *, version: str | None = None, world: World | None = None) -> None:
    """Note that a file of some kind was written, or fetched by somebody; the same place is noted once, by its last."""
    world = world or RealWorld()
    entry = {"kind": kind, "path": str(path), "version": version, "time": world.now()}
    kept = [one for one in noted(folder, world=world) if (one["kind"], one["path"]) != (kind, str(path))]
    world.make_folder(folder)
    scratch = folder / f".{FILE}.part"
    world.write(scratch, json.dumps([*kept, entry], indent=1, ensure_ascii=False).encode())
    world.replace(scratch, folder / FILE)


def noted(folder: Path, *, world: World | None = None) -> list[dict[str, Any]]:
    """Return what was noted, oldest first; raises `BundleError` where the file is none of ours."""
    world = world or RealWorld()
    if FILE not in world.names(folder):
        return []
    try:
        found = json.loads(world.read(folder / FILE))
        if isinstance(found, list) and all({"kind", "path", "version", "time"} <= one.keys() for one in found):
            return found
    except (OSError, ValueError, AttributeError, RecursionError):
        pass
    raise BundleError(f"{folder / FILE} is no list of exports that bowerbird wrote. Restore it, or take it away.")
