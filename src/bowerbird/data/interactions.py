"""Interactions: who did what with which item, when, and how much it counts. Columnar, immutable, in time order.

It is not a feature table: columns for ranking models are `Rows`, and their encoding lives in `features`.

Shapes: E events, U users, I items.
"""

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np
import polars as pl

from bowerbird.core import DataError, check, closest
from bowerbird.core.ids import Ids, encode

SIGNS = {"positive": 1.0, "neutral": 0.0, "negative": -1.0}


@dataclass(frozen=True)
class EventType:
    """What one kind of event means."""

    name: str
    weight: float = 1.0  # multiplies the weight of each row
    sign: str = "positive"  # "positive", "neutral" or "negative"
    hides: bool = True  # whether the item is left out of this user's later slates
    phrase: str = "chose"  # past tense, for reasons: "because you liked …"

    def __post_init__(self) -> None:
        allowed = ", ".join(SIGNS)
        meant = closest(str(self.sign), SIGNS) or "positive"
        check(self.sign in SIGNS, "sign", self.sign, f"must be one of {allowed}", try_instead=meant)
        check(self.weight >= 0, "weight", self.weight, "must be 0 or more", try_instead=1.0)

    @property
    def reward(self) -> float:
        """What it adds to whoever showed the item: its weight where it says something good, else 0."""
        return self.weight if self.sign == "positive" else 0.0


def declared(kinds: Iterable[EventType], told: Iterable[EventType]) -> tuple[EventType, ...]:
    """Return event types with those that were declared since in the places of their names, new ones behind them."""
    return tuple({kind.name: kind for kind in (*kinds, *told)}.values())


@dataclass(frozen=True)
class Edges:
    """Typed edges (N,) between rows: user-user friendship, item-category, item-brand and the like."""

    source_kind: str  # "user", "item" or the name of an attribute
    target_kind: str
    source: np.ndarray  # int32 (N,)
    target: np.ndarray  # int32 (N,)
    weight: np.ndarray  # float32 (N,)

    def within(self, sizes: Mapping[str, int]) -> "Edges":
        """Return the edges whose ends are rows from 0 to below `sizes` of their kind."""
        most = np.iinfo(np.int32).max
        keep = (self.source < sizes.get(self.source_kind, most)) & (self.target < sizes.get(self.target_kind, most))
        keep &= (self.source >= 0) & (self.target >= 0)
        return replace(self, source=self.source[keep], target=self.target[keep], weight=self.weight[keep])

    def renamed(self, rows: Mapping[str, np.ndarray]) -> "Edges":
        """Return the edges with ends renumbered by `rows[kind][old] = new`."""

        def new(kind: str, old: np.ndarray) -> np.ndarray:
            return rows[kind][old].astype(np.int32) if kind in rows else old

        return replace(self, source=new(self.source_kind, self.source), target=new(self.target_kind, self.target))


@dataclass(frozen=True)
class Schema:
    """The sizes and meanings a model is built for."""

    n_users: int
    n_items: int
    events: tuple[EventType, ...] = (EventType("interaction"),)
    relations: tuple[str, ...] = ()
    item_content: tuple[tuple[str, int], ...] = ()  # what items say, show and sound like: name, and size of its vectors
    user_content: tuple[tuple[str, int], ...] = ()


@dataclass(frozen=True)
class PairTable:
    """Distinct positive user-item pairs, sorted by user, then item."""

    user: np.ndarray  # int32 (P,)
    item: np.ndarray  # int32 (P,)
    weight: np.ndarray  # float32 (P,): the largest weight among the pair's positive events

    def __len__(self) -> int:
        return len(self.user)


