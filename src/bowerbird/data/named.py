"""Named data sets: fetched from where they are published, checksummed, cached, their owner's terms shown once.

Nothing here is part of bowerbird, and nothing of it is ever committed. What is known about each set stands in
named.toml; how its files are read, in `sets`.
"""

import hashlib
import os
import sys
import tomllib
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from importlib.resources import files
from pathlib import Path
from typing import Any

from bowerbird.core import DataError, did_you_mean
from bowerbird.data import sets
from bowerbird.data.archives import open_zip
from bowerbird.data.encoded import is_encoded, read_encoded
from bowerbird.data.files import typed
from bowerbird.data.interactions import EventType, Interactions
from bowerbird.data.readers import read
from bowerbird.data.rows import Rows
from bowerbird.data.splits import Holdout, Split, split

WATCH = EventType("watch", phrase="watched")  # rated three stars or fewer: chosen, not praised
ROOT_VARIABLE = "BOWERBIRD_DATA"  # a folder that holds data sets by name; the option --data-root wins over it
READ_WITH = {  # kind → the function that reads such a set
    "interactions": "load",  # one table of events
    "split": "load_split",  # train, test and perhaps validation, as published
    "rows": "load_rows",  # feature tables with labels, for ranking models
    "logged": "load_rows",  # bandit feedback: what was shown, with which propensity, and whether it was clicked
}


@dataclass(frozen=True)
class NamedData:
    """A published data set and the terms of its owner."""

    name: str  # a set and, after a slash, one of its variants; variants share the set's folder
    title: str
    kind: str  # a key of `READ_WITH`
    scenario: str
    terms: str
    citation: str
    homepage: str  # where the owner publishes it
    files: Mapping[str, str]  # file name → sha256 of its content, unpacked
    addresses: Mapping[str, str]  # file name → where just these bytes are published; see `fetch`
    layout: Mapping[str, Any]  # the format and its parameters; see `sets`
    relations: Mapping[str, Any] = field(default_factory=dict)  # see `sets.relate`
    prepare: str = ""  # how the files are made from the owner's, where they cannot be fetched as they are

    @property
    def folder(self) -> str:
        """The name of the folder that holds the files."""
        return self.name.split("/")[0]


class Registry(Mapping[str, NamedData]):
    """The sets of named.toml by name, read when first asked for."""

    @cached_property
    def _sets(self) -> dict[str, NamedData]:
        text = files("bowerbird.data").joinpath("named.toml").read_text(encoding="utf-8")
        return {name: _described(name, **entry) for name, entry in tomllib.loads(text).items()}

    def __getitem__(self, name: str) -> NamedData:
        return self._sets[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._sets)

    def __len__(self) -> int:
        return len(self._sets)


def _described(name: str, *, files: Mapping[str, Mapping[str, str]], **entry: Any) -> NamedData:
    sums = {file: about["sha256"] for file, about in files.items()}
    addresses = {file: about["from"] for file, about in files.items() if "from" in about}
    return NamedData(name=name, files=sums, addresses=addresses, **entry)


REGISTRY: Mapping[str, NamedData] = Registry()


def load(source: str | Path, *, data_root: str | None = None, **columns: Any) -> Interactions:
    """Return a named data set, its owner's zip, or whatever `read` makes of a path; `data_root` is for `get`."""
    path, name = Path(source), str(source)
    given = [column for column, value in columns.items() if value is not None]
    if name in REGISTRY:
        if given:
            raise DataError(f"{source} brings its own columns; leave out {', '.join(given)}.")
        data, folder = _located(name, "load", data_root)
        [events] = _parts(data, folder).values()
        return sets.relate(events, folder, data.relations)
    if is_encoded(path):
        if own := [column for column in given if column not in ("items", "users")]:
            raise DataError(f"{source} holds codes, and knows its columns; leave out {', '.join(own)}.")
        return read_encoded(path, items=columns.get("items"), users=columns.get("users"))
    if path.suffix == ".zip" and path.is_file() and not given:
        return _owners_zip(path)
    if not path.exists() and not path.suffix and (os.sep not in name or name.split("/")[0] in REGISTRY):
        raise DataError(
            f'no file and no data set is named "{source}".{did_you_mean(name, REGISTRY)} '
            f"`bowerbird data list` shows the data sets."
        )
    return read(source, **columns)


