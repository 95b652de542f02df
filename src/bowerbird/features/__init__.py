"""What models eat: contexts, batches, and the contracts between models and everything that uses them."""

from bowerbird.features.batches import Content, FeatureBatch, FeatureTable, Pairs, Windows, join
from bowerbird.features.columns import Bag, Categorical, Column, Cross, History, Numeric, Vector
from bowerbird.features.context import Context, Ragged
from bowerbird.features.contracts import Fitted, Ranker, Retriever, Trained, VectorRetriever
from bowerbird.features.encoder import Encoder
from bowerbird.features.fields import Encoded, FeatureSchema, Field, crossed
from bowerbird.features.inference import infer

__all__ = [
    "Bag",
    "Categorical",
    "Column",
    "Content",
    "Context",
    "Cross",
    "Encoded",
    "Encoder",
    "FeatureBatch",
    "FeatureSchema",
    "FeatureTable",
    "Field",
    "Fitted",
    "History",
    "Numeric",
    "Pairs",
    "Ragged",
    "Ranker",
    "Retriever",
    "Trained",
    "Vector",
    "VectorRetriever",
    "Windows",
    "crossed",
    "infer",
    "join",
]
