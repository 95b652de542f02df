"""What a client names must not be fetched or opened: addresses and paths, wherever one fits."""

import base64
import json
import os
import socket
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import patch
from urllib.parse import quote

import numpy as np
import polars as pl

import _breaking
import bowerbird as bb
from _attacks_shop import Shop, picked, shop
from _breaking import Effort, Found
from bowerbird.core import RunOptions
from bowerbird.features import media
from bowerbird.recommender import Recommender
from bowerbird.testing import halves

stages = _breaking.Stages()

SECRET = "canaryfile2d7e"
SMALL = {"dim": 8, "landmarks": 16, "hidden": 8, "epochs": 2, "text_encoder": "words", "image_encoder": "eye"}
FIELDS = ("picture", "image", "url", "title", "published_at", "href", "$ref", "@import")
LATER_S = 10.0
ODD = (".", "..", "...", "link.jsonl/", "a" * 200, "CON", "x\x00", "-", ".hidden", "")  # names of files to be imported


DEEDS = (
    "socket.connect", "socket.getaddrinfo", "socket.gethostbyname", "urllib.Request", "subprocess.Popen", "os.system",
    "os.posix_spawn", "os.exec",
)  # fmt: skip


class Watch:
    """Notes what this process connects to and opens, as Python tells it, while it is on."""

    def __init__(self) -> None:
        self.on, self.asked, self.opened = False, list[str](), list[str]()
        sys.addaudithook(self._hook)  # there is no way to take one away

    def _hook(self, event: str, given: tuple[Any, ...]) -> None:
        if not self.on:
            return
        if event in DEEDS:
            self.asked.append(f"{event} {str(given)[:200]}")
        elif event == "open" and isinstance(given[0], str | bytes | os.PathLike):
            self.opened.append(os.fsdecode(given[0]))


WATCH = Watch()


class Eye:
    """An encoder of pictures that never fails, so that whatever is opened would be read."""

    name, dim = "eye-1", 2

    def decode(self, content: bytes) -> bytes:
        """Return the bytes."""
        return content

    def encode(self, values: Sequence[bytes]) -> np.ndarray:
        """Return a vector of each."""
        return np.array([[len(one) % 2, 1] for one in values], np.float32)


@contextmanager
def listener() -> Iterator[tuple[int, list[str]]]:
    """Listen at a port of every address of this machine; note who connects."""
    came: list[str] = []
    with socket.socket() as one:
        one.bind(("0.0.0.0", 0))
        one.listen()
        one.settimeout(0.1)
        stop = threading.Event()

        def take() -> None:
            while not stop.is_set():
                try:
                    other, where = one.accept()
                except TimeoutError:
                    continue
                came.append(str(where))
                other.close()

        thread = threading.Thread(target=take)
        thread.start()
        try:
            yield one.getsockname()[1], came
        finally:
            stop.set()
            thread.join()


HOSTS = [
    "127.0.0.1", "localhost", "2130706433", "0x7f000001", "0177.0.0.1", "127.1", "0", "[::1]", "[::ffff:127.0.0.1]",
    "[::ffff:7f00:1]", "127.0.0.1.", "①②⑦.⓪.⓪.①", "x@127.0.0.1", "127.0.0.1#@evil.example", "127.0.0.1%2f",
]  # fmt: skip
SCHEMES = ["http", "https", "ftp", "gopher", "dict", "jar:http", "php", "s3", "hf", "HTTP"]
ELSEWHERE = [
    "http://169.254.169.254/latest/meta-data/", "http://2852039166/", "http://[fd00:ec2::254]/", "/etc/passwd",
    "../../../../../../etc/passwd", "file:///etc/passwd", "/proc/self/environ", "/dev/zero", "/dev/stdin", "C:\\x.png",
    "{{config}}", "data:,x", "link.png", "secret.png\x00.jpg", "secret.png", "./secret.png", "../secret.png",
    "../../secret.png", "~/secret.png",
]  # fmt: skip


