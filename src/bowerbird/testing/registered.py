"""Checks of what the registry holds of a model: its tags, its summary, its configuration, its methods."""

import inspect
import math
from dataclasses import fields
from typing import Any, get_type_hints

from bowerbird.core import ConfigError, ModelConfig, TrainedConfig, build
from bowerbird.features import Retriever
from bowerbird.testing.subject import Subject, every, expect, promise, retriever

REFUSED = {"learning_rate": -1.0, "batch_size": 0, "epochs": 0, "patience": 0, "valid_every": 0, "select": "ndcg"}


@promise("core/registry.py, Entry", of=every)
def says_what_it_is(subject: Subject) -> None:
    """Tags say retriever or ranker, and whether it is closed-form; the first line of its file is a sentence."""
    entry = subject.entry
    expect(bool({"retriever", "ranker"} & set(entry.tags)), f"Its tags are {entry.tags}.")
    closed, batches = "closed-form" in entry.tags, entry.batches.__name__ if entry.batches else None
    expect(
        closed == (batches is None), f'The tag "closed-form" is {"there" if closed else "missing"}, batches={batches}.'
    )
    whole = entry.summary.endswith(".") and len(entry.summary) > 20
    expect(whole, f"The first line of {entry.model.__module__} is {entry.summary!r}.")


@promise("core/config.py, ModelConfig and TrainedConfig", of=every)
def has_defaults(subject: Subject) -> None:
    """A configuration can be built from nothing, and derives from TrainedConfig where the loop trains the model."""
    base = TrainedConfig if subject.entry.batches else ModelConfig
    config = build(subject.entry.config, {})
    expect(isinstance(config, base), f"{type(config).__name__} does not derive from {base.__name__}.")


@promise("core/config.py, build", of=every)
def refuses_unknown_options(subject: Subject) -> None:
    """Every annotated option can be set, and an unknown one is refused with the closest that is known."""
    config = subject.entry.config
    written = [key for key in inspect.get_annotations(config) if key not in subject.keys]
    expect(
        not written, f"{', '.join(written)} cannot be set: put @dataclass(frozen=True, kw_only=True) above the class."
    )
    wrong = f"{(subject.keys or ('nothing',))[0]}s"
    said = _refusal(subject, {wrong: 1})
    expect("is not an option of" in said, f"{wrong}=1 was answered with {said!r}.")
    expect(not subject.keys or f'Did you mean "{subject.keys[0]}"?' in said, f"{wrong}=1 was answered with {said!r}.")


@promise("core/config.py, build", of=every)
def refuses_wrong_types(subject: Subject) -> None:
    """Every option has a type that can be checked: int, float, bool, str or a tuple of them, or one of them or None."""
    hints = get_type_hints(subject.entry.config)
    for key in subject.keys:
        said = _refusal(subject, {key: {}})
        refused = f"{key} is {{}}; it must be" in said
        expect(refused, f"{key}: {getattr(hints[key], '__name__', hints[key])} was given {{}} and answered {said!r}.")


@promise("core/config.py, TrainedConfig", of=every)
def refuses_bad_values(subject: Subject) -> None:
    """A number that is none is refused, and so is what TrainedConfig refuses: __post_init__ calls super's."""
    bad: dict[str, Any] = {one.name: math.nan for one in fields(subject.entry.config) if type(one.default) is float}
    if issubclass(subject.entry.config, TrainedConfig):
        bad |= REFUSED
    for key, value in bad.items():
        said = _refusal(subject, {key: value})
        expect(f"{key} is {value!r}; it " in said, f"{key}={value} was answered with {said!r}.")


@promise("features/contracts.py, Retriever", of=retriever)
def has_the_methods(subject: Subject) -> None:
    """It has can, scores and grow; a closed form has fit, a trained model prepare, loss and freeze."""
    model = subject.untrained(subject.past.schema)
    needed = ("fit",) if subject.entry.batches is None else ("prepare", "loss", "freeze")
    missing = [name for name in ("can", "scores", "grow", *needed) if not callable(getattr(model, name, None))]
    expect(not missing, f"{', '.join(missing)} {'is' if len(missing) == 1 else 'are'} missing.")
    expect(isinstance(model, Retriever), "It is no Retriever.")


def _refusal(subject: Subject, values: dict[str, Any]) -> str:
    """Return what a configuration says to these values, nothing where it takes them."""
    try:
        build(subject.entry.config, values)
    except ConfigError as error:
        return str(error)
    return ""
