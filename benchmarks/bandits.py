"""Policies that learn from feedback, in worlds that are made: regret, the long run, and what a decision costs.

`--tasks` names, with commas, some of:

- `regret`: 20 worlds in which half of the items are new and the ranker knows nobody's appeal; linucb and thompson
  against the best of a grid of epsilon-greedy schedules over the same belief. Weights of all are chosen in other
  worlds (`TUNED`); regret is in expected clicks of each person, differences are paired by world.
- `long`: 8 worlds in which what people click on and what they are glad of later differ; `reinforce` against a greedy
  ranker that knows every chance of a click. `control`: the same without later effects, where that ranker is best.
- `speed`: steps of the world in a second on two cores, and decisions as a server makes them.
"""

import argparse
import os
import sys
import time
from collections.abc import Iterable
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from itertools import product
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import torch

import _shared
from bowerbird.bandits.beliefs import Feedback
from bowerbird.bandits.pictures import draw
from bowerbird.bandits.policies import RULE_OF, Explorer
from bowerbird.bandits.simulate import Played, play, policy
from bowerbird.bandits.world import World, WorldConfig
from bowerbird.core import numpy_stream
from bowerbird.evaluation.statistics import paired
from bowerbird.pipeline.scenario import EXPLORATIONS, Exploration
from bowerbird.serving.exploring import ASPECTS, believed

NEWS = WorldConfig(
    people=50, items=120, candidates=20, k=3, horizon=300, known=0.0, new_items=0.5, spread=1.0, intercept=-2.0,
    drift=0.0, boredom=0.0, long_term=0.0, stay=1000.0, away=1.0,
)  # fmt: skip
LATER = WorldConfig(
    people=500, items=200, candidates=30, k=5, horizon=300, drift=0.0, new_items=0.0, view_noise=0.0, intercept=-2.0
)
TUNED, TESTED = range(3), range(100, 120)  # worlds, by their seeds
LONG = range(200, 208)
EPSILONS = tuple(
    product((0.0, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5), (0.0, 2_000.0, 6_000.0))
)  # and after how many requests half is left
WEIGHTS = {"linucb": (0.25, 0.5, 1.0), "thompson": (0.25, 0.5, 1.0), "ucb": (0.1, 0.25, 0.5)}
PICTURES = Path(__file__).parents[1] / "docs" / "assets"
Job = tuple[WorldConfig, str, float | None, float, int]  # name, weight, half-life, seed


def one(job: Job) -> Played:
    """Play one policy in one world."""
    torch.set_num_threads(1)
    config, name, weight, half_life, seed = job
    world = World(config)
    world.reset(seed=seed)
    settings = {"half_life": half_life} if half_life else {}
    return play(policy(name, world, weight=weight, **settings), world, seed=seed)


def all_of(jobs: Iterable[Job]) -> list[Played]:
    """Play each, on all cores."""
    jobs = list(jobs)
    found = []
    with ProcessPoolExecutor(os.cpu_count(), mp_context=get_context("spawn")) as pool:
        for done, played in enumerate(pool.map(one, jobs), 1):
            found.append(played)
            if done % 10 == 0:
                print(f"  {done} of {len(jobs)} plays", file=sys.stderr, flush=True)
    return found


def tuned(config: WorldConfig, worlds: range) -> dict[str, tuple[float, float]]:
    """Return of each policy the weight and half-life of least regret in worlds of their own."""
    grid = [("epsilon-greedy", *pair) for pair in EPSILONS]
    grid += [(name, weight, 0.0) for name, weights in WEIGHTS.items() for weight in weights]
    played = all_of((config, name, weight, fade, seed) for name, weight, fade in grid for seed in worlds)
    regret = np.array([run.regret.sum() for run in played]).reshape(len(grid), len(worlds)).mean(axis=1)
    best: dict[str, tuple[float, float]] = {}
    least: dict[str, float] = {}
    for (name, weight, fade), value in zip(grid, regret.tolist(), strict=True):
        if value < least.get(name, np.inf):
            best[name], least[name] = (weight, fade), value
    return best


