"""`bowerbird drift`: two tables, a run and what came since, and the update that an alarm starts."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from typer.testing import CliRunner

import bowerbird as bb
from bowerbird.cli.main import app
from bowerbird.core import BowerbirdError
from bowerbird.data import read_rows
from bowerbird.store import bundles


def drift(*words: object, status: int = 0) -> dict[str, Any]:
    done = CliRunner().invoke(app, ["drift", *map(str, words), "--json"])
    assert done.exit_code == status, (done.output, done.exception)
    found = json.loads(done.stdout)
    assert isinstance(found, dict)
    return found


def refused(*words: object) -> str:
    done = CliRunner().invoke(app, ["drift", *map(str, words)])
    assert isinstance(done.exception, BowerbirdError), done.output
    return str(done.exception)


@pytest.fixture
def tables(tmp_path: Path) -> tuple[Path, Path, Path]:
    rng = np.random.default_rng(0)
    files = []
    for name, chance in (("before", 0.1), ("same", 0.1), ("now", 0.4)):
        device = rng.choice(["phone", "desk"], 2_000, p=(chance, 1 - chance))
        predicted = rng.random(2_000)
        frame = pl.DataFrame({"device": device, "p": predicted, "click": (rng.random(2_000) < predicted).astype(int)})
        files.append(tmp_path / f"{name}.csv")
        frame.write_csv(files[-1])
    return files[0], files[1], files[2]


def shop(users: range, start: int, name: str = "i") -> pl.DataFrame:
    rng = np.random.default_rng(start)
    rows = [(f"u{u}", f"{name}{u % 2 + 2 * k}") for u in users for k in rng.choice(8, 5, replace=False)]
    table = pl.DataFrame(rows, schema=["user_id", "item_id"], orient="row")
    return table.with_columns(time=start + pl.int_range(len(table)))


@pytest.fixture
def run(tmp_path: Path) -> Path:
    bb.fit(bb.read(shop(range(60), 1_000)), "itemknn").save(tmp_path / "run")
    return tmp_path / "run"


def test_two_tables(tables: tuple[Path, Path, Path]) -> None:
    before, same, now = tables
    assert drift(before, same)["drift"] is False
    told = drift(before, now, "--prediction", "p", "--label", "click", "--slice", "device")
    assert told["drift"] is True
    assert told["correction"] == "Holm"
    assert told["alarms"][0].startswith('device: "phone" went from')
    kinds = {(one["name"], one["kind"]) for one in told["series"]}
    assert {("p", "calibration"), ("click", "quality"), ("device", "values")} <= kinds
    assert [one["name"] for one in drift(before, now, "--column", "p")["series"]] == ["p"]
    assert drift(before, now, "--psi", "9")["drift"] is False


def test_people_see_a_table_and_a_sentence(tables: tuple[Path, Path, Path]) -> None:
    before, same, now = tables
    shown = CliRunner().invoke(app, ["drift", str(before), str(now)])
    assert shown.exit_code == 0
    assert 'device: "phone" went from' in shown.output
    assert "quiet" in shown.output
    assert "nothing moved more than chance" in CliRunner().invoke(app, ["drift", str(before), str(same)]).output


def test_a_run_is_updated_where_something_alarms(run: Path, tmp_path: Path) -> None:
    quiet, news = tmp_path / "quiet.csv", tmp_path / "news.csv"
    shop(range(60), 5_000).write_csv(quiet)
    assert drift(run, quiet, "--update")["drift"] is False
    assert bundles.versions(run) == ["000001"]
    pl.concat([shop(range(60), 6_000), shop(range(60), 7_000, "new")]).write_csv(news)
    assert "update" not in drift(run, news)
    told = drift(run, news, "--update")
    assert told["drift"] is True
    assert any("values that the reference lacks" in one for one in told["alarms"])
    assert (told["update"]["accepted"], told["update"]["version"]) == (True, "000002")
    assert drift(run, news)["reason"].endswith("holds no event that this version does not know")
    shown = CliRunner().invoke(app, ["drift", str(run), str(news)])
    assert shown.exit_code == 0


def test_the_log_of_a_server_is_read_from_where_the_version_ends(run: Path, tmp_path: Path) -> None:
    news = tmp_path / "news.csv"
    shop(range(60), 7_000, "new").write_csv(news)
    done = CliRunner().invoke(app, ["import", str(news), "--data-dir", str(run / "server")])
    assert done.exit_code == 0, done.output
    told = drift(run, "--update")
    assert told["now"] == str(run / "server")
    assert (told["drift"], told["update"]["version"], told["update"]["log_offset"]) == (True, "000002", 300)
    told = drift(run, "--data-dir", run / "server", "--update")
    assert (told["version"], told["drift"]) == ("000002", False)
    assert told["reason"].endswith("holds no event that this version does not know")
    shown = CliRunner().invoke(app, ["drift", str(run)])
    assert (shown.exit_code, "holds no event" in shown.output) == (0, True)


def test_a_run_without_a_server_says_so(run: Path) -> None:
    assert str(run / "server") in refused(run)


def test_a_predictor_keeps_no_rows_to_compare_with(tmp_path: Path) -> None:
    rows = pl.DataFrame({"click": [0, 1] * 50, "a": ["x", "y"] * 50})
    bb.fit(read_rows(rows, labels=["click"]), "logistic", epochs=1).save(tmp_path / "run")
    assert "keeps no rows to compare with" in refused(tmp_path / "run")


def test_what_makes_no_sense_is_refused(run: Path, tables: tuple[Path, Path, Path], tmp_path: Path) -> None:
    before, _, now = tables
    assert "Give a second table" in refused(before)
    assert "no run directory" in refused(before, now, "--update")
    assert "Name none" in refused(run, now, "--column", "x")
    assert "one of NOW and --data-dir" in refused(run, now, "--data-dir", tmp_path)
    assert "alpha" in refused(before, now, "--alpha", "2")
    pl.read_csv(now).drop("device").write_csv(tmp_path / "less.csv")
    assert 'now has no column "device"' in refused(before, tmp_path / "less.csv")
