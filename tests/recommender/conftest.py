"""A small shop: even customers like even articles, odd customers odd ones; articles have titles and prices."""

import numpy as np
import polars as pl
import pytest

import bowerbird as bb
from bowerbird.data import Interactions

USERS, ITEMS = 30, 20


@pytest.fixture(scope="session")
def table() -> pl.DataFrame:
    rng = np.random.default_rng(11)
    appeal = np.linspace(1.0, 3.0, ITEMS // 2)
    pairs = [
        (user, item)
        for user in range(USERS)
        for item in user % 2 + 2 * rng.choice(ITEMS // 2, 5 + user % 2, replace=False, p=appeal / appeal.sum())
    ]
    user, item = np.array(pairs)[rng.permutation(len(pairs))].T
    return pl.DataFrame({"user": user, "item": item, "time": 1_600_000_000 + 60 * np.arange(len(user))})


@pytest.fixture(scope="session")
def articles() -> pl.DataFrame:
    return pl.DataFrame(
        {
            "item": range(ITEMS),
            "title": [f"Article {row}" for row in range(ITEMS)],
            "price": [None, *(float(row) for row in range(1, ITEMS))],
        }
    )


@pytest.fixture(scope="session")
def shop(table: pl.DataFrame, articles: pl.DataFrame) -> Interactions:
    """The shop with ids that are texts: customer-07, article-12."""
    customer = pl.format("customer-{}", pl.col("user").cast(pl.String).str.zfill(2)).alias("user")
    article = pl.format("article-{}", pl.col("item").cast(pl.String).str.zfill(2)).alias("item")
    return bb.read(table.with_columns(customer, article), items=articles.with_columns(article))


@pytest.fixture(scope="session")
def numbered(table: pl.DataFrame) -> Interactions:
    """The shop with ids that are integers, without titles."""
    return bb.read(table)


@pytest.fixture(scope="session")
def rec(shop: Interactions) -> bb.Recommender:
    return bb.fit(shop, "ease", l2=5.0)


@pytest.fixture(scope="session")
def quick() -> dict[str, object]:
    """Settings with which a trained model is trained in no time."""
    return {"dim": 8, "epochs": 6, "batch_size": 128, "negatives": 8, "learning_rate": 0.02}
