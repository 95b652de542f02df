"""Charts of the console: lengths from zero, intervals where there are some, names that are never HTML."""

import json
from typing import Any

import pytest

from bowerbird.serving.console import charts

BAD = "<img src=x onerror=alert(1)>"
ALL = {
    "intervals": charts.intervals([(BAD, 0.2, 0.1, 0.3), ("b", 0.4, None, None)], False, name="ndcg@10"),
    "bars": charts.bars([BAD, "b"], {"share": [0.1, 0.9]}, True),
    "strip": charts.strip([(-2.0, 1.0), (0.0, None)], False, unit="ms", colour=0),
    "curve": charts.curve([[0, 0], [1, 1]], True, x="x", y="y", even="even", mine="mine"),
    "calibration": charts.calibration(
        [{"predicted": 0.1, "observed": 0.2}], False, x="x", y="y", even="even", mine=BAD
    ),
    "sankey": charts.sankey(["all:", "slate:"], [("all:", "slate:", 3.0)], {"all:": BAD, "slate:": "b"}, False),
    "pareto": charts.pareto(
        [{"model": BAD, "value": 0.2, "ms": 1.0, "interval": [0.1, 0.3]}], BAD, "ms", True, x="ms", y="v"
    ),
    "plane": charts.plane(
        [{"item_id": 1, "title": BAD, "x": 0.1, "y": 0.2, "group": "g", "cold": False},
         {"item_id": 2, "title": None, "x": 0.3, "y": 0.2, "group": None, "cold": True}],
        ["g", None], {"g": "g", None: "none"}, False, cold="cold",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", ALL)
def test_no_chart_has_a_tooltip_of_html_or_a_script(name: str) -> None:
    options = ALL[name]
    assert options["tooltip"]["renderMode"] == "richText"
    assert not [key for key in keys_of(options) if key.startswith(":")]  # what NiceGUI would evaluate
    json.dumps(options)


def keys_of(part: Any) -> list[str]:
    if isinstance(part, dict):
        return [*map(str, part), *(key for one in part.values() for key in keys_of(one))]
    return [key for one in part for key in keys_of(one)] if isinstance(part, list) else []


@pytest.mark.parametrize("name", ["intervals", "bars", "strip", "curve", "calibration", "pareto"])
def test_what_is_compared_by_length_begins_at_zero(name: str) -> None:
    options = ALL[name]
    axis = options["yAxis"] if name in ("strip", "pareto") else options["xAxis"]
    assert axis["min"] == 0


def test_an_interval_is_drawn_where_there_is_one() -> None:
    series = ALL["intervals"]["series"]
    assert [one["data"] for one in series if one["type"] == "line"] == [[[0.1, 0], [0.3, 0]]]
    assert [one["data"] for one in series if one["type"] == "scatter"] == [[[0.2, 0], [0.4, 1]]]


def test_cold_items_are_rings_and_every_group_has_its_own_shape_or_colour() -> None:
    *groups, cold = ALL["plane"]["series"]
    assert cold["itemStyle"]["borderColor"] == charts.COLOURS[5]
    assert [one["name"] for one in cold["data"]] == ["2"]  # without a title it is called by its id
    looks = {(shape, colour) for shape, colour in zip(charts.SHAPES, charts.COLOURS, strict=True)}
    assert len(looks) == len(charts.COLOURS)
    assert len(groups) == 2


def test_names_are_cut() -> None:
    assert charts.cut("x" * 300) == "x" * 39 + "…"
    assert charts.cut("short") == "short"


def test_colours_stay_apart_for_the_colour_blind() -> None:
    """Under deuteranopia (Viénot et al., 1999) no two of the first six colours fall together."""

    def seen(text: str) -> tuple[float, float, float]:
        r, g, b = ((int(text[n : n + 2], 16) / 255) ** 2.2 for n in (1, 3, 5))
        return 0.29275 * r + 0.70725 * g, 0.29275 * r + 0.70725 * g, -0.02234 * r + 0.02234 * g + b

    found = [seen(one) for one in charts.COLOURS[:6]]
    for n, one in enumerate(found):
        for other in found[:n]:
            assert sum((a - b) ** 2 for a, b in zip(one, other, strict=True)) ** 0.5 > 0.05
