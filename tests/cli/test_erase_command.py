"""`bowerbird erase`: what is printed, what is kept, and with which status it ends."""

import json
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from typer.testing import CliRunner

import bowerbird as bb
from bowerbird.cli.main import app
from bowerbird.core import BowerbirdError
from bowerbird.store import erasures, exports
from bowerbird.store.database import Database
from bowerbird.store.events import TableLog
from bowerbird.store.log import LogEvent


def erase(*words: object, status: int = 0) -> Any:
    done = CliRunner().invoke(app, ["erase", *map(str, words)])
    assert done.exit_code == status, (done.output, done.exception)
    return done


@pytest.fixture
def run(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    rows = [(f"person-{u}", f"i{i}") for u in range(20) for i in rng.permutation(8)[:4]]
    bb.fit(bb.read(pl.DataFrame(rows, schema=["user_id", "item_id"], orient="row")), "ease").save(tmp_path / "run")
    with closing(Database(tmp_path / "run" / "server")) as database:
        TableLog(database).append([LogEvent("e1", "interaction", "person-3", "i1")])
    return tmp_path / "run"


def test_a_certificate_is_printed_whole_with_its_key(run: Path) -> None:
    done = erase("person-3", run, "--certify")
    [kept] = erasures.all_of(run)
    assert (
        "person-3 is erased: 1 events, 0 documents; version 000001 retired, version 000002 by closed form"
        in done.stdout
    )
    for said in (kept["id"], kept["sha256"], kept["subject"], kept["models"]["retired"]["000001"]):
        assert said in "".join(line.strip() for line in done.stdout.splitlines())
    key = done.stderr.split("the key ")[1].split()[0]
    assert erasures.subject_of("person-3", key) == kept["subject"]
    assert done.stderr.count("not covered: ") == len(kept["not_covered"])


def test_json_holds_the_certificate_or_the_short_of_it(run: Path) -> None:
    certificate = json.loads(erase("person-3", run, "--certify", "--json").stdout)
    assert certificate["erased"] is True
    assert erasures.subject_of("person-3", certificate["key"]) == certificate["subject"]
    short = json.loads(erase("person-4", run, "--json").stdout)
    assert short.keys() == {"user_id", "erased", "id", "database", "models", "left"}
    assert "person-5 is erased" in erase("person-5", run).stdout


def test_nobody_is_told_and_ends_with_four(run: Path) -> None:
    assert "nothing is kept of 'somebody'" in erase("somebody", run, status=4).stderr
    told = json.loads(erase("somebody", run, "--json", status=4).stdout)
    assert (told["erased"], told["user_id"]) == (False, "somebody")


def test_letters_that_are_still_found_end_with_one(run: Path) -> None:
    (run / "note.txt").write_text("ask person-3 about it")
    done = erase("person-3", run, status=1)
    assert "the id is still found in" in done.stderr
    assert "note.txt" in done.stderr


def test_places_that_are_none_are_told(run: Path, tmp_path: Path) -> None:
    for words in (("a", tmp_path / "none"), ("a", run, "--data-dir", tmp_path / "none")):
        done = CliRunner().invoke(app, ["erase", *map(str, words)])
        assert isinstance(done.exception, BowerbirdError)
        assert "is not a run directory" in str(done.exception) or "no data directory" in str(done.exception)


def test_lists_for_all_are_noted_and_lose_the_person(run: Path, tmp_path: Path) -> None:
    inside, outside = run / "all.parquet", tmp_path / "all.parquet"
    for path in (inside, outside):
        done = CliRunner().invoke(app, ["recommend", str(run), "--all", "--out", str(path), "-k", "2"])
        assert done.exit_code == 0, done.output
    assert [(one["kind"], one["path"]) for one in exports.noted(run)] == [
        ("lists", str(inside.resolve())), ("lists", str(outside.resolve()))
    ]  # fmt: skip
    certificate = json.loads(erase("person-3", run, "--certify", "--json").stdout)
    assert "person-3" not in pl.read_parquet(inside)["user_id"]
    assert [(one["path"], one["rows"]) for one in certificate["elsewhere"]] == [(str(outside.resolve()), 2)]
