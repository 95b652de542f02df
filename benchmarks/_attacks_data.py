"""Hostile tables, media, recipes, and what spreadsheets make of what is written."""

import os
import shutil
from collections import Counter
from pathlib import Path
from typing import Any

import _breaking
import _hostile_media
from _breaking import Effort, Found, Progress
from _cage import Cage, Outcome
from _hostile_tables import BASES, BOMBS, MODELS, NUMBERS, SHAPES, mutated

stages = _breaking.Stages()

MOST_MB = 1_536  # of memory for any file here
UNDECIDED = {"MissingExtraError"}  # refusals that say nothing of a file


def _refusal(outcome: Outcome, path: Path) -> list[str]:
    """Return what is wrong with a refusal: one says which file, in a sentence."""
    if outcome.kind != "refused":
        return []
    if outcome.error in UNDECIDED:
        return [f"was not tried: {outcome.said}"]
    faults = [] if path.name in outcome.said else [f"the refusal names no file: {outcome.said}"]
    return faults + [f"the refusal is no sentence: {outcome.said!r}"] * (len(outcome.said) < len(path.name) + 8)


def caged(effort: Effort) -> Cage:
    """Return a cage whose temporary files and caches lie in the folder of a stage."""
    scratch = effort.folder / "scratch"
    scratch.mkdir(exist_ok=True)
    return Cage("_data_jobs", megabytes=3072, TMPDIR=str(scratch), XDG_CACHE_HOME=str(scratch))


class Reading:
    """Reads files in a cage, and counts what became of them."""

    def __init__(self, effort: Effort, cage: Cage, found: Found) -> None:
        self.folder, self.cage, self.found = effort.folder, cage, found
        self.whole = effort.n >= 200  # whether each bomb gets a cage of its own
        self.kinds, self.megabytes, self.seconds = Counter[str](), 0.0, 0.0

    def file(self, name: str, data: bytes) -> Path:
        """Write a file in an empty folder."""
        folder = self.folder / "tables"
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        (folder / name).write_bytes(data)
        return folder / name

    def asked(self, job: str, path: Path, **values: Any) -> Outcome:
        """Return what became of a job; memory and time are noted."""
        if job == "converted":
            values["out"] = str(path.parent / "out.parquet")
        outcome = self.cage.ask(job, path=str(path), inside=str(path.parent), **values)
        self.megabytes, self.seconds = max(self.megabytes, outcome.megabytes), max(self.seconds, outcome.seconds)
        self.kinds[outcome.kind] += 1
        return outcome

    def note(self, outcome: Outcome, path: Path, what: str, *faults: str) -> None:
        """Count a try."""
        all_faults = [*outcome.faults, *_refusal(outcome, path), *faults]
        if outcome.megabytes > MOST_MB:
            all_faults.append(f"took {outcome.megabytes:,.0f} MB")
        self.found.note(*(f"{what}: {one}" for one in all_faults))


