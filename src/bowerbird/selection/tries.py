"""Search for hyper-parameters: the configuration as it is first, then points that fill the space evenly.

Every try is measured on validation; the test part is never asked. A try that fails is a row of the table like the
others, with its error.

Source: Halton, Numerische Mathematik 1960, scrambled as in Owen, arXiv:1706.02808: any first n points of the sequence
cover the space, so that more tries go on where fewer ended.
"""

import json
import math
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any, Protocol

import polars as pl
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from scipy.stats import qmc

from bowerbird.core import (
    BowerbirdError,
    ConfigError,
    ModelConfig,
    RunOptions,
    TrainedConfig,
    build,
    check,
    did_you_mean,
    entry_of,
    lookup,
    numpy_stream,
)
from bowerbird.core.config import OF_ROWS
from bowerbird.core.registry import Span
from bowerbird.data import RowSplit, Split
from bowerbird.evaluation import evaluate
from bowerbird.evaluation.metrics import parse
from bowerbird.features import Column
from bowerbird.recommender import Predictor, RankingOptions, Recommender, fit

METRIC = "ndcg@10"  # of models that do not choose by one of their own
DRAWS = 20  # points drawn for each try, before a space of few configurations counts as used up
DIGITS = 3  # that a drawn number has: more would only look exact


@dataclass(frozen=True, eq=False)
class Search:
    """What was tried, on what, and what came of it."""

    best: ModelConfig
    tries: pl.DataFrame  # number from 0, value, seconds, error, and a column for each hyper-parameter of the space
    metric: str
    protocol: str  # of the split whose validation part was asked
    interrupted: bool = False

    @property
    def first(self) -> float:
        """What the configuration reached that the search started from; NaN where it failed."""
        value = self.tries["value"][0]
        return math.nan if value is None else float(value)

    @property
    def value(self) -> float:
        """What the best one reached: the largest of all tries, and therefore a flattering figure."""
        return float(self.tries["value"].max())  # type: ignore[arg-type]

    def to_dict(self) -> dict[str, Any]:
        """Return what `bowerbird train --json` prints."""
        return {
            "metric": self.metric,
            "first": None if math.isnan(self.first) else self.first,
            "value": self.value,
            "best": asdict(self.best),
            "tries": self.tries.to_dicts(),
            "protocol": self.protocol,
            "interrupted": self.interrupted,
        }

    def __str__(self) -> str:
        names = self.tries.columns[4:]
        chosen = ", ".join(f"{name} = {getattr(self.best, name)}" for name in names)
        said = f"{self.metric} on validation {self.first:.4f} → {self.value:.4f} in {len(self.tries)} tries"
        return f"{said}, with {chosen}" if self.value != self.first else f"{said}: {chosen} stays"


class _Show(Protocol):
    def __call__(self, done: int, best: float) -> None:
        """Draw how many tries are done, and the best value so far."""
        ...


