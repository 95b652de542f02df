"""Charts as ECharts draws them: dictionaries of plain values, no page and no script.

Names come from whoever fills the catalogue. Tooltips are drawn on the canvas (`richText`), never as HTML. Lengths begin
at zero; colours are those of Okabe and Ito, told apart by colour-blind people, and series differ in shape too.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from bowerbird.serving.console.figures import front

COLOURS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#8A7F00", "#999999")
SHAPES = ("circle", "rect", "triangle", "diamond", "pin", "roundRect", "arrow", "circle")
SLIM = ("pin", "arrow")
FEW = 400  # points that may be large
FONT = "system-ui, -apple-system, Segoe UI, Roboto, PingFang SC, Microsoft YaHei, WenQuanYi Zen Hei, sans-serif"
LONGEST = 40  # letters of a name
Options = dict[str, Any]
Row = tuple[str, float, float | None, float | None]  # name, value, interval


def colours(dark: bool) -> list[str]:
    """Return the colours in their order: on dark paper the light blue comes first."""
    found = list(COLOURS)
    if dark:
        found[0], found[4] = found[4], found[0]
    return found


def cut(text: str, longest: int = LONGEST) -> str:
    """Return a name that fits into a chart."""
    return text if len(text) <= longest else text[: longest - 1] + "…"


def base(dark: bool) -> Options:
    """Return what all charts share."""
    ink = "#e8e6e1" if dark else "#22252b"
    return {
        "animation": False,
        "backgroundColor": "transparent",
        "color": colours(dark),
        "textStyle": {"color": ink, "fontFamily": FONT, "fontSize": 12},
        "tooltip": {"renderMode": "richText", "confine": True},
        "aria": {"enabled": True},
    }


def axis(dark: bool, name: str = "", **more: Any) -> Options:
    """Return an axis of numbers; it begins at zero unless told otherwise."""
    ink, line = ("#b9b6ae", "#3a3f49") if dark else ("#565b66", "#dcd9d2")
    return {
        "type": "value", "min": 0, "name": name, "nameLocation": "middle", "nameGap": 28,
        "nameTextStyle": {"color": ink},
        "axisLabel": {"color": ink, "hideOverlap": True, "fontSize": 12, "fontFamily": FONT},
        "axisLine": {"onZero": False, "lineStyle": {"color": ink}}, "splitLine": {"lineStyle": {"color": line}},
    } | more  # fmt: skip


def names_axis(dark: bool, names: Sequence[str]) -> Options:
    """Return an axis of names, the first on top."""
    more = {"type": "category", "data": [cut(one) for one in names], "inverse": True, "axisTick": {"show": False}}
    found = axis(dark) | more
    del found["min"]
    return found


def intervals(rows: Sequence[Row], dark: bool, *, name: str = "", colour: int = 0) -> Options:
    """Return values with their intervals, one under the other, on an axis from zero."""
    ink = "#e8e6e1" if dark else "#22252b"
    spreads = [
        {
            "type": "line", "symbol": "rect", "symbolSize": [2, 11], "silent": True, "z": 1,
            "lineStyle": {"color": ink, "width": 2}, "itemStyle": {"color": ink},
            "data": [[low, place], [high, place]],
        }
        for place, (_, _, low, high) in enumerate(rows) if low is not None and high is not None
    ]  # fmt: skip
    dots = {"type": "scatter", "symbolSize": 11, "itemStyle": {"color": colours(dark)[colour]}, "z": 2,
            "data": [[value, place] for place, (_, value, _, _) in enumerate(rows)]}  # fmt: skip
    return base(dark) | {
        "grid": {"left": 8, "right": 24, "top": 8, "bottom": 36, "containLabel": True},
        "xAxis": axis(dark, name), "yAxis": names_axis(dark, [one[0] for one in rows]), "series": [*spreads, dots],
    }  # fmt: skip


def bars(
    names: Sequence[str], values: Mapping[str, Sequence[float]], dark: bool, *, name: str = "", form: str = "{c}"
) -> Options:
    """Return lengths from zero, a series for each key of `values`; `form` writes a value, as {c}."""
    ink = "#e8e6e1" if dark else "#22252b"
    series = [
        {
            "type": "bar", "name": key, "data": [round(one, 4) for one in some], "barMaxWidth": 18,
            "label": {"show": True, "position": "right", "color": ink, "formatter": form},
        }
        for key, some in values.items()
    ]  # fmt: skip
    return base(dark) | {
        "grid": {"left": 8, "right": 48, "top": 32 if len(values) > 1 else 8, "bottom": 36, "containLabel": True},
        "legend": {"show": len(values) > 1, "top": 0, "textStyle": {"color": ink}},
        "xAxis": axis(dark, name), "yAxis": names_axis(dark, names), "series": series,
    }  # fmt: skip


def strip(points: Sequence[tuple[float, float | None]], dark: bool, *, unit: str, colour: int) -> Options:
    """Return one line over the last seconds, from zero; gaps where nothing was measured."""
    return base(dark) | {
        "grid": {"left": 34, "right": 16, "top": 10, "bottom": 34, "containLabel": True},
        "xAxis": axis(dark, "s", min=-120, max=0), "yAxis": axis(dark, unit, minInterval=1, nameGap=34),
        "series": [{"type": "line", "showSymbol": len(points) < 3, "connectNulls": False,
                    "areaStyle": {"opacity": 0.12}, "lineStyle": {"color": colours(dark)[colour]},
                    "itemStyle": {"color": colours(dark)[colour]},
                    "data": [[round(at, 1), value] for at, value in points]}],
    }  # fmt: skip


def sankey(
    nodes: Sequence[str], links: Sequence[tuple[str, str, float]], names: Mapping[str, str], dark: bool
) -> Options:
    """Return a flow of items; `names` are what nodes are called, with their counts."""
    own = {"removed": COLOURS[7], "unfound": COLOURS[7], "left": COLOURS[7], "source": COLOURS[1],
               "slate": COLOURS[2]}  # fmt: skip
    ink = "#e8e6e1" if dark else "#22252b"
    return base(dark) | {
        "series": [{
            "type": "sankey", "left": 4, "right": 150, "top": 12, "bottom": 12, "nodeGap": 22, "nodeWidth": 12,
            "draggable": False, "emphasis": {"focus": "adjacency"}, "lineStyle": {"color": "gradient", "opacity": 0.35},
            "label": {"color": ink, "lineHeight": 15, "fontSize": 12},
            "data": [{"name": names[one], "itemStyle": {"color": own.get(one.partition(":")[0], colours(dark)[0])}}
                     for one in nodes],
            "links": [{"source": names[a], "target": names[b], "value": round(n, 2)} for a, b, n in links],
        }],
    }  # fmt: skip


def curve(points: Sequence[Sequence[float]], dark: bool, *, x: str, y: str, even: str, mine: str) -> Options:
    """Return shares of choices over shares of items, beside the line on which all items are chosen alike."""
    ink = "#e8e6e1" if dark else "#22252b"
    ends = {"min": 0, "max": 1}
    return base(dark) | {
        "grid": {"left": 24, "right": 16, "top": 32, "bottom": 40, "containLabel": True},
        "legend": {"top": 0, "textStyle": {"color": ink}},
        "xAxis": axis(dark, x, **ends), "yAxis": axis(dark, y, **ends, nameGap=34),
        "series": [
            {"type": "line", "name": mine, "showSymbol": False, "data": [list(one) for one in points]},
            {"type": "line", "name": even, "showSymbol": False, "lineStyle": {"type": "dashed"},
             "data": [[0, 0], [1, 1]]},
        ],
    }  # fmt: skip


def calibration(rows: Sequence[Mapping[str, float]], dark: bool, *, x: str, y: str, even: str, mine: str) -> Options:
    """Return what happened over what was predicted, a dot for each bin."""
    most = max([one[key] for one in rows for key in ("predicted", "observed")], default=1.0)
    top = min(1.0, round(most * 1.1 + 0.005, 2))
    found = curve([[one["predicted"], one["observed"]] for one in rows], dark, x=x, y=y, even=even, mine=mine)
    found["xAxis"]["max"] = found["yAxis"]["max"] = top
    found["series"][0] |= {"showSymbol": True, "symbolSize": 8}
    found["series"][1]["data"] = [[0, 0], [top, top]]
    return found


def rounded(value: float) -> float:
    """Return a number with one digit that matters."""
    return float(f"{value:.1g}")


def pareto(models: Sequence[Mapping[str, Any]], pick: str, cost: str, dark: bool, *, x: str, y: str) -> Options:
    """Return value over cost with intervals: the front as a line, the pick as a diamond. Costs are logarithmic."""
    ink = "#e8e6e1" if dark else "#22252b"
    at = {one["model"]: [max(float(one[cost]), 1e-3), float(one["value"])] for one in models}
    label = {"show": True, "position": [14, 10], "color": ink, "formatter": "{b}"}  # below the front
    dots = [
        {"name": cut(name, 24), "value": place, "symbol": "diamond" if name == pick else "circle",
         "symbolSize": 18 if name == pick else 10,
         "itemStyle": {"color": COLOURS[5] if name == pick else colours(dark)[0]}}
        for name, place in at.items()
    ]  # fmt: skip
    spreads = [
        {"type": "line", "symbol": "rect", "symbolSize": [9, 2], "silent": True,
         "lineStyle": {"color": ink, "width": 1}, "itemStyle": {"color": ink},
         "data": [[at[one["model"]][0], end] for end in one["interval"]]}
        for one in models if one.get("interval") and None not in one["interval"]
    ]  # fmt: skip
    ahead = front([dict(one) for one in models], cost)
    low, high = min(place[0] for place in at.values()), max(place[0] for place in at.values())
    return base(dark) | {
        "grid": {"left": 30, "right": 110, "top": 16, "bottom": 44, "containLabel": True},
        "xAxis": axis(dark, x) | {"type": "log", "min": rounded(low / 2), "max": rounded(high * 4)},
        "yAxis": axis(dark, y, nameGap=40),
        "series": [
            {"type": "line", "symbol": "none", "step": "end", "lineStyle": {"color": COLOURS[2], "type": "dashed"},
             "data": [at[name] for name in ahead]},
            *spreads,
            {"type": "scatter", "label": label, "labelLayout": {"moveOverlap": "shiftY"}, "data": dots, "z": 5},
        ],
    }  # fmt: skip


def plane(
    points: Sequence[Mapping[str, Any]], groups: Sequence[str | None], names: Mapping[str | None, str], dark: bool,
    *, cold: str, found: Mapping[str, Any] | None = None, marked: str = "",
) -> Options:  # fmt: skip
    """Return items in a plane: a colour and a shape for each group, rings around cold ones, a star on the found one."""
    ink = "#e8e6e1" if dark else "#22252b"
    paper, size = "#16181d" if dark else "#ffffff", 6 if len(points) > FEW else 10
    series: list[Options] = [
        {
            "type": "scatter", "name": cut(names[group]), "symbol": SHAPES[n],
            "symbolSize": size + 4 if SHAPES[n] in SLIM else size,
            "itemStyle": {"color": colours(dark)[n], "opacity": 0.75},
            "data": [{"name": cut(one["title"] or str(one["item_id"])), "value": [one["x"], one["y"]]}
                     for one in points if one["group"] == group and not one["cold"]],
        }
        for n, group in enumerate(groups)
    ]  # fmt: skip
    ring = {"color": paper, "borderColor": COLOURS[5], "borderWidth": 1.5, "opacity": 0.9}
    series.append({
        "type": "scatter", "name": cold, "symbol": "circle", "symbolSize": size, "itemStyle": ring,
        "data": [{"name": cut(one["title"] or str(one["item_id"])), "value": [one["x"], one["y"]]}
                 for one in points if one["cold"]],
    })  # fmt: skip
    if found is not None:
        series.append({
            "type": "scatter", "name": marked, "symbol": "diamond", "symbolSize": 22, "z": 9,
            "itemStyle": {"color": ink, "borderColor": paper, "borderWidth": 2},
            "data": [{"name": cut(found["title"] or str(found["item_id"])), "value": [found["x"], found["y"]]}],
        })  # fmt: skip
    plain = {"axisLabel": {"show": False}, "scale": True, "axisTick": {"show": False}, "splitLine": {"show": False}}
    flat = {key: value for key, value in axis(dark).items() if key != "min"} | plain
    return base(dark) | {
        "grid": {"left": 8, "right": 8, "top": 40, "bottom": 8},
        "legend": {"top": 0, "type": "plain", "textStyle": {"color": ink}},
        "tooltip": {"renderMode": "richText", "confine": True, "formatter": "{b}"},
        "xAxis": flat, "yAxis": flat, "series": series,
    }  # fmt: skip
