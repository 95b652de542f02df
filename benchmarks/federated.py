"""Federated training beside the same model trained centrally, on leave-one-out: each person's last item is test.

`--data` is a named data set (ml-100k), a table, or the folder of `user item` lines (ml-1m/sasrec). For every seed the
model (`--model mf` or `twotower`) is trained centrally, with early stopping, and over clients of one person each, of
whom 20 % fail in every round; EASE stands beside both. The bars are `--require ratio_to_central>=0.95` (full-ranking
NDCG@10) and `--require bytes.share<=0.25` (of a client and round, down and up together, of the item table in float32).
With `--report test` both train again on train and validation, as long as validation chose.

Published beside: PFedRec (99 uniform negatives, ml-1m with 3,706 items): HR@10 0.7315, NDCG@10 0.4453.
"""

import argparse
import hashlib
import json
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import polars as pl

import _shared
from bowerbird import RunOptions, evaluate, load, read, split
from bowerbird.core import build, lookup
from bowerbird.data import Holdout, Interactions, Split
from bowerbird.nn.losses import PairConfig
from bowerbird.privacy import ClientOptions, FederatedOptions, Round, WireOptions, federate
from bowerbird.privacy.bare import without_people
from bowerbird.recommender import DataOptions, Recommender

NEGATIVES, DRAWS = 99, 20
LINES = "ml-1m.txt.gz"
EASE_L2 = {"ml-1m/sasrec": 300.0, "ml-100k": 100.0}  # chosen on validation out of 100, 300 and 1,000
PUBLISHED = {("ml-1m/sasrec", model): {"hit@10, 99 negatives": 0.7315, "ndcg@10, 99 negatives": 0.4453}
             for model in ("mf", "twotower")}  # fmt: skip


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """Train centrally and over clients for every seed; return the row."""
    name, events = _events(options.data)
    parts = split(events, "leave-one-out")
    config = build(lookup(options.model).config, _shared.settings(options.set))
    assert isinstance(config, PairConfig)
    asked = _asked(options)
    seconds: dict[str, list[float]] = {"central": [], "federated": [], "100 rounds": []}
    values: dict[str, list[float]] = {}
    told: list[dict[str, Any]] = []
    seeds = _shared.seeds(options.seeds)
    for seed in seeds:
        run = RunOptions(seed=seed, threads=options.threads, progress=False)
        (central, once), holdout = _central(config, parts, options, run), getattr(parts, options.report)
        ours, row = _federated(config, asked, parts, options, run)
        seconds["central"].append(once["seconds"])
        seconds["federated"].append(row["seconds"])
        seconds["100 rounds"].append(100 * row["seconds"] / row["rounds"])
        for who, rec in (("", ours), ("central.", central)):
            for key, value in _figures(rec, holdout).items():
                values.setdefault(f"{who}{key}", []).append(value)
        values.setdefault("without_people.ndcg@10", []).append(
            _figures(without_people(ours), holdout, few=True)["ndcg@10"]
        )
        told.append(row)
    ease = Recommender(build(lookup("ease").config, {"l2": EASE_L2.get(name, 300.0)}), holdout.known)
    ease.learn()
    metrics = {key: mean(some) for key, some in values.items()}
    metrics |= {f"ease.{key}": value for key, value in _figures(ease, holdout).items()}
    wire = told[0]
    both = {"config": asdict(config), "federated": asdict(asked), "ease.l2": EASE_L2.get(name, 300.0)}
    return {
        "benchmark": "federated",
        "data": name,
        "data_sha256": events.fingerprint,
        "model": options.model,
        "config": both,
        "config_sha256": hashlib.sha256(json.dumps(both, sort_keys=True).encode()).hexdigest(),
        "protocol": f"split=leave-one-out ranking=full masked=history select=valid clients=people "
        f"failing={asked.failing} seeds={options.seeds}; 99 negatives: uniform, mean of {DRAWS} draws",
        "report": options.report,
        "seeds": seeds,
        "ratio_to_central": metrics["ndcg@10"] / metrics["central.ndcg@10"],
        "bytes": {"share": wire["client_bytes"] / wire["table_bytes"], "client_and_round": wire["client_bytes"],
                  "table": wire["table_bytes"]},
        "metrics": metrics,
        "sd": {key: stdev(some) for key, some in values.items()} if len(seeds) > 1 else {},
        "told": told,
        "users": holdout.known.n_users,
        "items": holdout.known.n_items,
        "seconds": {key: mean(some) for key, some in seconds.items()},
    }  # fmt: skip


