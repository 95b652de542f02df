"""The catalogue over HTTP: documents, conditions, batches, and what they do to answers."""

from datetime import datetime
from typing import Any
from urllib.parse import quote

import numpy as np
import polars as pl
import pytest
from fastapi.testclient import TestClient
from shop import NOW, Clock, Start, client_of, ids

import bowerbird as bb
from bowerbird.serving import Engine

ODD_IDS = ["x/y", "..", "a b", "ü", "🐦", "7", "similar", "x:merge"]


def whole(client: TestClient) -> list[Any]:
    return ids(client.post("/v1/recommendations", json={"user_id": "u2", "k": 100}).json())


@pytest.mark.parametrize("one", ODD_IDS)
@pytest.mark.parametrize("kind", ["items", "users"])
def test_a_document_is_put_read_changed_and_taken_away(client: TestClient, kind: str, one: str) -> None:
    path = f"/v1/{kind}/{quote(one, safe='')}".replace("..", "%2e%2e")
    assert client.put(path, json={"properties": {"a": 1, "b": 2}}).status_code == 201
    assert client.put(path, json={"properties": {"a": 1, "b": 3}}).status_code == 200
    assert client.patch(path, json={"properties": {"b": None, "c": [1]}}).status_code == 200
    got = client.get(path).json()
    assert got == {"id": one, "properties": {"a": 1, "c": [1]}, "available": True, "expires": None}
    assert [client.delete(path).status_code for _ in range(2)] == [204, 204]
    assert client.get(path).status_code == 404


@pytest.mark.parametrize("one", ["%00", "a%01b", "x" * 257, "ü" * 129])
def test_ids_that_are_none_are_refused(client: TestClient, one: str) -> None:
    for method in ("GET", "PUT", "PATCH", "DELETE"):
        body = {} if method in ("PUT", "PATCH") else None
        assert client.request(method, f"/v1/items/{one}", json=body).status_code == 422
    assert client.get(f"/v1/items/{one}/similar").status_code == 422


def test_an_id_in_two_spellings_is_one(client: TestClient) -> None:
    client.put("/v1/items/u%CC%88", json={"properties": {"a": 1}})  # u and two dots
    assert client.get("/v1/items/%C3%BC").json()["properties"] == {"a": 1}


def test_a_change_upon_an_old_state_is_refused(client: TestClient) -> None:
    old = client.put("/v1/items/x", json={}).headers["etag"]
    new = client.put("/v1/items/x", json={}, headers={"If-Match": old}).headers["etag"]
    stale = {"If-Match": old}
    answers = [
        client.put("/v1/items/x", json={}, headers=stale),
        client.patch("/v1/items/x", json={}, headers=stale),
        client.delete("/v1/items/x", headers=stale),
    ]
    assert [one.status_code for one in answers] == [412] * 3
    assert client.get("/v1/items/x").headers["etag"] == new
    assert client.delete("/v1/items/x", headers={"If-Match": new}).status_code == 204


def test_what_is_hidden_is_gone_with_the_next_request(client: TestClient, clock: Clock) -> None:
    first = whole(client)
    client.put(f"/v1/items/{first[0]}", json={"available": False})
    client.patch(f"/v1/items/{first[1]}", json={"available": False})
    client.delete(f"/v1/items/{first[2]}")
    client.put(f"/v1/items/{first[3]}", json={"expires": NOW})
    rows = [{"id": first[4], "available": False}, {"id": "new"}]
    client.post("/v1/items:batch", json={"rows": rows})
    assert set(whole(client)) == set(first[5:])
    for path in (f"/v1/items/{first[0]}", f"/v1/items/{first[1]}"):
        client.patch(path, json={"available": True})
    assert set(whole(client)) == {*first[:2], *first[5:]}


def test_what_only_the_model_knows_is_read_and_can_be_changed(client: TestClient, engine: Engine) -> None:
    known = client.get("/v1/items/i3")
    assert known.json()["properties"] == {"title": "Thing 3", "kind": "odd", "price": 3.0}
    assert "etag" not in known.headers  # there is no document yet
    assert client.patch("/v1/items/i3", json={"properties": {"price": 4}}).status_code == 200
    engine.tend()
    body = client.post("/v1/recommendations", json={"where": "item.price == 4", "k": 5, "fields": ["price", "kind"]})
    assert {one["item_id"]: one["properties"] for one in body.json()["items"]} == {
        "i3": {"price": 4.0, "kind": "odd"},
        "i4": {"price": 4.0, "kind": "even"},
    }


