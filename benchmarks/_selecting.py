"""The advisor beside the truth: its pick's regret on test, and its time, against every configuration run once.

`--data` is one of the sets below, in the folder that $BOWERBIRD_DATA names. All configurations of a search space are
trained on the train part, one after the other, and measured on validation and on test: the exhaustive run. Then
`select` is asked, with a tenth of that time and each of `--seeds` in turn, what to take from the same space; it never
sees test. Its regret is how far what it takes is below the best of all on test, as a share; and the paired test says
whether it is. For that it is trained once more as its recipe says, with the seed that was asked with; all else has seed
0. Both are trained on the train part alone. `--report` is always of test, and logged.

`missed` counts the seeds whose regret is above 2 % and is no chance by the paired test: `--require 'missed<=0'`.
The best of so many on test is flattered by chance, so that two more figures stand beside it: the regret where the best
is chosen on one half of test and compared on the other, both ways; and how far the pick is behind what the exhaustive
run itself would have taken, by validation. `--keep` is a folder for what that run found: a second one only asks.
`--table` prints the kept rows, and ends with 1 where the newest of a set missed.
"""

import argparse
import hashlib
import itertools
import json
import pickle
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

import _shared
import bowerbird.models  # noqa: F401
from bowerbird import RunOptions, split
from bowerbird.core import BowerbirdError, ModelConfig, TrainedConfig, lookup
from bowerbird.data import Interactions, RowSplit, Split, given_rows, load, load_rows, load_split
from bowerbird.evaluation import evaluate
from bowerbird.recommender import Predictor, Recommender
from bowerbird.selection import select
from bowerbird.selection.judging import Judge
from bowerbird.selection.measure import METRIC

LEAST_REGRET, SHARE = 0.02, 0.1
Space = Mapping[str, Mapping[str, list[Any]]]


@dataclass(frozen=True)
class Plan:
    """How a set is cut, and what is searched there. Every list holds the value that the model begins with."""

    note: str
    space: Space
    cut: str = ""  # a method of `split`; empty for parts that were published
    users: float = 1.0  # share of the users, or of the train rows, that are kept
    settings: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)


FACTORS = {
    "itemknn": {"neighbours": [30, 100, 300], "shrink": [1.0, 10.0, 100.0]},
    "ials": {"dim": [32, 64, 128], "l2": [0.002, 0.006, 0.02]},
    "mf": {"dim": [32, 64, 128], "temperature": [0.1, 0.15, 0.3]},
}
WALKS = {"dim": [32, 64, 128], "dropout": [0.2, 0.4], "learning_rate": [1e-3, 3e-3], "blocks": [1, 2]}
GRAPHS = {"dim": [32, 64], "hops": [1, 2, 3], "l2": [1e-5, 1e-4]}
DEEP = {"dim": [8, 16, 32], "learning_rate": [1e-3, 3e-3, 1e-2]}
RANKERS = ("fm", "mlp", "widedeep", "deepfm", "dcnv2", "finalmlp")
PLANS = {
    "ml-100k": Plan(
        "times, long histories",
        cut="per-user",
        settings={"mf": {"epochs": 10}, "lightgcn": {"epochs": 12}, "sasrec": {"epochs": 6}},
        space={
            "popularity": {"half_life_days": [None, 30.0, 300.0]},
            "ease": {"l2": [30.0, 100.0, 300.0, 1000.0]},
            "spectral": {"rank": [32, 128], "weight": [0.1, 0.3, 1.0]},
            "lightgcn": GRAPHS,
            "sasrec": WALKS,
            **FACTORS,
        },
    ),
    "amazon-beauty-s3rec": Plan(
        "no times, but an order",
        cut="leave-one-out",
        users=0.15,
        settings={"mf": {"epochs": 10}, "lightgcn": {"epochs": 12}, "sasrec": {"epochs": 8}, "gru4rec": {"epochs": 6}},
        space={
            "popularity": {},
            "ease": {"l2": [30.0, 100.0, 300.0, 1000.0, 3000.0]},
            "lightgcn": GRAPHS,
            "sasrec": {"dim": [32, 64], "dropout": [0.2, 0.4], "learning_rate": [1e-3, 3e-3]},
            "gru4rec": {"dim": [32, 64], "dropout": [0.2, 0.4], "learning_rate": [1e-3, 3e-3]},
            **FACTORS,
        },
    ),
    "tiktok-diffmm": Plan(
        "no times, vectors of pictures and sounds",
        settings={
            "crossmodal": {"epochs": 4},
            "vbpr": {"epochs": 10},
            "mf": {"epochs": 10},
            "lightgcn": {"epochs": 10},
        },
        space={
            "popularity": {},
            "ease": {"l2": [30.0, 100.0, 300.0, 1000.0]},
            "spectral": {"weight": [0.1, 0.3]},
            "lightgcn": GRAPHS,
            "vbpr": {"dim": [32, 64, 128], "learning_rate": [2e-3, 5e-3]},
            "crossmodal": {"ridge": [0.2, 0.5, 1.0], "dim": [64, 128]},
            **FACTORS,
        },
    ),
    "frappe": Plan(
        "rows with labels, context",
        users=0.6,
        settings={name: {"epochs": 5} for name in ("logistic", *RANKERS)},
        space={
            "logistic": {"learning_rate": [1e-3, 3e-3, 1e-2]},
            **dict.fromkeys(RANKERS, DEEP),
        },
    ),
}


