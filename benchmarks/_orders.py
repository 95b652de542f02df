"""The same events in many orders: what should be held after them, by a naive model, and what an engine holds."""

import math
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

import bowerbird as bb
from bowerbird.core import RealWorld
from bowerbird.recommender import Recommender
from bowerbird.serving import Engine
from bowerbird.store.log import MERGE, SLATE, LogEvent
from bowerbird.store.people import LATEST, key_of
from bowerbird.testing import halves

NOW = 1_700_000_000
DECLARED = [  # event types beside "interaction", which hides; weights that floats add without rounding
    {"name": "look", "weight": 0.5, "hides": False},
    {"name": "dislike", "sign": "negative"},
]
WORTH = {"interaction": 1.0, "look": 0.5}  # of what counts for an item
HIDES = ("interaction", "dislike")
KINDS = (*WORTH, "dislike")
ITEMS = [*(f"i{item}" for item in range(8)), "nowhere"]  # the last is in no catalogue
PEOPLE = [("u0", None), ("u1", None), ("new", None), (None, "s0"), (None, "s1")]
OWNER = {"s0": "new"}  # a session that becomes a user
MODELS: tuple[tuple[str, dict[str, Any]], ...] = (("itemknn", {}), ("sasrec", {"dim": 8, "epochs": 1}))


class Still(RealWorld):
    """The operating system, with a clock that stands still."""

    def now(self) -> int:
        """Return the same moment always."""
        return NOW


@cache
def trained(model: str) -> Recommender:
    """Return a model of the shop."""
    return bb.fit(halves(), model, **dict(MODELS)[model])


def begun(folder: Path, model: str) -> Engine:
    """Return an engine over what a folder holds, with the event types declared and nothing done by itself."""
    engine = Engine(folder / "run", folder / "data", recommender=trained(model), world=Still())
    engine._stopping.set()  # its keeper: what it does twice a second is done when it is wished
    engine._keeper.join()
    if len(engine.view.kinds) == 1:
        engine.declare(DECLARED, None)
    return engine


def drawn(rng: np.random.Generator, n: int, *, equal_times: bool, busy: bool = False) -> list[LogEvent]:
    """Return events of some people, in the order of their times, with a merge among them; one person may be busy."""
    times = rng.integers(NOW - 50, NOW, n) if equal_times else rng.choice(1_000_000, n, replace=False) + NOW - 1_000_000
    events = [LogEvent("merge", MERGE, user_id=OWNER["s0"], session_id="s0", time=NOW - 25)]
    for number, time in enumerate(np.sort(times).tolist()):
        user, session = PEOPLE[0 if busy and number % 10 else int(rng.integers(len(PEOPLE)))]
        kind, item, weight = rng.choice(KINDS), rng.choice(ITEMS), rng.choice([0.5, 1.0, 2.0])
        events.append(LogEvent(f"e{number}", str(kind), user, str(item), time, float(weight), session))
    by_word = {
        (str(key_of(one.user_id or OWNER.get(str(one.session_id)), one.session_id)), one.item_id, one.time): one
        for one in events
    }
    return list(by_word.values())  # of two words on one item at one moment, the last to arrive would count


Deliveries = list[list[LogEvent] | str]  # what arrives: parts of events, and ids of events that are taken back


def in_order(events: Sequence[LogEvent], taken_back: Sequence[str]) -> Deliveries:
    """Return how events arrive where nothing goes wrong: all at once, each once, and then what is taken back."""
    return [list(events), *taken_back]


def in_disorder(rng: np.random.Generator, events: Sequence[LogEvent], taken_back: Sequence[str]) -> Deliveries:
    """Return the same events in any order, in parts, some again and again, before and after they are taken back."""
    arriving = [events[place] for place in rng.permutation(len(events))]
    for one in rng.choice(len(events), rng.integers(len(events)) + 1):  # a copy stands anywhere
        arriving.insert(int(rng.integers(len(arriving) + 1)), events[one])
    cuts = np.sort(rng.integers(0, len(arriving) + 1, rng.integers(1, 6)))
    parts: Deliveries = [arriving[start:end] for start, end in zip([0, *cuts], [*cuts, len(arriving)], strict=True)]
    for event_id in taken_back:
        first = next(n for n, part in enumerate(parts) if event_id in names_in(part))
        parts.insert(int(rng.integers(first + 1, len(parts) + 1)), event_id)
    return parts


def names_in(part: list[LogEvent] | str) -> set[str]:
    """Return the ids of the events that a part brings."""
    return set() if isinstance(part, str) else {one.event_id for one in part}


def deliver(engine: Engine, deliveries: Deliveries) -> None:
    """Let everything arrive."""
    for part in deliveries:
        if isinstance(part, str):
            engine.retract(part)
        else:
            engine.take(part).result()


# ── what is held ──────────────────────────────────────────────────────────────────────────────────────────────────────

Did = tuple[int, str, str, float]  # when, what, with which item, how much


