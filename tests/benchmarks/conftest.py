"""What tests of benchmarks share: a tiny published split, a results folder of their own, the last line they print."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import _shared


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Forty users of forty items: even users like even items; the last four of fourteen are test."""
    rng = np.random.default_rng(0)
    liked = {user: rng.permutation(np.arange(user % 2, 40, 2))[:14].tolist() for user in range(40)}
    for name, part in (("train.txt", slice(0, 10)), ("test.txt", slice(10, 14))):
        lines = [" ".join(map(str, [user, *items[part]])) for user, items in liked.items()]
        (tmp_path / name).write_text("\n".join(lines))
    return tmp_path


@pytest.fixture(autouse=True)
def results(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Rows, tries and looks of a test stay with the test."""
    kept = tmp_path / "results"
    kept.mkdir()
    monkeypatch.setattr(_shared, "RESULTS", kept)
    return kept


@pytest.fixture
def last_row(capsys: pytest.CaptureFixture[str]) -> Callable[[], dict[str, Any]]:
    """Return what reads the JSON object that a benchmark printed last."""

    def read() -> dict[str, Any]:
        found = json.loads(capsys.readouterr().out.splitlines()[-1])
        assert isinstance(found, dict)
        return found

    return read
