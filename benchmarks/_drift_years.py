"""Real years for `drift.py`: a model that is trained once, one that is again when the watch alarms, one by schedule.

Every period is foreseen first and learnt afterwards, so that each event is a test once and no model has seen it then.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

import bowerbird as bb
from bowerbird.core import BowerbirdError, numpy_stream
from bowerbird.data import Interactions, load, load_split
from bowerbird.data.named import REGISTRY
from bowerbird.evaluation.statistics import paired
from bowerbird.monitoring import WatchOptions, compare_windows, foreseen
from bowerbird.recommender.pasts import table_of

METRIC = "ndcg@10"
ARMS = ("stale", "alarm", "schedule", "always")
WATCH = WatchOptions(alpha=0.0025)  # half for what is foreseen, half for items that the model does not know
FEWEST = 10  # people of a period who can be asked


@dataclass(frozen=True)
class Plan:
    """How a data set is walked through."""

    start: str  # the moment up to which is trained on at first
    unit: str  # months or days
    step: int  # units of a period
    schedule: int  # periods between two trainings of the arm that has a schedule


PLANS = {
    "amazon-hin": Plan(start="2002-01", unit="M", step=6, schedule=2),
    "ml-latest-small": Plan(start="2000-01", unit="M", step=12, schedule=2),
    "lastfm-1k-cfm": Plan(start="2009-04-27", unit="D", step=2, schedule=2),  # 97 % of it are of its last 80 days
}


@dataclass
class Arm:
    """One way to keep a model."""

    model: bb.Recommender
    updates: int = 0
    first: pl.DataFrame | None = None  # what the model in use foresaw in its first period
    strange: np.ndarray | None = None  # and which events were of items that it did not know, 0 or 1
    alarms: list[int] = field(default_factory=list)
    said: list[str] = field(default_factory=list)


def events_of(name: str, root: Path) -> Interactions:
    """Return all events of a data set with times."""
    if REGISTRY[name].kind != "split":
        return load(name, data_root=str(root))
    last = load_split(name, data_root=str(root)).test
    return bb.read(pl.concat([table_of(last.known), table_of(last.targets)]))


def periods(events: Interactions, plan: Plan) -> Iterator[tuple[str, np.ndarray, np.ndarray]]:
    """Yield each period's name, which events are before it, and which are its own, bool (E,).

    The first is what is trained on at first, before which is nothing.
    """
    assert events.time is not None
    unit = events.time.astype("datetime64[s]").astype(f"datetime64[{plan.unit}]").astype(int)
    start = int(np.datetime64(plan.start, plan.unit).astype(int))
    yield "first", np.zeros(len(unit), bool), unit < start
    for begin in range(start, int(unit[-1]) + 1, plan.step):
        name = str(np.datetime64(begin, plan.unit))  # type: ignore[call-overload]
        yield name, unit < begin, (unit >= begin) & (unit < begin + plan.step)


def walk(events: Interactions, plan: Plan, model: str, seed: int) -> tuple[list[dict[str, Any]], dict[str, Arm]]:
    """Return a row for each period, and what became of each arm."""
    turns = periods(events, plan)
    _, _, first = next(turns)
    start = bb.fit(_only(events.rows(first)), model, run=bb.RunOptions(seed=seed))
    arms, rows = {name: Arm(start) for name in ARMS}, list[dict[str, Any]]()
    for place, (name, before, mine) in enumerate(turns):
        past, now = _only(events.rows(before)), _only(events.rows(mine))
        told = {arm: foreseen(one.model, past, now) for arm, one in arms.items()} if len(now) else {}
        if not told or len(told["stale"]) < FEWEST:
            continue
        values = {arm: one[METRIC].to_numpy() for arm, one in told.items()}
        lost = paired(METRIC, values["always"], values["stale"], numpy_stream(seed, "lost", place), draws=2_000)
        rows.append(
            {"period": name, "people": len(told["stale"]), "events": len(now), "lost": lost.low > 0}
            | {arm: float(one.mean()) for arm, one in values.items()}
        )
        whole = _only(events.rows(before | mine))
        for arm, one in arms.items():
            if _due(arm, one, told[arm], now, len(rows), plan):
                one.model = bb.fit(whole, model, run=bb.RunOptions(seed=seed))
                one.updates, one.first, one.strange = one.updates + 1, None, None
    return rows, arms


def _only(events: Interactions) -> Interactions:
    """Return events with no more ids than they have."""
    return bb.Interactions.of(
        events.user_ids.names(events.user), events.item_ids.names(events.item), time=events.time, weight=events.weight,
        event=events.event, events=events.events,
    )  # fmt: skip


def _due(arm: str, one: Arm, told: pl.DataFrame, now: Interactions, n_periods: int, plan: Plan) -> bool:
    """Return whether an arm is to be trained again after a period."""
    if arm == "always":
        return True
    if arm == "schedule":
        return n_periods % plan.schedule == 0
    known = one.model.item_ids.rows(now.item_ids.values)[now.item] >= 0
    strange = (~known).astype(float)
    if one.first is None or one.strange is None:
        one.first, one.strange = told, strange
        return False
    quality = compare_windows(one.first, told, columns=[], quality=[METRIC], options=WATCH)
    items = compare_windows(*(pl.DataFrame({"unknown items": each}) for each in (one.strange, strange)),
                            columns=[], quality=["unknown items"], options=WATCH)  # fmt: skip
    worse = quality.alarms and told[METRIC].mean() < one.first[METRIC].mean()  # type: ignore[operator]
    newer = items.alarms and strange.mean() > one.strange.mean()
    if not (worse or newer):
        return False
    one.alarms.append(n_periods)
    one.said.append("; ".join(str(each) for each in (*quality.alarms, *items.alarms)))
    return arm == "alarm"


def figures(rows: list[dict[str, Any]], arms: dict[str, Arm]) -> dict[str, float]:
    """Return what is told of a data set: levels, decay, delay and recovery."""
    mean = {arm: float(np.mean([row[arm] for row in rows])) for arm in ARMS}
    thirds = [rows[: len(rows) // 3], rows[-(len(rows) // 3) :]]
    kept = [sum(row["stale"] for row in part) / sum(row["always"] for row in part) for part in thirds]
    lost = [place for place, row in enumerate(rows, 1) if row["lost"]]
    alarms = arms["alarm"].alarms
    found: dict[str, float] = {f"{METRIC}.{arm}": value for arm, value in mean.items()}
    found |= {"periods": len(rows), "kept.first_third": kept[0], "kept.last_third": kept[1]}
    found |= {f"trainings.{arm}": one.updates for arm, one in arms.items()}
    if lost:
        found["lost.first_period"] = lost[0]
    if alarms:
        after = rows[alarms[0] :]
        gap = sum(row["always"] - row["stale"] for row in after)
        found |= {"alarm.first_period": alarms[0], "alarms": len(alarms)}
        if gap > 0:
            found["regained"] = sum(row["alarm"] - row["stale"] for row in after) / gap
            found["regained.schedule"] = sum(row["schedule"] - row["stale"] for row in after) / gap
    if lost and alarms:
        found["delay.periods"] = alarms[0] - lost[0]
    return found


def years(names: list[str], root: Path, model: str, seed: int) -> tuple[dict[str, float], dict[str, Any]]:
    """Return the figures of each data set, and its periods with alarms for a picture."""
    metrics: dict[str, float] = {}
    curves: dict[str, Any] = {}
    for name in names:
        if name not in PLANS:
            raise BowerbirdError(f"--sets names {name!r}; there are {', '.join(PLANS)}.")
        if not (root / name).is_dir():
            raise BowerbirdError(f"{root} holds no folder {name}. Give --data FOLDER, or set BOWERBIRD_DATA.")
        rows, arms = walk(events_of(name, root), PLANS[name], model, seed)
        metrics |= {f"{name}.{key}": value for key, value in figures(rows, arms).items()}
        curves[name] = {"rows": rows, "alarms": arms["alarm"].alarms, "said": arms["alarm"].said,
                        "schedule": PLANS[name].schedule}  # fmt: skip
    return metrics, curves


def draw(curves: dict[str, Any], file: Path) -> None:
    """Draw NDCG by period of three ways to keep a model, alarms as triangles."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 3.2), layout="constrained")
    colours = {"stale": "#9a9a9a", "schedule": "#c55a11", "alarm": "#1f4e79"}
    said = {"stale": "trained once", "schedule": "by schedule", "alarm": "on alarm"}
    for axes, (name, one) in zip(figure.subplots(1, len(curves), squeeze=False)[0], curves.items(), strict=True):
        rows = one["rows"]
        for arm, colour in colours.items():
            axes.plot([row[arm] for row in rows], color=colour, linewidth=1.6, label=said[arm])
        marks = [place - 1 for place in one["alarms"]]
        axes.plot(marks, [rows[place]["alarm"] for place in marks], "v", color="#b00020", markersize=6, label="alarm")
        step = max(len(rows) // 3, 1)
        axes.set_xticks(range(0, len(rows), step), [row["period"] for row in rows[::step]], fontsize=8)
        axes.set(title=name, ylim=(0, None))
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(color="#e3e3e3", linewidth=0.6)
        axes.set_axisbelow(True)
    figure.axes[0].set_ylabel("NDCG@10 of a period")
    figure.axes[0].legend(frameon=False, fontsize=8)
    figure.savefig(file, dpi=110)
