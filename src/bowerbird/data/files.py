"""Files: what a path, several paths, a glob or a folder holds, as columns. `readers` knows what the columns mean.

Text tables are read as texts; `typed` gives side columns the types that they spell or that a RecBole header names.
"""

import csv
import glob
import os
import re
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path
from typing import Any

import polars as pl

from bowerbird.core import DataError, did_you_mean
from bowerbird.core.parquet import check_pages, overfull
from bowerbird.data.places import PACKED, Part, Place, lines_of, opened, plain_name, unpacked

FORMATS = ("csv", "tsv", "parquet", "lists", "recbole", "movielens", "libsvm")
ENDINGS = {
    ".csv": "csv", ".tsv": "tsv", ".parquet": "parquet", ".pq": "parquet", ".txt": "lists",
    ".inter": "recbole", ".item": "recbole", ".user": "recbole",
    ".libsvm": "libsvm", ".svm": "libsvm", ".libffm": "libsvm", ".ffm": "libsvm",
}  # fmt: skip
PARTS = ("parquet", "csv", "tsv")  # what a folder of parts may hold
DAMAGED = (
    OSError, EOFError, zlib.error, UnicodeDecodeError, pl.exceptions.PolarsError, pl.exceptions.PanicException
)  # fmt: skip
HEADER, COLUMNS = 1 << 22, 10_000  # bytes and columns that the first line of a text may have
BUDGET, TIMES = 1 << 30, 1_000  # bytes that any Parquet file may take in memory, and times its own where that is more
CHECKED = 1 << 24  # bytes of a Parquet file whose pages are all looked at first, which takes 50 ms
SHOWN = 300  # letters of an error that others made
EVENTS = ("user_id", "item_id", "rating", "timestamp")  # the columns of a MovieLens table without a header
MOVIELENS = {  # and of those beside it
    "u.data": EVENTS,
    "u.item": ("item_id", "title", "release_date", "video_release_date", "url"),
    "u.user": ("user_id", "age", "gender", "occupation", "zip_code"),
    "movies.dat": ("item_id", "title", "genres"),
    "users.dat": ("user_id", "gender", "age", "occupation", "zip_code"),
}
GENRES = (
    "unknown", "Action", "Adventure", "Animation", "Children's", "Comedy", "Crime", "Documentary", "Drama", "Fantasy",
    "Film-Noir", "Horror", "Musical", "Mystery", "Romance", "Sci-Fi", "Thriller", "War", "Western",
)  # fmt: skip
# what a number would not give back stays text: leading zeros, twenty digits
SPELLINGS: tuple[tuple[str, Callable[[Any], Any]], ...] = (
    (r"^-?(0|[1-9]\d{0,17})$", lambda column: column.cast(pl.Int64)),
    (r"^-?(0|[1-9]\d{0,14})(\.\d+)?([eE][+-]?\d+)?$", lambda column: column.cast(pl.Float64)),
    (r"^(?i:true|false)$", lambda column: column.str.to_lowercase() == "true"),
    (r"^\d{4}-\d\d-\d\d$", lambda column: column.str.to_date("%Y-%m-%d")),
    (
        r"^\d{4}-\d\d-\d\d[T ]\d\d:\d\d",
        lambda column: column.str.to_datetime(time_unit="us", time_zone="UTC"),
    ),
)
UNIT = "\x1f"  # stands in for `::`, since a separator is one byte


@dataclass(frozen=True)
class Table:
    """The columns of a source, where their rows came from, and the tables that lay beside it."""

    frame: pl.LazyFrame
    place: Place
    roles: Mapping[str, str] = field(default_factory=dict)  # role → column, where the format itself says
    kinds: Mapping[str, str] = field(default_factory=dict)  # column → type, where the header itself says
    is_text: bool = False  # whether values are texts because their file knows nothing else
    sides: Mapping[str, "Table"] = field(default_factory=dict)  # "items", "users"

    @property
    def names(self) -> list[str]:
        """The names of the columns."""
        return self.frame.collect_schema().names()

    def columns(self, names: Sequence[str]) -> pl.DataFrame:
        """Return some columns, read now; raises `DataError` where a file turns out to be damaged."""
        try:
            return self.frame.select(names).collect(engine="streaming")
        except DAMAGED as error:
            raise DataError(f"{self.place}: the rows cannot be read. {first_line(error)}") from None


