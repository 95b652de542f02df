"""`bowerbird console`: where it listens, whom it asks, and what `serve` says of its own."""

from typing import Any
from unittest import mock

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient

from bowerbird.cli import serving
from bowerbird.core import ConfigError, RequestError
from bowerbird.serving import console


def test_it_listens_on_this_machine_only() -> None:
    with pytest.raises(ConfigError, match=r"host is '0\.0\.0\.0', which others can reach"):
        serving.run_console("http://127.0.0.1:8321", "0.0.0.0", 8322)


def test_what_is_no_address_is_refused() -> None:
    with pytest.raises(RequestError, match="nowhere is no address of a server"):
        serving.run_console("nowhere", "127.0.0.1", 8322)


def test_it_serves_pages_at_the_port_that_was_asked_for(capsys: pytest.CaptureFixture[str]) -> None:
    with mock.patch("uvicorn.run") as run, mock.patch("signal.signal"):
        serving.run_console("http://127.0.0.1:1/", "127.0.0.1", 9000)
    [app], options = run.call_args
    assert (options["host"], options["port"]) == ("127.0.0.1", 9000)
    assert isinstance(app, FastAPI)
    with TestClient(app, base_url="http://127.0.0.1:9000", follow_redirects=False) as client:
        assert client.get("/").headers["location"] == "/console/"
        assert client.get("/console/versions").status_code == 200
    assert "http://127.0.0.1:9000/console/" in " ".join(capsys.readouterr().err.split())


@pytest.mark.parametrize("there", [True, False])
def test_a_server_hangs_it_in_where_the_extra_is(there: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    hung: list[Any] = []
    monkeypatch.setattr(console, "there", lambda: there)
    monkeypatch.setattr(console, "mount", hung.append)
    app = FastAPI()
    assert serving._console(app) is there
    assert hung == ([app] if there else [])
