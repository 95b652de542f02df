"""Hostile files, a few of each kind; and that the stages see what they look for."""

import shutil
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

import _attacks_code
import _attacks_config
import _attacks_data
import _attacks_exports
import _attacks_files
import _hostile_contents  # noqa: F401 (these enter further kinds)
import _hostile_places  # noqa: F401
import _hostile_weights  # noqa: F401
from _breaking import Effort, Found, Stages
from _cage import Cage, Outcome
from _hostile_bundles import KINDS, OF_RUN, SEALED, Bombs, Target, pickled


@pytest.fixture(scope="module")
def cage() -> Cage:
    with Cage("_bundle_jobs", seconds=20.0) as one:
        yield one


def test_spoilt_models_are_refused_and_the_old_one_serves(tmp_path: Path) -> None:
    found = _attacks_files.stages.all["model_files"].run(Effort(len(KINDS), 0, tmp_path))
    assert found.told == []
    assert found.tried == len(KINDS)
    assert found.figures["swaps"] >= 10
    assert found.figures["refused"] > found.tried / 2
    assert found.figures["another_model"] >= 1
    assert found.figures["control_pickle_seen"] == 1
    assert found.figures["cage_starts"] == 1


def test_every_way_of_spoiling_changes_something(tmp_path: Path) -> None:
    models = _attacks_files.made(tmp_path)
    (tmp_path / "outside").mkdir()
    for place, name in enumerate(KINDS):
        run = shutil.copytree(tmp_path / models[place % 3], tmp_path / "try", symlinks=True)
        before = seen(run)
        rng = np.random.default_rng(place)
        for turn in range(5):  # two files may be exchanged that are one
            marker = tmp_path / "marker"
            KINDS[name](Target(run, "000001", rng, tmp_path / "outside", marker, Small()))
            if seen(run) != before or turn == 4:
                break
        assert seen(run) != before, name
        shutil.rmtree(run)
        shutil.rmtree(tmp_path / "outside")
        (tmp_path / "outside").mkdir()
    assert set(KINDS) > SEALED | OF_RUN


class Small(Bombs):
    """Bombs that do not go off."""

    def get(self, name: str, make: object) -> bytes:
        return b"{}" + name.encode()


def seen(run: Path) -> list[tuple[str, int, bytes]]:
    """Return every path below a folder with what it is."""
    paths = sorted(run.rglob("*"))
    return [
        (str(one), one.lstat().st_mode, one.read_bytes() if one.is_file() and one.lstat().st_size < 1 << 26 else b"")
        for one in paths
        if not one.is_char_device()
    ]


def test_a_stage_notices_a_model_that_is_served_wrong(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_attacks_files, "SEALED", set())  # as if no checksum were written anew, and yet all is read
    monkeypatch.setattr(_attacks_files, "KINDS", {"a_stranger": KINDS["a_stranger"]})
    found = _attacks_files.stages.all["model_files"].run(Effort(4, 0, tmp_path))
    assert found.wrong >= 3
    assert "answers differ" in found.told[0]


def test_a_cage_sees_pickles_and_files_outside(cage: Cage, tmp_path: Path) -> None:
    path, marker = tmp_path / "a.pkl", tmp_path / "marker"
    path.write_bytes(pickled(marker))
    assert "pickle.find_class" in cage.ask("unpickled", path=str(path), inside=str(tmp_path)).deeds[0]
    assert marker.is_dir()
    inside = cage.ask("opened", path=str(path), inside=str(tmp_path))
    assert (inside.kind, inside.deeds) == ("done", [])
    outside = cage.ask("opened", path=str(path), inside=str(tmp_path / "other"))
    assert outside.deeds == [f"open {path}"]
    assert outside.faults == [f"did open {path}"]


