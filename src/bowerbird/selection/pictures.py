"""Pictures of the report as SVG: what each model is worth with its interval, and worth beside each cost.

Drawn here rather than by Matplotlib, so that the report needs no extra, scales on paper, and has its texts as text.
Colours are told apart by the colour-blind; what is on the front is also filled, what is not is hollow.
"""

import math
from collections.abc import Sequence
from html import escape

from bowerbird.selection.front import Place

INK, SOFT, PICK, GRID = "#1f4e79", "#8a8a8a", "#b45309", "#d9d9d9"
LETTER = 7  # pixels of a letter
ROW = 24  # pixels of a model in the picture of intervals
COSTS = (("seconds", "seconds to train"), ("ms", "ms a request"), ("mb", "MB"))


def intervals(places: Sequence[Place], pick: Place, name: str) -> str:
    """Return values with 95 % intervals, a model a row, the best first."""
    left, right, width, height = 120, 90, 720, ROW * len(places) + 44
    low, high = min(one.low for one in places), max(one.high for one in places)
    ticks = _ticks(low, high)
    low, high = min(low, ticks[0]), max(high, ticks[-1])

    def x(value: float) -> float:
        return left + (value - low) / max(high - low, 1e-12) * (width - left - right)

    parts = [_line(x(tick), 8, x(tick), height - 34, GRID) + _text(x(tick), height - 18, f"{tick:.4g}", "middle")
             for tick in ticks]  # fmt: skip
    for row, one in enumerate(places):
        y, colour = 20 + ROW * row, _colour(one, pick)
        parts += [
            _text(left - 10, y + 4, one.trial.model, "end", bold=one is pick),
            _line(x(one.low), y, x(one.high), y, colour, 2),
            _dot(x(one.trial.value), y, colour, one, f"{one.trial.value:.4f} [{one.low:.4f}, {one.high:.4f}]"),
            _text(width - right + 10, y + 4, f"{one.trial.value:.4f}", "start"),
        ]
    parts.append(
        _text(
            (left + width - right) / 2, height - 2, f"{name} with 95 % interval; the axis does not begin at 0", "middle"
        )
    )
    return _svg(width, height, f"{name} of each model with its 95 % interval", parts)


