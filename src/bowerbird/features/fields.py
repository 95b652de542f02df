"""Fields: what a ranker sees of its columns, as places in one packed row and in one embedding table.

A row is two lists of the same length, as in libffm: `code`, which row of the table each slot takes, and `value`, what
that row is multiplied by. A category has value 1; a number has its own value and the code of its column; a bag has a
slot for each of its values, and code and value 0 where there is none. One gather embeds all columns.

Shapes: N rows, S slots, K fields, R rows of the table, V numbers of vectors.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

PARTS = ("user", "item", "request")  # tables that meet, in the order of their slots
POOLED = ("bag", "history")  # kinds with several slots
PADDING = 0  # the row of the table that empty slots take; it is never trained, since their value is 0
UNKNOWN, EMPTY, VALUES = 0, 1, 2  # rows of a categorical field: unseen, empty, then its vocabulary or buckets


@dataclass(frozen=True)
class Field:
    """One column as models see it."""

    name: str
    kind: str  # "categorical", "numeric", "bag", "history" or "vector"
    part: str = ""  # "user", "item" or "request" where tables meet, else empty
    start: int = 0  # its first row of the table, which stands for what training did not see
    rows: int = 0  # of the table; none for a vector
    slot: int = 0  # its first slot; of a vector, its first number
    width: int = 1  # slots, or the size of a vector
    pooling: str = "mean"  # of several slots: "mean", "sum" or "attention"
    of: str = ""  # of a history: the field whose rows it shares


@dataclass(frozen=True)
class Crossing:
    """A hashed cross of fields with one slot, for the linear part."""

    names: tuple[str, ...]
    buckets: int

    @property
    def name(self) -> str:
        """What it is called in reports."""
        return " × ".join(self.names)


@dataclass(frozen=True)
class FeatureSchema:
    """What a ranker is built for."""

    fields: tuple[Field, ...]
    crosses: tuple[Crossing, ...] = ()
    tasks: tuple[str, ...] = ("label",)

    @cached_property
    def n_rows(self) -> int:
        """The rows R of the one embedding table."""
        return max((field.start + field.rows for field in self.fields if not field.of), default=0) or PADDING + 1

    @cached_property
    def n_slots(self) -> int:
        """The slots S of a row."""
        return sum(field.width for field in self.fields if field.kind != "vector")

    @cached_property
    def n_numbers(self) -> int:
        """The numbers of all vectors of a row."""
        return sum(field.width for field in self.fields if field.kind == "vector")

    @cached_property
    def plain(self) -> bool:
        """Whether every slot is a category, so that no value is needed."""
        return all(field.kind == "categorical" for field in self.fields)

    @cached_property
    def order(self) -> list[str]:
        """The names of the fields as models get their vectors: by slot, then those of vectors."""
        return [one.name for one in sorted(self.fields, key=lambda one: (one.kind == "vector", one.slot))]

    def of_part(self, part: str) -> tuple[Field, ...]:
        """Return the fields of one table, in order."""
        return tuple(field for field in self.fields if field.part == part)

    def field(self, name: str) -> Field:
        """Return a field by name."""
        return next(field for field in self.fields if field.name == name)

    def to_dict(self) -> dict[str, Any]:
        """Return what JSON keeps."""
        return asdict(self)

    @classmethod
    def from_dict(cls, document: dict[str, Any]) -> "FeatureSchema":
        """Return what `to_dict` was made from."""
        crosses = tuple(Crossing(tuple(one["names"]), one["buckets"]) for one in document["crosses"])
        return cls(tuple(Field(**one) for one in document["fields"]), crosses, tuple(document["tasks"]))


@dataclass(frozen=True, eq=False)
class Encoded:
    """N rows of one table, encoded."""

    code: Tensor  # int32 (N, S)
    value: Tensor | None  # float32 (N, S); None where all are 1
    vector: Tensor  # float32 (N, V)

    def __len__(self) -> int:
        return len(self.code)

    def take(self, index: Tensor) -> "Encoded":
        """Return the rows at `index`, int64; −1 is the last."""
        index = torch.where(index < 0, index + len(self), index)
        value = None if self.value is None else self.value.index_select(0, index)  # many times as fast as [index]
        return Encoded(self.code.index_select(0, index), value, self.vector.index_select(0, index))

    def repeated(self, times: int) -> "Encoded":
        """Return every row `times` times, one after another."""
        if times == 1:
            return self
        if len(self) == 1:  # nothing is copied
            value = None if self.value is None else self.value.expand(times, -1)
            return Encoded(self.code.expand(times, -1), value, self.vector.expand(times, -1))
        value = None if self.value is None else self.value.repeat_interleave(times, 0)
        return Encoded(self.code.repeat_interleave(times, 0), value, self.vector.repeat_interleave(times, 0))

    @property
    def values(self) -> Tensor:
        """The value of every slot, float32 (N, S)."""
        return torch.ones_like(self.code, dtype=torch.float32) if self.value is None else self.value

    def to(self, device: torch.device | str) -> "Encoded":
        """Return the rows on `device`."""
        value = None if self.value is None else self.value.to(device)
        return Encoded(self.code.to(device), value, self.vector.to(device))


MIX, LOW = 0x9E3779B97F4A7C15 - (1 << 64), (1 << 31) - 1  # 2⁶⁴ over the golden ratio, as int64


def crossed(code: Tensor, schema: FeatureSchema) -> Tensor:
    """Return the bucket of every cross, int64 (B, C), numbered through all crosses, from codes (B, S)."""
    buckets, start = [], 0
    for cross in schema.crosses:
        mixed = mix([code[:, schema.field(name).slot] for name in cross.names])
        buckets.append(bucket(mixed, cross.buckets) + start)
        start += cross.buckets
    return torch.stack(buckets, dim=1) if buckets else code.new_zeros(len(code), 0).long()


def mix(codes: Sequence[Tensor]) -> Tensor:
    """Return one number for the codes of several fields (B,) each, int64 (B,).

    Multiplicative hashing (Knuth, TAOCP 3, 6.4) of one code after another; products wrap around at 64 bits.
    """
    mixed = torch.zeros_like(codes[0], dtype=torch.int64)
    for code in codes:
        mixed = (mixed + code + 1) * MIX
        mixed = mixed ^ ((mixed >> 32) & LOW)
    return mixed


def bucket(mixed: Tensor, buckets: int) -> Tensor:
    """Return in which of so many buckets numbers of `mix` fall."""
    return (mixed & LOW) % buckets
