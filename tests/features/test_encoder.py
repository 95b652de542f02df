import json
import math
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from bowerbird.core import DataError
from bowerbird.features import Bag, Categorical, Column, Cross, Encoded, Encoder, History, Numeric, Vector
from bowerbird.features.encoder import REPORT
from bowerbird.features.fields import PADDING, bucket, mix

INF, NAN = float("inf"), float("nan")
TRAIN = pl.DataFrame(
    {
        "shop": [7, 7, 9, 8],
        "city": ["Rome", "Oslo", "Rome", None],
        "age": [20.0, 40.0, None, 60.0],
        "spent": [0, 9, 99, 999],
        "tags": ["new|red", "red", "", None],
        "seen": [[7, 9], [], None, [8]],
        "image": [[0.5, 1.0], [0.0, 2.0], None, [1.0, 1.0]],
    }
)
COLUMNS = (
    Categorical(name="shop"),
    Categorical(name="city", buckets=5),
    Numeric(name="age", transform="standard"),
    Numeric(name="spent", transform="log"),
    Bag(name="tags", separator="|"),
    History(name="seen", of="shop"),
    Vector(name="image", size=2),
)


def fitted(table: pl.DataFrame | None = None, columns: tuple[Column, ...] = COLUMNS) -> Encoder:
    return Encoder.fit({"": TRAIN if table is None else table}, {"": columns})


def one(column: Column, train: list[Any], dtype: Any = None) -> Encoder:
    return fitted(pl.DataFrame({"a": pl.Series(train, dtype=dtype)}), (column,))


def code(encoder: Encoder, values: list[Any] | pl.Series) -> list[Any]:
    """Return the codes of a table of one column, counted from the first row of its field."""
    found = encoder.encode(pl.DataFrame({"a": values})).code - encoder.schema.fields[0].start
    return found.tolist() if found.shape[1] > 1 else found[:, 0].tolist()


def value(encoder: Encoder, values: list[Any] | pl.Series) -> list[float]:
    found = encoder.encode(pl.DataFrame({"a": values}))
    return found.values[:, 0].tolist()


def same(left: Encoded, right: Encoded) -> bool:
    values = (left.value is None) == (right.value is None) and torch.equal(left.values, right.values)
    return values and torch.equal(left.code, right.code) and torch.equal(left.vector, right.vector)


# ── worked by hand ────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_table_by_hand() -> None:
    encoder = fitted()
    found = encoder.encode(TRAIN)
    start = {field.name: field.start for field in encoder.schema.fields}
    # row 0 is padding; then shop: unknown, empty, 7, 8, 9; city: unknown, empty, 5 buckets; numbers: empty, filled
    assert start == {"shop": 1, "city": 6, "age": 13, "spent": 15, "tags": 17, "seen": 1, "image": 0}
    assert encoder.schema.n_rows == 21  # tags: unknown, empty, red, new
    assert found.code[:, 0].tolist() == [3, 3, 5, 4]
    assert found.code[3, 1] == 7
    assert found.code[:, 2].tolist() == [14, 14, 13, 14]
    assert found.code[:, 4:6].tolist() == [[20, 19], [19, 0], [0, 0], [0, 0]]
    assert found.code[:, 6:].tolist() == [[3, 5], [0, 0], [0, 0], [4, 0]]
    # ages 20, 40, 60: mean 40, deviation √(800 / 3)
    ages = [-1.2247449, 0.0, 1.0, 1.2247449]
    assert found.values[:, 2].tolist() == pytest.approx(ages)
    # logarithms of 1, 10, 100, 1000 are 0, 1, 2, 3 to the base 10: mean 1.5, deviation √1.25
    assert found.values[:, 3].tolist() == pytest.approx(
        [-1.5 / 1.25**0.5, -0.5 / 1.25**0.5, 0.5 / 1.25**0.5, 1.5 / 1.25**0.5]
    )
    assert found.values[:, 4:6].tolist() == [[1, 1], [1, 0], [0, 0], [0, 0]]
    assert found.vector.tolist() == [[0.5, 1.0], [0.0, 2.0], [0.0, 0.0], [1.0, 1.0]]


