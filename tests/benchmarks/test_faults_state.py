"""What a server holds: the stages hold at a small scale, any course of events holds, and what is wrong is noticed."""

import os
import shutil
import tempfile
import threading
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import uvicorn
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, initialize, invariant, multiple, rule

import _degraded
import _faults_state
import _orders
import _same
from _breaking import Effort, Found, Stage
from _faults_state import unlike
from _orders import NOW, Held, drawn, in_disorder, names_in
from _soak import Grown, soaked
from _versions import MODELS, Swaps
from _victim import publish
from bowerbird.serving import Engine, create_app
from bowerbird.store import bundles
from bowerbird.store.log import MERGE, LogEvent


def tried(stage: Stage, n: int, folder: Path) -> Found:
    """Return what came of so many tries of a stage; none of them may have gone wrong."""
    found = stage.run(Effort(n, 0, folder))
    assert (found.wrong, found.told) == (0, [])
    assert found.tried == n
    return found


# ── the stages ────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_reorderings(tmp_path: Path) -> None:
    found = tried(_faults_state.reorderings, 10, tmp_path)
    assert found.figures["delivered"] > found.figures["events"] > 300
    assert found.figures["taken_back"] > 0 < found.figures["restarts"]


def test_degrades(tmp_path: Path) -> None:
    found = tried(_faults_state.degrades, 3, tmp_path)
    assert found.figures["with_fallback"] > 300 > found.figures["empty"] == 0


def test_same_twice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_faults_state, "again", lambda folder, seed, models: _same.main(folder, seed, list(models)))
    assert tried(_faults_state.same_twice, 1, tmp_path).figures["tensors"] > 3


@pytest.fixture
def swaps(tmp_path: Path) -> Iterator[Swaps]:
    """Versions of a server in this process."""
    for model, config in MODELS:
        publish(tmp_path / "run", model, **config)
    app = create_app(Engine(tmp_path / "run", tmp_path / "data"))
    server = uvicorn.Server(uvicorn.Config(app, port=0, log_level="critical", access_log=False))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        thread.join(0.01)
        assert thread.is_alive()
    with closing(Swaps(server.servers[0].sockets[0].getsockname()[1], bundles.current(tmp_path / "run"))) as swaps:
        yield swaps
    server.should_exit = True
    thread.join(60)


def test_soak(swaps: Swaps) -> None:
    grown = soaked(swaps, os.getpid(), 3.0, 1.0, 30, np.random.default_rng(0))
    assert grown.told == []
    assert len(grown.mb) >= 2
    assert grown.slates > grown.remembered > 0
    assert grown.events > 20
    assert grown.swaps > 1


# ── any course of events ──────────────────────────────────────────────────────────────────────────────────────────────

who = st.sampled_from(_orders.PEOPLE)
kinds, items = st.sampled_from(_orders.KINDS), st.sampled_from(_orders.ITEMS)
weights, moments = st.sampled_from([0.5, 1.0, 2.0]), st.integers(NOW - 20, NOW)


class Course(RuleBasedStateMachine):
    """Events come, come again, are taken back, and the server starts again: it holds what a naive model does."""

    names = Bundle("names")

    @initialize()
    def begin(self) -> None:
        self.folder = Path(tempfile.mkdtemp())
        self.engine = _orders.begun(self.folder, "itemknn")
        self.came: dict[str, LogEvent] = {}
        self.gone: set[str] = set()

    @rule(target=names, parts=st.lists(st.tuples(who, kinds, items, weights, moments), min_size=1, max_size=8))
    def come(self, parts: list[tuple[tuple[str | None, str | None], str, str, float, int]]) -> object:
        """New events come together."""
        events = [
            LogEvent(f"e{len(self.came) + n}", kind, user, item, moment, weight, session)
            for n, ((user, session), kind, item, weight, moment) in enumerate(parts)
        ]
        self.engine.take(events).result()
        self.came |= {one.event_id: one for one in events}
        return multiple(*(one.event_id for one in events))

    @rule(again=st.lists(names, min_size=1, max_size=5))
    def come_again(self, again: list[str]) -> None:
        """Events come again, some of them with other contents, which count for nothing."""
        done = self.engine.take([replace(self.came[name], weight=8.0) for name in again]).result()
        assert (len(done.fresh), done.duplicates) == (0, len(again))

    @rule(name=names)
    def take_back(self, name: str) -> None:
        """An event is taken back, maybe again."""
        assert (self.engine.retract(name) is None) == (name in self.gone)
        self.gone.add(name)

    @rule()
    def merge(self) -> None:
        """A session becomes a user, maybe again."""
        name, session = "merge", "s0"
        event = LogEvent(name, MERGE, user_id=_orders.OWNER[session], session_id=session, time=NOW)
        self.engine.take([event]).result()
        self.came[name] = event

    @rule()
    def start_again(self) -> None:
        """The server ends, and another one starts on what it left."""
        self.engine.close()
        self.engine = _orders.begun(self.folder, "itemknn")

    @rule()
    def tend(self) -> None:
        """The keeper does its work."""
        self.engine.tend()

    @invariant()
    def hold(self) -> None:
        """What is held is what should be."""
        should = _orders.expected(list(self.came.values()), sorted(self.gone))
        assert _orders.held_by(self.engine).unlike(should, times_differ=False) == []

    def teardown(self) -> None:
        if hasattr(self, "engine"):
            self.engine.close()
            shutil.rmtree(self.folder)


