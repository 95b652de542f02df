"""Click-through rankers on labelled rows: AUC and log loss of every model, beside published figures and other peers.

Data are `--train T --valid V --test S` (CSV or Parquet, `--label` names their label), or `--data NAME`: a named feature
table, or named interactions, whose events become rows under the temporal split. Columns are inferred unless
`--columns FILE.toml` says otherwise. `--model default` is the shipped choice, `--model all` measures all of them, and
prints them beside the figures of `results/ctr_peers.jsonl` (other libraries on the same files with the same settings),
of logistic regression, of LightGBM, and of a lookup of pairs.

`--setting published` takes hyper-parameters of the BARS benchmark (`_ctr_settings.py`), `common` those of the speed
comparison, `shipped` our defaults. `logloss` is that of the raw logits; `calibrated_logloss` of what is served.
"""

import argparse
import hashlib
import json
import math
import sys
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import numpy as np
import torch

import _shared
from _ctr_settings import COMMON, FRAPPE
from bowerbird import RunOptions
from bowerbird import split as split_of
from bowerbird.core import ConfigError, TrainedConfig, build, entries, lookup
from bowerbird.data import REGISTRY, Rows, RowSplit, Split, given_rows, load, load_rows, read_rows, split_rows
from bowerbird.evaluation import evaluate_rows
from bowerbird.evaluation.binary import auc
from bowerbird.features import Field
from bowerbird.features.columns import read_columns
from bowerbird.features.sources import Source
from bowerbird.nn.fields import RankerConfig
from bowerbird.recommender import Predictor, RankingOptions
from bowerbird.recommender.ranking import Ranking, calibrated
from bowerbird.recommender.two_stage import TwoStage

DEFAULT = "deepfm"  # the shipped choice
BESIDE = ("pair-lookup", "lightgbm")  # rows that are no models of ours
WITHIN = 0.001  # of AUC, from another library on the same files with the same settings
PUBLISHED = {
    ("frappe", name): {"auc": area, "logloss": loss}
    for name, area, loss in (
        ("logistic", 0.9356, 0.3076), ("fm", 0.9671, 0.2065), ("mlp", 0.9833, 0.1622), ("widedeep", 0.9841, 0.1490),
        ("deepfm", 0.9842, 0.1482), ("xdeepfm", 0.9845, 0.1466), ("dcnv2", 0.9845, 0.1491),
        ("autoint", 0.9848, 0.1490), ("finalmlp", 0.9861, 0.1484), ("finalnet", 0.9857, 0.1311),
    )
}  # fmt: skip


@dataclass(frozen=True, eq=False)
class Problem:
    """Parts of labelled rows, and how a ranker is fitted on them."""

    name: str
    split: RowSplit | Split
    columns: Any  # a tuple of columns, or None where they are inferred
    protocol: str

    def fit(self, config: TrainedConfig, run: RunOptions, on_epoch: Any) -> Predictor | TwoStage:
        """Return what is trained on train, stopped on validation."""
        if isinstance(self.split, RowSplit):
            parts = self.split
            return Predictor.fit(parts.train, parts.valid, config, columns=self.columns, run=run, on_epoch=on_epoch)
        options = RankingOptions(columns=self.columns or "")
        return TwoStage.fit(config, self.split.train, self.split.valid, options, run=run, on_epoch=on_epoch)

    def rows(self, model: Predictor | TwoStage, part: str) -> tuple[Source, Rows]:
        """Return the rows of a part, encoded and as they are."""
        if isinstance(model, TwoStage):
            return model.rows(getattr(self.split, part))
        rows = getattr(self.split, part)
        return model.source(rows), rows


