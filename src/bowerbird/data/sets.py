"""How the files of a named set become tables: one function per format, chosen and parametrised in named.toml.

Each returns the parts of a set by name: one for a plain table; train, valid and test for a set that was split by
those who published it. Users, items and attribute values keep the numbers that the files give them.
"""

import gzip
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from bowerbird.data.files import typed
from bowerbird.data.interactions import Edges, EventType, Interactions
from bowerbird.data.places import Place
from bowerbird.data.readers import read, seconds_of
from bowerbird.data.rows import Rows

LIKE = EventType("like", phrase="liked")
GOOD = 4  # stars of five, from which a rating is a like; below, the item was chosen but not praised


def unpacked(path: Path) -> bytes:
    """Return the content of a file, unpacked where its name ends in .gz."""
    data = path.read_bytes()
    return gzip.decompress(data) if path.suffix == ".gz" else data


def table(
    folder: Path,
    *,
    parts: Mapping[str, str],
    event: Sequence[str],
    columns: Sequence[str] = (),
    separator: str = ",",
    items: Mapping[str, Any] | None = None,
    users: Mapping[str, Any] | None = None,
) -> dict[str, Interactions]:
    """Read one event a line. `event` is its name and its past tense; a rating of `GOOD` or more is a like instead."""
    kind = EventType(event[0], phrase=event[1])
    sides = _sides(folder, items=items, users=users)
    return {part: rated(frame(folder / file, columns, separator), kind, **sides) for part, file in parts.items()}


def lists(
    folder: Path,
    *,
    parts: Mapping[str, str],
    event: Sequence[str],
    items: Mapping[str, Any] | None = None,
    users: Mapping[str, Any] | None = None,
    vectors: Mapping[str, str] | None = None,
) -> dict[str, Interactions]:
    """Read `user item item …`, one user a line; `vectors` names .npy files (I, D) whose row r describes item r."""
    kind = EventType(event[0], phrase=event[1])
    sides = _sides(folder, items=items, users=users)
    if vectors:
        arrays = {name: np.load(folder / file).astype(np.float32) for name, file in vectors.items()}
        sides["items"] = pl.DataFrame({"item": np.arange(len(next(iter(arrays.values())))), **arrays})
    return {
        part: read(folder / file, format="lists", event_types=(kind,)).with_tables(**sides)
        for part, file in parts.items()
    }


def recbole(folder: Path, *, stem: str, event: Sequence[str]) -> dict[str, Interactions]:
    """Read RecBole's copy of MovieLens 100K: `.inter`, `.item`, `.user`; titles get their year back."""
    films = frame(folder / f"{stem}.item", separator="\t").select(
        "item_id",
        pl.format("{} ({})", "movie_title", "release_year").alias("title"),
        pl.col("release_year").cast(pl.Int64, strict=False).alias("year"),
        pl.col("class").alias("genres"),
    )
    people = frame(folder / f"{stem}.user", separator="\t")
    ratings = frame(folder / f"{stem}.inter", separator="\t")
    return {"all": rated(ratings, EventType(event[0], phrase=event[1]), items=films, users=people)}


def funnel(folder: Path, *, stages: Mapping[str, Sequence[str]], test: str = "") -> dict[str, Interactions]:
    """Read one timed table per kind of event: name → file and past tense. `test` lists what came last, untimed."""
    names = list(stages)
    kinds = tuple(EventType(name, phrase=stages[name][1], hides=name == names[-1]) for name in names)
    logs = [frame(folder / stages[name][0]).with_columns(event=pl.lit(name)) for name in names]
    parts = {"train" if test else "all": read(pl.concat(logs), event="event", event_types=kinds)}
    return parts | ({"test": read(folder / test, format="lists", event_types=kinds[-1:])} if test else {})


