"""What every benchmark shares: its options, its last line of JSON, its bars, its dated rows, and the log of test looks.

A benchmark reports validation; `--report test` reports test and appends the look to results/test_looks.jsonl.
"""

import argparse
import hashlib
import inspect
import json
import os
import platform
import re
import resource
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch

import bowerbird
from bowerbird.core import BowerbirdError
from bowerbird.training import Adam, Batches, Training

RESULTS = Path(__file__).parent / "results"
BAR = re.compile(r"^\s*([\w@.+-]+)\s*(>=|<=)\s*([-+0-9.eE]+)\s*$")


def parser(description: str) -> argparse.ArgumentParser:
    """Return a parser with the options that all benchmarks share."""
    options = argparse.ArgumentParser(description=description)
    options.add_argument("--data", help="a folder or file in the format this benchmark reads")
    options.add_argument("--model", default="lightgcn", help="a name from `bowerbird models`")
    options.add_argument("--recipe", help="a TOML file whose [model] section sets hyper-parameters")
    options.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="a hyper-parameter")
    options.add_argument("--seeds", default="0", help="how many, or which ones with commas: 3 is 0,1,2")
    options.add_argument("--threads", type=int, default=2)
    options.add_argument("--limit-seconds", type=float, default=1800.0, help="stop training after this long and say so")
    options.add_argument("--report", choices=("valid", "test"), default="valid")
    options.add_argument(
        "--require", action="append", default=[], metavar="METRIC>=VALUE", help="a bar; exit 1 below it"
    )
    options.add_argument("--json", action="store_true", help="print one JSON object as the last line")
    options.add_argument("--save", action="store_true", help="append the row to results/")
    options.add_argument("--table", action="store_true", help="print the kept rows beside published figures, and end")
    return options


def main(options: argparse.Namespace, measure: Callable[[argparse.Namespace], dict[str, Any]]) -> int:
    """Run a benchmark: print its row, keep it where asked, and return the exit status its bars call for.

    `--table` prints the rows that were kept, unless the benchmark has a table of its own.
    """
    if options.table:
        return table(Path(inspect.getfile(measure)).stem, {})
    if not options.data:
        print("--data is needed: a folder or file in the format this benchmark reads.", file=sys.stderr)
        return 2
    torch.set_num_threads(options.threads)
    try:
        bars = [_bar(text) for text in options.require]
        row = measure(options)
    except (BowerbirdError, OSError) as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
        return 2
    row = {"memory_mb": peak_memory_mb()} | row  # of this process, unless a benchmark measured another
    row |= {"machine": machine(options.threads), "versions": versions()}
    row["date"] = datetime.now(UTC).strftime("%Y-%m-%d")
    if options.report == "test":
        _log_look(row)
    if options.save:
        with open(RESULTS / f"{row['benchmark']}.jsonl", "a") as file:
            file.write(json.dumps(row) + "\n")
    _show(row)
    try:
        failed = [text for text, *bar in bars if not _holds(row, *bar)]
    except BowerbirdError as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
        return 2
    for text in failed:
        print(f"bar not reached: {text}", file=sys.stderr)
    if options.json:
        print(json.dumps(row))
    return 1 if failed else 0


def kept(benchmark: str) -> list[dict[str, Any]]:
    """Return the rows of a benchmark that were kept, oldest first."""
    path = RESULTS / f"{benchmark}.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def figures(benchmark: str, published: Mapping[str, float] | None = None, note: str = "") -> int:
    """Print every kept row of a benchmark with many figures, one a line, beside what is published."""
    for row in kept(benchmark):
        print(f"{row['date']}  {row['report']}  {row['protocol']}")
        for key, value in row["metrics"].items():
            said = f"   published {published[key]:.4f}{note}" if published and key in published else ""
            print(f"{key:>44}  {value:12.4f}{said}")
    return 0


def tasked(
    options: argparse.Namespace, tasks: Mapping[str, Callable[[], Mapping[str, float]]], **said: Any
) -> dict[str, Any]:
    """Run the tasks that `--tasks` names, and return one row of all, with what else it is to say."""
    names = options.tasks.split(",")
    if strange := [name for name in names if name not in tasks]:
        raise BowerbirdError(f"--tasks names {strange[0]!r}; there are {', '.join(tasks)}.")
    metrics: dict[str, float] = {}
    seconds: dict[str, float] = {}
    for name in names:
        started = time.perf_counter()
        metrics |= {f"{name}.{key}": value for key, value in tasks[name]().items()}
        seconds[name] = time.perf_counter() - started
    asked = {"tasks": options.tasks, "runs": options.runs}
    return {
        "data": options.tasks,
        "config": asked,
        "config_sha256": hashlib.sha256(json.dumps(asked, sort_keys=True).encode()).hexdigest(),
        "report": "valid",
        "metrics": metrics,
        "seconds": seconds,
        **said,
    }


