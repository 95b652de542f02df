"""Experiments on a live server: arms that stick, results as they are, a guardrail that ends one, and who may ask."""

import logging
import time
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient
from shop import BASE, NOW, Clock, Start, client_of, event, ids

from bowerbird.core import RealWorld
from bowerbird.evaluation.experiments import arm_of
from bowerbird.pipeline.scenario import Scenario
from bowerbird.recommender import Recommender
from bowerbird.serving import Engine, create_app
from bowerbird.serving.experiments import GUARD_S
from bowerbird.serving.workers import Workers
from bowerbird.store.log import SLATE, LogEvent

PATIENCE_S = 60.0
CHEAP = {"name": "cheap", "share": 0.5, "changes": {"where": "item.price < 5", "k": 3}}
PLAN: dict[str, Any] = {
    "name": "cheaper",
    "arms": [{"name": "control", "share": 0.5}, CHEAP],
    "metrics": [{"event": "like"}, {"event": "like", "once": True}],
    "guardrails": [{"event": "look", "worst_loss": 0.1}],
}


def make(client: TestClient, **more: Any) -> None:
    plan = PLAN | more
    assert client.post("/v1/experiments", json=plan).status_code == 201
    answer = client.post(f"/v1/experiments/{plan['name']}:start")
    assert (answer.status_code, answer.json()["state"]) == (200, "running")


def slate(client: TestClient, **question: Any) -> dict[str, Any]:
    answer = client.post("/v1/recommendations", json=question)
    assert answer.status_code == 200, answer.text
    body: dict[str, Any] = answer.json()
    return body


def arm(client: TestClient, **question: Any) -> str | None:
    told = slate(client, **question)["experiment"]
    return told and told["arm"]


def test_an_arm_sticks_and_does_what_it_changes(client: TestClient, engine: Engine) -> None:
    assert slate(client, user_id="u1")["experiment"] is None
    make(client)
    [running] = engine.laboratory.store.running()
    found = {}
    for number in range(40):
        body = slate(client, user_id=f"new{number}")
        assert body["experiment"]["name"] == "cheaper"
        found[f"new{number}"] = body["experiment"]["arm"]
        assert body["experiment"]["arm"] == ["control", "cheap"][arm_of(running.salt, f"unew{number}", [0.5, 0.5])]
        cheap = body["experiment"]["arm"] == "cheap"
        assert len(ids(body)) == (3 if cheap else 10)
        assert cheap == all(int(one[1:]) < 5 for one in ids(body))
        assert body["scenario"] == "default"
        logged = client.get(f"/v1/recommendations/{body['request_id']}").json()
        assert logged["experiment"] == body["experiment"]
    assert set(found.values()) == {"control", "cheap"}
    assert {user: arm(client, user_id=user) for user in found} == found
    cheap = next(user for user, one in found.items() if one == "cheap")
    first = slate(client, user_id=cheap, k=2)
    again = client.post(f"/v1/recommendations/{first['request_id']}:next").json()
    assert (again["experiment"], set(ids(first)) & set(ids(again))) == (first["experiment"], set())
    why = client.post("/v1/recommendations:why", json={"user_id": cheap, "item_id": "i9"}).json()
    assert why["stages"][-1] == {"stage": "filter", "kept": False, "detail": "scenario"}
    assert client.post("/v1/experiments/cheaper:stop").json()["reason"] == "it was asked to"
    assert slate(client, user_id=cheap)["experiment"] is None
    assert len(ids(slate(client, user_id=cheap))) == 10


def test_who_is_a_unit(client: TestClient) -> None:
    make(client)
    assert arm(client) is None
    assert arm(client, history=["i1"]) is None
    assert arm(client, scenario="goods", user_id="u1") is None  # another scenario
    assert arm(client, user_id=7) == arm(client, user_id="7") is not None
    sessions = {f"s{n}": arm(client, session_id=f"s{n}") for n in range(24)}
    assert set(sessions.values()) == {"control", "cheap"}
    other = next(n for n, one in sessions.items() if one != arm(client, user_id="u1"))
    client.post("/v1/users/u1:merge", json={"session_id": other})
    assert arm(client, session_id=other) == arm(client, user_id="u1")
    told = client.get("/v1/experiments/cheaper/results").json()
    assert (told["units"], told["mixed"]) == (25, 1)  # 7, u1 and 23 sessions; one of them was u1 all along