def test_the_most_frequent_value_comes_first_and_rare_ones_are_unknown() -> None:
    encoder = one(Categorical(name="a", min_count=2), ["x", "y", "y", "z", "z", "z", None])
    assert encoder.vocabularies["a"].to_list() == ["z", "y"]
    assert code(encoder, ["z", "y", "x", "new", None]) == [2, 3, 0, 0, 1]
    assert encoder.counts == {"a: not seen in training": 2, "a: empty": 1}


def test_buckets_of_numbers_hold_equal_shares() -> None:
    encoder = one(Numeric(name="a", buckets=4, transform="log"), list(range(1, 101)))
    found = torch.tensor(code(encoder, list(range(1, 101))))
    assert torch.bincount(found - 1).tolist() == pytest.approx([25] * 4, abs=1)
    assert encoder.schema.fields[0].kind == "categorical"
    assert code(encoder, [-1e308, 1e308, None, NAN, INF]) == [1, 4, 0, 0, 0]


def test_a_number_told_as_it_is_is_cut_far_out() -> None:
    encoder = one(Numeric(name="a", transform="none"), [1, 2])
    assert value(encoder, [3.5, -1e308, 1e7]) == [3.5, -1e6, 1e6]
    assert encoder.counts == {"a: out of bounds": 2}


def test_a_bag_keeps_its_first_values_and_a_history_its_last() -> None:
    table = pl.DataFrame({"item": [1, 2, 3], "bag": [[1, 2, 3], [], []], "past": [[1, 2, 3, 99], [99, 1], None]})
    columns = (Categorical(name="item"), Bag(name="bag", most=2), History(name="past", of="item", most=2))
    encoder = fitted(table, columns)
    found = encoder.encode(table)
    assert (found.code[0, 1:] - torch.tensor([6, 6, 1, 1])).tolist() == [2, 3, 3, 4]
    assert found.code[1, 3:].tolist() == [3, PADDING]
    assert encoder.counts == {
        "bag: left out beyond the longest": 1, "past: left out beyond the longest": 1,
        "past: not seen in training": 2, "past: empty": 1,
    }  # fmt: skip


def test_the_report_by_hand() -> None:
    table = pl.DataFrame({"a": ["x", "x", "y", None], "b": [1, 1, 2, 3], "c": [1.0, None, NAN, 2.0]})
    columns = (
        Categorical(name="a", min_count=2), Categorical(name="b", buckets=1), Numeric(name="c", transform="standard"),
        Cross(columns=("a", "b"), buckets=1),
    )  # fmt: skip
    encoder = fitted(table, columns)
    assert encoder.report().to_dicts() == [
        dict(zip(REPORT, row, strict=True))
        for row in (
            ("a", "categorical", 3, 2, 0, pytest.approx(1 / 3), 0.25),
            ("b", "categorical", 3, 3, 3, None, 0.0),
            ("c", "numeric", 2, None, None, None, 0.5),
            # x, unknown and empty with the one bucket of b: three pairs in one bucket
            ("a × b", "cross", 1, 3, 3, None, None),
        )
    ]
    assert encoder.counts == {}  # what training rows had is in the report


def test_crosses_of_several_tables_are_counted_in_joined_rows() -> None:
    tables = {"user": pl.DataFrame({"sex": ["f", "m"]}), "item": pl.DataFrame({"kind": ["a", "b", "c"]})}
    cross = Cross(columns=("user.sex", "kind"), buckets=1_000_003)
    encoder = Encoder.fit(tables, {"user": (Categorical(name="sex"),), "item": (Categorical(name="kind"), cross)})
    assert encoder.report().row(-1) == ("user.sex × item.kind", "cross", 1_000_003, None, None, None, None)
    joined = torch.cartesian_prod(
        encoder.encode(tables["user"], "user").code[:, 0], encoder.encode(tables["item"], "item").code[:, 0]
    )
    buckets = bucket(mix([joined[:, 0], joined[:, 1]]), 1_000_003)
    assert len(buckets.unique()) == 6
    assert encoder.report(joined).row(-1) == ("user.sex × item.kind", "cross", 1_000_003, 6, 0, None, None)


