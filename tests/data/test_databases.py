"""Databases by connection string: what comes back, and that no password leaves."""

import sqlite3
from pathlib import Path

import duckdb
import pytest

from bowerbird.core import DataError, MissingExtraError
from bowerbird.data import databases, read

ROWS = [("u1", "b", 30), ("u2", "a", 10), ("u1", "a", 20)]


@pytest.fixture
def shop(tmp_path: Path) -> dict[str, str]:
    """The same three rows in two databases; scheme → address."""
    with sqlite3.connect(tmp_path / "shop.db") as connection:
        connection.execute("create table events (uid text, sku text, ts integer)")
        connection.executemany("insert into events values (?, ?, ?)", ROWS)
    connection.close()
    with duckdb.connect(str(tmp_path / "shop.duckdb")) as store:
        store.execute("create table events (uid text, sku text, ts bigint)")
        store.executemany("insert into events values (?, ?, ?)", ROWS)
    return {"sqlite": f"sqlite:///{tmp_path}/shop.db", "duckdb": f"duckdb:///{tmp_path}/shop.duckdb"}


@pytest.mark.parametrize("scheme", ["sqlite", "duckdb"])
def test_a_query_gives_interactions(shop: dict[str, str], scheme: str) -> None:
    events = read(shop[scheme], query="select * from events", user="uid", item="sku", time="ts")
    names = events.user_ids.names(events.user).to_list(), events.item_ids.names(events.item).to_list()
    assert list(zip(*names, events.time.tolist() if events.time is not None else [], strict=True)) == [
        ("u2", "a", 10), ("u1", "a", 20), ("u1", "b", 30),
    ]  # fmt: skip
    assert events.origin == f"{shop[scheme]}: user=uid, item=sku, time=ts; other columns: none"


@pytest.mark.parametrize("scheme", ["sqlite", "duckdb"])
def test_a_file_is_named_from_here_or_from_the_root(
    shop: dict[str, str], scheme: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    name = Path(shop[scheme]).name
    assert len(read(f"{scheme}:///{name}", query="select uid, sku from events", user="uid", item="sku")) == 3


@pytest.mark.parametrize("scheme", ["sqlite", "duckdb"])
def test_a_database_that_is_not_there_is_not_made(scheme: str, tmp_path: Path) -> None:
    with pytest.raises(DataError) as caught:
        read(f"{scheme}:///{tmp_path}/none.db", query="select 1")
    assert str(caught.value) == f"{scheme}:///{tmp_path}/none.db: the query failed. There is no such file."
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("scheme", ["sqlite", "duckdb"])
def test_a_query_that_fails_says_why(shop: dict[str, str], scheme: str) -> None:
    with pytest.raises(DataError, match=r"the query failed\..*nothing"):
        read(shop[scheme], query="select * from nothing")


def test_a_database_is_only_read(shop: dict[str, str]) -> None:
    with pytest.raises(DataError, match="the query failed"):
        read(shop["duckdb"], query="drop table events")
    assert len(read(shop["duckdb"], query="select * from events", user="uid", item="sku")) == 3


def test_a_database_needs_a_query(shop: dict[str, str]) -> None:
    with pytest.raises(DataError) as caught:
        read(shop["sqlite"])
    assert str(caught.value) == f'{shop["sqlite"]}: a database needs a query, such as query="select * from events".'


def test_an_unknown_scheme_is_answered_with_the_known_ones() -> None:
    with pytest.raises(DataError) as caught:
        read("postgres://ann:secret@host/shop", query="select 1")
    assert str(caught.value) == (
        "postgres://host/shop: no database is reached by postgres://. "
        'Did you mean "postgresql"? Allowed: duckdb://, sqlite://, postgresql://.'
    )


@pytest.mark.parametrize(
    "address",
    [
        "postgresql://ann:s3cret@127.0.0.1:1/shop",
        "postgresql://127.0.0.1:1/shop?user=ann&password=s3cret",
        "postgresql://ann:s3c%72et@127.0.0.1:1/shop",
    ],
)
def test_a_password_stays_out_of_every_message(address: str) -> None:
    with pytest.raises(DataError) as caught:
        read(address, query="select 1")
    message = str(caught.value)
    assert message.startswith("postgresql://127.0.0.1:1/shop: the query failed. ")
    assert "s3cret" not in message
    assert "s3c%72et" not in message


def test_a_message_of_a_driver_is_rid_of_the_address_and_its_secrets() -> None:
    address = "postgresql://ann:s3c%72et@host/shop?sslmode=require"
    said = databases._hidden(f"cannot open {address}: s3cret and s3c%72et are wrong", address)
    assert said == "cannot open postgresql://host/shop: *** and *** are wrong"


@pytest.mark.parametrize(
    ("scheme", "package"),
    [("duckdb", "duckdb"), ("sqlite", "adbc_driver_manager"), ("postgresql", "adbc_driver_manager")],
)
def test_a_missing_driver_is_asked_for(scheme: str, package: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(databases, "find_spec", lambda name: None)
    with pytest.raises(MissingExtraError) as caught:
        read(f"{scheme}:///shop", query="select 1")
    assert str(caught.value) == f'{scheme}:// needs {package}. Install it with: pip install "bowerbird[sql]"'
