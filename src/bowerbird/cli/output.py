"""How commands speak: tables and sentences for people on a terminal, one JSON document for programs.

What people are shown holds ids and titles of anybody: no letter of them commands the terminal, and none is markup.
"""

import json
import re
import shlex
import shutil
import sys
from collections.abc import Iterable, Sequence
from typing import Any

import typer
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

COMMANDS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")  # and what turns a line round
out = Console()
err = Console(stderr=True)


def command() -> str:
    """Return how this program is called from here: by its name where the shell finds it, else by its path."""
    return "bowerbird" if shutil.which("bowerbird") else sys.argv[0]


def show_json(document: Any) -> None:
    """Print one JSON document on standard output."""
    typer.echo(json.dumps(document, ensure_ascii=False))


def show_table(title: str, columns: Sequence[str], rows: Iterable[Sequence[Any]], *, left: int = 1) -> None:
    """Print a table, with a head unless the title is empty; the first `left` columns are texts, the others numbers."""
    head = Text(_shown(title)) if title else None
    table = Table(title=head, title_justify="left", title_style="bold", box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for place, column in enumerate(columns):
        table.add_column(Text(_shown(column)), justify="left" if place < left else "right", overflow="fold")
    for row in rows:
        table.add_row(*("" if cell is None else Text(_shown(str(cell))) for cell in row))
    out.print(table)


def tell(text: str, *, mark: str = "") -> None:
    """Print a sentence for people on standard output, as `say` does on standard error."""
    out.print(_marked(mark, text), highlight=False, soft_wrap=True)


def word(value: object, option: str = "") -> str:
    """Return a value as a word of a command that may be copied, behind the option that it belongs to."""
    text = shlex.quote(_shown(str(value)))
    between = "=" if text.startswith(("-", "'-")) else " "
    return f"{option}{between}{text}" if option else text


def _shown(text: str) -> str:
    return COMMANDS.sub("�", text)


def say(text: str, *, mark: str = "") -> None:
    """Print a sentence for people on standard error, where it does not disturb what a program reads.

    `text` is taken as it is, whatever brackets it holds; `mark` is a coloured word before it.
    """
    err.print(_marked(mark, text), highlight=False, soft_wrap=True)


def _marked(mark: str, text: str) -> Text:
    return Text.from_markup(mark) + Text(_shown(text))
