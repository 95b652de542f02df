"""What people did since the model in use was trained, in memory: it follows the log and is rebuilt from it.

Nothing here is written down. Callers apply events in the order of their offsets, one thread at a time; anyone may read.
"""

from collections import deque
from collections.abc import Iterable
from typing import Any, NamedTuple

from bowerbird.store.log import MERGE, SLATE, LogEvent

LATEST = 200  # events kept of each person


class Deed(NamedTuple):
    """One event of somebody."""

    offset: int
    event: str
    item_id: Any
    weight: float
    time: int


def key_of(user_id: Any, session_id: Any = None) -> str | None:
    """Return what a person's deeds are filed under; a text that spells an integer is that integer."""
    if user_id is not None:
        return f"u{user_id}"
    return None if session_id is None else f"s{session_id}"


class People:
    """Deeds by person, since an offset of the log."""

    def __init__(self, start: int) -> None:
        self.start = self.end = start  # the offsets that were applied
        self._deeds: dict[str, deque[Deed]] = {}
        self._shown: dict[str, deque[tuple[int, Any]]] = {}  # when an item was shown
        self._merged: dict[str, list[str]] = {}  # sessions and the users that they became, one after the other

    def __len__(self) -> int:
        return len(self._deeds)

    def apply(self, offset: int, event: LogEvent, shown: Iterable[Any] = ()) -> None:
        """Take in one event; `shown` are the items of a slate."""
        self.end = offset + 1
        key = self.key(event.user_id, event.session_id)
        if key is None:
            return
        if event.event == SLATE:
            self._shown.setdefault(key, deque(maxlen=LATEST)).extend((event.time, item) for item in shown)
        elif event.event == MERGE:
            self.merge(event.session_id, event.user_id)
        elif event.item_id is not None:
            deed = Deed(offset, event.event, event.item_id, event.weight, event.time)
            self._deeds.setdefault(key, deque(maxlen=LATEST)).append(deed)

    def key(self, user_id: Any, session_id: Any = None) -> str | None:
        """Return what somebody's deeds are filed under, that of the user where a session was merged into one."""
        key = key_of(user_id, session_id)
        return None if key is None else self._merged.get(key, [key])[-1]

    def deeds(self, key: str | None) -> list[Deed]:
        """Return somebody's deeds, oldest first by their own times."""
        found = list(self._deeds.get(key, ())) if key is not None else []
        return sorted(found, key=lambda deed: deed.time)  # stable: equal times stay in the order of the log

    def shown(self, key: str | None, since: int) -> list[Any]:
        """Return the items that somebody was shown from a moment on."""
        found = self._shown.get(key, ()) if key is not None else ()
        return [item for time, item in list(found) if time >= since]

    def take_back(self, user_id: Any, session_id: Any, offset: int) -> Deed | None:
        """Forget one deed, and return it."""
        key = str(key_of(user_id, session_id))
        for owner in (key, *self._merged.get(key, ())):
            mine = self._deeds.get(owner, deque())
            for deed in list(mine):
                if deed.offset == offset:
                    mine.remove(deed)
                    return deed
        return None

    def forget(self, key: str) -> None:
        """Forget a person."""
        self._deeds.pop(key, None)
        self._shown.pop(key, None)

    def merge(self, session_id: Any, user_id: Any) -> None:
        """Make what a session did since its last merge, and what it will do, a user's."""
        session, user = str(key_of(None, session_id)), str(key_of(user_id))
        self._merged.setdefault(session, []).append(user)
        both = [*self._deeds.pop(session, ()), *self._deeds.get(user, ())]
        if both:
            self._deeds[user] = deque(sorted(both, key=lambda deed: deed.offset), maxlen=LATEST)
        seen = [*self._shown.pop(session, ()), *self._shown.get(user, ())]
        if seen:
            self._shown[user] = deque(sorted(seen, key=lambda one: one[0]), maxlen=LATEST)
