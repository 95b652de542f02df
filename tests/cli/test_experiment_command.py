"""`bowerbird experiment`: a file is tried on a server, and what came of it is read by people and by programs."""

import io
import json
from collections.abc import Iterator
from email.message import Message
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from urllib.error import HTTPError

import pytest
from fastapi.testclient import TestClient
from typer.testing import CliRunner

import bowerbird as bb
from bowerbird.cli.main import app
from bowerbird.core import ConfigError, RequestError, RunOptions
from bowerbird.serving import create_app
from bowerbird.testing import halves

BASE = "http://127.0.0.1:8321"
FILE = """
arms = [{ name = "control", share = 0.5 }, { name = "few", share = 0.5, changes = { k = 3 } }]
metrics = [{ event = "interaction" }]
guardrails = [{ event = "interaction", worst_loss = 0.1 }]
"""


@pytest.fixture
def client(monkeypatch: pytest.MonkeyPatch) -> Iterator[TestClient]:
    """A server; what the commands ask reaches it."""
    rec = bb.fit(halves(), "itemknn", run=RunOptions(progress=False))
    with TestClient(create_app(rec), base_url=BASE) as client:

        def opened(request: Any, *, timeout: float) -> io.BytesIO:
            path, headers = request.full_url.removeprefix(BASE), dict(request.headers)
            answer = client.request(request.method, path, content=request.data, headers=headers)
            if answer.is_success:
                return io.BytesIO(answer.content)
            raise HTTPError(request.full_url, answer.status_code, "", Message(), io.BytesIO(answer.content))

        monkeypatch.setattr("bowerbird.cli.client.build_opener", lambda *_: SimpleNamespace(open=opened))
        yield client


def told(*words: str) -> str:
    """Return what a command prints; raises as it does."""
    found = CliRunner().invoke(app, ["experiment", *words], catch_exceptions=False)
    assert found.exit_code == 0
    return found.output


def test_an_experiment_from_its_file_to_its_results(client: TestClient, tmp_path: Path) -> None:
    file = tmp_path / "few.toml"
    file.write_text(FILE)
    assert told("create", str(file)) == "few: draft; default with control 50%, few 50%\n"
    assert told("create", str(file)) == "few: draft; default with control 50%, few 50%\n"
    assert json.loads(told("start", "few", "--json"))["state"] == "running"
    for number in range(20):
        client.post("/v1/recommendations", json={"user_id": f"u{number}"})
    row = {"event_id": "e", "event": "interaction", "user_id": "who", "item_id": "i1"}
    client.post("/v1/events", json={"events": [row]})  # slates are logged unawaited; what is acknowledged came later
    found = told("results", "few")
    assert "few (running)" in found
    assert "split: right" in found
    assert "0 of 20 met two arms" in found
    assert "guardrail: kept; interaction of few is 0 a user" in found
    assert "verdict: undecided" in found
    assert json.loads(told("results", "few", "--json")) == client.get("/v1/experiments/few/results").json()
    assert told("stop", "few").startswith("few: stopped")
    assert "it was asked to" in told("list")
    assert [one["name"] for one in json.loads(told("list", "--json"))] == ["few"]


def test_what_is_wrong_is_said(client: TestClient, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="there is no such file"):
        told("create", str(tmp_path / "none.toml"))
    file = tmp_path / "few.toml"
    file.write_text("arms = [")
    with pytest.raises(ConfigError, match="is not TOML"):
        told("create", str(file))
    file.write_text(FILE.replace("k = 3", "diversity = 3.0"))
    with pytest.raises(RequestError, match=r"422: /arms/1/changes/diversity: arm few: diversity is 3.0"):
        told("create", str(file))
    with pytest.raises(RequestError, match='404: no experiment is named "few"'):
        told("start", "few")
