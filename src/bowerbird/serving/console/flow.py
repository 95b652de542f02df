"""Pipeline: the way from all items to one list, and where one item left it."""

import asyncio
from typing import Any

from nicegui import ui

from bowerbird.serving.console import charts
from bowerbird.serving.console.api import Refused
from bowerbird.serving.console.figures import flow
from bowerbird.serving.console.frame import Visit, box_of, card, chart, heading, settle, soft, state, table, words_in
from bowerbird.serving.console.items import item_field, titles
from bowerbird.serving.console.words import LANGUAGES, sentence

PEOPLE = 50
CAUSES = 8


async def draw(visit: Visit) -> None:
    """Draw the page."""
    box = box_of()

    async def load() -> dict[str, Any]:
        known, status, people, scenarios = await asyncio.gather(
            titles(visit), visit.api.get("/v1/status"), _people(visit), visit.api.get("/v1/scenarios")
        )
        return {"titles": known, "items": status["items"], "people": people, "scenarios": scenarios["scenarios"]}

    await settle(visit, box, load, lambda found: _Way(visit, **found).begin())


async def _people(visit: Visit) -> list[str]:
    try:
        return [str(one) for one in (await visit.api.get("/v1/people", k=PEOPLE))["people"]]
    except Refused:
        return []


class _Way:
    """What one visitor follows."""

    def __init__(self, visit: Visit, *, titles: Any, items: int, people: list[str], scenarios: list[str]) -> None:
        self.visit, self.titles, self.items, self.people = visit, titles, items, people
        self.scenarios = ["default", *(one for one in scenarios if one != "default")]

    async def begin(self) -> None:
        """Draw the fields, the flow and the question."""
        visit = self.visit
        with card(), ui.element("div").classes("bb-line"):
            first = self.people[0] if self.people else None
            self.person = ui.select(
                list(self.people), value=first, label=visit.say("person_id"), with_input=True, clearable=True,
                new_value_mode="add-unique", on_change=self._ask,
            ).props("outlined dense").style("min-width: 220px")  # fmt: skip
            self.scenario = ui.select(
                self.scenarios, value="default", label=visit.say("scenario"), on_change=self._ask
            ).props("outlined dense").style("min-width: 220px")  # fmt: skip
        self.picture = card()
        with card():
            heading(visit.say("why"))
            with ui.element("div").classes("bb-line"):
                with ui.element("div").style("flex: 1; min-width: 260px"):
                    self.field = item_field(self.titles, visit.say("item"))
                self.typed = ui.input(visit.say("or_id")).props("outlined dense").on("keydown.enter", self._why)
                ui.button(visit.say("ask"), on_click=self._why).props("no-caps unelevated")
            self.answer = ui.element("div").classes("bb-steps").props("aria-live=polite")
            with self.answer:
                soft(visit.say("pick_item"))
        await self._ask()

    @property
    def question(self) -> dict[str, Any]:
        """Who asks for what: the keys of the API."""
        asked: dict[str, Any] = {"explain": True, "k": 10}
        if self.person.value:
            asked["user_id"] = str(self.person.value)
        if self.scenario.value != "default":
            asked["scenario"] = self.scenario.value
            del asked["k"]
        return asked

    async def _ask(self) -> None:
        await settle(
            self.visit, self.picture, lambda: self.visit.api.post("/v1/recommendations", self.question), self._draw
        )

    def _draw(self, slate: dict[str, Any]) -> None:
        visit = self.visit
        nodes, links = flow(slate["trace"], self.items)
        ms = sum(step["ms"] for step in slate["trace"])
        heading(visit.say("way"))
        soft(visit.say("way_more", ms=f"{ms:.1f}", who=slate["user_id"] or visit.say("nobody")))
        names = self._names(nodes, links, slate["trace"])
        said = visit.say("way")
        rows = [(self._stage(step["stage"]), f"{step['candidates']:,}", f"{step['ms']:.2f}") for step in slate["trace"]]
        head = (visit.say("stage"), visit.say("left_over"), visit.say("ms"))
        chart(visit, charts.sankey(nodes, links, names, visit.dark), said, (), (), 340, unfold=False)
        table(head, rows)

    def _stage(self, name: str) -> str:
        return self.visit.say(f"stage_{name}")

    def _names(
        self, nodes: list[str], links: list[tuple[str, str, float]], trace: list[dict[str, Any]]
    ) -> dict[str, str]:
        """Return what nodes are called, each once, with how many items pass and how long it took."""
        took = {step["stage"]: step["ms"] for step in trace}
        stage_of = {"allowed": "filter", "candidates": "sources", "ranking": "ranking", "reranking": "reranking",
                    "slate": "slate"}  # fmt: skip
        found: dict[str, str] = {}
        for one in nodes:
            kind, _, what = one.partition(":")
            flows = [n for a, b, n in links if b == one] or [n for a, b, n in links if a == one]
            if kind == "removed":
                name = self.visit.say("node_removed", what=what) if what else self.visit.say("node_removed_plain")
            elif kind == "left":
                name = f"{self.visit.say('node_left')} ({self._stage(what)})"
            elif kind == "source":
                name = what
            else:
                name = (
                    self.visit.say(f"node_{kind}")
                    if kind in ("all", "allowed", "unfound", "candidates")
                    else self._stage(kind)
                )
            time = f" · {took[stage_of[kind]]:.1f} ms" if kind in stage_of else ""
            found[one] = f"{charts.cut(name, 28)}\n{round(sum(flows)):,}{time}"
        return found

    # ── why ───────────────────────────────────────────────────────────────────────────────────────────────────────────

    async def _why(self) -> None:
        key = self.typed.value.strip() or self.field.value
        if not key:
            return
        item_id = self.titles.get(key, (key, key))[0]
        asked = self.question | {"item_id": item_id}
        load = lambda: self.visit.api.post("/v1/recommendations:why", asked)  # noqa: E731
        await settle(self.visit, self.answer, load, self._explain, missing=self._unknown)

    def _unknown(self, error: Refused) -> None:
        state("search_off", self.visit.say("went_wrong"), error.detail)

    def _explain(self, why: dict[str, Any]) -> None:
        visit = self.visit
        last = why["stages"][-1]["stage"] if why["stages"] else "filter"
        verdict = visit.say("is_shown") if why["shown"] else visit.say("not_shown", stage=self._stage(last))
        ui.label(verdict).classes("bb-good" if why["shown"] else "bb-bad").style("font-weight: 600")
        for step in why["stages"]:
            with ui.element("div").classes("bb-line"):
                kept = step["kept"]
                ui.icon("check" if kept else "close").classes("bb-good" if kept else "bb-bad").props("aria-hidden=true")
                ui.label(f"{self._stage(step['stage'])}: {visit.say('kept' if kept else 'gone')}")
                soft(step["detail"])
        if why["reasons"]:
            heading(visit.say("reasons"))
        for reason in why["reasons"]:
            for spoken in sorted(LANGUAGES, key=lambda one: one != visit.spoken):
                words_in("div", sentence(reason, spoken), "bb-any").props(f"dir=auto lang={spoken}")
            if causes := [one for one in reason["causes"] if one.get("share") is not None][:CAUSES]:
                form = "{:+.2f}" if reason["kind"] == "features" else "{:.0%}"  # what columns add is no share
                rows = [(charts.cut(str(one["label"]), 80), form.format(one["share"])) for one in causes]
                table((visit.say("cause"), visit.say("share")), rows)
        heading(visit.say("without"))
        if why["without"]:
            for one in why["without"]:
                words_in("div", str(one["label"]), "bb-any").props("dir=auto")
        else:
            soft(visit.say("without_none"))
