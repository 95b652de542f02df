"""Small tables by rows of users and items, and models set up by hand."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
import torch

from bowerbird.core import ModelConfig, entry_of, numpy_stream
from bowerbird.core.ids import Ids
from bowerbird.data import EventType, Interactions
from bowerbird.features import FeatureBatch, FeatureSchema, Field
from bowerbird.features.fields import Crossing

Table = Callable[..., Interactions]
Categories = Callable[..., FeatureSchema]
Filled = Callable[..., FeatureBatch]


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


@pytest.fixture(scope="session")
def categories() -> Categories:
    """Return a maker of schemas of categories a, b, c, … with these numbers of rows, the first at row 1."""

    def make(*rows: int, crosses: tuple[Crossing, ...] = (), tasks: tuple[str, ...] = ("label",)) -> FeatureSchema:
        fields = [
            Field(chr(ord("a") + slot), "categorical", start=1 + sum(rows[:slot]), rows=size, slot=slot)
            for slot, size in enumerate(rows)
        ]
        return FeatureSchema(tuple(fields), crosses, tasks)

    return make


@pytest.fixture(scope="session")
def all_kinds() -> FeatureSchema:
    """Two categories, a number, a bag of each pooling, a vector of 3 numbers, and a cross."""
    fields = (
        Field("a", "categorical", start=1, rows=4, slot=0),
        Field("mean", "bag", start=5, rows=5, slot=1, width=3, pooling="mean"),
        Field("x", "numeric", start=10, rows=2, slot=4),
        Field("sum", "bag", start=12, rows=5, slot=5, width=2, pooling="sum"),
        Field("look", "bag", start=17, rows=5, slot=7, width=3, pooling="attention"),
        Field("v", "vector", slot=0, width=3),
        Field("b", "categorical", start=22, rows=4, slot=10),
    )
    return FeatureSchema(fields, (Crossing(("a", "b"), 8),))


@pytest.fixture(scope="session")
def filled() -> Filled:
    """Return a maker of random rows of a schema, with labels."""

    def make(schema: FeatureSchema, n: int, seed: int = 0) -> FeatureBatch:
        rng = np.random.default_rng(seed)
        code, value = np.zeros((n, schema.n_slots), np.int64), np.ones((n, schema.n_slots), np.float32)
        for one in schema.fields:
            if one.kind == "vector":
                continue
            mine = slice(one.slot, one.slot + one.width)
            code[:, mine] = rng.integers(one.start, one.start + one.rows, (n, one.width))
            if one.kind == "numeric":
                code[:, mine], value[:, mine] = one.start + 1, rng.standard_normal((n, 1))
            if one.kind in ("bag", "history"):
                value[:, mine] = np.arange(one.width) < rng.integers(0, one.width + 1, (n, 1))
                code[:, mine] *= value[:, mine] > 0
        vector = rng.standard_normal((n, schema.n_numbers), np.float32)
        label = rng.integers(0, 2, (n, len(schema.tasks))).astype(np.float32)
        return FeatureBatch(
            torch.from_numpy(code),
            None if schema.plain else torch.from_numpy(value),
            torch.from_numpy(vector),
            torch.from_numpy(label),
        )

    return make


@pytest.fixture(scope="session")
def unreached() -> Callable[[Any, FeatureBatch], list[str]]:
    """Return a finder of the parameters of a ranker that the loss of a batch does not move."""

    def find(model: Any, batch: FeatureBatch) -> list[str]:
        model.loss(batch).mean().backward()
        return [name for name, one in model.named_parameters() if one.grad is None or not one.grad.to_dense().any()]

    return find
