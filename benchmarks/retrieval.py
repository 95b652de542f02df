"""What exact and approximate search cost for one request, against the number of items, and what the latter finds.

Vectors are made up: 200 items to a cluster, noise of 0.6 of the distance between clusters, lengths log-normal. A query
lies between three random items, which no cluster answers by itself. Milliseconds are by the wall and, `cpu_`, of this
thread alone, which other programs disturb less. `--filters` gives shares of items that a filter lets through.
"""

import hashlib
import json
import sys
import time
from argparse import Namespace
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

import _shared
from bowerbird.core import torch_stream
from bowerbird.retrieval import top_k
from bowerbird.retrieval.approximate import Approximate

ITEMS, FILTERS, N, WARM = (10_000, 30_000, 50_000, 100_000, 300_000, 1_000_000), (0.01, 0.1, 0.5), 100, 10
Search = Callable[[Tensor], tuple[Tensor, Tensor]]


def made(n_items: int, dim: int, requests: int) -> tuple[Tensor, Tensor]:
    """Return item vectors (I, D) and queries (B, D)."""
    rng = np.random.default_rng(0)
    centres = rng.normal(size=(max(1, n_items // 200), dim)).astype(np.float32)
    items = centres[rng.integers(len(centres), size=n_items)]
    items += 0.6 * rng.normal(size=items.shape).astype(np.float32)
    items *= np.exp(0.3 * rng.normal(size=(n_items, 1))).astype(np.float32) / np.float32(np.sqrt(dim))
    queries = items[rng.integers(n_items, size=(requests, 3))].mean(axis=1)
    queries += 0.3 / np.sqrt(dim) * rng.normal(size=queries.shape).astype(np.float32)
    return torch.from_numpy(items), torch.from_numpy(queries)


def timed(search: Search, queries: Tensor) -> tuple[dict[str, float], Tensor]:
    """Answer each query by itself; return percentiles of the milliseconds and the rows found (B, n)."""
    for query in queries[:WARM].split(1):
        search(query)
    wall, cpu, found = [], [], []
    for query in queries.split(1):
        started, worked = time.perf_counter(), time.thread_time()
        found.append(search(query)[1])
        cpu.append(1000 * (time.thread_time() - worked))
        wall.append(1000 * (time.perf_counter() - started))
    laps = {"": wall, "cpu_": cpu}
    figures = {f"{kind}p{level}_ms": float(np.percentile(laps[kind], level)) for kind in laps for level in (50, 99)}
    return figures, torch.cat(found)


def recall(found: Tensor, best: Tensor) -> float:
    """Return the share of the best rows (B, n) that are among those found (B, n)."""
    wanted = [set(rows) - {-1} for rows in best.tolist()]
    pairs = zip(found.tolist(), wanted, strict=True)
    return float(np.mean([len(rows & set(one)) / len(rows) for one, rows in pairs]))


def cells(n_items: int, options: Namespace) -> list[dict[str, Any]]:
    """Return what each search costs and finds among so many items."""
    vectors, queries = made(n_items, options.dim, options.requests)

    def exact(query: Tensor) -> tuple[Tensor, Tensor]:
        return top_k((vectors @ query.T).T, N, lambda: torch_stream(0, "ties"))

    def exact_allowed(query: Tensor) -> tuple[Tensor, Tensor]:
        return top_k((vectors @ query.T).T.masked_fill(~allowed, -torch.inf), N, lambda: torch_stream(0, "ties"))

    started = time.perf_counter()
    index = Approximate.of(vectors)
    build_s = time.perf_counter() - started
    kept = index.tensors()
    started = time.perf_counter()
    index = Approximate.of_tensors(vectors, kept)
    load_s = time.perf_counter() - started
    figures, best = timed(exact, queries)
    size = vectors.nbytes
    rows = [{"n_items": n_items, "kind": "exact", "recall@100": 1.0, **figures, "build_s": 0.0, "bytes": size}]
    figures, found = timed(lambda query: index.search(query, N), queries)
    size = sum(tensor.nbytes for tensor in kept.values())
    more = {"build_s": build_s, "load_s": load_s, "bytes": size}
    rows.append({"n_items": n_items, "kind": "approximate", "recall@100": recall(found, best), **figures, **more})
    for share in options.filters:
        allowed = torch.rand(n_items, generator=torch_stream(0, "filter")) < share
        figures, best = timed(exact_allowed, queries)
        rows.append({"n_items": n_items, "kind": "exact", "share": share, "recall@100": 1.0, **figures})
        figures, found = timed(lambda query, allowed=allowed: index.search(query, N, allowed), queries)
        more = {"recall@100": recall(found, best), "filled": float((found >= 0).sum() / (best >= 0).sum())}
        rows.append({"n_items": n_items, "kind": "approximate", "share": share, **more, **figures})
    return rows


def measure(options: Namespace) -> dict[str, Any]:
    """Measure every number of items; return the row. Its metrics are of the largest, without a filter."""
    table: list[dict[str, Any]] = []
    print(f"{'items':>9}  {'search':<11}  {'filter':>6}  recall@100  p50 ms  p99 ms  cpu p99  build s      bytes")
    for n_items in options.items:
        for one in cells(n_items, options):
            table.append(one)
            print(f"{n_items:>9,}  {one['kind']:<11}  {one.get('share', 1):>6}  {one['recall@100']:>10.4f}  "
                  f"{one['p50_ms']:>6.2f}  {one['p99_ms']:>6.2f}  {one['cpu_p99_ms']:>7.2f}  "
                  f"{one.get('build_s', 0):>7.2f}  {one.get('bytes', 0):>9,}")  # fmt: skip
    largest = max((one for one in table if one["kind"] == "approximate" and "share" not in one), key=_items)
    document = {"dim": options.dim, "items": options.items, "filters": options.filters}
    return {
        "benchmark": "retrieval",
        "data": "made-up",
        "model": "none",
        "config": document,
        "config_sha256": hashlib.sha256(json.dumps(document, sort_keys=True).encode()).hexdigest(),
        "protocol": f"d={options.dim} n={N} requests={options.requests} one after another, threads={options.threads}",
        "report": "valid",
        "seeds": [0],
        "metrics": {name: largest[name] for name in ("recall@100", "p50_ms", "p99_ms", "cpu_p99_ms", "build_s")},
        "seconds": {"build": largest["build_s"], "load": largest["load_s"]},
        "cells": table,
    }


def _items(cell: dict[str, Any]) -> int:
    return int(cell["n_items"])


if __name__ == "__main__":
    parser = _shared.parser(__doc__ or "")
    parser.set_defaults(data="made-up", threads=1)
    parser.add_argument("--items", type=int, nargs="+", default=ITEMS)
    parser.add_argument("--filters", type=float, nargs="*", default=FILTERS, help="shares of items let through")
    parser.add_argument("--dim", type=int, default=64)
    parser.add_argument("--requests", type=int, default=300)
    options = parser.parse_args()
    sys.exit(_shared.table("retrieval", {}) if options.table else _shared.main(options, measure))
