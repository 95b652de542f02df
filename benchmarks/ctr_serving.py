"""How long a ranker takes to order 500 candidates of one request, on one core: what stands in the hot path of serving.

The table has 39 columns, as Criteo's: 13 categories of a user, 13 of an item, 13 numbers of an item, d 16. A request is
timed from its context and candidates to their probabilities, as `Ranking.scores` gives them: columns are joined, rows
are embedded, scored and calibrated. `--candidates` and `--hidden` change the size.
"""

import argparse
import hashlib
import json
import sys
import time
from typing import Any

import numpy as np
import polars as pl
import torch

import _shared
from bowerbird.core import RunOptions, build, lookup
from bowerbird.features import Categorical, Encoder, FeatureTable, Numeric
from bowerbird.features.context import Context
from bowerbird.recommender.ranking import Ranking

USERS, ITEMS, VALUES, WARM, REQUESTS = 20_000, 40_000, 40_000, 50, 500


def table_of(rng: np.random.Generator) -> tuple[Encoder, FeatureTable]:
    """Return made-up users and items, encoded."""
    users = pl.DataFrame({f"u{place}": rng.integers(VALUES, size=USERS) for place in range(13)})
    items = pl.DataFrame({f"i{place}": rng.integers(VALUES, size=ITEMS) for place in range(13)})
    items = items.with_columns(pl.Series(f"n{place}", rng.normal(size=ITEMS)) for place in range(13))
    columns = {
        "user": [Categorical(name=name) for name in users.columns],
        "item": [
            Numeric(name=name, transform="standard") if name[0] == "n" else Categorical(name=name)
            for name in items.columns
        ],
        "request": [],
    }
    parts = {"user": users, "item": items, "request": pl.DataFrame({"none": [0]})}
    encoder = Encoder.fit(parts, columns)
    encoded = {part: encoder.encode(pl.concat([frame, frame.clear(1)]), part) for part, frame in parts.items()}
    return encoder, FeatureTable(encoder.schema, encoded["user"], encoded["item"], encoded["request"])


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """Time requests one after another; return the row."""
    torch.set_num_threads(1)
    rng = np.random.default_rng(0)
    encoder, table = table_of(rng)
    kind = lookup(options.model).config
    hidden = tuple(int(size) for size in options.hidden.split(","))
    config = build(kind, {"dim": 16, "hidden": hidden} | _shared.settings(options.set))
    ranking = Ranking(config, encoder, RunOptions(threads=1, progress=False))
    laps = []
    for _ in range(WARM + REQUESTS):
        context = Context.nobody()
        context = Context(torch.from_numpy(rng.integers(USERS, size=1)), context.history)
        candidates = torch.from_numpy(rng.choice(ITEMS, options.candidates, replace=False))[None]
        started = time.perf_counter()
        ranking.scores(context, candidates, table)
        laps.append(1000 * (time.perf_counter() - started))
    times = np.array(laps[WARM:])
    figures = {f"p{level}": float(np.percentile(times, level)) for level in (50, 90, 99)}
    document = {"hidden": hidden, "candidates": options.candidates, "columns": 39, "dim": 16}
    return {
        "benchmark": "ctr_serving",
        "data": "made-up",
        "model": options.model,
        "config": document,
        "config_sha256": hashlib.sha256(json.dumps(document, sort_keys=True).encode()).hexdigest(),
        "protocol": f"candidates={options.candidates} columns=39 d=16 hidden={options.hidden} threads=1 "
        f"requests={REQUESTS} one after another",
        "report": "valid",
        "seeds": [0],
        "metrics": {},
        "latency_ms": figures,
        "seconds": {name: value / 1000 for name, value in figures.items()},
    }


if __name__ == "__main__":
    parser = _shared.parser(__doc__ or "")
    parser.set_defaults(model="deepfm", data="made-up", threads=1)
    parser.add_argument("--hidden", default="128,128,128", help="units of the perceptron")
    parser.add_argument("--candidates", type=int, default=500)
    options = parser.parse_args()
    sys.exit(_shared.table("ctr_serving", {}) if options.table else _shared.main(options, measure))
