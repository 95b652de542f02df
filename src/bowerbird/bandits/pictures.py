"""Pictures of policies at play, drawn by Matplotlib into a file."""

from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path

import numpy as np

from bowerbird.bandits.simulate import Played
from bowerbird.core import DataError, MissingExtraError, numpy_stream
from bowerbird.data.pictures import FILES, GRID
from bowerbird.evaluation.statistics import interval

COLOURS = ("#1f4e79", "#c55a11", "#548235", "#7030a0", "#bf9000", "#7f7f7f", "#c00000", "#00b0f0", "#404040")


def draw(played: Mapping[str, Sequence[Played]], path: str | Path) -> None:
    """Write a figure of regret over time and of clicks in the long run, with 95 % intervals over worlds.

    Raises `MissingExtraError` where Matplotlib is not installed, and `DataError` for a file that is no picture.
    """
    if find_spec("matplotlib") is None:
        raise MissingExtraError('a picture needs matplotlib. Install it with: pip install "bowerbird[plots]"')
    if Path(path).suffix not in FILES:
        raise DataError(f"{path}: a picture is one of {', '.join(FILES)}.")
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 3.8), layout="constrained")
    left, right = figure.subplots(1, 2)
    rng = numpy_stream(0, "picture")
    for place, (name, runs) in enumerate(played.items()):
        colour = COLOURS[place % len(COLOURS)]
        curves = np.array([one.regret.cumsum() for one in runs])
        steps = np.arange(1, curves.shape[1] + 1)
        left.plot(steps, curves.mean(axis=0), color=colour, label=name)
        if len(runs) > 1:
            some = np.unique(np.linspace(0, len(steps) - 1, 25).astype(int))
            low, high = np.array([interval(curves[:, step], rng) for step in some]).T
            left.fill_between(steps[some], low, high, color=colour, alpha=0.15, linewidth=0)
        rewards = np.array([one.reward for one in runs])
        low, high = interval(rewards, rng)
        mean = rewards.mean()
        right.barh(place, mean, color=colour, alpha=0.85)
        right.errorbar(mean, place, xerr=[[mean - low], [high - mean]], color="black", capsize=3, linewidth=1)
    left.set(title="regret", xlabel="requests of each person", ylabel="clicks missed, of each person")
    left.legend(frameon=False)
    right.set(title="clicks of each person over the whole time", yticks=range(len(played)), yticklabels=list(played))
    right.invert_yaxis()
    for axes in (left, right):
        axes.grid(color=GRID, linewidth=0.6)
        axes.set_axisbelow(True)
        axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=130)
