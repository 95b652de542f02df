"""How commands speak: tables and sentences for people on a terminal, one JSON document for programs."""

import json
import shutil
import sys
from collections.abc import Iterable, Sequence
from typing import Any

import typer
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.markup import escape
from rich.table import Table
from rich.text import Text

out = Console()
err = Console(stderr=True)


def command() -> str:
    """Return how this program is called from here: by its name where the shell finds it, else by its path."""
    return "bowerbird" if shutil.which("bowerbird") else sys.argv[0]


def show_json(document: Any) -> None:
    """Print one JSON document on standard output."""
    typer.echo(json.dumps(document, ensure_ascii=False))


def show_table(title: str, columns: Sequence[str], rows: Iterable[Sequence[Any]], *, left: int = 1) -> None:
    """Print a table; the first `left` columns are texts, the others numbers."""
    table = Table(title=Text(title), title_justify="left", title_style="bold", box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for place, column in enumerate(columns):
        table.add_column(column, justify="left" if place < left else "right", overflow="fold")
    for row in rows:
        table.add_row(*("" if cell is None else Text(str(cell)) for cell in row))
    out.print(table)


def say(text: str, *, mark: str = "") -> None:
    """Print a sentence for people on standard error, where it does not disturb what a program reads.

    `text` is taken as it is, whatever brackets it holds; `mark` is a coloured word before it.
    """
    err.print(f"{mark}{escape(text)}", highlight=False, soft_wrap=True)
