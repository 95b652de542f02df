import datetime
import gzip
import os
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from bowerbird.core import DataError
from bowerbird.data import read

PACKED = gzip.compress(b"user,item\n" + b"u1,a\n" * 2_000, mtime=0)


def refusal(source: Any, **options: Any) -> str:
    with pytest.raises(DataError) as caught:
        read(source, **options)
    return str(caught.value)


def put(folder: Path, name: str, text: str | bytes) -> Path:
    path = folder / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def test_a_missing_file_is_answered_with_the_nearest_name(tmp_path: Path) -> None:
    put(tmp_path, "events.csv", "user,item\n1,2\n")
    message = refusal(tmp_path / "event.csv")
    assert message == f'{tmp_path}/event.csv: there is no such file. Did you mean "events.csv"?'


def test_a_missing_file_in_a_missing_folder_is_only_missing(tmp_path: Path) -> None:
    assert refusal(tmp_path / "no" / "event.csv").endswith("event.csv: there is no such file.")


def test_a_folder_without_parts_is_no_table(tmp_path: Path) -> None:
    put(tmp_path, "_SUCCESS", "")
    put(tmp_path, "notes.md", "user,item")
    assert refusal(tmp_path) == (
        f"{tmp_path}: this is a folder without parts (.parquet, .csv or .tsv). Name one file in it."
    )


def test_a_folder_of_two_kinds_of_file_is_ambiguous(tmp_path: Path) -> None:
    put(tmp_path, "a.csv", "user,item\n1,2\n")
    put(tmp_path, "b.tsv", "user\titem\n1\t2\n")
    assert refusal(tmp_path) == (
        f'{tmp_path}: this folder holds csv and tsv files. Name those that make the table, such as "{tmp_path}/*.csv".'
    )


def test_a_pattern_that_matches_nothing_is_refused(tmp_path: Path) -> None:
    assert refusal(tmp_path / "*.parquet") == (
        f"{tmp_path}/*.parquet: no file has such a name. Put the pattern in quotes, and check its folder."
    )


def test_the_file_whose_columns_differ_is_named(tmp_path: Path) -> None:
    for name, header in (("1.csv", "user,item,time"), ("2.csv", "user,item,when")):
        put(tmp_path, name, f"{header}\n1,2,3\n")
    assert refusal(tmp_path) == (
        f"{tmp_path}/2.csv: its columns differ from those of 1.csv: it lacks time and adds when. "
        "Files that make one table have the same columns."
    )


def test_the_file_whose_types_differ_is_named(tmp_path: Path) -> None:
    pl.DataFrame({"user": [1], "item": [1]}).write_parquet(tmp_path / "1.parquet")
    pl.DataFrame({"user": [1], "item": ["a"]}).write_parquet(tmp_path / "2.parquet")
    assert refusal(tmp_path) == (
        f'{tmp_path}/2.parquet, column "item": String where 1.parquet has Int64. '
        "Files that make one table have the same types."
    )


def test_a_row_of_several_files_is_named_by_its_file_and_line(tmp_path: Path) -> None:
    paths = [put(tmp_path, "1.csv", "user,item\n1,2\n"), put(tmp_path, "2.csv", "user,item\n1,2\n1,\n")]
    assert refusal(paths) == (
        '2 files, column "item": 1 of 3 rows are empty (first: 2.csv, line 3). Fill them or drop them.'
    )


def test_a_row_of_several_parquet_files_is_named_by_its_file_and_row(tmp_path: Path) -> None:
    for name, ids in (("1.parquet", ["a", "b"]), ("2.parquet", ["c", ""])):
        pl.DataFrame({"user": ids, "item": ["x", "y"]}).write_parquet(tmp_path / name)
    assert refusal(tmp_path).endswith(
        'column "user": 1 of 4 rows are empty (first: 2.parquet, row 2). Fill them or drop them.'
    )


def test_a_column_to_keep_must_be_there() -> None:
    message = refusal({"user": [1], "item": [2], "page": [3]}, extra=["pages"])
    assert message == 'table: there is no column "pages" to keep. Did you mean "page"? It has: user, item, page.'


