"""The table of models: a name, a class, its configuration, what it eats, and tags to find it by.

The table is empty until the model files are imported; `bowerbird.models` does that.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib import import_module
from typing import Any, TypeVar

from bowerbird.core.config import ModelConfig
from bowerbird.core.errors import DuplicateModelError, UnknownModelError, did_you_mean

M = TypeVar("M", bound=type)
Span = tuple[float, float] | list[Any]  # of a hyper-parameter: a log range (of integers where both are), or its choices


@dataclass(frozen=True)
class Entry:
    """One registered model."""

    name: str
    model: Any  # the class; Any, because core knows neither torch nor the protocols above it
    config: type[ModelConfig]
    batches: type | None  # the batch type the training loop feeds it; None for closed-form models
    tags: tuple[str, ...]
    search: Mapping[str, Span] = field(default_factory=dict)  # where to look for better hyper-parameters

    @property
    def summary(self) -> str:
        """The first line of the model file: what the model is, in a sentence."""
        return (import_module(self.model.__module__).__doc__ or "").strip().split("\n")[0]


_ENTRIES: dict[str, Entry] = {}


def register(
    name: str,
    *,
    config: type[ModelConfig],
    batches: type | None = None,
    tags: tuple[str, ...] = (),
    search: Mapping[str, Span] | None = None,
) -> Callable[[M], M]:
    """Return a class decorator that enters a model into the table under `name`."""

    def enter(model: M) -> M:
        old = _ENTRIES.get(name)
        if old is not None and _place(old.model) != _place(model):  # the same place: its module was reloaded
            places = f"{old.model.__module__} and {model.__module__}"
            raise DuplicateModelError(f'two models are named "{name}": {places}. Rename one of them.')
        _ENTRIES[name] = Entry(name, model, config, batches, tags, search or {})
        return model

    return enter


def _place(model: type) -> tuple[str, str]:
    return model.__module__, model.__qualname__


def entries() -> list[Entry]:
    """Return all registered models, by name."""
    return [_ENTRIES[name] for name in sorted(_ENTRIES)]


def lookup(name: str) -> Entry:
    """Return the model registered as `name`; raises `UnknownModelError` with the closest name."""
    if name not in _ENTRIES:
        raise UnknownModelError(
            f'no model is named "{name}".{did_you_mean(name, _ENTRIES)} `bowerbird models` lists all {len(_ENTRIES)}.'
        )
    return _ENTRIES[name]


def entry_of(config: ModelConfig) -> Entry:
    """Return the model that this configuration configures."""
    for entry in _ENTRIES.values():
        if entry.config is type(config):
            return entry
    raise UnknownModelError(f"no registered model takes a {type(config).__name__}.")