def test_results_are_what_people_did(client: TestClient) -> None:
    make(client)
    people = {f"new{n}": arm(client, user_id=f"new{n}") for n in range(30)}
    rows = [{"event_id": f"{user}{n}", "event": "like", "item_id": "i1", "user_id": user}
            for user, one in people.items() if one == "cheap" for n in range(2)]  # fmt: skip
    assert client.post("/v1/events", json={"events": rows}).json()["accepted"] == len(rows)
    told = client.get("/v1/experiments/cheaper/results").json()
    control, cheap = told["arms"]
    assert (control["units"], cheap["units"]) == tuple(
        list(people.values()).count(name) for name in ("control", "cheap")
    )
    assert control["metrics"] == [
        {"event": "like", "once": False, "mean": 0},
        {"event": "like", "once": True, "mean": 0},
    ]
    assert [one["mean"] for one in cheap["metrics"]] == [2.0, 1.0]
    assert cheap["metrics"][0] | {"mean": 0} == {
        "event": "like", "once": False, "mean": 0, "difference": 2.0, "low": None, "high": None, "relative": None,
        "verdict": "undecided",
    }  # fmt: skip
    assert told["verdict"].startswith("undecided")
    assert [one["verdict"] for one in told["guardrails"]] == ["kept"]


def lived(engine: Engine, likes: dict[str, int], looks: dict[str, int], n: dict[str, int]) -> None:
    """Note slates of many users in each arm; the first so many of them like, or look at, something."""
    shown, deeds = [], []
    for name, count in n.items():
        for number in range(count):
            who = {"user_id": f"{name}{number}", "time": NOW}
            context = f'{{"items": ["i1"], "experiment": {{"name": "cheaper", "arm": "{name}"}}}}'
            shown.append(LogEvent(event_id=f"{name}{number}", event=SLATE, context=context, **who))
            for kind, most in (("like", likes[name]), ("look", looks[name])):
                if number < most:
                    deeds.append(event(f"{name}{number}{kind}", "i1", **{"event": kind} | who))
    for some in (shown, deeds):
        engine.take(some).result()


def test_a_guardrail_ends_an_experiment(engine: Engine, clock: Clock, caplog: pytest.LogCaptureFixture) -> None:
    with client_of(engine) as client:
        make(client)
        engine.tend()
        lived(engine, {"control": 100, "cheap": 300}, {"control": 600, "cheap": 300}, {"control": 1500, "cheap": 1500})
        told = client.get("/v1/experiments/cheaper/results").json()
        assert [one["verdict"] for one in told["arms"][1]["metrics"]] == ["more", "more"]
        assert told["guardrails"][0]["verdict"] == "broken"
        assert told["sample_ratio"]["verdict"] == "right"
        assert "cheap has more like" in told["verdict"]
        assert told["arms"][1]["metrics"][1]["relative"] == pytest.approx(2.0)
        engine.tend()  # a moment after the last look
        assert arm(client, user_id="u1") is not None
        clock.ticks += GUARD_S
        with caplog.at_level(logging.WARNING):
            engine.tend()
        assert "is stopped: look of cheap is 0." in caplog.text
        stopped = client.get("/v1/experiments/cheaper").json()
        assert (stopped["state"], stopped["stopped"]) == ("stopped", NOW)
        assert stopped["reason"].startswith("a guardrail was broken: look of cheap is 0.")
        assert arm(client, user_id="u1") is None


def test_an_experiment_that_keeps_to_its_guardrails_goes_on(engine: Engine, clock: Clock) -> None:
    with client_of(engine) as client:
        rise = [{"event": "look", "worst_rise": 0.1}, {"event": "look", "worst_loss": 0.6}]
        make(client, guardrails=rise)
        lived(engine, {"control": 0, "cheap": 0}, {"control": 600, "cheap": 300}, {"control": 1500, "cheap": 1500})
        clock.ticks += GUARD_S
        engine.tend()
        assert client.get("/v1/experiments/cheaper").json()["state"] == "running"
        lived(engine, {"control": 0, "cheap": 0}, {"control": 0, "cheap": 1500}, {"control": 0, "cheap": 1500})
        more = [event(f"again{n}", "i1", event="look", user_id=f"cheap{n}") for n in range(1500)]
        engine.take(more).result()
        clock.ticks += GUARD_S
        engine.tend()
        assert "a change of +10.0% is allowed" in client.get("/v1/experiments/cheaper").json()["reason"]


