"""`bowerbird train`: read, split, fit, measure, refit, save."""

import time
from pathlib import Path
from typing import Any

from bowerbird.cli.main import show_report
from bowerbird.cli.output import command, out, say, show_json, show_table
from bowerbird.core import ConfigError
from bowerbird.data import Split
from bowerbird.evaluation import evaluate
from bowerbird.recommender import Recipe, fit


def run_training(
    path: Path | None, given: dict[str, dict[str, Any]], out_dir: Path | None, *, refit: bool, as_json: bool
) -> None:
    """Run a recipe, or the options given, or the recipe as the options change it."""
    recipe = Recipe.of(path, given)
    if recipe.data is None:
        raise ConfigError("there is no data to train on. Name a file or a data set with --data.")
    if out_dir is not None:
        out_dir.mkdir(parents=True, exist_ok=True)  # a place that cannot be written is told before training
    refit = refit and out_dir is not None  # without a place to save, nobody would use it
    events = recipe.data.load()
    if not as_json:
        sizes = f"{len(events):,} events, {events.n_users:,} users, {events.n_items:,} items"
        say(f"{events.origin}\n{sizes}")
    split = recipe.split.cut(events)
    for warning in split.warnings:
        say(warning, mark="[yellow]warning[/]: ")
    started = time.perf_counter()
    recommender = fit(split, recipe)
    seconds = time.perf_counter() - started
    report = evaluate(recommender, split.valid, seed=recipe.run.seed)
    recommender.measured = report.to_dict() | {"trained_on": "the train part", "split": split.protocol}
    if recommender.training is not None and recommender.training.interrupted:
        say(f"stopped at epoch {recommender.training.epochs}; the best so far is kept, and not trained on everything")
        refit = False
    if refit:
        try:
            recommender = recommender.refit(events)
        except KeyboardInterrupt:
            say("stopped while training on everything; the one trained on the train part is kept")
            refit = False
    version = recommender.save(out_dir) if out_dir is not None else None
    document = {
        "model": recommender.name,
        "data": recipe.data.path,
        "data_sha256": events.fingerprint,
        "seeds": [recipe.run.seed],
        "split": split.protocol,
        "audit": split.audit.to_dicts(),
        "warnings": list(split.warnings),
        "seconds": {"train": seconds},
        "training": recommender.training.to_dict() if recommender.training else None,
        "refit": refit,
        "out": None if out_dir is None else str(out_dir),
        "version": version,
        **report.to_dict(),
    }
    if as_json:
        show_json(document)
        return
    _show_audit(split)
    show_report(report.to_dict())
    out.print(f"trained in {seconds:.1f} s" + (" and again on everything" if refit else ""))
    if out_dir is not None:
        out.print(f"saved {recommender.name} as version {version} in {out_dir}", soft_wrap=True)
        out.print(f"next: {command()} recommend {out_dir} --user {recommender.user_ids[0]} --explain", soft_wrap=True)


def _show_audit(split: Split) -> None:
    rows = [list(row.values()) for row in split.audit.to_dicts()]
    for row in rows:
        row[4] = None if row[4] is None else f"{row[4]:.1%}"
    show_table(split.protocol, split.audit.columns, rows)
