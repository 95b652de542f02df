"""Tables in: readers, checks, event semantics, splits without leaks, named data sets."""

from bowerbird.data.conversion import convert
from bowerbird.data.description import Description, describe
from bowerbird.data.encoded import encode
from bowerbird.data.interactions import Edges, EventType, Interactions, PairTable, Schema, declared
from bowerbird.data.labels import Labels
from bowerbird.data.named import REGISTRY, NamedData, get, load, load_rows, load_split
from bowerbird.data.readers import read
from bowerbird.data.row_splits import RowSplit, given_rows, split_rows
from bowerbird.data.rows import Rows, read_rows
from bowerbird.data.splits import Holdout, Split, later, split

__all__ = [
    "REGISTRY",
    "Description",
    "Edges",
    "EventType",
    "Holdout",
    "Interactions",
    "Labels",
    "NamedData",
    "PairTable",
    "RowSplit",
    "Rows",
    "Schema",
    "Split",
    "convert",
    "declared",
    "describe",
    "encode",
    "get",
    "given_rows",
    "later",
    "load",
    "load_rows",
    "load_split",
    "read",
    "read_rows",
    "split",
    "split_rows",
]
