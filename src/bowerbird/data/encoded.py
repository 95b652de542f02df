"""Encoded parts: Parquet in many files as int32 codes under one vocabulary, by tasks that can run anywhere.

First pass, a task for each piece of a file: ids are numbered within the piece, and its distinct ids are written. Then
one task each for users and items: the union of what was written, in the order in which ids first appear, so that `read`
numbers the same files alike. Second pass, a task for each piece: numbers within the piece become rows of the union.
Texts are read once; whoever gives out the tasks sees names of files and counts, never a row.

It is for interactions. Feature tables are encoded by `features.Encoder`, and streamed by `training.streams`.
"""

import hashlib
import json
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Protocol, TypeVar

import polars as pl

from bowerbird.core import DataError
from bowerbird.core.ids import Ids
from bowerbird.data.files import Table, open_files
from bowerbird.data.interactions import EventType, Interactions
from bowerbird.data.places import Part, Place
from bowerbird.data.readers import columns_of, encode_ids, numbers_of, seconds_of, side_table

ABOUT = "_encoded.json"  # names that begin with _ are no parts, see `files`
SIDES = {"user": "_users.parquet", "item": "_items.parquet"}
PIECE = 4_000_000  # rows of a task: 300 MB while texts are numbered

T = TypeVar("T")
R = TypeVar("R")


class Run(Protocol):
    """Whoever runs tasks: `map` here, `distributed.cluster.tasks` on several machines."""

    def __call__(self, function: Callable[[T], R], tasks: Iterable[T], /) -> Iterable[R]:
        """Return what the function makes of each task, in their order."""
        ...


@dataclass(frozen=True)
class Piece:
    """Rows of one file, and where they go."""

    path: str
    start: int
    rows: int
    out: str  # a folder
    number: int

    def file(self, what: str) -> Path:
        """Return a file of this piece."""
        return Path(self.out) / f"{what}-{self.number:05}.parquet"


def encode(
    source: str | Path | Sequence[str | Path],
    out: str | Path,
    *,
    user: str | None = None,
    item: str | None = None,
    time: str | None = None,
    event: str | None = None,
    weight: str | None = None,
    run: Run = map,
) -> Path:
    """Write the interactions of Parquet files as codes into folder `out`, which `load` takes; return the folder.

    Columns are named or inferred as by `read`; others stay behind. A folder that holds just these files' codes is left
    as it is. All that run tasks must see the files and the folder under these names. Raises `DataError`.
    """
    wanted = {"user": user, "item": item, "time": time, "event": event, "weight": weight}
    table, folder = open_files(source, "parquet"), Path(out)
    found = columns_of(table.names, wanted, table)
    about: dict[str, Any] = {"source": _fingerprint(table, found), "columns": found}
    if (folder / ABOUT).exists() and json.loads((folder / ABOUT).read_text())["source"] == about["source"]:
        return folder
    folder.mkdir(parents=True, exist_ok=True)
    (folder / ABOUT).unlink(missing_ok=True)  # until all is written there is nothing to read
    pieces = _pieces(table.place.parts, str(folder.absolute()))
    if not pieces:
        raise DataError(f"{table.place}: there is no row. Give files with at least one.")
    names = list(dict.fromkeys(name for some in run(partial(_number, columns=found), pieces) for name in some))
    sizes = list(run(partial(_unite, pieces=pieces), list(SIDES)))
    counts = list(run(partial(_renumber, names=names), pieces))
    about |= {"users": sizes[0], "items": sizes[1], "rows": sum(counts), "parts": len(pieces)}
    about |= {"events": names or ["interaction"], "origin": f"{table.place}: {_said(found)}"}
    scratch = folder / f"{ABOUT}.part"
    scratch.write_text(json.dumps(about, indent=1))
    os.replace(scratch, folder / ABOUT)
    return folder


def is_encoded(source: Any) -> bool:
    """Return whether this is a folder that `encode` has written."""
    return isinstance(source, str | Path) and (Path(source) / ABOUT).is_file()


