"""Descriptions: sizes and shares worked out by hand, and pictures that are there."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bowerbird.core import DataError, MissingExtraError
from bowerbird.data import Interactions, describe, pictures, read
from bowerbird.data.pictures import draw

NOW = 1_800_000_000
T = 1_700_000_000


@pytest.fixture
def shop() -> Interactions:
    """Ten events of four users on four items: item a has seven of them, the last user and item come at the end."""
    table = {
        "user": ["u1", "u1", "u1", "u1", "u2", "u2", "u3", "u3", "u3", "u4"],
        "item": ["a", "a", "a", "b", "a", "c", "a", "a", "a", "d"],
        "time": [T + 86_400 * day for day in range(10)],
        "page": [1, None, None, None, None, 2, 3, 4, 5, 6],
    }
    return read(table, items={"item": ["a", "b"], "title": ["Alien", "Brazil"]})


def test_sizes_and_shares_by_hand(shop: Interactions) -> None:
    one = describe(shop, now=NOW)
    assert (one.events, one.users, one.items) == (10, 4, 4)
    assert one.density == pytest.approx(6 / 16)  # u1: a b, u2: a c, u3: a, u4: d
    assert one.repeats == pytest.approx(4 / 10)
    assert (one.first, one.last) == (T, T + 9 * 86_400)
    assert one.per_user["mean"] == 2.5
    assert (one.per_user["min"], one.per_user["50%"], one.per_user["max"]) == (1, 2.5, 4)
    assert one.at_least["items"] == [(1, 1.0), (2, 0.25), (4, 0.25)]
    assert one.popularity == {"1%": 0.7, "5%": 0.7, "10%": 0.7, "20%": 0.7, "50%": 0.8}
    # counts 1 1 1 7: twice the sum of (rank × count) over (n × total), less (n + 1) / n
    assert one.gini == pytest.approx(2 * (1 + 2 + 3 + 4 * 7) / (4 * 10) - 5 / 4)
    assert one.curve[0] == 0
    assert one.curve[25] == pytest.approx(0.7)
    assert one.curve[100] == pytest.approx(1)
    assert one.late == {"users": 0.25, "items": 0.25}
    assert sum(one.over_time) == 10
    assert one.event_types == {"interaction": 10}
    assert one.columns == [
        {"table": "events", "column": "page", "type": "Int64", "empty": 0.4},
        {"table": "items", "column": "title", "type": "String", "empty": 0.5},
    ]
    assert one.warnings == ()


def test_without_times_there_is_no_span() -> None:
    one = describe(read({"user": [1, 1, 2], "item": [1, 2, 1]}), now=NOW)
    assert (one.first, one.last, one.over_time) == (None, None, [])
    assert "times                   none" in str(one)


def test_a_description_is_plain_values_and_a_page_for_people(shop: Interactions) -> None:
    one = describe(shop, now=T)
    document = json.loads(json.dumps(one.to_dict()))
    assert document["popularity"]["10%"] == 0.7
    said = str(one).splitlines()
    assert said[0] == "table: user=user, item=item, time=time; other columns: page"
    assert "density                 37.500%" in said
    assert "times                   2023-11-14 to 2023-11-23" in said
    assert "on the top 10 %         70.0% of events, Gini 0.45" in said
    assert said[-1] == "warning: 9 of 10 times are in the future (last: 2023-11-23 22:13:20). Is the unit right?"


def test_nothing_cannot_be_described(two_by_two: Interactions) -> None:
    with pytest.raises(DataError, match=r"there is no event to describe\."):
        describe(two_by_two.rows(np.zeros(3, bool)))


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5)), min_size=1, max_size=40))
def test_shares_keep_their_bounds_and_the_curve_never_falls(pairs: list[tuple[int, int]]) -> None:
    user, item = zip(*pairs, strict=True)
    one = describe(Interactions.of(pl.Series(user), pl.Series(item)), now=NOW)
    assert 0 <= one.gini < 1
    assert one.density <= 1
    assert np.all(np.diff(one.curve) >= -1e-9)
    assert all(0 <= share <= 1 for share in (*one.popularity.values(), *one.late.values(), one.repeats))
    counts = [item.count(one_item) for one_item in set(item)]
    slow = sum(abs(a - b) for a in counts for b in counts)
    assert one.gini == pytest.approx(slow / (2 * len(counts) * len(item)))  # the mean difference of two items


@pytest.mark.parametrize(("name", "start"), [("a.png", b"\x89PNG"), ("a.svg", b"<?xml"), ("a.pdf", b"%PDF")])
def test_a_picture_is_drawn_in_the_format_of_its_name(
    shop: Interactions, tmp_path: Path, name: str, start: bytes
) -> None:
    draw(describe(shop, now=NOW), tmp_path / name)
    assert (tmp_path / name).read_bytes().startswith(start)


def test_a_picture_says_what_it_shows(shop: Interactions, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import matplotlib

    monkeypatch.setitem(matplotlib.rcParams, "svg.fonttype", "none")  # letters stay letters
    draw(describe(shop, now=NOW), tmp_path / "a.svg")
    drawn = (tmp_path / "a.svg").read_text()
    for text in ("10 events · 4 users · 4 items", "popularity (Gini 0.45)", "activity", "events over time"):
        assert text in drawn
    draw(describe(read({"user": [1, 1], "item": [1, 2]}), now=NOW), tmp_path / "b.svg")
    assert "no times" in (tmp_path / "b.svg").read_text()


def test_a_picture_of_one_moment_is_drawn(tmp_path: Path) -> None:
    draw(describe(read({"user": [1, 1], "item": [1, 2], "time": [T, T]}), now=NOW), tmp_path / "a.png")
    assert (tmp_path / "a.png").stat().st_size > 1000


def test_an_unknown_ending_and_a_missing_package_are_answered(
    shop: Interactions, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one: Any = describe(shop, now=NOW)
    with pytest.raises(DataError, match=r"a\.bmp: a picture is one of \.png, \.svg, \.pdf\."):
        draw(one, tmp_path / "a.bmp")
    monkeypatch.setattr(pictures, "find_spec", lambda name: None)
    with pytest.raises(MissingExtraError) as caught:
        draw(one, tmp_path / "a.png")
    assert str(caught.value) == 'a picture needs matplotlib. Install it with: pip install "bowerbird[plots]"'
