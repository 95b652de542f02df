"""The command line: every command, its options, and how a mistake is answered."""

import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

import bowerbird
from bowerbird.cli.answering import explain, recommend, search, similar
from bowerbird.cli.capacity import run_capacity
from bowerbird.cli.console import console
from bowerbird.cli.data import Address, Column, Format, Items, Json, Root, Users, data_app
from bowerbird.cli.experiments import experiment_app
from bowerbird.cli.federate import federate
from bowerbird.cli.importing import import_rows
from bowerbird.cli.keeping import doctor, drift, dump, erase, key_app, model_app, restore, serve, update
from bowerbird.cli.options import DataPath, K, Run
from bowerbird.cli.output import say, show_json, show_table
from bowerbird.cli.reports import show_relied_on, show_reports
from bowerbird.cli.selecting import select_model
from bowerbird.core import BowerbirdError, RequestError

app = typer.Typer(
    help="A table of interactions in; a measured, explained, live recommender out.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
)
for part, name in ((data_app, "data"), (model_app, "model"), (key_app, "key"), (experiment_app, "experiment")):
    app.add_typer(part, name=name)


def main() -> None:
    """Run the command line; a user's mistake exits with 2 and no traceback, ours with 1."""
    warnings.showwarning = lambda message, *_, **__: say(str(message), mark="[yellow]warning[/]: ")
    try:
        app(standalone_mode=True)
    except BowerbirdError as error:
        say(str(error), mark=f"[bold red]{type(error).__name__}[/]: ")
        sys.exit(2)
    except OSError as error:
        say(f"{error.filename or ''}: {error.strerror or error}", mark="[bold red]OSError[/]: ")
        sys.exit(2)


def _add(*commands: Callable[..., None]) -> None:
    """Take commands that stand in files of their own."""
    for one in commands:
        app.command()(one)


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"bowerbird {bowerbird.__version__}")
        raise typer.Exit


@app.callback()
def top(
    version: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True, help="Print it.")] = False,
) -> None:
    """Hold options that stand before a command."""


@app.command()
def train(
    recipe: Annotated[Path | None, typer.Argument(help="A TOML file; options given here win over it.")] = None,
    data: DataPath = None,
    model: Annotated[str | None, typer.Option(help="A name from `bowerbird models`.")] = None,
    out_dir: Annotated[Path | None, typer.Option("--out", help="The run directory to publish into.")] = None,
    setting: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="A hyper-parameter of the model; repeatable.")
    ] = None,
    tries: Annotated[
        int | None, typer.Option(help="Measure this many configurations on validation, and train the best of them.")
    ] = None,
    user: Column = None,
    item: Column = None,
    time: Column = None,
    event: Column = None,
    weight: Column = None,
    items: Items = None,
    users: Users = None,
    format: Format = None,
    data_root: Root = None,
    label: Annotated[
        list[str] | None,
        typer.Option(help="Of a ranker: the label column of a feature table, or the event that counts as 1."),
    ] = None,
    given: Annotated[
        str | None, typer.Option(help="Of a ranker: the event whose events are the rows; labels say what followed.")
    ] = None,
    columns: Annotated[
        str | None, typer.Option(help="Of a ranker: a TOML file of columns, as `data describe --columns` writes it.")
    ] = None,
    retriever: Annotated[str | None, typer.Option(help="Of a ranker: who finds candidates for it.")] = None,
    candidates: Annotated[int | None, typer.Option(help="Of a ranker: how many candidates it orders.")] = None,
    split: Annotated[str | None, typer.Option(help="temporal, per-user, leave-one-out or random.")] = None,
    valid: Annotated[float | None, typer.Option(help="Share of events for validation.")] = None,
    test: Annotated[float | None, typer.Option(help="Share of events for test.")] = None,
    warmup: Annotated[int | None, typer.Option(help="First events that strangers post when they ask.")] = None,
    seed: Annotated[int | None, typer.Option(help="Every random stream derives from it.")] = None,
    device: Annotated[str | None, typer.Option(help="auto, cpu or cuda.")] = None,
    threads: Annotated[int | None, typer.Option(help="0 leaves it to torch.")] = None,
    refit: Annotated[bool, typer.Option(help="Train the chosen configuration on everything before saving.")] = True,
    on: Annotated[
        str | None, typer.Option(help="ray, or torchrun where that started this process: workers share each batch.")
    ] = None,
    workers: Annotated[int, typer.Option(help="With --on ray: how many processes.")] = 2,
    address: Address = None,
    json: Json = False,
) -> None:
    """Train a model, measure it on what came later, and save it ready to serve."""
    from bowerbird.cli.training import run_training

    sections: dict[str, dict[str, Any]] = {
        "data": {
            "path": data, "user": user, "item": item, "time": time, "event": event, "weight": weight,
            "items": items, "users": users, "format": format, "root": data_root,
        },
        "split": {"method": split, "valid": valid, "test": test, "warmup": warmup, "seed": seed},
        "model": {"name": model} | settings(setting or []),
        "ranking": {
            "label": tuple(label) if label else None, "given": given, "columns": columns,
            "retriever": retriever, "candidates": candidates,
        },
        "search": {"tries": tries},
        "run": {"seed": seed, "device": device, "threads": threads},
    }  # fmt: skip
    if json:
        sections["run"]["progress"] = False
    chosen = {name: {key: value for key, value in part.items() if value is not None} for name, part in sections.items()}
    if on is None:
        run_training(recipe, chosen, out_dir, refit=refit, as_json=json)
        return
    from bowerbird.cli.spread import Asked, run_spread

    run_spread(Asked(recipe, chosen, out_dir, refit=refit, as_json=json), on, workers, address)


