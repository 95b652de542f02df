"""Formats beyond CSV: RecBole, MovieLens, archives, packed files, several files, and the types of other columns."""

import gzip
import zipfile
from collections.abc import Callable
from datetime import date, datetime
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bowerbird.core import DataError
from bowerbird.data import Interactions, load, read, readers
from bowerbird.data.files import open_files

INTER = "user_id:token\titem_id:token\trating:float\ttimestamp:float\nu1\t07\t5\t20\nu2\t8\t3.5\t10\n"
ITEM = (
    "item_id:token\tmovie_title:token_seq\tyear:token\tclass:token_seq\tshape:float_seq\tprice:float\n"
    '07\tThe "Thing"\t1982\tHorror Sci-Fi\t0.5 2\t1.5\n8\tAlien\t1979\tHorror\t1\t\n'
)
USER = "user_id:token\tage:float\nu1\t40\n"
ML_1M = {
    "ratings.dat": "1::07::5::20\n2::8::3::10\n",
    "movies.dat": "07::Café, The (1982)::Drama|War\n8::Alien (1979)::Horror\n",
    "users.dat": "1::F::25::10::02134\n2::M::56::16::70072\n",
}
ML_100K = {
    "u.data": "1\t7\t5\t20\n2\t8\t3\t10\n",
    "u.item": "7|Café, The (1982)|01-Jan-1982||http://x|0|1|0|0|0|0|0|0|1|0|0|0|0|0|0|0|0|0|0\n"
    "8|Alien (1979)|01-Jan-1979||http://y|0|0|0|0|0|0|0|0|0|0|0|1|0|0|0|0|0|0|0\n",
    "u.user": "1|24|M|technician|85711\n2|53|F|other|94043\n",
}
ML_LATEST = {
    "ratings.csv": "userId,movieId,rating,timestamp\n1,7,5.0,20\n2,8,3.5,10\n",
    "movies.csv": 'movieId,title,genres\n7,"Café, The (1982)",Drama|War\n8,Alien (1979),Horror\n',
}


def put(folder: Path, name: str, text: str | bytes) -> Path:
    path = folder / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def zipped(folder: Path, files: dict[str, str], encoding: str) -> Path:
    path = folder / "set.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("ml/README", "terms")
        for name, text in files.items():
            archive.writestr(f"ml/{name}", text.encode(encoding))
    return path


def rows(events: Interactions) -> list[tuple[Any, ...]]:
    users, items = events.user_ids.names(events.user), events.item_ids.names(events.item)
    times = [None] * len(events) if events.time is None else events.time.tolist()
    return list(zip(users.to_list(), items.to_list(), times, strict=True))


@pytest.mark.parametrize("pack", [None, gzip.compress])
def test_recbole_files_are_typed_by_their_headers(tmp_path: Path, pack: Callable[[bytes], bytes] | None) -> None:
    for name, text in (("a.inter", INTER), ("a.item", ITEM), ("a.user", USER)):
        put(tmp_path, name if pack is None else f"{name}.gz", text if pack is None else pack(text.encode()))
    events = read(tmp_path / ("a.inter" if pack is None else "a.inter.gz"))
    assert rows(events) == [("u2", "8", 10), ("u1", "07", 20)]
    assert events.extra is not None
    assert events.extra.to_dict(as_series=False) == {"rating": [3.5, 5.0]}
    assert events.items is not None
    assert events.items.schema == {
        "title": pl.String, "year": pl.String, "class": pl.List(pl.String), "shape": pl.List(pl.Float64),
        "price": pl.Float64,
    }  # fmt: skip
    assert events.items.rows() == [
        ('The "Thing"', "1982", ["Horror", "Sci-Fi"], [0.5, 2.0], 1.5),
        ("Alien", "1979", ["Horror"], [1.0], None),
    ]
    assert events.users is not None
    assert events.users["age"].to_list() == [40.0, None]


