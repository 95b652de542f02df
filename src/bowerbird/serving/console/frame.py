"""The frame of every page: who looks, in which language, what stands around, and the states that are no content."""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from inspect import isawaitable
from pathlib import Path
from typing import Any

from nicegui import ui

from bowerbird.serving.console.api import Api, Refused, Unreachable
from bowerbird.serving.console.charts import Options
from bowerbird.serving.console.words import Language, age, say

STYLE = Path(__file__).with_name("style.css")
PAGES = ("home", "try", "pipeline", "quality", "choose", "map", "versions")
ADDRESSES = {"home": "./"} | {name: name for name in PAGES[1:]}
UNKNOWN = 404


@dataclass(frozen=True)
class Visit:
    """One page that somebody looks at."""

    api: Api
    spoken: Language
    dark: bool
    page: str

    def say(self, key: str, **values: object) -> str:
        """Return what a key of `words` says in the visitor's language."""
        return say(self.spoken, key, **values)

    def age(self, seconds: float) -> str:
        """Return how long something is ago."""
        return age(self.spoken, seconds)

    async def attempt(self, deed: Awaitable[Any]) -> Any:
        """Return what a deed brings; a refusal is told at the edge of the page, and None comes back."""
        try:
            return await deed
        except Refused as error:
            key = "no_scope" if error.status == 403 else "no_key" if error.status == 401 else "went_wrong"
            ui.notify(f"{self.say(key)}: {error.detail}", type="negative", timeout=8000)
        except Unreachable as error:
            ui.notify(f"{self.say('unreachable')}: {error}", type="negative", timeout=8000)
        return None


# ── parts ─────────────────────────────────────────────────────────────────────────────────────────────────────────────


def words_in(tag: str, text: str, classes: str = "") -> ui.label:
    """Write a text in an element of any kind; a text is never read as HTML."""
    found = ui.label(text).classes(classes)
    found.tag = tag
    return found


def heading(text: str, level: int = 2) -> ui.label:
    """Write a heading."""
    return words_in(f"h{level}", text, f"bb-h{level}")


def soft(text: str, classes: str = "bb-small") -> ui.label:
    """Write what stands back."""
    return ui.label(text).classes(f"bb-soft bb-any {classes}")


def title(text: object) -> ui.label:
    """Write the title of an item, whatever stands in it: at most two lines, in its own direction."""
    found = ui.label(str(text)).classes("bb-title").props("dir=auto")
    if len(str(text)) > 80:
        found.tooltip(str(text)[:300])
    return found


def card(classes: str = "") -> ui.element:
    """Open a card."""
    return ui.element("section").classes(f"bb-card {classes}")


