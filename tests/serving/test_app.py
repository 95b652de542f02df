"""The HTTP API, asked as a client would ask it."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from fastapi.routing import APIRoute
from fastapi.testclient import TestClient

import bowerbird as bb
from bowerbird.core import ScoreError
from bowerbird.data import Interactions
from bowerbird.recommender import Recommender
from bowerbird.serving import Engine, catalogue, control, create_app, events, insight, recommendations
from bowerbird.serving.gate import LONGEST_BODY

BASE = "http://127.0.0.1:8321"


def _shop() -> Interactions:
    """Twelve people who like the even items of ten, or the odd ones."""
    rng = np.random.default_rng(0)
    rows = [(f"u{u}", f"i{i}") for u in range(12) for i in rng.permutation(np.arange(u % 2, 10, 2))[:3]]
    titles = pl.DataFrame({"item_id": [f"i{i}" for i in range(10)], "title": [f"Thing {i}" for i in range(10)]})
    frame = pl.DataFrame(rows, schema=["user_id", "item_id"], orient="row")
    return bb.read(frame, items=titles)


@pytest.fixture(scope="module")
def shop() -> Recommender:
    return bb.fit(_shop(), "itemknn", shrink=0.0)


@pytest.fixture(scope="module")
def client(shop: Recommender) -> Iterator[TestClient]:
    with TestClient(create_app(shop), base_url=BASE, raise_server_exceptions=False) as client:
        yield client


def test_a_known_user_gets_what_the_library_gives(client: TestClient, shop: Recommender) -> None:
    body = client.post("/v1/recommendations", json={"user_id": "u0", "k": 2, "explain": True}).json()
    frame = shop.recommend(["u0"], k=2).to_polars()
    assert [item["item_id"] for item in body["items"]] == frame["item_id"].to_list()
    assert body["rung"] == "model"
    assert body["fallback"] == []
    assert body["items"][0]["reasons"][0]["text"].startswith("because you chose Thing ")
    assert [item["position"] for item in body["items"]] == [1, 2]


def test_a_stranger_is_served_and_unknown_items_are_counted(client: TestClient) -> None:
    body = client.post("/v1/recommendations", json={"history": ["i0", "i2", "nowhere"], "k": 2}).json()
    assert body["rung"] == "model"
    assert body["unknown_items"] == 1
    assert {item["item_id"] for item in body["items"]} <= {"i4", "i6", "i8"}


@pytest.mark.parametrize("asked", [{}, {"user_id": "who"}, {"history": []}])
def test_who_is_not_known_gets_what_is_popular(client: TestClient, asked: dict[str, object]) -> None:
    body = client.post("/v1/recommendations", json={"k": 3} | asked).json()
    assert body["rung"] == "popularity"
    assert "cold" in body["fallback"]
    assert len(body["items"]) == 3


def test_a_query_string_may_ask_for_reasons(client: TestClient) -> None:
    asked = {"user_id": "u0", "k": 2}
    reasons = [
        [place["reasons"] for place in client.get("/v1/recommendations", params=asked | more).json()["items"]]
        for more in ({"explain": True}, {})
    ]
    assert all(reasons[0])
    assert not any(reasons[1])


def test_similar_items_come_from_the_same_half(client: TestClient) -> None:
    body = client.get("/v1/items/i0/similar", params={"k": 3}).json()
    assert {item["item_id"] for item in body["items"]} <= {"i2", "i4", "i6", "i8"}


@pytest.mark.parametrize(
    ("asked", "pointer", "says"),
    [
        ({"k": 0}, "/k", "greater than or equal to 1"),
        ({"k": 10**9}, "/k", "less than or equal to 1000"),
        ({"user_id": "u0", "history": ["i1"]}, "/", "Send one of them"),
        ({"usr_id": "u0"}, "/usr_id", "not permitted"),
        ({"user_id": ""}, "/user_id", "at least 1 character"),
        ({"user_id": 1.5}, "/user_id", "valid"),
        ({"history": ["i1", None]}, "/history/1", "valid"),
    ],
)
def test_a_wrong_request_is_told_where_and_why(
    client: TestClient, asked: dict[str, object], pointer: str, says: str
) -> None:
    response = client.post("/v1/recommendations", json=asked)
    body = response.json()
    assert response.status_code == 422
    assert body["code"] == "invalid_request"
    assert pointer in [one["pointer"] for one in body["errors"]]
    assert any(says in one["detail"] for one in body["errors"])


def test_every_refusal_has_the_one_shape(client: TestClient) -> None:
    keys = {"type", "title", "status", "detail", "instance", "code", "request_id", "retryable", "errors"}
    answers = {
        "broken": (client.post("/v1/recommendations", content="{", headers={"content-type": "application/json"}), 400),
        "nowhere": (client.get("/v2/anything"), 404),
        "method": (client.get("/v1/rankings"), 405),
        "host": (client.get("/healthz", headers={"host": "evil.example"}), 403),
        "size": (client.post("/v1/recommendations", content=b" " * (LONGEST_BODY + 1)), 413),
        "item": (client.get("/v1/items/none/similar"), 404),
    }
    for name, (response, status) in answers.items():
        assert response.status_code == status, name
        assert set(response.json()) == keys, name
        assert response.headers["content-type"] == "application/problem+json", name
        assert response.headers["x-request-id"] == response.json()["request_id"], name
    assert answers["method"][0].headers["allow"] == "POST"


def test_an_item_id_may_hold_a_slash() -> None:
    frame = pl.DataFrame({"user_id": ["a", "a", "b", "b"], "item_id": ["x/y", "z", "x/y", "z"]})
    app = create_app(bb.fit(bb.read(frame), "itemknn"))
    body = TestClient(app, base_url=BASE).get("/v1/items/x%2Fy/similar").json()
    assert [item["item_id"] for item in body["items"]] == ["z"]


def test_a_failure_of_ours_is_a_500_without_a_trace(shop: Recommender, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise ZeroDivisionError("secret detail")

    client = TestClient(create_app(shop), base_url=BASE, raise_server_exceptions=False)
    monkeypatch.setattr(Engine, "answered", fail)
    response = client.post("/v1/recommendations", json={})
    assert response.status_code == 500
    assert "secret" not in response.text
    assert response.json()["retryable"] is True
    assert response.headers["connection"] == "close"  # as servers do after it


def test_a_model_that_fails_is_stood_in_for(shop: Recommender, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise ScoreError("the score of item row 3 is not a number.")

    client = TestClient(create_app(shop), base_url=BASE, raise_server_exceptions=False)
    monkeypatch.setattr(shop.model, "scores", fail)
    body = client.post("/v1/recommendations", json={"user_id": "u0", "k": 3}).json()
    assert body["fallback"][0] == "model_failed"
    assert len(body["items"]) == 3


def test_health_readiness_and_version_are_told(shop: Recommender, tmp_path: Path) -> None:
    shop.save(tmp_path / "run")
    client = TestClient(create_app(bb.load(tmp_path / "run")), base_url=BASE)
    assert client.get("/healthz").json() == {"status": "ok"}
    assert client.get("/readyz").json() == {"status": "ready", "model": "itemknn", "model_version": "000001"}


def test_the_documentation_page_asks_no_other_host(client: TestClient) -> None:
    page = client.get("/docs")
    assert page.status_code == 200
    assert "https://" not in page.text.replace("https://fastapi.tiangolo.com", "")
    script = next(part for part in page.text.split('"') if part.endswith("swagger-ui-bundle.js"))
    assert client.get(script).status_code == 200


def test_every_route_says_which_scope_it_needs(client: TestClient) -> None:
    told = {(path, method) for path, one in client.get("/openapi.json").json()["paths"].items() for method in one}
    found: set[tuple[str, str]] = set()
    own = [route for route in client.app.routes if isinstance(route, APIRoute)]  # type: ignore[attr-defined]
    parts = [route for part in (recommendations, events, catalogue, control, insight) for route in part.router.routes]
    for route in (*own, *parts):
        if not route.include_in_schema:  # the pages of the documentation, which lie beside it
            continue
        scopes = [getattr(one.call, "scope", None) for one in route.dependant.dependencies]
        assert [one for one in scopes if one is not None], route.path
        found |= {(route.path.replace(":path", ""), method.lower()) for method in route.methods}
    assert found == told


@pytest.mark.parametrize(
    "asked",
    [
        {"exclude_items": [None] * 100_000}, {f"k{n}": 1 for n in range(100_000)}, {"k" * 1_000_000: 1},
        {"fields": [{}] * 1_000_000}, {"where": "x" * 1_000_000}, {"scenario": "x" * 1_000_000},
    ],
    ids=["ids", "keys", "key", "fields", "where", "scenario"],
)  # fmt: skip
def test_what_is_wrong_a_million_times_is_told_shortly(client: TestClient, asked: dict[str, object]) -> None:
    answer = client.post("/v1/recommendations", json=asked)
    assert answer.status_code == 422
    assert len(answer.content) < 10_000


@pytest.mark.parametrize(("path", "key"), [("/v1/events:validate", "events"), ("/v1/items:batch", "rows")])
def test_a_row_with_a_thousand_wrong_keys_is_told_shortly(client: TestClient, path: str, key: str) -> None:
    told = client.post(path, json={key: [{f"k{n}" * 1000: 1 for n in range(1000)}]}).json()["rejected"]
    assert told[0]["detail"] == f"it has 1,000 keys; there are {10 if key == 'events' else 4}"


def test_half_a_character_among_scopes_is_a_mistake_of_who_asks(client: TestClient) -> None:
    half = '{"name": "x", "scopes": ["\\ud800"]}'
    answer = client.post("/v1/keys", content=half, headers={"content-type": "application/json"})
    assert (answer.status_code, answer.json()["errors"][0]["pointer"]) == (422, "/scopes/0")


@pytest.mark.parametrize("path", ["/v1/recommendations", "/v1/events", "/v1/items:batch"])
def test_a_body_of_too_many_values_is_not_parsed(client: TestClient, path: str) -> None:
    json = {"content-type": "application/json"}
    answer = client.post(path, content=b'{"rows":[' + b"[]," * 1_000_000 + b"[]]}", headers=json)
    assert (answer.status_code, answer.json()["code"]) == (413, "too_many_values")
    fewer = client.post(path, content=b'{"rows":[' + b"0," * 999_999 + b"0]}", headers=json)
    assert fewer.status_code == 422


def test_why_with_explain_tells_causes_and_what_the_place_hangs_on(client: TestClient, shop: Recommender) -> None:
    [first] = shop.recommend(["u0"], k=1).ids[0]
    body = client.post(
        "/v1/recommendations:why", json={"user_id": "u0", "item_id": first, "k": 1, "explain": True}
    ).json()
    assert body["shown"]
    told = shop.why(first, user="u0", k=1)
    assert body["reasons"][0]["causes"] == told.reasons[0].to_dict()["causes"][:3]
    assert body["without"] == (None if told.without is None else [{"id": c.id, "label": c.label} for c in told.without])
    plain = client.post("/v1/recommendations:why", json={"user_id": "u0", "item_id": first}).json()
    assert (plain["reasons"], plain["without"]) == ([], None)
