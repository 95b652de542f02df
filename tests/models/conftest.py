"""Small tables by rows of users and items, and models set up by hand."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
import torch

from bowerbird.core import ModelConfig, entry_of, numpy_stream
from bowerbird.core.ids import Ids
from bowerbird.data import EventType, Interactions

Table = Callable[..., Interactions]


@pytest.fixture(autouse=True)
def _seeded() -> None:
    """Let every model start from the same random numbers, whatever ran before."""
    torch.manual_seed(0)


@pytest.fixture(scope="session")
def table() -> Table:
    """Return a maker of interactions from (user, item) rows, in that order."""

    def make(
        pairs: Sequence[tuple[int, int]],
        n_users: int,
        n_items: int,
        *,
        weight: Sequence[float] | None = None,
        event: Sequence[int] | None = None,
        events: tuple[EventType, ...] = (EventType("interaction"),),
    ) -> Interactions:
        user, item = np.array(pairs, np.int32).reshape(-1, 2).T
        return Interactions(
            user=user,
            item=item,
            weight=np.ones(len(user), np.float32) if weight is None else np.array(weight, np.float32),
            event=np.zeros(len(user), np.uint8) if event is None else np.array(event, np.uint8),
            time=None,
            user_ids=Ids.of(range(n_users)),
            item_ids=Ids.of(range(n_items)),
            events=events,
        )

    return make


@pytest.fixture(scope="session")
def closed() -> Callable[[ModelConfig, Interactions], Any]:
    """Return a fitter of closed-form models."""

    def fit(config: ModelConfig, train: Interactions) -> Any:
        model = entry_of(config).model(config, train.schema)
        model.fit(train, numpy_stream(0, "fit"))
        return model

    return fit
