"""A view: everything that answers are made of at one moment. It is immutable and replaced whole.

A request holds the view that it began with, so that no answer mixes two versions. Rows below `n_known` are the
model's; rows from there on are items that the catalogue brought later.
"""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, time
from math import isfinite
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
from torch import Tensor

from bowerbird.data import EventType, Interactions
from bowerbird.features.content import ItemWords
from bowerbird.pipeline.answers import Shelf
from bowerbird.pipeline.live import LivePipeline
from bowerbird.pipeline.sources import Scorer
from bowerbird.recommender import Recommender
from bowerbird.serving.experiments import Trials
from bowerbird.serving.properties import column_of, is_name
from bowerbird.store.catalogue import Stored
from bowerbird.store.log import LogEvent, Stretch
from bowerbird.store.people import People
from bowerbird.store.schema import Declared

PUBLISHED = "published_at"  # the property that says since when an item is there, seconds since 1970 UTC
MOST_COLUMNS = 1_000  # that documents bring: each takes a millisecond whenever one of them changes
NEVER = np.iinfo(np.int64).max
TINY = 1e-9  # what is left of a count by rounding, when all of it was taken back
HALF_LIFE_S = 86_400.0  # in which a choice loses half of its say in what is trending
MOST_LIVES = 30.0  # half-lives that a choice may be ahead of zero: 2 to the power of 128 is no score


class Tally:
    """How often items were chosen, and how recently: what popular and trending are made of.

    A choice at time t counts 2^((t − zero) / half-life), which orders items like counts that fade, at any later time.
    Zero moves on with the choices.
    """

    def __init__(self, n_items: int, zero: int) -> None:
        self.zero, self.chosen, self.hot = zero, np.zeros(n_items), np.zeros(n_items)
        self.waiting: dict[str, tuple[float, float]] = {}  # counts of items that have no row yet, by id
        self.changed = True  # since somebody looked

    def add(self, row: int, item_id: Any, weight: float, time: int) -> None:
        """Count one choice of an item, whose row may be −1; a negative weight takes one back."""
        self._move_zero(time)
        hot = weight * 2.0 ** ((time - self.zero) / HALF_LIFE_S)
        if row < 0:
            before = self.waiting.get(str(item_id), (0.0, 0.0))
            self.waiting[str(item_id)] = _sum(before[0], weight), _sum(before[1], hot)
            return
        self.chosen[row] = _sum(self.chosen[row], weight)
        self.hot[row] = _sum(self.hot[row], hot)
        self.changed = True

    def add_all(
        self, item_ids: Sequence[Any], row_of: Mapping[Any, int], weights: np.ndarray, times: np.ndarray
    ) -> None:
        """Count many choices as `add` does one."""
        if not len(item_ids):
            return
        rows = np.fromiter(map(row_of.__getitem__, item_ids), np.int64, len(item_ids))
        self._move_zero(int(times.max()))
        hot = weights * np.exp2((times - self.zero) / HALF_LIFE_S)
        known = rows >= 0
        np.add.at(self.chosen, rows[known], weights[known])
        np.add.at(self.hot, rows[known], hot[known])
        for place in np.flatnonzero(~known).tolist():
            self.add(-1, item_ids[place], float(weights[place]), int(times[place]))
        self.changed = True

    def _move_zero(self, time: int) -> None:
        """Let zero be the time of a choice that is far ahead of it: years, where a clock was wrong."""
        if time - self.zero > MOST_LIVES * HALF_LIFE_S:
            faded = 2.0 ** ((self.zero - time) / HALF_LIFE_S)
            self.zero, self.hot = time, self.hot * faded
            self.waiting = {item_id: (chosen, hot * faded) for item_id, (chosen, hot) in self.waiting.items()}

    def add_past(self, past: Interactions, people: np.ndarray) -> None:
        """Count who chose what before: people (K,) where it is about how often, events where about how recently."""
        n = len(self.chosen)
        self.chosen[: len(people)] += people
        if past.time is not None:
            good = past.signed_weight > 0
            age_s = np.maximum(self.zero - past.time[good], 0)
            self.hot += np.bincount(past.item[good], np.exp2(-age_s / HALF_LIFE_S), n)

    def go_on(self, other: "Tally", row_of: Callable[[str], int]) -> None:
        """Take over the counts of another tally, whose items are the first of these; some that waited have rows now."""
        n = len(other.chosen)
        self.zero, self.chosen[:n], self.hot[:n], self.changed = other.zero, other.chosen, other.hot, True
        for item_id, (chosen, hot) in other.waiting.items():
            if (row := row_of(item_id)) < 0:
                self.waiting[item_id] = chosen, hot
            else:
                self.chosen[row] += chosen
                self.hot[row] += hot

    def boards(self) -> tuple[np.ndarray, np.ndarray]:
        """Return the rows that were chosen, by how often and by how recently, best first."""
        self.changed = False
        popular, trending = np.argsort(-self.chosen, kind="stable"), np.argsort(-self.hot, kind="stable")
        there = self.chosen > TINY
        return popular[there[popular]], trending[there[trending] & (self.hot[trending] > 0)]


