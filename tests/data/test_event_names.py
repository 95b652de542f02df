import warnings

import pytest

import bowerbird as bb
from bowerbird.core import ConfigError
from bowerbird.data import EventType

SOURCE = {"user": [1, 1, 2], "item": [1, 2, 1], "event": ["view", "purchase", "view"]}


def test_a_declared_event_that_no_row_has_is_hinted_at_where_another_is_close() -> None:
    with pytest.warns(
        UserWarning, match=r'no row of column "event" has the event "purchse"\. Did you mean "purchase"\?'
    ) as said:
        events = bb.read(SOURCE, event_types=[EventType("purchse", weight=5.0)])
    assert said[0].filename == __file__
    assert [kind.name for kind in events.events] == ["purchse", "view", "purchase"]


@pytest.mark.parametrize("name", ["purchase", "refund", "view"])
def test_a_declared_event_that_occurs_or_is_close_to_none_is_fine(name: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        events = bb.read(SOURCE, event_types=[EventType(name)])
    assert events.events[0].name == name


def test_a_mistyped_sign_is_answered_with_the_closest() -> None:
    with pytest.raises(ConfigError, match=r"Try sign = negative\."):
        EventType("dislike", sign="negativ")
    with pytest.raises(ConfigError, match=r"Try sign = positive\."):
        EventType("dislike", sign="minus")
