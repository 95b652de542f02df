"""Description: what a table of interactions is like, in numbers, before anything is learned from it.

Shapes: E events, U users, I items.
"""

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import polars as pl

from bowerbird.core import DataError, RealWorld
from bowerbird.data.checks import warnings_of
from bowerbird.data.interactions import Interactions

QUANTILES = {"min": 0.0, "25%": 0.25, "50%": 0.5, "75%": 0.75, "90%": 0.9, "99%": 0.99, "max": 1.0}
TOPS = (0.01, 0.05, 0.1, 0.2, 0.5)  # shares of the items, most popular first
CURVE = 100  # points of the popularity curve
BINS = 60  # of the events over time
LAST = 0.1  # share of the events that counts as late


@dataclass(frozen=True, kw_only=True)
class Description:
    """Sizes, times, repeats, activity, popularity, newcomers, columns and warnings of a table."""

    origin: str
    events: int
    users: int
    items: int
    density: float  # distinct pairs, as a share of all
    repeats: float  # share of events whose user had chosen the item before
    first: int | None  # seconds since 1970 UTC; None without times
    last: int | None
    per_user: dict[str, float]  # quantiles and mean of the events of one user
    per_item: dict[str, float]
    at_least: dict[str, list[tuple[int, float]]]  # "users", "items": (n, share with n events or more)
    popularity: dict[str, float]  # share of events on the top 1 % … of items
    gini: float  # of the events over items: 0 when all are chosen alike, towards 1 when one is
    curve: list[float]  # share of events on the most popular k % of items, k = 0 … 100
    over_time: list[int]  # events in equal spans from `first` to `last`; empty without times
    late: dict[str, float]  # share of "users" and "items" that appear in the last tenth of the events only
    event_types: dict[str, int]
    columns: list[dict[str, Any]]  # table, column, type, share that is empty
    warnings: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """Return plain values, ready for JSON."""
        return asdict(self)

    def __str__(self) -> str:
        lines = [f"{name:<24}{value}" for name, value in facts(self)]
        return "\n".join([self.origin, *lines, *(f"warning: {text}" for text in self.warnings)])


def describe(events: Interactions, *, now: int | None = None) -> Description:
    """Return what a table is like; `now`, in seconds since 1970, tells which times are in the future.

    Raises `DataError` when there is no event.
    """
    if not len(events):
        raise DataError("there is no event to describe.")
    by_user, by_item = _counts(events.user, events.n_users), _counts(events.item, events.n_items)
    pairs = pl.DataFrame({"user": events.user, "item": events.item}).n_unique()
    curve = _curve(by_item)
    time = events.time
    return Description(
        origin=events.origin,
        events=len(events),
        users=events.n_users,
        items=events.n_items,
        density=pairs / (events.n_users * events.n_items),
        repeats=1 - pairs / len(events),
        first=None if time is None else int(time[0]),
        last=None if time is None else int(time[-1]),
        per_user=_quantiles(by_user),
        per_item=_quantiles(by_item),
        at_least={"users": _at_least(by_user), "items": _at_least(by_item)},
        popularity={f"{top:.0%}": _share(by_item, top) for top in TOPS},
        gini=_gini(by_item),
        curve=curve,
        over_time=[] if time is None else np.histogram(time, bins=BINS)[0].tolist(),
        late={"users": _late(events.user, events.n_users), "items": _late(events.item, events.n_items)},
        event_types={
            kind.name: int(n) for kind, n in zip(events.events, _counts(events.event, len(events.events)), strict=True)
        },
        columns=_columns(events),
        warnings=tuple(warnings_of(events, now=RealWorld().now() if now is None else now)),
    )


def facts(one: Description) -> list[tuple[str, str]]:
    """Return the lines of a description for people: what, and how much."""
    span = "none" if one.first is None or one.last is None else f"{day_of(one.first)} to {day_of(one.last)}"
    shown = ("50%", "90%", "max")
    return [
        ("events", f"{one.events:,}"),
        ("users", f"{one.users:,}"),
        ("items", f"{one.items:,}"),
        ("density", f"{one.density:.3%}"),
        ("repeats", f"{one.repeats:.1%} of events"),
        ("times", span),
        ("events per user", ", ".join(f"{name} {one.per_user[name]:,.0f}" for name in shown)),
        ("events per item", ", ".join(f"{name} {one.per_item[name]:,.0f}" for name in shown)),
        ("on the top 1 % of items", f"{one.popularity['1%']:.1%} of events"),
        ("on the top 10 %", f"{one.popularity['10%']:.1%} of events, Gini {one.gini:.2f}"),
        ("only in the last tenth", f"{one.late['users']:.1%} of users, {one.late['items']:.1%} of items"),
        ("kinds of event", ", ".join(f"{name} {n:,}" for name, n in one.event_types.items())),
    ]


def day_of(second: int) -> str:
    """Return a day such as 2026-11-24, UTC."""
    return str(np.datetime64(second, "s")).split("T")[0]


def _counts(rows: np.ndarray, n: int) -> np.ndarray:
    counts: np.ndarray = np.bincount(rows, minlength=n)
    return counts


def _quantiles(counts: np.ndarray) -> dict[str, float]:
    values = np.quantile(counts, list(QUANTILES.values()))
    return dict(zip(QUANTILES, values.tolist(), strict=True)) | {"mean": float(counts.mean())}


def _at_least(counts: np.ndarray) -> list[tuple[int, float]]:
    """Return the share with n events or more, for n doubling from 1."""
    steps = 2 ** np.arange(int(counts.max()).bit_length())
    ordered = np.sort(counts)
    return [(int(n), float(1 - np.searchsorted(ordered, n) / len(ordered))) for n in steps]


def _share(counts: np.ndarray, top: float) -> float:
    """Return the share of events on the most popular `top` of items, one item at least."""
    n = max(round(len(counts) * top), 1)
    return float(np.sort(counts)[-n:].sum() / counts.sum())


def _curve(counts: np.ndarray) -> list[float]:
    reached = np.concatenate([[0], np.cumsum(np.sort(counts)[::-1])]) / counts.sum()
    curve: list[float] = np.interp(np.linspace(0, len(counts), CURVE + 1), np.arange(len(reached)), reached).tolist()
    return curve


def _gini(counts: np.ndarray) -> float:
    """Return the Gini coefficient, by the mean rank of an event's item."""
    n, ordered = len(counts), np.sort(counts)
    return float((2 * np.arange(1, n + 1) - n - 1) @ ordered / (n * counts.sum()))


def _late(rows: np.ndarray, n: int) -> float:
    """Return the share of rows without an event before the last tenth."""
    before = np.zeros(n, bool)
    before[rows[: len(rows) - round(len(rows) * LAST)]] = True
    return float(1 - before.mean())


def _columns(events: Interactions) -> list[dict[str, Any]]:
    tables = {"events": events.extra, "users": events.users, "items": events.items}
    return [
        {"table": table, "column": column.name, "type": str(column.dtype), "empty": column.null_count() / len(column)}
        for table, frame in tables.items()
        if frame is not None
        for column in frame
    ]
