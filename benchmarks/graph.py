"""Recommendation from user-item pairs alone, on any folder with train.txt[.gz], test.txt and perhaps valid.txt.

Protocol of He et al. (LightGCN, SIGIR 2020): full ranking, training items masked, Recall@20 and NDCG@20. Without a
validation file, 10 % of each user's training pairs are held out to choose the epoch; for `--report test` the chosen
epochs are trained again on all of train.
"""

import argparse
import hashlib
import json
import sys
import time
from dataclasses import asdict
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import _shared
from bowerbird import Recipe, RunOptions, evaluate, read, split
from bowerbird.core import DataError, build, lookup
from bowerbird.recommender import Recommender

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
        config = build(lookup(options.model).config, changes)
    seeds = _shared.seeds(options.seeds)
    limit = _shared.Limit(options.limit_seconds)
    runs = []
    for seed in seeds:
        started = time.perf_counter()
        run = RunOptions(seed=seed, threads=options.threads)
        recommender = Recommender(config, parts.train, run=run)
        recommender.learn(valid=parts.valid, on_epoch=limit)
        if options.report == "test":
            recommender = recommender.refit(parts.test.known)
        trained = time.perf_counter()
        report = evaluate(recommender, getattr(parts, options.report), metrics=METRICS, intervals=False, seed=seed)
        runs.append((report, recommender.training, trained - started, time.perf_counter() - trained))
        if limit.reached:
            break
    reports, trainings, training_seconds, evaluation_seconds = zip(*runs, strict=True)
    names = list(reports[0].metrics)
    first = trainings[0]
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
        "metrics": {name: mean(report.metrics[name] for report in reports) for name in names},
        "users": reports[0].n_users,
        "items": reports[0].n_items,
        "seconds": {"train": mean(training_seconds), "evaluate": mean(evaluation_seconds)},
        "cut_by_limit": limit.reached,
    }
    if len(runs) > 1:
        row["sd"] = {name: stdev(report.metrics[name] for report in reports) for name in METRICS}
    if first is not None:
        row["seconds"]["epoch"] = first.seconds / max(first.epochs, 1)
        row |= {"rows_per_s": first.rows_per_s, "data_share": first.data_share}
        row["epochs"] = [training.best_epoch for training in trainings]
    return row


if __name__ == "__main__":
    options = _shared.parser(__doc__).parse_args()
    sys.exit(_shared.table("graph", PUBLISHED) if options.table else _shared.main(options, measure))
