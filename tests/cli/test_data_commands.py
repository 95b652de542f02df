"""The `data` commands, run in one process."""

import json
from pathlib import Path

import polars as pl
import pytest
from typer.testing import CliRunner, Result

from bowerbird.cli.main import app
from bowerbird.core import DataError


@pytest.fixture
def table(tmp_path: Path) -> Path:
    path = tmp_path / "events.csv"
    lines = [f"u{n % 3},i{n % 4},{1_700_000_000 + 3600 * n},{n % 5 + 1}" for n in range(24)]
    path.write_text("\n".join(["who,what,when,rating", *lines]))
    return path


NAMES = ("--user", "who", "--item", "what", "--time", "when")


def call(*words: str, code: int = 0) -> Result:
    result = CliRunner().invoke(app, ["data", *words], catch_exceptions=False)
    assert result.exit_code == code, result.output
    return result


def test_check_prints_warnings_and_sizes(table: Path) -> None:
    said = call("check", str(table), *NAMES).stdout.splitlines()
    assert said == [
        'warning: column "rating" (1 to 5) is not used, so every row counts alike. '
        "Name it with weight=rating (--weight rating) if more means better.",
        f"24 events, 3 users, 4 items ({table}: user=who, item=what, time=when; other columns: rating)",
    ]


def test_check_for_programs_is_one_document(table: Path) -> None:
    document = json.loads(call("check", str(table), *NAMES, "--weight", "rating", "--json").stdout)
    assert document == {
        "source": str(table), "ok": True, "problems": [], "events": 24, "users": 3, "items": 4,
        "origin": f"{table}: user=who, item=what, time=when, weight=rating; other columns: none",
    }  # fmt: skip


def test_check_exits_with_2_on_an_error(table: Path) -> None:
    said = call("check", str(table), code=2).stdout
    assert said.startswith(f"error: {table}: no column is recognised as the user. It has: who, what, when, rating.")


def test_check_asks_databases_and_items(table: Path) -> None:
    document = json.loads(call("check", "duckdb:///none.db", "--query", "select 1", "--json", code=2).stdout)
    assert document["problems"][0]["message"] == "duckdb:///none.db: the query failed. There is no such file."
    document = json.loads(call("check", str(table), *NAMES, "--items", "none.csv", "--json", code=2).stdout)
    assert document["problems"][0]["message"] == "none.csv: there is no such file."


def test_describe_shows_numbers_bars_and_time(table: Path) -> None:
    said = call("describe", str(table), *NAMES).stdout
    for text in ("density", "100.000%", "2023-11-14 to 2023-11-15", "Popularity", "top 50%", "████", "Events over time",
                 "rating", "Int64", "warning: "):  # fmt: skip
        assert text in said


def test_describe_for_programs_is_the_same_as_the_function(table: Path, tmp_path: Path) -> None:
    picture = tmp_path / "shop.png"
    document = json.loads(call("describe", str(table), *NAMES, "--picture", str(picture), "--json").stdout)
    assert document["gini"] == 0
    assert document["per_user"]["50%"] == 8
    assert picture.read_bytes().startswith(b"\x89PNG")


def test_describe_refuses_what_cannot_be_read(table: Path) -> None:
    with pytest.raises(DataError, match="no column is recognised as the user"):
        call("describe", str(table))


def test_convert_writes_parquet(table: Path, tmp_path: Path) -> None:
    out = tmp_path / "events.parquet"
    document = json.loads(call("convert", str(table), str(out), "--json").stdout)
    assert document == {"out": str(out), "rows": 24}
    assert pl.read_parquet(out)["when"].dtype == pl.Int64
    assert call("convert", str(table), str(out)).stdout == f"24 rows in {out}\n"
