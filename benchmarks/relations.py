"""What edges of several kinds are worth: the same people and items, with them and without.

`--task items`: of each user's pairs a tenth is validation and a tenth test, drawn once (seed 0) before anything is
learnt; friends, tags, categories and cities are known throughout. Earlier items are masked, the ranking is full.
`--task friends`: who befriends whom, users being the items. Undirected pairs are drawn 80/10/10, both directions of
one in the same part; nobody is recommended to themselves or to a friend they have. What people chose is a relation.
`--task funnel`: the next purchase, one a user, as published. Validation is the last purchase of whoever has two; its
views and carts leave training with it, since none of a test pair are there either. What was bought is masked. Views
and carts are neutral: hetero has them as edges, other models nothing. With `--together` they are learnt to be foreseen
as well: one behaviour to other models, edges of their own to hetero.

The epoch is chosen on validation; for `--report test` so many are trained again on train and validation. `--keep
FOLDER` keeps the figures of each user, means over seeds, and compares with those that are there: the mean of a − b and
its 95 % interval by a paired bootstrap over users. `--table` prints the kept rows and ends with 1 where the newest
test row of hetero on items/lastfm-2k is not above that of lightgcn.
"""

import argparse
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
from bowerbird import RunOptions, evaluate, split
from bowerbird.core import build, lookup, numpy_stream
from bowerbird.data import Edges, EventType, Interactions, Split, load, load_split
from bowerbird.evaluation.statistics import paired
from bowerbird.recommender import Recommender

METRICS = {"items": ("recall@20", "ndcg@20"), "friends": ("recall@20", "ndcg@20"), "funnel": ("hit@10", "ndcg@10")}
DATA = {"items": "lastfm-2k", "friends": "lastfm-2k", "funnel": "retailrocket-mb/next_buy"}
BEFRIEND = (EventType("befriend", phrase="befriended"), EventType("self", sign="negative"))  # the latter only hides


def options_of(words: list[str] | None = None) -> argparse.Namespace:
    """Return the options of the command line."""
    options = _shared.parser(__doc__ or "")
    options.set_defaults(model="hetero")
    options.add_argument("--task", choices=tuple(METRICS), default="items")
    options.add_argument("--data-root", default=None, help="a folder that holds data sets by name")
    options.add_argument("--relations", default=None, help="those to keep, with commas; all of them when left out")
    options.add_argument("--together", action="store_true", help="views and carts are learnt to be foreseen, too")
    options.add_argument(
        "--keep", default="", metavar="FOLDER", help="where the figures of users are kept and compared"
    )
    found = options.parse_args(words)
    found.data = found.data or DATA[found.task]
    return found


def items_of(events: Interactions) -> Split:
    """Return each user's pairs in three parts."""
    return split(events, "random", valid=0.1, test=0.1)


def friends_of(events: Interactions) -> Split:
    """Return who befriends whom in three parts, beside what users chose as a relation of users and of items."""
    edges, n = events.relations["friend"], events.n_users
    ends = np.sort(np.stack([edges.source, edges.target], axis=1), axis=1)
    pairs = np.unique(ends[ends[:, 0] != ends[:, 1]], axis=0)
    pairs = pairs[numpy_stream(0, "friends").permutation(len(pairs))]
    cuts = np.array([0.8, 0.9]) * len(pairs)
    train, valid, test = (_befriended(events, part) for part in np.split(pairs, cuts.astype(int)))
    everyone = np.arange(n, dtype=np.int32)
    chosen = {
        f"{side} chose": Edges(side, "thing", events.user, events.item, np.ones(len(events), np.float32))
        for side in ("user", "item")
    }
    train = replace(
        train,
        user=np.concatenate([everyone, train.user]),
        item=np.concatenate([everyone, train.item]),
        event=np.repeat(np.array([1, 0], np.uint8), [n, len(train)]),
        weight=np.ones(n + len(train), np.float32),
        relations=chosen,
    )
    return split(train, valid=valid, test=test)


def _befriended(events: Interactions, pairs: np.ndarray) -> Interactions:
    """Return pairs of user rows (P, 2) as events in both directions."""
    user, item = np.concatenate([pairs, pairs[:, ::-1]]).astype(np.int32).T
    n = len(user)
    return Interactions(
        user, item, np.ones(n, np.float32), np.zeros(n, np.uint8), None, events.user_ids, events.user_ids, BEFRIEND
    )


def funnel_of(parts: Split, *, together: bool) -> Split:
    """Return the same test part behind a validation part of last purchases."""
    known = parts.test.known
    last = len(known.events) - 1  # purchases are the last stage
    kinds = tuple(replace(kind, sign="positive" if together or kind.hides else "neutral") for kind in known.events)
    bought = np.flatnonzero(known.event == last)
    counts = np.bincount(known.user[bought], minlength=known.n_users)
    newest = np.full(known.n_users, -1)
    np.maximum.at(newest, known.user[bought], bought)  # events are in time order
    newest = newest[counts >= 2]
    key = known.user.astype(np.int64) * known.n_items + known.item
    held = np.isin(key, key[newest])
    known = known.meaning(kinds)
    return split(known.rows(~held), valid=known.rows(held), test=parts.test.targets)


