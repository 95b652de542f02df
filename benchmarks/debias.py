"""Training with inverse propensities beside plain training, on tests that were not chosen by those whom they ask.

`--tasks` names, with commas, one or both of:

- `coat`: ratings that people chose to give, tested on 16 coats for each of them that were drawn at random. A
  factorisation machine of user and item (matrix factorisation with offsets) tells the mean rating, plain and with
  `debias="given"`. Both are chosen over one grid by four folds of train, by the squared error weighed with inverse
  propensities; "naive" is the plain one chosen by its plain error, as who knows no propensities would.
- `adressa`: articles that people read, tested on as many readings of each article. `mf`, plain and with
  `debias="popularity"`, over one grid, chosen on a part of train that is cut as the test is: up to four readings of
  each article.

`--data` is the folder that holds coat and adressa-macr. Differences are paired over people, each with the mean of all
seeds. `--picture FILE` draws the newest row that was kept.
"""

import argparse
import hashlib
import json
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import torch

import _shared
from bowerbird import RunOptions, evaluate, split
from bowerbird.core import BowerbirdError, numpy_stream
from bowerbird.data import Holdout, Interactions, Rows, load_split
from bowerbird.evaluation.statistics import paired
from bowerbird.features import Categorical, Encoded, Encoder
from bowerbird.features.sources import EncodedRows
from bowerbird.models.baselines.mf import MFConfig
from bowerbird.models.ranking.fm import FM, FMConfig
from bowerbird.recommender import Recommender
from bowerbird.training import RowBatches, Training, seeded, train

PUBLISHED = {  # Schnabel et al., ICML 2016, table 1; from memory
    "coat.naive.mse": 1.920, "coat.naive.mae": 1.165, "coat.debiased.mse": 1.093, "coat.debiased.mae": 0.860,
}  # fmt: skip
FOLDS, EPOCHS, GOOD, K = 4, 80, 4, 5
COAT = {"dim": (8, 32), "l2": (1e-4, 2e-4, 4e-4, 8e-4)}
ADRESSA = {"temperature": (0.05, 0.1, 0.2, 0.4)}
POWER = 1.0
HELD, GROUPS = 4, 5
PROTOCOL = {
    "coat": f"coat: split=given fm select={FOLDS}-folds-of-train-by-ips-mse",
    "adressa": f"adressa-macr: split=given mf ranking=full masked=train select={HELD}-events-of-each-item-by-ndcg@20",
}
RANKED = ("recall@20", "ndcg@20")
Figures = dict[str, float]
PerUser = dict[str, np.ndarray]


# ── coat ──────────────────────────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, eq=False)
class Ratings:
    """Ratings from 1 to 5, as rows of two columns whose label is their place between."""

    rows: Rows
    encoded: Encoded
    rating: np.ndarray  # (N,)
    propensity: np.ndarray  # (N,)

    @classmethod
    def of(cls, events: Interactions, encoder: Encoder | None = None) -> tuple["Ratings", Encoder]:
        """Return the ratings of coat, and their encoder."""
        assert events.extra is not None
        named = {"user": events.user_ids.names(events.user), "item": events.item_ids.names(events.item)}
        table = pl.DataFrame(named).hstack(events.extra)
        columns = [Categorical(name="user"), Categorical(name="item")]
        encoder = encoder or Encoder.fit({"": table}, {"": columns}, tasks=("rating",))
        rating, propensity = (table[name].to_numpy().astype(float) for name in ("rating", "propensity"))
        label = ((rating - 1) / 4).astype(np.float32)[:, None]
        rows = Rows(table, label, ("rating",), user=events.user, item=events.item)
        return cls(rows, encoder.encode(table), rating, propensity), encoder

    def take(self, keep: np.ndarray) -> "Ratings":
        """Return the ratings that a mask selects."""
        encoded = self.encoded.take(torch.from_numpy(np.flatnonzero(keep)))
        return Ratings(self.rows.take(keep), encoded, self.rating[keep], self.propensity[keep])

    def source(self, weight: np.ndarray | None = None) -> EncodedRows:
        """Return what batches are cut from."""
        return EncodedRows.of(self.encoded, self.rows, weight=weight)


def told(model: FM, ratings: Ratings) -> np.ndarray:
    """Return the ratings that a model expects (N,)."""
    with torch.no_grad():
        logit = model(ratings.source().cut(torch.arange(len(ratings.rows))))[:, 0]
    return 1 + 4 * logit.sigmoid().double().numpy()


