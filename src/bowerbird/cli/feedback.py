"""`bowerbird export --feedback`: what a server showed and what came of it, as a table that policies are judged by."""

import re
from datetime import UTC, datetime
from pathlib import Path

import polars as pl

from bowerbird.cli.output import say, show_json, tell
from bowerbird.core import RequestError
from bowerbird.core.parquet import check_name
from bowerbird.data import EventType, declared
from bowerbird.pipeline.filters import SECONDS
from bowerbird.store import bundles, exports
from bowerbird.store.feedback import read_feedback
from bowerbird.store.schema import read_declared

LONGEST_S = 10**10  # of a window: longer ones are a slip of the pen


def run_feedback(
    run: Path,
    out_file: Path | None,
    orphans: Path | None,
    *,
    data_dir: Path | None,
    window: str,
    since: str | None,
    as_json: bool,
) -> None:
    """Write the table, and that of orphans where it is wanted; a server may be running."""
    out_file, data_dir = out_file or run / "feedback.parquet", data_dir or run / "server"
    for path in filter(None, (out_file, orphans)):
        check_name(path)
    own = bundles.manifest_of(run, bundles.current(run))["events"]
    kinds = declared((EventType(**kind) for kind in own), (EventType(**kind) for kind in read_declared(data_dir)))
    found = read_feedback(
        data_dir,
        window_s=seconds_of(window),
        since=0 if since is None else moment_of(since),
        worth={kind.name: kind.reward for kind in kinds},
    )
    _write(found.places, out_file)
    exports.note(run, "feedback", out_file.resolve())
    if orphans is not None:
        _write(found.orphans, orphans)
        exports.note(run, "orphans", orphans.resolve())
    told = {
        "out": str(out_file), "slates": found.places["request_id"].n_unique(), "places": len(found.places),
        "rewarded": int((found.places["reward"] > 0).sum()), "late": int(found.places["late"].sum()),
        "orphans": len(found.orphans),
    }  # fmt: skip
    if as_json:
        show_json(told)
        return
    tell(f"{told['places']:,} places of {told['slates']:,} slates in {out_file}; {told['rewarded']:,} were rewarded")
    if told["late"]:
        say(f"{told['late']:,} events came later than {window} and were not rewarded")
    if told["orphans"]:
        where = "Name a file for them: --orphans FILE" if orphans is None else f"They are in {orphans}"
        say(f"{told['orphans']:,} events have no place in a known slate. {where}")


def seconds_of(window: str) -> int:
    """Return a duration such as 30m in seconds; raises `RequestError`."""
    match = re.fullmatch(r"(\d{1,10})([smhdw])", window, re.ASCII)
    seconds = int(match[1]) * SECONDS[match[2]] if match else 0
    if not 0 < seconds <= LONGEST_S:
        raise RequestError(f"--window is {window!r}; it must be a whole number and s, m, h, d or w. Try --window 1d.")
    return seconds


def moment_of(since: str) -> int:
    """Return a moment of ISO 8601, UTC where it does not say, in seconds since 1970; raises `RequestError`."""
    try:
        moment = datetime.fromisoformat(since)
        return int((moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp())
    except (ValueError, OverflowError):
        raise RequestError(f"--since is {since!r}, which is no moment. Try --since 2026-11-01.") from None


def _write(frame: pl.DataFrame, path: Path) -> None:
    """Write a table whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    scratch = path.with_name(path.name + ".part")
    frame.write_parquet(scratch)
    scratch.replace(path)
