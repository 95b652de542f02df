"""Columns: what each column of a table means to a ranker, as Python and as TOML.

Kinds: numeric, categorical, bag (several values), history (a user's past items), vector, text, image, audio, cross.
What the columns of a table seem to be is in `features.inference`; how they become numbers, in `features.encoder` and,
for texts, pictures and sounds, in `features.media`.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, asdict, dataclass, fields
from pathlib import Path
from typing import Any, ClassVar

from bowerbird.core import ConfigError, build, check, closest, did_you_mean
from bowerbird.core.config import shown
from bowerbird.core.toml import read_toml
from bowerbird.features.fields import PARTS

TRANSFORMS = ("knots", "standard", "log", "none")
POOLINGS = ("mean", "sum", "attention")
TABLES = {"column": ""} | {part: part for part in PARTS}  # arrays of tables in TOML → part


@dataclass(frozen=True, kw_only=True)
class Column:
    """What all columns have: a name."""

    kind: ClassVar[str]
    name: str


@dataclass(frozen=True, kw_only=True)
class Numeric(Column):
    """A number. Empty and infinite values have a row of their own.

    With knots it has a row at each of so many of its values, half of them quantiles of rows and half of distinct
    values, and between two of them a mixture of theirs, so that any bent line can be learned (linear splines;
    Gorishniy et al., NeurIPS 2022, arXiv:2203.05556, take as many slots as knots for the same).
    """

    kind = "numeric"
    transform: str = "knots"  # "knots"; or one row times the number: "standard", "log" of its size first, "none"
    knots: int = 128  # of "knots": how many values have a row
    buckets: int = 0  # above 0: which of so many quantiles of training it lies in, as a category, not transformed

    def __post_init__(self) -> None:
        allowed = ", ".join(TRANSFORMS)
        check(self.transform in TRANSFORMS, "transform", self.transform, f"must be one of {allowed}")
        check(self.knots >= 2, "knots", self.knots, "must be 2 or more", try_instead=128)
        check(self.buckets >= 0, "buckets", self.buckets, "must be 0 or more", try_instead=20)


@dataclass(frozen=True, kw_only=True)
class Categorical(Column):
    """One of many values; what training did not see has a row of its own, and so has an empty value."""

    kind = "categorical"
    min_count: int = 1  # times that training must have seen a value; rarer ones are unknown
    buckets: int = 0  # above 0: hashed into so many rows instead of a vocabulary

    def __post_init__(self) -> None:
        check(self.min_count >= 1, "min_count", self.min_count, "must be 1 or more", try_instead=2)
        check(self.buckets >= 0, "buckets", self.buckets, "must be 0 or more", try_instead=100_000)


@dataclass(frozen=True, kw_only=True)
class Bag(Column):
    """Several values in any order: a list, or a text with a separator."""

    kind = "bag"
    min_count: int = 1
    buckets: int = 0
    separator: str = ""  # of a text; empty for a column of lists
    pooling: str = "mean"  # "mean", "sum" or "attention"
    most: int = 50  # values of a row that are kept, first ones first

    def __post_init__(self) -> None:
        check(self.pooling in POOLINGS, "pooling", self.pooling, f"must be one of {', '.join(POOLINGS)}")
        check(self.min_count >= 1, "min_count", self.min_count, "must be 1 or more", try_instead=2)
        check(self.buckets >= 0, "buckets", self.buckets, "must be 0 or more", try_instead=100_000)
        check(self.most >= 1, "most", self.most, "must be 1 or more", try_instead=50)


@dataclass(frozen=True, kw_only=True)
class History(Column):
    """A user's past items, oldest first, in the values of another column. The last ones are kept."""

    kind = "history"
    of: str  # the categorical column whose values these are
    most: int = 50

    def __post_init__(self) -> None:
        check(self.most >= 1, "most", self.most, "must be 1 or more", try_instead=50)


@dataclass(frozen=True, kw_only=True)
class Vector(Column):
    """A list of numbers of one length. A row without it has zeros."""

    kind = "vector"
    size: int

    def __post_init__(self) -> None:
        check(self.size >= 1, "size", self.size, "must be 1 or more")


@dataclass(frozen=True, kw_only=True)
class Text(Column):
    """What is written: a text, or a list of them. It becomes a vector; see `features.texts` for the encoders."""

    kind = "text"
    encoder: str = "auto"  # a name in `features.texts`, or a sentence-transformers model


@dataclass(frozen=True, kw_only=True)
class Image(Column):
    """A picture: the path of a file, or its bytes. It becomes a vector; see `features.images` for the encoders."""

    kind = "image"
    encoder: str = "auto"  # a name in `features.images`, or a sentence-transformers model of pictures


