"""Rows: a feature table with labels, for ranking models. User, item and time are optional."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from bowerbird.core import DataError, did_you_mean
from bowerbird.data.files import DAMAGED, format_of, typed, unreadable
from bowerbird.data.places import Place, opened
from bowerbird.data.readers import columns_of, encode_ids, open_table, seconds_of

PROPENSITY = "propensity"  # the column of the chance that a row was observed: no feature, since no request has it
USUAL_LABELS = ("label", "click", "clicked", "is_click", "target")
MOST_FIELDS = 1_000  # of one-hot libsvm rows that become columns


@dataclass(frozen=True, eq=False)
class Rows:
    """N rows of features and T labels each.

    `labels` is float32 (N, T) with NaN where a task was not observed; `tasks` names its T columns.
    """

    table: pl.DataFrame
    labels: np.ndarray
    tasks: tuple[str, ...]
    user: np.ndarray | None = None  # int32 (N,)
    item: np.ndarray | None = None  # int32 (N,)
    time: np.ndarray | None = None  # int64 (N,)

    def __post_init__(self) -> None:
        wanted = (self.table.height, len(self.tasks))
        if self.labels.shape != wanted:
            raise DataError(f"labels have shape {self.labels.shape}; {wanted} (rows, tasks) is needed.")

    def __len__(self) -> int:
        return self.table.height

    @cached_property
    def fingerprint(self) -> str:
        """Sha256 over table and labels: equal ones have equal fingerprints."""
        digest = sha256(self.labels.tobytes())
        digest.update("\x1f".join([*self.tasks, *self.table.columns]).encode())
        digest.update(self.table.hash_rows(seed=0).to_numpy().tobytes())
        return digest.hexdigest()

    def take(self, keep: np.ndarray) -> "Rows":
        """Return the rows selected by a mask (N,) or an index."""

        def part(column: np.ndarray | None) -> np.ndarray | None:
            return None if column is None else column[keep]

        return Rows(
            self.table[np.arange(len(self))[keep]],
            self.labels[keep],
            self.tasks,
            part(self.user),
            part(self.item),
            part(self.time),
        )

    @classmethod
    def concat(cls, parts: "Sequence[Rows]") -> "Rows":
        """Return the rows of several tables of the same columns and labels, one after another."""

        def part(columns: list[np.ndarray | None]) -> np.ndarray | None:
            there = [column for column in columns if column is not None]
            return np.concatenate(there) if len(there) == len(columns) else None

        return cls(
            pl.concat([one.table for one in parts], how="vertical_relaxed"),
            np.concatenate([one.labels for one in parts]),
            parts[0].tasks,
            part([one.user for one in parts]),
            part([one.item for one in parts]),
            part([one.time for one in parts]),
        )


def read_rows(
    source: Any,
    *,
    labels: str | Sequence[str] | None = None,
    user: str | None = None,
    item: str | None = None,
    time: str | None = None,
    format: str | None = None,
) -> Rows:
    """Return the rows of any source that `read` takes, or of a libsvm or libffm file, with their labels.

    `labels` names the label columns, numbers or empty; left out, the first usual name is taken. `user`, `item` and
    `time` name columns, inferred or absent; their ids stay in the table too. A libsvm file in which every value is 1
    and every field is filled once becomes one column of indices for each field, and any other the lists `index` and
    `value` (and `field`, of libffm). Raises `DataError`.
    """
    if isinstance(source, str | Path) and Path(source).is_file() and format_of(Path(source), format) == "libsvm":
        return _read_libsvm(Path(source))
    table = open_table(source, format=format)
    frame, place = table.columns(table.names), table.place
    tasks = _tasks(frame.columns, labels, place)
    found = columns_of(frame.columns, {"user": user, "item": item, "time": time}, table, needed=())
    if frame.height == 0:
        raise DataError(f"{place}: there is a header and no row. Give a table with at least one row.")
    rest = frame.drop(tasks)
    return Rows(
        typed(rest, table.kinds, place) if table.is_text else rest,
        np.stack([_labels(frame[task], place) for task in tasks], axis=1),
        tuple(tasks),
        user=encode_ids(frame[found["user"]], place)[1] if "user" in found else None,
        item=encode_ids(frame[found["item"]], place)[1] if "item" in found else None,
        time=seconds_of(frame[found["time"]], place) if "time" in found else None,
    )


def _tasks(names: list[str], labels: str | Sequence[str] | None, place: Place) -> list[str]:
    if labels is None:
        usual = [name for name in USUAL_LABELS if name in names][:1]
        if not usual:
            raise DataError(
                f"{place}: no column is recognised as the label. It has: {', '.join(names)}. Name it with labels=…"
            )
        return usual
    tasks = [labels] if isinstance(labels, str) else list(labels)
    for name in tasks:
        if name not in names:
            raise DataError(
                f'{place}: there is no column "{name}".{did_you_mean(name, names)} It has: {", ".join(names)}.'
            )
    return tasks


def _labels(column: pl.Series, place: Place) -> np.ndarray:
    """Return labels float32 (N,), NaN where empty."""
    numbers = column.cast(pl.Float32, strict=False)
    bad = numbers.is_null() & column.is_not_null()
    place.refuse(bad, column.name, "are not numbers", "Mend them, or leave them empty where unobserved.")
    return numbers.fill_null(float("nan")).to_numpy().astype(np.float32)


def _read_libsvm(path: Path) -> Rows:
    """Read `label index:value …` and `label field:index:value …`, one row a line; what follows a # is left out."""
    try:
        with opened(path) as file:
            lines = pl.DataFrame({"text": file.read().splitlines()}, schema={"text": pl.String})
    except DAMAGED as error:
        raise unreadable(path, "libsvm", "", error) from None
    lines = lines.with_row_index("line", offset=1).with_columns(
        pl.col("text").str.replace(r"#.*", "").str.extract_all(r"\S+")
    )
    lines = lines.filter(pl.col("text").list.len() > 0)
    if lines.height == 0:
        raise DataError(f"{path}: there is no row. Give a file with at least one.")
    rows = lines.select("line", label=pl.col("text").list.first(), entry=pl.col("text").list.slice(1))
    label = rows["label"].cast(pl.Float32, strict=False)
    if label.null_count():
        _refuse_entry(path, rows.filter(label.is_null()), "label", "is no number")
    entries = rows.with_row_index("row").drop("label").explode("entry").drop_nulls("entry")
    parts = entries["entry"].str.split(":")
    width = 2 if entries.is_empty() else int(parts.list.len().to_numpy().max())
    entries = entries.with_columns(
        field=parts.list.first().cast(pl.Int64, strict=False) if width == 3 else pl.int_range(pl.len()).over("row") + 1,
        index=parts.list.get(-2, null_on_oob=True).cast(pl.Int64, strict=False),
        value=parts.list.last().cast(pl.Float32, strict=False),
    )
    bad = (parts.list.len() != width) | entries.select(pl.any_horizontal(pl.all().is_null())).to_series()
    if width > 3 or bad.any():
        _refuse_entry(path, entries.filter(bad) if bad.any() else entries, "entry", "is no index:value")
    return Rows(_columns(entries, len(rows), width), label.to_numpy()[:, None], ("label",))


