"""Privacy beside quality. The unit is one rating, or one person; every ε is the accountant's, at the δ that is told.

`--tasks` names, with commas, some of:

- `rating`: stars of ml-1m's users 1-2999 (487,650 ratings) foreseen by `fm`, trained under a promise to each rating
  (ε 10.5 at δ 1e-6) and without; a tenth of the ratings, drawn at random, is validation, another is test;
- `person`: recall@20 on ml-1m (the parts of UltraGCN's repository) of an item model that is released under a promise to
  each person, at ε 1, 4, 8, 10, 16 and without end, δ 1e-4, beside popularity released at the same ε;
- `rounds`: the same by federated rounds with clipped answers and noise on their sum, one seed;
- `membership`: the attack on the models of `rating` (members are training ratings) and on those of `person`.

What a task chooses by hand (sizes, learning rates) was chosen on validation and is not in its ε.
"""

import argparse
import gzip
import sys
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import numpy as np
import polars as pl

import _shared
from bowerbird import RunOptions, evaluate, read, split
from bowerbird.core import BowerbirdError, numpy_stream
from bowerbird.data import Rows, Split
from bowerbird.features import Categorical
from bowerbird.models.baselines.ease import EASEConfig
from bowerbird.models.baselines.mf import MFConfig
from bowerbird.models.ranking.fm import FMConfig
from bowerbird.privacy import (
    FederatedOptions,
    PrivateRanker,
    ReleaseOptions,
    RowPrivacy,
    WireOptions,
    attack,
    federate,
    fit_private,
    most,
    noise_for,
    person_losses,
    release,
    release_popularity,
)
from bowerbird.recommender import Recommender

STARS, PARTS = "ratings_users_1-2999.dat.gz", "ultragcn_m1"
RATING = {"epsilon": 10.5, "delta": 1e-6}
EPSILONS = (1.0, 4.0, 8.0, 10.0, 16.0, float("inf"))
DELTA = 1e-4  # below one over the number of people
RECALL = "recall@20"


def rated(folder: Path) -> dict[str, Rows]:
    """Return ratings as shares of five stars, in three parts drawn at random."""
    with gzip.open(folder / STARS) as file:
        columns = np.array([line.split(b"::")[:3] for line in file], np.int64)
    place = numpy_stream(0, "ratings").random(len(columns))
    kept = {"train": place < 0.8, "valid": (place >= 0.8) & (place < 0.9), "test": place >= 0.9}

    def rows(mine: np.ndarray) -> Rows:
        table = pl.DataFrame({"user": columns[mine, 0].astype(str), "item": columns[mine, 1].astype(str)})
        return Rows(table, ((columns[mine, 2:] - 1) / 4).astype(np.float32), ("stars",))

    return {name: rows(mine) for name, mine in kept.items()}


def trained(train: Rows, epsilon: float, seed: int, threads: int) -> PrivateRanker:
    """Return the ranker of ratings: the same model, each promise with the settings that validation chose for it."""
    private = np.isfinite(epsilon)
    config = FMConfig(dim=4, learning_rate=0.02, l2=6e-6 if private else 3e-6)
    asked = RowPrivacy(epsilon=epsilon, delta=RATING["delta"], steps=200, clip=0.5, prior=0.65)
    columns = [Categorical(name="user"), Categorical(name="item")]
    return fit_private(train, config, asked, columns=columns, run=RunOptions(seed=seed, threads=threads))


def squares(made: PrivateRanker, rows: Rows) -> np.ndarray:
    """Return squared errors in stars (N,)."""
    told = made.predictor.predict(rows, raw=True)
    return np.asarray((4 * (told - rows.labels))[:, 0] ** 2, np.float64)


