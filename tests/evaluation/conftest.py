"""Small holdouts written as pairs of row numbers, and a scorer whose scores are a table."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from torch import Tensor

from bowerbird.core.ids import Ids
from bowerbird.data import EventType, Holdout, Interactions
from bowerbird.features import Context

Rows = Sequence[tuple[int, ...]]  # (user, item) or (user, item, event)
PLAIN = (EventType("interaction"),)


def table(rows: Rows, n_users: int, n_items: int, kinds: tuple[EventType, ...]) -> Interactions:
    user, item, event = (np.array(column) for column in zip(*((*row, 0)[:3] for row in rows), strict=True))
    return Interactions(
        user=user.astype(np.int32), item=item.astype(np.int32), weight=np.ones(len(rows), np.float32),
        event=event.astype(np.uint8), time=None, events=kinds,
        user_ids=Ids.of([f"u{row}" for row in range(n_users)]), item_ids=Ids.of([f"i{row}" for row in range(n_items)]),
    )  # fmt: skip


def holdout(
    past: Rows,
    later: Rows,
    *,
    n_users: int | None = None,
    n_items: int | None = None,
    posted: Rows = (),
    kinds: tuple[EventType, ...] = PLAIN,
) -> Holdout:
    """Return a cut in which the first `n_users` and `n_items` rows (by default those of `past`) are known."""
    n_users = n_users or max(row[0] for row in past) + 1
    n_items = n_items or max(row[1] for row in past) + 1
    everything = [*past, *posted, *later]
    all_users = max(n_users, max(row[0] for row in everything) + 1)
    all_items = max(n_items, max(row[1] for row in everything) + 1)
    return Holdout(
        "test",
        known=table(past, n_users, n_items, kinds),
        history=table([*past, *posted], all_users, all_items, kinds),
        targets=table(later, all_users, all_items, kinds),
        protocol="split=by-hand",
    )


@dataclass
class Fixed:
    """Scores from a table: row u for user u of `user_ids`, the last row for everyone else."""

    table: Tensor  # (U + 1, I)
    user_ids: Ids
    item_ids: Ids
    device: str = "cpu"

    def scores(self, context: Context) -> Tensor:
        return self.table[context.user].clone()


def fixed(scores: Tensor | Sequence[Sequence[float]], cut: Holdout, *, items: Ids | None = None) -> Fixed:
    """Return a scorer for all users and items of a cut, or for the listed items; strangers have their own rows."""
    numbers = torch.as_tensor(scores, dtype=torch.float32)
    items = cut.targets.item_ids if items is None else items
    everyone = cut.targets.user_ids
    assert numbers.shape == (len(everyone), len(items))
    return Fixed(torch.cat([numbers, torch.zeros(1, len(items))]), everyone, items)


@pytest.fixture(scope="session")
def holdout_of() -> Callable[..., Holdout]:
    return holdout


@pytest.fixture(scope="session")
def fixed_scorer() -> Callable[..., Fixed]:
    return fixed
