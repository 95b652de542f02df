"""The advisor: profile, candidates, race, front, and what to take, measured on your data and on your machine."""

import hashlib
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from bowerbird.core import ConfigError, RunOptions, check
from bowerbird.core.registry import Span
from bowerbird.data import RowSplit, Split
from bowerbird.evaluation import Difference
from bowerbird.selection import advice
from bowerbird.selection.candidates import Candidate, Skipped, candidates
from bowerbird.selection.front import Place, front, pick
from bowerbird.selection.measure import lines_of, megabytes_of
from bowerbird.selection.profile import Profile, profile
from bowerbird.selection.race import NEAR, Limits, Race, Shown, Trial, said
from bowerbird.selection.worker import Executor

REPORT_S, REPORT_SHARE = 2.0, 0.03  # of the budget, kept for what comes after the race
LEAST_S = 10.0


@dataclass(frozen=True, eq=False)
class Advice:
    """What to take, what was measured, and why."""

    profile: Profile
    limits: Limits
    metric: str
    pick: Place
    runner_up: Place | None
    difference: Difference | None  # the runner-up less the pick
    places: tuple[Place, ...]  # each model's best that keeps the limits, on one part of the data, best first
    left_out: tuple[Place, ...]  # models that break a limit, as they were measured
    trials: tuple[Trial, ...]  # all of the race
    skipped: tuple[Skipped, ...]
    candidates: tuple[Candidate, ...]
    share: float  # of the train part, on which `places` were measured
    n: int  # users of validation, or rows
    who: str
    sentence: str
    beside: tuple[str, ...]  # a sentence for each other model on the front, the runner-up first
    small: str  # the plain word that data are too small, or ""
    changes: tuple[str, ...]
    from_sample: tuple[dict[str, Any], ...]  # what a part foretold, and what the whole then showed
    kept: Mapping[str, Mapping[str, Any]]  # model → lines to maintain, packages and their megabytes
    seconds: float  # that all of this took
    resumed: int  # tries that an earlier race had measured
    interrupted: bool
    machine: Mapping[str, Any]

    def candidate(self, model: str) -> Candidate:
        """Return the candidate of that name."""
        return next(one for one in self.candidates if one.name == model)

    def settings(self, one: Trial) -> str:
        """Return what a try has set differently from the shipped configuration."""
        return said(self.candidate(one.model), one.config)

    def __str__(self) -> str:
        return "\n".join([self.sentence, *self.beside, *([self.small] if self.small else []), *self.changes])


def select(
    split: Split | RowSplit,
    *,
    budget_s: float,
    latency_ms: float | None = None,
    memory_mb: float | None = None,
    models: Sequence[str] = (),
    space: Mapping[str, Mapping[str, Span]] | None = None,
    settings: Mapping[str, Mapping[str, Any]] | None = None,
    study: str | Path = "runs/select",
    run: RunOptions | None = None,
    began: float | None = None,
    show: Callable[[Shown], None] | None = None,
    executor: Executor | None = None,
) -> Advice:
    """Return which model to take, within a budget of seconds that is counted from `began` (`time.monotonic`), or now.

    `latency_ms` is for 95 % of requests, `memory_mb` for what a model holds when it serves; what breaks one is not
    picked. `models` restricts the candidates, `space` says where to look for settings of a model instead of its own
    space, and `settings` what it begins with. `study` is a folder that keeps what is measured: the same question, asked
    again, goes on from there. An `executor` measures first tries of several models at once, wherever it likes; times of
    requests are then those of machines that do other things too. Ctrl-C ends the race with what there is. Only
    validation is asked, never test. Raises `ConfigError` where nothing could be measured, `MissingExtraError` without
    Optuna.
    """
    started = time.monotonic() if began is None else began
    check(budget_s >= LEAST_S, "budget", budget_s, f"must be {LEAST_S:g} seconds or more", try_instead=600)
    for name, limit in (("latency_ms", latency_ms), ("memory_mb", memory_mb)):
        check(limit is None or limit > 0, name, limit, "must be above 0", try_instead=20)
    run, limits = run or RunOptions(), Limits(budget_s, latency_ms, memory_mb)
    one = profile(split)
    chosen, unsuited = candidates(one, models=models, space=space, settings=settings)
    deadline = started + budget_s - max(REPORT_S, REPORT_SHARE * budget_s)
    folder = Path(study) / _digest(split, run)
    race = Race(split, chosen, limits, run=run, study=folder, deadline=deadline, show=show, executor=executor)
    race.go()
    return _advised(race, one, limits, chosen, unsuited, started)