@dataclass(frozen=True, eq=False)
class Interactions:
    """Events in time order, file order breaking ties; rows of `user_ids` and `item_ids` name their ends."""

    user: np.ndarray  # int32 (E,)
    item: np.ndarray  # int32 (E,)
    weight: np.ndarray  # float32 (E,)
    event: np.ndarray  # uint8 (E,): index into `events`
    time: np.ndarray | None  # int64 (E,): seconds since 1970 UTC; None where file order stands for time
    user_ids: Ids
    item_ids: Ids
    events: tuple[EventType, ...] = (EventType("interaction"),)
    extra: pl.DataFrame | None = None  # any other columns of the rows: context, position, session
    relations: Mapping[str, Edges] = field(default_factory=dict)
    users: pl.DataFrame | None = None  # row r describes user r
    items: pl.DataFrame | None = None  # row r describes item r; "title" is shown to people where present
    item_content: Mapping[str, np.ndarray] = field(default_factory=dict)  # vectors (I, D), a row of NaN for none
    user_content: Mapping[str, np.ndarray] = field(default_factory=dict)  # vectors (U, D)
    origin: str = ""  # where the rows came from and which columns were read, for people

    @classmethod
    def of(
        cls,
        user: pl.Series,
        item: pl.Series,
        *,
        time: np.ndarray | None = None,
        weight: np.ndarray | None = None,
        event: np.ndarray | None = None,
        events: tuple[EventType, ...] = (EventType("interaction"),),
        extra: pl.DataFrame | None = None,
        origin: str = "",
    ) -> "Interactions":
        """Encode columns of caller's ids, in time order; ids are numbered as they first appear in file order."""
        return cls.encoded(
            encode(user), encode(item), time=time, weight=weight, event=event, events=events, extra=extra, origin=origin
        )

    @classmethod
    def encoded(
        cls,
        users: tuple[Ids, np.ndarray],
        items: tuple[Ids, np.ndarray],
        *,
        time: np.ndarray | None,
        weight: np.ndarray | None,
        event: np.ndarray | None,
        events: tuple[EventType, ...],
        extra: pl.DataFrame | None,
        origin: str,
    ) -> "Interactions":
        """Put columns in time order whose ids `core.ids.encode` has turned into rows."""
        n = len(users[1])
        weight = np.ones(n, np.float32) if weight is None else weight.astype(np.float32)
        event = np.zeros(n, np.uint8) if event is None else event.astype(np.uint8)
        whole = cls(users[1], items[1], weight, event, time, users[0], items[0], events, extra, origin=origin)
        return whole if time is None or (time[1:] >= time[:-1]).all() else whole.rows(_time_order(time))

    def __len__(self) -> int:
        return len(self.user)

    @property
    def n_users(self) -> int:
        """The number of user rows U, whether or not they have events."""
        return len(self.user_ids)

    @property
    def n_items(self) -> int:
        """The number of item rows I."""
        return len(self.item_ids)

    @property
    def schema(self) -> Schema:
        """What a model needs to know to be built."""
        sizes = ({k: one.shape[1] for k, one in side.items()} for side in (self.item_content, self.user_content))
        return Schema(
            self.n_users, self.n_items, self.events, tuple(self.relations), *(tuple(one.items()) for one in sizes)
        )

    def rows(self, keep: np.ndarray) -> "Interactions":
        """Return the events selected by a mask (E,) or an index, with the same ids."""
        return replace(
            self,
            user=self.user[keep],
            item=self.item[keep],
            weight=self.weight[keep],
            event=self.event[keep],
            time=None if self.time is None else self.time[keep],
            extra=None if self.extra is None else self.extra[np.arange(len(self))[keep]],
        )

    def meaning(self, events: tuple[EventType, ...]) -> "Interactions":
        """Return the same rows under other event types, of which each code of `event` has one."""
        other = replace(self, events=events)
        for name in ("by_user", "by_item"):  # kept: types have no say in them
            if name in self.__dict__:
                other.__dict__[name] = self.__dict__[name]
        return other

    def head_ids(self, n_users: int, n_items: int) -> "Interactions":
        """Return the same events with only the first `n_users` and `n_items` ids; all events must fit."""
        return replace(
            self,
            user_ids=self.user_ids.head(n_users),
            item_ids=self.item_ids.head(n_items),
            users=None if self.users is None else self.users.head(n_users),
            items=None if self.items is None else self.items.head(n_items),
            item_content={name: one[:n_items] for name, one in self.item_content.items()},
            user_content={name: one[:n_users] for name, one in self.user_content.items()},
            relations={
                name: edges.within({"user": n_users, "item": n_items}) for name, edges in self.relations.items()
            },
        )

    def reorder_ids(self, user_order: np.ndarray, item_order: np.ndarray) -> "Interactions":
        """Return the same events with ids renumbered: new row r is old row `order[r]`."""
        new_user, new_item = np.argsort(user_order), np.argsort(item_order)
        return replace(
            self,
            user=new_user[self.user].astype(np.int32),
            item=new_item[self.item].astype(np.int32),
            user_ids=Ids(self.user_ids.values[user_order]),
            item_ids=Ids(self.item_ids.values[item_order]),
            users=None if self.users is None else self.users[user_order],
            items=None if self.items is None else self.items[item_order],
            item_content={name: one[item_order] for name, one in self.item_content.items()},
            user_content={name: one[user_order] for name, one in self.user_content.items()},
            relations={
                name: edges.renamed({"user": new_user, "item": new_item}) for name, edges in self.relations.items()
            },
        )

    def with_tables(self, *, users: pl.DataFrame | None = None, items: pl.DataFrame | None = None) -> "Interactions":
        """Return the same events beside tables whose first column holds the caller's ids."""
        return replace(
            self,
            users=self.users if users is None else _aligned(self.user_ids, users),
            items=self.items if items is None else _aligned(self.item_ids, items),
        )

    def with_content(
        self, *, users: Mapping[str, np.ndarray] | None = None, items: Mapping[str, np.ndarray] | None = None
    ) -> "Interactions":
        """Return the same events beside ready vectors of users (U, D) and items (I, D), rows of NaN for those without.

        Raises `DataError` for another number of rows.
        """
        for given, n, what in ((users, self.n_users, "users"), (items, self.n_items, "items")):
            for name, vectors in (given or {}).items():
                if vectors.ndim != 2 or len(vectors) != n:
                    raise DataError(
                        f'content "{name}" has the shape {vectors.shape}, and there are {n:,} {what}. '
                        f"Give a row for each, of NaN where nothing is known."
                    )
        return replace(self, item_content=items or self.item_content, user_content=users or self.user_content)

    @cached_property
    def by_user(self) -> tuple[np.ndarray, np.ndarray]:
        """Offsets int64 (U+1,) and event positions (E,): the CSR view by user, oldest first."""
        return _grouped(self.user, self.n_users)

    @cached_property
    def by_item(self) -> tuple[np.ndarray, np.ndarray]:
        """Offsets int64 (I+1,) and event positions (E,): the CSR view by item, oldest first."""
        return _grouped(self.item, self.n_items)

    @cached_property
    def signed_weight(self) -> np.ndarray:
        """Row weight times the event type's weight and sign, float32 (E,)."""
        factor = np.array([kind.weight * SIGNS[kind.sign] for kind in self.events], np.float32)
        signed: np.ndarray = self.weight * factor[self.event]
        return signed

    @cached_property
    def hides(self) -> np.ndarray:
        """Whether each event hides its item from the user's later slates, bool (E,)."""
        hides: np.ndarray = np.array([kind.hides for kind in self.events])[self.event]
        return hides

    @cached_property
    def positives(self) -> PairTable:
        """Distinct pairs with a positive event and no later negative one."""
        signed = np.flatnonzero(self.signed_weight)  # neutral events say nothing
        weight = self.signed_weight[signed]
        key = self.user[signed].astype(np.int64) * max(self.n_items, 1) + self.item[signed]
        order = np.argsort(key, kind="stable")  # within a pair, oldest first
        key, weight = key[order], weight[order]
        starts = np.flatnonzero(np.r_[True, key[1:] != key[:-1]]) if len(key) else np.zeros(0, np.int64)
        ends = np.r_[starts[1:], len(key)] - 1 if len(key) else starts
        keep = weight[ends] > 0
        best = np.maximum.reduceat(weight, starts) if len(starts) else weight
        pair = key[starts][keep]
        user, item = np.divmod(pair, max(self.n_items, 1))
        return PairTable(user.astype(np.int32), item.astype(np.int32), best[keep])

    @cached_property
    def fingerprint(self) -> str:
        """Sha256 over ids and events: equal tables have equal fingerprints."""
        digest = hashlib.sha256()
        for ids in (self.user_ids, self.item_ids):
            digest.update("\x1f".join(map(str, ids.values.to_list())).encode())
        for column in (self.user, self.item, self.weight, self.event, self.time):
            if column is not None:
                digest.update(np.ascontiguousarray(column).tobytes())
        return digest.hexdigest()

    def title(self, row: int) -> str:
        """Return what to call an item before people: its title where known, else its id."""
        if self.items is not None and "title" in self.items.columns:
            title = self.items["title"][row]
            if title:
                return str(title)
        return str(self.item_ids[row])

    def summary(self) -> dict[str, Any]:
        """Return the sizes that people ask for first."""
        cells = max(self.n_users * self.n_items, 1)
        return {
            "events": len(self),
            "users": self.n_users,
            "items": self.n_items,
            "density": len(self.positives) / cells,
            "timed": self.time is not None,
        }


