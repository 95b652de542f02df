"""Configuration: frozen dataclasses, each hyper-parameter written once, every wrong value answered with a mend.

What a model is lives in its `ModelConfig`; how one run goes lives in `RunOptions`.
"""

import math
import types
import typing
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import MISSING, Field, dataclass, fields
from typing import Any, TypeVar

from bowerbird.core.errors import ConfigError, closest, did_you_mean

T = TypeVar("T")
OF_ROWS = ("auc", "logloss")  # what a ranker may be chosen by
LARGEST = 2**63 - 1  # whole number that 64 bits hold
SHOWN = 120  # letters of a value that an error shows


def check(ok: bool, key: str, value: object, rule: str, *, try_instead: object = None) -> None:
    """Raise `ConfigError` naming key, value, rule and a value that works, unless `ok`."""
    if not ok:
        mend = f" Try {key} = {shown(try_instead, plain=True)}." if try_instead is not None else ""
        raise ConfigError(f"{shown(key, plain=True)} is {shown(value)}; it {rule}.{mend}")


def shown(value: object, *, plain: bool = False) -> str:
    """Return a value as an error shows it, as Python writes it unless `plain`, and not at length."""
    try:
        text = str(value) if plain else repr(value)
    except ValueError:  # a whole number of more digits than Python writes
        return "a number of thousands of digits"
    return text if len(text) <= SHOWN else f"{text[:SHOWN]}…"


@dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """The hyper-parameters of a model; closed-form models derive from it directly."""


@dataclass(frozen=True, kw_only=True)
class TrainedConfig(ModelConfig):
    """The hyper-parameters of a model that the training loop fits by gradient steps."""

    learning_rate: float = 1e-3  # of Adam
    batch_size: int = 2048  # rows B of one step, over all workers
    epochs: int = 200  # at most; early stopping usually ends sooner
    patience: int = 5  # validations without a gain before training stops
    decay: float = 1.0  # what the learning rate is multiplied by after every epoch
    plateau: float = 1.0  # what the learning rate is multiplied by after a validation without a gain
    valid_every: int = 1  # epochs between two validations
    select: str = "ndcg@10"  # the validation metric that picks the epoch

    def __post_init__(self) -> None:
        check(self.learning_rate > 0, "learning_rate", self.learning_rate, "must be above 0", try_instead=1e-3)
        check(self.batch_size >= 1, "batch_size", self.batch_size, "must be 1 or more", try_instead=2048)
        check(self.epochs >= 1, "epochs", self.epochs, "must be 1 or more", try_instead=200)
        check(self.patience >= 1, "patience", self.patience, "must be 1 or more", try_instead=5)
        check(0 < self.decay <= 1, "decay", self.decay, "must be above 0, and 1 at most", try_instead=0.9)
        check(0 < self.plateau <= 1, "plateau", self.plateau, "must be above 0, and 1 at most", try_instead=0.1)
        check(self.valid_every >= 1, "valid_every", self.valid_every, "must be 1 or more", try_instead=1)
        known = "@" in self.select or self.select in OF_ROWS
        check(known, "select", self.select, "must name a metric and a depth", try_instead="ndcg@10")


@dataclass(frozen=True, kw_only=True)
class RunOptions:
    """How one run goes: nothing here changes what a model is."""

    device: str = "auto"  # "auto" takes a GPU when there is one
    seed: int = 0  # every random stream derives from it by name
    threads: int = 0  # 0 leaves the choice to torch
    progress: bool = True  # draw progress bars on standard error when that is a terminal
    checkpoint: str = ""  # a folder that keeps each epoch's state, so that the same run goes on; empty keeps nothing

    def __post_init__(self) -> None:
        check(self.threads >= 0, "threads", self.threads, "must be 0 or more", try_instead=0)
        known = self.device in ("auto", "cpu", "cuda") or self.device.removeprefix("cuda:").isdigit()
        meant = closest(self.device.lower().replace("gpu", "cuda"), ("auto", "cpu", "cuda")) or "auto"
        check(known, "device", self.device, "must be auto, cpu, cuda or cuda:0", try_instead=meant)
        check(self.seed >= 0, "seed", self.seed, "must be 0 or more", try_instead=0)


def build(config: type[T], values: Mapping[str, Any], *, where: str = "") -> T:
    """Return `config(**values)`, with texts turned into the declared types.

    Raises `ConfigError` for an unknown key (with the closest known one), one that is missing, a wrong type, or a value
    that the class itself refuses; `where` names the file or command line the values came from.
    """
    hints = typing.get_type_hints(config)
    usual = {field.name: field.default for field in fields(config)}  # type: ignore[arg-type]
    place = f"{where}, key " if where else ""
    for key in values:
        if key not in usual:
            named = shown(key, plain=True)
            raise ConfigError(
                f"{named} is not an option of {config.__name__}.{did_you_mean(named, usual)}"
                f" Allowed: {', '.join(sorted(usual))}.",
                where=f"{place}{named}" if place else "",
            )
    missing = [one.name for one in fields(config) if _needed(one) and one.name not in values]  # type: ignore[arg-type]
    if missing:
        place = f"{where}, key {missing[0]}" if where else ""
        raise ConfigError(f"{missing[0]} is missing; {config.__name__} needs it.", where=place)
    try:
        return config(**{key: _convert(key, value, hints[key], usual[key]) for key, value in values.items()})
    except ConfigError as error:
        if place and not error.where:
            raise ConfigError(error.message, where=place + error.message.split(" ", 1)[0]) from None
        raise


def _needed(field: Field[Any]) -> bool:
    return field.init and field.default is MISSING and field.default_factory is MISSING


def _convert(key: str, value: Any, hint: Any, usual: Any = MISSING) -> Any:
    """Return `value` as the annotated type; texts (from a command line) are parsed. `usual` is shown as a way out."""
    if isinstance(hint, types.UnionType):
        if value is None or (isinstance(value, str) and value.lower() == "none"):
            return None
        hint = next(kind for kind in typing.get_args(hint) if kind is not type(None))
    if typing.get_origin(hint) is tuple:
        parts = value.split(",") if isinstance(value, str) else value
        check(isinstance(parts, list | tuple), key, value, "must be a list", try_instead=f"[{value}]")
        return tuple(_convert(key, part, typing.get_args(hint)[0]) for part in parts)
    if hint is bool and isinstance(value, str) and value.lower() in ("true", "false"):
        return value.lower() == "true"
    if hint in (int, float) and isinstance(value, str | int) and not isinstance(value, bool):
        with suppress(ValueError, OverflowError):
            value = hint(value)
    kind, mend = getattr(hint, "__name__", hint), None if usual is MISSING else usual
    check(type(value) is hint, key, value, f"must be of type {kind}", try_instead=mend)
    if hint is float:
        check(math.isfinite(value), key, value, "must be finite", try_instead=mend)
    if hint is int:
        check(-LARGEST <= value <= LARGEST, key, value, f"must be {LARGEST:,} at most", try_instead=mend)
    return value
