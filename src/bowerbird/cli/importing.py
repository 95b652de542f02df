"""`bowerbird import`: events, items and users of files into a server, over HTTP or into the database of one that rests.

Sending a file again is harmless: documents are put in their own places, and an event is named after what it says.
"""

import json as json_format
from collections.abc import Callable, Iterable
from contextlib import closing
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime
from decimal import Decimal
from functools import partial
from hashlib import blake2b
from math import isfinite
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from bowerbird.cli.data import Column, Format, Json, Query
from bowerbird.cli.output import err, say, show_json, show_table
from bowerbird.core import DataError, RequestError, World

if TYPE_CHECKING:
    import polars as pl

    from bowerbird.cli.client import Client
    from bowerbird.data import EventType
    from bowerbird.serving.intake import Numbered, Outcome, Rejected, Sink
    from bowerbird.store.database import Store

REJECTED = 1  # the exit status where rows were rejected
AT_ONCE = {"items": 10_000, "users": 10_000, "events": 1_000}  # rows of one request
ROW, ID = "row in the file", "event_id"  # columns of a table of events
UNTYPED = "interaction"  # what `bb.read` calls events that have no type


def import_rows(
    data: Annotated[
        str | None, typer.Argument(metavar="DATA", help="Events: whatever `train --data` reads as a file, or .jsonl.")
    ] = None,
    items: Annotated[str | None, typer.Option(help="A table of items, or .jsonl with a document in each line.")] = None,
    users: Annotated[str | None, typer.Option(help="A table of users, likewise.")] = None,
    server: Annotated[str | None, typer.Option(help="Where the server listens: http://127.0.0.1:8321.")] = None,
    key: Annotated[
        str | None, typer.Option(envvar="BOWERBIRD_KEY", help="A key of the server, where it has any.")
    ] = None,
    data_dir: Annotated[
        Path | None, typer.Option("--data-dir", help="Instead: the data directory of a server that is not running.")
    ] = None,
    run: Annotated[
        Path | None, typer.Option(help="With --data-dir: the run whose event types count; else the folder around DIR.")
    ] = None,
    user: Column = None,
    item: Column = None,
    time: Column = None,
    event: Column = None,
    weight: Column = None,
    kind: Annotated[
        str | None, typer.Option("--type", help="What all events are, where no column says it; else interaction.")
    ] = None,
    format: Format = None,
    query: Query = None,
    json: Json = False,
) -> None:
    """Take events, items and users out of files into a server; exits with 1 where rows were rejected.

    The same file may be sent again: a document takes the place that it had, and an event, by its column `event_id` or
    by what it says, counts once. Items and users go before events.
    """
    columns = {"user": user, "item": item, "time": time, "event": event, "weight": weight}
    files = {name: one for name, one in (("items", items), ("users", users), ("events", data)) if one is not None}
    reading = Reading(columns, kind, format, query)
    raise typer.Exit(
        run_import(files, server=server, key=key, data_dir=data_dir, run=run, reading=reading, as_json=json)
    )


@dataclass(frozen=True)
class Reading:
    """How a table of events is read: what is left out is inferred, as by `bb.read`."""

    columns: dict[str, str | None] = field(default_factory=dict)
    kind: str | None = None  # of all events
    format: str | None = None
    query: str | None = None


@dataclass(frozen=True)
class Rows:
    """The rows of a file."""

    rows: "Iterable[Numbered]"
    where: Callable[[int], str]  # what row n is called: "line 7"
    total: int | None = None  # where that is known before they are read


def run_import(
    files: dict[str, str],
    *,
    server: str | None = None,
    key: str | None = None,
    data_dir: Path | None = None,
    run: Path | None = None,
    reading: Reading | None = None,
    as_json: bool = False,
    client: "Client | None" = None,
    world: World | None = None,
) -> int:
    """Take in files of `items`, `users` and `events`, in this order; return the exit status.

    `client` is who asks the server, where that is no new one.
    """
    from bowerbird.cli.client import Client
    from bowerbird.store.opening import opened as opened_store

    if not files:
        raise RequestError("there is nothing to import. Give a file of events, --items FILE or --users FILE.")
    if (server is None) == (data_dir is None):
        raise RequestError("where to? Give one of --server URL and --data-dir DIR.")
    opened = {name: opened_rows(name, source, reading or Reading()) for name, source in files.items()}
    if server is not None:
        outcomes = _all(opened, partial(_to_server, client or Client(server, key, world=world)))
    else:
        assert data_dir is not None
        with closing(opened_store(data_dir, world=world)) as database:
            outcomes = _all(opened, partial(_to_database, database, run))
    told = {name: _told(files[name], opened[name], outcome) for name, outcome in outcomes.items()}
    if as_json:
        show_json({"to": server or str(data_dir)} | told)
    else:
        _show(server or str(data_dir), told)
    return REJECTED if any(one["rejected"] for one in told.values()) else 0


