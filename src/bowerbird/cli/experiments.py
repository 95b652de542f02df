"""`bowerbird experiment`: files become experiments of a running server, which starts, stops and tells of them."""

from pathlib import Path
from typing import Annotated, Any
from urllib.parse import quote

import typer

from bowerbird.cli.data import Json
from bowerbird.cli.output import show_json, show_table, tell
from bowerbird.core import ConfigError

experiment_app = typer.Typer(help="Experiments of a running server.", no_args_is_help=True)
PATH = "/v1/experiments"

Server = Annotated[str, typer.Option(help="Where the server listens.")]
Key = Annotated[str | None, typer.Option(envvar="BOWERBIRD_KEY", help="A key of the server, where it has any.")]
Named = Annotated[str, typer.Argument(metavar="NAME")]
HERE = "http://127.0.0.1:8321"


@experiment_app.command("create")
def create(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A TOML file; its name is the experiment's too.")],
    server: Server = HERE,
    key: Key = None,
    json: Json = False,
) -> None:
    """Keep the draft of an experiment; nobody meets it before it is started."""
    _change(_document(file), server, key, as_json=json)


@experiment_app.command("list")
def list_all(server: Server = HERE, key: Key = None, json: Json = False) -> None:
    """Show the experiments."""
    from bowerbird.cli.client import Client

    found = Client(server, key).get(PATH)["experiments"]
    if json:
        show_json(found)
        return
    rows = [(one["name"], one["state"], one["scenario"], _arms(one), one["reason"]) for one in found]
    show_table("Experiments", ("name", "state", "scenario", "arms", "why it was stopped"), rows, left=5)


@experiment_app.command("start")
def start(name: Named, server: Server = HERE, key: Key = None, json: Json = False) -> None:
    """Let an experiment begin with the next answer."""
    _change({}, server, key, f"/{quote(name, safe='')}:start", as_json=json)


@experiment_app.command("stop")
def stop(name: Named, server: Server = HERE, key: Key = None, json: Json = False) -> None:
    """End an experiment for good."""
    _change({}, server, key, f"/{quote(name, safe='')}:stop", as_json=json)


@experiment_app.command("results")
def results(name: Named, server: Server = HERE, key: Key = None, json: Json = False) -> None:
    """Show what came of an experiment so far; look as often as you like."""
    from bowerbird.cli.client import Client

    found = Client(server, key).get(f"{PATH}/{quote(name, safe='')}/results")
    if json:
        show_json(found)
        return
    rows = [(arm["arm"], arm["units"], *_cells(metric)) for arm in found["arms"] for metric in arm["metrics"]]
    columns = ("arm", "units", "metric", "mean", "difference", "from", "to", "relative", "verdict")
    show_table(f"{found['name']} ({found['state']})", columns, rows, left=1)
    split = found["sample_ratio"]
    tell(f"split: {split['verdict']} (p = {split['p']:.3g}, {found['mixed']:,} of {found['units']:,} met two arms)")
    for rail in found["guardrails"]:
        tell(f"guardrail: {rail['verdict']}; {rail['detail']}")
    tell(f"verdict: {found['verdict']}")


def _document(file: Path) -> dict[str, Any]:
    """Return what a file says; raises `ConfigError` where it is no TOML."""
    from bowerbird.core.toml import read_toml

    try:
        return {"name": file.stem} | read_toml(file)
    except FileNotFoundError:
        raise ConfigError(f"{file}: there is no such file.") from None
    except (OSError, ValueError) as error:
        raise ConfigError(f"{file} is not TOML: {error}") from None


def _change(document: dict[str, Any], server: str, key: str | None, path: str = "", *, as_json: bool) -> None:
    from bowerbird.cli.client import Client

    found = Client(server, key).post(PATH + path, document)
    if as_json:
        show_json(found)
    else:
        tell(f"{found['name']}: {found['state']}; {found['scenario']} with {_arms(found)}")


def _arms(one: dict[str, Any]) -> str:
    return ", ".join(f"{arm['name']} {arm['share']:.0%}" for arm in one["arms"])


def _cells(metric: dict[str, Any]) -> list[str]:
    """Return a metric as a row shows it; the control has no difference."""
    numbers = [metric.get(name) for name in ("mean", "difference", "low", "high")]
    cells = ["" if one is None else f"{one:.4g}" for one in numbers]
    relative = metric.get("relative")
    name = f"{metric['event']}, once" if metric["once"] else metric["event"]
    return [name, *cells, "" if relative is None else f"{relative:+.1%}", metric.get("verdict", "")]
