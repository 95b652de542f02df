"""What everything rests on: errors, configuration, the registry, random streams, the world.

Ids need Polars and have a door of their own, `bowerbird.core.ids`, so that `bowerbird --help` comes at once.
"""

from bowerbird.core.config import ModelConfig, RunOptions, TrainedConfig, build, check
from bowerbird.core.errors import (
    BowerbirdDeprecationWarning,
    BowerbirdError,
    BundleError,
    ConfigError,
    DataError,
    DuplicateModelError,
    MissingExtraError,
    RequestError,
    ScoreError,
    UnknownItemError,
    UnknownModelError,
    closest,
    deprecated,
    did_you_mean,
)
from bowerbird.core.random import derive, numpy_stream, torch_stream
from bowerbird.core.reason import Cause, Reason
from bowerbird.core.registry import Entry, entries, entry_of, lookup, register
from bowerbird.core.room import check_room, free_memory
from bowerbird.core.world import RealWorld, World

__all__ = [
    "BowerbirdDeprecationWarning",
    "BowerbirdError",
    "BundleError",
    "Cause",
    "ConfigError",
    "DataError",
    "DuplicateModelError",
    "Entry",
    "MissingExtraError",
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
    "check_room",
    "closest",
    "deprecated",
    "derive",
    "did_you_mean",
    "entries",
    "entry_of",
    "free_memory",
    "lookup",
    "numpy_stream",
    "register",
    "torch_stream",
]
