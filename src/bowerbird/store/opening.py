"""Where the database of a data directory is: the file in it, or the PostgreSQL that a file beside it names.

    DATA/store.url      postgresql://user@host/database

Every command that is given the directory finds it so. The file holds no password: that is libpq's to know, from
~/.pgpass or PGPASSWORD.
"""

from pathlib import Path
from urllib.parse import urlsplit

from bowerbird.core import ConfigError, RealWorld, World
from bowerbird.store import database, postgres
from bowerbird.store.database import FILE, Connection, Database, DatabaseError
from bowerbird.store.following import Following
from bowerbird.store.postgres import Postgres

PLACE = "store.url"
KINDS = ("postgresql://", "postgres://")


def opened(folder: Path, *, world: World | None = None) -> Database | Postgres:
    """Return the database of a data directory to read and write, made where there is none."""
    url = url_of(folder, world=world)
    return Database(folder, world=world) if url is None else Postgres(folder, url, world=world)


def followed(folder: Path, *, world: World | None = None) -> Following | Postgres:
    """Return the database of a data directory that another process writes."""
    url = url_of(folder, world=world)
    return Following(folder, world=world) if url is None else Postgres(folder, url, world=world, follow=True)


def read_only(folder: Path, *, world: World | None = None) -> Connection:
    """Return a connection to the database of a data directory that can only read; raises `DatabaseError`."""
    url = url_of(folder, world=world)
    return database.read_only(folder, world=world) if url is None else postgres.read_only(url)


def there(folder: Path, *, world: World | None = None) -> bool:
    """Return whether a data directory has a database."""
    return bool({FILE, PLACE} & set((world or RealWorld()).names(folder)))


def url_of(folder: Path, *, world: World | None = None) -> str | None:
    """Return the address of a data directory's PostgreSQL, None where its database is a file."""
    world = world or RealWorld()
    return world.read(folder / PLACE).decode().strip() if PLACE in world.names(folder) else None


def place(folder: Path, url: str, *, world: World | None = None) -> None:
    """Let the database of a data directory be in a PostgreSQL; raises `ConfigError`, and where it is elsewhere."""
    world = world or RealWorld()
    parts = urlsplit(url)
    if not url.startswith(KINDS):
        raise ConfigError(f"store is {url!r}; it must be the address of a PostgreSQL, such as postgresql:///shop.")
    if parts.password is not None or "password=" in parts.query:
        raise ConfigError("store holds a password, which others on this machine can read. Put it into ~/.pgpass.")
    old = url_of(folder, world=world)
    if old not in (None, url):
        raise DatabaseError(f"{folder} works with {old}. Take another --data-dir, or dump it and restore it there.")
    if old is None and FILE in world.names(folder):
        raise DatabaseError(
            f"{folder} holds a database of its own. Move it: bowerbird dump RUN BACKUP --data-dir {folder}, then "
            f"bowerbird restore BACKUP --run RUN2 --data-dir DATA2 --store {url}"
        )
    if old is None:
        world.make_folder(folder)
        world.write(folder / f".{PLACE}.part", f"{url}\n".encode())
        world.replace(folder / f".{PLACE}.part", folder / PLACE)