def names(port: int, folder: Path) -> list[str]:
    """Return addresses and paths that lead to the listener, the canary file, or what nobody should read."""
    urls = [f"{scheme}://{host}:{port}/x.png" for host in HOSTS for scheme in SCHEMES[:2]]
    urls += [f"{scheme}://127.0.0.1:{port}/x.png" for scheme in SCHEMES[2:]]
    urls += [f"//127.0.0.1:{port}/x", f"\\\\127.0.0.1@{port}\\x.png", f"<img src=http://127.0.0.1:{port}/>"]
    secret = folder / "secret.png"
    paths = [f"{secret}", f"file://{secret}", f"{folder}/secret.zip!secret.png", f"$(cat {secret})", f"|cat {secret}"]
    return [*urls, *paths, *ELSEWHERE]


def _gallery(folder: Path) -> Recommender:
    """Train a model that looks at pictures, of which some lie in the folder."""
    for half in "01":
        (folder / f"{half}.png").write_bytes(f"{half} picture".encode())
    rows = range(40)
    told = {
        "title": [f"{('Even', 'Odd')[row % 2]} thing {row}" for row in rows],
        "picture": [f"{row % 2}.png" for row in rows],
    }
    items = pl.DataFrame({"item_id": [f"i{row}" for row in rows]} | told)
    return bb.fit(
        halves().train.with_tables(items=items), "crossmodal", text=("title",), image=("picture",), folder=str(folder),
        run=RunOptions(progress=False), **SMALL,
    )  # fmt: skip


def named(place: Shop, name: str, number: int) -> list[bytes]:
    """Send a name wherever a client may; return all that comes back."""
    properties = dict.fromkeys(FIELDS, name) | {"title": f"Even thing {name[:50]}"}
    picture, quoted = base64.b64encode(name.encode()).decode(), quote(name, safe="")
    event = {"event_id": f"door {number}", "event": "interaction", "user_id": "u1", "item_id": f"i{number % 40}"}
    asked: list[tuple[str, str, Any]] = [
        ("PUT", f"/v1/items/door{number}", {"properties": properties}),
        ("PATCH", "/v1/items/i1", {"properties": {"picture": name}}),
        ("POST", "/v1/items:batch", {"rows": [{"id": f"row{number}", "properties": {"picture": [name, {"a": name}]}}]}),
        ("POST", "/v1/users:batch", {"rows": [{"id": f"row{number}", "properties": properties}]}),
        ("POST", "/v1/events", {"events": [event | {"context": {"url": name}, "request_id": name[:200]}]}),
        *(("POST", "/v1/search", body) for body in ({"text": name}, {"image": picture}, {"image": name})),
        ("POST", "/v1/recommendations", {"fields": [*FIELDS, name], "k": 50, "history": [name, "i1"]}),
        ("POST", "/v1/recommendations", {"where": f"item.picture == {json.dumps(name)}"}),
        ("PUT", "/v1/schema", {"events": [{"name": name[:60], "phrase": name[:60]}]}),
        ("POST", "/v1/jobs", {"kind": "import", "what": "items", "file": name}),
        ("POST", "/v1/jobs", {"kind": "import", "what": "items", "file": name.rsplit("/")[-1]}),
        *(("GET", path, b"") for path in (f"/v1/items/{quoted}", f"/v1/jobs/{quoted}/file", "/v1/jobs")),
        *(("GET", f"/static-offline-docs/{tail}", b"") for tail in (quote(name), quoted)),
        *(("GET", f"/v1/items/door{number}{tail}", b"") for tail in ("", "/similar")),
    ]  # fmt: skip
    return [place.ask(method, path, body).body for method, path, body in asked]


