"""Try it: a list for somebody, its reasons, and what a click changes."""

import asyncio
import time
from typing import Any
from uuid import uuid4

from nicegui import ui

from bowerbird.serving.console.api import Refused, part
from bowerbird.serving.console.figures import changes
from bowerbird.serving.console.frame import Visit, box_of, card, heading, settle, soft, state, title, words_in
from bowerbird.serving.console.items import item_field, title_of, titles
from bowerbird.serving.console.words import LANGUAGES, WORDS, sentence

K = 10
PEOPLE = 50
SHOWN_HISTORY = 12
WAIT_S = 0.25  # after the last move of a slider


async def draw(visit: Visit) -> None:
    """Draw the page."""
    box = box_of()

    async def load() -> dict[str, Any]:
        known, people, scenarios, kinds = await asyncio.gather(
            titles(visit),
            _or(visit, "/v1/people", "people", k=PEOPLE),
            _or(visit, "/v1/scenarios", "scenarios"),
            _or(visit, "/v1/schema", "events"),
        )
        first = await visit.api.post("/v1/recommendations", {"k": 1})  # says at once whether the key may ask
        if kinds is None and first["model_version"] is not None:
            card_of = await _or(visit, f"/v1/models/{first['model_version']}", "events")
            kinds = card_of
        return {"titles": known, "people": people, "scenarios": scenarios, "kinds": kinds}

    await settle(visit, box, load, lambda found: _Trial(visit, **found).begin())


async def _or(visit: Visit, path: str, name: str, **query: Any) -> Any:
    """Return one part of an answer, None where the key may not see it."""
    try:
        return (await visit.api.get(path, **query))[name]
    except Refused:
        return None