def test_a_split_that_lost_some_is_not_to_be_believed(engine: Engine) -> None:
    with client_of(engine) as client:
        make(client)
        lived(engine, {"control": 0, "cheap": 300}, {"control": 0, "cheap": 0}, {"control": 1500, "cheap": 1300})
        told = client.get("/v1/experiments/cheaper/results").json()
    assert told["sample_ratio"]["p"] < 0.001
    assert told["sample_ratio"]["verdict"] == "wrong"
    assert "believe none of this" in told["verdict"]


@pytest.mark.parametrize(
    ("more", "pointer", "says"),
    [
        ({"arms": [PLAN["arms"][0]]}, "/arms", "at least 2"),
        ({"arms": [PLAN["arms"][0], CHEAP | {"share": 0.4}]}, "/arms", "sum to 0.9"),
        ({"arms": [CHEAP, CHEAP]}, "/arms", "one name"),
        ({"arms": [PLAN["arms"][0], CHEAP | {"changes": {"diversity": 3.0}}]}, "/arms/1/changes/diversity", "0.3"),
        ({"arms": [PLAN["arms"][0], CHEAP | {"changes": {"diversty": 0.3}}]}, "/arms/1/changes/diversty", "diversity"),
        ({"arms": [PLAN["arms"][0], CHEAP | {"changes": {"caps": {"kind": 0}}}]}, "/arms/1/changes/caps", "1 or more"),
        ({"arms": [PLAN["arms"][0], CHEAP | {"changes": {"name": "x"}}]}, "/arms/1/changes/name", "stay as it is"),
        ({"scenario": "nowhere"}, "/scenario", "this server has"),
        ({"metrics": []}, "/metrics", "at least 1"),
        ({"metrics": [{"event": "lick"}]}, "/metrics/0/event", 'Did you mean "like"'),
        ({"metrics": [{"event": "like"}, {"event": "like"}]}, "/metrics", "named twice"),
        ({"guardrails": [{"event": "like"}]}, "/guardrails/0", "one of worst_loss and worst_rise"),
        ({"guardrails": [{"event": "x", "worst_loss": 0.1}]}, "/guardrails/0/event", "There are like, look, dislike"),
        ({"colour": "red"}, "/colour", "not permitted"),
    ],
)  # fmt: skip
def test_what_would_not_run_is_refused_where_it_is_wrong(
    reader: TestClient, more: dict[str, Any], pointer: str, says: str
) -> None:
    answer = reader.post("/v1/experiments", json=PLAN | more)
    assert answer.status_code == 422
    assert answer.json()["errors"][0]["pointer"] == pointer
    assert says in answer.json()["detail"]
    assert reader.get("/v1/experiments").json() == {"experiments": []}


def test_an_arm_whose_filter_no_item_can_answer_does_not_start(client: TestClient) -> None:
    arms = [PLAN["arms"][0], CHEAP | {"changes": {"where": "item.colour == 3"}}]
    assert client.post("/v1/experiments", json=PLAN | {"arms": arms}).status_code == 201
    answer = client.post("/v1/experiments/cheaper:start")
    assert (answer.status_code, "arm cheap" in answer.json()["detail"]) == (422, True)
    assert client.get("/v1/experiments/cheaper").json()["state"] == "draft"
    assert client.get("/v1/experiments/cheaper/results").json()["units"] == 0


