"""What people did since the model in use was trained, in memory: it follows the log and is rebuilt from it.

Nothing here is written down. Callers apply events in the order of their offsets, one thread at a time; anyone may read.
What the log held at first stays in columns, which takes a quarter of the time; deeds of whoever has news are unpacked.
"""

import json
from bisect import bisect_left
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from operator import attrgetter
from typing import Any, NamedTuple

import numpy as np
import polars as pl

from bowerbird.core.ids import Ids, encode
from bowerbird.store.log import MERGE, SLATE, LogEvent, Note, Stretch

LATEST = 200  # events kept of each person, the last by their own times, whenever they came


class Deed(NamedTuple):
    """One event of somebody."""

    offset: int
    event: str
    item_id: str  # as a text, whatever it was
    weight: float
    time: int


_TIME, _TIME_AND_OFFSET = attrgetter("time"), attrgetter("time", "offset")


def key_of(user_id: Any, session_id: Any = None) -> str | None:
    """Return what a person's deeds are filed under; a text that spells an integer is that integer."""
    if user_id is not None:
        return f"u{user_id}"
    return None if session_id is None else f"s{session_id}"


class _Columns:
    """Deeds in columns, found by who did them; `owner` says under whom those of some sessions are filed."""

    def __init__(self, parts: Sequence[pl.DataFrame], owner: Mapping[str, str]) -> None:
        deeds = pl.concat(parts)
        who = deeds["who"].replace(list(owner), list(owner.values())) if owner else deeds["who"]
        self.people, person = encode(who)
        self._row = np.argsort(person, kind="stable")
        self._ends = np.concatenate([[0], np.bincount(person, minlength=len(self.people)).cumsum()])
        self._deeds, self._time = deeds.drop("who"), deeds["time"].to_numpy()

    def of(self, key: str) -> list[Deed]:
        """Return the latest deeds of a person in the order of the log."""
        if (person := self.people.row(key)) < 0:
            return []
        rows = self._row[self._ends[person] : self._ends[person + 1]]
        if len(rows) > LATEST:
            rows = np.sort(rows[np.argsort(self._time[rows], kind="stable")[-LATEST:]])
        return [Deed(*one) for one in self._deeds[rows].iter_rows()]