def matrix(
    folder: Path, *, parts: Mapping[str, str], event: Sequence[str], propensities: str,
    items: Sequence[str], users: Sequence[str],
) -> dict[str, Interactions]:  # fmt: skip
    """Read rating matrices (U, I), 0 where unobserved; `items` and `users` name a 0/1 matrix and its column names."""
    kind, propensity = EventType(event[0], phrase=event[1]), np.loadtxt(folder / propensities)
    sides = {}
    for side, (values, names) in {"items": items, "users": users}.items():
        described = pl.DataFrame(np.loadtxt(folder / values, dtype=np.int8), (folder / names).read_text().split("\n"))
        sides[side] = described.with_row_index(f"{side[:-1]}_id")
    rated_parts = {}
    for part, file in parts.items():
        ratings = np.loadtxt(folder / file, dtype=np.int8)
        user, item = np.nonzero(ratings)
        seen = {"user_id": user, "item_id": item, "rating": ratings[user, item], "propensity": propensity[user, item]}
        rated_parts[part] = rated(pl.DataFrame(seen), kind, **sides)
    return rated_parts


def contexts(folder: Path, *, parts: Mapping[str, str], event: Sequence[str]) -> dict[str, Interactions]:
    """Read CFM's `user-lastsong,song-artist,1,milliseconds`; last songs are numbered from 1,000 on, songs from 0."""
    kind, played = EventType(event[0], phrase=event[1]), {}
    for part, file in parts.items():
        fields = frame(folder / file, ["context", "song", "one", "time"])
        left, right = (fields[name].str.split("-").list for name in ("context", "song"))
        plays = pl.DataFrame({"user": left.get(0), "item": right.get(0), "artist": right.get(1)}).cast(pl.Int64)
        plays = plays.with_columns(fields["time"], last_song=left.get(1).cast(pl.Int64) - 1000)
        artists = plays.select("item", "artist").unique("item", keep="first", maintain_order=True)
        played[part] = read(plays.drop("artist"), event_types=(kind,), items=artists)
    return played


def rows(
    folder: Path,
    *,
    parts: Mapping[str, str],
    labels: Sequence[str],
    columns: Sequence[str] = (),
    separator: str = ",",
    texts: Sequence[str] = (),
    user: str = "",
    item: str = "",
    time: str = "",
    positive: str = "",
) -> dict[str, Rows]:
    """Read feature tables of the same columns. `texts` stay texts; `positive` is the text that a label of 1 has."""
    raw = [frame(folder / file, columns, separator, typed=False) for file in parts.values()]
    place, whole = Place(str(folder)), pl.concat(raw)
    whole = whole.with_columns(typed(whole.drop(texts), {}, place))  # all parts together, so that none disagrees
    answers = whole.select(pl.col(labels) == positive) if positive else whole.select(labels)
    everything = Rows(
        whole.drop(labels), answers.cast(pl.Float32).to_numpy(), tuple(labels),
        user=_numbered(whole[user]) if user else None,
        item=_numbered(whole[item]) if item else None,
        time=seconds_of(whole[time], place) if time else None,
    )  # fmt: skip
    of_part = np.repeat(np.arange(len(raw)), [part.height for part in raw])
    return {part: everything.take(of_part == place) for place, part in enumerate(parts)}


def tables(folder: Path, *, parts: Mapping[str, Mapping[str, Any]]) -> dict[str, Rows]:
    """Read feature tables of different columns: each part has the parameters of `rows`, and its `file`."""
    return {
        part: rows(folder, parts={part: how["file"]}, **{key: how[key] for key in how if key != "file"})[part]
        for part, how in parts.items()
    }


EVENT_FORMATS: dict[str, Callable[..., dict[str, Interactions]]] = {
    reader.__name__: reader for reader in (table, lists, recbole, funnel, matrix, contexts)
}
ROW_FORMATS: dict[str, Callable[..., dict[str, Rows]]] = {reader.__name__: reader for reader in (rows, tables)}


