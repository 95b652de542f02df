"""What items say: which columns are words, what they weigh, and what is like what."""

import math

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bowerbird.features import content
from bowerbird.features.content import ItemWords

WORDS = st.sampled_from(["red", "blue", "shoe", "hat", "of", "the"])
TEXTS = st.lists(st.lists(WORDS, max_size=5).map(" ".join), min_size=2, max_size=12)


def said(*titles: str | None, **columns: list[object]) -> ItemWords | None:
    return ItemWords.of(pl.DataFrame({"item_id": range(len(titles)), "title": list(titles)} | columns))


def like(words: ItemWords | None, *rows: int) -> list[float]:
    assert words is not None
    return words.likeness(np.array(rows)).tolist()


def slow(titles: list[str], rows: list[int]) -> np.ndarray:
    """The cosine in plain words, with everything in dictionaries."""
    every = [title.split() for title in titles]
    spread = {word: sum(word in one for one in every) for one in every for word in one}

    def unit(one: list[str]) -> dict[str, float]:
        weight = {word: (1 + math.log(one.count(word))) * math.log(len(every) / spread[word]) for word in one}
        length = math.sqrt(sum(value**2 for value in weight.values())) or 1
        return {word: value / length for word, value in weight.items() if value}

    units = [unit(one) for one in every]
    asked: dict[str, float] = {}
    for row in rows:
        for word, value in units[row].items():
            asked[word] = asked.get(word, 0) + value
    length = math.sqrt(sum(value**2 for value in asked.values())) or 1
    cosine = np.array([sum(value * asked.get(word, 0) for word, value in one.items()) / length for one in units])
    return np.where(cosine >= content.LEAST, cosine, -np.inf)


def test_likeness_by_hand() -> None:
    # of three items "red" and "hat" are said by two, the others by one: ln 1.5 = 0.4055 and ln 3 = 1.0986
    # lengths: √(0.4055² + 1.0986²) = 1.1711 for the first and third, √(2 · 0.4055²) = 0.5734 for the second
    words = said("Red shoes", "red hat", "blue HAT!")
    assert like(words, 0) == pytest.approx([1.0, 0.4055**2 / (1.1711 * 0.5734), -np.inf], abs=1e-4)
    assert like(words, 1)[2] == pytest.approx(0.2448, abs=1e-4)


@settings(deadline=None)
@given(TEXTS, st.data())
def test_it_is_the_cosine_of_the_slow_way(titles: list[str], data: st.DataObject) -> None:
    rows = data.draw(st.lists(st.integers(0, len(titles) - 1), min_size=1, max_size=4))
    words = said(*titles)
    expected = slow(titles, rows)
    if words is None:
        assert not np.isfinite(expected).any()
    else:
        np.testing.assert_allclose(words.likeness(np.array(rows)), expected, atol=1e-6)


@settings(deadline=None)
@given(TEXTS, st.randoms(use_true_random=False))
def test_the_order_of_items_does_not_matter(titles: list[str], random: object) -> None:
    order = list(range(len(titles)))
    random.shuffle(order)  # type: ignore[attr-defined]
    one, other = said(*titles), said(*[titles[row] for row in order])
    if one is not None and other is not None:
        mine = one.likeness(np.array([order[0]]))
        np.testing.assert_allclose(other.likeness(np.array([0])), mine[order], atol=1e-6)


def test_what_all_items_say_and_what_none_says_is_nothing() -> None:
    assert ItemWords.of(pl.DataFrame({"item_id": ["a", "b"]})) is None
    assert said(None, None) is None
    assert said("the same", "the same") is None
    assert said("", "...") is None
    assert ItemWords.of(pl.DataFrame({"item_id": ["a", "b", "c"], "price": [1.5, 2.5, 1.5]})) is None


def test_an_item_without_words_is_like_nothing() -> None:
    words = said("red shoes", "red hat", None, "blue hat")
    assert like(words, 2) == [-np.inf] * 4
    assert like(words, 0)[2] == -np.inf
    assert like(words, 0, 2) == like(words, 0)


@pytest.mark.parametrize(
    "column",
    [
        pl.Series(["war|drama", "drama", "fun", "fun"]),
        pl.Series([["war", "drama"], ["drama"], ["fun", None], ["fun"]]),
        pl.Series([["war", "drama"], ["Drama", "drama"], ["fun", ""], ["fun", "fun"]], dtype=pl.Array(pl.String, 2)),
        pl.Series(["drama", "drama", "fun", "fun"], dtype=pl.Categorical),
        pl.Series(["drama", "drama", "fun", "fun"], dtype=pl.Enum(["drama", "fun"])),
        pl.Series([4, 4, 17, 17]),
        pl.Series([[4, 5], [4], [17], [17, None]]),
    ],
    ids=lambda column: str(column.dtype),
)
def test_categories_tags_codes_and_lists_are_words(column: pl.Series) -> None:
    words = ItemWords.of(pl.DataFrame({"item_id": ["a", "b", "c", "d"], "kind": column}))
    assert words is not None
    assert np.isfinite(words.likeness(np.array([0]))).tolist() == [True, True, False, False]
    assert np.isfinite(words.likeness(np.array([3]))).tolist() == [False, False, True, True]


