"""Tables small enough to check by hand, for every room."""

import os
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")  # tests run side by side, and two thread pools on one core crawl

import numpy as np
import polars as pl
import pytest
from hypothesis import settings

from bowerbird.data import Interactions, load
from bowerbird.data.named import ROOT_VARIABLE

settings.register_profile("bowerbird", deadline=None, max_examples=50)
settings.load_profile("bowerbird")


@pytest.fixture
def two_by_two() -> Interactions:
    """User 0 chose item 0; user 1 chose items 0 and 1."""
    return Interactions.of(pl.Series(["ann", "bob", "bob"]), pl.Series(["x", "x", "y"]), time=np.array([1, 2, 3]))


@pytest.fixture
def even_odd() -> Interactions:
    """40 users and 12 items: even users like even items, odd users odd ones; each chose 5 of the 6, in turn."""
    user, turn = (column.ravel() for column in np.meshgrid(np.arange(40), np.arange(5), indexing="ij"))
    item = 2 * ((user // 2 + turn) % 6) + user % 2
    return Interactions.of(pl.Series(user), pl.Series(item), time=1_000 * turn + user)


def pytest_addoption(parser: pytest.Parser) -> None:
    """Name a folder with published data sets, as `bowerbird --data-root` does."""
    parser.addoption("--data-root", default=os.environ.get(ROOT_VARIABLE), help="a folder that holds data sets by name")


@pytest.fixture(scope="session")
def data_root(request: pytest.FixtureRequest) -> Path:
    """The folder with published data sets; tests that need it are left out, and say so, where none was named."""
    root = request.config.getoption("--data-root")
    if root is None:
        pytest.skip(f"published data sets are not here: give --data-root FOLDER or set {ROOT_VARIABLE}")
    return Path(root)


@pytest.fixture(scope="session")
def films() -> Interactions:
    """MovieLens 100K, which `make test` has put into the cache."""
    return load("ml-100k")
