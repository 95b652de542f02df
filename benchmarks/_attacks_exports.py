"""What spreadsheets, terminals and programs make of what is written: ids and titles are somebody else's words."""

import csv
import io
import json
import re
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path
from unittest import mock

import numpy as np
import polars as pl
from rich.console import Console

import _breaking
import bowerbird as bb
from _breaking import Effort, Found, Progress
from bowerbird.cli import output
from bowerbird.core import RunOptions
from bowerbird.data.conversion import convert
from bowerbird.serving import Engine
from bowerbird.serving.intake import put_rows
from bowerbird.serving.jobs import Jobs

stages = _breaking.Stages()

STARTS = ("=", "+", "-", "@", "\t", "\r", "\0", "＝", "＋", "－", "＠", "%0A-", " =", "'=", '"=', ";=", ",=", "\n=")
BODIES = (
    "1+1", "cmd|' /C calc'!A0", 'HYPERLINK("http://127.0.0.1/?"&A1,"x")', "IMPORTXML(CONCAT(A1),1)", "SUM(1)*1", "2",
    "DDE(0,0,0)", 'WEBSERVICE("http://127.0.0.1")', "", "x",
)  # fmt: skip
WORDS = (
    "\x1b]0;owned\x07", "\x1b[2J", "\x9b31m", "\u202egnp.exe", "[bold]x", "[/]", "[link=http://127.0.0.1]x[/link]",
    "\\[x", "$(id)", "`id`", "; rm -rf ~", "--help", "-x", "😀", "e\u0301", "{{7*7}}", "<script>alert(1)</script>", '"',
    "''", "a,b;c\td", "a\nb",
)  # fmt: skip
LIVE = re.compile(r"\s*[=+\-@＝＋－＠\t\r\0]")  # how a cell begins that spreadsheets reckon with
COMMANDS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")
BATCH = 40  # values that make one shop
QUIET = RunOptions(progress=False)


@stages(
    "exports",
    "ids and titles come back exactly from every file; no file for people holds a formula, no line commands a terminal",
    n=400,
)
def exports(effort: Effort) -> Found:
    found, progress = Found(), Progress(effort)
    found.figures |= {"live_in_a_control": _control(effort.folder)}
    values = _values(effort)
    for start in range(0, len(values), BATCH):
        part = values[start : start + BATCH]
        folder = effort.folder / str(start)
        folder.mkdir()
        faults = {one: list[str]() for one in part}
        for check in (_slates, _documents, _converted, _terminal):
            for one, fault in check(part, folder, found):
                faults[one].append(fault)
        live = sum(_live_cells(path) for path in folder.rglob("*") if path.is_file())
        found.add("live_formulas", live)
        for one in part:
            found.note(*(f"{one!r}: {fault}" for fault in faults[one]), *["a formula is live"] * bool(live))
        progress(min(start + BATCH, len(values)))
    return found