# ── the same offline and live ─────────────────────────────────────────────────────────────────────────────────────

FLOATS = st.one_of(st.none(), st.sampled_from([NAN, INF, -INF, 1e38, 1e308, -1e308, 5e-324, -0.0]), st.floats())
ROWS = st.fixed_dictionaries(
    {
        "shop": st.one_of(st.none(), st.integers(5, 11), st.integers(-(2**63), 2**63 - 1)),
        "city": st.one_of(st.none(), st.text(max_size=3)),
        "age": FLOATS,
        "spent": st.one_of(st.none(), st.integers(-(2**63), 2**63 - 1)),
        "tags": st.one_of(st.none(), st.lists(st.sampled_from(["red", " new ", "", "x"]), max_size=4).map("|".join)),
        "seen": st.one_of(st.none(), st.lists(st.one_of(st.none(), st.integers(6, 10)), max_size=4)),
        "image": st.one_of(st.none(), st.lists(FLOATS, max_size=3)),
    }
)
SCHEMA = TRAIN.schema


def finite(encoded: Encoded, encoder: Encoder) -> bool:
    inside = ((encoded.code >= 0) & (encoded.code < encoder.schema.n_rows)).all()
    return bool(inside) and bool(encoded.values.isfinite().all()) and bool(encoded.vector.isfinite().all())


@given(st.lists(ROWS, min_size=1, max_size=6), st.randoms(use_true_random=False), st.booleans())
def test_rows_are_encoded_alike_whatever_stands_beside_them(
    rows: list[dict[str, Any]], random: Any, many: bool
) -> None:
    rows = rows * (100 // len(rows) + 1) if many else rows
    encoder, table = fitted(), pl.DataFrame(rows, schema=SCHEMA)
    whole = encoder.encode(table)
    assert finite(whole, encoder)
    order = random.sample(range(len(rows)), len(rows))
    assert same(encoder.encode(table[order]), whole.take(torch.tensor(order)))
    size = random.randint(1, len(rows))
    blocks = [encoder.encode(table[start : start + size]) for start in range(0, len(rows), size)]
    assert torch.equal(torch.cat([block.code for block in blocks]), whole.code)
    assert torch.equal(torch.cat([block.values for block in blocks]), whole.values)
    assert torch.equal(torch.cat([block.vector for block in blocks]), whole.vector)
    place = random.randrange(len(rows))
    live = pl.DataFrame({name: [rows[place][name]] for name in SCHEMA})  # as a request brings it: types are guessed
    assert same(encoder.encode(live), whole.take(torch.tensor([place])))
    kept = Encoder.from_dict(json.loads(json.dumps(encoder.to_dict(), allow_nan=False)), encoder.vocabulary)
    assert same(kept.encode(table), whole)


@given(st.lists(ROWS, max_size=5), st.lists(ROWS, max_size=5))
def test_only_training_rows_are_learned_from(train: list[dict[str, Any]], later: list[dict[str, Any]]) -> None:
    encoder = fitted(pl.DataFrame([*train, TRAIN.row(3, named=True)], schema=SCHEMA))
    before = json.dumps(encoder.to_dict(), allow_nan=False)
    encoded = encoder.encode(pl.DataFrame(later, schema=SCHEMA))
    assert finite(encoded, encoder)
    assert json.dumps(encoder.to_dict()) == before
    fresh = fitted(pl.DataFrame([*train, TRAIN.row(3, named=True)], schema=SCHEMA))
    assert same(fresh.encode(pl.DataFrame(later, schema=SCHEMA)), encoded)


def test_a_lazy_table_teaches_the_same_as_one_in_memory() -> None:
    draw = np.random.default_rng(0)
    table = pl.concat([TRAIN] * 50)[draw.permutation(200)]
    lazy = Encoder.fit({"": table.lazy()}, {"": COLUMNS})
    assert lazy.to_dict() == fitted(table).to_dict()
    assert lazy.vocabulary.equals(fitted(table).vocabulary)


def test_a_kept_encoder_knows_as_much() -> None:
    columns = (*COLUMNS, Cross(columns=("shop", "city")))
    encoder = fitted(columns=columns)
    kept = Encoder.from_dict(json.loads(json.dumps(encoder.to_dict())), encoder.vocabulary)
    assert kept.columns == {"": columns}
    assert kept.schema == encoder.schema
    assert kept.report().equals(encoder.report())
    assert kept.vocabulary.equals(encoder.vocabulary)
    assert {name: one.dtype for name, one in kept.vocabularies.items()} == {"shop": pl.Int64, "tags": pl.String}


# ── what cannot be read ───────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("train", "dtype"),
    [([1, 2, 3], pl.Int64), (["1", "2", "3"], pl.String), ([1.0, 2.0, 3.0], pl.Float64), ([1, 2, 3], pl.UInt64)],
)
@pytest.mark.parametrize("buckets", [0, 97])
def test_three_is_three_whatever_type_a_file_has(train: list[Any], dtype: Any, buckets: int) -> None:
    encoder = one(Categorical(name="a", buckets=buckets), train, dtype)
    three = code(encoder, train)[2]
    for values in (
        [3],
        ["3"],
        [3.0],
        [3.0, 2.5],
        pl.Series([3], dtype=pl.UInt8),
        pl.Series([3], dtype=pl.Decimal(9, 2)),
    ):
        assert code(encoder, values)[0] == three
    if not buckets:
        assert code(encoder, ["3.0", "three", "03 "]) == [0, 0, 0]


