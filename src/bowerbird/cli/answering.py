"""Commands that ask a run: lists, reasons, what is like an item, and what a text or a picture finds."""

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from bowerbird.cli.data import Json
from bowerbird.cli.options import K, Run
from bowerbird.cli.output import say, show_json, show_table, tell
from bowerbird.core import RequestError


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