def learned(
    config: FMConfig, ratings: Ratings, encoder: Encoder, seed: int, watch: Callable[[FM], None] | None = None
) -> FM:
    """Return a model trained for all epochs of a configuration; `watch` sees it after each."""
    run = RunOptions(seed=seed, progress=False)
    with seeded(run, "cpu", "init"):
        model = FM(config, encoder.schema)
    source = ratings.source(config.row_weights(ratings.rows.item, ratings.rows.table))
    batches = RowBatches(source, config, seed=seed, fingerprint=ratings.rows.fingerprint)

    def seen(_: Training) -> None:
        if watch is not None:
            watch(model)

    train(model, batches, config, run, epochs=config.epochs, on_epoch=seen)
    return model


def validated(config: FMConfig, ratings: Ratings, encoder: Encoder, fold: np.ndarray) -> np.ndarray:
    """Return the squared error on held-out folds after each epoch, plain and weighed by inverse propensities (2, E)."""
    curves = np.zeros((2, config.epochs))
    for held in range(FOLDS):
        left, out = ratings.take(fold != held), ratings.take(fold == held)
        found: list[tuple[float, float]] = []

        def watch(model: FM, out: Ratings = out, found: list[tuple[float, float]] = found) -> None:
            error, weight = (told(model, out) - out.rating) ** 2, 1 / out.propensity
            found.append((float(error.mean()), float(weight @ error / weight.sum())))

        learned(config, left, encoder, 0, watch)
        curves += np.array(found).T / FOLDS
    return curves


def coat(options: argparse.Namespace, seeds: list[int]) -> tuple[Figures, dict[str, Any]]:
    """Return figures of plain and debiased training on coat, and what was chosen."""
    parts = load_split("coat", data_root=options.data)
    known, encoder = Ratings.of(parts.test.known)
    fold = numpy_stream(0, "folds").permutation(len(known.rows)) % FOLDS
    curves = {
        (debias, *values): validated(_fm(debias, values, EPOCHS), known, encoder, fold)
        for debias, *values in product(("none", "given"), *COAT.values())
    }
    chosen: dict[str, Any] = {}
    for arm, debias, by in (("plain", "none", 1), ("debiased", "given", 1), ("naive", "none", 0)):
        best = min((key for key in curves if key[0] == debias), key=lambda key: curves[key][by].min())
        epochs = int(curves[best][by].argmin()) + 1
        chosen[f"coat.{arm}"] = dict(zip(COAT, best[1:], strict=True)) | {
            "debias": debias, "epochs": epochs, "valid.mse": float(curves[best][0][epochs - 1]),
            "valid.ips_mse": float(curves[best][1][epochs - 1]),
        }  # fmt: skip
    if options.report == "valid":
        return {
            f"{arm}.{key}": one[key] for arm, one in chosen.items() for key in ("valid.mse", "valid.ips_mse")
        }, chosen
    asked, _ = Ratings.of(parts.test.targets, encoder)
    people, told_by = {}, {}
    for arm, one in chosen.items():
        config = _fm(one["debias"], [one[key] for key in COAT], one["epochs"])
        runs = [told(learned(config, known, encoder, seed), asked) for seed in seeds]
        told_by[arm] = np.mean(runs, axis=0)
        people[arm] = _mean([rated(asked, run) for run in runs])
    figures = compared(people, "coat", pairs=(("debiased", "plain"), ("debiased", "naive")))
    tenths = np.array_split(np.argsort(asked.propensity, kind="stable"), 10)
    chosen["coat.curve"] = {
        arm: [float((mine - asked.rating)[tenth].mean()) for tenth in tenths] for arm, mine in told_by.items()
    }
    return figures, chosen


def _fm(debias: str, values: list[Any], epochs: int) -> FMConfig:
    settings = dict(zip(COAT, values, strict=True))
    return FMConfig(debias=debias, epochs=epochs, learning_rate=0.03, batch_size=2048, select="logloss", **settings)


def rated(asked: Ratings, expected: np.ndarray) -> PerUser:
    """Return the figures of every person (U,), NaN where somebody has none."""
    assert asked.rows.user is not None
    found: dict[str, list[float]] = {"mse": [], "mae": [], f"ndcg@{K}": [], "auc": []}
    for person in np.unique(asked.rows.user):
        mine = asked.rows.user == person
        true, guess = asked.rating[mine], expected[mine]
        found["mse"].append(float(((guess - true) ** 2).mean()))
        found["mae"].append(float(np.abs(guess - true).mean()))
        gain, discount = 2.0**true - 1, 1 / np.log2(np.arange(2, min(K, len(true)) + 2))
        found[f"ndcg@{K}"].append(float(gain[np.argsort(-guess)[:K]] @ discount / (np.sort(gain)[::-1][:K] @ discount)))
        over, under = guess[true >= GOOD], guess[true < GOOD]
        wins = (
            (over[:, None] > under).mean() + (over[:, None] == under).mean() / 2 if len(over) and len(under) else np.nan
        )
        found["auc"].append(float(wins))
    return {name: np.array(values) for name, values in found.items()}


