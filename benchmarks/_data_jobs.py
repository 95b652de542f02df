"""What is done with hostile tables, media and recipes inside a cage."""

from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

import bowerbird as bb
from bowerbird.cli.importing import Reading, opened_rows
from bowerbird.core import RunOptions
from bowerbird.data import load, read_rows
from bowerbird.data.checks import find_problems
from bowerbird.data.conversion import convert
from bowerbird.features import Audio, Image, Text
from bowerbird.features.columns import read_columns
from bowerbird.features.media import describe
from bowerbird.pipeline.scenario import Scenario, known_scenarios
from bowerbird.recommender import Recipe

QUIET = RunOptions(progress=False)
NOW = 1_800_000_000


def read(path: str, **options: Any) -> dict[str, Any]:
    """Return how many rows `bb.read` finds."""
    return {"rows": len(bb.read(path, **options))}


def loaded(path: str) -> dict[str, Any]:
    """Return how many rows `load` finds, which knows the zips of owners."""
    return {"rows": len(load(path))}


def rows(path: str, **options: Any) -> dict[str, Any]:
    """Return how many rows of a feature table are found, and whether all labels are numbers or empty."""
    found = read_rows(path, **options)
    return {"rows": len(found), "finite": not np.isinf(found.labels).any()}


def checked(path: str) -> dict[str, Any]:
    """Return all that is wrong with a table: never an exception."""
    problems, events = find_problems(path, now=NOW)
    return {"rows": 0 if events is None else len(events), "told": [str(one.message) for one in problems]}


def converted(path: str, out: str) -> dict[str, Any]:
    """Write a table as Parquet."""
    return {"rows": convert(path, out)}


def imported(path: str, what: str) -> dict[str, Any]:
    """Return how many rows an import would hand on; what is no JSON is none."""
    found = opened_rows(what, path, Reading())
    return {"rows": sum(row is not None for _, row in islice(found.rows, 1_000_000))}


def trained(path: str, models: list[str], items: str | None = None) -> dict[str, Any]:
    """Read, split, fit and ask: return what each model answered."""
    data = bb.split(bb.read(path, items=items))
    told: dict[str, Any] = {"rows": len(data.train)}
    for model in models:
        rec = bb.fit(data, model, run=QUIET)
        scores = rec.recommend(rec.user_ids.values[:3].to_list(), k=3).to_polars()["score"].to_numpy()
        told[model] = bool(np.isfinite(scores).all())
    return told


def predicted(path: str, later: str, model: str = "deepfm") -> dict[str, Any]:
    """Fit a ranker on one table and ask it about another: return whether all that comes out is finite."""
    table = read_rows(path)
    predictor = bb.fit(table, model, run=QUIET, epochs=1, **({"dim": 4, "hidden": (4,)} if model == "deepfm" else {}))
    frame = read_rows(later).table
    found = predictor.predict(frame)
    return {"rows": len(found), "finite": bool(np.isfinite(found).all()), "counts": dict(predictor.encoder.counts)}


def described(kind: str, path: str, cache: str, value: str = "", root: str = "") -> dict[str, Any]:
    """Return what an encoder makes of the text, picture or sound in a file, or of what a value below a root names."""
    column = {"text": Text(name="c", encoder="words"), "image": Image(name="c"), "audio": Audio(name="c")}[kind]
    content: Any = value or Path(path).read_bytes()
    if kind == "text" and not value:
        content = content.decode("utf-8", "replace")
    dtype = pl.Binary if isinstance(content, bytes) else pl.String
    found = describe(pl.Series("c", [content], dtype=dtype), column, cache=Path(cache), root=root or None)
    vector = np.asarray(found.vectors[0], np.float64)
    return {"refused": list(found.refused), "none": bool(np.isnan(vector).all()), "mixed": bool(np.isinf(vector).any())}


def recipe(path: str) -> dict[str, Any]:
    """Read a recipe."""
    return {"model": type(Recipe.load(path).model).__name__}


def scenario(path: str) -> dict[str, Any]:
    """Read a scenario."""
    return {"k": Scenario.load(path).k}


def scenarios(folder: str) -> dict[str, Any]:
    """Read the scenarios of a folder."""
    return {"n": len(known_scenarios(Path(folder)))}


def columns(path: str) -> dict[str, Any]:
    """Read columns."""
    return {"parts": sorted(read_columns(path))}


ALL = (read, loaded, rows, checked, converted, imported, trained, predicted, described, recipe, scenario, scenarios)
JOBS = {one.__name__: one for one in (*ALL, columns)}
