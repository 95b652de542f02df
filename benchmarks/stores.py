"""Stores: what a database in a PostgreSQL costs beside one in a file, and whether `bowerbird capacity` sums up well.

`--tasks` names what is measured, on the made-up world of `serving.py`:

- `latency`: two servers take turns, `--runs` times each, one over a file and one over a PostgreSQL, under an equal open
  load of slates and durable events; the figure is the median over the pairs of p99 over p99;
- `replicas`: two servers over one database, each under half of that load, and whether both know all in the end;
- `append`: rows a second of one process, an event in a call and 500, and of two processes, and bytes of a row;
- `capacity`: what a server of `--users` and `--items` holds and what its bundle takes, over what the sums say.

`--postgres` is the address of a server's database, with no name of it or any: databases are made there for each run
and dropped again.
"""

import argparse
import contextlib
import json
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import _load
import _shared
import serving
from bowerbird.cli.capacity import Shop, planned
from bowerbird.core import BowerbirdError
from bowerbird.store import LogEvent
from bowerbird.store.database import FILE
from bowerbird.store.events import TableLog
from bowerbird.store.opening import opened, place
from bowerbird.store.postgres import connect

APPENDED_S = 5.0  # for each way of appending
THREADS = 16


@contextlib.contextmanager
def a_database(url: str) -> Iterator[str]:
    """Lend the address of a new database on a server."""
    name = f"bowerbird_{uuid.uuid4().hex[:12]}"
    with contextlib.closing(connect(url)) as connection:
        connection.execute(f"CREATE DATABASE {name} ENCODING 'UTF8' TEMPLATE template0")
        try:
            head, _, query = url.partition("?")
            yield f"{head[: head.index('/', len('postgresql://'))]}/{name}" + (f"?{query}" if query else "")
        finally:
            connection.execute(f"DROP DATABASE {name} WITH (FORCE)")


@contextlib.contextmanager
def a_store(form: str, options: argparse.Namespace) -> Iterator[str]:
    """Lend an address, none where the database is a file."""
    if form == "file":
        yield ""
    else:
        with a_database(options.postgres) as url:
            yield url


def latency(options: argparse.Namespace, world: Path) -> dict[str, float]:
    """Return p50, p99 and freshness of both forms, medians over the pairs, and the ratios."""
    cores = options.cores.split(",")
    load = serving.loads(options)["full"]
    laps: dict[str, list[dict[str, Any]]] = {"file": [], "postgres": []}
    for turn in range(options.runs):
        for form in ("file", "postgres") if turn % 2 == 0 else ("postgres", "file"):
            with a_store(form, options) as url, serving.served(world, cores[0], store=url) as server:
                found = serving.generated(replace(load, port=server.port, key=server.key), cores[1])
            slates, events = found["kinds"]["slates"], found["kinds"]["events"]
            laps[form].append(
                {
                    "p50_ms": slates["p50_ms"], "p99_ms": slates["p99_ms"], "events_p99_ms": events["p99_ms"],
                    "fresh_p99_ms": found["freshness"]["p99_ms"] or float("nan"),
                    "failed": slates["failed"] + events["failed"] + found["freshness"]["failed"],
                }
            )  # fmt: skip
            print(f"{form:>9} " + ", ".join(f"{name} {value:.1f}" for name, value in laps[form][-1].items()))
    told = {
        f"{form}.{name}": statistics.median(lap[name] for lap in laps[form]) for form in laps for name in laps[form][0]
    }
    pairs = list(zip(laps["postgres"], laps["file"], strict=True))
    for name in ("p50_ms", "p99_ms", "events_p99_ms"):
        ratios = [one[name] / other[name] for one, other in pairs]
        told |= {f"{name}_ratio": statistics.median(ratios), f"{name}_ratio_worst": max(ratios)}
    return told


def append(options: argparse.Namespace, world: Path) -> dict[str, float]:
    """Return rows a second and bytes of a row, by form."""
    told: dict[str, float] = {}
    for form in ("file", "postgres"):
        with a_store(form, options) as url, tempfile.TemporaryDirectory(dir=world.parent) as scratch:
            data = Path(scratch)
            if url:
                place(data, url)
            for together in (1, 500):
                told[f"{form}.rows_per_s_of_{together}"] = appended(data, together, f"{together}")
            if url:
                code = (
                    "import sys, pathlib, stores; print(stores.appended(pathlib.Path(sys.argv[1]), 500, sys.argv[2]))"
                )
                words = [sys.executable, "-c", code, scratch]
                two = [
                    subprocess.Popen([*words, name], stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parent)
                    for name in "ab"
                ]
                told["postgres.rows_per_s_of_500_by_two"] = sum(float(one.communicate()[0]) for one in two)
            with contextlib.closing(opened(data)) as database:
                rows = TableLog(database).end
            if url:
                with contextlib.closing(connect(url)) as connection:
                    connection.execute("VACUUM events")
                    size = connection.execute("SELECT pg_total_relation_size('events')").fetchone()[0]
            else:
                size = (data / FILE).stat().st_size
            told[f"{form}.bytes_of_a_row"] = size / rows
    for name in ("rows_per_s_of_1", "rows_per_s_of_500"):
        told[f"{name}_ratio"] = told[f"postgres.{name}"] / told[f"file.{name}"]
    return told