def test_states_are_kept_apart(client: TestClient) -> None:
    assert client.get("/v1/experiments/cheaper").status_code == 404
    make(client)
    make(client)  # the same once more changes nothing
    client.post("/v1/experiments", json=PLAN | {"name": "second"})
    for method, path in (("POST", "/v1/experiments/second:start"), ("DELETE", "/v1/experiments/cheaper")):
        answer = client.request(method, path)
        assert (answer.status_code, answer.json()["code"]) == (409, "experiment_state")
    assert [one["name"] for one in client.get("/v1/experiments").json()["experiments"]] == ["cheaper", "second"]
    assert client.delete("/v1/experiments/second").status_code == 204
    client.post("/v1/experiments/cheaper:stop")
    assert client.delete("/v1/experiments/cheaper").status_code == 204
    assert client.get("/v1/experiments").json() == {"experiments": []}


def test_it_goes_on_after_a_restart_and_with_another_version(
    start: Start, neighbours: Recommender, tmp_path: Path
) -> None:
    with client_of(start(neighbours)) as client:
        make(client)
        before = {f"new{n}": arm(client, user_id=f"new{n}") for n in range(30)}
    neighbours.save(tmp_path / "run")
    engine = start(neighbours)
    with client_of(engine) as client:
        assert {user: arm(client, user_id=user) for user in before} == before
        assert len(set(before.values())) == 2
        engine.promote("000001")
        assert {user: arm(client, user_id=user) for user in before} == before
        client.put("/v1/items/i1", json={"properties": {"price": 1.0}})
        engine.tend()
        assert {user: arm(client, user_id=user) for user in before} == before


def test_an_experiment_that_cannot_go_on_leaves_the_plain_scenario(
    start: Start, neighbours: Recommender, caplog: pytest.LogCaptureFixture
) -> None:
    mine = {"evening": Scenario(name="evening", k=5)}
    with client_of(start(neighbours, scenarios=mine)) as client:
        make(client, scenario="evening")
    engine = start(neighbours, scenarios={"morning": Scenario(name="morning", k=5)})
    view = engine.view
    engine.tend()
    assert engine.view is view  # it does not try again and again
    assert 'experiment "cheaper" is left out: scenario is "evening"' in caplog.text
    with client_of(engine) as client:
        assert arm(client, user_id="u1", scenario="morning") is None


def test_an_arm_may_ask_for_content_that_no_scenario_does(start: Start, neighbours: Recommender) -> None:
    engine = start(neighbours, scenarios={"plain": Scenario(name="plain")})
    assert engine.view.words is None
    changes = {"sources": [{"name": "content", "n": 20}]}
    with client_of(engine) as client:
        make(client, arms=[PLAN["arms"][0], {"name": "words", "share": 0.5, "changes": changes}])
        assert engine.view.words is not None
        told = [slate(client, user_id=f"u{n}") for n in range(30)]
    sources = {one["experiment"]["arm"]: {s for item in one["items"] for s in item["sources"]} for one in told}
    assert "content" in sources["words"]
    assert "content" not in sources["control"]


def test_workers_give_the_same_arm_from_the_next_look_on(
    tmp_path: Path, neighbours: Recommender, monkeypatch: pytest.MonkeyPatch
) -> None:
    neighbours.save(tmp_path / "run")
    engine = Engine(tmp_path / "run", tmp_path / "data", world=RealWorld())
    workers = Workers(engine, 1)
    with TestClient(create_app(engine, workers=workers), base_url=BASE) as client:
        end = time.monotonic() + PATIENCE_S
        while not workers.ready:
            assert time.monotonic() < end
            time.sleep(0.02)
        users = [f"new{number}" for number in range(24)]

        def arms() -> list[Any]:
            with monkeypatch.context() as patch:
                patch.setattr(Engine, "answered", lambda *_, **__: pytest.fail("the server computed it itself"))
                told = [slate(client, user_id=user) for user in users]
            assert all(
                (len(one["items"]) == 3) == (one["experiment"] or {}).get("arm", "").startswith("cheap") for one in told
            )
            return [one["experiment"] for one in told]

        assert arms() == [None] * len(users)
        make(client)
        theirs = arms()
        assert theirs == [engine.answered({"user_id": user}, "r")[0]["experiment"] for user in users]
        assert len({one["arm"] for one in theirs}) == 2
        client.post("/v1/experiments/cheaper:stop")
        assert arms() == [None] * len(users)
        assert client.get("/v1/experiments/cheaper/results").json()["units"] == len(users)
