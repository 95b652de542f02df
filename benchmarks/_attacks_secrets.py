"""What must not get out: canaries among keys, ids and texts, looked for in all that a server says and keeps."""

import base64
import json
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx

import _breaking
from _breaking import Effort, Found
from _victim import Victim, publish
from bowerbird.store.database import Database
from bowerbird.store.keys import Keys

stages = _breaking.Stages()

LOUD = """
import logging, runpy, sys
for name in ("bowerbird", "bowerbird.requests", "uvicorn", "fastapi"):
    logging.getLogger(name).setLevel(logging.DEBUG)
sys.argv = sys.argv[3:]
runpy.run_module("bowerbird", run_name="__main__")
"""  # logs all that there is to log, the requests too
LATER_S = 20.0
PAGES = (
    "/metrics", "/v1/status", "/v1/keys", "/v1/models", "/v1/schema", "/v1/scenarios", "/openapi.json", "/docs",
    "/redoc", "/readyz", "/healthz", "/version",
)  # fmt: skip


@dataclass
class Canaries:
    """Words that occur nowhere else, by what they are."""

    person: str = "canaryperson7f3a"  # ids of users, in front of a number
    session: str = "canarysession91c2"
    title: str = "canarytitle55d0"
    context: str = "canarycontext08be"
    wrong: str = "bb_canarywrong64aa"  # a key that is none
    secrets: list[str] = field(default_factory=list)

    @property
    def people(self) -> tuple[str, ...]:
        """What tells of people."""
        return self.person, self.session, self.context


@dataclass
class Place:
    """Something that was said or kept, and the words that must not be in it."""

    name: str
    content: bytes
    never: tuple[str, ...]


def spellings(word: str) -> Iterator[bytes]:
    """Yield a word as it may be written down."""
    yield word.encode()
    yield word.encode("utf-16-le")
    yield word.encode().hex().encode()
    yield base64.b64encode(word.encode())[:-4]
    yield word[::-1].encode()


def hits(place: Place) -> list[str]:
    """Return what is in a place and must not be."""
    return [
        f"{place.name} holds {word[:24]}…"
        for word in place.never
        if any(one in place.content for one in spellings(word))
    ]


