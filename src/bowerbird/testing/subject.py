"""What a check is given, how it speaks, and the table of all checks.

A check is a plain function of a `Subject`. Its docstring is the promise, in one sentence; it says what it saw with
`expect`, and the decorator `promise` turns that into an error that holds both, and the place of the promise.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields, is_dataclass
from functools import cached_property, wraps
from typing import Any, TypeVar

import torch
from torch import Tensor

import bowerbird.models  # noqa: F401  fills the registry
from bowerbird.core import (
    BowerbirdError,
    ConfigError,
    Entry,
    ModelConfig,
    RunOptions,
    UnknownModelError,
    build,
    did_you_mean,
    entries,
    lookup,
)
from bowerbird.data import Interactions, Schema
from bowerbird.features import Context, FeatureSchema, Retriever, Windows
from bowerbird.models.baselines.popularity import Popularity
from bowerbird.recommender import Predictor, Recommender, fit
from bowerbird.testing.halves import COLUMNS, halves, halves_as_rows

SMALL = {"dim": 16, "epochs": 60, "batch_size": 256, "negatives": 16, "history_len": 12, "hidden": 16,
         "content_dim": 8, "landmarks": 64, "text_encoder": "words"}  # where a config has the key  # fmt: skip
SMALL_WINDOWS = {"batch_size": 64, "learning_rate": 0.01, "patience": 30, "plateau": 1.0}  # of models of histories
SMALL_ROWS = {"dim": 8, "epochs": 10, "patience": 10, "learning_rate": 0.02, "hidden": (16,), "cin": (8, 8),
              "attention_dim": 16, "attention_layers": 1, "attention_hidden": (8,)}  # of rankers  # fmt: skip

M = TypeVar("M")


class ContractError(BowerbirdError, AssertionError):
    """A model does not do what its contract promises."""


@dataclass(frozen=True, eq=False)
class Subject:
    """A registered model under test; what is costly is made once, and no check may change it."""

    entry: Entry
    settings: Mapping[str, Any] = field(default_factory=dict)  # of its config, where small defaults do not suit it

    @classmethod
    def of(cls, model: str | type, settings: Mapping[str, Any] | None = None) -> "Subject":
        """Return the subject of a class or of a registered name; raises `UnknownModelError` for neither."""
        if isinstance(model, str):
            return cls(lookup(model), settings or {})
        for entry in entries():
            if entry.model is model:
                return cls(entry, settings or {})
        raise UnknownModelError(f"{model.__name__} is not registered. Put @register(…) above the class.")

    @cached_property
    def keys(self) -> tuple[str, ...]:
        """The options of the configuration."""
        return tuple(one.name for one in fields(self.entry.config)) if is_dataclass(self.entry.config) else ()

    @cached_property
    def config(self) -> ModelConfig:
        """A configuration that trains within a second."""
        small = SMALL | (SMALL_ROWS if ranker(self.entry) else SMALL_WINDOWS if self.entry.batches is Windows else {})
        small = {key: value for key, value in small.items() if key in self.keys}
        return build(self.entry.config, {**small, **self.settings})

    def fit(self, seed: int = 0) -> Recommender:
        """Return a recommender, trained on the halves."""
        return fit(halves(), self.config, run=quiet(seed))

    def fit_rows(self, seed: int = 0) -> Predictor:
        """Return a predictor, trained on the halves as rows."""
        return fit(halves_as_rows(), self.config, run=quiet(seed), columns=COLUMNS)

    @cached_property
    def _outcome(self) -> Recommender | ContractError:
        return _tried(self.fit, "Ranker" if ranker(self.entry) else "Fitted and Trained")

    @cached_property
    def _outcome_of_rows(self) -> Predictor | ContractError:
        return _tried(self.fit_rows, "Ranker")

    @property
    def fitted(self) -> Recommender:
        """The trained recommender."""
        return _made(self._outcome)

    @cached_property
    def past(self) -> Interactions:
        """What it is trained on: the train part of the halves, with content where the model reads it."""
        return Recommender(self.config, halves().train, run=quiet()).past

    @property
    def predictor(self) -> Predictor:
        """The trained predictor of a ranker."""
        return _made(self._outcome_of_rows)

    def untrained(self, schema: Schema | FeatureSchema, config: ModelConfig | None = None) -> Any:
        """Return a fresh model."""
        with torch.random.fork_rng([]):
            torch.manual_seed(0)
            return self.entry.model(config or self.config, schema).eval()


def _tried(make: Callable[[], M], promised: str) -> M | ContractError:
    """Return what `make` makes, or what it raised: the checks that need it say so."""
    try:
        return make()
    except Exception as error:  # whatever a stranger's model raises
        text = f"It cannot be trained: {type(error).__name__}: {error}"
        mine = ContractError(text, where=f"promised in features/contracts.py, {promised}")
        mine.__cause__ = error
        return mine


def _made(outcome: M | ContractError) -> M:
    if isinstance(outcome, ContractError):
        raise outcome
    return outcome


def quiet(seed: int = 0) -> RunOptions:
    """Return options of a run that draws nothing and uses no accelerator."""
    return RunOptions(progress=False, device="cpu", seed=seed)


@torch.no_grad()
def scores(model: Retriever, context: Context, items: Tensor | None = None) -> Tensor:
    """Return the model's scores, without a gradient."""
    return model.scores(context, items)


