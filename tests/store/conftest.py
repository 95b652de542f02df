"""Data directories of the form that is asked for."""

from collections.abc import Callable
from pathlib import Path

import pytest


@pytest.fixture
def tmp_path(tmp_path: Path, in_store: Callable[[Path], Path]) -> Path:
    """A data directory whose database is a file, or with `--store postgres` in a PostgreSQL."""
    return in_store(tmp_path)
