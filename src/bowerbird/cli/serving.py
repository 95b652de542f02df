"""`bowerbird serve`: a banner, then the HTTP API; keys, backups and restoring, which need no running server."""

import gc
import ipaddress
import logging
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bowerbird.cli.output import out, say, show_json, show_table
from bowerbird.core import ConfigError, RequestError
from bowerbird.core.room import one_heap

if TYPE_CHECKING:
    from fastapi import FastAPI

SWITCH_S = 0.001  # after which a thread that computes lets another one take over
DRAIN_S = 20  # for requests that are being answered when the server is asked to stop


def run_server(
    run: Path,
    host: str,
    port: int,
    *,
    data_dir: Path | None = None,
    store: str | None = None,
    scenarios: Path | None = None,
    behind_proxy: bool = False,
    update_every: float = 0.0,
    workers: int = 0,
    console: bool = True,
) -> None:
    """Serve until Ctrl-C, with the database in `store` from now on, where that is given.

    Raises `ConfigError` for an address that others can reach while there is no key.
    """
    one_heap()
    gc.disable()  # what is loaded stays, and looking through it again and again takes half a second
    try:
        if store is not None:
            from bowerbird.store.opening import place

            place(data_dir or run / "server", store)
        app = _loaded(run, host, data_dir, scenarios, behind_proxy, update_every, workers)
        hung = console and _console(app)
    finally:
        gc.enable()
    import uvicorn

    from bowerbird.serving.connections import Connection
    from bowerbird.serving.workers import settle

    settle()
    engine, base = app.state.engine, f"http://{host}:{port}"
    say(f" serves {engine.view.recommender!r}", mark="\n[bold]bowerbird[/]")
    say(f"  recommendations  {base}/v1/recommendations    documentation  {base}/docs")
    if console:
        say(f"  console  {base}/console/" if hung else '  console  pip install "bowerbird[console]"')
    open_to = "whoever has a key" if engine.keys.all() else "everyone on this machine, and to nobody else"
    say(f"  open to {open_to}; Ctrl-C stops it")
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))  # uvicorn raises it again when all is done as it was asked to
    uvicorn.run(
        app, host=host, port=port, log_level="warning", access_log=False, timeout_graceful_shutdown=DRAIN_S,
        proxy_headers=behind_proxy, http=Connection,
    )  # fmt: skip


def run_console(server: str, host: str, port: int) -> None:
    """Show the console of a server until Ctrl-C; raises `ConfigError` for an address that others can reach."""
    if not (host == "localhost" or _is_loopback(host)):
        raise ConfigError(
            f"host is {host!r}, which others can reach. A console of its own process is for this machine: what a "
            "server shows to others is its own /console, behind keys."
        )
    from bowerbird.cli.client import Client
    from bowerbird.serving.console import PATH, standalone

    app = standalone(Client(server).server)
    import uvicorn

    say(f"console of {server}: http://{host}:{port}{PATH}/", mark="\n[bold]bowerbird[/] ")
    say("  open to everyone on this machine; Ctrl-C stops it")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    uvicorn.run(app, host=host, port=port, log_level="warning", access_log=False, timeout_graceful_shutdown=1)


def _console(app: "FastAPI") -> bool:
    """Hang the console into a server where its extra is installed; return whether it is."""
    from bowerbird.serving import console

    if not console.there():
        return False
    console.mount(app)
    return True


