"""Map: items in a plane, so that those are close which the model takes for alike."""

from collections import Counter
from typing import Any

from nicegui import ui

from bowerbird.serving.console import charts
from bowerbird.serving.console.api import Refused, part
from bowerbird.serving.console.frame import Visit, box_of, card, chart, heading, settle, soft, state, title
from bowerbird.serving.console.items import title_of

LIKE = 10


async def draw(visit: Visit) -> None:
    """Draw the page."""
    await _Map(visit).begin()


class _Map:
    """What one visitor looks at."""

    def __init__(self, visit: Visit) -> None:
        self.visit, self.box = visit, box_of()
        self.column: str | None = None

    async def begin(self) -> None:
        """Ask for the map and draw it."""
        load = lambda: self.visit.api.get("/v1/map", column=self.column)  # noqa: E731
        await settle(self.visit, self.box, load, self._draw)

    def _draw(self, found: dict[str, Any]) -> None:
        visit, self.found = self.visit, found
        if not found["points"]:
            state("scatter_plot", visit.say("map_none"))
            return
        with card():
            with ui.element("div").classes("bb-line"):
                if found["columns"]:
                    ui.select(
                        found["columns"], value=found["column"], label=visit.say("colour_by"), on_change=self._recolour
                    ).props("outlined dense").style("min-width: 200px")  # fmt: skip
                points = {str(one["item_id"]): charts.cut(title_of(one), 80) for one in found["points"]}
                self.field = ui.select(
                    points, label=visit.say("find"), with_input=True, clearable=True, on_change=self._find
                ).props("outlined dense").style("flex: 1; min-width: 260px")  # fmt: skip
            source = "map_vectors" if found["source"] == "vectors" else "map_choices"
            soft(visit.say(source, model=found["model"]))
            rows = [(one["title"], one["group"] or "", "✓" if one["cold"] else "") for one in found["points"][:20]]
            head = (visit.say("item"), found["column"] or "", visit.say("cold"))
            self.picture = chart(visit, self._options(None), visit.say(source, model=found["model"]), head, rows, 560)
            drawn = "" if len(found["points"]) + found["placeless"] == found["items"] else visit.say("map_drawn")
            a, b = found["explained"]
            soft(visit.say(
                "map_more", n=f"{len(found['points']):,}", items=f"{found['items']:,}", drawn=drawn, a=f"{a:.0%}",
                b=f"{b:.0%}",
            ))  # fmt: skip
        self.like = ui.element("div")

    def _options(self, marked: dict[str, Any] | None) -> charts.Options:
        counts = Counter(one["group"] for one in self.found["points"])
        groups = sorted((one for one in counts if one), key=lambda one: -counts[one])
        rest: list[str | None] = [one for one in ("", None) if one in counts]
        names: dict[str | None, str] = {one: one for one in groups}
        unsaid = "unsaid" if self.found["column"] else "item"
        names |= {"": self.visit.say("other"), None: self.visit.say(unsaid)}
        shown = [*groups, *rest][: len(charts.COLOURS)]
        return charts.plane(
            self.found["points"], shown, names, self.visit.dark, cold=self.visit.say("cold"), found=marked,
            marked=self.visit.say("find"),
        )  # fmt: skip

    async def _recolour(self, event: Any) -> None:
        if event.value != self.found["column"]:
            self.column = event.value
            await self.begin()

    async def _find(self) -> None:
        key = self.field.value
        marked = next((one for one in self.found["points"] if str(one["item_id"]) == key), None)
        options = self._options(marked)
        self.picture.options.clear()
        self.picture.options.update(options)
        self.picture.update()
        self.like.clear()
        if marked is None:
            return
        load = lambda: self.visit.api.get(f"/v1/items/{part(marked['item_id'])}/similar", k=LIKE)  # noqa: E731
        with self.like:
            box = box_of()
        await settle(self.visit, box, load, lambda found: self._close(marked, found), missing=self._unlike)

    def _unlike(self, error: Refused) -> None:
        soft(error.detail)

    def _close(self, marked: dict[str, Any], found: dict[str, Any]) -> None:
        with card():
            heading(self.visit.say("like_it", title=charts.cut(title_of(marked), 60)))
            with ui.element("ol").classes("bb-list"):
                for one in found["items"]:
                    with ui.element("li"):
                        ui.label(str(one["position"])).classes("bb-place")
                        title(title_of(one))
                        soft(f"{one['score']:.3f}")
