"""Conversion: what was a text is the same table as Parquet."""

import gzip
import sqlite3
from pathlib import Path

import polars as pl
import pytest

from bowerbird.core import DataError
from bowerbird.data import conversion, convert, read

TEXT = "user_id,item_id,time,page,zip\n007,1,20,3,02134\n8,2,10,,70072\n"


def put(folder: Path, name: str, text: str | bytes) -> Path:
    path = folder / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


@pytest.mark.parametrize("name", ["a.csv", "a.csv.gz"])
def test_a_text_table_is_typed_and_says_the_same(tmp_path: Path, name: str) -> None:
    path = put(tmp_path, name, gzip.compress(TEXT.encode()) if name.endswith(".gz") else TEXT)
    assert convert(path, tmp_path / "a.parquet") == 2
    frame = pl.read_parquet(tmp_path / "a.parquet")
    assert frame.schema == {
        "user_id": pl.String, "item_id": pl.String, "time": pl.Int64, "page": pl.Int64, "zip": pl.String,
    }  # fmt: skip
    assert read(tmp_path / "a.parquet").fingerprint == read(path).fingerprint


def test_several_files_become_one(tmp_path: Path) -> None:
    for name in ("1.tsv", "2.tsv"):
        put(tmp_path, name, "user\titem\n1\t2\n")
    assert convert(tmp_path, tmp_path / "all.parquet") == 2


def test_recbole_headers_lose_their_types(tmp_path: Path) -> None:
    path = put(tmp_path, "a.inter", 'user_id:token\titem_id:token\ttimestamp:float\n1\t"2\t3\n')
    convert(path, tmp_path / "a.parquet")
    assert pl.read_parquet(tmp_path / "a.parquet").rows() == [("1", '"2', 3)]


def test_a_column_whose_later_rows_spell_something_else_stays_text(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(conversion, "SAMPLE", 1)
    path = put(tmp_path, "a.csv", "user,item,page,n\n1,2,3,4\n1,3,last,5\n")
    convert(path, tmp_path / "a.parquet")
    assert pl.read_parquet(tmp_path / "a.parquet")["page"].to_list() == ["3", "last"]


def test_lists_and_databases_are_converted_too(tmp_path: Path) -> None:
    assert convert(put(tmp_path, "train.txt", "0 5 3\n"), tmp_path / "lists.parquet") == 2
    with sqlite3.connect(tmp_path / "shop.db") as connection:
        connection.execute("create table events as select 1 as user, 2 as item")
    connection.close()
    query = "select * from events"
    assert convert(f"sqlite:///{tmp_path}/shop.db", tmp_path / "shop.parquet", query=query) == 1


def test_what_cannot_be_read_is_named_and_nothing_is_left(tmp_path: Path) -> None:
    path = put(tmp_path, "a.csv", "user,item\n1,2\n3,4,5\n")
    with pytest.raises(DataError) as caught:
        convert(path, tmp_path / "a.parquet")
    assert str(caught.value).startswith(f"{path}: cannot be read as csv. Line 3 has 3 fields where the header has 2.")
    assert list(tmp_path.iterdir()) == [path]


def test_the_result_is_called_parquet(tmp_path: Path) -> None:
    with pytest.raises(DataError) as caught:
        convert(tmp_path / "a.csv", tmp_path / "b.csv")
    assert str(caught.value) == f"{tmp_path}/b.csv: the converted table is Parquet. Call it {tmp_path}/b.parquet."
