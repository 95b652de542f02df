"""The schema over HTTP: event types that are declared count at once, after a restart, and for what learns from them."""

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fastapi.testclient import TestClient
from shop import KINDS, Clock, Start, client_of, event, ids, taste

import bowerbird as bb
from bowerbird.cli.versions import PUBLISHED, run_update
from bowerbird.core import DataError
from bowerbird.pipeline.scenario import Scenario
from bowerbird.recommender import RankingOptions, Recommender
from bowerbird.serving import Engine
from bowerbird.serving.bodies import MOST_KINDS
from bowerbird.store.deeds import read_deeds
from bowerbird.store.schema import read_declared

WISH = {"name": "wish", "weight": 2.0, "sign": "positive", "hides": False, "phrase": "wished for"}
BLOCK = {"name": "block", "weight": 1.0, "sign": "negative", "hides": True, "phrase": "blocked"}


def put(client: TestClient, *events: dict[str, Any], **headers: str) -> Any:
    return client.put("/v1/schema", json={"events": list(events)}, headers=headers)


def send(client: TestClient, name: str, item_id: str, number: int = 1, **who: Any) -> dict[str, Any]:
    who = who or {"user_id": "u1"}
    row = {"event_id": f"{name}{number}", "event": name, "item_id": item_id} | who
    answer: dict[str, Any] = client.post("/v1/events", json={"events": [row]}).json()
    return answer


def slate(client: TestClient, **question: Any) -> dict[str, Any]:
    body: dict[str, Any] = client.post("/v1/recommendations", json={"k": 20} | question).json()
    return body


def test_what_is_known_is_told_and_what_is_declared_stands_beside_it(client: TestClient) -> None:
    before = client.get("/v1/schema")
    assert [one["name"] for one in before.json()["events"]] == ["like", "look", "dislike"]
    assert (before.json()["declared"], before.headers["etag"]) == ([], '"0"')
    assert before.json()["items"]["price"] == "Float64"
    assert before.json()["users"] == {}
    look = {"name": "look", "weight": 0.25, "sign": "neutral", "hides": True, "phrase": "looked at"}
    answer = put(client, WISH, look)
    assert (answer.status_code, answer.headers["etag"]) == (200, '"1"')
    after = client.get("/v1/schema")
    assert after.json() == answer.json()
    assert [one["name"] for one in after.json()["events"]] == ["like", "look", "dislike", "wish"]
    assert after.json()["events"][1] == look
    assert after.json()["events"][3] == WISH
    assert after.json()["declared"] == ["wish", "look"]
    assert put(client).json() == before.json()  # what is left out is as the model has it


def test_a_change_upon_an_old_state_is_refused(client: TestClient) -> None:
    assert put(client, WISH, **{"If-Match": '"0"'}).status_code == 200
    stale = put(client, BLOCK, **{"If-Match": '"0"'})
    assert (stale.status_code, stale.json()["code"]) == (412, "stale")
    assert client.get("/v1/schema").json()["declared"] == ["wish"]
    assert put(client, BLOCK, **{"If-Match": "*"}).headers["etag"] == '"2"'


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"name": ""}, "at least 1"),
        ({"name": "a\x00b"}, "control"),
        ({"name": "wish", "sign": "good"}, "'positive'"),
        ({"name": "wish", "weight": -1}, "greater"),
        ({"name": "wish", "weight": 1e7}, "less"),
        ({"name": "wish", "colour": "red"}, "not permitted"),
        ({"name": "slate"}, "events of its own"),
        ({"name": "merge"}, "events of its own"),
    ],
)
def test_what_is_no_event_type_is_refused(reader: TestClient, wrong: dict[str, Any], says: str) -> None:
    answer = put(reader, wrong)
    assert answer.status_code == 422
    assert says in answer.json()["detail"]


def test_types_that_cannot_be_told_apart_are_refused(client: TestClient) -> None:
    assert "wish is declared twice" in put(client, WISH, WISH).json()["detail"]
    many = [{"name": f"n{number}"} for number in range(MOST_KINDS)]
    answer = put(client, *many)
    assert (answer.status_code, answer.json()["code"]) == (422, "invalid_request")
    assert "258 event types; 255 are the most" in answer.json()["detail"]
    assert client.get("/v1/schema").headers["etag"] == '"0"'
    assert put(client, *many[:-3]).status_code == 200
    assert send(client, "n251", "i1")["accepted"] == 1
    assert "i1" not in ids(slate(client, user_id="u1"))


