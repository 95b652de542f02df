import json
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import polars as pl
import pytest
from staged_disk import Stage

from bowerbird.store import LogEvent
from bowerbird.store import events as module
from bowerbird.store.database import DiskFull, Store
from bowerbird.store.events import Appended, TableLog, impressions
from bowerbird.store.opening import opened, read_only

WAIT_S = 10.0


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Store]:
    with closing(opened(tmp_path)) as database:
        yield database


@pytest.fixture
def log(database: Store) -> TableLog:
    return TableLog(database)


def event(name: str, user: str | int | None = "ann", item: str | int | None = "x", **rest: object) -> LogEvent:
    return LogEvent(event_id=name, event="like", user_id=user, item_id=item, **rest)  # type: ignore[arg-type]


def slate(name: str, items: list[str | int], **rest: object) -> LogEvent:
    document = {"question": {"k": 3}, "items": items, "propensity": [1 / (1 + n) for n in range(len(items))]}
    one = LogEvent(event_id=name, event="slate", user_id="ann", time=5, scenario="goods", model_version="000001")
    return replace(one, context=json.dumps(document, ensure_ascii=False), policy_version="greedy", **rest)  # type: ignore[arg-type]


# ── appending ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_opened_again_it_is_as_it_was(tmp_path: Path) -> None:
    odd = event(
        "é\x01😀", 7, "x'); DROP TABLE events; --", time=3, weight=-0.5, session_id="s", request_id="r", position=2,
        scenario="goods", context='{"a": 1}', propensity=1e-300, policy_version="p", model_version="m",
    )  # fmt: skip
    with closing(opened(tmp_path)) as database:
        log = TableLog(database)
        log.append([event("a"), odd, event("c"), event("d", "bob")])
        log.retract("a")
        log.erase("bob")
        before = log.read()
    with closing(opened(tmp_path)) as database:
        log = TableLog(database)
        assert log.end == 4
        assert log.read().equals(before)
        assert log.find(odd.event_id) == (1, odd)
        assert log.append([event("a"), event("d"), event("e")]) == 5


def test_what_was_acknowledged_outlives_a_process_that_ends_at_once(tmp_path: Path) -> None:
    program = """
import os, sys
from pathlib import Path
from bowerbird.store import LogEvent
from bowerbird.store.opening import opened
from bowerbird.store.events import TableLog
log = TableLog(opened(Path(sys.argv[1])))
for n in range(20):
    log.append([LogEvent(event_id=str(n), event="like")])
os._exit(9)
"""
    assert subprocess.run([sys.executable, "-c", program, str(tmp_path)], timeout=60).returncode == 9
    with closing(opened(tmp_path)) as database:
        assert TableLog(database).read()["event_id"].to_list() == [str(n) for n in range(20)]


def test_a_submission_tells_what_was_new_and_where_it_is(log: TableLog) -> None:
    a, b, c = event("a"), event("b"), event("c")
    assert log.submit([a, b]).result(WAIT_S) == Appended(0, 2, (a, b), 0)
    other = event("a", "eve")
    assert log.submit([other, c, event("c", "eve"), b]).result(WAIT_S) == Appended(2, 3, (c,), 3)
    assert log.submit([]).result(WAIT_S) == Appended(3, 3, (), 0)
    assert log.end == 3


def test_who_follows_is_told_every_offset_once_in_order_before_the_acknowledgement(log: TableLog) -> None:
    told: list[str] = []

    def follow(appended: Appended) -> None:
        assert len(told) == appended.start
        assert log.end == appended.end
        told.extend(one.event_id for one in appended.fresh)

    def many(name: int) -> None:
        for n in range(20):
            mine, shared = event(f"{name}.{n}"), event(f"shared {n}")
            done = log.submit([mine, shared], follow).result(WAIT_S)
            assert {mine.event_id, shared.event_id} <= set(told[: done.end])

    threads = [threading.Thread(target=many, args=(name,)) for name in range(16)]
    for one in threads:
        one.start()
    for one in threads:
        one.join(WAIT_S)
    rows = log.read()
    assert rows["event_id"].to_list() == told
    assert rows["offset"].to_list() == list(range(16 * 20 + 20))
    assert set(told) == {f"{name}.{n}" for name in range(16) for n in range(20)} | {f"shared {n}" for n in range(20)}


@pytest.mark.file
def test_a_full_disk_keeps_none_of_the_events_and_takes_them_later(tmp_path: Path) -> None:
    stage, told = Stage(), []
    with closing(opened(tmp_path, world=stage.on())) as database:
        log = TableLog(database)
        log.append([event("a")])
        stage.errors["COMMIT"] = [sqlite3.SQLITE_FULL]
        with pytest.raises(DiskFull):
            log.submit([event("b"), event("c")], told.append).result(WAIT_S)
        assert (log.end, len(log.read()), told) == (1, 1, [])
        assert log.append([event("c"), event("b")]) == 3
        assert log.read()["event_id"].to_list() == ["a", "c", "b"]


