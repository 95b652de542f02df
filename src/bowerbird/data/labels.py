"""Labels: rows for ranking models out of interactions. Which event counts as 1, and what stands against it.

Shapes: E events, N rows, T labels.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl

from bowerbird.core import ConfigError, check, did_you_mean, numpy_stream
from bowerbird.data.interactions import EventType, Interactions
from bowerbird.data.rows import Rows

USUAL = "like"  # the event that counts as 1 where several are good
DRAWS = 9  # of an item, until its user has not chosen it; whoever chose nearly everything has fewer negatives


@dataclass(frozen=True, kw_only=True)
class Labels:
    """How events become labelled rows.

    Each event is a row, of label 1 where it is of the named type. With `given`, only events of that type are rows, and
    each label says whether an event of its type followed on the same pair. With neither: what has a positive sign
    counts as 1 where some events have not, else a like where there are likes, else every event, against `negatives`
    items that its user did not choose, drawn alike from all.
    """

    label: tuple[str, ...] = ()  # event types, a label each
    given: str = ""  # the event type whose events are the rows
    negatives: int = 4  # drawn for each event where nothing stands against them

    def __post_init__(self) -> None:
        check(self.negatives >= 1, "negatives", self.negatives, "must be 1 or more", try_instead=4)
        named = len(self.label) <= 1 or self.given
        check(bool(named), "label", self.label, "must be one event, unless given names the event of the rows")
        check(not self.given or bool(self.label), "label", self.label, "must name what may follow", try_instead="buy")

    def rows(
        self,
        events: Interactions,
        *,
        past: Interactions | None = None,
        trained: Sequence[EventType] | None = None,
        seed: int = 0,
    ) -> tuple[Rows, np.ndarray]:
        """Return labelled rows, and the event that each is made of (N,).

        `past` are earlier events, whose items are no negatives either; `trained` as of `chosen`. Raises `ConfigError`
        for an unknown type.
        """
        names = [kind.name for kind in events.events]
        for name in (*self.label, *([self.given] if self.given else [])):
            if name not in names:
                raise ConfigError(f'no event is named "{name}".{did_you_mean(name, names)} Events: {", ".join(names)}.')
        if self.given:
            place = np.flatnonzero(events.event == names.index(self.given))
            follows = [_followed(events, place, names.index(name)) for name in self.label]
            return _rows(events, place, events.item[place], np.stack(follows, axis=1), self.label)
        chosen = self.chosen(events.events, trained)
        if chosen is not None:
            place = np.arange(len(events))
            return _rows(events, place, events.item, chosen[events.event][:, None], self.label or ("label",))
        place = np.flatnonzero(events.signed_weight > 0)
        beside, item = _negatives(events, past, place, self.negatives, seed)
        label = np.repeat([1, 0], [len(place), len(beside)])[:, None]
        item = np.concatenate([events.item[place], item])
        return _rows(events, np.concatenate([place, beside]), item, label, ("label",))

    def left_out(self, events: Interactions) -> int:
        """Return how many pairs have an event that a label asks for, and none of the type that the rows are."""
        if not self.given:
            return 0
        names, key = [kind.name for kind in events.events], _pairs(events, events.n_items)
        asked = np.isin(events.event, [names.index(name) for name in self.label])
        return len(np.setdiff1d(key[asked], key[events.event == names.index(self.given)]))

    def chosen(self, kinds: Sequence[EventType], trained: Sequence[EventType] | None = None) -> np.ndarray | None:
        """Return which event types count as 1, bool; None where all good ones do, or each for a label of its own.

        `trained` are the types by which that was decided, where others came later: a label means what it meant.
        """
        if self.given:
            return None
        names, first = [kind.name for kind in kinds], kinds if trained is None else trained
        if self.label:
            return np.array([name == self.label[0] for name in names])
        if any(kind.sign != "positive" for kind in first):
            return np.array([kind.sign == "positive" for kind in kinds])
        usual = len(first) > 1 and USUAL in [kind.name for kind in first]
        return np.array([name == USUAL for name in names]) if usual else None


def _rows(
    events: Interactions, place: np.ndarray, item: np.ndarray, label: np.ndarray, tasks: tuple[str, ...]
) -> tuple[Rows, np.ndarray]:
    user = events.user[place]
    table = pl.DataFrame({"user_id": events.user_ids.names(user), "item_id": events.item_ids.names(item)})
    if events.extra is not None:
        table = table.hstack(events.extra[place].drop("user_id", "item_id", strict=False))
    time = None if events.time is None else events.time[place]
    return Rows(table, label.astype(np.float32), tasks, user, item.astype(np.int32), time), place


def _followed(events: Interactions, place: np.ndarray, kind: int) -> np.ndarray:
    """Return whether an event of a kind came later on the pair of each event at `place`, bool (N,)."""
    key = _pairs(events, events.n_items)
    later = np.flatnonzero(events.event == kind)
    if not len(later):
        return np.zeros(len(place), bool)
    keys, first = np.unique(key[later][::-1], return_index=True)  # in reverse: the last event of each pair
    at, there = _find(keys, key[place])
    followed: np.ndarray = there & (later[::-1][first][at] > place)
    return followed


def _negatives(
    events: Interactions, past: Interactions | None, place: np.ndarray, each: int, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """Return events of `place`, `each` times as far as possible, and for each an item that its user did not choose."""
    rng = numpy_stream(seed, "labels")
    known = [events] if past is None else [past, events]
    width = max(table.n_items for table in known)
    chosen = np.unique(np.concatenate([_pairs(one, width) for one in known]))
    of = np.repeat(place, each)
    user, item = events.user[of].astype(np.int64), np.zeros(len(of), np.int64)
    left, kept = np.arange(len(of)), np.ones(len(of), bool)
    for _ in range(DRAWS):
        if not len(left):
            break
        item[left] = rng.integers(0, events.n_items, len(left))
        left = left[_find(chosen, user[left] * width + item[left])[1]]
    kept[left] = False
    return of[kept], item[kept]


def _pairs(events: Interactions, width: int) -> np.ndarray:
    """Return a number for the pair of each event, int64 (E,)."""
    key: np.ndarray = events.user.astype(np.int64) * width + events.item
    return key


def _find(keys: np.ndarray, wanted: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the place of each number among sorted ones, of which there is at least one, and whether it is there."""
    at = np.searchsorted(keys, wanted).clip(max=len(keys) - 1)
    return at, keys[at] == wanted
