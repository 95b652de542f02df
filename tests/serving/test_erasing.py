"""Erasing over HTTP: nobody at once, and the rest beside requests, with a certificate at its end."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient
from shop import NOW, Clock, Start, client_of, event, ids, taste

from bowerbird.privacy import erasure
from bowerbird.recommender import Recommender
from bowerbird.serving import Engine
from bowerbird.serving.jobs import Jobs
from bowerbird.store import bundles, erasures

WHO = "u5"


@pytest.fixture
def run(tmp_path: Path, neighbours: Recommender) -> Path:
    neighbours.save(tmp_path / "run")
    return tmp_path / "run"


@pytest.fixture
def engine(start: Start, run: Path) -> Engine:
    return start(None, run=run)


@pytest.fixture
def client(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> Iterator[TestClient]:
    monkeypatch.setattr(Jobs, "_beside", lambda self, job, words, fine=(0,): erasure.train(*words[2:]))
    with client_of(engine) as client:
        yield client


def jobs_of(client: TestClient) -> Jobs:
    jobs: Jobs = client.app.state.jobs  # type: ignore[attr-defined]
    return jobs


def sent(client: TestClient, number: int, **more: Any) -> None:
    row = {"event_id": f"e{number}", "event": "like", "time": NOW} | more
    assert client.post("/v1/events", json={"events": [row]}).json()["rejected"] == []


def list_of(client: TestClient, **asked: Any) -> list[Any]:
    return ids(client.post("/v1/recommendations", json={"k": 5, **asked}).json())


def test_a_person_is_nobody_when_the_answer_comes(client: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Jobs, "start", lambda *_, **__: None)  # the rest comes later
    sent(client, 1, user_id=WHO, item_id="i1")
    sent(client, 2, session_id="tab", item_id="i3")
    assert client.post(f"/v1/users/{WHO}:merge", json={"session_id": "tab"}).status_code == 200
    before = list_of(client, user_id=WHO)
    stranger = list_of(client, user_id="never-seen")
    assert before != stranger
    held = client.get(f"/v1/users/{WHO}/data").json()
    assert held["trained_on"]
    assert len(held["events"]) >= 3  # a list that was shown is in the log soon
    told = client.post("/v1/erasures", json={"user_id": WHO})
    assert told.status_code == 202
    assert told.json()["steps"] == {"database": True, "models": False, "copies": False, "backups": False}
    assert client.get(told.headers["location"]).json() == told.json()
    assert client.get(f"/v1/users/{WHO}/data").json() == {
        "user_id": WHO, "document": None, "trained_on": [], "events": []
    }  # fmt: skip
    assert list_of(client, user_id=WHO) == list_of(client, user_id="never-seen")
    assert list_of(client, session_id="tab") == list_of(client, session_id="other tab")
    assert client.get(f"/v1/users/{WHO}/similar").status_code == 404


def test_the_rest_is_done_beside_requests(client: TestClient, engine: Engine, run: Path) -> None:
    sent(client, 1, user_id=WHO, item_id="i1")
    others = list_of(client, user_id="u6")
    where = client.post("/v1/erasures", json={"user_id": WHO}).headers["location"]
    sent(client, 2, user_id=WHO, item_id="i2")  # too late to be learnt, too early to be somebody new
    jobs_of(client)._waiting.join()
    certificate = client.get(where).json()
    assert certificate["state"] == "done"
    assert certificate["database"]["events"] in (1, 2)
    assert certificate["models"]["retired"].keys() == {"000001"}
    assert engine.view.recommender.version == bundles.current(run) == "000002"
    assert engine.view.recommender.user_ids.row(WHO) == -1
    assert erasures.subject_of(WHO, certificate["key"]) == certificate["subject"]
    assert client.get("/v1/erasures").json()["erasures"] == [
        {name: one for name, one in certificate.items() if name != "key"}
    ]
    assert WHO not in client.get("/v1/erasures").text
    assert set(others) & set(list_of(client, user_id="u6"))
    again = client.post("/v1/erasures", json={"user_id": WHO})
    assert (again.status_code, again.json()["code"]) == (404, "unknown_item")
    assert "nothing is kept of" in again.json()["detail"]


def test_who_comes_back_is_somebody_new(client: TestClient, engine: Engine) -> None:
    client.post("/v1/erasures", json={"user_id": WHO})
    jobs_of(client)._waiting.join()
    sent(client, 9, user_id=WHO, item_id="i2")
    assert [one["item_id"] for one in client.get(f"/v1/users/{WHO}/data").json()["events"]] == ["i2"]
    assert engine._erased == frozenset()


def test_a_server_that_was_stopped_in_between_goes_on(start: Start, run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = start(None, run=run)
    with monkeypatch.context() as patch, client_of(first) as client:
        patch.setattr(Jobs, "start", lambda *_, **__: None)
        client.post("/v1/erasures", json={"user_id": WHO})
    monkeypatch.setattr(Jobs, "_beside", lambda self, job, words, fine=(0,): erasure.train(*words[2:]))
    second = start(None, run=run)
    assert second.view.recommender.user_ids.row(WHO) == -1  # before anything is trained
    with client_of(second) as client:
        jobs_of(client)._waiting.join()
        assert [one["state"] for one in client.get("/v1/erasures").json()["erasures"]] == ["done"]
    assert bundles.versions(run) == ["000002"]


def test_the_same_person_is_erased_once_at_a_time(client: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    jobs = jobs_of(client)
    monkeypatch.setattr(jobs, "_erase", lambda job: "later")
    waiting = jobs._waiting.put
    monkeypatch.setattr(jobs._waiting, "put", lambda one: None)
    places = [client.post("/v1/erasures", json={"user_id": WHO}).headers["location"] for _ in range(2)]
    assert places[0] == places[1]
    assert [one.kind for one in jobs.all()] == ["erase"]
    monkeypatch.setattr(jobs._waiting, "put", waiting)


def test_whoever_answers_beside_forgets_too(
    start: Start, run: Path, monkeypatch: pytest.MonkeyPatch, clock: Clock
) -> None:
    monkeypatch.setattr(Jobs, "start", lambda *_, **__: None)
    leader = start(None, run=run)
    beside = start(None, run=run, follow=True)
    question = {"user_id": WHO, "k": 5}
    leader.take([event(1, "i1", user_id=WHO)]).result()
    assert ids(beside.answered(question, "r1")[0]) != ids(beside.answered({"user_id": "x", "k": 5}, "r2")[0])
    jobs = Jobs(leader)
    told: list[dict[str, Any]] = []
    monkeypatch.setattr(jobs.workers, "tell", lambda do, **what: told.append({"do": do, **what}))
    jobs.erase(WHO)
    assert told == [{"do": "forget", "names": [WHO]}]
    beside.forget(told[0]["names"])
    assert ids(beside.answered(question, "r3")[0]) == ids(beside.answered({"user_id": "x", "k": 5}, "r4")[0])
    assert beside.view.people.deeds(f"u{WHO}") == []
    late = start(None, run=run, follow=True)  # a worker that is started while it goes on
    assert late.view.recommender.user_ids.row(WHO) == -1
    jobs.close()


def test_what_cannot_be_trained_beside_is_told(client: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: Any, **__: Any) -> str:
        raise erasure.RequestError("no room")

    monkeypatch.setattr(Jobs, "_beside", fails)
    where = client.post("/v1/erasures", json={"user_id": WHO}).headers["location"]
    jobs_of(client)._waiting.join()
    assert client.get("/v1/jobs").json()["jobs"][0]["detail"] == "no room"
    assert client.get(where).json()["state"] == "running"


@pytest.mark.slow
def test_a_process_of_its_own_trains(engine: Engine, run: Path) -> None:
    with client_of(engine) as client:
        client.post("/v1/erasures", json={"user_id": WHO})
        jobs = jobs_of(client)
        jobs._waiting.join()
        assert jobs.all()[0].state == "done", jobs.all()[0].detail
    assert bundles.versions(run) == ["000002"]
    assert len(taste().user_ids) == 40
