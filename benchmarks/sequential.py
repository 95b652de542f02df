"""What comes next after a history, on any file of `user item item …` or `user item` lines, oldest first.

Protocol of Kang and McAuley (SASRec, ICDM 2018) with full ranking: of each history the last event is test, the one
before it validation; all items of the history are masked; HR@10 and NDCG@10. The epoch is chosen on validation,
nothing is trained again for test, whose histories hold the validation event.

`--split temporal` cuts everybody at one moment instead (named data with times, such as lastfm-1k-cfm or ml-1m/timed):
later items are the targets, and for test the chosen epochs are trained again on everything before it. With `--warmup 5`
strangers post their first five events, and are asked about what they did then. `--repeats keep`
lets items be foreseen and recommended again, as music is. `--model popularity --set half_life_days=7` is that of the
last week.

`--keep FOLDER` keeps what was trained, and takes it from there instead of training it again: a row on test costs no
second training. `--model default` is the shipped choice. `--table` prints the kept rows beside the published cells and
ends with 1 where the newest test row of a model misses its bar.
"""

import argparse
import gzip
import hashlib
import json
import sys
import time
from dataclasses import asdict, replace
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import numpy as np
import polars as pl

import _shared
from bowerbird import RunOptions, evaluate, read, split
from bowerbird.core import build, lookup
from bowerbird.data import REGISTRY, Interactions, load, load_split
from bowerbird.recommender import Recommender
from bowerbird.recommender import load as load_recommender

DEFAULT = "sasrec"  # the shipped choice
METRICS = {"hr@10": "hit@10", "ndcg@10": "ndcg@10"}
PUBLISHED = {  # on test, by file
    (name, model): {"hr@10": hit, "ndcg@10": ndcg}
    for name, model, hit, ndcg in (
        ("Beauty", "popularity", 0.0152, 0.0068), ("Beauty", "gru4rec", 0.0402, 0.0204),
        ("Beauty", "bert4rec", 0.0730, 0.0406), ("Beauty", "sasrec", 0.0921, 0.0531),
        ("Beauty", "hstu", 0.0945, 0.0543), ("Beauty", "bsarec", 0.1002, 0.0610),
        ("Sports_and_Outdoors", "popularity", 0.0094, 0.0053), ("Sports_and_Outdoors", "gru4rec", 0.0187, 0.0094),
        ("Sports_and_Outdoors", "bert4rec", 0.0397, 0.0214), ("Sports_and_Outdoors", "sasrec", 0.0569, 0.0314),
        ("Sports_and_Outdoors", "hstu", 0.0587, 0.0332), ("Sports_and_Outdoors", "bsarec", 0.0603, 0.0348),
        ("ml-1m", "gru4rec", 0.2811, 0.1648), ("ml-1m", "bert4rec", 0.2843, 0.1537),
        ("ml-1m", "sasrec", 0.3152, 0.1821), ("ml-1m", "hstu", 0.3097, 0.1720),
    )
}  # fmt: skip
BARS = {
    ("Beauty", "sasrec"): {"hr@10": 0.090, "ndcg@10": 0.052},
    ("Beauty", "bert4rec"): {"hr@10": 0.0730, "ndcg@10": 0.0406},
    ("Beauty", "bsarec"): {"hr@10": 0.0985, "ndcg@10": 0.0600},
    ("ml-1m", "sasrec"): {"hr@10": 0.29, "ndcg@10": 0.165},
}


def histories(path: Path) -> Interactions:
    """Return the events of a file, in its order."""
    with gzip.open(path, "rt") if path.suffix == ".gz" else open(path) as file:
        widths = {len(line.split()) for _, line in zip(range(100), file, strict=False)}
    if widths != {2}:
        return read(path, format="lists")
    pairs = pl.read_csv(path, separator=" ", has_header=False, new_columns=["user", "item"])
    return Interactions.of(pairs["user"], pairs["item"], origin=path.name)


def named(name: str, root: str | None) -> Interactions:
    """Return a named data set as one table; one that comes in parts is put together again."""
    if REGISTRY[name].kind != "split":
        return load(name, data_root=root)
    parts = load_split(name, data_root=root).test
    both = parts.known, parts.targets
    user, item = (
        pl.concat([getattr(part, f"{side}_ids").values.gather(getattr(part, side)) for part in both])
        for side in ("user", "item")
    )
    time = None if parts.known.time is None else np.concatenate([part.time for part in both if part.time is not None])
    return Interactions.of(user, item, time=time, events=parts.known.events, origin=name)


