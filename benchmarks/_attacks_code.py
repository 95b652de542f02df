"""The sources through the gate, and their parsers under coverage-guided fuzzing."""

import base64
import os
import re
import subprocess
import sys
import time
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import _breaking
from _breaking import Effort, Found, Progress
from _fuzz import TARGETS
from _gate import ALLOWED, faults_of, sources

stages = _breaking.Stages()

FUZZ = [Path(__file__).with_name("_fuzz.py")]
MEGABYTES, SLOW_S = 4_096, 10  # that one input may take
START_S = 300.0  # to import and to instrument
SHOWN = 600  # letters of an input that is told


@stages(
    "syntax_gate",
    "no source reads pickles, runs texts or shells, or reaches the network, but for a few that are named",
    n=1,
)
def syntax_gate(effort: Effort) -> Found:
    found = Found()
    for name, source in sources().items():
        found.note(*faults_of(source, name))
    found.figures |= {kind.replace(" ", "_"): len(names) for kind, names in ALLOWED.items()}
    assert faults_of("import pickle", "x.py"), "the gate is blind"
    return found


@stages(
    "fuzz",
    "whatever bytes a parser is given, it returns or raises an error of ours: coverage-guided, seconds as tries",
    n=120,
)
def fuzz(effort: Effort) -> Found:
    found = Found()
    if find_spec("atheris") is None:
        found.figures["atheris"] = "is not installed (pip install bowerbird[fuzz])"
        return found
    names = list(TARGETS)[: max(1, effort.n // 2)]
    progress = Progress(replace(effort, n=len(names)), "targets")
    for place, name in enumerate(names):
        folder = effort.folder / name
        folder.mkdir()
        _fuzzed(name, folder, effort, max(1.0, effort.n / len(names)), found)
        progress(place + 1)
    found.figures["targets"] = len(names)
    return found


def _fuzzed(name: str, folder: Path, effort: Effort, seconds: float, found: Found) -> None:
    """Fuzz one target for so long; after an input that ends the process, go on with another seed."""
    end, ran, turn = time.monotonic() + seconds, 0, 0
    while turn == 0 or (time.monotonic() < end and turn < 5):
        left = max(1, round(end - time.monotonic() if turn else seconds))
        told, hung = _once(name, folder, left, effort.seed + turn + 1)
        executed = re.search(r"stat::number_of_executed_units:\s*(\d+)", told) or re.search(r"#(\d+)\s+DONE", told)
        n = int(executed[1]) if executed else 0
        ran += n
        inputs = sorted(folder.glob("crash-*")) + sorted(folder.glob("timeout-*")) + sorted(folder.glob("oom-*"))
        for path in inputs:
            data = base64.b64encode(path.read_bytes()).decode()[:SHOWN]
            last = [line for line in told.splitlines() if re.match(r"[A-Za-z_.]+(Error|Exception|Panic)", line)]
            found.note(f"{name}: {path.name.split('-')[0]} {last[-1:]} on {data}")
            path.unlink()
        if not inputs and not n:
            found.note(f"{name}: it did not run{' in time' * hung}: {told[-300:]}")
        turn += 1
        if not inputs:
            break
    found.tried += ran
    found.figures[name] = ran


def _once(name: str, folder: Path, seconds: int, seed: int) -> tuple[str, bool]:
    options = [
        f"-max_total_time={seconds}", f"-seed={seed}", f"-artifact_prefix={folder}/", f"-timeout={SLOW_S}",
        f"-rss_limit_mb={MEGABYTES}", "-max_len=4096", "-print_final_stats=1",
    ]  # fmt: skip
    env = os.environ | {"POLARS_MAX_THREADS": "1", "OMP_NUM_THREADS": "1", "TMPDIR": str(folder)}
    command = [sys.executable, *map(str, FUZZ), name, str(folder), *options]
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=env, text=True, errors="replace"
    )
    try:
        told, _ = process.communicate(timeout=seconds + START_S)
        return told, False
    except subprocess.TimeoutExpired:
        process.kill()
        return process.communicate()[0], True
    finally:
        process.kill()
        process.wait()
