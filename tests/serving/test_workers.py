"""Workers: whoever computes a slate, it is the same, as fresh, logged by the one who writes, and never missing."""

import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient
from shop import BASE, Start, event, ids

from bowerbird.core import RealWorld
from bowerbird.recommender import Recommender
from bowerbird.serving import Engine, create_app
from bowerbird.serving.workers import Workers, as_json
from bowerbird.store.database import DatabaseBroken
from bowerbird.store.following import Following

PATIENCE_S = 60.0  # for a process that imports torch beside other tests
WHOLE = 30  # more than there is


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, factors: Recommender) -> Path:
    """A folder with a run directory of two versions."""
    where = tmp_path_factory.mktemp("served")
    factors.save(where / "run")
    factors.save(where / "run")
    return where


def until(true: Callable[[], Any], said: str) -> None:
    """Wait for another process."""
    end = time.monotonic() + PATIENCE_S
    while not true():
        assert time.monotonic() < end, said
        time.sleep(0.02)


@pytest.fixture(scope="module")
def served(folder: Path) -> Iterator[tuple[TestClient, Engine, Workers]]:
    """A client of a server with one worker, which is ready."""
    engine = Engine(folder / "run", folder / "data", world=RealWorld())
    workers = Workers(engine, 1)
    app = create_app(engine, workers=workers)
    with TestClient(app, base_url=BASE, raise_server_exceptions=False) as client:
        until(lambda: workers.ready, "no worker became ready")
        yield client, engine, workers


def ask(client: TestClient, **question: Any) -> dict[str, Any]:
    answer = client.post("/v1/recommendations", json=question)
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


def test_a_worker_answers_as_the_server_itself_would(
    served: tuple[TestClient, Engine, Workers], monkeypatch: Any
) -> None:
    client, engine, _ = served
    for question in ({"user_id": "u3", "k": 5}, {"history": ["i0", "i2"], "explain": True}, {"scenario": "goods"}):
        mine, _ = engine.answered(question, "r", previous=())
        with monkeypatch.context() as patch:
            patch.setattr(Engine, "answered", lambda *_, **__: pytest.fail("the server computed it itself"))
            theirs = ask(client, **question)
        for key in ("request_id", "trace", "timings_ms"):
            mine.pop(key), theirs.pop(key)
        assert theirs == mine


def test_whoever_was_told_of_an_event_finds_its_effect(served: tuple[TestClient, Engine, Workers]) -> None:
    client, *_ = served
    for turn in range(20):
        first = ids(ask(client, user_id=f"reader{turn}", k=1))[0]
        row = {"event_id": f"read{turn}", "event": "like", "user_id": f"reader{turn}", "item_id": first}
        assert client.post("/v1/events", json={"events": [row]}).json()["accepted"] == 1
        assert first not in ids(ask(client, user_id=f"reader{turn}", k=WHOLE))
        if turn % 2:
            assert client.delete(f"/v1/events/read{turn}").status_code == 204
            assert first in ids(ask(client, user_id=f"reader{turn}", k=WHOLE))


def test_an_item_that_is_made_unavailable_is_gone_at_once(served: tuple[TestClient, Engine, Workers]) -> None:
    client, *_ = served
    assert "i7" in ids(ask(client, k=WHOLE))
    client.put("/v1/items/i7", json={"available": False})
    assert "i7" not in ids(ask(client, k=WHOLE))
    client.put("/v1/items/i7", json={"available": True})
    assert "i7" in ids(ask(client, k=WHOLE))


def test_slates_are_logged_and_pages_go_on_from_them(served: tuple[TestClient, Engine, Workers]) -> None:
    client, engine, _ = served
    first = ask(client, user_id="u5", k=4)
    told = client.get(f"/v1/recommendations/{first['request_id']}").json()
    assert told["items"] == ids(first)
    assert told["question"] == {"user_id": "u5", "k": 4}
    second = client.post(f"/v1/recommendations/{first['request_id']}:next").json()
    assert len(ids(second)) == 4
    assert not set(ids(second)) & set(ids(first))
    many = client.post("/v1/recommendations:batch", json={"user_ids": ["u1", "u2"], "k": 3}).json()["slates"]
    assert [one["user_id"] for one in many] == ["u1", "u2"]
    assert "bowerbird_stage_seconds_count" in client.get("/metrics").text
    assert engine.log.find(first["request_id"]) is not None


