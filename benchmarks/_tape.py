"""What a process did to its files, call by call, and what a power cut at any moment would have left of them.

strace writes the tape while the real program runs on the real system. Afterwards the disk is built again from it, as
POSIX promises no more: data is certain once its file was synced, a name once its folder was; of everything else a cut
leaves what chance has it. What the program said to others stands on the same tape, so that it is known what it had
promised at that moment.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

import numpy as np

from _disk import apply, some

CALLS = "write,writev,pwrite64,ftruncate,fdatasync,fsync,rename,renameat,renameat2,unlink,unlinkat,openat,rmdir,sendto"
LINE = re.compile(r"^(\d+) +(.*)$")
CALL = re.compile(r"^(\w+)\((.*)\) += (-?\d+|\?)")
STARTED, GOES_ON = " <unfinished ...>", re.compile(r"^<\.\.\. \w+ resumed>(.*)$")
TEXT = re.compile(r'"((?:\\x[0-9a-f]{2})*)"')
DESCRIPTOR = re.compile(r"^(\d+)<((?:\\x[0-9a-f]{2})+|[^>]*)>")
NOT_KEPT = ("-shm", "lock")  # what a start makes anew


def recorded(tape: Path) -> list[str]:
    """Return what stands in front of a command that is to be recorded."""
    return ["strace", "-f", "-yy", "-xx", "-s", "100000000", "--seccomp-bpf", "-o", str(tape), "-e", f"trace={CALLS}"]


@dataclass(frozen=True)
class Call:
    """One call that changed a file, or said something."""

    name: str  # write, cut, sync, make, rename, remove or say
    path: str = ""
    other: str = ""  # the new name of a rename
    place: int = -1  # of a write, −1 where it goes on; the length of a cut
    data: bytes = b""


def calls(tape: Path) -> Iterator[Call]:
    """Yield what stands on a tape, in the order in which it was done."""
    began: dict[str, str] = {}
    with open(tape, encoding="ascii", errors="replace") as lines:
        for line in lines:
            if (found := LINE.match(line)) is None:
                continue
            process, text = found.groups()
            if text.endswith(STARTED):
                began[process] = text.removesuffix(STARTED)
                continue
            if (rest := GOES_ON.match(text)) is not None:
                text = began.pop(process, "") + rest[1]
            if (call := CALL.match(text)) is not None and call[3] not in ("?",) and int(call[3]) >= 0:
                yield from _call(call[1], call[2])


def _call(name: str, words: str) -> Iterator[Call]:
    texts = [_bytes(one) for one in TEXT.findall(words)]
    if name == "openat" and "O_CREAT" in words:
        yield Call("make", texts[0].decode(), place=0 if "O_TRUNC" in words else -1)
    elif name.startswith("rename"):
        yield Call("rename", texts[0].decode(), texts[1].decode())
    elif name in ("unlink", "unlinkat", "rmdir"):
        folder = DESCRIPTOR.match(words) if name == "unlinkat" else None
        yield Call("remove", str(PurePosixPath(_path(folder), texts[0].decode())))
    elif (found := DESCRIPTOR.match(words)) is not None:
        path, data = _path(found), b"".join(texts)
        if not path.startswith("/"):
            yield Call("say", data=data)
        elif name in ("fsync", "fdatasync"):
            yield Call("sync", path)
        elif name == "ftruncate":
            yield Call("cut", path, place=int(words.rsplit(",", 1)[1]))
        else:
            yield Call("write", path, place=int(words.rsplit(",", 1)[1]) if name == "pwrite64" else -1, data=data)


def _bytes(text: str) -> bytes:
    return bytes.fromhex(text.replace("\\x", ""))


def _path(found: re.Match[str] | None) -> str:
    """Return what a descriptor stands for: a path, or what is none and begins with no slash."""
    if found is None:
        return ""
    return _bytes(found[2]).decode() if found[2].startswith("\\x") else found[2]


@dataclass(eq=False)
class _File:
    synced: bytearray = field(default_factory=bytearray)
    waiting: list[tuple[int, bytes | None]] = field(default_factory=list)
    end: int = 0


Names = dict[str, _File]


class Copy:
    """The files below some folders, as they go through a tape."""

    def __init__(self, *folders: Path, honest: bool = True) -> None:
        """`folders` as they are before the tape; a disk that is not `honest` forgets what it said that it synced."""
        self.folders, self.honest = tuple(str(one) for one in folders), honest
        self.now: Names = {}
        for folder in folders:
            for path in (one for one in folder.rglob("*") if one.is_file()):
                data = path.read_bytes()
                self.now[str(path)] = _File(bytearray(data), end=len(data))
        self.certain = dict(self.now)
        self.waiting: list[tuple[Call, _File | None]] = []  # names that came and went since their folder was synced

    def heed(self, call: Call) -> bool:
        """Follow one call; return whether it changed something here."""
        if not call.path.startswith(self.folders) or call.path.endswith(NOT_KEPT):
            return False
        file = self.now.get(call.path)
        if call.name == "sync":
            self._sync(call.path, file)
        elif call.name in ("rename", "remove") or (call.name == "make" and file is None):
            made = _File() if call.name == "make" else None
            self.waiting.append((call, made))
            self.now = _named(self.now, call, made)
        elif call.name == "make" and call.place == 0 and file is not None:
            self._change(file, 0, None)
        elif call.name in ("write", "cut") and file is not None:
            self._change(file, call.place, call.data if call.name == "write" else None)
        return True

    def after_cut(self, rng: np.random.Generator) -> dict[str, bytes]:
        """Return what a power cut would leave now, by path."""
        names = dict(self.certain)
        for call, made in self.waiting[: int(rng.integers(len(self.waiting) + 1))]:
            names = _named(names, call, made)
        return {path: bytes(apply(bytearray(one.synced), some(one.waiting, rng))) for path, one in names.items()}

    def _change(self, file: _File, place: int, data: bytes | None) -> None:
        place = file.end if place < 0 else place
        file.waiting.append((place, data))
        file.end = place + len(data) if data is not None else place

    def _sync(self, path: str, file: _File | None) -> None:
        if not self.honest:
            return
        if file is not None:
            apply(file.synced, file.waiting)
            file.waiting.clear()
            return
        left = []
        for call, made in self.waiting:
            if str(PurePosixPath(call.other or call.path).parent) == path:
                self.certain = _named(self.certain, call, made)
            else:
                left.append((call, made))
        self.waiting = left


def _named(names: Names, call: Call, made: _File | None) -> Names:
    """Return the names after a call: what was made, or renamed or removed, folders with what is in them."""
    if made is not None:
        return names | {call.path: made}
    kept = {path: one for path, one in names.items() if not _within(path, call.path)}
    if call.name == "rename":
        kept |= {call.other + path[len(call.path) :]: one for path, one in names.items() if _within(path, call.path)}
    return kept


def _within(path: str, folder: str) -> bool:
    return path == folder or path.startswith(f"{folder}/")