def test_the_callers_table_wins_over_the_one_beside(tmp_path: Path) -> None:
    for name, text in (("a.inter", INTER), ("a.item", ITEM)):
        put(tmp_path, name, text)
    events = read(tmp_path / "a.inter", items={"item": ["8"], "title": ["Aliens"]})
    assert events.title(events.item_ids.row("8")) == "Aliens"
    assert events.users is None


@pytest.mark.parametrize("name", ["timestamp", "timestamp:float"])
def test_a_recbole_column_is_named_with_its_type_or_without(tmp_path: Path, name: str) -> None:
    assert rows(read(put(tmp_path, "a.inter", INTER), time=name))[0] == ("u2", "8", 10)


def test_movielens_tables_part_at_two_colons_and_may_be_latin_1(tmp_path: Path) -> None:
    for name, text in ML_1M.items():
        put(tmp_path, name, text.encode("latin-1"))
    events = read(tmp_path / "ratings.dat", items=tmp_path / "movies.dat", users=tmp_path / "users.dat")
    assert rows(events) == [("2", "8", 10), ("1", "07", 20)]
    assert events.title(events.item_ids.row("07")) == "Café, The (1982)"
    assert events.items is not None
    assert events.items["genres"].to_list() == ["Drama|War", "Horror"]
    assert events.users is not None
    assert events.users.rows() == [("F", 25, 10, "02134"), ("M", 56, 16, "70072")]
    assert events.extra is not None
    assert events.extra["rating"].to_list() == [3, 5]


def test_a_packed_movielens_table_is_read(tmp_path: Path) -> None:
    path = put(tmp_path, "some.dat.gz", gzip.compress(ML_1M["ratings.dat"].encode()))
    assert len(read(path)) == 2


def test_a_dat_file_with_a_header_is_read_by_it(tmp_path: Path) -> None:
    assert rows(read(put(tmp_path, "user_artists.dat", "userID\titemID\tn\n2\t51\t3\n"))) == [("2", "51", None)]


@pytest.mark.parametrize(
    ("files", "encoding", "genres"),
    [
        (ML_1M, "latin-1", ["Drama|War", "Horror"]),
        (ML_100K, "latin-1", ["Action|Drama", "Horror"]),
        (ML_LATEST, "utf-8", ["Drama|War", "Horror"]),
    ],
    ids=["ratings.dat", "u.data", "ratings.csv"],
)
def test_movielens_archives_are_read_whatever_their_name(
    tmp_path: Path, files: dict[str, str], encoding: str, genres: list[str]
) -> None:
    events = read(zipped(tmp_path, files, encoding))
    assert [(user, item.lstrip("0"), time) for user, item, time in rows(events)] == [("2", "8", 10), ("1", "7", 20)]
    assert events.items is not None
    assert events.items["title"].to_list() == ["Café, The (1982)", "Alien (1979)"]
    assert events.items["genres"].to_list() == genres
    assert (events.users is None) == (files is ML_LATEST)
    assert events.origin.startswith(f"{tmp_path}/set.zip/{next(iter(files))}: user=")


def test_an_archive_of_one_table_is_that_table(tmp_path: Path) -> None:
    assert rows(read(zipped(tmp_path, {"shop.csv": "user,item\n1,2\n"}, "utf-8"))) == [("1", "2", None)]


def test_recbole_files_in_an_archive_are_read_together(tmp_path: Path) -> None:
    events = read(zipped(tmp_path, {"a.inter": INTER, "a.item": ITEM}, "utf-8"))
    assert events.title(events.item_ids.row("8")) == "Alien"


@pytest.mark.parametrize(
    ("files", "says"),
    [
        ({}, "set.zip: no table of this zip is plainly the one of interactions. It holds no table that is known."),
        ({"a.csv": "x", "b.csv": "x"}, "It holds a.csv, b.csv. Unpack it, name one."),
        ({"ratings.dat": "1::2::x::y\n"}, 'set.zip/ratings.dat, column "timestamp": 1 of 1 rows are not times'),
        ({"ratings.csv": "userId,movieId\n1,2,3\n"}, "set.zip/ratings.csv: cannot be read as csv. Line 2 has 3 fields"),
    ],
)
def test_an_archive_that_cannot_be_read_is_named_with_its_member(
    tmp_path: Path, files: dict[str, str], says: str
) -> None:
    with pytest.raises(DataError) as caught:
        read(zipped(tmp_path, files, "utf-8"))
    assert says in str(caught.value)