def options_of(words: list[str] | None = None) -> argparse.Namespace:
    """Return the options of the command line."""
    options = _shared.parser(__doc__ or "")
    options.set_defaults(model="default")
    for part in ("train", "valid", "test"):
        options.add_argument(f"--{part}", help=f"the {part} rows, CSV or Parquet")
    options.add_argument("--label", default=None, help="the label column; the usual names are found")
    options.add_argument("--columns", help="a TOML file of columns; inferred when left out")
    options.add_argument("--setting", choices=("shipped", "published", "common"), default="shipped")
    options.add_argument("--run", action="store_true", help="with --model all: measure what results/ctr.jsonl lacks")
    options.add_argument("--data-root", default=None, help="a folder that holds data sets by name")
    found = options.parse_args(words)
    if found.train and not found.data:
        found.data = found.train
    return found


def problem_of(options: argparse.Namespace) -> Problem:
    """Return the parts to measure on; raises `ConfigError` where they are not named."""
    columns = None if options.columns is None else read_columns(options.columns)
    name = Path(options.data).name
    if options.data in REGISTRY and REGISTRY[options.data].kind != "rows":
        events = split_of(load(options.data, data_root=options.data_root))
        return Problem(name, events, columns, f"{events.protocol} history=before-the-cut")
    if options.train:
        parts = _triple(options)
        name = Path(options.train).absolute().parent.name
    elif options.data in REGISTRY:
        found = load_rows(options.data, data_root=options.data_root)
        parts = split_rows(found["all"]) if "all" in found else given_rows(*(found[one] for one in PARTS))
    else:
        parts = split_rows(read_rows(options.data, labels=options.label))
    return Problem(name, parts, None if columns is None else columns[""], parts.protocol)


def _triple(options: argparse.Namespace) -> RowSplit:
    if not (options.valid and options.test):
        raise ConfigError("--train needs --valid and --test. Name all three, or a data set with --data.")
    files = (options.train, options.valid, options.test)
    ends = np.cumsum([len(read_rows(file, labels=options.label)) for file in files])
    whole = read_rows(files, labels=options.label)  # together, so that a user has one number in all of them
    return given_rows(*(whole.take(index) for index in np.split(np.arange(len(whole)), ends[:-1])))


PARTS = ("train", "valid", "test")


def config_of(model: str, options: argparse.Namespace) -> TrainedConfig:
    """Return the configuration of a model under the setting asked for."""
    kind = lookup(model).config
    keys = {one.name for one in fields(kind)}
    given = {"shipped": {}, "published": FRAPPE.get(model, FRAPPE["deepfm"]), "common": COMMON}[options.setting]
    settings = {key: value for key, value in _renamed(given).items() if key in keys}
    config = build(kind, settings | _shared.settings(options.set), where="--set")
    if not isinstance(config, RankerConfig):
        raise ConfigError(f"{model} is no ranker. `bowerbird models` shows which are.")
    return config


def _renamed(given: dict[str, Any]) -> dict[str, Any]:
    """Return settings under the names that our models have for them."""
    names = {"layers": "attention_layers", "cin_split": "split_half"}
    settings = {names.get(key, key): value for key, value in given.items()}
    if "gate_columns" in settings:
        settings["gate_fields"], settings["gate_fields2"] = settings.pop("gate_columns")
    return settings


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """Train and evaluate one model over the seeds; return the row."""
    problem = problem_of(options)
    model = DEFAULT if options.model == "default" else options.model
    if model in BESIDE:
        return _beside(problem, model, options)
    config = config_of(model, options)
    limit = _shared.Limit(options.limit_seconds)
    runs = []
    for seed in _shared.seeds(options.seeds):
        run = RunOptions(seed=seed, threads=options.threads, progress=not options.json)
        started = time.perf_counter()
        fitted = problem.fit(config, run, limit)
        trained = time.perf_counter() - started
        ranking = fitted.ranking
        source, rows = problem.rows(fitted, options.report)
        started = time.perf_counter()
        raw, served = ranking.probabilities(source, raw=True), ranking.probabilities(source)
        seconds = {"train": trained, "evaluate": time.perf_counter() - started}
        runs.append(_figures(problem, rows, raw, served, seed, ranking) | {"seconds": seconds})
    training = ranking.training
    assert training is not None
    return _row(problem, model, options, config_document(config), runs) | {
        "epochs": training.epochs,
        "best_epoch": training.best_epoch,
        "valid": {config.select: training.best},
        "rows_per_s": training.rows_per_s,
        "interrupted": limit.reached,
    }


