"""Hostile model files: a run directory into which somebody else may write."""

import shutil
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

import _breaking
import _hostile_contents  # noqa: F401 (these enter further kinds)
import _hostile_places  # noqa: F401
import _hostile_weights  # noqa: F401
import bowerbird as bb
from _breaking import Effort, Found, Progress
from _cage import Cage, Outcome
from _hostile_bundles import KINDS, OF_RUN, SEALED, Bombs, Target, pickled
from bowerbird.core import RunOptions
from bowerbird.testing import halves, halves_as_rows

stages = _breaking.Stages()

NAMED = {"BundleError", "UnknownModelError", "MissingExtraError", "ConfigError", "ScoreError"}  # what a refusal may be
MOST_MB = 1_024  # of memory for a bundle of kilobytes
SWAPS = 4  # of so many tries, one is swapped in while another version serves
QUIET = RunOptions(progress=False)
SERVED = "000001"


@dataclass
class Ground:
    """What is attacked: whole runs, the answers of each, and a cage."""

    folder: Path
    cage: Cage
    bombs: Bombs
    right: dict[str, dict[str, Any]] = field(default_factory=dict)  # what each model answers
    serving: tuple[str, int] = ("", 0)  # the model that is served now, by which cage

    @property
    def marker(self) -> Path:
        """What a pickle would make."""
        return self.folder / "marker"

    def job(self, model: str) -> str:
        """Return what loads a model."""
        return "predicted" if model == "rows" else "loaded"

    def serve(self, model: str) -> None:
        """Serve a run of a model, unless that runs already."""
        if self.serving == (model, self.cage.starts) and self.cage.process is not None:
            return
        run = self.folder / f"served-{model}"
        if not run.exists():
            shutil.copytree(self.folder / model, run)
        outcome = self.cage.ask("serving", run=str(run), data=str(run / "server"))
        assert outcome.kind == "done", outcome
        self.right[f"served {model}"], self.serving = outcome.answer, (model, self.cage.starts)


def made(folder: Path) -> list[str]:
    """Make a run of each kind of model that is attacked; return their names."""
    bb.fit(halves(), "itemknn", run=QUIET).save(folder / "itemknn")
    bb.fit(halves(), "mf", run=QUIET, epochs=2, dim=8).save(folder / "mf")
    bb.fit(halves(), "deepfm", run=QUIET, epochs=1, dim=4, hidden=(8,)).save(folder / "deepfm")
    bb.fit(halves_as_rows(), "logistic", run=QUIET, epochs=1).save(folder / "rows")
    return ["itemknn", "mf", "deepfm", "rows"]


@contextmanager
def ground(folder: Path, *, scale: float = 1.0) -> Iterator[tuple[Ground, list[str]]]:
    """Make all that is needed, with bombs of this size, and end it."""
    with Cage("_bundle_jobs") as cage:
        place, models = Ground(folder, cage, Bombs(scale)), made(folder)
        for model in models:
            outcome = cage.ask(place.job(model), run=str(folder / model), inside=str(folder / model))
            assert outcome.kind == "done", outcome
            assert not outcome.deeds, outcome
            place.right[model] = outcome.answer
        yield place, models


@stages(
    "model_files",
    "a damaged or foreign model is refused by name and the old one serves; no code runs, no other file is opened",
    n=1000,
)
def model_files(effort: Effort) -> Found:
    found, said, progress = Found(), Counter[str](), Progress(effort)
    names, seconds, megabytes = list(KINDS), [0.0], [0.0]
    with ground(effort.folder, scale=1.0 if effort.n >= 500 else 0.2) as (place, models):
        found.figures["control_pickle_seen"] = _control(place)
        for turn in range(effort.n):
            rng, name = effort.rng(turn), names[turn % len(names)]
            swap = turn % SWAPS == SWAPS - 1 and name not in OF_RUN
            model = str(rng.choice(models[:3] if swap else models))
            outcome, told, faults, what = (_swapped if swap else _loaded)(place, model, name, rng)
            if outcome.megabytes > MOST_MB:
                faults = [*faults, f"took {outcome.megabytes:,.0f} MB"]
            found.note(*(f"try {turn}, {model}, {name} ({told}){', swapped' * swap}: {one}" for one in faults))
            said[what] += 1
            seconds.append(outcome.seconds)
            megabytes.append(outcome.megabytes)
            found.add("swaps", int(swap))
            progress(turn + 1)
        found.figures |= {"code_run": int(place.marker.exists()), "cage_starts": place.cage.starts}
    found.figures |= {"kinds": len(names), **said}
    found.figures |= {"slowest_s": round(max(seconds), 2), "most_mb": round(max(megabytes))}
    return found


