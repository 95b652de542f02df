"""People who are erased from models: whether an attack still finds them, what it costs others, and many in a row.

People are drawn apart once for each fold: 200 to be erased, 200 to be kept, 300 whom no model ever sees, and others of
whom the attacker knows as much as the model does. The folds of one seed share no erased person.
"""

from dataclasses import dataclass, replace
from functools import cached_property
from statistics import mean, stdev
from typing import Any

import numpy as np

from bowerbird import RunOptions, evaluate, fit, split
from bowerbird.core import build, lookup
from bowerbird.data import Interactions
from bowerbird.privacy.shards import fit_shards
from bowerbird.privacy.traces import marks, told_apart
from bowerbird.privacy.unlearning import unlearn, without
from bowerbird.recommender import Recommender

ERASED, KEPT, NEVER = 200, 200, 300
SHARDED, SHARDS = "mf-shards", 8
SETTINGS: dict[str, dict[str, Any]] = {  # of models that are to remember: none is stopped early
    "ease": {},
    "itemknn": {},
    "mf": {"dim": 32, "epochs": 20},
    SHARDED: {"dim": 32, "epochs": 40},
    "sasrec": {"dim": 32, "epochs": 40},
}
SINGLY = 20  # people who are erased one by one where each takes a training


@dataclass(frozen=True)
class Fold:
    """People of one fold, by rows."""

    events: Interactions
    erased: np.ndarray
    kept: np.ndarray
    never: np.ndarray
    others: np.ndarray

    @classmethod
    def of(cls, events: Interactions, number: int, *, seed: int = 0) -> "Fold":
        """Return one fold; those of one seed share no erased person."""
        order = np.random.default_rng(seed).permutation(events.n_users)
        order = np.roll(order, -number * ERASED)
        return cls(events, *np.split(order, np.cumsum([ERASED, KEPT, NEVER])))

    def past(self, *people: np.ndarray) -> Interactions:
        """Return the events of some people."""
        return self.events.rows(np.isin(self.events.user, np.concatenate(people)))

    def histories(self, people: np.ndarray) -> list[np.ndarray]:
        """Return the item rows of some people, oldest first."""
        offsets, order = self.events.by_user
        return [self.events.item[order[offsets[one] : offsets[one + 1]]] for one in people]

    def names(self, people: np.ndarray) -> list[str]:
        """Return what some people are called."""
        return [str(self.events.user_ids[one]) for one in people]

    @cached_property
    def items(self) -> list[str]:
        """All items: they stay, so that rows stay what they are."""
        return [str(one) for one in self.events.item_ids.values.to_list()]

    def without(self, rec: Recommender, people: np.ndarray, **options: Any) -> Recommender:
        """Return a recommender from which some people are erased at once."""
        return unlearn(rec, self.names(people), keep=self.items, **options).recommender


def fitted(name: str, past: Interactions, seed: int, threads: int = 1) -> Recommender:
    """Return a model of the settings above."""
    run, settings = RunOptions(seed=seed, threads=threads, progress=False), SETTINGS[name]
    if name == SHARDED:
        return fit_shards(past, build(lookup("mf").config, settings), shards=SHARDS, run=run, key="benchmark")
    return fit(past, build(lookup(name).config, settings), run=run)


def attacked(events: Interactions, name: str, folds: int) -> dict[str, float]:
    """Return the AUC of the attack on people before and after they are erased, and on people who are kept."""
    signals: dict[str, list[tuple[np.ndarray, np.ndarray]]] = {"erased.before": [], "erased": [], "kept": []}
    for number in range(folds):
        fold = Fold.of(events, number)
        before = fitted(name, fold.past(fold.erased, fold.kept, fold.others), number)
        after = fold.without(before, fold.erased)
        reference = fitted(name, fold.past(fold.others), number)
        never = marks(after, fold.histories(fold.never), reference=reference)
        once = marks(before, fold.histories(fold.never), reference=reference)
        for what, rec, people, beside in (
            ("erased.before", before, fold.erased, once),
            ("erased", after, fold.erased, never),
            ("kept", after, fold.kept, never),
        ):
            signals[what].append((marks(rec, fold.histories(people), reference=reference), beside))
    found = {"erased.people": float(folds * ERASED)}
    for what, pairs in signals.items():
        auc, low, high = pooled(pairs)
        found |= {f"{what}.auc": auc, f"{what}.low": low, f"{what}.high": high}
    return found


