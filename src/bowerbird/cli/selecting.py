"""`bowerbird select`: its options. What it does is in `advising`, which needs all of bowerbird."""

from pathlib import Path
from time import monotonic
from typing import Annotated

import typer

from bowerbird.cli.data import Address, Column, Format, Items, Json, Root, Users


def select_model(
    data: Annotated[str, typer.Argument(metavar="DATA", help="A file, or the name of a data set such as ml-100k.")],
    budget: Annotated[str, typer.Option(help="How long it may take in all: 90s, 10m, 1h.")] = "10m",
    latency_ms: Annotated[
        float | None, typer.Option("--latency-ms", help="Limit for 95 % of requests, each answered alone.")
    ] = None,
    memory_mb: Annotated[
        float | None, typer.Option("--memory-mb", help="Limit for what the model holds when it serves.")
    ] = None,
    report: Annotated[Path | None, typer.Option(help="An HTML file to write, which needs no network.")] = None,
    recipe: Annotated[Path, typer.Option("--out", help="The recipe to write, which `bowerbird train` runs.")] = Path(
        "selected.toml"
    ),
    model: Annotated[list[str] | None, typer.Option(help="Only this model is a candidate; repeatable.")] = None,
    study: Annotated[
        Path, typer.Option(help="Where all that is measured is kept: the same command again goes on from there.")
    ] = Path("runs/select"),
    label: Annotated[
        list[str] | None, typer.Option(help="The label column of a feature table, for a ranker; repeatable.")
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
    split: Annotated[str | None, typer.Option(help="temporal, per-user, leave-one-out or random.")] = None,
    valid: Annotated[float | None, typer.Option(help="Share of events for validation.")] = None,
    test: Annotated[float | None, typer.Option(help="Share of events for test, which is never asked here.")] = None,
    seed: Annotated[int, typer.Option(help="Every random stream derives from it.")] = 0,
    device: Annotated[str | None, typer.Option(help="auto, cpu or cuda.")] = None,
    threads: Annotated[int, typer.Option(help="0 leaves it to torch.")] = 0,
    on: Annotated[
        str | None, typer.Option(help="ray: first tries of models run beside one another, by Ray Tune.")
    ] = None,
    workers: Annotated[int, typer.Option(help="With --on ray: how many tries at once.")] = 2,
    address: Address = None,
    json: Json = False,
) -> None:
    """Say which model to take: measured on your data, on this machine, within a budget.

    Ctrl-C ends the race and keeps what was measured.
    """
    began = monotonic()  # what is imported first counts: seconds, where nothing of it lies in memory
    from bowerbird.cli.advising import Asked, budget_of, run_select
    from bowerbird.core import RunOptions
    from bowerbird.recommender import DataOptions, SplitOptions

    asked = Asked(
        budget_s=budget_of(budget), latency_ms=latency_ms, memory_mb=memory_mb, models=tuple(model or ()), study=study,
        recipe=recipe, report=report, label=tuple(label or ()), on=on, workers=workers, address=address,
        began=began,
    )  # fmt: skip
    table = DataOptions(
        path=data, user=user, item=item, time=time, event=event, weight=weight, items=items, users=users,
        format=format, root=data_root,
    )  # fmt: skip
    usual = SplitOptions()
    cut = SplitOptions(
        method=split,
        valid=usual.valid if valid is None else valid,
        test=usual.test if test is None else test,
        seed=seed,
    )
    run = RunOptions(seed=seed, device=device or "auto", threads=threads, progress=False)
    run_select(table, cut, run, asked, as_json=json)
