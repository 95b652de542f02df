"""Training a click model on a Parquet file larger than memory: peak memory, rows a second, and that it learns.

`--data` is a folder with train.parquet and valid.parquet, both with a column "label"; whole numbers are categories.
Without it, `--gigabytes` of rows are made, shaped like a log of ads: 26 categories of 40,000 values, a few of them
frequent, 13 numbers, some missing, and a label from a hidden logistic model with interactions, a quarter of them 1.
They are kept in the temporary folder, so that a second run finds them. Training ends after `--limit-seconds`, or after
one epoch.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pyarrow.parquet as pq

import _shared
from bowerbird.core import RunOptions, build, lookup
from bowerbird.data import read_rows
from bowerbird.data.files import open_files
from bowerbird.evaluation.binary import auc, log_loss
from bowerbird.features import Encoder, FeatureBatch, infer
from bowerbird.features.sources import EncodedRows
from bowerbird.recommender.ranking import Ranking
from bowerbird.training.streams import StreamedRows

CATEGORIES, VALUES, NUMBERS = 26, 40_000, 13
CHUNK, GROUP, VALID = 500_000, 100_000, 200_000  # rows made at a time, of a row group, of the validation file
RANK, PAIRS = 2, 13  # of the hidden interactions: numbers of a value's vector, and pairs of columns that interact


class Hidden:
    """The model that labels the made rows."""

    def __init__(self, rng: np.random.Generator) -> None:
        self.names = np.stack([rng.permutation(VALUES) for _ in range(CATEGORIES)])  # a frequent value has any number
        self.bias = rng.normal(0, 0.25, (CATEGORIES, VALUES)).astype(np.float32)
        self.vector = rng.normal(0, 0.6, (CATEGORIES, VALUES, RANK)).astype(np.float32)
        self.weight = rng.normal(0, 0.2, NUMBERS).astype(np.float32)
        self.missing = np.linspace(0, 0.45, NUMBERS)
        self.cut = 0.0
        self.cut = float(np.quantile(self._scored(rng, CHUNK)[2], 0.75))

    def rows(self, rng: np.random.Generator, n: int, ids: str) -> pl.DataFrame:
        """Return rows with their labels."""
        rank, number, score = self._scored(rng, n)
        columns = {"label": (score > self.cut).astype(np.int8)}
        columns |= {f"n{k + 1}": np.exp(number[k]) for k in range(NUMBERS)}
        columns |= {f"c{k + 1}": self.names[k][rank[k]] for k in range(CATEGORIES)}
        frame = pl.DataFrame(columns).with_columns(pl.col(pl.Float32).fill_nan(None))
        return frame.with_columns(pl.format("v{}", pl.col(r"^c\d+$"))) if ids == "text" else frame

    def _scored(self, rng: np.random.Generator, n: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return ranks of values (26, n), logarithms of numbers (13, n), NaN where missing, and noisy logits (n,)."""
        skewed = np.exp(rng.random((CATEGORIES, n), np.float32) * np.float32(np.log(VALUES + 1)))
        rank = np.minimum(skewed.astype(np.int32) - 1, VALUES - 1)  # how often a value comes falls with its rank: Zipf
        number = rng.standard_normal((NUMBERS, n), np.float32)
        number[rng.random((NUMBERS, n), np.float32) < self.missing[:, None]] = np.nan
        score = rng.logistic(size=n) + self.weight @ np.nan_to_num(number)
        for k in range(CATEGORIES):
            score += self.bias[k][rank[k]]
        for k in range(PAIRS):
            score += (self.vector[2 * k][rank[2 * k]] * self.vector[2 * k + 1][rank[2 * k + 1]]).sum(axis=1)
        return rank, number, score


def make(folder: Path, gigabytes: float, ids: str, seed: int) -> None:
    """Write train.parquet of about this size, and valid.parquet."""
    rng = np.random.default_rng(seed)
    hidden = Hidden(rng)
    path = folder / "train.parquet"
    valid = hidden.rows(rng, VALID, ids)
    valid.write_parquet(folder / "valid.parquet")
    with pq.ParquetWriter(path, valid.to_arrow().schema) as writer:
        while path.stat().st_size < gigabytes * 1e9:
            writer.write_table(hidden.rows(rng, CHUNK, ids).to_arrow(), row_group_size=GROUP)


