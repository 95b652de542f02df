"""`bowerbird capacity`: how many bytes and machines a shop needs, and what it outgrows first. Sums.

Nothing is measured here: `benchmarks/stores.py --tasks capacity` compares the sums with a server of a hundredth of the
size. How far a step carries is what docs/scaling.md says.
"""

import math
import re
from dataclasses import dataclass
from typing import Annotated, Any

import typer

from bowerbird.cli.data import Json
from bowerbird.cli.output import say, show_json, show_table
from bowerbird.core import RequestError

NUMBER = 4  # bytes of a float32
MOMENTS = 3  # a vector and its two moments, while it is trained
EVENT = 75  # bytes of an event in memory at the peak: 17 of columns, their orders, and what they are read from
ID = 80  # bytes of an id: the text, its place in a table that finds it, and how people are known by it
FEATURES = 200  # bytes of an item's properties: fifty numbers
BASE = 450e6  # bytes of a process before it loads anything
ROW = 265  # bytes of an event in PostgreSQL, with what finds it; in SQLite 105
PER_CORE = 150  # requests a second of one core that retrieves, ranks and answers within 60 ms at the 99th percentile
LOAD = 0.7  # of a core, beyond which requests wait for one another
UNITS = {"": 1, "k": 10**3, "M": 10**6, "G": 10**9, "B": 10**9}


@dataclass(frozen=True)
class Shop:
    """What is asked for."""

    users: int
    items: int
    dim: int
    rps: float  # lists a second, at the peak
    events: float  # events a second, at the peak
    each: float  # events kept of a user
    cores: int  # of one machine
    memory_gb: float  # of one machine


@dataclass(frozen=True)
class Step:
    """How things can be run, and how far that carries."""

    name: str
    what: str
    limits: dict[str, float]  # empty: none was measured


STEPS = (
    Step("1 embedded", "one process, SQLite", {"users": 5e6, "items": 2e6, "rps": 300, "events": 5e3}),
    Step("2 services", "replicas over one PostgreSQL", {"users": 50e6, "items": 20e6, "rps": 10e3, "events": 20e3}),
    Step("3 cluster", "Ray, and sharded tables", {}),
)


def run_capacity(
    users: Annotated[str, typer.Option(metavar="N", help="How many: 50M, 10k or digits.")],
    items: Annotated[str, typer.Option(metavar="N", help="How many.")],
    dim: Annotated[int, typer.Option(min=1, help="Numbers of a vector.")] = 64,
    rps: Annotated[str, typer.Option(metavar="N", help="Lists a second, at the peak.")] = "100",
    events: Annotated[
        str | None, typer.Option(metavar="N", help="Events a second, at the peak; else as lists.")
    ] = None,
    each: Annotated[float, typer.Option(min=0, help="Events kept of a user, on average.")] = 20.0,
    cores: Annotated[int, typer.Option(min=1, help="Cores of a machine.")] = 16,
    memory: Annotated[float, typer.Option(min=1, help="Gigabytes of a machine.")] = 256.0,
    json: Json = False,
) -> None:
    """Say how many bytes and machines a shop needs, and which step it outgrows first."""
    asked = count(events if events is not None else rps)
    shop = Shop(count(users), count(items), dim, count(rps), asked, each, cores, memory)
    found = planned(shop)
    if json:
        show_json(found)
        return
    show_table("Bytes", ("what", "of one", "how many", "GB"), [
        (one["what"], f"{one['each']:,.0f}", f"{one['n']:,.0f}", f"{one['bytes'] / 1e9:,.1f}") for one in found["bytes"]
    ], left=1)  # fmt: skip
    show_table("Machines", ("what for", "how many", "why"), [
        (one["what"], f"{one['n']:,}", one["why"]) for one in found["machines"]
    ], left=1)  # fmt: skip
    for line in found["steps"]:
        say(line["said"])


