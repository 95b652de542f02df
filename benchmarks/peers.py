"""bowerbird and another library side by side: one split, one machine, d 64, batch 2048, lr 1e-3, 3 layers.

The peer is installed, with pinned versions, in an environment of its own under --peers-home. Both read the same files,
each in its own process, one after the other. `peers.NAME.ratio` says how many times faster an epoch of ours is.
Validation is what both report; `--reach N` also trains our shipped default (another loss) until its validation
Recall@20 is what the peer has after N epochs, and tells the seconds.
"""

import argparse
import hashlib
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import polars as pl

import _shared
from _peer_bowerbird import COMMON
from bowerbird import read, split
from bowerbird.core import BowerbirdError
from bowerbird.data import Split, load
from bowerbird.data.named import cache_folder
from graph import _files

HERE = Path(__file__).parent
PINS = {  # RecBole 1.2.1 uses functions that later numpy and scipy no longer have
    "recbole": ["torch==2.13.0", "recbole==1.2.1", "numpy==1.26.4", "pandas==2.1.4", "scipy==1.11.4", "setuptools<81"],
    "rectools": ["torch==2.13.0", "rectools[torch]==0.19.0"],
    "fuxictr": ["torch==2.13.0", "fuxictr==2.3.10", "scikit-learn"],
}


def environment(peer: str, home: Path) -> Path:
    """Return the peer's interpreter, installing it the first time."""
    folder = home / peer
    python = folder / "bin" / "python"
    if not (folder / "installed").exists():
        print(f"installing {peer} into {folder} ...", file=sys.stderr)
        subprocess.run([os.environ.get("PYTHON", "python3.11"), "-m", "venv", str(folder)], check=True)
        for pins in ([PINS[peer][0]], PINS[peer]):
            subprocess.run([str(python), "-m", "pip", "install", "--quiet", *pins], check=True)
        (folder / "installed").touch()
    return python


def parts_of(data: str) -> Split:
    """Return a folder's published parts, or a table split at random, 80/10/10 of each user's pairs."""
    if Path(data).is_dir():
        files = _files(Path(data))
        tables = {part: read(path, format="lists") for part, path in files.items()}
        return split(tables["train"], test=tables["test"], **({"valid": tables["valid"]} if "valid" in tables else {}))
    return split(load(data), "random", valid=0.1, test=0.1)


def _write(parts: Split, folder: Path) -> str:
    """Write the parts as RecBole's atomic files, in rows; return the checksum of all of them."""
    (folder / "split").mkdir(parents=True)
    paths = []
    for name, part in (("train", parts.train), ("valid", parts.valid.targets), ("test", parts.test.targets)):
        pairs = part.positives
        paths.append(folder / "split" / f"split.{name}.inter")
        table = pl.DataFrame({"user_id:token": pairs.user, "item_id:token": pairs.item})
        table.write_csv(paths[-1], separator="\t")
    return _shared.sha256(paths)


def child(python: str, script: str, spec: dict[str, Any]) -> dict[str, Any]:
    """Run a script of this folder in a process of its own, in the folder that `spec` names; return what it printed."""
    words = [python, str(HERE / script), json.dumps(spec | {"started": time.time()})]
    threads = {name: str(spec["threads"]) for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS") if "threads" in spec}
    ran = subprocess.run(  # RecBole logs there
        words, cwd=spec["folder"], capture_output=True, text=True, check=False, env=os.environ | threads
    )
    if ran.returncode:
        raise BowerbirdError(f"{script} failed: {ran.stderr.strip().splitlines()[-3:]}")
    figures: dict[str, Any] = json.loads(ran.stdout.strip().splitlines()[-1])
    return figures


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """Run ours, the peer, and what is asked for beyond; return the row."""
    python = str(environment(options.peer, Path(options.peers_home)))
    parts = parts_of(options.data)
    with tempfile.TemporaryDirectory() as scratch:
        digest = _write(parts, Path(scratch))
        spec = {
            "folder": scratch, "model": options.model, "threads": options.threads, "seed": 0, "reach": 0.0,
            "epochs": options.epochs, "batches": options.peer_batches,
        }  # fmt: skip
        ours = child(sys.executable, "_peer_bowerbird.py", spec)
        epochs = options.reach or options.epochs
        theirs = child(python, f"_peer_{options.peer}.py", spec | {"epochs": epochs, "batches": options.peer_batches})
        reach = None
        if options.reach:
            target = theirs["curve"][-1]["recall@20"]
            reach = child(sys.executable, "_peer_bowerbird.py", spec | {"reach": target}) | {"target": target}
    peer = {key: value for key, value in theirs.items() if key not in ("curve", "users")}
    row: dict[str, Any] = {
        "benchmark": "peers",
        "data": Path(options.data).name,
        "data_sha256": digest,
        "model": options.model,
        "config": COMMON.get(options.model, {}),
        "config_sha256": hashlib.sha256(json.dumps(COMMON.get(options.model, {})).encode()).hexdigest(),
        "protocol": f"{parts.protocol} part=valid ranking=full masked=train k=20 seeds=0",
        "report": "valid",
        "seeds": [0],
        "metrics": ours["metrics"],
        "users": ours["users"],
        "seconds": {key: ours[key] for key in ("epoch", "evaluate", "first_result")},
        "rows_per_s": len(parts.train.positives) / ours["epoch"],
        "latency_ms": {"recommend": ours["recommend_one_ms"], "scorer": ours["scorer_one_ms"]},
        "memory_mb": ours["memory_mb"],
        "peers": {options.peer: peer | {"ratio": theirs["epoch"] / ours["epoch"]}},
    }
    if theirs["curve"]:
        row["peers"][options.peer]["recall@20 by epoch"] = [one["recall@20"] for one in theirs["curve"]]
    if reach is not None:
        row["seconds"]["reach"] = reach["reach"]
        row["reached"] = {"recall@20": reach["recall@20"], "target": reach["target"], "note": "another loss"}
    return row


if __name__ == "__main__":
    parser = _shared.parser(__doc__)
    parser.add_argument("--peer", choices=["recbole"], default="recbole")
    parser.add_argument("--peers-home", default=str(cache_folder() / "peers"), help="where peers are installed")
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--peer-batches", type=int, default=0, help="time the peer's first N batches and scale; 0: all")
    parser.add_argument("--reach", type=int, default=0, help="peer epochs whose Recall@20 our default is to reach")
    options = parser.parse_args()
    sys.exit(_shared.table("peers", {}) if options.table else _shared.main(options, measure))
