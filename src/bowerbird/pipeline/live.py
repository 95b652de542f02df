"""One request, live: filters → sources → ranking → re-ranking → policy → slate, on time, and always with an answer.

The blocks of requests that are measured offline go through `pipeline.pipeline`.

Shapes: I items, K of them known to the model (the first rows), C candidates, k places, D vector size.
"""

import math
from collections.abc import Callable, Iterable, Iterator
from copy import copy
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import chain

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from bowerbird.core import RealWorld, ScoreError, World, numpy_stream, torch_stream
from bowerbird.pipeline import rerank
from bowerbird.pipeline.answers import NONE, Answer, Asked, Shelf, Stage
from bowerbird.pipeline.ladder import Ladder
from bowerbird.pipeline.pipeline import Rank, Step
from bowerbird.pipeline.policy import Explores, Greedy, Policy
from bowerbird.pipeline.scenario import Scenario, Source
from bowerbird.pipeline.sources import Draw, Found, Scorer, best, fuse, of_board, place_scores

RECENT_WEIGHT = 0.2  # of the last run in the running mean of how long a step takes
FORGET = 0.95  # what a step's expected time shrinks by when there was none: one slow run does not end a step for good


@dataclass
class _Work:
    """A request on its way through the stages."""

    asked: Asked
    k: int  # places to fill
    depth: int  # candidates that the policy chooses from
    deadline: float
    pins: dict[int, int]  # position, from 1 → item row
    given: bool = False  # whether the candidates came with the request: nothing is added, and nothing capped
    allowed: np.ndarray = field(default_factory=lambda: np.zeros(0, bool))  # (I,)
    found: list[Found] = field(default_factory=list)
    items: np.ndarray = field(default_factory=NONE.copy)  # (C,), best first
    scores: np.ndarray = field(default_factory=lambda: np.zeros(0, np.float32))  # (C,)
    rest: np.ndarray = field(default_factory=NONE.copy)  # candidates that were cut off, best first
    propensity: np.ndarray = field(default_factory=lambda: np.zeros(0, np.float32))
    drawn: tuple[np.ndarray, np.ndarray] | None = None  # what the policy drew from, and the chance of each (C,)
    light: bool = False  # no expensive step any more
    approximate: bool = False  # whether an index was asked
    rung: str = ""
    fallback: list[str] = field(default_factory=list)
    trace: list[Step] = field(default_factory=list)
    removed: dict[str, int] = field(default_factory=dict)

    def fall(self, name: str) -> None:
        """Note that the answer is less than was wished."""
        if name not in self.fallback:
            self.fallback.append(name)

    def among(self, items: np.ndarray, rows: np.ndarray) -> np.ndarray:
        """Return which of `items` are in `rows`, bool (C,)."""
        if not len(rows):
            return np.zeros(len(items), bool)
        marked = np.zeros(len(self.allowed), bool)
        marked[rows] = True
        found: np.ndarray = marked[items]
        return found

    @property
    def pinned(self) -> np.ndarray:
        """The rows of the pins, int64."""
        return np.array(list(self.pins.values()), np.int64)

    @property
    def short(self) -> int:
        """How many places neither candidates nor pins fill."""
        missing = np.count_nonzero(~self.among(self.pinned, self.items)) if self.pins else 0
        return self.k - len(self.items) - int(missing)

    def cut(self, n: int) -> None:
        """Keep the first n candidates; the others may still fill places that stay empty."""
        self.items, self.scores, rest = self.items[:n], self.scores[:n], self.items[n:]
        self.rest = np.concatenate([rest, self.rest])

    def append(self, more: np.ndarray) -> None:
        """Put items below all others."""
        scores = rerank.below(float(self.scores.min()), len(more)) if len(self.scores) else place_scores(len(more))
        self.items, self.scores = np.concatenate([self.items, more]), np.concatenate([self.scores, scores])

    def draw(self, name: str) -> Draw:
        """Return the stream of chance for ties."""
        return partial(torch_stream, self.asked.seed, "ties", name)


