"""A data set whose answer is known: even users like even items, odd users odd ones, some items more than others.

Ids are texts, "u3" and "i12"; a user or an item is even when the number in its id is. Popularity cannot know the
halves, so a model that has learnt anything from the past beats it. The item table tells the half of each item, by its
title and its kind; the user table tells a little, since four of five people are in the group of their half. As rows,
they are a feature table, in which a number tells a little by itself and a bag nothing.
"""

from collections.abc import Sequence
from functools import cache

import numpy as np
import polars as pl

from bowerbird.data import Interactions, Rows, RowSplit, Split, split, split_rows
from bowerbird.features import Bag, Categorical, Context, Cross, History, Numeric

USERS, ITEMS, LIKED = 60, 40, 12  # each user likes 12 of the 20 items of their half
ROWS, ROW_USERS, ROW_ITEMS, PAST = 2_400, 20, 12, 3  # of the feature table; each row names 3 items of the past
COLUMNS = (
    Categorical(name="user"),
    Categorical(name="item"),
    Numeric(name="price"),
    Bag(name="tags"),
    History(name="past", of="item"),
    Cross(columns=("user", "item"), buckets=1_000),
)


@cache
def halves() -> Split:
    """Return the split, 66 % to train on; cached, since nothing may change it."""
    rng = np.random.default_rng(7)
    appeal = np.linspace(1.0, 4.0, ITEMS // 2)  # popularity differs within a half
    pairs = [
        (user, item)
        for user in range(USERS)
        for item in user % 2 + 2 * rng.choice(ITEMS // 2, LIKED, replace=False, p=appeal / appeal.sum())
    ]
    user, item = np.array(pairs)[rng.permutation(len(pairs))].T
    events = Interactions.of(
        pl.Series([f"u{row}" for row in user]),
        pl.Series([f"i{row}" for row in item]),
        time=1_600_000_000 + 60 * np.arange(len(user)),
    )
    users = pl.DataFrame(
        {
            "user_id": [f"u{row}" for row in range(USERS)],
            "age": 20 + rng.integers(0, 30, USERS) + 5 * (np.arange(USERS) % 2),
            "group": [("even", "odd")[(row + (row % 10 > 7)) % 2] for row in range(USERS)],
        }
    )
    events = events.with_tables(users=users, items=things(range(ITEMS)))
    return split(events, "per-user", valid=0.17, test=0.17)


def things(rows: Sequence[int]) -> pl.DataFrame:
    """Return the item table of these items, there or not: the titles and kinds tell their half."""
    half = [("even", "odd")[row % 2] for row in rows]
    return pl.DataFrame(
        {
            "item_id": [f"i{row}" for row in rows],
            "title": [f"{one.title()} thing {row}" for one, row in zip(half, rows, strict=True)],
            "kind": half,
        }
    )


@cache
def halves_as_rows() -> RowSplit:
    """Return rows of a user and an item, labelled 1 mostly where both are even or both odd, more so at a high price."""
    rng = np.random.default_rng(7)
    user, item = rng.integers(0, ROW_USERS, ROWS), rng.integers(0, ROW_ITEMS, ROWS)
    price = rng.standard_normal(ROWS)
    odds = np.exp(np.where(user % 2 == item % 2, 2.5, -2.5) + 0.5 * price)
    label = rng.random(ROWS) < odds / (1 + odds)
    past = user[:, None] % 2 + 2 * rng.integers(0, ROW_ITEMS // 2, (ROWS, PAST))
    tags = np.array(["new", "red", "small"])[rng.integers(0, 3, (ROWS, 2))]
    table = pl.DataFrame(
        {
            "user": [f"u{row}" for row in user],
            "item": [f"i{row}" for row in item],
            "price": price,
            "tags": tags.tolist(),
            "past": [[f"i{row}" for row in rows] for rows in past.tolist()],
        }
    )
    return split_rows(Rows(table, label[:, None].astype(np.float32), ("label",)), valid=0.2, test=0.2)


def known_users() -> Context:
    """Return a request of every user, with their past."""
    past = halves().train
    return Context.of_users(np.arange(past.n_users, dtype=np.int32), past)


def strangers() -> Context:
    """Return requests of three people with a history and no row of their own."""
    return Context.of_histories([[0, 2, 4], [1], [3, 5, 7, 9]])