def test_an_event_that_cannot_be_kept_takes_its_whole_call_along_and_no_other(log: TableLog) -> None:
    wrong, right = log.submit([event("a"), event("b", 2**64)]), log.submit([event("c")])
    assert wrong.exception(WAIT_S) is not None
    assert right.result(WAIT_S) == Appended(0, 1, (event("c"),), 0)


# ── reading ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_an_empty_log_has_the_columns_and_types_of_a_full_one(log: TableLog) -> None:
    empty = log.read()
    log.append([event("a")])
    assert log.read().schema == empty.schema
    assert empty.columns == list(module.TYPES)


@pytest.mark.parametrize("at_once", [1, 2, 50_000])
@pytest.mark.parametrize(
    ("users", "read"),
    [
        ([1, 2, 3], [1, 2, 3]),
        (["a", "b", "3"], ["a", "b", "3"]),
        ([1, "b", 3], ["1", "b", "3"]),
        ([None, None, 3], [None, None, 3]),
        ([None, None, "c"], [None, None, "c"]),
        ([2**62, -(2**62), 2**53 + 1], [2**62, -(2**62), 2**53 + 1]),
    ],
)
def test_ids_keep_their_type_where_all_are_alike_and_are_texts_where_not(
    log: TableLog, monkeypatch: pytest.MonkeyPatch, at_once: int, users: list[str | int | None], read: list[str | int]
) -> None:
    monkeypatch.setattr(module, "AT_ONCE", at_once)
    log.append([event(str(n), user, user) for n, user in enumerate(users)])
    for name in ("user_id", "item_id"):
        assert log.read()[name].to_list() == read
    assert [one.user_id for _, one in log.page()] == users  # one by one they keep it always


def test_reading_stops_before_an_offset(log: TableLog) -> None:
    log.append([event(name) for name in "abcde"])
    assert log.read(1, 3)["event_id"].to_list() == ["b", "c"]
    assert log.read(3, 1)["event_id"].to_list() == []


def test_a_process_beside_the_server_reads_the_same(log: TableLog, tmp_path: Path) -> None:
    log.append([event(name) for name in "abc"])
    with closing(read_only(tmp_path)) as connection:
        assert module.read(connection, 1).equals(log.read(1))


@pytest.mark.parametrize("step", [1, 2, 1000])
def test_a_walk_meets_what_is_there_once_in_order(log: TableLog, monkeypatch: pytest.MonkeyPatch, step: int) -> None:
    monkeypatch.setattr(module, "STEP", step)
    log.append([event("a"), event("b", "bob"), event("c"), event("d"), event("e")])
    log.retract("c")
    log.erase("bob")
    assert list(log.walk()) == [(0, event("a")), (3, event("d")), (4, event("e"))]
    assert [offset for offset, _ in log.walk(1, 4)] == [3]
    assert list(log.walk(5)) == []


@pytest.mark.parametrize("step", [1, 2, 1000])
def test_stretches_hold_what_a_walk_meets(log: TableLog, monkeypatch: pytest.MonkeyPatch, step: int) -> None:
    monkeypatch.setattr(module, "STRETCH", step)
    guest = replace(event("c", None, 7, weight=1 / 3, time=9), session_id="t")
    merge = LogEvent("m", "merge", user_id=7, session_id="t")
    log.append([event("a", 7), event("b"), guest, slate("d", ["é", 1]), merge, event("e", None), event("f", "bob")])
    log.retract("b")
    log.erase("bob")
    log.append([LogEvent("g", "slate", user_id=7, context="no JSON"), LogEvent("h", "slate", context='{"items": [1]}')])
    found = list(log.stretches(0, log.end))
    assert [deed for some in found for deed in some.deeds.iter_rows()] == [
        (0, "like", "x", 1.0, 0, "u7"),
        (2, "like", "7", 1 / 3, 9, "st"),
    ]
    notes = [note for some in found for note in some.notes]
    assert [note._replace(told=note.told.replace(" ", "")) for note in notes] == [  # JSON may be spaced
        (3, "slate", "uann", 5, '["é",1]'),
        (4, "merge", "st", 0, "u7"),
    ]
    assert [len(some.deeds) + len(some.notes) for some in log.stretches(2, 4)] in ([1, 1], [2])
    assert list(log.stretches(9, 9)) == []


@pytest.mark.parametrize("name", ["é😀", "\"'\\", "\u2028", "x" * 256, "7", "{}"])
def test_stretches_hold_any_id_and_any_weight(log: TableLog, name: str) -> None:
    weights = [1.0, 0.1, 1 / 3, 1e6, 5e-324, 123456.7890123456789, 0.1 + 0.2]
    log.append([event(f"{name}{n}", name, name, weight=weight) for n, weight in enumerate(weights)])
    (some,) = log.stretches(0, log.end)
    assert some.deeds["weight"].to_list() == weights
    assert set(some.deeds["item_id"]) == {name}
    assert set(some.deeds["who"]) == {f"u{name}"}


