"""The classic small test: each user's last item among 99 that they never saw, on a file of `user item` lines.

Protocol of He et al. (NCF, WWW 2017): the last item of each user is test, the one before it validation; HR@10 (here
hit@10) and NDCG@10 among 99 uniform negatives, as the mean of 20 draws of them. Hyper-parameters are searched on
validation by NDCG@10 among the negatives of one draw (`--tries`, the first being the configuration as given): the
best for this protocol is not the best for the full ranking. For `--report test` it is trained again on train and
validation, which is then the history.
"""

import argparse
import hashlib
import json
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import polars as pl

import _shared
from bowerbird import Recipe, RunOptions, evaluate, read, search, split
from bowerbird.core import DataError, ModelConfig, build, lookup
from bowerbird.data import Split
from bowerbird.recommender import Recommender

METRICS = ("hit@10", "ndcg@10")
NEGATIVES, DRAWS = 99, 20
FILES = ("ml-1m.txt.gz", "ml-1m.txt")
NOTE = "The published figures are of ml-1m with 3,706 items; ml-1m/sasrec has the 3,416 with five interactions."
PUBLISHED = {  # on test
    ("ml-1m/sasrec", "popularity"): {"hit@10": 0.4533, "ndcg@10": 0.2542},
    ("ml-1m/sasrec", "itemknn"): {"hit@10": 0.6694, "ndcg@10": 0.3979},
    ("ml-1m/sasrec", "mf"): {"hit@10": 0.6305, "ndcg@10": 0.3730},
    ("ml-1m/sasrec", "ials"): {"hit@10": 0.7109, "ndcg@10": 0.4382},
    ("ml-1m/sasrec", "ease"): {"hit@10": 0.7192, "ndcg@10": 0.4494},
}


def options_of(words: list[str] | None = None) -> argparse.Namespace:
    """Return the options of the command line: the shared ones, and how many configurations to try."""
    options = _shared.parser(__doc__ or "")
    options.set_defaults(model="ease")
    options.add_argument("--tries", type=int, default=20, help="configurations to measure on validation; 0 for none")
    return options.parse_args(words)


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """Search, train and evaluate over the seeds; return the row."""
    path = _file(Path(options.data))
    lines = pl.read_csv(path, separator=" ", has_header=False, new_columns=["user", "item"])
    parts = split(read(lines), "leave-one-out")
    seeds = _shared.seeds(options.seeds)
    limit, started = _shared.Limit(options.limit_seconds), time.perf_counter()
    config, tried, cut = _searched(options, _config(options), parts)
    searched = time.perf_counter() - started
    runs = []
    for seed in seeds:
        started = time.perf_counter()
        recommender = Recommender(config, parts.train, run=RunOptions(seed=seed, threads=options.threads))
        recommender.learn(valid=parts.valid, on_epoch=limit)
        if options.report == "test":
            recommender = recommender.refit(parts.test.known)
        trained = time.perf_counter()
        reports = [
            evaluate(
                recommender, getattr(parts, options.report),
                metrics=METRICS, sampled=NEGATIVES, intervals=False, seed=draw,
            )
            for draw in range(DRAWS)
        ]  # fmt: skip
        runs.append((reports, trained - started, (time.perf_counter() - trained) / DRAWS))
        if limit.reached:
            break
    data = "/".join(path.parent.resolve().parts[-2:])
    figures = {name: [report.metrics[name] for reports, *_ in runs for report in reports] for name in METRICS}
    first = runs[0][0][0]
    published = PUBLISHED.get((data, recommender.name), {})
    if published:
        print("published: " + ", ".join(f"{name} {value:.4f}" for name, value in published.items()) + f". {NOTE}")
    return {
        "benchmark": "classic",
        "data": data,
        "data_sha256": _shared.sha256([path]),
        "model": recommender.name,
        "config": asdict(config),
        "config_sha256": hashlib.sha256(json.dumps(asdict(config), sort_keys=True).encode()).hexdigest(),
        "protocol": f"{first.protocol} draws={DRAWS} select=valid-uniform-{NEGATIVES} tries={tried} "
        f"seeds={options.seeds}",
        "report": options.report,
        "seeds": seeds[: len(runs)],
        "tries": tried,
        "metrics": {name: mean(values) for name, values in figures.items()},
        "sd": {name: stdev(values) for name, values in figures.items()},
        "users": first.n_users,
        "items": first.n_items,
        "seconds": {
            "search": searched,
            "train": mean(train for _, train, _ in runs),
            "evaluate": mean(seconds for *_, seconds in runs),
        },
        "cut_by_limit": limit.reached or cut,
        "published": published,
        "note": NOTE if published else "",
    }


def _file(path: Path) -> Path:
    for name in FILES:
        if (path / name).exists():
            return path / name
    if not path.is_file():
        raise DataError(f"{path}: {FILES[0]} or a file of `user item` lines is needed.")
    return path


def _config(options: argparse.Namespace) -> ModelConfig:
    changes = _shared.settings(options.set)
    if not options.recipe:
        return build(lookup(options.model).config, changes)
    recipe = Recipe.load(options.recipe)
    return build(type(recipe.model), asdict(recipe.model) | changes)


def _searched(options: argparse.Namespace, config: ModelConfig, parts: Split) -> tuple[ModelConfig, int, bool]:
    """Return the best configuration on validation, of how many, and whether the limit cut the search."""
    if not options.tries:
        return config, 0, False
    run = RunOptions(threads=options.threads)
    out = _shared.RESULTS / "classic_tries.jsonl" if options.save else None
    with _cut_after(options.limit_seconds / 2):  # the other half is for training what was found
        found = search(parts, config, tries=options.tries, metric="ndcg@10", sampled=NEGATIVES, run=run, out=out)
    print(found)
    return found.best, len(found.tries), found.interrupted


@contextmanager
def _cut_after(seconds: float) -> Iterator[None]:
    """Press Ctrl-C after this many seconds inside: a search then ends with what it has."""

    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, max(seconds, 1e-3))
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


if __name__ == "__main__":
    options = options_of()
    if options.table:
        print(NOTE)
    sys.exit(_shared.table("classic", PUBLISHED) if options.table else _shared.main(options, measure))
