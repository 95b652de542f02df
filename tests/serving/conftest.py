"""Models that are trained once, and engines that are closed again."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient
from shop import BASE, Clock, Start, client_of, taste

import bowerbird as bb
from bowerbird.recommender import Recommender
from bowerbird.serving import Engine, create_app


@pytest.fixture(scope="session")
def neighbours() -> Recommender:
    """A closed form, which knows no user vectors."""
    return bb.fit(taste(), "itemknn", shrink=0.0)


@pytest.fixture(scope="session")
def factors() -> Recommender:
    """Vectors of users and items, whose dot product is the score."""
    return bb.fit(taste(), "mf", dim=8, epochs=12)


@pytest.fixture(scope="session")
def sequence() -> Recommender:
    """A model that reads histories."""
    return bb.fit(taste(), "sasrec", dim=8, epochs=12)


@pytest.fixture
def clock() -> Clock:
    """A clock that stands still."""
    return Clock()


@pytest.fixture
def start(tmp_path: Path, clock: Clock, in_store: Callable[[Path], Path]) -> Iterator[Start]:
    """How to start an engine over `run` and `data` of this test's folder; they are closed at its end.

    Without `keep`, what the keeper does twice a second is left to the test.
    """
    engines: list[Engine] = []

    def begin(recommender: Recommender | None = None, *, keep: bool = False, **options: Any) -> Engine:
        given = {"recommender": recommender, "world": clock, "keep": keep} | options
        run, data = given.pop("run", tmp_path / "run"), given.pop("data", tmp_path / "data")
        engine = Engine(run, in_store(data), **given)
        engines.append(engine)
        return engine

    yield begin
    for engine in engines:
        engine.close()


@pytest.fixture(scope="session")
def reader(neighbours: Recommender) -> Iterator[TestClient]:
    """A client for tests that change nothing: an application takes long to answer for the first time."""
    with TestClient(create_app(neighbours, world=Clock()), base_url=BASE, raise_server_exceptions=False) as client:
        yield client


@pytest.fixture
def engine(start: Start, neighbours: Recommender) -> Engine:
    """An engine over the closed form."""
    return start(neighbours)


@pytest.fixture
def client(engine: Engine) -> Iterator[TestClient]:
    """A client of that engine."""
    with client_of(engine) as client:
        yield client
