"""Streams: batches cut from Parquet files that need not fit into memory.

The rows of all files are cut into pieces, which an epoch visits in an order of its own. Several pieces at a time are
encoded and shuffled together, and batches are cut from one such buffer after another. While the model learns from one,
a thread fills the next.

Shapes: N rows, B batch rows, T tasks.
"""

import math
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import NamedTuple

import numpy as np
import polars as pl
import torch
from torch import Tensor

from bowerbird.core import DataError, TrainedConfig, did_you_mean, numpy_stream, torch_stream
from bowerbird.data.files import Table, open_files
from bowerbird.data.places import Part, Place
from bowerbird.features import Cross, Encoded, Encoder, FeatureBatch, FeatureSchema
from bowerbird.features.fitting import check_there
from bowerbird.features.sources import EncodedRows

BUFFER = 160 << 20  # bytes of encoded rows that are shuffled together: half a million rows of 40 columns
PIECES = 8  # of a buffer: the more, the better mixed are files in which like rows lie together

Files = str | Path | Sequence[str | Path]


class Piece(NamedTuple):
    """Rows of one file."""

    table: Table
    start: int
    rows: int


class Plan(NamedTuple):
    """The order of an epoch."""

    buffers: list[np.ndarray]  # which pieces each holds
    starts: np.ndarray  # int64: the first row of each buffer in the epoch, and N behind the last