def test_numbers_and_moments_say_nothing_and_empty_codes_are_not_alike() -> None:
    n = 40
    table = pl.DataFrame(
        {
            "item_id": range(n),
            "price": [row * 0.5 for row in range(n)],
            "pages": range(100, 100 + n),
            "since": pl.Series([1_700_000_000] * n).cast(pl.Datetime("ms")),
            "new": [True, False] * (n // 2),
            "shelf": [7, 7, *[None] * (n - 2)],
        }
    )
    words = ItemWords.of(table)
    assert words is not None
    assert list(words.read) == ["shelf"]
    assert np.flatnonzero(np.isfinite(words.likeness(np.array([0])))).tolist() == [0, 1]
    assert not np.isfinite(words.likeness(np.array([2]))).any()


def test_letters_without_spaces_are_words_of_their_own() -> None:
    words = said("红色的鞋子 2024", "红帽子", "blue hat", "ΚΑΠΕΛΟ καπέλο")
    found = like(words, 0)
    assert found[1] > 0
    assert found[2:] == [-np.inf, -np.inf]


def test_of_a_long_text_the_beginning_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(content, "LETTERS", 8)
    assert np.isfinite(like(said("red shoe and hat", "hat", "red"), 0)).tolist() == [True, False, True]


def test_the_lightest_words_are_left_out_where_very_many_items_have_them(monkeypatch: pytest.MonkeyPatch) -> None:
    titles = ["of rare", *["of"] * 20, "rare", "other", "other"]
    whole = like(said(*titles), 0)
    assert whole[1] > 0
    monkeypatch.setattr(content, "LOOKED_AT", 5)
    few = like(said(*titles), 0)
    assert few[21] == pytest.approx(whole[21])
    assert few[1] == -np.inf
    monkeypatch.setattr(content, "LOOKED_AT", 0)
    assert like(said(*titles), 0)[21] == pytest.approx(whole[21])  # one word is always looked at


# ── renewing ──────────────────────────────────────────────────────────────────────────────────────────────────────


def catalogue(n: int) -> pl.DataFrame:
    rng = np.random.default_rng(0)
    titles = [" ".join(f"w{word}" for word in rng.integers(60, size=6)) for _ in range(n)]
    return pl.DataFrame({"item_id": [f"i{row}" for row in range(n)], "title": titles, "shelf": rng.integers(5, size=n)})


def test_new_and_changed_items_find_their_like_at_once_and_others_stay_as_they_were() -> None:
    old = catalogue(200)
    new = pl.DataFrame({"item_id": ["a", "b"], "title": ["zebra w1", "Zebra w2 w2"], "shelf": [None, 4]})
    table = pl.concat([old, new.cast(old.schema)])
    table[3, "title"] = "zebra"
    before = ItemWords.of(old)
    assert before is not None
    after = before.renewed(table, np.array([3]))
    assert after is not None
    assert after.items.shape[0] == 202
    assert after.changed == 3
    assert after.read == before.read
    whole = ItemWords.of(table)
    assert whole is not None
    for row in (3, 200, 201):
        found, expected = after.likeness(np.array([row])), whole.likeness(np.array([row]))
        assert np.isfinite(found).tolist() == np.isfinite(expected).tolist()
        np.testing.assert_allclose(found[np.isfinite(found)], expected[np.isfinite(found)], atol=0.02)
    assert after.spread.tolist() == whole.spread.tolist()
    kept = [row for row in range(200) if row != 3]
    assert abs(after.items[kept] - before.items[kept]).max() == 0


def test_when_much_has_changed_all_is_weighed_anew() -> None:
    words, table = ItemWords.of(catalogue(100)), catalogue(100)
    assert words is not None
    for turn in range(12):
        more = pl.DataFrame({"item_id": [f"n{turn}"], "title": [f"zebra w{turn}"], "shelf": [1]})
        table = pl.concat([table, more])
        words = words.renewed(table, np.zeros(0, np.int64))
        assert words is not None
        assert words.changed == (turn + 1 if turn < 11 else 0)  # 12 are more than a tenth of 112
    exact = ItemWords.of(table)
    assert exact is not None
    assert words is not None
    assert abs(words.items - exact.items).max() == 0


def test_a_column_that_comes_or_changes_its_kind_is_read_in_all_items() -> None:
    old = catalogue(200)
    words = ItemWords.of(old)
    assert words is not None
    tagged = old.with_columns(tags=pl.lit("x")).with_columns(pl.col("shelf").cast(pl.String))
    after = words.renewed(tagged, np.array([0]))
    assert after is not None
    assert (after.changed, set(after.read)) == (0, {"title", "shelf", "tags"})


def test_nothing_is_left_where_nobody_says_anything_any_more() -> None:
    words = said("red shoes", "red hat", "blue hat")
    assert words is not None
    table = pl.DataFrame({"item_id": range(3), "title": [None, None, "x"]})
    assert words.renewed(table, np.arange(2)) is not None
    assert words.renewed(table.with_columns(title=pl.lit("x")), np.arange(3)) is None
