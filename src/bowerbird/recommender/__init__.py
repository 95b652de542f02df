"""What `bb.fit` and `bb.load` return, what it answers, and recipes for making it."""

from bowerbird.recommender.recipe import DataOptions, Recipe, SplitOptions
from bowerbird.recommender.recommender import Recommender, fit, load
from bowerbird.recommender.slates import Slates

__all__ = ["DataOptions", "Recipe", "Recommender", "Slates", "SplitOptions", "fit", "load"]