def count(text: str) -> int:
    """Return the number that a text such as 50M means; raises `RequestError`."""
    fit = re.fullmatch(r"(\d[\d_]*(?:\.\d+)?)([kMGB]?)", text)
    if fit is None:
        raise RequestError(f"{text!r} is no number. Write 50M, 10k or digits.")
    return round(float(fit[1].replace("_", "")) * UNITS[fit[2]])


def planned(shop: Shop) -> dict[str, Any]:
    """Return the bytes of each thing, the machines, and what each step says of the shop."""
    rows = _bytes(shop)
    total = {one: sum(row["bytes"] for row in rows if one in row["of"]) for one in ("server", "trainer", "database")}
    return {
        "asked": vars(shop),
        "bytes": rows,
        "total_bytes": total,
        "machines": _machines(shop, total),
        "steps": _steps(shop),
    }


def _bytes(shop: Shop) -> list[dict[str, Any]]:
    vector = NUMBER * shop.dim
    found = [
        ("a process", BASE, 1, ("server", "trainer")),
        ("vectors of users", vector, shop.users, ("server",)),
        ("vectors of items", vector, shop.items, ("server",)),
        ("index of items", shop.dim / 2 + 8, shop.items, ("server",)),
        ("histories", EVENT * shop.each, shop.users, ("server", "trainer")),
        ("ids of users", ID, shop.users, ("server", "trainer")),
        ("ids and properties of items", ID + FEATURES, shop.items, ("server", "trainer")),
        ("vectors in training", MOMENTS * vector, shop.users + shop.items, ("trainer",)),
        ("events in the database", ROW, shop.users * shop.each, ("database",)),
        ("documents in the database", 2 * FEATURES, shop.items, ("database",)),
    ]
    return [{"what": what, "each": each, "n": n, "bytes": each * n, "of": of} for what, each, n, of in found]


def _machines(shop: Shop, total: dict[str, float]) -> list[dict[str, Any]]:
    room = shop.memory_gb * 1e9 * LOAD
    fit = min(int(room // total["server"]), shop.cores)  # processes of a machine: each holds the whole
    answering = math.ceil(shop.rps / (PER_CORE * LOAD * max(fit, 1)))
    held = f"{total['server'] / 1e9:,.1f} GB each"
    why = f"{PER_CORE} lists a second of one process, {held}, of which {fit} fit into a machine"
    if not fit:
        why = f"none: a process needs {held}, more than a machine has. Take larger ones, or fewer numbers a vector"
    return [
        {"what": "answering", "n": answering if fit else 0, "why": why},
        {
            "what": "training",
            "n": math.ceil(total["trainer"] / room),
            "why": f"{total['trainer'] / 1e9:,.1f} GB with the moments of its vectors",
        },
        {
            "what": "database",
            "n": 1,
            "why": f"{total['database'] / 1e9:,.1f} GB on disk, {shop.events + shop.rps:,.0f} rows a second: "
            "events, and a row for each list",
        },
    ]


def _steps(shop: Shop) -> list[dict[str, Any]]:
    """Return for each step, up to the first that carries the shop, what is outgrown first there."""
    asked = {"users": shop.users, "items": shop.items, "rps": shop.rps, "events": shop.events + shop.rps}
    found: list[dict[str, Any]] = []
    for step in STEPS:
        if not step.limits:
            said = f"step {step.name} ({step.what}) is what is left; how far it carries was not measured"
            found.append({"step": step.name, "carries": None, "first": None, "share": None, "said": said})
            break
        share = {name: asked[name] / limit for name, limit in step.limits.items()}
        name = max(share, key=share.__getitem__)
        carries = share[name] <= 1
        axis = {"users": "users", "items": "items", "rps": "lists a second", "events": "rows a second"}[name]
        told = f"{asked[name]:,.0f} of {step.limits[name]:,.0f} {axis}"
        said = f"carries it; outgrown first by {axis}: {told}" if carries else f"is outgrown, first by {axis}: {told}"
        found.append({
            "step": step.name, "carries": carries, "first": name, "share": share[name],
            "said": f"step {step.name} ({step.what}) {said}",
        })  # fmt: skip
        if carries:
            break
    return found
