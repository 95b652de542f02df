"""Experiments of a live server: arms beside the scenarios of a view, what came of them, and when one is stopped.

Whoever computes a slate, this process or a worker, reads from the database which experiments run.
"""

import logging
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, field, replace
from math import inf, isfinite
from typing import TYPE_CHECKING, Any

from bowerbird.core import ConfigError, RequestError, check, did_you_mean
from bowerbird.evaluation.experiments import ALARM, Difference, Sums, allowed, arm_of, difference, sample_ratio
from bowerbird.pipeline.answers import Shelf
from bowerbird.pipeline.live import LivePipeline
from bowerbird.pipeline.scenario import Scenario
from bowerbird.serving.bodies import ArmAsked, ExperimentAsked, GuardrailAsked, MetricAsked
from bowerbird.store.experiments import Done, Experiments, Kept, Outcome

if TYPE_CHECKING:
    from bowerbird.serving.engine import Engine

LOG = logging.getLogger("bowerbird.experiments")
ALPHA = 0.05  # of all metrics of all arms together, and of all guardrails
GUARD_S = 60.0  # between two looks at the guardrails, at least
GUARD_TIMES = 20  # and so many times as long as a look takes
NOTHING = Done(0, 0, 0)

Make = Callable[[Scenario], LivePipeline]


# ── arms ──────────────────────────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True)
class Trial:
    """One experiment that runs, as a view answers by it."""

    name: str
    salt: str
    arms: tuple[str, ...]
    shares: tuple[float, ...]
    scenarios: tuple[Scenario, ...]
    pipelines: tuple[LivePipeline, ...] = ()

    def arm(self, unit: str) -> tuple[Scenario, LivePipeline, dict[str, str]]:
        """Return what answers a unit, and how the answer is marked."""
        place = arm_of(self.salt, unit, self.shares)
        return self.scenarios[place], self.pipelines[place], {"name": self.name, "arm": self.arms[place]}


@dataclass(frozen=True)
class Trials:
    """The experiments of a view, by scenario."""

    salts: frozenset[str] = frozenset()  # of all that run, those that this view cannot answer by among them
    of: Mapping[str, Trial] = field(default_factory=dict)

    @property
    def scenarios(self) -> list[Scenario]:
        """The scenarios of all arms."""
        return [scenario for trial in self.of.values() for scenario in trial.scenarios]

    def built(self, make: Make) -> "Trials":
        """Return these with pipelines; where one cannot be made, the plain scenario answers, and the log says why."""
        built = {}
        for name, trial in self.of.items():
            try:
                built[name] = replace(trial, pipelines=tuple(map(make, trial.scenarios)))
            except ConfigError as error:
                LOG.error('experiment "%s" is left out: %s', trial.name, error)
        return replace(self, of=built)

    def on(self, shelf: Shelf) -> "Trials":
        """Return these with other boards; the items are the same."""
        of = {name: replace(one, pipelines=tuple(p.on(shelf) for p in one.pipelines)) for name, one in self.of.items()}
        return replace(self, of=of)


# ── life ──────────────────────────────────────────────────────────────────────────────────────────────────────────────


class WrongPart(RequestError):
    """A part of an experiment makes no sense on this server; `loc` says where it stands in the document."""

    def __init__(self, said: str, *loc: str | int) -> None:
        super().__init__(said)
        self.loc = loc