def test_an_event_of_a_type_counts_from_its_declaration_on(client: TestClient) -> None:
    assert send(client, "wish", "i2")["rejected"][0]["code"] == "unknown_event"
    put(client, WISH, BLOCK)
    assert send(client, "wish", "i2", user_id="new")["accepted"] == 1
    lived = slate(client, user_id="new", explain=True)
    assert (lived["rung"], "i2" in ids(lived)) == ("model", True)  # it speaks, and hides nothing
    assert int(ids(lived)[0][1:]) % 2 == 0
    assert any(one["reasons"][0]["text"] == "because you wished for Thing 2" for one in lived["items"])
    send(client, "block", "i4", user_id="new")
    assert "i4" not in ids(slate(client, user_id="new"))
    assert "i2" not in ids(slate(client, user_id="new", where='not seen("wish")'))
    put(client, WISH | {"hides": True}, BLOCK)
    assert {"i2", "i4"}.isdisjoint(ids(slate(client, user_id="new")))
    put(client, WISH | {"sign": "neutral"}, BLOCK)
    assert slate(client, user_id="new")["rung"] == "popularity"  # a neutral event says nothing
    put(client)
    assert {"i2", "i4"} <= set(ids(slate(client, user_id="new")))  # nobody knows these types any more


def test_types_of_the_model_can_mean_something_else_for_the_past_too(client: TestClient) -> None:
    assert len(ids(slate(client, user_id="u0"))) == 14  # 6 likes hide their items, 20 looks none
    put(client, {"name": "look", "hides": True})
    assert ids(slate(client, user_id="u0")) == []
    put(client, {"name": "like", "hides": False}, {"name": "look", "hides": False})
    assert len(ids(slate(client, user_id="u0"))) == 20


def test_boards_are_counted_again(client: TestClient, engine: Engine) -> None:
    def popular() -> list[tuple[str, float]]:
        engine.tend()
        body = client.get("/v1/lists/popular", params={"k": 20}).json()
        return [(one["item_id"], one["score"]) for one in body["items"]]

    before = popular()
    put(client, WISH)
    for number in range(30):
        send(client, "wish", "i19", number, user_id=f"new{number}")
    assert popular()[0] == ("i19", dict(before)["i19"] + 60)
    put(client, WISH | {"weight": 0.1})
    assert dict(popular())["i19"] == pytest.approx(dict(before)["i19"] + 3)
    put(client, WISH | {"sign": "negative"})
    assert popular() == before
    put(client, {"name": "like", "weight": 3.0})
    assert dict(popular())["i19"] == pytest.approx(3 * (dict(before)["i19"] - 0.5) + 0.5)  # and one look
    put(client)
    assert popular() == before


@pytest.mark.parametrize("kind", ["neighbours", "factors", "sequence"])
def test_it_is_all_as_before_after_a_restart(
    kind: str, start: Start, clock: Clock, request: pytest.FixtureRequest
) -> None:
    def told(client: TestClient) -> list[Any]:
        bodies = [slate(client, user_id=user, explain=True)["items"] for user in ("u1", "u2", "new")]
        return [*bodies, client.get("/v1/lists/popular").json()["items"], client.get("/v1/schema").json()]

    rec = request.getfixturevalue(kind)
    engine = start(rec)
    with client_of(engine) as client:
        put(client, WISH, BLOCK, {"name": "look", "weight": 3.0})
        for number in range(6):
            send(client, "wish", f"i{2 * number}", number, user_id="new")
        send(client, "block", "i8", user_id="u2")
        engine.tend()
        before = told(client)
    with client_of(start(rec)) as client:
        assert told(client) == before


