"""Backups: whole or refused, and a way back that a cut leaves without a version."""

import json
from pathlib import Path

import polars as pl
import pytest

from bowerbird.core import BundleError
from bowerbird.store import bundles, histories
from bowerbird.store.backups import SUMS, copy_version, restore, seal
from failing_world import FailsAt


@pytest.fixture
def backup(tmp_path: Path) -> Path:
    """A backup of one version and of a file that stands for the database."""
    run, folder = tmp_path / "source", tmp_path / "backup"
    (run / "bundles" / "000001").mkdir(parents=True)
    for name in ("manifest.json", "model.safetensors"):
        (run / "bundles" / "000001" / name).write_text(name)
    histories.keep(run, "000001", pl.DataFrame({"user": [0], "item": [1]}))
    copy_version(run, folder / "run", "000001")
    (folder / "bowerbird.db").write_bytes(b"database")
    seal(folder)
    return folder


def test_what_was_copied_comes_back(backup: Path, tmp_path: Path) -> None:
    assert restore(backup, tmp_path / "run", tmp_path / "data") == "000001"
    assert (tmp_path / "data" / "bowerbird.db").read_bytes() == b"database"
    assert (tmp_path / "run" / "bundles" / "000001" / "manifest.json").read_text() == "manifest.json"
    assert histories.recall(tmp_path / "run", "000001").row(0) == (0, 1)
    assert bundles.current(tmp_path / "run") == "000001"


def test_directories_that_hold_something_are_left_alone(backup: Path, tmp_path: Path) -> None:
    for name in ("run", "data"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "mine").write_text("mine")
        with pytest.raises(BundleError, match="holds something"):
            restore(backup, tmp_path / "run", tmp_path / "data")
        (tmp_path / name / "mine").unlink()


@pytest.mark.parametrize(
    "text",
    [
        "[" * 100_000,
        '[[1, 2], ["bowerbird.db", "00"], ["run/current", "00"]]',
        "",
        "{",
        "[]",
        "[1, 2]",
        "null",
        "{}",
        '{"bowerbird.db": "00"}',
    ],
)
def test_sums_that_are_none_make_no_backup(backup: Path, tmp_path: Path, text: str) -> None:
    (backup / SUMS).write_text(text)
    with pytest.raises(BundleError, match="no whole backup"):
        restore(backup, tmp_path / "run", tmp_path / "data")


@pytest.mark.parametrize("name", ["../outside", "/etc/passwd", "run/../../outside", "a\0b", "missing", "run"])
def test_names_that_lead_elsewhere_or_nowhere_are_refused(backup: Path, tmp_path: Path, name: str) -> None:
    sums = json.loads((backup / SUMS).read_text())
    (backup / SUMS).write_text(json.dumps(sums | {name: "00"}))
    with pytest.raises(BundleError):
        restore(backup, tmp_path / "run", tmp_path / "data")
    assert not (tmp_path / "run").exists()


def test_a_file_that_is_gone_is_named(backup: Path, tmp_path: Path) -> None:
    (backup / "run" / "bundles" / "000001" / "manifest.json").unlink()
    with pytest.raises(BundleError, match=r"manifest\.json is missing or was changed"):
        restore(backup, tmp_path / "run", tmp_path / "data")


def test_a_restore_that_is_cut_off_leaves_no_version(backup: Path, tmp_path: Path) -> None:
    for step in range(len(json.loads((backup / SUMS).read_text()))):
        run = tmp_path / f"run{step}"
        with pytest.raises(OSError, match="cut off"):
            restore(backup, run, tmp_path / f"data{step}", world=FailsAt(step))
        with pytest.raises(BundleError, match="not a run directory"):
            bundles.current(run)
