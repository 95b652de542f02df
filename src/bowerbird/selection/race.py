"""The race: every model as it is shipped first, on a small part of the data; the better half goes on to a larger part.

Of the time for each part, what the first tries leave goes to better settings of the leading models: what made another
model better, a step from the best so far, then what Optuna's tree-structured Parzen estimator proposes. A try that
would not fit into the time or the memory that is left is not begun, and the estimate that said so is kept. Everything
measured is kept in Optuna's journal, so that a second race goes on where the first one ended.

Paper:  successive halving as in Jamieson and Talwalkar, AISTATS 2016, arXiv:1502.07943, over models rather than
        configurations; the sampler is that of Bergstra et al., NeurIPS 2011.
"""

import math
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import chain
from pathlib import Path

import numpy as np

from bowerbird.core import ModelConfig, RunOptions, free_memory
from bowerbird.core.registry import Span
from bowerbird.data import RowSplit, Split
from bowerbird.selection.candidates import Candidate, Cost, Sizes, Skipped, estimate, scaled, sizes_of, speed
from bowerbird.selection.journal import Kept, inside, need_optuna, rounded
from bowerbird.selection.judging import Judge
from bowerbird.selection.measure import Measured, lines_of
from bowerbird.selection.sampling import thinned
from bowerbird.selection.worker import Attempt, Executor, Spread, Worker

STEP, LEAST = 4, {1: 4_000, 2: 30_000}  # how much larger the next part is; the events that a smaller one has at least
PARTS = {1: (1.0,), 2: (0.5, 1.0), 3: (0.3, 0.6, 1.0)}  # share of the time after which each part is over
LEADING = 3  # models whose settings are tuned on a part
TRIES = 30  # of one model on one part, at most
SLACK, SHORTEST_S = 3.0, 3.0  # a try may take so many times its estimate, and never less than that
INSTANT_S = 0.1  # below which times are not compared
LEAST_S = 0.5  # left, below which nothing is begun
MOST, LEISURE = 0.75, 0.3  # of the models, the cheaper ones; of the time for the first part, that these may take there
FIRST = 0.3  # of the time for a part, that the cheapest models may take together before the best is tried
SCOUTING = 0.2  # of the time of a part, in which a cheap model may look for a learning rate
FAMILIES = ("sequential", "graph", "content")  # tags of models that are alike
UNKNOWN = 3  # the last of those who are tried
NEAR = 0.01  # share of the best value, by which others are about as good
ROUGH = 0.25  # half a 95 % interval as a share of the best value, beyond which a part cannot judge
FAR = 0.1  # share of the best value, by which a model that is surely behind is far behind
LITTLE = 0.01  # of the time that is left, that a try may take to cost next to nothing
MEMORY = 0.9  # of what is free, that a try may take
STRIDE = 0.25  # of a span, on a logarithmic scale, that a step goes
DRAWS = 20  # proposals that were measured before, until a space counts as used up


@dataclass(frozen=True)
class Limits:
    """What must not be broken."""

    budget_s: float
    latency_ms: float | None = None  # of 95 % of requests
    memory_mb: float | None = None  # of what a model holds when it serves


@dataclass(frozen=True, eq=False)
class Trial:
    """One configuration on one part of the data, and what came of it."""

    model: str
    config: ModelConfig
    share: float  # of the train part
    measured: Measured
    values: np.ndarray
    shipped: bool  # whether this is the configuration that candidates begin with
    number: int  # in the order of the race

    @property
    def value(self) -> float:
        """What the race is about."""
        return self.measured.value

    @property
    def cost(self) -> Cost:
        """What was measured, in the terms of an estimate."""
        one = self.measured
        return Cost(seconds=one.seconds, ms=one.ms_high, mb=one.mb, peak_mb=one.peak_mb)


@dataclass(frozen=True)
class Shown:
    """How far a race is, for whoever watches."""

    share: float
    doing: str  # model and settings that are being tried
    tries: int
    best: str
    value: float
    left_s: float