def test_a_header_that_is_missing_is_asked_for(tmp_path: Path) -> None:
    path = put(tmp_path, "a.csv", "u1,i1,1700000000\nu2,i2,1700000001\n")
    assert refusal(path) == (
        f"{path}: no column is recognised as the user. It has: u1, i1, 1700000000. The first line looks like a row: "
        "put a line of names above it. Name it with user=… (--user on the command line)."
    )


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ([1_700_000_000, 1_700_000_000_000], "1 of 2 rows look like seconds among milliseconds (first: row 1)"),
        ([1_700_000_000_000_000, 1_700_000_000], "1 of 2 rows look like seconds among microseconds (first: row 2)"),
        (
            [1_700_000_000_000_000, 1_700_000_000_000],
            "1 of 2 rows look like milliseconds among microseconds (first: row 2)",
        ),
        ([1.7e9, 1.7e18, 1.7e18], "1 of 3 rows look like seconds among nanoseconds (first: row 1)"),
    ],
)
def test_two_units_in_one_time_column_are_refused(values: list[float], says: str) -> None:
    rows = range(len(values))
    assert refusal({"user": rows, "item": rows, "time": values}) == (
        f'table, column "time": {says}. Write all of them in seconds.'
    )


def test_a_line_that_is_not_utf8_is_named(tmp_path: Path) -> None:
    path = put(tmp_path, "a.csv", "user,item\nu1,tea\nu1,café\n".encode("latin-1"))
    assert refusal(path) == (
        f"{path}: cannot be read as csv. Line 3 is not UTF-8; it may be latin-1. "
        "Convert it: iconv -f latin1 -t utf-8 FILE."
    )


def test_a_recbole_number_that_is_none_is_named(tmp_path: Path) -> None:
    path = put(tmp_path, "a.inter", "user_id:token\titem_id:token\trating:float\nu1\ta\t5\nu2\tb\tgood\n")
    assert refusal(path) == f'{path}, column "rating": 1 of 2 rows are not numbers (first: line 3). Mend or drop them.'


def test_rows_without_interactions_are_read_elsewhere(tmp_path: Path) -> None:
    path = put(tmp_path, "a.libsvm", "1 1:1\n")
    assert refusal(path) == (f"{path}: libsvm holds labels and features, and no interactions. Read it with read_rows.")


def test_a_path_takes_no_query(tmp_path: Path) -> None:
    assert refusal(tmp_path / "a.csv", query="select 1") == (
        "query is for a database, such as sqlite:///shop.db; this source is read whole. Leave it out."
    )


def test_an_empty_file_is_called_empty(tmp_path: Path) -> None:
    path = put(tmp_path, "a.csv", "")
    assert refusal(path) == f"{path}: the file is empty."


def test_a_header_alone_is_no_table(tmp_path: Path) -> None:
    path = put(tmp_path, "a.csv", "user,item\n")
    assert refusal(path).startswith(f"{path}: there is a header and no row. Give a table with at least one")


def test_an_unknown_format_is_answered_with_the_known_ones(tmp_path: Path) -> None:
    message = refusal(put(tmp_path, "a.csv", "user,item\n1,2\n"), format="cvs")
    assert message.startswith('no format is named "cvs". Did you mean "csv"? Allowed:')
    assert all(name in message for name in ("csv", "tsv", "parquet", "lists"))


def test_a_column_that_is_not_there_is_answered_with_those_that_are() -> None:
    message = refusal({"user": [1], "item": [2], "stamp": [3]}, time="stmp")
    assert message == 'table: there is no column "stmp". Did you mean "stamp"? It has: user, item, stamp.'


@pytest.mark.parametrize(("columns", "role"), [(("a", "item"), "user"), (("user", "b"), "item")])
def test_an_unrecognised_column_is_asked_for_by_role(columns: tuple[str, str], role: str) -> None:
    message = refusal({name: [1] for name in columns})
    assert message == (
        f"table: no column is recognised as the {role}. It has: {', '.join(columns)}. "
        f"Name it with {role}=… (--{role} on the command line)."
    )


def test_a_line_with_too_many_fields_is_named(tmp_path: Path) -> None:
    path = put(tmp_path, "a.csv", "user,item\n1,2\n3,4,5\n6,7\n")
    assert refusal(path) == (
        f"{path}: cannot be read as csv. Line 3 has 3 fields where the header has 2. "
        "Quote the field that holds the separator, or mend the line."
    )


def test_a_line_with_too_few_fields_is_named(tmp_path: Path) -> None:
    path = put(tmp_path, "a.csv", "user,item\n1,2\n3\n")
    assert refusal(path) == (f'{path}, column "item": 1 of 2 rows are empty (first: line 3). Fill them or drop them.')


