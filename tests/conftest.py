"""Tables small enough to check by hand, for every room."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")  # tests run side by side, and two thread pools on one core crawl

import numpy as np
import polars as pl
import pytest
from hypothesis import settings

from bowerbird.data import Interactions, load
from bowerbird.data.named import ROOT_VARIABLE
from bowerbird.store.opening import place, url_of
from cluster import Cluster

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
    """Name a folder with published data sets, as `bowerbird --data-root` does, and what keeps events."""
    parser.addoption("--data-root", default=os.environ.get(ROOT_VARIABLE), help="a folder that holds data sets by name")
    parser.addoption("--store", choices=("file", "postgres"), default="file", help="where data directories keep events")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out, where a PostgreSQL keeps events, what is about the file."""
    if config.getoption("--store") == "postgres":
        about_files = [one for one in items if one.get_closest_marker("file") is not None]
        config.hook.pytest_deselected(items=about_files)
        items[:] = [one for one in items if one.get_closest_marker("file") is None]


@pytest.fixture(scope="session")
def cluster() -> Iterator[Cluster]:
    """A PostgreSQL that lasts as long as the tests."""
    cluster = Cluster()
    yield cluster
    cluster.close()


@pytest.fixture(scope="session")
def in_store(request: pytest.FixtureRequest) -> Callable[[Path], Path]:
    """How a folder becomes a data directory whose database is of the form that `--store` asks for."""
    if request.config.getoption("--store") == "file":
        return lambda folder: folder
    cluster = request.getfixturevalue("cluster")

    def placed(folder: Path) -> Path:
        if url_of(folder) is None:
            place(folder, cluster.new())
        return folder

    return placed


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