def settings(pairs: list[str]) -> dict[str, str]:
    """Return KEY=VALUE pairs as a mapping."""
    for pair in pairs:
        if "=" not in pair:
            raise RequestError(f"--set {pair} has no value. Write --set key=value, such as --set dim=32.")
    return dict(pair.split("=", 1) for pair in pairs)


@app.command()
def evaluate(
    run: Run,
    data: DataPath = None,
    user: Column = None,
    item: Column = None,
    time: Column = None,
    event: Column = None,
    k: K = 10,
    data_root: Root = None,
    json: Json = False,
) -> None:
    """Show what a run was measured on; with --data, measure it on events that came after its training."""
    from bowerbird import evaluate as measure
    from bowerbird import load
    from bowerbird.cli.rows import run_evaluate
    from bowerbird.cli.steps import labels_told
    from bowerbird.data import later
    from bowerbird.recommender import DataOptions
    from bowerbird.recommender.predictor import ROWS
    from bowerbird.store.bundles import kind_of

    if kind_of(run) == ROWS:
        run_evaluate(run, data, as_json=json)
        return
    recommender = load(run)
    if data is None:
        if recommender.measured is None:
            raise RequestError(f"{run} was never measured. Give later events with --data FILE.")
        document = recommender.measured
    else:
        options = DataOptions(path=data, user=user, item=item, time=time, event=event, root=data_root)
        after = later(recommender.past, options.load())
        document = measure(recommender, after, k=k).to_dict() | labels_told(recommender, after)
    if json:
        show_json(document)
    else:
        show_reports(document)
        show_relied_on(document)


@app.command()
def predict(
    run: Run,
    source: Annotated[str, typer.Argument(metavar="SOURCE", help="A table with the columns of training.")],
    out_file: Annotated[
        Path | None, typer.Option("--out", help="The Parquet file to write; else the first rows.")
    ] = None,
    json: Json = False,
) -> None:
    """Say how likely each label is for every row of a feature table."""
    from bowerbird.cli.rows import run_predict

    run_predict(run, source, out_file, as_json=json)


@app.command()
def export(
    run: Run,
    onnx: Annotated[bool, typer.Option("--onnx", help="Its ranker as an ONNX graph.")] = False,
    vectors: Annotated[
        bool,
        typer.Option("--vectors", help="Vectors of users and items, whose dot products are its scores, as Parquet."),
    ] = False,
    out_file: Annotated[
        Path | None,
        typer.Option(
            "--out",
            help="The file to write, of --vectors the folder; else model.onnx, or feedback.parquet, in "
            "the run, or the run.",
        ),
    ] = None,
    int8: Annotated[
        bool, typer.Option("--int8", help="Write a graph in whole numbers too, where it ranks the same.")
    ] = False,
    data: Annotated[
        str | None, typer.Option("--data", help="Of feature rows: a table to compare on, 500 rows a request.")
    ] = None,
    feedback: Annotated[
        bool, typer.Option("--feedback", help="What a server showed, and what came of it, as Parquet.")
    ] = False,
    data_dir: Annotated[
        Path | None, typer.Option("--data-dir", help="With --feedback: the data directory; else RUN/server.")
    ] = None,
    orphans: Annotated[
        Path | None, typer.Option(help="With --feedback: a Parquet file for events whose answer is not known.")
    ] = None,
    window: Annotated[
        str, typer.Option(help="With --feedback: how long after an answer an event is its: 30m, 1d, 2w.")
    ] = "1d",
    since: Annotated[
        str | None, typer.Option(help="With --feedback: answers from a moment on, such as 2026-11-01T12:00, UTC.")
    ] = None,
    json: Json = False,
) -> None:
    """Write the ranker of a run for ONNX Runtime, or vectors, checked against the model; or what a server showed."""
    if onnx + vectors + feedback != 1:
        raise RequestError(f"as what is {run} to be exported? Add --onnx, --vectors or --feedback.")
    if vectors:
        from bowerbird.cli.export import run_vectors

        run_vectors(run, out_file, as_json=json)
        return
    if feedback:
        from bowerbird.cli.feedback import run_feedback

        run_feedback(run, out_file, orphans, data_dir=data_dir, window=window, since=since, as_json=json)
        return
    from bowerbird.cli.export import run_export

    run_export(run, out_file, data, int8=int8, as_json=json)


