"""One model with one configuration: what it is worth on validation, and what it costs.

This is what a worker does (see `worker`); nothing here knows of other tries.
"""

import ast
import inspect
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from importlib.metadata import PackageNotFoundError, distribution, packages_distributions
from importlib.util import find_spec
from pathlib import Path

import numpy as np

from bowerbird.core import ConfigError, Entry, ModelConfig, RunOptions, ScoreError, TrainedConfig, entry_of
from bowerbird.core.room import give_back
from bowerbird.data import RowSplit, Split
from bowerbird.evaluation import binary, evaluate
from bowerbird.recommender import Predictor, Recommender

METRIC, ROW_METRIC = "ndcg@10", "auc"
REQUESTS, LEAST_REQUESTS = 200, 20  # timed at most, and at least
REQUEST_S, REQUEST_SHARE = 0.5, 0.2  # how long that may take, in seconds and of those that training took
ROWS = 100  # rows of a request, where rows are ranked
HIGH = 0.95  # the quantile that a limit of latency is held against


@dataclass(frozen=True, kw_only=True)
class Measured:
    """What came of one try."""

    value: float  # NDCG@10 over the users asked, or the AUC
    seconds: float  # to train, validations of each epoch included
    ms: float  # of one request, median
    ms_high: float  # 95 % of requests are quicker
    mb: float  # of weights, as a bundle keeps them and a server holds them
    peak_mb: float  # of memory that the process had more than before
    epochs: int  # 0 of closed-form models
    packages: tuple[str, ...]  # that it made the process load, beside those that bowerbird always needs
    cut: bool  # whether the time limit ended the training; the best epoch until then is what was measured


def measured(
    split: Split | RowSplit, config: ModelConfig, run: RunOptions, *, on_trained: Callable[[], None] | None = None
) -> tuple[Measured, np.ndarray]:
    """Return what one configuration is worth on a split, and values that two tries are compared by.

    These are NDCG of each user (A,), or probabilities of the first label of each validation row (N,). `on_trained` is
    called between training and measuring. Raises `KeyboardInterrupt` where the training was ended before its first
    epoch was over.
    """
    before, started = _reset_peak(), time.perf_counter()
    fitted: Recommender | Predictor
    if isinstance(split, RowSplit):
        assert isinstance(config, TrainedConfig)
        fitted = Predictor.fit(split.train, split.valid, config, run=run)
    else:
        fitted = Recommender(config, split.train, run=run)
        fitted.learn(valid=split.valid)
    seconds, training = time.perf_counter() - started, fitted.training
    longest_s = min(REQUEST_S, REQUEST_SHARE * seconds)
    if on_trained is not None:
        on_trained()
    if training is not None and training.interrupted and not training.best_epoch:
        raise KeyboardInterrupt
    if isinstance(fitted, Predictor):
        assert isinstance(split, RowSplit)
        values, value = _told(fitted, split)
        laps = _row_laps(fitted, split, longest_s)
        tensors = sum(array.nbytes for array in fitted.ranking.tensors.values())
    else:
        assert isinstance(split, Split)
        report = evaluate(fitted, split.valid, metrics=[METRIC], intervals=False, seed=run.seed)
        values, value = report.per_user[METRIC].to_numpy(), report.metrics[METRIC]
        laps = _laps(fitted, split, longest_s)
        tensors = sum(one.numel() * one.element_size() for one in fitted.model.state_dict().values())
    return Measured(
        value=value, seconds=seconds, ms=float(np.median(laps)), ms_high=float(np.quantile(laps, HIGH)),
        mb=tensors / 1e6, peak_mb=max(_peak() - before, 0.0),
        epochs=0 if training is None else training.epochs, packages=packages_of(config),
        cut=training is not None and training.interrupted,
    ), values  # fmt: skip


def _told(fitted: Predictor, split: RowSplit) -> tuple[np.ndarray, float]:
    """Return the probabilities of the first label, and their AUC; rows without that label have NaN."""
    probability, label = fitted.predict(split.valid)[:, 0].astype(np.float64), split.valid.labels[:, 0]
    there = ~np.isnan(label)
    if not np.isfinite(probability).all():
        raise ScoreError("a probability is no number. Take a smaller learning_rate.")
    value = binary.auc(label[there], probability[there])
    if np.isnan(value):
        raise ConfigError("the validation part has labels of one kind only. Give it a larger share.")
    return probability, value


def _laps(fitted: Recommender, split: Split, longest_s: float) -> np.ndarray:
    """Return the milliseconds of single requests for ten items, by people whom training knows where there are any."""
    rows = np.unique(split.valid.targets.user)
    warm = rows[rows < split.train.n_users]
    ids = split.valid.targets.user_ids.names(warm if len(warm) else rows)

    def ask(turn: int) -> None:
        fitted.recommend([ids[turn % len(ids)]], k=10)

    return _timed(ask, longest_s)


