"""Choose a model: what each one is worth and what it costs, as `bowerbird select` measured it."""

from typing import Any

from nicegui import ui

from bowerbird.serving.console import charts
from bowerbird.serving.console.frame import Visit, box_of, card, chart, heading, settle, soft, state, table

COSTS = ("seconds", "ms", "mb")
COMMAND = "bowerbird select DATA --budget 10m --json > RUN/select.json"


async def draw(visit: Visit) -> None:
    """Draw the page."""
    box = box_of()
    await settle(
        visit, box, lambda: visit.api.get("/v1/selection"), lambda found: _draw(visit, found),
        missing=lambda error: state("emoji_events", visit.say("choose_none"), visit.say("choose_none_more"), COMMAND),
    )  # fmt: skip


def _draw(visit: Visit, found: dict[str, Any]) -> None:
    models = sorted(found["models"], key=lambda one: -one["value"])
    pick = (found.get("pick") or {}).get("model", "")
    with card():
        heading(visit.say("advice"))
        ui.label(str(found.get("advice") or "")).classes("bb-any")
        for one in found.get("beside") or ():
            soft(str(one), "")
        if found.get("too_small"):
            ui.label(str(found["too_small"])).classes("bb-alarm bb-any")
    with card():
        costs = {one: visit.say(f"cost_{one}") for one in COSTS if all(one in each for each in models)}
        metric = str(found.get("metric") or visit.say("value"))
        if costs and models:
            picked = ui.radio(costs, value=next(iter(costs))).props("inline dense")
            place = ui.element("div").classes("bb-steps")

            def show() -> None:
                place.clear()
                with place:
                    options = charts.pareto(
                        models, pick, picked.value, visit.dark, x=costs[picked.value], y=metric
                    )  # fmt: skip
                    chart(visit, options, visit.say("choose"), (), (), 420, unfold=False)

            picked.on_value_change(show)
            show()
            soft(visit.say("front_more", n=f"{found.get('n', 0):,}", who=found.get("who", "")))
        rows = [
            (
                f"{one['model']} ★" if one["model"] == pick else one["model"],
                f"{one['value']:.4f}",
                _interval(one.get("interval")),
                *(f"{one[name]:,.3g}" for name in costs),
                visit.say("on_front")
                if one.get("on_front")
                else visit.say("beaten", model=one.get("beaten_by") or "–"),
            )
            for one in models
        ]
        table((visit.say("model"), metric, visit.say("interval"), *costs.values(), ""), rows)
        soft(str(found.get("protocol") or ""))
    if found.get("changes"):
        with card():
            heading(visit.say("would_change"))
            for one in found["changes"]:
                ui.label(str(one)).classes("bb-any")


def _interval(pair: Any) -> str:
    return "" if not pair or None in pair else f"{pair[0]:.4f} – {pair[1]:.4f}"
