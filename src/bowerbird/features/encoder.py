"""The encoder: columns of a table become codes and values. Fitted on training rows only, the same offline and live.

What it cannot read is defined and counted, never a crash or a number that is not finite:

  empty value             a row of its own (numbers and categories); no slot (bags); zeros (vectors)
  value not seen          the unknown row of its column; no slot (histories)
  text in a number column, infinite or not a number      as empty
  number out of bounds    cut at ±10 deviations, or at ±1,000,000 where it is not scaled
  constant column         always 0
  bag or history too long the first, or the last, `most` values
  vector of another size, or with a number missing       zeros
  text, picture or sound that is empty or refused        zeros; files that a request names are not opened

Shapes: N rows, S slots, V numbers of vectors.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import polars as pl
import torch
from torch import Tensor

from bowerbird.core import DataError, did_you_mean
from bowerbird.features.columns import (
    Bag,
    Categorical,
    Column,
    Cross,
    History,
    Numeric,
    Vector,
    columns_of_dicts,
    to_dict,
)
from bowerbird.features.fields import (
    EMPTY,
    PADDING,
    PARTS,
    UNKNOWN,
    VALUES,
    Crossing,
    Encoded,
    FeatureSchema,
    Field,
    bucket,
    mix,
)
from bowerbird.features.fitting import FAR, Learned, check_there, colliding, learn
from bowerbird.features.media import Media, describe, encoder_of, resolved
from bowerbird.features.soundness import check_sound
from bowerbird.features.values import Lookup, empty, floats, hashed, keys, listed, nulls

BOUND = 10.0  # deviations at which a number is cut
PLAIN = 1e6  # where a number that is not scaled is cut
SAMPLE = 1_000_000  # rows of training in which pairs of a cross are counted

REPORT = {"field": pl.String, "kind": pl.String, "rows": pl.Int64, "values": pl.Int64, "colliding": pl.Int64,
          "unknown": pl.Float64, "empty": pl.Float64}  # fmt: skip
TYPES = {"Int64": pl.Int64, "String": pl.String}  # of vocabularies

Frame = pl.DataFrame | pl.LazyFrame


@dataclass(eq=False)
class Encoder:
    """Columns by table, what training rows said about them, and the schema that models are built for."""

    columns: Mapping[str, tuple[Column, ...]]  # by part: "user", "item", "request", or "" for a table on its own
    schema: FeatureSchema
    vocabularies: Mapping[str, pl.Series]  # by field: whole numbers or texts, the most frequent first
    numbers: Mapping[str, Mapping[str, Any]]  # by field or cross: what training rows said, such as mean and deviation
    counts: Counter[str] = field(default_factory=Counter)  # what happened to values since, such as "age: not a number"
    paths: bool = True  # whether files that users and items name, pictures and sounds, are opened
    _lookups: dict[str, Lookup] = field(default_factory=dict, init=False, repr=False)

    # ── fitting ───────────────────────────────────────────────────────────────────────────────────────────────

    @classmethod
    def fit(
        cls,
        tables: Mapping[str, Frame],
        columns: Mapping[str, Sequence[Column]],
        *,
        tasks: tuple[str, ...] = ("label",),
    ) -> "Encoder":
        """Return the encoder of training tables by part; a lazy table is read in pieces, column by column.

        Raises `DataError` for a column that is not there or of the wrong type.
        """
        parts = [part for part in ("", *PARTS) if part in tables]
        columns = {part: tuple(_settled(column) for column in columns[part]) for part in parts}
        vocabularies: dict[str, pl.Series] = {}
        numbers: dict[str, Mapping[str, Any]] = {}
        fields: list[Field] = []
        for part in parts:
            for column in columns[part]:
                if isinstance(column, Cross):
                    continue
                learned = _learn(tables[part].lazy(), column)
                made = _field(column, part, learned, fields)
                if isinstance(column, History):
                    made = _shared(made, fields, _target(part, column), numbers)
                numbers[made.name] = learned.numbers
                if learned.vocabulary is not None:
                    vocabularies[made.name] = learned.vocabulary
                fields.append(made)
        crosses = tuple(
            Crossing(_crossable(part, column, fields), column.buckets)
            for part in parts for column in columns[part] if isinstance(column, Cross)
        )  # fmt: skip
        schema = FeatureSchema(tuple(fields), crosses, tasks)
        encoder = cls({part: tuple(columns[part]) for part in parts}, schema, vocabularies, numbers)
        for part in parts:
            numbers |= encoder._pairs(tables[part].lazy(), part)
        encoder.counts.clear()  # of the rows it was fitted on
        return encoder

    def _pairs(self, table: pl.LazyFrame, part: str) -> dict[str, dict[str, int]]:
        """Return how many pairs the crosses within one table have, and how many of them share a bucket."""
        columns, found = self._columns(part), {}
        for cross in self.schema.crosses:
            fields = [self.schema.field(name) for name in cross.names]
            if any(one.part != part for one in fields):
                continue
            rows = table.select({columns[one.name].name for one in fields}).head(SAMPLE).collect(engine="streaming")
            codes = [self._slots(rows[columns[one.name].name], columns[one.name], one)[0] for one in fields]
            found[cross.name] = _counted([torch.from_numpy(code[:, 0]) for code in codes], cross.buckets)
        return found

    # ── encoding ──────────────────────────────────────────────────────────────────────────────────────────────

    def with_history(self, of: str, most: int) -> "Encoder":
        """Return the encoder with a history of the values of field `of`, which comes with a context, not in a table."""
        made = Field("history", "history", "history", 0, 0, self.schema.n_slots, most)
        fields = (*self.schema.fields, _shared(made, self.schema.fields, of, self.numbers))
        return replace(self, schema=replace(self.schema, fields=fields))

    def encode(self, table: pl.DataFrame, part: str = "") -> Encoded:
        """Return the rows of a table of this part; raises `DataError` for a column that is missing."""
        fields, columns, there = self.schema.of_part(part), self._columns(part), table.schema
        slots = [one for one in fields if one.kind != "vector"]
        base, n_slots = slots[0].slot if slots else 0, sum(one.width for one in slots)
        code = np.empty((table.height, n_slots), np.int32)
        value = None if all(one.kind == "categorical" for one in slots) else np.ones(code.shape, np.float32)
        vectors = [np.empty((table.height, 0), np.float32)]
        for one in fields:
            column = columns[one.name]
            check_there(column, there)
            if isinstance(column, Vector):
                vectors.append(self._vectors(table[column.name], one))
                continue
            if isinstance(column, Media):
                vectors.append(self._described(table[column.name], column, one))
                continue
            mine = slice(one.slot - base, one.slot - base + one.width)
            code[:, mine], values = self._slots(table[column.name], column, one)
            if values is not None:
                assert value is not None
                value[:, mine] = values
        return Encoded(
            torch.from_numpy(code),
            None if value is None else torch.from_numpy(value),
            torch.from_numpy(np.concatenate(vectors, axis=1)),
        )

    def _columns(self, part: str) -> dict[str, Column]:
        return {_named(part, column.name): column for column in self.columns[part]}

    def _slots(self, series: pl.Series, column: Column, one: Field) -> tuple[np.ndarray, np.ndarray | None]:
        """Return codes (N, width) and values of the same shape, None where all are 1."""
        if isinstance(column, Numeric):
            code, value = self._numbers(series, column, one)
            shape = len(series), one.width
            return code.reshape(shape), None if value is None else value.reshape(shape)
        if isinstance(column, Categorical):
            missing = empty(series)
            rows = np.where(missing, EMPTY, self._rows(series, one.name))
            self._note(one, "empty", missing.sum())
            self._note(one, "not seen in training", (rows == UNKNOWN).sum())
            return (one.start + rows)[:, None], None
        code = self._lists(series, column, one)
        return code, code != PADDING

    def _note(self, one: Field, what: str, count: int) -> None:
        if count:
            self.counts[f"{one.name}: {what}"] += int(count)

    def _numbers(self, series: pl.Series, column: Numeric, one: Field) -> tuple[np.ndarray, np.ndarray | None]:
        """Return the code of each number (N,) and its value, (N, 2) for knots, no value for buckets."""
        numbers, learned = floats(series), self.numbers[one.name]
        finite, missing = np.isfinite(numbers), empty(series)
        infinite = np.isinf(numbers)
        self._note(one, "empty", missing.sum())
        self._note(one, "not finite", infinite.sum())
        self._note(one, "not a number", (~finite & ~missing & ~infinite).sum())
        numbers = np.where(finite, numbers, 0.0)
        if column.buckets:
            cut = np.searchsorted(np.asarray(learned["edges"], float), numbers.clip(-FAR, FAR), side="right")
            return np.where(finite, one.start + 1 + cut, one.start), None
        if column.transform == "knots":
            return _between(numbers, finite, np.asarray(learned["knots"], float), one.start)
        scaled, bound = _scaled(numbers, column, learned)
        self._note(one, "out of bounds", (finite & (np.abs(scaled) > bound)).sum())
        value = scaled.clip(-bound, bound).astype(np.float32)
        return one.start + finite.astype(np.int32), np.where(finite, value, np.float32(1))

    def _rows(self, series: pl.Series, name: str) -> np.ndarray:
        """Return the row of each value within the field `name` (N,); that of an empty one means nothing."""
        if name not in self.vocabularies:
            buckets = self.schema.field(name).rows - VALUES
            return VALUES + (hashed(keys(series, pl.String())) % np.uint64(buckets)).astype(np.int64)
        if name not in self._lookups:
            self._lookups[name] = Lookup(self.vocabularies[name])
        place = self._lookups[name].find(keys(series, self.vocabularies[name].dtype))
        return np.where(place < 0, UNKNOWN, place + VALUES)

    def _lists(self, series: pl.Series, column: Column, one: Field) -> np.ndarray:
        """Return codes (N, width) of the values of each row, `PADDING` behind them."""
        flat, lengths = listed(series, column.separator if isinstance(column, Bag) else "")
        rows, known = self._rows(flat, one.of or one.name), ~empty(flat)
        self._note(one, "empty", series.null_count())
        self._note(one, "not seen in training", (known & (rows == UNKNOWN)).sum())
        if isinstance(column, History):  # a past item that nothing is known of says nothing
            known &= rows != UNKNOWN
        of_row, rows = np.repeat(np.arange(len(series)), lengths)[known], rows[known]
        lengths = np.bincount(of_row, minlength=len(series))
        place = np.arange(len(rows)) - np.repeat(np.cumsum(lengths) - lengths, lengths)
        if isinstance(column, History):
            place -= np.repeat(np.maximum(lengths - one.width, 0), lengths)
        kept = (place >= 0) & (place < one.width)
        self._note(one, "left out beyond the longest", (~kept).sum())
        code = np.full((len(series), one.width), PADDING, np.int32)
        code[of_row[kept], place[kept]] = one.start + rows[kept]
        return code

    def _vectors(self, series: pl.Series, one: Field) -> np.ndarray:
        """Return float32 (N, size), zeros where there is no list of that size or one of its numbers is not finite."""
        flat, lengths = listed(series) if isinstance(series.dtype, pl.List | pl.Array) else (series.clear(), None)
        right = np.zeros(len(series), bool) if lengths is None else lengths == one.width
        self._note(one, f"not of size {one.width}", (~right & ~nulls(series)).sum())
        found = np.zeros((len(series), one.width))
        if lengths is not None:
            found[right] = floats(flat)[np.repeat(right, lengths)].reshape(-1, one.width)
        bad = ~np.isfinite(found).all(axis=1)
        self._note(one, "not finite", bad.sum())
        self._note(one, "out of bounds", (np.abs(found[~bad]) > PLAIN).any(axis=1).sum())
        found[bad] = 0
        return found.clip(-PLAIN, PLAIN).astype(np.float32)

    def _described(self, series: pl.Series, column: Media, one: Field) -> np.ndarray:
        """Return float32 (N, D), zeros where there is nothing or what there is was refused.

        Raises `DataError` where the column's encoder is not the one of training.
        """
        here, fitted = encoder_of(column).name, self.numbers[one.name]["encoder"]
        if here != fitted:
            raise DataError(
                f'column "{column.name}": the encoder {column.encoder} is {here} here, and was {fitted} in training. '
                "Install what it was, or fit anew."
            )
        found = describe(series, column, paths=self.paths and one.part != "request")
        for reason, count in found.refused.items():
            self._note(one, f"refused, {reason}", count)
        nothing = np.isnan(found.vectors[:, 0])
        self._note(one, "empty", nothing.sum() - sum(found.refused.values()))
        found.vectors[nothing] = 0
        return found.vectors.clip(-PLAIN, PLAIN)

    # ── keeping ───────────────────────────────────────────────────────────────────────────────────────────────

    def report(self, code: Tensor | None = None) -> pl.DataFrame:
        """Return what training rows said, a row for each field and cross.

        `rows` of the embedding table; `values`, distinct; how many of them are `colliding`, in one bucket with
        another; the share of values that is `unknown`, seen less often than `min_count`; the share of rows that is
        `empty`. Pairs of a cross are counted in 1,000,000 rows at most; where its columns come from several tables,
        they are only counted in the `code` (B, S) of joined rows.
        """
        found = [
            {"field": one.name, "kind": one.kind, "rows": one.rows} | _told(self.numbers.get(one.name, {}))
            for one in self.schema.fields
        ]
        for cross in self.schema.crosses:
            told = self.numbers.get(cross.name, {})
            if code is not None:
                told = _counted([code[:SAMPLE, self.schema.field(name).slot] for name in cross.names], cross.buckets)
            found.append({"field": cross.name, "kind": "cross", "rows": cross.buckets} | _told(told))
        return pl.DataFrame(found, schema=REPORT)

    def to_dict(self) -> dict[str, Any]:
        """Return all but the vocabularies, as JSON keeps it."""
        return {
            "columns": {part: [to_dict(column) for column in columns] for part, columns in self.columns.items()},
            "schema": self.schema.to_dict(),
            "numbers": {name: dict(numbers) for name, numbers in self.numbers.items()},
            "types": {name: str(values.dtype) for name, values in self.vocabularies.items()},
        }

    @property
    def vocabulary(self) -> pl.DataFrame:
        """All vocabularies as one table: field, value (as text), in order."""
        parts = [
            pl.select(field=pl.repeat(name, len(values), dtype=pl.String), value=values.cast(pl.String))
            for name, values in self.vocabularies.items()
        ]
        return pl.concat([pl.DataFrame(schema={"field": pl.String, "value": pl.String}), *parts])

    @classmethod
    def from_dict(cls, document: Mapping[str, Any], vocabulary: pl.DataFrame) -> "Encoder":
        """Return what `to_dict` and `vocabulary` were made from; raises `BundleError` where that does not fit."""
        by_field = {key[0]: frame["value"] for key, frame in vocabulary.partition_by("field", as_dict=True).items()}
        none = pl.Series("value", [], dtype=pl.String)
        columns = {part: columns_of_dicts(columns) for part, columns in document["columns"].items()}
        vocabularies = {name: by_field.get(name, none).cast(TYPES[kind]) for name, kind in document["types"].items()}
        made = cls(columns, FeatureSchema.from_dict(document["schema"]), vocabularies, document["numbers"])
        named = {name: column for part in columns for name, column in made._columns(part).items()}
        check_sound(named, made.schema, vocabularies, made.numbers)
        return made


def _settled(column: Column) -> Column:
    return resolved(column) if isinstance(column, Media) else column


def _learn(table: pl.LazyFrame, column: Column) -> Learned:
    """Return what the rows of `table` say about `column`: of a text, a picture or a sound only how many there are."""
    if not isinstance(column, Media):
        return learn(table, column)
    check_there(column, table.collect_schema())
    empty = table.select(pl.col(column.name).is_null().mean()).collect(engine="streaming").item()
    encoder = encoder_of(column)
    return Learned(0, encoder.dim, {"empty": empty or 0.0, "encoder": encoder.name})


def _scaled(numbers: np.ndarray, column: Numeric, learned: Mapping[str, Any]) -> tuple[np.ndarray, float]:
    """Return finite numbers as models see them, and where they are cut."""
    if column.transform == "none":
        return numbers, PLAIN
    numbers = numbers.clip(-FAR, FAR)
    if column.transform == "log":
        numbers = np.sign(numbers) * np.log1p(np.abs(numbers))
    if not learned["deviation"]:
        return np.zeros_like(numbers), BOUND
    with np.errstate(over="ignore"):
        return (numbers - learned["mean"]) / learned["deviation"], BOUND


def _between(numbers: np.ndarray, finite: np.ndarray, knots: np.ndarray, start: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the codes of the knots on both sides of each number (N, 2), and how much of either it is."""
    low = (np.searchsorted(knots, numbers, side="right") - 1).clip(0, max(len(knots) - 2, 0))
    high = np.minimum(low + 1, len(knots) - 1)
    gap = knots[high] - knots[low]
    part = ((numbers.clip(knots[0], knots[-1]) - knots[low]) / np.where(gap > 0, gap, 1.0)).clip(0, 1)
    code = np.stack([start + 1 + low, start + 1 + high], axis=1)
    value = np.stack([1 - part, part], axis=1).astype(np.float32)
    alone = np.array([1, 0], np.float32)  # an empty one has its row, and nothing beside it
    return np.where(finite[:, None], code, [start, PADDING]), np.where(finite[:, None], value, alone)


