import pytest
from torch import Tensor, nn

import bowerbird.models  # noqa: F401  fills the registry
from bowerbird.core import Entry, entries, lookup
from bowerbird.data import Schema
from bowerbird.features import FeatureBatch, FeatureSchema, Field, Ranker, Retriever, VectorRetriever

RETRIEVERS = [entry for entry in entries() if "retriever" in entry.tags]
RANKERS = [entry for entry in entries() if "ranker" in entry.tags]


def built(entry: Entry) -> nn.Module:
    model: nn.Module = entry.model(entry.config(), Schema(n_users=2, n_items=3))
    return model


def test_there_are_retrievers() -> None:
    assert {"popularity", "lightgcn"} <= {entry.name for entry in RETRIEVERS}


@pytest.mark.parametrize("entry", RETRIEVERS, ids=lambda entry: entry.name)
def test_a_model_tagged_retriever_is_one(entry: Entry) -> None:
    assert isinstance(built(entry), Retriever)


@pytest.mark.parametrize("entry", RETRIEVERS, ids=lambda entry: entry.name)
def test_a_retriever_is_either_fitted_or_trained(entry: Entry) -> None:
    model = built(entry)
    trained = [hasattr(model, name) for name in ("prepare", "loss", "freeze")]
    assert trained == [entry.batches is not None] * 3
    assert hasattr(model, "fit") == (entry.batches is None)


@pytest.mark.parametrize(
    ("name", "has_vectors"), [("mf", True), ("lightgcn", True), ("popularity", False), ("ease", False)]
)
def test_only_dot_products_may_go_behind_an_index(name: str, has_vectors: bool) -> None:
    assert isinstance(built(lookup(name)), VectorRetriever) == has_vectors


def test_a_module_that_scores_nothing_is_no_retriever() -> None:
    assert not isinstance(nn.Linear(1, 1), Retriever)


@pytest.mark.parametrize("entry", RANKERS, ids=lambda entry: entry.name)
def test_a_model_tagged_ranker_is_one_and_no_retriever(entry: Entry) -> None:
    fields = (Field("item", "categorical", start=1, rows=4), Field("past", "history", slot=1, width=3, of="item"))
    model = entry.model(entry.config(), FeatureSchema(fields))
    assert isinstance(model, Ranker)
    assert not isinstance(model, Retriever)


def test_a_ranker_is_known_by_its_forward_and_its_loss() -> None:
    class Mean(nn.Module):
        def forward(self, batch: FeatureBatch) -> Tensor:
            assert batch.vector is not None
            return batch.vector.mean(dim=1, keepdim=True)

    class Learned(Mean):
        def loss(self, batch: FeatureBatch) -> Tensor:
            return self(batch)[:, 0]

    assert isinstance(Learned(), Ranker)
    assert not isinstance(Mean(), Ranker)