def made(options: argparse.Namespace) -> Path:
    """Return the folder of the made rows; another process makes them, so that its memory is not counted here."""
    seed = options.seeds.split(",")[0]
    folder = Path(tempfile.gettempdir()) / f"bowerbird-ctr-{options.ids}-{options.gigabytes:g}gb-{seed}"
    if not folder.exists():
        scratch = Path(tempfile.mkdtemp(prefix=folder.name, dir=folder.parent))
        arguments = f"pathlib.Path({str(scratch)!r}), {options.gigabytes}, {options.ids!r}, {seed}"
        code = f"import ctr_memory, pathlib; ctr_memory.make({arguments})"
        subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(__file__).parent)
        os.replace(scratch, folder)
    return folder


class Timed:
    """Batches that count their rows, and end training when the time is over."""

    def __init__(self, batches: StreamedRows, limit: _shared.Limit) -> None:
        self.batches, self.limit = batches, limit
        self.n_rows, self.fingerprint, self.rows, self.waited = batches.n_rows, batches.fingerprint, 0, 0.0

    def __len__(self) -> int:
        return len(self.batches)

    def batch(self, epoch: int, step: int, shard: tuple[int, int]) -> FeatureBatch:
        """Return a batch, unless the time is over."""
        self.limit()
        started = time.perf_counter()
        batch = self.batches.batch(epoch, step, shard)
        self.waited += time.perf_counter() - started
        self.rows += len(batch)
        return batch


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """Fit the encoder, train until the time is over, and measure on the validation file; return the row."""
    folder = Path(options.data)
    table, valid = open_files(folder / "train.parquet", "parquet"), read_rows(folder / "valid.parquet", labels="label")
    clocks = [time.perf_counter()]
    whole = [name for name, kind in valid.table.schema.items() if kind.is_integer()]
    encoder = Encoder.fit({"": table.frame}, {"": infer(valid.table, ids=whole)})
    clocks.append(time.perf_counter())
    values = {"epochs": 1, "batch_size": 4096} | _shared.settings(options.set)
    run = RunOptions(seed=int(options.seeds.split(",")[0]), threads=options.threads, progress=False)
    ranking = Ranking(build(lookup(options.model).config, values), encoder, run)
    limit = _shared.Limit(options.limit_seconds)
    batches = StreamedRows(folder / "train.parquet", encoder, ranking.config, seed=run.seed, device=ranking.device)
    timed = Timed(batches, limit)
    ranking.learn(timed)
    clocks.append(time.perf_counter())
    label = valid.labels[:, 0]
    probability = ranking.probabilities(EncodedRows.of(encoder.encode(valid.table), valid, ranking.device))[:, 0]
    fitting, training = clocks[1] - clocks[0], clocks[2] - clocks[1]
    reached = f"limit={options.limit_seconds:g}s" if limit.reached else "epoch=1"
    return {
        "benchmark": "ctr_memory",
        "data": folder.name,
        "model": options.model,
        "protocol": f"rows={batches.n_rows} seen={timed.rows} {reached} batch={ranking.config.batch_size}",
        "report": options.report,
        "seeds": [run.seed],
        "metrics": {"auc": auc(label, probability), "logloss": log_loss(label, probability)},
        "base_logloss": log_loss(label, np.full(len(label), label.mean(), np.float64)),  # of knowing the rate alone
        "file_mb": round((folder / "train.parquet").stat().st_size / 1e6, 1),
        "seconds": {"fit_encoder": fitting, "train": training, "wait_for_rows": timed.waited},
        "rows_per_s": timed.rows / training,
        "interrupted": limit.reached,
    }


def options_of(words: list[str] | None = None) -> argparse.Namespace:
    """Return the shared options and those of making rows."""
    parser = _shared.parser(__doc__)
    parser.set_defaults(model="deepfm", limit_seconds=300.0)
    parser.add_argument("--gigabytes", type=float, default=5.0, help="size of the made train.parquet")
    parser.add_argument("--ids", choices=("integer", "text"), default="integer")
    options = parser.parse_args(words)
    if not options.table:
        options.data = options.data or str(made(options))
    return options


if __name__ == "__main__":
    sys.exit(_shared.main(options_of(), measure))
