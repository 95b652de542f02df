"""What a training step and a request cost a model of histories, against their length and the number of items.

Histories are made up: as many as fill a few steps, all of the length asked for, of items drawn at random. Each cell is
milliseconds a step of `--positions` positions (forward, backward, optimiser), the median of `--steps` after the first,
and milliseconds to score all items for one posted history.
"""

import hashlib
import itertools
import json
import statistics
import sys
import time
from argparse import Namespace
from typing import Any

import numpy as np
import polars as pl
import torch

import _shared
import bowerbird.models  # noqa: F401  fills the registry
from bowerbird.core import build, lookup
from bowerbird.core.ids import Ids
from bowerbird.data import Interactions
from bowerbird.features import Context
from bowerbird.training import Adam, batches_for

LENGTHS, ITEMS = (50, 200, 1_000), (10_000, 100_000, 1_000_000)


def made(length: int, n_items: int, rows: int) -> Interactions:
    """Return `rows` histories of `length` + 1 events."""
    rng = np.random.default_rng(0)
    user = np.repeat(np.arange(rows, dtype=np.int32), length + 1)
    item = rng.integers(0, n_items, len(user)).astype(np.int32)
    ids = Ids(pl.Series(np.arange(rows))), Ids(pl.Series(np.arange(n_items)))
    ones = np.ones(len(user), np.float32)
    return Interactions(user, item, ones, np.zeros(len(user), np.uint8), None, *ids)


def cell(model: str, settings: dict[str, Any], length: int, n_items: int, options: Namespace) -> dict[str, Any]:
    """Return the costs at one length and one number of items."""
    rows = max(1, options.positions // length)
    past = made(length, n_items, rows)
    more = {"history_len": length, "batch_size": max(options.positions, length)}
    config = build(lookup(model).config, settings | more, where="--set")
    torch.manual_seed(0)
    net = lookup(model).model(config, past.schema)
    net.prepare(past)
    kind = lookup(model).batches
    assert kind is not None
    batches = batches_for(kind, past, config, seed=0, device="cpu")
    laps = _shared.laps(net.train(), Adam(net.parameters(), 1e-3), batches, options.steps + 1)
    net.eval().freeze()
    context, asked = Context.of_histories([past.item[:length]]), []
    encoding = []
    with torch.no_grad():
        for _ in range(20):
            started = time.perf_counter()
            net.query(context)
            encoding.append(1000 * (time.perf_counter() - started))
            started = time.perf_counter()
            net.scores(context)
            asked.append(1000 * (time.perf_counter() - started))
    return {
        "length": length, "items": n_items, "loss": net.config.loss, "step_ms": 1000 * statistics.median(laps[1:]),
        "encode_ms": statistics.median(encoding), "scores_ms": statistics.median(asked),
        "memory_mb": _shared.peak_memory_mb(),
    }  # fmt: skip


def measure(options: Namespace) -> dict[str, Any]:
    """Measure every cell; return the row."""
    settings = _shared.settings(options.set)
    cells = []
    for n_items, length in itertools.product(options.items, options.lengths):
        cells.append(cell(options.model, settings, length, n_items, options))
        one = cells[-1]
        print(f"{one['items']:>9,} items, length {length:>5}, {one['loss']}: step {one['step_ms']:,.0f} ms, "
              f"encode {one['encode_ms']:.2f} ms, all scores {one['scores_ms']:.2f} ms")  # fmt: skip
    digest = hashlib.sha256(json.dumps([options.model, settings], sort_keys=True).encode()).hexdigest()
    return {
        "benchmark": "sequential_cost",
        "data": "made up",
        "model": options.model,
        "config": settings,
        "config_sha256": digest,
        "protocol": f"positions={options.positions} steps={options.steps}",
        "report": "valid",
        "seeds": [0],
        "metrics": {},
        "seconds": {"step": max(one["step_ms"] for one in cells) / 1000},
        "cells": cells,
    }


if __name__ == "__main__":
    parser = _shared.parser(__doc__ or "")
    parser.set_defaults(data="made up", model="sasrec")
    parser.add_argument("--positions", type=int, default=2_048)
    parser.add_argument("--steps", type=int, default=5)
    parser.add_argument("--lengths", type=int, nargs="+", default=LENGTHS)
    parser.add_argument("--items", type=int, nargs="+", default=ITEMS)
    sys.exit(_shared.main(parser.parse_args(), measure))