def config_document(config: TrainedConfig) -> dict[str, Any]:
    """Return a configuration as JSON keeps it."""
    found: dict[str, Any] = json.loads(json.dumps(asdict(config)))
    return found


def _figures(
    problem: Problem, rows: Rows, raw: np.ndarray, served: np.ndarray, seed: int, ranking: Ranking | None = None
) -> dict[str, Any]:
    """Return the metrics of one run on one part."""
    report = evaluate_rows(raw, rows, protocol=problem.protocol, seed=seed)
    calibration = evaluate_rows(served, rows, intervals=False)
    metrics = {key: report.metrics[key] for key in ("auc", "logloss", "pr_auc", "gauc") if key in report.metrics}
    metrics |= {"calibrated_logloss": calibration.metrics["logloss"], "ece": calibration.metrics["ece"]}
    new = _new_pairs(problem, rows)
    if new is not None:
        metrics["auc_new"] = auc(rows.labels[new, 0], raw[new, 0])
    return {"metrics": metrics, "intervals": report.intervals, "rows": len(rows), "new": new}


def _new_pairs(problem: Problem, rows: Rows) -> np.ndarray | None:
    """Return which rows hold a pair that is no training positive, bool (N,); None without users and items."""
    if not isinstance(problem.split, RowSplit):
        return None
    train = problem.split.train
    if train.user is None or train.item is None or rows.user is None or rows.item is None:
        return None
    width = int(max(train.item.max(), rows.item.max())) + 1
    good = train.labels[:, 0] == 1
    seen = np.unique(train.user[good].astype(np.int64) * width + train.item[good])
    return ~np.isin(rows.user.astype(np.int64) * width + rows.item, seen)


def _row(
    problem: Problem, model: str, options: argparse.Namespace, config: dict[str, Any], runs: list[dict[str, Any]]
) -> dict[str, Any]:
    names = runs[0]["metrics"]
    row = {
        "benchmark": "ctr",
        "data": problem.name,
        "data_sha256": problem.split.train.fingerprint if isinstance(problem.split, Split) else _digest(problem.split),
        "model": model,
        "setting": options.setting,
        "config": config,
        "config_sha256": hashlib.sha256(json.dumps([model, config], sort_keys=True).encode()).hexdigest(),
        "protocol": f"{problem.protocol} part={options.report} rows={runs[0]['rows']} select=valid",
        "report": options.report,
        **({"columns": Path(options.columns).read_text()} if options.columns else {}),
        "seeds": _shared.seeds(options.seeds),
        "metrics": {name: mean(run["metrics"][name] for run in runs) for name in names},
        "intervals": {name: list(pair) for name, pair in runs[0]["intervals"].items() if name in ("auc", "logloss")},
        "seconds": {key: sum(run["seconds"][key] for run in runs) for key in runs[0]["seconds"]},
    }
    if len(runs) > 1:
        row["sd"] = {name: stdev(run["metrics"][name] for run in runs) for name in names}
    return row


def _digest(split: RowSplit) -> str:
    digest = hashlib.sha256()
    for part in (split.train, split.valid, split.test):
        digest.update(part.labels.tobytes())
        digest.update(part.table.write_ipc(None).getvalue())
    return digest.hexdigest()


# ── what is no model of ours ──────────────────────────────────────────────────────────────────────────────────────


def _beside(problem: Problem, model: str, options: argparse.Namespace) -> dict[str, Any]:
    started = time.perf_counter()
    score = {"pair-lookup": _pair_lookup, "lightgbm": _lightgbm}[model]
    logits, rows, truth = score(problem, options)
    trained = time.perf_counter() - started
    pair = calibrated(torch.from_numpy(logits["valid"][:, None]), torch.from_numpy(truth["valid"][:, None]))[0]
    raw = 1 / (1 + np.exp(-logits[options.report]))
    served = 1 / (1 + np.exp(-(logits[options.report] * float(pair[0]) + float(pair[1]))))
    figures = _figures(problem, rows[options.report], raw[:, None], served[:, None], 0)
    return _row(problem, model, options, {}, [figures | {"seconds": {"train": trained, "evaluate": 0.0}}])


