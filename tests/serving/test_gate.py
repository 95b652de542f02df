"""The gate: what must not be read is refused, and everything has a name."""

import asyncio
import json
import logging
from collections.abc import Iterator

import pytest
from fastapi.testclient import TestClient
from shop import Clock
from starlette.types import Message, Receive, Scope, Send

from bowerbird.serving.gate import (
    LONG,
    LONGEST_BODY,
    LONGEST_HEADERS,
    LONGEST_PATH,
    MOST_AT_ONCE,
    MOST_LONG,
    Gate,
)
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


@pytest.mark.parametrize("host", ["evil.example", "evil.example:80", "127.0.0.1.evil.example", "", "localhost.:80",
                                  "127.0.0.1:80@evil.example", "127.0.0.1:x", "::1", "[::1"])  # fmt: skip
def test_other_names_are_refused(reader: TestClient, host: str) -> None:
    answer = reader.get("/v1/status", headers={"host": host})
    assert (answer.status_code, answer.json()["code"]) == (403, "foreign_host")


@pytest.mark.parametrize("path", ["/v1/items/%ff", "/v1/items/%ed%a0%80", "/v1/items?after=%c0%af", "/healthz?x=%80",
                                  "/v1/items/a%0a", "/v1/items/a%0ab"])  # fmt: skip
def test_what_is_no_text_is_refused_rather_than_read_as_another(reader: TestClient, path: str) -> None:
    answer = reader.get(path)
    assert (answer.status_code, answer.json()["code"]) == (400, "no_text")


def test_a_request_has_one_host(reader: TestClient) -> None:
    answer = reader.get("/v1/status", headers=[("host", "evil.example"), ("host", "127.0.0.1")])
    assert (answer.status_code, answer.json()["code"]) == (400, "two_hosts")


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
    status, headers, _ = await _told(gate, path)
    return status, headers


async def _told(gate: Gate, path: str) -> tuple[int, dict[str, str], bytes]:
    """Return status, headers and body of one request."""
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
    headers = {name.decode(): value.decode() for name, value in told[0]["headers"]}
    return told[0]["status"], headers, told[1]["body"]


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


# ── slow clients ──────────────────────────────────────────────────────────────────────────────────────────────────


class Sender:
    """A client of a gate that sends its body when a test says so, and reads when it likes."""

    def __init__(self, gate: Gate, *, path: str = "/v1/events") -> None:
        self.parts, self.told, self.reads = asyncio.Queue[tuple[bytes, bool]](), list[Message](), asyncio.Event()
        self.reads.set()
        headers = [(b"host", b"localhost"), (b"content-length", b"1000000")]
        scope = {
            "type": "http", "method": "POST", "path": path, "raw_path": path.encode(), "query_string": b"",
            "headers": headers,
        }  # fmt: skip
        self.task = asyncio.create_task(gate(scope, self._receive, self._send))

    async def _receive(self) -> Message:
        body, more = await self.parts.get()
        return {"type": "http.request", "body": body, "more_body": more}

    async def _send(self, message: Message) -> None:
        self.told.append(message)
        await self.reads.wait()

    async def send(self, body: bytes, *, more: bool = False) -> None:
        self.parts.put_nowait((body, more))
        for _ in range(5):
            await asyncio.sleep(0)

    async def answer(self) -> int:
        await self.task
        status: int = self.told[0]["status"]
        return status


async def echo(scope: Scope, receive: Receive, send: Send) -> None:
    """Answer when the body is there."""
    while (await receive()).get("more_body"):
        pass
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b""})


def test_whoever_sends_slowly_takes_nobodys_place(clock: Clock) -> None:
    async def run() -> list[int]:
        gate = Gate(echo, world=clock, metrics=Metrics())
        slow = [Sender(gate) for _ in range(2 * MOST_AT_ONCE)]
        for one in slow:
            await one.send(b"x", more=True)
        assert gate.inside == 0
        quick = Sender(gate)
        await quick.send(b"x")
        answers = [await quick.answer()]
        for one in slow:
            await one.send(b"x")
        return [*answers, *[await one.answer() for one in slow], gate.inside]

    assert asyncio.run(run()) == [200] * (2 * MOST_AT_ONCE + 1) + [0]


