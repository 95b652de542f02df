"""Choosing: better settings of one model, and which model to take, on validation only."""

from bowerbird.selection.advisor import Advice, as_dict, select
from bowerbird.selection.candidates import Candidate, Skipped, candidates
from bowerbird.selection.front import Place
from bowerbird.selection.profile import Profile, profile
from bowerbird.selection.race import Limits, Shown, Trial
from bowerbird.selection.report import as_html
from bowerbird.selection.tries import Search, search
from bowerbird.selection.writing import recipe_text

__all__ = [
    "Advice",
    "Candidate",
    "Limits",
    "Place",
    "Profile",
    "Search",
    "Shown",
    "Skipped",
    "Trial",
    "as_dict",
    "as_html",
    "candidates",
    "profile",
    "recipe_text",
    "search",
    "select",
]
