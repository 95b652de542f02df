"""What models eat: contexts, batches, and the contracts between models and everything that uses them."""

from bowerbird.features.batches import Content, FeatureBatch, FeatureTable, Pairs, Windows, join
from bowerbird.features.context import Context, Ragged
from bowerbird.features.contracts import Fitted, Ranker, Retriever, Trained, VectorRetriever

__all__ = [
    "Content",
    "Context",
    "FeatureBatch",
    "FeatureTable",
    "Fitted",
    "Pairs",
    "Ragged",
    "Ranker",
    "Retriever",
    "Trained",
    "VectorRetriever",
    "Windows",
    "join",
]
