"""The door of the console: keys in this process and not in the browser, other origins, policies, and no extra."""

import base64
import hashlib
from collections.abc import Iterator

import pytest
from fastapi.testclient import TestClient
from shop import BASE, Start
from starlette.websockets import WebSocketDisconnect

from bowerbird.core import MissingExtraError
from bowerbird.recommender import Recommender
from bowerbird.serving import console, create_app
from bowerbird.serving.browsers import NOTHING, policy_of
from bowerbird.serving.console.door import COOKIE, MOST_SESSIONS, POLICY, STAYS_S, Sessions

POLICY_OF = "content-security-policy"


@pytest.fixture
def admin(start: Start, neighbours: Recommender) -> Iterator[tuple[TestClient, str]]:
    """A client of a server with a console and a key, and the key."""
    engine = start(neighbours)
    key = engine.keys.create("admin", ["models:read"])[1]
    app = create_app(engine)
    console.mount(app)
    with TestClient(app, base_url=BASE, follow_redirects=False) as client:
        yield client, key


def test_a_key_is_kept_under_a_random_name_and_forgotten() -> None:
    now = 0.0
    sessions = Sessions(lambda: now)
    name = sessions.begin("bb_secret")
    assert sessions.key(name) == "bb_secret"
    assert "bb_secret" not in name
    now = STAYS_S + 1
    assert sessions.key(name) is None
    other = sessions.begin("bb_other")
    sessions.end(other)
    assert (sessions.key(other), sessions.key(None), sessions.key("made up")) == (None, None, None)


def test_the_oldest_session_makes_room() -> None:
    sessions = Sessions()
    names = [sessions.begin(f"bb_{n}") for n in range(MOST_SESSIONS + 1)]
    assert sessions.key(names[0]) is None
    assert sessions.key(names[-1]) == f"bb_{MOST_SESSIONS}"


def test_a_key_that_the_server_knows_begins_a_session_whatever_it_may(admin: tuple[TestClient, str]) -> None:
    client, key = admin
    answer = client.post("/console/session", content=f"key={key}")
    assert (answer.status_code, answer.headers["location"]) == (303, "./")
    cookie = answer.headers["set-cookie"]
    assert cookie.startswith(f"{COOKIE}=")
    assert {"HttpOnly", "Path=/console", "SameSite=strict"} <= set(cookie.split("; "))
    assert key not in cookie
    wrong = client.post("/console/session", content="key=bb_wrong")
    assert wrong.headers["location"] == "login?wrong=key_wrong"
    assert "set-cookie" not in wrong.headers
    out = client.post("/console/session/end")
    assert out.headers["location"] == "../login"
    assert "Max-Age=0" in out.headers["set-cookie"]


def test_forms_of_other_origins_are_turned_away(admin: tuple[TestClient, str]) -> None:
    client, key = admin
    answer = client.post("/console/session", content=f"key={key}", headers={"Origin": "http://evil.example"})
    assert answer.status_code == 403
    assert "set-cookie" not in answer.headers
    assert client.post("/console/session", content=f"key={key}", headers={"Origin": BASE}).status_code == 303


def test_what_is_wished_is_one_of_few_words(admin: tuple[TestClient, str]) -> None:
    client, _ = admin
    answer = client.get("/console/prefs?lang=zh&shade=dark&back=try")
    assert answer.headers["location"] == "try"
    assert {one.split("=")[1].split(";")[0] for one in answer.headers.get_list("set-cookie")} == {"zh", "dark"}
    bad = client.get("/console/prefs?lang=%0d%0aX&shade=x&back=//evil.example")
    assert bad.headers["location"] == "./"
    assert bad.headers["set-cookie"].startswith("bowerbird_language=en")


def test_inside_the_console_is_what_it_needs_and_outside_is_nothing(admin: tuple[TestClient, str]) -> None:
    client, _ = admin
    for path in ("/console/", "/console/try", "/console/login", "/console/nowhere"):
        answer = client.get(path)
        assert answer.headers.get_list(POLICY_OF) == [POLICY], path
        assert answer.headers.get_list("x-content-type-options") == ["nosniff"], path
    assert "'unsafe-eval'" in POLICY
    for path in ("/v1/status", "/healthz", "/nowhere", "/metrics", "/openapi.json", "/v1/lists/popular"):
        assert client.get(path).headers.get_list(POLICY_OF) == [NOTHING.decode()], path
    for path in ("/docs", "/redoc"):
        said = client.get(path).headers[POLICY_OF]
        assert "unsafe-eval" not in said
        assert "script-src 'self'" in said
        assert "'unsafe-inline'" not in said.split("style-src")[0]


def test_a_page_of_documentation_names_its_scripts_by_hash() -> None:
    digest = base64.b64encode(hashlib.sha256(b"go()").digest()).decode()
    assert f"script-src 'self' 'sha256-{digest}';" in policy_of(b"<script>go()</script>").decode()
    assert "script-src 'self';" in policy_of(b"no script").decode()


def test_a_socket_of_another_origin_is_closed(admin: tuple[TestClient, str]) -> None:
    client, _ = admin
    path = "/console/_nicegui_ws/socket.io/?EIO=4&transport=websocket"
    with (
        pytest.raises(WebSocketDisconnect) as closed,
        client.websocket_connect(path, headers={"Origin": "http://evil.example"}),
    ):
        pass
    assert closed.value.code == 1008


def test_a_console_of_its_own_answers_to_this_machine_only() -> None:
    with TestClient(console.standalone("http://127.0.0.1:1"), base_url="http://127.0.0.1:8322") as client:
        assert client.get("/").url.path == "/console/"
        assert client.get("/console/try").headers[POLICY_OF] == POLICY
        assert client.get("/console/", headers={"Host": "evil.example"}).status_code == 400
        assert client.post("/console/session", content="key=bb_x").url.query == b"wrong=unreachable"


def test_without_the_extra_the_server_goes_without(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(console, "there", lambda: False)
    with pytest.raises(MissingExtraError, match=r'pip install "bowerbird\[console\]"'):
        console.standalone("http://127.0.0.1:1")
