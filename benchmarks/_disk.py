"""A disk to stage faults on: what of SQLite's files a power cut leaves, and errors where a test wants them.

It stands below the SQLite that the product itself uses, as a VFS around that of the operating system, so that nothing
of it is imitated but the cut: what was not synced is lost, in part or as a whole, down to sectors of 512 bytes. A sync
that fails leaves what it should have synced lost for good, as Linux does it. Names that came and went are certain once
SQLite syncs the folder, which it does with the first sync of a journal; until then a new file may not be there, and a
removed one may be. Shared memory (-shm) does not survive.
"""

import _sqlite3
import ctypes
import sqlite3
from collections.abc import Callable
from ctypes import CFUNCTYPE, POINTER, Structure, addressof, c_char_p, c_int, c_int64, c_void_p, cast
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

SECTOR = 512
FULL, IOERR_WRITE, IOERR_FSYNC = sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR_WRITE, sqlite3.SQLITE_IOERR_FSYNC
NAME = b"staged"

_WRITE = CFUNCTYPE(c_int, c_void_p, c_void_p, c_int, c_int64)
_TRUNCATE = CFUNCTYPE(c_int, c_void_p, c_int64)
_SYNC = CFUNCTYPE(c_int, c_void_p, c_int)
_OPEN = CFUNCTYPE(c_int, c_void_p, c_void_p, c_void_p, c_int, c_void_p)  # the path stays where it is: files keep it
_DELETE = CFUNCTYPE(c_int, c_void_p, c_void_p, c_int)


class _Methods(Structure):  # sqlite3_io_methods, version 3
    _fields_ = [
        ("iVersion", c_int), ("xClose", c_void_p), ("xRead", c_void_p), ("xWrite", _WRITE), ("xTruncate", _TRUNCATE),
        ("xSync", _SYNC),
        *((name, c_void_p) for name in (
            "xFileSize", "xLock", "xUnlock", "xCheckReservedLock", "xFileControl", "xSectorSize",
            "xDeviceCharacteristics", "xShmMap", "xShmLock", "xShmBarrier", "xShmUnmap", "xFetch", "xUnfetch",
        )),
    ]  # fmt: skip


class _Vfs(Structure):  # sqlite3_vfs, version 3
    _fields_ = [
        ("iVersion", c_int), ("szOsFile", c_int), ("mxPathname", c_int), ("pNext", c_void_p), ("zName", c_char_p),
        ("pAppData", c_void_p), ("xOpen", _OPEN), ("xDelete", _DELETE),
        *((name, c_void_p) for name in (
            "xAccess", "xFullPathname", "xDlOpen", "xDlError", "xDlSym", "xDlClose", "xRandomness", "xSleep",
            "xCurrentTime", "xGetLastError", "xCurrentTimeInt64", "xSetSystemCall", "xGetSystemCall", "xNextSystemCall",
        )),
    ]  # fmt: skip


@dataclass
class _File:
    """One file: what is on the disk for certain, and what was done to it since."""

    synced: bytearray = field(default_factory=bytearray)
    waiting: list[tuple[int, bytes | None]] = field(default_factory=list)  # writes; None: cut to that length
    named: bool = False  # a power cut leaves its name
    gone: bool = False  # removed, and maybe not for good


class Disk:
    """What lies below SQLite's files in one folder."""

    def __init__(self, folder: Path, *, honest: bool = True) -> None:
        """A disk that is not `honest` says that it synced and did nothing."""
        self.folder, self.honest = folder, honest
        self.dead = False  # nothing is written any more: the process is gone
        self.done = 0  # writes, cuts and syncs so far
        self.before: Callable[[str, str], int] = lambda what, name: 0  # "write" or "sync", file: an error of SQLite
        self._files: dict[str, _File] = {}
        _install()
        folder.mkdir(parents=True, exist_ok=True)
        _disks[str(folder.resolve())] = self

    def connect(self, address: str) -> sqlite3.Connection:
        """Open a database that lies on this disk."""
        address += f"{'&' if '?' in address else '?'}vfs={NAME.decode()}"
        return sqlite3.connect(address, uri=True, isolation_level=None, check_same_thread=False)

    def close(self) -> None:
        """Forget what was noted; the files stay."""
        _disks.pop(str(self.folder.resolve()), None)

    # ── what is left ──────────────────────────────────────────────────────────────────────────────────────────────

    def files(self) -> dict[str, bytes]:
        """Return what a process that is killed leaves: all that it wrote."""
        there = [(name, self.folder / name) for name, one in self._files.items() if not one.gone]
        return {name: path.read_bytes() for name, path in there if path.exists()}

    def after_cut(self, rng: np.random.Generator) -> dict[str, bytes]:
        """Return what a power cut leaves: what was synced, and of the rest what chance has it."""
        left = {}
        for name, one in self._files.items():
            if (one.named or rng.random() < 0.5) and not (one.gone and rng.random() < 0.5):
                left[name] = bytes(apply(bytearray(one.synced), some(one.waiting, rng)))
        return left

    # ── what SQLite does ──────────────────────────────────────────────────────────────────────────────────────────

    def opened(self, name: str) -> None:
        """Note a file, as it was found."""
        one = self._files.get(name)
        if one is None or one.gone:
            path = self.folder / name
            there = path.read_bytes() if path.exists() else b""
            self._files[name] = _File(bytearray(there), named=bool(there))

    def removed(self, name: str) -> None:
        """Note that a file was removed."""
        if name in self._files:
            self._files[name].gone = True

    def changes(self, what: str, name: str, change: tuple[int, bytes | None]) -> int:
        """Note a write, or return the error that it meets."""
        if error := self._meets(what, name):
            return error
        self._files[name].waiting.append(change)
        return 0

    def syncs(self, name: str) -> int:
        """Note a sync, or return the error that it meets."""
        error = self._meets("sync", name)
        one = self._files[name]
        if self.honest and not self.dead:
            if not error:
                apply(one.synced, one.waiting)
                if not one.named and name.endswith(("-wal", "-journal")):
                    self._names_synced()
            one.waiting.clear()  # after an error nobody ever writes it again
        return error

    def _names_synced(self) -> None:
        self._files = {name: one for name, one in self._files.items() if not one.gone}
        for one in self._files.values():
            one.named = True

    def _meets(self, what: str, name: str) -> int:
        self.done += 1
        if self.dead:
            return IOERR_WRITE
        error = self.before(what, name)
        return IOERR_WRITE if self.dead else error