def _imports(place: Shop, folder: Path) -> list[bytes]:
    """Import files that are links, or lie elsewhere; return what is told."""
    imports, told = place.engine.data / "imports", list[bytes]()
    imports.mkdir()
    links = {"link.jsonl": folder / "rows.jsonl", "two.jsonl": imports / "link.jsonl", "passwd": Path("/etc/passwd")}
    links |= {"folder": folder, "zero": Path("/dev/zero"), "gone": folder / "nothing"}
    for name, target in links.items():
        (imports / name).symlink_to(target)
    os.mkfifo(imports / "pipe")
    for what in ("items", "events", "users"):
        for name in (
            *(one.name for one in imports.iterdir()),
            ".",
            "..",
            "...",
            "link.jsonl/",
            "a" * 200,
            "CON",
            "x\x00",
            "-",
            ".hidden",
        ):
            told.append(place.ask("POST", "/v1/jobs", {"kind": "import", "what": what, "file": name}).body)
    until = time.monotonic() + LATER_S
    while b'"running"' in (jobs := place.ask("GET", "/v1/jobs").body) or b'"waiting"' in jobs:
        assert time.monotonic() < until, "an import does not end"
        time.sleep(0.02)
    place.engine.tend()
    return [
        *told,
        jobs,
        *(place.ask("GET", path).body for path in (f"/v1/items/{SECRET}", "/v1/items", "/v1/users", "/v1/events")),
    ]


@stages("own_requests", "the server fetches no address and opens no file that a client names", n=80)
def own_requests(effort: Effort) -> Found:
    """Name addresses and files everywhere, and look at what this process connects to and opens."""
    found, folder = Found(), effort.folder
    (folder / "secret.png").write_text(SECRET)
    (folder / "link.png").symlink_to(folder / "secret.png")
    (folder / "rows.jsonl").write_text(json.dumps({"id": SECRET, "event": SECRET, "properties": {"title": SECRET}}))
    with (
        listener() as (port, came),
        patch.dict(media._loaded, {("image", "eye"): Eye()}),
        patch.dict(os.environ, {"XDG_CACHE_HOME": str(folder / "cache")}),
        shop(folder / "shop", _gallery(folder)) as place,
    ):
        WATCH.asked, WATCH.opened, WATCH.on = [], [], True
        try:
            for number, name in enumerate(picked(effort, names(port, folder))):
                told = named(place, name, number)
                place.engine.tend()
                found.note(*_got_out(told, came, folder, f"name {name!r}"))
            found.note(*_got_out(_imports(place, folder), came, folder, "imports"))
            found.figures |= {"connections": len(WATCH.asked) + len(came), "files_opened": len(set(WATCH.opened))}
            found.note(*_control(place, port, came, folder))
        finally:
            WATCH.on = False
    return found


def _got_out(told: Sequence[bytes], came: Sequence[str], folder: Path, what: str) -> list[str]:
    """Return what was fetched, opened or told that should not be."""
    asked = came or WATCH.asked
    faults = [f"{what}: {len(came)} connections came, {WATCH.asked[:2]}"] if asked else []
    theirs = [one for one in WATCH.opened if one in ("/etc/passwd", "/proc/self/environ", "/dev/zero")]
    theirs += [
        one
        for one in WATCH.opened
        if one.startswith(f"{folder}/") and not one.startswith((f"{folder}/shop", f"{folder}/cache"))
    ]
    faults += [f"{what}: {theirs[:2]} was opened"] if theirs else []
    if any(SECRET.encode() in one for one in told if b'"code":"unknown_item"' not in one):  # it names what was asked
        faults.append(f"{what}: a secret was told")
    return [*faults, f"{what}: /etc/passwd was told"] if any(b"root:x:0" in one for one in told) else faults


def _control(place: Shop, port: int, came: list[str], folder: Path) -> list[str]:
    """Return a fault where what must not happen would not be noticed."""
    socket.create_connection(("127.0.0.1", port)).close()
    (folder / "secret.png").read_bytes()
    until = time.monotonic() + LATER_S
    while not came and time.monotonic() < until:
        time.sleep(0.01)
    noticed = bool(came) and bool(WATCH.asked) and str(folder / "secret.png") in WATCH.opened
    return [] if noticed else ["a connection and an open file were not noticed"]