_add(recommend, explain, similar, search)


@app.command()
def models(json: Json = False) -> None:
    """List the models."""
    import bowerbird.models  # noqa: F401
    from bowerbird.core import entries

    rows = [{"name": one.name, "summary": one.summary, "tags": list(one.tags)} for one in entries()]
    if json:
        show_json(rows)
    else:
        cells = [(row["name"], row["summary"], ", ".join(row["tags"])) for row in rows]
        show_table("Models", ("name", "what it is", "tags"), cells, left=3)


@app.command()
def simulate(
    policy: Annotated[
        str, typer.Option(help="Policies with commas between them; the others are compared with the first.")
    ] = "greedy,epsilon-greedy,linucb,thompson",
    worlds: Annotated[int, typer.Option(min=1, help="How many worlds, each with its own items and people.")] = 5,
    people: Annotated[int, typer.Option(min=1, help="People of a world.")] = 100,
    items: Annotated[int, typer.Option(min=1, help="Items of a world, half of which arrive while it runs.")] = 200,
    steps: Annotated[int, typer.Option(min=1, help="Requests of each person.")] = 200,
    k: K = 5,
    known: Annotated[
        float, typer.Option(min=0, max=1, help="How much of what makes items appeal the ranker knows at first.")
    ] = 0.5,
    control: Annotated[
        bool, typer.Option("--control", help="Without boredom, and without what is felt later.")
    ] = False,
    late: Annotated[int, typer.Option(min=0, help="Steps after which it is told what came of one.")] = 0,
    missing: Annotated[float, typer.Option(min=0, max=1, help="Share of places of which it is never told.")] = 0.0,
    data: Annotated[
        str | None, typer.Option("--data", help="A table, or the name of a data set, whose popularity worlds have.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Of the first world.")] = 0,
    plot: Annotated[bool, typer.Option("--plot", help="Draw it, into simulation.svg.")] = False,
    data_root: Root = None,
    json: Json = False,
) -> None:
    """Try policies out in made worlds: people with tastes that drift, boredom, places, new items."""
    from bowerbird.bandits.world import WorldConfig
    from bowerbird.cli.simulating import Asked, run_simulate
    from bowerbird.recommender import DataOptions

    config = WorldConfig(
        people=people, items=items, horizon=steps, k=k, known=known, seed=seed, candidates=max(k, min(50, items // 4))
    )
    asked = Asked(
        [one for one in policy.split(",") if one], worlds, config.control() if control else config, late, missing, plot
    )
    past = None if data is None else DataOptions(path=data, root=data_root).load()
    run_simulate(asked, past, as_json=json)


_add(serve, update, drift, erase)
app.command("import")(import_rows)
app.command("select")(select_model)
app.command("capacity")(run_capacity)
app.command()(federate)
app.command()(console)
_add(doctor, restore, dump)


@app.command()
def demo(
    serve: Annotated[bool, typer.Option(help="Serve the pick at the end.")] = True,
    out_dir: Annotated[Path, typer.Option("--out", help="Where the pick is saved.")] = Path("runs/demo"),
    data: Annotated[str, typer.Option("--data", help="ml-100k, or the owner's own ml-100k.zip.")] = "ml-100k",
    data_root: Root = None,
    port: Annotated[int, typer.Option(help="The port.")] = 8321,
    json: Json = False,
) -> None:
    """Compare five models on ml-100k, pick one, show what it recommends and why, and serve it."""
    from bowerbird.cli.demo import run_demo
    from bowerbird.cli.serving import run_server

    run_demo(data, data_root, out_dir, port, as_json=json)
    if serve:
        run_server(out_dir, "127.0.0.1", port)