def parts_of(options: argparse.Namespace) -> tuple[Split, str]:
    """Return the parts of a task and the checksum of what they were cut from."""
    if options.task == "funnel":
        parts = load_split(options.data, data_root=options.data_root)
        return funnel_of(parts, together=options.together), parts.test.history.fingerprint
    events = load(options.data, data_root=options.data_root)
    return (items_of if options.task == "items" else friends_of)(events), events.fingerprint


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """Train and evaluate over the seeds; return the row."""
    parts, fingerprint = parts_of(options)
    if options.relations is not None:
        kept = [name for name in options.relations.split(",") if name]
        parts = _with(parts, kept)
    config = build(lookup(options.model).config, _shared.settings(options.set), where="--set")
    names, seeds = METRICS[options.task], _shared.seeds(options.seeds)
    runs = []
    for seed in seeds:
        started, limit = time.perf_counter(), _shared.Limit(options.limit_seconds)
        rec = Recommender(config, parts.train, run=RunOptions(seed=seed, threads=options.threads))
        rec.learn(valid=parts.valid, on_epoch=limit)
        valid = evaluate(rec, parts.valid, metrics=names, intervals=False, seed=seed)
        training, asked = rec.training, rec
        if options.report == "test":
            asked = rec.refit(parts.test.known)
        trained = time.perf_counter()
        part = getattr(parts, options.report)
        report = evaluate(asked, part, metrics=names, intervals=False, seed=seed)
        runs.append((report, valid, training, trained - started, time.perf_counter() - trained, limit.reached))
    reports, valids, trainings, train_s, evaluate_s, cut = zip(*runs, strict=True)
    document = json.loads(json.dumps(asdict(config)))
    relations = list(parts.train.relations) if options.model == "hetero" else []
    row: dict[str, Any] = {
        "benchmark": "relations",
        "data": f"{options.task}/{options.data}",
        "data_sha256": fingerprint,
        "model": options.model + (", together" if options.together else ""),
        "relations": relations,
        "config": document,
        "config_sha256": hashlib.sha256(json.dumps([options.model, document], sort_keys=True).encode()).hexdigest(),
        "protocol": f"{reports[0].protocol} relations={','.join(relations) or 'none'} together={options.together} "
        f"select=valid seeds={options.seeds}",
        "report": options.report,
        "seeds": seeds,
        "metrics": {name: mean(report.metrics[name] for report in reports) for name in names},
        "valid": {name: mean(report.metrics[name] for report in valids) for name in names},
        "users": reports[0].n_users,
        "items": reports[0].n_items,
        "seconds": {"train": mean(train_s), "evaluate": mean(evaluate_s)},
        "cut_by_limit": any(cut),
    }
    if len(runs) > 1:
        row["sd"] = {name: stdev(report.metrics[name] for report in reports) for name in names}
    if trainings[0] is not None:
        row |= {"rows_per_s": trainings[0].rows_per_s, "epochs": [training.best_epoch for training in trainings]}
    if options.keep:
        users = reports[0].per_user.select("user_id", *(sum(r.per_user[n] for r in reports) / len(runs) for n in names))
        row["peers"] = compared(Path(options.keep), row, users)
        for peer, found in row["peers"].items():
            print(f"{row['model']} − {peer}: " + ", ".join(f"{name} {said}" for name, said in found.items()))
    return row


def compared(folder: Path, row: dict[str, Any], users: pl.DataFrame) -> dict[str, dict[str, str]]:
    """Keep the figures of each user in a folder; return their differences from those of other models there."""
    folder.mkdir(parents=True, exist_ok=True)
    stem = f"{row['data']} {row['report']} ".replace("/", "-")
    mine, found = folder / f"{stem}{row['model']}.parquet", {}
    users.write_parquet(mine)
    for path in sorted(set(folder.glob(f"{stem}*.parquet")) - {mine}):
        other = pl.read_parquet(path)
        assert other["user_id"].equals(users["user_id"]), f"{path} holds other users"
        rng, differences = numpy_stream(0, "relations"), {}
        for name in METRICS[row["data"].split("/")[0]]:
            one = paired(name, users[name].to_numpy(), other[name].to_numpy(), rng)
            differences[name] = f"{one.mean:+.4f} [{one.low:+.4f}, {one.high:+.4f}]"
        found[path.stem.removeprefix(stem)] = differences
    return found


def _with(parts: Split, names: list[str]) -> Split:
    """Return the parts with the relations of these names alone."""

    def only(events: Interactions) -> Interactions:
        return replace(events, relations={name: events.relations[name] for name in names})

    valid, test = (
        replace(part, known=only(part.known), history=only(part.history)) for part in (parts.valid, parts.test)
    )
    return replace(parts, train=only(parts.train), valid=valid, test=test)


def table() -> int:
    """Print the kept rows; return 1 where hetero's newest test row is not above lightgcn's on items/lastfm-2k."""
    _shared.table("relations", {})
    kept = _shared.RESULTS / "relations.jsonl"
    rows = [json.loads(line) for line in kept.read_text().splitlines()] if kept.exists() else []
    newest = {
        row["model"]: row["metrics"] for row in rows if (row["data"], row["report"]) == ("items/lastfm-2k", "test")
    }
    if not {"hetero", "lightgcn"} <= set(newest):
        return 0
    missed = [name for name in METRICS["items"] if newest["hetero"][name] <= newest["lightgcn"][name]]
    for name in missed:
        print(f"bar not reached: {name} of hetero is not above that of lightgcn on items/lastfm-2k", file=sys.stderr)
    return 1 if missed else 0


if __name__ == "__main__":
    options = options_of()
    sys.exit(table() if options.table else _shared.main(options, measure))
