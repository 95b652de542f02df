"""What is done with hostile bundles inside a cage: loaded and asked, or swapped in while another version serves."""

import pickle
from contextlib import suppress
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np

import bowerbird as bb
from bowerbird.core import BowerbirdError, RequestError
from bowerbird.serving.engine import Engine
from bowerbird.store import bundles
from bowerbird.testing import halves_as_rows

USERS = [f"u{row}" for row in range(60)]
PASTS = [["i1", "i3"], ["i2"], ["i39", "i5", "i7"]]
QUESTIONS: list[dict[str, Any]] = [*({"user_id": one} for one in USERS[:8]), {}, {"history": PASTS[0]}]

_engines: dict[str, Engine] = {}


def _told(parts: list[Any], scores: list[float]) -> dict[str, Any]:
    return {
        "digest": sha256(repr(parts).encode("utf-8", "replace")).hexdigest(),
        "finite": bool(np.isfinite(np.array(scores, float)).all()),
        "n": len(scores),
    }


def loaded(run: str) -> dict[str, Any]:
    """Return what the recommender of a run answers everybody."""
    rec = bb.load(run)
    tables = [rec.recommend(USERS, k=5).to_polars(), rec.recommend(histories=PASTS, k=5).to_polars()]
    with suppress(RequestError):  # not every model knows a likeness
        tables.append(rec.similar([rec.item_ids[1]], k=5).to_polars())
    scores = [one for table in tables for one in table["score"].to_list()]
    return _told([table.rows() for table in tables], scores)


def predicted(run: str) -> dict[str, Any]:
    """Return what the predictor of a run says of some rows."""
    found = bb.Predictor.load(run).predict(halves_as_rows().test.table)
    return _told([found.tolist()], found.ravel().tolist())


def serving(run: str, data: str) -> dict[str, Any]:
    """Serve a run from now on, and return what it answers. Its keeper rests: no pointer is followed."""
    stop()
    engine = _engines["one"] = Engine(Path(run), Path(data))
    engine._stopping.set()
    engine._keeper.join()
    return _asked(engine)


def _asked(engine: Engine) -> dict[str, Any]:
    bodies = [engine.answered({**question, "k": 5}, "r")[0] for question in QUESTIONS]
    places = [[(one["item_id"], one["score"]) for one in body["items"]] for body in bodies]
    scores = [score for slate in places for _, score in slate]
    versions = sorted({str(body["model_version"]) for body in bodies})
    fallbacks = sum(bool(body["fallback"]) for body in bodies)
    return _told(places, scores) | {"versions": versions, "fallbacks": fallbacks}


def swapped(version: str) -> dict[str, Any]:
    """Promote a version, ask, and go back to the one before; return all that was seen."""
    engine = _engines["one"]
    old = engine.view.recommender.version
    assert old is not None
    found: dict[str, Any] = {"taken": False, "error": "", "said": "", "named": True}
    try:
        engine.promote(version)
        found["taken"] = True
    except Exception as error:
        named = isinstance(error, BowerbirdError)
        found |= {"error": type(error).__name__, "said": str(error)[:300], "named": named}
    found["now"] = _asked(engine)
    found["pointer"] = bundles.current(engine.run)
    if found["taken"]:
        engine.promote(old)
    found["after"] = _asked(engine)
    return found


def stop() -> None:
    """Serve no more."""
    if "one" in _engines:
        _engines.pop("one").close()


def unpickled(path: str) -> None:
    """Do what nobody here does: the control, by which one sees that a pickle would be noticed."""
    pickle.loads(Path(path).read_bytes())


def opened(path: str) -> None:
    """Open a file: the control for files outside."""
    Path(path).read_bytes()


JOBS = {one.__name__: one for one in (loaded, predicted, serving, swapped, stop, unpickled, opened)}
