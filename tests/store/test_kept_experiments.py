"""Experiments that are kept: their states, and what the log says units did, beside a slow and obvious version."""

from collections import Counter, defaultdict
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bowerbird.core import UnknownItemError
from bowerbird.store.database import Store
from bowerbird.store.events import TableLog
from bowerbird.store.experiments import Done, ExperimentError, Experiments, Outcome
from bowerbird.store.log import MERGE, SLATE, LogEvent
from bowerbird.store.opening import followed, opened
from bowerbird.store.people import key_of

NOW = 1_700_000_000


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Store]:
    with closing(opened(tmp_path)) as database:
        yield database


def draft(name: str = "one", scenario: str = "goods") -> dict[str, Any]:
    return {"name": name, "scenario": scenario, "arms": []}


def test_one_is_made_started_stopped_and_forgotten(database: Store) -> None:
    log, kept = TableLog(database), Experiments(database)
    log.append([deed(number) for number in range(7)])
    assert (kept.create(draft()).state, kept.salts()) == ("draft", frozenset())
    assert kept.create(draft()) == kept.get("one")  # the same once more
    started = kept.start("one")
    assert (started.state, started.start, len(started.salt) > 20) == ("running", 7, True)
    log.append([deed(number) for number in range(7, 11)])
    assert kept.start("one") == started
    assert (kept.salts(), kept.running()) == ({started.salt}, [started])
    stopped = kept.stop("one", "enough")
    assert (stopped.state, stopped.stop, stopped.reason, stopped.salt) == ("stopped", 11, "enough", started.salt)
    assert kept.stop("one", "again") == stopped == kept.all()[0]
    assert kept.salts() == frozenset()
    kept.delete("one")
    assert kept.all() == []
    assert kept.create(draft()).state == "draft"
    assert kept.start("one").salt != started.salt


def test_what_makes_no_sense_is_refused(database: Store) -> None:
    kept = Experiments(database)
    for act in (kept.get, kept.delete, kept.start, lambda name: kept.stop(name, "")):
        with pytest.raises(UnknownItemError, match='no experiment is named "one"'):
            act("one")
    kept.create(draft())
    kept.create(draft("two"))
    kept.create(draft("three", "news"))
    with pytest.raises(ExperimentError, match="another experiment"):
        kept.create(draft("one", "news"))
    with pytest.raises(ExperimentError, match="does not run"):
        kept.stop("one", "")
    kept.start("one")
    with pytest.raises(ExperimentError, match='"one" runs on the scenario "goods"'):
        kept.start("two")
    with pytest.raises(ExperimentError, match="Stop it first"):
        kept.delete("one")
    kept.start("three")
    kept.stop("one", "")
    with pytest.raises(ExperimentError, match="was stopped"):
        kept.start("one")
    assert kept.start("two").state == "running"


def test_another_process_sees_what_runs(database: Store, tmp_path: Path) -> None:
    kept = Experiments(database)
    kept.create(draft())
    with closing(followed(tmp_path)) as following:
        beside = Experiments(following)
        assert beside.salts() == frozenset()
        started = kept.start("one")
        assert beside.running() == [started]
        kept.stop("one", "")
        assert beside.salts() == frozenset()


def slate(number: int, arm: str, name: str = "one", **more: Any) -> LogEvent:
    context = f'{{"items": ["i1"], "experiment": {{"name": "{name}", "arm": "{arm}"}}}}'
    return LogEvent(**{"event_id": f"s{number}", "event": SLATE, "time": NOW, "context": context} | more)


def deed(number: int, event: str = "buy", **more: Any) -> LogEvent:
    return LogEvent(**{"event_id": f"d{number}", "event": event, "item_id": "i1", "time": NOW} | more)