def load_split(name: str, *, data_root: str | None = None) -> Split:
    """Return a data set in the parts that were published; without a validation part, one is cut from train.

    `data_root` is for `get`. Raises `DataError`.
    """
    data, folder = _located(name, "load_split", data_root)
    parts = _parts(data, folder)
    train, test = parts["train"], parts["test"]
    given = split(train, test=test, valid=parts["valid"]) if "valid" in parts else split(train, test=test)
    beside = partial(sets.relate, folder=folder, relations=data.relations)

    def related(part: Holdout) -> Holdout:
        return replace(part, known=beside(part.known), history=beside(part.history), targets=beside(part.targets))

    return replace(given, train=beside(given.train), valid=related(given.valid), test=related(given.test))


def load_rows(name: str, *, data_root: str | None = None) -> dict[str, Rows]:
    """Return the feature tables of a data set by part; users and items keep one row number through all of them.

    `data_root` is for `get`. Raises `DataError`.
    """
    data, folder = _located(name, "load_rows", data_root)
    layout = dict(data.layout)
    return sets.ROW_FORMATS[layout.pop("format")](folder, **layout)


def _parts(data: NamedData, folder: Path) -> dict[str, Interactions]:
    layout = dict(data.layout)
    return sets.EVENT_FORMATS[layout.pop("format")](folder, **layout)


def _located(name: str, function: str, data_root: str | None) -> tuple[NamedData, Path]:
    """Return a data set and its folder; raises `DataError` where it is not of the kind that `function` reads."""
    data = _known(name)
    right = READ_WITH[data.kind]
    if right != function:
        raise DataError(f'{name} is a set of kind "{data.kind}". Read it with {right}("{name}").')
    return data, get(name, data_root=data_root)


def _known(name: str) -> NamedData:
    if name not in REGISTRY:
        raise DataError(f'no data set is named "{name}".{did_you_mean(name, REGISTRY)}')
    return REGISTRY[name]


def cache_folder() -> Path:
    """Return the folder where downloads are kept: `XDG_CACHE_HOME`, or .cache in the home folder."""
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "bowerbird"


def get(name: str, *, data_root: str | None = None) -> Path:
    """Return the folder with a data set's files, fetching them the first time; raises `DataError`."""
    data = _known(name)
    root = data_root or os.environ.get(ROOT_VARIABLE)
    if root and (Path(root) / data.folder).is_dir():
        return _checked(data, Path(root) / data.folder)
    folder = cache_folder() / data.folder
    missing = [file for file in data.files if not (folder / file).exists()]
    if missing:
        if not set(missing) <= set(data.addresses):
            raise DataError(_unpublished(data, root))
        print(f"{data.title}\n{data.terms}\n{data.citation}", file=sys.stderr)
        from bowerbird.data.fetch import fetch  # what speaks HTTP is not imported before it is needed

        fetch(name, {file: data.addresses[file] for file in missing}, data.files, folder)
    return _checked(data, folder)


def _checked(data: NamedData, folder: Path) -> Path:
    for file, sha256 in data.files.items():
        path = folder / file
        if not path.exists():
            raise DataError(f"{path}: the file is missing. {data.name} needs {', '.join(data.files)}.")
        if _sha256(path) != sha256:
            raise DataError(f"{path}: the file differs from the published one. Put that in its place, or remove it.")
    return folder


def _sha256(path: Path) -> str:
    """Return the checksum of a file's content, or an empty text where it cannot be unpacked."""
    try:
        return hashlib.sha256(sets.unpacked(path)).hexdigest()
    except (OSError, EOFError, zlib.error):  # what a damaged .gz raises
        return ""


def _unpublished(data: NamedData, root: str | None) -> str:
    looked = f", and {root} holds no folder {data.folder}" if root else ""
    return (
        f"{data.name} cannot be fetched: its files are published nowhere in this form{looked}. "
        f"The owner publishes the set at {data.homepage}. {data.terms} "
        f"Prepare {', '.join(data.files)} in DIR/{data.folder} ({data.prepare}), "
        f"and name DIR with --data-root or {ROOT_VARIABLE}."
    )


def _owners_zip(path: Path) -> Interactions:
    """Read the zip of a set whose rows are stars, as MovieLens publishes all of its sets; other zips as `read` does."""
    table = open_zip(path)
    ratings = typed(table.columns(table.names), table.kinds, table.place)
    if "rating" not in ratings.columns or not ratings["rating"].dtype.is_numeric():
        return read(path)
    sides = {key: typed(side.columns(side.names), side.kinds, side.place) for key, side in table.sides.items()}
    return sets.rated(ratings, WATCH, **sides)
