"""What faults.py and security.py share: stages that try to break bowerbird, and the dated rows of what came of it.

A stage is a function from an `Effort` to what it `Found`, under the name, promise and number of tries of its `stage`
decorator. Stages of a benchmark run one after the other; each whole one is a row of results/, so that a run that was
cut off goes on where it was. A seed replays a stage. `--scale 0.01` makes a hundredth of the tries, for tests.
"""

import argparse
import json
import math
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

import _shared

TOLD = 5  # of what went wrong, in a row
EVERY_S = 5.0  # between two lines of progress
HERE: dict[str, Any] = {"cwd": Path(__file__).parent, "capture_output": True, "text": True}


@dataclass(frozen=True)
class Effort:
    """How hard a stage tries, and where it may write."""

    n: int  # tries
    seed: int
    folder: Path  # empty, and gone after the stage

    def rng(self, *place: int) -> np.random.Generator:
        """Return the random stream of one place in the stage, such as a try: the same for the same seed."""
        return np.random.default_rng([self.seed, *place])


@dataclass
class Found:
    """What came of a stage. A try that went as promised passed; any other went wrong."""

    tried: int = 0
    wrong: int = 0
    figures: dict[str, Any] = field(default_factory=dict)
    told: list[str] = field(default_factory=list)  # the first that went wrong, each with what replays it

    def note(self, *faults: str) -> None:
        """Count one try, which went wrong where it has faults."""
        self.tried += 1
        if faults:
            self.wrong += 1
            self.told = [*self.told, *faults][:TOLD]

    def add(self, name: str, value: float) -> None:
        """Add to a figure that is a sum."""
        self.figures[name] = self.figures.get(name, 0) + value


@dataclass(frozen=True)
class Stage:
    """One way of breaking things."""

    name: str
    promise: str  # what is held against it, in the words of the page
    n: int  # tries of a whole run
    run: Callable[[Effort], Found]


@dataclass
class Stages:
    """The stages of a benchmark, in the order in which they were declared."""

    all: dict[str, Stage] = field(default_factory=dict)

    def __call__(self, name: str, promise: str, n: int) -> Callable[[Callable[[Effort], Found]], Stage]:
        """Declare a stage."""

        def keep(run: Callable[[Effort], Found]) -> Stage:
            assert name not in self.all, f"two stages are named {name}"
            self.all[name] = Stage(name, promise, n, run)
            return self.all[name]

        return keep


class Progress:
    """Says now and then, on standard error, how far a stage is."""

    def __init__(self, effort: Effort, what: str = "tries") -> None:
        self.of, self.what, self.next = effort.n, what, time.monotonic() + EVERY_S

    def __call__(self, done: int) -> None:
        """Say it where it is time."""
        if time.monotonic() >= self.next:
            self.next = time.monotonic() + EVERY_S
            print(f"  {done:,} of {self.of:,} {self.what}", file=sys.stderr, flush=True)


def bound(tried: int, wrong: int) -> str:
    """Return what so many tries tell about how often it goes wrong, at 95 %."""
    if wrong:
        return f"{wrong / tried:.2%}"
    return f"< {min(1.0, 3 / tried):.2g}" if tried else "nothing was tried"


def run_one(one: Stage, seed: int, scale: float) -> dict[str, Any]:
    """Run a stage and return its row."""
    started = time.monotonic()
    with tempfile.TemporaryDirectory(prefix=f"bowerbird-{one.name}-") as folder:
        found = one.run(Effort(max(1, math.ceil(one.n * scale)), seed, Path(folder)))
    return {
        "stage": one.name,
        "promise": one.promise,
        "tried": found.tried,
        "passed": found.tried - found.wrong,
        "wrong": found.wrong,
        "bound": bound(found.tried, found.wrong),
        "figures": found.figures,
        "told": found.told,
        "seed": seed,
        "scale": scale,
        "minutes": round((time.monotonic() - started) / 60, 2),
        "machine": _shared.machine(1),
        "versions": _shared.versions(),
        "commit": commit(),
        "date": datetime.now(UTC).strftime("%Y-%m-%d"),
    }