def _row_laps(fitted: Predictor, split: RowSplit, longest_s: float) -> np.ndarray:
    """Return the milliseconds of single requests to score a hundred rows."""
    table = split.valid.table
    tables = [table[start : start + ROWS] for start in range(0, min(len(table), ROWS * 20), ROWS)]
    return _timed(lambda turn: fitted.predict(tables[turn % len(tables)]), longest_s)


def _timed(ask: Callable[[int], object], longest_s: float) -> np.ndarray:
    for turn in range(3):  # what is made when first asked for
        ask(turn)
    laps: list[float] = []
    began = time.perf_counter()
    while len(laps) < REQUESTS and (len(laps) < LEAST_REQUESTS or time.perf_counter() - began < longest_s):
        started = time.perf_counter()
        ask(len(laps))
        laps.append(1000 * (time.perf_counter() - started))
    return np.array(laps)


# ── memory of the process ─────────────────────────────────────────────────────────────────────────────────────────


def _reset_peak() -> float:
    """Forget the peak of this process where the system lets it; return the megabytes that it holds now."""
    give_back()  # what an earlier model freed would hide what this one takes
    try:
        Path("/proc/self/clear_refs").write_text("5")
        return _field("VmRSS")
    except (OSError, KeyError):
        return _peak()


def _peak() -> float:
    """Return the most megabytes that this process held, since the peak was forgotten."""
    try:
        return _field("VmHWM")
    except (OSError, KeyError):
        import resource

        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1e6 if sys.platform == "darwin" else 1e3)


def _field(name: str) -> float:
    lines = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return int(lines[name].split()[0]) / 1024


# ── what has to be maintained ─────────────────────────────────────────────────────────────────────────────────────


def lines_of(entry: Entry) -> int:
    """Return the lines of a model's own file: what somebody has to understand who keeps it."""
    return len(inspect.getsource(sys.modules[entry.model.__module__]).splitlines())


def packages_of(config: ModelConfig) -> tuple[str, ...]:
    """Return the packages beside those that bowerbird always needs which a model's code can reach and did load here."""
    owners = _owners()
    reached = _reached(type(config).__module__) | _reached(_module(config))
    names = {owners[top][0] for top in reached if top in owners and top in sys.modules}
    return tuple(sorted(names - _always()))


def megabytes_of(packages: tuple[str, ...]) -> float:
    """Return what packages take on disk, their own files alone."""
    return sum(_size(name) for name in packages) / 1e6


def _module(config: ModelConfig) -> str:
    return str(entry_of(config).model.__module__)


@cache
def _always() -> frozenset[str]:
    """Return what bowerbird is never without: its requirements that are no extras, and itself."""
    try:
        required = distribution("bowerbird").requires or []
    except PackageNotFoundError:  # run from its source
        required = ["torch", "numpy", "scipy", "polars", "pyarrow", "safetensors", "typer", "rich", "fastapi"]
    names = {
        one.split(";")[0].split(">")[0].split("[")[0].split("=")[0].strip() for one in required if "extra" not in one
    }
    return frozenset(names | {"bowerbird"})


@cache
def _owners() -> Mapping[str, list[str]]:
    return packages_distributions()  # it reads the list of files of every package: a second


@cache
def _size(name: str) -> int:
    return sum(int(file.size or 0) for file in distribution(name).files or [])


@cache
def _reached(module: str) -> frozenset[str]:
    """Return the other packages' top-level names that a module of ours imports, directly or through others of ours."""
    seen, found, waiting = set[str](), set[str](), [module]
    while waiting:
        name = waiting.pop()
        if name in seen:
            continue
        seen.add(name)
        for other in _imports(name):
            if other.split(".")[0] == module.split(".")[0]:
                waiting.append(other)
            else:
                found.add(other.split(".")[0])
    return frozenset(found)


def _imports(module: str) -> Iterator[str]:
    """Yield the modules that the file of a module imports anywhere; of a package's door, what is taken through it."""
    spec = find_spec(module)
    if spec is None or spec.origin is None or not spec.origin.endswith(".py"):
        return
    door = spec.submodule_search_locations is not None
    for node in ast.walk(ast.parse(Path(spec.origin).read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (one.name for one in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level and not (door and _ours(node.module)):
            yield node.module
            if _ours(node.module):
                yield from (f"{node.module}.{one.name}" for one in node.names if _there(f"{node.module}.{one.name}"))


def _ours(module: str) -> bool:
    return module.split(".")[0] == "bowerbird"


def _there(module: str) -> bool:
    try:
        return find_spec(module) is not None
    except (ImportError, AttributeError):
        return False