def appended(data: Path, together: int, name: str) -> float:
    """Return the rows a second that some threads of this process append, so many in a call."""
    with contextlib.closing(opened(data)) as database:
        log, end, counts = TableLog(database), time.perf_counter() + APPENDED_S, [0] * THREADS

        def write(thread: int) -> None:
            while time.perf_counter() < end:
                first = counts[thread]
                log.append(
                    [
                        LogEvent(f"{name}-{thread}-{first + n}", "purchase", user_id=first + n, item_id=n, time=first)
                        for n in range(together)
                    ]
                )
                counts[thread] += together

        threads = [threading.Thread(target=write, args=(thread,)) for thread in range(THREADS)]
        started = time.perf_counter()
        for one in threads:
            one.start()
        for one in threads:
            one.join()
        return sum(counts) / (time.perf_counter() - started)


def replicas(options: argparse.Namespace, world: Path) -> dict[str, float]:
    """Return what two servers over one database answer, each under half of the load."""
    cores, load = options.cores.split(","), serving.loads(options)["full"]
    half = {kind: rate / 2 for kind, rate in load.rates.items()}
    found: list[dict[str, Any]] = []
    with a_database(options.postgres) as url, contextlib.ExitStack() as stack:
        servers = [stack.enter_context(serving.served(world, cores[0], store=url)) for _ in range(2)]

        def drive(place: int) -> None:
            own = replace(load, rates=half, port=servers[place].port, key=servers[place].key, seed=load.seed + place)
            found.append(serving.generated(own, cores[1]))

        threads = [threading.Thread(target=drive, args=(number,)) for number in range(2)]
        for one in threads:
            one.start()
        for one in threads:
            one.join()
        ends = [serving.status(one.port, one.key)["log_offset"] for one in servers]
    slates = [one["kinds"]["slates"] for one in found]
    return {
        "requests_per_s": sum(one["per_s"] for one in slates),
        "p99_ms": max(one["p99_ms"] for one in slates),
        "failed": sum(kind["failed"] for one in found for kind in one["kinds"].values()),
        "offsets_apart": abs(ends[0] - ends[1]),
    }


def capacity(options: argparse.Namespace, world: Path) -> dict[str, float]:
    """Return what a server holds over what the sums say."""
    shop = Shop(options.users, options.items, serving.DIM, options.rate, options.events, serving.EACH, 2, 24.0)
    told = planned(shop)
    summed = {one["what"]: one["bytes"] for one in told["bytes"]}
    load = serving.loads(options)["full"]
    with serving.served(world, options.cores.split(",")[0]) as server:
        serving.generated(replace(load, port=server.port, key=server.key), options.cores.split(",")[1])
        held = server.memory_mb * 1024**2
    bundle = next((world / "bundles").iterdir())
    weights = sum(path.stat().st_size for path in bundle.glob("*.safetensors"))
    vectors = summed["vectors of users"] + summed["vectors of items"]
    return {
        "server_gb": held / 1e9,
        "server_summed_gb": told["total_bytes"]["server"] / 1e9,
        "server_ratio": held / told["total_bytes"]["server"],
        "weights_gb": weights / 1e9,
        "weights_ratio": weights / vectors,
    }


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """Return one row of the tasks that were asked for."""
    if not options.postgres and options.tasks != "capacity":
        raise BowerbirdError("--postgres is needed: postgresql://user@/postgres?host=FOLDER-OF-ITS-SOCKET")
    world = serving.made(options)
    tasks = {"latency": latency, "append": append, "replicas": replicas, "capacity": capacity}
    asked = {key: getattr(options, key) for key in ("users", "items", "rate", "events", "seconds", "warm")}

    def task(name: str) -> Mapping[str, float]:
        found = tasks[name](options, world)
        print(json.dumps(found, indent=1))
        return found

    return _shared.tasked(
        options,
        {name: lambda name=name: task(name) for name in tasks},  # type: ignore[misc]
        benchmark="stores",
        model="mf",
        protocol=" ".join(f"{key}={value}" for key, value in asked.items())
        + f" runs={options.runs} d={serving.DIM} k={_load.K} open-loop from=due cores={options.cores} pairs-in-turn",
        seeds=_shared.seeds(options.seeds),
    )


def options_of(words: list[str] | None = None) -> argparse.Namespace:
    """Return the options of the serving benchmark, and those of this one."""
    parser = serving.parser_of()
    parser.add_argument("--tasks", default="latency,append,replicas,capacity", help="with commas between them")
    parser.add_argument("--runs", type=int, default=3, help="pairs of servers")
    parser.add_argument("--postgres", default="", help="the address of a PostgreSQL that databases may be made in")
    parser.set_defaults(users=50_000, items=10_000, rate=30.0, events=200.0, seconds=20.0, warm=5.0)
    return parser.parse_args(words)


if __name__ == "__main__":
    options = options_of()
    sys.exit(_shared.figures("stores") if options.table else _shared.main(options, measure))
