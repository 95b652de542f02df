"""Tables in: readers, checks, event semantics, splits without leaks, named data sets."""

from bowerbird.data.interactions import Edges, EventType, Interactions, PairTable, Schema
from bowerbird.data.named import REGISTRY, NamedData, get, load
from bowerbird.data.readers import read
from bowerbird.data.rows import Rows
from bowerbird.data.splits import Holdout, Split, later, split

__all__ = [
    "REGISTRY",
    "Edges",
    "EventType",
    "Holdout",
    "Interactions",
    "NamedData",
    "PairTable",
    "Rows",
    "Schema",
    "Split",
    "get",
    "later",
    "load",
    "read",
    "split",
]