class Laboratory:
    """The experiments of one engine."""

    def __init__(self, engine: "Engine", *, guards: bool) -> None:
        """`guards` looks at guardrails: one process of a server does."""
        self.engine, self.store, self.world = engine, Experiments(engine.database), engine.world
        self.salts = self.store.salts()  # of the experiments that were found running
        self._next = 0.0 if guards else inf  # when guardrails are looked at again

    def look(self) -> None:
        """Find out which experiments run."""
        self.salts = self.store.salts()

    def create(self, asked: ExperimentAsked) -> Kept:
        """Keep a draft; raises `WrongPart` for what would not run, and as `Experiments.create`."""
        self._check_events(asked)
        self._scenarios(asked)
        return self.store.create(asked.model_dump())

    def start(self, name: str) -> Kept:
        """Let an experiment begin with the next answer; raises as `create`, and as `Experiments.start`."""
        one = self.store.get(name)
        if one.state == "draft":
            asked = ExperimentAsked.model_validate(one.document)
            self._check_events(asked)
            make = self.engine.maker.pipeline(self.engine.view)
            for place, scenario in enumerate(self._scenarios(asked)):
                try:
                    make(scenario)
                except ConfigError as error:
                    raise _wrong(asked, place, error) from None
        started = self.store.start(name)
        self.look()
        self.engine.follow_experiments()
        return started

    def stop(self, name: str, reason: str) -> Kept:
        """Let the plain scenario answer everyone again; raises as `Experiments.stop`."""
        stopped = self.store.stop(name, reason)
        self.look()
        self.engine.follow_experiments()
        return stopped

    def guard(self) -> None:
        """End the experiments of which a guardrail is broken; it looks once in a while."""
        began = self.world.monotonic()
        if began < self._next:
            return
        for one in self.store.running():
            broken = [rail["detail"] for rail in self.results(one.name)["guardrails"] if rail["verdict"] == "broken"]
            if broken:
                LOG.warning('experiment "%s" is stopped: %s', one.name, "; ".join(broken))
                self.stop(one.name, f"a guardrail was broken: {'; '.join(broken)}")
        now = self.world.monotonic()
        self._next = now + max(GUARD_S, GUARD_TIMES * (now - began))

    def results(self, name: str) -> dict[str, Any]:
        """Return what came of an experiment so far."""
        one = self.store.get(name)
        asked = ExperimentAsked.model_validate(one.document)
        events = {metric.event for metric in (*asked.metrics, *asked.guardrails)}
        outcome = Outcome({}, 0, {}) if one.state == "draft" else self.store.outcome(one, events)
        return shown(one) | told(asked, outcome)

    def trials(self) -> Trials:
        """Return the experiments that run, without pipelines."""
        running, of = self.store.running(), {}
        for one in running:
            asked = ExperimentAsked.model_validate(one.document)
            names, shares = zip(*((arm.name, arm.share) for arm in asked.arms), strict=True)
            try:
                of[one.scenario] = Trial(one.name, one.salt, names, shares, tuple(self._scenarios(asked)))
            except RequestError as error:  # the server was started with other scenarios
                LOG.error('experiment "%s" is left out: %s', one.name, error)
        self.salts = frozenset(one.salt for one in running)
        return Trials(self.salts, of)

    def _scenarios(self, asked: ExperimentAsked) -> list[Scenario]:
        """Return the scenario of each arm; raises `WrongPart`."""
        base, found = self.engine.scenarios.get(asked.scenario), []
        if base is None:
            there = ", ".join(sorted(self.engine.scenarios))
            raise WrongPart(f'scenario is "{asked.scenario}"; this server has {there}.', "scenario")
        for place, arm in enumerate(asked.arms):
            try:
                check("name" not in arm.changes, "name", arm.changes.get("name"), "must stay as it is")
                found.append(Scenario.of(asdict(base) | arm.changes))
            except ConfigError as error:
                raise _wrong(asked, place, error) from None
        return found

    def _check_events(self, asked: ExperimentAsked) -> None:
        """Raise `WrongPart` for an event that nobody could do: nothing would ever be counted."""
        known = [kind.name for kind in self.engine.view.kinds]
        for part, metrics in (("metrics", asked.metrics), ("guardrails", asked.guardrails)):
            for place, one in enumerate(metrics):
                if one.event not in known:
                    meant = f"{did_you_mean(one.event, known)} There are {', '.join(known)}."
                    raise WrongPart(f'no event type is named "{one.event}".{meant}', part, place, "event")


def _wrong(asked: ExperimentAsked, place: int, error: ConfigError) -> WrongPart:
    """Return what is wrong with an arm, at the key that the error names."""
    arm, key = asked.arms[place], re.split("[. ]", error.message, maxsplit=1)[0]
    return WrongPart(f"arm {arm.name}: {error}", "arms", place, "changes", *((key,) if key in arm.changes else ()))


# ── what is told ──────────────────────────────────────────────────────────────────────────────────────────────────────


