"""Off-policy estimates against the truth: published settings, coverage of intervals, the automatic choice, real logs.

`--tasks` names, with commas, some of:

- `synthetic`: the setting of zr-obp's example: 10,000 rounds, 30 arms, 5 numbers of context, a behaviour that leans to
  what earns little (β −3), a policy learnt by weighted classification from a log of its own; mean relative error;
- `digits`: classification as a bandit, as in its other example: 70 % of the pictures of digits are the log;
- `coverage`: how often 95 % intervals hold the truth;
- `choice`: the error of "auto" beside that of the estimator that is best in hindsight, over several kinds of worlds;
- `obd`: from the log of each policy of `obd-small` (`--data`) what the other earned, beside what it did earn.

Worlds are drawn by our own streams and rewards are told by our own model, so that the published figures are a check to
within their standard deviations, which are as large as they are. `--runs` is the number of worlds, by seed.
"""

import argparse
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

import _shared
from bowerbird.core import BowerbirdError
from bowerbird.evaluation.off_policy import Estimate, Logged, estimate, overlap, reward_model

PUBLISHED = {  # mean relative error of zr-obp's examples
    "synthetic": {"dm": 0.0744, "ipw": 0.0095, "snipw": 0.0067, "dr": 0.0062, "sndr": 0.0061, "switch": 0.0062,
                  "dros": 0.0220},
    "digits": {"dm": 0.4365, "ipw": 0.0303, "snipw": 0.0228, "dr": 0.0162, "sndr": 0.0221, "switch": 0.0347,
               "dros": 0.0159},
}  # fmt: skip
RUNS = {"synthetic": 20, "digits": 30, "coverage": 1_000, "choice": 60, "obd": 1}
NAMES = ("dm", "ipw", "snipw", "dr", "sndr", "switch", "dros", "auto")
COVERED = ("ipw", "snipw", "dr", "sndr", "auto")
FIXED = 12345  # the seed of what all worlds of a kind have in common
LAST_RUNS = 200_000  # rounds that tell the truth of a kind


def soft(scores: np.ndarray) -> np.ndarray:
    """Return softmax over the last axis."""
    odds = np.exp(scores - scores.max(axis=-1, keepdims=True))
    return np.asarray(odds / odds.sum(axis=-1, keepdims=True))


