"""The watch on drift: false alarms where nothing changes, delays where something does, and models kept over real years.

`--parts` names, with commas, some of:

- `quiet`: 1,000 windows of 1,000 rows without change, 30 series and more watched together; the share with any alarm;
- `injected`: changes that are sudden, gradual or recurring at a known moment, `--seeds` of them (20); the share that is
  found within the delay that is stated (`within`, in rows), and delays;
- `years`: three data sets with times (`--sets`), in `--data` or where $BOWERBIRD_DATA says. A model that is trained
  once decays; beside it one that is trained again when the watch alarms, one by schedule, and one after every period.

Bars, as they are stated in docs/drift.md: `--require quiet.windows<=0.01 --require quiet.streams<=0.01`, and for each
kind `--require sudden.windows.found>=0.95`; `--bars` asks for all that belong to the parts.
"""

import argparse
import hashlib
import json
import os
import sys
import time
from pathlib import Path
from typing import Any

import _drift_worlds as worlds
import _drift_years as years
import _shared
from bowerbird.core import BowerbirdError

PARTS = ("quiet", "injected", "years")
MOST_ALARMS, LEAST_FOUND = 0.01, 0.95


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """Run the parts that are asked for; return one row of all."""
    parts, sets = options.parts.split(","), options.sets.split(",")
    if strange := [name for name in parts if name not in PARTS]:
        raise BowerbirdError(f"--parts names {strange[0]!r}; there are {', '.join(PARTS)}.")
    seeds = _shared.seeds(options.seeds)
    metrics: dict[str, float] = {}
    seconds: dict[str, float] = {}
    told: dict[str, Any] = {}
    for name in parts:
        started, used = time.perf_counter(), time.process_time()
        if name == "quiet":
            metrics |= worlds.quiet(options.windows)
        elif name == "injected":
            metrics |= worlds.injected(len(seeds))
        else:
            if options.data == "-":
                raise BowerbirdError("--parts years needs data: give --data FOLDER, or set BOWERBIRD_DATA.")
            found, curves = years.years(sets, Path(options.data), options.model, seeds[0])
            metrics |= found
            told = {
                name: {"alarms": dict(zip(one["alarms"], one["said"], strict=True)), "periods": one["rows"]}
                for name, one in curves.items()
            }
            if options.picture:
                years.draw(curves, Path(options.picture))
        seconds |= {name: time.perf_counter() - started, f"{name}, of the processor": time.process_time() - used}
    asked = {"parts": options.parts, "sets": options.sets if "years" in parts else "", "windows": options.windows}
    return {
        "benchmark": "drift",
        "data": options.sets if "years" in parts else "drawn",
        "model": options.model if "years" in parts else "watch",
        "config": asked,
        "config_sha256": hashlib.sha256(json.dumps(asked, sort_keys=True).encode()).hexdigest(),
        "protocol": f"parts={options.parts}" + (f" sets={options.sets} prequential" if "years" in parts else ""),
        "report": "valid",
        "seeds": seeds,
        "metrics": metrics,
        "told": told,
        "seconds": seconds,
    }


def bars(parts: str) -> list[str]:
    """Return what the parts have to hold."""
    quiet = [f"quiet.{by}<={MOST_ALARMS}" for by in ("windows", "tests_alone", "streams")]
    found = [f"{kind}.{by}.found>={LEAST_FOUND}" for kind in worlds.WITHIN for by in ("windows", "streams")]
    return (quiet if "quiet" in parts else []) + (found if "injected" in parts else [])


def options_of(words: list[str] | None = None) -> argparse.Namespace:
    """Return the options of the command line."""
    options = _shared.parser(__doc__ or "")
    options.set_defaults(data=os.environ.get("BOWERBIRD_DATA") or "-", threads=1, model="itemknn", seeds="20")
    options.add_argument("--parts", default="quiet,injected", help="with commas between them")
    options.add_argument("--sets", default=",".join(years.PLANS), help="of years, with commas between them")
    options.add_argument("--windows", type=int, default=1_000, help="of quiet")
    options.add_argument("--picture", help="of years: a file to draw NDCG by period into")
    options.add_argument("--bars", action="store_true", help="ask for what docs/drift.md states")
    found = options.parse_args(words)
    found.require = found.require + (bars(found.parts) if found.bars else [])
    return found


def table() -> int:
    """Print the kept rows."""
    return _shared.figures("drift")


if __name__ == "__main__":
    options = options_of()
    sys.exit(table() if options.table else _shared.main(options, measure))
