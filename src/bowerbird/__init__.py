"""bowerbird: a table of interactions in; a measured, explained, live recommender out."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from bowerbird.core import BowerbirdError, RunOptions
    from bowerbird.data import EventType, Interactions, read, split
    from bowerbird.evaluation import compare, evaluate, evaluate_rows
    from bowerbird.recommender import Predictor, Recipe, Recommender, fit, load
    from bowerbird.selection import search

_ROOMS = {  # public name → room; imported when first used, so that `import bowerbird` costs next to nothing
    "BowerbirdError": "core",
    "RunOptions": "core",
    "EventType": "data",
    "Interactions": "data",
    "read": "data",
    "split": "data",
    "compare": "evaluation",
    "evaluate": "evaluation",
    "evaluate_rows": "evaluation",
    "Predictor": "recommender",
    "Recipe": "recommender",
    "Recommender": "recommender",
    "fit": "recommender",
    "load": "recommender",
    "search": "selection",
}
__all__ = [
    "BowerbirdError",
    "EventType",
    "Interactions",
    "Predictor",
    "Recipe",
    "Recommender",
    "RunOptions",
    "compare",
    "evaluate",
    "evaluate_rows",
    "fit",
    "load",
    "read",
    "search",
    "split",
]


def __getattr__(name: str) -> Any:
    if name not in _ROOMS:
        raise AttributeError(f"module 'bowerbird' has no attribute {name!r}")
    return getattr(import_module(f"bowerbird.{_ROOMS[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
