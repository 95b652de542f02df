"""Who may ask what: every route with every scope, wrong keys, and how fast."""

import logging
import re
from collections.abc import Iterator

import pytest
from fastapi.testclient import TestClient
from shop import BASE, Clock, Start, client_of

from bowerbird.recommender import Recommender
from bowerbird.serving import Engine, catalogue, control, create_app, events, insight, recommendations
from bowerbird.serving.access import OPEN, Bucket
from bowerbird.store.keys import SCOPES

PARTS = (recommendations, events, catalogue, control, insight)


def routes() -> Iterator[tuple[str, str, str]]:
    """Yield method, path and declared scope of every route."""
    for part in PARTS:
        for route in part.router.routes:
            scopes = [one.call.scope for one in route.dependant.dependencies if hasattr(one.call, "scope")]
            for method in route.methods:
                yield method, re.sub(r"\{[^}]*\}", "000009", route.path), scopes[-1]
    yield "GET", "/metrics", "models:read"
    for path in ("/healthz", "/readyz", "/version"):
        yield "GET", path, OPEN


@pytest.fixture
def keys(engine: Engine) -> dict[str, str]:
    """A secret for each scope."""
    return {scope: engine.keys.create(scope, [scope])[1] for scope in SCOPES}


def bearer(secret: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {secret}"}


def test_every_route_answers_to_its_scope_and_to_no_other(client: TestClient, keys: dict[str, str]) -> None:
    wrong = []
    for method, path, needed in routes():
        bare = client.request(method, path).status_code
        if (bare == 401) is (needed == OPEN):
            wrong.append((method, path, "no key", bare))
        for scope, secret in keys.items():
            if (method, path, scope) == ("DELETE", "/v1/keys/000009", "admin"):
                assert client.request(method, path, headers=bearer(secret)).status_code == 204
                continue
            status = client.request(method, path, headers=bearer(secret)).status_code
            if (status == 403) is (needed in (scope, OPEN) or scope == "admin"):
                wrong.append((method, path, scope, status))
    assert not wrong
    assert len(list(routes())) > 40


def test_a_refusal_says_what_is_missing_and_never_the_key(client: TestClient, keys: dict[str, str]) -> None:
    none = client.get("/v1/status")
    assert (none.status_code, none.json()["code"], none.headers["www-authenticate"]) == (401, "no_key", "Bearer")
    lacking = client.get("/v1/status", headers=bearer(keys["recommend"]))
    assert lacking.json()["code"] == "scope_missing"
    assert "models:read" in lacking.json()["detail"]
    basic = client.get("/v1/status", headers={"Authorization": f"Basic {keys['admin']}"})
    assert basic.status_code == 401
    assert all(keys["admin"] not in one.text for one in (none, lacking, basic))


def test_a_key_may_come_in_a_header_of_its_own(client: TestClient, keys: dict[str, str]) -> None:
    assert client.get("/v1/status", headers={"X-API-Key": keys["models:read"]}).status_code == 200


def test_wrong_keys_are_slowed_down_and_right_ones_are_not(
    client: TestClient, keys: dict[str, str], clock: Clock
) -> None:
    tried = [client.get("/v1/status", headers=bearer(f"bb_guess{n}")) for n in range(6)]
    assert [one.status_code for one in tried] == [401] * 5 + [429]
    assert int(tried[-1].headers["retry-after"]) >= 1
    assert tried[-1].json()["retryable"] is True
    assert client.get("/v1/status", headers=bearer(keys["admin"])).status_code == 200
    clock.ticks += 12
    assert client.get("/v1/status", headers=bearer("bb_guess")).status_code == 401


def test_a_key_has_a_speed_of_its_own(client: TestClient, engine: Engine, clock: Clock) -> None:
    _, secret = engine.keys.create("slow", ["models:read"], limit_per_s=2.0)
    answers = [client.get("/v1/status", headers=bearer(secret)) for _ in range(5)]
    assert [one.status_code for one in answers] == [200] * 4 + [429]
    assert answers[-1].headers["retry-after"] == "1"
    clock.ticks += 0.5
    assert client.get("/v1/status", headers=bearer(secret)).status_code == 200
    assert client.get("/v1/status", headers=bearer(secret)).status_code == 429


def test_the_server_does_not_open_when_its_last_key_is_revoked(client: TestClient, engine: Engine) -> None:
    assert client.get("/v1/status").status_code == 200  # on loopback and without any key
    made, secret = engine.keys.create("admin", ["admin"])
    assert client.get("/v1/status").status_code == 401
    assert client.delete(f"/v1/keys/{made.id}", headers=bearer(secret)).status_code == 204
    assert client.get("/v1/status").status_code == 401
    assert client.get("/v1/status", headers=bearer(secret)).status_code == 401


def test_a_key_ends_when_it_expires(client: TestClient, engine: Engine, clock: Clock) -> None:
    _, secret = engine.keys.create("brief", ["models:read"], expires=clock.at + 10)
    assert client.get("/v1/status", headers=bearer(secret)).status_code == 200
    clock.at += 10
    assert client.get("/v1/status", headers=bearer(secret)).status_code == 401


def test_a_key_is_shown_once_and_appears_nowhere_else(
    client: TestClient, engine: Engine, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    made = client.post("/v1/keys", json={"name": "admin", "scopes": ["admin"]})
    assert made.status_code == 201
    secret = made.json()["secret"]
    paths = ("/v1/keys", "/v1/status", "/metrics", "/v1/jobs")
    told = [client.get(path, headers=bearer(secret)).text for path in paths]
    told.append(client.get("/v1/status", headers=bearer(secret[:-1] + "_")).text)
    told += [record.getMessage() for record in caplog.records]
    engine.close()
    told += [path.read_bytes().decode("latin-1") for path in engine.data.iterdir()]
    assert any("bowerbird" in one for one in told)
    assert not [one for one in told if secret in one]


def test_unknown_scopes_are_refused_with_the_known_ones(client: TestClient) -> None:
    answer = client.post("/v1/keys", json={"name": "x", "scopes": ["evnts:write"]})
    assert answer.status_code == 422
    assert "events:write" in answer.json()["detail"]


def test_a_bucket_forgets_whoever_came_first_when_there_are_too_many(
    clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bowerbird.serving.access.CALLERS", 2)
    bucket = Bucket(clock)
    assert [bucket.take("a", 1.0, 1.0), bucket.take("a", 1.0, 1.0)] == [0.0, 1.0]
    bucket.take("b", 1.0, 1.0)
    bucket.take("c", 1.0, 1.0)
    assert bucket.take("a", 1.0, 1.0) == 0.0


def test_two_servers_cannot_have_one_data_directory(start: Start, neighbours: Recommender) -> None:
    start(neighbours)
    with pytest.raises(OSError, match="another process"):
        start(neighbours)


def test_an_open_server_slows_addresses_down(
    start: Start, neighbours: Recommender, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bowerbird.serving.access.PER_S", 2.0)
    monkeypatch.setattr("bowerbird.serving.access.BURST", 4.0)
    with TestClient(create_app(start(neighbours)), base_url=BASE) as client:
        answers = [client.get("/v1/status").status_code for _ in range(5)]
        assert client.get("/healthz").status_code == 200
    assert answers == [200] * 4 + [429]


def test_a_client_that_is_closed_closes_its_engine(start: Start, neighbours: Recommender) -> None:
    with client_of(start(neighbours)):
        pass
    start(neighbours)


@pytest.mark.parametrize(
    "path", ["/v1/recommendations", "/v1/events", "/v1/items:batch", "/v1/keys", "/v1/items:similar"]
)
def test_nothing_of_a_body_is_read_before_the_key(client: TestClient, keys: dict[str, str], path: str) -> None:
    json = {"content-type": "application/json"}
    assert client.post(path, content=b"[" * 1_000_000, headers=json).status_code == 401
    assert client.post(path, content=b"{", headers=json | bearer(keys["models:read"])).status_code == 403
    assert client.post(path, content=b"{", headers=json | bearer(keys["admin"])).status_code == 400


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "https://evil.example"}, {"Origin": "null"}, {"Origin": "http://["},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site", "Origin": "http://127.0.0.1:3000"}, {"Origin": "http://127.0.0.1:3000"},
    ],
)  # fmt: skip
def test_pages_of_other_origins_may_not_use_an_open_server(client: TestClient, headers: dict[str, str]) -> None:
    refused = client.post("/v1/models:rollback", headers=headers)
    assert (refused.status_code, refused.json()["code"]) == (403, "foreign_page")
    assert client.get("/v1/lists/popular", headers=headers).status_code == 403
    assert client.get("/healthz", headers=headers).status_code == 200


@pytest.mark.parametrize(
    "headers", [{"Origin": BASE}, {"Sec-Fetch-Site": "same-origin", "Origin": "http://localhost:5173"}, {}]
)
def test_its_own_page_and_programs_may(client: TestClient, headers: dict[str, str]) -> None:
    assert client.get("/v1/status", headers=headers).status_code == 200


def test_a_page_with_a_key_may_come_from_anywhere(client: TestClient, keys: dict[str, str]) -> None:
    headers = bearer(keys["models:read"]) | {"Origin": "https://shop.example"}
    assert client.get("/v1/status", headers=headers).status_code == 200
