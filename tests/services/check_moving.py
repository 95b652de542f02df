"""A database moves from a file into a PostgreSQL and back, and every row is what it was."""

import json
import sqlite3
from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path

import pytest
from typer.testing import CliRunner

import bowerbird as bb
from bowerbird.cli.main import app
from bowerbird.core import BundleError
from bowerbird.data import Interactions
from bowerbird.store import LogEvent, moving
from bowerbird.store.catalogue import Catalogue
from bowerbird.store.database import Database, DatabaseError, read_only
from bowerbird.store.events import TableLog
from bowerbird.store.experiments import Experiments
from bowerbird.store.keys import Keys
from bowerbird.store.opening import opened, place
from bowerbird.store.schema import Schemas
from cluster import Cluster

Bower = Callable[..., str]


@pytest.fixture
def bower() -> Bower:
    def call(*words: object, status: int = 0) -> str:
        found = CliRunner().invoke(app, [str(word) for word in words])
        assert found.exit_code == status, found.output
        return found.output

    return call


def fill(folder: Path) -> str:
    """Write something into every table, and return a key's secret."""
    with closing(Database(folder)) as database:
        log = TableLog(database)
        log.append(
            [
                LogEvent(
                    f"e{n}", "like", user_id=n if n % 2 else str(n), item_id=f"é{n % 7}", time=n, weight=1 / (n + 1)
                )
                for n in range(12_000)
            ]
        )
        log.append([LogEvent("s", "like", session_id="t", item_id=7, context='{"a": "\\u0000 %s ? :b"}')])
        log.retract("e3")
        log.erase(5)
        catalogue = Catalogue(database)
        catalogue.put("item", 7, {"title": "x", "tags": ["a", None]}, available=False, expires=9)
        catalogue.put("item", "gone", {})
        catalogue.delete("item", "gone")
        Schemas(database).put([{"name": "wish"}])
        experiments = Experiments(database)
        experiments.create({"name": "one", "scenario": "home", "arms": []})
        experiments.start("one")
        return Keys(database).create("shop", ["recommend"], limit_per_s=2.5)[1]


def rows(folder: Path) -> dict[str, list[tuple[object, ...]]]:
    with closing(read_only(folder)) as connection:
        return {
            table: connection.execute(f"SELECT {columns} FROM {table} ORDER BY {order}").fetchall()
            for table, (columns, order) in moving.TABLES.items()
        }


def test_there_and_back_every_row_is_what_it_was(
    cluster: Cluster, two_by_two: Interactions, tmp_path: Path, bower: Bower
) -> None:
    run, url = tmp_path / "run", cluster.new()
    bb.fit(two_by_two, "popularity").save(run)
    secret = fill(run / "server")
    told = json.loads(bower("dump", run, tmp_path / "one", "--json"))
    assert told["rows"] == {"events": 12_001, "documents": 2, "keys": 1, "answers": 0, "schemas": 1, "experiments": 1}
    bower("restore", tmp_path / "one", tmp_path / "run2", "--data-dir", tmp_path / "data2", "--store", url)
    assert not (tmp_path / "data2" / "bowerbird.db").exists()
    with closing(opened(tmp_path / "data2")) as database:
        log = TableLog(database)
        assert (log.end, log.find("e3"), log.find("e5")) == (12_001, None, None)
        assert log.find("e8") == (8, LogEvent("e8", "like", user_id="8", item_id="é1", time=8, weight=1 / 9))
        assert Keys(database).check(secret) is not None
        assert log.append([LogEvent("e3", "like"), LogEvent("new", "like")]) == 12_002  # both go on where they were
        assert Catalogue(database).put("item", "new", {}).change == 4
    told = json.loads(bower("dump", tmp_path / "run2", tmp_path / "two", "--data-dir", tmp_path / "data2", "--json"))
    assert told["rows"]["events"] == 12_002
    bower("restore", tmp_path / "two", tmp_path / "run3", "--data-dir", tmp_path / "data3")
    before, after = rows(run / "server"), rows(tmp_path / "data3")
    assert after["events"][:-1] == before["events"]
    assert after["documents"][:-1] == before["documents"]
    for table in ("keys", "schemas", "experiments", "answers"):
        known = [row[:-2] + row[-1:] for row in after[table]] if table == "keys" else after[table]  # without last_used
        assert known == ([row[:-2] + row[-1:] for row in before[table]] if table == "keys" else before[table])


def test_a_database_that_holds_something_takes_no_backup(
    cluster: Cluster, two_by_two: Interactions, tmp_path: Path, bower: Bower
) -> None:
    run, url = tmp_path / "run", cluster.new()
    bb.fit(two_by_two, "popularity").save(run)
    fill(run / "server")
    bower("dump", run, tmp_path / "one")
    place(tmp_path / "other", url)
    with closing(opened(tmp_path / "other")) as database:
        TableLog(database).append([LogEvent("mine", "like")])
    with pytest.raises(BundleError, match="holds events already"):
        moving.load(tmp_path / "one" / "bowerbird.db", url)
    with closing(opened(tmp_path / "other")) as database:
        assert TableLog(database).end == 1


def test_a_row_that_changes_on_the_way_is_noticed(
    cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(tmp_path)
    url = cluster.new()
    sent = moving._with_truths

    def spoilt(row: Sequence[object], places: Sequence[int]) -> Sequence[object]:
        return [*sent(row, places)[:7], 9, *row[8:]] if row[0] == 77 else sent(row, places)

    monkeypatch.setattr(moving, "_with_truths", spoilt)
    with pytest.raises(DatabaseError, match="events: 12,001 rows were sent, and 12,001 arrived, not all as they were"):
        moving.load(tmp_path / "bowerbird.db", url)
    with closing(sqlite3.connect(tmp_path / "bowerbird.db")) as connection:
        assert connection.execute("SELECT count(*) FROM events").fetchone() == (12_001,)
