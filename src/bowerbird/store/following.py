"""A database that another process writes: it is read as it grows, and nothing is written.

It stands where `Database` does for whoever only asks.
"""

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from bowerbird.core import RealWorld, World
from bowerbird.store.database import Connection, DatabaseBroken, read_only


class Following:
    """The database of a data directory, as far as it is committed; raises `DatabaseError` where there is none yet."""

    shared = True

    def __init__(self, folder: Path, *, world: World | None = None) -> None:
        self.folder, self.world = folder, world or RealWorld()
        self.turn = threading.RLock()  # held by whoever reads on, and while something takes the place of something
        self._connection = read_only(folder, world=self.world)
        self._version = -1

    def moved(self) -> bool:
        """Return whether another process committed something since the last call; it takes microseconds."""
        version = int(self._connection.execute("PRAGMA data_version").fetchone()[0])
        moved, self._version = version != self._version, version
        return moved

    def missed(self) -> None:
        """Have `moved` say yes once more: what was to be read could not be."""
        self._version = -1

    def notices(self, since: int) -> list[tuple[int, str, int]]:
        """Return nothing: whoever writes here tells its workers itself."""
        return []

    def tell(self, connection: Connection, kind: str, number: int = 0) -> None:
        """Tell nobody: nothing is written here."""

    @contextmanager
    def reader(self) -> Iterator[Connection]:
        """Lend the connection, which sees all that was committed, to one thread at a time."""
        with self.turn:
            yield self._connection

    def write(self, work: Callable[[Connection], Any], then: Callable[[Any], None] | None = None) -> Future[Any]:
        """Raise `DatabaseBroken`: another process writes."""
        raise DatabaseBroken(f"{self.folder}: another process writes here.")

    def between(self, act: Callable[[], None]) -> None:
        """Call `act` while nobody reads on."""
        with self.turn:
            act()

    def close(self) -> None:
        """Let go of the file."""
        with self.turn:
            self._connection.close()
