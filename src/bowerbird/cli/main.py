"""The command line: every command, its options, and how a mistake is answered."""

import sys
import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer

import bowerbird
from bowerbird.cli.capacity import run_capacity
from bowerbird.cli.console import console
from bowerbird.cli.data import Address, Column, Format, Items, Json, Root, Users, data_app
from bowerbird.cli.experiments import experiment_app
from bowerbird.cli.federate import federate
from bowerbird.cli.importing import import_rows
from bowerbird.cli.output import say, show_json, show_table, tell
from bowerbird.cli.selecting import select_model
from bowerbird.core import BowerbirdError, RequestError

app = typer.Typer(
    help="A table of interactions in; a measured, explained, live recommender out.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
)
model_app = typer.Typer(help="The versions of a run.", no_args_is_help=True)
key_app = typer.Typer(help="The keys of a server.", no_args_is_help=True)
for part, name in ((data_app, "data"), (model_app, "model"), (key_app, "key"), (experiment_app, "experiment")):
    app.add_typer(part, name=name)

Run = Annotated[Path, typer.Argument(metavar="RUN", help="A run directory, as `train --out` makes it.")]
K = Annotated[int, typer.Option("-k", help="Items in each list.")]
DataPath = Annotated[str | None, typer.Option("--data", help="A file, or the name of a data set such as ml-100k.")]


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


def show_reports(document: dict[str, Any]) -> None:
    """Print the report of a recommender, after that of its ranker's rows where it has one."""
    if "rows" in document:
        show_report(document["rows"])
    show_report(document)


def show_relied_on(document: dict[str, Any]) -> None:
    """Print the section of a report that tells what a model relies on, where it has one."""
    if "relies_on" in document:
        from bowerbird.cli.explain import show_overview

        show_overview(document["relies_on"])


def show_report(document: dict[str, Any]) -> None:
    """Print a report as a table under its protocol line, without what does not exist."""
    intervals = document["intervals"]
    rows = [
        (name, f"{value:.4f}", f"{intervals[name][0]:.4f} – {intervals[name][1]:.4f}" if name in intervals else "")
        for name, value in document["metrics"].items()
        if value is not None
    ]
    show_table(document["protocol"], ("metric", "value", "95 % interval"), rows)


@app.command()
def recommend(
    run: Run,
    user: Annotated[str | None, typer.Option(help="A user's id.")] = None,
    history: Annotated[
        list[str] | None, typer.Option(metavar="ID", help="An item that a stranger chose; repeatable, oldest first.")
    ] = None,
    feature: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=VALUE", help="What is known of a stranger, by a column of the user table; repeatable."
        ),
    ] = None,
    everyone: Annotated[bool, typer.Option("--all", help="For every known user, into the file --out.")] = False,
    out_file: Annotated[Path | None, typer.Option("--out", help="The Parquet file for --all.")] = None,
    k: K = 10,
    explain: Annotated[bool, typer.Option(help="Say why each item is there.")] = False,
    json: Json = False,
) -> None:
    """Recommend items to a user, to a stranger with a history or features, to nobody in particular, or to everyone."""
    from bowerbird import load
    from bowerbird.core import RealWorld
    from bowerbird.recommender.hints import not_known
    from bowerbird.store import exports

    recommender = load(run)
    if everyone:
        if out_file is None:
            raise RequestError("--all needs a file to write. Add --out recs.parquet.")
        rows = _with_bar(
            len(recommender.user_ids), lambda done: recommender.recommend_all(k=k, out=out_file, progress=done)
        )
        exports.note(run, "lists", out_file.resolve(), version=recommender.version)
        summary = {"out": str(out_file), "users": len(recommender.user_ids), "rows": rows, "k": k}
        show_json(summary) if json else tell(f"{rows:,} rows for {summary['users']:,} users in {out_file}")
        return
    given = [name for name, one in (("user", user), ("history", history), ("feature", feature)) if one]
    if len(given) > 1:
        raise RequestError(f"--{given[0]} and --{given[1]} are both given. Ask for one of them at a time.")
    users, histories = (None if user is None else [user]), ([history] if history else None)
    features = [_features(feature)] if feature else None
    slates = recommender.recommend(users, histories=histories, features=features, k=k, explain=explain)
    for what, ids, known in (("user", users, recommender.user_ids), ("item", history, recommender.item_ids)):
        for one in ids or ():
            if known.row(one) < 0:
                say(not_known(what, one, known))
    if json:
        show_json(slates.body(RealWorld().token()) | {"user_id": user})
        return
    strangers = {"history": "a stranger with this history", "feature": "somebody like this"}
    who = f"user {user}" if user else strangers[given[0]] if given else "nobody in particular"
    title = f"For {who}, answered by {slates.model if slates.rungs[0] == 'model' else slates.rungs[0]}"
    show_slate(title, slates.to_polars().to_dicts(), explain)
    if slates.unknown_items[0]:
        say(f"{slates.unknown_items[0]} of the history's ids are not known here and were left out.")


