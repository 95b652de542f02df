"""What everything rests on: errors, configuration, the registry, ids, random streams, the world."""

from bowerbird.core.config import ModelConfig, RunOptions, TrainedConfig, build, check
from bowerbird.core.errors import (
    BowerbirdError,
    BundleError,
    ConfigError,
    DataError,
    RequestError,
    ScoreError,
    UnknownItemError,
    UnknownModelError,
    did_you_mean,
)
from bowerbird.core.ids import MAX_ID_BYTES, Ids, encode
from bowerbird.core.random import derive, numpy_stream, torch_stream
from bowerbird.core.reason import Reason
from bowerbird.core.registry import Entry, entries, entry_of, lookup, register
from bowerbird.core.world import RealWorld, World

__all__ = [
    "MAX_ID_BYTES",
    "BowerbirdError",
    "BundleError",
    "ConfigError",
    "DataError",
    "Entry",
    "Ids",
    "ModelConfig",
    "RealWorld",
    "Reason",
    "RequestError",
    "RunOptions",
    "ScoreError",
    "TrainedConfig",
    "UnknownItemError",
    "UnknownModelError",
    "World",
    "build",
    "check",
    "derive",
    "did_you_mean",
    "encode",
    "entries",
    "entry_of",
    "lookup",
    "numpy_stream",
    "register",
    "torch_stream",
]