def open_files(source: str | Path | Sequence[str | Path], format: str | None) -> Table:
    """Return the table in a file, a list of files, a glob or a folder of parts, in the order of their names.

    Parquet is only scanned. Raises `DataError` where files cannot be read or differ in their columns.
    """
    given = source if isinstance(source, Sequence) and not isinstance(source, str) else [source]
    paths = [path for one in given for path in paths_of(str(one), format)]
    tables = [_open_file(path, format_of(path, format)) for path in paths]
    if len(tables) == 1:
        return replace(tables[0], sides=_beside(paths[0]) if format_of(paths[0], format) == "recbole" else {})
    first = tables[0]
    for path, table in zip(paths, tables, strict=True):
        _check_alike(first.frame.collect_schema(), table.frame.collect_schema(), paths[0], path)
    names = first.frame.collect_schema().names()
    return replace(
        first,
        frame=pl.concat([table.frame.select(names) for table in tables]),
        place=Place(
            str(source) if given == [source] else f"{len(paths)} files", sum((t.place.parts for t in tables), ())
        ),
    )


def paths_of(source: str, format: str | None) -> list[Path]:
    """Return the files that a name means: itself, those of a glob, or the parts in a folder, in name order."""
    path = Path(source)
    if path.is_dir():
        return _parts(path, format)
    if path.exists():
        return [path]
    if glob.has_magic(source):
        found = sorted(Path(name) for name in glob.glob(source))
        if not found:
            raise DataError(f"{source}: no file has such a name. Put the pattern in quotes, and check its folder.")
        return found
    near = did_you_mean(path.name, (other.name for other in path.parent.glob("*")))
    raise DataError(f"{path}: there is no such file.{near}")


def _parts(folder: Path, format: str | None) -> list[Path]:
    """Return the files of a folder that make one table; names that start with . or _ are bookkeeping."""
    found: dict[str, list[Path]] = {}
    for path in sorted(folder.iterdir()):
        kind = format or ENDINGS.get(Path(plain_name(path)).suffix)
        if path.is_file() and path.name[0] not in "._" and kind is not None:
            found.setdefault(kind, []).append(path)
    kinds = [kind for kind in found if kind in (format, *PARTS)]
    if not kinds:
        raise DataError(f"{folder}: this is a folder without parts (.parquet, .csv or .tsv). Name one file in it.")
    if len(kinds) > 1:
        raise DataError(
            f"{folder}: this folder holds {' and '.join(sorted(kinds))} files. "
            f'Name those that make the table, such as "{folder}/*.{kinds[0]}".'
        )
    return found[kinds[0]]


def _check_alike(first: pl.Schema, other: pl.Schema, first_path: Path, path: Path) -> None:
    if set(first) != set(other):
        missing, more = [name for name in first if name not in other], [name for name in other if name not in first]
        differs = [f"lacks {', '.join(missing)}"] * bool(missing) + [f"adds {', '.join(more)}"] * bool(more)
        raise DataError(
            f"{path}: its columns differ from those of {first_path.name}: it {' and '.join(differs)}. "
            "Files that make one table have the same columns."
        )
    for name, kind in first.items():
        if other[name] != kind:
            raise DataError(
                f'{path}, column "{name}": {other[name]} where {first_path.name} has {kind}. '
                "Files that make one table have the same types."
            )


def format_of(path: Path, format: str | None) -> str:
    """Return the format that was named, else the one that a file's ending or first line shows."""
    if format is not None and format not in FORMATS:
        raise DataError(f'no format is named "{format}".{did_you_mean(format, FORMATS)} Allowed: {FORMATS}.')
    if format is not None:
        return format
    name = plain_name(path)
    if name in MOVIELENS or (name.endswith(".dat") and "::" in _first_line(path)):
        return "movielens"
    return ENDINGS.get(Path(name).suffix, "csv")


def _open_file(path: Path, kind: str) -> Table:
    if not os.access(path, os.R_OK):
        raise DataError(f"{path}: this file may not be read. Ask for the permission, or copy it.")
    if path.stat().st_size == 0:
        raise DataError(f"{path}: the file is empty.")
    if kind == "libsvm":
        raise DataError(f"{path}: libsvm holds labels and features, and no interactions. Read it with read_rows.")
    separator = ""
    try:
        if kind == "parquet":
            return _parquet(path)
        if kind == "lists":
            frame = _read_lists(path).lazy()
            return Table(frame, Place(str(path)), roles={"user": "user", "item": "item"})
        if kind == "movielens":
            lines = _read_movielens(path)
            return Table(lines.lazy(), Place(str(path), (Part(path, lines.height, 1),)), is_text=True)
        separator = "\t" if kind == "tsv" else separator_of(path)
        return _separated(path, separator, kind)
    except DAMAGED as error:
        raise unreadable(path, kind, separator, error) from None


def first_line(error: BaseException) -> str:
    """Return what an error of another package says, without what it tells of the file at length."""
    said = str(error).strip().split("\n")[0]
    return said if len(said) <= SHOWN else f"{said[:SHOWN]}…"