# ── adressa ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def adressa(options: argparse.Namespace, seeds: list[int]) -> tuple[Figures, dict[str, Any]]:
    """Return figures of plain and debiased training on adressa-macr, and what was chosen."""
    published = load_split("adressa-macr", data_root=options.data)
    events = published.test.known
    held = balanced(events.item, numpy_stream(0, "balanced"))
    parts = split(events.rows(~held), valid=events.rows(held), test=published.test.targets)
    found: dict[tuple[str, float], Training] = {}
    for debias, temperature in product(("none", "popularity"), ADRESSA["temperature"]):
        one = Recommender(_mf(debias, temperature), parts.train, run=RunOptions(progress=False))
        one.learn(valid=parts.valid)
        assert one.training is not None
        found[debias, temperature] = one.training
        print(f"{debias} {temperature}: {one.training.best:.4f}, epoch {one.training.best_epoch}", file=sys.stderr)
    chosen: dict[str, Any] = {}
    people, groups = {}, {}
    for arm, debias in (("plain", "none"), ("debiased", "popularity")):
        temperature = max(ADRESSA["temperature"], key=lambda one: found[debias, one].best)
        training = found[debias, temperature]
        chosen[f"adressa.{arm}"] = {
            "debias": debias, "temperature": temperature, "epochs": training.best_epoch, "valid.ndcg@20": training.best,
        }  # fmt: skip
        if options.report == "test":
            runs = []
            for seed in seeds:
                run = RunOptions(seed=seed, progress=False)
                runs.append(Recommender(_mf(debias, temperature), parts.test.known, run=run))
                runs[-1].learn(epochs=training)
            people[f"adressa.{arm}"] = _mean([_per_user(one, parts.test) for one in runs])
            groups[f"adressa.{arm}"] = np.mean([by_popularity(one, parts.test) for one in runs], axis=0).tolist()
    if options.report == "valid":
        return {f"{arm}.valid.ndcg@20": one["valid.ndcg@20"] for arm, one in chosen.items()}, chosen
    chosen["adressa.curve"] = groups
    return compared(people, "adressa", pairs=(("debiased", "plain"),)), chosen


def _mf(debias: str, temperature: float) -> MFConfig:
    return MFConfig(
        debias=debias, debias_power=POWER, temperature=temperature,
        select="ndcg@20", epochs=30, patience=2, batch_size=4096,
    )  # fmt: skip