def shown(one: Kept) -> dict[str, Any]:
    """Return an experiment as the API shows it."""
    names = ("state", "created", "started", "stopped", "reason")
    return dict(one.document) | {name: getattr(one, name) for name in names}


def told(asked: ExperimentAsked, outcome: Outcome) -> dict[str, Any]:
    """Return results: how the split went, each metric of each arm beside the control, and the guardrails."""
    counts = [outcome.units.get(arm.name, 0) for arm in asked.arms]
    p = sample_ratio(counts, [arm.share for arm in asked.arms])
    control, *others = asked.arms

    def sums(arm: ArmAsked, metric: MetricAsked) -> Sums:
        n, done = outcome.units.get(arm.name, 0), outcome.done.get((arm.name, metric.event), NOTHING)
        return Sums(n, done.some, done.some) if metric.once else Sums(n, done.total, done.squares)

    def compared(arm: ArmAsked, metric: MetricAsked) -> dict[str, Any]:
        mine, base = sums(arm, metric), sums(control, metric)
        alpha = ALPHA / (len(others) * len(asked.metrics))
        found = difference(mine, base, alpha=alpha, tightest_at=asked.tightest_at)
        return _named(metric) | {"mean": mine.mean} | _interval(found, base.mean) | {"verdict": found.verdict}

    arms: list[dict[str, Any]] = [
        {
            "arm": control.name,
            "units": counts[0],
            "metrics": [_named(metric) | {"mean": sums(control, metric).mean} for metric in asked.metrics],
        },
        *(
            {"arm": arm.name, "units": n, "metrics": [compared(arm, metric) for metric in asked.metrics]}
            for arm, n in zip(others, counts[1:], strict=True)
        ),
    ]
    alpha = ALPHA / max(1, len(others) * len(asked.guardrails))
    rails = [
        _guarded(arm, rail, sums(arm, rail), sums(control, rail), alpha, asked.tightest_at)
        for rail in asked.guardrails
        for arm in others
    ]
    return {
        "units": sum(counts),
        "mixed": outcome.mixed,
        "sample_ratio": {"p": p, "verdict": "wrong" if p < ALARM else "right"},
        "arms": arms,
        "guardrails": rails,
        "verdict": _verdict(p, arms[1:], rails),
    }


def _guarded(
    arm: ArmAsked, rail: GuardrailAsked, mine: Sums, base: Sums, alpha: float, tightest_at: float
) -> dict[str, Any]:
    """Return whether an arm kept to a guardrail."""
    change = -rail.worst_loss if rail.worst_loss is not None else float(rail.worst_rise or 0.0)
    found = allowed(mine, base, change, alpha=alpha, tightest_at=tightest_at)
    broken = found.verdict == ("less" if rail.worst_loss is not None else "more")
    said = f"{rail.event} of {arm.name} is {mine.mean:.4g} a user; control has {base.mean:.4g}"
    detail = f"{said}, and a change of {change:+.1%} is allowed"
    names = {"arm": arm.name} | _named(rail) | {"allowed": change, "mean": mine.mean}
    return names | {"verdict": "broken" if broken else "kept", "detail": detail}


def _named(metric: MetricAsked) -> dict[str, Any]:
    return {"event": metric.event, "once": metric.once}


def _interval(found: Difference, base: float) -> dict[str, Any]:
    """Return a difference as JSON knows it, also as a share of the control's mean."""
    known = isfinite(found.low)
    return {
        "difference": found.value,
        "low": found.low if known else None,
        "high": found.high if known else None,
        "relative": found.value / base if base else None,
    }


def _verdict(p: float, arms: Iterable[Mapping[str, Any]], rails: Iterable[Mapping[str, Any]]) -> str:
    """Return in words what may be said."""
    if p < ALARM:
        return "the split is not as it was meant to be: find out who is missing, and believe none of this"
    said = [f"a guardrail is broken: {rail['detail']}" for rail in rails if rail["verdict"] == "broken"]
    said += [
        f"{arm['arm']} has {one['verdict']} {one['event']}"
        for arm in arms
        for one in arm["metrics"]
        if one["verdict"] != "undecided"
    ]
    return "; ".join(said) or "undecided: look again later, as often as you like"
