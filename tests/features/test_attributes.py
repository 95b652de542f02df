"""Attributes as vectors: what is alike shares places, and a row means the same in any table."""

import math

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bowerbird.features.attributes import PLACES, attributes

VALUES = st.tuples(
    st.none() | st.floats(allow_infinity=False, width=32) | st.just(math.nan),
    st.none() | st.sampled_from(["red", "blue sky", "a|b", "", " ", "b;a,c", "ü"]),
    st.none() | st.lists(st.sampled_from(["x", "y", "z"]), max_size=3),
    st.none() | st.booleans(),
)

GOLDEN = [
    {7: 0.4082, 11: 0.4082, 17: -0.4082, 172: 0.4082, 231: 0.4082, 241: 0.4082},
    {17: -0.5, 76: -0.5, 106: 0.5, 231: 0.5},
]


def table_of(rows: list[tuple[object, ...]]) -> pl.DataFrame:
    kinds = {"price": pl.Float64, "colour": pl.String, "tags": pl.List(pl.String), "new": pl.Boolean}
    return pl.DataFrame(rows, schema=kinds, orient="row")


def cosine(**columns: list[object]) -> float:
    """Return how like the two rows of a table are."""
    one, other = attributes(pl.DataFrame(columns))
    return float(one @ other)


def test_the_vectors_are_the_same_on_every_machine_and_in_every_version() -> None:
    table = pl.DataFrame({"colour": ["red", None], "price": [12.34, 12.0], "tags": [["x", "y"], ["y"]]})
    found = attributes(table)
    assert found.shape == (2, PLACES)
    assert found.dtype == np.float32
    assert {int(place): round(float(found[0, place]), 4) for place in found[0].nonzero()[0]} == GOLDEN[0]
    assert {int(place): round(float(found[1, place]), 4) for place in found[1].nonzero()[0]} == GOLDEN[1]


@pytest.mark.parametrize(
    ("one", "other", "expected"),
    [
        (1231.0, 1233.0, 2 / 3),  # 1200 and 1230 are the same, 1231 and 1233 are not
        (1234.0, 1236.0, 1 / 3),  # 1230 and 1240 are not
        (1234.0, 1334.0, 0.0),
        (1234.0, 12_340.0, 0.0),  # digits alone say nothing
        (1234.0, -1234.0, 0.0),
        (12.0, 12.000_01, 1.0),  # more than four digits are not looked at
        (0.0, -0.0, 1.0),
    ],
)
def test_near_numbers_share_what_far_ones_do_not(one: float, other: float, expected: float) -> None:
    assert cosine(price=[one, other]) == pytest.approx(expected, abs=1e-6)


def test_whole_numbers_are_those_that_fractions_spell() -> None:
    whole, fractions = (attributes(pl.DataFrame({"year": pl.Series([1995, 7], dtype=kind)})) for kind in (int, float))
    assert np.array_equal(whole, fractions)


def test_categories_are_alike_where_they_are_the_same() -> None:
    assert cosine(colour=["red", " red "]) == pytest.approx(1.0)
    assert cosine(colour=["red", "blue"]) == 0.0
    assert cosine(colour=["red", "red"], shape=["round", "flat"]) == pytest.approx(0.5)
    assert cosine(new=[True, True]) == pytest.approx(1.0)
    assert cosine(new=[True, False]) == 0.0


def test_a_value_says_another_thing_in_another_column() -> None:
    assert cosine(colour=["red", None], shirt=[None, "red"]) == 0.0


def test_texts_of_several_share_their_parts() -> None:
    # each is the whole and two parts: two of the three are the same
    assert cosine(genres=["Comedy|Drama", "Drama|Comedy"]) == pytest.approx(2 / 3)
    assert cosine(genres=["Comedy|Drama", "Drama"]) == pytest.approx(1 / math.sqrt(3))
    assert cosine(genres=["Comedy, Drama", "Comedy;Drama"]) == pytest.approx(2 / 3)
    assert cosine(genres=[["Comedy", "Drama"], ["Drama", "Comedy"]]) == pytest.approx(1.0)
    assert cosine(genres=[["Comedy", "Drama"], ["Drama"]]) == pytest.approx(1 / math.sqrt(2))


@pytest.mark.parametrize("nothing", [(None, None, None, None), (math.nan, "", [], None), (None, "  ", [""], None)])
def test_a_row_of_which_nothing_is_told_is_not_a_number(nothing: tuple[object, ...]) -> None:
    found = attributes(table_of([nothing, (1.0, "red", ["x"], True)]))
    assert np.isnan(found[0]).all()
    assert np.isfinite(found[1]).all()


def test_a_table_without_rows_or_columns_has_vectors_too() -> None:
    assert attributes(table_of([])).shape == (0, PLACES)
    assert np.isnan(attributes(pl.DataFrame({"nothing": [None, None]}))).all()


@given(st.lists(VALUES, min_size=1, max_size=6))
def test_a_row_means_the_same_alone_and_among_others_and_has_length_1(rows: list[tuple[object, ...]]) -> None:
    table = table_of(rows)
    found = attributes(table)
    for place in range(len(table)):
        assert np.array_equal(attributes(table[place]), found[place : place + 1], equal_nan=True)
    lengths = np.linalg.norm(found, axis=1)
    assert np.allclose(lengths[~np.isnan(lengths)], 1.0, atol=1e-5)
    told = [any(one not in (None, "", " ", []) and one == one for one in row) for row in rows]
    assert (~np.isnan(lengths)).tolist() == told
