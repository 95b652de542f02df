"""Parquet: whether a file tells of more than its bytes can hold, and whether one to be written is called so.

A megabyte may stand for more than all memory. And what is called .csv is opened by spreadsheets, which reckon with ids
and titles that begin with "=": nothing here writes such a file for people.
"""

from pathlib import Path
from typing import BinaryIO

from bowerbird.core.errors import RequestError

OTHERS = (".csv", ".tsv", ".txt", ".json", ".jsonl", ".ndjson", ".xls", ".xlsx", ".ods")
NUMBER = 8  # bytes of a value in memory; a text has twice that for where it lies


def overfull(source: Path | BinaryIO, budget: int) -> str:
    """Return what a Parquet file tells of that does not fit into so many bytes of memory; empty where it does.

    Raises `OSError` where the file does not say what it holds, or says it in two ways.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        about = pq.read_metadata(source)
        groups = [about.row_group(place) for place in range(about.num_row_groups)]
        columns = [group.column(place) for group in groups for place in range(group.num_columns)]
    except pa.ArrowNotImplementedError:  # numbers of 128 bits: nothing can be told
        return ""
    except (OSError, ValueError, RuntimeError) as error:
        raise OSError(f"the footer cannot be read: {error}") from None
    values = sum(one.num_values for one in columns)
    texts = sum(one.num_values for one in columns if one.physical_type == "BYTE_ARRAY")
    rows = sum(group.num_rows for group in groups)
    if rows != about.num_rows:
        raise OSError(f"the footer tells of {about.num_rows:,} rows, and of {rows:,}")
    if max(rows * about.num_columns, values + texts) * NUMBER > budget:
        return f"it tells of {rows:,} rows and {values:,} values"
    return ""


def check_pages(source: Path | BinaryIO) -> None:
    """Raise `OSError` where the pages of a Parquet file are broken; Polars, given some of those, ends the process."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        for _ in pq.ParquetFile(source).iter_batches():
            pass
    except pa.ArrowNotImplementedError:  # numbers of 128 bits
        pass
    except (OSError, MemoryError, pa.ArrowException) as error:
        raise OSError(f"its pages are broken: {error}") from None


def check_name(path: Path) -> None:
    """Raise `RequestError` where a file that will be Parquet is called as another format is."""
    if path.suffix.lower() in OTHERS:
        raise RequestError(f"{path}: what is written is Parquet. Call it {path.with_suffix('.parquet')}.")