def test_a_file_that_is_only_called_zip_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"set\.zip: this zip is damaged, or none"):
        read(put(tmp_path, "set.zip", "user,item\n1,2\n"))


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.csv", "user,item,time\nu1,b,20\nu2,a,10\n"),
        ("a.tsv", "user\titem\ttime\nu1\tb\t20\nu2\ta\t10\n"),
        ("a.inter", "user:token\titem:token\ttime:float\nu1\tb\t20\nu2\ta\t10\n"),
        ("a.dat", "u1::b::1::20\nu2::a::1::10\n"),
    ],
)
@pytest.mark.parametrize("ending", [".gz", ".zst"])
def test_every_text_may_be_packed(tmp_path: Path, name: str, text: str, ending: str) -> None:
    codec = "gzip" if ending == ".gz" else "zstd"
    packed = pa.compress(text.encode(), codec=codec, asbytes=True)
    assert rows(read(put(tmp_path, name + ending, packed))) == [("u2", "a", 10), ("u1", "b", 20)]


def test_lists_may_be_packed_by_zstandard(tmp_path: Path) -> None:
    path = put(tmp_path, "train.txt.zst", pa.compress(b"0 5 3\n", codec="zstd", asbytes=True))
    assert rows(read(path)) == [(0, 5, None), (0, 3, None)]


def parts(folder: Path) -> list[Path]:
    frames = [pl.DataFrame({"user": [1], "item": ["b"], "page": [1]}),
              pl.DataFrame({"page": [2, 3], "user": [2, 1], "item": ["a", "b"]})]  # fmt: skip
    for number, frame in enumerate(frames):
        frame.write_parquet(folder / f"part-{number}.parquet")
        frame.write_csv(folder / f"part-{number}.csv")
    put(folder, "_SUCCESS", "")
    return [folder / "part-0.parquet", folder / "part-1.parquet"]


def test_several_files_are_one_table_in_the_order_of_their_names(tmp_path: Path) -> None:
    paths = parts(tmp_path)
    expected = [(1, "b", None), (2, "a", None), (1, "b", None)]
    assert rows(read(paths)) == rows(read([str(path) for path in paths])) == expected
    assert rows(read(tmp_path / "*.parquet")) == expected
    assert rows(read(str(tmp_path / "part-?.csv"))) == [(str(user), item, time) for user, item, time in expected]
    events = read(paths[::-1])
    assert events.user_ids.values.to_list() == [2, 1]  # a list keeps its own order
    assert events.extra is not None
    assert events.extra["page"].to_list() == [2, 3, 1]


def test_a_folder_of_parts_is_one_table(tmp_path: Path) -> None:
    for path in parts(tmp_path):
        path.with_suffix(".csv").unlink()
    assert len(read(tmp_path)) == 3
    assert read(tmp_path).origin.startswith(f"{tmp_path}: user=user, item=item")
    assert len(load(tmp_path)) == 3


def test_a_folder_of_two_kinds_is_read_by_the_format_that_is_named(tmp_path: Path) -> None:
    parts(tmp_path)
    for path in tmp_path.glob("*.csv"):
        path.unlink()
    put(tmp_path, "more.tsv", "user\titem\n9\tz\n")
    assert rows(read(tmp_path / "*.tsv", format="tsv")) == [("9", "z", None)]


def test_a_file_whose_name_holds_a_bracket_is_no_pattern(tmp_path: Path) -> None:
    assert len(read(put(tmp_path, "shop[1].csv", "user,item\n1,2\n"))) == 1
    pl.DataFrame({"user": [1], "item": [1]}).write_parquet(tmp_path / "shop[1].parquet")
    assert len(read(tmp_path / "shop[1].parquet")) == 1