class Race:
    """Tries of all candidates on growing parts of one split."""

    def __init__(
        self,
        split: Split | RowSplit,
        runners: Sequence[Candidate],
        limits: Limits,
        *,
        run: RunOptions,
        study: Path,
        deadline: float,
        show: Callable[[Shown], None] | None = None,
        executor: Executor | None = None,
    ) -> None:
        need_optuna()
        seed = run.seed
        self.worker = Worker(split, run, seed=seed) if executor is None else Spread(split, run, executor, seed=seed)
        self.worker.begin()
        self.split, self.runners, self.limits, self.run = split, list(runners), limits, run
        self.deadline, self.show = deadline, show or (lambda shown: None)
        self.began = time.monotonic()
        self.judge = Judge.of(split, seed=run.seed)
        self.speed = speed()
        self.shares = shares_of(len(split.train))
        self.sizes = {share: sizes_of(thinned(split, share, seed=run.seed)) for share in self.shares}
        self.kept = Kept(study, self.run.seed)
        self.trials: list[Trial] = []
        self.skipped: list[Skipped] = []
        self.failed: set[str] = set()
        self.besides: list[float] = []  # seconds of tries beside training
        self.resumed = 0
        self.interrupted = False
        self._free_mb = (free_memory() or 0) / 1e6 or None

    def go(self) -> None:
        """Run until the time is over, nothing is left to try, or somebody presses Ctrl-C."""
        with self.worker:
            try:
                self.worker.start()
                self.began = time.monotonic()
                alive, self.shares = self.runners, self._worth_it()
                for share in list(self.shares):
                    place, last = self.shares.index(share), share == self.shares[-1]
                    end = self.began + (self.deadline - self.began) * PARTS[len(self.shares)][place]
                    self._first(alive, share, self.deadline if last else end)
                    if self._blind(share):
                        self.shares.remove(share)
                        continue
                    self._tune(alive, share, end)
                    alive = alive if last else self._better_half(alive, share)
            except KeyboardInterrupt:
                self.interrupted = True

    # ── steps ─────────────────────────────────────────────────────────────────────────────────────────────────

    def _worth_it(self) -> list[float]:
        """Return the parts of this race: small ones are left out where most models have time for larger ones."""
        for first in reversed(range(1, len(self.shares))):
            time_there = (self.deadline - self.began) * PARTS[len(self.shares) - first][0]
            seconds = sorted(self.expected(one, one.config, self.shares[first]).seconds for one in self.runners)
            if sum(seconds[: math.ceil(MOST * len(seconds))]) <= LEISURE * time_there:
                return self.shares[first:]
        return self.shares

    def _first(self, alive: Sequence[Candidate], share: float, end: float) -> None:
        """Try each model once, as it did best before or as it is shipped: the cheap ones, then those that did best.

        Of those that are about as good as the best, the cheap ones go first: they leave time for settings. Whoever is
        unknown is spared a learning rate of which a cheaper one, shipped with the same, has shown that it is poor. A
        part on which the cheap ones cannot be told apart is left.
        """
        lower = self.shares.index(share) - 1
        before = {one.name: self._carried(one.name, self.shares[lower]) for one in alive} if lower >= 0 else {}
        seconds = {one.name: self.expected(one, one.config, share).seconds for one in alive}
        if lower < 0:
            names, left = sorted(seconds, key=lambda one: seconds[one]), end - time.monotonic()
            together = np.cumsum([seconds[name] for name in names])
            cheap = {name for name, taken in zip(names, together, strict=True) if taken <= FIRST * left}
        else:
            cheap = {one.name for one in alive if before[one.name] and self._next_to_nothing(one, share)}
        turns = _turns([one for one in alive if before.get(one.name) is None], seconds)
        most = max((found.value for found in before.values() if found), default=math.nan)

        def rank(one: Candidate) -> tuple[int, int, float]:
            found = before.get(one.name)
            if one.name in cheap:
                return 0, 0, seconds[one.name]
            if found is None:
                return UNKNOWN, turns[one.name], seconds[one.name]
            near = found.value >= (1 - NEAR) * most
            return (1, 0, seconds[one.name]) if near else (2, 0, -found.value)

        waiting, scouted = len(alive), set[float]()
        configs = {one.name: found.config if (found := before.get(one.name)) else one.config for one in alive}
        if isinstance(self.worker, Spread):
            self._ahead(self.worker, [(one, configs[one.name]) for one in alive], share, end)
        for one in sorted(alive, key=rank):
            if rank(one)[0] and not isinstance(self.worker, Spread) and self._blind(share):
                return
            waiting -= 1
            found = before.get(one.name)
            rate = _rate(one)
            if found is None and rate is not None and not isinstance(self.worker, Spread):  # there they have begun
                if lower < 0 and rate not in scouted and self._scout(rate, share, end):
                    scouted.add(rate)
                configs[one.name] = self._at_rate(one, self.shares[max(lower, 0)])
            # whoever waits behind one that is promising is less so, and nothing is kept for them; but half of the time
            # that a dear one finds in the end, which nobody knows yet, is kept for settings of the others
            half = rank(one)[0] == UNKNOWN and share == self.shares[-1]
            until = time.monotonic() + (end - time.monotonic()) / 2 if half else end
            self._try(one, configs[one.name], share, until, waiting=waiting if found is None else 0)
            if found and not found.shipped and share == self.shares[-1] and self._next_to_nothing(one, share):
                self._try(one, one.config, share, end)

    def _blind(self, share: float) -> bool:
        """Return whether a part, and not the last one, has too few people to judge: the best is known but roughly."""
        tries = [one for one in self.trials if one.share == share]
        if share == self.shares[-1] or not tries:
            return False
        best = max(tries, key=lambda one: one.value)
        low, high = self.judge.interval(best.values)
        return (high - low) / 2 > ROUGH * (best.value - self.judge.chance)

    def _scout(self, rate: float, share: float, end: float) -> bool:
        """Let the cheapest model that was tried, and is shipped with a learning rate, look for one; False for none."""
        there = [one for one in self.runners if _rate(one) == rate and self.of(one.name, share)]
        if not there:
            return False
        one = min(there, key=lambda each: self._spent(each.name, share))
        until, better = time.monotonic() + SCOUTING * (end - time.monotonic()), True
        while better and (best := self.best(one.name, share)):
            for config in _steps(one.space, best.config)[0]:
                self._try(one, config, share, until)
            better = self.top(one.name, share) > best.value
        return True

    def _at_rate(self, one: Candidate, share: float) -> ModelConfig:
        """Return a configuration as it is shipped, but for a learning rate that surely was better for another model."""
        for other in self.runners:
            found = self._carried(other.name, share) if _rate(other) == _rate(one) is not None else None
            rate = None if found is None else getattr(found.config, "learning_rate", None)
            if rate != _rate(one) and inside(one.space["learning_rate"], rate):
                return replace(one.config, learning_rate=rate)  # type: ignore[call-arg]
        return one.config

    def _carried(self, model: str, share: float) -> Trial | None:
        """Return what goes on from a part: the best try of a model, or the shipped one unless that is surely worse."""
        best = self.best(model, share)
        shipped = next((one for one in self.of(model, share) if one.shipped and self.holds(one)), None)
        if best is None or shipped is None or self.judge.difference(best.values, shipped.values).verdict == "better":
            return best
        return shipped

    def _ahead(self, worker: Spread, tries: Sequence[tuple[Candidate, ModelConfig]], share: float, end: float) -> None:
        """Let whoever measures several at once begin with those that will be asked for."""
        new = [
            (one, config) for one, config in tries
            if self.kept.recall(one, config, share) is None and not self._would_break(one, config, share, end)
        ]  # fmt: skip
        left = end - time.monotonic()
        rounds = math.ceil(len(new) / worker.at_once)
        most = None if self._free_mb is None else MEMORY * self._free_mb / worker.at_once
        attempts = [
            Attempt(config, share, min(left / max(rounds, 1),
                                       max(SLACK * self.expected(one, config, share).seconds, SHORTEST_S)), most)
            for one, config in new
        ]  # fmt: skip
        if attempts:
            worker.ahead(attempts, left)

    def _next_to_nothing(self, one: Candidate, share: float) -> bool:
        """Return whether a try would hardly be felt in the time that is left."""
        left = self.deadline - time.monotonic()
        return self.expected(one, one.config, share).seconds < LITTLE * left

    def _tune(self, alive: Sequence[Candidate], share: float, end: float) -> None:
        """Try settings of the leading models, of each for as long, until the part's time is over.

        Whoever became better by it goes on at once; whoever is surely far behind has what time the others leave.
        """
        tired, keen = set[str](), ""
        while True:
            leading = sorted(
                (one for one in alive if self.best(one.name, share)), key=lambda one: -self.top(one.name, share)
            )
            open_ = [one for one in leading[:LEADING] if one.space and one.name not in tired]
            open_ = [one for one in open_ if len(self.of(one.name, share)) < TRIES]
            if not open_:
                return
            far = {each.name for each in open_ if self._far_behind(each.name, leading[0].name, share)}
            one = min(open_, key=lambda each: (each.name in far, each.name != keen, self._spent(each.name, share)))
            before, config = self.top(one.name, share), self._proposed(one, share, end)
            if config is None or self._try(one, config, share, end) is None:
                tired.add(one.name)
            keen = one.name if self.top(one.name, share) > before else ""

    def _far_behind(self, model: str, leader: str, share: float) -> bool:
        """Return whether the best of a model on a part is so much worse than the leader's that this is no chance."""
        mine, best = self.best(model, share), self.best(leader, share)
        assert mine is not None
        assert best is not None
        much = FAR * (best.value - self.judge.chance)
        return best.value - mine.value > much and self.judge.difference(best.values, mine.values).low > much

    def _spent(self, model: str, share: float) -> float:
        """Return the seconds that tries of a model on a part took, none of them for nothing."""
        return sum(max(trial.measured.seconds, 0.1) for trial in self.of(model, share))

    def _proposed(self, one: Candidate, share: float, end: float) -> ModelConfig | None:
        """Return settings that were not measured yet and break no limit; None where there are no more.

        First what made other models better, then a step from what was best so far, in the learning rate before others
        and where it is cheap, then what the sampler proposes.
        """
        best = self.best(one.name, share)
        assert best is not None
        known = {repr(trial.config) for trial in self.of(one.name, share)}
        rate, steps = _steps(one.space, best.config)
        steps.sort(key=lambda config: self.expected(one, config, share).seconds)
        near = chain(self._lent(one, best.config, share), rate, steps)
        for config in chain(near, self.kept.proposals(one, share, DRAWS)):
            if repr(config) not in known and not self._would_break(one, config, share, end):
                return config
        return None

    def _lent(self, one: Candidate, config: ModelConfig, share: float) -> Iterator[ModelConfig]:
        """Yield a configuration with the settings that made other models better on a part, the best model's first."""
        for other in sorted(self.runners, key=lambda each: -self.top(each.name, share)):
            best = self.best(other.name, share)
            if other is not one and best is not None:
                changed = {name: value for name in one.space if name in other.space
                           and (value := getattr(best.config, name)) != getattr(other.config, name)
                           and inside(one.space[name], value)}  # fmt: skip
                yield replace(config, **changed)

    def _better_half(self, alive: Sequence[Candidate], share: float) -> list[Candidate]:
        """Return the better half of the models, three at least, those that cost next to nothing, and the untried."""
        there = [one for one in alive if self.of(one.name, share)]
        ordered = sorted(there, key=lambda one: -self.top(one.name, share))
        half, then = max(LEADING, math.ceil(len(ordered) / 2)), self.shares[self.shares.index(share) + 1]
        kept = [one for place, one in enumerate(ordered) if place < half or self._next_to_nothing(one, then)]
        return kept + [one for one in alive if not self.of(one.name, share) and one.name not in self.failed]

    def _try(
        self, one: Candidate, config: ModelConfig, share: float, end: float, *, waiting: int | None = None
    ) -> Trial | None:
        """Measure one configuration, unless it was, or would break a limit; return None where it was not measured.

        `waiting` is how many models wait behind the first try of this one.
        """
        there = next((trial for trial in self.of(one.name, share) if trial.config == config), None)
        if there is not None:
            return there
        kept = self.kept.recall(one, config, share)
        if kept is not None:
            self.resumed += 1
            return self._note(one, config, share, *kept)
        why = self._would_break(one, config, share, end)
        if why:
            if waiting is not None:
                self.skipped.append(Skipped(one.name, why))
            return None
        left = end - time.monotonic()
        fair = left / (waiting + 1) if waiting is not None else 0.0
        limit = min(
            left / 2 if waiting else left, max(SLACK * self.expected(one, config, share).seconds, SHORTEST_S, fair)
        )
        self._say(one, config, share)
        most = None if self._free_mb is None else MEMORY * self._free_mb
        answer = self.worker.measure(config, share, limit, most_mb=most, last_s=self.deadline - time.monotonic())
        if answer.measured is None or answer.values is None:
            self.skipped.append(Skipped(one.name, f"on {share:.0%} of the events: {answer.error}"))
            self.failed.add(one.name)
            return None
        self.kept.add(one, config, share, answer.measured, answer.values)
        self.besides.append(max(answer.seconds - answer.measured.seconds, 0.0))
        return self._note(one, config, share, answer.measured, answer.values)

    def _would_break(self, one: Candidate, config: ModelConfig, share: float, end: float) -> str:
        """Return which limit a try, or the model on all data, would break by its estimate; "" for none."""
        here, whole = (self.expected(one, config, part) for part in (share, 1.0))
        left = end - time.monotonic()
        beside = float(np.median(self.besides)) if self.besides else 0.0
        if max(here.seconds + beside if self.trials else 0.0, LEAST_S) > left:  # the first is cheap, and tells the pace
            return (
                f"on {share:.0%} of the events an estimated {here.seconds:,.0f} s to train, and {max(left, 0):,.0f} s "
                "are left for that part"
            )
        if self._free_mb is not None and here.peak_mb > MEMORY * self._free_mb:
            return f"an estimated {here.peak_mb:,.0f} MB to train, and {self._free_mb:,.0f} MB are free"
        if self.limits.memory_mb is not None and whole.mb > self.limits.memory_mb:
            return f"an estimated {whole.mb:,.0f} MB to serve; the limit is {self.limits.memory_mb:,.0f} MB"
        if self.limits.latency_ms is not None and whole.ms > self.limits.latency_ms:
            return f"an estimated {whole.ms:,.1f} ms for a request; the limit is {self.limits.latency_ms:g} ms"
        return ""

    def _note(self, one: Candidate, config: ModelConfig, share: float, measured: Measured, values: np.ndarray) -> Trial:
        trial = Trial(one.name, config, share, measured, values, config == one.config, len(self.trials))
        self.trials.append(trial)
        return trial

    def _say(self, one: Candidate, config: ModelConfig, share: float) -> None:
        here = [trial for trial in self.trials if trial.share == share]
        best = max(here, key=lambda trial: trial.value, default=None)
        self.show(
            Shown(share, f"{one.name} {said(one, config)}".strip(), len(self.trials), best.model if best else "",
                  best.value if best else math.nan, self.deadline - time.monotonic())
        )  # fmt: skip

    # ── what is known ─────────────────────────────────────────────────────────────────────────────────────────

    def of(self, model: str, share: float) -> list[Trial]:
        """Return the tries of a model on a part."""
        return [trial for trial in self.trials if trial.model == model and trial.share == share]

    def best(self, model: str, share: float) -> Trial | None:
        """Return the best try of a model on a part that keeps the limits; None without any."""
        return max((one for one in self.of(model, share) if self.holds(one)), key=lambda one: one.value, default=None)

    def top(self, model: str, share: float) -> float:
        """Return the best value of a model on a part; minus infinity without any."""
        found = self.best(model, share)
        return found.value if found else -math.inf

    def holds(self, one: Trial) -> bool:
        """Return whether a try keeps the limits of latency and memory, as it was measured."""
        ms, mb = self.limits.latency_ms, self.limits.memory_mb
        return (ms is None or one.measured.ms_high <= ms) and (mb is None or one.measured.mb <= mb)

    def expected(self, one: Candidate, config: ModelConfig, share: float) -> Cost:
        """Return the estimate of a try, corrected by the model's last one on the largest part up to this."""
        cost = estimate(one, config, self._sizes(share), self.speed)
        there = [trial for trial in self.trials if trial.model == one.name]
        if not there:
            return replace(cost, seconds=cost.seconds * self._pace())
        near = max(there, key=lambda trial: (trial.share <= share, trial.share, trial.number))
        return scaled(cost, estimate(one, near.config, self._sizes(near.share), self.speed), near.cost)

    def _pace(self) -> float:
        """Return how many times its estimate a try takes on this machine with these data, by those of other models."""
        by_name, found = {one.name: one for one in self.runners}, []
        for trial in self.trials:
            told = estimate(by_name[trial.model], trial.config, self._sizes(trial.share), self.speed).seconds
            found.append(max(trial.measured.seconds, INSTANT_S) / max(told, INSTANT_S))
        return float(np.median(found)) if found else 1.0

    def _sizes(self, share: float) -> Sizes:
        return self.sizes[share]


