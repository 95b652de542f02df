"""`bowerbird simulate`: policies that explore, at play in a made world, compared by regret and in the long run."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from bowerbird.bandits import simulate
from bowerbird.bandits.pictures import draw
from bowerbird.bandits.world import Marginals, World, WorldConfig
from bowerbird.cli.output import say, show_json, show_table, tell
from bowerbird.core import RequestError, numpy_stream
from bowerbird.data.interactions import Interactions
from bowerbird.evaluation.statistics import interval, paired

PICTURE = "simulation.svg"
Row = dict[str, str | float]


@dataclass(frozen=True)
class Asked:
    """What is to be simulated."""

    policies: Sequence[str]
    worlds: int
    config: WorldConfig
    late: int
    missing: float
    plot: bool


def run_simulate(asked: Asked, data: Interactions | None, *, as_json: bool) -> None:
    """Play policies in worlds, and print how they compare with the first that is named."""
    names = list(dict.fromkeys(asked.policies))
    if not names:
        raise RequestError(f"--policy names none. There are {', '.join(simulate.POLICIES)}.")
    world = World(asked.config, None if data is None else Marginals.of(data))
    for name in names:
        if name != "reinforce":  # which would learn
            simulate.policy(name, world)
    played: dict[str, list[simulate.Played]] = {name: [] for name in names}
    for seed in range(asked.config.seed, asked.config.seed + asked.worlds):
        say(f"world {seed} ...")
        makers = {name: partial(simulate.policy, name) for name in names}
        one = simulate.compare(makers, world, range(seed, seed + 1), late=asked.late, missing=asked.missing)
        for name, runs in one.items():
            played[name] += runs
    rows = _rows(played)
    if asked.plot:
        draw(played, Path(PICTURE))
    if as_json:
        show_json({"worlds": asked.worlds, "seed": asked.config.seed, "policies": rows})
        return
    columns = ("policy", "regret", "95 %", "clicks", "95 %", f"clicks beyond {names[0]}", "95 %", "ms a decision")
    cells = [
        (
            row["policy"], f"{row['regret']:.2f}", _span(row, "regret"), f"{row['clicks']:.2f}", _span(row, "clicks"),
            f"{row['more']:+.2f}", _span(row, "more"), f"{row['decision_ms']:.3f}",
        )
        for row in rows
    ]  # fmt: skip
    people, steps = asked.config.people, asked.config.horizon
    show_table(
        f"{asked.worlds} worlds, {people:,} people, {steps:,} requests each; figures are per person", columns, cells
    )
    if asked.plot:
        tell(f"drawn in {PICTURE}")


def _rows(played: dict[str, list[simulate.Played]]) -> list[Row]:
    first = np.array([one.reward for one in next(iter(played.values()))])
    rows = []
    for name, runs in played.items():
        row: Row = {"policy": name}
        reward = np.array([one.reward for one in runs])
        for key, values in (("regret", np.array([one.regret.sum() for one in runs])), ("clicks", reward)):
            low, high = interval(values, numpy_stream(0, "simulate", name))
            row |= {key: float(values.mean()), f"{key}_low": low, f"{key}_high": high}
        more = paired("clicks", reward, first, numpy_stream(0, "simulate", name, "paired"))
        row |= {"more": more.mean, "more_low": more.low, "more_high": more.high}
        rows.append(row | {"decision_ms": float(np.mean([one.decision_ms for one in runs]))})
    return rows


def _span(row: Row, key: str) -> str:
    sign = "+" if key == "more" else ""
    return f"{row[f'{key}_low']:{sign}.2f} to {row[f'{key}_high']:{sign}.2f}"