def _refuse_entry(path: Path, bad: pl.DataFrame, column: str, problem: str) -> None:
    raise DataError(
        f'{path}: line {bad["line"][0]:,}: "{bad[column][0]}" {problem}. Write label index:value index:value …'
    )


def _columns(entries: pl.DataFrame, n_rows: int, width: int) -> pl.DataFrame:
    """Return one column of indices for each field of one-hot rows, else lists."""
    lengths = entries.group_by("row").len()["len"]
    even = width == 3 or (len(lengths) == n_rows and lengths.n_unique() == 1)
    once = not entries.select(pl.struct("row", "field").is_duplicated().any()).item()
    every = pl.DataFrame({"row": pl.Series(range(n_rows), dtype=pl.UInt32)})
    if even and once and (entries["value"] == 1).all() and entries["field"].n_unique() <= MOST_FIELDS:
        wide = entries.sort("field").pivot("field", index="row", values="index", maintain_order=True)
        wide = wide.rename({name: f"field_{name}" for name in wide.columns if name != "row"})
        return every.join(wide, on="row", how="left", maintain_order="left").drop("row")
    names = ("index", "value") if width == 2 else ("field", "index", "value")
    lists = entries.group_by("row", maintain_order=True).agg(*names)
    return every.join(lists, on="row", how="left", maintain_order="left").drop("row")