def test_an_empty_id_in_a_file_is_named_by_line(tmp_path: Path) -> None:
    path = put(tmp_path, "a.csv", "user,item\n1,2\n,4\n,5\n")
    assert refusal(path).startswith(f'{path}, column "user": 2 of 3 rows are empty (first: line 3).')


@pytest.mark.parametrize("empty", ["", None])
def test_an_empty_id_in_a_frame_is_named_by_row(empty: str | None) -> None:
    message = refusal(pl.DataFrame({"user": ["a", "b", empty], "item": [1, 2, 3]}))
    assert message == 'data frame, column "user": 1 of 3 rows are empty (first: row 3). Fill them or drop them.'


def test_an_id_may_have_256_bytes_and_no_more() -> None:
    assert read({"user": ["é" * 128], "item": [1]}).n_users == 1
    message = refusal({"user": ["a", "é" * 128 + "x"], "item": [1, 2]})
    assert message == (
        'table, column "user": 1 of 2 rows are over 256 bytes (first: row 2). Shorten or hash these ids.'
    )


@pytest.mark.parametrize(
    ("column", "kind"),
    [([1.0], "Float64"), ([True], "Boolean"), ([datetime.date(2026, 1, 1)], "Date"), ([[1]], "List")],
)
def test_ids_are_integers_or_texts(column: list[Any], kind: str) -> None:
    message = refusal({"user": [1], "item": column})
    assert message.startswith(f'table, column "item": ids are {kind}')
    assert "integers or texts are needed. Cast the column first, or name another one." in message


def test_an_integer_id_fits_64_bits_with_a_sign() -> None:
    message = refusal({"user": pl.Series([1, 2**63], dtype=pl.UInt64), "item": [1, 2]})
    assert message == (
        'table, column "user": 1 of 2 rows do not fit 64 bits with a sign (first: row 2). Cast the column to text.'
    )


@pytest.mark.parametrize("value", ["soon", "", "-5", "nan", "inf"])
def test_a_bad_time_among_numbers_is_named(tmp_path: Path, value: str) -> None:
    path = put(tmp_path, "a.tsv", f"user\titem\ttime\n1\t2\t10\n1\t3\t{value}\n")
    message = refusal(path)
    assert f'{path}, column "time": 1 of 2 rows are' in message
    assert "(first: line 3)" in message


def test_a_bad_time_among_texts_is_answered_with_how_to_write_one() -> None:
    message = refusal({"user": [1, 1], "item": [1, 2], "time": ["2026-11-24T08:00:00Z", "tomorrow"]})
    assert message == (
        'table, column "time": 1 of 2 rows are not times (first: row 2). '
        "Write seconds since 1970 or ISO 8601, such as 2026-11-24T08:00:00Z."
    )


def test_an_empty_time_is_named() -> None:
    message = refusal({"user": [1, 1], "item": [1, 2], "time": [None, 7]})
    assert message == 'table, column "time": 1 of 2 rows are empty (first: row 1). Fill them or drop them.'


@pytest.mark.parametrize("value", [datetime.time(8), datetime.timedelta(1), [1]])
def test_a_column_that_cannot_be_a_time_is_refused_by_its_type(value: Any) -> None:
    message = refusal({"user": [1], "item": [1], "time": [value]})
    assert message.startswith('table, column "time": ')
    assert message.endswith("cannot be read as time. Cast the column first, or name another one with time=…")


@pytest.mark.parametrize("value", ["-1", "many", "nan", "inf", ""])
def test_a_bad_weight_is_named(tmp_path: Path, value: str) -> None:
    path = put(tmp_path, "a.tsv", f"user\titem\tweight\n1\t2\t1.5\n1\t3\t{value}\n")
    assert refusal(path) == (
        f'{path}, column "weight": 1 of 2 rows are not numbers of 0 or more (first: line 3). Mend or drop them.'
    )


def test_a_column_that_cannot_be_a_weight_is_refused_by_its_type() -> None:
    message = refusal({"user": [1], "item": [1], "weight": [[1]]})
    assert message.startswith('table, column "weight": List(Int64) cannot be read as weight.')


