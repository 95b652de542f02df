"""What a model relies on as bars, drawn by Matplotlib into a file."""

from importlib.util import find_spec
from pathlib import Path

from bowerbird.core import DataError, MissingExtraError
from bowerbird.data.pictures import FILES, GRID
from bowerbird.explanation.overview import TITLES, Overview

BAR, ROWS = "#1f4e79", 12  # colour, and bars of a section


def draw(overview: Overview, path: str | Path, *, title: str = "") -> None:
    """Write a figure with a panel for each section, bars with 95 % intervals over people.

    Raises `MissingExtraError` where Matplotlib is not installed, and `DataError` for a file that is no picture.
    """
    if find_spec("matplotlib") is None:
        raise MissingExtraError('a picture needs matplotlib. Install it with: pip install "bowerbird[plots]"')
    if Path(path).suffix not in FILES:
        raise DataError(f"{path}: a picture is one of {', '.join(FILES)}.")
    if not overview.sections:
        raise DataError("there is nothing to draw: the model tells nobody apart.")
    from matplotlib.figure import Figure

    sections = overview.sections
    figure = Figure(figsize=(5.2 * len(sections), 3.8), layout="constrained")
    panels = figure.subplots(1, len(sections), squeeze=False)[0]
    for axes, (name, parts) in zip(panels, sections.items(), strict=True):
        shown = parts[:ROWS]
        means, places = [one.mean for one in shown], range(len(shown))
        axes.barh(places, means, color=BAR)
        if any(one.low < one.high for one in shown):
            ends = [[one.mean - one.low for one in shown], [one.high - one.mean for one in shown]]
            axes.errorbar(means, places, xerr=ends, fmt="none", color="black", capsize=3, linewidth=1)
        labels = [one.name if len(one.name) <= 32 else f"{one.name[:31]}…" for one in shown]
        unit = "log of the odds" if name == "features" else "share"
        axes.set(title=TITLES[name], xlabel=unit, yticks=places, yticklabels=labels, xlim=(0, None))
        axes.invert_yaxis()
        axes.grid(axis="x", color=GRID, linewidth=0.6)
        axes.set_axisbelow(True)
    if title:
        figure.suptitle(title)
    figure.savefig(path, dpi=140)