# ── how a check speaks ────────────────────────────────────────────────────────────────────────────────────────────


def expect(ok: bool, seen: str) -> None:
    """Raise `ContractError` with what was seen, unless `ok`."""
    if not ok:
        raise ContractError(seen)


def expect_alike(mine: Tensor, other: Tensor, what: str, *, exactly: bool = False) -> None:
    """Raise `ContractError` unless two score tables agree, up to rounding or to the last bit."""
    expect(mine.shape == other.shape, f"{what}: shapes are {tuple(mine.shape)} and {tuple(other.shape)}.")
    same = mine == other if exactly else torch.isclose(mine, other, atol=1e-5)
    if not bool(same.all()):
        gap = float((mine - other)[~same].abs().nan_to_num(torch.inf, torch.inf).max())
        raise ContractError(f"{what}: {int((~same).sum()):,} of {same.numel():,} scores differ, by up to {gap:.3g}.")


# ── the table ─────────────────────────────────────────────────────────────────────────────────────────────────────

Check = Callable[[Subject], None]
Applies = Callable[[Entry], bool]
_TABLE: dict[str, tuple[Check, Applies]] = {}


def every(entry: Entry) -> bool:
    """Any registered model."""
    return True


def retriever(entry: Entry) -> bool:
    """Models that score items for a context."""
    return "retriever" in entry.tags


def personal(entry: Entry) -> bool:
    """Retrievers but for popularity, which hears nothing of anybody's past."""
    return retriever(entry) and entry.model is not Popularity


def closed(entry: Entry) -> bool:
    """Retrievers in closed form."""
    return retriever(entry) and entry.batches is None


def trained(entry: Entry) -> bool:
    """Retrievers that the training loop fits."""
    return retriever(entry) and entry.batches is not None


def cold_item(entry: Entry) -> bool:
    """Retrievers that know items by their content."""
    return retriever(entry) and "cold-item" in entry.tags


def ranker(entry: Entry) -> bool:
    """Models that score rows of columns."""
    return "ranker" in entry.tags


def promise(where: str, *, of: Applies) -> Callable[[Check], Check]:
    """Return a decorator that enters a check into the table; `where` is the place of the promise, file and name."""
    place = f"promised in {where}"

    def enter(check: Check) -> Check:

        @wraps(check)
        def kept(subject: Subject) -> None:
            try:
                check(subject)
            except ContractError as error:
                if error.where:
                    raise
                raise ContractError(f'broken: "{check.__doc__}" {error.message}', where=place) from None
            except Exception as error:  # whatever a stranger's model raises
                seen = f"It raised {type(error).__name__}: {error}"
                raise ContractError(f'broken: "{check.__doc__}" {seen}', where=place) from error

        _TABLE[check.__name__] = kept, of
        return kept

    return enter


def checks(model: str | type | None = None) -> dict[str, Check]:
    """Return all checks by name, or those that apply to a model."""
    entry = None if model is None else Subject.of(model).entry
    return {name: check for name, (check, applies) in _TABLE.items() if entry is None or applies(entry)}


def check_model(model: str | type, *, skip: tuple[str, ...] = (), settings: Mapping[str, Any] | None = None) -> None:
    """Run every check that applies to a model, a registered name or its class.

    `skip` names checks to leave out; `settings` are options under which the model learns a small data set, where a
    small `dim` and 60 epochs do not suit it. Raises `ContractError`, an `AssertionError`, that names every broken
    promise, what was seen, and where the promise is written; `ConfigError` for a check that does not exist.
    """
    subject = Subject.of(model, settings)
    for name in skip:
        if name not in _TABLE:
            raise ConfigError(f'no check is named "{name}".{did_you_mean(name, _TABLE)} checks() lists them.')
    broken: dict[str, list[str]] = {}  # by what was said: a model that cannot be trained is told so once
    wanted = {name: check for name, check in checks(subject.entry.name).items() if name not in skip}
    for name, check in wanted.items():
        try:
            check(subject)
        except ContractError as error:
            broken.setdefault(str(error), []).append(name)
    if broken:
        lines = [f"- {', '.join(names)}: {said}" for said, names in broken.items()]
        count = sum(map(len, broken.values()))
        raise ContractError(f"{subject.entry.name} breaks {count} of {len(wanted)} promises:\n" + "\n".join(lines))
