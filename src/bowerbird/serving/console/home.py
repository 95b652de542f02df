"""Home: what the server does at this moment, and whether anything is wrong."""

import time
from collections import deque
from math import inf
from typing import Any

from nicegui import ui

from bowerbird.serving.console import charts
from bowerbird.serving.console.api import Refused, Unreachable
from bowerbird.serving.console.figures import Sample, wilson
from bowerbird.serving.console.frame import Visit, box_of, card, chart, figure_tile, heading, settle, soft

LOOK_S = 2.0  # between two looks
SHOWN_S = 120.0  # of the strips
WINDOW = 5  # looks that a figure of now is made of


async def draw(visit: Visit) -> None:
    """Draw the page."""
    box = box_of()

    async def load() -> tuple[Any, Any, Any, Sample]:
        status, models = await visit.api.get("/v1/status"), await visit.api.get("/v1/models")
        version = models["in_use"]
        health = None if version is None else (await visit.api.get(f"/v1/models/{version}"))["health"]
        return status, models, health, Sample.of(await visit.api.text("/metrics"), time.monotonic())

    await settle(visit, box, load, lambda found: _Board(visit, *found).begin())


class _Board:
    """The tiles and strips of one visitor, and what they are made of."""

    def __init__(self, visit: Visit, status: Any, models: Any, health: Any, first: Sample) -> None:
        self.visit, self.status, self.models, self.health = visit, status, models, health
        self.first, self.samples = first, deque([first], maxlen=int(SHOWN_S / LOOK_S) + 1)

    def begin(self) -> None:
        """Draw everything once, and look again and again."""
        visit, status = self.visit, self.status
        soft(visit.say(
            "serves", model=status["model"], version=status["model_version"], users=f"{status['users']:,}",
            items=f"{status['items']:,}",
        ), "")  # fmt: skip
        with ui.element("div").classes("bb-grid"):
            self.rate = figure_tile(visit.say("per_second"), "0", visit.say("now_10s"))
            self.slow = figure_tile(visit.say("p99"), "–", "")
            self.clicks = figure_tile(visit.say("click_rate"), "–", visit.say("click_none"))
            self.behind = figure_tile(visit.say("freshness"), "–", "")
        self.alarms = card()
        with ui.element("div").classes("bb-half"):
            with card():
                heading(visit.say("per_second"))
                self.rates = chart(visit, self._strip("rate"), visit.say("per_second"), (), (), 190, unfold=False)
            with card():
                heading(visit.say("p99"))
                self.times = chart(visit, self._strip("p99"), visit.say("p99"), (), (), 190, unfold=False)
        self._changes()
        self._show()
        ui.timer(LOOK_S, self._look)

    async def _look(self) -> None:
        try:
            sample = Sample.of(await self.visit.api.text("/metrics"), time.monotonic())
            self.status = await self.visit.api.get("/v1/status")
        except (Refused, Unreachable) as error:
            self._tell([f"{self.visit.say('unreachable')}: {error}"])
            return
        self.samples.append(sample)
        self._show()

    def _show(self) -> None:
        visit, now = self.visit, self.samples[-1]
        past = self.samples[max(0, len(self.samples) - 1 - WINDOW)]
        recent = now.since(past)
        self.rate[0].text = f"{recent.lists / recent.at:,.1f}" if recent.at > 0 else "0.0"
        lately = recent.quantile_ms(0.99)
        self.slow[0].text = _ms(lately if lately is not None else now.quantile_ms(0.99))
        self.slow[1].text = visit.say("now_10s" if lately is not None else "since_start")
        spread = wilson(now.chosen_from, now.slates)
        if spread is not None:
            self.clicks[0].text = f"{now.chosen_from / now.slates:.1%}"
            self.clicks[1].text = visit.say(
                "click_more", good=f"{now.chosen_from:,.0f}", n=f"{now.slates:,.0f}", low=f"{spread[0]:.1%}",
                high=f"{spread[1]:.1%}",
            )  # fmt: skip
        made = next((one for one in self.models["versions"] if one["version"] == self.status["model_version"]), None)
        age = visit.age(time.time() - made["created"]) if made else "?"
        self.behind[0].text = f"{max(0, self.status['log_offset'] - self.status['trained_to']):,}"
        self.behind[1].text = visit.say("freshness_more", version=self.status["model_version"], age=age)
        for picture, kind in ((self.rates, "rate"), (self.times, "p99")):
            picture.options["series"] = self._strip(kind)["series"]
            picture.update()
        self._tell(self._wrong(now))

    def _strip(self, kind: str) -> charts.Options:
        pairs = list(zip(self.samples, list(self.samples)[1:], strict=False))
        last = self.samples[-1].at
        points: list[tuple[float, float | None]] = []
        for before, after in pairs:
            gone = after.since(before)
            if kind == "rate":
                value: float | None = round(gone.lists / gone.at, 2) if gone.at > 0 else None
            else:
                value = gone.quantile_ms(0.99)
                value = None if value in (None, inf) else round(float(value or 0.0), 2)
            points.append((after.at - last, value))
        unit, colour = {"rate": ("1/s", 0), "p99": ("ms", 5)}[kind]
        return charts.strip(points, self.visit.dark, unit=unit, colour=colour)

    def _wrong(self, now: Sample) -> list[str]:
        counts = {"alarm_failed": now.failed, "alarm_lost": now.lost, "alarm_swaps": now.bad_swaps,
                  "alarm_model": now.model_failed}  # fmt: skip
        said = [self.visit.say(key, n=f"{count:,.0f}") for key, count in counts.items() if count]
        return said + list((self.health or {}).get("warnings", ()))

    def _tell(self, wrong: list[str]) -> None:
        self.alarms.clear()
        with self.alarms:
            heading(self.visit.say("alarms"))
            if not wrong:
                with ui.element("div").classes("bb-line"):
                    ui.icon("check_circle").classes("bb-good").props("aria-hidden=true")
                    ui.label(self.visit.say("no_alarm"))
            for one in wrong:
                with ui.element("div").classes("bb-alarm bb-line").props("role=alert"):
                    ui.label(one).classes("bb-any")

    def _changes(self) -> None:
        visit = self.visit
        with card():
            heading(visit.say("changed"))
            soft(visit.say("events_count", n=f"{self.first.events:,.0f}"))
            for one in reversed(self.models["versions"]):
                with ui.element("div").classes("bb-line"):
                    ui.label(visit.say("version_made", version=one["version"], model=one["model"]))
                    soft(visit.say("ago", age=visit.age(time.time() - one["created"])))
                    if one["version"] == self.models["in_use"]:
                        ui.label(visit.say("in_use")).classes("bb-mark")


def _ms(value: float | None) -> str:
    if value is None:
        return "–"
    return "> 5 s" if value == inf else f"{value:,.1f} ms"