def balanced(item: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Return which events are held out, bool (E,): `HELD` of each item, and never more than half of its own."""
    order = rng.permutation(len(item))
    order = order[np.argsort(item[order], kind="stable")]
    count = np.bincount(item)
    place = np.arange(len(item)) - np.repeat(np.cumsum(count) - count, count)
    held = np.zeros(len(item), bool)
    held[order] = place < np.minimum(HELD, count[item[order]] // 2)
    return held


def _per_user(one: Recommender, holdout: Holdout) -> PerUser:
    report = evaluate(one, holdout, metrics=RANKED, intervals=False)
    return {name: report.per_user[name].to_numpy() for name in RANKED}


def by_popularity(one: Recommender, holdout: Holdout) -> list[float]:
    """Return how many of the readings of each fifth of articles, the least read first, were among the first twenty."""
    people = np.bincount(holdout.known.item, minlength=holdout.known.n_items)
    rank = np.argsort(np.argsort(people, kind="stable")) * GROUPS // len(people)
    names = holdout.targets.user_ids.names(np.unique(holdout.targets.user)).to_list()
    lists = one.recommend(names, k=20).to_polars().select("user_id", "item_id")
    told = pl.DataFrame({
        "user_id": holdout.targets.user_ids.names(holdout.targets.user),
        "item_id": holdout.targets.item_ids.names(holdout.targets.item),
        "group": rank[holdout.known.item_ids.rows(holdout.targets.item_ids.names(holdout.targets.item))],
    })  # fmt: skip
    hit = told.join(lists.with_columns(hit=pl.lit(1.0)), on=["user_id", "item_id"], how="left").fill_null(0.0)
    return [float(hit.filter(pl.col("group") == group)["hit"].mean() or 0.0) for group in range(GROUPS)]  # type: ignore[arg-type]


# ── figures ───────────────────────────────────────────────────────────────────────────────────────────────────────────

TASKS: dict[str, Callable[[argparse.Namespace, list[int]], tuple[Figures, dict[str, Any]]]] = {
    "coat": coat, "adressa": adressa,
}  # fmt: skip


def _mean(runs: list[PerUser]) -> PerUser:
    """Return each person's mean over seeds, and under "sd.…" the spread of the mean over people between seeds."""
    found = {name: np.mean([run[name] for run in runs], axis=0) for name in runs[0]}
    spread = {f"sd.{name}": np.array([np.std([np.nanmean(run[name]) for run in runs], ddof=1)]) for name in runs[0]}
    return found | (spread if len(runs) > 1 else {})


def compared(people: Mapping[str, PerUser], task: str, *, pairs: tuple[tuple[str, str], ...]) -> Figures:
    """Return the means of all arms, and what the first of each pair gains: larger is better, errors turned round."""
    found = {
        f"{arm}.{name}": float(np.nanmean(values)) for arm, mine in people.items() for name, values in mine.items()
    }
    for one, other in pairs:
        for name in (name for name in people[f"{task}.{one}"] if not name.startswith("sd.")):
            a, b = people[f"{task}.{one}"][name], people[f"{task}.{other}"][name]
            a, b = (b, a) if name in ("mse", "mae") else (a, b)
            there = ~np.isnan(a)
            gain = paired(name, a[there], b[there], numpy_stream(0, "compare"))
            key = f"{task}.gain_over_{other}.{name}"
            found |= {key: gain.mean, f"{key}.low": gain.low, f"{key}.high": gain.high}
    return found


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """Run the tasks that are asked for; return one row of all."""
    names = options.tasks.split(",")
    if strange := [name for name in names if name not in TASKS]:
        raise BowerbirdError(f"--tasks names {strange[0]!r}; there are {', '.join(TASKS)}.")
    seeds = _shared.seeds(options.seeds)
    metrics: Figures = {}
    chosen: dict[str, Any] = {}
    seconds: dict[str, float] = {}
    for name in names:
        started = time.perf_counter()
        figures, choice = TASKS[name](options, seeds)
        metrics, chosen = metrics | figures, chosen | choice
        seconds[name] = time.perf_counter() - started
    grid = {"coat": COAT, "adressa": ADRESSA, "power": POWER, "folds": FOLDS, "epochs": EPOCHS, "held": HELD}
    return {
        "benchmark": "debias",
        "data": ",".join({"coat": "coat", "adressa": "adressa-macr"}[name] for name in names),
        "model": ",".join({"coat": "fm", "adressa": "mf"}[name] for name in names),
        "config": grid,
        "config_sha256": hashlib.sha256(json.dumps(grid, sort_keys=True).encode()).hexdigest(),
        "protocol": " ".join(PROTOCOL[name] for name in names) + f"; paired over people, mean of {len(seeds)} seeds",
        "report": options.report,
        "seeds": seeds,
        "metrics": metrics,
        "chosen": chosen,
        "published": PUBLISHED,
        "seconds": seconds,
    }


def picture(file: Path) -> int:
    """Draw the newest row on test: who was told too much on coat, and whose readings were found on adressa."""
    import matplotlib as mpl

    mpl.use("agg")
    from matplotlib import pyplot as plt

    curves: dict[str, list[float]] = {}
    for row in _shared.kept("debias"):
        for task in TASKS:
            curves |= row["chosen"].get(f"{task}.curve", {})
    if not {"coat.plain", "adressa.plain"} <= set(curves):
        print("no row on test was kept. Run with --report test --save first.", file=sys.stderr)
        return 2
    figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3.2), layout="constrained")
    for arm, colour in (("plain", "#8a8f98"), ("debiased", "#2f6f4f")):
        left.plot(range(1, 11), curves[f"coat.{arm}"], "o-", color=colour, label=arm)
        right.plot(range(1, GROUPS + 1), curves[f"adressa.{arm}"], "o-", color=colour, label=arm)
    left.axhline(0, color="black", linewidth=0.8)
    left.set(title="coat, random exposure", xlabel="tenth of coats, by propensity", ylabel="told − given, stars")
    right.set(title="adressa, balanced test", xlabel="fifth of articles, by readers", ylabel="found in twenty")
    right.set_xticks(range(1, GROUPS + 1))
    left.legend(frameon=False)
    figure.savefig(file, dpi=110)
    return 0


def options_of(words: list[str] | None = None) -> argparse.Namespace:
    """Return the options of the command line."""
    options = _shared.parser(__doc__ or "")
    options.set_defaults(threads=1, seeds="10")
    options.add_argument("--tasks", default="coat,adressa", help="with commas between them")
    options.add_argument("--picture", type=Path, help="draw the newest row that was kept into this file, and end")
    return options.parse_args(words)


def table() -> int:
    """Print the kept rows."""
    return _shared.figures("debias", PUBLISHED, " (from memory)")


if __name__ == "__main__":
    options = options_of()
    if options.picture:
        sys.exit(picture(options.picture))
    sys.exit(table() if options.table else _shared.main(options, measure))
