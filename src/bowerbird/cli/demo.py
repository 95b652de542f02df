"""`bowerbird demo`: five models on ml-100k, compared where it matters, a pick with its reason, and lists to look at.

Every model is chosen on validation, trained again on everything before the test cut, and then asked about test once.
The pick is made on validation too, so that the table of test figures stays an honest one.
"""

import json
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from bowerbird.cli.output import command, err, out, say, show_json, show_table, tell, word
from bowerbird.core import RunOptions
from bowerbird.data import Interactions, Split, load, split
from bowerbird.evaluation import Report, by_activity, compare, evaluate
from bowerbird.recommender import Recommender, fit

MODELS = ("popularity", "itemknn", "ease", "mf", "lightgcn")
WARMUP = 5  # first events that a stranger posts before being asked about the rest
METRIC = "ndcg@10"
STRANGER = ("Star Wars (1977)", "Alien (1979)", "Terminator, The (1984)")
SHOWN = 10


@dataclass
class Row:
    """One model's line in the table."""

    model: str
    recommender: Recommender  # trained on the per-user split's train part
    valid: Report
    tests: list[Report] = field(default_factory=list)
    seconds: float = 0.0  # of training, chosen and trained again, on the per-user split

    @property
    def megabytes(self) -> float:
        """The size of what a bundle keeps of the model."""
        state = self.recommender.model.state_dict().values()
        return sum(float(one.numel() * one.element_size()) for one in state) / 1e6

    def to_dict(self) -> dict[str, Any]:
        """Return what `--json` prints."""
        return {
            "model": self.model,
            "valid": self.valid.to_dict(),
            "tests": [report.to_dict() for report in self.tests],
            "seconds": {"train": self.seconds},
            "megabytes": self.megabytes,
        }


def run_demo(data: str, data_root: str | None, out_dir: Path, port: int, *, as_json: bool) -> Recommender:
    """Run the whole walk; return the pick, trained on everything and saved."""
    events = load(data, data_root=data_root)
    say(
        f"{len(events):,} ratings by {events.n_users} people of {events.n_items:,} films. "
        "Every rating counts as a choice; a reason says liked for four stars and more.\n",
        mark="\n[bold]ml-100k[/]: ",
    )
    per_user = split(events, "per-user", valid=0.1, test=0.2)
    temporal = split(events, "temporal", valid=0.1, test=0.1, warmup=WARMUP)
    rows = list(_measured(per_user, temporal))
    pick, sentence = _pick(rows)
    served = pick.recommender.refit(events)
    slices = by_activity(pick.tests[0], per_user.test)
    served.measured = pick.tests[0].to_dict() | {"slices": slices, "trained_on": "the train and validation parts"}
    served.save(out_dir)
    if as_json:
        show_json({"models": [row.to_dict() for row in rows], "pick": pick.model, "why": sentence, "out": str(out_dir)})
        return served
    _show_comparison(rows, (per_user, temporal))
    out.print(f"\n[bold]The pick: {pick.model}.[/] {sentence}\n", highlight=False)
    user = _a_person(events)
    _show_person(served, user)
    _show_stranger(served)
    _show_next(out_dir, port, user)
    return served


def _measured(per_user: Split, temporal: Split) -> Iterator[Row]:
    """Yield a row for each model, drawing how far the walk is."""
    run = RunOptions(progress=False)
    progress = Progress(
        TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn(), console=err, transient=True,
        disable=not err.is_terminal,
    )  # fmt: skip
    with progress:
        task = progress.add_task("", total=2 * len(MODELS))
        for name in MODELS:
            progress.update(task, description=f"{name}: each person's last 20 %")
            started = time.perf_counter()
            chosen = _fitted(per_user, name, run)
            again = chosen.refit(per_user.test.known)
            seconds = time.perf_counter() - started
            row = Row(name, chosen, evaluate(chosen, per_user.valid, metrics=[METRIC]), seconds=seconds)
            row.tests.append(evaluate(again, per_user.test, metrics=[METRIC]))
            progress.advance(task)
            progress.update(task, description=f"{name}: split by time")
            later = _fitted(temporal, name, run).refit(temporal.test.known)
            row.tests += [evaluate(later, temporal.test, metrics=[METRIC], who=who) for who in ("warm", "strangers")]
            progress.advance(task)
            yield row


def _fitted(parts: Split, name: str, run: RunOptions) -> Recommender:
    """Return a recommender chosen on validation; Ctrl-C ends the demo, not only this model."""
    chosen = fit(parts, name, run=run)
    if chosen.training is not None and chosen.training.interrupted:
        raise KeyboardInterrupt
    return chosen