def test_what_is_wrong_with_a_question_is_said_as_ever(served: tuple[TestClient, Engine, Workers]) -> None:
    client, *_ = served
    answer = client.post("/v1/recommendations", json={"scenario": "nowhere"})
    assert (answer.status_code, answer.json()["code"]) == (422, "invalid_request")
    assert client.post("/v1/recommendations", json={"where": "item.nothing == 1"}).status_code == 422


def test_promotion_reaches_the_workers_before_it_is_answered(served: tuple[TestClient, Engine, Workers]) -> None:
    client, *_ = served
    for version in ("000001", "000002", "000001"):
        assert client.post(f"/v1/models/{version}:promote").status_code == 200
        assert ask(client, user_id="u1")["model_version"] == version


def test_a_worker_that_dies_is_replaced_and_nobody_notices(served: tuple[TestClient, Engine, Workers]) -> None:
    client, _, workers = served
    (worker,) = workers._ready
    pid = worker.process.pid
    os.kill(pid, signal.SIGKILL)
    for turn in range(30):
        assert len(ids(ask(client, user_id=f"u{turn}", k=3))) == 3
    until(lambda: workers.ready and workers._ready[0].process.pid != pid, "no other worker was started")
    assert len(ids(ask(client, user_id="u1", k=3))) == 3


def test_a_worker_that_hangs_is_replaced_and_nobody_waits_for_it(
    served: tuple[TestClient, Engine, Workers], monkeypatch: pytest.MonkeyPatch
) -> None:
    client, _, workers = served
    until(lambda: workers.ready, "no worker became ready")
    monkeypatch.setattr("bowerbird.serving.workers.SLATE_S", 0.3)
    pid = workers._ready[0].process.pid
    os.kill(pid, signal.SIGSTOP)
    assert len(ids(ask(client, user_id="u1", k=3))) == 3
    until(lambda: workers.ready and workers._ready[0].process.pid != pid, "no other worker was started")
    assert client.get("/v1/status").json()["workers"] == 1


def test_a_version_is_promoted_though_a_worker_hangs(
    served: tuple[TestClient, Engine, Workers], monkeypatch: pytest.MonkeyPatch
) -> None:
    client, _, workers = served
    until(lambda: workers.ready, "no worker became ready")
    monkeypatch.setattr("bowerbird.serving.workers.PATIENCE_S", 0.3)
    os.kill(workers._ready[0].process.pid, signal.SIGSTOP)
    assert client.post("/v1/models/000002:promote").status_code == 200
    assert ask(client, user_id="u1")["model_version"] == "000002"


def test_without_workers_the_server_computes_slates_itself(start: Start, neighbours: Recommender) -> None:
    with TestClient(create_app(start(neighbours)), base_url=BASE) as client:
        assert ask(client, user_id="u1", k=3)["model"] == "itemknn"
        assert client.get("/v1/status").json()["workers"] == 0


def test_a_line_holds_any_text() -> None:
    assert as_json({"a": "x\ny\u2028"}).count(b"\n") == 0


def test_who_follows_cannot_write(start: Start, neighbours: Recommender, tmp_path: Path) -> None:
    start(neighbours)
    following = Following(tmp_path / "data")
    with pytest.raises(DatabaseBroken, match="another process writes here"):
        following.write(lambda connection: None)
    assert following.moved()
    assert not following.moved()
    following.close()


def test_a_follower_waits_for_an_offset_and_says_when_it_did_not_come(
    start: Start, factors: Recommender, tmp_path: Path
) -> None:
    factors.save(tmp_path / "run")
    live = start()
    follower = start(follow=True, world=RealWorld())
    assert follower.wait_for(None)
    assert not follower.wait_for(live.log.end + 1)
    assert follower.wait_for(live.log.end)


def test_what_is_taken_back_while_a_follower_makes_a_view_is_not_in_it(
    start: Start, neighbours: Recommender, factors: Recommender, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    neighbours.save(tmp_path / "run")
    live, follower = start(), start(follow=True)
    live.take([event(1, "i4", user_id="u1"), event(2, "i6", user_id="u1")]).result()
    follower.look()
    version = factors.save(tmp_path / "run")
    prove = follower._prove

    def meanwhile(view: Any) -> None:
        prove(view)
        follower._catch_up(view, follower.log.end)
        gone = live.retract("e1")
        assert gone is not None
        follower.undo(*gone)

    monkeypatch.setattr(follower, "_prove", meanwhile)
    follower.swap(version)
    live.swap(version)
    assert [deed.item_id for deed in follower.view.people.deeds("uu1")] == ["i6"]
    for engine in (live, follower):
        engine.tend()
    assert (follower.view.tally.chosen == live.view.tally.chosen).all()