def drawn(chance: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Return an arm of each row, drawn by its chances."""
    return np.asarray((chance.cumsum(axis=1) > rng.random((len(chance), 1))).argmax(axis=1))


def log_of(q: np.ndarray, behaviour: np.ndarray, rng: np.random.Generator) -> Logged:
    """Return the log of a behaviour where arms earn 1 with chances q."""
    rows, action = np.arange(len(q)), drawn(behaviour, rng)
    reward = (rng.random(len(q)) < q[rows, action]).astype(float)
    return Logged(action, reward, behaviour[rows, action], q.shape[1])


# ── tasks ─────────────────────────────────────────────────────────────────────────────────────────────────────────────


def synthetic(runs: int, data: Path | None) -> dict[str, float]:
    """Return the mean relative error of each estimator in the published setting."""
    from sklearn.linear_model import LogisticRegression

    def one(seed: int) -> dict[str, float]:
        rng, n, arms = np.random.default_rng([FIXED, seed]), 10_000, 30
        of_arm, of_both = rng.uniform(-1, 1, arms), rng.uniform(-1, 1, (5, arms))
        common = rng.uniform(-1, 1, 5)
        logs, contexts, worth = [], [], []
        for _ in range(2):
            x = rng.normal(size=(n, 5))
            q = 1 / (1 + np.exp(-(x @ common)[:, None] - of_arm - x @ of_both))
            contexts.append(x)
            worth.append(q)
            logs.append(log_of(q, soft(-3 * q), rng))
        learner = LogisticRegression(C=100, max_iter=2_000)
        earned = logs[0].reward > 0
        weight = 1 / logs[0].propensity[earned]
        learner.fit(contexts[0][earned], logs[0].action[earned], sample_weight=weight)
        scores = np.zeros((n, arms))
        scores[:, learner.classes_] = learner.predict_proba(contexts[1])
        chance = soft(scores)  # as the example has it: nearly even, since scores are chances themselves
        model = reward_model(logs[1], contexts[1], rng=rng)
        return errors(logs[1], chance, model, float((chance * worth[1]).sum(axis=1).mean()), rng)

    return mean_of([one(seed) for seed in range(runs)])


def digits(runs: int, data: Path | None) -> dict[str, float]:
    """Return the mean relative error of each estimator where arms are classes, and the right one earns 1."""
    from sklearn.datasets import load_digits
    from sklearn.ensemble import RandomForestClassifier
    from sklearn.linear_model import LogisticRegression

    x, y = load_digits(return_X_y=True)

    def one(seed: int) -> dict[str, float]:
        rng = np.random.default_rng([FIXED, seed])
        order = rng.permutation(len(x))
        seen, judged = order[: int(0.3 * len(x))], order[int(0.3 * len(x)) :]
        first = LogisticRegression(C=1_000, max_iter=10_000).fit(x[seen] / 16, y[seen])
        second = RandomForestClassifier(100, max_depth=10, min_samples_leaf=5, random_state=seed).fit(x[seen], y[seen])
        behaviour = 0.8 * np.eye(10)[first.predict(x[judged] / 16)] + 0.02
        chance = 0.9 * np.eye(10)[second.predict(x[judged])] + 0.01
        log, q = log_of(np.eye(10)[y[judged]], behaviour, rng), np.eye(10)[y[judged]]
        model = reward_model(log, x[judged] / 16, rng=rng)
        return errors(log, chance, model, float((chance * q).sum(axis=1).mean()), rng)

    return mean_of([one(seed) for seed in range(runs)])


class Kind:
    """A kind of worlds: people of five numbers, ten arms."""

    def __init__(self, n: int, apart: float, *, informed: bool = True) -> None:
        """`apart` says how far behaviour and policy are from chance; the model of rewards may know nothing."""
        fixed = np.random.default_rng(FIXED)
        self.n, self.apart, self.informed = n, apart, informed
        self.likes, self.habit = fixed.normal(size=(5, 10)), fixed.normal(size=(5, 10))
        x = np.random.default_rng([FIXED, 1]).normal(size=(LAST_RUNS, 5))
        self.truth = float((soft(apart * x @ self.likes) * self.worth(x)).sum(axis=1).mean())

    def worth(self, x: np.ndarray) -> np.ndarray:
        """Return what arms earn."""
        return np.asarray(1 / (1 + np.exp(-x @ self.likes)))

    def estimates(self, seed: int, names: tuple[str, ...], draws: int) -> dict[str, Estimate]:
        """Return estimates from one log."""
        rng = np.random.default_rng([FIXED, 2, seed])
        x = rng.normal(size=(self.n, 5))
        log = log_of(self.worth(x), soft(self.apart * x @ self.habit), rng)
        model = reward_model(log, x if self.informed else np.zeros((self.n, 1)), rng=rng)
        return estimate(log, soft(self.apart * x @ self.likes), model, names=names, draws=draws, rng=rng)


def coverage(runs: int, data: Path | None) -> dict[str, float]:
    """Return how often intervals hold the truth."""
    kind, hits = Kind(1_000, 0.25), dict.fromkeys(COVERED, 0)
    for seed in range(runs):
        for name, one in kind.estimates(seed, COVERED, 500).items():
            hits[name] += one.low <= kind.truth <= one.high
        say("coverage", seed, runs)
    return {name: times / runs for name, times in hits.items()}


def choice(runs: int, data: Path | None) -> dict[str, float]:
    """Return the error of "auto" over that of the best in hindsight, for each kind of worlds and all together."""
    found, all_errors = {}, []
    for n in (300, 1_000, 4_000):
        for apart in (0.25, 0.7):
            for informed in (True, False):
                kind, square = Kind(n, apart, informed=informed), dict.fromkeys(NAMES, 0.0)
                for seed in range(runs):
                    for name, one in kind.estimates(seed, NAMES, 200).items():
                        square[name] += (one.value - kind.truth) ** 2 / runs
                root = {name: value**0.5 for name, value in square.items()}
                best = min(value for name, value in root.items() if name != "auto")
                found[f"n{n}_apart{apart:g}_{'informed' if informed else 'blind'}"] = root["auto"] / best
                all_errors.append(root)
                say("choice", len(all_errors), 12)
    total = {name: float(np.mean([one[name] / one["dr"] for one in all_errors])) for name in NAMES}
    best = min(value for name, value in total.items() if name != "auto")
    return {"auto_over_best": total["auto"] / best, "worst_kind": max(found.values())} | found


def obd(runs: int, data: Path | None) -> dict[str, float]:
    """Return what each policy earned by its own log, and by that of the other one, in thousandths."""
    if data is None:
        raise BowerbirdError("--tasks obd needs --data: the folder obd-small.")
    found: dict[str, float] = {}
    for campaign in ("all", "men"):
        logs = {name: pl.read_csv(data / f"{name}_{campaign}.csv.gz") for name in ("random", "bts")}
        arms = int(max(log["item_id"].max() for log in logs.values())) + 1  # type: ignore[type-var, operator]
        for name, other in (("random", "bts"), ("bts", "random")):
            log = rounds(logs[name], arms)
            chance = table_of(logs[other], arms)[logs[name]["position"].to_numpy() - 1]
            context = np.eye(3)[logs[name]["position"].to_numpy() - 1]
            model = reward_model(log, context, l2=100.0)
            told, covered = estimate(log, chance, model, names=NAMES), overlap(log, chance)
            key = f"{other}_{campaign}"
            found[f"{key}.truth"] = 1000 * float(logs[other]["click"].mean())  # type: ignore[arg-type]
            found[f"{key}.effective"] = covered.effective
            for estimator in ("ipw", "snipw", "dr", "auto"):
                one = told[estimator]
                found |= {f"{key}.{estimator}": 1000 * one.value, f"{key}.{estimator}_low": 1000 * one.low,
                          f"{key}.{estimator}_high": 1000 * one.high}  # fmt: skip
    return found


def rounds(frame: pl.DataFrame, arms: int) -> Logged:
    """Return a log of Open Bandit."""
    click, propensity = (frame[name].cast(pl.Float64).to_numpy() for name in ("click", "propensity_score"))
    return Logged(frame["item_id"].to_numpy(), click, propensity, arms)


def table_of(frame: pl.DataFrame, arms: int) -> np.ndarray:
    """Return the chances that a policy gives to arms at each of the three positions, by the means of its own log."""
    found = np.zeros((3, arms))
    means = frame.group_by("position", "item_id").agg(pl.col("propensity_score").mean())
    for position, item, chance in means.iter_rows():
        found[position - 1, item] = chance
    return np.asarray(found / found.sum(axis=1, keepdims=True))


# ── figures ───────────────────────────────────────────────────────────────────────────────────────────────────────────

TASKS: dict[str, Callable[[int, Path | None], dict[str, float]]] = {
    "synthetic": synthetic, "digits": digits, "coverage": coverage, "choice": choice, "obd": obd,
}  # fmt: skip


def errors(
    log: Logged, chance: np.ndarray, model: np.ndarray, truth: float, rng: np.random.Generator
) -> dict[str, float]:
    """Return the relative error of each estimator."""
    found = estimate(log, chance, model, names=NAMES, draws=100, rng=rng)
    return {name: abs(one.value - truth) / truth for name, one in found.items()}


def mean_of(rows: list[dict[str, float]]) -> dict[str, float]:
    """Return means, and standard deviations beside them."""
    means = {name: float(np.mean([row[name] for row in rows])) for name in rows[0]}
    return means | {
        f"{name}.sd": float(np.std([row[name] for row in rows], ddof=1)) for name in rows[0] if len(rows) > 1
    }


def say(task: str, done: int, of: int) -> None:
    """Say now and then how far a task is."""
    if done % 100 == 0:
        print(f"{task}: {done} of {of}", file=sys.stderr, flush=True)


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """Run the tasks that are asked for; return one row of all."""
    data = Path(options.data) if options.data != "-" else None
    runs = {name: options.runs or RUNS[name] for name in TASKS}
    tasks = {name: partial(task, runs[name], data) for name, task in TASKS.items()}
    protocol = " ".join(f"{name}: {runs.get(name)} runs" for name in options.tasks.split(","))
    said = {"benchmark": "off_policy", "model": "estimators", "protocol": f"{protocol}; seeds [{FIXED}, run]"}
    return _shared.tasked(options, tasks, **said, seeds=[FIXED])


def options_of(words: list[str] | None = None) -> argparse.Namespace:
    """Return the options of the command line."""
    options = _shared.parser(__doc__ or "")
    options.set_defaults(data="-", threads=1)
    options.add_argument("--tasks", default="synthetic,digits,coverage,choice", help="with commas between them")
    options.add_argument("--runs", type=int, default=0, help="worlds of each task; 0: as many as are published")
    return options.parse_args(words)


def table() -> int:
    """Print the kept rows beside what is published."""
    published = {f"{task}.{name}": one for task, all_of in PUBLISHED.items() for name, one in all_of.items()}
    return _shared.figures("off_policy", published)


if __name__ == "__main__":
    options = options_of()
    sys.exit(table() if options.table else _shared.main(options, measure))
