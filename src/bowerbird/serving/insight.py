"""Insight: what a look at the whole needs: cards of versions, the shape of the catalogue, drift, people to try.

All of it is read-only. What takes long is kept until it can have changed.

Shapes: I items, n of them drawn, U users, D vector size.
"""

import json
import threading
from collections.abc import Callable
from typing import Annotated, Any

import numpy as np
import polars as pl
from fastapi import APIRouter, Path, Query, Request
from scipy import sparse

from bowerbird.core import BundleError, RequestError, UnknownItemError, numpy_stream
from bowerbird.monitoring import compare_events
from bowerbird.serving.access import GuardedRoute, guarded
from bowerbird.serving.engine import Engine
from bowerbird.serving.problems import described
from bowerbird.serving.view import TINY, View
from bowerbird.store import bundles
from bowerbird.store.deeds import read_deeds

router = APIRouter(prefix="/v1", route_class=GuardedRoute, responses=described(400, 401, 403, 404, 422))
Version = Annotated[str, Path(pattern="^[0-9]{6}$")]

SELECTION, LONGEST_SELECTION = "select.json", 4 << 20  # what `bowerbird select --json` printed, and bytes of it
CARD = ("model", "created", "parent", "log_offset", "seed", "config", "events", "measured", "health")
COLD = 5  # people who chose an item: of fewer, behaviour says little
MOST_POINTS, USUAL_POINTS = 5_000, 2_000
MOST_PEOPLE = 100
MOST_PAIRS = 2_000_000  # of a user and an item, by which a model without vectors is drawn
GROUPS = 7  # of a map, the largest; all others are one
FEWEST, MOST_VALUES = 2, 100  # values of a column that can colour a map
NAMES = ("item_id", "title")  # columns that tell each item by itself
MOST_WORDS = 40  # first words of one that has more
POINTS = 100  # of a curve
DRIFT_S = 60.0  # between two looks at drift, at least
MOST_DEEDS = 200_000  # the newest ones, that are looked at for drift


class Kept:
    """The last answer of each kind, and what it was made of."""

    def __init__(self) -> None:
        self._turn = threading.Lock()
        self._found: dict[str, tuple[Any, Any]] = {}

    def get(self, kind: str, made_of: Any, make: Callable[[], Any]) -> Any:
        """Return what `make` returned when it was called last, unless it was made of something else then."""
        with self._turn:
            known = self._found.get(kind)
            if known is None or known[0] != made_of:
                known = self._found[kind] = made_of, make()
            return known[1]


def _engine(request: Request) -> Engine:
    engine: Engine = request.app.state.engine
    return engine


def _kept(request: Request) -> Kept:
    state = request.app.state
    if not hasattr(state, "kept"):
        state.kept = Kept()
    kept: Kept = state.kept
    return kept


@router.get("/models/{version}", tags=["models"], dependencies=guarded("models:read"))
def card(request: Request, version: Version) -> dict[str, Any]:
    """Return what a version is, how it was measured, and what its lists look like."""
    engine = _engine(request)
    if version not in bundles.versions(engine.run, world=engine.world):
        raise UnknownItemError(f"there is no version {version}.")
    manifest = bundles.manifest_of(engine.run, version, world=engine.world)
    return {"version": version} | {name: manifest.get(name) for name in CARD}


@router.get("/selection", tags=["models"], dependencies=guarded("models:read"))
def selection(request: Request) -> dict[str, Any]:
    """Return the report of `bowerbird select` that lies in the run directory."""
    engine = _engine(request)
    if SELECTION not in engine.world.names(engine.run):
        raise UnknownItemError(f"the run directory has no {SELECTION}. `bowerbird select … --json` prints one.")
    text = engine.world.read(engine.run / SELECTION)
    try:
        if len(text) > LONGEST_SELECTION:
            raise ValueError
        document = json.loads(text)
        models = document["models"]
        fine = all(isinstance(one["model"], str) and float(one["value"]) >= 0 for one in models)
    except (ValueError, LookupError, TypeError, RecursionError):
        fine = False
    if not fine:
        raise BundleError(f"{SELECTION} is no report of `bowerbird select … --json`.")
    return {name: value for name, value in document.items() if name not in ("trials", "data", "recipe", "report")}