@dataclass(frozen=True, kw_only=True)
class Audio(Column):
    """A sound: the path of a file, or its bytes. It becomes a vector; see `features.sounds` for the encoder."""

    kind = "audio"
    encoder: str = "auto"  # a name in `features.sounds`


@dataclass(frozen=True, kw_only=True)
class Cross(Column):
    """Columns taken together, hashed, for the linear part: its weights know pairs that no sum of two weights can."""

    kind = "cross"
    name: str = ""  # left out: made of the columns
    columns: tuple[str, ...]
    buckets: int = 100_000

    def __post_init__(self) -> None:
        check(len(self.columns) >= 2, "columns", self.columns, "must name two or more")
        check(self.buckets >= 1, "buckets", self.buckets, "must be 1 or more", try_instead=100_000)
        if not self.name:
            object.__setattr__(self, "name", " × ".join(self.columns))


KINDS: dict[str, type[Column]] = {
    one.kind: one for one in (Numeric, Categorical, Bag, History, Vector, Text, Image, Audio, Cross)
}


def read_columns(path: str | Path) -> dict[str, tuple[Column, ...]]:
    """Read columns by part from TOML: a [[column]] each for a table on its own, which is part "".

    Where tables meet, a column stands under [[user]], [[item]] or [[request]]. Raises `ConfigError` naming the file and
    what is wrong.
    """
    try:
        document = read_toml(Path(path))
    except (OSError, ValueError) as error:
        raise ConfigError(f"{path} cannot be read as TOML: {error}") from None
    strange = [key for key in document if key not in TABLES]
    if strange:
        raise ConfigError(
            f"{path}: {strange[0]} is no table of columns.{did_you_mean(strange[0], TABLES)} Write [[column]] for a "
            "table on its own, or [[user]], [[item]] and [[request]] for tables that meet."
        )
    if not document or ("column" in document and len(document) > 1):
        raise ConfigError(f"{path}: write columns of one table as [[column]], or of several as {', '.join(PARTS)}.")
    for key, columns in document.items():
        if not isinstance(columns, list) or not all(isinstance(one, dict) for one in columns):
            raise ConfigError(f'{path}: write a table for each column: [[{key}]], name = "age", kind = "numeric".')
    return {TABLES[key]: columns_of_dicts(columns, where=str(path)) for key, columns in document.items()}


def columns_of_dicts(documents: Sequence[Mapping[str, Any]], *, where: str = "") -> tuple[Column, ...]:
    """Return columns from their dictionaries, as `to_dict` writes them; raises `ConfigError`."""
    found = []
    for document in documents:
        values = dict(document)
        kind, name = values.pop("kind", None), values.get("name")
        place = f'{where}, column "{shown(name, plain=True)}"' if where else ""
        if not isinstance(kind, str) or kind not in KINDS:
            meant = f" {near} is not it." if kind is None and (near := closest("kind", values)) else ""
            meant = meant or did_you_mean(shown(kind, plain=True), KINDS)
            raise ConfigError(f"kind is {shown(kind)}; it must be one of {', '.join(KINDS)}.{meant}", where=place)
        missing = [one.name for one in fields(KINDS[kind]) if one.default is MISSING and one.name not in values]
        if missing:
            raise ConfigError(f"a column of kind {kind} needs {' and '.join(missing)}.", where=place)
        found.append(build(KINDS[kind], values, where=place))
    names = [column.name for column in found]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ConfigError(f'column "{twice[0]}" is there twice. Leave one out.', where=where)
    return tuple(found)


def to_dict(column: Column) -> dict[str, Any]:
    """Return a column as JSON and TOML keep it."""
    return {"name": column.name, "kind": column.kind} | {key: v for key, v in asdict(column).items() if key != "name"}


def to_toml(columns: Mapping[str, Sequence[Column]]) -> str:
    """Return columns by part as TOML that `read_columns` reads, without what is as usual."""
    blocks = [_block(part or "column", column) for part in columns for column in columns[part]]
    return "\n\n".join(blocks) + "\n"


def _block(table: str, column: Column) -> str:
    usual = {one.name: one.default for one in fields(column)}
    kept = {key: value for key, value in to_dict(column).items() if key in ("name", "kind") or usual[key] != value}
    return "\n".join([f"[[{table}]]", *(f"{key} = {_toml(value)}" for key, value in kept.items())])


def _toml(value: Any) -> str:
    """Return a text, a whole number or a list of texts: as JSON writes them, but for one character."""
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
