"""Wherever a name is mistyped on the command line, the closest one is offered."""

import json
import subprocess
import sys
from pathlib import Path

import polars as pl
import pytest
from typer.testing import CliRunner

from bowerbird.cli.main import app
from bowerbird.core import BowerbirdError, RunOptions


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with events.csv, a recipe of each mistake, and a run."""
    folder = tmp_path_factory.mktemp("hints")
    rows = [(f"u{u}", f"i{i}", 1_700_000_000 + 60 * (i + u)) for u in range(20) for i in range(u % 2, 12, 2)]
    pl.DataFrame(rows, schema=["user_id", "item_id", "when"], orient="row").write_csv(folder / "events.csv")
    start = f'[data]\npath = "{folder / "events.csv"}"\n'
    (folder / "key.toml").write_text(f'{start}[model]\nname = "mf"\ndimm = 3\n')
    (folder / "model.toml").write_text(f'{start}[model]\nname = "lightgnc"\n')
    (folder / "section.toml").write_text(f"{start}[modle]\n")
    (folder / "split.toml").write_text(f'{start}[model]\nname = "mf"\n[split]\nmethod = "leave_one_out"\n')
    train = ["train", "--data", str(folder / "events.csv"), "--time", "when", "--model", "itemknn"]
    made = CliRunner().invoke(app, [*train, "--out", str(folder / "run")], catch_exceptions=False)
    assert made.exit_code == 0
    return folder


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ("train --data events.csv --model itemk", 'Did you mean "itemknn"?'),
        ("train --data events.csv --model EASE", 'Did you mean "ease"?'),
        ("train --data events.csv --model mf --set dimm=3", 'Did you mean "dim"?'),
        ("train --data events.csv --model mf --set loss=softmaxx", 'Did you mean "softmax"?'),
        ("train --data events.csv --model mf --set select=ncdg@10", 'Did you mean "ndcg"?'),
        ("train --data events.csv --model mf --split temporel", 'Did you mean "temporal"?'),
        ("train --data events.csv --model mf --time wen", 'Did you mean "when"?'),
        ("train --data events.csv --model mf --format cvs", 'Did you mean "csv"?'),
        ("train --data event.csv --model mf", 'Did you mean "events.csv"?'),
        ("train --data ml100k --model mf", 'Did you mean "ml-100k"?'),
        ("train --data events.csv --model mf --device gpu", "Try device = cuda."),
        ("train --data events.csv --model mf --device CPU", "Try device = cpu."),
        ("train key.toml", 'Did you mean "dim"?'),
        ("train model.toml", 'Did you mean "lightgcn"?'),
        ("train section.toml", 'Did you mean "model"?'),
        ("train split.toml", 'Did you mean "leave-one-out"?'),
        ("similar run I3", 'Did you mean "i3"?'),
        ("data get ML-100K", 'Did you mean "ml-100k"?'),
    ],
)
def test_a_mistyped_name_is_answered_with_the_closest(
    folder: Path, monkeypatch: pytest.MonkeyPatch, words: str, says: str
) -> None:
    monkeypatch.chdir(folder)
    with pytest.raises(BowerbirdError) as caught:
        CliRunner().invoke(app, words.split(), catch_exceptions=False)
    assert says in str(caught.value)


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ("trian", "'train'"),
        ("data gte", "'get'"),
        ("train --modle mf", "--model"),
        ("recommend run --usr u1", "--user"),
        ("models --jsn", "--json"),
    ],
)
def test_a_mistyped_command_or_option_is_answered_with_the_closest(words: str, says: str) -> None:
    ran = CliRunner().invoke(app, words.split())
    assert ran.exit_code == 2
    assert says in ran.stderr


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--user", "U7"], ['user "U7" is not known here; did you mean "u7"?']),
        (["--user", " u7 "], ['user " u7 " is not known here; did you mean "u7"?']),
        (["--user", "somebody else"], ['user "somebody else" is not known here']),
        (["--user", "u7"], []),
        (["--history", "i0", "--history", "I4"], ['item "I4" is not known here; did you mean "i4"?']),
        ([], []),
    ],
)
def test_an_unknown_id_is_answered_all_the_same_and_hinted_at(folder: Path, words: list[str], said: list[str]) -> None:
    ran = CliRunner().invoke(app, ["recommend", str(folder / "run"), *words, "-k", "2", "--json"])
    assert ran.exit_code == 0
    assert len(json.loads(ran.stdout)["items"]) == 2
    assert ran.stderr.splitlines() == said


def test_a_history_counts_what_was_left_out_after_the_hints(folder: Path) -> None:
    ran = CliRunner().invoke(app, ["recommend", str(folder / "run"), "--history", "i0", "--history", "I4"])
    assert ran.stderr.splitlines() == [
        'item "I4" is not known here; did you mean "i4"?',
        "1 of the history's ids are not known here and were left out.",
    ]


def test_a_device_that_is_close_to_none_is_answered_with_auto() -> None:
    with pytest.raises(BowerbirdError, match=r"Try device = auto\."):
        RunOptions(device="quantum")


def test_a_warning_is_one_line_on_standard_error() -> None:
    code = (
        "import sys, warnings; from bowerbird.cli import main\n"
        "sys.modules['bowerbird.cli.main'].app = lambda **_: warnings.warn('mind [this]', stacklevel=1)\n"
        "main()"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stderr == "warning: mind [this]\n"
