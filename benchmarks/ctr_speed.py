"""Rows per second in training beside other libraries: one file, one machine, one setting, one process after another.

The setting is COMMON of `_ctr_settings.py` (d 16, MLP 128-128-128, dropout 0.2, batch 2048, Adam 1e-3, CIN
100-100-100). `--data frappe` is a named feature table; `--data criteo` is made up in Criteo's shape: 26 columns of
40,000 values each and 13 numbers. `peers.NAME.ratio` says how many times faster an epoch of ours is.
"""

import argparse
import hashlib
import json
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

import _shared
from _ctr_settings import COMMON
from bowerbird.core.ids import encode
from bowerbird.data import load_rows
from bowerbird.data.named import cache_folder
from peers import child, environment

SCRIPTS = {"recbole": "_peer_recbole_ctr.py", "fuxictr": "_peer_fuxictr.py"}
FIELDS, VALUES, NUMBERS, ROWS = 26, 40_000, 13, 400_000  # of the table in Criteo's shape


def frappe(root: str | None) -> dict[str, pl.DataFrame]:
    """Return the parts of frappe as codes from 1 by column, so that every library reads the same numbers."""
    parts = load_rows("frappe", data_root=root)
    names, whole = parts["train"].table.columns, pl.concat([parts[name].table for name in parts])
    codes = {name: encode(whole[name])[1] + 1 for name in names}
    sizes = np.cumsum([0, *(len(one) for one in parts.values())])
    return {
        part: pl.DataFrame({name: codes[name][start:end] for name in names}).with_columns(
            label=pl.Series(rows.labels[:, 0]).cast(pl.Int64)
        )
        for (part, rows), start, end in zip(parts.items(), sizes, sizes[1:], strict=False)
    }


def criteo(seed: int = 0) -> dict[str, pl.DataFrame]:
    """Return made-up rows in Criteo's shape; a fifth have label 1, by hidden weights of their values."""
    rng = np.random.default_rng(seed)
    found = {}
    weight = rng.normal(0, 0.6, (FIELDS, VALUES))
    for part, n in (("train", ROWS), ("valid", 20_000), ("test", 20_000)):
        skewed = (VALUES * rng.random((n, FIELDS)) ** 3).astype(np.int64)
        numbers = rng.normal(0, 1, (n, NUMBERS)).round(4)
        logit = weight[np.arange(FIELDS), skewed].sum(axis=1) + numbers.sum(axis=1) * 0.3 - 2.5
        table = {f"c{place}": skewed[:, place] + 1 for place in range(FIELDS)}
        table |= {f"n{place}": numbers[:, place] for place in range(NUMBERS)}
        label = (rng.random(n) < 1 / (1 + np.exp(-logit))).astype(np.int64)
        found[part] = pl.DataFrame(table | {"label": label})
    return found


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """Run ours, then each peer; return the row."""
    tables = criteo() if options.data == "criteo" else frappe(options.data_root)
    with tempfile.TemporaryDirectory() as scratch:
        for part, table in tables.items():
            table.write_csv(Path(scratch) / f"{part}.csv")
        digest = _shared.sha256([Path(scratch) / f"{part}.csv" for part in tables])
        settings = COMMON | {"epochs": options.epochs}
        spec = {
            "folder": scratch, "model": options.model, "settings": settings, "seed": 0, "mode": "speed",
            "threads": options.threads, "batches": options.peer_batches,
        }  # fmt: skip
        ours = child(sys.executable, "_peer_bowerbird_ctr.py", spec)
        peers = {}
        for peer in options.peers.split(",") if options.peers else []:
            theirs = child(str(environment(peer, Path(options.peers_home))), SCRIPTS[peer], spec)
            peers[peer] = theirs | {"ratio": theirs["epoch"] / ours["epoch"]}
    return {
        "benchmark": "ctr_speed",
        "data": options.data,
        "data_sha256": digest,
        "model": options.model,
        "config": settings,
        "config_sha256": hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest(),
        "protocol": f"rows={len(tables['train'])} part=valid epochs={options.epochs} setting=common",
        "report": "valid",
        "seeds": [0],
        "metrics": {"auc": ours["auc"]},
        "seconds": {"epoch": ours["epoch"]},
        "rows_per_s": ours["rows_per_s"],
        "data_share": ours["data_share"],
        "memory_mb": ours["memory_mb"],
        "peers": peers,
    }


if __name__ == "__main__":
    parser = _shared.parser(__doc__ or "")
    parser.set_defaults(model="deepfm", data="frappe")
    parser.add_argument("--data-root", default=None, help="a folder that holds data sets by name")
    parser.add_argument("--peers", default="recbole,fuxictr", help="with commas; empty for none")
    parser.add_argument("--peers-home", default=str(cache_folder() / "peers"), help="where peers are installed")
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--peer-batches", type=int, default=0, help="time the peers' first N batches and scale; 0: all")
    options = parser.parse_args()
    sys.exit(_shared.table("ctr_speed", {}) if options.table else _shared.main(options, measure))
