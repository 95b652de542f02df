"""`bowerbird train` on a feature table, `bowerbird predict`, and `bowerbird evaluate` of what they made."""

import time
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path

import polars as pl

from bowerbird.cli.output import command, out, say, show_json, show_table, tell, word
from bowerbird.cli.reports import show_relied_on, show_report
from bowerbird.cli.steps import forget, on_everything, resumable, say_resumed, searched
from bowerbird.core import RequestError
from bowerbird.core.parquet import check_name
from bowerbird.data import Rows, RowSplit, read_rows
from bowerbird.data.files import typed
from bowerbird.data.readers import open_table
from bowerbird.evaluation import evaluate_rows
from bowerbird.features import Column, infer
from bowerbird.recommender import Predictor, Recipe, fit
from bowerbird.training import Workers

FIRST, COLUMNS = 20, 8  # rows and columns that people are shown


def run_rows(recipe: Recipe, out_dir: Path | None, *, refit: bool, as_json: bool) -> None:
    """Train a ranker on a feature table, measure it, and save it where asked."""
    assert recipe.data is not None
    split = recipe.data.load_rows(recipe.ranking.label, recipe.split)
    columns = _columns(recipe, split.train)
    if not as_json:
        _show_columns(recipe.data.path, split, columns)
    found = searched(split, recipe, out_dir, columns=columns)
    model = recipe.model if found is None else found.best
    started = time.perf_counter()
    run, state = resumable(recipe.run, out_dir)
    predictor = fit(split, model, run=run, columns=columns)
    seconds = time.perf_counter() - started
    say_resumed(predictor.training)
    unread = dict(sorted(predictor.encoder.counts.items()))
    report = evaluate_rows(
        predictor.predict(split.valid), split.valid, protocol=split.protocol, part="valid", seed=recipe.run.seed
    ).to_dict()
    relied = {"relies_on": predictor.overview(split.valid).to_dict()}
    predictor.measured = report | relied | {"trained_on": "the train part", "split": split.protocol}
    if refit:
        predictor, refit = on_everything(predictor, _together(split))
    if not Workers.here().first:
        return
    version = predictor.save(out_dir) if out_dir is not None else None
    forget(state, predictor.training)
    if as_json:
        show_json(
            {
                "model": predictor.name,
                "data": recipe.data.path,
                "data_sha256": _together(split).fingerprint,
                "seeds": [recipe.run.seed],
                "split": split.protocol,
                "audit": split.audit.to_dicts(),
                "seconds": {"train": seconds},
                "config": asdict(model),
                "search": found.to_dict() if found else None,
                "training": predictor.training.to_dict() if predictor.training else None,
                "refit": refit,
                "out": None if out_dir is None else str(out_dir),
                "version": version,
                "not_read": unread,
                **report,
            }
        )
        return
    show_report(report)
    _say_unread(unread)
    out.print(f"trained in {seconds:.1f} s" + (" and again on everything" if refit else ""))
    if out_dir is not None:
        tell(f"saved {predictor.name} as version {version} in {out_dir}")
        tell(f"next: {command()} predict {word(out_dir)} FILE --out scores.parquet")


def run_predict(run: Path, source: str, out_file: Path | None, *, as_json: bool) -> None:
    """Score every row of a file, and write the rows with their probabilities, or show the first."""
    if out_file is not None:
        check_name(out_file)
    predictor = Predictor.load(run)
    frame = read_frame(source)
    scores = predictor.predict(frame)
    scored = frame.with_columns(pl.Series(f"p_{task}", scores[:, place]) for place, task in enumerate(predictor.tasks))
    if out_file is not None:
        scored.write_parquet(out_file)
    unread = dict(sorted(predictor.encoder.counts.items()))
    if as_json:
        kept = {"out": str(out_file)} if out_file else {"scores": scores.tolist()}
        show_json({"rows": len(scores), "tasks": list(predictor.tasks), "not_read": unread, **kept})
        return
    _say_unread(unread)
    if out_file is not None:
        tell(f"{len(scores):,} rows in {out_file}")
        return
    names = [f"p_{task}" for task in predictor.tasks]
    shown = scored.select(*names, *frame.columns[: max(COLUMNS - len(names), 0)]).head(FIRST)
    cells = [(*(f"{one:.4f}" for one in row[: len(names)]), *row[len(names) :]) for row in shown.rows()]
    show_table(f"The first of {len(scores):,} rows", shown.columns, cells, left=0)


def read_frame(source: str) -> pl.DataFrame:
    """Return a file of rows with all of its columns."""
    table = open_table(source)
    frame = table.columns(table.names)
    return typed(frame, table.kinds, table.place) if table.is_text else frame


def run_evaluate(run: Path, source: str | None, *, as_json: bool) -> None:
    """Show what a predictor was measured on, or measure it on a table that it never saw."""
    predictor = Predictor.load(run)
    if source is None:
        if predictor.measured is None:
            raise RequestError(f"{run} was never measured. Give labelled rows with --data FILE.")
        document = predictor.measured
    else:
        rows = read_rows(source, labels=list(predictor.tasks))
        document = evaluate_rows(predictor.predict(rows), rows, part=Path(source).name).to_dict()
    if as_json:
        show_json(document)
    else:
        show_report(document)
        show_relied_on(document)


def _columns(recipe: Recipe, train: Rows) -> tuple[Column, ...]:
    given = recipe.ranking.columns_by_part
    if not given:
        return infer(train.table)
    if "" not in given:
        raise RequestError(f"columns are given for {', '.join(given)}; a feature table needs [[column]].")
    return given[""]


def _together(split: RowSplit) -> Rows:
    return Rows.concat([split.train, split.valid, split.test])


def _show_columns(name: str, split: RowSplit, columns: tuple[Column, ...]) -> None:
    kinds = ", ".join(f"{column.name} ({column.kind})" for column in columns)
    left = [name for name in split.train.table.columns if name not in {column.name for column in columns}]
    say(f"{name}: {split.protocol}\n{kinds}" + (f"\nleft out: {', '.join(left)}" if left else ""))
    audit = split.audit
    cells = [(part, rows, *(None if one is None else f"{one:.4f}" for one in rates))
             for part, rows, *rates in audit.rows()]  # fmt: skip
    show_table("Rows, and the share of 1 of each label", audit.columns, cells)


def _say_unread(counts: Mapping[str, int]) -> None:
    for what, count in counts.items():
        say(f"{what}: {count:,} values", mark="[yellow]note[/]: ")
