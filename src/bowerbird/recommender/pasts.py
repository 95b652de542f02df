"""Pasts: events as a run keeps them, in the caller's ids, and back in a bundle's rows."""

import polars as pl

from bowerbird.core import BundleError
from bowerbird.core.ids import Ids
from bowerbird.data import EventType, Interactions


def table_of(past: Interactions) -> pl.DataFrame:
    """Return events in the caller's ids, as `store.histories` keeps them."""
    names = pl.Series([kind.name for kind in past.events])
    columns = {
        "user_id": past.user_ids.names(past.user),
        "item_id": past.item_ids.names(past.item),
        "event": names.gather(past.event),
        "weight": pl.Series(past.weight),
    }
    return pl.DataFrame(columns if past.time is None else columns | {"time": pl.Series(past.time)})


def past_of(table: pl.DataFrame, user_ids: Ids, item_ids: Ids, kinds: tuple[EventType, ...]) -> Interactions:
    """Return kept events in a bundle's rows; events of users or items it does not know are left out."""
    user, item = user_ids.rows(table["user_id"]), item_ids.rows(table["item_id"])
    names = [kind.name for kind in kinds]
    strange = set(table["event"].unique()) - set(names)
    if strange:
        raise BundleError(f"the histories hold events that this version does not know: {strange}. Load a newer one.")
    event = table["event"].replace_strict(names, list(range(len(names))), return_dtype=pl.UInt8)
    whole = Interactions(
        user=user, item=item, weight=table["weight"].to_numpy(), event=event.to_numpy(),
        time=table["time"].to_numpy() if "time" in table.columns else None,
        user_ids=user_ids, item_ids=item_ids, events=kinds,
    )  # fmt: skip
    return whole.rows((user >= 0) & (item >= 0))