@router.get("/popularity", tags=["operation"], dependencies=guarded("models:read"))
def popularity(request: Request) -> dict[str, Any]:
    """Return how choices lie on items: a curve from the item chosen most to the one chosen least."""
    counts = np.sort(_engine(request).view.tally.chosen)[::-1]
    counts = np.where(counts > TINY, counts, 0.0)
    total = float(counts.sum())
    if not total:
        return {"items": len(counts), "choices": 0.0, "curve": [], "top_tenth": None, "gini": None}
    shares = np.concatenate([[0.0], counts.cumsum() / total])
    at = np.unique(np.linspace(0, len(counts), POINTS + 1).round().astype(int))
    area = float(np.trapezoid(shares, dx=1 / len(counts)))
    return {
        "items": len(counts),
        "choices": total,
        "curve": [[float(place / len(counts)), float(shares[place])] for place in at],
        "top_tenth": float(shares[-(-len(counts) // 10)]),
        "gini": 2 * area - 1,
    }


@router.get("/drift", tags=["operation"], dependencies=guarded("models:read"))
def drift(request: Request) -> dict[str, Any]:
    """Return what changed from the events that the version in use has learnt to those that came since."""
    engine = _engine(request)
    rec, end = engine.view.recommender, engine.log.end
    minute = int(engine.world.monotonic() / DRIFT_S)
    document: dict[str, Any] = {
        "model_version": rec.version,
        "drift": False,
        "alarms": [],
        "series": [],
        "left_out": {},
    }

    def look() -> dict[str, Any]:
        deeds, _ = read_deeds(engine.data, max(rec.log_offset, end - MOST_DEEDS))
        known = [kind.name for kind in engine.view.kinds]
        deeds = deeds.filter(pl.col("event").is_in(known))
        rows = {"rows": {"reference": len(rec.past), "now": len(deeds)}}
        return document | rows | (compare_events(rec, deeds).to_dict() if len(deeds) else {})

    found: dict[str, Any] = _kept(request).get("drift", (rec.version, minute), look)
    return found


@router.get("/people", tags=["users"], dependencies=guarded("privacy"))
def people(request: Request, k: Annotated[int, Query(ge=1, le=MOST_PEOPLE)] = 20) -> dict[str, Any]:
    """Return ids of some people whom training knew, drawn at random, always the same."""
    engine = _engine(request)
    rec = engine.view.recommender
    known = np.unique(rec.past.user)
    drawn = numpy_stream(rec.run.seed, "people").permutation(known)[:k]
    return {"people": [rec.user_ids[int(row)] for row in np.sort(drawn)], "of": len(known)}


@router.get("/map", tags=["items"], dependencies=guarded("models:read"))
def points(
    request: Request,
    column: Annotated[str | None, Query(max_length=256)] = None,
    k: Annotated[int, Query(ge=1, le=MOST_POINTS)] = USUAL_POINTS,
) -> dict[str, Any]:
    """Return items in a plane, so that those are close that the model takes for alike, and a column to tell them by."""
    view = _engine(request).view
    columns = _kept(request).get("columns", (view.version, view.followed), lambda: _columns(view.shelf.items))
    if column is not None and column not in columns:
        raise RequestError(f'column "{column}" cannot colour a map; there are {", ".join(columns) or "none"}.')
    column = column or next(iter(columns), None)
    rows = np.sort(numpy_stream(0, "map").permutation(len(view.shelf.items))[:k])
    places, source, told = _kept(request).get("map", (view.version, view.followed), lambda: _places(view))
    here = rows[~np.isnan(places[rows, 0])]
    groups = [None] * len(here) if column is None else _groups(view.shelf.items[column], here)
    chosen = view.tally.chosen[here]
    titles = view.titles(here)
    return {
        "model": view.recommender.name,
        "model_version": view.version,
        "source": source,
        "explained": told,
        "column": column,
        "columns": columns,
        "items": len(view.shelf.items),
        "placeless": len(rows) - len(here),
        "points": [
            {
                "item_id": view.item_id(row), "title": title, "x": float(places[row, 0]), "y": float(places[row, 1]),
                "group": group, "chosen": float(count), "cold": bool(count < COLD or row >= view.n_known),
            }
            for row, title, group, count in zip(here.tolist(), titles, groups, chosen.tolist(), strict=True)
        ],
    }  # fmt: skip


def _places(view: View) -> tuple[np.ndarray, str, list[float]]:
    """Return the two principal components of items (I, 2), NaN for those without, of what, and the share of each."""
    found = np.full((len(view.shelf.items), 2), np.nan)
    unit = view.scorer.unit
    if unit is not None:
        vectors = unit.float().cpu().numpy()
        rows, source = np.flatnonzero(np.isfinite(vectors).all(axis=1)), "vectors"
        matrix = vectors[rows].astype(np.float64)
    else:
        rows, matrix = _shared(view)
        source = "choices"
    if len(rows) < 3 or matrix.shape[1] < 2:
        return found, source, [0.0, 0.0]
    centred = matrix - matrix.mean(axis=0)
    values, axes = np.linalg.eigh(centred.T @ centred)
    first = axes[:, :-3:-1]
    first = first * np.where(first.sum(axis=0) < 0, -1.0, 1.0)  # of two axes, opposite and as good, always the same
    found[rows] = centred @ first
    total = max(float(values.sum()), TINY)
    return found, source, [float(max(one, 0.0) / total) for one in values[:-3:-1]]


def _shared(view: View) -> tuple[np.ndarray, np.ndarray]:
    """Return items that somebody chose, and what tells who chose them (n, D): a random projection of their users."""
    past = view.recommender.past
    item, user = past.positives.item, past.positives.user
    if len(item) > MOST_PAIRS:
        some = np.sort(numpy_stream(0, "map", "pairs").permutation(len(item))[:MOST_PAIRS])
        item, user = item[some], user[some]
    matrix = sparse.csr_matrix((np.ones(len(item)), (item, user)), shape=(past.n_items, past.n_users))
    matrix.data[:] = 1.0
    rows = np.flatnonzero(np.diff(matrix.indptr))
    size = np.sqrt(np.maximum(np.diff(matrix.indptr)[rows], 1))
    drawn = numpy_stream(0, "map", "projection").standard_normal((past.n_users, 64)) / 8.0
    return rows, np.asarray(matrix[rows] @ drawn) / size[:, None]


def _columns(items: pl.DataFrame) -> list[str]:
    """Return the columns that can colour a map: of texts with few values, also where a row has several."""
    return [
        name for name in items.columns
        if name not in NAMES and FEWEST <= len(_words(items[name]).drop_nulls().unique()) <= MOST_VALUES
    ]  # fmt: skip


def _words(column: pl.Series) -> pl.Series:
    """Return the text of each row by which it is coloured: the first one of a list, or of many words; else nothing."""
    if isinstance(column.dtype, pl.List) and column.dtype.inner == pl.String:
        return column.list.first()
    if column.dtype != pl.String:
        return column.clear()
    if column.n_unique() <= MOST_VALUES:
        return column
    first = column.str.extract(r"^([^\s,;|]+)")  # such as genres with spaces between
    return first if first.n_unique() <= MOST_WORDS else column.clear()


def _groups(column: pl.Series, rows: np.ndarray) -> list[str | None]:
    """Return the group of each row: one of the `GROUPS` largest, "" for any other, None where nothing is said."""
    said = _words(column).gather(rows.astype(np.int64))
    counts = said.drop_nulls().value_counts(sort=True)
    largest = set(counts[column.name][:GROUPS].to_list())
    return [one if one is None or one in largest else "" for one in said.to_list()]
