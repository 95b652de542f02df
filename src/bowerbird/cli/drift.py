"""`bowerbird drift`: two tables, or what a run learnt beside what came since; and an update where asked."""

import io
import json
from collections.abc import Sequence
from contextlib import redirect_stdout
from functools import partial
from pathlib import Path
from typing import Any

import polars as pl

from bowerbird.cli.output import say, show_json, show_table, tell
from bowerbird.core import RequestError
from bowerbird.monitoring import Drift, WatchOptions, compare_events, compare_windows
from bowerbird.store import bundles

ROWS = "rows"  # what `bundles.kind_of` says of a predictor, which keeps no rows


def run_drift_of_tables(
    reference: str, now: str, named: dict[str, Any], options: WatchOptions, *, as_json: bool
) -> None:
    """Show what changed from one table to another; `named` are the columns of `compare_windows`."""
    drift = compare_windows(_table(reference), _table(now), **named, options=options)
    if as_json:
        show_json({"reference": reference, "now": now, **drift.to_dict()})
    else:
        _show(f"{now} beside {reference}", drift)


def run_drift_of_run(
    run: Path, now: str | None, data_dir: Path | None, options: WatchOptions, *, update: bool, as_json: bool
) -> int:
    """Show what changed from the events that a run has learnt to later ones; update it where asked and due.

    Returns the exit status: that of `update` where one was started, else 0.
    """
    from bowerbird.recommender import DataOptions, load
    from bowerbird.recommender.pasts import table_of
    from bowerbird.recommender.update import unseen
    from bowerbird.store.deeds import read_deeds

    if bundles.kind_of(run) == ROWS:
        raise RequestError(f"{run} keeps no rows to compare with. Give two tables: bowerbird drift BEFORE NOW.")
    if now is not None and data_dir is not None:
        raise RequestError("where do the new events come from? Give one of NOW and --data-dir.")
    rec, source = load(run), now or str(data_dir or run / "server")
    if now is None:
        events = read_deeds(Path(source), rec.log_offset)[0]
    else:
        events = unseen(rec.past, table_of(DataOptions(path=now).load()))
    document: dict[str, Any] = {"reference": str(run), "version": rec.version, "now": source}
    if not len(events):
        reason = f"{source} holds no event that this version does not know"
        show_json(document | {"drift": False, "alarms": [], "reason": reason}) if as_json else say(f"{run}: {reason}")
        return 0
    drift = compare_events(rec, events, options=options)
    document |= drift.to_dict()
    if not as_json:
        _show(f"{source} beside what version {rec.version} of {run} has learnt", drift)
    status = 0
    if update and drift.alarms:
        status, document["update"] = _updated(run, now, None if now else Path(source), as_json=as_json)
    if as_json:
        show_json(document)
    return status


def _updated(run: Path, now: str | None, data_dir: Path | None, *, as_json: bool) -> tuple[int, Any]:
    """Return the exit status of `bowerbird update`, and what it told as JSON."""
    from bowerbird.cli.versions import run_update
    from bowerbird.recommender import DataOptions
    from bowerbird.store.deeds import read_deeds
    from bowerbird.store.schema import read_declared

    data = None if now is None else DataOptions(path=now)
    sources: dict[str, Any] = {} if data_dir is None else {"read_log": partial(read_deeds, data_dir),
                                           "read_types": partial(read_declared, data_dir)}  # fmt: skip
    if not as_json:
        return run_update(run, data, **sources), None
    with redirect_stdout(io.StringIO()) as told:
        status = run_update(run, data, **sources, as_json=True)
    return status, json.loads(told.getvalue())


def named_columns(
    column: Sequence[str] | None, prediction: str | None, label: str | None, quality: Sequence[str] | None,
    slices: Sequence[str] | None,
) -> dict[str, Any]:  # fmt: skip
    """Return the columns that were given, by their names in `compare_windows`."""
    given = {"columns": column, "prediction": prediction, "label": label, "quality": quality, "slices": slices}
    return {name: value for name, value in given.items() if value}


def _table(source: str) -> pl.DataFrame:
    from bowerbird.data.files import typed
    from bowerbird.data.readers import open_table

    table = open_table(source)
    frame = table.columns(table.names)
    return typed(frame, table.kinds, table.place) if table.is_text else frame


def _show(title: str, drift: Drift) -> None:
    rows = [
        (one.name, one.kind, one.test, "" if one.psi is None else f"{one.psi:.3f}", f"{one.p:.2g}",
         "drift" if one.alarm else "quiet")
        for one in drift.series
    ]  # fmt: skip
    head = f"{title}: {drift.n_now:,} rows beside {drift.n_reference:,}"
    show_table(head, ("column", "what", "test", "PSI", "p, Holm", "verdict"), rows, left=3)
    for name, why in drift.left_out.items():
        say(f"{name} is not compared: {why}")
    for one in drift.alarms:
        tell(str(one), mark="[bold red]drift[/] ")
    if not drift.alarms:
        tell("nothing moved more than chance moves it")
