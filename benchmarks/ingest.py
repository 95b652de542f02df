"""Reading at scale: a Parquet table of rows in no order is read, encoded and split by time.

`--data` is a Parquet file or a folder of parts with the usual column names. Without it, `--rows` rows are made: ids of
a million people, of whom some come often, and of 200,000 items whose popularity follows Zipf; `--ids` says of which
type. The table is kept in the temporary folder, so that a second run finds it.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

import _shared
from bowerbird import read, split
from bowerbird.data.readers import columns_of, open_table

CHUNK = 2_000_000  # rows made at a time
FIRST, LAST = 1_600_000_000, 1_700_000_000  # seconds: the times of the made events


def make(path: Path, n_rows: int, n_users: int, n_items: int, ids: str, seed: int) -> None:
    """Write a table of interactions in no order, in chunks, as one file."""
    rng = np.random.default_rng(seed)
    chance = np.cumsum(1 / np.arange(1, n_items + 1))
    chance /= chance[-1]
    names = rng.permutation(n_items)  # a popular item has any id
    scratch = Path(tempfile.mkdtemp(dir=path.parent))
    for start in range(0, n_rows, CHUNK):
        n = min(CHUNK, n_rows - start)
        frame = pl.DataFrame({
            "user_id": (rng.random(n) ** 1.6 * n_users).astype(np.int64),
            "item_id": names[np.searchsorted(chance, rng.random(n))],
            "timestamp": rng.integers(FIRST, LAST, n),
            "rating": rng.integers(1, 6, n).astype(np.float32),
        })  # fmt: skip
        if ids == "text":
            frame = frame.with_columns(
                user_id=pl.format("u{}", pl.col("user_id").cast(pl.String).str.zfill(8)),
                item_id=pl.format("sku-{}", pl.col("item_id").cast(pl.String).str.zfill(7)),
            )
        frame.write_parquet(scratch / f"{start:012}.parquet")
    pl.scan_parquet(scratch / "*.parquet").sink_parquet(path)
    for part in scratch.iterdir():
        part.unlink()
    scratch.rmdir()


def made(options: argparse.Namespace) -> Path:
    """Return the made table; another process makes it, so that its memory is not counted here."""
    sizes = (options.rows, options.users, options.items)
    seed = options.seeds.split(",")[0]
    path = Path(tempfile.gettempdir()) / f"bowerbird-ingest-{'-'.join(map(str, (options.ids, *sizes, seed)))}.parquet"
    if not path.exists():
        scratch = path.with_suffix(".part")
        code = f"import ingest, pathlib; ingest.make(pathlib.Path({str(scratch)!r}), *{sizes}, {options.ids!r}, {seed})"
        subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(__file__).parent)
        os.replace(scratch, path)
    return path


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """Read, encode and split the table once; return the row."""
    path = Path(options.data)
    table = open_table(path)
    roles = columns_of(table.names, dict.fromkeys(("user", "item", "time")), table)
    clocks = [_clocks()]
    columns = table.columns(list(roles.values()))
    clocks.append(_clocks())
    del columns
    events = read(path)
    clocks.append(_clocks())
    parts = split(events, "temporal")
    clocks.append(_clocks())
    scan, whole, cut = ([after - before for before, after in zip(*pair, strict=True)] for pair in pairwise(clocks))
    total = whole[0] + cut[0]
    return {
        "benchmark": "ingest",
        "data": path.name,
        "model": "none",
        "protocol": f"{parts.protocol} rows={len(events)} ids={'integers' if events.user_ids.is_integer else 'texts'}",
        "report": options.report,
        "seeds": [int(seed) for seed in options.seeds.split(",")],
        "metrics": {},
        "users": events.n_users,
        "items": events.n_items,
        # read: the columns alone, before anything else; encode: the rest of what bb.read takes, on a warm file
        "seconds": {"read": scan[0], "encode": whole[0] - scan[0], "split": cut[0], "total": total},
        "cpu_seconds": {"read": scan[1], "encode": whole[1] - scan[1], "split": cut[1], "total": whole[1] + cut[1]},
        "rows_per_s": len(events) / total,
    }


def _clocks() -> tuple[float, float]:
    """Return the seconds on the wall and those of all processors."""
    return time.perf_counter(), time.process_time()


def options_of(words: list[str] | None = None) -> argparse.Namespace:
    """Return the shared options and those of making a table."""
    parser = _shared.parser(__doc__)
    parser.add_argument("--rows", type=int, default=20_000_000)
    parser.add_argument("--users", type=int, default=1_000_000)
    parser.add_argument("--items", type=int, default=200_000)
    parser.add_argument("--ids", choices=("integer", "text"), default="text")
    options = parser.parse_args(words)
    if not options.table:
        options.data = options.data or str(made(options))
    return options


if __name__ == "__main__":
    sys.exit(_shared.main(options_of(), measure))