def _pair_lookup(
    problem: Problem, options: argparse.Namespace
) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
    """Score by whether a pair was a training positive, then by the item's rate: what no model should lose to."""
    if not isinstance(problem.split, RowSplit) or problem.split.train.user is None:
        raise ConfigError("pair-lookup needs a feature table with users and items.")
    train = problem.split.train
    assert train.item is not None
    label = train.labels[:, 0]
    size = int(max(part.item.max() for part in (train, problem.split.valid, problem.split.test))) + 1
    count = np.bincount(train.item, minlength=size)
    rate = (np.bincount(train.item, weights=label, minlength=size) + label.mean()) / (count + 1)
    rows = {"valid": problem.split.valid, "test": problem.split.test}
    logits = {}
    for part, one in rows.items():
        new = _new_pairs(problem, one)
        assert new is not None
        odds = rate[one.item]
        logits[part] = np.log(odds / (1 - odds)) + 20.0 * ~new
    return logits, rows, {part: one.labels[:, 0] for part, one in rows.items()}


def _lightgbm(problem: Problem, options: argparse.Namespace) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
    """Boosted trees over the same encoded columns: categories as categories, bags as one column for each value."""
    try:
        import lightgbm
    except ImportError:
        raise ConfigError('the lightgbm row needs lightgbm. Install it with: pip install "bowerbird[bench]"') from None
    config = config_of("logistic", options)
    blank = problem.fit(build(type(config), {"epochs": 1, "batch_size": 1 << 20}), RunOptions(progress=False), None)
    found = {part: problem.rows(blank, part) for part in ("valid", "test")}
    if isinstance(blank, TwoStage):
        assert isinstance(problem.split, Split)
        found["train"] = blank.training_rows(problem.split.train)
    else:
        found["train"] = problem.rows(blank, "train")
    tables = {part: _matrix(source, blank.ranking) for part, (source, _) in found.items()}
    truth = {part: rows.labels[:, 0] for part, (_, rows) in found.items()}
    kinds = tables["train"][1]
    data = lightgbm.Dataset(tables["train"][0], truth["train"], categorical_feature=kinds)
    booster = lightgbm.train(
        {"objective": "binary", "metric": "auc", "learning_rate": 0.05, "num_leaves": 63, "min_data_in_leaf": 20,
         "feature_fraction": 0.8, "bagging_fraction": 0.8, "bagging_freq": 1, "seed": 0, "verbosity": -1,
         "num_threads": options.threads},
        data, 2000, valid_sets=[lightgbm.Dataset(tables["valid"][0], truth["valid"], reference=data)],
        callbacks=[lightgbm.early_stopping(50, verbose=False)],
    )  # fmt: skip
    logits = {part: booster.predict(table, raw_score=True) for part, (table, _) in tables.items() if part != "train"}
    return logits, {part: rows for part, (_, rows) in found.items()}, truth


def _matrix(source: Source, ranking: Ranking) -> tuple[np.ndarray, list[int]]:
    """Return features (N, F) and which of them are categories."""
    batch = source.cut(torch.arange(len(source)))
    code = batch.code.numpy()
    value = np.ones(code.shape, np.float32) if batch.value is None else batch.value.numpy()
    columns, kinds = [], []
    for field in ranking.encoder.schema.fields:
        mine = slice(field.slot, field.slot + field.width)
        if field.kind == "categorical":
            kinds.append(len(columns))
            columns.append(code[:, field.slot] - field.start)
        elif field.kind == "numeric":
            columns.append(_number(field, code[:, mine], value[:, mine], ranking.encoder.numbers[field.name]))
        elif field.kind == "bag":
            columns += [(code[:, mine] == field.start + row).any(axis=1) for row in range(field.rows)]
        elif field.kind == "history":
            columns.append((value[:, mine] > 0).sum(axis=1))
    return np.stack(columns, axis=1).astype(np.float32), kinds


