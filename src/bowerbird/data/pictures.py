"""Pictures: a description drawn by Matplotlib, into a file."""

from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from bowerbird.core import DataError, MissingExtraError
from bowerbird.data.description import Description

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

FILES = (".png", ".svg", ".pdf")
INK, SOFT, GRID = "#1f4e79", "#c55a11", "#d9d9d9"


def draw(one: Description, path: str | Path) -> None:
    """Write a figure of popularity, activity and events over time; the file's ending says in which format.

    Raises `MissingExtraError` where Matplotlib is not installed, and `DataError` for another ending.
    """
    if find_spec("matplotlib") is None:
        raise MissingExtraError('a picture needs matplotlib. Install it with: pip install "bowerbird[plots]"')
    if Path(path).suffix not in FILES:
        raise DataError(f"{path}: a picture is one of {', '.join(FILES)}.")
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    with rc_context({"date.converter": "concise"}):
        _figure(Figure(figsize=(12, 3.8), layout="constrained"), one).savefig(path, dpi=150)


def _figure(figure: "Figure", one: Description) -> "Figure":
    left, middle, right = figure.subplots(1, 3)
    figure.suptitle(f"{one.events:,} events · {one.users:,} users · {one.items:,} items", fontsize=11)
    _popularity(left, one)
    _activity(middle, one)
    _over_time(right, one)
    for axes in (left, middle, right):
        axes.grid(color=GRID, linewidth=0.6)
        axes.set_axisbelow(True)
        axes.spines[["top", "right"]].set_visible(False)
    return figure


def _popularity(axes: "Axes", one: Description) -> None:
    axes.plot(range(len(one.curve)), [100 * share for share in one.curve], color=INK, linewidth=2)
    axes.plot([0, 100], [0, 100], color=GRID, linestyle="--")
    axes.set(
        title=f"popularity (Gini {one.gini:.2f})", xlabel="% of items, most popular first", ylabel="% of events",
        xlim=(0, 100), ylim=(0, 101),
    )  # fmt: skip


def _activity(axes: "Axes", one: Description) -> None:
    for (name, points), colour, mark in zip(one.at_least.items(), (INK, SOFT), "os", strict=True):
        axes.plot(*zip(*[(n, 100 * share) for n, share in points], strict=True), mark, linestyle="-", color=colour,
                  markersize=4, label=name)  # fmt: skip
    axes.set(title="activity", xlabel="events or more", ylabel="% of users, of items", xscale="log", yscale="log")
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")
    axes.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
    axes.legend(frameon=False)


def _over_time(axes: "Axes", one: Description) -> None:
    axes.set(title="events over time", ylabel="events")
    if one.first is None or one.last is None:
        axes.text(0.5, 0.5, "no times", ha="center", va="center", transform=axes.transAxes)
        return
    edges = np.linspace(one.first, max(one.last, one.first + 1), len(one.over_time) + 1).astype("datetime64[s]")
    axes.stairs(one.over_time, edges, fill=True, color=INK)
    axes.yaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")