@dataclass(frozen=True, eq=False)
class Known:
    """One configuration as the exhaustive run found it."""

    model: str
    config: ModelConfig
    valid: float
    test: float
    values: np.ndarray  # of test: NDCG of users, or probabilities of rows
    seconds: float  # to train and to validate


def parts_of(name: str, plan: Plan) -> Split | RowSplit:
    """Return the parts of a set, thinned as its plan says."""
    if name == "frappe":
        parts = load_rows(name)
        n = len(parts["train"])
        kept = np.sort(np.random.default_rng(0).permutation(n)[: round(plan.users * n)])
        return given_rows(parts["train"].take(kept), parts["valid"], parts["test"])
    if not plan.cut:
        return load_split(name)
    events = load(name)
    if plan.users < 1:
        kept = np.random.default_rng(0).random(events.n_users) < plan.users
        events = _without_gaps(events.rows(kept[events.user]))
    return split(events, plan.cut)


def _without_gaps(events: Interactions) -> Interactions:
    """Return events whose ids are those that have any, the others taken out."""
    orders, sizes = [], []
    for rows, n in ((events.user, events.n_users), (events.item, events.n_items)):
        there = np.zeros(n, bool)
        there[rows] = True
        orders.append(np.argsort(~there, kind="stable"))
        sizes.append(int(there.sum()))
    return events.reorder_ids(*orders).head_ids(*sizes)


def configs(plan: Plan) -> Iterator[tuple[str, ModelConfig]]:
    """Yield every configuration of the space."""
    for name, lists in plan.space.items():
        first = lookup(name).config(**plan.settings.get(name, {}))
        for values in itertools.product(*lists.values()):
            yield name, replace(first, **dict(zip(lists, values, strict=True)))


def known(parts: Split | RowSplit, name: str, config: ModelConfig, run: RunOptions) -> Known:
    """Return what one configuration is worth on validation and on test, trained on the train part."""
    started = time.perf_counter()
    if isinstance(parts, RowSplit):
        assert isinstance(config, TrainedConfig)
        predictor = Predictor.fit(parts.train, parts.valid, config, run=run)
        valid = _auc(predictor.predict(parts.valid)[:, 0], parts.valid.labels[:, 0])
        seconds = time.perf_counter() - started
        values = predictor.predict(parts.test)[:, 0].astype(np.float64)
        return Known(name, config, valid, _auc(values, parts.test.labels[:, 0]), values, seconds)
    rec = Recommender(config, parts.train, run=run)
    rec.learn(valid=parts.valid)
    valid = evaluate(rec, parts.valid, metrics=[METRIC], intervals=False).metrics[METRIC]
    seconds = time.perf_counter() - started
    report = evaluate(rec, parts.test, metrics=[METRIC], intervals=False)
    return Known(name, config, valid, report.metrics[METRIC], report.per_user[METRIC].to_numpy(), seconds)


