"""Versions: which one answers, how to change that, what works in the background, and who asked to be erased."""

import time
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Any

from nicegui import ui

from bowerbird.serving.console.api import Refused
from bowerbird.serving.console.frame import Visit, box_of, card, heading, settle, soft, table, words_in

LOOK_S = 1.5
OPEN = ("waiting", "running")


async def draw(visit: Visit) -> None:
    """Draw the page."""
    page = _Versions(visit)
    await page.begin()


class _Versions:
    """What one visitor sees and does."""

    def __init__(self, visit: Visit) -> None:
        self.visit = visit
        self.models, self.jobs, self.erasures = box_of(), box_of(), box_of()
        self.moving = False  # whether a job went on at the last look

    async def begin(self) -> None:
        """Ask for all three parts, each with its own state."""
        await self._show_models()
        await self._show_jobs()
        load = lambda: self.visit.api.get("/v1/erasures")  # noqa: E731
        await settle(self.visit, self.erasures, load, self._erasures, missing=self._no_erasures)
        ui.timer(LOOK_S, self._look)

    # ── versions ──────────────────────────────────────────────────────────────────────────────────────────────────────

    async def _show_models(self) -> None:
        await settle(self.visit, self.models, lambda: self.visit.api.get("/v1/models"), self._models)

    def _models(self, found: dict[str, Any]) -> None:
        visit, in_use = self.visit, found["in_use"]
        with card():
            head = (visit.say("version"), visit.say("model"), visit.say("made"), visit.say("parent"),
                    visit.say("learned_to"), visit.say("metric"), "")  # fmt: skip
            with ui.element("div").classes("bb-scroll"), ui.element("table").classes("bb-table"):
                with ui.element("thead"), ui.element("tr"):
                    for one in head:
                        words_in("th", one).props("scope=col")
                with ui.element("tbody"):
                    for one in reversed(found["versions"]):
                        self._row(one, in_use)
            if in_use is not None and len(found["versions"]) > 1:
                ui.button(visit.say("rollback"), icon="undo", on_click=lambda: self._rollback(in_use)).props(
                    "outline no-caps"
                ).style("align-self: flex-start")

    def _row(self, one: dict[str, Any], in_use: str | None) -> None:
        visit = self.visit
        name, value = next(iter(one["metrics"].items()), ("", None))
        cells = (one["version"], one["model"], moment(one["created"]), one["parent"] or "–",
                 f"{one['log_offset'] or 0:,}", "–" if value is None else f"{name} {value:.4f}")  # fmt: skip
        with ui.element("tr"):
            for cell in cells:
                words_in("td", str(cell))
            with ui.element("td"):
                if one["version"] == in_use:
                    ui.label(visit.say("in_use")).classes("bb-mark")
                else:
                    button = ui.button(visit.say("promote"), on_click=lambda: self._promote(one["version"]))
                    button.props("outline dense no-caps").style("padding: 0 .6rem")
                    button.props["aria-label"] = visit.say("promote_this", version=one["version"])

    async def _promote(self, version: str) -> None:
        deed = lambda: self.visit.api.post(f"/v1/models/{version}:promote")  # noqa: E731
        await self._sure(self.visit.say("sure_promote", version=version), version, deed)

    async def _rollback(self, version: str) -> None:
        deed = lambda: self.visit.api.post("/v1/models:rollback")  # noqa: E731
        await self._sure(self.visit.say("sure_rollback", version=version), version, deed)

    async def _sure(self, says: str, name: str, deed: Callable[[], Awaitable[Any]]) -> None:
        """Do what changes every answer only for whoever types the name of what it is about."""
        visit = self.visit
        with ui.dialog() as dialog, ui.element("div").classes("bb-card"):
            ui.label(says)
            typed = ui.input(visit.say("version")).props("outlined dense autofocus")
            with ui.element("div").classes("bb-line"):
                ui.button(visit.say("cancel"), on_click=lambda: dialog.submit(False)).props("flat no-caps")
                yes = ui.button(visit.say("confirm"), on_click=lambda: dialog.submit(True)).props("unelevated no-caps")
                yes.bind_enabled_from(typed, "value", lambda said: said == name)
        sure = await dialog
        dialog.delete()
        if not sure:
            return
        done = await visit.attempt(deed())
        if done is not None:
            ui.notify(visit.say("now_in_use", version=done["in_use"]), type="positive")
            await self._show_models()

    # ── jobs ──────────────────────────────────────────────────────────────────────────────────────────────────────────

    async def _show_jobs(self) -> None:
        await settle(self.visit, self.jobs, lambda: self.visit.api.get("/v1/jobs"), self._begin_jobs)

    def _begin_jobs(self, found: dict[str, Any]) -> None:
        visit = self.visit
        with card():
            heading(visit.say("jobs"))
            with ui.element("div").classes("bb-line"):
                for kind in ("update", "backup"):
                    ui.button(visit.say(f"job_{kind}"), on_click=lambda kind=kind: self._start(kind)).props(
                        "outline no-caps"
                    )
            self.rows = ui.element("div").classes("bb-steps").props("aria-live=polite")
        self._draw_jobs(found["jobs"])

    def _draw_jobs(self, jobs: list[dict[str, Any]]) -> None:
        visit = self.visit
        self.moving = any(one["state"] in OPEN for one in jobs)
        self.rows.clear()
        with self.rows:
            if not jobs:
                soft(visit.say("jobs_none"), "")
            for one in jobs:
                with ui.element("div").classes("bb-line"):
                    bad = one["state"] in ("failed", "cancelled")
                    ui.label(visit.say(one["state"])).classes("bb-mark" + (" bb-warn" if bad else ""))
                    ui.label(" ".join(filter(None, (one["kind"], one["what"]))))
                    soft(visit.say("ago", age=visit.age(time.time() - one["started"])))
                    if one["done"]:
                        soft(visit.say("rows", n=f"{one['done']:,}"))
                    if one["state"] in OPEN:
                        ui.linear_progress(show_value=False).props("indeterminate").style("width: 160px")
                        button = ui.button(visit.say("cancel"), on_click=lambda job=one["id"]: self._cancel(job))
                        button.props("flat dense no-caps")
                    if one["detail"]:
                        soft(one["detail"][:300])

    async def _start(self, kind: str) -> None:
        if await self.visit.attempt(self.visit.api.post("/v1/jobs", {"kind": kind})) is not None:
            self.moving = True
            await self._look()

    async def _cancel(self, job: str) -> None:
        await self.visit.attempt(self.visit.api.post(f"/v1/jobs/{job}:cancel"))
        await self._look()

    async def _look(self) -> None:
        """Follow jobs that go on; when one ends, versions may have changed too."""
        if not self.moving:
            return
        found = await self.visit.attempt(self.visit.api.get("/v1/jobs"))
        if found is None:
            self.moving = False
            return
        self._draw_jobs(found["jobs"])
        if not self.moving:
            await self._show_models()

    # ── erasures ──────────────────────────────────────────────────────────────────────────────────────────────────────

    def _erasures(self, found: dict[str, Any]) -> None:
        visit = self.visit
        with card():
            heading(visit.say("erasures"))
            if not found["erasures"]:
                soft(visit.say("erasures_none"), "")
                return
            rows = [
                (one["id"], visit.say(one["state"]) if one["state"] in (*OPEN, "done") else one["state"],
                 moment(one["asked"]), moment(one["deadline"]), moment(one.get("finished")), _steps(one.get("steps")))
                for one in found["erasures"]
            ]  # fmt: skip
            head = (visit.say(name) for name in ("state", "asked", "due", "finished", "steps"))
            table(("", *head), rows)

    def _no_erasures(self, error: Refused) -> None:
        with card():
            heading(self.visit.say("erasures"))
            soft(self.visit.say("erasures_unknown"), "")


def _steps(steps: Any) -> str:
    return (
        ", ".join(f"{'✓' if done else '…'} {name}" for name, done in steps.items()) if isinstance(steps, dict) else ""
    )


def moment(seconds: Any) -> str:
    """Return a moment, seconds since 1970, as people write it, in UTC."""
    return (
        datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M UTC") if isinstance(seconds, int | float) else "–"
    )
