"""`bowerbird import`: files into a server over HTTP and into the database of one that does not run, also twice."""

import io
import json
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import date, datetime
from decimal import Decimal
from email.message import Message
from pathlib import Path
from typing import Any
from urllib.error import HTTPError, URLError

import polars as pl
import pytest
from fastapi.testclient import TestClient

import bowerbird as bb
from bowerbird.cli import client as module
from bowerbird.cli.client import TRIES, Client, TooLarge
from bowerbird.cli.importing import Reading, opened_rows, run_import
from bowerbird.core import DataError, RealWorld, RequestError
from bowerbird.serving import Engine, create_app
from bowerbird.store.catalogue import Catalogue
from bowerbird.store.database import Database, DatabaseError
from bowerbird.store.events import TableLog
from bowerbird.store.schema import Schemas

NOW = 1_700_000_000
BASE = "http://127.0.0.1:8321"


class Clock(RealWorld):
    """A clock that stands still, and sleep that is noted."""

    def __init__(self) -> None:
        self.slept: list[float] = []

    def now(self) -> int:
        return NOW

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)


class Answer(io.BytesIO):
    """What `urlopen` returns."""


def refusal(status: int, detail: str = "no", **headers: str) -> HTTPError:
    message = Message()
    for name, value in headers.items():
        message[name.replace("_", "-")] = value
    return HTTPError(BASE, status, "Reason", message, io.BytesIO(json.dumps({"detail": detail}).encode()))


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that knows likes and looks."""
    folder = tmp_path_factory.mktemp("shop") / "run"
    rows = [(f"u{user}", f"i{item}", kind, NOW - 9_000 + user)
            for user in range(8) for item in range(user % 2, 8, 2) for kind in ("like", "look")]  # fmt: skip
    frame = pl.DataFrame(rows, schema=["user_id", "item_id", "event", "time"], orient="row")
    bb.fit(bb.read(frame), "itemknn").save(folder)
    return folder


@pytest.fixture
def engine(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Engine:
    monkeypatch.setattr(Engine, "_keep", lambda engine: None)
    return Engine(run, tmp_path / "data", world=Clock())


@pytest.fixture
def asked(engine: Engine) -> Iterator[TestClient]:
    with TestClient(create_app(engine), base_url=BASE) as client:
        yield client


def through(client: TestClient, posts: list[int] | None = None) -> Callable[..., Any]:
    """What opens addresses in the application of a test client; `posts` gets the number of bytes of each."""

    def opened(request: Any, *, timeout: float) -> Any:
        if posts is not None:
            posts.append(len(request.data))
        path = request.full_url.removeprefix(BASE)
        answer = client.request(request.method, path, content=request.data, headers=dict(request.headers))
        if answer.is_success:
            return Answer(answer.content)
        message = Message()
        for name, value in answer.headers.items():
            message[name] = value
        raise HTTPError(request.full_url, answer.status_code, answer.reason_phrase, message, io.BytesIO(answer.content))

    return opened


def document(capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    return found


def table(folder: Path, name: str, **columns: list[Any]) -> str:
    frame = pl.DataFrame(columns)
    path = folder / name
    frame.write_csv(path) if path.suffix == ".csv" else frame.write_parquet(path)
    return str(path)


def day(folder: Path, n: int = 3_000, name: str = "day.csv") -> str:
    """Events of a day, the newest first."""
    rows = range(n)
    return table(folder, name, user_id=[f"u{row % 50}" for row in rows], item_id=[f"i{row % 8}" for row in rows],
                 event=["look" if row % 3 else "like" for row in rows], time=[NOW - row for row in rows])  # fmt: skip


# ── both ways ─────────────────────────────────────────────────────────────────────────────────────────────────────


def test_events_are_taken_over_http_once_however_often_they_are_sent(
    asked: TestClient, engine: Engine, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    posts: list[int] = []
    ask = Client(BASE, open=through(asked, posts))
    files = {"events": day(tmp_path)}
    assert run_import(files, server=BASE, client=ask, as_json=True) == 0
    told = {"source": files["events"], "new": 3000, "known": 0, "rejected": 0, "first_rejected": []}
    assert document(capsys) == {"to": BASE, "events": told}
    assert len(posts) == 3
    assert run_import(files, server=BASE, client=ask, as_json=True) == 0
    assert document(capsys)["events"] == told | {"new": 0, "known": 3000}
    assert engine.log.end == 3000
    assert [one.time for _, one in engine.log.page(limit=2)] == [NOW - 2999, NOW - 2998]  # the oldest first
    assert len(engine.view.people.deeds("uu0")) == 60


def test_a_longer_file_and_another_format_add_what_is_new(
    asked: TestClient, engine: Engine, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ask = Client(BASE, open=through(asked))
    run_import({"events": day(tmp_path, 40)}, server=BASE, client=ask)
    run_import({"events": day(tmp_path, 50, "day.parquet")}, server=BASE, client=ask)
    assert engine.log.end == 50
    assert "50" not in capsys.readouterr().err


def test_a_database_without_a_server_gets_the_same(
    asked: TestClient, engine: Engine, run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    files = {
        "events": day(tmp_path, 30),
        "items": table(tmp_path, "items.csv", sku=["i1", "n1"], product_name=["One", "New"], price=[1.5, None]),
        "users": table(tmp_path, "users.parquet", user_id=["u1"], city=["Oslo"]),
    }
    run_import(files, server=BASE, client=Client(BASE, open=through(asked)), as_json=True)
    over_http = document(capsys)
    beside = tmp_path / "beside"
    for known in (False, True):
        assert run_import(files, data_dir=beside, run=run, as_json=True, world=Clock()) == 0
        told = document(capsys)
        assert told.pop("to") == str(beside)
        for name, n in (("items", 2), ("users", 1), ("events", 30)):
            assert (told[name]["new"], told[name]["known"]) == ((0, n) if known else (n, 0))
            assert over_http[name]["new"] == n
    with closing(Database(beside)) as database:
        log, catalogue = TableLog(database), Catalogue(database)
        assert log.read().equals(engine.log.read())
        for kind in ("item", "user"):
            mine, other = (
                [(one.id, one.properties, one.available) for one in where.page(kind, limit=9)]
                for where in (catalogue, engine.catalogue)
            )
            assert mine == other
    assert [one.properties for one in engine.catalogue.page("item")] == [
        {"title": "One", "price": 1.5}, {"title": "New"}
    ]  # fmt: skip


@pytest.mark.parametrize("over_http", [True, False])
def test_rows_that_are_rejected_are_told_by_their_lines_and_the_others_are_kept(
    over_http: bool, asked: TestClient, run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    names = ["like", "wish", "like", "look", "wishes", *["wish"] * 9]
    source = table(tmp_path, "odd.csv", user_id=[f"u{row}" for row in range(14)], item_id=["i1"] * 14, event=names,
                   time=list(range(NOW, NOW + 14)))  # fmt: skip
    where: dict[str, Any] = {"server": BASE, "client": Client(BASE, open=through(asked))}
    if not over_http:
        where = {"data_dir": tmp_path / "beside", "run": run}
    assert run_import({"events": source}, as_json=True, **where) == 1
    told = document(capsys)["events"]
    assert (told["new"], told["rejected"], len(told["first_rejected"])) == (3, 11, 5)
    first = told["first_rejected"][0]
    assert (first["row"], first["where"], first["code"], first["pointer"]) == (2, "line 3", "unknown_event", "/event")
    assert first["detail"].startswith('no event is named "wish".')
    assert run_import({"events": source}, **where) == 1
    said = capsys.readouterr()
    assert f"rejected {source}, line 3: /event no event is named" in said.err
    assert "and 6 more rows" in said.err
    assert "there before" in said.out


def test_declared_types_are_known_in_a_database_too(run: Path, tmp_path: Path) -> None:
    source = table(tmp_path, "odd.csv", user_id=["u1"], item_id=["i1"], event=["wish"])
    data = tmp_path / "data"
    assert run_import({"events": source}, data_dir=data, run=run) == 1
    with closing(Database(data)) as database:
        Schemas(database).put([{"name": "wish"}])
    assert run_import({"events": source}, data_dir=data, run=run) == 0


def test_the_run_is_found_around_its_data_directory(run: Path, tmp_path: Path) -> None:
    assert run_import({"events": day(tmp_path, 5)}, data_dir=run / "server") == 0
    with pytest.raises(RequestError, match="is no run directory, so no event type is known"):
        run_import({"events": day(tmp_path, 5)}, data_dir=tmp_path / "data")


def test_a_server_that_runs_has_its_database_for_itself(engine: Engine, run: Path, tmp_path: Path) -> None:
    with closing(engine), pytest.raises(DatabaseError, match="another process has this data directory"):
        run_import({"events": day(tmp_path, 5)}, data_dir=engine.data, run=run)


def test_nothing_is_kept_where_a_file_cannot_be_read(run: Path, tmp_path: Path) -> None:
    items = table(tmp_path, "items.csv", item_id=["n1"])
    for files in ({"items": items, "events": "nowhere.csv"}, {"items": items, "users": "nowhere.jsonl"}):
        with pytest.raises(DataError, match="nowhere"):
            run_import(files, data_dir=tmp_path / "data", run=run)
    assert not (tmp_path / "data").exists()


@pytest.mark.parametrize(
    ("files", "where", "says"),
    [
        ({}, {"server": BASE}, "there is nothing to import"),
        ({"events": "x.csv"}, {}, "where to"),
        ({"events": "x.csv"}, {"server": BASE, "data_dir": Path("x")}, "where to"),
    ],
)
def test_what_is_missing_is_told(files: dict[str, str], where: dict[str, Any], says: str) -> None:
    with pytest.raises(RequestError, match=says):
        run_import(files, **where)


# ── what is read ──────────────────────────────────────────────────────────────────────────────────────────────────


def rows_of(name: str, source: str, **reading: Any) -> list[Any]:
    return [row for _, row in opened_rows(name, source, Reading(**reading)).rows]


def test_an_event_is_named_after_what_it_says(tmp_path: Path) -> None:
    columns = {"user_id": ["a", "a", "b", "a"], "item_id": ["x", "x", "x", "y"], "time": [NOW, NOW, NOW, NOW]}
    one = rows_of("events", table(tmp_path, "one.csv", **columns))
    assert len({row["event_id"] for row in one}) == 4  # the same row twice is two events
    turned = {name: values[::-1] for name, values in columns.items()}
    other = rows_of("events", table(tmp_path, "other.parquet", **turned))
    assert {row["event_id"] for row in one} == {row["event_id"] for row in other}
    later = rows_of("events", table(tmp_path, "later.csv", **columns | {"time": [NOW + 1] * 4}))
    assert not {row["event_id"] for row in one} & {row["event_id"] for row in later}
    assert set(one[0]) == {"event_id", "user_id", "item_id", "event", "weight", "time"}


def test_without_times_it_is_named_after_the_whole_file_too(tmp_path: Path) -> None:
    columns = {"user_id": ["a", "b"], "item_id": ["x", "y"]}
    one = rows_of("events", table(tmp_path, "one.csv", **columns))
    assert one == rows_of("events", table(tmp_path, "copy.csv", **columns))
    longer = rows_of("events", table(tmp_path, "longer.csv", user_id=["a", "b", "c"], item_id=["x", "y", "z"]))
    assert not {row["event_id"] for row in one} & {row["event_id"] for row in longer}


def test_a_column_of_names_is_taken_where_it_has_any(tmp_path: Path) -> None:
    source = table(
        tmp_path, "named.csv", event_id=["007", None, "9"], uid=["a", "b", "c"], sku=["x"] * 3, n=[1.0, 2.0, 2.5]
    )
    rows = rows_of("events", source, columns={"weight": "n"}, kind="look")
    assert [row["event_id"][:7] for row in rows] == ["007", "import-", "9"]
    assert [(row["user_id"], row["item_id"], row["event"], row["weight"]) for row in rows] == [
        ("a", "x", "look", 1.0), ("b", "x", "look", 2.0), ("c", "x", "look", 2.5)
    ]  # fmt: skip


def test_a_type_for_all_is_refused_where_a_column_says_it(tmp_path: Path) -> None:
    with pytest.raises(RequestError, match="--type is like, but a column of"):
        rows_of("events", day(tmp_path, 3), kind="like")


def test_numbers_stay_numbers_and_rows_keep_their_places(tmp_path: Path) -> None:
    source = table(tmp_path, "numbers.parquet", user_id=[3, 1], item_id=[7, 8], time=[NOW + 5, NOW])
    opened = opened_rows("events", source, Reading())
    rows = list(opened.rows)
    assert [(number, row["user_id"]) for number, row in rows] == [(1, 1), (0, 3)]
    assert (opened.total, opened.where(1)) == (2, "row 2")


def test_documents_hold_what_json_can(tmp_path: Path) -> None:
    frame = pl.DataFrame(
        {
            "title": ["a", "b"],
            "item_id": [1, 2],
            "since": [date(2024, 1, 2), None],
            "at": pl.Series([datetime(2024, 1, 2, 3), None], dtype=pl.Datetime("us")),
            "there": pl.Series([datetime(2024, 1, 2, 3), None]).dt.replace_time_zone("Asia/Tokyo"),
            "price": [float("nan"), float("inf")],
            "cost": [Decimal("1.50"), None],
            "tags": [["x", "y"], []],
            "shares": [[0.5, float("nan")], None],
            "size": [{"w": 1, "d": date(1970, 1, 2)}, None],
            "available": [True, False],
            "expires": [None, datetime(1970, 1, 1, 1)],
        }
    )
    frame.write_parquet(tmp_path / "items.parquet")
    assert rows_of("items", str(tmp_path / "items.parquet")) == [
        {
            "id": 1,
            "available": True,
            "properties": {
                "title": "a", "since": 1_704_153_600, "at": 1_704_164_400, "there": 1_704_164_400 - 9 * 3600,
                "cost": 1.5, "tags": ["x", "y"], "shares": [0.5, None], "size": {"w": 1, "d": 86_400},
            },
        },
        {"id": 2, "available": False, "expires": 3600, "properties": {"title": "b", "tags": []}},
    ]  # fmt: skip


def test_what_is_available_is_true_or_false(tmp_path: Path) -> None:
    with pytest.raises(DataError, match='column "available": String says not whether'):
        rows_of("items", table(tmp_path, "items.csv", item_id=["a"], available=["perhaps"]))


def test_lines_of_json_are_taken_as_they_are(
    asked: TestClient, engine: Engine, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    good = {"event_id": "a", "event": "like", "item_id": "i1", "session_id": "s"}
    lines = [json.dumps(good), "{broken", "7", json.dumps({"event_id": "b"})]
    (tmp_path / "events.jsonl").write_bytes("\n".join(lines).encode() + b'\n{"event_id": "\xff"}\n')
    (tmp_path / "items.jsonl").write_text(
        '{"id": "n", "properties": {"a": [1]}, "available": false, "expires": null}\n'
    )
    files = {"items": str(tmp_path / "items.jsonl"), "events": str(tmp_path / "events.jsonl")}
    assert run_import(files, server=BASE, client=Client(BASE, open=through(asked)), as_json=True) == 1
    told = document(capsys)
    assert (told["items"]["new"], told["events"]["new"], told["events"]["rejected"]) == (1, 1, 4)
    assert [(one["where"], one["detail"]) for one in told["events"]["first_rejected"][:2]] == [
        ("line 2", "this is no JSON object"), ("line 3", "this is no JSON object")
    ]  # fmt: skip
    assert engine.log.find("a") is not None
    assert engine.catalogue.get("item", "n") is not None


# ── the client ────────────────────────────────────────────────────────────────────────────────────────────────────


def answering(*answers: Any) -> tuple[Client, Clock, list[Any]]:
    """Return a client of a server that answers so, one request after the other, and what it is asked."""
    clock, requests, rest = Clock(), list[Any](), iter(answers)

    def opened(request: Any, *, timeout: float) -> Any:
        requests.append(request)
        one = next(rest)
        if isinstance(one, Exception):
            raise one
        return Answer(json.dumps(one).encode())

    return Client(BASE + "/", "bb_secret", world=clock, open=opened), clock, requests


def test_a_busy_server_is_asked_again_when_it_says_so() -> None:
    client, clock, requests = answering(
        refusal(429, Retry_After="7"), refusal(503, Retry_After="600"), refusal(503), {"ok": 1}
    )
    assert client.post("/v1/events", {"a": 1}) == {"ok": 1}
    assert clock.slept == [7, 60, 1]
    assert {request.data for request in requests} == {b'{"a": 1}'}
    assert requests[0].full_url == f"{BASE}/v1/events"
    assert requests[0].headers["Authorization"] == "Bearer bb_secret"
    assert requests[0].headers["Content-type"] == "application/json"


def test_a_server_that_stays_busy_is_given_up() -> None:
    client, clock, _ = answering(*[refusal(503, "overloaded") for _ in range(TRIES)])
    with pytest.raises(RequestError, match="answers 503: overloaded"):
        client.post("/v1/events", {})
    assert len(clock.slept) == TRIES - 1


def test_a_server_that_goes_away_is_waited_for_and_one_that_was_never_there_is_not() -> None:
    gone = URLError(ConnectionRefusedError(111, "Connection refused"))
    client, clock, _ = answering({}, gone, ConnectionResetError(), {"ok": 1})
    client.post("/v1/events", {})
    assert client.post("/v1/events", {}) == {"ok": 1}
    assert clock.slept == [1, 1]
    client, clock, _ = answering(gone)
    with pytest.raises(RequestError, match=r"cannot be reached: .*Connection refused.* Does the server run there\?"):
        client.post("/v1/events", {})
    assert clock.slept == []


@pytest.mark.parametrize(
    ("status", "says"),
    [
        (401, "answers 401: no Give one with --key"),
        (403, "answers 403: no"),
        (301, "answers 301"),
        (500, "answers 500"),
    ],
)
def test_what_is_refused_for_good_is_told(status: int, says: str) -> None:
    client, clock, _ = answering(refusal(status))
    with pytest.raises(RequestError, match=says):
        client.post("/v1/events", {})
    assert clock.slept == []


def test_a_refusal_that_is_no_json_is_told_by_its_reason() -> None:
    client, _, _ = answering(HTTPError(BASE, 502, "Bad Gateway", Message(), io.BytesIO(b"<html>")))
    with pytest.raises(RequestError, match="answers 502: Bad Gateway"):
        client.post("/v1/events", {})


@pytest.mark.parametrize(
    "server", ["127.0.0.1:8321", "file:///etc/passwd", "ftp://x", "http://", "http://x?y=1", "http://["]
)
def test_what_is_no_address_is_refused(server: str) -> None:
    with pytest.raises(RequestError, match="is no address of a server"):
        Client(server)


@pytest.mark.parametrize("key", ["bb_one\nbb_two", "bb_é", "bb one", "", "x" * 1_001])
def test_what_is_no_key_is_refused_and_not_told(key: str) -> None:
    with pytest.raises(RequestError, match="the key has letters or spaces that no key has") as caught:
        Client("http://127.0.0.1:8321", key)
    assert "bb_" not in str(caught.value)


def test_what_is_too_large_together_goes_in_halves(
    asked: TestClient,
    engine: Engine,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "LONGEST_BODY", 2_000)
    texts = ["x" * 300 for _ in range(20)]
    texts[7], texts[13] = "y" * 3_000, "ok"
    source = table(tmp_path, "items.csv", item_id=[f"n{row}" for row in range(19)] + ["a\u0001b"], text=texts)
    posts: list[int] = []
    ask = Client(BASE, open=through(asked, posts))
    assert run_import({"items": source}, server=BASE, client=ask, as_json=True) == 1
    told = document(capsys)["items"]
    assert (told["new"], told["rejected"]) == (18, 2)
    assert [one["row"] for one in told["first_rejected"]] == [8, 20]
    assert max(posts) <= 2_000
    with pytest.raises(TooLarge):
        ask.post("/v1/items:batch", {"rows": ["z" * 2_000]})
    refusing, _, _ = answering(refusal(413), {"kept": 1, "created": 1, "rejected": []})  # as a proxy does
    assert run_import({"items": table(tmp_path, "one.csv", item_id=["a"])}, server=BASE, client=refusing) == 1
