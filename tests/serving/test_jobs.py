"""Jobs: files in and out, backups and the way back, and what is asked for twice."""

import json
import threading
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from fastapi.testclient import TestClient
from shop import Clock, Start, client_of, ids

from bowerbird.core import BundleError
from bowerbird.recommender import Recommender
from bowerbird.serving import Engine
from bowerbird.serving.jobs import Job, Jobs
from bowerbird.store.backups import restore


def finished(client: TestClient, **asked: Any) -> dict[str, Any]:
    """Start a job and return what became of it."""
    answer = client.post("/v1/jobs", json=asked)
    assert answer.status_code == 202, answer.text
    assert answer.headers["location"] == f"/v1/jobs/{answer.json()['id']}"
    jobs: Jobs = client.app.state.jobs  # type: ignore[attr-defined]
    jobs._waiting.join()
    told: dict[str, Any] = client.get(answer.headers["location"]).json()
    return told


def put_file(engine: Engine, name: str, lines: list[Any]) -> None:
    folder = engine.data / "imports"
    folder.mkdir(exist_ok=True)
    text = "\n".join(one if isinstance(one, str) else json.dumps(one) for one in lines)
    (folder / name).write_text(text + "\n", encoding="utf-8")


def test_items_are_imported_and_the_first_wrong_line_is_told(client: TestClient, engine: Engine) -> None:
    rows: list[Any] = [{"id": f"n{n}", "properties": {"n": n}} for n in range(2500)]
    put_file(
        engine, "items.jsonl", [*rows[:1200], "{broken", *rows[1200:], {"id": ""}, '{"id": "x", "properties": NaN}']
    )
    job = finished(client, kind="import", what="items", file="items.jsonl")
    assert (job["state"], job["done"]) == ("done", 2500)
    assert job["detail"].startswith("2,500 rows kept, 3 wrong; line 1201: ")
    engine.tend()
    assert client.get("/v1/status").json()["new_items"] == 2500
    assert client.get("/v1/items/n2499").json()["properties"] == {"n": 2499}


def test_events_are_imported_by_the_rules_of_events(client: TestClient, engine: Engine) -> None:
    good = {"event_id": "a", "event": "like", "item_id": "i1", "user_id": "u0"}
    wrong = [good | {"event_id": "b", "event": "slate"}, good | {"event_id": "c", "user_id": None}]
    put_file(engine, "events.jsonl", [good, *wrong])
    job = finished(client, kind="import", what="events", file="events.jsonl")
    assert job["detail"].startswith("1 rows kept, 2 wrong; line 2: no event is named")
    again = finished(client, kind="import", what="events", file="events.jsonl")
    assert again["state"] == "done"
    assert engine.log.end == 1


def test_an_import_follows_no_link(client: TestClient, engine: Engine, tmp_path: Path) -> None:
    put_file(engine, "items.jsonl", [{"id": "mine"}])
    (tmp_path / "secret.jsonl").write_text('{"id": "theirs"}')
    link = engine.data / "imports" / "link.jsonl"
    link.symlink_to(tmp_path / "secret.jsonl")
    asked = {"kind": "import", "what": "items", "file": "link.jsonl"}
    assert client.post("/v1/jobs", json=asked).status_code == 422
    link.unlink()
    link.write_text('{"id": "mine too"}')
    jobs: Jobs = client.app.state.jobs  # type: ignore[attr-defined]
    go_on = threading.Event()
    held = jobs._do
    jobs._do = lambda job: (go_on.wait(10), held(job))  # type: ignore[method-assign]
    job = client.post("/v1/jobs", json=asked).json()
    link.unlink()
    link.symlink_to(tmp_path / "secret.jsonl")  # between the question and its turn
    go_on.set()
    jobs._waiting.join()
    assert client.get(f"/v1/jobs/{job['id']}").json()["state"] == "failed"
    assert client.get("/v1/items/theirs").status_code == 404


@pytest.mark.parametrize("asked", [
    {"kind": "import", "what": "items"},
    {"kind": "import", "what": "feedback", "file": "x.parquet"},
    {"kind": "import", "what": "items", "file": "nothing.jsonl"},
    {"kind": "import", "what": "items", "file": "../bowerbird.db"},
    {"kind": "import", "file": "x.jsonl"},
    {"kind": "export"},
    {"kind": "evaluate"},
])  # fmt: skip
def test_a_job_that_lacks_something_is_refused_at_once(reader: TestClient, asked: dict[str, Any]) -> None:
    assert reader.post("/v1/jobs", json=asked).status_code == 422


