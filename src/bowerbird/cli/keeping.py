"""Commands that keep a recommender going: serving, learning on, watching, erasing, backups, versions and keys."""

from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from bowerbird.cli.data import Column, Items, Json, Root
from bowerbird.cli.options import DataPath, Run
from bowerbird.core import RequestError

model_app = typer.Typer(help="The versions of a run.", no_args_is_help=True)
key_app = typer.Typer(help="The keys of a server.", no_args_is_help=True)


def serve(
    run: Run,
    host: Annotated[str, typer.Option(help="An address of this machine; not loopback: needs a key.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="The port.")] = 8321,
    data_dir: Annotated[
        Path | None, typer.Option("--data-dir", help="Where events, catalogue and keys are kept; else RUN/server.")
    ] = None,
    store: Annotated[
        str | None,
        typer.Option(metavar="URL", help="A PostgreSQL for events, catalogue and keys, which is remembered."),
    ] = None,
    scenarios: Annotated[Path | None, typer.Option(help="A folder of scenarios, TOML files, beside the six.")] = None,
    behind_proxy: Annotated[bool, typer.Option(help="Trust a proxy on who asks, and answer to any host.")] = False,
    update_every: Annotated[float, typer.Option(help="Seconds between two updates from new events; 0: none.")] = 0.0,
    workers: Annotated[int, typer.Option(min=0, help="Processes that compute slates beside the one that answers.")] = 0,
    console: Annotated[
        bool, typer.Option(help="Hang the console in at /console, where its extra is installed.")
    ] = True,
) -> None:
    """Answer over HTTP, and take events, until Ctrl-C."""
    from bowerbird.cli.serving import run_server

    run_server(
        run, host, port, data_dir=data_dir, store=store, scenarios=scenarios, behind_proxy=behind_proxy,
        update_every=update_every, workers=workers, console=console,
    )  # fmt: skip


def update(
    run: Run,
    data: DataPath = None,
    data_dir: Annotated[
        Path | None, typer.Option("--data-dir", help="The data directory of a server, whose log is read.")
    ] = None,
    user: Column = None,
    item: Column = None,
    time: Column = None,
    event: Column = None,
    items: Items = None,
    data_root: Root = None,
    json: Json = False,
) -> None:
    """Learn from later events, and publish what is no worse; exits with 3 for what is refused, 4 for nothing new.

    With --items alone, items that nobody chose yet are added by their content.
    """
    from bowerbird.cli.versions import run_update
    from bowerbird.recommender import DataOptions
    from bowerbird.store.deeds import read_deeds
    from bowerbird.store.schema import read_declared

    if items is not None and data is None and data_dir is None:
        from bowerbird.cli.versions import run_add

        run_add(run, items, as_json=json)
        return
    options = None
    if data is not None:
        options = DataOptions(path=data, user=user, item=item, time=time, event=event, items=items, root=data_root)
    read_log = None if data_dir is None else partial(read_deeds, data_dir)
    read_types = None if data_dir is None else partial(read_declared, data_dir)
    raise typer.Exit(run_update(run, options, read_log=read_log, read_types=read_types, as_json=json))


def drift(
    reference: Annotated[str, typer.Argument(metavar="REFERENCE", help="A table, or a run directory.")],
    now: Annotated[str | None, typer.Argument(metavar="NOW", help="The table to compare with it.")] = None,
    column: Annotated[
        list[str] | None, typer.Option(help="Of tables: an input or a score to watch, else all; repeatable.")
    ] = None,
    prediction: Annotated[str | None, typer.Option(help="Of tables: the predicted chance of the label.")] = None,
    label: Annotated[str | None, typer.Option(help="Of tables: what came of it, for calibration.")] = None,
    quality: Annotated[
        list[str] | None, typer.Option(help="Of tables: clicks, NDCG or another gain of a row; repeatable.")
    ] = None,
    slices: Annotated[
        list[str] | None,
        typer.Option("--slice", help="Of tables: a column to say where a mean moved most; repeatable."),
    ] = None,
    data_dir: Annotated[
        Path | None, typer.Option("--data-dir", help="Of a run: the data directory of its server; else RUN/server.")
    ] = None,
    alpha: Annotated[float, typer.Option(help="How often quiet windows may raise any alarm.")] = 0.005,
    psi: Annotated[float, typer.Option(help="The least population stability index that alarms.")] = 0.1,
    update: Annotated[bool, typer.Option(help="Of a run: update it where something alarms.")] = False,
    json: Json = False,
) -> None:
    """Say what changed between two tables, or since a run was trained, and what moved most.

    Exits with 0 whether or not something alarms; where --update starts an update, as `bowerbird update` does.
    """
    from bowerbird.cli.drift import named_columns, run_drift_of_run, run_drift_of_tables
    from bowerbird.monitoring import WatchOptions
    from bowerbird.store import bundles

    options, named = WatchOptions(alpha=alpha, psi=psi), named_columns(column, prediction, label, quality, slices)
    if (Path(reference) / bundles.POINTER).exists():
        if named:
            raise RequestError(f"{reference} is a run, whose events have columns of their own. Name none.")
        raise typer.Exit(run_drift_of_run(Path(reference), now, data_dir, options, update=update, as_json=json))
    if update or data_dir is not None:
        raise RequestError(f"{reference} is no run directory, so there is nothing to update. Give a run.")
    if now is None:
        raise RequestError(f"what is {reference} to be compared with? Give a second table.")
    run_drift_of_tables(reference, now, named, options, as_json=json)


def erase(
    user: Annotated[str, typer.Argument(metavar="USER", help="The id of the person.")],
    run: Run,
    data_dir: Annotated[
        Path | None, typer.Option("--data-dir", help="The data directory of its server; else RUN/server.")
    ] = None,
    certify: Annotated[bool, typer.Option("--certify", help="Print all of the certificate, and its key.")] = False,
    json: Json = False,
) -> None:
    """Erase a person from a run and from the data directory of its server, which must not be running.

    The current version is made again without them, and all that knew them are retired. Exits with 1 where the id is
    still found, with 4 where nothing is kept of them.
    """
    from bowerbird.cli.erasing import run_erase

    raise typer.Exit(run_erase(user, run, data_dir, certify=certify, as_json=json))


def doctor(
    run: Annotated[Path | None, typer.Argument(metavar="RUN", help="A run directory.")] = None,
    data_dir: Annotated[Path | None, typer.Option("--data-dir", help="The data directory of a server.")] = None,
    json: Json = False,
) -> None:
    """Say what is wrong with this machine, a run and a data directory; 1 where something is."""
    from bowerbird.cli.doctor import run_doctor

    raise typer.Exit(run_doctor(run, data_dir, as_json=json))


def restore(
    backup: Annotated[Path, typer.Argument(metavar="BACKUP", help="A folder that a backup job wrote.")],
    run: Annotated[Path, typer.Argument(metavar="RUN", help="The run directory to make.")],
    data_dir: Annotated[Path, typer.Option("--data-dir", help="The data directory to make.")],
    store: Annotated[
        str | None, typer.Option(metavar="URL", help="An empty PostgreSQL that takes the rows; else a file does.")
    ] = None,
) -> None:
    """Put a backup in place, in directories that hold nothing yet."""
    from bowerbird.cli.serving import run_restore

    run_restore(backup, run, data_dir, store)


def dump(
    run: Run,
    out: Annotated[Path, typer.Argument(metavar="OUT", help="The folder to make.")],
    data_dir: Annotated[
        Path | None, typer.Option("--data-dir", help="The data directory of its server; else RUN/server.")
    ] = None,
    json: Json = False,
) -> None:
    """Back up the served version and the database, in whichever form it is, into a folder that `restore` takes."""
    from bowerbird.cli.serving import run_dump

    run_dump(run, out, data_dir, as_json=json)


@model_app.command("list")
def model_list(run: Run, json: Json = False) -> None:
    """Show the versions of a run, the newest last."""
    from bowerbird.cli.versions import run_versions

    run_versions(run, as_json=json)


@model_app.command("promote")
def model_promote(run: Run, version: Annotated[str, typer.Argument(metavar="VERSION")], json: Json = False) -> None:
    """Make a version the one that is served; a running server takes it within a second."""
    from bowerbird.cli.versions import run_promote

    run_promote(run, version, as_json=json)


@model_app.command("rollback")
def model_rollback(run: Run, json: Json = False) -> None:
    """Go back to the version that the served one was made from."""
    from bowerbird.cli.versions import run_rollback

    run_rollback(run, as_json=json)


DataDir = Annotated[Path, typer.Option("--data-dir", help="The data directory of a server that is not running.")]


@key_app.command("create")
def key_create(
    data_dir: DataDir,
    name: Annotated[str, typer.Option(help="Whose it is.")],
    scope: Annotated[list[str], typer.Option(help="What it may do; repeatable.")],
    json: Json = False,
) -> None:
    """Make a key and print its secret, once."""
    from bowerbird.cli.serving import run_key_create

    run_key_create(data_dir, name, scope, as_json=json)


@key_app.command("list")
def key_list(data_dir: DataDir, json: Json = False) -> None:
    """Show the keys, without their secrets."""
    from bowerbird.cli.serving import run_key_list

    run_key_list(data_dir, as_json=json)


@key_app.command("revoke")
def key_revoke(data_dir: DataDir, key_id: Annotated[str, typer.Argument(metavar="KEY")]) -> None:
    """End a key."""
    from bowerbird.cli.serving import run_key_revoke

    run_key_revoke(data_dir, key_id)
