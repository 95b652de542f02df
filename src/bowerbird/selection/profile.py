"""What data are like, as far as it bears on which model to choose.

It is made from a split, since what matters is what training can know of those who are asked about later. Without times
there is no drift and no order; without columns there is no content; a feature table with labels is a ranking task.

Shapes: E events of the train part, I items.
"""

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import polars as pl

from bowerbird.data import Interactions, RowSplit, Split
from bowerbird.features.inference import infer, said

RETRIEVAL, RANKING = "retrieval", "ranking"
LATE = 0.1  # share of the train events that counts as lately


@dataclass(frozen=True, kw_only=True)
class Profile:
    """Sizes and properties of a split. Shares are 0 to 1; None where the data cannot say."""

    task: str  # "retrieval" (interactions, lists are asked for) or "ranking" (rows with labels)
    events: int  # of the train part; rows where the task is ranking
    users: int  # that training knows; 0 where rows name none
    items: int
    asked: int  # users of the validation part, or its rows
    density: float | None  # distinct pairs, as a share of all
    length: float | None  # median events of a user
    longest: int | None
    repeats: float | None  # share of events whose user had chosen the item before
    drift: float | None  # share of popularity that moved in the last tenth, beyond what chance moves
    cold_users: float | None  # share of those asked whom training does not know
    cold_items: float | None  # share of what validation chose that training does not know
    timed: bool
    ordered: bool  # whether what came later was foreseen: by times, or by the order of the file
    kinds: tuple[str, ...]  # kinds of event, or labels
    relations: tuple[str, ...]  # friends, categories and other typed edges
    user_columns: tuple[str, ...]
    item_columns: tuple[str, ...]
    row_columns: tuple[str, ...]  # of a ranking task: what rankers read
    content: tuple[str, ...]  # of items: ready vectors, texts, pictures, sounds, attributes
    positive: float | None  # of a ranking task: share of 1 of its first label
    protocol: str

    def to_dict(self) -> dict[str, Any]:
        """Return plain values, ready for JSON."""
        return asdict(self)


def profile(split: Split | RowSplit) -> Profile:
    """Return what a split is like."""
    return _of_rows(split) if isinstance(split, RowSplit) else _of_interactions(split)


def _of_rows(split: RowSplit) -> Profile:
    train, label = split.train, split.train.labels[:, 0]
    sizes = [0 if one is None else len(np.unique(one)) for one in (train.user, train.item)]
    return Profile(
        task=RANKING, events=len(train), users=sizes[0], items=sizes[1], asked=len(split.valid), density=None,
        length=None, longest=None, repeats=None, drift=None,
        cold_users=_unknown(train.user, split.valid.user), cold_items=_unknown(train.item, split.valid.item),
        timed=train.time is not None, ordered="temporal" in split.protocol, kinds=train.tasks, relations=(),
        user_columns=(), item_columns=(), row_columns=tuple(column.name for column in infer(train.table)), content=(),
        positive=float(np.nanmean(label)), protocol=split.protocol,
    )  # fmt: skip


def _of_interactions(split: Split) -> Profile:
    train, valid = split.train, split.valid
    lengths = np.bincount(train.user, minlength=train.n_users)
    pairs = pl.DataFrame({"user": train.user, "item": train.item}).n_unique()
    asked, chosen = np.unique(valid.targets.user), valid.targets.item
    ordered = not any(f"split={way}" in split.protocol for way in ("random", "given"))
    return Profile(
        task=RETRIEVAL, events=len(train), users=train.n_users, items=train.n_items, asked=len(asked),
        density=pairs / max(train.n_users * train.n_items, 1), length=float(np.median(lengths)),
        longest=int(lengths.max()), repeats=1 - pairs / len(train), drift=drift_of(train) if ordered else None,
        cold_users=float((asked >= train.n_users).mean()) if len(asked) else None,
        cold_items=float((chosen >= train.n_items).mean()) if len(chosen) else None,
        timed=train.time is not None, ordered=ordered, kinds=tuple(kind.name for kind in train.events),
        relations=tuple(train.relations), user_columns=_names(train.users), item_columns=_names(train.items),
        row_columns=(), content=content_of(train), positive=None, protocol=split.protocol,
    )  # fmt: skip


def _names(table: pl.DataFrame | None) -> tuple[str, ...]:
    return () if table is None else tuple(table.columns)


def _unknown(before: np.ndarray | None, after: np.ndarray | None) -> float | None:
    return None if before is None or after is None else float((~np.isin(after, before)).mean())


def content_of(train: Interactions) -> tuple[str, ...]:
    """Return what models can read of items: the names of ready vectors, or the kinds of columns."""
    if train.item_content:
        return tuple(train.item_content)
    return () if train.items is None else tuple(kind for kind, columns in said(train.items).items() if columns)


def drift_of(train: Interactions) -> float | None:
    """Return how much of the items' popularity moved: total variation between the last tenth of events and the rest.

    What two random parts of these sizes differ by is taken off, and 0 is the least. None where there is too little.
    """
    n, late = len(train), round(len(train) * LATE)
    if late < train.n_items / 10 or late == 0 or train.time is None:
        return None
    moved = _apart(train.item, late, train.n_items)
    by_chance = _apart(np.random.default_rng(0).permutation(train.item), late, train.n_items)
    return max(0.0, moved - by_chance) if n else None


def _apart(item: np.ndarray, late: int, n_items: int) -> float:
    """Return the total variation distance of the items of the last `late` events from those before."""
    before, after = (np.bincount(part, minlength=n_items) for part in (item[:-late], item[-late:]))
    return float(np.abs(before / before.sum() - after / after.sum()).sum() / 2)