def test_other_columns_of_a_large_parquet_table_stay_on_disk_unless_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.parquet"
    pl.DataFrame({"user": [1, 2], "item": [1, 1], "page": [3, 4], "device": ["a", "b"]}).write_parquet(path)
    events = read(path)
    assert events.extra is not None
    assert events.extra.columns == ["page", "device"]
    monkeypatch.setattr(readers, "SMALL", 3)
    events = read(path)
    assert events.extra is None
    assert events.origin.endswith("other columns: none; left on disk (extra=… keeps them): page, device")
    events = read(path, extra=["device"])
    assert events.extra is not None
    assert events.extra.to_dict(as_series=False) == {"device": ["a", "b"]}


def test_side_columns_of_texts_get_the_type_that_they_spell(tmp_path: Path) -> None:
    path = put(
        tmp_path, "items.csv",
        "item,name,year,price,new,since,seen,zip,genres,mixed,code,when\n"
        "01,7,1979,1.5,true,2026-02-01,2026-02-01T10:00:00Z,02134,Drama|War,1,1e3,2026-02-31\n"
        "2,8,,2,False,2026-02-02,2026-02-02T10:00:00Z,70072,,x,2.5,2026-02-01\n",
    )  # fmt: skip
    events = read({"user": [1, 1], "item": ["01", "2"]}, items=path)
    assert events.items is not None
    assert events.items.schema == {
        "title": pl.String, "year": pl.Int64, "price": pl.Float64, "new": pl.Boolean, "since": pl.Date,
        "seen": pl.Datetime("us", "UTC"), "zip": pl.String, "genres": pl.String, "mixed": pl.String,
        "code": pl.Float64, "when": pl.String,
    }  # fmt: skip
    first = events.items.row(0, named=True)
    assert (first["title"], first["year"], first["new"], first["zip"]) == ("7", 1979, True, "02134")
    assert first["since"] == date(2026, 2, 1)
    assert isinstance(first["seen"], datetime)
    assert events.items["year"].to_list() == [1979, None]


def test_numbers_too_long_to_be_exact_stay_texts(tmp_path: Path) -> None:
    extra = read(put(tmp_path, "a.csv", "user,item,page\n1,2,10000169349117863715\n")).extra
    assert extra is not None
    assert extra["page"].to_list() == ["10000169349117863715"]


def test_ids_of_a_text_table_join_integers_and_texts(tmp_path: Path) -> None:
    path = put(tmp_path, "items.csv", "item,year\n7,1979\n8,1982\n")
    for ids in ([7, 8], ["7", "8"]):
        events = read({"user": [1, 1], "item": ids}, items=path)
        assert events.items is not None
        assert events.items["year"].to_list() == [1979, 1982]


@given(st.lists(st.integers(-(10**17), 10**17), min_size=1, max_size=20))
def test_integers_come_back_from_a_text_table(tmp_path_factory: pytest.TempPathFactory, numbers: list[int]) -> None:
    path = tmp_path_factory.getbasetemp() / "numbers.csv"
    pl.DataFrame({"user": ["u"] * len(numbers), "item": ["i"] * len(numbers), "n": numbers}).write_csv(path)
    extra = read(path).extra
    assert extra is not None
    assert extra["n"].to_list() == numbers


def test_categories_are_texts() -> None:
    frame = pl.DataFrame({"user": ["b", "a"], "item": [1, 2]}, schema={"user": pl.Categorical, "item": pl.Int64})
    assert read(frame).user_ids.values.to_list() == ["b", "a"]


def test_a_table_knows_the_lines_of_its_rows(tmp_path: Path) -> None:
    path = put(tmp_path, "a.csv", 'user,item\n"a\n\nb",1\nc,2\n\n')
    place = open_files(path, None).place
    assert [place.of(row) for row in range(2)] == ["line 2", "line 5"]
