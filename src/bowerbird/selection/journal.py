"""Tries of a race in Optuna's journal, and what its sampler proposes from them."""

import hashlib
import json
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import asdict, replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from bowerbird.core import MissingExtraError, ModelConfig, derive
from bowerbird.core.registry import Span
from bowerbird.selection.candidates import Candidate
from bowerbird.selection.measure import Measured


def need_optuna() -> None:
    """Raise `MissingExtraError` where Optuna is not installed."""
    if find_spec("optuna") is None:
        raise MissingExtraError('the advisor needs optuna. Install it with: pip install "bowerbird[select]"')


class Kept:
    """Tries in Optuna's journal: a study for each model and part; the values of users lie beside it."""

    def __init__(self, folder: Path, seed: int) -> None:
        import optuna
        from optuna.storages import JournalStorage
        from optuna.storages.journal import JournalFileBackend

        optuna.logging.set_verbosity(optuna.logging.ERROR)
        self.folder, self.seed, self.optuna = folder, seed, optuna
        (folder / "values").mkdir(parents=True, exist_ok=True)
        with warnings.catch_warnings():  # Optuna says of some of its doors that they may still change
            warnings.simplefilter("ignore")
            self.storage = JournalStorage(JournalFileBackend(str(folder / "journal.log")))
        self.studies: dict[tuple[str, float], Any] = {}
        self.known: dict[str, Mapping[str, Any]] = {}

    def study(self, one: Candidate, share: float) -> Any:
        """Return the study of a model on a part, with what was kept of it."""
        key = one.name, share
        if key not in self.studies:
            sampler = self.optuna.samplers.TPESampler(
                seed=derive(self.seed, "tries", one.name, str(share)) % 2**32, n_startup_trials=5
            )
            name = f"{one.name} {share:g} {_digest(one.space)}"
            self.studies[key] = study = self.optuna.create_study(
                storage=self.storage, sampler=sampler, study_name=name, direction="maximize", load_if_exists=True
            )
            for trial in study.get_trials(deepcopy=False):
                if "key" in trial.user_attrs:
                    self.known[trial.user_attrs["key"]] = trial.user_attrs
        return self.studies[key]

    def key(self, one: Candidate, config: ModelConfig, share: float) -> str:
        """Return a name for a try, by all that decides it beside the data."""
        text = json.dumps([one.name, share, asdict(config)], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    def recall(self, one: Candidate, config: ModelConfig, share: float) -> tuple[Measured, np.ndarray] | None:
        """Return what an earlier race measured."""
        self.study(one, share)
        key = self.key(one, config, share)
        path = self.folder / "values" / f"{key}.npy"
        if key not in self.known or not path.exists():
            return None
        told = self.known[key]["measured"]
        found = Measured(**told | {"packages": tuple(told["packages"])})
        return None if found.cut else (found, np.load(path))  # a longer race may have more time for it

    def add(self, one: Candidate, config: ModelConfig, share: float, measured: Measured, values: np.ndarray) -> None:
        """Keep a try, so that proposals know of it."""
        key, study = self.key(one, config, share), self.study(one, share)
        np.save(self.folder / "values" / f"{key}.npy", values)
        told = {"key": key, "measured": asdict(measured)}
        spans = {
            name: self._distribution(span) for name, span in one.space.items() if inside(span, getattr(config, name))
        }
        study.add_trial(
            self.optuna.trial.create_trial(
                params={name: getattr(config, name) for name in spans},
                distributions=spans,
                value=measured.value,
                user_attrs=told,
            )
        )
        self.known[key] = told

    def proposals(self, one: Candidate, share: float, most: int) -> Iterator[ModelConfig]:
        """Yield configurations that the sampler proposes, `most` of them."""
        study, spans = self.study(one, share), {name: self._distribution(span) for name, span in one.space.items()}
        for _ in range(most):
            trial = study.ask(spans)
            study.tell(trial, state=self.optuna.trial.TrialState.FAIL)  # it is added once it was measured
            yield replace(one.config, **{name: rounded(value) for name, value in trial.params.items()})

    def _distribution(self, span: Span) -> Any:
        distributions = self.optuna.distributions
        if isinstance(span, list):
            return distributions.CategoricalDistribution(span)
        low, high = span
        if isinstance(low, int) and isinstance(high, int):
            return distributions.IntDistribution(low, high, log=True)
        return distributions.FloatDistribution(float(low), float(high), log=True)


def _digest(space: Mapping[str, Span]) -> str:
    """Return a name for a space: Optuna keeps one kind of values for each setting of a study."""
    return hashlib.sha256(json.dumps(space, sort_keys=True).encode()).hexdigest()[:6]


def inside(span: Span, value: Any) -> bool:
    """Return whether a value is a choice of a list, or between two numbers."""
    if isinstance(span, list):
        return value in span
    return value is not None and bool(span[0] <= value <= span[1])


def rounded(value: Any) -> Any:
    """Return a number with the digits that matter: more would only look exact."""
    return float(f"{value:.3g}") if isinstance(value, float) else value