class Busy:
    """A client that does everything that there is to do, rightly and wrongly; it keeps what it is told."""

    def __init__(self, client: httpx.Client, admin: str, canaries: Canaries) -> None:
        self.client, self.admin, self.canaries = client, admin, canaries
        self.told: list[httpx.Response] = []
        self.made: dict[str, str] = {}  # the secret of each key

    def ask(self, method: str, path: str, body: Any = None, **headers: str) -> httpx.Response:
        """Send one request with the key of admin, or with what `headers` say instead; keep the answer."""
        sent = {"authorization": f"Bearer {self.admin}"} | headers
        content = {"content": body} if isinstance(body, bytes) else {} if body is None else {"json": body}
        answer = self.client.request(method, path, headers={k: v for k, v in sent.items() if v}, **content)
        self.told.append(answer)
        return answer

    def job(self, **asked: str) -> dict[str, Any]:
        """Start a job, and return what became of it."""
        job = self.ask("POST", "/v1/jobs", asked)
        until = time.monotonic() + LATER_S
        while job.is_success and job.json()["state"] in ("waiting", "running") and time.monotonic() < until:
            time.sleep(0.05)
            job = self.ask("GET", f"/v1/jobs/{job.json()['id']}")
        told: dict[str, Any] = job.json()
        return told

    def keys(self) -> None:
        """Make keys, use them, end some."""
        for scope in ("recommend", "events:write", "privacy", "jobs"):
            made = self.client.post("/v1/keys", json={"name": f"for {scope}", "scopes": [scope]},
                                    headers={"authorization": f"Bearer {self.admin}"}).json()  # fmt: skip
            self.made[made["id"]] = made["secret"]
            for path in ("/v1/status", "/v1/lists/popular", "/v1/keys", "/v1/nowhere", "/v1/events?limit=0"):
                self.ask("GET", path, authorization=f"Bearer {made['secret']}")
                self.ask("GET", path, **{"authorization": "", "x-api-key": made["secret"]})
        self.ask("DELETE", f"/v1/keys/{next(iter(self.made))}")
        for secret in self.made.values():
            self.ask("GET", f"/v1/status?key={secret}", authorization=f"Basic {secret}")
            self.ask("POST", "/v1/keys", {"name": "x", "scopes": [secret]}, authorization=f"Bearer {secret}")

    def wrong_keys(self) -> None:
        """Guess keys."""
        for n in range(8):
            self.ask("GET", "/v1/status", authorization=f"Bearer {self.canaries.wrong}{n}")
            self.ask("GET", "/v1/status", **{"authorization": "", "x-api-key": f"{self.canaries.wrong}{n}"})
            self.ask("GET", "/v1/status", authorization=f"Basic {self.canaries.wrong}{n}")
            self.ask("GET", "/v1/status", authorization="", cookie=f"key={self.canaries.wrong}{n}")

    def people(self) -> None:
        """Send and ask for everything about people."""
        person, session = self.canaries.person, self.canaries.session
        for n in range(3):
            who = f"{person}{n}"
            event = {"event_id": f"{who}-event", "event": "interaction", "user_id": who, "item_id": f"i{n}"}
            event |= {"context": {"said": self.canaries.context}}
            stranger = event | {"event_id": f"{session}-{n}", "user_id": None, "session_id": session}
            wrong = [event | {"event": who}, event | {"item_id": None}, event | {"user_id": {"a": who}}]
            self.ask("POST", "/v1/events", {"events": [event, stranger, *wrong]})
            self.ask("POST", "/v1/events:validate", {"events": [event, *wrong]})
            self.ask("PUT", f"/v1/users/{who}", {"properties": {"said": self.canaries.context}})
            self.ask("PATCH", f"/v1/users/{who}", {"properties": {"said": None}}, **{"if-match": f'"{who}"'})
            self.ask("POST", f"/v1/users/{who}:merge", {"session_id": session})
            for path in ("data", "similar", "nothing"):
                self.ask("GET", f"/v1/users/{who}/{path}")
            for asked in ({"user_id": who}, {"session_id": session}, {"user_id": who, "session_id": session},
                          {"user_id": who, "k": who}, {"user_id": who, "where": f"item.{who} < 3"}, {"user_id": [who]},
                          {"user_id": who, "scenario": who}, {who: who}, {"history": [who]}):  # fmt: skip
                for route in ("/v1/recommendations", "/v1/rankings", "/v1/recommendations:why"):
                    self.ask("POST", route, asked | ({"items": [who]} if "ank" in route else {}))
            self.ask("GET", f"/v1/recommendations?user_id={who}&k={who}")
            self.ask("GET", f"/v1/events?user_id={who}&start={who}")
            self.ask(
                "POST",
                "/v1/recommendations",
                f'{{"user_id": "{who}", '.encode(),
                **{"content-type": "application/json"},
            )
            self.ask(
                "POST", "/v1/recommendations", f'{{"user_id": "{who}"}}'.encode(), **{"content-type": "text/plain"}
            )
            self.ask("DELETE", f"/v1/events/{quote(f'{who}-event')}")
            self.ask("BREW", f"/v1/users/{who}")
            self.ask("GET", f"/{who}/nowhere", host=f"{who}.example")
            self.ask("GET", f"/v1/users/{who}%ff")
            self.ask("GET", "/v1/status", **{"x-request-id": who, "user-agent": who, "referer": who})

    def items(self) -> None:
        """Put, ask for and spoil items."""
        for n in range(3):
            self.ask("PUT", f"/v1/items/new{n}", {"properties": {"title": f"{self.canaries.title} {n}"}})
            self.ask(
                "PUT",
                f"/v1/items/new{n}",
                {"properties": {"title": self.canaries.title}, "available": self.canaries.title},
            )
            self.ask("POST", "/v1/search", {"text": self.canaries.title})
            self.ask(
                "POST", "/v1/recommendations", {"where": f"item.title == '{self.canaries.title}", "fields": ["title"]}
            )

    def jobs(self, data: Path) -> dict[str, bytes]:
        """Import what is wrong and export everything; return the exports."""
        folder = data / "imports"
        folder.mkdir(exist_ok=True)
        for what in ("events", "users", "items"):
            lines = [
                "{broken " + self.canaries.person,
                json.dumps({"id": {"a": self.canaries.person}, "event": self.canaries.session}),
            ]
            (folder / f"{what}.jsonl").write_text("\n".join([*lines, json.dumps({"id": "\ud800", "properties": 3})]))
            self.job(kind="import", what=what, file=f"{what}.jsonl")
            self.job(kind="import", what=what, file=f"{self.canaries.person}.jsonl")
        self.job(kind="backup")
        exports = {}
        for what in ("items", "users", "events"):
            job = self.job(kind="export", what=what)
            exports[what] = self.ask("GET", f"/v1/jobs/{job['id']}/file").content
        return exports


