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
            return pl.read_parquet(io.BytesIO(data))
    except BROKEN as error:
        raise BundleError(f"{path} holds no table: {str(error).strip().split(chr(10))[0]}") from None
    raise BundleError(f"{path} holds no table: {told}, which {len(data):,} bytes cannot hold.")
