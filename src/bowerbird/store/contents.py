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

HEADER = 1 << 20  # bytes of names and shapes: some ten thousand tensors
LEAST, TIMES = 1 << 29, 128  # bytes that any table may take in memory, and times those of its file where that is more
NUMBER = 8  # bytes of a value; a text has twice that for where it lies
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
        _check(data, path)
        return pl.read_parquet(io.BytesIO(data))
    except BROKEN as error:
        if isinstance(error, BundleError):
            raise
        raise BundleError(f"{path} holds no table: {str(error).strip().split(chr(10))[0]}") from None


def _check(data: bytes, path: Path) -> None:
    """Refuse a file that tells of more rows or values than it can hold, or tells of them in two ways."""
    import pyarrow.parquet as pq

    about, budget = pq.read_metadata(io.BytesIO(data)), max(LEAST, TIMES * len(data))
    groups = [about.row_group(place) for place in range(about.num_row_groups)]
    columns = [group.column(place) for group in groups for place in range(group.num_columns)]
    values = sum(one.num_values for one in columns)
    texts = sum(one.num_values for one in columns if one.physical_type == "BYTE_ARRAY")
    if about.num_rows * about.num_columns * NUMBER > budget or values * NUMBER + texts * NUMBER > budget:
        raise BundleError(f"{path} tells of {values:,} values, which {len(data):,} bytes cannot hold.")
    if sum(group.num_rows for group in groups) != about.num_rows:
        raise BundleError(f"{path} tells of {about.num_rows:,} rows, and of others. It was written anew.")