def _sum(before: float, more: float) -> float:
    """Return a sum, 0 where it is what rounding left of something that was taken back."""
    found = before + more
    return 0.0 if more < 0 and abs(found) < TINY * -more else found


@dataclass(frozen=True)
class View:
    """What one answer is made of."""

    recommender: Recommender
    people: People
    shelf: Shelf
    extra: tuple[Any, ...]  # ids of items that the model does not know, by row from n_known on
    extra_rows: Mapping[str, int]
    pipelines: Mapping[str, LivePipeline]
    scorer: Scorer  # shared by them
    tally: Tally
    expires: np.ndarray  # int64 (I,): seconds since 1970 UTC after which an item is hidden
    shown: np.ndarray  # bool (I,): what the catalogue makes available, expired or not
    title: pa.Array | None  # of items, texts: a value costs a twentieth of what it costs out of a column of Polars
    declared: Declared  # with what the recommender's event types were merged
    followed: int  # the last change of the catalogue that it holds
    words: ItemWords | None  # what items say, where a scenario asks for it
    places: Tensor | None  # where items stand in the model's space of contents (I, D), zeros for none; see `search`
    trials: Trials  # the experiments that run

    @property
    def version(self) -> str:
        """The version of the model."""
        return self.recommender.version or "unsaved"

    @property
    def kinds(self) -> tuple[EventType, ...]:
        """The event types: the model's own under what was declared of them, and new ones behind them."""
        return self.recommender.past.events

    @property
    def n_known(self) -> int:
        """How many items the model knows."""
        return len(self.recommender.item_ids)

    def row(self, item_id: Any) -> int:
        """Return the row of an item, −1 where there is none."""
        row = self.recommender.item_ids.row(item_id)
        return row if row >= 0 else self.extra_rows.get(str(item_id), -1)

    def rows(self, item_ids: Sequence[Any]) -> np.ndarray:
        """Return the rows of items, int64 (n,), −1 where there is none."""
        return np.fromiter((self.row(one) for one in item_ids), np.int64, len(item_ids))

    def item_id(self, row: int) -> Any:
        """Return the caller's id of a row."""
        return self.recommender.item_ids[row] if row < self.n_known else self.extra[row - self.n_known]

    def titles(self, rows: np.ndarray) -> list[str | None]:
        """Return what to call items before people, None where only an id is known."""
        return [None] * len(rows) if self.title is None else [self.title[row].as_py() for row in rows.tolist()]

    def properties(self, row: int, names: Sequence[str]) -> dict[str, Any]:
        """Return the named properties of an item, those that it has."""
        columns = self.shelf.items.columns
        found = {name: self.shelf.items[name][row] for name in names if name in columns}
        return {name: _plain(one) for name, one in found.items()}

    def count(self, event: LogEvent, sign: float, now: int) -> None:
        """Count an event that says something good of an item, or with sign −1 take it out of the count."""
        kind = next((kind for kind in self.kinds if kind.name == event.event), None)
        if event.item_id is not None and kind is not None and kind.sign == "positive":
            weight = sign * kind.weight * event.weight
            self.tally.add(self.row(event.item_id), event.item_id, weight, min(event.time, now))

    def count_all(self, some: Stretch, now: int) -> None:
        """Count events as `count` does one."""
        worth = {kind.name: kind.weight for kind in self.kinds if kind.sign == "positive"}
        good = some.deeds.filter(pl.col("event").is_in(list(worth)))
        rows = {item_id: self.row(item_id) for item_id in good["item_id"].unique()}
        weights = good["event"].replace_strict(worth, return_dtype=pl.Float64) * good["weight"]
        times = np.minimum(good["time"].to_numpy(), now)  # later ones were noted under a wrong clock
        self.tally.add_all(good["item_id"].to_list(), rows, weights.to_numpy(), times)

    def obey(self, documents: Sequence[Stored], now: int) -> None:
        """Show and hide items as documents say; arrays change in place, so that requests see it at once."""
        for one in documents:
            if (row := self.row(one.id)) >= 0:
                self.shown[row] = one.available
                self.expires[row] = NEVER if one.expires is None else one.expires
        self.expire(now)

    def expire(self, now: int) -> None:
        """Hide what has expired; arrays change in place, so that requests see it at once."""
        np.logical_and(self.shown, self.expires > now, out=self.shelf.available)