def _digest(split: Split | RowSplit, run: RunOptions) -> str:
    """Return a name for a question: the data, how they are cut, and the seed."""
    train = split.train
    text = f"{train.fingerprint} {split.protocol} {run.seed}"
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def _advised(
    race: Race, one: Profile, limits: Limits, chosen: Sequence[Candidate], unsuited: Sequence[Skipped], started: float
) -> Advice:
    share = _share(race)
    here = [trial for trial in race.trials if trial.share == share]
    names = list(dict.fromkeys(trial.model for trial in here))
    tops = [found for name in names if (found := race.best(name, share)) is not None]
    if not tops:
        if race.interrupted and not race.trials:
            raise KeyboardInterrupt
        why = " ".join(f"{each}." for each in race.skipped[:5]) or "All that was measured breaks a limit."
        raise ConfigError(
            f"no model could be measured within these limits. {why} Give a longer budget, or wider limits."
        )
    broken = [max(race.of(name, share), key=lambda trial: trial.value) for name in names
              if race.best(name, share) is None]  # fmt: skip
    places = front(tops, race.judge)
    taken = pick(places)
    out = [place for place in (front(broken, race.judge) if broken else []) if place.trial.value > taken.trial.value]
    others = [place for place in places if place is not taken]
    rest = sorted(others, key=lambda place: (not place.on_front, -place.trial.value))
    runner = others[0] if others else None
    n, who, metric = race.judge.n(taken.trial.values), race.judge.who, race.judge.metric
    gains = {place.trial.model: race.judge.difference(place.trial.values, taken.trial.values) for place in others}
    told = [runner, *[place for place in rest if place is not runner and place.on_front]] if runner else []
    behind = _left_behind(race, names)
    candidate = next(each for each in chosen if each.name == taken.trial.model)
    return Advice(
        profile=one, limits=limits, metric=metric, pick=taken, runner_up=runner,
        difference=gains[runner.trial.model] if runner else None, places=tuple(places), left_out=tuple(out),
        trials=tuple(race.trials), skipped=(*race.skipped, *behind, *unsuited), candidates=tuple(chosen), share=share,
        n=n, who=who, sentence=advice.taken(taken, candidate, metric, n, who),
        beside=tuple(advice.beside(taken, place, gains[place.trial.model], metric, n, who) for place in told),
        small=advice.small(places, n, who),
        changes=tuple(advice.changes(one, taken, candidate, others, out, race.skipped, limits, race.sizes[1.0],
                                     race.speed)),
        from_sample=tuple(_from_sample(race)), kept={name: _kept(name, chosen, here) for name in names},
        seconds=time.monotonic() - started, resumed=race.resumed, interrupted=race.interrupted,
        machine={"gigaflops": round(2 * race.speed / 1e9, 1), "threads": race.run.threads or None},
    )  # fmt: skip


def _share(race: Race) -> float:
    """Return the largest part of the data on which a model was measured that was about the best on the part before."""
    there = [share for share in race.shares if any(trial.share == share for trial in race.trials)]
    for share, lower in zip(reversed(there), [*reversed(there[:-1]), None], strict=False):
        if lower is None:
            return share
        names = {trial.model for trial in race.trials if trial.share == lower}
        most = max(race.top(name, lower) for name in names)
        leading = {name for name in names if race.top(name, lower) >= (1 - NEAR) * most}
        if any(trial.model in leading and trial.share == share for trial in race.trials):
            return share
    return max((trial.share for trial in race.trials), default=1.0)


def _left_behind(race: Race, names: Sequence[str]) -> list[Skipped]:
    """Return the models that were measured on smaller parts alone, and where that ended."""
    found = []
    for model in dict.fromkeys(trial.model for trial in race.trials):
        if model not in names:
            last = max((one for one in race.trials if one.model == model), key=lambda one: (one.share, one.value))
            best = max((one for one in race.trials if one.share == last.share), key=lambda one: one.value)
            said_ = f"{last.value:.4f} beside {best.value:.4f} of {best.model}"
            found.append(Skipped(model, f"was left behind on {last.share:.0%} of the events, with {said_}"))
    return found


def _from_sample(race: Race) -> list[dict[str, Any]]:
    """Return, for each configuration measured on a part and on more, both values and how far the first was off."""
    found = []
    for trial in race.trials:
        later = [one for one in race.trials if one.model == trial.model and one.config == trial.config]
        last = max(later, key=lambda one: one.share)
        if trial.share < last.share:
            off = trial.value / last.value - 1 if last.value else float(np.nan)
            settings = said(next(each for each in race.runners if each.name == trial.model), trial.config)
            found.append({"model": trial.model, "settings": settings, "share": trial.share, "value": trial.value,
                          "whole": last.share, "final": last.value, "off": off})  # fmt: skip
    return found


def _kept(name: str, chosen: Sequence[Candidate], here: Sequence[Trial]) -> dict[str, Any]:
    entry = next(each for each in chosen if each.name == name).entry
    packages = next(trial for trial in here if trial.model == name).measured.packages
    return {"lines": lines_of(entry), "packages": list(packages), "packages_mb": megabytes_of(packages)}


def as_dict(one: Advice) -> dict[str, Any]:
    """Return everything as JSON needs it."""
    return {
        "pick": _place(one, one.pick),
        "runner_up": None if one.runner_up is None else _place(one, one.runner_up),
        "difference": None if one.difference is None else asdict(one.difference) | {"verdict": one.difference.verdict},
        "advice": one.sentence, "beside": list(one.beside), "too_small": one.small, "changes": list(one.changes),
        "metric": one.metric, "n": one.n, "who": one.who, "share": one.share, "protocol": one.profile.protocol,
        "profile": one.profile.to_dict(), "limits": asdict(one.limits),
        "models": [_place(one, place) for place in one.places],
        "left_out": [_place(one, place) for place in one.left_out],
        "skipped": [asdict(each) for each in one.skipped],
        "trials": [
            {"model": each.model, "settings": one.settings(each), "share": each.share, **asdict(each.measured)}
            for each in one.trials
        ],
        "from_sample": list(one.from_sample), "seconds": one.seconds, "resumed": one.resumed,
        "interrupted": one.interrupted, "machine": dict(one.machine),
    }  # fmt: skip


def _place(one: Advice, place: Place) -> dict[str, Any]:
    behind = None if place.behind is None else {"mean": place.behind.mean, "low": place.behind.low,
                                                "high": place.behind.high, "p": place.behind.p}  # fmt: skip
    return {
        "model": place.trial.model, "settings": one.settings(place.trial), "config": asdict(place.trial.config),
        **asdict(place.trial.measured), "interval": [place.low, place.high], "behind": behind,
        "on_front": place.on_front, "beaten_by": place.beaten_by, **one.kept.get(place.trial.model, {}),
    }  # fmt: skip