Course.TestCase.settings = settings(
    max_examples=20, stateful_step_count=12, deadline=None, derandomize=True, database=None,
    suppress_health_check=list(HealthCheck),
)  # fmt: skip
TestCourse = Course.TestCase


# ── their eyes ────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_disorder_brings_the_same_events() -> None:
    rng = np.random.default_rng(0)
    for _ in range(20):
        events = drawn(rng, 20, equal_times=False)
        back = ["e3", "e7"]
        parts = in_disorder(rng, events, back)
        assert set().union(*map(names_in, parts)) == {one.event_id for one in events}
        assert sum(len(part) for part in parts if not isinstance(part, str)) > len(events)
        for name in back:
            assert any(name in names_in(part) for part in parts[: parts.index(name)])


def test_what_is_held_otherwise_is_noticed() -> None:
    past = {"uu0": [(1, "look", "i1", 1.0), (2, "look", "i2", 1.0)]}
    one = Held({("a",)}, past, {"i1": 1.0}, {"i1": 0.5})
    turned = replace(one, past={"uu0": past["uu0"][::-1]})
    assert one.unlike(one, times_differ=True) == []
    assert one.unlike(turned, times_differ=False) == []
    for other in (
        turned,
        replace(one, log=set()),
        replace(one, past={}),
        replace(one, chosen={"i1": 1.5}),
        replace(one, chosen={}),
        replace(one, hot={"i1": 0.5001}),
    ):
        assert len(one.unlike(other, times_differ=True)) == 1


def test_two_engines_that_answer_differently_are_noticed(tmp_path: Path) -> None:
    with (
        closing(_orders.begun(tmp_path / "one", "itemknn")) as one,
        closing(_orders.begun(tmp_path / "other", "itemknn")) as other,
    ):
        assert _orders.differ(one, other) == []
        other.take([LogEvent("e", "interaction", "u0", "i3", NOW)]).result()
        assert _orders.differ(one, other)


def test_a_model_that_is_another_is_noticed(tmp_path: Path) -> None:
    for name, seed in (("one", 0), ("other", 1)):
        (tmp_path / name).mkdir()
        _same.main(tmp_path / name, seed, ["mf"])
    tensors, wrong = unlike(tmp_path / "one", tmp_path / "other", "mf")
    assert tensors > 3
    assert "model.user differs" in wrong
    assert "answers differ" in wrong


def test_answers_that_lack_something_are_noticed() -> None:
    full = {"items": [{"item_id": n} for n in range(_degraded.K)], "fallback": ["light"]}
    assert _degraded.faults([full], "light") == []
    assert _degraded.faults([full], "popular")
    assert _degraded.faults([full | {"fallback": []}], "light")
    assert _degraded.faults([full | {"items": []}], "light")
    assert _degraded.whole([full], [full]) == []
    assert _degraded.whole([full], [full | {"items": full["items"][::-1]}])


def test_growth_is_told_from_noise() -> None:
    rng = np.random.default_rng(0)
    noise = np.repeat(rng.normal(0, 1.0, 30), 30)  # of half a minute each
    flat, growing = Grown(mb=list(500 + noise)), Grown(mb=list(500 + noise + 100 / 3600 * np.arange(900)))
    slope, low, high = flat.slope(rng)
    assert low < 0 < high < 20
    assert low <= slope <= high
    assert growing.slope(rng)[1] > 80
    assert Grown(told=[(61.0, "a"), (30.0, "b"), (1e9, "c")]).by_minute(2) == [["b"], ["a", "c"]]