def _show_comparison(rows: list[Row], splits: tuple[Split, Split]) -> None:
    heads = ["(1) own\nlast 20 %", "(2) later,\nknown", "(3) later,\nstrangers"]
    counts = [report.n_users for report in rows[0].tests]
    columns = [f"{head}\nn = {count}" for head, count in zip(heads, counts, strict=True)]
    cells = []
    for row in rows:
        figures = []
        for report in row.tests:
            low, high = report.intervals[METRIC]
            figures.append(f"{report.metrics[METRIC]:.3f}\n{low:.3f}–{high:.3f}".replace("0.", "."))
        coverage = f"{row.tests[0].metrics['coverage@10']:.0%}"
        cost = [f"{row.seconds:.1f}", f"{row.tests[0].ms_per_user:.2f}", f"{row.megabytes:.1f}"]
        cells.append([row.model, *figures, coverage, *cost])
    title = "NDCG@10 on test, with 95 % intervals"
    show_table(title, ("model", *columns, "cover-\nage", "train\ns", "ms per\nuser", "MB"), cells)
    out.print(
        "(1) each person's last 20 % by time: others' futures are visible to training\n"
        "(2) one moment for all: people known before it, and what they chose after it\n"
        f"(3) the same moment: people who came later, after their own first {WARMUP} choices\n"
        "coverage, seconds, milliseconds and MB belong to (1)",
        highlight=False,
    )
    for one in splits:
        say(f"{one.protocol} ranking=full masked=history k=10 seed=0")


def _pick(rows: list[Row]) -> tuple[Row, str]:
    """Return the cheapest model that is level with the best on validation, and why."""
    best = max(rows, key=lambda row: row.valid.metrics[METRIC])
    for row in sorted(rows, key=lambda row: row.seconds):
        if row is best:
            return (
                row,
                f"It is the best on validation, and no cheaper model is level with it (n = {row.valid.n_users}).",
            )
        [difference] = compare(row.valid, best.valid, metrics=[METRIC])
        if difference.low <= 0 <= difference.high:
            return row, (
                f"On validation {best.model} is ahead of it by {-difference.mean:.4f}, but the 95 % interval of the "
                f"paired difference, {difference.low:+.4f} to {difference.high:+.4f}, includes zero "
                f"(n = {row.valid.n_users}), and it is the cheapest of those: {row.seconds:.1f} s to train."
            )
    return best, "It is the best on validation."


def _a_person(events: Interactions) -> Any:
    """Return the person with the most recent event: their list is about now."""
    return events.user_ids[int(events.user[-1])]


def _show_person(recommender: Recommender, user: Any) -> None:
    past = recommender.past
    offsets, order = past.by_user
    row = recommender.user_ids.row(user)
    recent = order[offsets[row] : offsets[row + 1]][::-1][:SHOWN]
    films = [f"{past.events[past.event[one]].phrase} {past.title(int(past.item[one]))}" for one in recent]
    slate = recommender.recommend([user], k=SHOWN, explain=True).to_polars().to_dicts()
    films += [""] * (len(slate) - len(films))
    cells = [(film, place["title"], place["reason"]) for film, place in zip(films, slate, strict=False)]
    show_table(f"Person {user}", ("lately", "recommended", "why"), cells, left=3)


def _show_stranger(recommender: Recommender) -> None:
    titles = recommender.past.items["title"].to_list() if recommender.past.items is not None else []
    history = [recommender.item_ids[titles.index(title)] for title in STRANGER if title in titles]
    slate = recommender.recommend(histories=[history], k=SHOWN, explain=True).to_polars().to_dicts()
    out.print()
    cells = [(place["title"], place["reason"]) for place in slate]
    show_table(f"A stranger who chose {', '.join(STRANGER)}", ("recommended", "why"), cells, left=2)


def _show_next(out_dir: Path, port: int, user: Any) -> None:
    from bowerbird.serving import console

    body = json.dumps({"user_id": user, "k": 3, "explain": True})
    url = f"http://127.0.0.1:{port}/v1/recommendations"
    tell(f"\nSaved in {out_dir}. Next:")
    tell(f"  {command()} serve {word(out_dir)}")
    tell(f"  curl -s {url} -H 'content-type: application/json' -d {word(body)}")
    if console.there():
        tell(f"  and look at it: http://127.0.0.1:{port}{console.PATH}/")
