"""Two servers over one PostgreSQL and one run directory: what one is told, the other one knows."""

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import psycopg
import pytest
from fastapi.testclient import TestClient

import bowerbird as bb
from bowerbird.data import Interactions
from bowerbird.serving import Engine, create_app
from bowerbird.store import bundles, erasures
from bowerbird.store.opening import place
from cluster import Cluster

PATIENCE_S = 60.0
PERSON = "canary-person"


@pytest.fixture
def url(cluster: Cluster) -> str:
    return cluster.new()


@pytest.fixture
def two(url: str, even_odd: Interactions, tmp_path: Path) -> Iterator[tuple[TestClient, TestClient]]:
    """Two servers, of which each has a data directory of its own that names the one database."""
    run = tmp_path / "run"
    bb.fit(even_odd, "itemknn").save(run)
    bb.fit(even_odd, "popularity").save(run)
    with ExitStack() as stack:
        clients = []
        for name in "ab":
            place(tmp_path / name, url)
            app = create_app(Engine(run, tmp_path / name))
            clients.append(stack.enter_context(TestClient(app, base_url="http://localhost")))
        yield clients[0], clients[1]


def items(client: TestClient, **question: Any) -> list[Any]:
    answer = client.post("/v1/recommendations", json={"k": 12, **question})
    assert answer.status_code == 200, answer.text
    return [one["item_id"] for one in answer.json()["items"]]


def post(client: TestClient, number: int, item: int, user: str = "new") -> int:
    event = {"event_id": f"e{number}", "event": "interaction", "user_id": user, "item_id": item}
    answer = client.post("/v1/events", json={"events": [event]})
    assert answer.json()["accepted"] == 1, answer.text
    return int(answer.json()["offset"])


def soon(true: Callable[[], Any]) -> None:
    end = time.monotonic() + PATIENCE_S
    while not true():
        assert time.monotonic() < end
        time.sleep(0.05)


def test_an_event_posted_to_one_changes_the_list_of_the_other(two: tuple[TestClient, TestClient]) -> None:
    for number in range(6):
        to, ask = two[number % 2], two[1 - number % 2]
        offset = post(to, number, 2 * number)
        told = ask.post("/v1/recommendations", json={"user_id": "new", "k": 12, "min_offset": offset}).json()
        assert told["stale"] is False
        assert {one["item_id"] for one in told["items"]}.isdisjoint(range(0, 2 * number + 1, 2))
    assert items(two[0], user_id="new") == items(two[1], user_id="new")


def test_offsets_of_both_are_of_one_log(two: tuple[TestClient, TestClient]) -> None:
    offsets = [post(two[number % 2], number, number % 12, f"u{number}") for number in range(20)]
    assert offsets == sorted(set(offsets))
    events = [one.get("/v1/events", params={"event": "interaction"}).json()["events"] for one in two]
    assert events[0] == events[1]
    assert [one["event_id"] for one in events[0]] == [f"e{number}" for number in range(20)]


def test_what_is_taken_back_at_one_counts_at_neither(two: tuple[TestClient, TestClient]) -> None:
    offset = post(two[0], 1, 4)
    assert 4 not in items(two[1], user_id="new", min_offset=offset)
    assert two[0].delete("/v1/events/e1").status_code == 204
    for one in two:
        soon(lambda one=one: 4 in items(one, user_id="new"))


def test_items_keys_and_versions_reach_both(two: tuple[TestClient, TestClient], tmp_path: Path) -> None:
    assert two[0].put("/v1/items/3", json={"properties": {}, "available": False}).status_code in (200, 201)
    soon(lambda: 3 not in items(two[1], user_id="nobody"))
    versions = bundles.versions(tmp_path / "run")
    assert two[1].post(f"/v1/models/{versions[0]}:promote").status_code == 200
    soon(lambda: all(one.get("/readyz").json()["model_version"] == versions[0] for one in two))
    made = two[0].post("/v1/keys", json={"name": "admin", "scopes": ["admin"]}).json()
    secret = {"Authorization": f"Bearer {made['secret']}"}
    soon(lambda: two[1].get("/v1/status").status_code == 401)  # there is a key now, and it has to be shown
    assert two[1].get("/v1/status", headers=secret).status_code == 200
    more = two[1].post("/v1/keys", json={"name": "shop", "scopes": ["recommend"]}, headers=secret).json()
    shop = {"Authorization": f"Bearer {more['secret']}"}
    soon(lambda: two[0].get("/v1/status", headers=shop).status_code == 403)  # it is known, and may not do that
    assert two[1].delete(f"/v1/keys/{more['id']}", headers=secret).status_code == 204
    soon(lambda: two[0].get("/v1/status", headers=shop).status_code == 401)


def test_who_is_erased_at_one_is_nobody_at_both_and_in_no_table_file(
    two: tuple[TestClient, TestClient], url: str, cluster: Cluster, tmp_path: Path
) -> None:
    post(two[0], 1, 4, PERSON)
    offset = post(two[1], 2, 6, PERSON)
    assert two[0].put(f"/v1/users/{PERSON}", json={"properties": {"name": PERSON}}).status_code == 201
    assert {4, 6}.isdisjoint(items(two[1], user_id=PERSON, min_offset=offset))
    begun = two[0].post("/v1/erasures", json={"user_id": PERSON})
    assert begun.status_code == 202, begun.text
    for one in two:
        soon(
            lambda one=one: {4, 6} <= set(items(one)) and len(one.get(f"/v1/users/{PERSON}/data").json()["events"]) == 0
        )
    soon(lambda: all(one["state"] == "done" for one in erasures.all_of(tmp_path / "run")))
    [certificate] = erasures.all_of(tmp_path / "run")
    assert certificate["left"]["events"] == certificate["left"]["documents"] == 0
    assert certificate["search"]["hits"] == []
    with psycopg.connect(cluster.url(), autocommit=True) as other:
        other.execute("CHECKPOINT")
    bases = [path for path in (cluster.data / "base").rglob("*") if path.is_file()]
    assert bases
    assert not [path.name for path in bases if PERSON.encode() in path.read_bytes()]
