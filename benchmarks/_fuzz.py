"""Parsers, fed with bytes that are chosen by what code they reach (atheris, on libFuzzer).

    python benchmarks/_fuzz.py TARGET FOLDER [options of libFuzzer]

A parser may raise errors of ours, and bodies those of pydantic; anything else ends the process and leaves the bytes in
FOLDER. FOLDER also holds what a target works on, and its corpus.
"""

import json
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

Target = Callable[[Path], Callable[[bytes], None]]  # a folder → what takes bytes
NOW = 1_800_000_000

SEEDS: dict[str, tuple[bytes, ...]] = {
    "filter": (
        b'item.price < 30 and "drama" in item.tags and item.at > now() - 7d and not seen("purchase", 30d)',
        b'not (item["price"] + 1.5e3 * 2 / 0 >= -3) or item.brand in ["a", \'b\'] == true', b"null != item.x",
        b"((((1))))",
    ),
    "csv": (
        b'user,item,time,weight,event\nu1,"a,b",1700000000,1,view\nu2,"c\nd",1700000001,.5,buy\n', b"a;b\n1;2\n",
        b"user_id:token\titem_id:token\trating:float\nu1\ti1\t5\n", b"1::2::5::978300760\n", b"u1 1 2 3\n",
        b"label,x\n1,2\n", b"1 1:1 2:0.5 # x\n", b"1 0:1:1\n",
    ),
    "json_lines": (
        b'{"id": "a", "properties": {"price": 1, "tags": ["x"]}, "available": true, "expires": 5}\n',
        b'{"event_id": "e", "event": "view", "item_id": 7, "user_id": "u", "time": 5, "context": {"a": [1]}}\n',
    ),
    "manifest": (
        b'{"model": "mf", "config": {"dim": 8}, "events": [{"name": "x", "weight": 1.0}], "seed": 0}',
        b'{"schema": {"n_users": 60, "n_items": 40, "relations": [], "item_content": []}, "parent": null}',
        b'{"files": {"x.parquet": "00"}, "health": {}, "training": null, "measured": {"metrics": {}}, "format": 2}',
    ),
    "weights": (b"\x3a\0\0\0\0\0\0\0" + b'{"w":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}    ' + bytes(8),),
    "table": (),
    "settings": (
        b'0[model]\nname = "mf"\ndim = 8\n[data]\npath = "a.csv"\n', b'1k = 3\nwhere = "item.a < 1"\n[caps]\na = 1\n',
        b'1sources = [{ name = "model", n = 3 }]\n[freshness]\nstrength = 1\n',
        b'2[[item]]\nname = "a"\nkind = "bag"\n',
    ),
    "bodies": (
        b'0{"user_id": "u", "k": 3, "where": "item.a < 1", "exclude_items": [1]}',
        b'1{"items": ["a", 1], "history": []}', b'2{"events": [{"event_id": "e"}], "ack": "queued"}',
        b'3{"text": "a", "image": "AAAA"}', b'4{"rows": [{"id": 1}]}',
        b'5{"events": [{"name": "a", "sign": "negative"}]}', b'6{"kind": "import", "what": "items", "file": "a.jsonl"}',
        b'7{"name": "a", "scopes": ["read"], "limit_per_s": 1.5}', b'8{"properties": null}', b'9{"session_id": "s"}',
    ),
}  # fmt: skip


def filters(folder: Path) -> Callable[[bytes], None]:
    """Parse a filter, and ask it about a few items."""
    import numpy as np
    import polars as pl

    from bowerbird.pipeline.filters import parse

    items = pl.DataFrame(
        {
            "item_id": ["a", "b"], "price": [1, None], "rate": [0.5, float("nan")], "brand": ["x", None],
            "tags": [["drama"], []], "new": [True, None], "at": [NOW, None],
        },
        schema_overrides={"at": pl.Datetime("us", "UTC")},
    )  # fmt: skip

    def take(data: bytes) -> None:
        found = parse(data.decode("utf-8", "surrogateescape"))
        seen = [np.array([True, False])] * len(found.seen)
        assert found.mask(items, now=NOW, seen=seen).shape == (2,)

    return take


def tables(folder: Path) -> Callable[[bytes], None]:
    """Read a text table in every format that it may be in."""
    from bowerbird.data import read, read_rows
    from bowerbird.data.checks import find_problems

    names = ("a.csv", "a.tsv", "a.inter", "ratings.dat", "a.txt", "a.libsvm", "a.libffm")

    def take(data: bytes) -> None:
        path = folder / names[data[0] % len(names) if data else 0]
        path.write_bytes(data[1:])
        if path.suffix in (".libsvm", ".libffm"):
            read_rows(path)
        elif data[:1] > b"\x80":
            find_problems(path, now=NOW)
        else:
            read(path)

    return take