def shares_of(events: int) -> list[float]:
    """Return the parts of a race over so many events, the smallest first: 1/16, 1/4 and all of large data."""
    smaller = [STEP**-place for place, least in LEAST.items() if events * STEP**-place >= least]
    return [*reversed(smaller), 1.0]


def _turns(models: Sequence[Candidate], seconds: Mapping[str, float]) -> dict[str, int]:
    """Return the place of each model in its family, the cheap and then the short ones first: a family has one turn."""
    counts, turns = Counter[str](), dict[str, int]()
    for one in sorted(models, key=lambda each: (seconds[each.name], lines_of(each.entry))):
        family = next((tag for tag in one.entry.tags if tag in FAMILIES), "")
        turns[one.name] = counts[family]
        counts[family] += 1
    return turns


def _rate(one: Candidate) -> float | None:
    """Return the learning rate that a model begins with; None where none is looked for."""
    return getattr(one.config, "learning_rate", None) if "learning_rate" in one.space else None


def _steps(space: Mapping[str, Span], config: ModelConfig) -> tuple[list[ModelConfig], list[ModelConfig]]:
    """Return the configurations a step up and a step down in the learning rate, and those in one other setting each."""
    rate, others = list[ModelConfig](), list[ModelConfig]()
    for name, span in space.items():
        value = getattr(config, name)
        if not inside(span, value):
            continue
        if isinstance(span, list):
            place = span.index(value)
            near = [span[other] for other in (place + 1, place - 1) if 0 <= other < len(span)]
        else:
            low, high = span
            step = (high / low) ** STRIDE
            near = [type(low)(rounded(min(max(other, low), high))) for other in (value * step, value / step)]
        found = rate if name == "learning_rate" else others
        found += [replace(config, **{name: other}) for other in near]
    return rate, others


def said(one: Candidate, config: ModelConfig) -> str:
    """Return what a configuration has set differently from the shipped one, for people."""
    before, now = asdict(one.entry.config()), asdict(config)
    return ", ".join(f"{name} = {now[name]:.4g}" if isinstance(now[name], float) else f"{name} = {now[name]}"
                     for name in now if now[name] != before[name])  # fmt: skip