def _counted(codes: Sequence[Tensor], buckets: int) -> dict[str, int]:
    pairs = torch.from_numpy(np.unique(mix(codes).cpu().numpy()))
    return {"values": len(pairs), "colliding": colliding(bucket(pairs, buckets).numpy())}


def _told(numbers: Mapping[str, Any]) -> dict[str, Any]:
    return {key: numbers.get(key) for key in REPORT if key not in ("field", "kind", "rows")}


def _named(part: str, name: str) -> str:
    return f"{part}.{name}" if part else name


def _field(column: Column, part: str, learned: Learned, before: Sequence[Field]) -> Field:
    """Return the field of a column, behind those before it."""
    taken, vector = FeatureSchema(tuple(before)), isinstance(column, Vector | Media)
    return Field(
        name=_named(part, column.name),
        kind="vector" if vector else "categorical" if isinstance(column, Numeric) and column.buckets else column.kind,
        part=part,
        start=0 if vector else taken.n_rows,
        rows=learned.rows,
        slot=taken.n_numbers if vector else taken.n_slots,
        width=learned.width,
        pooling=column.pooling if isinstance(column, Bag) else "sum" if isinstance(column, Numeric) else Field.pooling,
    )


def _target(part: str, column: History) -> str:
    return column.of if "." in column.of else _named(part, column.of)


def _shared(made: Field, fields: Sequence[Field], of: str, numbers: Mapping[str, Mapping[str, Any]]) -> Field:
    """Return a history that shares the rows of field `of`."""
    there = {one.name: one for one in fields if one.kind == "categorical" and "edges" not in numbers[one.name]}
    if of not in there:
        raise DataError(
            f'history "{made.name}" is of "{of}", which is no categorical column before it.{did_you_mean(of, there)}'
        )
    return replace(made, start=there[of].start, rows=there[of].rows, of=of)


def _crossable(part: str, cross: Cross, fields: Sequence[Field]) -> tuple[str, ...]:
    there = {one.name for one in fields if one.kind == "categorical"}
    names = tuple(name if name in there else _named(part, name) for name in cross.columns)
    for name in names:
        if name not in there:
            raise DataError(
                f'cross "{cross.name}" names "{name}", which is no categorical column.{did_you_mean(name, there)} '
                "Give a number buckets to cross it."
            )
    return names