def _all(opened: dict[str, Rows], to: "Callable[[str], Sink]") -> "dict[str, Outcome]":
    """Hand everything over, drawing how far it is; who takes it is known before anything is kept."""
    from rich.progress import Progress

    from bowerbird.serving.intake import take_in

    sinks, outcomes = {name: to(name) for name in opened}, {}
    with Progress(console=err, transient=True, disable=not err.is_terminal) as progress:
        for name, one in opened.items():
            task = progress.add_task(name, total=one.total)
            after = partial(progress.advance, task)
            outcomes[name] = take_in(one.rows, sinks[name], at_once=AT_ONCE[name], after=after)
    return outcomes


def _told(source: str, one: Rows, outcome: "Outcome") -> dict[str, Any]:
    first = [{"where": one.where(row["row"])} | row | {"row": row["row"] + 1} for row in outcome.told]
    return {
        "source": source, "new": outcome.kept - outcome.known, "known": outcome.known, "rejected": outcome.rejected,
        "first_rejected": first,
    }  # fmt: skip


def _show(to: str, told: dict[str, dict[str, Any]]) -> None:
    """Print what became of each file, and the first rows that were rejected."""
    for one in told.values():
        for row in one["first_rejected"]:
            say(f"{one['source']}, {row['where']}: {row['pointer']} {row['detail']}", mark="[yellow]rejected[/] ")
        if one["rejected"] > len(one["first_rejected"]):
            say(f"and {one['rejected'] - len(one['first_rejected']):,} more rows of {one['source']}")
    cells = [
        (one["source"], name, f"{one['new']:,}", f"{one['known']:,}", f"{one['rejected']:,}")
        for name, one in told.items()
    ]
    show_table(f"Taken into {to}", ("file", "what", "new", "there before", "rejected"), cells, left=2)


# ── where to ──────────────────────────────────────────────────────────────────────────────────────────────────────


def _to_server(client: "Client", name: str) -> "Sink":
    """Return what posts rows to a server: in halves where they are too large together."""
    from bowerbird.cli.client import TooLarge

    path, key = ("/v1/events", "events") if name == "events" else (f"/v1/{name}:batch", "rows")

    def send(rows: list[Any]) -> "tuple[int, list[Rejected]]":
        objects = [row if isinstance(row, dict) else {} for row in rows]  # a body holds nothing else; {} is rejected
        try:
            answer = client.post(path, {key: objects})
        except TooLarge:
            if len(rows) == 1:
                return 0, [{"index": 0, "pointer": "", "detail": "the server takes no body as large as this"}]
            half = len(rows) // 2
            (known, first), (more, second) = send(rows[:half]), send(rows[half:])
            return known + more, [*first, *({**one, "index": one["index"] + half} for one in second)]
        known = answer["duplicates"] if name == "events" else answer["kept"] - answer["created"]
        for one in answer["rejected"]:
            if not isinstance(rows[one["index"]], dict):
                one |= {"pointer": "", "detail": "this is no JSON object"}
        return known, answer["rejected"]

    return send


def _to_database(database: "Store", run: Path | None, name: str) -> "Sink":
    """Return what puts rows into the database of a server that does not run, by the same rules."""
    from bowerbird.serving.intake import put_rows, sensible
    from bowerbird.store.catalogue import Catalogue
    from bowerbird.store.events import TableLog

    if name == "events":
        log, kinds = TableLog(database), _kinds(database, run)

        def keep(rows: list[Any]) -> "tuple[int, list[Rejected]]":
            good, rejected = sensible(rows, kinds, database.world.now())
            return log.submit(good).result().duplicates, rejected

        return keep
    catalogue = Catalogue(database)

    def put(rows: list[Any]) -> "tuple[int, list[Rejected]]":
        kept, rejected = put_rows(catalogue, "item" if name == "items" else "user", rows)
        return sum(not one.created for one in kept), rejected

    return put


def _kinds(database: "Store", run: Path | None) -> "tuple[EventType, ...]":
    """Return the event types that a server of the run knows; that of RUN/server is found."""
    from bowerbird.data import EventType, declared
    from bowerbird.store import bundles
    from bowerbird.store.schema import Schemas

    folder, world = run or database.folder.resolve().parent, database.world
    if run is None and bundles.POINTER not in world.names(folder):
        raise RequestError(f"{folder} is no run directory, so no event type is known. Name the run: --run RUN.")
    own = bundles.manifest_of(folder, bundles.current(folder, world=world), world=world)["events"]
    told = Schemas(database).current.events
    return declared((EventType(**kind) for kind in own), (EventType(**kind) for kind in told))


