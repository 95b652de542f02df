"""What people did lately, in memory."""

import json
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import polars as pl
from hypothesis import given, settings
from hypothesis import strategies as st

from bowerbird.store.database import Database
from bowerbird.store.events import DEEDS, TableLog
from bowerbird.store.log import MERGE, SLATE, LogEvent, Note, Stretch
from bowerbird.store.people import LATEST, People, key_of


def likes(event_id: str, item: str, **who: object) -> LogEvent:
    return LogEvent(event_id, "like", item_id=item, **who)  # type: ignore[arg-type]


def test_deeds_are_filed_by_person_in_the_order_of_their_times() -> None:
    people = People(10)
    people.apply(10, likes("a", "i1", user_id=7, time=20))
    people.apply(11, likes("b", "i2", user_id="7", time=10))  # a text that spells the same id
    people.apply(12, likes("c", "i3", session_id="7", time=30))  # a session of that name is somebody else
    assert [deed.item_id for deed in people.deeds(people.key("7"))] == ["i2", "i1"]
    assert [deed.item_id for deed in people.deeds(people.key(None, "7"))] == ["i3"]
    assert (people.start, people.end, len(people)) == (10, 13, 2)
    assert people.deeds(people.key(None)) == []


def test_a_session_that_became_a_user_is_that_user_from_then_on() -> None:
    people = People(0)
    people.apply(0, likes("a", "i1", session_id="s"))
    people.apply(1, LogEvent("m", MERGE, user_id="u", session_id="s"))
    people.apply(2, likes("b", "i2", session_id="s"))
    assert [deed.item_id for deed in people.deeds(people.key("u"))] == ["i1", "i2"]
    assert people.key(None, "s") == people.key("u")


def test_what_was_shown_is_kept_for_a_while() -> None:
    people = People(0)
    people.apply(0, LogEvent("r1", SLATE, user_id="u", time=100), ["i1", "i2"])
    people.apply(1, LogEvent("r2", SLATE, user_id="u", time=200), ["i3"])
    assert people.shown(people.key("u"), since=0) == ["i1", "i2", "i3"]
    assert people.shown(people.key("u"), since=150) == ["i3"]
    assert people.deeds(people.key("u")) == []


def test_what_a_session_was_shown_becomes_the_users() -> None:
    people = People(0)
    people.apply(0, LogEvent("r1", SLATE, user_id="u", time=200), ["i2"])
    people.apply(1, LogEvent("r2", SLATE, session_id="s", time=100), ["i1"])
    people.apply(2, LogEvent("m", MERGE, user_id="u", session_id="s"))
    assert people.shown(people.key("u"), since=0) == ["i1", "i2"]


def test_a_session_that_became_two_users_left_each_what_it_did_for_them() -> None:
    people = People(0)
    people.apply(0, likes("a", "i1", session_id="s"))
    people.apply(1, LogEvent("m1", MERGE, user_id="u", session_id="s"))
    people.apply(2, likes("b", "i2", session_id="s"))
    people.apply(3, LogEvent("m2", MERGE, user_id="v", session_id="s"))
    people.apply(4, likes("c", "i3", session_id="s"))
    assert [deed.item_id for deed in people.deeds(people.key("u"))] == ["i1", "i2"]
    assert [deed.item_id for deed in people.deeds(people.key("v"))] == ["i3"]
    assert people.take_back(None, "s", 2) is not None
    assert people.take_back(None, "s", 4) is not None
    assert [deed.item_id for deed in people.deeds(people.key("u"))] == ["i1"]
    assert people.deeds(people.key("v")) == []


def test_a_deed_is_taken_back_once_and_a_person_is_forgotten() -> None:
    people = People(0)
    people.apply(0, likes("a", "i1", user_id="u"))
    found = people.take_back("u", None, 0)
    assert found is not None
    assert found.item_id == "i1"
    assert people.take_back("u", None, 0) is None
    people.apply(1, likes("b", "i2", user_id="u"))
    people.forget(str(people.key("u")))
    assert people.deeds(people.key("u")) == []


def test_memory_is_bounded_for_each_person() -> None:
    people = People(0)
    for offset in range(LATEST + 5):
        people.apply(offset, likes(str(offset), str(offset), user_id="u", time=offset))
    assert [deed.offset for deed in people.deeds(people.key("u"))] == list(range(5, LATEST + 5))