def read_encoded(folder: str | Path, *, items: Any = None, users: Any = None) -> Interactions:
    """Return the interactions of a folder that `encode` has written, beside tables of items and users."""
    folder = Path(folder)
    about = json.loads((folder / ABOUT).read_text())
    paths = [folder / f"part-{number:05}.parquet" for number in range(about["parts"])]
    columns = pl.read_parquet(paths, glob=False)
    ids = {role: Ids(pl.read_parquet(folder / file)["id"]) for role, file in SIDES.items()}
    other = {
        role: columns[role].to_numpy() if role in columns.columns else None for role in ("time", "event", "weight")
    }
    whole = Interactions.encoded(
        (ids["user"], columns["user"].to_numpy()),
        (ids["item"], columns["item"].to_numpy()),
        **other,
        events=tuple(EventType(name) for name in about["events"]),
        extra=None,
        origin=about["origin"],
    )
    sides = {"items": items, "users": users}
    return whole.with_tables(**{key: side_table(one, key[:-1]) for key, one in sides.items() if one is not None})


# ── tasks ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def _number(piece: Piece, columns: Mapping[str, str]) -> list[str]:
    """Write a piece with ids numbered within it, and its distinct ids; return the kinds of event in it."""
    place = Place(f"{piece.path}, {piece.rows:,} rows from row {piece.start + 1:,} on")
    table = Table(pl.scan_parquet(piece.path, glob=False).slice(piece.start, piece.rows), place)
    frame = table.columns(list(dict.fromkeys(columns.values())))
    coded: dict[str, Any] = {}
    for role in SIDES:
        ids, coded[role] = encode_ids(frame[columns[role]], place)
        ids.values.to_frame().write_parquet(piece.file(f"_{role}"))
    if "time" in columns:
        coded["time"] = seconds_of(frame[columns["time"]], place)
    if "weight" in columns:
        coded["weight"] = numbers_of(frame[columns["weight"]], place)
    names = list[str]()
    if "event" in columns:
        coded["event"] = frame[columns["event"]].cast(pl.String).fill_null("interaction")
        names = coded["event"].unique(maintain_order=True).to_list()
    pl.DataFrame(coded).write_parquet(piece.file("_numbered"), compression="lz4")
    return names


def _unite(role: str, pieces: Sequence[Piece]) -> int:
    """Write the distinct ids of all pieces, as they first appear; return how many there are."""
    files = [piece.file(f"_{role}") for piece in pieces]
    union = pl.read_parquet(files, glob=False).unique(maintain_order=True, keep="first")
    union.write_parquet(Path(pieces[0].out) / SIDES[role])
    return union.height


def _renumber(piece: Piece, names: Sequence[str]) -> int:
    """Write a piece with rows of the united ids; return how many rows it has."""
    frame = pl.read_parquet(piece.file("_numbered"), glob=False)
    coded = []
    for role, file in SIDES.items():
        row = Ids(pl.read_parquet(Path(piece.out) / file)["id"]).rows(pl.read_parquet(piece.file(f"_{role}"))["id"])
        coded.append(pl.Series(role, row[frame[role].to_numpy()]))
    if "event" in frame.columns:
        coded.append(frame["event"].replace_strict(names, list(range(len(names))), return_dtype=pl.UInt8))
    scratch = piece.file("_part")
    frame.with_columns(coded).write_parquet(scratch, compression="lz4")
    os.replace(scratch, piece.file("part"))
    for what in ("_numbered", *(f"_{role}" for role in SIDES)):
        piece.file(what).unlink()
    return frame.height


def _pieces(parts: Sequence[Part], out: str) -> list[Piece]:
    """Return the rows of all files in pieces."""
    found = [
        (str(part.path.absolute()), start, min(PIECE, part.n_rows - start))
        for part in parts
        for start in range(0, part.n_rows, PIECE)
    ]
    return [Piece(*one, out, number) for number, one in enumerate(found)]


def _fingerprint(table: Table, columns: Mapping[str, str]) -> str:
    """Return sha256 over names, sizes and times of the files, and the columns: what tells that they were encoded."""
    told = [[str(part.path), part.path.stat().st_size, part.path.stat().st_mtime_ns] for part in table.place.parts]
    return hashlib.sha256(json.dumps([told, dict(columns)]).encode()).hexdigest()


def _said(columns: Mapping[str, str]) -> str:
    return ", ".join(f"{role}={name}" for role, name in columns.items())
