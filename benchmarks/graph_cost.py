"""What an epoch costs a model on the graph, against the number of edges.

Graphs are made up: users, items and edges grow together, edges are drawn by Zipf's law. A step takes one `--steps`-th
of the edges, so that an epoch has as many steps whatever the graph: each lets vectors travel along all of it, and an
epoch of steps of a fixed size would grow with the square of the edges. Each cell is the median of `--laps` steps after
the first.
"""

import argparse
import hashlib
import json
import statistics
import sys
from typing import Any

import numpy as np
import polars as pl
import torch

import _shared
import bowerbird.models  # noqa: F401  fills the registry
from bowerbird.core import build, lookup, numpy_stream
from bowerbird.core.ids import Ids
from bowerbird.data import Interactions
from bowerbird.training import Adam, batches_for

MODELS = ("lightgcn", "ngcf", "sgl", "simgcl", "xsimgcl")
EDGES, PER_USER, PER_ITEM = 250_000, 12, 10  # of the smallest graph


def made(edges: int) -> Interactions:
    """Return a graph with about so many edges."""
    rng, sizes = np.random.default_rng(0), (edges // PER_USER, edges // PER_ITEM)
    drawn = []
    for size in sizes:
        upto = np.cumsum(1 / (np.arange(size) + 10) ** 0.7)
        drawn.append(np.searchsorted(upto / upto[-1], rng.random(edges)).clip(max=size - 1).astype(np.int32))
    ids = [Ids(pl.Series(np.arange(size))) for size in sizes]
    return Interactions(*drawn, np.ones(edges, np.float32), np.zeros(edges, np.uint8), None, *ids)


def cell(model: str, settings: dict[str, Any], edges: int, options: argparse.Namespace) -> dict[str, Any]:
    """Return what an epoch costs on one graph."""
    train = made(edges)
    n = len(train.positives)
    config = build(lookup(model).config, settings | {"batch_size": -(-n // options.steps)}, where="--set")
    torch.manual_seed(0)
    net = lookup(model).model(config, train.schema)
    net.prepare(train)
    kind = lookup(model).batches
    assert kind is not None
    batches = batches_for(kind, train, config, seed=0, device="cpu")
    if hasattr(net, "begin_epoch"):
        net.begin_epoch(numpy_stream(0, "epoch"))
    laps = _shared.laps(net.train(), Adam(net.parameters(), 1e-3), batches, options.laps)
    step = statistics.median(laps[1:])
    print(f"{model:>9} {n:>9,} edges: step {1000 * step:7,.0f} ms, epoch {step * len(batches):6.1f} s", file=sys.stderr)
    return {"edges": n, "step_ms": 1000 * step, "epoch_s": step * len(batches), "memory_mb": _shared.peak_memory_mb()}


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """Measure every cell; return the row."""
    settings = _shared.settings(options.set)
    cells = [cell(options.model, settings, EDGES * times, options) for times in options.times]
    digest = hashlib.sha256(json.dumps([options.model, settings], sort_keys=True).encode()).hexdigest()
    return {
        "benchmark": "graph_cost",
        "data": "made up",
        "model": options.model,
        "config": settings,
        "config_sha256": digest,
        "protocol": f"steps of an epoch={options.steps} laps={options.laps}",
        "report": "valid",
        "seeds": [0],
        "metrics": {},
        "seconds": {"epoch": cells[-1]["epoch_s"]},
        "growth": [one["epoch_s"] / cells[0]["epoch_s"] for one in cells],
        "cells": cells,
    }


if __name__ == "__main__":
    parser = _shared.parser(__doc__ or "")
    parser.set_defaults(data="made up")
    parser.add_argument("--steps", type=int, default=64, help="of an epoch")
    parser.add_argument("--laps", type=int, default=6)
    parser.add_argument("--times", type=int, nargs="+", default=(1, 2, 4), help=f"times {EDGES:,} edges")
    sys.exit(_shared.main(parser.parse_args(), measure))
