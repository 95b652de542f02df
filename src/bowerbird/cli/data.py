"""Commands about tables: named data sets, what is wrong with a table, what it is like, and Parquet out of anything."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from bowerbird.cli.output import show_json, show_table, tell

if TYPE_CHECKING:
    from bowerbird.data import Description, Rows

data_app = typer.Typer(help="Named data sets, and tables of your own.", no_args_is_help=True)

Json = Annotated[bool, typer.Option("--json", help="Print one JSON document instead of tables.")]
Column = Annotated[str | None, typer.Option(help="Name of the column; inferred when left out.")]
Root = Annotated[
    str | None,
    typer.Option("--data-root", envvar="BOWERBIRD_DATA", help="A folder that holds data sets by name."),
]
Source = Annotated[str, typer.Argument(metavar="SOURCE", help="A file, folder, glob, data set or database.")]
Items = Annotated[str | None, typer.Option(help="A table of items; its title column is shown to people.")]
Users = Annotated[str | None, typer.Option(help="A table of users.")]
Format = Annotated[
    str | None, typer.Option(help="csv, tsv, parquet, lists, recbole or movielens; else by the file's ending.")
]
Address = Annotated[
    str | None, typer.Option(help="With --on ray: a cluster that runs already; else one is started here.")
]
Query = Annotated[str | None, typer.Option(help="What to ask of a database, such as sqlite:///shop.db.")]
BLOCKS = " ▁▂▃▄▅▆▇█"
WIDTH = 40  # of the longest bar


@data_app.command("list")
def data_list(json: Json = False) -> None:
    """List the named data sets."""
    from bowerbird.data import REGISTRY

    rows = [{"name": one.name, "title": one.title, "terms": one.terms} for one in REGISTRY.values()]
    if json:
        show_json(rows)
    else:
        show_table("Data sets", ("name", "what it is", "terms"), [tuple(row.values()) for row in rows], left=3)


@data_app.command("get")
def data_get(name: Annotated[str, typer.Argument()], data_root: Root = None, json: Json = False) -> None:
    """Fetch a named data set into the cache, and say where it is."""
    from bowerbird.data import get

    folder = get(name, data_root=data_root)
    show_json({"name": name, "folder": str(folder)}) if json else tell(str(folder))


@data_app.command("check")
def data_check(
    source: Source,
    user: Column = None,
    item: Column = None,
    time: Column = None,
    event: Column = None,
    weight: Column = None,
    items: Items = None,
    format: Format = None,
    query: Query = None,
    data_root: Root = None,
    json: Json = False,
) -> None:
    """Read a table as `train` would, and print every problem; an error, which stops `train`, exits with 2."""
    from bowerbird.core import RealWorld
    from bowerbird.data.checks import find_problems

    problems, events = find_problems(
        source, now=RealWorld().now(), data_root=data_root, items=items, format=format, query=query,
        user=user, item=item, time=time, event=event, weight=weight,
    )  # fmt: skip
    if json:
        found = [{"level": one.level, "message": one.message} for one in problems]
        show_json({"source": source, "ok": events is not None, "problems": found, **_sizes(events)})
    else:
        colours = {"error": "bold red", "warning": "yellow"}
        for one in problems:
            tell(one.message, mark=f"[{colours[one.level]}]{one.level}[/]: ")
        if events is not None:
            tell(f"{len(events):,} events, {events.n_users:,} users, {events.n_items:,} items ({events.origin})")
    if events is None:
        raise typer.Exit(2)


def _sizes(events: Any) -> dict[str, Any]:
    if events is None:
        return {}
    return {"events": len(events), "users": events.n_users, "items": events.n_items, "origin": events.origin}


@data_app.command("describe")
def data_describe(
    source: Source,
    user: Column = None,
    item: Column = None,
    time: Column = None,
    event: Column = None,
    weight: Column = None,
    items: Items = None,
    format: Format = None,
    query: Query = None,
    picture: Annotated[Path | None, typer.Option(help="Draw a figure into this .png, .svg or .pdf file.")] = None,
    label: Annotated[list[str] | None, typer.Option(help="A column to foresee: the table holds rows for it.")] = None,
    part: Annotated[str | None, typer.Option(help="Which table of a data set of rows; train when left out.")] = None,
    columns: Annotated[Path | None, typer.Option(help="Write what the columns seem to be into this TOML file.")] = None,
    data_root: Root = None,
    json: Json = False,
) -> None:
    """Show what a table is like: sizes, times, repeats, activity, popularity, newcomers, columns; of rows, the labels.

    `--columns` writes a file for `train --columns`, to be looked through: kinds are inferred.
    """
    from bowerbird.data import REGISTRY, describe, load, read_rows
    from bowerbird.data.named import READ_WITH

    others = {"event": event, "weight": weight, "items": items, "query": query, "picture": picture}
    if source in REGISTRY and READ_WITH[REGISTRY[source].kind] == "load_rows":
        _refuse(source, others | {"label": label, "user": user, "item": item, "time": time, "format": format})
        _describe_rows(source, _part(source, part, data_root), columns, json)
        return
    if label:
        _refuse(source, others | {"part": part})
        rows = read_rows(source, labels=label, user=user, item=item, time=time, format=format)
        _describe_rows(source, rows, columns, json)
        return
    _refuse(source, {"part": part}, what="interactions")
    events = load(
        source, data_root=data_root, items=items, format=format, query=query,
        user=user, item=item, time=time, event=event, weight=weight,
    )  # fmt: skip
    one = describe(events)
    if picture is not None:
        from bowerbird.data.pictures import draw

        draw(one, picture)
    if columns is not None:
        from bowerbird.features import infer
        from bowerbird.features.overview import ITEM, USER, tables_of

        _write({side: infer(table, ids=(USER, ITEM)) for side, table in tables_of(events).items()}, columns)
    show_json(one.to_dict()) if json else _show(one)


def _refuse(source: str, options: dict[str, Any], *, what: str = "rows") -> None:
    from bowerbird.core import ConfigError

    given = [f"--{name}" for name, value in options.items() if value]
    if given:
        raise ConfigError(f"{source} is a table of {what}, for which {given[0]} means nothing. Leave it out.")


def _part(source: str, part: str | None, data_root: str | None) -> "Rows":
    from bowerbird.core import ConfigError
    from bowerbird.data import load_rows

    parts = load_rows(source, data_root=data_root)
    usual = "train" if "train" in parts else next(iter(parts))
    if part is None and (usual == "train" or len(parts) == 1):
        part = usual
    if part not in parts:
        raise ConfigError(f"{source} has the parts {', '.join(parts)}. Name one of them: --part {usual}.")
    return parts[part]


def _describe_rows(source: str, rows: "Rows", columns: Path | None, json: bool) -> None:
    from bowerbird.features import infer
    from bowerbird.features.overview import base_rates, overview

    found = infer(rows.table)
    if columns is not None:
        _write({"": found}, columns)
    rates, glances = base_rates(rows), overview(rows.table, found)
    if json:
        show_json({"origin": source, "rows": len(rows), "labels": rates, "columns": glances})
        return
    heads = [(name, f"{one['observed']:,}", _rate(one["rate"])) for name, one in rates.items()]
    show_table(f"{source}: {len(rows):,} rows", ("label", "observed", "base rate"), heads)
    cells = [
        (one["column"], one["kind"] or "left out", f"{one['distinct']:,}", f"{one['empty']:.1%}", _range(one))
        for one in glances
    ]
    show_table("Columns", ("column", "kind", "distinct", "empty", "range"), cells, left=2)


def _rate(mean: float | None) -> str:
    """Return a base rate; of labels beyond 1, such as stars, their mean."""
    return "" if mean is None else f"{mean:.2%}" if mean <= 1 else f"mean {mean:.4g}"


def _range(one: dict[str, Any]) -> str:
    ends = (one["lowest"], one["highest"])
    return "" if None in ends else " to ".join(f"{end:,}" if isinstance(end, int) else f"{end:.6g}" for end in ends)


def _write(columns: dict[str, Any], path: Path) -> None:
    from bowerbird.features.columns import to_toml

    path.write_text(to_toml(columns), encoding="utf-8")


def _show(one: "Description") -> None:
    from bowerbird.data.description import day_of, facts

    show_table(one.origin, ("what", "how much"), facts(one), left=2)
    bars = [(f"top {top}", f"{'█' * round(WIDTH * share)} {share:.0%}") for top, share in one.popularity.items()]
    show_table("Popularity", ("of the items", "share of the events"), bars, left=2)
    if one.over_time and one.first is not None and one.last is not None:
        most = max(one.over_time)
        spark = "".join(BLOCKS[-(-8 * n // most)] for n in one.over_time)
        tell(f"Events over time\n{spark}\n{day_of(one.first)}{day_of(one.last):>{len(spark) - 10}}\n")
    if one.columns:
        cells = [(row["table"], row["column"], row["type"], f"{row['empty']:.1%}") for row in one.columns]
        show_table("Other columns", ("table", "column", "type", "empty"), cells, left=3)
    for text in one.warnings:
        tell(text, mark="[yellow]warning[/]: ")


@data_app.command("convert")
def data_convert(
    source: Source,
    out_file: Annotated[Path, typer.Argument(metavar="OUT", help="The .parquet file to write.")],
    format: Format = None,
    query: Query = None,
    json: Json = False,
) -> None:
    """Write any table as Parquet, a text larger than memory too."""
    from bowerbird.data import convert

    rows = convert(source, out_file, format=format, query=query)
    show_json({"out": str(out_file), "rows": rows}) if json else tell(f"{rows:,} rows in {out_file}")
