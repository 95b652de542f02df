"""A shop of a few columns, quiet unless a test says what changes."""

from collections.abc import Callable

import numpy as np
import polars as pl
import pytest

Rows = Callable[..., pl.DataFrame]


@pytest.fixture
def rows() -> Rows:
    def make(n: int, seed: int, **changed: object) -> pl.DataFrame:
        rng = np.random.default_rng(seed)
        chance = rng.beta(2, 8, n)
        columns = {
            "device": rng.choice(["desk", "phone", "tablet"], n, p=(0.5, 0.4, 0.1)),
            "price": rng.lognormal(0, 1, n),
            "stars": rng.integers(1, 6, n),
            "scenario": rng.choice(["home", "search"], n),
            "chance": chance,
            "click": (rng.random(n) < chance).astype(int),
        }
        return pl.DataFrame(columns | changed)

    return make