@pytest.mark.parametrize(
    ("values", "what", "times"),
    [
        (["12", "x", None], {"not a number": 1, "empty": 1}, [True, False, False]),
        ([INF, -INF, NAN, None, 1.0], {"not finite": 2, "empty": 2}, [False, False, False, False, True]),
        ([1e38, 1e308, -1e308], {"out of bounds": 3}, [True, True, True]),
        ([True, False], {}, [True, True]),
        ([[1], None], {"not a number": 1, "empty": 1}, [False, False]),
        ([{"a": 1}], {"not a number": 1}, [False]),
        ([b"1"], {"not a number": 1}, [False]),
        ([None, None], {"empty": 2}, [False, False]),
        ([], {}, []),
    ],
)
def test_what_is_no_number_is_counted(values: list[Any], what: dict[str, int], times: list[bool]) -> None:
    encoder = one(Numeric(name="a", transform="standard"), [1.0, 2.0, 12.0])
    assert code(encoder, values) == [int(there) for there in times]
    assert encoder.counts == {f"a: {key}": count for key, count in what.items()}
    assert all(abs(number) <= 10 for number in value(encoder, values))


@pytest.mark.parametrize(
    ("values", "expected", "what"),
    [
        ([1.5, NAN, INF, None], [0, 1, 0, 1], {"not seen in training": 2, "empty": 2}),
        (["1", "one", ""], [2, 0, 0], {"not seen in training": 2}),
        ([[1], None], [0, 1], {"not seen in training": 1, "empty": 1}),
        ([b"\xff"], [0], {"not seen in training": 1}),
        ([2**64 - 1], [0], {"not seen in training": 1}),
        ([True], [0], {"not seen in training": 1}),
    ],
)
def test_what_is_no_category_is_unknown_and_counted(
    values: list[Any], expected: list[int], what: dict[str, int]
) -> None:
    encoder = one(Categorical(name="a"), [1, 1, 2])
    assert code(encoder, values) == expected
    assert encoder.counts == {f"a: {key}": count for key, count in what.items()}


