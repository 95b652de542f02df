"""Servers under load: the stages hold at a small scale, on one server in this process, and notice what is wrong."""

import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import uvicorn

import _faults_load
import _pressure
import serving
from _breaking import Effort, Found, Stage
from _crowd import Answer, Asker, Crowd, percentile_ms
from _faults_load import People, collapsed, slowed, spoilt, strained
from _pressure import Watch, hostile
from _versions import MODELS, Swaps, Truth, checked
from _victim import publish
from bowerbird.serving import Engine, create_app
from bowerbird.serving.connections import Connection
from bowerbird.store import bundles

PATIENT_S = 60.0  # beside other tests


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Any, Truth]]:
    """A server in this process, and what its versions answer."""
    folder, truth = tmp_path_factory.mktemp("served"), Truth()
    for model, config in MODELS:
        truth.learn(folder / "run", publish(folder / "run", model, **config))
    app = create_app(Engine(folder / "run", folder / "data"))
    server = uvicorn.Server(uvicorn.Config(app, port=0, http=Connection, log_level="critical", access_log=False))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        thread.join(0.01)
        assert thread.is_alive()
    port = server.servers[0].sockets[0].getsockname()[1]
    yield SimpleNamespace(run=folder / "run", data=folder / "data", port=port), truth
    server.should_exit = True
    thread.join(PATIENT_S)


@pytest.fixture
def small(here: tuple[Any, Truth], monkeypatch: pytest.MonkeyPatch) -> None:
    """Stages meet that server, are quick, and forgive what is slow."""
    one, truth = here

    @contextmanager
    def shop(effort: Effort, other: Truth, words: tuple[str, ...] = ()) -> Iterator[tuple[Any, Swaps]]:
        other.scores |= truth.scores
        with closing(Swaps(one.port, bundles.current(one.run))) as swaps:
            assert swaps.promote(max(truth.scores)) == []
            yield one, swaps

    @contextmanager
    def pressed(folder: Path) -> Iterator[serving.Server]:
        yield serving.Server(os.getpid(), one.port, 0.0, one.run, one.data)

    monkeypatch.setattr(_faults_load, "shop", shop)
    monkeypatch.setattr(_faults_load, "pressed", pressed)
    monkeypatch.setattr(_faults_load, "HOSTILE", {"heads": (20, 1.0)})
    for name, value in {"CALM_S": 0.3, "STEP_S": 0.5, "RECOVERED_S": 0.6, "NOISE_MS": 1e5, "KEEPER_S": 0.8}.items():
        monkeypatch.setattr(_faults_load, name, value)
    for name in ("ROLLBACK_S", "BY_ITSELF_S", "ANSWERED_S", "HEALTH_S"):
        monkeypatch.setattr(_faults_load, name, PATIENT_S)
    monkeypatch.setattr(_pressure, "WARM_S", 0.2)


def tried(stage: Stage, n: int, folder: Path) -> Found:
    """Return what came of so many tries of a stage; none of them may have gone wrong."""
    found = stage.run(Effort(n, 0, folder))
    assert (found.wrong, found.told) == (0, [])
    assert found.tried == n
    return found


# ── the stages ────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_swaps(small: None, tmp_path: Path) -> None:
    found = tried(_faults_load.swaps, 6, tmp_path)
    assert found.figures["swaps"] == 6
    assert found.figures["requests"] > 10
    assert found.figures["failed"] == 0


def test_rollback(small: None, tmp_path: Path) -> None:
    found = tried(_faults_load.rollback, 4, tmp_path)
    assert found.figures["refused"] == 2
    assert found.figures["went_by_itself_s"] < PATIENT_S
    assert found.figures["rolled_back_by_hand"] == 1
    assert found.figures["rollbacks"] == 12
    assert found.figures["degraded"] > 0


def test_own_writes(small: None, tmp_path: Path) -> None:
    found = tried(_faults_load.own_writes, 40, tmp_path)
    assert found.figures["pairs"] == 40
    assert found.figures["taken_back"] > 0
    assert found.figures["own_p99_ms"] > 0


def test_overload(small: None, tmp_path: Path) -> None:
    found = tried(_faults_load.overload, 1, tmp_path)
    assert found.figures["capacity_per_s"] > 0
    assert found.figures["x1_answered_per_s"] > 0


def test_hostile_clients(small: None, tmp_path: Path) -> None:
    found = tried(_faults_load.hostile_clients, 1, tmp_path)
    assert found.figures["heads_p99_ms"] > 0


def test_hostile_clients_of_all_kinds_get_in(here: tuple[Any, Truth]) -> None:
    server = serving.Server(os.getpid(), here[0].port, 0.0, here[0].run, here[0].data)
    with ExitStack() as stack:
        told = [
            stack.enter_context(hostile(server, kind, 3)) for kind in ("heads", "bodies", "deaf", "idle", "garbage")
        ]
    assert all(one["opened"] >= 3 for one in told)
    assert told[-1]["ended"] > 0


# ── their eyes ────────────────────────────────────────────────────────────────────────────────────────────────────────


def slate(truth: Truth, version: str, user: str) -> dict[str, Any]:
    """Return what a version should answer."""
    best = sorted(truth.scores[version][user].items(), key=lambda one: -one[1])[:8]
    items = [{"item_id": item, "score": score} for item, score in best]
    return {"model_version": version, "items": items, "fallback": [], "stale": False}


