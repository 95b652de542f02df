"""Trainings of `scale.py` under Ray and under torchrun, in turn, in the environment that has Ray; laps go to a file."""

import json
import os
import subprocess
import sys
import time
from functools import partial
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
KILLED_AFTER, EPOCHS = 2, 4  # of the training that loses a worker


def laps(out: Path, runs: int, steps: int) -> None:
    """Add laps to what `out` holds until each kind has `runs` of them."""
    import _scale_work
    from bowerbird.distributed import cluster

    held: dict[str, list[dict[str, float]]] = json.loads(out.read_text()) if out.exists() else {}
    for lap in range(runs):
        for place, kind in enumerate(("ray 1", "torchrun 2", "ray 2", "torchrun 1")[:: 1 if lap % 2 else -1]):
            name, workers = kind.split()
            mine = held.setdefault(kind, [])
            if len(mine) > lap:
                continue
            if name == "ray":
                told: Any = cluster.train(partial(_scale_work.train, steps), int(workers))
            else:
                told = _torchrun(int(workers), steps, out.with_suffix(f".{place}"))
            mine.append({key: told[key] for key in ("seconds", "cpu_seconds")})
            out.write_text(json.dumps(held))
            print(kind, told, os.getloadavg(), file=sys.stderr, flush=True)


def _torchrun(workers: int, steps: int, out: Path) -> Any:
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(workers)]
    subprocess.run([*command, str(HERE / "_scale_work.py"), str(steps), str(out)], check=True)
    return json.loads(out.read_text())


def kill(out: Path, steps: int) -> None:
    """Lose one of two workers in the middle of an epoch; write what that cost."""
    import _scale_work
    from bowerbird.distributed import cluster

    folder = out.with_suffix("")
    folder.mkdir(parents=True)
    told = cluster.train(partial(_scale_work.lose_one, str(folder), steps, EPOCHS, KILLED_AFTER), 2)
    ends = [json.loads(line) for line in (folder / "ends.jsonl").read_text().splitlines()]
    killed = float((folder / "killed").read_text())
    kept = max(one["time"] for one in ends if one["time"] < killed)
    epoch = told["seconds"] / EPOCHS
    out.write_text(json.dumps({
        "ended": 1.0, "epochs": float(len(told["loss"])), "went_on_after": float(told["resumed_from"]),
        "lost_s": killed - kept, "epoch_s": epoch, "lost_epochs": (killed - kept) / epoch,
        "again_s": min(one["time"] for one in ends if one["time"] > killed) - killed,
    }))  # fmt: skip


def encode(source: str, out: Path) -> None:
    """Encode the world's parts by Ray's tasks; write the seconds."""
    from bowerbird.data import encode
    from bowerbird.distributed import cluster

    started = time.perf_counter()
    encode(source, out.with_suffix(""), run=cluster.tasks)
    out.write_text(json.dumps({"seconds": time.perf_counter() - started}))


def main(task: str, out: str, *more: str) -> None:
    """Start Ray with two CPUs, and do one task."""
    from bowerbird.distributed import cluster

    os.environ["RAY_worker_niceness"] = "0"  # noqa: SIM112  as torchrun's workers
    os.environ["PYTHONPATH"] = os.pathsep.join([str(HERE), *sys.path])
    with cluster.started(2):
        if task == "laps":
            laps(Path(out), int(more[0]), int(more[1]))
        elif task == "kill":
            kill(Path(out), int(more[0]))
        else:
            encode(more[0], Path(out))


if __name__ == "__main__":
    main(*sys.argv[1:])