def pooled(pairs: list[tuple[np.ndarray, np.ndarray]], draws: int = 1_000) -> tuple[float, float, float]:
    """Return the mean AUC over folds, and its 95 % bootstrap interval over the people of each."""
    rng = np.random.default_rng(0)
    means = [
        mean(_auc(rng.choice(inside, len(inside)), rng.choice(outside, len(outside))) for inside, outside in pairs)
        for _ in range(draws)
    ]
    low, high = np.quantile(means, [0.025, 0.975])
    return mean(told_apart(*pair).auc for pair in pairs), float(low), float(high)


def _auc(inside: np.ndarray, outside: np.ndarray) -> float:
    """Return how often one of the first is above one of the second, ties as one half."""
    order = np.sort(outside)
    below, level = np.searchsorted(order, inside, "left"), np.searchsorted(order, inside, "right")
    return float((below + level).mean() / 2 / len(outside))


def others(events: Interactions, name: str, seeds: list[int]) -> dict[str, float]:
    """Return NDCG@10 of those who stay: before, after 200 people are erased, and trained again without them.

    `off` is how far erasing lies from training again, over seeds; `one` is the mean change where one person is erased.
    """
    parts = split(events, "leave-one-out")
    fold = Fold.of(parts.train, 0)
    stay = np.setdiff1d(np.arange(parts.train.n_users), fold.erased)
    ahead = replace(parts.valid, targets=parts.valid.targets.rows(np.isin(parts.valid.targets.user, stay)))
    left, _ = without(parts.train, fold.names(fold.erased), fold.items)

    def ndcg(rec: Recommender) -> float:
        return evaluate(rec, ahead, metrics=["ndcg@10"], intervals=False).metrics["ndcg@10"]

    before, after, again, first = [], [], [], None
    for seed in seeds:
        rec = fitted(name, parts.train, seed)
        first = first or rec
        before.append(ndcg(rec))
        after.append(ndcg(fold.without(rec, fold.erased)))
        again.append(ndcg(fitted(name, left, seed)))
    assert first is not None
    n = SINGLY if name in ("ease", SHARDED) else 3
    ones = [ndcg(fold.without(first, one[None])) - before[0] for one in fold.erased[:n]]
    off = abs(mean(after) - mean(again))
    sd = {what: stdev(one) if len(one) > 1 else 0.0 for what, one in (("before", before), ("again", again))}
    return {
        "ndcg.before": mean(before), "ndcg.after": mean(after), "ndcg.again": mean(again), "ndcg.off": off,
        "ndcg.sd": sd["again"], "ndcg.sd_before": sd["before"], "ndcg.one": mean(map(abs, ones)),
        "ndcg.off_in_sd": off / sd["again"] if sd["again"] else (0.0 if off < 1e-9 else float("inf")),
    }  # fmt: skip


def in_a_row(events: Interactions, name: str) -> dict[str, float]:
    """Return how far a model is, after many people were erased one by one, from one that is trained without them."""
    fold = Fold.of(events, 0)
    rec = fitted(name, fold.past(fold.erased, fold.kept, fold.others), 0)
    people = fold.erased if name == "ease" else fold.erased[:SINGLY]
    for one in people:
        rec = fold.without(rec, one[None])
    again = fitted(name, rec.past, 0)
    states = again.model.state_dict()
    gap = max(float((one.float() - states[key].float()).abs().max()) for key, one in rec.model.state_dict().items())
    return {"row.people": float(len(people)), "row.gap": gap}