def regret(runs: int) -> dict[str, float]:
    """Compare policies by regret."""
    chosen = tuned(NEWS, TUNED[: max(1, runs // 5)] if runs else TUNED)
    worlds = TESTED[:runs] if runs else TESTED
    names = ("greedy", *chosen)
    settings = {name: chosen.get(name, (None, 0.0)) for name in names}
    runs_of = all_of((NEWS, name, *settings[name], seed) for name in names for seed in worlds)
    played = {name: runs_of[n * len(worlds) : (n + 1) * len(worlds)] for n, name in enumerate(names)}
    found: dict[str, float] = {}
    sums = {name: np.array([run.regret.sum() for run in some]) for name, some in played.items()}
    for name, values in sums.items():
        found[name] = float(values.mean())
        if name in chosen:
            found[f"{name}.weight"], found[f"{name}.half_life"] = chosen[name]
    for name in ("linucb", "thompson"):
        less = paired(name, sums["epsilon-greedy"], sums[name], numpy_stream(0, "bandits", name))
        found |= {f"{name}.less": less.mean, f"{name}.less_low": less.low, f"{name}.less_high": less.high}
    draw(played, PICTURES / "bandits.png")
    return found


def later(config: WorldConfig, picture: str, runs: int) -> dict[str, float]:
    """Compare `reinforce` with a greedy ranker by what people do in the long run."""
    worlds = LONG[:runs] if runs else LONG
    names = ("greedy", "reinforce")
    some = all_of((config, name, None, 0.0, seed) for name in names for seed in worlds)
    played = {"greedy": some[: len(worlds)], "reinforce": some[len(worlds) :]}
    rewards = {name: np.array([run.reward for run in runs_of]) for name, runs_of in played.items()}
    more = paired("clicks", rewards["reinforce"], rewards["greedy"], numpy_stream(0, "bandits", picture))
    if picture:
        draw(played, PICTURES / picture)
    return {name: float(values.mean()) for name, values in rewards.items()} | {
        "more": more.mean, "more_low": more.low, "more_high": more.high,
    }  # fmt: skip


def speed(runs: int) -> dict[str, float]:
    """Measure steps of the world, and decisions."""
    torch.set_num_threads(1)
    steps = 20 * runs if runs else 200
    with ProcessPoolExecutor(2, mp_context=get_context("spawn")) as pool:
        list(pool.map(stepped, [1, 1]))  # processes start, and warm up
        found = {"world_steps_per_s": sum(pool.map(stepped, [steps, steps]))}
    aspects = torch.randn(400, ASPECTS, generator=torch.Generator().manual_seed(0))
    for name in EXPLORATIONS:
        asked = Exploration(policy=name, weight=0.5)
        chooser = Explorer(believed(asked, aspects), RULE_OF.get(name, name), 0.5, name)
        found[f"{name}_ms"] = 1000 * decided(chooser, 10 * (runs or 20))
    return found


def stepped(steps: int) -> float:
    """Return how many steps of persons the world makes in a second of this process."""
    world = World(WorldConfig(people=1_000))
    seen, _ = world.reset(seed=0)
    started = time.perf_counter()
    for _ in range(steps):
        seen = world.step(seen["candidates"][:, : world.config.k])[0]
    return steps * world.config.people / (time.perf_counter() - started)


def decided(chooser: Explorer, n: int) -> float:
    """Return the median seconds of a decision as a server makes it, of 20 places from 50 candidates."""
    candidates, scores = torch.arange(50)[None], torch.linspace(1, 0, 50)[None]
    features = chooser.belief.describe(None, candidates, scores)
    item, reward = candidates[0], (candidates[0] % 3 == 0).float()
    chooser.learn(Feedback(item, reward, item + 1, None if features is None else features[0]))
    took = []
    for seed in range(n):
        started = time.perf_counter()
        chooser.explore(None, candidates, scores, 20, seed)
        took.append(time.perf_counter() - started)
    return float(np.median(took))


TASKS = {
    "regret": regret,
    "long": partial(later, LATER, "bandits-later.png"),
    "control": partial(later, LATER.control(), ""),
    "speed": speed,
}


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """Run the tasks that are asked for; return one row of all."""
    protocol = f"made worlds: tuned on seeds {[*TUNED]}, regret on {TESTED.start} to {TESTED.stop - 1}, "
    protocol += f"the long run on {LONG.start} to {LONG.stop - 1}" + (f"; {options.runs} of them" * bool(options.runs))
    tasks = {name: partial(task, options.runs) for name, task in TASKS.items()}
    said = {"benchmark": "bandits", "model": "policies", "protocol": protocol, "seeds": [TESTED.start]}
    return _shared.tasked(options, tasks, **said)


BARS = (
    "regret.linucb.less_low>=0", "regret.thompson.less_low>=0", "long.more_low>=0", "control.more_low<=0",
    "speed.world_steps_per_s>=50000",
    *(f"speed.{name}_ms<=1" for name in EXPLORATIONS),
)  # fmt: skip


def options_of(words: list[str] | None = None) -> argparse.Namespace:
    """Return the options of the command line."""
    options = _shared.parser(__doc__ or "")
    options.set_defaults(data="-", threads=1)
    options.add_argument("--tasks", default=",".join(TASKS), help="with commas between them")
    options.add_argument("--runs", type=int, default=0, help="worlds of each task; 0: as many as the figures are of")
    options.add_argument("--bars", action="store_true", help=f"require what is promised: {', '.join(BARS)}")
    found = options.parse_args(words)
    if found.bars:
        found.require += [bar for bar in BARS if bar.split(".")[0] in found.tasks.split(",")]
    return found


def table() -> int:
    """Print the kept rows."""
    return _shared.figures("bandits")


if __name__ == "__main__":
    options = options_of()
    sys.exit(table() if options.table else _shared.main(options, measure))