def _plain(value: Any) -> Any:
    """Return a value of the item table as JSON knows it."""
    if isinstance(value, pl.Series | list):
        return [_plain(one) for one in value]
    if isinstance(value, dict):
        return {name: _plain(one) for name, one in value.items()}
    if isinstance(value, date | datetime | time):
        return value.isoformat()
    if isinstance(value, float):
        return value if isfinite(value) else None
    return value if value is None or isinstance(value, str | int) else str(value)


def item_table(rec: Recommender, documents: Sequence[Stored]) -> tuple[pl.DataFrame, tuple[Any, ...]]:
    """Return what is known of every item, a row each, and the ids of those that the model does not know.

    A property of the catalogue wins over the column of the item table; the rarest beyond `MOST_COLUMNS` are left out.
    """
    extra = tuple(one.id for one in documents if rec.item_ids.row(one.id) < 0)
    ids = rec.item_ids.values
    if extra:
        mixed = rec.item_ids.is_integer and not all(isinstance(one, int) for one in extra)
        kind = pl.String if mixed or not rec.item_ids.is_integer else pl.Int64
        ids = pl.concat(
            [ids.cast(kind), pl.Series("id", [int(one) if kind == pl.Int64 else str(one) for one in extra], dtype=kind)]
        )
    table = ids.rename("item_id").to_frame()
    known = rec.past.items
    if known is not None and known.width:
        table = table.hstack(pl.concat([known, known.clear(len(extra))]) if extra else known)
    told = [one for one in documents if one.properties]
    if not told:
        return table, extra
    place = {str(one): len(rec.item_ids) + n for n, one in enumerate(extra)}
    rows = [row if (row := rec.item_ids.row(one.id)) >= 0 else place[str(one.id)] for one in told]
    counts = Counter(name for one in told for name in one.properties if name != "item_id" and is_name(name))
    names = sorted(name for name, _ in counts.most_common(MOST_COLUMNS))
    said: dict[str, tuple[list[int], list[Any]]] = {name: ([], []) for name in names}
    for row, one in zip(rows, told, strict=True):
        for name, value in one.properties.items():
            if name in said:
                said[name][0].append(row)
                said[name][1].append(value)
    return table.with_columns(_column(table, name, *said[name]) for name in names), extra


def _column(table: pl.DataFrame, name: str, where: Sequence[int], said: Sequence[Any]) -> pl.Series:
    """Return a column with what documents say of it in some rows."""
    old = table[name] if name in table.columns else pl.Series(name, [None]).new_from_index(0, len(table))
    kind = pl.Float64() if name == PUBLISHED and old.dtype == pl.Null else old.dtype  # that one is read by the server
    new = column_of(said, name, kind)
    wider = pl.Float64 if pl.Float64 in (old.dtype, new.dtype) else new.dtype
    whole = pl.concat([old.cast(wider), new.cast(wider)])
    pick = np.arange(len(table))
    pick[where] = len(table) + np.arange(len(where))
    return whole.gather(pick)