def regret_across(parts: Split | RowSplit, table: list[Known], mine: Known) -> float:
    """Return the regret of a pick beside the best of one half of test, on the other half; the mean of both ways."""
    label = parts.test.labels[:, 0] if isinstance(parts, RowSplit) else None
    first = np.random.default_rng(0).permutation(len(mine.values)) % 2 == 0

    def worth(one: Known, half: np.ndarray) -> float:
        return float(one.values[half].mean()) if label is None else _auc(one.values[half], label[half])

    found = []
    for half in (first, ~first):
        best = max(table, key=lambda one: worth(one, half))
        found.append(1 - worth(mine, ~half) / worth(best, ~half))
    return float(np.mean(found))


def _kept(
    options: argparse.Namespace, parts: Split | RowSplit, name: str, config: ModelConfig, run: RunOptions
) -> Known:
    """Return one configuration of the exhaustive run, from the folder that keeps it where it is there."""
    text = f"{options.data} {parts.protocol} {len(parts.train)} {name} {config!r} {options.threads}"
    path = options.keep and Path(options.keep) / f"{hashlib.sha256(text.encode()).hexdigest()[:16]}.pkl"
    if path and path.exists():
        found: Known = pickle.loads(path.read_bytes())
        return found
    one = known(parts, name, config, run)
    if path:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(pickle.dumps(one))
    settings = " ".join(f"{key}={getattr(config, key)}" for key in PLANS[options.data].space[name])
    print(f"{name} {settings}: {one.valid:.4f}, {one.test:.4f} on test, {one.seconds:.1f} s", file=sys.stderr)
    return one


def _auc(probability: np.ndarray, label: np.ndarray) -> float:
    from bowerbird.evaluation import binary

    return binary.auc(label, probability.astype(np.float64))


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """Run everything once, then ask with each seed; return one row."""
    if options.data not in PLANS:
        raise BowerbirdError(f"--data is {options.data!r}; there are {', '.join(PLANS)}.")
    plan, seeds = PLANS[options.data], _shared.seeds(options.seeds)
    parts, run = parts_of(options.data, plan), RunOptions(threads=options.threads, progress=False)
    started = time.perf_counter()
    table = [_kept(options, parts, name, config, run) for name, config in configs(plan)]
    spent = sum(one.seconds for one in table)
    judge = Judge.of(replace(parts, valid=parts.test) if isinstance(parts, RowSplit) else parts)
    best, taken = max(table, key=lambda one: one.test), max(table, key=lambda one: one.valid)
    metrics = {"exhaustive_s": spent, "configurations": float(len(table)), "best": best.test, "taken": taken.test}
    told: dict[str, Any] = {
        "best": f"{best.model} {best.test:.4f}", "taken": f"{taken.model} {taken.test:.4f}",
        "users": judge.n(best.values),
    }  # fmt: skip
    missed = 0
    for seed in seeds:
        found = asked(parts, plan, seed, SHARE * spent, options.threads)
        run = RunOptions(seed=seed, threads=options.threads, progress=False)  # as its recipe has it
        mine = known(parts, found["model"], found["config"], run)
        gap = judge.difference(best.values, mine.values)
        regret = (best.test - mine.test) / best.test
        good = regret <= LEAST_REGRET or gap.verdict == "level"
        missed += not good
        metrics |= {
            f"{seed}.regret": regret, f"{seed}.time_share": found["seconds"] / spent, f"{seed}.test": mine.test,
            f"{seed}.behind_taken": (taken.test - mine.test) / taken.test,
            f"{seed}.regret_across": regret_across(parts, table, mine),
        }  # fmt: skip
        told[str(seed)] = {
            "pick": f"{mine.model} {found['settings']}".strip(), "level": gap.verdict == "level", "low": gap.low,
            "high": gap.high, "p": gap.p, "tries": found["tries"], "share": found["share"], "seconds": found["seconds"],
        }  # fmt: skip
    metrics |= {"missed": float(missed), "time_share": max(metrics[f"{seed}.time_share"] for seed in seeds)}
    asked_for = {"space": plan.space, "settings": plan.settings, "cut": plan.cut, "users": plan.users}
    digest = hashlib.sha256(json.dumps(asked_for, sort_keys=True).encode()).hexdigest()
    return {
        "benchmark": "select", "data": options.data, "model": ",".join(plan.space), "config": asked_for,
        "config_sha256": digest, "note": plan.note, "report": options.report, "seeds": seeds, "metrics": metrics,
        "told": told, "protocol": f"{parts.protocol} thinned={plan.users:g} ranking=full trained=train regret=test",
        "seconds": {"exhaustive": spent, "wall": time.perf_counter() - started},
    }  # fmt: skip


