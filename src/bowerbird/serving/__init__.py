"""The HTTP API: a thin door onto the recommender."""

from bowerbird.serving.app import create_app

__all__ = ["create_app"]