def search(
    split: Split | RowSplit,
    model: str | ModelConfig,
    *,
    tries: int = 20,
    seed: int = 0,
    metric: str | None = None,
    sampled: int | None = None,
    space: Mapping[str, Span] | None = None,
    run: RunOptions | None = None,
    ranking: RankingOptions | None = None,
    columns: Sequence[Column] | None = None,
    out: str | Path | None = None,
) -> Search:
    """Try configurations of one model on a split's validation part; return the best and a table of all.

    The first try is the configuration as it is given, or the shipped one of a name. `space` says where to look (as
    `register(…, search=…)` does, whose space is the default, without what the given configuration has set); `metric`
    is the one that the model chooses its epoch by, else ndcg@10; `sampled=n` measures it among n random items, as
    `evaluate` does. `ranking` and `columns` are those of `fit`, for rankers. `out` is a file of JSON lines that keeps
    every try: those that it holds of the same model, configuration, data, metric and seed are not repeated. Ctrl-C
    ends the search with what there is. Raises `ConfigError` for a space or a metric that makes no sense, and what the
    first try raised where all fail.
    """
    check(tries >= 1, "tries", tries, "must be 1 or more", try_instead=20)
    first = build(lookup(model).config, {}) if isinstance(model, str) else model
    metric = metric or (first.select if isinstance(first, TrainedConfig) else METRIC)
    if "ranker" in entry_of(first).tags:
        mine = getattr(first, "select", None)
        check(metric == mine, "metric", metric, "must be the one that the ranker is chosen by", try_instead=mine)
    else:
        parse(metric)
    space = _space(first) if space is None else dict(space)
    _check_space(space, first)
    run = replace(run or RunOptions(seed=seed), checkpoint="")
    asked = {"metric": metric, "sampled": sampled, "protocol": split.protocol, "seed": run.seed}
    if "ranker" in entry_of(first).tags:
        asked |= {"ranking": repr(ranking), "columns": repr(columns)}
    kept = _Kept(None if out is None else Path(out), {"model": entry_of(first).name, **asked})
    rows: list[dict[str, Any]] = []
    interrupted, failure = False, None
    with _bar(run, tries) as show:
        try:
            for config in _configs(first, space, tries, seed):
                row = kept.get(config)
                if row is None:
                    row, error = _try(split, config, metric, sampled, run, ranking, columns)
                    failure = failure or error
                    kept.add(config, row)
                rows.append({"number": len(rows), **row, **{name: getattr(config, name) for name in space}})
                show(len(rows), max((one["value"] for one in rows if one["value"] is not None), default=math.nan))
        except KeyboardInterrupt:
            interrupted = True
    table = pl.DataFrame(rows, infer_schema_length=None, strict=False)
    if interrupted and not rows:
        raise KeyboardInterrupt
    if table["value"].is_null().all():
        raise failure or ConfigError(f"all {len(table)} tries failed: {table['error'][0]}")
    chosen = rows[int(table["value"].arg_max() or 0)]
    best = replace(first, **{name: chosen[name] for name in space})
    return Search(best, table, metric, split.protocol, interrupted)


def _try(
    split: Split | RowSplit,
    config: ModelConfig,
    metric: str,
    sampled: int | None,
    run: RunOptions,
    ranking: RankingOptions | None,
    columns: Sequence[Column] | None,
) -> tuple[dict[str, Any], BowerbirdError | None]:
    """Return value, seconds and error of one configuration, and the error itself."""
    started, value, error = time.perf_counter(), None, None
    try:
        run = replace(run, progress=False)
        fitted: Recommender | Predictor
        if isinstance(split, RowSplit):
            fitted = fit(split, config, run=run, columns=columns)
        else:
            fitted = fit(split, config, run=run, ranking=ranking)
        if fitted.training is not None and fitted.training.interrupted:
            raise KeyboardInterrupt  # the loop keeps a half-trained model, but a table of tries must not
        how: dict[str, Any] = {"metrics": [metric], "sampled": sampled, "intervals": False, "seed": run.seed}
        if metric in OF_ROWS:
            value = fitted.training.best if fitted.training else None
        elif isinstance(fitted, Recommender) and isinstance(split, Split):
            value = evaluate(fitted, split.valid, **how).metrics[metric]
    except BowerbirdError as mistake:
        error = mistake
    row = {"value": value, "seconds": time.perf_counter() - started, "error": None if error is None else str(error)}
    return row, error


# ── the space ─────────────────────────────────────────────────────────────────────────────────────────────────────


def _space(first: ModelConfig) -> dict[str, Span]:
    """Return the model's own space without what its configuration has set: that was meant."""
    entry = entry_of(first)
    usual = {field.name: field.default for field in fields(first)}
    space = {name: span for name, span in entry.search.items() if getattr(first, name) == usual[name]}
    if not space:
        why = "has all of them set" if entry.search else "names none"
        raise ConfigError(f'{entry.name} {why} that a search could try. Give space={{"key": (low, high)}}.')
    return space


