"""`bowerbird train --on`: the same training in several processes, which torchrun or Ray has started."""

import io
import os
from collections.abc import Mapping
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import typer

from bowerbird.cli.output import err, say
from bowerbird.cli.training import run_training
from bowerbird.core import ConfigError, did_you_mean, entry_of
from bowerbird.data import REGISTRY, encode
from bowerbird.data.encoded import is_encoded
from bowerbird.data.files import format_of, paths_of
from bowerbird.recommender import DataOptions, Recipe

PLACES = ("ray", "torchrun")
ENCODED = "encoded"  # folder of a run that holds codes
OF_EVENTS = ("user", "item", "time", "event", "weight")  # columns that codes know by themselves


@dataclass(frozen=True)
class Asked:
    """What the command line says of the training itself."""

    recipe: Path | None
    given: Mapping[str, dict[str, Any]]
    out: Path | None
    refit: bool
    as_json: bool

    def run(self) -> None:
        """Train, in this process as one of those of torch.distributed's group."""
        run_training(self.recipe, dict(self.given), self.out, refit=self.refit, as_json=self.as_json)


def run_spread(asked: Asked, on: str, workers: int, address: str | None) -> None:
    """Train in several processes; the first one measures, saves and speaks."""
    if on not in PLACES:
        raise ConfigError(f"on is {on!r}; it must be one of {', '.join(PLACES)}.{did_you_mean(on, PLACES)}")
    recipe = Recipe.of(asked.recipe, asked.given)
    if entry_of(recipe.model).batches is None and "ranker" not in entry_of(recipe.model).tags:
        raise ConfigError(
            f"{entry_of(recipe.model).name} is not trained in steps, which workers could share. Train it here."
        )
    if recipe.search.tries:
        raise ConfigError(
            "workers share one training, not tries. Leave tries out; `bowerbird select --on ray` spreads them."
        )
    if on == "torchrun":
        from bowerbird.distributed.group import joined

        with joined():
            asked.run()
        return
    _on_ray(asked, recipe, workers, address)


def _on_ray(asked: Asked, recipe: Recipe, workers: int, address: str | None) -> None:
    import torch

    from bowerbird.distributed import cluster

    if asked.out is None:
        raise ConfigError("workers keep their state, and the model, in a run directory. Name it with --out RUN.")
    with cluster.started(workers, address):
        asked = replace(asked, out=asked.out.absolute())
        asked = _encoded(asked, recipe, cluster.tasks)
        gpus = torch.cuda.is_available() and recipe.run.device != "cpu"
        said, told = cluster.train(partial(_work, asked, os.getcwd()), workers, gpus=gpus)
    err.file.write(told)
    typer.echo(said, nl=False)


def _encoded(asked: Asked, recipe: Recipe, run: Any) -> Asked:
    """Return the same with codes as data, where the data are interactions in Parquet files."""
    data = recipe.data
    if data is None or asked.out is None or not _are_parts(data, recipe):
        return asked
    columns = {role: getattr(data, role) for role in OF_EVENTS}
    folder = encode(data.path, asked.out / ENCODED, run=run, **columns)
    if not asked.as_json:
        say(f"{data.path} is encoded in {folder}")
    codes = {**asked.given.get("data", {}), **dict.fromkeys(OF_EVENTS), "path": str(folder), "format": None}
    return replace(asked, given={**asked.given, "data": codes})


def _are_parts(data: DataOptions, recipe: Recipe) -> bool:
    """Return whether the data are Parquet files of interactions that nobody has encoded yet."""
    if data.path in REGISTRY or is_encoded(data.path) or "://" in data.path or data.path.endswith(".zip"):
        return False
    if "ranker" in entry_of(recipe.model).tags:  # of feature tables every worker has all columns
        return False
    return all(format_of(path, data.format) == "parquet" for path in paths_of(data.path, data.format))


def _work(asked: Asked, folder: str) -> tuple[str, str]:
    """Train as one of Ray's workers; return what there is to say, on standard output and standard error."""
    os.chdir(folder)  # Ray has moved
    said, told = io.StringIO(), io.StringIO()
    with redirect_stdout(said), redirect_stderr(told):
        asked.run()
    return said.getvalue(), told.getvalue()
