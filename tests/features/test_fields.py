import json

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from bowerbird.features import Encoded, FeatureSchema, Field, crossed
from bowerbird.features.fields import Crossing, bucket, mix

SCHEMA = FeatureSchema(
    (
        Field("user.id", "categorical", "user", start=1, rows=10, slot=0),
        Field("user.face", "vector", "user", slot=0, width=3),
        Field("item.id", "categorical", "item", start=11, rows=20, slot=1),
        Field("item.tags", "bag", "item", start=31, rows=5, slot=2, width=4, pooling="sum"),
        Field("item.text", "vector", "item", slot=3, width=2),
        Field("history", "history", "history", start=11, rows=20, slot=6, width=3, of="item.id"),
    ),
    (Crossing(("user.id", "item.id"), 1_000), Crossing(("item.id", "user.id", "item.id"), 7)),
    ("click", "buy"),
)
CODES = st.lists(st.tuples(*[st.integers(0, 2**31 - 1)] * 9), min_size=1, max_size=6)


def test_sizes_of_a_row_and_of_the_table() -> None:
    assert SCHEMA.n_rows == 36  # the history shares the rows of item.id
    assert SCHEMA.n_slots == 9
    assert SCHEMA.n_numbers == 5
    assert not SCHEMA.plain
    assert FeatureSchema(SCHEMA.fields[:1]).plain
    assert FeatureSchema(()).n_rows == 1  # padding
    assert [field.name for field in SCHEMA.of_part("item")] == ["item.id", "item.tags", "item.text"]
    assert SCHEMA.field("history").of == "item.id"


def test_json_keeps_a_schema() -> None:
    assert FeatureSchema.from_dict(json.loads(json.dumps(SCHEMA.to_dict()))) == SCHEMA


def by_hand(codes: list[int]) -> int:
    """Return what `mix` makes of the codes of one row, with numbers that do not wrap by themselves."""
    mixed = 0
    for code in codes:
        mixed = (mixed + code + 1) * 0x9E3779B97F4A7C15 % 2**64
        mixed ^= mixed >> 32 & 0x7FFFFFFF
    return mixed


def test_crosses_never_change() -> None:
    """Models that were saved weigh these buckets: a change breaks every one of them."""
    codes = torch.tensor([[3, 15, 0, 0, 0, 0, 0, 0, 0], [10, 29, 0, 0, 0, 0, 0, 0, 0]])
    assert crossed(codes, SCHEMA).tolist() == [[906, 1_006], [739, 1_000]]


@given(CODES)
def test_crosses_are_as_defined_on_every_machine(rows: list[tuple[int, ...]]) -> None:
    expected = [
        [by_hand([row[0], row[1]]) % 2**31 % 1_000, 1_000 + by_hand([row[1], row[0], row[1]]) % 2**31 % 7]
        for row in rows
    ]
    assert crossed(torch.tensor(rows), SCHEMA).tolist() == expected
    assert crossed(torch.tensor(rows, dtype=torch.int32), SCHEMA).tolist() == expected


@given(CODES)
def test_the_bucket_of_a_row_does_not_depend_on_its_batch(rows: list[tuple[int, ...]]) -> None:
    codes = torch.tensor(rows)
    singly = [crossed(codes[place : place + 1], SCHEMA) for place in range(len(rows))]
    assert torch.equal(crossed(codes, SCHEMA), torch.cat(singly))


def test_no_cross_is_no_column() -> None:
    assert crossed(torch.zeros(3, 9), FeatureSchema(SCHEMA.fields)).shape == (3, 0)


def test_different_pairs_rarely_meet() -> None:
    pairs = torch.cartesian_prod(torch.arange(1_000), torch.arange(1_000, 2_000))
    mixed = mix([pairs[:, 0], pairs[:, 1]])
    assert len(mixed.unique()) == len(pairs)
    filled = torch.bincount(bucket(mixed, 1_000), minlength=1_000)
    # χ² of 999 degrees of freedom: 999 ± 45
    assert float(((filled - 1_000) ** 2 / 1_000).sum()) == pytest.approx(999, abs=5 * 45)


def test_the_order_of_a_cross_counts() -> None:
    left, right = torch.arange(1, 1_000), torch.arange(1_000, 1_999)
    assert not (mix([left, right]) == mix([right, left])).any()


def test_rows_are_taken_and_repeated() -> None:
    plain = Encoded(torch.tensor([[1], [2], [3]], dtype=torch.int32), None, torch.zeros(3, 0))
    assert plain.take(torch.tensor([-1, 0])).code.tolist() == [[3], [1]]
    assert plain.repeated(2).code.tolist() == [[1], [1], [2], [2], [3], [3]]
    assert plain.repeated(1) is plain
    assert plain.values.tolist() == [[1.0]] * 3
    valued = Encoded(plain.code, torch.tensor([[0.5], [1.0], [2.0]]), torch.tensor([[1.0], [2.0], [3.0]]))
    twice = valued.take(torch.tensor([2, 0])).repeated(2)
    assert twice.values.tolist() == [[2.0], [2.0], [0.5], [0.5]]
    assert twice.vector.tolist() == [[3.0], [3.0], [1.0], [1.0]]
    assert len(twice.to("cpu")) == 4
