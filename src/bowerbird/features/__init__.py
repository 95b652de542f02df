"""What models eat: contexts, batches, and the contracts between models and everything that uses them."""

from bowerbird.features.batches import Content, FeatureBatch, FeatureTable, Pairs, Windows, join
from bowerbird.features.columns import Audio, Bag, Categorical, Column, Cross, History, Image, Numeric, Text, Vector
from bowerbird.features.context import Context, Ragged
from bowerbird.features.contracts import ContentRetriever, Fitted, Ranker, Retriever, Trained, VectorRetriever
from bowerbird.features.encoder import Encoder
from bowerbird.features.fields import Encoded, FeatureSchema, Field, crossed
from bowerbird.features.inference import infer
from bowerbird.features.media import Described, MediaEncoder, describe, encoder_of, resolved, stream

__all__ = [
    "Audio",
    "Bag",
    "Categorical",
    "Column",
    "Content",
    "ContentRetriever",
    "Context",
    "Cross",
    "Described",
    "Encoded",
    "Encoder",
    "FeatureBatch",
    "FeatureSchema",
    "FeatureTable",
    "Field",
    "Fitted",
    "History",
    "Image",
    "MediaEncoder",
    "Numeric",
    "Pairs",
    "Ragged",
    "Ranker",
    "Retriever",
    "Text",
    "Trained",
    "Vector",
    "VectorRetriever",
    "Windows",
    "crossed",
    "describe",
    "encoder_of",
    "infer",
    "join",
    "resolved",
    "stream",
]