@pytest.mark.parametrize("train", [[5, 5, 5], [0.1] * 10, [], [None, None], [NAN, INF], [1e308, 1e308]])
@pytest.mark.parametrize("transform", ["standard", "log"])
def test_a_constant_or_empty_number_column_is_always_zero(train: list[Any], transform: str) -> None:
    encoder = one(Numeric(name="a", transform=transform), train, pl.Float64)
    assert value(encoder, [5.0, -1e308, 1e308, 0.1]) == [0.0, 0.0, 0.0, 0.0]
    assert value(encoder, [None, NAN, INF]) == [1.0, 1.0, 1.0]  # the weight of an empty value


def test_numbers_beyond_all_bounds_teach_finite_ones() -> None:
    encoder = one(Numeric(name="a", transform="standard"), [1e308, -1e308, 1e38, 0.0, INF, NAN])
    found = value(encoder, [1e308, -1e308, 0.0, 5e-324])
    assert all(math.isfinite(number) for number in found)
    assert found[0] > found[2] > found[1]


def test_a_tiny_spread_divides_without_a_crash() -> None:
    encoder = one(Numeric(name="a", transform="standard"), [0.0, 5e-324])
    assert all(abs(number) <= 10 for number in value(encoder, [1e308, -1.0, 0.0]))


@pytest.mark.parametrize("train", [[], [None]])
def test_a_column_without_any_value_knows_none(train: list[Any]) -> None:
    assert code(one(Categorical(name="a"), train, pl.String), ["x", None]) == [0, 1]
    assert code(one(Bag(name="a"), train, pl.List(pl.String)), [["x"], None]) == [0, -1]
    assert code(one(Bag(name="a", separator="|"), train, pl.String), ["x|y", None]) == [0, -1]
    hashed = one(Categorical(name="a", buckets=1), train, pl.String)
    assert code(hashed, ["x", None]) == [2, 1]


def test_a_bag_of_a_million_values() -> None:
    many = list(range(1_000_000))
    encoder = fitted(pl.DataFrame({"a": [many, [1], [1, 2]]}), (Bag(name="a", most=3),))
    encoder.counts.clear()
    found = encoder.encode(pl.DataFrame({"a": [many, [], [1, None], [2], None]}))
    assert found.code.shape == (5, 3)
    assert found.values.tolist() == [[1, 1, 1], [0, 0, 0], [1, 0, 0], [1, 0, 0], [0, 0, 0]]
    assert encoder.counts == {"a: left out beyond the longest": 999_997, "a: empty": 1}


def test_bags_come_as_texts_lists_or_single_values() -> None:
    encoder = one(Bag(name="a", separator="|"), ["x|y", "y"])
    expected = [[3, 2], [2, 0]]
    for values in (["x|y", "y"], [" x | y ", "|y|"], [["x", "y"], ["y"]], [["x", "y"], ["y", None]]):
        found = code(encoder, values)
        assert [[max(one, 0) for one in row] for row in found] == expected
    numbers = one(Bag(name="a"), [[1, 2], [2]])
    assert code(numbers, [2, 1]) == [[2, -1], [3, -1]]
    assert code(numbers, [["2"], ["x"]]) == [[2, -1], [0, -1]]


@pytest.mark.parametrize(
    ("values", "expected", "what"),
    [
        ([[1.0, 2.0], None, []], [[1, 2], [0, 0], [0, 0]], {"not of size 2": 1}),
        ([[1.0], [1.0, 2.0, 3.0]], [[0, 0], [0, 0]], {"not of size 2": 2}),
        ([[1.0, None], [NAN, 1.0], [1.0, INF]], [[0, 0]] * 3, {"not finite": 3}),
        ([[1e38, 1.0], [1e308, 1.0]], [[1e6, 1], [1e6, 1]], {"out of bounds": 2}),
        ([["1", "2"], ["x", "2"]], [[1, 2], [0, 0]], {"not finite": 1}),
        ([1.0, None], [[0, 0], [0, 0]], {"not of size 2": 1}),
        (["[1, 2]"], [[0, 0]], {"not of size 2": 1}),
        ([[[1.0], [2.0]]], [[0, 0]], {"not finite": 1}),
    ],
)
def test_a_vector_of_another_kind_is_zeros_and_counted(
    values: list[Any], expected: list[Any], what: dict[str, int]
) -> None:
    encoder = one(Vector(name="a", size=2), [[1.0, 2.0]])
    assert encoder.encode(pl.DataFrame({"a": values})).vector.tolist() == expected
    assert encoder.counts == {f"a: {key}": count for key, count in what.items()}


