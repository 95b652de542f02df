"""`bowerbird explain`: why an item is in somebody's list or is not, a predictor's row, and what a model relies on."""

from pathlib import Path
from typing import Any

from bowerbird.cli.output import show_json, show_table, tell
from bowerbird.core import Reason, RequestError
from bowerbird.core.reason import METHODS


def run_why(
    run: Path, item: str, user: str | None, history: list[str] | None, k: int, method: str | None, *, as_json: bool
) -> None:
    """Show where an item stands for somebody, why, and what it hangs on."""
    from bowerbird.recommender import load

    rec = load(run)
    found = rec.why(item, user=user, history=history, k=k, method=method)
    if as_json:
        show_json({"run": str(run), "version": rec.version, "user_id": user, **found.to_dict()})
        return
    who = f"user {user}" if user is not None else "a stranger with this history"
    if found.note:
        tell(f"{found.title}: {found.note}.")
    if found.place is not None:
        tell(f"{found.title} is number {found.place:,} of {found.n_items:,} for {who}.")
    for one in found.reasons:
        _show_reason(one)
    if found.shown and found.without is not None:
        names = ", ".join(one.label for one in found.without)
        least = "the smallest part that was found" if len(found.without) > 1 else "nothing else is needed"
        tell(f"It would leave the {found.k} first without: {names} ({least}).")
    elif found.shown:
        tell(f"It would stay among the {found.k} first as long as anything of the past is left.")


def run_overview(run: Path, out_file: Path | None, people: int, *, as_json: bool) -> None:
    """Show what a model relies on altogether, and draw it where asked."""
    from bowerbird.explanation.overview import Overview
    from bowerbird.explanation.pictures import draw
    from bowerbird.recommender import Predictor, load
    from bowerbird.recommender.predictor import ROWS
    from bowerbird.store.bundles import kind_of

    if kind_of(run) == ROWS:
        measured = Predictor.load(run).measured or {}
        if "relies_on" not in measured:
            raise RequestError(f"{run} was not measured when it was trained. Give rows: --rows FILE.")
        found = Overview.from_dict(measured["relies_on"])
    else:
        found = load(run).overview(people=people)
    if out_file is not None:
        draw(found, out_file, title=f"What {run.name} relies on, over {found.people:,} people")
    if as_json:
        show_json({"run": str(run), "out": None if out_file is None else str(out_file), **found.to_dict()})
        return
    show_overview(found.to_dict())
    if out_file is not None:
        tell(f"drawn in {out_file}")


def run_rows(run: Path, source: str, row: int, *, as_json: bool) -> None:
    """Show what the columns of one row of a file, from 1, add to the log of the odds."""
    from bowerbird.cli.rows import read_frame
    from bowerbird.recommender import Predictor

    frame = read_frame(source)
    if not 1 <= row <= len(frame):
        raise RequestError(f"--row is {row}; {source} has rows 1 to {len(frame):,}.")
    predictor = Predictor.load(run)
    reason, chance = predictor.explain(frame[row - 1 : row])[0]
    if as_json:
        show_json({"run": str(run), "row": row, "probability": chance, "reason": reason.to_dict()})
        return
    tell(f"row {row:,}: {predictor.tasks[0]} with a probability of {chance:.4f}")
    _show_reason(reason)


def show_overview(document: dict[str, Any]) -> None:
    """Print the sections of an overview, as `Overview.to_dict` tells them."""
    from bowerbird.explanation.overview import TITLES

    for name, parts in document["sections"].items():
        rows = [
            (one["name"], f"{one['mean']:.3f}",
             f"{one['low']:.3f} – {one['high']:.3f}" if one["low"] < one["high"] else "")
            for one in parts
        ]  # fmt: skip
        show_table(f"Relies on {TITLES[name]}", (name, "mean", "95 % interval"), rows)


def _show_reason(one: Reason) -> None:
    tell(f"{one.text} (by {one.method}: {METHODS[one.method]})")
    if not one.causes:
        return
    unit = "log odds" if one.kind == "features" else "share"
    show_table("", ("cause", unit), [(cause.label, f"{cause.share:+.3f}") for cause in one.causes])
