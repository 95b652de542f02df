"""What a model promises: a retriever scores items for a context, a ranker scores rows.

Shapes: B requests or rows, I items, n listed items, T tasks, D vector size.
"""

from collections.abc import Mapping
from typing import Protocol, TypeVar, runtime_checkable

import numpy as np
from torch import Tensor

from bowerbird.data import Interactions
from bowerbird.features.batches import Content, FeatureBatch, Pairs, Windows
from bowerbird.features.context import Context

B = TypeVar("B", Pairs, Windows, FeatureBatch, Content, contravariant=True)


@runtime_checkable
class Retriever(Protocol):
    """Context → scores. Closed-form models add `fit`, trained ones `loss`, dot-product ones `query`."""

    def can(self, context: Context) -> Tensor:
        """Return which requests this model can answer, bool (B,)."""
        ...

    def scores(self, context: Context, items: Tensor | None = None) -> Tensor:
        """Return scores of all items (B, I), or of `items`, int64 (n,) or (B, n), as (B, n).

        Minus infinity marks an item that may not be scored; rows of requests that `can` refuses mean nothing. The
        tensor is the caller's to overwrite.
        """
        ...

    def grow(self, n_users: int, n_items: int) -> None:
        """Append rows up to these sizes; old rows keep their values."""
        ...


class Fitted(Retriever, Protocol):
    """A retriever in closed form."""

    def fit(self, train: Interactions, rng: np.random.Generator) -> None:
        """Learn from all of `train` at once."""
        ...


class Trained(Retriever, Protocol[B]):
    """A retriever that the training loop fits; `batches` in its registry entry says what it eats."""

    def prepare(self, train: Interactions) -> None:
        """Hold what training needs of `train` (a graph); never stored in a bundle."""
        ...

    def loss(self, batch: B) -> Tensor:
        """Return the loss of each row of the batch (B,), unreduced; the loop weights and averages it."""
        ...

    def freeze(self) -> None:
        """Keep what serving needs, computed from the parameters as they are now."""
        ...


@runtime_checkable
class VectorRetriever(Retriever, Protocol):
    """A retriever whose score is a dot product: only these go behind an approximate index."""

    def query(self, context: Context) -> Tensor:
        """Return request vectors (B, D)."""
        ...

    def item_vectors(self) -> Tensor:
        """Return item vectors (I, D)."""
        ...


@runtime_checkable
class ContentRetriever(VectorRetriever, Protocol):
    """A retriever that knows items by their content alone. Who is tagged `cold-item` is one."""

    def embed(self, content: Mapping[str, Tensor]) -> Tensor:
        """Return vectors (n, D), as in `item_vectors`, of items that only have content: (n, M) of each modality.

        A row of NaN, or a modality left out, is content that an item lacks; with none at all it has a vector that means
        nothing.
        """
        ...


@runtime_checkable
class Ranker(Protocol):
    """Rows → logits. Built as `Model(config, schema)` of a `FeatureSchema`, whose tasks are the T labels.

    Its parameters and buffers are all it is: what a bundle keeps. Who cannot learn several labels says so with
    `ConfigError` when built. Calibration is not its work, see `recommender.ranking`.
    """

    def forward(self, batch: FeatureBatch) -> Tensor:
        """Return logits (B, T), of each row by itself where the model is in evaluation mode."""
        ...

    def loss(self, batch: FeatureBatch) -> Tensor:
        """Return the loss of each row of a batch with labels (B,), unreduced; a label of NaN adds nothing to it."""
        ...