def test_a_column_of_too_many_kinds_of_event_is_probably_another_one() -> None:
    many = range(256)
    message = refusal({"user": many, "item": many, "event": [str(kind) for kind in many]})
    assert message == 'table, column "event" has 256 kinds of event; 255 at most. Is it the right one?'


def test_a_text_called_parquet_is_refused(tmp_path: Path) -> None:
    path = put(tmp_path, "a.parquet", "user,item\n1,2\n")
    assert refusal(path).startswith(f"{path}: cannot be read as parquet. ")


def test_a_text_in_another_encoding_is_refused(tmp_path: Path) -> None:
    for name, text in (("a.csv", b"user,item\n\xe9,2\n"), ("a.txt", b"\xe9 2\n")):
        path = put(tmp_path, name, text)
        assert refusal(path).startswith(f"{path}: cannot be read as ")


@pytest.mark.parametrize("name", ["a.csv.gz", "a.tsv.gz", "a.txt.gz"])
@pytest.mark.parametrize(
    "data",
    [PACKED[:-20], PACKED[:14] + b"\xff\xff" + PACKED[16:], PACKED[:12]],
    ids=["without its end", "changed", "hardly begun"],
)
def test_a_damaged_packed_file_is_refused(tmp_path: Path, name: str, data: bytes) -> None:
    path = put(tmp_path, name, data)
    assert refusal(path).startswith(f"{path}: cannot be read as ")


@pytest.mark.parametrize("name", ["a.csv.gz", "a.txt.gz"])
def test_a_plain_file_that_is_called_packed_is_refused(tmp_path: Path, name: str) -> None:
    path = put(tmp_path, name, "user,item\n1,2\n")
    assert "Not a gzipped file" in refusal(path)


@pytest.mark.parametrize("source", [5, None, object()])
def test_what_is_no_table_is_refused(source: Any) -> None:
    assert refusal(source).startswith(("int is not a table. Give a path", "object is not a table.", "table: no column"))


def test_two_columns_of_one_name_are_refused(tmp_path: Path) -> None:
    assert "duplicate" in refusal(put(tmp_path, "a.csv", "user,item, item\n1,2,3\n"))


def test_a_bad_side_table_is_refused_by_its_name(tmp_path: Path) -> None:
    message = refusal({"user": [1], "item": [2]}, items=tmp_path / "films.csv")
    assert message == f"{tmp_path}/films.csv: there is no such file."


def test_a_parquet_file_with_damaged_rows_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    pl.DataFrame({"user": range(5000), "item": range(5000)}).write_parquet(path)
    data = bytearray(path.read_bytes())
    data[4:200] = b"\xff" * 196  # the header of the first page
    path.write_bytes(data)
    assert refusal(path).startswith(f"{path}: cannot be read as parquet. its pages are broken: ")


def test_a_large_parquet_file_with_damaged_rows_is_refused_when_they_are_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bowerbird.data.files.CHECKED", 0)
    path = tmp_path / "a.parquet"
    pl.DataFrame({"user": range(5000), "item": range(5000)}).write_parquet(path)
    data = bytearray(path.read_bytes())
    data[4:200] = b"\xff" * 196
    path.write_bytes(data)
    assert refusal(path).startswith(f"{path}: the rows cannot be read. ")


def test_whole_numbers_of_128_bits_are_read(tmp_path: Path) -> None:
    table = pl.DataFrame({"user": [1], "item": [2], "long": [2**100]}, schema_overrides={"long": pl.Int128})
    table.write_parquet(tmp_path / "a.parquet")
    assert len(read(tmp_path / "a.parquet")) == 1


def test_a_file_that_may_not_be_read_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = put(tmp_path, "a.csv", "user,item\n1,2\n")
    monkeypatch.setattr(os, "access", lambda *_: False)
    assert refusal(path) == f"{path}: this file may not be read. Ask for the permission, or copy it."


@pytest.mark.parametrize("title", [["a list"], b"bytes", {"a": "struct"}])
def test_titles_are_texts_or_what_can_be_shown_as_one(title: Any) -> None:
    items = pl.DataFrame({"item": ["i1"], "name": [title]})
    message = refusal({"user": ["u1"], "item": ["i1"]}, items=items)
    assert message.startswith('data frame, column "name": ')
    assert message.endswith("cannot be read as titles. Cast it, or rename it.")
    read({"user": ["u1"], "item": ["i1"]}, items=pl.DataFrame({"item": ["i1"], "name": [7]}))
