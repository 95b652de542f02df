"""The HTTP API over one engine: answers, events, catalogue, versions, keys and jobs."""

from bowerbird.serving.app import create_app
from bowerbird.serving.engine import Engine

__all__ = ["Engine", "create_app"]