def json_lines(folder: Path) -> Callable[[bytes], None]:
    """Take the rows of a file of JSON lines in, as documents and as events."""
    from bowerbird.data import EventType
    from bowerbird.serving.intake import json_lines as lines_of
    from bowerbird.serving.intake import put_rows, sensible

    class Keeper:
        def put_many(self, kind: Any, rows: Any, *, whole: bool) -> list[Any]:
            return [ValueError] * len(rows)

    path, kinds = folder / "a.jsonl", (EventType("view"), EventType("buy"))

    def take(data: bytes) -> None:
        path.write_bytes(data)
        rows = [row for _, row in lines_of(path)]
        good, rejected = sensible(rows, kinds, NOW)
        assert len(good) + len(rejected) == len(rows)
        put_rows(Keeper(), "item", rows)
        json.dumps(rejected).encode()

    return take


def manifests(folder: Path) -> Callable[[bytes], None]:
    """Load a model whose manifest says what JSON says, under a right checksum; or whose manifest is these bytes."""
    import numpy as np

    import bowerbird as bb
    from _hostile_bundles import MANIFEST, Bombs, Target
    from bowerbird.core import RunOptions
    from bowerbird.store import bundles
    from bowerbird.testing import halves

    run = folder / "run"
    bb.fit(halves(), "mf", run=RunOptions(progress=False), epochs=1, dim=2).save(run)
    target = Target(run, "000001", np.random.default_rng(0), folder, folder / "marker", Bombs())
    good = target.manifest

    def take(data: bytes) -> None:
        try:
            given = json.loads(data)
        except (ValueError, RecursionError):
            given = None
        if isinstance(given, dict):
            target.write({**good, **given})
            bb.load(run)
        else:
            (target.folder / MANIFEST).write_bytes(data)
            bundles.manifest_of(run)

    return take


def weights(folder: Path) -> Callable[[bytes], None]:
    """Read tensors."""
    from bowerbird.store.contents import arrays

    def take(data: bytes) -> None:
        arrays(data, folder / "weights")

    return take


def parquet(folder: Path) -> Callable[[bytes], None]:
    """Read a table of a bundle."""
    from bowerbird.store.contents import table

    def take(data: bytes) -> None:
        table(data, folder / "table")

    return take


def settings(folder: Path) -> Callable[[bytes], None]:
    """Read a recipe, a scenario or columns."""
    from bowerbird.features.columns import read_columns
    from bowerbird.pipeline.scenario import Scenario
    from bowerbird.recommender import Recipe

    readers, path = (Recipe.load, Scenario.load, read_columns), folder / "settings.toml"

    def take(data: bytes) -> None:
        path.write_bytes(data[1:])
        readers[data[0] % 3 if data else 0](path)

    return take


def bodies(folder: Path) -> Callable[[bytes], None]:
    """Read a body of the HTTP API, both as bytes and as what JSON makes of them."""
    from bowerbird.serving import bodies as known

    models = (
        known.Asked, known.Ranking, known.Events, known.Search, known.Rows, known.SchemaAsked, known.JobAsked,
        known.KeyAsked, known.ItemPatch, known.Merge, known.Seeds, known.Why, known.Batch, known.ItemDocument,
        known.Row, known.EventBody,
    )  # fmt: skip

    def take(data: bytes) -> None:
        model = models[data[0] % len(models) if data else 0]
        found = model.model_validate_json(data[1:])
        json.dumps(found.model_dump(mode="python"), default=repr)

    return take


TARGETS: dict[str, Target] = {
    "filter": filters, "csv": tables, "json_lines": json_lines, "manifest": manifests, "weights": weights,
    "table": parquet, "settings": settings, "bodies": bodies,
}  # fmt: skip


@cache
def allowed() -> tuple[type[BaseException], ...]:
    """Return what a parser may raise."""
    from pydantic import ValidationError

    from bowerbird.core import BowerbirdError

    return BowerbirdError, ValidationError


def seeds_of(name: str) -> tuple[bytes, ...]:
    """Return what a target begins with."""
    if name != "table":
        return SEEDS[name]
    from _hostile_tables import BASES

    return (BASES["a.parquet"][0],)


def quiet(take: Callable[[bytes], None]) -> Callable[[bytes], None]:
    """Return what takes bytes and lets errors of ours pass."""

    def run(data: bytes) -> None:
        try:
            take(bytes(data))
        except allowed():
            pass

    return run


def main(name: str, folder: Path, options: list[str]) -> None:
    """Fuzz one target until libFuzzer ends."""
    import atheris

    corpus = folder / "corpus"
    corpus.mkdir(parents=True, exist_ok=True)
    for place, seed in enumerate(seeds_of(name)):
        (corpus / f"seed-{place}").write_bytes(seed)
    with atheris.instrument_imports(include=["bowerbird"]):
        take = TARGETS[name](folder)
    allowed()
    atheris.Setup([sys.argv[0], *options, str(corpus)], quiet(take))
    atheris.Fuzz()


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), sys.argv[3:])