def _events(data: str) -> tuple[str, Interactions]:
    """Return what to call the data, and its interactions."""
    path = Path(data)
    if (path / LINES).exists():
        lines = pl.read_csv(path / LINES, separator=" ", has_header=False, new_columns=["user", "item"])
        return "/".join(path.resolve().parts[-2:]), read(lines)
    return path.stem, DataOptions(path=data).load()


def _asked(options: argparse.Namespace) -> FederatedOptions:
    """Return the options of the federated training, changed as --client, --wire and --fed say."""
    return replace(
        build(FederatedOptions, {"failing": "0.2"} | _shared.settings(options.fed)),
        client=build(ClientOptions, _shared.settings(options.client)),
        wire=build(WireOptions, _shared.settings(options.wire)),
    )


def _central(
    config: PairConfig, parts: Split, options: argparse.Namespace, run: RunOptions
) -> tuple[Recommender, dict[str, Any]]:
    """Return the model trained on gathered data, and how long that took."""

    def chosen() -> tuple[Recommender, dict[str, Any]]:
        state = str(Path(options.keep) / f"state-{run.seed}") if options.keep else ""
        started, rec = time.perf_counter(), Recommender(config, parts.train, run=replace(run, checkpoint=state))
        rec.learn(valid=parts.valid)
        return rec, {"seconds": time.perf_counter() - started}

    rec, told = _kept(options.keep, f"central-{run.seed}", chosen)
    if options.report == "test":
        rec, _ = _kept(options.keep, f"central-test-{run.seed}", lambda: (rec.refit(parts.test.known), {}))
    return rec, told


def _federated(
    config: PairConfig, asked: FederatedOptions, parts: Split, options: argparse.Namespace, run: RunOptions
) -> tuple[Recommender, dict[str, Any]]:
    """Return the model trained over clients, with everybody's row, and what its rounds were."""

    def trained(data: Split | Interactions, rounds: int) -> tuple[Recommender, dict[str, Any]]:
        found = federate(data, config, replace(asked, rounds=rounds), run=run, on_round=_say)
        return found.recommender, {
            "best_round": found.best_round, "rounds": len(found.rounds), "client_bytes": found.client_bytes,
            "table_bytes": found.table_bytes, "failed": sum(one.failed for one in found.rounds),
            "asked": sum(one.asked for one in found.rounds), "seconds": found.seconds,
        }  # fmt: skip

    rec, told = _kept(options.keep, f"federated-{run.seed}", lambda: trained(parts, asked.rounds))
    if options.report == "test":
        again = partial(trained, parts.test.known, told["best_round"])
        rec, _ = _kept(options.keep, f"federated-test-{run.seed}", again)
    return rec, told


def _kept(
    folder: str | None, name: str, make: Callable[[], tuple[Recommender, dict[str, Any]]]
) -> tuple[Recommender, dict[str, Any]]:
    """Return what is made, or was made before and kept in a folder."""
    if folder is None:
        return make()
    run, told = Path(folder) / name, Path(folder) / f"{name}.json"
    if not told.exists():
        rec, said = make()
        rec.save(run)
        told.write_text(json.dumps(said))
    return load(run), json.loads(told.read_text())


def _figures(rec: Recommender, holdout: Holdout, *, few: bool = False) -> dict[str, float]:
    """Return full-ranking figures, and the mean over draws of 99 negatives."""
    names = ["ndcg@10", "hit@10"]
    found = evaluate(rec, holdout, metrics=names, intervals=False).metrics
    full = {name: found[name] for name in names}
    if few:
        return full
    drawn = [
        evaluate(rec, holdout, metrics=names, sampled=NEGATIVES, intervals=False, seed=seed).metrics
        for seed in range(DRAWS)
    ]
    return full | {f"{name}, 99 negatives": mean(one[name] for one in drawn) for name in names}


def _say(one: Round) -> None:
    if one.value is not None:
        print(f"round {one.number}: loss {one.loss:.4f}, {one.value:.4f}", file=sys.stderr, flush=True)


def options_of(words: list[str] | None = None) -> argparse.Namespace:
    """Return the options of the command line."""
    options = _shared.parser(__doc__ or "")
    options.set_defaults(model="mf")
    options.add_argument("--keep", help="a folder that keeps what is trained, so that a run that was cut goes on")
    for name, what in (("fed", "the training"), ("client", "a client"), ("wire", "what travels")):
        options.add_argument(f"--{name}", action="append", default=[], metavar="KEY=VALUE", help=f"an option of {what}")
    return options.parse_args(words)


if __name__ == "__main__":
    options = options_of()
    sys.exit(_shared.table("federated", PUBLISHED) if options.table else _shared.main(options, measure))
