"""What another policy would have earned, told from the log of the one that was in use.

Every estimate is a mean of three parts over rounds, base + top / bottom, so that one resampling gives intervals to all:

    dm      base = q(x, π)                                         reward model alone; biased as it is
    ipw     base = w r                                             Horvitz and Thompson; unbiased, of large variance
    snipw   top = w r, bottom = w                                  Swaminathan and Joachims, NeurIPS 2015
    dr      base = q(x, π) + w (r − q(x, a))                       Dudík et al., ICML 2011
    sndr    base = q(x, π), top = w (r − q(x, a)), bottom = w
    switch  as dr, with w only where w ≤ τ                         Wang et al., ICML 2017
    dros    as dr, with λ w / (w² + λ) for w                       Su et al., ICML 2020: optimistic shrinkage
    replay  top = m r, bottom = m, where m = 1 if π would have done the same   Li et al., WSDM 2011; for uniform logs

where w = π(a | x) / p, p is the logged propensity, q a model of rewards and q(x, π) its mean under π. Intervals are
those of resampling: they know nothing of the bias of dm, switch, dros and replay, and are too short where a log is
worth less than some hundred rounds of the policy (`overlap`).

Shapes: N rounds, A arms.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import polars as pl

from bowerbird.core import DataError

ESTIMATORS = ("dm", "ipw", "snipw", "dr", "sndr", "switch", "dros", "replay")
MODELLED = ("dm", "dr", "sndr", "switch", "dros")  # they need a model of rewards
CONSISTENT = ("dr", "sndr", "snipw", "ipw")  # right in the long run, whatever the model of rewards
GRID = (1.0, 5.0, 10.0, 50.0, 100.0, 500.0, 1_000.0, 5_000.0, 10_000.0, np.inf)  # tried for λ and for τ
BLOCK = 4_000_000  # draws held at once
FOLDS = 3


@dataclass(frozen=True)
class Logged:
    """Rounds of one policy: what it did, with what chance, and what came of it."""

    action: np.ndarray  # int (N,)
    reward: np.ndarray  # (N,)
    propensity: np.ndarray  # (N,): the chance that the policy gave to what it did
    n_arms: int

    def __post_init__(self) -> None:
        if not len(self.action):
            raise DataError("the log has no rounds. Give at least one.")
        wrong = {
            "action": (self.action < 0) | (self.action >= self.n_arms),
            "propensity": ~((self.propensity > 0) & (self.propensity <= 1)),
            "reward": ~np.isfinite(self.reward),
        }
        asked = {"action": f"0 to {self.n_arms - 1}", "propensity": "above 0 and at most 1", "reward": "a number"}
        for name, bad in wrong.items():
            if bad.any():
                row = int(np.flatnonzero(bad)[0])
                raise DataError(f"{name} is {getattr(self, name)[row]} in row {row}; it must be {asked[name]}.")

    def __len__(self) -> int:
        return len(self.action)


def logged(
    frame: pl.DataFrame,
    arms: Sequence[object],
    *,
    action: str = "item_id",
    reward: str = "reward",
    propensity: str = "propensity",
    policy_version: str | None = None,
    most: float = np.inf,
) -> Logged:
    """Return the rounds of a table; raises `DataError` with the row of what cannot be used.

    `arms` are the values of `action`, in order. With `policy_version`, rows of another one are refused; rewards must
    lie between 0 and `most`.
    """
    for name in (action, reward, propensity, *(["policy_version"] if policy_version is not None else [])):
        if name not in frame.columns:
            raise DataError(f"the log has no column {name}; it has {', '.join(frame.columns)}.")
        if frame[name].null_count():
            row = int(frame[name].is_null().arg_max() or 0)
            raise DataError(f"{name} is missing in row {row}. Leave the row out, or say what it was.")
    if policy_version is not None:
        others = frame["policy_version"] != policy_version
        if others.any():
            row = int(others.arg_max() or 0)
            found = frame["policy_version"][row]
            raise DataError(f'row {row} is of policy "{found}", not of "{policy_version}". Judge each by its own log.')
    places = {arm: place for place, arm in enumerate(arms)}
    rows = [places.get(one, -1) for one in frame[action].to_list()]
    if -1 in rows:
        row = rows.index(-1)
        raise DataError(f"{action} is {frame[action][row]!r} in row {row}, which is none of the {len(arms)} arms.")
    values = frame[reward].cast(pl.Float64).to_numpy()
    out = np.flatnonzero((values < 0) | (values > most))
    if len(out):
        raise DataError(f"{reward} is {values[out[0]]} in row {out[0]}; it must lie between 0 and {most:g}.")
    return Logged(np.array(rows), values, frame[propensity].cast(pl.Float64).to_numpy(), len(arms))


@dataclass(frozen=True)
class Estimate:
    """What a policy would have earned a round, with a 95 % interval."""

    estimator: str
    value: float
    low: float
    high: float
    sd: float  # of the estimate, by resampling
    setting: float | None = None  # λ or τ, where there is one


@dataclass(frozen=True)
class Overlap:
    """How much a log can tell about a policy."""

    rounds: int
    effective: float  # rounds of the policy itself that the log is worth: (Σw)² / Σw²
    mean_weight: float  # 1 where the log covers what the policy does; below, it does what was never tried
    largest_weight: float
    unseen: float  # share of the policy's choices that fall on arms that the log never shows

    @property
    def verdict(self) -> str:
        """Return what to make of it."""
        if self.unseen > 0.01 or self.mean_weight < 0.9:
            return "the policy does what was never tried: no estimate from this log holds"
        if self.effective < 100:
            return "the log is worth fewer than 100 rounds of the policy: take intervals, not values"
        return "the log covers the policy"


def weights(log: Logged, chance: np.ndarray) -> np.ndarray:
    """Return π(a | x) / p of each round (N,); `chance` is π (N, A), rows of which sum to 1."""
    if chance.shape != (len(log), log.n_arms):
        raise DataError(f"the policy has chances of shape {chance.shape}; the log asks for {(len(log), log.n_arms)}.")
    off = np.flatnonzero((np.abs(chance.sum(axis=1) - 1) > 1e-6) | (chance < 0).any(axis=1))
    if len(off):
        raise DataError(f"the policy's chances in row {off[0]} sum to {chance[off[0]].sum():g}; they must sum to 1.")
    return np.asarray(chance[np.arange(len(log)), log.action] / log.propensity)


def overlap(log: Logged, chance: np.ndarray) -> Overlap:
    """Return how much a log can tell about a policy."""
    w = weights(log, chance)
    seen = np.bincount(log.action, minlength=log.n_arms) > 0
    square = float((w**2).sum())
    effective = float(w.sum()) ** 2 / square if square else 0.0
    return Overlap(len(log), effective, float(w.mean()), float(w.max()), float(chance[:, ~seen].sum(axis=1).mean()))


def parts(
    name: str, log: Logged, chance: np.ndarray, model: np.ndarray | None = None, setting: float = np.inf
) -> np.ndarray:
    """Return base, top and bottom of each round (N, 3) for one estimator; `model` is q (N, A)."""
    w, n = weights(log, chance), len(log)
    found = np.zeros((n, 3))
    if name in MODELLED:
        if model is None:
            raise DataError(f"{name} needs a model of rewards. Make one with `reward_model`, or take snipw.")
        value = (chance * model).sum(axis=1)
        rest = log.reward - model[np.arange(n), log.action]
        if name == "switch":
            w = np.where(w <= setting, w, 0.0)
        elif name == "dros" and np.isfinite(setting):
            w = setting * w / (w**2 + setting)
        found[:, 0] = value if name in ("dm", "sndr") else value + w * rest
        if name == "sndr":
            found[:, 1], found[:, 2] = w * rest, w
    elif name == "ipw":
        found[:, 0] = w * log.reward
    elif name == "snipw":
        found[:, 1], found[:, 2] = w * log.reward, w
    elif name == "replay":
        same = chance.argmax(axis=1) == log.action
        found[:, 1], found[:, 2] = same * log.reward, same
    else:
        raise DataError(f'no estimator is named "{name}". There are {", ".join(ESTIMATORS)}.')
    return found


def settled(name: str, log: Logged, chance: np.ndarray, model: np.ndarray) -> float:
    """Return the λ or τ of the grid whose variance and squared bias, both estimated, are least together.

    The bias of smaller weights is what they leave out of dr's correction; its noise counts as bias, to be careful.
    """
    whole = parts("dr", log, chance, model)[:, 0]

    def error(setting: float) -> float:
        some = parts(name, log, chance, model, setting)[:, 0]
        return float(some.var() / len(log) + (whole - some).mean() ** 2)

    return min(GRID, key=error)


def estimate(
    log: Logged,
    chance: np.ndarray,
    model: np.ndarray | None = None,
    *,
    names: Sequence[str] = (),
    draws: int = 1_000,
    rng: np.random.Generator | None = None,
) -> dict[str, Estimate]:
    """Return estimates of a policy's reward with 95 % bootstrap intervals over rounds, the same draws for all.

    Without `names` all that can be had: those that need a model only with one. "auto" is `choice` of the others.
    """
    rng = rng or np.random.default_rng(0)
    names = names or [name for name in ESTIMATORS if model is not None or name not in MODELLED]
    wanted = [name for name in names if name != "auto"]
    if "auto" in names:
        wanted = list(dict.fromkeys([*wanted, *candidates(model)]))
    settings: dict[str, float] = {
        name: settled(name, log, chance, model) for name in ("switch", "dros") if name in wanted and model is not None
    }
    all_parts = {name: parts(name, log, chance, model, settings.get(name, np.inf)) for name in wanted}
    drawn = resampled(np.concatenate(list(all_parts.values()), axis=1), draws, rng)
    found = {}
    for place, (name, one) in enumerate(all_parts.items()):
        values = _value(drawn[:, 3 * place : 3 * place + 3])
        low, high = np.quantile(values, [0.025, 0.975])
        value = float(_value(one.mean(axis=0)[None])[0])
        found[name] = Estimate(name, value, float(low), float(high), float(values.std()), settings.get(name))
    if "auto" in names:
        found["auto"] = choice(found, {name: _value(drawn[:, 3 * n : 3 * n + 3]) for n, name in enumerate(all_parts)})
    return {name: found[name] for name in names}


def candidates(model: np.ndarray | None) -> tuple[str, ...]:
    """Return among which estimators "auto" chooses."""
    return ("snipw", "dr", "sndr", "switch", "dros", "dm") if model is not None else ("snipw", "ipw")


def choice(found: dict[str, Estimate], drawn: dict[str, np.ndarray]) -> Estimate:
    """Return the estimate whose squared error is least, as far as the log tells.

    Variance comes from resampling. Bias is the distance to the surest of those that have none in the long run; of it,
    what resampling alone explains is taken away. The interval is that one's, stretched to hold the value.
    """
    anchor = min((name for name in CONSISTENT if name in drawn), key=lambda name: found[name].sd)

    def error(name: str) -> float:
        apart = found[name].value - found[anchor].value
        bias = max(apart**2 - float((drawn[name] - drawn[anchor]).var()), 0.0)
        return found[name].sd ** 2 + bias

    best = min((name for name in drawn if name in ("snipw", "ipw", *MODELLED)), key=error)
    chosen, sure = found[best], found[anchor]
    low, high = min(sure.low, chosen.value), max(sure.high, chosen.value)
    return replace(chosen, estimator=f"auto: {best}", low=low, high=high)


def resampled(values: np.ndarray, draws: int, rng: np.random.Generator) -> np.ndarray:
    """Return means over rounds drawn with replacement, (draws, columns); `values` is (N, columns)."""
    n = len(values)
    step = max(1, BLOCK // n)
    even = np.full(n, 1 / n)
    return np.concatenate(
        [rng.multinomial(n, even, min(step, draws - start)) @ values / n for start in range(0, draws, step)]
    )


def _value(means: np.ndarray) -> np.ndarray:
    """Return base + top / bottom of means (draws, 3); what has no bottom adds nothing."""
    bottom = means[:, 2]
    return np.asarray(means[:, 0] + np.divide(means[:, 1], bottom, out=np.zeros(len(means)), where=bottom > 0))


# ── models of rewards ─────────────────────────────────────────────────────────────────────────────────────────────────


def reward_model(
    log: Logged, features: np.ndarray, *, folds: int = FOLDS, l2: float = 1.0, rng: np.random.Generator | None = None
) -> np.ndarray:
    """Return expected rewards q (N, A), each round's told by a model that has not seen it (cross-fitting).

    A ridge regression of rewards on features (N, D), on the arm, and on features of each arm by itself; `l2` is its
    penalty on the latter two.
    """
    rng = rng or np.random.default_rng(0)
    n, folds = len(log), min(folds, len(log))
    fold = rng.permutation(n) % folds
    x = np.column_stack([np.ones(n), (features - features.mean(axis=0)) / (features.std(axis=0) + 1e-9)])
    found = np.empty((n, log.n_arms))
    for one in range(folds):
        held = fold == one
        seen = ~held if folds > 1 else held
        common = _ridge(x[seen], log.reward[seen], 1e-6 * n)
        rest = log.reward[seen] - x[seen] @ common
        for arm in range(log.n_arms):
            of = log.action[seen] == arm
            own = _ridge(x[seen][of], rest[of], l2)
            found[held, arm] = x[held] @ (common + own)
    return found


def _ridge(x: np.ndarray, y: np.ndarray, l2: float) -> np.ndarray:
    """Return the least squares solution (D,) with a penalty."""
    return np.asarray(np.linalg.solve(x.T @ x + l2 * np.eye(x.shape[1]), x.T @ y))
