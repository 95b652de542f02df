"""Checks: what is suspicious is said, what is in order is not."""

from pathlib import Path
from typing import Any

import polars as pl
import pytest

from bowerbird.data import read
from bowerbird.data.checks import Problem, find_problems, warnings_of

NOW = 1_800_000_000
FINE: dict[str, list[Any]] = {
    "user": ["u1", "u1", "u2"], "item": ["a", "b", "a"], "time": [1_700_000_000, 1_700_000_001, 1_700_000_002]
}  # fmt: skip


def warnings(changes: dict[str, Any], **options: Any) -> list[str]:
    return warnings_of(read(FINE | changes, **options), now=NOW)


def test_a_table_in_order_has_no_warning() -> None:
    assert warnings({}) == []


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"user": ["u1", "u2", "u3"]},
         "every user has one event: what somebody chose says nothing about their next choice. "
         "Is the user column an order or a session?"),
        ({"user": ["u1"] * 3, "item": ["a", "b", "c"]},
         "there is only one user (u1): nothing can be compared. Is it the right column?"),
        ({"item": ["a"] * 3}, "there is only one item (a): nothing can be compared. Is it the right column?"),
        ({"time": [1_700_000_000] * 3}, "all times are 2023-11-14 22:13:20: they order nothing."),
        ({"time": [NOW, NOW + 1, NOW + 60]},
         "2 of 3 times are in the future (last: 2027-01-15 08:01:00). Is the unit right?"),
        ({"time": [0, 5, 1_700_000_000]},
         "2 of 3 times are before 1990 (first: 1970-01-01 00:00:00). Do they stand for none?"),
        ({"weight": [2.5] * 3}, "all weights are 2.5: they tell no row from another."),
        ({"Rating": [4.5, 1.0, 5.0]},
         'column "Rating" (1 to 5) is not used, so every row counts alike. '
         "Name it with weight=Rating (--weight Rating) if more means better."),
        ({"item": ["a", " a", "a"]},
         '1 of 2 item ids have spaces around them (such as " a"). Strip them: with and without are two.'),
        ({"user": ["u1", "u1", "NaN"]}, '1 of 2 user ids spell that there is none (such as "NaN"). Drop these rows.'),
        ({"user": ["1.0", "1.0", "2.0"]},
         '2 of 2 user ids are whole numbers with .0 (such as "1.0"). Write them as integers, to match other tables.'),
        ({"item": ["caf\u00c3\u00a9", "b", "b"]},
         '1 of 2 item ids hold letters of a wrong encoding (such as "caf\u00c3\u00a9"). '
         "Is it latin-1 text? Convert it to UTF-8."),
    ],
)  # fmt: skip
def test_each_suspicion_is_one_sentence(changes: dict[str, Any], says: str) -> None:
    assert warnings(changes) == [says]


def test_a_rating_that_is_used_is_no_suspicion() -> None:
    assert warnings({"rating": [4.0, 1.0, 5.0]}, weight="rating") == []
    assert warnings({"rating": ["good", "bad", "good"]}) == []


def test_repeated_rows_are_counted_with_and_without_times() -> None:
    again = {"user": ["u1", "u1", "u2", "u2"], "item": ["a", "a", "a", "b"]}
    assert warnings_of(read(again), now=NOW) == [
        "1 of 4 rows repeat an earlier one of the same user and item.",
        "there is no time: splits are at random, and figures may look better than they will live.",
    ]
    assert warnings(again | {"time": [1_700_000_000, 1_700_000_001, 1_700_000_002, 1_700_000_003]}) == []


def test_another_kind_of_event_is_no_repetition() -> None:
    same = {"user": ["u1", "u1", "u2"], "item": ["a", "a", "b"], "time": [1_700_000_000] * 2 + [1_700_000_009]}
    assert warnings(same | {"event": ["view", "buy", "buy"]}) == []
    assert warnings(same) == ["1 of 3 rows repeat an earlier one of the same user, item and time."]


def test_a_table_that_knows_few_items_is_suspicious() -> None:
    assert warnings({}, items={"item": ["A", "B"], "title": ["Alien", "Bug"]}) == [
        "the table of items knows 0 of 2 items. Are its ids written alike?"
    ]
    assert warnings({}, users={"user": ["u1", "u2"], "age": [1, None]}) == []


def test_titles_of_a_wrong_encoding_are_shown() -> None:
    assert warnings({}, items={"item": ["a", "b"], "title": ["Am\ufffdlie", "Bug"]}) == [
        '1 titles hold letters of a wrong encoding (such as "Am\ufffdlie"). Convert them to UTF-8.'
    ]


def test_every_column_that_is_wrong_is_named_at_once(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("who,what,time,weight\nu1,a,1,1\n,b,soon,-1\n")
    problems, events = find_problems(path, now=NOW, user="who", item="what")
    assert events is None
    assert problems == [
        Problem("error", f'{path}, column "who": 1 of 2 rows are empty (first: line 3). Fill them or drop them.'),
        Problem("error", f'{path}, column "time": 1 of 2 rows are not times after 1970 (first: line 3). Mend or drop '
                         "them."),
        Problem("error", f'{path}, column "weight": 1 of 2 rows are not numbers of 0 or more (first: line 3). Mend or '
                         "drop them."),
    ]  # fmt: skip


def test_a_bad_table_of_items_is_an_error(tmp_path: Path) -> None:
    pl.DataFrame(FINE).write_csv(tmp_path / "a.csv")
    problems, events = find_problems(tmp_path / "a.csv", now=NOW, items=str(tmp_path / "films.tsv"))
    assert problems == [Problem("error", f"{tmp_path}/films.tsv: there is no such file.")]
    assert events is None


def test_a_name_that_is_neither_file_nor_data_set_is_an_error() -> None:
    [problem] = find_problems("ml-100", now=NOW)[0]
    assert problem.level == "error"
    assert 'Did you mean "ml-100k"?' in problem.message
