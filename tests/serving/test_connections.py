"""Connections: a client that is too slow is ended, and one that is not goes on."""

import asyncio
import logging
import socket
import threading
import time
from collections.abc import Iterator

import pytest
import uvicorn
from starlette.types import Receive, Scope, Send

from bowerbird.serving import connections
from bowerbird.serving.connections import LONGEST_HEAD, MOST_AHEAD, Connection

PATIENCE_S = 0.3
LONG = b"x" * 4_000_000  # more than a socket holds
SLOWLY = 7
GET = b"GET /%d HTTP/1.1\r\nHost: localhost\r\n\r\n"


async def app(scope: Scope, receive: Receive, send: Send) -> None:
    """Answer with as many bytes as the path says, those of SLOWLY after a moment; a WebSocket with what it says."""
    if scope["type"] == "websocket":
        await receive()
        await send({"type": "websocket.accept"})
        while (said := await receive())["type"] == "websocket.receive":
            await send({"type": "websocket.send", "text": said["text"]})
        return
    if scope["path"] == f"/{SLOWLY}":
        await asyncio.sleep(PATIENCE_S / 3)
    body = LONG[: int(scope["path"][1:])]
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"%d" % len(body))]})
    await send({"type": "http.response.body", "body": body})


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    """The port of a server that has little patience."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(connections, "PATIENCE_S", PATIENCE_S)
        settings = uvicorn.Config(app, port=0, http=Connection, lifespan="off", log_level="critical", access_log=False)
        server = uvicorn.Server(settings)
        thread = threading.Thread(target=server.run, daemon=True)
        thread.start()
        while not server.started:
            thread.join(0.01)
            assert thread.is_alive()
        yield server.servers[0].sockets[0].getsockname()[1]
        end = time.monotonic() + 10
        while left := len(server.server_state.connections):
            time.sleep(0.01)
            assert time.monotonic() < end, f"{left} connections were never ended"
        server.should_exit = True
        thread.join(10)


def connected(port: int, buffer: int = 0) -> socket.socket:
    client = socket.socket()
    if buffer:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer)
    client.settimeout(10)
    client.connect(("127.0.0.1", port))
    return client


def rest(client: socket.socket) -> bytes:
    """Return what still comes until the server ends the connection."""
    got = bytearray()
    try:
        while part := client.recv(1 << 20):
            got += part
    except ConnectionResetError:
        pass
    return bytes(got)


def ends(client: socket.socket, data: bytes, *, pause_s: float = 0.0) -> bool:
    """Send the same again and again; return whether the server ended the connection."""
    try:
        for _ in range(100):
            time.sleep(pause_s)
            client.sendall(data)
    except (ConnectionResetError, BrokenPipeError):
        return True
    return False


@pytest.mark.parametrize("said", [b"", b"GET /1 HTTP/1.1\r\nHost: loc", b"\r\n", GET % 1 + b"GET"])
def test_a_head_that_does_not_come_is_waited_for_no_longer(port: int, said: bytes) -> None:
    with connected(port) as client:
        client.sendall(said)
        started = time.monotonic()
        assert rest(client).count(b"HTTP/1.1") == (said.count(b"\r\n\r\n"))
        assert time.monotonic() - started > 0.8 * PATIENCE_S


def test_dripping_does_not_prolong_the_wait(port: int) -> None:
    with connected(port) as client:
        client.sendall(b"GET /1 HTTP/1.1\r\n")
        started = time.monotonic()
        assert ends(client, b"X-A: b\r\n", pause_s=PATIENCE_S / 5)
        assert time.monotonic() - started < 5


def test_a_head_that_does_not_end_is_not_kept(port: int) -> None:
    with connected(port) as client:
        client.sendall(b"GET /1 HTTP/1.1\r\nX-A: ")
        assert ends(client, b"x" * LONGEST_HEAD)


def test_a_client_that_never_reads_is_let_go(port: int) -> None:
    with connected(port, buffer=4096) as client:
        client.sendall(GET % len(LONG))
        time.sleep(4 * PATIENCE_S)
        assert len(rest(client)) < len(LONG)


def test_a_client_that_reads_slowly_gets_everything(port: int) -> None:
    with connected(port, buffer=65_536) as client:
        client.sendall(GET % len(LONG))
        got = 0
        while got < len(LONG):
            time.sleep(PATIENCE_S / 10)
            got += len(client.recv(200_000))


def test_some_requests_ahead_are_answered_in_their_order(port: int) -> None:
    with connected(port) as client:
        last = b"GET /1 HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
        client.sendall(b"".join(GET % n for n in range(MOST_AHEAD - 1)) + last)
        assert rest(client).count(b"200 OK") == MOST_AHEAD


@pytest.fixture
def told(caplog: pytest.LogCaptureFixture) -> Iterator[pytest.LogCaptureFixture]:
    """What the server logs of failures."""
    logger = logging.getLogger("uvicorn.error")
    logger.addHandler(caplog.handler)
    caplog.set_level("ERROR", "uvicorn.error")
    yield caplog
    logger.removeHandler(caplog.handler)


def test_too_many_requests_ahead_end_the_connection(port: int, told: pytest.LogCaptureFixture) -> None:
    with connected(port) as client:
        client.sendall((GET % SLOWLY) * 10 * MOST_AHEAD)
        assert rest(client).count(b"200 OK") <= MOST_AHEAD
    time.sleep(PATIENCE_S)
    assert told.records == []


def test_what_is_no_http_behind_a_request_ends_both_quietly(port: int, told: pytest.LogCaptureFixture) -> None:
    with connected(port) as client:
        client.sendall((GET % SLOWLY) + b"\x16\x03\x01")
        assert b"400 Bad Request" in rest(client)
    time.sleep(PATIENCE_S)
    assert told.records == []


def test_a_connection_goes_on_between_requests(port: int) -> None:
    with connected(port) as client:
        for _ in range(4):
            client.sendall(GET % 3)
            got = b""
            while not got.endswith(b"\r\n\r\nxxx"):
                got += client.recv(4096)
            time.sleep(0.6 * PATIENCE_S)


def test_a_websocket_may_be_silent_for_longer(port: int) -> None:
    upgrade = (
        b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
        b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
    )
    with connected(port) as client:
        client.sendall(upgrade)
        assert client.recv(4096).startswith(b"HTTP/1.1 101")
        for _ in range(2):
            time.sleep(1.5 * PATIENCE_S)
            client.sendall(b"\x81\x82\0\0\0\0hi")  # a text of two letters, masked with zeros
            assert client.recv(4096) == b"\x81\x02hi"
