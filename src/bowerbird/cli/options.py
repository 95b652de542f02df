"""Options that several commands take; those of tables are in `data`."""

from pathlib import Path
from typing import Annotated

import typer

Run = Annotated[Path, typer.Argument(metavar="RUN", help="A run directory, as `train --out` makes it.")]
K = Annotated[int, typer.Option("-k", help="Items in each list.")]
DataPath = Annotated[str | None, typer.Option("--data", help="A file, or the name of a data set such as ml-100k.")]