# ── what from ─────────────────────────────────────────────────────────────────────────────────────────────────────


def opened_rows(name: str, source: str, reading: Reading) -> Rows:
    """Return the rows of a file of `items`, `users` or `events`; raises `DataError` where it cannot be read."""
    from bowerbird.serving.intake import LINES, json_lines

    if Path(source).suffix in LINES:
        if not Path(source).is_file():
            raise DataError(f"{source}: there is no such file.")
        return Rows(json_lines(Path(source)), lambda row: f"line {row + 1:,}")
    return _events(source, reading) if name == "events" else _documents(source, name.removesuffix("s"))


def _events(source: str, reading: Reading) -> Rows:
    """Return the events of a table, oldest first."""
    import polars as pl

    from bowerbird.data.readers import USUAL_NAMES, interpret, open_table
    from bowerbird.recommender.pasts import table_of

    table = open_table(source, format=reading.format, query=reading.query)
    kept = [ROW, *([ID] if ID in table.names else [])]
    numbered = replace(table, frame=table.frame.with_row_index(ROW), sides={})
    past, errors = interpret(numbered, dict.fromkeys(USUAL_NAMES) | reading.columns, sides={}, extra=kept)
    if past is None or past.extra is None:
        raise errors[0]
    frame = table_of(past).hstack(past.extra)
    if reading.kind is not None:
        if [kind.name for kind in past.events] != [UNTYPED]:
            raise RequestError(f"--type is {reading.kind}, but a column of {source} says it. Leave out --type.")
        frame = frame.with_columns(event=pl.lit(reading.kind))
    frame = frame.with_columns(_names(frame, "" if past.time is not None else past.fingerprint))
    numbers = frame.drop_in_place(ROW).to_list()
    return Rows(zip(numbers, frame.iter_rows(named=True), strict=True), table.place.of, len(frame))


def _names(frame: "pl.DataFrame", salt: str) -> "pl.Series":
    """Return the event_id of each row: its own, or one made of what it says and how often that was said before.

    Times keep the events of one file from those of another; without them, `salt` is to.
    """
    import polars as pl

    said = [name for name in frame.columns if name not in (ROW, ID)]
    turns = frame.select(pl.int_range(pl.len()).over(said)).to_series().to_list()
    own = frame[ID].cast(pl.String).to_list() if ID in frame.columns else [None] * len(frame)
    rows = zip(own, turns, frame.select(said).iter_rows(), strict=True)
    return pl.Series(ID, [one or _digest(salt, turn, *row) for one, turn, row in rows], dtype=pl.String)


def _digest(*said: Any) -> str:
    return "import-" + blake2b(json_format.dumps(list(map(str, said))).encode(), digest_size=16).hexdigest()


def _documents(source: str, role: str) -> Rows:
    """Return the documents of a table, by its id column; `available` and `expires` are no properties."""
    import polars as pl

    from bowerbird.data.readers import open_table, side_table

    table = open_table(source)
    frame = side_table(table, role)
    kind = frame.schema.get("available", pl.Boolean())
    if kind not in (pl.Boolean, pl.Null):
        raise DataError(f'{source}, column "available": {kind} says not whether. Write true or false.')
    rows = (_document(row, frame.columns[0]) for row in frame.iter_rows(named=True))
    return Rows(enumerate(rows), table.place.of, len(frame))


def _document(row: dict[str, Any], key: str) -> dict[str, Any]:
    """Return a row as a document, without what is empty."""
    there = {name: plain for name, value in row.items() if (plain := _plain(value)) is not None}
    own = {"id": there.pop(key, None)} | {name: there.pop(name) for name in ("available", "expires") if name in there}
    return own | {"properties": there}


def _plain(value: Any) -> Any:
    """Return a value as JSON holds it: moments as seconds since 1970 UTC, None for what is no number."""
    if isinstance(value, list):
        return [_plain(one) for one in value]
    if isinstance(value, dict):
        return {name: _plain(one) for name, one in value.items()}
    if isinstance(value, date):
        moment = value if isinstance(value, datetime) else datetime(value.year, value.month, value.day)
        return int((moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp())
    if isinstance(value, float | Decimal):
        return float(value) if isfinite(value) else None
    return value if value is None or isinstance(value, str | int) else str(value)