class StreamedRows:
    """Rows of Parquet files; a batch depends on the seed, the epoch and the step alone.

    All batches but the last of an epoch are full: one that begins with the last rows of a buffer ends with the first
    of the next, since a short batch would move the model as far as a full one. At most two buffers are held.
    """

    def __init__(
        self, source: Files, encoder: Encoder, config: TrainedConfig, *, seed: int, device: str = "cpu"
    ) -> None:
        """Open a file, a list of files, a glob or a folder; the encoder's tasks name the columns of labels.

        Raises `DataError` for files that are no Parquet or differ in their columns, for a column that is not there,
        and for a label that is no number.
        """
        whole = open_files(source, "parquet")
        check_labels(whole, encoder.schema.tasks)
        self._names = _needed(encoder, whole)
        self.encoder = replace(encoder, counts=Counter())  # the thread counts by itself
        self.batch_size, self.seed, self.device = config.batch_size, seed, device
        self.fingerprint = _fingerprint([part.path for part in whole.place.parts], encoder.schema)
        self._room = max(1, BUFFER // _row_bytes(encoder.schema))  # rows of a buffer
        self._pieces = [piece for part in whole.place.parts for piece in _pieces(part, max(1, self._room // PIECES))]
        self._rows = np.array([piece.rows for piece in self._pieces], np.int64)
        self.n_rows = int(self._rows.sum())
        if not self.n_rows:
            raise DataError(f"{whole.place}: there is no row. Give files with at least one.")
        self._current = -1, Plan([], np.empty(0, np.int64))
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="bowerbird-stream")
        self._coming: dict[tuple[int, int], Future[EncodedRows]] = {}

    def __len__(self) -> int:
        """Return the number of steps in an epoch."""
        return math.ceil(self.n_rows / self.batch_size)

    def batch(self, epoch: int, step: int, shard: tuple[int, int] = (0, 1)) -> FeatureBatch:
        """Return worker `shard[0]`'s rows of a batch that `shard[1]` workers share; every worker reads all files.

        Raises `DataError` where a file can no longer be read.
        """
        if self._current[0] != epoch:
            self._current = epoch, self._plan(epoch)
        starts = self._current[1].starts
        rows = np.arange(step * self.batch_size, min((step + 1) * self.batch_size, self.n_rows))
        first, last = np.searchsorted(starts, rows[[0, -1]], side="right") - 1
        mine, parts = rows[shard[0] :: shard[1]], []
        for number in range(first, last + 1):
            inside = mine[(mine >= starts[number]) & (mine < starts[number + 1])] - starts[number]
            parts.append(self._buffer(epoch, number).cut(torch.from_numpy(inside).to(self.device)))
        whole = torch.tensor(float(len(rows)), device=self.device)
        return replace(_joined(parts), weight=torch.ones(len(mine), device=self.device), whole=whole)

    def _plan(self, epoch: int) -> Plan:
        order = numpy_stream(self.seed, "pieces", epoch).permutation(len(self._pieces))
        before = np.cumsum(self._rows[order]) - self._rows[order]
        first = np.flatnonzero(np.diff(before // self._room, prepend=-1))  # piece of each buffer
        return Plan(np.split(order, first[1:]), np.append(before[first], self.n_rows))

    def _buffer(self, epoch: int, number: int) -> EncodedRows:
        """Return the shuffled rows of a buffer, and let the thread fill the one behind it."""
        buffers = self._current[1].buffers
        after = (epoch, number + 1) if number + 1 < len(buffers) else (epoch + 1, 0)
        for key in [key for key in self._coming if key not in ((epoch, number), after)]:
            self._coming.pop(key).cancel()
        for key in ((epoch, number), after):
            if key not in self._coming:
                pieces = buffers[key[1]] if key[0] == epoch else self._plan(key[0]).buffers[0]
                self._coming[key] = self._thread.submit(self._filled, *key, [self._pieces[one] for one in pieces])
        return self._coming[epoch, number].result()

    def _filled(self, epoch: int, number: int, pieces: Sequence[Piece]) -> EncodedRows:
        """Read, encode and shuffle the pieces of a buffer."""
        schema, sizes = self.encoder.schema, [piece.rows for piece in pieces]
        n = sum(sizes)
        code = torch.empty((n, schema.n_slots), dtype=torch.int32)
        value = None if schema.plain else torch.empty((n, schema.n_slots))
        vector, label = torch.empty((n, schema.n_numbers)), torch.empty((n, len(schema.tasks)))
        places = torch.randperm(n, generator=torch_stream(self.seed, "shuffle", epoch, number))
        for piece, place in zip(pieces, torch.split(places, sizes), strict=True):
            frame = piece.table.frame.slice(piece.start, piece.rows)
            table = replace(piece.table, frame=frame).columns(self._names)
            part = self.encoder.encode(table)
            code[place], vector[place], label[place] = part.code, part.vector, _labels(table, schema.tasks)
            if value is not None:
                value[place] = part.values
        return EncodedRows(Encoded(code, value, vector).to(self.device), label.to(self.device))


def check_labels(table: Table, tasks: Sequence[str]) -> None:
    """Raise `DataError` unless the table has these columns and they hold numbers."""
    kinds = table.frame.collect_schema()
    for task in tasks:
        if task not in kinds:
            raise DataError(
                f'{table.place}: there is no column "{task}".{did_you_mean(task, kinds)} It has: {", ".join(kinds)}.'
            )
        if not (kinds[task].is_numeric() or kinds[task] == pl.Boolean):
            raise DataError(
                f'{table.place}, column "{task}": a label is a number, not {kinds[task]}. Write 0 and 1, and leave it '
                "empty where unobserved."
            )


def _needed(encoder: Encoder, table: Table) -> list[str]:
    """Return the columns to read; raises `DataError` for one that is not there."""
    columns = [column for column in encoder.columns[""] if not isinstance(column, Cross)]
    for column in columns:
        check_there(column, table.frame.collect_schema())
    return list(dict.fromkeys([*(column.name for column in columns), *encoder.schema.tasks]))


def _row_bytes(schema: FeatureSchema) -> int:
    return 4 * (schema.n_slots * (1 if schema.plain else 2) + schema.n_numbers + len(schema.tasks))


def _pieces(part: Part, most: int) -> list[Piece]:
    """Return the rows of a file in pieces of `most`.

    Row groups are no bounds: they may be tiny or larger than memory, and Parquet is read from any row on.
    """
    table = Table(pl.scan_parquet(part.path, glob=False), Place(str(part.path)))
    return [Piece(table, start, min(most, part.n_rows - start)) for start in range(0, part.n_rows, most)]


def _fingerprint(paths: Sequence[Path], schema: FeatureSchema) -> str:
    """Return sha256 over the schema and the footers, which hold type, size and bounds of every stretch of a column."""
    digest = sha256(repr(schema).encode())
    for path in paths:
        with open(path, "rb") as file:
            size = file.seek(-8, 2)  # the last eight bytes: length of the footer, and a mark
            length = int.from_bytes(file.read(4), "little")
            file.seek(size - length)
            digest.update(file.read(length))
    return digest.hexdigest()


def _labels(table: pl.DataFrame, tasks: Sequence[str]) -> Tensor:
    """Return labels float32 (N, T), NaN where empty."""
    columns = table.select(pl.col(task).cast(pl.Float32).fill_null(float("nan")) for task in tasks)
    return torch.from_numpy(columns.to_numpy(writable=True))


def _joined(parts: Sequence[FeatureBatch]) -> FeatureBatch:
    """Return the rows of several batches as one."""
    if len(parts) == 1:
        return parts[0]

    def one(name: str) -> Tensor | None:
        columns = [getattr(part, name) for part in parts]
        return None if columns[0] is None else torch.cat(columns)

    code = torch.cat([part.code for part in parts])
    return FeatureBatch(code, one("value"), one("vector"), one("label"))
