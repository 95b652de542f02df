import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bowerbird.core import DataError
from bowerbird.core.ids import Ids, clean, encode

INTEGERS = st.lists(st.integers(-(2**63), 2**63 - 1), unique=True)
TEXTS = st.lists(st.text(st.characters(exclude_categories=["Cs"]), min_size=1), min_size=1, unique=True)


def test_the_row_of_an_id_is_its_place() -> None:
    ids = Ids.of([30, 10, 20])
    assert [ids.row(value) for value in (30, 10, 20)] == [0, 1, 2]
    assert ids[1] == 10
    assert len(ids) == 3


def test_an_unknown_id_is_row_minus_one() -> None:
    assert Ids.of([30, 10]).row(99) == -1
    assert Ids.of(["a"]).row("b") == -1


def test_a_text_from_a_url_finds_the_integer_it_spells() -> None:
    ids = Ids.of([7, -12])
    assert (ids.row("7"), ids.row("-12"), ids.row("8"), ids.row("seven")) == (0, 1, -1, -1)


def test_an_integer_finds_the_text_that_spells_it() -> None:
    ids = Ids.of(["7", "a"])
    assert (ids.row(7), ids.row(8)) == (0, -1)
    assert ids.row(np.int64(7)) == 0


@pytest.mark.parametrize("text", ["1_000", " 7", "7.0", "٧", "", "+", "9" * 30])
def test_a_text_that_only_python_reads_as_an_integer_is_unknown(text: str) -> None:
    ids = Ids.of([7, 1000])
    assert ids.row(text) == -1
    assert ids.rows(pl.Series([text])).tolist() == [-1]


def test_integers_keep_their_type() -> None:
    ids = Ids.of([7])
    assert ids.is_integer
    assert type(ids[0]) is int
    assert not Ids.of(["7"]).is_integer


def test_many_ids_are_found_at_once_as_int32() -> None:
    ids = Ids.of(["a", "b", "c"])
    for values in (["c", "x", "a"], pl.Series(["c", "x", "a"])):
        rows = ids.rows(values)
        assert rows.tolist() == [2, -1, 0]
        assert rows.dtype == np.int32


def test_a_series_of_texts_finds_integers_and_the_other_way_round() -> None:
    assert Ids.of([5, 6]).rows(pl.Series(["6", "x", None])).tolist() == [1, -1, -1]
    assert Ids.of(["5", "6"]).rows(pl.Series([6, 7])).tolist() == [1, -1]


def test_an_unknown_row_has_no_name() -> None:
    assert Ids.of(["a", "b"]).names(np.array([1, -1, 0])).to_list() == ["b", None, "a"]


def test_duplicates_are_refused() -> None:
    with pytest.raises(DataError, match="ids must be distinct"):
        Ids.of([1, 2, 1])


def test_the_first_ids_keep_their_rows() -> None:
    ids = Ids.of(["a", "b", "c"])
    head = ids.head(2)
    assert head == Ids.of(["a", "b"])
    assert (head.row("b"), head.row("c")) == (1, -1)
    assert ids.head(3) is ids


def test_equality_is_that_of_the_ids_in_order() -> None:
    assert Ids.of([1, 2]) == Ids.of([1, 2])
    assert hash(Ids.of([1, 2])) == hash(Ids.of([1, 2]))
    assert Ids.of([1, 2]) != Ids.of([2, 1])
    assert Ids.of([1]) != Ids.of(["1"])


def test_no_ids_at_all_know_nobody() -> None:
    ids = Ids.of([])
    assert (len(ids), ids.row(1), ids.row("a")) == (0, -1, -1)
    assert ids.rows(pl.Series(["a", "1"])).tolist() == [-1, -1]


def test_small_integer_types_become_64_bits() -> None:
    assert Ids(pl.Series([1, 2], dtype=pl.UInt8)).values.dtype == pl.Int64


@given(st.one_of(INTEGERS, TEXTS))
def test_every_id_comes_back_from_its_row(values: list[int] | list[str]) -> None:
    ids = Ids.of(values)
    rows = ids.rows(values)
    assert rows.tolist() == list(range(len(values)))
    assert ids.rows(ids.values).tolist() == rows.tolist()
    assert ids.names(rows).to_list() == values


@given(INTEGERS)
def test_every_integer_is_found_by_its_text(values: list[int]) -> None:
    ids = Ids.of(values)
    assert [ids.row(str(value)) for value in values] == list(range(len(values)))


@given(st.text(st.sampled_from("0123456789+-_. e٧")), st.sets(st.integers(-20, 200)))
def test_one_text_and_a_series_of_texts_are_looked_up_alike(text: str, known: set[int]) -> None:
    ids = Ids.of(sorted(known))
    assert ids.row(text) == ids.rows(pl.Series([text]))[0]


def test_encoding_numbers_ids_as_they_first_appear() -> None:
    ids, rows = encode(pl.Series(["b", "a", "b", "c"]))
    assert ids == Ids.of(["b", "a", "c"])
    assert rows.tolist() == [0, 1, 0, 2]
    assert rows.dtype == np.int32


@given(st.lists(st.integers(-5, 5)))
def test_encoded_values_are_named_again(values: list[int]) -> None:
    ids, rows = encode(pl.Series(values, dtype=pl.Int64))
    assert ids.names(rows).to_list() == values
    assert len(ids) == len(set(values))


@given(st.lists(st.text(max_size=3), max_size=30))
def test_encoded_texts_are_numbered_as_they_appear(values: list[str]) -> None:
    ids, rows = encode(pl.Series(values, dtype=pl.String))
    assert ids.values.to_list() == list(dict.fromkeys(values))
    assert ids.names(rows).to_list() == values


def test_texts_of_one_hash_stay_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pl.Series, "hash", lambda column: pl.Series([1] * len(column), dtype=pl.UInt64))
    ids, rows = encode(pl.Series(["b", "a", "b", "c"]))
    assert ids.values.to_list() == ["b", "a", "c"]
    assert rows.tolist() == [0, 1, 0, 2]


@pytest.mark.parametrize("values", [[3, 1, 3, -7, 1], ["b", "a", "b", "", "ü"], []])
def test_short_and_long_columns_are_numbered_alike(monkeypatch: pytest.MonkeyPatch, values: list[object]) -> None:
    column = pl.Series(values, dtype=None if values else pl.Int64)
    short = encode(column)
    monkeypatch.setattr("bowerbird.core.ids.MANY", 0)
    long = encode(column)
    assert short[0] == long[0]
    assert short[1].tolist() == long[1].tolist()
    assert short[1].dtype == long[1].dtype == np.int32


def test_one_word_spelt_in_two_ways_is_one_id() -> None:
    assert clean("cafe\u0301") == clean("caf\u00e9") == "caf\u00e9"
    for text, said in (("a\nb", "control"), ("a\x00", "control"), ("\ud800", "control"), ("é" * 129, "256 bytes")):
        with pytest.raises(ValueError, match=said):
            clean(text)
