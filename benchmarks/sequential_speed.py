"""Training positions per second of SASRec beside other libraries: one file, machine and setting, one after another.

The setting is SETTINGS: length 50, d 64, 2 blocks, 2 heads, dropout 0.2, softmax over all items, Adam 1e-3; a step has
128 histories (RecTools), 2,048 prefixes (RecBole), 6,400 positions (ours). The last two events of each are left out.
`peers.NAME.ratio` says how many times more positions a second ours trains on; recbole-mended is RecBole with torch's
anomaly detection, which importing its models turns on, turned off again.
"""

import hashlib
import json
import sys
import tempfile
from argparse import Namespace
from pathlib import Path
from typing import Any

import polars as pl

import _shared
from bowerbird import split
from bowerbird.data import REGISTRY, load
from bowerbird.data.named import cache_folder
from peers import child, environment
from sequential import histories

PEERS = {  # script, environment, mode
    "rectools": ("_peer_rectools.py", "rectools", "speed"),
    "recbole": ("_peer_recbole_seq.py", "recbole", "speed"),
    "recbole-mended": ("_peer_recbole_seq.py", "recbole", "mended"),
}
SETTINGS: dict[str, Any] = {
    "dim": 64, "blocks": 2, "heads": 2, "dropout": 0.2, "history_len": 50, "learning_rate": 1e-3, "loss": "softmax",
    "batch_size": 6400, "sequences": 128, "rows": 2048,
}  # fmt: skip


def measure(options: Namespace) -> dict[str, Any]:
    """Run ours, then each peer; return the row."""
    events = load(options.data) if options.data in REGISTRY else histories(Path(options.data))
    train = split(events, "leave-one-out").train
    order = train.by_user[1]
    table = pl.DataFrame({"user": train.user[order], "item": train.item[order], "place": range(len(order))})
    settings = SETTINGS | {"epochs": options.epochs}
    with tempfile.TemporaryDirectory() as scratch:
        table.write_csv(Path(scratch) / "train.csv")
        digest = _shared.sha256([Path(scratch) / "train.csv"])
        (Path(scratch) / "seq").mkdir()
        spec = {"folder": scratch, "settings": settings, "seed": 0, "threads": options.threads, "mode": "speed"}
        ours = child(sys.executable, "_peer_bowerbird_seq.py", spec)
        peers = {}
        for peer in options.peers.split(",") if options.peers else []:
            script, where, mode = PEERS[peer]
            more = {"mode": mode, "batches": options.peer_batches if where == "recbole" else 0}
            folder = str(Path(scratch) / "seq") if where == "recbole" else scratch
            if where == "recbole":
                table.write_csv(Path(folder) / "train.csv")
            theirs = child(str(environment(where, Path(options.peers_home))), script, spec | more | {"folder": folder})
            peers[peer] = theirs | {"ratio": ours["rows_per_s"] / theirs["rows_per_s"]}
    return {
        "benchmark": "sequential_speed",
        "data": Path(options.data).name.split(".")[0],
        "data_sha256": digest,
        "model": "sasrec",
        "config": settings,
        "config_sha256": hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest(),
        "protocol": f"events={len(table)} epochs={options.epochs} loss=softmax",
        "report": "valid",
        "seeds": [0],
        "metrics": {"padding": ours["padding"]},
        "seconds": {"epoch": ours["epoch"]},
        "rows_per_s": ours["rows_per_s"],
        "memory_mb": ours["memory_mb"],
        "peers": peers,
    }


if __name__ == "__main__":
    parser = _shared.parser(__doc__ or "")
    parser.set_defaults(data="ml-100k", model="sasrec")
    parser.add_argument("--peers", default=",".join(PEERS), help="with commas; empty for none")
    parser.add_argument("--peers-home", default=str(cache_folder() / "peers"), help="where peers are installed")
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--peer-batches", type=int, default=0, help="time RecBole's first N batches and scale; 0: all")
    sys.exit(_shared.main(parser.parse_args(), measure))
