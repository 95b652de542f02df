"""Parquet: whether a file tells of more than its bytes can hold. A megabyte may stand for more than all memory."""

from pathlib import Path
from typing import BinaryIO

NUMBER = 8  # bytes of a value in memory; a text has twice that for where it lies


def overfull(source: Path | BinaryIO, budget: int) -> str:
    """Return what a Parquet file tells of that does not fit into so many bytes of memory; empty where it does.

    Raises `OSError` where the file does not say what it holds, or says it in two ways.
    """
    import pyarrow.parquet as pq

    try:
        about = pq.read_metadata(source)
        groups = [about.row_group(place) for place in range(about.num_row_groups)]
        columns = [group.column(place) for group in groups for place in range(group.num_columns)]
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
