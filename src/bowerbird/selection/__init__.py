"""Choosing: better hyper-parameters of one model, on validation only."""

from bowerbird.selection.tries import Search, search

__all__ = ["Search", "search"]