def test_what_is_exported_can_be_fetched_and_imported_again(client: TestClient, engine: Engine) -> None:
    client.put("/v1/items/x", json={"properties": {"a": [1, "ü"]}, "available": False})
    client.post("/v1/events", json={"events": [{"event_id": "e", "event": "like", "item_id": "x", "user_id": "u0"}]})
    items = finished(client, kind="export", what="items")
    text = client.get(f"/v1/jobs/{items['id']}/file").text
    assert json.loads(text) == {"id": "x", "properties": {"a": [1, "ü"]}, "available": False, "expires": None}
    client.delete("/v1/items/x")
    put_file(engine, "again.jsonl", [text.strip()])
    assert finished(client, kind="import", what="items", file="again.jsonl")["done"] == 1
    assert client.get("/v1/items/x").json()["properties"] == {"a": [1, "ü"]}
    events = finished(client, kind="export", what="events")
    frame = pl.read_parquet(client.get(f"/v1/jobs/{events['id']}/file").content)
    assert frame["event_id"].to_list() == ["e"]


def test_what_came_of_answers_is_exported(client: TestClient, engine: Engine) -> None:
    asked = client.post("/v1/recommendations", json={"user_id": "u2", "k": 2}).json()
    liked, shown = asked["items"][1]["item_id"], asked["request_id"]
    deed = {"user_id": "u2", "item_id": liked}
    looks = [
        {"event_id": "a", "event": "look", "request_id": shown},
        {"event_id": "b", "event": "dislike", "request_id": shown},
    ]
    lost = {"event_id": "c", "event": "look", "request_id": "elsewhere"}
    client.post("/v1/events", json={"events": [deed | one for one in (*looks, lost)]})
    job = finished(client, kind="export", what="feedback")
    assert job["detail"].startswith("2 rows in feedback-")
    frame = pl.read_parquet(client.get(f"/v1/jobs/{job['id']}/file").content)
    assert frame.select("request_id", "item_id", "event", "reward").rows()[1] == (shown, liked, "look", 0.5)
    assert frame["reward"].to_list() == [0.0, 0.5]  # a dislike is worth nothing
    job = finished(client, kind="export", what="orphans")
    frame = pl.read_parquet(client.get(f"/v1/jobs/{job['id']}/file").content)
    assert frame.select("event_id", "reason").rows() == [("c", "unknown_request")]


def test_unknown_jobs_and_jobs_without_a_file_say_so(client: TestClient) -> None:
    for path in ("/v1/jobs/none", "/v1/jobs/none/file"):
        assert client.get(path).status_code == 404
    assert client.post("/v1/jobs/none:cancel").status_code == 404
    job = finished(client, kind="update")  # there is no run directory to learn in
    assert job["state"] == "failed"
    assert client.get(f"/v1/jobs/{job['id']}/file").status_code == 422
    assert [one["id"] for one in client.get("/v1/jobs").json()["jobs"]] == [job["id"]]


def test_a_job_is_cancelled_between_two_steps(client: TestClient, engine: Engine) -> None:
    put_file(engine, "items.jsonl", [{"id": f"n{n}"} for n in range(2500)])
    reached, go_on = threading.Event(), threading.Event()
    jobs: Jobs = client.app.state.jobs  # type: ignore[attr-defined]
    step = jobs._step

    def slow(job: Job, rows: int = 0) -> None:
        if rows:
            reached.set()
            assert go_on.wait(10)
        step(job, rows)

    jobs._step = slow  # type: ignore[method-assign]
    first, second = (client.post("/v1/jobs", json={"kind": "import", "what": "items", "file": "items.jsonl"}).json()
                     for _ in range(2))  # fmt: skip
    assert reached.wait(10)
    states = [client.post(f"/v1/jobs/{one['id']}:cancel").json()["state"] for one in (first, second)]
    assert states == ["running", "waiting"]
    go_on.set()
    jobs._waiting.join()
    ended = [client.get(f"/v1/jobs/{one['id']}").json() for one in (first, second)]
    assert [(one["state"], one["done"]) for one in ended] == [("cancelled", 1000), ("cancelled", 0)]