def table(head: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """Write a table of texts."""
    with ui.element("div").classes("bb-scroll"), ui.element("table").classes("bb-table"):
        with ui.element("thead"), ui.element("tr"):
            for one in head:
                words_in("th", one).props("scope=col")
        with ui.element("tbody"):
            for row in rows:
                with ui.element("tr"):
                    for cell in row:
                        words_in("td", str(cell)).props("dir=auto")


def chart(
    visit: Visit, options: Options, says: str, head: Sequence[str], rows: Sequence[Sequence[object]], height: int = 300,
    *, unfold: bool = True,
) -> ui.echart:  # fmt: skip
    """Draw a chart that says what it shows; its figures are a table to unfold, unless they stand there anyway."""
    found = ui.echart(options).classes("bb-chart").style(f"height: {height}px").props("role=img")
    found.props["aria-label"] = says
    if unfold:
        with ui.element("details").classes("bb-more"):
            words_in("summary", visit.say("figures_of"))
            table(head, rows)
    return found


def figure_tile(name: str, value: str, more: str) -> tuple[ui.label, ui.label]:
    """Write one figure; return the labels of the figure and of what is said of it."""
    with card():
        soft(name)
        figure = ui.label(value).classes("bb-figure")
        return figure, soft(more)


# ── states ────────────────────────────────────────────────────────────────────────────────────────────────────────────


def state(icon: str, says: str, more: str = "", code: str = "") -> ui.element:
    """Say why there is no content; more may be put into what is returned."""
    box = card("bb-state").props("role=status")
    with box:
        ui.icon(icon, size="2.2rem").classes("bb-soft").props("aria-hidden=true")
        heading(says)
        if more:
            soft(more)
        if code:
            ui.label(code).classes("bb-code")
    return box


def refused(visit: Visit, error: Refused) -> None:
    """Say what the server refused, and what to do about it."""
    if error.status == 401:
        with state("key", visit.say("no_key"), visit.say("no_key_more")):
            ui.link(visit.say("sign_in"), "login")
    elif error.status == 403:
        state("lock", visit.say("no_scope"), f"{error.detail} {visit.say('no_scope_more')}")
    else:
        state("error_outline", visit.say("went_wrong"), f"{error.status}: {error.detail}")


async def settle(
    visit: Visit, box: ui.element, load: Callable[[], Awaitable[Any]], draw: Callable[[Any], Any],
    *, missing: Callable[[Refused], Any] | None = None,
) -> None:  # fmt: skip
    """Fill a box: with what is being waited for, then with what was drawn of it, or with why there is nothing.

    `missing` draws what a 404 or 409 means here.
    """
    box.clear()
    with box, card("bb-state").props("role=status aria-live=polite"):
        ui.spinner(size="2rem")
        soft(visit.say("loading"))
    try:
        found, error = await load(), None
    except (Refused, Unreachable) as problem:
        found, error = None, problem
    box.clear()
    with box:
        if error is None:
            drawn = draw(found)
            if isawaitable(drawn):
                await drawn
        elif isinstance(error, Refused) and missing is not None and error.status == UNKNOWN:
            missing(error)
        elif isinstance(error, Refused):
            refused(visit, error)
        else:
            with state("cloud_off", visit.say("unreachable"), visit.say("unreachable_more")):
                ui.button(visit.say("again"), on_click=lambda: settle(visit, box, load, draw, missing=missing)).props(
                    "outline no-caps"
                )


def box_of() -> ui.element:
    """Open a place that is filled later."""
    return ui.element("div").classes("bb-main").style("padding: 0")


def around(visit: Visit) -> ui.element:
    """Draw what stands around a page; return where its content goes."""
    ui.add_css(STYLE)
    ui.add_head_html(f'<script>document.documentElement.lang="{visit.spoken}"</script>')  # one of LANGUAGES
    ui.dark_mode(visit.dark)
    ui.colors(primary="#4aa3df" if visit.dark else "#0063a0", negative="#b34400", positive="#00684b")
    with ui.header(fixed=False, add_scroll_padding=False).classes("bb-bar"):
        ui.link(visit.say("skip"), "#content").classes("bb-skip")
        ui.label("bowerbird").classes("bb-name")
        nav = ui.element("nav").classes("bb-nav")
        nav.props["aria-label"] = visit.say("pages")
        with nav:
            for name in PAGES:
                link = ui.link(visit.say(name), ADDRESSES[name])
                if name == visit.page:
                    link.props("aria-current=page")
        with ui.element("div").classes("bb-tools"):
            other, shade = "en" if visit.spoken == "zh" else "zh", "light" if visit.dark else "dark"
            ui.link(visit.say("language"), f"prefs?lang={other}&back={visit.page}").props(f"lang={other}")
            ui.link(visit.say(shade), f"prefs?shade={shade}&back={visit.page}")
            if visit.api.key is None:
                ui.link(visit.say("sign_in"), "login")
            else:
                with ui.element("form").props('method=post action="session/end"'):
                    ui.button(visit.say("sign_out")).props("flat dense no-caps type=submit")
    main = ui.element("div").classes("bb-main").props("id=content tabindex=-1")
    with main:
        heading(visit.say(visit.page), 1)
    return main