def test_a_ranker_orders_by_histories_with_types_that_are_newer_than_it(start: Start) -> None:
    options = RankingOptions(retriever="itemknn", candidates=20)
    rec = bb.fit(taste(), "fm", ranking=options, dim=4, epochs=2)
    assert rec.stage is not None
    assert rec.stage.table.counts is not None
    assert rec.stage.table.counts.tolist() == [True, True, False]
    engine = start(rec)
    with client_of(engine) as client:
        put(client, WISH, BLOCK)
        known = engine.view.recommender.stage
        assert known is not None
        assert known.table.counts is not None
        assert known.table.counts.tolist() == [True, True, False, True, False]
        send(client, "wish", "i2", user_id="new")
        send(client, "block", "i4", user_id="new")
        body = slate(client, user_id="new")
    assert (body["rung"], body["fallback"], "i4" in ids(body)) == ("model", [], False)
    assert rec.stage.table.counts.tolist() == [True, True, False]  # the one that was handed in stays as it was


@pytest.mark.parametrize("kind", ["neighbours", "factors"])
def test_an_update_learns_declared_types(
    kind: str, start: Start, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    run, data = tmp_path / "run", tmp_path / "data"
    request.getfixturevalue(kind).save(run)
    engine = start()
    with client_of(engine) as client:
        put(client, WISH, BLOCK, {"name": "look", "sign": "neutral"})
        for number in range(60):
            send(client, "wish", f"i{(number % 7) + 2}", number, user_id=f"new{number % 12}")
        send(client, "block", "i1", user_id="new0")
        with pytest.raises(DataError, match='of the type "block", which the model does not know'):
            run_update(run, read_log=partial(read_deeds, data))
        learnt = run_update(run, read_log=partial(read_deeds, data), read_types=partial(read_declared, data))
        assert learnt == PUBLISHED
        rec = bb.load(run, version="000002")
        assert [one.name for one in rec.past.events] == ["like", "look", "dislike", "wish", "block"]
        assert rec.past.events[1].sign == "neutral"
        assert "wish" in [rec.past.events[number].name for number in rec.past.event[-61:]]
        engine.swap("000002")
        assert client.get("/v1/schema").json()["declared"] == ["wish", "block", "look"]
        put(client)  # the model knows them by itself now
        told = client.get("/v1/schema").json()["events"]
        assert [one["name"] for one in told] == ["like", "look", "dislike", "wish", "block"]
        assert slate(client, user_id="new0")["rung"] == "model"
        engine.promote("000001")
        told = client.get("/v1/schema").json()["events"]
        assert [one["name"] for one in told] == ["like", "look", "dislike"]


def test_a_server_that_only_looks_on_finds_what_was_declared(engine: Engine) -> None:
    engine.schemas.put([WISH])  # as another process would
    assert [kind.name for kind in engine.view.kinds] == ["like", "look", "dislike"]
    engine.tend()
    assert [kind.name for kind in engine.view.kinds] == ["like", "look", "dislike", "wish"]
    view = engine.view
    engine.tend()
    assert engine.view is view


def test_scenarios_speak_of_declared_types(start: Start, neighbours: Recommender) -> None:
    scenarios = {
        "weighed": Scenario(name="weighed", event_weights={"wish": -1.0}),
        "hidden": Scenario(name="hidden", hides=("wish",)),
    }
    engine = start(neighbours, scenarios=scenarios)
    with client_of(engine) as client:
        put(client, WISH)
        send(client, "wish", "i2", user_id="new")
        assert slate(client, user_id="new")["rung"] == "model"
        assert slate(client, user_id="new", scenario="weighed")["rung"] == "popularity"
        assert "i2" in ids(slate(client, user_id="new"))
        assert "i2" not in ids(slate(client, user_id="new", scenario="hidden"))


def test_events_that_come_while_types_change_are_all_counted(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    engine.take([event(1, "i19", user_id="a")]).result()
    replace = engine._replace

    def late(view: Any, before: Any) -> None:
        engine.take([event(2, "i19", user_id="b")]).result()
        replace(view, before)

    chosen = engine.view.tally.chosen.copy()
    monkeypatch.setattr(engine, "_replace", late)
    engine.declare([WISH], None)
    chosen[engine.view.row("i19")] += 1
    np.testing.assert_allclose(engine.view.tally.chosen, chosen)
    assert len(engine.view.people.deeds("ub")) == 1
    assert [kind.name for kind in engine.view.kinds] == [*(kind.name for kind in KINDS), "wish"]
