import datetime
import gzip
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bowerbird.data import EventType, Interactions, read

TABLE = {"user": ["u1", "u2", "u1"], "item": ["b", "a", "a"], "time": [30, 10, 20]}
SENSIBLE = st.integers(10**9, 2 * 10**9)  # seconds: the years 2001 to 2033


def put(folder: Path, name: str, text: str | bytes) -> Path:
    path = folder / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def rows(events: Interactions) -> list[tuple[Any, ...]]:
    users, items = events.user_ids.names(events.user), events.item_ids.names(events.item)
    columns = [users.to_list(), items.to_list()] + ([] if events.time is None else [events.time.tolist()])
    return list(zip(*columns, strict=True))


def times(values: Any) -> list[int]:
    """Read one time column, and return it in file order."""
    column = pl.Series("time", values)
    events = read(pl.DataFrame({"user": range(len(column)), "item": range(len(column)), "time": column}))
    assert events.time is not None
    return events.time[np.argsort(events.user)].tolist()


IN_ORDER = [("u2", "a", 10), ("u1", "a", 20), ("u1", "b", 30)]


@pytest.mark.parametrize(
    ("name", "separator"), [("a.csv", ","), ("a.csv", ";"), ("a.csv", "|"), ("a.tsv", "\t"), ("a.inter", "\t")]
)
def test_separated_values_are_read(tmp_path: Path, name: str, separator: str) -> None:
    lines = [("user", "item", "time"), ("u1", "b", "30"), ("u2", "a", "10"), ("u1", "a", "20")]
    path = put(tmp_path, name, "\n".join(separator.join(line) for line in lines))
    assert rows(read(path)) == IN_ORDER
    assert rows(read(str(path))) == IN_ORDER


def test_a_packed_file_is_read(tmp_path: Path) -> None:
    path = put(tmp_path, "a.csv.gz", gzip.compress(b"user,item,time\nu1,b,30\nu2,a,10\nu1,a,20\n"))
    assert rows(read(path)) == IN_ORDER


@pytest.mark.parametrize("name", ["a.parquet", "a.pq"])
def test_parquet_is_read(tmp_path: Path, name: str) -> None:
    pl.DataFrame(TABLE).write_parquet(tmp_path / name)
    assert rows(read(tmp_path / name)) == IN_ORDER


def test_every_kind_of_frame_is_read_alike() -> None:
    frame = pl.DataFrame(TABLE)
    assert rows(read(frame)) == IN_ORDER
    assert rows(read(frame.lazy())) == IN_ORDER
    assert rows(read(frame.to_arrow())) == IN_ORDER
    assert rows(read(pd.DataFrame(TABLE))) == IN_ORDER
    assert rows(read(TABLE)) == IN_ORDER


def test_the_format_may_be_named_where_the_ending_misleads(tmp_path: Path) -> None:
    path = put(tmp_path, "a.txt", "user\titem\nu1\ta\n")
    assert rows(read(path, format="tsv")) == [("u1", "a")]


def test_a_byte_order_mark_is_no_part_of_the_first_name(tmp_path: Path) -> None:
    assert rows(read(put(tmp_path, "a.csv", b"\xef\xbb\xbfuser,item\nu1,a\n"))) == [("u1", "a")]


def test_spaces_around_names_are_no_part_of_them(tmp_path: Path) -> None:
    assert rows(read(put(tmp_path, "a.csv", "user, item\nu1,a\n"))) == [("u1", "a")]


def test_ids_in_text_files_stay_texts(tmp_path: Path) -> None:
    events = read(put(tmp_path, "a.csv", "user,item\n007,1\n"))
    assert events.user_ids[0] == "007"


def test_ids_in_typed_tables_keep_their_type() -> None:
    events = read(pl.DataFrame({"user": [7], "item": ["a"]}))
    assert (events.user_ids[0], events.item_ids[0]) == (7, "a")


def test_lists_of_integers_stay_integers(tmp_path: Path) -> None:
    events = read(put(tmp_path, "train.txt", "0 5 3\n1 5\n\n2\n"))
    assert rows(events) == [(0, 5), (0, 3), (1, 5)]
    assert events.time is None


def test_lists_with_one_text_are_texts(tmp_path: Path) -> None:
    assert rows(read(put(tmp_path, "train.txt", "0 5 x\n1  5 \n"))) == [("0", "5"), ("0", "x"), ("1", "5")]


def test_packed_lists_are_read(tmp_path: Path) -> None:
    assert rows(read(put(tmp_path, "train.txt.gz", gzip.compress(b"0 5 3\n")))) == [(0, 5), (0, 3)]


@pytest.mark.parametrize(
    "names",
    [
        ("user", "item", "time"),
        ("userId", "movieId", "timestamp"),
        ("user_id:token", "item_id:token", "timestamp:float"),
        ("VisitorID", "SKU", "ts"),
        ("customer_id", "article_id", "created_at"),
    ],
)
def test_usual_names_are_recognised(names: tuple[str, str, str]) -> None:
    assert rows(read(dict(zip(names, TABLE.values(), strict=True)))) == IN_ORDER


def test_named_columns_win_over_usual_names() -> None:
    events = read({"user": [1], "who": [2], "item": [3], "what": [4]}, user="who", item="what")
    assert rows(events) == [(2, 4)]
    assert events.extra is not None
    assert events.extra.columns == ["user", "item"]