WHO = [{"user_id": "u"}, {"user_id": "7"}, {"user_id": 7}, {"session_id": "s"}, {"session_id": "7"}]
happened = st.one_of(
    st.builds(
        lambda who, item, time: LogEvent("", "like", item_id=item, time=time, weight=time / 3, **who),
        st.sampled_from(WHO),
        st.sampled_from(["a", 1, None]),
        st.integers(0, 9),
    ),
    st.builds(
        lambda who, time: LogEvent("", SLATE, time=time, context=json.dumps({"items": ["a", 1, "é"]}), **who),
        st.sampled_from([*WHO, {}]),
        st.integers(0, 9),
    ),
    st.builds(
        lambda user, session: LogEvent("", MERGE, user_id=user, session_id=session),
        st.sampled_from(["u", 7]),
        st.sampled_from(["s", "7"]),
    ),
)


def stretches(log: list[LogEvent], start: int, stop: int, step: int) -> Iterator[Stretch]:
    """Yield what a log's `stretches` yields, as tests of the log show."""
    for first in range(start, min(stop, len(log)), step):
        deeds, notes = list[tuple[Any, ...]](), list[Note]()
        for offset in range(first, min(first + step, stop, len(log))):
            one = log[offset]
            if one.event == MERGE:
                notes.append(Note(offset, MERGE, f"s{one.session_id}", one.time, f"u{one.user_id}"))
            elif (who := key_of(one.user_id, one.session_id)) is not None:
                if one.context:
                    notes.append(Note(offset, SLATE, who, one.time, json.dumps(json.loads(one.context)["items"])))
                elif one.item_id is not None:
                    deeds.append((offset, one.event, str(one.item_id), one.weight, one.time, who))
        yield Stretch(pl.DataFrame(deeds, schema=DEEDS | {"weight": pl.Float64}, orient="row"), notes)


@settings(max_examples=400, derandomize=True, database=None, deadline=None)
@given(
    log=st.lists(happened, min_size=5, max_size=14),
    first=st.integers(0, 14),
    step=st.sampled_from([2, 100]),
)
def test_many_events_at_once_are_the_same_as_one_after_the_other(log: list[LogEvent], first: int, step: int) -> None:
    """Whatever part of the log is taken in at first, and whatever comes one by one."""
    one, many = People(0), People(0)
    many.take_in(stretches(log, 0, first, step))
    for offset, event in enumerate(log):
        for people in (one, many) if offset >= first else (one,):
            people.apply(offset, event, json.loads(event.context)["items"] if event.context else ())
    keys = [one.key(who.get("user_id"), who.get("session_id")) for who in WHO]
    assert [one.deeds(key) for key in keys] == [many.deeds(key) for key in keys]
    assert [sorted(map(str, one.shown(key, 0))) for key in keys] == [
        sorted(map(str, many.shown(key, 0))) for key in keys
    ]
    assert len(one) == len(many)


def test_what_came_first_is_bounded_taken_back_and_forgotten_too(tmp_path: Path) -> None:
    people = People(0)
    with closing(Database(tmp_path)) as database:
        log = TableLog(database)
        log.append([likes(str(n), str(n), user_id="u", time=n) for n in range(LATEST + 5)])
        log.append([likes("v", "i1", user_id="v")])
        people.take_in(log.stretches(0, log.end))
    assert len(people) == 2
    assert [deed.offset for deed in people.deeds("uu")] == list(range(5, LATEST + 5))
    assert people.take_back("u", None, 3) is None
    assert people.take_back("u", None, 7) is not None
    assert people.take_back("u", None, 7) is None
    assert [deed.offset for deed in people.deeds("uu")] == [5, 6, *range(8, LATEST + 5)]
    people.forget("uv")
    assert people.deeds("uv") == []
    assert len(people) == 1


def test_what_comes_late_pushes_nothing_out_that_was_done_after_it(tmp_path: Path) -> None:
    done = [likes(str(n), str(n), user_id="u", time=n) for n in range(LATEST + 5)]
    late = [*done[5:], *done[:5]]
    people = People(0)
    for offset, one in enumerate(late):
        people.apply(offset, one)
    read, merged = People(0), People(0)
    with closing(Database(tmp_path)) as database:
        log = TableLog(database)
        log.append(late)
        read.take_in(log.stretches(0, log.end))
    for offset, one in enumerate(late[: LATEST // 2]):
        merged.apply(offset, one)
    for offset, one in enumerate(late[LATEST // 2 :], LATEST // 2):
        merged.apply(offset, likes(one.event_id, str(one.item_id), session_id="s", time=one.time))
    merged.merge(LATEST + 5, "s", "u")
    for found in (people, read, merged):
        assert [deed.time for deed in found.deeds("uu")] == list(range(5, LATEST + 5))