def test_an_array_is_a_list() -> None:
    arrays = pl.DataFrame({"a": pl.Series([[1.0, 2.0], [2.0, 2.0]], dtype=pl.Array(pl.Float64, 2))})
    for column in (Vector(name="a", size=2), Bag(name="a")):
        encoder = fitted(arrays, (column,))
        assert same(encoder.encode(arrays), encoder.encode(arrays.with_columns(pl.col("a").arr.to_list())))


STRANGE = [
    pl.Series([1, None]), pl.Series([1.5, NAN]), pl.Series(["x", None]), pl.Series([True, None]), pl.Series([b"\xff"]),
    pl.Series([[1], None]), pl.Series([[[1]], None]), pl.Series([["x"], []]), pl.Series([[], None]), pl.Series([None]),
    pl.Series([{"a": 1}]), pl.Series([object(), None], dtype=pl.Object), pl.Series([1], dtype=pl.Decimal(10, 2)),
    pl.Series(["a"], dtype=pl.Categorical), pl.Series(["1"], dtype=pl.Enum(["1"])), pl.Series([1]).cast(pl.Duration),
    pl.Series([1]).cast(pl.Datetime), pl.Series([1]).cast(pl.Date), pl.Series([1]).cast(pl.Time),
]  # fmt: skip


@pytest.mark.parametrize("values", STRANGE, ids=lambda values: str(values.dtype))
def test_no_type_breaks_a_column_of_another(values: pl.Series) -> None:
    encoder = fitted()
    for name in TRAIN.columns:
        table = pl.concat([TRAIN] * 3)[: len(values)].with_columns(values.alias(name))
        assert finite(encoder.encode(table), encoder)


REFUSED = {  # kind → types that it cannot read; "x" is no number
    "numeric": ("String", "Categorical", "Binary", "List", "Struct", "Object"),
    "categorical": ("List", "Struct", "Object"),
    "bag": ("List(List", "Struct", "Object"),
}


@pytest.mark.parametrize("values", STRANGE, ids=lambda values: str(values.dtype))
@pytest.mark.parametrize(
    "column", [Numeric(name="a", transform="standard"), Categorical(name="a"), Bag(name="a")], ids=lambda one: one.kind
)
def test_every_type_is_fitted_or_refused(values: pl.Series, column: Column) -> None:
    table = values.alias("a").to_frame()
    if str(values.dtype).startswith(REFUSED[column.kind]):
        with pytest.raises(DataError, match=r'^column "a"'):
            fitted(table, (column,))
    else:
        encoder = fitted(table, (column,))
        assert finite(encoder.encode(table), encoder)


def test_a_table_without_rows() -> None:
    encoder = fitted(TRAIN.clear())
    found = encoder.encode(TRAIN.clear())
    assert len(found) == 0
    assert found.code.shape == (0, encoder.schema.n_slots)
    assert found.vector.shape == (0, 2)
    assert finite(encoder.encode(TRAIN), encoder)
    assert encoder.report().height == len(COLUMNS)