def _parquet(path: Path) -> Table:
    told = overfull(path, max(BUDGET, TIMES * path.stat().st_size))
    if told:
        raise DataError(f"{path}: {told}, as no file of this size does. Copy it again, or write it anew.")
    if path.stat().st_size <= CHECKED:
        check_pages(path)
    frame = pl.scan_parquet(path, glob=False)
    n_rows = int(frame.select(pl.len()).collect().item())
    return Table(frame, Place(str(path), (Part(path, n_rows, None),)))


def _separated(path: Path, separator: str, kind: str) -> Table:
    quote = quote_of(kind)
    check_header(path, separator)
    source: Any = path
    if path.suffix in PACKED:
        with unpacked(path) as file:
            source = file.read()
    frame = pl.read_csv(source, separator=separator, quote_char=quote, infer_schema=False, glob=False)
    while frame.height and all(value is None for value in frame.row(-1)):
        frame = frame.head(-1)  # blank lines at the end
    names, kinds = header_of(frame.columns, kind)
    part = Part(path, frame.height, 2, separator if quote else "")
    return Table(frame.rename(names).lazy(), Place(str(path), (part,)), kinds=kinds, is_text=True)


def quote_of(kind: str) -> str | None:
    """Return what quotes a field; RecBole's files quote nothing."""
    return None if kind == "recbole" else '"'


def header_of(columns: Sequence[str], kind: str) -> tuple[dict[str, str], dict[str, str]]:
    """Return the plain name of every column as it is written, and the type of those that a RecBole header types."""
    names = {name: name.strip() for name in columns}
    if kind != "recbole":
        return names, {}
    parted = {name: plain.rpartition(":") for name, plain in names.items()}
    plain = {name: before or rest for name, (before, _, rest) in parted.items()}
    return plain, {before: rest for before, _, rest in parted.values() if before}


def _read_lists(path: Path) -> pl.DataFrame:
    """Read `user item item …`, one user a line, as NGCF and S3-Rec publish them; numbers stay integers."""
    with opened(path) as file:
        lines = pl.Series("line", file.read().splitlines())
    fields = lines.str.strip_chars().str.replace_all(r"\s+", " ").str.split(" ")
    frame = pl.DataFrame({"user": fields.list.first(), "item": fields.list.slice(1)})
    frame = frame.filter(pl.col("item").list.len() > 0).explode("item")
    whole = frame.select(pl.all().cast(pl.Int64, strict=False))
    return frame if sum(whole.null_count().row(0)) else whole


def _read_movielens(path: Path) -> pl.DataFrame:
    """Read a table without a header whose fields part at `::`, a tab or a bar; what is not UTF-8 is latin-1."""
    name = plain_name(path)
    try:
        with opened(path) as file:
            text = file.read()
    except UnicodeDecodeError:
        with opened(path, encoding="latin-1") as file:
            text = file.read()
    head = text.partition("\n")[0]
    separator = UNIT if "::" in head else max("\t|", key=head.count)
    data = (text.replace("::", UNIT) if separator == UNIT else text).encode()
    frame = pl.read_csv(data, has_header=False, separator=separator, quote_char=None, infer_schema=False)
    known = MOVIELENS.get(name, EVENTS)
    fresh = [known[place] if place < len(known) else f"column_{place + 1}" for place in range(frame.width)]
    frame = frame.rename(dict(zip(frame.columns, fresh, strict=True)))
    if name == "u.item" and frame.width == len(known) + len(GENRES):
        flags = [pl.when(pl.col(flag) == "1").then(pl.lit(genre))
                 for flag, genre in zip(fresh[len(known) :], GENRES, strict=True)]  # fmt: skip
        frame = frame.select(*known, genres=pl.concat_str(flags, separator="|", ignore_nulls=True))
    return frame


def _beside(path: Path) -> dict[str, Table]:
    """Return the `.item` and `.user` files that share the name of an `.inter` file."""
    name = plain_name(path)
    if not name.endswith(".inter"):
        return {}
    sides = {}
    for key, ending in (("items", ".item"), ("users", ".user")):
        for packed in ("", *PACKED):
            side = path.with_name(name.removesuffix(".inter") + ending + packed)
            if key not in sides and side.exists():
                sides[key] = _open_file(side, "recbole")
    return sides


def _first_line(path: Path) -> str:
    try:
        with opened(path, errors="replace") as file:
            return file.readline(HEADER)
    except DAMAGED:
        return ""  # reading it will say what is wrong


def separator_of(path: Path) -> str:
    """Return the separator that the first line holds most often."""
    with opened(path, errors="replace") as file:
        header = file.readline(HEADER)
    return max(",\t;|", key=header.count)


