"""The `data` commands, run in one process."""

import json
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from typer.testing import CliRunner, Result

from bowerbird.cli.main import app
from bowerbird.core import ConfigError, DataError
from bowerbird.data import Rows
from bowerbird.features import Categorical, Numeric
from bowerbird.features.columns import read_columns


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


@pytest.fixture
def rows(tmp_path: Path) -> Path:
    path = tmp_path / "rows.csv"
    lines = [f"{n % 2},{n % 5 if n % 4 else ''},{20 + n % 40},c{n % 3}" for n in range(400)]
    path.write_text("\n".join(["bought,stars,age,city", *lines]))
    return path


def test_describe_shows_labels_and_columns_of_rows(rows: Path, tmp_path: Path) -> None:
    toml = tmp_path / "columns.toml"
    said = call("describe", str(rows), "--label", "bought", "--label", "stars", "--columns", str(toml)).stdout
    found = [line.split() for line in said.splitlines()]
    assert ["bought", "400", "50.00%"] in found
    assert ["stars", "300", "mean", "2"] in found
    assert ["age", "numeric", "40", "0.0%", "20", "to", "59"] in found
    assert ["city", "categorical", "3", "0.0%"] in found
    assert read_columns(toml) == {"": (Numeric(name="age"), Categorical(name="city"))}


def test_describe_gives_rows_to_programs(rows: Path) -> None:
    document = json.loads(call("describe", str(rows), "--label", "bought", "--json").stdout)
    assert (document["rows"], document["labels"]) == (400, {"bought": {"observed": 400, "rate": 0.5}})
    assert document["columns"][0] == {
        "column": "stars", "kind": "categorical", "type": "Int64", "distinct": 5, "empty": 0.25, "lowest": 0,
        "highest": 4,
    }  # fmt: skip


def test_describe_writes_columns_of_users_and_items(table: Path, tmp_path: Path) -> None:
    items, toml = tmp_path / "items.csv", tmp_path / "columns.toml"
    items.write_text("what,price,title\n" + "\n".join(f"i{n},{n}.5,Item {n}" for n in range(4)))
    call("describe", str(table), *NAMES, "--items", str(items), "--columns", str(toml))
    assert read_columns(toml) == {
        "user": (Categorical(name="user_id"),),
        "item": (Categorical(name="item_id"), Numeric(name="price"), Categorical(name="title")),
    }


def test_describe_takes_a_part_of_a_data_set_of_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    one = Rows(pl.DataFrame({"a": [1, 2]}), np.ones((2, 1), np.float32), ("click",))
    monkeypatch.setattr("bowerbird.data.load_rows", lambda name, data_root: {"left": one, "right": one})
    document = json.loads(call("describe", "ctr-samples", "--part", "right", "--json").stdout)
    assert (document["origin"], document["rows"]) == ("ctr-samples", 2)
    with pytest.raises(ConfigError, match=r"ctr-samples has the parts left, right\. Name one of them: --part left\."):
        call("describe", "ctr-samples")
    monkeypatch.setattr(
        "bowerbird.data.load_rows", lambda name, data_root: {"valid": one, "train": one.take(np.arange(1))}
    )
    assert json.loads(call("describe", "adult", "--json").stdout)["rows"] == 1


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("adult", "--label", "income"), "adult is a table of rows, for which --label means nothing. Leave it out."),
        (("adult", "--user", "age"), "adult is a table of rows, for which --user means nothing. Leave it out."),
        (("x.csv", "--label", "a", "--part", "train"), "x.csv is a table of rows, for which --part means nothing."),
        (("x.csv", "--label", "a", "--weight", "b"), "x.csv is a table of rows, for which --weight means nothing."),
        (("x.csv", "--part", "train"), "x.csv is a table of interactions, for which --part means nothing."),
    ],
)
def test_describe_refuses_options_that_mean_nothing(words: tuple[str, ...], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        call("describe", *words)
    assert str(caught.value).startswith(message)


def test_convert_writes_parquet(table: Path, tmp_path: Path) -> None:
    out = tmp_path / "events.parquet"
    document = json.loads(call("convert", str(table), str(out), "--json").stdout)
    assert document == {"out": str(out), "rows": 24}
    assert pl.read_parquet(out)["when"].dtype == pl.Int64
    assert call("convert", str(table), str(out)).stdout == f"24 rows in {out}\n"
