"""A PostgreSQL that stops, crashes, stalls and has no room for more: what was acknowledged is kept, and once."""

import os
import signal
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager, suppress
from pathlib import Path

import psycopg
import pytest
from fastapi.testclient import TestClient

import bowerbird as bb
from bowerbird.cli.doctor import run_doctor
from bowerbird.core import BowerbirdError
from bowerbird.data import Interactions
from bowerbird.serving import Engine, create_app
from bowerbird.store import LogEvent
from bowerbird.store import postgres as module
from bowerbird.store.database import StoreAway
from bowerbird.store.events import TableLog
from bowerbird.store.keys import Keys
from bowerbird.store.opening import opened, place
from bowerbird.store.postgres import Postgres
from cluster import FAST, Cluster

DURABLE = "fsync=on full_page_writes=on"
WRITERS, WAIT_S = 8, 60.0


@pytest.fixture
def cluster() -> Iterator[Cluster]:
    """A server of the test's own, which keeps what it says it keeps."""
    cluster = Cluster(f"{DURABLE} max_connections=12 superuser_reserved_connections=0")
    yield cluster
    cluster.close()


@pytest.fixture
def data(cluster: Cluster, tmp_path: Path) -> Path:
    place(tmp_path / "data", cluster.new())
    return tmp_path / "data"


class Ingest:
    """Writers that send each event again until it is acknowledged, as a client does."""

    def __init__(self, database: Postgres) -> None:
        self.log, self.acknowledged, self.refused = TableLog(database), set[str](), 0
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._write, args=(name,)) for name in range(WRITERS)]

    def _write(self, name: int) -> None:
        number = 0
        while not self._stop.is_set():
            names = [f"{name}.{number}.{part}" for part in range(3)]
            try:
                self.log.append([LogEvent(one, "like", user_id=f"u{name}", item_id=number) for one in names])
            except BowerbirdError:
                self.refused += 1
                time.sleep(0.05)
                continue
            self.acknowledged.update(names)
            number += 1

    def reach(self, more: int) -> None:
        """Wait until so many more events are acknowledged."""
        aim, end = len(self.acknowledged) + more, time.monotonic() + WAIT_S
        while len(self.acknowledged) < aim:
            assert time.monotonic() < end, f"{len(self.acknowledged)} of {aim} acknowledged, {self.refused} refused"
            time.sleep(0.01)

    @contextmanager
    def running(self) -> Iterator["Ingest"]:
        for one in self._threads:
            one.start()
        try:
            yield self
        finally:
            self._stop.set()
            for one in self._threads:
                one.join(WAIT_S)


def kept_once(data: Path, acknowledged: set[str]) -> int:
    """Check that all that was acknowledged is there, once, at offsets without gaps; return how many events are."""
    with closing(opened(data)) as database:
        frame = TableLog(database).read()
    ids = frame["event_id"].to_list()
    assert len(ids) == len(set(ids))
    assert acknowledged <= set(ids)
    assert frame["offset"].to_list() == list(range(len(ids)))
    return len(ids)


@pytest.mark.parametrize("mode", ["fast", "immediate"])
def test_a_server_that_is_stopped_in_the_middle_of_writes_loses_nothing(
    cluster: Cluster, data: Path, mode: str
) -> None:
    with closing(opened(data)) as database, Ingest(database).running() as ingest:
        for _ in range(4):
            ingest.reach(60)
            cluster.stop(mode)  # `immediate` is a crash: it recovers from its log
            cluster.start()
        ingest.reach(60)
    assert kept_once(data, ingest.acknowledged) >= 300


def test_a_connection_that_is_cut_at_any_moment_loses_nothing(cluster: Cluster, data: Path) -> None:
    cut = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'bowerbird'"
    with (
        closing(opened(data)) as database,
        Ingest(database).running() as ingest,
        psycopg.connect(cluster.url(), autocommit=True) as other,
    ):
        for _ in range(60):
            ingest.reach(3)
            other.execute(cut)
    kept_once(data, ingest.acknowledged)
    assert ingest.refused == 0  # each was tried again before its patience ended


