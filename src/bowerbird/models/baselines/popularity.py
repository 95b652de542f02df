"""Popularity: the same list for everyone, most chosen first. What a model must beat to be worth its name.

Differs: counts distinct people, each weighted by their strongest event with the item, not raw events. On request a
         choice fades with its age, and people of a segment get what their segment chooses.
Cost:    O(E) to fit, I numbers to keep; (S + 1) * I more by segment.
Shapes:  B requests, U users, I items, n listed items, P distinct pairs, S segments.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl
import torch
from torch import Tensor, nn

from bowerbird.core import DataError, ModelConfig, check, did_you_mean, register
from bowerbird.data import Interactions, Schema
from bowerbird.features import Context
from bowerbird.nn.vectors import grown, listed

DAY_S = 86_400
EVERYBODY = 3_000.0  # choices of everybody that a segment's own are mixed with
MOST_SEGMENTS = 1_000  # more are names rather than segments, and each keeps I numbers


@dataclass(frozen=True, kw_only=True)
class PopularityConfig(ModelConfig):
    """Popular when, and with whom."""

    half_life_days: float | None = None  # age at which a choice counts half; None: all count alike
    segment: str | None = None  # a column of the user table; None: one list for all

    def __post_init__(self) -> None:
        positive = self.half_life_days is None or self.half_life_days > 0
        check(positive, "half_life_days", self.half_life_days, "must be above 0", try_instead=30.0)


@register(
    "popularity",
    config=PopularityConfig,
    tags=("baseline", "retriever", "closed-form", "cold-user"),
    search={"half_life_days": (1.0, 1_000.0)},
)
class Popularity(nn.Module):
    """Scores an item by the weight of the people who chose it."""

    counts: Tensor
    segment: Tensor
    by_segment: Tensor

    def __init__(self, config: PopularityConfig, schema: Schema) -> None:
        super().__init__()
        self.config = config
        self.register_buffer("counts", torch.zeros(schema.n_items))
        if config.segment is not None:
            self.register_buffer("segment", torch.zeros(schema.n_users, dtype=torch.int32))  # (U,): 0 for everybody
            self.register_buffer("by_segment", torch.zeros(1, schema.n_items))  # (S + 1, I)
            self.register_load_state_dict_pre_hook(_make_room)  # type: ignore[no-untyped-call]

    def fit(self, train: Interactions, rng: np.random.Generator) -> None:
        """Count. Raises `DataError` where the times or the segments that the configuration asks for are not there."""
        pairs, n_items, device = train.positives, train.n_items, self.counts.device
        weight = pairs.weight if self.config.half_life_days is None else _faded(train, self.config.half_life_days)
        counts = np.bincount(pairs.item, weights=weight, minlength=n_items)
        self.counts = torch.from_numpy(counts.astype(np.float32)).to(device)
        if self.config.segment is None:
            return
        segment = _segments(train, self.config.segment)
        n = int(segment.max(initial=0)) + 1
        own = np.bincount(segment[pairs.user] * n_items + pairs.item, weights=weight, minlength=n * n_items)
        own = own.reshape(n, n_items)
        mixed = (counts.sum() * own + EVERYBODY * counts) / (own.sum(axis=1, keepdims=True) + EVERYBODY)
        mixed[0] = counts
        self.segment = torch.from_numpy(segment.astype(np.int32)).to(device)
        self.by_segment = torch.from_numpy(mixed.astype(np.float32)).to(device)

    def can(self, context: Context) -> Tensor:
        """Return true for everyone who does not ask for similar items, bool (B,)."""
        return torch.full((len(context),), context.seeds is None, device=context.user.device)

    def scores(self, context: Context, items: Tensor | None = None) -> Tensor:
        """Return the weighted number of people (B, I) or (B, n), by segment as if all people were of the user's."""
        if self.config.segment is None or not len(self.segment):
            return listed(self.counts.repeat(len(context), 1), items)
        segment = self.segment[context.user.clamp(min=0)].masked_fill(context.user < 0, 0)
        return listed(self.by_segment[segment], items)

    def grow(self, n_users: int, n_items: int) -> None:
        """New items have been chosen by nobody, and the segments of new users are not known yet."""
        self.counts = grown(self.counts, n_items)
        if self.config.segment is not None:
            self.segment = grown(self.segment, n_users)
            self.by_segment = grown(self.by_segment, len(self.by_segment), n_items)


def _faded(train: Interactions, half_life_days: float) -> np.ndarray:
    """Return pair weights (P,), each halved for every half-life between its last event and the newest of all."""
    if train.time is None:
        raise DataError("half_life_days needs times, and the events have none. Name the time column with time=….")
    pairs, good = train.positives, np.flatnonzero(train.signed_weight > 0)
    width = max(train.n_items, 1)
    key = pairs.user.astype(np.int64) * width + pairs.item
    mine = train.user[good].astype(np.int64) * width + train.item[good]
    place = np.searchsorted(key, mine)
    kept = place < len(key)
    kept[kept] = key[place[kept]] == mine[kept]  # the others were taken back by a later dislike
    last = np.zeros(len(key), np.int64)
    last[place[kept]] = train.time[good[kept]]  # events are in time order: the newest is written last
    age_days = (train.time[-1:] - last) / DAY_S
    faded: np.ndarray = pairs.weight * np.exp2(-age_days / half_life_days)
    return faded


def _segments(train: Interactions, column: str) -> np.ndarray:
    """Return the segment of each user, int64 (U,): from 1 in the order of its values, 0 where it is not known."""
    if train.users is None:
        raise DataError(f'segment = "{column}" needs a table of users, and there is none. Give one with users=….')
    if column not in train.users.columns:
        close = did_you_mean(column, train.users.columns)
        raise DataError(
            f'segment is "{column}", which is no column of the user table.{close} '
            f"Columns: {', '.join(train.users.columns)}."
        )
    values = train.users[column]
    n = values.n_unique()
    if n > MOST_SEGMENTS:
        raise DataError(
            f'segment = "{column}" has {n:,} values; {MOST_SEGMENTS:,} are the most. Group them into a column of fewer.'
        )
    ranks: np.ndarray = values.rank("dense").fill_null(0).cast(pl.Int64).to_numpy()
    return ranks


def _make_room(model: nn.Module, state: dict[str, Any], prefix: str, *_: object) -> None:
    """Size the table by segment as a saved one is: only the data says how many segments there are."""
    saved = state.get(f"{prefix}by_segment")
    if saved is not None:
        model.register_buffer("by_segment", torch.zeros(saved.shape, device=model.get_buffer("counts").device))