def table(
    benchmark: str,
    published: Mapping[tuple[str, str], Mapping[str, float]],
    bars: Mapping[tuple[str, str], Mapping[str, float]] | None = None,
) -> int:
    """Print every kept row of a benchmark, with the published figures of its (data, model) below its own.

    Returns 1 where the newest row on test of a (data, model) misses a bar of its.
    """
    rows = kept(benchmark)
    for row in rows:
        told = row["metrics"] or row["seconds"]
        figures = ", ".join(f"{name} {value:.4f}" for name, value in told.items())
        print(f"{row['date']}  {row['data']}  {row['model']}  {row['report']}  {figures}")
        print(f"            {row['protocol']}")
        there = published.get((row["data"], row["model"]), {})
        if there:
            print(
                "            published, on test: " + ", ".join(f"{name} {value:.4f}" for name, value in there.items())
            )
        for name, peer in row.get("peers", {}).items():
            print(f"            {name}: " + ", ".join(f"{key} {value}" for key, value in peer.items()))
    newest = {(row["data"], row["model"]): row["metrics"] for row in rows if row["report"] == "test"} if bars else {}
    missed = [
        f"{data} {model}: {name} {newest[data, model][name]:.4f} < {bar}"
        for (data, model), wanted in (bars or {}).items()
        if (data, model) in newest
        for name, bar in wanted.items()
        if newest[data, model][name] < bar
    ]
    for line in missed:
        print(f"bar not reached: {line}", file=sys.stderr)
    return 1 if missed else 0


def settings(pairs: Sequence[str]) -> dict[str, str]:
    """Return KEY=VALUE pairs as a mapping."""
    for pair in pairs:
        if "=" not in pair:
            raise BowerbirdError(f"--set {pair} has no value. Write --set key=value.")
    return dict(pair.split("=", 1) for pair in pairs)


def seeds(text: str) -> list[int]:
    """Return the numbers that stand in a text with commas between them; a number alone, if not 0, is how many."""
    try:
        found = [int(seed) for seed in text.split(",")]
    except ValueError:
        raise BowerbirdError(f"--seeds is {text!r}; write numbers with commas, such as 0,1,2.") from None
    return list(range(found[0])) if len(found) == 1 and found[0] > 0 else found


def peak_memory_mb() -> float:
    """Return the largest resident size of this process so far."""
    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, 1)


def machine(threads: int) -> str:
    """Return what ran this: cores, threads, architecture."""
    return f"{os.cpu_count()} cores, {threads} threads, {platform.machine()}, {platform.system()}"


def versions() -> dict[str, str]:
    """Return the versions that matter."""
    return {"bowerbird": bowerbird.__version__, "torch": torch.__version__, "python": platform.python_version()}


def sha256(paths: Sequence[Path]) -> str:
    """Return the checksum over the bytes of these files, in order."""
    digest = hashlib.sha256()
    for path in paths:
        digest.update(path.read_bytes())
    return digest.hexdigest()


def laps(net: Any, optimiser: Adam, batches: Batches, n: int) -> list[float]:
    """Return the seconds of `n` training steps: forward, backward and optimiser, without cutting the batch."""
    found = []
    for step in range(n):
        batch = batches.batch(0, step % len(batches), (0, 1))
        started = time.perf_counter()
        optimiser.zero_grad()
        torch.autograd.backward(torch.dot(net.loss(batch), batch.weight / batch.weight.sum()))
        optimiser.step()
        found.append(time.perf_counter() - started)
    return found


class Limit:
    """Ends training with Ctrl-C's exception once a number of seconds has passed; the loop keeps the best so far."""

    def __init__(self, seconds: float) -> None:
        self.end = time.monotonic() + seconds
        self.reached = False

    def __call__(self, training: Training | None = None) -> None:
        """Say how far a training is; raise when the time is over."""
        if training is not None:
            said = ", ".join(f"{name} {value:.4f}" for name, value in training.curve[-1].items() if name != "epoch")
            print(f"epoch {training.epochs}, {training.seconds:.0f} s: {said}", file=sys.stderr, flush=True)
        if time.monotonic() > self.end:
            self.reached = True
            raise KeyboardInterrupt


def holds(row: dict[str, Any], bar: str) -> bool:
    """Return whether a kept row keeps a bar, written as `--require` takes it."""
    return _holds(row, *_bar(bar)[1:])


def _bar(text: str) -> tuple[str, str, str, float]:
    found = BAR.match(text)
    if found is None:
        raise BowerbirdError(f"--require {text!r} is no bar. Write it as 'recall@20>=0.18'.")
    return text, found[1], found[2], float(found[3])


def _holds(row: dict[str, Any], name: str, sign: str, value: float) -> bool:
    place: Any = row["metrics"] if name in row["metrics"] else row
    for part in [name] if name in row["metrics"] else name.split("."):
        if part not in place:
            raise BowerbirdError(f"--require names {name}, which this benchmark does not report.")
        place = place[part]
    return bool(place >= value if sign == ">=" else place <= value)


def _log_look(row: dict[str, Any]) -> None:
    kept = {key: row[key] for key in ("date", "benchmark", "data", "model", "config_sha256", "seeds", "metrics")}
    with open(RESULTS / "test_looks.jsonl", "a") as file:
        file.write(json.dumps(kept) + "\n")


def _show(row: dict[str, Any]) -> None:
    print(row["protocol"])
    for name, value in row["metrics"].items():
        spread = row.get("sd", {}).get(name)
        print(f"{name:>20}  {value:.4f}" + (f"  sd {spread:.4f}" if spread else ""))
    seconds = ", ".join(f"{name} {value:.2f} s" for name, value in row["seconds"].items())
    print(f"{seconds}; {row.get('rows_per_s', 0):,.0f} rows/s; {row['memory_mb']:,.0f} MB at the peak")