def test_bodies_that_end_together_are_not_answered_all_at_once(clock: Clock) -> None:
    async def run() -> list[int]:
        gate = Gate(echo, world=clock, metrics=Metrics())
        slow = [Sender(gate) for _ in range(2 * MOST_AT_ONCE)]
        await asyncio.sleep(0)
        for one in slow:
            one.parts.put_nowait((b"x", False))
        return sorted([await one.answer() for one in slow])

    assert asyncio.run(run()) == [200] * MOST_AT_ONCE + [503] * MOST_AT_ONCE


def test_whoever_reads_slowly_takes_nobodys_place(clock: Clock) -> None:
    async def run() -> tuple[int, int]:
        gate = Gate(echo, world=clock, metrics=Metrics())
        slow = [Sender(gate) for _ in range(MOST_AT_ONCE)]
        for one in slow:
            one.reads.clear()
            one.parts.put_nowait((b"x", False))
        while not all(one.told for one in slow):
            await asyncio.sleep(0)
        quick = Sender(gate)
        await quick.send(b"x")
        status = await quick.answer()
        for one in slow:
            one.reads.set()
            await one.task
        return status, gate.inside

    assert asyncio.run(run()) == (200, 0)


def test_a_body_that_does_not_end_is_waited_for_no_longer(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bowerbird.serving.gate.BODY_S", 0.05)

    async def run() -> tuple[int, dict[bytes, bytes], int]:
        gate = Gate(echo, world=clock, metrics=Metrics())
        slow = Sender(gate)
        await slow.send(b"x", more=True)
        return await slow.answer(), dict(slow.told[0]["headers"]), gate.inside

    status, headers, inside = asyncio.run(run())
    assert (status, inside) == (408, 0)
    assert headers[b"connection"] == b"close"


def test_only_so_many_long_bodies_are_held(clock: Clock) -> None:
    async def run() -> tuple[list[int], int]:
        gate = Gate(echo, world=clock, metrics=Metrics())
        slow = [Sender(gate) for _ in range(MOST_LONG + 1)]
        for one in slow:
            await one.send(b"x" * (LONG + 1), more=True)
        refused = [one.told[0]["status"] for one in slow if one.told]
        for one in slow:
            await one.send(b"x")
            await one.task
        return refused, gate.long

    assert asyncio.run(run()) == ([503], 0)


def test_between_two_answers_of_many_the_loop_turns(clock: Clock) -> None:
    async def run() -> list[str]:
        told: list[str] = []

        async def slow(scope: Scope, receive: Receive, send: Send) -> None:
            told.append(scope["path"])
            await echo(scope, receive, send)

        gate = Gate(slow, world=clock, metrics=Metrics())
        many = [asyncio.create_task(_ask(gate, "/v1/status")) for _ in range(3)]
        await asyncio.sleep(0)
        health = asyncio.create_task(_ask(gate, "/healthz"))
        await asyncio.gather(health, *many)
        return told

    assert asyncio.run(run()).index("/healthz") < 3


@pytest.mark.parametrize("path", ["/v1/status", '/v1/items/ü"%b\\'])
def test_a_server_that_has_enough_to_do_refuses_like_any_other(clock: Clock, path: str) -> None:
    gate = Gate(echo, world=clock, metrics=Metrics())
    gate.inside = MOST_AT_ONCE
    status, headers, body = asyncio.run(_told(gate, path))
    document = json.loads(body)
    assert (status, document["status"], document["code"]) == (503, 503, "overloaded")
    assert (document["instance"], document["request_id"]) == (path, headers["x-request-id"])
    assert headers["content-length"] == str(len(body))
    assert 'route="none",status="503"' in gate.metrics.text().decode()


def test_a_body_that_breaks_off_is_nobodys_failure(reader: TestClient) -> None:
    coming = [{"type": "http.request", "body": b"{", "more_body": True}, {"type": "http.disconnect"}]
    told: list[Message] = []

    async def receive() -> Message:
        return coming.pop(0)

    async def send(message: Message) -> None:
        told.append(message)

    for path in ("/v1/recommendations", "/v1/items/x"):
        scope = {
            "type": "http", "method": "POST" if path.endswith("s") else "PUT", "path": path, "raw_path": path.encode(),
            "query_string": b"", "headers": [(b"host", b"localhost"), (b"content-length", b"9"),
                                             (b"content-type", b"application/json")],
        }  # fmt: skip
        coming = [{"type": "http.request", "body": b"{", "more_body": True}, {"type": "http.disconnect"}]
        asyncio.run(reader.app(scope, receive, send))
        assert told[-2]["status"] == 400
        assert json.loads(told[-1]["body"])["code"] == "cut_off"