def test_a_commit_whose_answer_was_lost_is_not_done_twice(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The answer is thrown away after COMMIT was done, and before it was sent."""
    done: list[str] = []
    execute = module.PostgresConnection.execute

    def losing(self: module.PostgresConnection, sql: str, *values: object) -> object:
        if sql != "COMMIT" or len(done) > 1:
            return execute(self, sql, *values)
        done.append(sql)
        if len(done) == 1:
            execute(self, sql)  # kept, but nobody is told
        self.raw.close()
        raise psycopg.OperationalError("the connection was lost")

    with closing(opened(data)) as database:
        keys = Keys(database)
        monkeypatch.setattr(module.PostgresConnection, "execute", losing)
        _, first = keys.create("kept", ["recommend"])  # once more, its digest would be there already
        _, second = keys.create("not kept", ["recommend"])  # it is done again
    assert len(done) == 2
    with closing(opened(data)) as database:
        keys = Keys(database)
        assert [one.name for one in keys.all()] == ["kept", "not kept"]
        assert keys.check(first) is not None
        assert keys.check(second) is not None


def test_a_server_that_stalls_is_waited_for_and_then_told_of(
    cluster: Cluster, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "STATEMENT_MS", 400)
    monkeypatch.setattr(module, "PATIENCE_S", 1.0)
    with closing(opened(data)) as database:
        log = TableLog(database)
        log.append([LogEvent("before", "like")])
        with psycopg.connect((data / "store.url").read_text().strip()) as other:
            other.execute("LOCK TABLE bowerbird.events IN ACCESS EXCLUSIVE MODE")
            with pytest.raises(StoreAway, match="does not answer"):
                log.append([LogEvent("meanwhile", "like")])
        assert log.append([LogEvent("meanwhile", "like"), LogEvent("after", "like")]) == 3
    assert kept_once(data, {"before", "meanwhile", "after"}) == 3


def test_a_frozen_server_goes_on_where_it_was(cluster: Cluster, data: Path) -> None:
    with closing(opened(data)) as database, Ingest(database).running() as ingest:
        ingest.reach(30)
        with psycopg.connect(cluster.url(), autocommit=True) as other:
            rows = other.execute("SELECT pid FROM pg_stat_activity WHERE application_name = 'bowerbird'").fetchall()
        pids = [cluster.pid(), *(pid for (pid,) in rows)]
        for pid in pids:
            os.kill(pid, signal.SIGSTOP)
        time.sleep(2.0)
        for pid in pids:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)
        ingest.reach(30)
    kept_once(data, ingest.acknowledged)


def test_without_a_connection_left_reads_are_refused_and_writes_go_on(cluster: Cluster, data: Path) -> None:
    with closing(opened(data)) as database:
        log = TableLog(database)
        log.append([LogEvent("a", "like")])
        while database._idle:
            database._idle.pop().close()
        taken = []
        with suppress(psycopg.OperationalError):
            while True:
                taken.append(psycopg.connect(cluster.url()))
        with pytest.raises(StoreAway, match="too many clients"):
            log.find("a")
        assert log.append([LogEvent("b", "like")]) == 2  # over the connection that it has
        for one in taken:
            one.close()
        end = time.monotonic() + WAIT_S
        while True:
            with suppress(StoreAway):
                assert log.find("b") is not None
                break
            assert time.monotonic() < end
    kept_once(data, {"a", "b"})


def test_over_http_lists_go_on_and_events_are_refused_until_it_is_back(
    cluster: Cluster, data: Path, two_by_two: Interactions, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "PATIENCE_S", 0.5)
    bb.fit(two_by_two, "popularity").save(data.parent / "run")
    event = {"event_id": "e", "event": "interaction", "user_id": "ann", "item_id": "y"}
    engine = Engine(data.parent / "run", data)
    with TestClient(create_app(engine), base_url="http://localhost", raise_server_exceptions=False) as client:
        cluster.stop()
        refused = client.post("/v1/events", json={"events": [event]})
        assert (refused.status_code, refused.json()["code"], refused.json()["retryable"]) == (503, "store_away", True)
        assert refused.headers["Retry-After"] == "1"
        assert client.get("/v1/items/x").json()["code"] == "store_away"
        told = client.post("/v1/recommendations", json={"user_id": "ann"}).json()
        assert [one["item_id"] for one in told["items"]] == ["y"]
        assert client.post("/v1/recommendations", json={"user_id": "ann", "min_offset": 9}).json()["stale"] is True
        cluster.start()
        taken = client.post("/v1/events", json={"events": [event]}).json()
        assert (taken["accepted"], taken["rejected"]) == (1, [])
        told = client.post("/v1/recommendations", json={"user_id": "ann", "min_offset": taken["offset"]}).json()
        assert (told["items"], told["stale"]) == ([], False)  # ann has both items now


def test_the_last_second_before_a_stop_is_not_answered_for_twice(cluster: Cluster, data: Path) -> None:
    """Closing commits what waits."""
    database = opened(data)
    log = TableLog(database)
    with ThreadPoolExecutor(8) as pool:
        waiting = list(pool.map(lambda n: log.submit([LogEvent(str(n), "like")]), range(200)))
    database.close()
    assert sorted(one.result().start for one in waiting) == list(range(200))
    assert kept_once(data, set(map(str, range(200)))) == 200


def test_doctor_says_whether_it_answers_and_keeps_what_it_says(
    cluster: Cluster, data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    opened(data).close()
    assert run_doctor(None, data, as_json=True) == 0
    assert "answers: PostgreSQL" in capsys.readouterr().out
    cluster.stop()
    assert run_doctor(None, data, as_json=True) == 1
    assert "does not answer" in capsys.readouterr().out
    cluster.settings = FAST
    cluster.start()
    assert run_doctor(None, data, as_json=True) == 1
    assert "fsync is off" in capsys.readouterr().out
