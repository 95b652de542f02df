"""Contents: tensors and tables out of the bytes of files, with limits on what a few bytes may turn into.

The checksums of a bundle are no signature: who may write into a run directory writes them too.
"""

import io
from pathlib import Path

import numpy as np
import polars as pl
from safetensors import SafetensorError
from safetensors.numpy import load

from bowerbird.core import BundleError
from bowerbird.core.parquet import overfull

HEADER = 1 << 20  # bytes of names and shapes: some ten thousand tensors
LEAST, TIMES = 1 << 29, 128  # bytes that any table may take in memory, and times those of its file where that is more
BROKEN = (
    pl.exceptions.PolarsError, pl.exceptions.PanicException, OSError, ValueError, TypeError, OverflowError, MemoryError
)  # fmt: skip


def arrays(data: bytes, path: Path) -> dict[str, np.ndarray]:
    """Return the tensors of a file; raises `BundleError`, with its path, where these bytes are none."""
    size = int.from_bytes(data[:8], "little")
    if size > HEADER:
        raise BundleError(f"{path}: the header has {size:,} bytes; {HEADER:,} are allowed.")
    try:
        return load(data)
    except (SafetensorError, KeyError, ValueError, TypeError, OverflowError, MemoryError) as error:
        raise BundleError(f"{path} holds no weights: {error}") from None


def table(data: bytes, path: Path) -> pl.DataFrame:
    """Return the table of a Parquet file; raises `BundleError`, with its path, where these bytes are none."""
    try:
        told = overfull(io.BytesIO(data), max(LEAST, TIMES * len(data)))
        if not told:
            return _read(data)
    except BROKEN as error:
        raise BundleError(f"{path} holds no table: {str(error).strip().split(chr(10))[0]}") from None
    raise BundleError(f"{path} holds no table: {told}, which {len(data):,} bytes cannot hold.")


def plain(table: pl.DataFrame) -> pl.DataFrame:
    """Return a table as Arrow can read it too: without whole numbers of 128 bits."""
    return table.with_columns(_narrow(column) for column in table if str(column.dtype) in ("Int128", "UInt128"))


def _narrow(column: pl.Series) -> pl.Series:
    whole = column.cast(pl.Int64, strict=False)
    return whole if whole.null_count() == column.null_count() else column.cast(pl.Float64)


def _read(data: bytes) -> pl.DataFrame:
    """Return a table by way of Arrow, which finds broken pages; Polars, given some of those, ends the process."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        table = pq.ParquetFile(io.BytesIO(data)).read(use_threads=False)  # a data set's scanner costs milliseconds
        table.validate(full=True)
        return pl.DataFrame(table)
    except pa.ArrowException as error:
        raise OSError(str(error)) from None