def commit() -> str:
    """Return the last commit of the code, with a plus sign where it was changed since; empty where unknown."""
    code = ["--", ":/src", ":/benchmarks/*.py"]
    try:
        last = subprocess.run(["git", "log", "-1", "--format=%h", "--abbrev=12", *code], **HERE)
        changed = subprocess.run(["git", "status", "--porcelain", *code], **HERE)
    except OSError:
        return ""
    return last.stdout.strip() + ("+" if changed.stdout else "")


def kept(benchmark: str) -> dict[str, dict[str, Any]]:
    """Return the newest kept row of each stage."""
    path = _shared.RESULTS / f"{benchmark}.jsonl"
    lines = path.read_text().splitlines() if path.exists() else []
    return {row["stage"]: row for row in map(json.loads, lines)}


def options_of(description: str, words: Sequence[str] | None = None) -> argparse.Namespace:
    """Return the options of a benchmark that breaks things."""
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("--stages", default="", help="names with commas between them; without it all")
    parser.add_argument("--seed", type=int, default=0, help="replays a run")
    parser.add_argument("--scale", type=float, default=1.0, help="share of the tries of a whole run")
    parser.add_argument("--save", action="store_true", help="append rows to results/ and skip what this commit has")
    parser.add_argument("--limit-seconds", type=float, default=math.inf, help="begin no stage after this long")
    parser.add_argument("--json", action="store_true", help="print one JSON object as the last line")
    parser.add_argument("--table", action="store_true", help="print the kept rows, and end")
    return parser.parse_args(words)


def main(
    benchmark: str, stages: Stages, options: argparse.Namespace, **keys: Callable[[list[dict[str, Any]]], Any]
) -> int:
    """Run the stages that are asked for; return 1 where something went wrong, 2 for a stage that is none.

    `keys` are what the last line says beside the rows, each from all rows.
    """
    if options.table:
        show(list(kept(benchmark).values()))
        return 0
    names = options.stages.split(",") if options.stages else list(stages.all)
    if strange := [name for name in names if name not in stages.all]:
        print(f"--stages names {strange[0]!r}; there are {', '.join(stages.all)}.", file=sys.stderr)
        return 2
    there = kept(benchmark) if options.save else {}
    end, rows = time.monotonic() + options.limit_seconds, list[dict[str, Any]]()
    for name in names:
        row = there.get(name)
        if row is None or (row["commit"], row["seed"], row["scale"]) != (commit(), options.seed, options.scale):
            if time.monotonic() > end:
                print(f"{options.limit_seconds:g} s are over; {name} and what follows were not begun.", file=sys.stderr)
                break
            print(f"{name}: {stages.all[name].promise}", file=sys.stderr, flush=True)
            row = run_one(stages.all[name], options.seed, options.scale)
            if options.save:
                with open(_shared.RESULTS / f"{benchmark}.jsonl", "a") as file:
                    file.write(json.dumps(row, ensure_ascii=False) + "\n")
        show([row])
        rows.append(row)
    wrong = sum(row["wrong"] for row in rows)
    if options.json:
        whole = {"benchmark": benchmark, "tried": sum(row["tried"] for row in rows), "wrong": wrong}
        print(json.dumps(whole | {key: make(rows) for key, make in keys.items()} | {"rows": rows}))
    return 1 if wrong else 0


def total(figure: str) -> Callable[[list[dict[str, Any]]], float]:
    """Return what adds up a figure over the rows that have it, but for those of control runs, which are to lose."""
    return lambda rows: sum(row["figures"].get(figure, 0) for row in rows if not row["promise"].startswith("Control"))


def show(rows: Sequence[dict[str, Any]]) -> None:
    """Print rows for people."""
    for row in rows:
        figures = ", ".join(f"{name} {_short(value)}" for name, value in row["figures"].items())
        print(
            f"{row['stage']:>20}  tried {row['tried']:>9,}  passed {row['passed']:>9,}  wrong {row['wrong']:>3,}  "
            f"{row['minutes']:6.2f} min  {figures}",
            flush=True,
        )
        for line in row["told"]:
            print(f"{'':>20}  {line}")


def _short(value: Any) -> str:
    return f"{value:,}" if isinstance(value, int) else f"{value:.4g}" if isinstance(value, float) else str(value)
