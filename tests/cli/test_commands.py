"""Commands, run in one process with Typer's runner and, where the process matters, as a process."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from typer.testing import CliRunner, Result

import bowerbird as bb
from bowerbird.cli.main import app
from bowerbird.core import BowerbirdError


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Forty people, twenty items: even people choose even items."""
    rng = np.random.default_rng(0)
    rows = [(f"u{u}", f"i{i}", 1_700_000_000 + 60 * int(rng.integers(10_000)))
            for u in range(40) for i in rng.permutation(np.arange(u % 2, 20, 2))[:8]]  # fmt: skip
    path = tmp_path_factory.mktemp("shop") / "events.csv"
    pl.DataFrame(rows, schema=["user_id", "item_id", "time"], orient="row").write_csv(path)
    return path


@pytest.fixture(scope="module")
def run(table: Path) -> Path:
    folder = table.parent / "run"
    call("train", "--data", str(table), "--model", "itemknn", "--out", str(folder))
    return folder


def call(*words: str) -> Result:
    result = CliRunner().invoke(app, list(words), catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result


def document(*words: str) -> dict[str, object]:
    found = json.loads(call(*words, "--json").stdout)
    assert isinstance(found, dict)
    return found


def test_train_reports_split_metrics_and_version(table: Path, tmp_path: Path) -> None:
    row = document("train", "--data", str(table), "--model", "mf", "--set", "dim=8", "--set", "epochs=2",
                   "--out", str(tmp_path / "run"), "--seed", "3")  # fmt: skip
    assert row["model"] == "mf"
    assert row["version"] == "000001"
    assert row["refit"] is True
    assert row["seeds"] == [3]
    assert str(row["split"]).startswith("split=temporal")
    assert 0 <= row["metrics"]["ndcg@10"] <= 1  # type: ignore[index]
    assert [part["part"] for part in row["audit"]] == ["train", "valid", "test"]  # type: ignore[attr-defined]


def test_a_recipe_is_changed_by_options(table: Path, tmp_path: Path) -> None:
    recipe = tmp_path / "recipe.toml"
    recipe.write_text(f'[data]\npath = "{table}"\n[model]\nname = "itemknn"\nneighbours = 3\n')
    assert document("train", str(recipe))["model"] == "itemknn"
    assert document("train", str(recipe), "--model", "ease")["model"] == "ease"


@pytest.mark.parametrize(
    ("words", "rung"),
    [(("--user", "u0"), "model"), (("--history", "i0", "--history", "i2"), "model"), ((), "popularity")],
)
def test_recommend_serves_everyone_and_names_the_rung(run: Path, words: tuple[str, ...], rung: str) -> None:
    body = document("recommend", str(run), *words, "-k", "3")
    assert body["rung"] == rung
    assert len(body["items"]) == 3  # type: ignore[arg-type]


def test_recommend_reads_what_is_known_of_a_stranger(table: Path, tmp_path: Path) -> None:
    people = pl.DataFrame(
        {"user_id": [f"u{row}" for row in range(40)], "age": [20, 60] * 20, "kind": ["a=b", "c"] * 20}
    )
    events, folder = bb.read(table).with_tables(users=people), str(tmp_path / "run")
    bb.fit(events, "twotower", dim=8, epochs=3).save(folder)
    body = document("recommend", folder, "--feature", "age=21", "--feature", "kind=a=b", "-k", "3")
    assert body["rung"] == "model"
    shown = " ".join(call("recommend", folder, "--feature", "age=21").stdout.split())
    assert shown.startswith("For somebody like this, answered by twotower")
    with pytest.raises(BowerbirdError, match='people have no attribute "ages"'):
        call("recommend", folder, "--feature", "ages=21")


def test_recommend_for_people_shows_the_reason(run: Path) -> None:
    assert "because you chose" in " ".join(call("recommend", str(run), "--user", "u0", "--explain").stdout.split())


def test_recommend_all_writes_every_list(run: Path, tmp_path: Path) -> None:
    out = tmp_path / "recs.parquet"
    row = document("recommend", str(run), "--all", "-k", "5", "--out", str(out))
    frame = pl.read_parquet(out)
    assert row["rows"] == frame.height
    assert frame["user_id"].n_unique() == 40
    assert frame.columns == ["user_id", "rank", "item_id", "score", "rung"]


def test_similar_and_evaluate_and_models_speak_json(run: Path, table: Path) -> None:
    assert document("similar", str(run), "i0", "-k", "2")["rung"] == "model"
    assert "ndcg@10" in document("evaluate", str(run))["metrics"]  # type: ignore[operator]
    listed = json.loads(call("models", "--json").stdout)
    assert {"ease", "itemknn", "lightgcn", "mf", "popularity"} <= {one["name"] for one in listed}
    assert json.loads(call("data", "list", "--json").stdout)[0]["name"] == "ml-100k"


def test_evaluate_measures_later_events(run: Path, tmp_path: Path) -> None:
    later = tmp_path / "later.csv"
    # everyone goes on to an item of their half that they may not have seen; half of the people are new
    rows = [(f"u{u}", f"i{i}") for u in range(60) for i in range(u % 2, 20, 2)]
    pl.DataFrame(rows, schema=["user_id", "item_id"], orient="row").write_csv(later)
    report = document("evaluate", str(run), "--data", str(later), "-k", "5")
    assert report["users"] == 60
    assert "split=later" in str(report["protocol"])


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("train", "--model", "mf"), "there is no data"),
        (("train", "--data", "none.csv", "--model", "mf"), "no such file"),
        (("train", "--data", "ml-100k", "--model", "mff"), 'Did you mean "mf"'),
        (("train", "--data", "ml-100k"), "must name a model"),
        (("train", "--data", "ml-100k", "--model", "mf", "--set", "dim"), "Write --set key=value"),
        (("recommend", "nowhere"), "not a run directory"),
        (("recommend", "RUN", "--all"), "--out recs.parquet"),
        (("recommend", "RUN", "--user", "u0", "--history", "i0"), "one of them"),
        (("recommend", "RUN", "--history", "i0", "--feature", "age=30"), "--history and --feature are both given"),
        (("recommend", "RUN", "--feature", "age"), "--feature is 'age'; it must be NAME=VALUE. Try --feature age=30"),
        (("recommend", "RUN", "--feature", "age=30"), "itemknn knows nobody by features"),
        (("similar", "RUN", "i00"), 'Did you mean "i0"'),
        (("serve", "RUN", "--host", "0.0.0.0"), "bowerbird key create"),
        (("data", "get", "ml-100"), 'Did you mean "ml-100k"'),
    ],
)
def test_a_mistake_is_answered_with_a_mend(run: Path, words: tuple[str, ...], says: str) -> None:
    with pytest.raises(BowerbirdError, match=says):
        CliRunner().invoke(app, [str(run) if word == "RUN" else word for word in words], catch_exceptions=False)


def test_a_mistake_exits_with_2_and_no_traceback() -> None:
    ran = subprocess.run(
        [sys.executable, "-m", "bowerbird", "recommend", "nowhere"], capture_output=True, text=True, check=False
    )
    assert ran.returncode == 2
    assert ran.stderr.startswith("BundleError: nowhere: this is not a run directory.")
    assert "Traceback" not in ran.stderr


def test_help_takes_half_a_second_at_most() -> None:
    def seconds() -> float:
        """Of the processor, since other processes may be waiting for it too."""
        child = subprocess.Popen([sys.executable, "-m", "bowerbird", "--help"], stdout=subprocess.DEVNULL)
        _, status, used = os.wait4(child.pid, 0)
        child.returncode = os.waitstatus_to_exitcode(status)
        assert child.returncode == 0
        return used.ru_utime + used.ru_stime

    assert min(seconds() for _ in range(5)) < 0.5
