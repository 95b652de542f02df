"""Recommendation from user-item pairs alone, on any folder with train.txt[.gz], test.txt and perhaps valid.txt.

Protocol of He et al. (LightGCN, SIGIR 2020): full ranking, training items masked, Recall@20 and NDCG@20. Without a
validation file, 10 % of each user's training pairs are held out. For `--report test` the first seed chooses the epoch
on validation, and every seed trains again for that many, on all of train; what is solved at once has nothing to choose.

`--model default` is the shipped choice. `--checkpoint FOLDER` lets a long row go on where it was interrupted. `--table`
prints the kept rows beside the published cells and ends with 1 where the newest test row of a model misses its bar.
"""

import argparse
import hashlib
import json
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import numpy as np

import _shared
from bowerbird import Recipe, RunOptions, evaluate, read, split
from bowerbird.core import DataError, TrainedConfig, build, lookup
from bowerbird.data import Interactions
from bowerbird.evaluation import Report
from bowerbird.recommender import Recommender
from bowerbird.training import Training

DEFAULT = "lightgcn"  # the shipped choice
METRICS = ("recall@20", "ndcg@20")
PUBLISHED = {  # on test; the epochs of the graph models were chosen on test as well
    ("gowalla", "lightgcn"): {"recall@20": 0.1830, "ndcg@20": 0.1554},
    ("gowalla", "ngcf"): {"recall@20": 0.1570, "ndcg@20": 0.1327},
    ("gowalla", "spectral"): {"recall@20": 0.1849, "ndcg@20": 0.1518},  # GF-CF
    ("gowalla", "ease"): {"recall@20": 0.1765, "ndcg@20": 0.1467},
    ("gowalla", "mf"): {"recall@20": 0.1627, "ndcg@20": 0.1378},
    ("gowalla", "itemknn"): {"recall@20": 0.1570, "ndcg@20": 0.1214},
    ("yelp2018", "lightgcn"): {"recall@20": 0.0649, "ndcg@20": 0.0530},
    ("yelp2018", "ngcf"): {"recall@20": 0.0579, "ndcg@20": 0.0477},
    ("yelp2018", "sgl"): {"recall@20": 0.0675, "ndcg@20": 0.0555},
    ("yelp2018", "simgcl"): {"recall@20": 0.0721, "ndcg@20": 0.0601},
    ("yelp2018", "xsimgcl"): {"recall@20": 0.0723, "ndcg@20": 0.0604},
    ("yelp2018", "spectral"): {"recall@20": 0.0697, "ndcg@20": 0.0571},  # GF-CF
    ("yelp2018", "ease"): {"recall@20": 0.0657, "ndcg@20": 0.0552},
    ("yelp2018", "mf"): {"recall@20": 0.0576, "ndcg@20": 0.0468},
    ("yelp2018", "itemknn"): {"recall@20": 0.0639, "ndcg@20": 0.0531},
}
BARS = {
    ("gowalla", "lightgcn"): {"recall@20": 0.1815},
    ("gowalla", "spectral"): {"recall@20": 0.1849},
    ("yelp2018", "xsimgcl"): {"recall@20": 0.0716},
    ("yelp2018", "spectral"): {"recall@20": 0.0690},
}
FEW, SOME = 5, 20  # training events of a user, at most


def options_of(words: list[str] | None = None) -> argparse.Namespace:
    """Return the options of the command line."""
    options = _shared.parser(__doc__ or "")
    options.set_defaults(model="default")
    options.add_argument("--checkpoint", default="", metavar="FOLDER", help="where a training goes on, if interrupted")
    return options.parse_args(words)


