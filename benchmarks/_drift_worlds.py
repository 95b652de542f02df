"""Worlds for `drift.py` in which nothing changes, or seven things do at a moment that is known.

30 series or more are watched together. Of them change: a number by half a standard deviation, a category's share from
10 to 25 %, values that nobody met (5 % of the rows), scores by half a standard deviation, labels to 0.6 of what they
were beside the same predictions, clicks from 10 to 5 %, NDCG by half; at once (sudden), bit by bit over 10,000 rows
(gradual), or on and off (recurring: windows after 3,000 rows, streams after 10,000).
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl

from bowerbird.core import numpy_stream
from bowerbird.monitoring import StreamWatch, WatchOptions, compare_windows

REFERENCE, WINDOW = 10_000, 1_000  # rows
BARE = WatchOptions(psi=0.0)  # tests alone, without the least PSI
CHANGED = (  # column and kind of series
    ("number", "values"), ("category", "values"), ("item", "unseen"), ("score", "values"), ("chance", "calibration"),
    ("click", "quality"), ("ndcg", "quality"),
)  # fmt: skip
ROLES: dict[str, Any] = {
    "prediction": "chance", "label": "bought", "quality": ["click", "ndcg"], "slices": ["scenario"],
}  # fmt: skip
STREAMS = ("score", "click", "ndcg", "residual")
WITHIN = {  # rows within which a change is to be found, of windows and of streams
    "sudden": {"windows": 2_000, "streams": 3_000},
    "gradual": {"windows": 12_000, "streams": 12_000},
    "recurring": {"windows": 2_000, "streams": 3_000},
}
RAMP = 10_000  # rows of a gradual change
TURN = {"windows": 3_000, "streams": 10_000}  # rows of one phase of a recurring one
PHASES = 4  # on, off, on, off


@dataclass(frozen=True)
class World:
    """What is drawn of one seed."""

    seed: int

    def rows(self, n: int, name: str, change: np.ndarray | float = 0.0) -> pl.DataFrame:
        """Return n rows; `change` says of each how far it has changed, 0 to 1."""
        rng = numpy_stream(self.seed, name)
        lam = np.broadcast_to(np.asarray(change, float), (n,))
        moved = rng.random(n) < lam
        chance = rng.beta(2, 8, n)
        bought = rng.random(n) < chance * (1 - 0.4 * lam)
        hit = rng.random(n) < 0.15 * (1 - lam / 2)
        item = rng.zipf(1.5, n).clip(max=100_000).astype(str)
        fresh = np.char.add("new", rng.integers(0, 30, n).astype(str))
        columns: dict[str, Any] = {
            "scenario": rng.choice(["home", "search", "mail"], n),
            "number": rng.normal(size=n) + 0.5 * lam,
            "category": np.where(
                moved & (rng.random(n) < 1 / 6), "c", rng.choice(list("abcd"), n, p=(0.5, 0.3, 0.1, 0.1))
            ),
            "item": np.where(moved & (rng.random(n) < 0.05), fresh, item),
            "score": rng.gumbel(size=n) + 0.5 * 1.28 * lam,
            "chance": chance,
            "bought": bought.astype(float),
            "click": (rng.random(n) < 0.1 - 0.05 * lam).astype(float),
            "ndcg": np.where(hit, 1 / np.log2(1 + rng.integers(1, 11, n)), 0.0),
        }
        columns["residual"] = columns["bought"] - chance
        columns |= {f"n{place}": rng.normal(size=n) for place in range(8)}
        columns |= {f"price{place}": rng.lognormal(0, 0.7, n) for place in range(4)}
        columns |= {f"stars{place}": rng.integers(1, 6, n) for place in range(3)}
        columns |= {f"kind{place}": rng.zipf(1.5, n).clip(max=10 ** (place + 1)).astype(str) for place in range(3)}
        columns |= {f"rare{place}": (rng.random(n) < 0.02).astype(int) for place in range(3)}
        columns |= {f"gaps{place}": np.where(rng.random(n) < 0.1, np.nan, rng.normal(size=n)) for place in range(2)}
        return pl.DataFrame(columns)


def stream_names(frame: pl.DataFrame) -> list[str]:
    """Return 30 columns that are streams of numbers, those that change among them."""
    calm = [name for name in frame.columns if name.startswith(("n", "price", "rare", "stars")) and name != "ndcg"]
    calm = [name for name in calm if name != "number"]
    more = [f"calm{place}" for place in range(30 - len(STREAMS) - len(calm))]
    return [*STREAMS, *calm, *more]


def with_more(frame: pl.DataFrame, names: list[str], seed: int, name: str) -> pl.DataFrame:
    """Return a frame with clicks of 5 % for the names that it lacks."""
    rng = numpy_stream(seed, name, "more")
    lacks = [one for one in names if one not in frame.columns]
    return frame.with_columns(**{one: (rng.random(len(frame)) < 0.05).astype(float) for one in lacks})


# ── quiet ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def quiet(n_windows: int, n_references: int = 10) -> dict[str, float]:
    """Return the share of windows with any false alarm: by windows, by their tests alone, and by streams."""
    alarms, fewest = {"windows": 0, "tests_alone": 0, "streams": 0}, 10**9
    each = -(-n_windows // n_references)
    for seed in range(n_references):
        world = World(1_000 + seed)
        reference = world.rows(REFERENCE, "reference")
        names = stream_names(reference)
        watch = StreamWatch(with_more(reference, names, seed, "reference"), names, slices=["scenario"])
        for turn in range(each):
            now = world.rows(WINDOW, f"quiet{turn}")
            bare = compare_windows(reference, now, **ROLES, options=BARE)
            alarms["tests_alone"] += bool(bare.alarms)
            alarms["windows"] += any((one.psi or 1.0) >= 0.1 for one in bare.alarms)
            alarms["streams"] += bool(watch.update(with_more(now, names, seed, f"quiet{turn}")))
            fewest = min(fewest, len(bare.series))
    total = each * n_references
    return {f"quiet.{name}": count / total for name, count in alarms.items()} | {
        "quiet.count": total, "quiet.series": fewest, "quiet.streams_watched": len(names),
    }  # fmt: skip


# ── injected ──────────────────────────────────────────────────────────────────────────────────────────────────────


def course(kind: str, by: str) -> tuple[np.ndarray, list[tuple[int, int]]]:
    """Return how far the world has changed at each row, after a quiet start, and where changes begin and end."""
    calm = 2 * WINDOW
    if kind == "sudden":
        length = WITHIN[kind][by]
        return np.r_[np.zeros(calm), np.ones(length)], [(calm, calm + length)]
    if kind == "gradual":
        rest = WITHIN[kind][by] - RAMP
        return np.r_[np.zeros(calm), np.linspace(0, 1, RAMP), np.ones(rest)], [(calm, calm + RAMP + rest)]
    turn = TURN[by]
    on = np.repeat(np.arange(PHASES) % 2 == 0, turn).astype(float)
    return np.r_[np.zeros(calm), on], [(calm + place * turn, calm + (place + 1) * turn) for place in range(PHASES)]


def by_windows(kind: str, seed: int) -> tuple[dict[str, list[float]], int]:
    """Return the delays of each series in rows, infinite where it was not found, and the number of false alarms."""
    world = World(seed)
    reference, (change, phases) = world.rows(REFERENCE, "reference"), course(kind, "windows")
    raised: list[set[tuple[str, str]]] = []
    for start in range(0, len(change), WINDOW):
        now = world.rows(WINDOW, f"{kind}{start}", change[start : start + WINDOW])
        raised.append({(one.name, one.kind) for one in compare_windows(reference, now, **ROLES).alarms})
    related = {*CHANGED, ("item", "values"), ("bought", "quality"), ("residual", "values")}
    calm = [not change[start : start + WINDOW].any() for start in range(0, len(change), WINDOW)]
    false = sum(bool(one if quiet else one - related) for one, quiet in zip(raised, calm, strict=True))
    delays: dict[str, list[float]] = {f"{name}.{what}": [] for name, what in CHANGED}
    for begin, end in phases[::2]:  # in the others all is again as in the reference
        turns = range(begin // WINDOW, -(-end // WINDOW))
        for name, what in CHANGED:
            found = [turn for turn in turns if (name, what) in raised[turn]]
            delays[f"{name}.{what}"].append((found[0] + 1) * WINDOW - begin if found else np.inf)
    return delays, false


def by_streams(kind: str, seed: int) -> tuple[dict[str, list[float]], int]:
    """Return the same of streams, where going back is a change too."""
    world = World(seed)
    reference, (change, phases) = world.rows(REFERENCE, "reference"), course(kind, "streams")
    names = stream_names(reference)
    watch = StreamWatch(with_more(reference, names, seed, "reference"), names)
    now = with_more(world.rows(len(change), kind, change), names, seed, kind)
    raised = [one for start in range(0, len(now), WINDOW) for one in watch.update(now[start : start + WINDOW])]
    false = sum(one.name not in STREAMS or one.row <= phases[0][0] for one in raised)
    delays: dict[str, list[float]] = {name: [] for name in STREAMS}
    for begin, end in phases:
        for name in STREAMS:
            rows = [one.row for one in raised if one.name == name and begin < one.row <= end]
            delays[name].append(rows[0] - begin if rows else np.inf)
    return delays, false


def injected(n_seeds: int) -> dict[str, float]:
    """Return of each kind of change and of watch the share found in time, and delays; the least share of a series."""
    found: dict[str, float] = {}
    for kind, limits in WITHIN.items():
        for by, look in (("windows", by_windows), ("streams", by_streams)):
            runs = [look(kind, seed) for seed in range(n_seeds)]
            names = list(runs[0][0])
            delays = {name: np.array([delay for run, _ in runs for delay in run[name]]) for name in names}
            key, within = f"{kind}.{by}", limits[by]
            shares = {name: float((one <= within).mean()) for name, one in delays.items()}
            every = np.concatenate(list(delays.values()))
            found |= {f"{key}.found": float((every <= within).mean()), f"{key}.found_least": min(shares.values()),
                      f"{key}.within": within, f"{key}.delay_median": float(np.median(every)),
                      f"{key}.delay_95": float(np.quantile(every, 0.95, method="higher")),
                      f"{key}.false": float(sum(false for _, false in runs))}  # fmt: skip
            found |= {f"{key}.median.{name}": float(np.median(one)) for name, one in delays.items()}
    return found