def beside_costs(places: Sequence[Place], pick: Place, name: str) -> str:
    """Return three panels: values over seconds of training, milliseconds of a request and megabytes."""
    wide, height, gap = 240, 250, 44
    width = 3 * wide + 20
    low, high = min(one.low for one in places), max(one.high for one in places)
    ticks = _ticks(low, high)
    low, high = min(low, ticks[0]), max(high, ticks[-1])

    def y(value: float) -> float:
        return 16 + (high - value) / max(high - low, 1e-12) * (height - 70)

    parts = []
    for panel, (key, label) in enumerate(COSTS):
        start, end = panel * wide + gap + 10, (panel + 1) * wide
        costs = [max(getattr(one.trial.measured, key), 1e-3) for one in places]
        decades = range(math.floor(math.log10(min(costs))), math.ceil(math.log10(max(costs) * 1.0001)) + 1)
        first, last = decades[0], max(decades[-1], decades[0] + 1)

        def x(value: float, start: float = start, end: float = end, first: int = first, last: int = last) -> float:
            return start + 8 + (math.log10(max(value, 1e-3)) - first) / (last - first) * (end - start - 26)

        parts += [_line(start, y(tick), end - 10, y(tick), GRID) for tick in ticks]
        parts += [_text(start - 4, y(tick) + 4, f"{tick:.3g}", "end") for tick in ticks] if panel == 0 else []
        for power in range(first, last + 1):
            if (power - first) % (1 + (last - first) // 4) and last - first > 4:
                continue  # there is no room for every number
            parts.append(_line(x(10.0**power), 10, x(10.0**power), height - 50, GRID))
            parts.append(_text(x(10.0**power), height - 36, f"{10.0**power:g}", "middle"))
        parts.append(_text((start + end) / 2, height - 16, f"{label} (logarithmic)", "middle"))
        taken: list[tuple[float, float, float]] = []
        for one, cost in sorted(
            zip(places, costs, strict=True), key=lambda pair: (pair[0] is not pick, not pair[0].on_front)
        ):
            colour = _colour(one, pick)
            parts.append(_line(x(cost), y(one.low), x(cost), y(one.high), colour, 1, 0.35))
            parts.append(_dot(x(cost), y(one.trial.value), colour, one, f"{one.trial.value:.4f}, {cost:.3g} {label}"))
            if one is pick or one.on_front:
                parts += _label(x(cost), y(one.trial.value), one.trial.model, taken, (start, end), bold=one is pick)
    return _svg(width, height, f"{name} of each model beside what it costs", parts)


def over_time(values: Sequence[tuple[float, float, str]], name: str) -> str:
    """Return what a part of the data foretold (first) and what the whole showed (second), a line for each model."""
    width, height, left, right = 560, 220, 150, 150
    both = [one for pair in values for one in pair[:2]]
    ticks = _ticks(min(both), max(both))
    low, high = min(*both, ticks[0]), max(*both, ticks[-1])

    def y(value: float) -> float:
        return 14 + (high - value) / max(high - low, 1e-12) * (height - 50)

    parts = [_line(left, y(tick), width - right, y(tick), GRID) + _text(left - 8, y(tick) + 4, f"{tick:.3g}", "end")
             for tick in ticks]  # fmt: skip
    taken: list[float] = []
    for before, after, label in sorted(values, key=lambda one: -one[1]):
        parts.append(_line(left, y(before), width - right, y(after), INK, 1.5))
        parts.append(f'<circle cx="{left}" cy="{y(before):.1f}" r="3" fill="{INK}"/>')
        parts.append(f'<circle cx="{width - right}" cy="{y(after):.1f}" r="3" fill="{INK}"/>')
        place = max([y(after) + 4, *(one + 13 for one in taken)])
        taken.append(place)
        parts.append(_text(width - right + 8, place, label, "start"))
    parts += [_text(left, height - 14, "on the part", "middle"), _text(width - right, height - 14, "on all", "middle")]
    return _svg(width, max(height, int(max(taken, default=0)) + 8), f"{name} on a part of the data and on all", parts)


def _label(
    x: float, y: float, said: str, taken: list[tuple[float, float, float]], ends: tuple[float, float], *, bold: bool
) -> list[str]:
    """Return a name beside a dot where no other name stands, or nothing where there is no such place."""
    wide = LETTER * len(said)
    for left, down in ((6, -7), (-6, -7), (6, 16), (-6, 16)):
        low, high = (x + left, x + left + wide) if left > 0 else (x + left - wide, x + left)
        apart = all(high < a or low > b or abs(y + down - c) > 12 for a, b, c in taken)
        if apart and low > ends[0] - 30 and high < ends[1] + 20:
            taken.append((low, high, y + down))
            return [_text(x + left, y + down, said, "start" if left > 0 else "end", bold=bold)]
    return []


def _colour(one: Place, pick: Place) -> str:
    return PICK if one is pick else INK if one.on_front else SOFT


def _ticks(low: float, high: float) -> list[float]:
    """Return round numbers around a span, five or so."""
    span = max(high - low, 1e-6)
    step = 10.0 ** math.floor(math.log10(span / 4))
    step *= next((factor for factor in (1, 2, 5) if span / (step * factor) <= 6), 10)
    first = math.floor(low / step)
    return [step * place for place in range(first, math.ceil(high / step) + 1)]


def _line(x1: float, y1: float, x2: float, y2: float, colour: str, width: float = 1, opacity: float = 1.0) -> str:
    return (f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" stroke="{colour}" '
            f'stroke-width="{width}" stroke-opacity="{opacity}"/>')  # fmt: skip


def _dot(x: float, y: float, colour: str, one: Place, said: str) -> str:
    fill = colour if one.on_front else "white"
    title = f"<title>{escape(one.trial.model)}: {escape(said)}</title>"
    return (
        f'<circle cx="{x:.1f}" cy="{y:.1f}" r="4.5" fill="{fill}" stroke="{colour}" stroke-width="1.5">{title}</circle>'
    )


def _text(x: float, y: float, said: str, anchor: str, *, bold: bool = False) -> str:
    weight = ' font-weight="600"' if bold else ""
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}"{weight}>{escape(said)}</text>'


def _svg(width: float, height: float, said: str, parts: Sequence[str]) -> str:
    return (f'<svg viewBox="0 0 {width:g} {height:g}" role="img" aria-label="{escape(said)}" '
            f'xmlns="http://www.w3.org/2000/svg">{"".join(parts)}</svg>')  # fmt: skip
