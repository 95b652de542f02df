"""The whole way: things come in, people click, a version is learnt and taken, taken back, and the server restarts."""

import json
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi.testclient import TestClient
from shop import Clock, Start, client_of, ids, taste

import bowerbird as bb
from bowerbird.cli.versions import run_update
from bowerbird.recommender import UpdateOptions
from bowerbird.store.deeds import read_deeds

QUESTIONS: list[dict[str, Any]] = [
    *({"user_id": f"u{n}", "k": 8, "explain": True} for n in range(6)),
    {"user_id": "fresh", "k": 8},
    {"session_id": "s", "k": 8},
    {"history": ["i1", "i3"], "k": 8, "scenario": "goods"},
    {"k": 8, "scenario": "news"},
]


def said(client: TestClient) -> str:
    """Return every answer, byte for byte apart from names and times."""
    bodies = []
    for question in QUESTIONS:
        body = client.post("/v1/recommendations", json=question).json()
        for name in ("request_id", "timings_ms"):
            del body[name]
        body["trace"] = [(step["stage"], step["candidates"]) for step in body["trace"]]
        bodies.append(body)
    bodies += [
        [one["item_id"] for one in client.get(f"/v1/lists/{name}").json()["items"]] for name in ("popular", "latest")
    ]
    return json.dumps(bodies)


def like(number: int, item_id: str, **who: Any) -> dict[str, Any]:
    return {"event_id": f"e{number}", "event": "like", "item_id": item_id} | who


@pytest.mark.parametrize("model", ["itemknn", "mf"])
def test_the_walk(model: str, start: Start, tmp_path: Path, clock: Clock, request: pytest.FixtureRequest) -> None:
    rec = request.getfixturevalue({"itemknn": "neighbours", "mf": "factors"}[model])
    first = rec.save(tmp_path / "run")
    engine = start()
    (engine.data / "imports").mkdir()
    rows = [{"id": f"n{n}", "properties": {"title": f"New {n}"}} for n in range(5)]
    (engine.data / "imports" / "new.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    with client_of(engine) as client:
        job = client.post("/v1/jobs", json={"kind": "import", "what": "items", "file": "new.jsonl"}).json()
        client.app.state.jobs._waiting.join()  # type: ignore[attr-defined]
        assert client.get(f"/v1/jobs/{job['id']}").json()["detail"] == "5 rows kept, 0 wrong"
        engine.tend()
        assert client.get("/v1/status").json()["new_items"] == 5

        question = {"user_id": "u1", "k": 5}
        before = client.post("/v1/recommendations", json=question).json()
        clicks = [like(n, one, user_id="u1", request_id=before["request_id"]) for n, one in enumerate(ids(before)[:2])]
        kept = client.post("/v1/events", json={"events": clicks}).json()
        after = client.post("/v1/recommendations", json=question | {"min_offset": kept["offset"]}).json()
        assert not after["stale"]
        assert set(ids(before)[:2]).isdisjoint(ids(after))

        more = [like(100 + n, f"n{n % 5}", user_id=f"u{n}") for n in range(20)] + [like(200, "i0", session_id="s")]
        offset = client.post("/v1/events", json={"events": more}).json()["offset"]
        engine.tend()
        old = said(client)
        learnt = run_update(
            tmp_path / "run",
            read_log=lambda start: read_deeds(engine.data, start),
            options=UpdateOptions(holdout=0.0, epochs=1),
            world=clock,
        )
        assert learnt == 0
        engine.tend()
        second = client.get("/v1/models").json()
        assert second["in_use"] != first
        assert second["versions"][-1]["parent"] == first
        status = client.get("/v1/status").json()
        assert status["trained_to"] >= offset
        assert status["new_items"] == 0
        new = said(client)
        assert {one["model_version"] for one in json.loads(new)[: len(QUESTIONS)]} == {second["in_use"]}

        assert client.post("/v1/models:rollback").json() == {"in_use": first}
        assert said(client) == old
        assert client.post(f"/v1/models/{second['in_use']}:promote").json() == {"in_use": second["in_use"]}
        assert said(client) == new
    engine = start()
    with client_of(engine) as client:
        assert said(client) == new
        assert client.post("/v1/models/000099:promote").status_code == 404
        assert client.post("/v1/models:rollback").status_code == 200
        none = client.post("/v1/models:rollback")
        assert (none.status_code, none.json()["code"]) == (409, "unfit_version")


@pytest.mark.slow
def test_a_server_of_its_own_process_is_killed_and_forgets_nothing(tmp_path: Path) -> None:
    run, data = tmp_path / "run", tmp_path / "data"
    bb.fit(taste(), "ease").save(run)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "bowerbird", "serve", str(run), "--data-dir", str(data), "--port", str(port)]
    patient = httpx.HTTPTransport(retries=8)  # each waits twice as long for the port to open
    told: list[Any] = []
    for turn in range(2):
        server = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=dict(os.environ))
        try:
            with httpx.Client(base_url=f"http://127.0.0.1:{port}", transport=patient, timeout=60) as client:
                assert client.get("/readyz").json()["status"] == "ready"
                if not turn:
                    rows = [like(n, f"i{n}", user_id="new") for n in (1, 3, 5)]
                    assert client.post("/v1/events", json={"events": rows}).json()["accepted"] == 3
                    assert client.put("/v1/items/x%2Fy", json={"properties": {"a": 1}}).status_code == 201
                body = client.post("/v1/recommendations", json={"user_id": "new", "k": 5}).json()
                told.append((body["items"], client.get("/v1/items/x%2Fy").json()))
        finally:
            os.kill(server.pid, signal.SIGKILL)
            server.wait()
        patient = httpx.HTTPTransport(retries=8)
    assert told[0] == told[1]
    assert {one["item_id"] for one in told[0][0]}.isdisjoint({"i1", "i3", "i5"})
