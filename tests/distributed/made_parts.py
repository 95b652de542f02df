"""What trainings on several workers are tried on: Parquet parts of events, and a feature table."""

from pathlib import Path

import numpy as np
import polars as pl


def write_parts(folder: Path, n: int = 4_000) -> Path:
    """Write events of 200 people and 120 items, like with like, in three files; return the folder."""
    rng = np.random.default_rng(0)
    user = rng.integers(0, 200, n)
    item = (rng.random(n) ** 2 * 60).astype(np.int64) * 2 + user % 2
    frame = pl.DataFrame({"user_id": user, "item_id": item, "timestamp": np.arange(n) + 10**9})
    frame = frame.with_columns(
        pl.format("u{}", "user_id").alias("user_id"), pl.format("i{}", "item_id").alias("item_id")
    )
    folder.mkdir(parents=True)
    for number, part in enumerate(frame.iter_slices(n // 3 + 1)):
        part.write_parquet(folder / f"{number}.parquet")
    return folder


def write_rows(path: Path, n: int = 3_000) -> Path:
    """Write a feature table with a label that two of its columns tell; return the path."""
    rng = np.random.default_rng(1)
    who, age = rng.integers(0, 90, n), rng.random(n)
    label = (age + (who % 7) / 7 + rng.normal(0, 0.3, n) > 1).astype(np.int8)
    pl.DataFrame({"who": who.astype(str), "age": age, "label": label}).write_parquet(path)
    return path
