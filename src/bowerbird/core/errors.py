"""Every error a user can cause: what is wrong, where, and how to mend it.

Each class derives from `BowerbirdError` and from the built-in it refines, so that `except ValueError`
written by someone who has never heard of bowerbird still works.
"""

import warnings
from collections.abc import Iterable
from difflib import get_close_matches


class BowerbirdError(Exception):
    """Something the caller can mend; the message says how."""

    def __init__(self, message: str, *, where: str = "") -> None:
        super().__init__(message)
        self.message, self.where = message, where

    def __str__(self) -> str:
        return f"{self.message} ({self.where})" if self.where else self.message


class ConfigError(BowerbirdError, ValueError):
    """An option has a value, a name or a type that cannot be used."""


class DuplicateModelError(ConfigError):
    """Two models have one name."""


class DataError(BowerbirdError, ValueError):
    """A table cannot be read as interactions."""


class BundleError(BowerbirdError, ValueError):
    """A saved model is damaged, incomplete or of another format."""


class RequestError(BowerbirdError, ValueError):
    """A request for recommendations that makes no sense as it stands."""


class UnknownModelError(BowerbirdError, LookupError):
    """No model has this name."""


class UnknownItemError(BowerbirdError, LookupError):
    """No item has this id, and the answer would be meaningless without it."""


class MissingExtraError(BowerbirdError, ImportError):
    """A package is needed that bowerbird does not require."""


class ScoreError(BowerbirdError, ArithmeticError):
    """A model returned a score that is not a number."""


class BowerbirdDeprecationWarning(FutureWarning):
    """Something still works that a coming version will not have; shown by default, unlike Python's own kind."""


def deprecated(name: str, *, since: str, removed_in: str, instead: str) -> None:
    """Warn, at the line that called the caller, that `name` goes, and say what to write instead."""
    text = f"{name} is deprecated since bowerbird {since} and goes in {removed_in}. Write {instead} instead."
    warnings.warn(text, BowerbirdDeprecationWarning, stacklevel=3)


def closest(name: str, allowed: Iterable[str]) -> str | None:
    """Return the allowed name that was probably meant, whatever its case and the spaces around it; None if none is."""
    known = list(allowed)
    if name in known:
        return name
    plain = {one.strip().casefold(): one for one in known}
    close = get_close_matches(name.strip().casefold(), plain, n=1)
    return plain[close[0]] if close else None


def did_you_mean(name: str, allowed: Iterable[str]) -> str:
    """Return ' Did you mean "x"?' for the closest allowed name, or an empty string."""
    meant = closest(name, allowed)
    return "" if meant is None else f' Did you mean "{meant}"?'
