"""`bowerbird train`: read, split, search where asked, fit, measure, refit, save."""

import shutil
import time
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from bowerbird.cli.main import show_report
from bowerbird.cli.output import command, out, say, show_json, show_table
from bowerbird.core import ConfigError
from bowerbird.data import REGISTRY, Interactions, Split, load_split
from bowerbird.evaluation import evaluate
from bowerbird.recommender import Recipe, Recommender, fit
from bowerbird.selection import Search, search


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
    split, events = _parts(recipe)
    if not as_json:
        sizes = f"{len(events):,} events, {events.n_users:,} users, {events.n_items:,} items"
        say(f"{events.origin}\n{sizes}")
    for warning in split.warnings:
        say(warning, mark="[yellow]warning[/]: ")
    found = _search(split, recipe, out_dir)
    model = recipe.model if found is None else found.best
    started = time.perf_counter()
    run = recipe.run
    state = None if out_dir is None or run.checkpoint else out_dir / "state"
    if state is not None:
        run = replace(run, checkpoint=str(state))  # the same command goes on where a crash ended it
    recommender = fit(split, model, run=run)
    seconds = time.perf_counter() - started
    if recommender.training is not None and recommender.training.resumed_from:
        say(f"went on after epoch {recommender.training.resumed_from}, which an earlier run had reached")
    report = evaluate(recommender, split.valid, seed=recipe.run.seed)
    recommender.measured = report.to_dict() | {"trained_on": "the train part", "split": split.protocol}
    if refit:
        recommender, refit = _on_everything(recommender, events)
    version = recommender.save(out_dir) if out_dir is not None else None
    if state is not None and not (recommender.training and recommender.training.interrupted):
        shutil.rmtree(state, ignore_errors=True)  # nothing to go on with
    document = {
        "model": recommender.name,
        "data": recipe.data.path,
        "data_sha256": events.fingerprint,
        "seeds": [recipe.run.seed],
        "split": split.protocol,
        "audit": split.audit.to_dicts(),
        "warnings": list(split.warnings),
        "seconds": {"train": seconds},
        "config": asdict(model),
        "search": found.to_dict() if found else None,
        "training": recommender.training.to_dict() if recommender.training else None,
        "health": recommender.health.to_dict() if recommender.health else None,
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
    _show_health(recommender)
    out.print(f"trained in {seconds:.1f} s" + (" and again on everything" if refit else ""))
    if out_dir is not None:
        out.print(f"saved {recommender.name} as version {version} in {out_dir}", soft_wrap=True)
        out.print(f"next: {command()} recommend {out_dir} --user {recommender.user_ids[0]} --explain", soft_wrap=True)


def _parts(recipe: Recipe) -> tuple[Split, Interactions]:
    """Return the split, and what the one to serve is trained on: everything, but for the test of published parts."""
    assert recipe.data is not None
    path, root = recipe.data.path, recipe.data.root
    if path in REGISTRY and REGISTRY[path].kind == "split":
        if recipe.split.method not in (None, "given"):
            raise ConfigError(f"{path} brings its own parts; method {recipe.split.method!r} would cut them anew.")
        split = load_split(path, data_root=root)
        return split, split.test.known
    events = recipe.data.load()
    return recipe.split.cut(events), events


def _on_everything(recommender: Recommender, events: Interactions) -> tuple[Recommender, bool]:
    """Return what was trained on everything, and true; or, where somebody stopped it, what there is, and false."""
    if recommender.training is not None and recommender.training.interrupted:
        say(f"stopped at epoch {recommender.training.epochs}; the best so far is kept, and not trained on everything")
        return recommender, False
    try:
        return recommender.refit(events), True
    except KeyboardInterrupt:
        say("stopped while training on everything; the one trained on the train part is kept")
        return recommender, False


def _search(split: Split, recipe: Recipe, out_dir: Path | None) -> Search | None:
    """Return what the tries that the recipe asks for found; they are kept beside the bundles, for the next time."""
    if not recipe.search.tries:
        return None
    kept = None if out_dir is None else out_dir / "search.jsonl"
    found = search(split, recipe.model, tries=recipe.search.tries, seed=recipe.run.seed, run=recipe.run, out=kept)
    if found.interrupted:
        say(f"stopped after {len(found.tries)} of {recipe.search.tries} tries; the best of them is trained")
    failed = found.tries["error"].drop_nulls()
    if len(failed):
        say(f"{len(failed)} tries failed, the first with: {failed[0]}", mark="[yellow]warning[/]: ")
    flatters = "" if found.best == recipe.model else " Chosen on the users measured below, whose figures flatter it."
    say(f"{found}.{flatters}")
    return found


def _show_health(recommender: Recommender) -> None:
    if recommender.health is not None:
        out.print(str(recommender.health), highlight=False)
        for warning in recommender.health.warnings:
            say(warning, mark="[yellow]warning[/]: ")


def _show_audit(split: Split) -> None:
    rows = [list(row.values()) for row in split.audit.to_dicts()]
    for row in rows:
        row[4] = None if row[4] is None else f"{row[4]:.1%}"
    show_table(split.protocol, split.audit.columns, rows)