def _control(place: Ground) -> int:
    """Return 1 where a pickle that is read leaves its mark and is noticed, and so is a file outside."""
    path = place.folder / "control.pkl"
    path.write_bytes(pickled(place.marker))
    outcome = place.cage.ask("unpickled", path=str(path), inside=str(path))
    other = place.cage.ask("opened", path=str(path), inside=str(place.folder / "mf"))
    seen = place.marker.is_dir() and any("pickle" in deed for deed in outcome.deeds)
    assert seen, "a pickle that was read left no mark: the stage is blind"
    assert any("control.pkl" in deed for deed in other.deeds), "a file outside was not noticed: the stage is blind"
    place.marker.rmdir()
    return 1


def _spoilt(place: Ground, run: Path, version: str, name: str, rng: np.random.Generator) -> str:
    outside = place.folder / "outside"
    shutil.rmtree(outside, ignore_errors=True)
    outside.mkdir()
    return KINDS[name](Target(run, version, rng, outside, place.marker, place.bombs))


def _judged(place: Ground, outcome: Outcome, name: str, right: dict[str, Any]) -> tuple[list[str], str]:
    """Return what is wrong with what became of a try, and how it is counted."""
    faults = list(outcome.faults)
    if place.marker.exists():
        faults.append("code was run")
    if outcome.kind == "refused":
        if outcome.error not in NAMED:
            faults.append(f"refused by {outcome.error}: {outcome.said[:200]}")
        return faults, "refused"
    if outcome.kind != "done":
        return faults, outcome.kind
    if outcome.answer["digest"] == right["digest"]:
        return faults, "harmless"
    if name not in SEALED:
        faults.append("answers differ, and no checksum was written anew")
    if not outcome.answer["finite"]:
        faults.append("answers with scores that are not finite")
    return faults, "another_model"


def _loaded(place: Ground, model: str, name: str, rng: np.random.Generator) -> tuple[Outcome, str, list[str], str]:
    run = place.folder / "try"
    shutil.copytree(place.folder / model, run)
    try:
        told = _spoilt(place, run, SERVED, name, rng)
        outcome = place.cage.ask(place.job(model), run=str(run), inside=str(run))
    finally:
        shutil.rmtree(run)
    return outcome, told, *_judged(place, outcome, name, place.right[model])


def _swapped(place: Ground, model: str, name: str, rng: np.random.Generator) -> tuple[Outcome, str, list[str], str]:
    place.serve(model)
    run, version = place.folder / f"served-{model}", "000002"
    for part in ("bundles", "histories"):
        shutil.copytree(run / part / SERVED, run / part / version)
    try:
        told = _spoilt(place, run, version, name, rng)
        outcome = place.cage.ask("swapped", version=version, inside=str(run))
    finally:
        for part in ("bundles", "histories"):
            path = run / part / version
            path.unlink() if path.is_symlink() else shutil.rmtree(path)
        (run / "current").write_text(SERVED)
    right = place.right[f"served {model}"]
    if outcome.kind != "done":
        return outcome, told, *_judged(place, outcome, name, right)
    seen = outcome.answer
    faults = []
    if seen["after"] != right:
        faults.append(f"what serves after it is not what served before: {seen['after']}")
    if seen["taken"]:
        outcome.answer = seen["now"]
    else:
        outcome.kind = "refused" if seen["named"] else "raised"
        outcome.error, outcome.said = seen["error"], seen["said"]
        if seen["now"] != right or seen["pointer"] != SERVED:
            faults.append("a version that was refused changed what is served")
    more, what = _judged(place, outcome, name, right)
    return outcome, told, [*faults, *more], what
