"""Pasts: events as a run keeps them, in the rows of one version, and back; and as people tell them, by ids."""

import numpy as np
import polars as pl

from bowerbird.core import BundleError
from bowerbird.core.ids import Ids
from bowerbird.data import EventType, Interactions

ROWS = {"user": pl.Int32, "item": pl.Int32, "event": pl.UInt8, "weight": pl.Float32, "time": pl.Int64}


def table_of(past: Interactions) -> pl.DataFrame:
    """Return events in the caller's ids."""
    names = pl.Series([kind.name for kind in past.events])
    columns = {
        "user_id": past.user_ids.names(past.user),
        "item_id": past.item_ids.names(past.item),
        "event": names.gather(past.event),
        "weight": pl.Series(past.weight),
    }
    return pl.DataFrame(columns if past.time is None else columns | {"time": pl.Series(past.time)})


def rows_of(past: Interactions) -> pl.DataFrame:
    """Return events as `store.histories` keeps them: columns user, item, event, weight and, where known, time."""
    columns = {"user": past.user, "item": past.item, "event": past.event, "weight": past.weight}
    return pl.DataFrame(columns if past.time is None else columns | {"time": past.time})


def past_of(table: pl.DataFrame, user_ids: Ids, item_ids: Ids, kinds: tuple[EventType, ...]) -> Interactions:
    """Return kept events in a bundle's rows. Raises `BundleError` where they are those of another version.

    Before versions had histories of their own, they were kept by ids; what a version does not know is left out then.
    """
    if "user" in table.columns:
        wrong = [name for name, kind in ROWS.items() if name in table.columns and table.schema[name] != kind]
        if wrong or any(table.null_count().row(0)):
            raise BundleError("the histories are no rows of events. Restore them or train again.")
        user, item, event, weight = (table[name].to_numpy() for name in list(ROWS)[:4])
        if not np.isfinite(weight).all():
            raise BundleError("the histories hold weights that are no numbers. Restore them or train again.")
        for rows, size in ((user, len(user_ids)), (item, len(item_ids)), (event, len(kinds))):
            if len(rows) and not 0 <= int(rows.min()) <= int(rows.max()) < size:
                raise BundleError("the histories are not those of this version. Restore them or train again.")
        return Interactions(
            user=user, item=item, weight=weight, event=event,
            time=table["time"].to_numpy() if "time" in table.columns else None,
            user_ids=user_ids, item_ids=item_ids, events=kinds,
        )  # fmt: skip
    users, items = user_ids.rows(table["user_id"]), item_ids.rows(table["item_id"])
    names = [kind.name for kind in kinds]
    strange = set(table["event"].unique()) - set(names)
    if strange:
        raise BundleError(f"the histories hold events that this version does not know: {strange}. Load a newer one.")
    kind = table["event"].replace_strict(names, list(range(len(names))), return_dtype=pl.UInt8)
    whole = Interactions(
        user=users, item=items, weight=table["weight"].to_numpy(), event=kind.to_numpy(),
        time=table["time"].to_numpy() if "time" in table.columns else None,
        user_ids=user_ids, item_ids=item_ids, events=kinds,
    )  # fmt: skip
    return whole.rows((users >= 0) & (items >= 0))
