"""`bowerbird train`: read, split, search where asked, fit, measure, refit, save."""

import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

from bowerbird.cli.output import command, out, say, show_json, show_table, tell, word
from bowerbird.cli.reports import show_reports
from bowerbird.cli.rows import run_rows
from bowerbird.cli.steps import forget, labels_told, on_everything, others_are_silent, resumable, say_resumed, searched
from bowerbird.core import ConfigError, DataError, did_you_mean, entry_of
from bowerbird.data import REGISTRY, Interactions, Split, load_split
from bowerbird.data.readers import open_table
from bowerbird.evaluation import by_activity, evaluate
from bowerbird.recommender import Recipe, Recommender, fit
from bowerbird.training import Workers


def run_training(
    path: Path | None, given: dict[str, dict[str, Any]], out_dir: Path | None, *, refit: bool, as_json: bool
) -> None:
    """Run a recipe as the options change it, or the options alone; of several workers only the first speaks."""
    others_are_silent()
    recipe = Recipe.of(path, given)
    if recipe.data is None:
        raise ConfigError("there is no data to train on. Name a file or a data set with --data.")
    if out_dir is not None:
        out_dir.mkdir(parents=True, exist_ok=True)  # a place that cannot be written is told before training
    refit = refit and out_dir is not None  # without a place to save, nobody would use it
    if (_ranks(recipe) or recipe.ranking.label) and recipe.data.holds_rows(recipe.ranking.label):
        run_rows(recipe, out_dir, refit=refit, as_json=as_json)
        return
    split, events = parts_of(recipe)
    _check_labels(recipe, events)
    if not as_json:
        sizes = f"{len(events):,} events, {events.n_users:,} users, {events.n_items:,} items"
        say(f"{events.origin}\n{sizes}")
    for warning in split.warnings:
        say(warning, mark="[yellow]warning[/]: ")
    found = searched(split, recipe, out_dir)
    model = recipe.model if found is None else found.best
    started = time.perf_counter()
    run, state = resumable(recipe.run, out_dir)
    recommender = fit(split, model, run=run, ranking=recipe.ranking)
    seconds = time.perf_counter() - started
    say_resumed(recommender.training)
    left_out = recommender.ranking.labels.left_out(split.train) if recommender.stage else 0
    if left_out:
        why = f"have no {recommender.ranking.given} and are left out of what the ranker learns"
        say(f"{left_out:,} pairs of the train part {why}")
    first = Workers.here().first
    report = _measure(recommender, split, recipe.run.seed) if first else {}
    recommender.measured = report
    if refit:
        recommender, refit = on_everything(recommender, events)
    if not first:
        return
    version = recommender.save(out_dir) if out_dir is not None else None
    forget(state, recommender.training)
    if as_json:
        show_json(
            {
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
                "left_out": left_out,
                "training": recommender.training.to_dict() if recommender.training else None,
                "health": recommender.health.to_dict() if recommender.health else None,
                "refit": refit,
                "out": None if out_dir is None else str(out_dir),
                "version": version,
                **report,
            }
        )
        return
    _show(recommender, split, report)
    out.print(f"trained in {seconds:.1f} s" + (" and again on everything" if refit else ""))
    if out_dir is not None:
        tell(f"saved {recommender.name} as version {version} in {out_dir}")
        user = word(recommender.user_ids[0], "--user")
        tell(f"next: {command()} recommend {word(out_dir)} {user} --explain")


def _measure(recommender: Recommender, split: Split, seed: int) -> dict[str, Any]:
    """Return the report on validation, and of a ranker also how well it tells labels."""
    lists, labels = evaluate(recommender, split.valid, seed=seed), labels_told(recommender, split.valid, seed=seed)
    relied = {"relies_on": recommender.overview().to_dict()}
    parts = {"slices": by_activity(lists, split.valid, seed=seed)}
    return lists.to_dict() | parts | labels | relied | {"trained_on": "the train part", "split": split.protocol}


def _show(recommender: Recommender, split: Split, measured: dict[str, Any]) -> None:
    _show_audit(split)
    show_reports(measured)
    _show_health(recommender)


def _check_labels(recipe: Recipe, events: Interactions) -> None:
    """Raise `ConfigError` for a label that is neither a column of the data nor one of its events."""
    assert recipe.data is not None
    kinds = [kind.name for kind in events.events]
    for name in recipe.ranking.label:
        if name not in kinds:
            path = recipe.data.path
            columns = [] if path in REGISTRY else open_table(path, format=recipe.data.format).names
            raise ConfigError(
                f'label "{name}" is neither an event nor a column of {path}.{did_you_mean(name, [*kinds, *columns])} '
                f"Events: {', '.join(kinds)}." + (f" Columns: {', '.join(columns)}." if columns else "")
            )


def parts_of(recipe: Recipe) -> tuple[Split, Interactions]:
    """Return the split, and what the one to serve is trained on: everything, but for the test of published parts."""
    assert recipe.data is not None
    path, root = recipe.data.path, recipe.data.root
    if path in REGISTRY and REGISTRY[path].kind == "split":
        if recipe.split.method not in (None, "given"):
            raise ConfigError(f"{path} brings its own parts; method {recipe.split.method!r} would cut them anew.")
        split = load_split(path, data_root=root)
        return split, split.test.known
    try:
        events = recipe.data.load()
    except DataError as error:
        if _ranks(recipe) and not recipe.ranking.label:
            raise DataError(f"{error.message} Or is it a feature table? Then name its label with --label.") from None
        raise
    return recipe.split.cut(events), events


def _ranks(recipe: Recipe) -> bool:
    return "ranker" in entry_of(recipe.model).tags


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
