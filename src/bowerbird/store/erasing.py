"""Erasing: one person in the rows of a data directory, and in files of rows that lie beside; no models, no versions.

What a session did is the person's from when it became them on, or from its first event where they were the first: the
rule of `store.deeds`. Files are copies, and lose all rows of a session that ever was the person's.
"""

import hashlib
import io
import json
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import polars as pl

from bowerbird.core import DataError, RealWorld, World
from bowerbird.store import contents
from bowerbird.store.database import FILE, Connection, read_only
from bowerbird.store.deeds import SESSION
from bowerbird.store.events import LAST, NAMES, spellings
from bowerbird.store.log import MERGE

LINES = (".jsonl", ".ndjson")
ITEMS = "items"  # how files of items are called: an id in them is no person's
PIECE = 1 << 24  # bytes of a file that are searched at once
_BLANK = f"UPDATE events SET {', '.join(f'{name} = NULL' for name in NAMES)} WHERE"
_OF_SESSION = "session_id = ? AND user_id IS NULL AND number > ? AND number <= ?"
_MERGES = "SELECT session_id, number, user_id FROM events WHERE event = ? AND session_id IN (SELECT session_id "
_MERGES += "FROM events WHERE event = ? AND user_id IN (?, ?)) AND NOT retracted ORDER BY session_id, number"
_MARK = """
    UPDATE documents
    SET key = lower(hex(randomblob(16))), id = '0', properties = '{}', available = FALSE, expires = NULL, since = 0,
        deleted = TRUE
    WHERE kind = 'user' AND key = ?
"""  # the mark stays without a name: the numbers of changes may not go back


class Stretch(NamedTuple):
    """Some events of a session, behind one row of the log and up to another one."""

    session_id: str
    after: int
    last: int


@dataclass(frozen=True)
class Person:
    """Whom it is about, and which sessions were theirs when they were asked for."""

    user_id: str | int
    stretches: tuple[Stretch, ...] = ()

    @cached_property
    def sessions(self) -> frozenset[str]:
        """The sessions that ever were this person's."""
        return frozenset(one.session_id for one in self.stretches)

    @cached_property
    def names(self) -> frozenset[str]:
        """What users are called that are this person: the id, and sessions that were nobody's before."""
        return frozenset([str(self.user_id), *(SESSION + one.session_id for one in self.stretches if one.after == 0)])


def find(connection: Connection, user_id: str | int) -> Person:
    """Return a person with the sessions that the log tells of."""
    merges = connection.execute(_MERGES, (MERGE, MERGE, *spellings(user_id))).fetchall()
    first: dict[str, int] = {}
    for session, number, _ in merges:
        first.setdefault(session, number)
    found = []
    for place, (session, number, owner) in enumerate(merges):
        later = place + 1 < len(merges) and merges[place + 1][0] == session
        last = merges[place + 1][1] if later else LAST
        if str(owner) == str(user_id):
            found.append(Stretch(session, 0 if number == first[session] else number, last))
    return Person(user_id, tuple(found))


def count(connection: Connection, person: Person, end: int = LAST) -> dict[str, int]:
    """Return how many rows of the database are a person's, by what they are: of events, those before offset `end`."""
    both, key = spellings(person.user_id), str(person.user_id)
    sql = "SELECT count(*) FROM events WHERE user_id IN (?, ?) AND number <= ?"
    named = connection.execute(sql, (*both, end)).fetchone()[0]
    of_sessions = [
        connection.execute(f"SELECT count(*) FROM events WHERE {_OF_SESSION}", one).fetchone()[0]
        for one in (stretch._replace(last=min(stretch.last, end)) for stretch in person.stretches)
    ]
    documents = connection.execute("SELECT count(*) FROM documents WHERE kind = 'user' AND key = ?", (key,))
    return {"events": named, "events_of_sessions": sum(of_sessions), "documents": documents.fetchone()[0]}


def blank(connection: Connection, person: Person) -> dict[str, int]:
    """Blank all that is a person's, inside a transaction; return the counts, and the `end` of the log at that moment.

    Offsets stay, and name nobody.
    A digest of each event's id stays too, so that a late retry does not bring the event back; that of a merge, whose
    id is made of the person's, is drawn anew.
    """
    both, key = spellings(person.user_id), str(person.user_id)
    connection.execute("UPDATE events SET key = randomblob(16) WHERE event = ? AND user_id IN (?, ?)", (MERGE, *both))
    named = connection.execute(f"{_BLANK} user_id IN (?, ?)", both).rowcount
    of_sessions = sum(connection.execute(f"{_BLANK} {_OF_SESSION}", one).rowcount for one in person.stretches)
    documents = connection.execute(_MARK, (key,)).rowcount
    told = "DELETE FROM answers WHERE instr(key, ?) > 0 OR instr(body, ?) > 0"
    answers = connection.execute(told, (key, key)).rowcount
    end = connection.execute("SELECT coalesce(max(number), 0) FROM events").fetchone()[0]
    done = {"events": named, "events_of_sessions": of_sessions, "documents": documents, "answers": answers}
    return done | {"end": end}