def relate(events: Interactions, folder: Path, relations: Mapping[str, Mapping[str, Any]]) -> Interactions:
    """Return the same events beside typed edges: name → file, its two `ends`, and perhaps its separator.

    Ends that are no user or item of `events` are left out; equal lines make one edge of that weight.
    """
    edges = {}
    for name, how in relations.items():
        source_kind, target_kind = how["ends"]
        pairs = _pairs(folder / how["file"], how.get("separator", "\t"))
        ids = {"user": events.user_ids, "item": events.item_ids}
        ends = {
            end: ids[kind].rows(pairs[end]) if kind in ids else _numbered(pairs[end])
            for end, kind in zip(pairs.columns, how["ends"], strict=True)
        }
        known = pl.DataFrame(ends).filter(pl.all_horizontal(pl.all() >= 0))
        counted = known.group_by("source", "target").len().sort("source", "target")
        source, target, weight = (counted[column].to_numpy() for column in counted.columns)
        edges[name] = Edges(source_kind, target_kind, source, target, weight.astype(np.float32))
    return replace(events, relations=edges)


def rated(ratings: pl.DataFrame, kind: EventType, **sides: pl.DataFrame) -> Interactions:
    """Return a table as interactions of `kind`, or likes where it has ratings and they are good."""
    if "rating" not in ratings.columns:
        return read(ratings, event_types=(kind,)).with_tables(**sides)
    event = pl.when(pl.col("rating") >= GOOD).then(pl.lit(LIKE.name)).otherwise(pl.lit(kind.name))
    return read(ratings.with_columns(event=event), event="event", event_types=(LIKE, kind)).with_tables(**sides)


def frame(path: Path, columns: Sequence[str] = (), separator: str = ",", *, typed: bool = True) -> pl.DataFrame:
    """Return a text table. `columns` names the fields of a file without a header; "::" is MovieLens's separator.

    Types that RecBole writes behind names are dropped, and so is a column without a name: it numbers the rows.
    """
    data = unpacked(path)
    if separator == "::":
        data, separator = data.decode("latin-1").replace("::", "\t").encode(), "\t"
    whole = pl.read_csv(
        data, separator=separator, has_header=not columns, quote_char='"' if separator == "," else None,
        infer_schema=typed, infer_schema_length=None,
    )  # fmt: skip
    names = columns or [name.split(":")[0] for name in whole.columns]
    return whole.rename(dict(zip(whole.columns, names, strict=False))).select(pl.exclude("^$"))


def _sides(folder: Path, **sides: Mapping[str, Any] | None) -> dict[str, pl.DataFrame]:
    return {side: _side(folder, **how) for side, how in sides.items() if how}


def _side(
    folder: Path, *, file: str, key: str, columns: Sequence[str] = (), separator: str = ",",
    renumbered: str = "", texts: str = "",
) -> pl.DataFrame:  # fmt: skip
    """Return a user or item table with its id `key` first.

    `renumbered` holds lines of a new id and the one that the table has; `texts` is JSON from id to abstract.
    """
    side = frame(folder / file, columns, separator)
    side = side.select(key, pl.exclude(key))
    if "title" in side.columns:
        side = side.with_columns(year=pl.col("title").str.extract(r"\((\d{4})\)\s*$").cast(pl.Int64))
    if texts:
        by_id = json.loads(unpacked(folder / texts))
        abstracts = pl.DataFrame({key: [int(row) for row in by_id], "abstract": list(by_id.values())})
        side = side.join(abstracts, on=key, how="left", maintain_order="left")
    if renumbered:
        ids = frame(folder / renumbered, ["new_id", key], " ")
        side = ids.join(side, on=key, how="left", maintain_order="left").rename({key: f"original_{key}"})
    return side


def _pairs(path: Path, separator: str) -> pl.DataFrame:
    """Return the two ends of every line; from JSON, each key and the values listed under it."""
    if path.suffix != ".json":
        return frame(path, ["source", "target"], separator).select("source", "target")
    listed = json.loads(path.read_bytes())
    pairs = pl.DataFrame({"source": [int(key) for key in listed], "target": list(listed.values())})
    return pairs.explode("target")


def _numbered(ids: pl.Series) -> np.ndarray:
    """Return the row of every id, int32: ids are numbered in their own order, smallest first."""
    return (ids.rank("dense") - 1).cast(pl.Int32).to_numpy()