def _check_space(space: Mapping[str, Span], first: ModelConfig) -> None:
    """Raise `ConfigError` for a key that is no hyper-parameter, or a span that is none."""
    names = [field.name for field in fields(first)]
    for key, span in space.items():
        if key not in names:
            raise ConfigError(
                f"space: {key} is not an option of {type(first).__name__}.{did_you_mean(key, names)} "
                f"Allowed: {', '.join(sorted(names))}.",
            )
        if isinstance(span, list):
            good, rule, mend = bool(span), "must hold a choice", f"[{getattr(first, key)!r}]"
        else:
            good = isinstance(span, tuple) and len(span) == 2 and 0 < span[0] <= span[1]
            rule, mend = "must be a list of choices, or two numbers above 0, the lower one first", "(1.0, 100.0)"
        check(good, f'space["{key}"]', span, rule, try_instead=mend)


def _configs(first: ModelConfig, space: Mapping[str, Span], tries: int, seed: int) -> Iterator[ModelConfig]:
    """Yield the given configuration and then others, each once; fewer than `tries` where the space has no more."""
    seen = {repr(first)}
    yield first
    points = qmc.Halton(len(space), seed=numpy_stream(seed, "search"))
    for _ in range(DRAWS * tries):
        if len(seen) >= tries:
            return
        [point] = points.random(1).tolist()
        values = {name: _drawn(span, place) for (name, span), place in zip(space.items(), point, strict=True)}
        config = replace(first, **values)
        if repr(config) not in seen:
            seen.add(repr(config))
            yield config


def _drawn(span: Span, place: float) -> Any:
    """Return the value at a place in [0, 1) of a span: a choice, or a number of evenly spread logarithm."""
    if isinstance(span, list):
        return span[int(place * len(span))]
    low, high = span
    if isinstance(low, int) and isinstance(high, int):
        return min(max(int(low * ((high + 1) / low) ** place), low), high)  # rounding may step over an end
    return float(f"{low * (high / low) ** place:.{DIGITS}g}")


# ── keeping and showing ───────────────────────────────────────────────────────────────────────────────────────────


class _Kept:
    """Tries in a file of JSON lines, found by all that decides how one ends; without a file, nothing is kept."""

    def __init__(self, path: Path | None, what: Mapping[str, Any]) -> None:
        self.path, self.what = path, what
        self.rows: dict[str, dict[str, Any]] = {}
        if path is None:
            return
        path.parent.mkdir(parents=True, exist_ok=True)
        text = path.read_text(encoding="utf-8") if path.exists() else ""
        if text and not text.endswith("\n"):  # whoever wrote it was cut short: that try is made again
            text = text[: text.rfind("\n") + 1]
            path.write_text(text, encoding="utf-8")
        for number, line in enumerate(text.splitlines(), 1):
            try:
                row = json.loads(line)
                self.rows[row["key"]] = {name: row[name] for name in ("value", "seconds", "error")}
            except (json.JSONDecodeError, KeyError, TypeError):
                raise ConfigError(f"{path}, line {number} is no try of a search. Name another file.") from None

    def key(self, config: ModelConfig) -> str:
        """Return what decides how a try ends, as text."""
        return json.dumps({**self.what, "config": asdict(config)}, sort_keys=True)

    def get(self, config: ModelConfig) -> dict[str, Any] | None:
        """Return a try that was made before."""
        return self.rows.get(self.key(config))

    def add(self, config: ModelConfig, row: Mapping[str, Any]) -> None:
        """Keep a try."""
        if self.path is not None:
            with open(self.path, "a", encoding="utf-8") as file:
                file.write(json.dumps({"key": self.key(config), **row}) + "\n")


@contextmanager
def _bar(run: RunOptions, tries: int) -> Iterator[_Show]:
    """Give a function to call after each try; it draws nothing unless asked to."""
    console = Console(stderr=True)
    progress = Progress(
        TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[line]}"), TimeElapsedColumn(),
        console=console, transient=True, disable=not (run.progress and console.is_terminal),
    )  # fmt: skip
    with progress:
        task = progress.add_task("tries", total=tries, line="")

        def show(done: int, best: float) -> None:
            progress.update(task, completed=done, line=f"{done}/{tries}  best {best:.4f}")

        yield show