def ratings(folder: Path, report: str, seeds: list[int], threads: int, *, attacked: bool) -> Mapping[str, float]:
    """Return errors under a promise to each rating and without one; or how well members are told."""
    rows, found = rated(folder), {}
    for name, epsilon in (("private", RATING["epsilon"]), ("plain", float("inf"))):
        made = [trained(rows["train"], epsilon, seed, threads) for seed in (seeds[:1] if attacked else seeds)]
        if attacked:
            told = attack(squares(made[0], rows["train"]), squares(made[0], rows[report]))
            found |= {f"rating.{name}.{key}": float(value) for key, value in told.to_dict().items()}
            continue
        errors = [float(squares(one, rows[report]).mean() ** 0.5) for one in made]
        found |= {f"{name}.rmse": mean(errors)} | ({f"{name}.sd": stdev(errors)} if len(errors) > 1 else {})
        if np.isfinite(epsilon):
            found |= {"epsilon": made[0].epsilon, "delta": made[0].delta}
    if attacked:
        return found | {"rating.most": most(RATING["epsilon"], RATING["delta"])}
    return found | {"loss": found["private.rmse"] - found["plain.rmse"]}


def settings(epsilon: float) -> ReleaseOptions:
    """Return what validation chose for a promise, on seed 0."""
    chosen: dict[str, Any] = {"items": 1_000, "power": 0.2}
    if epsilon <= 1:
        chosen = {"items": 300, "power": 0.1, "counts": 0.1}
    elif epsilon <= 4:
        chosen = {"items": 600, "power": 0.2}
    elif epsilon > 100:
        chosen = {"items": 100_000, "power": 0.25, "ridge": 50.0}
    elif epsilon > 10:
        chosen = {"items": 1_500, "power": 0.2}
    return ReleaseOptions(epsilon=epsilon, delta=DELTA, **chosen)


def parts_of(folder: Path) -> Split:
    """Return the published parts, with a tenth of train as validation."""
    train, test = (read(folder / PARTS / name) for name in ("train.txt.gz", "test.txt"))
    return split(train, "given", test=test)


def people(folder: Path, report: str, seeds: list[int]) -> Mapping[str, float]:
    """Return recall@20 by ε of what is released, and of popularity."""
    holdout, found = getattr(parts_of(folder), report), {}

    def recall(rec: Recommender) -> float:
        return evaluate(rec, holdout, metrics=[RECALL], intervals=False).metrics[RECALL]

    for epsilon in EPSILONS:
        runs = [RunOptions(seed=seed) for seed in seeds]
        ours = [release(holdout.known, settings(epsilon), run=run) for run in runs]
        popular = [release_popularity(holdout.known, epsilon, DELTA, run=run) for run in runs]
        name = "inf" if np.isinf(epsilon) else f"{epsilon:g}"
        for who, made in (("released", ours), ("popularity", popular)):
            values = [recall(one.recommender) for one in made]
            found |= {f"{who}.{name}": mean(values), f"{who}.{name}.sd": stdev(values) if len(values) > 1 else 0.0}
        found |= {f"spent.{name}": ours[0].epsilon} if np.isfinite(epsilon) else {}  # JSON knows no infinity
        found |= {f"gain.{name}": found[f"released.{name}"]
                  / found[f"popularity.{name}"] - 1}  # fmt: skip
    ease = Recommender(EASEConfig(), holdout.known)
    ease.learn()
    found["ease"] = recall(ease)
    return found | {"loss.10": 1 - found["released.10"] / found["released.inf"]}


def outsiders(folder: Path) -> Mapping[str, float]:
    """Return how well people who are in the data are told from those who are not, by what is released."""
    known = parts_of(folder).test.known
    inside = numpy_stream(0, "members").random(known.n_users) < 0.5
    member, other = known.rows(inside[known.user]), known.rows(~inside[known.user])
    found: dict[str, float] = {}
    for epsilon in (1.0, 8.0, float("inf")):
        rec = release(member, settings(epsilon)).recommender
        told = attack(person_losses(rec, member), person_losses(rec, other))
        name = "inf" if np.isinf(epsilon) else f"{epsilon:g}"
        found |= {f"person.{name}.{key}": float(value) for key, value in told.to_dict().items()}
        found |= {f"person.{name}.most": most(epsilon, DELTA)} if np.isfinite(epsilon) else {}
    ease = Recommender(EASEConfig(l2=1.0), member)
    ease.learn()
    told = attack(person_losses(ease, member), person_losses(ease, other))
    return found | {f"person.ease, l2 1.{key}": float(value) for key, value in told.to_dict().items()}