@dataclass
class Held:
    """What a server holds of some events."""

    log: set[tuple[Any, ...]] = field(default_factory=set)
    past: dict[str, list[Did]] = field(default_factory=dict)  # of each person, oldest first
    chosen: dict[str, float] = field(default_factory=dict)  # of each item, beyond what the model was trained on
    hot: dict[str, float] = field(default_factory=dict)

    def unlike(self, other: "Held", *, times_differ: bool) -> list[str]:
        """Return in what two differ; the order of a person's deeds of one moment is that of their arrival."""
        wrong = [] if self.log == other.log else [f"the log: {sorted(map(str, self.log ^ other.log))[:3]}"]
        for who in sorted({*self.past, *other.past}):
            pasts = [one.past.get(who, []) for one in (self, other)]
            if pasts[0] != pasts[1] and (times_differ or sorted(pasts[0]) != sorted(pasts[1])):
                wrong.append(f"{who} did {pasts[0][-5:]}, and {pasts[1][-5:]}")
        for name in ("chosen", "hot"):
            counts, others = getattr(self, name), getattr(other, name)
            wrong += [
                f"{item} is {name} {counts.get(item, 0)} and {others.get(item, 0)}"
                for item in sorted({*counts, *others})
                if not math.isclose(counts.get(item, 0), others.get(item, 0), rel_tol=1e-9, abs_tol=1e-9)
            ]
        return wrong


def expected(events: Sequence[LogEvent], taken_back: Sequence[str]) -> Held:
    """Return what a server should hold after events, whatever their order: a naive model."""
    held, hot, chosen = Held(), defaultdict[str, float](float), defaultdict[str, float](float)
    owner = {one.session_id: one.user_id for one in events if one.event == MERGE}
    for one in {one.event_id: one for one in events if one.event_id not in taken_back}.values():
        held.log.add(tuple(vars(one).values()))
        if one.event == MERGE or one.item_id is None:
            continue
        user = one.user_id if one.user_id is not None else owner.get(one.session_id)
        who = str(key_of(user, one.session_id))
        held.past.setdefault(who, []).append((one.time, one.event, str(one.item_id), one.weight))
        worth = WORTH.get(one.event, 0.0) * one.weight
        if worth:
            chosen[str(one.item_id)] += worth
            hot[str(one.item_id)] += worth * 2.0 ** ((one.time - NOW) / 86_400)
    held.past = {who: sorted(did)[-LATEST:] for who, did in held.past.items()}
    held.chosen, held.hot = dict(chosen), dict(hot)
    return held


def held_by(engine: Engine) -> Held:
    """Return what an engine holds of events that came in."""
    people, tally, view = engine.view.people, engine.view.tally, engine.view
    found = Held({tuple(vars(one).values()) for _, one in engine.log.walk() if one.event != SLATE})
    for user, session in PEOPLE:
        if did := people.deeds(people.key(user, session)):
            past = [(one.time, one.event, str(one.item_id), one.weight) for one in did]
            found.past[str(people.key(user, session))] = past
    fresh = engine.maker.view(view.recommender, type(people)(0)).tally  # nothing but what the model was trained on
    rows = {item: view.row(item) for item in ITEMS}
    waiting = {item: tally.waiting.get(item, (0.0, 0.0)) for item in ITEMS}
    for item, row in rows.items():
        chosen, hot = waiting[item]
        if row >= 0:
            chosen, hot = tally.chosen[row] - fresh.chosen[row], tally.hot[row] - fresh.hot[row]
        found.chosen[item], found.hot[item] = float(chosen), float(hot)
    return found


def answers(engine: Engine) -> Iterator[tuple[str, list[tuple[str, float]]]]:
    """Yield what some people are shown, and the boards."""
    engine.tend()
    for user, session in PEOPLE:
        body = engine.recommend({"user_id": user, "session_id": session, "k": 40}, engine.world.token())
        yield str(key_of(user, session)), [(one["item_id"], one["score"]) for one in body["items"]]
    for name in ("popular", "trending"):
        yield name, [(one["item_id"], one["score"]) for one in engine.board(name, 40, None, "r")["items"]]


def differ(one: Engine, other: Engine) -> list[str]:
    """Return what two engines answer differently: items, or scores beyond rounding; equal scores may change places."""
    wrong = []
    for (who, mine), (_, theirs) in zip(answers(one), answers(other), strict=True):
        scores, others = dict(mine), dict(theirs)
        if scores.keys() != others.keys():
            wrong.append(f"{who} is shown {sorted(scores.keys() ^ others.keys())} once")
        elif not np.allclose([score for _, score in mine], [score for _, score in theirs], rtol=1e-5, atol=1e-7):
            wrong.append(f"{who} is shown {mine[:3]} and {theirs[:3]}")
        elif not np.allclose([scores[item] for item in others], list(others.values()), rtol=1e-5, atol=1e-7):
            wrong.append(f"{who} is shown the items in other orders")
    return wrong