def check_header(path: Path, separator: str) -> None:
    """Raise `DataError` where the first line of a text is no line of names."""
    with unpacked(path) as file:
        header = file.readline(HEADER)
    if header.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise DataError(f"{path}: the text is UTF-16. Convert it: iconv -f utf-16 -t utf-8 FILE.")
    if b"\r" in header and not header.endswith(b"\n"):
        raise DataError(f"{path}: lines end in carriage returns alone. Convert them: tr '\\r' '\\n' < FILE.")
    if len(header) == HEADER:
        raise DataError(f"{path}: the first line has {HEADER:,} bytes or more. Put a line of names above the rows.")
    n = header.count(separator.encode()) + 1
    if n > COLUMNS:
        raise DataError(f"{path}: the first line names {n:,} columns; {COLUMNS:,} are allowed. Leave some out.")


def unreadable(path: Path, kind: str, separator: str, error: BaseException) -> DataError:
    """Return what to say of a file that cannot be read, given the error that came first."""
    reason = _reason(path, kind, separator) or first_line(error)
    return DataError(f"{path}: cannot be read as {kind}. {reason}")


def _reason(path: Path, kind: str, separator: str) -> str:
    """Return why a file cannot be read, and a way to mend it; empty where the first error says it best."""
    if kind == "parquet":
        return _not_parquet(path)
    return _damage(path) or _line_in_latin(path) or (_ragged_line(path, separator) if separator else "")


def _damage(path: Path) -> str:
    try:
        with opened(path, encoding="latin-1") as file:
            while file.read(1 << 20):
                pass
    except DAMAGED as error:
        return f"It is damaged or cut short ({error}). Copy or pack it again."
    return ""


def _ragged_line(path: Path, separator: str) -> str:
    """Return which line has another number of fields than the header, or quotes that are none; empty for neither."""
    before = 0
    try:
        rows = lines_of(path, separator, strict=True)
        before, header = next(rows, (0, []))
        for line, row in islice(rows, 10_000_000):
            if len(row) > len(header):
                return (
                    f"Line {line:,} has {len(row)} fields where the header has {len(header)}. "
                    "Quote the field that holds the separator, or mend the line."
                )
            before = line
    except csv.Error as error:
        if "expected after" in str(error):
            return f"Line {before + 1:,} has a quote that neither begins nor ends a field. Write two for one."
        return f"A quote that begins on line {before + 1:,} is not closed, or the text in it is too long."
    except DAMAGED:
        pass  # the first error says it better
    return ""


def _line_in_latin(path: Path) -> str:
    """Return which line of a text is not UTF-8; empty when all of them are."""
    with opened(path, encoding="latin-1") as file:
        for line, text in enumerate(islice(file, 10_000_000), 1):
            if not text.isascii() and not _is_utf8(text.encode("latin-1")):
                return f"Line {line:,} is not UTF-8; it may be latin-1. Convert it: iconv -f latin1 -t utf-8 FILE."
    return ""


def _is_utf8(data: bytes) -> bool:
    try:
        data.decode()
    except UnicodeDecodeError:
        return False
    return True


def _not_parquet(path: Path) -> str:
    with open(path, "rb") as file:
        start = file.read(4)
    return "" if start == b"PAR1" else 'It is no Parquet file; if it is text, say which: format="csv" (--format csv).'


def typed(frame: pl.DataFrame, kinds: Mapping[str, str], place: Place) -> pl.DataFrame:
    """Return texts as what they are: by a RecBole header where `kinds` has one, else by what all of them spell."""
    return frame.with_columns(
        _by_header(frame[name], kinds[name], place) if name in kinds else _spelled(frame[name])
        for name in frame.columns
        if frame[name].dtype == pl.String
    )


def _by_header(column: pl.Series, kind: str, place: Place) -> pl.Series:
    if kind == "token_seq":
        return column.str.split(" ")
    if kind not in ("float", "float_seq"):
        return column
    if kind == "float_seq":
        return column.str.split(" ").list.eval(pl.element().cast(pl.Float64, strict=False))
    column = pl.select(pl.when(column.str.len_bytes() > 0).then(column)).to_series().rename(column.name)
    numbers = column.cast(pl.Float64, strict=False)
    place.refuse(numbers.is_null() & column.is_not_null(), column.name, "are not numbers", "Mend or drop them.")
    return numbers


def _spelled(column: pl.Series) -> pl.Series:
    meant = spelling_of(column)
    try:
        return column if meant is None else meant(column)
    except pl.exceptions.PolarsError:  # such as the 31st of February
        return column


def spelling_of(column: pl.Series) -> Callable[[Any], Any] | None:
    """Return what turns these texts, as a series or an expression, into what all of them spell; None for texts."""
    filled = column.drop_nulls()
    for pattern, meant in SPELLINGS:
        if len(filled) and re.match(pattern, filled[0]) and filled.str.contains(pattern).all():
            return meant
    return None