@pytest.mark.parametrize(
    "spoil",
    [
        lambda body, other: body | {"model_version": other["model_version"]},
        lambda body, other: body | {"items": [*body["items"][:4], *other["items"][4:]]},
        lambda body, other: body | {"items": body["items"][:-1]},
        lambda body, other: body | {"items": body["items"][::-1]},
        lambda body, other: body | {"items": []},
        lambda body, other: body | {"fallback": ["model_failed"]},
        lambda body, other: body | {"model_version": "000009"},
    ],
)
def test_a_mixture_is_noticed(here: tuple[Any, Truth], spoil: Callable[[Any, Any], Any]) -> None:
    truth = here[1]
    assert truth.blind() == []
    body, other = slate(truth, "000001", "u3"), slate(truth, "000002", "u3")
    assert truth.faults("u3", body) == []
    assert truth.faults("u3", spoil(body, other))


def test_versions_that_answer_alike_are_noticed(here: tuple[Any, Truth]) -> None:
    scores = here[1].scores["000001"]
    assert Truth({"000001": scores, "000002": scores}).blind()


def answered(status: int, document: Any, **headers: str) -> Answer:
    return Answer(status, document, headers, 0.01)


class Scripted(Asker):
    """A server that answers as it is told to."""

    def __init__(self, answer: Callable[[str, str, Any], Answer]) -> None:
        super().__init__(0)
        self.answer = answer

    def __call__(self, method: str, path: str, document: Any = None) -> Answer:
        return self.answer(method, path, document)


def test_the_old_version_is_noticed_after_another_was_taken_into_use(here: tuple[Any, Truth]) -> None:
    truth, swaps = here[1], Swaps(0, "000002")
    turn = checked(truth, swaps)
    asker = Scripted(lambda method, path, asked: answered(200, slate(truth, "000001", asked["user_id"])))
    assert "while 000002 was in use" in turn(asker, np.random.default_rng(0))[1][0]
    swaps.unsettle()
    assert turn(asker, np.random.default_rng(0))[1] == []
    asker = Scripted(lambda *_: answered(500, {}))
    assert turn(asker, np.random.default_rng(0))[1]


@pytest.mark.parametrize(
    ("hides", "stale", "back", "wrong"),
    [(True, False, True, 0), (False, True, True, 0), (False, False, True, 1), (True, False, False, 1)],
)
def test_a_write_without_effect_is_noticed(hides: bool, stale: bool, back: bool, wrong: int) -> None:
    there = {"i1": True}

    def answer(method: str, path: str, asked: Any) -> Answer:
        if path == "/v1/events":
            there["i1"] = not hides
            return answered(200, {"accepted": 1, "offset": 3})
        if method == "DELETE":
            there["i1"] = back
            return answered(204, None)
        items = [{"item_id": item} for item in ("i1", "i2") if item != "i1" or there["i1"]]
        return answered(200, {"items": items, "stale": stale and "min_offset" in asked})

    people = People()
    said = people.chosen(Scripted(answer), "e", {"user_id": "u1"}, back=True)
    assert len(said) == wrong
    assert people.stale == stale


@pytest.mark.parametrize(
    ("answer", "wrong"),
    [
        (answered(200, {}), 0),
        (answered(503, {}, **{"retry-after": "1"}), 0),
        (answered(503, {}), 1),
        (answered(500, {}, **{"retry-after": "1"}), 1),
    ],
)
def test_a_refusal_that_does_not_say_when_to_come_again_is_noticed(answer: Answer, wrong: int) -> None:
    watch = Watch(serving.Server(0, 0, 0.0, Path(), Path()))
    assert len(watch.refusal(answer)) == wrong
    watch.slowest_s = 2.0
    assert watch.faults(1.0)


def row(**changed: Any) -> dict[str, Any]:
    calm = {"per_s": 100.0, "core": 1.0, "p50_ms": 5.0, "p99_ms": 50.0, "late_p99_ms": 1.0, "failed": 0}
    return calm | {"outcomes": {"200": 100, "503": 50}} | changed


def test_what_an_overload_does_is_noticed() -> None:
    assert strained(row()) == spoilt(row(), row()) == slowed(row(), row()) == collapsed([row(), row(per_s=81.0)]) == []
    assert strained(row(p99_ms=1200.0))
    assert strained(row(p99_ms=None))
    assert strained(row(outcomes={"200": 1, "timeout": 1}))
    assert collapsed([row(), row(per_s=79.0)])
    assert not collapsed([row(), row(per_s=50.0, core=0.5)])  # half of the core was not the server's to use
    assert spoilt(row(), row(p50_ms=30.0))
    assert spoilt(row(), row(failed=1))
    assert slowed(row(), row(p99_ms=101.0))
    assert not slowed(row(p99_ms=1.0), row(p99_ms=39.0))  # noise


def test_a_crowd_counts_what_fails_and_ends() -> None:
    def turn(asker: Asker, rng: np.random.Generator) -> tuple[float, list[str]]:
        if rng.random() < 0.5:
            raise OSError("gone")
        return 0.002, []

    with Crowd(0, turn, np.random.default_rng(0).spawn(2), most=50) as crowd:
        while crowd.alive:
            time.sleep(0.01)
    told = crowd.faults()
    assert crowd.turns == 50
    assert 0 < crowd.failed == len(told) < 50
    assert crowd.milliseconds(99) == 2.0
    assert crowd.faults() == []
    assert percentile_ms([], 50) == 0.0