class People:
    """Deeds by person, since an offset of the log."""

    def __init__(self, start: int) -> None:
        self.start = self.end = start  # the offsets that were applied
        self._first: _Columns | None = None
        self._deeds: dict[str, deque[Deed]] = {}  # of those who have some beyond the first
        self._shown: dict[str, deque[tuple[int, Any]]] = {}  # when an item was shown
        self._merged: dict[str, list[tuple[int, str]]] = {}  # the users that sessions became, one after the other

    def __len__(self) -> int:
        first = Ids.of([]) if self._first is None else self._first.people
        return len(first) + sum(bool(mine) - (first.row(key) >= 0) for key, mine in list(self._deeds.items()))

    def take_in(self, stretches: Iterable[Stretch]) -> None:
        """Take in what the log holds at first, as `apply` does one event; it stays in columns."""
        parts = []
        for deeds, notes in stretches:
            for note in notes:
                self._note(note)
            of_users = deeds["who"].is_in(pl.Series(list(self._merged), dtype=pl.String).implode()).arg_true()
            if len(of_users):
                who = deeds["who"].to_list()
                for row, offset in zip(of_users, deeds["offset"].gather(of_users), strict=True):
                    who[row] = self._owner(who[row], offset)
                deeds = deeds.with_columns(who=pl.Series(who, dtype=pl.String))
            parts.append(deeds)
        if parts:
            self._first = _Columns(parts, {session: users[0][1] for session, users in self._merged.items()})

    def _note(self, note: Note) -> None:
        """Follow an answer or a merge."""
        if note.event == MERGE:
            self._merge(note.offset, note.who, note.told)
        else:
            shown = self._shown.setdefault(self._now(note.who), deque(maxlen=LATEST))
            shown.extend((note.time, item) for item in json.loads(note.told))

    def _owner(self, session: str, offset: int) -> str:
        """Return whose a deed of a session is that became a user: of whom it was then, or else of the first."""
        users = self._merged[session]
        return users[max(0, bisect_left(users, (offset, "")) - 1)][1]

    def apply(self, offset: int, event: LogEvent, shown: Iterable[Any] = ()) -> None:
        """Take in one event; `shown` are the items of a slate."""
        key = self.key(event.user_id, event.session_id)
        if event.event == MERGE:
            self.merge(offset, event.session_id, event.user_id)
        elif event.event == SLATE and key is not None:
            self._shown.setdefault(key, deque(maxlen=LATEST)).extend((event.time, item) for item in shown)
        elif event.item_id is not None and key is not None:
            self._add(key, Deed(offset, event.event, str(event.item_id), event.weight, event.time))
        self.end = offset + 1

    def key(self, user_id: Any, session_id: Any = None) -> str | None:
        """Return what somebody's deeds are filed under, that of the user where a session was merged into one."""
        key = key_of(user_id, session_id)
        return None if key is None else self._now(key)

    def deeds(self, key: str | None) -> list[Deed]:
        """Return somebody's deeds, oldest first by their own times."""
        return [] if key is None else sorted(self._known(key), key=lambda deed: deed.time)  # stable: then by offset

    def shown(self, key: str | None, since: int) -> list[Any]:
        """Return the items that somebody was shown from a moment on."""
        found = self._shown.get(key, ()) if key is not None else ()
        return [item for time, item in list(found) if time >= since]

    def take_back(self, user_id: Any, session_id: Any, offset: int) -> Deed | None:
        """Forget one deed, and return it."""
        key = str(key_of(user_id, session_id))
        for owner in (key, *(user for _, user in self._merged.get(key, ()))):
            for deed in self._known(owner):
                if deed.offset == offset:
                    self._mine(owner).remove(deed)
                    return deed
        return None

    def forget(self, key: str) -> None:
        """Forget a person."""
        self._leave(key)
        self._shown.pop(key, None)

    def merge(self, offset: int, session_id: Any, user_id: Any) -> None:
        """Make what a session did since its last merge, and what it will do, a user's."""
        self._merge(offset, str(key_of(None, session_id)), str(key_of(user_id)))

    def _now(self, key: str) -> str:
        """Return what is filed under a key from now on: that of the user where a session became one."""
        users = self._merged.get(key)
        return users[-1][1] if users else key

    def _merge(self, offset: int, session: str, user: str) -> None:
        self._merged.setdefault(session, []).append((offset, user))
        if came := self._known(session):
            both = sorted([*came, *self._known(user)], key=_TIME_AND_OFFSET)[-LATEST:]
            self._deeds[user] = deque(sorted(both))  # by offset
        self._leave(session)
        seen = [*self._shown.pop(session, ()), *self._shown.get(user, ())]
        if seen:
            self._shown[user] = deque(sorted(seen, key=lambda one: one[0]), maxlen=LATEST)

    def _known(self, key: str) -> list[Deed]:
        """Return somebody's deeds in the order of the log."""
        mine = self._deeds.get(key)
        if mine is not None:
            return list(mine)
        return [] if self._first is None else self._first.of(key)

    def _mine(self, key: str) -> deque[Deed]:
        """Return where somebody's deeds are added and taken away."""
        if key not in self._deeds:
            self._deeds[key] = deque(self._known(key))
        return self._deeds[key]

    def _add(self, key: str, deed: Deed) -> None:
        """Add a deed to somebody's, and let the oldest go where they are too many."""
        mine = self._mine(key)
        mine.append(deed)
        if len(mine) > LATEST:
            mine.remove(min(mine, key=_TIME))  # of one moment, the first in the log

    def _leave(self, key: str) -> None:
        """Let somebody have no deeds."""
        if self._first is not None and self._first.people.row(key) >= 0:
            self._deeds[key] = deque()
        else:
            self._deeds.pop(key, None)
