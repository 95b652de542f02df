"""`bowerbird select`: which model to take, measured within a budget; a recipe to train it, a report to read."""

import math
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from bowerbird.cli.output import command, err, say, show_json, show_table, tell, word
from bowerbird.core import ConfigError, RunOptions, check
from bowerbird.data import REGISTRY, RowSplit, Split
from bowerbird.data.files import format_of
from bowerbird.data.named import ROOT_VARIABLE
from bowerbird.recommender import DataOptions, Recipe, SplitOptions
from bowerbird.selection import Advice, Shown, as_dict, as_html, recipe_text, select
from bowerbird.selection.report import stand
from bowerbird.selection.worker import Executor

UNITS = {"s": 1, "m": 60, "h": 3600}


@dataclass(frozen=True, kw_only=True)
class Asked:
    """What was asked for, beside the data."""

    began: float  # when the command did, by the monotonic clock
    budget_s: float
    latency_ms: float | None
    memory_mb: float | None
    models: tuple[str, ...]
    study: Path
    recipe: Path
    report: Path | None
    label: tuple[str, ...]
    on: str | None = None
    workers: int = 2
    address: str | None = None


def budget_of(text: str) -> float:
    """Return the seconds of a budget such as 90s, 10m or 1h; raises `ConfigError`."""
    number, unit = (text[:-1], text[-1:]) if text[-1:] in UNITS else (text, "m")
    try:
        seconds = float(number) * UNITS[unit]
    except ValueError:
        seconds = math.nan
    if not (math.isfinite(seconds) and seconds > 0):
        raise ConfigError(f"budget is {text!r}; it must be a span such as 90s, 10m or 1h. Try --budget 10m.")
    return seconds


def run_select(data: DataOptions, cut: SplitOptions, run: RunOptions, asked: Asked, *, as_json: bool) -> None:
    """Race the models, show what came of it, and write recipe and report."""
    for path in (asked.recipe, asked.report):
        if path is not None:
            path.parent.mkdir(parents=True, exist_ok=True)  # a place that cannot be written is told before the race
    split = _split(data, cut, asked.label)
    if not as_json:
        say(split.protocol)
    with _executor(asked) as executor, _shown(asked.budget_s, not as_json) as show:
        found = select(
            split, budget_s=asked.budget_s, latency_ms=asked.latency_ms, memory_mb=asked.memory_mb,
            models=asked.models, study=asked.study, run=run, began=asked.began, show=show, executor=executor,
        )  # fmt: skip
    said = f"{found.sentence}\n{split.protocol}"
    text = recipe_text(found.pick.trial.config, _portable(data), cut, run, label=asked.label, said=said)
    asked.recipe.write_text(text, encoding="utf-8")
    if asked.report is not None:
        asked.report.write_text(as_html(found, data=data.path, recipe=str(asked.recipe)), encoding="utf-8")
    if as_json:
        show_json({"data": data.path, **as_dict(found), "recipe": str(asked.recipe),
                   "report": None if asked.report is None else str(asked.report)})  # fmt: skip
        return
    _show(found, asked)


@contextmanager
def _executor(asked: Asked) -> Iterator[Executor | None]:
    """Give who runs tries elsewhere, where that was asked for."""
    if asked.on is None:
        yield None
        return
    check(asked.on == "ray", "on", asked.on, "must be ray, or left out", try_instead="ray")
    from bowerbird.distributed import cluster
    from bowerbird.distributed.tune import Tries

    with cluster.started(asked.workers, asked.address):
        yield Tries(asked.workers)


def _split(data: DataOptions, cut: SplitOptions, label: tuple[str, ...]) -> Split | RowSplit:
    """Return the parts of interactions; of a feature table where a label is named, or the data are one."""
    from bowerbird.cli.training import parts_of
    from bowerbird.models.baselines.popularity import PopularityConfig

    if label or (data.path in REGISTRY and REGISTRY[data.path].kind == "rows") or _is_libsvm(data):
        if not data.holds_rows(label):
            raise ConfigError(
                f'{data.path} has no column "{label[0]}". Mend --label, or leave it out for lists of items.'
            )
        return data.load_rows(label, cut)
    return parts_of(Recipe(model=PopularityConfig(), data=data, split=cut))[0]


def _is_libsvm(data: DataOptions) -> bool:
    return Path(data.path).is_file() and format_of(Path(data.path), data.format) == "libsvm"


def _portable(data: DataOptions) -> DataOptions:
    """Return where the data are without a folder that the environment names: there the recipe finds it too."""
    return replace(data, root=None) if data.root == os.environ.get(ROOT_VARIABLE) else data


@contextmanager
def _shown(budget_s: float, wanted: bool) -> Iterator[Callable[[Shown], None]]:
    """Give a function that draws how far the race is; on no terminal, nothing."""
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    progress = Progress(
        BarColumn(), TextColumn("{task.fields[line]}", markup=False), TimeElapsedColumn(), console=err, transient=True,
        disable=not (wanted and err.is_terminal),
    )  # fmt: skip
    with progress:
        task = progress.add_task("", total=budget_s, line="starting")

        def show(one: Shown) -> None:
            best = f"  best so far {one.best} {one.value:.4f}" if one.best else ""
            line = f"{one.share:.0%} of the events: {one.doing}{best}  {one.tries} tries"
            progress.update(task, completed=budget_s - one.left_s, line=line)

        yield show


def _show(found: Advice, asked: Asked) -> None:
    if found.interrupted:
        say("stopped; this is what was measured until then, and the same command goes on from here")
    if found.resumed:
        say(f"{found.resumed} tries were measured by an earlier run")
    rows = [
        (place.trial.model, found.settings(place.trial), f"{place.trial.value:.4f}\n{place.low:.4f} – {place.high:.4f}",
         f"{place.trial.measured.seconds:,.1f}", f"{place.trial.measured.ms:.2g}", f"{place.trial.measured.mb:,.1f}",
         str(found.kept[place.trial.model]["lines"]), stand(place))
        for place in found.places
    ]  # fmt: skip
    what = {"ndcg@10": "NDCG@10", "auc": "AUC"}[found.metric]
    part = "all" if found.share == 1 else f"{found.share:.0%}"
    heads = ("model", "settings", f"{what}\n95 % interval", "train\ns", "ms a\nrequest", "MB", "lines", "on the front")
    show_table(
        f"{what} on validation, {found.n:,} {found.who}; trained on {part} of the train part", heads, rows, left=2
    )
    for line in str(found).splitlines():
        tell(line)
    tried = [one for one in found.skipped if not one.why.startswith(("it ", "was left behind"))]
    for one in tried:
        say(str(one), mark="[yellow]not measured[/]: ")
    tell(f"\n{len(found.trials)} tries in {found.seconds:.0f} s. Wrote {asked.recipe}"
         + (f" and {asked.report}" if asked.report else ""))  # fmt: skip
    tell(f"next: {command()} train {word(asked.recipe)} --out runs/selected")