@stages(
    "readers",
    "any file is read, or refused by its name with what is wrong; never a traceback, a hang or all memory",
    n=2000,
)
def readers(effort: Effort) -> Found:
    found, progress = Found(), Progress(effort)
    with caged(effort) as cage:
        reading = Reading(effort, cage, found)
        named = [_shape, _number, _bomb]
        lists = [[(one, name) for name in names] for one, names in zip(named, (SHAPES, NUMBERS, BOMBS), strict=True)]
        known = [pair for part in lists for pair in part]
        if effort.n < 2 * len(known):  # a few of each
            known = [pair for part in lists for pair in part[-max(1, effort.n // 6) :]]  # the largest stand first
        for turn in range(effort.n):
            if turn < len(known):
                known[turn][0](reading, known[turn][1])
            else:
                _mutation(reading, effort, turn)
            progress(turn + 1)
        found.figures |= {"named": min(len(known), effort.n), **reading.kinds, "cage_starts": cage.starts}
    found.figures |= {"most_mb": round(reading.megabytes), "slowest_s": round(reading.seconds, 1)}
    return found


def _shape(reading: Reading, name: str) -> None:
    """Read a data set of an odd shape, cut it, and learn from it: it works, or it is told why not."""
    path = reading.file("events.csv", SHAPES[name])
    outcome = reading.asked("read", path)
    reading.note(outcome, path, f"shape {name}")
    if outcome.kind == "done":
        outcome = reading.asked("trained", path, **MODELS)
        faults = [
            f"{one} answers what is no number" for one in MODELS["models"] if not (outcome.answer or {}).get(one, True)
        ]
        outcome.said += f" {path.name}" * (outcome.kind == "refused")  # what is cut and fitted is no file any more
        reading.note(outcome, path, f"shape {name}, trained", *faults)


def _number(reading: Reading, name: str) -> None:
    """Fit a ranker on odd numbers and ask it about others: what comes out is finite."""
    fitted, asked = NUMBERS[name]
    path = reading.file("fitted.parquet", fitted)
    later = path.with_name("later.parquet")
    later.write_bytes(asked)
    outcome = reading.asked("predicted", path, later=str(later))
    outcome.said += f" {path.name}" * (outcome.kind == "refused")
    faults = ["what comes out is not finite"] if outcome.kind == "done" and not outcome.answer["finite"] else []
    reading.note(outcome, path, f"number {name}", *faults)


def _bomb(reading: Reading, name: str) -> None:
    case = BOMBS[name]
    if reading.whole:
        reading.cage.end()  # what one before it left behind is not counted
    path = reading.file(case.name, case.data)
    outcome = reading.asked(case.job, path, **case.values)
    reading.note(outcome, path, f"bomb {name}")


def _mutation(reading: Reading, effort: Effort, turn: int) -> None:
    rng = effort.rng(turn)
    name = str(rng.choice(list(BASES)))
    data, jobs = BASES[name]
    job = str(rng.choice(jobs))
    path = reading.file(name, mutated(data, rng))
    values = {"what": "events" if name == "a.csv" else "items"} if job == "imported" else {}
    if job == "rows" and not name.startswith("a.lib"):
        values = {"labels": "rating" if name == "a.inter" else "weight"}
    outcome = reading.asked(job, path, **values)
    reading.note(outcome, path, f"try {turn}, {name}, {job}")


# ── media ─────────────────────────────────────────────────────────────────────────────────────────────────────────


@stages(
    "media",
    "a text, picture or sound is decoded or refused with a reason; none hangs, fetches or fills the memory",
    n=600,
)
def media(effort: Effort) -> Found:
    found, progress, said = Found(), Progress(effort), Counter[str]()
    with caged(effort) as cage:
        reading = Reading(effort, cage, found)
        named, paths = list(_hostile_media.NAMED), list(_hostile_media.PATHS)
        if effort.n < len(named) + len(paths):  # some of each
            named, paths = named[:: max(1, 2 * len(named) // effort.n)], paths[:: max(1, 2 * len(paths) // effort.n)]
        for turn in range(effort.n):
            if turn < len(named):
                what = _named_medium(reading, named[turn])
            elif turn < len(named) + len(paths):
                what = _named_path(reading, paths[turn - len(named)])
            else:
                what = _spoilt_medium(reading, effort, turn)
            said[what] += 1
            progress(turn + 1)
        found.figures |= {"named": len(named), "paths": len(paths), **said, "cage_starts": cage.starts}
    found.figures |= {"most_mb": round(reading.megabytes), "slowest_s": round(reading.seconds, 1)}
    return found


def _described(reading: Reading, kind: str, path: Path, what: str, refused: bool | None, **values: str) -> str:
    outcome = reading.asked("described", path, kind=kind, cache=str(path.parent / "cache"), **values)
    answer, faults = outcome.answer or {}, []
    if outcome.kind == "refused":  # by an exception of ours: it would end all other values of the column
        faults.append(f"one value stops all: {outcome.said}")
        outcome.kind = "done"
    if answer.get("mixed"):
        faults.append("the vector holds what is infinite")
    if answer and refused is not None and bool(answer["refused"]) != refused:
        faults.append(f"it was {'' if answer['refused'] else 'not '}refused {answer['refused']}")
    reading.note(outcome, path, what, *faults)
    return "refused" if answer.get("refused") else "empty" if answer.get("none") else outcome.kind


def _named_medium(reading: Reading, name: str) -> str:
    one = _hostile_media.NAMED[name]
    return _described(reading, one.kind, reading.file("medium", one.content()), name, one.refused)


def _named_path(reading: Reading, name: str) -> str:
    """Name a file in a column, which is read below a root and nowhere else."""
    secret = reading.folder / "secret.png"
    secret.write_bytes(_hostile_media.NAMED["image: one pixel"].content())
    root = reading.file("text.zip", b"no zip").parent
    (root / "bomb.zip").write_bytes(_hostile_media.bomb_zip())
    (root / "link.png").symlink_to(secret)
    os.mkfifo(root / "pipe.png")
    value = _hostile_media.PATHS[name]
    return _described(reading, "image", root / "text.zip", f"path {name}", True, value=value, root=str(root))


def _spoilt_medium(reading: Reading, effort: Effort, turn: int) -> str:
    rng = effort.rng(turn)
    name = str(rng.choice(_hostile_media.BASES))
    one = _hostile_media.NAMED[name]
    path = reading.file("medium", mutated(one.content(), rng))
    return _described(reading, one.kind, path, f"try {turn}, {name}", None)