def rounds(folder: Path, report: str) -> Mapping[str, float]:
    """Return recall@20 of federated rounds under a promise to each person, and what was spent."""
    parts, found = parts_of(folder), {}
    holdout = getattr(parts, report)
    for epsilon in (8.0, float("inf")):
        made = federate(holdout.known, MFConfig(dim=16), in_rounds(epsilon), run=RunOptions(seed=0))
        name = "inf" if np.isinf(epsilon) else f"{epsilon:g}"
        value = evaluate(made.recommender, holdout, metrics=[RECALL], intervals=False).metrics[RECALL]
        found |= {f"federated.{name}": value}
        found |= {f"spent.{name}": made.accountant.epsilon(DELTA)} if np.isfinite(epsilon) else {}
    return found


def in_rounds(epsilon: float) -> FederatedOptions:
    """Return rounds that keep a promise to each person."""
    n, share = 60, 0.5
    noise = noise_for(epsilon, DELTA, share=share, steps=n)
    return FederatedOptions(rounds=n, share=share, clip=1.0, noise=noise, server_rate=0.03, wire=WireOptions(bits=32))


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """Run the tasks that are asked for; return one row of all."""
    if options.data == "-":
        raise BowerbirdError("the data set ml-1m is needed: give --data FOLDER.")
    folder, seeds = Path(options.data), _shared.seeds(options.seeds)
    tasks = {
        "rating": partial(ratings, folder, options.report, seeds, options.threads, attacked=False),
        "person": partial(people, folder, options.report, seeds),
        "rounds": partial(rounds, folder, options.report),
        "membership": lambda: (
            ratings(folder, options.report, seeds, options.threads, attacked=True) | outsiders(folder)
        ),
    }
    options.runs = len(seeds)
    row = _shared.tasked(options, tasks, benchmark="privacy", model="fm,ease,mf", seeds=seeds)
    if options.picture:
        draw(row["metrics"], Path(options.picture))
    said = f"tasks={options.tasks} seeds={options.seeds} unit=rating,person delta={RATING['delta']:g},{DELTA:g}"
    return row | {"protocol": said, "report": options.report}


def draw(metrics: Mapping[str, float], path: Path) -> None:
    """Draw recall@20 by ε."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    finite = [one for one in EPSILONS if np.isfinite(one)]
    figure, axis = plt.subplots(figsize=(6.4, 3.6), layout="constrained")
    for who, label in (("released", "released items by items"), ("popularity", "released popularity")):
        values = [metrics[f"person.{who}.{one:g}"] for one in finite]
        spread = [metrics[f"person.{who}.{one:g}.sd"] for one in finite]
        (line,) = axis.plot(finite, values, marker="o", label=label)
        low, high = (np.add(values, sign * np.array(spread)) for sign in (-2, 2))
        axis.fill_between(finite, low, high, color=line.get_color(), alpha=0.2, linewidth=0)
    axis.axhline(metrics["person.released.inf"], linestyle="--", color="0.4", label="the same without noise")
    axis.set(xscale="log", xlabel=f"ε of one person, at δ {DELTA:g}", ylabel="Recall@20", ylim=(0, None))
    axis.set_xticks(finite, [f"{one:g}" for one in finite])
    axis.minorticks_off()
    axis.legend(frameon=False)
    figure.savefig(path, dpi=150)


def options_of(words: list[str] | None = None) -> argparse.Namespace:
    """Return the options of the command line."""
    options = _shared.parser(__doc__ or "")
    options.set_defaults(data="-", threads=1, seeds="5")
    options.add_argument("--tasks", default="rating,person,membership", help="with commas between them")
    options.add_argument("--picture", help="of person: a file to draw recall by ε into")
    return options.parse_args(words)


if __name__ == "__main__":
    options = options_of()
    sys.exit(_shared.figures("privacy") if options.table else _shared.main(options, measure))
