"""What `bb.fit` and `bb.load` return, what it answers, and recipes for making it."""

from bowerbird.recommender.doors import fit, load
from bowerbird.recommender.predictor import Predictor
from bowerbird.recommender.recipe import DataOptions, Recipe, SplitOptions
from bowerbird.recommender.recommender import Recommender
from bowerbird.recommender.slates import Slates
from bowerbird.recommender.two_stage import RankingOptions
from bowerbird.recommender.update import Update, UpdateOptions, add_items, update

__all__ = [
    "DataOptions",
    "Predictor",
    "RankingOptions",
    "Recipe",
    "Recommender",
    "Slates",
    "SplitOptions",
    "Update",
    "UpdateOptions",
    "add_items",
    "fit",
    "load",
    "update",
]