def test_a_cage_survives_what_hangs_or_dies(tmp_path: Path) -> None:
    (tmp_path / "_bad_jobs.py").write_text(
        "import os, time\n"
        "JOBS = {'die': os.abort, 'sleep': lambda: time.sleep(60), 'grow': lambda: len(bytes(1 << 40)),\n"
        "        'fail': lambda: [][0], 'work': lambda: 7}\n"
    )
    with Cage("_bad_jobs", seconds=1.0, PYTHONPATH=str(tmp_path)) as one:
        kinds = [one.ask(job).kind for job in ("work", "die", "sleep", "fail", "grow", "work")]
        assert kinds == ["done", "died", "hung", "raised", "raised", "done"]
        assert one.starts == 3
        assert one.ask("fail").error == "IndexError"
        assert one.ask("grow").error == "MemoryError"


@pytest.mark.parametrize(
    ("stages", "name", "n", "least"),
    [
        (_attacks_data.stages, "readers", 30, {"named": 10, "done": 5, "refused": 5}),
        (_attacks_data.stages, "media", 30, {"named": 10, "paths": 10, "refused": 10, "done": 5}),
        (_attacks_exports.stages, "exports", 45, {"cells": 500, "live_in_a_control": 50}),
        (_attacks_config.stages, "config", 60, {"refused": 40, "environment": 1}),
        (_attacks_code.stages, "syntax_gate", 1, {"network": 2}),
    ],
    ids=["readers", "media", "exports", "config", "syntax_gate"],
)
def test_hostile_files_are_read_or_refused(
    tmp_path: Path, stages: Stages, name: str, n: int, least: dict[str, int]
) -> None:
    found = stages.all[name].run(Effort(n, 0, tmp_path))
    assert found.told == []
    assert found.tried >= n
    for figure, value in least.items():
        assert found.figures[figure] >= value


def test_a_parser_is_fuzzed_where_that_can_be(tmp_path: Path) -> None:
    found = _attacks_code.stages.all["fuzz"].run(Effort(2, 0, tmp_path))
    if "atheris" in found.figures:
        pytest.skip("atheris is not installed")
    assert found.told == []
    assert found.figures["filter"] == found.tried > 100


@pytest.mark.skipif(find_spec("atheris") is None, reason="atheris is not installed")
def test_a_fuzzer_notices_an_error_that_is_not_ours(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bad = tmp_path / "_bad.py"
    bad.write_text(
        "import sys\nsys.path.insert(0, sys.argv.pop(1))\nimport _fuzz\n"
        "def target(folder):\n    def take(data):\n        if b'\\x00' in data[3:]:\n            raise KeyError(data)\n"
        "    return take\n_fuzz.TARGETS['bad'] = target\n_fuzz.SEEDS['bad'] = (b'abc',)\n"
        "_fuzz.main(sys.argv[1], _fuzz.Path(sys.argv[2]), sys.argv[3:])\n"
    )
    monkeypatch.setattr(_attacks_code, "FUZZ", [bad, Path(_attacks_code.__file__).parent])
    found = Found()
    (tmp_path / "bad").mkdir()
    _attacks_code._fuzzed("bad", tmp_path / "bad", Effort(1, 0, tmp_path), 1.0, found)
    assert found.wrong >= 1
    assert found.told[0].startswith("bad: crash [")
    assert "KeyError: " in found.told[0]


def test_a_reading_stage_notices_a_traceback_and_a_refusal_without_a_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_attacks_data, "SHAPES", {"a": b"user,item\n1,2\n"})
    monkeypatch.setattr(_attacks_data, "MODELS", {"models": ["nothing"]})
    found = _attacks_data.stages.all["readers"].run(Effort(1, 0, tmp_path))
    assert found.tried == 2
    path = Path("some") / "a.csv"
    assert _attacks_data._refusal(Outcome("refused", "DataError", "a.csv: this cannot be read"), path) == []
    assert _attacks_data._refusal(Outcome("refused", "DataError", "it cannot be read"), path) == [
        "the refusal names no file: it cannot be read"
    ]
    assert Outcome("raised", "KeyError", "x").faults == ["raised: KeyError x"]