def _values(effort: Effort) -> list[str]:
    known = [start + body for start in STARTS for body in BODIES] + list(WORDS)
    if effort.n < len(known):
        known = known[:: max(1, len(known) // effort.n)][: effort.n]
    rng, made = effort.rng(0), dict.fromkeys(known)
    while len(made) < effort.n:
        parts = rng.choice([*STARTS, *BODIES, *WORDS], int(rng.integers(1, 5)))
        made["".join(map(str, parts))[:60]] = None
    return [one for one in made if one]


def live(text: str) -> int:
    """Return how many cells of a table in a text a spreadsheet would reckon with."""
    rows = csv.reader(io.StringIO(text.replace("\0", " =")))
    return sum(bool(LIVE.match(cell)) for row in rows for cell in row)


def _live_cells(path: Path) -> int:
    """Return the live cells of a file that a spreadsheet would open; Parquet and JSON are none."""
    data = path.read_bytes()
    programs = data.startswith((b"PAR1", b"{", b"[", b"SQLite format 3")) or path.suffix in (
        ".safetensors",
        ".db-wal",
        ".db-shm",
    )
    return 0 if programs or not data else live(data.decode("utf-8", "replace"))


def _control(folder: Path) -> int:
    """Return how many live cells are seen in a table as it must not be written."""
    text = pl.DataFrame({"title": [start + body for start in STARTS[:6] for body in BODIES]}).write_csv()
    seen = live(text)
    assert seen >= 6 * len(BODIES) - 2, f"only {seen} live cells were seen: the stage is blind"
    return seen


Faults = Iterator[tuple[str, str]]


def _slates(values: Sequence[str], folder: Path, found: Found) -> Faults:
    """Write everybody's slates, a run, and an answer; each value is a user, an item and a title."""
    known = [one for one in values if "\0" not in one]  # reading refuses the others
    if len(known) < 2:
        return
    n = len(known)
    users = [one for one in known for _ in range(2)]
    items = [known[(row // 2 + row % 2) % n] for row in range(2 * n)]
    titles = pl.DataFrame({"item": known, "title": known[::-1]})
    rec = bb.fit(bb.read(pl.DataFrame({"user": users, "item": items}), items=titles), "popularity", run=QUIET)
    rec.save(folder / "run")
    again = bb.load(folder / "run")
    rec.recommend_all(k=2, out=folder / "slates.parquet")
    written = pl.read_parquet(folder / "slates.parquet")
    told = json.loads(json.dumps(again.recommend(known, k=n).body("r"), ensure_ascii=False))
    shown = {place["item_id"]: place["title"] for place in told["items"]} if "items" in told else {}
    for slate in told.get("slates", []):
        shown |= {place["item_id"]: place["title"] for place in slate["items"]}
    found.add("cells", written.height * 2 + 2 * len(shown))
    right, ids = dict(zip(known, known[::-1], strict=True)), set(written["user_id"].to_list())
    for one in known:
        if again.item_ids.row(one) < 0 or again.user_ids.row(one) < 0:
            yield one, "a run gives back another id"
        if one not in ids:
            yield one, "the slates name another user"
        if one in shown and shown[one] != right[one]:
            yield one, f"an answer names another title: {shown[one]!r}"
    if not set(written["item_id"].to_list()) <= set(known):
        yield known[0], "the slates name other items"


def _documents(values: Sequence[str], folder: Path, found: Found) -> Faults:
    """Export documents from a server; each value is an id, a name and a text."""
    with closing(Engine(_shop(folder), folder / "data")) as engine, closing(Jobs(engine)) as jobs:
        rows = [{"id": one, "properties": {f"p{one}": one, "title": one}} for one in values]
        kept, rejected = put_rows(engine, "item", rows)
        wrong = {row["index"] for row in rejected}
        job = jobs.start("export", what="items")
        jobs._waiting.join()
        lines = [json.loads(line) for line in jobs.file(job.id).read_text("utf-8").split("\n") if line]
    found.add("ids_refused", len(rejected))
    found.add("cells", 3 * len(kept))
    there = {line["id"]: line["properties"] for line in lines}
    for place, one in enumerate(values):
        mine = next((line for name, line in there.items() if line.get("title") == one), None)
        if place in wrong:
            if not COMMANDS.search(one) and "\n" not in one and "\t" not in one:
                yield one, "a sensible id was refused"
        elif mine != {f"p{one}": one, "title": one}:
            yield one, f"an export gives back another document: {mine}"


def _shop(folder: Path) -> Path:
    run = folder / "shop"
    if not run.exists():
        events = bb.read(pl.DataFrame({"user": ["a", "b"], "item": ["x", "y"]}))
        bb.fit(events, "popularity", run=QUIET).save(run)
    return run


def _converted(values: Sequence[str], folder: Path, found: Found) -> Faults:
    """Turn a text table into Parquet: what was quoted comes back as it was."""
    texts = [one for one in values if "\0" not in one]
    source = folder.parent / "source.csv"  # as programs write it: no file of ours
    table = pl.DataFrame({"user": texts, "item": range(len(texts)), "title": texts})
    table.write_csv(source, quote_style="always")
    convert(source, folder / "converted.parquet")
    back = pl.read_parquet(folder / "converted.parquet")
    found.add("cells", 2 * len(texts))
    for row, one in enumerate(texts):
        if (back["user"][row], back["title"][row]) != (one, one):
            yield one, f"a conversion gives back {back['title'][row]!r}"


def _terminal(values: Sequence[str], folder: Path, found: Found) -> Faults:
    """Print a table and sentences for people: nothing in them commands the terminal."""
    for one in values:
        screen = io.StringIO()
        console = Console(file=screen, width=300, color_system=None)
        with mock.patch.object(output, "out", console), mock.patch.object(output, "err", console):
            output.show_table(one, ["item", "title", one], [[one, one, one]], left=3)
            output.tell(f"saved in {one}")
            output.say(one, mark="[yellow]note[/]: ")
        found.add("cells", 6)
        said = screen.getvalue()
        if COMMANDS.search(said):
            yield one, f"a terminal is sent {COMMANDS.search(said)!r}"
        plain = "".join(COMMANDS.sub("�", f"saved in {one}").split())  # tabs become spaces
        if plain not in "".join(said.split()):
            yield one, "people are told something else"
        if np.any([word in output.word(one) for word in ("\x1b", "\r")]):
            yield one, "a word of a command holds what commands a terminal"
