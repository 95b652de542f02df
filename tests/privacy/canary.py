"""A run and the data directory of its server, which hold somebody whose id and things nobody else has."""

import json
import sqlite3
from contextlib import closing
from pathlib import Path

import polars as pl

import bowerbird as bb
from bowerbird.recommender import Recommender, load
from bowerbird.store import backups
from bowerbird.store.catalogue import Catalogue
from bowerbird.store.database import Database
from bowerbird.store.events import TableLog
from bowerbird.store.log import MERGE, SLATE, LogEvent

WHO, THING, WORDS, TAB = "Zyzzyva-Quokka", "xylograph-9917", "said by Zyzzyva-Quokka", "tab-brouhaha-31"
NEEDLES = (WHO, THING, TAB)
NOW = 1_700_000_000


def table(n_users: int = 24, *, canary: bool = True) -> pl.DataFrame:
    """Even people like even things; the canary likes odd ones, and one thing that nobody else ever met."""
    rows = [(f"u{u}", f"i{(u % 2) + 2 * ((u // 2 + k) % 6)}", NOW - 9_000 + 40 * k + u)
            for u in range(n_users) for k in range(4)]  # fmt: skip
    mine = [(WHO, item, NOW - 5_000 + n) for n, item in enumerate(["i1", "i3", THING, "i5"])] if canary else []
    return pl.DataFrame([*rows, *mine], schema=["user_id", "item_id", "time"], orient="row")


def event(number: object, item: str | None = "i2", **more: object) -> LogEvent:
    return LogEvent(**({"event_id": f"e{number}", "event": "interaction", "item_id": item, "time": NOW} | more))


def told(run: Path, data: Path) -> None:
    """Let a server have heard of the canary in all ways that there are; then let it stop."""
    with closing(Database(data)) as database:
        log, catalogue = TableLog(database), Catalogue(database)
        log.append([event(n, f"i{n % 12}", user_id=f"u{n % 24}") for n in range(60)])
        log.append([event("mine", THING, user_id=WHO, context=json.dumps({"note": WORDS}))])
        log.append([event("tab", "i4", session_id=TAB), event("other tab", "i4", session_id="tab-of-others")])
        log.append([event(f"merge:{WHO}:{TAB}", None, event=MERGE, user_id=WHO, session_id=TAB)])
        log.append([event("tab later", "i6", session_id=TAB)])
        long = json.dumps({"items": ["i1"] * 2_000, "question": {"user_id": WHO}})
        log.append([event("slate", None, event=SLATE, user_id=WHO, context=long)])
        catalogue.put("user", "u1", {"city": "Graz"})
        catalogue.put("user", WHO, {"name": WORDS})
        log.append([event(f"later {n}", "i1", user_id="u3") for n in range(40)])
        backups.take(database, run, load(run).version or "", data / "backups" / "first")
        folder = data / "exports"
        folder.mkdir()
        log.read().write_parquet(folder / "events-1.parquet")
        (folder / "users-1.jsonl").write_text("".join(json.dumps({"id": one, "properties": {}}) + "\n"
                                                      for one in ("u1", WHO)))  # fmt: skip
        (data / "imports").mkdir()
        rows = [{"event_id": str(n), "event": "interaction", "user_id": who} for n, who in enumerate(("u1", WHO))]
        (data / "imports" / "old.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


def versions(run: Path, model: str = "itemknn", **settings: object) -> Recommender:
    """Publish three versions: one that never met the canary, and two that did."""
    bb.fit(bb.read(table(canary=False)), model, **settings).save(run)
    for _ in range(2):
        rec = bb.fit(bb.read(table()), model, **settings)
        rec.save(run)
    (run / "state").mkdir()
    (run / "state" / "loop.safetensors").write_bytes(b"left by " + WHO.encode())
    rec.recommend_all(k=3, out=run / "lists.parquet")
    return rec


def found(*folders: Path) -> list[str]:
    """Return where a byte of the canary lies: in a name, in a file, in a table of a Parquet file, in a database.

    Written without what it tests: whole files, all columns, pages of databases and what they hold.
    """
    hits = []
    for path in sorted({path for folder in folders for path in folder.rglob("*") if path.is_file()}):
        data = path.read_bytes() + path.name.encode()
        if path.suffix == ".parquet":
            data += json.dumps(pl.read_parquet(path).to_dict(as_series=False), default=str).encode()
        if path.suffix == ".db":
            still = "" if path.with_name(path.name + "-wal").exists() else "&immutable=1"
            with closing(sqlite3.connect(f"{path.as_uri()}?mode=ro{still}", uri=True)) as connection:
                data += "\n".join(connection.iterdump()).encode()
        hits += [f"{path}: {needle}" for needle in NEEDLES if needle.encode() in data]
    return hits