def test_the_order_of_columns_does_not_matter() -> None:
    assert rows(read({"time": [1], "item": ["a"], "user": ["u"]})) == [("u", "a", 1)]


def test_the_origin_says_which_columns_were_read() -> None:
    events = read({"uid": [1], "sku": [2], "page": [3]})
    assert events.origin == "table: user=uid, item=sku; other columns: page"
    assert read({"user": [1], "item": [2]}).origin.endswith("other columns: none")


def test_weights_are_read_and_are_one_otherwise() -> None:
    assert read({"user": [1, 2], "item": [1, 2], "weight": ["0.5", "2"]}).weight.tolist() == [0.5, 2.0]
    assert read({"user": [1, 2], "item": [1, 2]}).weight.tolist() == [1.0, 1.0]


def test_event_types_get_their_meaning_and_come_first() -> None:
    dislike = EventType("dislike", sign="negative")
    source = {"user": [1, 2, 3], "item": [1, 2, 3], "event": ["view", "dislike", None]}
    events = read(source, event_types=[dislike])
    assert [kind.name for kind in events.events] == ["dislike", "view", "interaction"]
    assert events.event.tolist() == [1, 0, 2]
    assert events.signed_weight.tolist() == [1.0, -1.0, 1.0]


def test_without_an_event_column_the_first_event_type_is_meant() -> None:
    kind = EventType("play", weight=2.0)
    assert read({"user": [1], "item": [1]}, event_types=[kind]).events == (kind,)
    assert read({"user": [1], "item": [1]}).events == (EventType("interaction"),)


@pytest.mark.parametrize(
    ("values", "seconds"),
    [
        ([1_700_000_000, 5], [1_700_000_000, 5]),
        ([1_700_000_000_999], [1_700_000_000]),
        ([1_700_000_000_123_456], [1_700_000_000]),
        ([1_700_000_000_123_456_789], [1_700_000_000]),
        ([1.5, 2.0], [1, 2]),
        (["12", "1.5"], [12, 1]),
        (["1970-01-02", "1970-01-01"], [86_400, 0]),
        (["1970-01-01T01:00:00Z", "1970-01-01T00:00:07Z"], [3_600, 7]),
        (["1970-01-01 01:00:00", "1970-01-01 00:00:07"], [3_600, 7]),
        (["1970-01-01T01:00:00+01:00"], [0]),
        ([datetime.datetime(1970, 1, 2)], [86_400]),
        ([datetime.date(1970, 1, 2)], [86_400]),
        ([datetime.datetime(1970, 1, 1, 1, tzinfo=datetime.timezone(datetime.timedelta(hours=1)))], [0]),
    ],
)
def test_times_become_seconds_since_1970(values: list[Any], seconds: list[int]) -> None:
    assert times(values) == seconds


@given(st.lists(SENSIBLE, min_size=1), st.sampled_from([1, 10**3, 10**6, 10**9]))
def test_the_unit_of_numbers_is_recognised(seconds: list[int], per_second: int) -> None:
    assert times([second * per_second for second in seconds]) == seconds


@given(st.lists(SENSIBLE, min_size=1), st.sampled_from(["ms", "us", "ns"]))
def test_typed_times_and_iso_texts_say_the_same_as_seconds(seconds: list[int], unit: Any) -> None:
    moments = pl.from_epoch(pl.Series(seconds)).cast(pl.Datetime(unit))
    assert times(moments) == seconds
    assert times(moments.dt.strftime("%Y-%m-%dT%H:%M:%SZ")) == seconds


def test_large_times_keep_every_second() -> None:
    assert times([1_700_000_001_000_000_001, 1_700_000_002_000_000_000]) == [1_700_000_001, 1_700_000_002]


def test_an_item_table_gives_titles(tmp_path: Path) -> None:
    films = put(tmp_path, "films.csv", "year,movie_id,movie_title\n1979,b,Alien\n1982,zzz,Tron\n")
    events = read(TABLE, items=films)
    assert [events.title(events.item_ids.row(item)) for item in ("b", "a")] == ["Alien", "a"]
    assert events.items is not None
    assert events.items.columns == ["year", "title"]


def test_a_side_table_without_a_usual_name_has_its_ids_first() -> None:
    events = read(TABLE, items={"code": ["b"], "name": ["Bee"]}, users=pl.DataFrame({"who": ["u2"], "age": [40]}))
    assert events.title(events.item_ids.row("b")) == "Bee"
    assert events.users is not None
    assert events.users["age"].to_list() == [None, 40]


def test_a_table_is_read_the_same_twice(tmp_path: Path) -> None:
    pl.DataFrame(TABLE).write_csv(tmp_path / "a.csv")
    pl.DataFrame(TABLE).write_parquet(tmp_path / "a.parquet")
    assert read(tmp_path / "a.csv").fingerprint == read(tmp_path / "a.parquet").fingerprint


@given(st.lists(st.tuples(st.integers(), st.text("ab\"',;\t é", min_size=1)), min_size=1, max_size=8))
def test_whatever_ids_a_csv_can_hold_come_back(
    tmp_path_factory: pytest.TempPathFactory, pairs: list[tuple[int, str]]
) -> None:
    path = tmp_path_factory.getbasetemp() / "ids.csv"
    pl.DataFrame({"user": [str(user) for user, _ in pairs], "item": [item for _, item in pairs]}).write_csv(path)
    assert rows(read(path)) == [(str(user), item) for user, item in pairs]