def test_a_job_that_fails_in_a_way_that_nobody_foresaw_does_not_end_the_others(
    client: TestClient, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise KeyError("unforeseen")

    with monkeypatch.context() as patch:
        patch.setattr(Jobs, "_export", fail)
        assert finished(client, kind="export", what="items")["state"] == "failed"
    assert finished(client, kind="export", what="items")["state"] == "done"


# ── backups ───────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def saved(start: Start, neighbours: Recommender, tmp_path: Path) -> Engine:
    """An engine over a version that is saved."""
    neighbours.save(tmp_path / "run")
    return start()


def answers(engine: Engine) -> list[Any]:
    return [engine.recommend({"user_id": f"u{n}", "k": 20}, f"{id(engine)}-{n}")["items"] for n in range(20)]


def backup_of(engine: Engine) -> tuple[Path, list[Any]]:
    """Return a backup of an engine that was in use, and what it answered at that moment."""
    with client_of(engine) as client:
        events = [
            {"event_id": f"e{n}", "event": "like", "item_id": f"i{n % 20}", "user_id": f"u{n % 7}"} for n in range(50)
        ]
        client.post("/v1/events", json={"events": events})
        client.put("/v1/items/i3", json={"available": False})
        job = finished(client, kind="backup")
        assert job["state"] == "done", job
        told = answers(engine)
        client.post("/v1/events", json={"events": [events[0] | {"event_id": "late", "item_id": "i19"}]})
    return engine.data / "backups" / str(job["detail"].split(":")[0]), told


def test_a_backup_gives_the_same_answers_elsewhere(saved: Engine, start: Start, tmp_path: Path) -> None:
    folder, told = backup_of(saved)
    version = restore(folder, tmp_path / "r", tmp_path / "d")
    assert version == saved.view.version
    assert answers(start(run=tmp_path / "r", data=tmp_path / "d")) == told


def test_a_backup_with_one_changed_byte_is_refused_and_nothing_is_written(saved: Engine, tmp_path: Path) -> None:
    folder, _ = backup_of(saved)
    files = [path for path in sorted(folder.rglob("*")) if path.is_file() and path.name != "sums.json"]
    assert len(files) >= 6
    for path in files:
        whole = path.read_bytes()
        path.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
        with pytest.raises(BundleError, match=path.name.replace(".", r"\.")):
            restore(folder, tmp_path / "r", tmp_path / "d")
        path.write_bytes(whole)
    assert not (tmp_path / "r").exists()
    assert not (tmp_path / "d").exists()
    restore(folder, tmp_path / "r", tmp_path / "d")


def test_a_backup_that_fails_leaves_nothing_behind(client: TestClient, engine: Engine) -> None:
    assert finished(client, kind="backup")["state"] == "failed"  # the recommender was never saved
    assert list((engine.data / "backups").iterdir()) == []


# ── once ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_the_same_key_gives_the_first_answer_again_also_after_a_restart(
    start: Start, neighbours: Recommender, clock: Clock
) -> None:
    key = {"Idempotency-Key": "one"}
    export = {"kind": "export", "what": "items"}
    with client_of(start(neighbours)) as client:
        first = client.post("/v1/jobs", json=export, headers=key)
        again = client.post("/v1/jobs", json=export, headers=key)
        other = client.post("/v1/jobs", json=export | {"what": "users"}, headers=key)
        assert "idempotency-replayed" not in first.headers
        assert again.headers["idempotency-replayed"] == "true"
        assert (again.status_code, again.json()["id"]) == (202, first.json()["id"])
        assert again.headers["location"] == first.headers["location"]
        assert (other.status_code, other.json()["code"]) == (422, "key_reused")
        assert len(client.get("/v1/jobs").json()["jobs"]) == 1
    with client_of(start(neighbours)) as client:
        assert client.post("/v1/jobs", json=export, headers=key).json()["id"] == first.json()["id"]
        clock.at += 24 * 60 * 60
        assert client.post("/v1/jobs", json=export, headers=key).json()["id"] != first.json()["id"]


def test_a_key_whose_first_request_runs_is_asked_to_wait(client: TestClient, engine: Engine) -> None:
    jobs: Jobs = client.app.state.jobs  # type: ignore[attr-defined]
    begin, statuses = jobs.start, []
    key = {"Idempotency-Key": "one"}

    def slow(kind: str, **more: Any) -> Job:
        inner = client.post("/v1/jobs", json={"kind": "export", "what": "items"}, headers=key)
        statuses.append((inner.status_code, inner.json()["code"]))
        return begin(kind, **more)

    jobs.start = slow  # type: ignore[method-assign]
    outer = client.post("/v1/jobs", json={"kind": "export", "what": "items"}, headers=key)
    assert outer.status_code == 202
    assert statuses == [(409, "still_running")]


def test_a_request_that_came_to_nothing_can_be_sent_again_with_its_key(client: TestClient, engine: Engine) -> None:
    key, asked = {"Idempotency-Key": "one"}, {"kind": "import", "what": "items", "file": "late.jsonl"}
    assert client.post("/v1/jobs", json=asked, headers=key).status_code == 422
    put_file(engine, "late.jsonl", [{"id": "x"}])
    assert client.post("/v1/jobs", json=asked, headers=key).status_code == 202


def test_updates_come_again_and_again_when_there_is_something_new(
    start: Start, neighbours: Recommender, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine, started = start(neighbours), threading.Event()
    monkeypatch.setattr(Jobs, "_update", lambda jobs, job: started.set() or "")
    with client_of(engine, update_every=0.01) as client:
        assert not started.wait(0.1)
        row = {"event_id": "e", "event": "like", "item_id": "i1", "user_id": "u0"}
        client.post("/v1/events", json={"events": [row]})
        assert started.wait(10)


def test_the_answer_of_a_user_is_what_the_library_answers(reader: TestClient, neighbours: Recommender) -> None:
    told = ids(reader.post("/v1/recommendations", json={"user_id": "u5", "k": 8}).json())
    assert told == neighbours.recommend(["u5"], k=8).to_polars()["item_id"].to_list()
