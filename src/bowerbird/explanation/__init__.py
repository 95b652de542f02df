"""Why a model says what it says: causes that add up to its score."""

from bowerbird.explanation.paths import Parts, Paths

__all__ = ["Parts", "Paths"]