def _number(field: Field, code: np.ndarray, value: np.ndarray, learned: Mapping[str, Any]) -> np.ndarray:
    """Return the number (N,) that codes and values of a field stand for, NaN where it is empty."""
    rows = np.array([np.nan, *learned.get("knots", [1.0])])[np.maximum(code - field.start, 0)]
    return np.where(code[:, 0] > field.start, np.nansum(rows * value, axis=1), np.nan)


# ── all of them ───────────────────────────────────────────────────────────────────────────────────────────────────


def all_models(options: argparse.Namespace) -> int:
    """Print every model's row beside the published cells; measure what is missing where asked; check the bars."""
    import bowerbird.models  # noqa: F401

    names = [one.name for one in entries() if "ranker" in one.tags]
    status, lines = 0, []
    problem = problem_of(options)
    peers = {(row["data"], row["model"]): row for row in _kept("ctr_peers") if row["mode"] == "quality"}
    for model in (*names, *BESIDE):
        options.model = model
        row = _resumed(problem, model, options)
        if row is None:
            if not options.run:
                continue
            try:
                config_of(model, options) if model in names else None
                options.save = True
                _shared.main(options, measure)
                row = _resumed(problem, model, options)
            except ConfigError as error:
                print(f"{model}: {error}", file=sys.stderr)
            if row is None:
                continue
        peer = peers.get((problem.name, model), {}).get(options.report, {})
        published = PUBLISHED.get((problem.name, model), {})
        near = not peer or options.setting != "published" or row["metrics"]["auc"] >= peer["auc"] - WITHIN
        status |= not near
        lines.append((model, row, peer, published, near))
    _print(problem, options, lines)
    return status


def _print(problem: Problem, options: argparse.Namespace, lines: list[Any]) -> None:
    print(f"{problem.name}, {options.report}, setting {options.setting}: {problem.protocol}")
    print(f"{'model':12} {'auc':>7} {'95 %':>17} {'auc_new':>8} {'logloss':>8} {'calibr.':>8} {'peer auc':>9} "
          f"{'published':>18}  rows/s")  # fmt: skip
    for model, row, peer, published, near in sorted(lines, key=lambda one: -one[1]["metrics"]["auc"]):
        got, (low, high) = row["metrics"], row["intervals"].get("auc", (math.nan, math.nan))
        cell = f"{published['auc']:.4f} / {published['logloss']:.4f}" if published else ""
        print(
            f"{model:12} {got['auc']:7.4f} [{low:.4f}, {high:.4f}] {got.get('auc_new', math.nan):8.4f} "
            f"{got['logloss']:8.4f} {got['calibrated_logloss']:8.4f} {peer.get('auc', math.nan):9.4f} {cell:>18}  "
            f"{row.get('rows_per_s', 0):,.0f}" + ("" if near else "  bar missed: not within 0.001 of the peer")
        )


def _kept(name: str) -> list[dict[str, Any]]:
    path = _shared.RESULTS / f"{name}.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def _resumed(problem: Problem, model: str, options: argparse.Namespace) -> dict[str, Any] | None:
    """Return the newest kept row of this model, data, setting and part."""
    wanted = {"data": problem.name, "model": model, "setting": options.setting, "report": options.report}
    if model not in BESIDE:
        wanted["config"] = config_document(config_of(model, options))
    found = [row for row in _kept("ctr") if all(row.get(key) == value for key, value in wanted.items())]
    return found[-1] if found else None


if __name__ == "__main__":
    options = options_of()
    if options.table:
        sys.exit(_shared.table("ctr", PUBLISHED))
    sys.exit(all_models(options) if options.model == "all" else _shared.main(options, measure))