class _Trial:
    """What one visitor tries."""

    def __init__(self, visit: Visit, *, titles: Any, people: Any, scenarios: Any, kinds: Any) -> None:
        self.visit, self.titles, self.people = visit, titles, people
        self.scenarios = ["default", *(one for one in scenarios or () if one != "default")]
        good = [one for one in kinds or () if one["sign"] == "positive"]
        self.kind = next((one["name"] for one in sorted(good, key=lambda one: not one.get("hides", True))), None)
        self.session = f"console-{uuid4().hex[:12]}"
        self.clicks: list[tuple[str, Any, str]] = []  # event_id, item_id and title, the oldest first
        self.slate: dict[str, Any] | None = None
        self.turn = 0

    async def begin(self) -> None:
        """Draw the settings on the left, the list on the right."""
        visit = self.visit
        with ui.element("div").classes("bb-two"):
            with ui.element("div").classes("bb-main").style("padding: 0"):
                with card():
                    self._settings()
                with card():
                    heading(visit.say("history"))
                    self.past = ui.element("div").classes("bb-steps").props("aria-live=polite")
                    self.undo = (
                        ui.button(visit.say("undo"), on_click=self._take_back)
                        .props("flat dense no-caps")
                        .style("align-self: flex-start")
                    )
            with card().props("aria-live=polite"):
                with ui.element("div").classes("bb-line"):
                    heading(visit.say("list"))
                    self.said = soft("").props("data-said=effect")
                self.less = soft("")
                self.places = ui.element("ol").classes("bb-list")
        await self._history()
        await self._ask()

    def _settings(self) -> None:
        visit = self.visit
        heading(visit.say("who"))
        kinds = {"stranger": visit.say("stranger"), "person": visit.say("person")}
        self.who = ui.radio(kinds, value="stranger", on_change=self._anew).props("dense")
        options = [str(one) for one in self.people or ()]
        self.person = ui.select(
            options, label=visit.say("person_id"), with_input=True, new_value_mode="add-unique", on_change=self._anew
        ).props("outlined dense").style("width: 100%")  # fmt: skip
        self.person.bind_visibility_from(self.who, "value", value="person")
        if self.people is None:
            soft(visit.say("people_hidden")).bind_visibility_from(self.who, "value", value="person")
        self.field = item_field(self.titles, visit.say("add"))
        self.field.on_value_change(self._added)
        if len(self.scenarios) > 1:
            self.scenario = ui.select(
                self.scenarios, label=visit.say("scenario"), value="default", on_change=self._soon
            ).props("outlined dense").style("width: 100%")  # fmt: skip
        self.sliders = {}
        for name in ("diversity", "exploration"):
            with ui.element("div"):
                with ui.element("div").classes("bb-line").style("justify-content: space-between"):
                    soft(visit.say(name))
                    value = soft("0.0")
                slider = ui.slider(min=0, max=1, step=0.1, value=0, on_change=self._soon)
                slider.props["aria-label"] = visit.say(name)
                value.bind_text_from(slider, "value", lambda one: f"{one:.1f}")
                self.sliders[name] = slider

    # ── asking ────────────────────────────────────────────────────────────────────────────────────────────────────────

    @property
    def asks(self) -> dict[str, Any]:
        """Who asks: the keys of the API."""
        if self.who.value == "person":
            return {} if not self.person.value else {"user_id": str(self.person.value)}
        return {"session_id": self.session}

    async def _soon(self) -> None:
        self.turn += 1
        turn = self.turn
        await asyncio.sleep(WAIT_S)
        if turn == self.turn:
            await self._ask()

    async def _anew(self) -> None:
        self.clicks, self.slate = [], None
        self.said.text = ""
        if self.who.value == "stranger":
            self.session = f"console-{uuid4().hex[:12]}"
        await self._history()
        await self._ask()

    async def _ask(self, offset: int | None = None) -> dict[str, Any] | None:
        question = self.asks | {"k": K, "explain": True}
        question |= {name: one.value for name, one in self.sliders.items() if one.value}
        if len(self.scenarios) > 1 and self.scenario.value != "default":
            question["scenario"] = self.scenario.value
        if offset is not None:
            question["min_offset"] = offset
        slate: dict[str, Any] | None = await self.visit.attempt(self.visit.api.post("/v1/recommendations", question))
        if slate is not None:
            self._show(slate)
        return slate

    def _show(self, slate: dict[str, Any]) -> None:
        visit, before = self.visit, self.slate
        self.slate = slate
        moved = changes(
            [one["item_id"] for one in (before or slate)["items"]], [one["item_id"] for one in slate["items"]]
        )
        self.less.text = visit.say("less", words="; ".join(_words(visit, "fall", one) for one in slate["fallback"]))
        self.less.set_visibility(bool(slate["fallback"]))
        if not self.said.text:
            ms = sum(slate["timings_ms"].values())
            self.said.text = visit.say("answered", rung=_words(visit, "rung", slate["rung"]), ms=f"{ms:.1f}")
        self.places.clear()
        with self.places:
            if not slate["items"]:
                with ui.element("li"):
                    state("inbox", visit.say("list_empty"))
            for one in slate["items"]:
                self._place(one, moved[one["item_id"]])

    def _place(self, item: dict[str, Any], rose: int | None) -> None:
        visit = self.visit
        with ui.element("li"):
            ui.label(f"{item['position']}").classes("bb-place")
            with ui.element("div"):
                with ui.element("div").classes("bb-line"):
                    title(title_of(item))
                    if rose is None:
                        ui.label(visit.say("fresh")).classes("bb-mark")
                    elif rose:
                        ui.label(f"▲ {rose}" if rose > 0 else f"▼ {-rose}").classes("bb-mark bb-plain")
                    if item["propensity"] < 1:
                        ui.label(f"{visit.say('by_chance')} {item['propensity']:.2g}").classes("bb-mark bb-warn")
                _reason(visit, item["reasons"])
            button = ui.button(
                visit.say("choose_it"), on_click=lambda: self._chose(item["item_id"], title_of(item), item)
            )
            button.props("outline dense no-caps").style("padding: 0 .6rem")
            button.props["aria-label"] = visit.say("choose_this", title=title_of(item))

    # ── acting ────────────────────────────────────────────────────────────────────────────────────────────────────────

    async def _added(self) -> None:
        key = self.field.value
        if key is None:
            return
        self.field.value = None
        item_id, said = self.titles.get(key, (key, key))
        await self._chose(item_id, said)

    async def _chose(self, item_id: Any, said: str, item: dict[str, Any] | None = None) -> None:
        """Send an event, and ask again when it is stored: how long both took is told."""
        visit = self.visit
        if self.kind is None:
            ui.notify(visit.say("no_events"), type="warning")
            return
        if not self.asks:
            ui.notify(visit.say("person_id"), type="warning")
            return
        started = time.perf_counter()
        event = {"event_id": f"console-{uuid4().hex}", "event": self.kind, "item_id": item_id} | self.asks
        if item is not None and self.slate is not None:
            event |= {"request_id": self.slate["request_id"], "position": item["position"]}
        kept = await visit.attempt(visit.api.post("/v1/events", {"events": [event]}))
        if kept is None:
            return
        if kept["rejected"]:
            ui.notify(str(kept["rejected"][0]["detail"]), type="negative")
            return
        stored = time.perf_counter()
        self.clicks.append((event["event_id"], item_id, said))
        before = self.slate
        self.said.text = "…"
        slate = await self._ask(kept["offset"])
        if slate is not None and before is not None:
            moved = changes([one["item_id"] for one in before["items"]], [one["item_id"] for one in slate["items"]])
            self.said.text = visit.say(
                "effect", stored=f"{1000 * (stored - started):.0f}",
                all=f"{1000 * (time.perf_counter() - started):.0f}",
                moved=sum(one != 0 for one in moved.values()), n=len(moved),
            )  # fmt: skip
        await self._history()

    async def _take_back(self) -> None:
        if not self.clicks:
            return
        await self.visit.attempt(self.visit.api.delete(f"/v1/events/{part(self.clicks[-1][0])}"))
        self.clicks.pop()
        self.said.text = ""
        await self._history()
        await self._ask()

    async def _history(self) -> None:
        """Show what was done here, and before that what the server knows, where the key may see it."""
        visit, told, hidden = self.visit, [said for _, _, said in reversed(self.clicks)], False
        if self.asks.get("user_id"):
            try:
                data = await visit.api.get(f"/v1/users/{part(self.asks['user_id'])}/data")
                deeds = [*data["trained_on"], *(one for one in data["events"] if one.get("item_id") is not None)]
                told = [self._called(one["item_id"]) for one in reversed(deeds)]
            except Refused:
                hidden = True
        self.undo.set_visibility(bool(self.clicks))
        self.past.clear()
        with self.past:
            for one in told[:SHOWN_HISTORY]:
                words_in("div", one, "bb-small bb-any").props("dir=auto")
            if len(told) > SHOWN_HISTORY:
                soft(f"+ {len(told) - SHOWN_HISTORY:,}")
            if hidden:
                soft(visit.say("history_hidden"))
            elif not told:
                soft(visit.say("history_none"))

    def _called(self, item_id: Any) -> str:
        found: str = self.titles.get(str(item_id), (item_id, str(item_id)))[1]
        return found


def _words(visit: Visit, kind: str, word: str) -> str:
    """Return what a word of an answer means."""
    return visit.say(f"{kind}_{word}") if f"{kind}_{word}" in WORDS else word


def _reason(visit: Visit, reasons: list[dict[str, Any]]) -> None:
    """Write the main reason in the visitor's language, and in the other one below."""
    if not reasons:
        soft(visit.say("no_reason"))
        return
    for spoken in sorted(LANGUAGES, key=lambda one: one != visit.spoken):
        soft(sentence(reasons[0], spoken), "bb-small bb-two-lines").props(f"dir=auto lang={spoken}")
