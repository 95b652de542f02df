"""Steps that commands share: training on interactions and on feature tables, measuring in two places."""

import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

from bowerbird.cli.output import err, out, say
from bowerbird.core import RunOptions
from bowerbird.data import Holdout, RowSplit, Split
from bowerbird.evaluation import evaluate_rows
from bowerbird.features import Column
from bowerbird.recommender import Predictor, Recipe, Recommender
from bowerbird.selection import Search, search
from bowerbird.training import Training, Workers

Fitted = TypeVar("Fitted", Recommender, Predictor)


def searched(
    split: Split | RowSplit, recipe: Recipe, out_dir: Path | None, *, columns: Sequence[Column] | None = None
) -> Search | None:
    """Return what the tries that the recipe asks for found; they are kept beside the bundles, for the next time."""
    if not recipe.search.tries:
        return None
    found = search(
        split,
        recipe.model,
        tries=recipe.search.tries,
        seed=recipe.run.seed,
        run=recipe.run,
        ranking=recipe.ranking,
        columns=columns,
        out=None if out_dir is None else out_dir / "search.jsonl",
    )
    if found.interrupted:
        say(f"stopped after {len(found.tries)} of {recipe.search.tries} tries; the best of them is trained")
    failed = found.tries["error"].drop_nulls()
    if len(failed):
        say(f"{len(failed)} tries failed, the first with: {failed[0]}", mark="[yellow]warning[/]: ")
    who = "rows" if isinstance(split, RowSplit) else "users"
    flatters = "" if found.best == recipe.model else f" Chosen on the {who} measured below, whose figures flatter it."
    say(f"{found}.{flatters}")
    return found


def others_are_silent() -> None:
    """Let only the first of several workers speak."""
    out.quiet = err.quiet = not Workers.here().first


def resumable(run: RunOptions, out_dir: Path | None) -> tuple[RunOptions, Path | None]:
    """Return options under which the same command goes on where a crash ended it, and the folder that this takes."""
    if out_dir is None or run.checkpoint:
        return run, None
    state = out_dir / "state"
    return replace(run, checkpoint=str(state)), state


def say_resumed(training: Training | None) -> None:
    """Say where a training went on."""
    if training is not None and training.resumed_from:
        say(f"went on after epoch {training.resumed_from}, which an earlier run had reached")


def on_everything(fitted: Fitted, data: Any) -> tuple[Fitted, bool]:
    """Return what was trained on everything, and true; or, where somebody stopped it, what there is, and false."""
    if fitted.training is not None and fitted.training.interrupted:
        say(f"stopped at epoch {fitted.training.epochs}; the best so far is kept, and not trained on everything")
        return fitted, False
    try:
        return fitted.refit(data), True
    except KeyboardInterrupt:
        say("stopped while training on everything; the one trained on the train part is kept")
        return fitted, False


def forget(state: Path | None, training: Training | None) -> None:
    """Remove a state with which there is nothing to go on."""
    if state is not None and not (training and training.interrupted):
        shutil.rmtree(state, ignore_errors=True)


def labels_told(recommender: Recommender, holdout: Holdout, *, seed: int = 0) -> dict[str, Any]:
    """Return how well a ranker tells the labels of what came after a cut, under "rows"; nothing of other models."""
    if recommender.stage is None:
        return {}
    probability, rows = recommender.predict(holdout)
    protocol = f"{holdout.protocol} history=before-the-cut"
    return {"rows": evaluate_rows(probability, rows, protocol=protocol, part=holdout.name, seed=seed).to_dict()}
