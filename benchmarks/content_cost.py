"""What content costs: reading what items say, going on when one has changed, and asking what is like ten of them.

Items are made up: a title of 8 words and a text of 35, drawn by Zipf's law from 80,000, a category, four tags and a
publisher. Milliseconds of a question are by the wall, one after another.
"""

import hashlib
import json
import sys
import time
from argparse import Namespace
from typing import Any

import numpy as np
import polars as pl

import _shared
from bowerbird.features.content import ItemWords

ITEMS, PAST, WARM = (10_000, 30_000, 100_000), 10, 10
WORDS, TEXTS = 80_000, {"title": 8, "text": 35}


def made(n_items: int) -> pl.DataFrame:
    """Return a table of items."""
    rng = np.random.default_rng(0)
    words = np.array([f"w{number * 2_654_435_761 % 2**32:x}" for number in range(WORDS)])
    chance = 1 / (np.arange(WORDS) + 2.7) ** 1.05
    upto = np.cumsum(chance / chance.sum())

    def drawn(each: int) -> list[list[str]]:
        found: list[list[str]] = words[np.searchsorted(upto, rng.random((n_items, each))).clip(max=WORDS - 1)].tolist()
        return found

    return pl.DataFrame(
        {"item_id": np.arange(n_items)}
        | {name: [" ".join(one) for one in drawn(each)] for name, each in TEXTS.items()}
        | {
            "category": words[rng.integers(20, size=n_items)],
            "tags": words[rng.integers(2_000, size=(n_items, 4))].tolist(),
            "publisher": [f"Paper {number}" for number in rng.integers(300, size=n_items)],
        }
    )


def cell(n_items: int, requests: int) -> dict[str, Any]:
    """Return what so many items cost."""
    table, rng = made(n_items), np.random.default_rng(1)
    started = time.perf_counter()
    words = ItemWords.of(table)
    read_s = time.perf_counter() - started
    assert words is not None
    changed = pl.concat([table, table[:1]])
    started = time.perf_counter()
    words.renewed(changed, np.zeros(0, np.int64))
    renewed_s = time.perf_counter() - started
    laps = []
    for _ in range(WARM + requests):
        rows = rng.integers(n_items, size=PAST)
        started = time.perf_counter()
        words.likeness(rows)
        laps.append(1000 * (time.perf_counter() - started))
    size = sum(part.nbytes for one in (words.items, words.words) for part in (one.data, one.indices, one.indptr))
    figures = {f"p{level}_ms": float(np.percentile(laps[WARM:], level)) for level in (50, 99)}
    return {"n_items": n_items, "read_s": read_s, "renewed_s": renewed_s, **figures, "bytes": size}


def measure(options: Namespace) -> dict[str, Any]:
    """Measure every number of items; return the row. Its metrics are of the largest."""
    table: list[dict[str, Any]] = []
    print(f"{'items':>9}  {'read s':>7}  {'renewed s':>9}  p50 ms  p99 ms        bytes")
    for n_items in options.items:
        table.append(one := cell(n_items, options.requests))
        print(f"{n_items:>9,}  {one['read_s']:>7.2f}  {one['renewed_s']:>9.3f}  {one['p50_ms']:>6.2f}  "
              f"{one['p99_ms']:>6.2f}  {one['bytes']:>11,}")  # fmt: skip
    largest = max(table, key=lambda one: int(one["n_items"]))
    document = {"items": options.items, "texts": TEXTS}
    return {
        "benchmark": "content_cost",
        "data": "made-up",
        "model": "none",
        "config": document,
        "config_sha256": hashlib.sha256(json.dumps(document, sort_keys=True).encode()).hexdigest(),
        "protocol": f"past={PAST} requests={options.requests} one after another, threads={options.threads}",
        "report": "valid",
        "seeds": [0],
        "metrics": {name: largest[name] for name in ("p50_ms", "p99_ms")},
        "seconds": {"read": largest["read_s"], "renewed": largest["renewed_s"]},
        "cells": table,
    }


if __name__ == "__main__":
    parser = _shared.parser(__doc__ or "")
    parser.set_defaults(data="made-up", threads=1)
    parser.add_argument("--items", type=int, nargs="+", default=ITEMS)
    parser.add_argument("--requests", type=int, default=300)
    options = parser.parse_args()
    sys.exit(_shared.table("content_cost", {}) if options.table else _shared.main(options, measure))