def asked(parts: Split | RowSplit, plan: Plan, seed: int, budget_s: float, threads: int) -> dict[str, Any]:
    """Return what the advisor takes, and how long it took."""
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        found = select(
            parts, budget_s=max(budget_s, 10.0), models=list(plan.space), space=plan.space, settings=plan.settings,
            study=folder, run=RunOptions(seed=seed, threads=threads, progress=False), began=began,
        )  # fmt: skip
    trial = found.pick.trial
    for each in found.trials:
        print(f"    {each.share:g} {each.model} {found.settings(each)} {each.value:.4f} {each.measured.seconds:.1f} s"
              f"{' cut' if each.measured.cut else ''}", file=sys.stderr)  # fmt: skip
    print(found, file=sys.stderr)
    return {
        "model": trial.model, "config": trial.config, "settings": found.settings(trial), "tries": len(found.trials),
        "share": found.share, "seconds": time.monotonic() - began,
    }  # fmt: skip


def table() -> int:
    """Print the kept rows; return 1 where the newest of a set missed."""
    newest: dict[str, dict[str, Any]] = {}
    for row in _shared.kept("select"):
        metrics, told = row["metrics"], row["told"]
        newest[row["data"]] = row
        size = f"{metrics['configurations']:.0f} configurations in {metrics['exhaustive_s']:.0f} s"
        print(f"{row['date']}  {row['data']} ({row['note']}): best on test {told['best']}, {size}; {row['protocol']}")
        if "taken" in told:
            print(f"    by validation all of them would have taken {told['taken']}")
        for seed in row["seeds"]:
            one = told[str(seed)]
            level = "level with the best" if one["level"] else "not level"
            more = ""
            if "taken" in told:
                across, behind = metrics[f"{seed}.regret_across"], metrics[f"{seed}.behind_taken"]
                more = f" ({across:+.2%} across halves of test, {behind:+.2%} to that)"
            print(f"    seed {seed}: {one['pick']}, regret {metrics[f'{seed}.regret']:.2%}{more}, {level} "
                  f"[{one['low']:+.4f}, {one['high']:+.4f}], {metrics[f'{seed}.time_share']:.1%} of the time, "
                  f"{one['tries']} tries")  # fmt: skip
    missed = [name for name, row in newest.items() if row["metrics"]["missed"] > 0]
    if missed:
        print(f"bar not reached: {', '.join(missed)}", file=sys.stderr)
    return 1 if missed else 0


def options_of(words: list[str] | None = None) -> argparse.Namespace:
    """Return the options of the command line."""
    options = _shared.parser(__doc__ or "")
    options.add_argument("--keep", help="a folder for what the exhaustive run found")
    options.set_defaults(seeds="3", threads=1)
    found = options.parse_args(words)
    found.report = "test"  # a regret is of test, whatever was asked for
    return found


def run(words: list[str] | None = None) -> int:
    """Print the table, or measure; return the exit status."""
    options = options_of(words)
    torch.set_num_threads(options.threads)
    return table() if options.table else _shared.main(options, measure)
