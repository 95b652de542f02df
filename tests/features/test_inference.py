from datetime import datetime

import numpy as np
import polars as pl
import pytest

from bowerbird.features import Bag, Categorical, Column, Numeric, Vector, infer
from bowerbird.features.inference import said

DRAW = np.random.default_rng(0)
N = 2_000


def guess(**columns: object) -> list[Column]:
    return list(infer(pl.DataFrame(columns)))


def drawn(low: int, high: int) -> np.ndarray:
    return DRAW.integers(low, high, N)


def tailed(n: int = N) -> np.ndarray:
    return (DRAW.pareto(1.0, n) * 5).astype(np.int64)


def test_a_table_of_films() -> None:
    films = pl.DataFrame(
        {
            "film": range(60),
            "title": [f"A film no {n}" for n in range(60)],
            "year": [1950 + n % 55 for n in range(60)],
            "genres": ["Comedy|Drama", "Drama", "Drama|War", "War|Comedy", "Comedy"] * 12,
            "poster": [[0.1 * n, 0.5, 0.25] for n in range(60)],
            "cast": [["Ann", "Bob"], ["Bob"], []] * 20,
            "added": [datetime(2024, 1, 1)] * 60,
            "note": pl.Series([None] * 60, dtype=pl.String),
        }
    )
    assert infer(films, ids=["film"]) == (
        Categorical(name="film"),
        Numeric(name="year"),
        Bag(name="genres", separator="|"),
        Vector(name="poster", size=3),
        Bag(name="cast"),
    )


@pytest.mark.parametrize("name", ["user_id", "userId", "zip_code", "id_2", "device", "Item"])
def test_whole_numbers_named_after_codes_are_categories(name: str) -> None:
    assert guess(**{name: drawn(0, 500)}) == [Categorical(name=name)]


def test_an_id_of_the_row_itself_is_left_out_unless_named() -> None:
    table = pl.DataFrame({"id": range(100), "row_id": [f"x{n}" for n in range(100)]})
    assert infer(table) == ()
    assert infer(table, ids=["id"]) == (Categorical(name="id"),)


def test_few_whole_numbers_are_categories_and_many_near_zero_are_numbers() -> None:
    assert guess(a=drawn(0, 12), b=drawn(0, 13)) == [Categorical(name="a"), Numeric(name="b")]


def test_whole_numbers_far_from_zero_that_come_back_are_codes() -> None:
    assert guess(a=drawn(5_000, 5_080)) == [Categorical(name="a")]
    assert guess(year=drawn(1950, 2020)) == [Numeric(name="year")]
    assert guess(a=drawn(10_000, 10_000_000)) == [Numeric(name="a")]  # far, but they do not come back


def test_fractions_that_stand_for_whole_numbers_with_gaps_are_judged_as_those() -> None:
    gaps = [None if n % 5 == 0 else float(n % 4) for n in range(N)]
    assert guess(a=gaps, b=[float(n % 4) for n in range(N)]) == [Categorical(name="a"), Numeric(name="b")]


