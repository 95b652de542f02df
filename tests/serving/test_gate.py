"""The gate: what must not be read is refused, and everything has a name."""

import asyncio
import json
import logging
from collections.abc import Iterator

import pytest
from fastapi.testclient import TestClient
from shop import Clock
from starlette.types import Message, Receive, Scope, Send

from bowerbird.serving.gate import LONGEST_BODY, LONGEST_HEADERS, LONGEST_PATH, MOST_AT_ONCE, Gate
from bowerbird.serving.metrics import Metrics

JSON = {"content-type": "application/json"}


def test_a_body_that_grows_too_long_is_cut_off_though_it_never_said_its_length(reader: TestClient) -> None:
    sent = 0

    def chunks() -> Iterator[bytes]:
        nonlocal sent
        for _ in range(2 * LONGEST_BODY // 1_000_000):
            sent += 1
            yield b" " * 1_000_000

    answer = reader.post("/v1/recommendations", content=chunks(), headers=JSON)
    assert (answer.status_code, answer.json()["code"]) == (413, "too_large")
    assert answer.headers["x-request-id"]


def test_a_body_in_chunks_is_read(reader: TestClient) -> None:
    answer = reader.post("/v1/recommendations", content=iter([b'{"user_id"', b': "u0"}']), headers=JSON)
    assert answer.status_code == 200


def test_what_is_too_long_is_refused_before_it_is_read(reader: TestClient) -> None:
    long = JSON | {"content-length": str(LONGEST_BODY + 1)}
    cases = {
        413: reader.post("/v1/recommendations", content=b"{}", headers=long),
        414: reader.get("/v1/status", params={"q": "x" * LONGEST_PATH}),
        431: reader.get("/v1/status", headers={"X-Long": "x" * LONGEST_HEADERS}),
    }
    for status, answer in cases.items():
        assert answer.status_code == status
        assert answer.json()["status"] == status
    wrong = reader.post("/v1/recommendations", content=b"{}", headers=JSON | {"content-length": "-1"})
    assert wrong.status_code == 413


@pytest.mark.parametrize("host", ["127.0.0.1", "127.0.0.1:8321", "localhost:80", "LOCALHOST", "[::1]", "[::1]:8321"])
def test_this_machine_is_answered_under_all_its_names(reader: TestClient, host: str) -> None:
    assert reader.get("/healthz", headers={"host": host}).status_code == 200


@pytest.mark.parametrize("host", ["evil.example", "evil.example:80", "127.0.0.1.evil.example", "", "localhost.:80"])
def test_other_names_are_refused(reader: TestClient, host: str) -> None:
    answer = reader.get("/v1/status", headers={"host": host})
    assert (answer.status_code, answer.json()["code"]) == (403, "foreign_host")


def test_every_answer_has_a_name_of_its_own(reader: TestClient) -> None:
    paths = ("/healthz", "/nowhere", "/v1/status", "/docs", "/openapi.json", "/v1/items/none")
    names = [reader.get(path).headers["x-request-id"] for path in paths]
    assert len(set(names)) == len(paths)


def test_a_slate_says_how_long_its_stages_took(reader: TestClient) -> None:
    told = reader.post("/v1/recommendations", json={"user_id": "u0"}).headers["server-timing"]
    assert [one.split(";")[0] for one in told.split(", ")] == ["filter", "sources", "ranking", "reranking", "slate"]


def test_an_overloaded_server_sheds_but_says_that_it_lives(clock: Clock) -> None:
    async def run() -> tuple[dict[str, int], dict[str, str], dict[str, int]]:
        go_on = asyncio.Event()

        async def slow(scope: Scope, receive: Receive, send: Send) -> None:
            if scope["path"] != "/healthz":
                await go_on.wait()
            await send({"type": "http.response.start", "status": 200, "headers": []})
            await send({"type": "http.response.body", "body": b""})

        gate = Gate(slow, world=clock, metrics=Metrics())
        waiting = [asyncio.create_task(_ask(gate, "/v1/status")) for _ in range(MOST_AT_ONCE)]
        await asyncio.sleep(0)
        busy = {path: (await _ask(gate, path)) for path in ("/v1/status", "/healthz")}
        go_on.set()
        done = [await one for one in waiting]
        after = await _ask(gate, "/v1/status")
        return (
            {path: status for path, (status, _) in busy.items()},
            busy["/v1/status"][1],
            {"waiting": min(status for status, _ in done), "after": after[0]},
        )

    busy, headers, later = asyncio.run(run())
    assert busy == {"/v1/status": 503, "/healthz": 200}
    assert headers["retry-after"] == "1"
    assert headers["content-type"] == "application/problem+json"
    assert later == {"waiting": 200, "after": 200}


async def _ask(gate: Gate, path: str) -> tuple[int, dict[str, str]]:
    """Return status and headers of one request."""
    told: list[Message] = []

    async def receive() -> Message:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: Message) -> None:
        told.append(message)

    scope = {
        "type": "http", "method": "GET", "path": path, "raw_path": path.encode(), "query_string": b"",
        "headers": [(b"host", b"localhost")],
    }  # fmt: skip
    await gate(scope, receive, send)
    return told[0]["status"], {name.decode(): value.decode() for name, value in told[0]["headers"]}


def test_the_log_of_requests_names_routes_and_nobody(reader: TestClient, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "bowerbird.requests")
    reader.get("/v1/users/somebody/similar")
    line = json.loads(caplog.records[-1].getMessage())
    assert line["status"] == 404
    assert line["route"].startswith("/v1/users/{user_id")
    assert "somebody" not in caplog.text


def test_metrics_count_routes_not_paths(client: TestClient) -> None:
    client.get("/v1/items/secret-item")
    client.request("BREW", "/v1/items/secret-item")
    text = client.get("/metrics").text
    assert 'route="/v1/items/{document_id' in text
    assert "secret-item" not in text
    assert "BREW" not in text
