"""Parts of a split: fewer users with all that they did, so that a try costs less; larger parts hold smaller ones.

Those whom validation asks about come first, up to a number; else a small part of a large table could judge nobody.
"""

from dataclasses import replace

import numpy as np

from bowerbird.core import numpy_stream
from bowerbird.data import Holdout, RowSplit, Split

ASKED = 1_000  # users of the validation part that come before others


def thinned(split: Split | RowSplit, share: float, *, seed: int = 0) -> Split | RowSplit:
    """Return a part of a split with about this share of its train events, or rows; validation of rows stays whole.

    The test part stays as it is: nobody asks for it here.
    """
    if share >= 1:
        return split
    if isinstance(split, RowSplit):
        n = len(split.train)
        rows = np.sort(numpy_stream(seed, "sample").permutation(n)[: max(round(share * n), 1)])
        return replace(split, train=split.train.take(rows), protocol=f"{split.protocol} train={share:g}")
    valid = _part(split, _users(split, share, seed))
    return replace(
        split, train=valid.known, valid=replace(valid, protocol=f"{valid.protocol} train={share:g}"),
        protocol=f"{split.protocol} train={share:g}",
    )  # fmt: skip


def _users(split: Split, share: float, seed: int) -> np.ndarray:
    """Return which users stay, bool (U,): in an order of chance, until the share is reached."""
    valid, n = split.valid, split.valid.history.n_users
    asked = np.zeros(n, bool)
    asked[valid.targets.user] = True
    order = numpy_stream(seed, "sample").permutation(n)
    first = order[asked[order]][:ASKED]
    mark = np.zeros(n, bool)
    mark[first] = True
    order = np.concatenate([first, order[~mark[order]]])
    events = np.bincount(split.train.user, minlength=n)[order]
    reached = np.cumsum(events) - events < share * len(split.train)
    keep = np.zeros(n, bool)
    keep[order[reached]] = True
    return keep


def _renumbered(split: Split, keep: np.ndarray) -> tuple[np.ndarray, np.ndarray, list[int], list[int]]:
    """Return orders of users and items, those of the part's train first, then its others; and how many are which."""
    history, targets, n_known = split.valid.history, split.valid.targets, split.train.n_users
    events, later = keep[history.user], keep[targets.user]
    known = events & (history.user < n_known)  # what strangers posted belongs to the history alone
    orders, sizes = [], []
    for name, n in (("user", history.n_users), ("item", history.n_items)):
        rows, after = getattr(history, name), getattr(targets, name)
        rank = np.full(n, 2, np.int8)
        rank[rows[events]], rank[after[later]] = 1, 1
        rank[rows[known]] = 0
        orders.append(np.argsort(rank, kind="stable"))
        sizes.append([int((rank == 0).sum()), int((rank <= 1).sum())])
    return orders[0], orders[1], sizes[0], sizes[1]


def _part(split: Split, keep: np.ndarray) -> Holdout:
    """Return the validation part of these users alone, whose `known` is the train part."""
    users, items, (u0, u1), (i0, i1) = _renumbered(split, keep)
    valid = split.valid
    history = valid.history.rows(keep[valid.history.user])
    known = history.rows(history.user < split.train.n_users).reorder_ids(users, items).head_ids(u0, i0)
    targets = valid.targets.rows(keep[valid.targets.user]).reorder_ids(users, items).head_ids(u1, i1)
    return replace(valid, known=known, history=history.reorder_ids(users, items).head_ids(u1, i1), targets=targets)