def said_and_kept(server: Victim, busy: Busy, canaries: Canaries, exports: dict[str, bytes]) -> Iterator[Place]:
    """Yield all that the server said and keeps."""
    secrets = tuple(canaries.secrets)
    everything = (*secrets, canaries.wrong, *canaries.people, canaries.title)
    yield Place("the log", server.said.read_bytes(), everything)
    for path in PAGES:
        yield Place(path, busy.ask("GET", path).content, everything)
    yield Place("/v1/jobs", busy.ask("GET", "/v1/jobs").content, secrets)
    for n, answer in enumerate(busy.told):
        head = str(answer.headers).encode()
        yield Place(f"answer {n} ({answer.status_code})", answer.content + head, (*secrets, canaries.wrong))
    yield Place("the export of items", exports["items"], (*secrets, *canaries.people))
    yield Place("the export of users", exports["users"], (*secrets, canaries.session, canaries.title))
    yield Place("the export of events", exports["events"], (*secrets, canaries.title))
    for folder in (server.data, server.run):
        for path in sorted(one for one in folder.rglob("*") if one.is_file()):
            yield Place(path.relative_to(folder.parent).as_posix(), path.read_bytes(), (*secrets, canaries.wrong))


def _controls(server: Victim, canaries: Canaries, exports: dict[str, bytes], lines: int) -> list[str]:
    """Return a fault for each word that is not found where it must be: then nothing is found anywhere."""
    kept = b"".join(path.read_bytes() for path in server.data.iterdir() if path.is_file())
    there = {
        "a person among the exported events": canaries.person.encode() in exports["events"],
        "a person in the data directory": canaries.person.encode() in kept,
        "a title among the exported items": canaries.title.encode() in exports["items"],
        "the digest of a key in the data directory": sha256(canaries.secrets[0].encode()).digest() in kept,
        "a line of the log for each request": lines > 100,
    }
    return [f"{name} was not found" for name, found in there.items() if not found]


@stages("canaries", "no secret is said or kept anywhere; logs and figures tell of no person", n=1)
def canaries(effort: Effort) -> Found:
    """Do everything with words that occur nowhere else, and look for them everywhere."""
    found, words = Found(), Canaries()
    publish(effort.folder / "run")
    database = Database(effort.folder / "data")
    keys = Keys(database)
    admin, gone = (keys.create(name, ["admin"], limit_per_s=1e6) for name in ("admin", "gone"))
    keys.revoke(gone[0].id)
    expired = keys.create("expired", ["admin"], expires=1)[1]
    database.close()
    server = Victim(effort.folder / "run", effort.folder / "data", before=(sys.executable, "-c", LOUD))
    server.start()
    try:
        with server.client() as client:
            busy = Busy(client, admin[1], words)
            busy.keys()
            words.secrets += [admin[1], gone[1], expired, *busy.made.values()]
            for secret in (gone[1], expired):
                busy.ask("GET", "/v1/status", authorization=f"Bearer {secret}")
            for part in (busy.people, busy.items, busy.wrong_keys):
                part()
            exports = busy.jobs(server.data)
            for place in said_and_kept(server, busy, words, exports):
                found.note(*hits(place))
        server.kill()
        for place in said_and_kept_after(server, words):
            found.note(*hits(place))
        lines = server.told().count('"request_id"')
        found.note(*_controls(server, words, exports, lines))
        found.figures |= {"requests": len(busy.told), "log_lines": lines, "secrets": len(words.secrets) + 1}
    finally:
        server.kill()
    return found


def said_and_kept_after(server: Victim, words: Canaries) -> Iterator[Place]:
    """Yield what is left when the server was killed."""
    everything = (*words.secrets, words.wrong, *words.people, words.title)
    yield Place("the log at the end", server.said.read_bytes(), everything)
    for path in sorted(one for one in server.data.rglob("*") if one.is_file()):
        yield Place(f"{path.name} at the end", path.read_bytes(), (*words.secrets, words.wrong))
