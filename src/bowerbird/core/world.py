"""The outside world: files, clock, sleep and randomness, behind one door so that time and faults can be staged.

`store`, `pipeline` and `serving` reach the outside only through a `World`; tests and simulators pass their own.
"""

import errno
import os
import secrets
import shutil
import sqlite3
import stat
import time
from collections.abc import Callable
from pathlib import Path
from typing import Protocol


class World(Protocol):
    """What the product needs from its surroundings."""

    def now(self) -> int:
        """Return seconds since 1970, UTC."""
        ...

    def monotonic(self) -> float:
        """Return seconds of a clock that never goes back; only differences mean something."""
        ...

    def sleep(self, seconds: float) -> None:
        """Return after at least `seconds`."""
        ...

    def token(self) -> str:
        """Return a new unguessable id of 26 characters."""
        ...

    def read(self, path: Path) -> bytes:
        """Return a file's bytes; raises `FileNotFoundError`, and `OSError` for a link, a folder, a pipe or a device."""
        ...

    def write(self, path: Path, data: bytes) -> None:
        """Write a new file and return only when its bytes would survive a power cut."""
        ...

    def replace(self, old: Path, new: Path) -> None:
        """Atomically give `old` the name `new`, and return when that would survive a power cut."""
        ...

    def names(self, folder: Path) -> list[str]:
        """Return the sorted names in a folder; an absent folder is empty."""
        ...

    def make_folder(self, path: Path) -> None:
        """Make a folder and its parents; one that exists already is fine."""
        ...

    def remove_folder(self, path: Path) -> None:
        """Remove a folder and what is in it; an absent one is fine."""
        ...

    def lock(self, path: Path) -> Callable[[], None] | None:
        """Take a file, made where absent, for this holder alone; return how to let go, or None when it is taken.

        The lock ends with the process, however that ends.
        """
        ...

    def connect(self, address: str) -> sqlite3.Connection:
        """Open the SQLite database of a `file:` address, for one thread at a time, without implied transactions."""
        ...


class RealWorld:
    """The operating system."""

    def now(self) -> int:
        """Return seconds since 1970, UTC."""
        return int(time.time())

    def monotonic(self) -> float:
        """Return seconds of a clock that never goes back."""
        return time.perf_counter()

    def sleep(self, seconds: float) -> None:
        """Return after at least `seconds`."""
        time.sleep(seconds)

    def token(self) -> str:
        """Return a new unguessable id of 26 characters."""
        return secrets.token_hex(13)

    def read(self, path: Path) -> bytes:
        """Return a file's bytes; what is no file is neither followed nor waited for."""
        handle = os.open(path, os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0))
        with open(handle, "rb") as file:
            if not stat.S_ISREG(os.fstat(handle).st_mode):
                raise OSError(errno.EINVAL, "this is no file", str(path))
            return file.read()

    def write(self, path: Path, data: bytes) -> None:
        """Write and sync a new file and its name."""
        with open(path, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        _sync(path.parent)

    def replace(self, old: Path, new: Path) -> None:
        """Rename, then sync the folder that holds the name."""
        os.replace(old, new)
        _sync(new.parent)

    def names(self, folder: Path) -> list[str]:
        """Return the sorted names in a folder."""
        return sorted(os.listdir(folder)) if folder.is_dir() else []

    def make_folder(self, path: Path) -> None:
        """Make a folder and its parents."""
        path.mkdir(parents=True, exist_ok=True)

    def remove_folder(self, path: Path) -> None:
        """Remove a folder and what is in it."""
        shutil.rmtree(path, ignore_errors=True)

    def lock(self, path: Path) -> Callable[[], None] | None:
        """Take a file for this holder alone; return how to let go, or None when it is taken."""
        import fcntl  # not everywhere, and nothing else needs it

        handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(handle)
            return None
        return lambda: os.close(handle)

    def connect(self, address: str) -> sqlite3.Connection:
        """Open the SQLite database of a `file:` address."""
        return sqlite3.connect(address, uri=True, isolation_level=None, check_same_thread=False)


def _sync(folder: Path) -> None:
    """Make the names in a folder survive a power cut."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
