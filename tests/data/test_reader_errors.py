import datetime
import gzip
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


def test_a_folder_is_no_file(tmp_path: Path) -> None:
    assert refusal(tmp_path) == f"{tmp_path}: this is a folder. Name one file in it."


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
    assert message == 'column "event" has 256 kinds of event; 255 at most. Is it the right one?'


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
