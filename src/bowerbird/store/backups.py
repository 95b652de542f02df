"""Backups: a copy of a server's database and of the version that it serves, in one folder, and the way back."""

import hashlib
import json
from contextlib import closing
from pathlib import Path

from bowerbird.core import BundleError, RealWorld, World
from bowerbird.store import bundles, histories, moving
from bowerbird.store.database import Database, read_only
from bowerbird.store.opening import place
from bowerbird.store.postgres import Postgres

SUMS = "sums.json"
DATABASE = "bowerbird.db"
POINTER = f"run/{bundles.POINTER}"


def take(database: Database | Postgres, run: Path, version: str, folder: Path) -> None:
    """Copy the database as it is at one moment, and one version of a run, into a new folder: whole or not at all.

    The database becomes a file of SQLite, whichever form it has.
    """
    world = database.world
    world.make_folder(folder)
    try:
        if isinstance(database, Database):
            database.backup(folder / DATABASE)
        else:
            moving.save(database, folder / DATABASE)
        copy_version(run, folder / "run", version, world=world)
        seal(folder, world=world)
    except BaseException:
        world.remove_folder(folder)
        raise


def counts(backup: Path) -> dict[str, int]:
    """Return how many rows each table of a backup holds."""
    with closing(read_only(backup, still=True)) as connection:
        return {table: connection.execute(f"SELECT count(*) FROM {table}").fetchone()[0] for table in moving.TABLES}


def seal(folder: Path, *, world: World | None = None) -> None:
    """Write the sha256 of every file of a backup beside them: with it the backup is whole."""
    world = world or RealWorld()
    sums = {str(path.relative_to(folder)): _digest(path, world) for path in sorted(folder.rglob("*")) if path.is_file()}
    world.write(folder / SUMS, json.dumps(sums, indent=1).encode())


def copy_version(run: Path, target: Path, version: str, *, world: World | None = None) -> None:
    """Copy one version of a run, with the histories that belong to it, into a run directory of its own."""
    world = world or RealWorld()
    source, place = run / "bundles" / version, target / "bundles" / version
    world.make_folder(place)
    for name in world.names(source):
        world.write(place / name, world.read(source / name))
    histories.keep(target, version, histories.recall(run, version, world=world), world=world)
    bundles.point(target, version, world=world)


def restore(backup: Path, run: Path, data: Path, *, store: str | None = None, world: World | None = None) -> str:
    """Put a backup in place and return its version; raises `BundleError` unless every byte is as it was written.

    With `store`, the rows go into the empty PostgreSQL of that address, and `data` names it.
    """
    world = world or RealWorld()
    for folder in (run, data):
        if world.names(folder):
            raise BundleError(f"{folder} holds something already. Restore into directories that are empty or absent.")
    try:
        sums = json.loads(world.read(backup / SUMS))
    except (OSError, ValueError, RecursionError):
        sums = {}
    if not isinstance(sums, dict) or not {DATABASE, POINTER} <= sums.keys():
        raise BundleError(f"{backup / SUMS} is missing or names no database and no version: this is no whole backup.")
    for name, sha256 in sums.items():
        if ".." in Path(name).parts or Path(name).is_absolute():
            raise BundleError(f"{backup / SUMS} names {name!r}, which lies elsewhere.")
        try:
            whole = _digest(backup / name, world) == sha256
        except (OSError, ValueError):  # the second: a name that no file can have
            whole = False
        if not whole:
            raise BundleError(f"{backup / name} is missing or was changed. Take another backup.")
    if store is not None:
        moving.load(backup / DATABASE, store)
        place(data, store, world=world)
        del sums[DATABASE]
    for name in sorted(sums, key=lambda name: name == POINTER):  # a run that is cut off in between names no version
        first, *rest = Path(name).parts
        target = data / first if not rest else run.joinpath(*rest)
        world.make_folder(target.parent)
        world.write(target, world.read(backup / name))
    return world.read(run / bundles.POINTER).decode().strip()


def _digest(path: Path, world: World) -> str:
    return hashlib.sha256(world.read(path)).hexdigest()
