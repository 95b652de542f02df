"""Erasure: whether an attack still finds who was erased, what it costs others, and how long it takes.

`--parts` names, with commas, some of:

- `attack`: of each model, 200 people in each of `--folds` folds (4) are erased. The attack (`privacy.traces`) tells
  them from people whom no model ever saw, before and after; and people who are kept, else it would be blind;
- `others`: NDCG@10 on validation of those who stay, over `--seeds`: beside plain training again without the erased;
- `row`: many people one by one, and how far that is from training without them;
- `time`: one person of `--timed` (ml-1m) out of a run and a server's log of all events, with the model that is
  rebuilt: `ease`, and one shard of eight of `mf`.

`--data` is a folder of data sets, or $BOWERBIRD_DATA. Bars, as docs/erasure-measured.md states them: `--bars`.
"""

import argparse
import hashlib
import json
import os
import sys
import tempfile
import time
from contextlib import closing
from pathlib import Path
from typing import Any

import _erasure_people as people
import _shared
from bowerbird.core import BowerbirdError
from bowerbird.data import Interactions, load
from bowerbird.privacy.erasure import Place, erase
from bowerbird.store.database import Database
from bowerbird.store.events import TableLog
from bowerbird.store.log import LogEvent

PARTS = ("attack", "others", "row", "time")
FOUND, BLIND, SECONDS = 0.55, 0.60, 120
ONE_BY_ONE, TIMED = ("ease", people.SHARDED), ("ease", people.SHARDED)
AT_ONCE = 50_000


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """Run the parts that are asked for; return one row of all."""
    parts, models, root = options.parts.split(","), options.models.split(","), Path(options.data)
    if strange := [one for one in parts if one not in PARTS]:
        raise BowerbirdError(f"--parts names {strange[0]!r}; there are {', '.join(PARTS)}.")
    if strange := [one for one in models if one not in people.SETTINGS]:
        raise BowerbirdError(f"--models names {strange[0]!r}; there are {', '.join(people.SETTINGS)}.")
    seeds, metrics, seconds = _shared.seeds(options.seeds), {}, {}
    people.SETTINGS.update({name: people.SETTINGS[name] | _shared.settings(options.set) for name in models})
    events = load(options.set_name, data_root=root) if set(parts) - {"time"} else None
    for part in parts:
        for name in models:
            started, found = time.perf_counter(), {}
            if part == "time":
                found = timed(options.timed, root, name, options.limit_seconds) if name in TIMED else {}
            elif part == "attack":
                found = people.attacked(events, name, options.folds)
            elif part == "others":
                found = people.others(events, name, seeds)
            elif name in ONE_BY_ONE:
                found = people.in_a_row(events, name)
            metrics |= {f"{name}.{key}": value for key, value in found.items()}
            seconds[f"{part} {name}"] = time.perf_counter() - started
            print(f"{part} {name}: {found}", file=sys.stderr, flush=True)
    asked = {"parts": options.parts, "models": options.models, "folds": options.folds, "set": options.set_name}
    asked |= {"settings": {name: people.SETTINGS[name] for name in models}, "timed": options.timed}
    sets = [*([options.set_name] if events is not None else []), *([options.timed] if "time" in parts else [])]
    return {
        "benchmark": "erasure",
        "data": ",".join(sets),
        "model": options.models,
        "config": asked,
        "config_sha256": hashlib.sha256(json.dumps(asked, sort_keys=True).encode()).hexdigest(),
        "protocol": f"parts={options.parts} erased={people.ERASED} kept={people.KEPT} never={people.NEVER} "
        f"folds={options.folds} shards={people.SHARDS} ndcg=leave-one-out, validation",
        "report": "valid",
        "seeds": seeds,
        "metrics": metrics,
        "seconds": seconds,
    }  # fmt: skip


def timed(set_name: str, root: Path, name: str, limit_s: float) -> dict[str, float]:
    """Return the seconds that erasing one person takes, all of it, and those of the model alone."""
    events = load(set_name, data_root=root)
    with tempfile.TemporaryDirectory() as folder:
        run, started = Path(folder) / "run", time.perf_counter()
        rec = people.fitted(name, events, 0)
        trained = time.perf_counter() - started
        with closing(Database(run / "server")) as database:
            rec.save(run, log_offset=_logged(events, TableLog(database)))
        who, started = events.user_ids[events.n_users // 2], time.perf_counter()
        with closing(Database(run / "server")) as database:
            certificate = erase(Place(run, run / "server", database), who)
        seconds = time.perf_counter() - started
    assert not any(certificate["left"].values())
    return {
        "time.all_s": seconds, "time.model_s": certificate["models"]["seconds"], "time.trained_s": trained,
        "time.events_of_all": float(len(events)), "time.events": float(certificate["database"]["events"]),
    }  # fmt: skip


def _logged(events: Interactions, log: TableLog) -> int:
    """Let the log of a server hold all events, and return its end."""
    users, items = events.user_ids.names(events.user).to_list(), events.item_ids.names(events.item).to_list()
    time_of = [0] * len(users) if events.time is None else events.time.tolist()
    for start in range(0, len(users), AT_ONCE):
        part = slice(start, start + AT_ONCE)
        rows = enumerate(zip(users[part], items[part], time_of[part], strict=True), start)
        log.append([LogEvent(f"e{n}", "interaction", *row) for n, row in rows])
    return log.end


def bars(parts: str, models: str) -> list[str]:
    """Return what the parts have to hold."""
    found: list[str] = []
    for name in models.split(","):
        if "attack" in parts:
            found += [f"{name}.erased.high<={FOUND}", f"{name}.kept.low>={BLIND}"]
        if "others" in parts:
            found += [f"{name}.ndcg.off_in_sd<=1"]
        if "time" in parts and name in TIMED:
            found += [f"{name}.time.all_s<={SECONDS}"]
    return found


def options_of(words: list[str] | None = None) -> argparse.Namespace:
    """Return the options of the command line."""
    options = _shared.parser(__doc__ or "")
    options.set_defaults(data=os.environ.get("BOWERBIRD_DATA") or "", threads=1, seeds="5")
    options.add_argument("--parts", default="attack", help="with commas between them")
    options.add_argument("--models", default=",".join(people.SETTINGS), help="with commas between them")
    options.add_argument("--folds", type=int, default=4, help="of attack")
    options.add_argument("--set-name", default="ml-100k", help="whose people are erased")
    options.add_argument("--timed", default="ml-1m", help="of time: whose person is erased")
    options.add_argument("--bars", action="store_true", help="ask for what docs/erasure-measured.md states")
    found = options.parse_args(words)
    found.require = found.require + (bars(found.parts, found.models) if found.bars else [])
    return found


def table() -> int:
    """Print the kept rows."""
    return _shared.figures("erasure")


if __name__ == "__main__":
    options = options_of()
    sys.exit(table() if options.table else _shared.main(options, measure))
