"""Places: where the rows of a table came from, so that a message can point at a line."""

import csv
import gzip
import io
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, TextIO, cast

import polars as pl

from bowerbird.core import DataError

PACKED = (".gz", ".zst")
LEAST, TIMES = 1 << 28, 200  # bytes that any packed file may hold, and times its size where that is more
BLOCK = 1 << 20  # bytes that are unpacked at once


@dataclass(frozen=True)
class Part:
    """One file of a table."""

    path: Path
    n_rows: int
    first_line: int | None  # of the first row in a text file; None where rows have no lines
    separator: str = ""  # of a text whose quoted fields may hold line breaks


@dataclass(frozen=True)
class Place:
    """What a message calls a table and its rows."""

    name: str
    parts: tuple[Part, ...] = ()

    def __str__(self) -> str:
        return self.name

    def of(self, row: int) -> str:
        """Return "line 7" for a text file and "row 7" for a table, after the file where there are several."""
        for part in self.parts:
            if row < part.n_rows:
                where = f"row {row + 1:,}" if part.first_line is None else f"line {_line(part, row):,}"
                return f"{part.path.name}, {where}" if len(self.parts) > 1 else where
            row -= part.n_rows
        return f"row {row + 1:,}"

    def refuse(self, bad: pl.Series, column: str, problem: str, mend: str) -> None:
        """Raise `DataError` naming the first row of the mask `bad`, if there is one."""
        count = int(bad.sum())
        if count:
            first = self.of(int(bad.arg_max() or 0))
            rows = f"{count:,} of {len(bad):,} rows {problem}"
            raise DataError(f'{self}, column "{column}": {rows} (first: {first}). {mend}')


def plain_name(path: Path) -> str:
    """Return a file's name without the ending that says it is packed."""
    return path.name.removesuffix(path.suffix) if path.suffix in PACKED else path.name


class _Bounded(io.RawIOBase):
    """What a packed file holds, up to what such a file can sensibly hold; beyond it raises `DataError`."""

    def __init__(self, packed: BinaryIO, path: Path) -> None:
        super().__init__()
        self._packed, self._path = packed, path
        self._left = max(LEAST, TIMES * path.stat().st_size)

    def readable(self) -> bool:
        """Return that it can be read."""
        return True

    def readinto(self, buffer: Any) -> int:
        """Fill a buffer with what comes next; return how many bytes that is."""
        data = self._packed.read(len(buffer))
        buffer[: len(data)] = data
        self._left -= len(data)
        if self._left < 0:
            raise DataError(
                f"{self._path}: unpacked it has more than {TIMES} times its size, as no table has. "
                "Unpack it yourself if you trust it."
            )
        return len(data)

    def close(self) -> None:
        """Close the file."""
        self._packed.close()
        super().close()


def unpacked(path: Path) -> BinaryIO:
    """Return the bytes of a file, unpacked where its name ends in .gz or .zst; see `_Bounded`."""
    if path.suffix not in PACKED:
        return open(path, "rb")
    if path.suffix == ".zst":
        import pyarrow as pa

        packed = cast(BinaryIO, pa.input_stream(path, compression="zstd"))
    else:
        packed = cast(BinaryIO, gzip.GzipFile(path, "rb"))
    return io.BufferedReader(_Bounded(packed, path), BLOCK)


def opened(path: Path, encoding: str = "utf-8", errors: str = "strict") -> TextIO:
    """Return a text file, unpacked where its name ends in .gz or .zst."""
    return io.TextIOWrapper(unpacked(path), encoding=encoding, errors=errors)


def lines_of(path: Path, separator: str, *, strict: bool = False) -> Iterator[tuple[int, list[str]]]:
    """Yield each record of a text table and the line it ends on; quoted fields may hold line breaks.

    Raises `csv.Error` where a field is longer than 131,072 letters or, if `strict`, its quotes are not as they should.
    """
    with opened(path, errors="replace") as file:
        for row in (records := csv.reader(file, delimiter=separator, strict=strict)):
            yield records.line_num, row


def _line(part: Part, row: int) -> int:
    """Return the line on which a row starts."""
    line = row + (part.first_line or 0)
    if not part.separator or not part.path.exists():
        return line
    try:
        before = 0
        for record, (end, _) in enumerate(lines_of(part.path, part.separator)):
            if record == row + 1:  # record 0 is the header
                return before + 1
            before = end
    except (csv.Error, OSError, EOFError):
        pass  # the count of rows is near enough
    return line