def options_of(words: list[str] | None = None) -> argparse.Namespace:
    """Return the options of the command line."""
    options = _shared.parser(__doc__ or "")
    options.set_defaults(model="default")
    options.add_argument("--split", choices=("leave-one-out", "temporal"), default="leave-one-out")
    options.add_argument("--warmup", type=int, default=0, help="events that a stranger posts before, temporal split")
    options.add_argument("--repeats", choices=("drop", "keep"), default="drop")
    options.add_argument("--data-root", default=None, help="a folder that holds data sets by name")
    options.add_argument("--keep", default="", metavar="FOLDER", help="where trained models are kept, and found again")
    return options.parse_args(words)


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """Train and evaluate over the seeds; return the row."""
    by_name = options.data in REGISTRY
    events = named(options.data, options.data_root) if by_name else histories(Path(options.data))
    if options.repeats == "keep":
        events = replace(events, events=tuple(replace(kind, hides=False) for kind in events.events))
    parts = split(events, options.split, warmup=options.warmup)
    name = DEFAULT if options.model == "default" else options.model
    config = build(lookup(name).config, _shared.settings(options.set), where="--set")
    seeds = _shared.seeds(options.seeds)
    document = json.loads(json.dumps(asdict(config)))
    digest = hashlib.sha256(json.dumps([name, document], sort_keys=True).encode()).hexdigest()
    runs = []
    for seed in seeds:
        started, limit = time.perf_counter(), _shared.Limit(options.limit_seconds)
        kept = Path(options.keep, f"{parts.train.fingerprint[:8]}-{name}-{digest[:8]}-{seed}") if options.keep else None
        if kept is not None and kept.exists():
            rec = load_recommender(kept)
        else:
            rec = Recommender(config, parts.train, run=RunOptions(seed=seed, threads=options.threads))
            rec.learn(valid=parts.valid, on_epoch=limit)
            if kept is not None:
                rec.save(kept)
        if options.split == "temporal" and options.report == "test":
            rec = rec.refit(parts.test.known)
        trained = time.perf_counter()
        reports = {
            part: evaluate(rec, getattr(parts, part), metrics=list(METRICS.values()), intervals=False, seed=seed)
            for part in ("valid", "test")[: 1 + (options.report == "test")]
        }
        spent = rec.training.seconds if kept is not None and rec.training else trained - started
        runs.append((reports, rec.training, spent, time.perf_counter() - trained))
    reports, training = runs[0][0], runs[0][1]
    figures = [{key: run[0][options.report].metrics[metric] for key, metric in METRICS.items()} for run in runs]
    row: dict[str, Any] = {
        "benchmark": "sequential",
        "data": options.data if by_name else Path(options.data).name.split(".")[0],
        "data_sha256": events.fingerprint,
        "model": name,
        "config": document,
        "config_sha256": digest,
        "protocol": f"{reports[options.report].protocol} repeats={options.repeats} select=valid",
        "report": options.report,
        "seeds": seeds,
        "metrics": {key: mean(one[key] for one in figures) for key in METRICS},
        "valid": {key: mean(run[0]["valid"].metrics[metric] for run in runs) for key, metric in METRICS.items()},
        "users": reports["valid"].n_users,
        "items": reports["valid"].n_items,
        "seconds": {
            "train": mean(run[2] for run in runs),
            "evaluate": mean(run[3] for run in runs) / len(reports),
        },
        "cut_by_limit": any(run[1] is not None and run[1].interrupted for run in runs),
    }
    if len(runs) > 1:
        row["sd"] = {key: stdev(one[key] for one in figures) for key in METRICS}
    if training is not None:
        row["seconds"]["epoch"] = training.seconds / max(training.epochs, 1)
        row |= {"rows_per_s": training.rows_per_s, "data_share": training.data_share}
        row["epochs"] = [run[1].best_epoch for run in runs]
    return row


if __name__ == "__main__":
    options = options_of()
    sys.exit(_shared.table("sequential", PUBLISHED, BARS) if options.table else _shared.main(options, measure))
