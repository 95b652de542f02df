from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager as Context
from contextlib import closing, contextmanager, nullcontext
from dataclasses import fields
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bowerbird.store import EventLog, LogEvent, MemoryLog
from bowerbird.store.events import TableLog
from bowerbird.store.opening import opened

PAYLOAD = [field.name for field in fields(LogEvent)]


Placed = Callable[[Path], Path]


@contextmanager
def on_disk(in_store: Placed) -> Iterator[EventLog]:
    with TemporaryDirectory() as folder, closing(opened(in_store(Path(folder)))) as database:
        yield TableLog(database)


def in_memory(in_store: Placed) -> Context[EventLog]:
    return nullcontext(MemoryLog())


FORMS: list[Callable[[Placed], Context[EventLog]]] = [in_memory, on_disk]


@pytest.fixture(params=FORMS)
def log(request: pytest.FixtureRequest, in_store: Placed) -> Iterator[EventLog]:
    """Every form of the log; a new one must pass the same tests."""
    with request.param(in_store) as log:
        yield log


def event(name: str, user: str | int | None = "ann", **rest: object) -> LogEvent:
    return LogEvent(event_id=name, event="like", user_id=user, **rest)  # type: ignore[arg-type]


def offsets(log: EventLog, start: int = 0) -> list[int]:
    return log.read(start)["offset"].to_list()


def test_offsets_count_from_zero_and_append_returns_the_next(log: EventLog) -> None:
    assert log.append([event("a"), event("b")]) == 2
    assert log.append([event("c")]) == 3
    assert offsets(log) == [0, 1, 2]
    assert log.read()["event_id"].to_list() == ["a", "b", "c"]


def test_an_event_comes_back_whole(log: EventLog) -> None:
    shown = event(
        "a", item_id=7, time=100, weight=0.5, request_id="r", position=2, propensity=0.25,
        policy_version="p1", model_version="m1",
    )  # fmt: skip
    log.append([shown])
    assert log.read().columns == ["offset", *PAYLOAD]
    assert log.read().row(0, named=True) == {"offset": 0, **vars(shown)}


def test_a_retry_adds_nothing(log: EventLog) -> None:
    log.append([event("a"), event("b")])
    assert log.append([event("b", "eve"), event("a")]) == 2
    assert log.read()["user_id"].to_list() == ["ann", "ann"]


def test_an_id_twice_in_one_call_counts_once(log: EventLog) -> None:
    assert log.append([event("a"), event("a"), event("b")]) == 2


def test_appending_nothing_moves_nothing(log: EventLog) -> None:
    assert log.append([]) == 0
    assert len(log.read()) == 0


def test_reading_starts_at_the_offset(log: EventLog) -> None:
    log.append([event(name) for name in "abcd"])
    assert offsets(log, 2) == [2, 3]
    assert offsets(log, 4) == []
    assert offsets(log, 99) == []


def test_a_retracted_event_is_left_out_and_the_others_keep_their_offsets(log: EventLog) -> None:
    log.append([event(name) for name in "abc"])
    assert log.retract("b")
    assert offsets(log) == [0, 2]
    assert log.append([event("d")]) == 4
    assert offsets(log) == [0, 2, 3]


def test_only_what_is_there_can_be_retracted_and_only_once(log: EventLog) -> None:
    log.append([event("a")])
    assert not log.retract("z")
    assert log.retract("a")
    assert not log.retract("a")


def test_a_retracted_event_does_not_come_back_by_a_retry(log: EventLog) -> None:
    log.append([event("a")])
    log.retract("a")
    assert log.append([event("a")]) == 1
    assert offsets(log) == []


def test_erasing_a_person_blanks_their_events_and_keeps_the_offsets(log: EventLog) -> None:
    log.append([event("a", "ann"), event("b", "bob"), event("c", "ann")])
    assert log.erase("ann") == 2
    rows = log.read()
    assert rows["offset"].to_list() == [0, 1, 2]
    assert [rows[name].to_list() for name in ("user_id", "event_id", "event")] == [
        [None, "bob", None], [None, "b", None], [None, "like", None],
    ]  # fmt: skip
    assert all(rows.select(PAYLOAD).row(place) == (None,) * len(PAYLOAD) for place in (0, 2))


def test_erasing_again_or_erasing_a_stranger_blanks_nothing(log: EventLog) -> None:
    log.append([event("a")])
    log.erase("ann")
    assert log.erase("ann") == 0
    assert log.erase("eve") == 0


def test_an_erased_event_does_not_come_back_by_a_retry(log: EventLog) -> None:
    log.append([event("a")])
    log.erase("ann")
    assert log.append([event("a")]) == 1
    assert log.read()["user_id"].to_list() == [None]


def test_integers_keep_their_type(log: EventLog) -> None:
    log.append([event("a", 7)])
    assert log.read()["user_id"].to_list() == [7]
    assert log.erase(7) == 1


NAMES, USERS = st.sampled_from("abcdef"), st.sampled_from(["ann", "bob"])
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("append"), NAMES, USERS),
        st.tuples(st.just("retract"), NAMES),
        st.tuples(st.just("erase"), USERS),
    ),
    max_size=20,
)


@given(STEPS)
def test_an_offset_once_given_always_means_the_same_event(steps: list[tuple[str, ...]]) -> None:
    follow(MemoryLog(), steps)


@settings(max_examples=20, deadline=None)  # each step is a sync
@given(STEPS)
def test_so_it_does_on_the_disk(in_store: Placed, steps: list[tuple[str, ...]]) -> None:
    with on_disk(in_store) as log:
        follow(log, steps)


def follow(log: EventLog, steps: list[tuple[str, ...]]) -> None:
    first: dict[int, tuple[str, str]] = {}  # offset → event and user when it was accepted
    length, gone, erased = 0, set(), set()
    for kind, name, *user in steps:
        if kind == "append":
            after = log.append([event(name, user[0])])
            if after > length:
                first[length] = (name, user[0])
            length = after
        elif kind == "retract":
            log.retract(name)
            gone |= {offset for offset, (event_id, _) in first.items() if event_id == name}
        else:
            log.erase(name)
            erased |= {offset for offset, (_, owner) in first.items() if owner == name}
    seen = {row["offset"]: (row["event_id"], row["user_id"]) for row in log.read().iter_rows(named=True)}
    assert seen == {
        offset: (None, None) if offset in erased else what for offset, what in first.items() if offset not in gone
    }
