"""Conversion: any source as one Parquet file, text tables in one pass that never holds them whole."""

import os
from pathlib import Path
from typing import Any

import polars as pl

from bowerbird.core import DataError
from bowerbird.data.databases import is_address
from bowerbird.data.files import (
    DAMAGED,
    PARTS,
    Table,
    check_header,
    format_of,
    header_of,
    paths_of,
    quote_of,
    separator_of,
    spelling_of,
)
from bowerbird.data.places import BLOCK, PACKED, unpacked
from bowerbird.data.readers import USUAL_NAMES, open_table

SAMPLE = 10_000  # rows of a text table whose spelling decides the types


def convert(source: Any, out: str | Path, *, format: str | None = None, query: str | None = None) -> int:
    """Write the table in `source`, which is whatever `read` takes, to a Parquet file; return its number of rows.

    A column of texts gets the type that its first rows spell, and stays text where a later row spells something else.
    Columns with a usual name for users or items stay texts, as they are when a text table is read. The file appears
    when it is whole. Raises `DataError`.
    """
    out = Path(out)
    if out.suffix not in (".parquet", ".pq"):
        raise DataError(f"{out}: the converted table is Parquet. Call it {out.with_suffix('.parquet')}.")
    scratch = out.with_name(f".{out.name}.part")
    try:
        if _is_large_text(source, format):
            _stream(str(source), format, scratch)
        else:
            _write(open_table(source, format=format, query=query), scratch)
        os.replace(scratch, out)
    finally:
        scratch.unlink(missing_ok=True)
    return int(pl.scan_parquet(out).select(pl.len()).collect().item())


def _is_large_text(source: Any, format: str | None) -> bool:
    if not isinstance(source, str | Path) or is_address(source) or Path(source).suffix == ".zip":
        return False
    return all(format_of(path, format) in (*PARTS[1:], "recbole") for path in paths_of(str(source), format))


def _stream(source: str, format: str | None, out: Path) -> None:
    """Write text tables to `out`, with types where that succeeds and as texts where it does not."""
    scans = []
    try:
        scans = [_scan(path, format_of(path, format)) for path in paths_of(source, format)]
        sample = scans[0].head(SAMPLE).collect()
        ids = {name for name in sample.columns for role in ("user", "item") if name.lower() in USUAL_NAMES[role]}
        meant = {name: spelling_of(sample[name]) for name in sample.columns if name not in ids}
        whole = pl.concat(scans)
        whole.with_columns(turn(pl.col(name)) for name, turn in meant.items() if turn is not None).sink_parquet(out)
    except DAMAGED:
        try:
            if scans:
                pl.concat(scans).sink_parquet(out)
                return
        except DAMAGED:
            pass
        _write(open_table(source, format=format), out)  # it says what is wrong, and where


def _write(table: Table, out: Path) -> None:
    try:
        table.frame.sink_parquet(out)
    except DAMAGED:
        table.columns(table.names).write_parquet(out)  # it says what is wrong


def _scan(path: Path, kind: str) -> pl.LazyFrame:
    separator = "\t" if kind == "tsv" else separator_of(path)
    check_header(path, separator)
    if path.suffix in PACKED:  # Polars unpacks whatever it is
        with unpacked(path) as file:
            while file.read(BLOCK):
                pass
    frame = pl.scan_csv(path, separator=separator, quote_char=quote_of(kind), infer_schema=False, glob=False)
    return frame.rename(header_of(frame.collect_schema().names(), kind)[0])