# ── errors ────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ((Numeric(name="agee"),), 'there is no column "agee". Did you mean "age"? It has: shop, city, age, spent'),
        ((Numeric(name="seen"),), 'column "seen" is of type List(Int64), which kind = "numeric" cannot read. Take'),
        ((Categorical(name="seen"),), 'kind = "categorical" cannot read. Take kind = "bag", or "vector" for numbers.'),
        ((Vector(name="age", size=2),), 'which kind = "vector" cannot read. Give it a list in each row.'),
        ((History(name="age", of="shop"),), 'which kind = "history" cannot read. Give it a list in each row.'),
        ((Numeric(name="city"),), 'column "city": no value is a number. Take kind = "categorical".'),
        ((Vector(name="image", size=3),), 'no list has 3 numbers; the longest has 2. Set size to'),
        ((History(name="seen", of="shop"),), 'history "seen" is of "shop", which is no categorical column before it.'),
        ((Categorical(name="shop"), History(name="seen", of="shopp")), 'Did you mean "shop"?'),
        ((Numeric(name="age", buckets=3), History(name="seen", of="age")), 'of "age", which is no categ'),
        ((Categorical(name="shop"), Cross(columns=("shop", "age"))), 'cross "shop × age" names "age", which is no'),
        ((Numeric(name="age"), Cross(columns=("age", "shop"))), "Give a number buckets to cross it."),
    ],
)  # fmt: skip
def test_columns_that_the_table_does_not_have_are_refused(columns: tuple[Column, ...], message: str) -> None:
    with pytest.raises(DataError) as caught:
        fitted(columns=columns)
    assert message in str(caught.value)


def test_a_table_that_lacks_a_column_is_refused() -> None:
    with pytest.raises(DataError, match=r'there is no column "city"\. It has: shop, age'):
        fitted().encode(TRAIN.drop("city"))


def test_a_history_of_what_is_not_there_is_refused() -> None:
    with pytest.raises(DataError, match=r'history "history" is of "shopp".*Did you mean "shop"\?'):
        fitted().with_history("shopp", 3)


def test_a_number_between_two_knots_is_a_mixture_of_theirs_by_hand() -> None:
    table = pl.DataFrame({"x": [0.0, 1.0, 2.0, 4.0, 8.0]})
    encoder = Encoder.fit({"": table}, {"": [Numeric(name="x", knots=10)]})
    assert encoder.numbers["x"]["knots"] == [0.0, 1.0, 2.0, 4.0, 8.0]  # the quantiles of rows, and of distinct values
    [field] = encoder.schema.fields
    assert (field.start, field.rows, field.width, field.pooling) == (1, 6, 2, "sum")
    encoded = encoder.encode(pl.DataFrame({"x": [3.0, 4.0, 7.0, -5.0, 100.0, None, float("inf")]}))
    assert encoded.code.tolist() == [[4, 5], [5, 6], [5, 6], [2, 3], [5, 6], [1, 0], [1, 0]]
    assert encoded.values.tolist() == [[0.5, 0.5], [1, 0], [0.25, 0.75], [1, 0], [0, 1], [1, 0], [1, 0]]


@given(
    st.lists(st.floats(-1e6, 1e6, allow_subnormal=False), min_size=1, max_size=30),
    st.lists(st.floats(allow_subnormal=False), min_size=1, max_size=30),
)
def test_knots_give_a_number_back_within_what_training_saw(train: list[float], later: list[float]) -> None:
    encoder = Encoder.fit({"": pl.DataFrame({"x": train})}, {"": [Numeric(name="x", knots=6)]})
    encoded = encoder.encode(pl.DataFrame({"x": later}, schema={"x": pl.Float64}))
    knots = np.array([0.0, 0.0, *encoder.numbers["x"]["knots"]])  # by code: padding, empty, knots
    back = (knots[encoded.code.numpy()] * encoded.values.numpy()).sum(axis=1)
    there = np.isfinite(later)
    wanted = np.clip(np.array(later)[there], min(train), max(train))
    assert encoded.values.sum(dim=1).tolist() == pytest.approx([1.0] * len(later))
    np.testing.assert_allclose(back[there], wanted, rtol=1e-5, atol=1e-6 * max(map(abs, train)) + 1e-300)


def test_a_constant_number_has_one_knot() -> None:
    encoder = Encoder.fit({"": pl.DataFrame({"x": [5.0, 5.0]})}, {"": [Numeric(name="x")]})
    encoded = encoder.encode(pl.DataFrame({"x": [5.0, 6.0, None]}))
    assert encoded.code.tolist() == [[2, 2], [2, 2], [1, 0]]
    assert encoded.values.tolist() == [[1, 0], [1, 0], [1, 0]]