def test_a_batch_keeps_what_is_right_and_tells_the_rest(client: TestClient) -> None:
    rows = [{"id": "a"}, {"id": ""}, {"id": "b", "properties": {"x": 1}}, {"id": "c", "colour": "red"}, 7]
    answer = client.post("/v1/items:batch", json={"rows": [row for row in rows if row != 7]}).json()
    assert (answer["kept"], answer["created"]) == (2, 2)
    assert [(one["index"], one["pointer"]) for one in answer["rejected"]] == [(1, "/id"), (3, "/colour")]
    assert client.post("/v1/items:batch", json={"rows": rows}).status_code == 422
    whole = client.post("/v1/users:batch", json={"rows": [{"id": "a"}, {"id": ""}], "whole": True})
    assert whole.status_code == 422
    assert client.get("/v1/users/a").status_code == 404


def test_properties_that_are_no_json_are_told_by_their_place(client: TestClient) -> None:
    headers = {"content-type": "application/json"}
    wrong = '{"properties": {"a": "\\ud800"}}'
    answer = client.put("/v1/items/x", content=wrong, headers=headers)
    assert (answer.status_code, answer.json()["code"]) == (422, "invalid_document")
    row = '{"rows": [{"id": "a"}, {"id": "b", "properties": {"a": NaN}}], "whole": %s}'
    some = client.post("/v1/items:batch", content=row % "false", headers=headers).json()
    assert (some["kept"], [one["index"] for one in some["rejected"]]) == (1, [1])
    assert client.post("/v1/items:batch", content=row % "true", headers=headers).status_code == 422


def test_a_walk_through_the_catalogue_meets_everything_once(client: TestClient) -> None:
    names = sorted(f"x{n}" for n in range(25))
    client.post("/v1/users:batch", json={"rows": [{"id": one} for one in names]})
    met, after = [], None
    while True:
        page = client.get("/v1/users", params={"limit": 10} | ({} if after is None else {"after": after})).json()
        met += [one["id"] for one in page["users"]]
        after = page["next"]
        if after is None:
            break
    assert met == names


def test_moments_and_gaps_of_the_item_table_can_be_sent(start: Start) -> None:
    frame = pl.DataFrame({"user_id": ["a", "a", "b", "b"], "item_id": ["x", "y", "x", "z"]})
    items = pl.DataFrame(
        {"item_id": ["x", "y", "z"], "since": [datetime(2024, 1, 2), None, None], "price": [np.nan, 1.0, None]}
    )
    engine = start(bb.fit(bb.read(frame, items=items), "itemknn"))
    with client_of(engine) as client:
        assert client.get("/v1/items/x").json()["properties"] == {"since": "2024-01-02T00:00:00", "price": None}
        body = client.post("/v1/recommendations", json={"k": 3, "fields": ["since", "price"]})
        assert body.status_code == 200
        assert len(body.json()["items"]) == 3


def test_the_schema_names_what_filters_may_name(client: TestClient, engine: Engine) -> None:
    engine.catalogue.put("item", "new", {"colour": "red"})
    engine.tend()
    told = client.get("/v1/schema").json()
    assert [one["name"] for one in told["events"]] == ["like", "look", "dislike"]
    assert told["items"]["colour"] == "String"
    body = client.post("/v1/recommendations", json={"where": 'item.colour == "red"', "k": 5}).json()
    assert ids(body) == ["new"]


@pytest.mark.parametrize("one", ["x/similar", "/data", "x/data"])
def test_an_id_that_no_path_would_lead_to_is_refused(client: TestClient, one: str) -> None:
    assert client.put(f"/v1/items/{quote(one, safe='')}", json={}).status_code == 422
    told = client.post("/v1/users:batch", json={"rows": [{"id": one}]}).json()
    assert (told["kept"], told["rejected"][0]["pointer"]) == (0, "/id")


def test_of_very_many_properties_the_rarest_are_no_columns(
    client: TestClient, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bowerbird.serving.view.MOST_COLUMNS", 3)
    for number in range(5):
        engine.catalogue.put("item", f"new{number}", {"colour": "red", "size": number, f"odd{number}": 1})
    engine.tend()
    columns = client.get("/v1/schema").json()["items"]
    assert len(columns) == 4 + 3
    assert {"colour", "size"} < set(columns)
    assert client.get("/v1/items/new4").json()["properties"] == {"colour": "red", "size": 4, "odd4": 1}


def test_a_property_whose_name_no_column_can_have_is_kept_in_its_document(client: TestClient, engine: Engine) -> None:
    document = {"colour": "red", "a\0b": 1}
    assert client.put("/v1/items/new", json={"properties": document}).is_success
    engine.tend()
    assert "colour" in client.get("/v1/schema").json()["items"]
    assert client.get("/v1/items/new").json()["properties"] == document
    assert client.post("/v1/recommendations", json={"user_id": "u1", "k": 3}).is_success
