"""What people did lately, in memory."""

from bowerbird.store.log import MERGE, SLATE, LogEvent
from bowerbird.store.people import LATEST, People


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
