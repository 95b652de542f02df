import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bowerbird.features.values import BLOCK, Lookup, cast, empty, floats, hashed, keys, listed

KINDS = [
    pl.Series([1, None]), pl.Series([1.5, float("nan"), float("inf"), None]), pl.Series(["1", "x", None]),
    pl.Series([True, None]), pl.Series([b"1", b"\xff", None]), pl.Series([[1], None]), pl.Series([[[1]], None]),
    pl.Series([{"a": 1}, None]), pl.Series([object(), None], dtype=pl.Object), pl.Series([None, None]),
    pl.Series([1, None], dtype=pl.Decimal(10, 2)), pl.Series(["a", None], dtype=pl.Categorical),
    pl.Series(["1", None], dtype=pl.Enum(["1"])), pl.Series([1, None]).cast(pl.Duration),
    pl.Series([1, None]).cast(pl.Datetime), pl.Series([1, None]).cast(pl.Date), pl.Series([1, None]).cast(pl.Time),
    pl.Series([2**64 - 1, None], dtype=pl.UInt64), pl.Series([[1.0, 2.0], None], dtype=pl.Array(pl.Float64, 2)),
]  # fmt: skip


def by_hand(text: str) -> int:
    """Return the hash of one text as its definition says, without wrapping arithmetic."""
    mixed = sum((byte + 1) * 0x100000001B3**place for place, byte in enumerate(text.encode())) % 2**64
    mixed = (mixed ^ (mixed >> 30)) * 0xBF58476D1CE4E5B9 % 2**64
    mixed = (mixed ^ (mixed >> 27)) * 0x94D049BB133111EB % 2**64
    return mixed ^ (mixed >> 31)


def test_hashes_never_change() -> None:
    """Models that were saved hash as these did: a change breaks every one of them."""
    assert hashed(pl.Series(["", "a", "ab", "3", "grün", "a" * 1_000])).tolist() == [
        0, 17508005127702757215, 14426668954780592525,
        7356269083696073767, 15157131063806101146, 6367373651795158267,
    ]  # fmt: skip


@given(st.lists(st.text(max_size=20), max_size=8))
def test_hashes_are_as_defined(texts: list[str]) -> None:
    assert hashed(pl.Series(texts, dtype=pl.String)).tolist() == [by_hand(text) for text in texts]


@given(st.lists(st.one_of(st.none(), st.text(max_size=5)), min_size=1, max_size=9), st.integers(0, 9))
def test_a_hash_does_not_depend_on_what_stands_beside_it(texts: list[str | None], start: int) -> None:
    series = pl.Series(texts, dtype=pl.String)
    assert hashed(series)[start:].tolist() == hashed(series[start:]).tolist()


def test_blocks_of_texts_meet_without_a_seam() -> None:
    texts = pl.Series([f"{n:x}" for n in range(BLOCK - 3, BLOCK + 3)])
    around = pl.concat([pl.Series(["long text"] * (BLOCK - 3)), texts])
    assert hashed(around)[BLOCK - 3 :].tolist() == [by_hand(text) for text in texts]


def test_hashes_of_many_texts_differ_and_spread_evenly() -> None:
    found = hashed(pl.Series(range(300_000)).cast(pl.String))
    assert len(np.unique(found)) == len(found)
    filled = np.bincount((found % np.uint64(1_000)).astype(np.int64), minlength=1_000)
    # χ² of 999 degrees of freedom: 999 ± 45
    assert ((filled - 300) ** 2 / 300).sum() == pytest.approx(999, abs=5 * 45)


def test_three_is_three_however_it_is_written() -> None:
    for values in (pl.Series([3]), pl.Series([3.0]), pl.Series(["3"]), pl.Series([3], dtype=pl.Decimal(5, 2))):
        assert keys(values, pl.String()).to_list() == ["3"]
        assert keys(values, pl.Int64()).to_list() == [3]


def test_a_value_is_written_alike_whatever_stands_beside_it() -> None:
    numbers = pl.Series([3.0, 2.5, -0.0, None, float("nan"), float("inf"), 1e300])
    assert keys(numbers, pl.String()).to_list() == ["3", "2.5", "0", None, None, "inf", "1e+300"]
    assert keys(numbers, pl.Int64()).to_list() == [3, None, 0, None, None, None, None]
    assert keys(numbers[:1], pl.String()).to_list() == ["3"]


@pytest.mark.parametrize("values", KINDS, ids=lambda values: str(values.dtype))
def test_every_type_is_read_somehow(values: pl.Series) -> None:
    n = len(values)
    assert empty(values).shape == floats(values).shape == (n,)
    assert bool(empty(values)[-1])
    assert np.isnan(floats(values)[-1])
    for kind in (pl.String(), pl.Int64()):
        assert keys(values, kind).dtype == cast(values, kind).dtype == kind
        assert keys(values, kind)[-1] is None
    flat, lengths = listed(values, "|")
    assert lengths.sum() == len(flat)


NUMBERS = st.one_of(st.integers(-5, 5), st.integers(-(2**63), 2**63 - 1))


@given(st.lists(NUMBERS, unique=True, max_size=12), st.lists(st.one_of(st.none(), NUMBERS), max_size=12))
def test_whole_numbers_are_found_as_a_dictionary_finds_them(known: list[int], asked: list[int | None]) -> None:
    places = {value: place for place, value in enumerate(known)}
    found = Lookup(pl.Series(known, dtype=pl.Int64)).find(pl.Series(asked, dtype=pl.Int64))
    assert found.tolist() == [places.get(value, -1) for value in asked]  # type: ignore[arg-type]


@given(st.lists(st.text(max_size=3), unique=True, max_size=12), st.lists(st.one_of(st.none(), st.text(max_size=3))))
def test_texts_are_found_as_a_dictionary_finds_them(known: list[str], asked: list[str | None]) -> None:
    places = {value: place for place, value in enumerate(known)}
    found = Lookup(pl.Series(known, dtype=pl.String)).find(pl.Series(asked, dtype=pl.String))
    assert found.tolist() == [places.get(value, -1) for value in asked]  # type: ignore[arg-type]


def test_a_text_of_the_same_hash_is_not_taken_for_another(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bowerbird.features.values.hashed", lambda texts: np.zeros(len(texts), np.uint64))
    assert Lookup(pl.Series(["a"])).find(pl.Series(["a", "b"])).tolist() == [0, -1]


def test_lists_are_laid_end_to_end() -> None:
    flat, lengths = listed(pl.Series([[1, None], [], None, [2]]))
    assert (flat.to_list(), lengths.tolist()) == ([1, None, 2], [2, 0, 0, 1])
    flat, lengths = listed(pl.Series(["b| a|", None, ""]), "|")
    assert (flat.to_list(), lengths.tolist()) == (["b", "a", None, None], [3, 0, 1])
    flat, lengths = listed(pl.Series([7, 8]))
    assert (flat.to_list(), lengths.tolist()) == ([7, 8], [1, 1])
    flat, lengths = listed(pl.Series([["a|b"]]), "|")  # already a list: nothing is cut
    assert (flat.to_list(), lengths.tolist()) == (["a|b"], [1])
