"""Events over HTTP: kept before they are acknowledged, rejected one by one, taken back."""

import json
import threading
from typing import Any

import pytest
from fastapi.testclient import TestClient
from shop import NOW, ids

from bowerbird.serving import Engine
from bowerbird.serving.events import PATIENCE_S
from bowerbird.store.database import DatabaseBroken, DiskFull, Overloaded


def like(number: Any, item_id: Any = "i1", **more: Any) -> dict[str, Any]:
    return {"event_id": f"e{number}", "event": "like", "item_id": item_id} | ({"user_id": "u0"} | more)


def test_a_click_changes_the_very_next_list(client: TestClient) -> None:
    question = {"user_id": "u1", "k": 5}
    before = ids(client.post("/v1/recommendations", json=question).json())
    kept = client.post("/v1/events", json={"events": [like(1, before[0], user_id="u1")]})
    assert kept.status_code == 200
    assert kept.json() == {"accepted": 1, "duplicates": 0, "rejected": [], "offset": kept.json()["offset"]}
    after = client.post("/v1/recommendations", json=question | {"min_offset": kept.json()["offset"]}).json()
    assert not after["stale"]
    assert before[0] not in ids(after)


def test_sending_again_changes_nothing(client: TestClient, engine: Engine) -> None:
    client.post("/v1/events", json={"events": [like(1)]})
    again = client.post("/v1/events", json={"events": [like(1), like(2), like(2)]}).json()
    assert (again["accepted"], again["duplicates"]) == (1, 2)
    assert len(engine.view.people.deeds("uu0")) == 2


@pytest.mark.parametrize(
    ("wrong", "pointer", "says"),
    [
        ({"event_id": "e", "event": "lke", "item_id": "i1", "user_id": "u0"}, "/event", 'Did you mean "like"'),
        (like(1, user_id=None), "/user_id", "one of"),
        (like(1, session_id="s"), "/user_id", "one of"),
        (like(1, weight=-1), "/weight", "greater"),
        (like(1, weight=float("nan")), "/weight", "finite"),
        (like(1, time=-5), "/time", "greater"),
        (like(1, item_id=1.5), "/item_id", "valid"),
        (like(1, item_id="a\x00b"), "/item_id", "control"),
        (like(1, context={"a": float("nan")}), "/context", "NaN"),
        (like(1, other=1), "/other", "not permitted"),
        ({"event_id": "slate", "event": "slate", "item_id": "i1", "user_id": "u0"}, "/event", "Known"),
    ],
)
def test_what_is_wrong_is_told(reader: TestClient, wrong: dict[str, Any], pointer: str, says: str) -> None:
    answer = _post(reader, "/v1/events:validate", {"events": [like("a"), wrong, like("b")]}).json()
    assert (answer["accepted"], answer["offset"]) == (2, None)
    assert [(one["index"], one["pointer"]) for one in answer["rejected"]] == [(1, pointer)]
    assert says in answer["rejected"][0]["detail"]


def test_what_is_right_is_kept_beside_what_is_wrong(client: TestClient, engine: Engine) -> None:
    answer = client.post("/v1/events", json={"events": [like("a"), like("b", weight=-1), like("c")]}).json()
    assert (answer["accepted"], len(answer["rejected"])) == (2, 1)
    assert [one.item_id for one in engine.view.people.deeds("uu0")] == ["i1", "i1"]
    assert engine.log.find("eb") is None


def _post(client: TestClient, path: str, body: Any) -> Any:
    """Send a body with what Python's JSON allows beyond JSON."""
    return client.post(path, content=json.dumps(body), headers={"content-type": "application/json"})


@pytest.mark.parametrize("text", ['{"a": "\\ud800"}', '{"\\ud800": 1}'])
def test_half_a_character_is_rejected_and_not_a_failure_of_ours(client: TestClient, text: str) -> None:
    row = '{"event_id": "e1", "event": "like", "item_id": "i1", "user_id": "u0", "context": ' + text + "}"
    headers = {"content-type": "application/json"}
    answer = client.post("/v1/events", content='{"events": [' + row + "]}", headers=headers)
    assert answer.status_code == 200
    assert len(answer.json()["rejected"]) == 1
    assert client.post("/v1/events", content=text, headers=headers).status_code == 422
    assert client.post("/v1/recommendations", content=text, headers=headers).status_code == 422


def test_an_event_of_the_future_is_of_now_and_what_was_said_is_kept(client: TestClient) -> None:
    client.post("/v1/events", json={"events": [like(1, time=NOW + 301), like(2, time=NOW + 300), like(3, time=5)]})
    rows = client.get("/v1/events", params={"user_id": "u0"}).json()["events"]
    assert [one["time"] for one in rows] == [NOW, NOW + 300, 5]
    assert rows[0]["context"] == f'{{"sent_time": {NOW + 301}}}'