# ── files of rows ─────────────────────────────────────────────────────────────────────────────────────────────────


def rows_in(path: Path, person: Person, items: Collection[str] = (), *, world: World | None = None) -> int:
    """Return how many rows of a file are a person's, or of items that only this person had.

    The file is Parquet or lines of JSON; raises `DataError` for others.
    """
    return _without(path, person, items, world or RealWorld())[1]


def strip(
    path: Path, person: Person, items: Collection[str] = (), *, world: World | None = None
) -> dict[str, Any] | None:
    """Rewrite a file without these rows; return what was done, None where it held none."""
    world = world or RealWorld()
    data, n = _without(path, person, items, world)
    if not n:
        return None
    before, scratch = sha256_of(path, world=world), path.parent / f".{path.name}.part"
    world.write(scratch, data())
    world.replace(scratch, path)
    return {"file": path.name, "rows": n, "sha256_before": before, "sha256": sha256_of(path, world=world)}


def _without(path: Path, person: Person, items: Collection[str], world: World) -> tuple[Callable[[], bytes], int]:
    """Return what makes the bytes of a file without the rows of `rows_in`, and how many those are."""
    data = world.read(path)
    if path.suffix in LINES:
        lines = data.splitlines(keepends=True)
        named = not path.name.startswith(ITEMS)
        kept = [line for line in lines if not _is_of(line, person, items, named=named)]
        return lambda: b"".join(kept), len(lines) - len(kept)
    if path.suffix == ".parquet":
        table = contents.table(data, path)
        mine = pl.lit(False)
        for name, values in (("user_id", person.names), ("session_id", person.sessions), ("item_id", items)):
            if name in table.columns:
                mine |= pl.col(name).cast(pl.String).is_in(list(values)).fill_null(False)
        others = table.filter(~mine)
        return lambda: _parquet(others), len(table) - len(others)
    raise DataError(f"{path}: neither Parquet nor lines of JSON. Look into it yourself, and take it away.")


def _is_of(line: bytes, person: Person, items: Collection[str], *, named: bool) -> bool:
    """Return whether a line of JSON is a person's: an event, or where ids are `named` after people, a document."""
    try:
        row = json.loads(line)
    except (ValueError, RecursionError):
        return False  # no row that anything here can read
    if not isinstance(row, dict):
        return False
    ids = [row.get("user_id"), *([row.get("id")] if named and "event" not in row else [])]
    mine = any(str(one) in person.names for one in ids if one is not None)
    return mine or str(row.get("session_id")) in person.sessions or str(row.get("item_id")) in items


def _parquet(table: pl.DataFrame) -> bytes:
    buffer = io.BytesIO()
    table.write_parquet(buffer)
    return buffer.getvalue()


def sha256_of(path: Path, *, world: World | None = None) -> str:
    """Return the sha256 of a file's bytes."""
    return hashlib.sha256((world or RealWorld()).read(path)).hexdigest()


# ── searching ─────────────────────────────────────────────────────────────────────────────────────────────────────


@dataclass
class Searched:
    """What a search looked through, and where it found what it looked for."""

    files: int = 0
    bytes: int = 0
    hits: tuple[str, ...] = ()


def search(folders: Iterable[Path], text: str, *, leave_out: Iterable[Path] = ()) -> Searched:
    """Search names and bytes of all files under some folders for a text; Parquet is unpacked, databases are asked too.

    An open database has parts of itself in its -wal and -shm, which are searched as files.
    """
    found, hits, left_out = Searched(), set(), set(leave_out)
    needles = {text.encode(), json.dumps(text)[1:-1].encode()}
    for path in sorted({path for folder in folders for path in folder.rglob("*")}):
        if any(needle in path.name.encode() for needle in needles):
            hits.add(str(path))
        if path in left_out or path.is_symlink() or not path.is_file():
            continue
        found.files += 1
        found.bytes += path.stat().st_size
        if any(needle in piece for piece in _pieces(path, max(map(len, needles))) for needle in needles):
            hits.add(str(path))
    found.hits = tuple(sorted(hits))
    return found


def _pieces(path: Path, overlap: int) -> Iterator[bytes]:
    """Yield the bytes of a file, and what they hold packed."""
    with open(path, "rb") as file:
        before = b""
        while piece := file.read(PIECE):
            yield before + piece
            before = piece[-overlap:]
    if path.suffix == ".parquet":
        table = pl.read_parquet(path)
        texts = [name for name, kind in table.schema.items() if not (kind.is_numeric() or kind.is_temporal())]
        for start in range(0, len(table) if texts else 0, 100_000):
            buffer = io.BytesIO()
            table.select(texts).slice(start, 100_000).write_ndjson(buffer)
            yield buffer.getvalue()
    if path.name == FILE:  # a long value lies on several pages of the file
        still = not path.with_name(f"{FILE}-wal").exists()
        with closing(read_only(path.parent, still=still)) as connection:
            tables = connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall()
            for (table_name,) in tables:
                for row in connection.execute(f'SELECT * FROM "{table_name}"'):
                    yield " ".join(str(value) for value in row if isinstance(value, str)).encode()