@app.command()
def explain(
    run: Run,
    item: Annotated[str | None, typer.Option(help="The id of an item.")] = None,
    user: Annotated[str | None, typer.Option(help="A user's id.")] = None,
    history: Annotated[
        list[str] | None, typer.Option(metavar="ID", help="An item that a stranger chose; repeatable, oldest first.")
    ] = None,
    k: K = 10,
    method: Annotated[
        str | None, typer.Option(help="Only reasons found in this way: sum, leave-one-out, ablation, ….")
    ] = None,
    overview: Annotated[bool, typer.Option("--overview", help="Instead: what the model relies on altogether.")] = False,
    out_file: Annotated[Path | None, typer.Option("--out", help="With --overview: a picture to draw.")] = None,
    people: Annotated[int, typer.Option(help="With --overview: people who are drawn.")] = 100,
    rows: Annotated[str | None, typer.Option(metavar="FILE", help="Of a predictor: a table of rows.")] = None,
    row: Annotated[int, typer.Option(help="With --rows: which one, from 1.")] = 1,
    json: Json = False,
) -> None:
    """Say why an item is in somebody's list or is not, and what it hangs on; or what the model relies on altogether."""
    from bowerbird.cli import explain as explaining

    if overview:
        explaining.run_overview(run, out_file, people, as_json=json)
    elif rows is not None:
        explaining.run_rows(run, rows, row, as_json=json)
    elif item is None:
        raise RequestError("what is to be explained? Give --item and --user, or --overview, or --rows of a predictor.")
    else:
        explaining.run_why(run, item, user, history, k, method, as_json=json)


def _features(words: list[str]) -> dict[str, str]:
    """Return NAME=VALUE words by their names."""
    wrong = [word for word in words if "=" not in word]
    if wrong:
        raise RequestError(f"--feature is {wrong[0]!r}; it must be NAME=VALUE. Try --feature age=30.")
    return {name: value for name, _, value in (word.partition("=") for word in words)}


def show_slate(title: str, rows: list[dict[str, Any]], with_reason: bool) -> None:
    """Print one slate."""
    columns = ["item", "title", *(["why"] if with_reason else []), "score"]
    cells = [
        [row["item_id"], row["title"], *([row["reason"]] if with_reason else []), f"{row['score']:.4g}"] for row in rows
    ]
    show_table(title, columns, cells, left=len(columns) - 1)


def _with_bar(total: int, work: Callable[[Callable[[int], None]], int]) -> int:
    """Return what `work` returns, drawing how far it is."""
    from rich.progress import Progress

    from bowerbird.cli.output import err

    with Progress(console=err, transient=True, disable=not err.is_terminal) as progress:
        task = progress.add_task("users", total=total)
        return work(lambda done: progress.update(task, completed=done))


@app.command()
def similar(
    run: Run,
    item: Annotated[str, typer.Argument(help="An item's id.")],
    k: K = 10,
    content: Annotated[
        float, typer.Option(min=0, max=1, help="Weight of what items are about beside what people do with them.")
    ] = 0.0,
    json: Json = False,
) -> None:
    """Show the items most like one item."""
    from bowerbird import load
    from bowerbird.core import RealWorld

    slates = load(run).similar([item], k=k, content=content)
    if json:
        show_json(slates.body(RealWorld().token()))
    else:
        show_slate(f"Like item {item}", slates.to_polars().to_dicts(), False)


@app.command()
def search(
    run: Run,
    text: Annotated[str, typer.Argument(help="What it is about.")] = "",
    image: Annotated[Path | None, typer.Option(help="A picture that it looks like.")] = None,
    k: K = 10,
    json: Json = False,
) -> None:
    """Find items by their content: by a text, by a picture, or by both."""
    from bowerbird import load
    from bowerbird.core import RealWorld

    slates = load(run).search(text, image=None if image is None else str(image.resolve()), k=k)
    if json:
        show_json(slates.body(RealWorld().token()))
    else:
        show_slate(f"Closest to {text or image}", slates.to_polars().to_dicts(), False)


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


@app.command()
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


@app.command()
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


@app.command()
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


@app.command()
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


app.command("import")(import_rows)
app.command("select")(select_model)
app.command("capacity")(run_capacity)
app.command()(federate)
app.command()(console)


@app.command()
def doctor(
    run: Annotated[Path | None, typer.Argument(metavar="RUN", help="A run directory.")] = None,
    data_dir: Annotated[Path | None, typer.Option("--data-dir", help="The data directory of a server.")] = None,
    json: Json = False,
) -> None:
    """Say what is wrong with this machine, a run and a data directory; 1 where something is."""
    from bowerbird.cli.doctor import run_doctor

    raise typer.Exit(run_doctor(run, data_dir, as_json=json))


@app.command()
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


@app.command()
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
