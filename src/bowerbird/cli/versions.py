"""`bowerbird update`, `versions`, `promote` and `rollback`: what a run learns after training, and which one serves.

Exit statuses of `update`: 0 published, 3 refused because it is worse, 4 nothing new.
"""

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import polars as pl

from bowerbird.cli.output import out, say, show_json, show_table, tell
from bowerbird.core import BundleError, RequestError, World
from bowerbird.store import bundles, histories

if TYPE_CHECKING:
    from bowerbird.recommender import DataOptions, UpdateOptions

PUBLISHED, REFUSED, NOTHING_NEW = 0, 3, 4
ROWS = "rows"  # what `bundles.kind_of` says of a predictor, which has no histories

ReadLog = Callable[[int], tuple[pl.DataFrame, int]]  # offset → events since, in the columns of `update`, and the end
ReadTypes = Callable[
    [], Sequence[Mapping[str, Any]]
]  # event types that were declared since, as `store.schema` has them


def run_update(
    run: Path,
    data: "DataOptions | None" = None,
    *,
    read_log: ReadLog | None = None,
    read_types: ReadTypes | None = None,
    options: "UpdateOptions | None" = None,
    as_json: bool = False,
    world: World | None = None,
) -> int:
    """Learn the events that the current version does not know, from a file or a log; return the exit status.

    A log is read from the version's offset on; its reader leaves out what is no event of a user with an item.
    """
    from bowerbird.data import EventType
    from bowerbird.recommender import load, update
    from bowerbird.recommender.pasts import table_of
    from bowerbird.recommender.update import unseen

    if (data is None) == (read_log is None):
        raise RequestError("where do the new events come from? Give one of --data FILE and --data-dir DIR.")
    rec = load(run, moments=True, world=world)
    items, end = None, None
    if read_log is not None:
        events, end = read_log(rec.log_offset)
    else:
        assert data is not None
        table = data.load()
        events = unseen(rec.past, table_of(table))
        if table.items is not None:
            items = pl.DataFrame({"item_id": table.item_ids.values}).hstack(table.items)
    document: dict[str, Any] = {"run": str(run), "parent": rec.version, "version": None, "events": len(events)}
    if not len(events):
        reason = "there is no event that this version does not know"
        show_json(document | {"accepted": False, "reason": reason}) if as_json else say(f"{run}: {reason}")
        return NOTHING_NEW
    kinds = [EventType(**kind) for kind in read_types()] if read_types else []  # after the log: none can be newer
    found = update(rec, events, options=options, items=items, kinds=kinds, world=world)
    version = found.recommender.save(run, log_offset=end) if found.accepted else None
    if as_json:
        told = {
            key: getattr(found, key)
            for key in ("accepted", "reason", "before", "after", "new_users", "new_items", "seconds")
        }
        show_json(document | told | {"version": version, "log_offset": found.recommender.log_offset})
    else:
        sizes = f"{found.n_events:,} events, {found.new_users:,} new users, {found.new_items:,} new items"
        tell(f"{sizes} in {found.seconds:.1f} s: {found.reason}")
        out.print(f"published as version {version}" if version else f"refused; version {rec.version} stays")
    return PUBLISHED if found.accepted else REFUSED


def run_add(run: Path, items: str, *, as_json: bool = False, world: World | None = None) -> None:
    """Publish a version that knows the items of a table too, by their content."""
    from bowerbird.data.readers import open_table, side_table
    from bowerbird.recommender import load
    from bowerbird.recommender.update import add_items

    rec = load(run, moments=True, world=world)
    more = add_items(rec, side_table(open_table(items), "item"))
    n_new = len(more.item_ids) - len(rec.item_ids)
    version = more.save(run) if n_new else None
    if as_json:
        show_json({"run": str(run), "parent": rec.version, "version": version, "new_items": n_new})
    else:
        told = f"published as version {version}" if version else f"version {rec.version} stays"
        out.print(f"{n_new:,} new items by their content; {told}")


def run_versions(run: Path, *, as_json: bool = False, world: World | None = None) -> None:
    """Show the versions of a run, oldest first; one that is damaged says so."""
    from bowerbird.recommender.update import METRIC

    current, rows = bundles.current(run, world=world), []
    for version in bundles.versions(run, world=world):
        row: dict[str, Any] = {"version": version, "current": version == current}
        try:
            manifest = bundles.manifest_of(run, version, world=world)
        except BundleError as error:
            rows.append(row | {"damaged": str(error)})
            continue
        metrics = (manifest["measured"] or {}).get("metrics", {})
        row |= {key: manifest.get(key) for key in ("model", "created", "parent", "log_offset")}
        rows.append(row | {METRIC: metrics.get(METRIC)})
    if as_json:
        show_json({"run": str(run), "current": current, "versions": rows})
        return
    columns = ("version", "", "model", "created (UTC)", "from", METRIC, "log offset")
    show_table(f"Versions of {run}", columns, [_cells(row, METRIC) for row in rows], left=5)


def run_promote(run: Path, version: str, *, as_json: bool = False, world: World | None = None) -> None:
    """Make a version the current one; raises `BundleError` unless it is there and whole."""
    with bundles.locked(run, world=world):
        before = bundles.current(run, world=world)
        _point(run, version, world)
    _show_move(run, before, version, as_json)


def run_rollback(run: Path, *, as_json: bool = False, world: World | None = None) -> None:
    """Go back to the version that the current one was made from, or else to the one before it.

    Raises `BundleError` where there is none.
    """
    with bundles.locked(run, world=world):
        before = bundles.current(run, world=world)
        version = bundles.before(run, before, world=world)
        _point(run, version, world)
    _show_move(run, before, version, as_json)


def _point(run: Path, version: str, world: World | None) -> None:
    """Point to a version that every byte of which is as it was written."""
    if version not in bundles.versions(run, world=world):
        there = ", ".join(bundles.versions(run, world=world))
        raise BundleError(f"{run}: there is no version {version}. There are: {there}.")
    if bundles.read(run, version=version, world=world).manifest.get("kind") != ROWS:
        histories.recall(run, version, world=world)
    bundles.point(run, version, world=world)


def _show_move(run: Path, before: str, version: str, as_json: bool) -> None:
    if as_json:
        show_json({"run": str(run), "before": before, "version": version})
    else:
        tell(f"{run}: version {version} is the current one now; it was {before}")


def _cells(row: dict[str, Any], metric: str) -> list[Any]:
    mark = "current" if row["current"] else ""
    if "damaged" in row:
        return [row["version"], mark, "damaged", None, None, None, None]
    value, created = row[metric], datetime.fromtimestamp(row["created"], UTC)
    shown = None if value is None else f"{value:.4f}"
    return [row["version"], mark, row["model"], f"{created:%Y-%m-%d %H:%M}", row["parent"], shown, row["log_offset"]]