def apply(whole: bytearray, changes: list[tuple[int, bytes | None]]) -> bytearray:
    """Make these changes to what a file holds, and return it."""
    for place, data in changes:
        if data is None:
            del whole[place:]
        else:
            if len(whole) < place:
                whole += bytes(place - len(whole))
            whole[place : place + len(data)] = data
    return whole


def some(changes: list[tuple[int, bytes | None]], rng: np.random.Generator) -> list[tuple[int, bytes | None]]:
    """Return what a cut leaves of changes that were not synced: none, all, the first, any, and the last one torn."""
    kind = rng.integers(4)
    if kind == 0 or not changes:
        return []
    if kind == 1:
        return changes
    n = int(rng.integers(len(changes) + 1))
    left = changes[:n] if kind == 2 else [one for one in changes if rng.random() < 0.5]
    if n < len(changes) and changes[n][1] is not None:
        place, data = changes[n]
        assert data is not None
        left = [*left, (place, data[: SECTOR * int(rng.integers(len(data) // SECTOR + 1))])]
    return left


# ── the VFS ───────────────────────────────────────────────────────────────────────────────────────────────────────────

_disks: dict[str, Disk] = {}
_open: dict[int, tuple[Disk, str, _Methods]] = {}  # by the address of SQLite's file: its disk, name and own methods
_ours: dict[int, _Methods] = {}  # by the address of the methods that they stand around
_kept: list[object] = []  # what C points to


def available() -> bool:
    """Return whether Python's SQLite can be reached: it is a library of its own, and not a part of Python."""
    return hasattr(ctypes.CDLL(_sqlite3.__file__), "sqlite3_vfs_find")


def _install() -> None:
    if _kept:
        return
    library = ctypes.CDLL(_sqlite3.__file__)
    library.sqlite3_vfs_find.restype = POINTER(_Vfs)
    below = library.sqlite3_vfs_find(None)
    vfs = _Vfs.from_buffer_copy(below.contents)
    vfs.zName, vfs.pNext = NAME, None

    def opens(_: int, path: int | None, file: int, flags: int, out: int) -> int:
        code: int = below.contents.xOpen(addressof(below.contents), path, file, flags, out)
        disk, name = _place(path)
        if not code and disk is not None:
            place = cast(file, POINTER(c_void_p))
            disk.opened(name)
            real = _Methods.from_address(place.contents.value)  # type: ignore[arg-type]
            _open[file] = (disk, name, real)
            place[0] = addressof(_around(real))
        return code

    def deletes(_: int, path: int, sync: int) -> int:
        disk, name = _place(path)
        if disk is not None:
            if disk.dead:
                return IOERR_WRITE
            disk.removed(name)
        code: int = below.contents.xDelete(addressof(below.contents), path, sync)
        return code

    vfs.xOpen, vfs.xDelete = _OPEN(opens), _DELETE(deletes)
    _kept.extend((vfs, below, library))
    library.sqlite3_vfs_register(ctypes.byref(vfs), 0)


def _place(path: int | None) -> tuple[Disk | None, str]:
    """Return the disk and the name of a path, which stands at an address; no disk for what is none of ours."""
    folder, _, name = (ctypes.string_at(path) if path else b"").decode().rpartition("/")
    return _disks.get(folder), name


def _around(real: _Methods) -> _Methods:
    """Return the methods of a file on a disk of ours."""
    at = addressof(real)
    if at not in _ours:
        ours = _Methods.from_buffer_copy(real)
        ours.xWrite, ours.xTruncate, ours.xSync = _WRITE(_writes), _TRUNCATE(_cuts), _SYNC(_syncs)
        _ours[at] = ours
    return _ours[at]


def _writes(file: int, data: int, n: int, place: int) -> int:
    disk, name, real = _open[file]
    return disk.changes("write", name, (place, ctypes.string_at(data, n))) or int(real.xWrite(file, data, n, place))


def _cuts(file: int, length: int) -> int:
    disk, name, real = _open[file]
    return disk.changes("write", name, (length, None)) or int(real.xTruncate(file, length))


def _syncs(file: int, flags: int) -> int:
    disk, name, _ = _open[file]
    return disk.syncs(name)
