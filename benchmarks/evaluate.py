"""How long it takes to rank everything for everyone, and to answer one person, on any data a benchmark reads.

A folder of train.txt[.gz] and test.txt, or a file or named set, which is split at random, 80/10/10 of each user's
pairs. The model is trained for one epoch (or solved); every user of the test part is ranked over all items, the known
past masked. The figures of quality are those of the validation part, and mean nothing after one epoch.
"""

import argparse
import hashlib
import statistics
import sys
import time
from functools import partial
from typing import Any

import torch

import _shared
from bowerbird import RunOptions, evaluate
from bowerbird.core import TrainedConfig, build, lookup
from bowerbird.features import Context
from bowerbird.recommender import Recommender
from bowerbird.retrieval import hide_seen, top_k
from peers import parts_of

METRICS = ("recall@20", "ndcg@20")
CALLS = 300


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """Train shortly, then time evaluation (the best of three) and single answers (their median)."""
    parts = parts_of(options.data)
    config = build(lookup(options.model).config, _shared.settings(options.set))
    rec = Recommender(config, parts.train, run=RunOptions(threads=options.threads, progress=False))
    started = time.perf_counter()
    rec.learn(epochs=1 if isinstance(config, TrainedConfig) else None)
    trained = time.perf_counter() - started
    ask = partial(evaluate, rec, metrics=METRICS, intervals=False)
    laps = []
    for _ in range(3):
        started = time.perf_counter()
        report = ask(parts.test)
        laps.append(time.perf_counter() - started)
    users = parts.train.user_ids.values.head(CALLS).to_list()
    contexts = [Context.of_users(rec.user_ids.rows([user]), rec.past) for user in users]
    return {
        "benchmark": "evaluate",
        "data": options.data.rstrip("/").split("/")[-1],
        "data_sha256": parts.train.fingerprint,
        "model": rec.name,
        "config_sha256": hashlib.sha256(repr(config).encode()).hexdigest(),
        "protocol": f"{parts.protocol} ranking=full masked=train+valid k=20",
        "report": "valid",
        "seeds": [0],
        "metrics": {name: ask(parts.valid).metrics[name] for name in METRICS},
        "users": report.n_users,
        "items": report.n_items,
        "seconds": {"train": trained, "evaluate": min(laps)},
        "latency_ms": {
            "recommend": _median_ms(lambda user: rec.recommend([user], k=10).ids, users),
            "scorer": _median_ms(partial(_score, rec), contexts),
        },
    }


@torch.inference_mode()
def _score(rec: Recommender, context: Context) -> None:
    """Score all items, hide the past, find the ten best: what other libraries call recommending."""
    scores = rec.model.scores(context)
    hide_seen(scores, context.history, None)
    top_k(scores, 10, torch.Generator)


def _median_ms(call: Any, asked: list[Any]) -> float:
    laps = []
    for one in asked:
        started = time.perf_counter()
        call(one)
        laps.append(1000 * (time.perf_counter() - started))
    return statistics.median(laps)


if __name__ == "__main__":
    options = _shared.parser(__doc__).parse_args()
    sys.exit(_shared.table("evaluate", {}) if options.table else _shared.main(options, measure))