def test_columns_named_alike_are_of_one_kind() -> None:
    counts = guess(I1=tailed(), I2=tailed(), I3=drawn(0, 5))  # few, but its sisters count
    assert counts == [Numeric(name="I1"), Numeric(name="I2"), Numeric(name="I3")]
    codes = guess(C1=drawn(0, 5), C2=drawn(700, 900), C3=drawn(30, 62), C4=["a", "b"] * (N // 2))
    assert codes == [Categorical(name=name) for name in ("C1", "C2", "C3", "C4")]
    two = guess(x1=drawn(0, 5), x2=drawn(0, 100))  # two are no family
    assert two == [Categorical(name="x1"), Numeric(name="x2")]


def test_texts_are_categories_bags_or_titles() -> None:
    words = [f"word{n}" for n in range(1_500)]
    titles = [" ".join(DRAW.choice(words, 4)) for _ in range(N)]
    hashes = [f"{DRAW.integers(0, 2**24):06x}" for _ in range(N // 2)] * 2
    countries = DRAW.choice(["New Zealand", "South Korea", "Peru", "United Kingdom"], N)
    tags = [" ".join(DRAW.choice(["red", "blue", "green", "grey", "pink", "teal"], 3)) for _ in range(N)]
    assert guess(title=titles, hash=hashes, country=countries, tags=tags) == [
        Categorical(name="hash"),
        Categorical(name="country"),
        Bag(name="tags", separator=" "),
    ]


def test_moments_as_numbers_are_left_out_and_durations_are_not() -> None:
    assert guess(event_time=drawn(10**9, 2 * 10**9), time=drawn(0, 1_000)) == [Numeric(name="time")]


@pytest.mark.parametrize(
    "values",
    [
        pl.Series([b"a", b"b"]),
        pl.Series([{"a": 1}]),
        pl.Series([[[1]]]),
        pl.Series([None, None]),
        pl.Series([object()], dtype=pl.Object),
        pl.Series([], dtype=pl.Int64),
    ],
)
def test_what_no_kind_reads_is_left_out(values: pl.Series) -> None:
    assert infer(values.alias("a").to_frame()) == ()


def test_switches_constants_and_odd_numbers() -> None:
    decimals = pl.Series([1, 2, 3] * 10, dtype=pl.Decimal(10, 2))
    assert guess(a=[True, False] * 15, b=[7] * 30, c=decimals, d=[float("nan")] * 30, e=[float("inf")] * 30) == [
        Categorical(name="a"), Categorical(name="b"), Numeric(name="c"), Numeric(name="e"),
    ]  # fmt: skip


# ── content ───────────────────────────────────────────────────────────────────────────────────────────────────────


def shop() -> pl.DataFrame:
    """Return thirty things with all kinds of content."""
    rows = range(30)
    return pl.DataFrame(
        {
            "sku": [f"x{n}" for n in rows],
            "title": ["Lamp", "Sofa", "Table"] * 10,
            "about": [f"a thing of which there are {n}" for n in rows],
            "picture": [f"pictures/{n}.{'JPG' if n % 2 else 'webp'}" for n in rows],
            "sample": [None, *(f"sounds.zip!{n}.mp3" for n in rows[1:])],
            "look": [[0.5 * n, 0.25] for n in rows],
            "tags": ["red|round", "red", "flat|round"] * 10,
            "colours": [["red"], ["red", "blue"], []] * 10,
            "price": [2.5 * n for n in rows],
            "since": [datetime(2024, 1, 1)] * 30,
            "empty": pl.Series([None] * 30, dtype=pl.String),
        }
    )


def test_every_kind_of_content_is_found() -> None:
    assert said(shop()) == {
        "text": ("title", "about"),
        "image": ("picture",),
        "audio": ("sample",),
        "vector": ("look",),
        "attributes": ("tags", "colours", "price"),
    }


def test_names_of_rows_are_no_content() -> None:
    table = pl.DataFrame(
        {"id": range(100), "code": [f"x{n}" for n in range(100)], "word": [f"w{n}" for n in range(100)]}
    )
    assert not any(said(table).values())


def test_a_title_is_a_text_however_short_and_however_often_it_is_there() -> None:
    assert said(pl.DataFrame({"title": ["Lamp"] * 50, "kind": ["Lamp"] * 50})) == {
        "text": ("title",), "image": (), "audio": (), "vector": (), "attributes": ("kind",),
    }  # fmt: skip


def test_texts_are_pictures_where_nearly_all_end_so() -> None:
    names = [f"{n}.png" for n in range(95)]
    assert said(pl.DataFrame({"file": [*names, "a", "b", "c", "d", "e"]}))["image"] == ("file",)
    assert said(pl.DataFrame({"file": [*names[:90], *(f"{n} words" for n in range(10))]}))["image"] == ()
    assert said(pl.DataFrame({"file": [f"{n}.png and more" for n in range(50)]}))["text"] == ("file",)


def test_an_empty_table_says_nothing() -> None:
    assert not any(said(pl.DataFrame()).values())
    assert not any(said(shop().clear()).values())


def test_the_chance_of_being_observed_is_no_feature() -> None:
    table = pl.DataFrame({"propensity": [0.1, 0.2, 0.4], "price": [0.1, 0.2, 0.4]})
    assert [column.name for column in infer(table)] == ["price"]
