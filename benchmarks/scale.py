"""Training on several workers, and a million people on this machine.

- `ray`: a compute-bound dcnv2 on made columns, by one and by two workers of one thread each, under Ray and under plain
  torchrun, in turn; medians of the seconds that the loop took, without starting. `speedup` is Ray's one over Ray's two,
  `overhead` what Ray's two take beyond torchrun's two. `cpu_speedup` counts a worker's processor seconds, in which it
  does not wait: on a machine that others use, it tells how well the work is shared out.
- `kill`: one of two workers is killed in the middle of an epoch; what that cost.
- `encode`: 50,000,000 rows with texts as ids, in 25 Parquet files, become codes: here, and by Ray's tasks.
- `million`: 1,000,000 people, 200,000 items and the same events: read, split, trained on (two towers), measured on
  10,000 people, saved and served; a row for each step stands under `steps`.

Everything is kept in `--data`: a run that was ended goes on, and what is there is not measured again; `--again TASK`
does. The environment with Ray is made by the Makefile.
"""

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import _scale_world
import _shared
from bowerbird.core import BowerbirdError

HERE = Path(__file__).parent
RAY = HERE.parent / ".venv-ray"
TASKS = ("ray", "kill", "encode", "million")
MODEL = "twotower"
SETTINGS = {"dim": 32, "hidden": 32, "epochs": 1, "batch_size": 1_024, "loss": "in_batch", "learning_rate": 0.01}


class Bench:
    """What is measured in one folder."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.options, self.folder = options, Path(options.data)
        self.folder.mkdir(parents=True, exist_ok=True)

    @property
    def world(self) -> Path:
        """The folder of the made events."""
        sizes = self.options.rows, self.options.users, self.options.items
        return _scale_world.make(self.folder / f"world-{'-'.join(map(str, sizes))}", *sizes)

    def ray(self) -> dict[str, float]:
        """Measure speed-up and overhead."""
        out = self.folder / "laps.json"
        self._with_ray("laps", out, str(self.options.runs), str(self.options.steps))
        held = json.loads(out.read_text())
        median, cpu = (
            {kind: statistics.median(lap[key] for lap in each) for kind, each in held.items()}
            for key in ("seconds", "cpu_seconds")
        )
        return {
            "cpu_speedup": cpu["ray 1"] / cpu["ray 2"],
            "speedup": median["ray 1"] / median["ray 2"],
            "overhead": median["ray 2"] / median["torchrun 2"] - 1,
            "torchrun_speedup": median["torchrun 1"] / median["torchrun 2"],
            "laps": float(min(map(len, held.values()))),
            **{f"{kind.replace(' ', '_')}_s": seconds for kind, seconds in median.items()},
        }

    def kill(self) -> dict[str, float]:
        """Measure what losing a worker costs."""
        out = self.folder / "kill.json"
        if not out.exists():
            shutil.rmtree(out.with_suffix(""), ignore_errors=True)
            self._with_ray("kill", out, str(self.options.steps))
        found: dict[str, float] = json.loads(out.read_text())
        return found

    def encode(self) -> dict[str, float]:
        """Measure how long codes take."""
        here, there = self.folder / "encode.json", self.folder / "encode-ray.json"
        world = str(self.world)
        if not here.exists():
            shutil.rmtree(here.with_suffix(""), ignore_errors=True)
            code = f"from bowerbird.data import encode; encode({world!r}, {str(here.with_suffix(''))!r})"
            started = time.perf_counter()
            subprocess.run([sys.executable, "-c", code], check=True)
            here.write_text(json.dumps({"seconds": time.perf_counter() - started}))
            shutil.rmtree(here.with_suffix(""))
        if not there.exists():
            shutil.rmtree(there.with_suffix(""), ignore_errors=True)
            self._with_ray("encode", there, world)
            shutil.rmtree(there.with_suffix(""))
        seconds = [json.loads(path.read_text())["seconds"] for path in (here, there)]
        return {"seconds": seconds[0], "ray_seconds": seconds[1], "rows": float(self.options.rows)}

    def million(self) -> dict[str, float]:
        """Take the world through the house."""
        folder = self.folder / "million"
        if not (folder / "done").exists():
            world = self.world
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir()
            words = [str(HERE / "_scale_world.py"), str(world), str(folder), MODEL, json.dumps(SETTINGS)]
            subprocess.run([sys.executable, *words, str(self.options.threads)], check=True)
            (folder / "done").touch()
        steps = json.loads((folder / "steps.json").read_text())
        told = {f"{row['step']}_s": row["seconds"] for row in steps}
        return told | {"memory_mb": max(row["memory_mb"] for row in steps)}

    def steps(self) -> list[dict[str, Any]]:
        """Return a row for each step of a million people."""
        path = self.folder / "million" / "steps.json"
        found: list[dict[str, Any]] = json.loads(path.read_text()) if path.exists() else []
        return found

    def _with_ray(self, *words: str | Path) -> None:
        """Run `_scale_ray.py` in the environment that has Ray."""
        subprocess.run(["make", "--quiet", ".venv-ray/.installed"], check=True, cwd=HERE.parent)
        path = os.pathsep.join([str(HERE.parent / "src"), str(HERE)])
        env = os.environ | {"PYTHONPATH": path, "OMP_NUM_THREADS": "1"}
        command = [str(RAY / "bin" / "python"), str(HERE / "_scale_ray.py"), *map(str, words)]
        subprocess.run(command, check=True, env=env)


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """Measure what `--tasks` names; return the row."""
    bench = Bench(options)
    for name in options.again.split(",") if options.again else ():
        if name not in TASKS:
            raise BowerbirdError(f"--again names {name!r}; there are {', '.join(TASKS)}.")
        for path in bench.folder.glob({"ray": "laps*", "million": "million/done"}.get(name, f"{name}*.json")):
            path.unlink()
    tasks: dict[str, Callable[[], dict[str, float]]] = {name: getattr(bench, name) for name in TASKS}
    load = os.getloadavg()[0]
    return {
        "benchmark": "scale",
        "model": MODEL,
        "protocol": f"rows={options.rows} users={options.users} items={options.items} laps={options.runs} "
        f"steps={options.steps} seed={_scale_world.SEED} load_before={load:.1f}",
        "seeds": [_scale_world.SEED],
        **_shared.tasked(options, tasks),
        "steps": bench.steps(),
        "settings": SETTINGS,
    }


def options_of(words: list[str] | None = None) -> argparse.Namespace:
    """Return the shared options and those of this benchmark."""
    parser = _shared.parser(__doc__ or "")
    parser.add_argument("--tasks", default=",".join(TASKS), help=f"of {', '.join(TASKS)}, with commas")
    parser.add_argument("--again", default="", help="tasks that are measured once more, with commas")
    parser.add_argument("--runs", type=int, default=5, help="laps of each kind of training")
    parser.add_argument("--steps", type=int, default=20, help="of a training, 4,096 rows each")
    parser.add_argument("--rows", type=int, default=50_000_000)
    parser.add_argument("--users", type=int, default=1_000_000)
    parser.add_argument("--items", type=int, default=200_000)
    options = parser.parse_args(words)
    options.data = options.data or str(Path(tempfile.gettempdir()) / "bowerbird-scale")
    return options


if __name__ == "__main__":
    sys.exit(_shared.main(options_of(), measure))
