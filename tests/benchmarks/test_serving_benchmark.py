"""The serving benchmark: its generator against a small server of ours, its world, and the row it makes."""

import asyncio
import contextlib
import gc
import json
import os
import random
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import _load
import _shared
import bowerbird as bb
import serving
from bowerbird.core import BowerbirdError

LastRow = Callable[[], dict[str, Any]]


@pytest.fixture(autouse=True)
def quiet_collector() -> Iterator[None]:
    """The generator shares this process with torch, whose objects the collector would walk in the middle of a load."""
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()


class Stub:
    """A server that keeps to the protocol: lists of 20, events that hide an item after `slow_polls` more lists."""

    def __init__(self, *, slow_polls: int = 0, stall: tuple[float, float] = (0, 0), every: int = 0) -> None:
        self.slow_polls, self.stall, self.every = slow_polls, stall, every
        self.seen, self.users = Counter[str](), Counter[int]()
        self.heads = list[str]()
        self.hidden: dict[int, dict[int, int]] = {}
        self.event_ids = list[str]()
        self.started = time.perf_counter()
        self.connections = 0
        self.serving = list[asyncio.Task[Any]]()  # a task for each connection

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        task = asyncio.current_task()
        assert task is not None
        self.serving.append(task)
        with contextlib.closing(writer.transport), contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode()
                length = next((int(one[15:]) for one in head.split("\r\n") if one.startswith("Content-Length:")), 0)
                body = json.loads(await reader.readexactly(length)) if length else {}
                self.heads.append(head)
                since = time.perf_counter() - self.started
                if self.stall[0] <= since < self.stall[1]:
                    await asyncio.sleep(self.stall[1] - since)
                status, answer = self.answer(head.split()[1], body)
                said = json.dumps(answer)
                writer.write(f"HTTP/1.1 {status} X\r\nCONTENT-LENGTH: {len(said)}\r\n\r\n{said}".encode())
                await writer.drain()

    def answer(self, path: str, body: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        self.seen[path.split("?")[0]] += 1
        if self.every and self.seen.total() % self.every == 0:
            return 503, {}
        if path == "/v1/events":
            self.event_ids += [event["event_id"] for event in body["events"]]
            for event in body["events"]:
                self.hidden.setdefault(event["user_id"], {})[event["item_id"]] = self.slow_polls
            return 200, {"accepted": len(body["events"]), "duplicates": 0, "rejected": [], "offset": 0}
        if path == "/v1/recommendations":
            self.users[body["user_id"]] += 1
            waits = self.hidden.get(body["user_id"], {})
            gone = {item for item, polls in waits.items() if polls <= 0}
            waits.update({item: polls - 1 for item, polls in waits.items()})
            return 200, {"items": [{"item_id": item} for item in range(200) if item not in gone][: body["k"]]}
        return 200, {"items": [{"item_id": 1}]}


@contextlib.asynccontextmanager
async def listening(stub: Stub) -> AsyncIterator[int]:
    server = await asyncio.start_server(stub.serve, "127.0.0.1", 0)
    async with server:
        yield server.sockets[0].getsockname()[1]
        await asyncio.gather(*stub.serving)  # they end with their clients
        stub.serving.clear()
        await asyncio.sleep(0)  # closed transports let go of their sockets


def run(stub: Stub, **load: Any) -> dict[str, Any]:
    """Put a load on the stub, in this process."""

    async def both() -> dict[str, Any]:
        async with listening(stub) as port:
            return await _load.run(_load.Load(port=port, users=1000, items=200, **{"warm_s": 0.1, **load}))

    return asyncio.run(both())


def test_every_kind_is_asked_at_its_rate_and_over_few_connections() -> None:
    stub = Stub()
    rates = {"slates": 100.0, "events": 40.0, "popular": 60.0, "similar": 20.0}
    found = run(stub, rates=rates, seconds=1.0, arrivals="fixed", key="bb_x")
    assert {kind: one["sent"] for kind, one in found["kinds"].items()} == pytest.approx(rates, abs=2)
    assert all(one["failed"] == 0 and one["outcomes"] == {"200": one["sent"]} for one in found["kinds"].values())
    assert len(stub.event_ids) == len(set(stub.event_ids)) == 10 * stub.seen["/v1/events"]
    assert all("Authorization: Bearer bb_x\r\n" in head for head in stub.heads)
    assert stub.connections < 40
    assert 0 < found["generator_share"] < 1


def test_gaps_are_exponential_or_all_alike() -> None:
    gaps = np.diff(list(_load.due_times(1000, 20, "poisson", random.Random(0))))
    assert gaps.mean() == pytest.approx(0.001, rel=0.05)
    assert gaps.std() == pytest.approx(0.001, rel=0.05)
    assert np.diff(list(_load.due_times(100, 1, "fixed", random.Random(0)))) == pytest.approx(0.01)


def test_what_a_stall_kept_waiting_counts_from_when_it_was_due() -> None:
    stub = Stub(stall=(0.3, 0.8))
    one = run(stub, rates={"slates": 100.0}, seconds=0.9, arrivals="fixed")["kinds"]["slates"]
    assert one["failed"] == 0
    assert one["late_p99_ms"] < 100  # they left in time, although the server had not answered the ones before
    assert 400 < one["p100_ms"] < 700
    assert one["p90_ms"] > 350  # half the requests were due while nothing was answered, not the few that were under way
    assert one["p50_ms"] < one["p90_ms"]


def test_refusals_and_empty_lists_are_failures_and_are_named() -> None:
    found = run(Stub(every=5), rates={"popular": 200.0}, seconds=0.5)["kinds"]["popular"]
    assert set(found["outcomes"]) == {"200", "503"}
    assert found["failed"] == found["outcomes"]["503"] == pytest.approx(found["sent"] / 5, abs=2)
    assert found["per_s"] == pytest.approx(found["outcomes"]["200"] / 0.5)
    assert _load.outcome("slates", 200, b'{"items": []}') == "empty"
    assert _load.outcome("events", 200, b'{"accepted": 9}') == "not all accepted"


def test_a_server_that_ends_or_never_answers_is_a_failure() -> None:
    async def nobody() -> dict[str, Any]:
        async def hangs_up(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.close()

        server = await asyncio.start_server(hangs_up, "127.0.0.1", 0)
        async with server:
            port = server.sockets[0].getsockname()[1]
            return await _load.run(_load.Load(port, {"popular": 40.0}, 10, 10, seconds=0.3, warm_s=0))

    found = asyncio.run(nobody())["kinds"]["popular"]
    assert set(found["outcomes"]) == {"broken"}
    assert found["failed"] == found["sent"] > 0
    silent = run(Stub(stall=(0, 0.5)), rates={"popular": 20.0}, seconds=0.2, warm_s=0.0, timeout_s=0.1)
    assert set(silent["kinds"]["popular"]["outcomes"]) == {"timeout"}


def test_freshness_is_the_time_until_a_list_lacks_the_item() -> None:
    stub = Stub(slow_polls=3)
    found = run(stub, rates={"slates": 50.0}, seconds=0.5, probe_every_s=0.1)["freshness"]
    assert found["failed"] == 0
    assert found["probes"] == pytest.approx(5, abs=1)
    assert 0 < found["p50_ms"] <= found["p99_ms"] < 500
    probed = [user for user in stub.users if user >= 900]
    assert probed == [999 - n for n in range(found["probes"])]  # nobody else asks for them
    assert all(stub.users[user] == 5 for user in probed)  # one before the event, three as before, one without


def test_a_list_that_never_changes_is_a_failed_probe() -> None:
    stub = Stub(slow_polls=10**9)
    found = run(stub, rates={"slates": 10.0}, seconds=0.3, probe_every_s=0.1, timeout_s=0.15)["freshness"]
    assert found["failed"] == found["probes"] > 0
    assert found["p99_ms"] is None


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that keeps a small world."""
    folder = tmp_path_factory.mktemp("worlds")
    serving.make(folder / "300-2000-none", 300, 2000, "")
    return folder


def test_the_world_is_a_run_whose_lists_follow_tastes(world: Path) -> None:
    recommender = bb.load(world / "300-2000-none")
    past = recommender.past
    assert (past.n_users, past.n_items) == (300, 2000)
    assert 15 < len(past) / 300 < 25
    assert (np.diff(past.time) >= 0).all()
    assert set(recommender.past.items.columns) == {"title", "category", "price", "published_at"}
    slates = recommender.recommend(list(range(300)), k=1)
    assert set(slates.rungs) == {"model"}
    liked = np.zeros(300, int)
    liked[past.user] = past.item % 100
    assert np.mean([items[0] % 100 == liked[user] for user, items in enumerate(slates.ids)]) > 0.5


@pytest.fixture
def stubbed(world: Path, monkeypatch: pytest.MonkeyPatch) -> Stub:
    """The stub stands where the server would, and the generator runs in this process."""
    stub = Stub()

    @contextlib.contextmanager
    def served(run: Path, core: str, workers: int) -> Iterator[serving.Server]:
        yield serving.Server(pid=int(Path("/proc/self").resolve().name), port=0, ready_s=1.5, run=run, data=run)

    async def both(load: _load.Load) -> dict[str, Any]:
        async with listening(stub) as port:
            return await _load.run(serving.replace(load, port=port))

    monkeypatch.setattr(serving, "served", served)
    monkeypatch.setattr(serving, "generated", lambda load, core: asyncio.run(both(load)))
    return stub


def options(world: Path, *words: str) -> Any:
    small = ["--data", str(world), "--users", "300", "--items", "2000", "--seconds", "0.4", "--warm", "0.1"]
    return serving.options_of([*small, "--rate", "100", "--events", "300", "--probe-every", "0.1", *words])


def test_the_row_has_what_was_measured(world: Path, stubbed: Stub, last_row: LastRow) -> None:
    words = ["--rows", "lists,full", "--lists", "200", "--json", "--require", "failed<=0", "--require", "p99_ms<=400"]
    assert _shared.main(options(world, *words), serving.measure) == 0
    row = last_row()
    assert row["requests_per_s"] == pytest.approx(100, rel=0.5)
    assert row["events_per_s"] == pytest.approx(300, rel=0.6)
    assert row["lists_per_s"] == pytest.approx(200, rel=0.5)
    assert 0 < row["p50_ms"] <= row["p99_ms"]
    assert row["freshness_probes"] >= 3
    assert 0 < row["freshness_p99_ms"] < 400
    assert row["ready_s"] == 1.5
    assert row["memory_mb"] > 50
    assert row["versions_published"] == 0
    assert set(row["rows"]) == {"full", "lists"}
    assert "open-loop from=due" in row["protocol"]
    assert stubbed.seen["/v1/recommendations"] > 0 < stubbed.seen["/v1/lists/popular"]


def test_bars_of_one_row_can_be_named(world: Path, stubbed: Stub, capsys: pytest.CaptureFixture[str]) -> None:
    bar = ["--require", "rows.full.kinds.slates.p99_ms<=0.0001"]
    assert _shared.main(options(world, *bar), serving.measure) == 1
    assert "bar not reached: rows.full" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "said"),
    [(["--rows", "ful"], "the rows are full, trainer, lists"), (["--cores", "1"], "server, then generator")],
)
def test_bad_options_are_said(
    world: Path, stubbed: Stub, words: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert _shared.main(options(world, *words), serving.measure) == 2
    assert said in capsys.readouterr().err


PROGRAM = """#!{python}
import http.server, json, pathlib, sys
command, run, *words = sys.argv[1:]
if command == "update":
    (pathlib.Path(run) / "new").write_text("000002")
    (pathlib.Path(run) / "new").replace(pathlib.Path(run) / "current")
    sys.exit(0)
if not pathlib.Path(run, "current").exists():
    sys.exit("there is no run")
class Answer(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def do_GET(self):
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        n = len(json.loads(body).get("events", ())) if body else 0
        said = json.dumps({{"accepted": n, "items": [{{"item_id": 1}}]}}).encode()
        self.send_response(200 if self.path == "/readyz" or "secret" in self.headers["Authorization"] else 401)
        self.send_header("Content-Length", str(len(said)))
        self.end_headers()
        self.wfile.write(said)
    do_POST = do_GET
    def log_message(self, *_): pass
port = int(words[words.index("--port") + 1])
http.server.ThreadingHTTPServer(("127.0.0.1", port), Answer).serve_forever()
"""


@pytest.fixture
def program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A program stands where bowerbird would; return the core that everything runs on."""
    path = tmp_path / "bowerbird"
    path.write_text(PROGRAM.format(python=sys.executable))
    path.chmod(0o755)
    monkeypatch.setattr(serving, "BOWERBIRD", path)
    monkeypatch.setattr(serving, "key_of", lambda data: "secret")
    return str(min(os.sched_getaffinity(0)))


def test_server_generator_and_trainer_are_processes_of_their_own(world: Path, program: str) -> None:
    load = serving.loads(options(world, "--probe-every", "0"))["full"]
    row = serving.row_of("trainer", load, world / "300-2000-none", [program, program])
    assert row["failed"] == 0
    assert row["requests_per_s"] > 20
    assert row["events_per_s"] > 50
    assert 5 < row["memory_mb"] < 200  # of the server, not of this process
    assert 0 < row["ready_s"] < 30
    assert row["versions_published"] == 1
    assert (world / "300-2000-none" / "current").read_text() == "000001"
    assert [path.name for path in world.iterdir()] == ["300-2000-none"]  # the copy is gone


def test_a_server_that_does_not_start_says_why(tmp_path: Path, program: str) -> None:
    (tmp_path / "worlds" / "empty").mkdir(parents=True)
    with (
        pytest.raises(BowerbirdError, match="did not become ready: there is no run"),
        serving.served(tmp_path / "worlds" / "empty", program),
    ):
        pass


def test_the_generator_is_a_process_that_reads_a_load_and_prints_figures() -> None:
    async def both() -> dict[str, Any]:
        async with listening(Stub()) as port:
            process = await asyncio.create_subprocess_exec(
                sys.executable, _load.__file__, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE
            )
            load = _load.Load(port, {"popular": 50.0}, 100, 100, seconds=0.4, warm_s=0.1)
            said, _ = await process.communicate(json.dumps(serving.asdict(load)).encode())
            found = json.loads(said)
            assert isinstance(found, dict)
            return found

    found = asyncio.run(both())
    assert found["kinds"]["popular"]["outcomes"] == {"200": found["kinds"]["popular"]["sent"]}
