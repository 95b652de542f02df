"""Re-ranking: what is done to an order of candidates before a policy chooses: boosts, freshness, diversity, caps, pins.

Shapes: I items, C candidates, k places, D vector size.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl

from bowerbird.core import ConfigError, RequestError
from bowerbird.pipeline import filters
from bowerbird.pipeline.scenario import Scenario

DAY_S = 86_400

SeenRows = Callable[[filters.Seen], np.ndarray]  # which item rows somebody has seen, in the sense of a filter


@dataclass(frozen=True)
class Cap:
    """At most `most` items of one kind in a slate."""

    code: np.ndarray  # int64 (C,): the kind of each candidate, −1 for none, which nothing caps
    most: int


def codes(column: pl.Series) -> np.ndarray:
    """Return a number for each value of an item column, int64, −1 for none."""
    if column.dtype.is_nested():
        raise ConfigError(
            f"caps name the item column {column.name}, which holds lists. Cap a column with one value an item."
        )
    coded: np.ndarray = column.rank("dense").cast(pl.Int64).fill_null(-1).to_numpy()
    return coded


def seconds(column: pl.Series) -> np.ndarray:
    """Return an item column of moments as seconds since 1970, float64, NaN for none."""
    if isinstance(column.dtype, pl.Date | pl.Datetime):
        column = column.cast(pl.Datetime("us")).dt.epoch("s")
    if not column.dtype.is_numeric():
        raise ConfigError(
            f"freshness names the item column {column.name}, of type {column.dtype}, which holds no moments. "
            "Give moments, or seconds since 1970."
        )
    moments: np.ndarray = column.cast(pl.Float64).fill_null(np.nan).to_numpy()
    return moments


def advantage(published: np.ndarray, now: int, half_life_days: float, strength: float) -> np.ndarray:
    """Return the factor of freshness (C,): 1 + strength · 2^(−age / half-life), 1 where `published` is NaN."""
    age_days = np.maximum(now - published, 0) / DAY_S
    factor: np.ndarray = 1 + np.nan_to_num(strength * np.exp2(-age_days / half_life_days), nan=0.0)
    return factor


def scaled(scores: np.ndarray, factor: np.ndarray) -> np.ndarray:
    """Return scores (C,) multiplied by a factor each.

    Where some are below 0, it is their distance from the lowest that is multiplied: a factor above 1 never lowers.
    """
    low = min(float(scores.min(initial=0.0)), 0.0)
    changed: np.ndarray = (low + (scores - low) * factor).astype(np.float32)
    return changed


def below(lowest: float, n: int) -> np.ndarray:
    """Return n falling scores, float32 (n,), for what follows a list whose last score is `lowest`."""
    place = np.arange(1, n + 1)
    scores: np.ndarray = (lowest - abs(lowest) * place / (60 + place)).astype(np.float32)
    return scores


def pick(
    scores: np.ndarray,
    k: int,
    *,
    first: int = 0,
    caps: Sequence[Cap] = (),
    likeness: np.ndarray | None = None,
    diversity: float = 0.0,
) -> np.ndarray:
    """Return which k of C candidates to take, in order, int64; fewer where the caps leave fewer.

    Greedily, by maximal marginal relevance (Carbonell and Goldstein, SIGIR 1998): next comes the candidate of most
    λ · relevance − (1 − λ) · largest `likeness` (C, C) to one already taken, with λ = 1 − `diversity` and scores scaled
    to 0 … 1 as relevance. Without `likeness` that is the order of scores. Equal ones keep their order. The `first`
    candidates are taken before all others, as far as the caps allow.
    """
    if likeness is None and not caps and not first:
        return np.argsort(-scores, kind="stable")[:k]
    worth = scores.astype(np.float64)
    if likeness is not None and len(worth):
        worth = (1 - diversity) * (worth - worth.min()) / (np.ptp(worth) or 1.0)
    nearest = np.full(len(worth), -1.0)  # the least that a cosine can be: no matter before something is taken
    taken: list[int] = []
    for turn in range(min(first + k, len(worth))):
        one = turn if turn < first else int((worth - diversity * nearest).argmax())
        if len(taken) == k or (turn >= first and worth[one] == -np.inf):
            break
        if worth[one] == -np.inf:
            continue
        taken.append(one)
        worth[one] = -np.inf
        if likeness is not None:
            np.maximum(nearest, likeness[one], out=nearest)
        for cap in caps:
            kind = cap.code[one]
            if kind >= 0 and np.count_nonzero(cap.code[taken] == kind) >= cap.most:
                worth[cap.code == kind] = -np.inf
    return np.array(taken, np.int64)


class Rules:
    """What a scenario says of items, in rows of one table of items.

    Raises `ConfigError` for a filter that the table cannot answer. What else the scenario names and the table lacks has
    no effect, and stands in `missing`.
    """

    def __init__(self, scenario: Scenario, items: pl.DataFrame) -> None:
        self.scenario, self.items = scenario, items
        self.where = self._filter(scenario.where)
        self.boosts = [(where, one.factor) for one in scenario.boosts if (where := self._filter(one.where))]
        self.codes = {name: codes(items[name]) for name in scenario.caps if name in items.columns}
        fresh = scenario.freshness
        dated = fresh is not None and fresh.column in items.columns
        self.published = seconds(items[fresh.column]) if fresh is not None and dated else None
        ids = items["item_id"].cast(pl.String)
        places = sorted(scenario.pins, key=lambda pin: pin.position)
        found = [(pin, (ids == pin.item).arg_true().to_list()) for pin in places]
        self.pinned = [(pin.position, rows[0], self._filter(pin.where)) for pin, rows in found if rows]
        self.missing = (
            *(name for name in scenario.caps if name not in items.columns),
            *([fresh.column] if fresh is not None and not dated else []),
            *(f"item {pin.item}" for pin, rows in found if not rows),
        )
        self.masks: tuple[int, dict[str, np.ndarray]] = (0, {})  # of the scenario's filters, at one moment

    def _filter(self, text: str) -> filters.Filter | None:
        """Return a filter, tried on no items; None for an empty text."""
        if not text:
            return None
        parsed = filters.parse(text)
        try:
            parsed.mask(self.items.clear(), now=0, seen=[np.zeros(0, bool) for _ in parsed.seen])
        except RequestError as error:
            raise ConfigError(error.message, where=f"scenario {self.scenario.name}, filter {text}") from None
        return parsed

    def mask(self, where: filters.Filter, now: int, seen_rows: SeenRows) -> np.ndarray:
        """Return which items a filter picks, bool (I,)."""
        seen = [np.zeros(len(self.items), bool) for _ in where.seen]
        for mask, one in zip(seen, where.seen, strict=True):
            mask[seen_rows(one)] = True
        picked: np.ndarray = where.mask(self.items, now=now, seen=seen)
        return picked

    def own_mask(self, where: filters.Filter, now: int, seen_rows: SeenRows) -> np.ndarray:
        """Return the mask of one of the scenario's filters, made once for all requests of a second."""
        if where.seen:
            return self.mask(where, now, seen_rows)
        moment, masks = self.masks
        if moment != now:
            masks = {}
            self.masks = (now, masks)
        if where.text not in masks:
            masks[where.text] = self.mask(where, now, seen_rows)
        return masks[where.text]

    def factor(self, rows: np.ndarray, now: int, seen_rows: SeenRows) -> np.ndarray | None:
        """Return what the scores of items are multiplied by (C,); None where nothing changes them."""
        if self.published is None and not self.boosts:
            return None
        factor = np.ones(len(rows))
        for where, boost in self.boosts:
            factor[self.own_mask(where, now, seen_rows)[rows]] *= boost
        if self.published is not None and (fresh := self.scenario.freshness) is not None:
            factor *= advantage(self.published[rows], now, fresh.half_life_days, fresh.strength)
        return factor

    def caps(self, rows: np.ndarray) -> list[Cap]:
        """Return the caps on these items."""
        return [Cap(code[rows], self.scenario.caps[name]) for name, code in self.codes.items()]

    def full(self, slate: np.ndarray, row: int) -> str | None:
        """Return a column of which a slate holds as many items like one as it may; None where there is none."""
        for name, code in self.codes.items():
            if code[row] >= 0 and np.count_nonzero(code[slate] == code[row]) >= self.scenario.caps[name]:
                return name
        return None

    def pins(self, k: int, now: int, seen_rows: SeenRows) -> dict[int, int]:
        """Return the pins that hold now, position → item row; an item has one place."""
        held: dict[int, int] = {}
        for place, row, where in self.pinned:
            holds = where is None or bool(self.own_mask(where, now, seen_rows)[row])
            if place <= k and holds and row not in held.values():
                held[place] = row
        return held