def _files(folder: Path) -> dict[str, Path]:
    found = {}
    for part in ("train", "valid", "test"):
        for name in (f"{part}.txt", f"{part}.txt.gz"):
            if (folder / name).exists():
                found[part] = folder / name
    if not {"train", "test"} <= set(found):
        raise DataError(f"{folder}: train.txt (or train.txt.gz) and test.txt are needed.")
    return found


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """Train and evaluate over the seeds; return the row."""
    files = _files(Path(options.data))
    tables = {part: read(path, format="lists") for part, path in files.items()}
    parts = split(tables["train"], test=tables["test"], **({"valid": tables["valid"]} if "valid" in tables else {}))
    changes = _shared.settings(options.set)
    if options.recipe:
        recipe = Recipe.load(options.recipe)
        config = build(type(recipe.model), asdict(recipe.model) | changes)
    else:
        config = build(lookup(DEFAULT if options.model == "default" else options.model).config, changes)
    seeds = _shared.seeds(options.seeds)
    limit = _shared.Limit(options.limit_seconds)
    test = options.report == "test"
    runs: list[tuple[Report, float, float]] = []
    chosen: Training | None = None
    choosing = 0.0
    for seed in seeds:
        run = RunOptions(seed=seed, threads=options.threads, checkpoint=options.checkpoint)
        started = time.perf_counter()
        recommender = Recommender(config, parts.train, run=run)
        if test and isinstance(config, TrainedConfig) and chosen is None:
            recommender.learn(valid=parts.valid, on_epoch=limit)
            chosen, choosing = recommender.training, time.perf_counter() - started
            started = time.perf_counter()
        if test:
            recommender = Recommender(config, parts.test.known, run=run)
            recommender.learn(epochs=chosen)
        else:
            recommender.learn(valid=parts.valid, on_epoch=limit)
            chosen = chosen or recommender.training
        trained = time.perf_counter()
        report = evaluate(recommender, getattr(parts, options.report), metrics=METRICS, intervals=False, seed=seed)
        runs.append((report, trained - started, time.perf_counter() - trained))
        if limit.reached and not test:
            break
    reports, training_seconds, evaluation_seconds = zip(*runs, strict=True)
    row: dict[str, Any] = {
        "benchmark": "graph",
        "data": Path(options.data).name,
        "data_sha256": _shared.sha256(list(files.values())),
        "model": recommender.name,
        "config": asdict(config),
        "config_sha256": hashlib.sha256(json.dumps(asdict(config), sort_keys=True).encode()).hexdigest(),
        "protocol": f"{reports[0].protocol} select=valid seeds={options.seeds}",
        "report": options.report,
        "seeds": seeds[: len(runs)],
        "metrics": {name: mean(report.metrics[name] for report in reports) for name in reports[0].metrics},
        "by_events": by_events(reports, getattr(parts, options.report).known),
        "users": reports[0].n_users,
        "items": reports[0].n_items,
        "seconds": {"train": mean(training_seconds), "evaluate": mean(evaluation_seconds)},
        "cut_by_limit": limit.reached,
    }
    if len(runs) > 1:
        row["sd"] = {name: stdev(report.metrics[name] for report in reports) for name in METRICS}
    if chosen is not None:
        row["seconds"]["epoch"] = chosen.seconds / max(chosen.epochs - chosen.resumed_from, 1)
        row |= {"rows_per_s": chosen.rows_per_s, "data_share": chosen.data_share, "epochs": chosen.best_epoch}
        row["seconds"] |= {"choose": choosing, "all": choosing + sum(training_seconds)} if test else {}
    return row


def by_events(reports: Sequence[Report], known: Interactions) -> dict[str, dict[str, float]]:
    """Return the metrics of people with few, some and many training events: sparsity has a row."""
    count = np.bincount(known.positives.user, minlength=known.n_users)
    found = {}
    for name, low, high in ((f"<= {FEW}", 0, FEW), (f"{FEW + 1} to {SOME}", FEW + 1, SOME), ("more", SOME + 1, np.inf)):
        own = [count[known.user_ids.rows(report.per_user["user_id"])] for report in reports]
        there = [(events >= low) & (events <= high) for events in own]
        if there[0].any():
            found[name] = {"users": float(there[0].sum())} | {
                metric: mean(
                    float(report.per_user[metric].to_numpy()[mine].mean())
                    for report, mine in zip(reports, there, strict=True)
                )
                for metric in METRICS
            }
    return found


if __name__ == "__main__":
    options = options_of()
    sys.exit(_shared.table("graph", PUBLISHED, BARS) if options.table else _shared.main(options, measure))