def test_what_is_counted_by_hand(database: Store) -> None:
    log, kept = TableLog(database), Experiments(database)
    kept.create(draft())
    log.append([slate(0, "a", user_id="early"), deed(0, user_id="u1")])
    kept.start("one")
    log.append(
        [
            deed(1, user_id="u1"),  # before its first slate
            slate(1, "a", user_id="u1"), slate(2, "b", user_id=2), slate(3, "b", session_id="s"), slate(4, "a"),
            slate(5, "a", name="other", user_id="u9"), slate(6, "a", user_id="u4"),
            deed(2, user_id="u1"), deed(3, user_id="u1"), deed(4, user_id="2"), deed(5, user_id="early"),
            deed(6, "look", user_id="u1"), deed(7, "like", user_id="u1"), deed(8, session_id="s"),
            deed(9, user_id="u1", time=NOW - 1),  # it came later, and was earlier
        ]
    )  # fmt: skip
    first = kept.outcome(kept.get("one"), ["buy", "look"])
    assert first.units == {"a": 2, "b": 2}
    assert first.mixed == 0
    assert first.done == {("a", "buy"): Done(1, 2, 4), ("a", "look"): Done(1, 1, 1), ("b", "buy"): Done(2, 2, 2)}
    log.append([LogEvent(event_id="m", event=MERGE, session_id="s", user_id="u4", time=NOW), deed(10, user_id="u4")])
    merged = kept.outcome(kept.get("one"), ["buy"])
    assert (merged.units, merged.mixed) == ({"a": 1, "b": 2}, 1)  # u4 met b first, as a session
    assert merged.done == {("a", "buy"): Done(1, 2, 4), ("b", "buy"): Done(2, 3, 5)}
    log.retract("d2")
    kept.stop("one", "")
    log.append([deed(11, user_id="u1"), slate(7, "a", user_id="late")])
    assert kept.outcome(kept.get("one"), ["buy"]).done[("a", "buy")] == Done(1, 1, 1)
    assert kept.outcome(kept.get("one"), ["buy"]).units == {"a": 1, "b": 2}
    log.erase("u1")
    assert kept.outcome(kept.get("one"), ["buy"]) == Outcome({"b": 2}, 1, {("b", "buy"): Done(2, 3, 5)})


def slow(events: list[LogEvent]) -> Outcome:
    """Count in the plainest way."""
    owner = {event.session_id: event.user_id for event in events if event.event == MERGE}

    def who(event: LogEvent) -> str | None:
        user = event.user_id if event.user_id is not None else owner.get(event.session_id)
        return key_of(user, event.session_id)

    first: dict[str, tuple[int, int, str]] = {}
    arms: dict[str, set[str]] = defaultdict(set)
    for number, event in enumerate(events):
        key = who(event)
        if event.event == SLATE and key is not None:
            arm = str(event.context).split('"arm": "')[1][0]
            first.setdefault(key, (number, event.time, arm))
            arms[key].add(arm)
    n: Counter[tuple[str, str]] = Counter()
    for number, event in enumerate(events):
        key = who(event)
        if event.event in ("buy", "look") and key in first:
            place, time, _ = first[key]
            n[key, event.event] += number > place and event.time >= time
    done: dict[tuple[str, str], list[int]] = defaultdict(list)
    for (key, event_name), count in n.items():
        if count:
            done[first[key][2], event_name].append(count)
    return Outcome(
        dict(Counter(arm for *_, arm in first.values())),
        sum(len(one) > 1 for one in arms.values()),
        {place: Done(len(some), sum(some), sum(one * one for one in some)) for place, some in done.items()},
    )


@pytest.mark.parametrize("seed", range(8))
def test_counts_are_those_of_a_slow_and_obvious_version(seed: int, database: Store) -> None:
    rng, log, kept = np.random.default_rng(seed), TableLog(database), Experiments(database)
    kept.create(draft())
    kept.start("one")
    events = []
    for number in range(600):
        user, session, time = f"u{rng.integers(12)}", f"s{rng.integers(12)}", NOW + int(rng.integers(5))
        who: dict[str, Any] = {"user_id": user} if rng.random() < 0.5 else {"session_id": session}
        match rng.integers(10):
            case 0:
                events.append(
                    LogEvent(event_id=f"m{number}", event=MERGE, session_id=session, user_id=user, time=time)
                    if rng.random() < 0.1
                    else slate(number, "a", time=time)
                )
            case 1 | 2:
                events.append(slate(number, "ab"[rng.integers(2)], time=time, **who))
            case kind:
                events.append(deed(number, "buy" if kind % 2 else "look", time=time, **who))
    log.append(events)
    found = kept.outcome(kept.get("one"), ["buy", "look"])
    assert (dict(found.units), found.mixed, dict(found.done)) == tuple(slow(events))
    assert found.mixed > 0