def _time_order(time: np.ndarray) -> np.ndarray:
    """Return positions (E,) in time order, file order breaking ties: argsort, but time and place sort as one number."""
    low, bits = int(time.min()), int(len(time) - 1).bit_length()
    if (int(time.max()) - low).bit_length() + bits > 63:
        return np.argsort(time, kind="stable")
    key = ((time.astype(np.int64) - low) << bits) | np.arange(len(time))
    key.sort()
    key &= (1 << bits) - 1
    return key


def _grouped(rows: np.ndarray, n: int) -> tuple[np.ndarray, np.ndarray]:
    """Return offsets (n+1,) and positions: the positions of each value 0..n-1, in their order."""
    offsets = np.concatenate([[0], np.cumsum(np.bincount(rows, minlength=n))]).astype(np.int64)
    return offsets, _time_order(rows) if len(rows) else np.zeros(0, np.int64)


def _aligned(ids: Ids, table: pl.DataFrame) -> pl.DataFrame:
    """Return `table` with one row for each id, nulls where it has none; the first column names the ids."""
    key = table.columns[0]
    table = table.with_columns(pl.col(key).cast(ids.values.dtype, strict=False)).unique(key, keep="first")
    frame = ids.values.rename(key).to_frame()
    return frame.join(table, on=key, how="left", maintain_order="left").drop(key)
