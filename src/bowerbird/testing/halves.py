"""A data set whose answer is known: even users like even items, odd users odd ones, some items more than others.

Ids are texts, "u3" and "i12"; a user or an item is even when the number in its id is. Popularity cannot know the
halves, so a model that has learnt anything from the past beats it.
"""

from functools import cache

import numpy as np
import polars as pl

from bowerbird.data import Interactions, Split, split
from bowerbird.features import Context

USERS, ITEMS, LIKED = 60, 40, 12  # each user likes 12 of the 20 items of their half


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
    return split(events, "per-user", valid=0.17, test=0.17)


def known_users() -> Context:
    """Return a request of every user, with their past."""
    past = halves().train
    return Context.of_users(np.arange(past.n_users, dtype=np.int32), past)


def strangers() -> Context:
    """Return requests of three people with a history and no row of their own."""
    return Context.of_histories([[0, 2, 4], [1], [3, 5, 7, 9]])