class LivePipeline:
    """Answers requests for one scenario from one snapshot.

    An answer has exactly k items where k are allowed, and the caps leave k. `Answer.fallback` names what it took:
    "cold"        the ladder's first rung could not answer
    "deeper"      sources were asked for more than the scenario says
    "popular", "latest", "any"  boards, and then any allowed item in random order, filled places
    "light"       there was no time for the ranker, or for diversity; with none for sources either, all is popular
    "no_vectors"  diversity is wished, and the model has no item vectors
    """

    def __init__(
        self,
        ladder: Ladder,
        scenario: Scenario,
        shelf: Shelf,
        *,
        rank: Rank | None = None,
        vectors: Tensor | None = None,
        scorer: Scorer | None = None,
        policy: Policy | None = None,
        world: World | None = None,
    ) -> None:
        """`vectors` (K, D) of items tell what is alike, those of the `scorer` where none are given; it is of the same
        ladder.

        Raises `ConfigError` for a filter of the scenario that the item table cannot answer. What else the scenario
        names and the table lacks has no effect, and stands in `rules.missing`.
        """
        self.ladder, self.scenario, self.shelf = ladder, scenario, shelf
        self.rank = rank if scenario.ranker else None
        self.policy = policy or Greedy()
        self.clock = (world or RealWorld()).monotonic
        self.scorer = scorer or Scorer(ladder)
        self.unit = self.scorer.unit if vectors is None else functional.normalize(vectors, dim=1)
        self.rules = rerank.Rules(scenario, shelf.items)
        self.costs: dict[str, float] = {}  # expensive step → seconds it usually takes

    def on(self, shelf: Shelf) -> "LivePipeline":
        """Return this pipeline with other boards or another `available`; the items are the same."""
        other = copy(self)
        other.shelf = shelf
        return other

    def choosing(self, policy: Policy) -> "LivePipeline":
        """Return this pipeline with another policy."""
        other = copy(self)
        other.policy = policy
        return other

    def run(self, asked: Asked) -> Answer:
        """Return a slate of `asked.k` items, fewer only where fewer are allowed."""
        return self._serve(self._begin(asked), self._retrieve)

    def rank_list(self, asked: Asked, rows: np.ndarray) -> Answer:
        """Return the best `asked.k` of these item rows, in order: nothing is added, and nothing capped or pinned."""
        return self._serve(self._begin(asked, given=True), partial(self._take, rows=rows))

    def popular(self, asked: Asked, because: str) -> Answer:
        """Return a slate without model and ranker, for when they fail; `because` stands first in its fallback."""
        work = self._begin(asked)
        work.light = True
        work.fall(because)
        return self._serve(work, self._fill)

    @torch.inference_mode()
    def why(self, asked: Asked, item: int) -> list[Stage]:
        """Return what each stage did with an item row, up to the one that removed it; deadlines do not count."""
        for name, hidden in self._sieves(asked):
            if bool(hidden[item]) if hidden.dtype == bool else item in hidden:
                return [Stage("filter", False, name)]
        said: list[Stage] = []
        work = self._begin(replace(asked, deadline=math.inf))
        for stage in self._stages(work, self._retrieve):
            kept = stage == "filter" or item in work.items or item in work.pins.values()
            said.append(Stage(stage, kept, self._detail(work, item, stage)))
            if not kept and item not in work.rest:
                break
        return said

    # ── stages ────────────────────────────────────────────────────────────────────────────────────────────────

    def _begin(self, asked: Asked, *, given: bool = False) -> _Work:
        timeout = self.scenario.timeout_ms / 1000 or math.inf
        deadline = self.clock() + timeout if asked.deadline is None else asked.deadline
        pins = {} if given else self.rules.pins(asked.k, asked.now, asked.seen_rows)
        free = asked.k - len(pins)
        return _Work(asked, asked.k, len(pins) + max(free, self.policy.depth(free)), deadline, pins, given)

    @torch.inference_mode()
    def _serve(self, work: _Work, candidates: Callable[[_Work], None]) -> Answer:
        for _ in self._stages(work, candidates):
            pass
        return self._answer(work)

    def _stages(self, work: _Work, candidates: Callable[[_Work], None]) -> Iterator[str]:
        """Take `work` through all stages; yields the name of each when it is done."""
        stages = {"filter": self._sieve, "sources": candidates, "ranking": self._rank, "reranking": self._rerank}
        for name, stage in (stages | {"slate": self._choose}).items():
            started = self.clock()
            stage(work)
            left = np.count_nonzero(work.allowed) if name == "filter" else len(work.items)
            work.trace.append(Step(name, int(left), 1000 * (self.clock() - started)))
            yield name

    def _sieve(self, work: _Work) -> None:
        work.allowed = np.ones(len(self.shelf.items), bool)
        left = len(work.allowed)
        for name, hidden in self._sieves(work.asked):
            work.allowed[hidden] = False
            if work.asked.explain:
                work.removed[name] = left - int(np.count_nonzero(work.allowed))
                left -= work.removed[name]
        work.pins = {place: row for place, row in work.pins.items() if work.allowed[row]}

    def _sieves(self, asked: Asked) -> Iterator[tuple[str, np.ndarray]]:
        """Yield the name of each filter and what it hides, item rows or a mask (I,)."""
        yield "unavailable", ~self.shelf.available
        yield "seen", asked.seen
        yield "served", asked.served
        yield "excluded", asked.exclude
        if asked.context.seeds is not None:  # what is like an item is never that item
            yield "seed", asked.context.seeds.item.cpu().numpy()
        if self.rules.where is not None:
            yield "scenario", ~self.rules.own_mask(self.rules.where, asked.now, asked.seen_rows)
        if asked.where is not None:
            yield "where", ~self.rules.mask(asked.where, asked.now, asked.seen_rows)

    def _retrieve(self, work: _Work) -> None:
        """Ask the sources, deeper where they are short of k, and the boards where that is not enough."""
        if self._affords(work, "sources"):
            started = self.clock()
            work.found = [self._ask(work, source, source.n) for source in self.scenario.sources]
            work.items, work.scores = fuse(work.found, work.draw("sources"))
            shallow = work.approximate or any(source.n < work.k for source in self.scenario.sources)
            if work.short > 0 and shallow:
                before = len(work.items)
                deep = [self._ask(work, one, max(one.n, work.k), exact=True) for one in self.scenario.sources]
                work.items, work.scores = fuse(deep, work.draw("sources"))
                if len(work.items) > before:
                    work.found = deep
                    work.fall("deeper")
            self._learn("sources", started)
        else:
            work.light = True
        self._fill(work)

    def _fill(self, work: _Work) -> None:
        self._extend(work, self._boards(work), capped=False)

    def _take(self, work: _Work, rows: np.ndarray) -> None:
        """Take what was given, as the ladder orders it; what it cannot score follows in the given order."""
        _, at = np.unique(rows, return_index=True)
        rows = rows[np.sort(at)]
        rows = rows[work.allowed[rows]]
        known = rows[rows < self.shelf.n_known]
        if len(known):
            scores, rung = self.ladder.scores(work.asked.context, torch.from_numpy(known)[None])
            self._note_rung(work, int(rung))
            order, work.scores = best(scores, np.ones(len(known), bool), len(known), work.draw("given"))
            work.items = known[order]
        work.found = [Found("given", rows, place_scores(len(rows)))]
        work.k = work.depth = min(work.k, len(rows))
        work.append(rows[~work.among(rows, work.items)])

    def _rank(self, work: _Work) -> None:
        """Order the best candidates anew; those newer than the ranker keep their place among them."""
        if self.rank is None or work.light or work.asked.context.seeds is not None or not len(work.items):
            return
        if not self._affords(work, "ranking"):
            work.light = True
            work.fall("light")
            return
        started = self.clock()
        if not work.given:
            work.cut(max(self.scenario.candidates, work.depth))
        known = np.flatnonzero(work.items < self.shelf.n_known)
        if len(known):
            device = work.asked.context.user.device
            values = self.rank(work.asked.context, torch.from_numpy(work.items[known])[None].to(device))
            work.scores = _placed(values[0].float().cpu().numpy(), known, len(work.items))
            order = np.argsort(-work.scores, kind="stable")
            work.items, work.scores = work.items[order], work.scores[order]
        self._learn("ranking", started)

    def _rerank(self, work: _Work) -> None:
        """Boosts and freshness, then pins, diversity and caps."""
        factor = self.rules.factor(work.items, work.asked.now, work.asked.seen_rows)
        if factor is not None:
            scores = rerank.scaled(work.scores, factor)
            order = np.argsort(-scores, kind="stable")
            work.items, work.scores = work.items[order], scores[order]
        diversity = self._diversity(work)
        if diversity:
            work.cut(max(self.scenario.candidates, work.depth))
        started = self.clock()
        pinned = work.pinned
        free = ~work.among(work.items, pinned)
        pool = np.concatenate([pinned, work.items[free]])
        top = work.scores[:1] if len(work.scores) else place_scores(1)
        scores = np.concatenate([top.repeat(len(pinned)), work.scores[free]])
        alike = self._alike(pool) if diversity else None
        caps = () if work.given else self.rules.caps(pool)
        places = rerank.pick(scores, work.depth, first=len(pinned), caps=caps, likeness=alike, diversity=diversity)
        if diversity:
            self._learn("diversity", started)
        work.rest = np.concatenate([work.items[free], work.rest])
        work.items, work.scores = pool[places], scores[places]
        work.pins = {place: row for place, row in work.pins.items() if row in work.items}
        if not work.given:
            self._extend(work, chain([("", work.rest)], self._boards(work)), capped=True)

    def _diversity(self, work: _Work) -> float:
        """Return how much difference counts: 0 where it is not wished, cannot be told, or would take too long."""
        asked, usual = work.asked.diversity, self.scenario.diversity
        wished = usual if asked is None else asked
        if not wished or work.light:
            return 0.0
        if self.unit is None:
            work.fall("no_vectors")
            return 0.0
        if not self._affords(work, "diversity"):
            work.fall("light")
            return 0.0
        return wished

    def _choose(self, work: _Work) -> None:
        """Let the policy choose the places that have no pin, then put the pins where they belong."""
        free = ~work.among(work.items, work.pinned)
        items, scores = work.items[free], work.scores[free]
        propensity = np.ones(0, np.float32)
        if len(items):
            device = work.asked.context.user.device
            candidates, values = (torch.from_numpy(one)[None].to(device) for one in (items, scores))
            k = work.k - len(work.pins)
            given = work.asked.context, candidates, values, k, work.asked.chance
            if isinstance(self.policy, Explores):
                chosen, chance, first = self.policy.explore(*given)
                work.drawn = items, first[0].float().cpu().numpy()
            else:
                chosen, chance = self.policy.choose(*given)
            filled = (chosen[0] >= 0).cpu().numpy()
            chosen_items = chosen[0].cpu().numpy()[filled]
            scores = scores[(items[None] == chosen_items[:, None]).argmax(axis=1)]
            items, propensity = chosen_items, chance[0].float().cpu().numpy()[filled]
        for place, row in sorted(work.pins.items()):
            at = min(place - 1, len(items))
            score = scores[min(at, len(scores) - 1)] if len(scores) else place_scores(1)[0]
            items, scores = np.insert(items, at, row), np.insert(scores, at, score)
            propensity = np.insert(propensity, at, 1)
        work.items, work.scores, work.propensity = items, scores, propensity

    def _answer(self, work: _Work) -> Answer:
        names: list[list[str]] = [[] for _ in work.items]
        for one in work.found:
            for place in np.flatnonzero(work.among(work.items, one.items)):
                names[place].append(one.name)
        for place in np.flatnonzero(work.among(work.items, work.pinned)):
            names[place].append("pin")
        drawn, chance = work.drawn or (None, None)
        return Answer(
            work.items,
            work.scores,
            names,
            work.propensity,
            work.rung,
            work.fallback,
            tuple(work.trace),
            work.removed,
            self.policy.version,
            drawn,
            chance,
            {one.name: len(one.items) for one in work.found if one.name},
        )

    # ── sources ───────────────────────────────────────────────────────────────────────────────────────────────

    def _ask(self, work: _Work, source: Source, n: int, *, exact: bool = False) -> Found:
        """Return the n best that a source finds."""
        name, context, draw = source.name, work.asked.context, work.draw(source.name)
        scores: Tensor | None = None
        if name in ("popular", "trending", "latest"):
            items = of_board(getattr(self.shelf, name), work.allowed, n)
            return Found(name, items, place_scores(len(items)), source.weight)
        known = work.allowed[: max(self.shelf.n_known, self.scorer.reach)]
        search = {"model": self.scorer.near, "similar": self.scorer.kin}.get(name)
        near = None if exact or search is None else search(context, n, known)
        work.approximate |= near is not None
        if name == "model" and near is not None:
            self._note_rung(work, 0)
        if near is not None:
            return Found(name, *near, source.weight)
        if name == "model":
            scores, rung = self.scorer.scores(context)
            self._note_rung(work, rung)
        elif name == "similar":
            scores = self.scorer.likeness(context)
        elif self.shelf.content is not None and len(past := work.asked.past):
            scores = torch.tensor(self.shelf.content(past))[None]
        if scores is None:
            return Found(name, NONE, np.zeros(0, np.float32), source.weight)
        return Found(name, *best(scores, work.allowed, n, draw), source.weight)

    def _note_rung(self, work: _Work, rung: int) -> None:
        work.rung = self.ladder.names[rung] if rung >= 0 else ""
        if rung != 0:
            work.fall("cold")

    def _boards(self, work: _Work) -> Iterator[tuple[str, np.ndarray]]:
        """Yield what fills places that nothing else fills."""
        yield "popular", self.shelf.popular
        yield "latest", self.shelf.latest
        yield "any", numpy_stream(work.asked.seed, "any").permutation(np.flatnonzero(work.allowed))

    def _extend(self, work: _Work, boards: Iterable[tuple[str, np.ndarray]], *, capped: bool) -> None:
        """Append what boards have until k places are filled; a board without a name is no fallback."""
        for name, board in boards:
            short = work.short
            if short <= 0:
                return
            free = work.allowed.copy()
            free[work.items] = False
            more = board[free[board]]
            if capped and self.rules.codes:
                pool, first = np.concatenate([work.items, more]), len(work.items)
                more = pool[rerank.pick(-np.arange(len(pool)), work.k, first=first, caps=self.rules.caps(pool))[first:]]
            more = more[:short]
            work.append(more)
            if name and len(more):
                work.found.append(Found(name, more, place_scores(len(more))))
                work.fall(name)

    def _alike(self, items: np.ndarray) -> np.ndarray:
        """Return the cosines of items with one another (C, C); what is newer than the model is like nothing."""
        assert self.unit is not None
        known = torch.from_numpy(items < len(self.unit))
        rows = torch.from_numpy(items).masked_fill(~known, 0).to(self.unit.device)
        unit = self.unit.index_select(0, rows)
        unit = unit if bool(known.all()) else unit * known[:, None].to(unit.device)
        cosines: np.ndarray = (unit @ unit.T).cpu().numpy()
        return cosines

    # ── time ──────────────────────────────────────────────────────────────────────────────────────────────────

    def _affords(self, work: _Work, step: str) -> bool:
        """Return whether there is time for an expensive step, by what it usually takes."""
        if self.clock() + self.costs.get(step, 0.0) <= work.deadline:
            return True
        self.costs[step] = FORGET * self.costs.get(step, 0.0)
        return False

    def _learn(self, step: str, started: float) -> None:
        took = self.clock() - started
        self.costs[step] = (1 - RECENT_WEIGHT) * self.costs.get(step, took) + RECENT_WEIGHT * took

    # ── why ───────────────────────────────────────────────────────────────────────────────────────────────────

    def _detail(self, work: _Work, item: int, stage: str) -> str:
        """Return what became of an item in a stage that is done, in words."""
        place = np.flatnonzero(work.items == item)
        if stage == "sources":
            found = [(one.name, np.flatnonzero(one.items == item)) for one in work.found]
            return ", ".join(f"{name}: place {at[0] + 1}" for name, at in found if len(at)) or "no source found it"
        if stage == "filter":
            return "allowed"
        if len(place):
            return f"place {place[0] + 1} of {len(work.items):,}"
        if stage == "reranking" and (full := self.rules.full(work.items, item)):
            return f"all places for its {full} are taken"
        return f"not among the {len(work.items):,} best"


def _placed(values: np.ndarray, known: np.ndarray, n: int) -> np.ndarray:
    """Return a score for each of n candidates: `values` for the places in `known`, and for each other place what
    the best of `values` would be worth there. Raises `ScoreError` when one is not a number.
    """
    if np.isnan(values).any():
        wrong = f"{np.count_nonzero(np.isnan(values)):,} of {len(values):,} scores"
        raise ScoreError(f"{wrong} of the ranker are not a number. Train the model again.")
    scores: np.ndarray = np.sort(values)[::-1][np.arange(n) * len(values) // n]
    scores[known] = values
    return scores
