import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

import bowerbird as bb
from bowerbird.core import RequestError, UnknownItemError
from bowerbird.core.ids import Ids
from bowerbird.recommender import hints
from bowerbird.recommender.hints import closest_id, not_known

TEXTS, NUMBERS = Ids.of(["u7", "anna", "Ben", "ZOE"]), Ids.of([7, 40, 1000])


@pytest.mark.parametrize(
    ("value", "meant"),
    [("U7", "u7"), (" u7", "u7"), ("ana", "anna"), ("ben", "Ben"), ("zoe", "ZOE"), ("xylophone", None), (7, "u7")],
)
def test_of_texts_the_closest_is_meant(value: object, meant: str | None) -> None:
    assert closest_id(value, TEXTS) == meant


@pytest.mark.parametrize(
    ("value", "meant"), [(" 7", 7), ("7 ", 7), ("1 000", 1000), ("41", None), (41, None), ("u7", None), ("", None)]
)
def test_of_integers_only_spaces_are_forgiven(value: object, meant: int | None) -> None:
    assert closest_id(value, NUMBERS) == meant


def test_among_many_ids_only_case_and_spaces_are_forgiven(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hints, "FEW", 3)
    assert closest_id(" U7 ", TEXTS) == "u7"
    assert closest_id("ana", TEXTS) is None


@given(st.lists(st.text(min_size=1), unique=True, min_size=1), st.text())
def test_what_is_meant_is_known(known: list[str], value: str) -> None:
    meant = closest_id(value, Ids.of(known))
    assert meant is None or meant in known


def test_the_sentence_says_what_is_not_known_and_what_was_meant() -> None:
    assert not_known("user", "U7", TEXTS) == 'user "U7" is not known here; did you mean "u7"?'
    assert not_known("item", "qqq", TEXTS) == 'item "qqq" is not known here'


def test_similar_to_a_mistyped_item_names_the_one_that_was_meant() -> None:
    frame = pl.DataFrame({"user": [1, 1, 2, 2], "item": [10, 20, 10, 30]})
    rec = bb.fit(bb.read(frame), "itemknn")
    with pytest.raises(UnknownItemError, match=r"no item has the id '10 '\. Did you mean \"10\"\?"):
        rec.similar(["10 "])
    with pytest.raises(UnknownItemError, match=r"no item has the id 11\.$"):
        rec.similar([11])


def test_a_filter_on_a_column_that_is_not_there_names_the_closest() -> None:
    items = pl.DataFrame({"item": ["x", "y", "z"], "price": [1.0, 2.0, 3.0]})
    frame = pl.DataFrame({"user": ["a", "a", "b", "b"], "item": ["x", "y", "x", "z"]})
    rec = bb.fit(bb.read(frame, items=items), "itemknn")
    with pytest.raises(RequestError, match=r'Did you mean "price"\? Columns: item_id, price'):
        rec.recommend(["a"], where=pl.col("prise") < 5)
