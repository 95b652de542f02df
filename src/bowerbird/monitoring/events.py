"""What a recommender is watched by: the events it learnt from beside those that came since, and how well it foresees.

Not here: what is made of it (`windows`, `streams`), and learning from it (`recommender.update`).
"""

from dataclasses import replace

import numpy as np
import polars as pl

from bowerbird.core import ConfigError, DataError
from bowerbird.data import Holdout, Interactions, later
from bowerbird.data.readers import TITLES
from bowerbird.evaluation import Scorer, evaluate
from bowerbird.monitoring.windows import Drift, WatchOptions, compare_windows
from bowerbird.recommender import Recommender
from bowerbird.recommender.pasts import table_of

ITEM = "item_id"
MARK = "item."  # before the name of a column that describes items


def compare_events(rec: Recommender, events: pl.DataFrame, *, options: WatchOptions | None = None) -> Drift:
    """Return what changed from the events that `rec` has learnt to new ones, in the columns of `update`.

    Compared are the items, what the item table says of them, event types and weights, where these vary. People are
    not: new ones come with every day. Raises `DataError` where there is no new event.
    """
    if ITEM not in events.columns:
        raise DataError(f'the events have no column "{ITEM}". They have: {", ".join(events.columns)}.')
    told = _told(rec.past)
    past = table_of(rec.past)
    both = [
        one.select(pl.col(ITEM).cast(pl.String), *(name for name in ("event", "weight") if name in events.columns))
        .join(told, on=ITEM, how="left", maintain_order="left")
        for one in (past, events)
    ]  # fmt: skip
    flat = [name for name in ("event", "weight") if name in events.columns and both[0][name].n_unique() == 1]
    names = [name for name in both[0].columns if name not in flat or both[1][name].n_unique() > 1]
    return compare_windows(*(one.select(names) for one in both), partial=told.columns, options=options)


def _told(past: Interactions) -> pl.DataFrame:
    """Return the id of each item and what is known of it, but for its title."""
    ids = pl.DataFrame({ITEM: past.item_ids.values.cast(pl.String)})
    if past.items is None:
        return ids
    kept = [name for name, kind in past.items.schema.items() if name not in TITLES and not kind.is_nested()]
    return ids.hstack(past.items.select(pl.col(name).alias(MARK + name) for name in kept))


def foreseen(rec: Scorer, past: Interactions, events: Interactions, *, warmup: int = 5, k: int = 10) -> pl.DataFrame:
    """Return how well `rec` foresees what people did after `past`, first asked, then told: `user_id` and `ndcg@k`.

    Histories hold all of `past`, whatever `rec` was trained on, and the first `warmup` events of people whom `past`
    does not know; asked for are later choices of items that `past` knows. One row a person, in the order of their
    first event here; none where nobody can be asked.
    """
    metric, ahead = f"ndcg@{k}", later(past, events)
    stranger = ahead.targets.user >= past.n_users
    posted = stranger & (_turns(ahead.targets.user) < warmup)
    holdout = Holdout("now", past, _joined(ahead.history, ahead.targets.rows(posted)), ahead.targets.rows(~posted), "")
    try:
        found = evaluate(rec, holdout, metrics=[metric], k=k, intervals=False).per_user
    except ConfigError:  # nobody is left to ask
        return pl.DataFrame(schema={"user_id": events.user_ids.values.dtype, metric: pl.Float64})
    order = pl.DataFrame({"user_id": events.user_ids.names(events.user)}).unique(maintain_order=True)
    return order.join(found, on="user_id", how="inner", maintain_order="left")


def _turns(user: np.ndarray) -> np.ndarray:
    """Return how many earlier events of the same person there are, for each event (E,)."""
    order = np.argsort(user, kind="stable")
    starts = np.flatnonzero(np.r_[True, np.diff(user[order]) != 0])
    turns = np.empty(len(user), np.int64)
    turns[order] = np.arange(len(user)) - np.repeat(starts, np.diff(np.r_[starts, len(user)]))
    return turns


def _joined(history: Interactions, posted: Interactions) -> Interactions:
    both = (history, posted)
    timed = history.time is not None and posted.time is not None
    return replace(
        history,
        user=np.concatenate([one.user for one in both]),
        item=np.concatenate([one.item for one in both]),
        weight=np.concatenate([one.weight for one in both]),
        event=np.concatenate([one.event for one in both]),
        time=np.concatenate([one.time for one in both if one.time is not None]) if timed else None,
    )