def test_events_are_paged_and_filtered(client: TestClient) -> None:
    client.post("/v1/events", json={"events": [like(n, f"i{n % 2}", user_id=f"u{n % 3}") for n in range(12)]})
    first = client.get("/v1/events", params={"limit": 7}).json()
    rest = client.get("/v1/events", params={"limit": 7, "start": first["next"]}).json()
    assert [one["event_id"] for one in first["events"] + rest["events"]] == [f"e{n}" for n in range(12)]
    assert rest["next"] is None
    both = client.get("/v1/events", params={"user_id": "u1", "item_id": "i1", "event": "like"}).json()["events"]
    assert [one["event_id"] for one in both] == ["e1", "e7"]


def test_queued_events_do_not_wait_for_the_disk(client: TestClient, engine: Engine) -> None:
    answer = client.post("/v1/events", json={"events": [like(1)], "ack": "queued"})
    assert (answer.status_code, answer.json()["offset"]) == (202, None)
    engine.take([]).result()
    assert engine.log.find("e1") is not None


def test_taking_back_is_repeatable(client: TestClient) -> None:
    client.post("/v1/events", json={"events": [like(1)]})
    assert [client.delete("/v1/events/e1").status_code for _ in range(2)] == [204, 204]
    assert client.get("/v1/events").json()["events"] == []


def test_a_merge_names_both_however_long_their_ids_are(client: TestClient, engine: Engine) -> None:
    user = "u" * 256
    for number in (1, 2):
        session = f"{'s' * 250}{number}"
        client.post("/v1/events", json={"events": [like(number, user_id=None, session_id=session)]})
        assert client.post(f"/v1/users/{user}:merge", json={"session_id": session}).json()["accepted"] == 1
    assert len(engine.view.people.deeds(f"u{user}")) == 2


def test_all_that_is_kept_on_a_person_is_told(client: TestClient) -> None:
    client.put("/v1/users/u0", json={"properties": {"city": "Oslo"}})
    client.post("/v1/events", json={"events": [like(1, user_id=None, session_id="s"), like(2), like(3, user_id="u1")]})
    client.post("/v1/users/u0:merge", json={"session_id": "s"})
    shown = client.post("/v1/recommendations", json={"user_id": "u0"}).json()["request_id"]
    client.post("/v1/events", json={"events": [like(4)]})
    told = client.get("/v1/users/u0/data").json()
    assert told["document"] == {"city": "Oslo"}
    assert len(told["trained_on"]) == 26  # 6 likes and 20 looks
    assert set(told["trained_on"][0]) == {"item_id", "event", "weight", "time"}
    assert [one["event_id"] for one in told["events"]] == ["e1", "e2", "merge:u0:s", shown, "e4"]
    nobody = client.get("/v1/users/nobody/data").json()
    assert nobody == {"user_id": "nobody", "document": None, "trained_on": [], "events": []}


@pytest.mark.parametrize(
    ("error", "status", "code"),
    [(DiskFull, 507, "disk_full"), (Overloaded, 503, "overloaded"), (DatabaseBroken, 503, "storage_failed")],
)
def test_what_the_disk_refuses_can_be_sent_again(
    client: TestClient, engine: Engine, monkeypatch: pytest.MonkeyPatch, error: Any, status: int, code: str
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise error("the disk is not well.")

    with monkeypatch.context() as patch:
        patch.setattr(engine.log, "submit", refuse)
        answer = client.post("/v1/events", json={"events": [like(1)]})
    assert (answer.status_code, answer.json()["code"], answer.json()["retryable"]) == (status, code, True)
    assert client.post("/v1/events", json={"events": [like(1)]}).json()["accepted"] == 1


@pytest.mark.file
def test_a_disk_that_takes_too_long_is_told_of(
    client: TestClient, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert PATIENCE_S > 1
    monkeypatch.setattr("bowerbird.serving.events.PATIENCE_S", 0.01)
    go_on = threading.Event()
    engine.database.write(lambda connection: go_on.wait())
    answer = client.post("/v1/events", json={"events": [like(1)]})
    go_on.set()
    assert (answer.status_code, answer.json()["code"]) == (503, "slow_disk")
    engine.take([]).result()
    assert client.post("/v1/events", json={"events": [like(1)]}).json()["duplicates"] == 1


def test_an_event_whose_id_holds_a_slash_can_be_taken_back(client: TestClient) -> None:
    client.post("/v1/events", json={"events": [like(1) | {"event_id": "a/b"}]})
    assert client.delete("/v1/events/a%2Fb").status_code == 204
    assert client.get("/v1/events").json()["events"] == []


def test_an_event_has_an_id_as_everything_else_has(client: TestClient) -> None:
    told = client.post("/v1/events", json={"events": [like(1) | {"event_id": "a\nb"}]}).json()
    assert told["rejected"][0]["pointer"] == "/event_id"
    twice = [like(1) | {"event_id": name} for name in ("caf\u00e9", "cafe\u0301")]
    assert client.post("/v1/events", json={"events": twice}).json()["duplicates"] == 1