def _loaded(
    run: Path,
    host: str,
    data_dir: Path | None,
    scenarios: Path | None,
    behind_proxy: bool,
    update_every: float,
    workers: int,
) -> "FastAPI":
    """Return the application with all that it needs to answer."""
    import torch

    from bowerbird.pipeline.scenario import known_scenarios
    from bowerbird.serving import Engine, create_app
    from bowerbird.serving.workers import Workers

    loopback = host == "localhost" or _is_loopback(host)
    torch.set_num_threads(1)  # requests share the cores; within one there is too little to divide
    sys.setswitchinterval(SWITCH_S)
    engine = Engine(run, data_dir or run / "server", scenarios=known_scenarios(scenarios))
    try:
        if not loopback and not engine.keys.all():
            raise ConfigError(
                f"host is {host!r}, which others can reach, and there is no key. Make one with: "
                f"bowerbird key create --data-dir {engine.data} --name admin --scope admin"
            )
        return create_app(
            engine,
            any_host=behind_proxy or not loopback,
            update_every=update_every,
            workers=Workers(engine, workers, scenarios=scenarios),
        )
    except BaseException:
        engine.close()
        raise


def run_key_create(data_dir: Path, name: str, scopes: list[str], *, as_json: bool) -> None:
    """Make a key and print its secret, once."""
    from bowerbird.store.keys import Keys
    from bowerbird.store.opening import opened

    database = opened(data_dir)
    try:
        key, secret = Keys(database).create(name, scopes)
    finally:
        database.close()
    if as_json:
        show_json({"id": key.id, "name": key.name, "scopes": list(key.scopes), "secret": secret})
        return
    out.print(secret, soft_wrap=True)
    say(f"  key {key.id} ({name}: {', '.join(scopes)}); its secret is shown this once")


def run_key_list(data_dir: Path, *, as_json: bool) -> None:
    """Show the keys of a data directory, without their secrets."""
    from bowerbird.store.keys import Keys
    from bowerbird.store.opening import opened

    database = opened(data_dir)
    try:
        keys = Keys(database).all()
    finally:
        database.close()
    rows: list[dict[str, Any]] = [{"id": one.id, "name": one.name, "scopes": list(one.scopes)} for one in keys]
    if as_json:
        show_json(rows)
    else:
        show_table(
            "Keys", ("id", "name", "scopes"), [(r["id"], r["name"], ", ".join(r["scopes"])) for r in rows], left=3
        )


def run_key_revoke(data_dir: Path, key_id: str) -> None:
    """End a key; raises `RequestError` where there is none of that id."""
    from bowerbird.store.keys import Keys
    from bowerbird.store.opening import opened

    database = opened(data_dir)
    try:
        keys = Keys(database)
        if key_id not in [one.id for one in keys.all()]:
            raise RequestError(f"no key has the id {key_id!r}. `bowerbird key list --data-dir {data_dir}` shows them.")
        keys.revoke(key_id)
    finally:
        database.close()


def run_dump(run: Path, out_dir: Path, data_dir: Path | None, *, as_json: bool) -> None:
    """Write a backup of a run and of the database of its server, beside a server that runs over a PostgreSQL."""
    from bowerbird.store import backups, bundles
    from bowerbird.store.opening import opened, there

    data_dir = data_dir or run / "server"
    if not there(data_dir):
        raise RequestError(f"{data_dir} is no data directory of a server. Name it with --data-dir.")
    if out_dir.exists():
        raise RequestError(f"{out_dir} is there already. Name a new folder.")
    version = bundles.current(run)
    database = opened(data_dir)
    try:
        backups.take(database, run, version, out_dir)
    finally:
        database.close()
    counts = backups.counts(out_dir)
    if as_json:
        show_json({"version": version, "rows": counts})
    else:
        say(f"version {version} and {_told(counts)} in {out_dir}")


def run_restore(backup: Path, run: Path, data_dir: Path, store: str | None) -> None:
    """Put a backup in place; both directories must not hold anything yet."""
    from bowerbird.store.backups import counts, restore

    version = restore(backup, run, data_dir, store=store)
    say(f"version {version} in {run}; {_told(counts(backup))} in {store or data_dir}. Start it with:")
    say(f"  bowerbird serve {run} --data-dir {data_dir}")


def _told(counts: dict[str, int]) -> str:
    return ", ".join(f"{n:,} {table}" for table, n in counts.items() if n) or "no rows"


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False