def test_an_event_is_found_until_it_is_taken_back_or_erased(log: TableLog) -> None:
    log.append([event("a"), event("b"), event("c", "bob")])
    assert log.find("b") == (1, event("b"))
    assert log.find("z") is None
    log.retract("b")
    log.erase("bob")
    assert (log.find("b"), log.find("c")) == (None, None)


def test_pages_by_user_item_and_event_follow_one_another(log: TableLog) -> None:
    log.append([event(f"{user}{item}", user, item) for item in "xyz" for user in ("ann", "bob")])
    log.append([replace(event("view"), event="view")])

    def offsets(**options: object) -> list[int]:
        return [offset for offset, _ in log.page(**options)]  # type: ignore[arg-type]

    assert offsets() == list(range(7))
    assert offsets(user_id="bob") == [1, 3, 5]
    assert offsets(item_id="x") == [0, 1, 6]
    assert offsets(event="view") == [6]
    assert offsets(user_id="ann", item_id="x", event="like") == [0]
    assert offsets(user_id="ann", limit=2) == [0, 2]
    assert offsets(user_id="ann", limit=2, start=3) == [4, 6]


@pytest.mark.parametrize(("kept", "asked"), [(7, "7"), ("7", 7), (-7, "-7"), (7, 7), ("007", "007")])
def test_a_person_is_found_and_erased_by_either_spelling(log: TableLog, kept: str | int, asked: str | int) -> None:
    log.append([event("a", kept), event("b", "other"), event("c", 77), event("d", "+7")])
    assert log.page(user_id=asked) == [(0, event("a", kept))]
    assert log.erase(asked) == 1
    assert [offset for offset, _ in log.walk()] == [1, 2, 3]


@pytest.mark.parametrize("asked", ["", "-", "7.0", "७", "9" * 19, "9" * 400, "é\x01"])
def test_odd_spellings_find_nobody(log: TableLog, asked: str) -> None:
    log.append([event("a", 7), event("b", 0)])
    assert log.page(user_id=asked) == []
    assert log.erase(asked) == 0


@pytest.mark.file
def test_erased_words_are_nowhere_in_the_files_of_a_database_that_was_closed(tmp_path: Path) -> None:
    with closing(opened(tmp_path)) as database:
        log = TableLog(database)
        log.append([event(f"secret event {n}", "secret person", context="secret words") for n in range(50)])
        log.append([event("other", "bob", context="kept words")])
        assert log.erase("secret person") == 50
    data = b"".join(path.read_bytes() for path in tmp_path.iterdir())
    assert b"kept words" in data
    assert b"secret" not in data


# ── impressions ───────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("context", ['{"items": [1], "scores": [Infinity]}', '{"items": [1', ""])
def test_a_slate_that_is_no_json_does_not_keep_the_log_from_being_read(log: TableLog, context: str) -> None:
    log.append([event("a", 7), replace(slate("r", []), context=context), event("b")])
    (some,) = log.stretches(0, 3)
    assert some.notes == []


def test_a_slate_is_an_impression_for_each_of_its_places(log: TableLog) -> None:
    log.append([event("like"), slate("r1", ["x", "y"]), slate("r2", ["é\"'\n"], user_id=None, session_id="s")])
    assert impressions(log.read()).rows() == [
        (1, "r1", "ann", None, "x", 1, 1.0, "goods", "greedy", "000001", 5),
        (1, "r1", "ann", None, "y", 2, 0.5, "goods", "greedy", "000001", 5),
        (2, "r2", None, "s", "é\"'\n", 1, 1.0, "goods", "greedy", "000001", 5),
    ]
    assert impressions(log.read()).columns == list(module.PLACE)


@pytest.mark.parametrize(
    ("items", "shown"), [([3, 2**62], [3, 2**62]), ([3, "x"], ["3", "x"]), (["3", "4"], ["3", "4"])]
)
def test_shown_items_keep_their_type_where_all_are_alike(
    log: TableLog, items: list[str | int], shown: list[str | int]
) -> None:
    log.append([slate("r", items)])
    assert impressions(log.read())["item_id"].to_list() == shown


def test_an_empty_slate_an_erased_one_a_retracted_one_and_one_without_items_show_nothing(log: TableLog) -> None:
    log.append([slate("r1", []), slate("r2", ["x"], user_id="bob"), slate("r3", ["y"]), slate("r4", ["z"])])
    log.append([replace(slate("r5", []), context="{}")])
    log.erase("bob")
    log.retract("r3")
    assert impressions(log.read())["item_id"].to_list() == ["z"]


def test_without_a_slate_there_are_columns_and_no_rows(log: TableLog) -> None:
    for _ in range(2):
        shown = impressions(log.read())
        assert (shown.columns, len(shown)) == (list(module.PLACE), 0)
        assert shown.schema["position"] == pl.Int64
        log.append([event("a")])
