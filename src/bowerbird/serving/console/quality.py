"""Quality: how good each version is and how sure that is, for whom, and what its lists look like."""

import asyncio
from typing import Any

from nicegui import ui

from bowerbird.serving.console import charts
from bowerbird.serving.console.frame import Visit, box_of, card, chart, heading, settle, soft, state, table
from bowerbird.serving.console.words import WORDS

FIRST = ("ndcg@10", "recall@10", "hit@10", "auc", "logloss")  # metrics that are shown first, where there are such


async def draw(visit: Visit) -> None:
    """Draw the page."""
    box = box_of()

    async def load() -> dict[str, Any]:
        models = await visit.api.get("/v1/models")
        cards, shape = await asyncio.gather(
            asyncio.gather(*(visit.api.get(f"/v1/models/{one['version']}") for one in models["versions"])),
            visit.api.get("/v1/popularity"),
        )
        return {"in_use": models["in_use"], "cards": list(cards), "shape": shape}

    await settle(visit, box, load, lambda found: _draw(visit, **found))
    drifting = box_of()
    await settle(visit, drifting, lambda: visit.api.get("/v1/drift"), lambda found: _drift(visit, found))


def _draw(visit: Visit, in_use: str | None, cards: list[dict[str, Any]], shape: dict[str, Any]) -> None:
    with card():
        _versions(visit, cards, in_use)
    names = {one["version"]: f"{one['version']} {one['model']}" for one in reversed(cards)}
    if not names:
        return
    first = in_use if in_use in names else next(iter(names))
    picked = ui.select(names, value=first, label=visit.say("version")).props("outlined dense").style("max-width: 260px")
    place = box_of()

    def show() -> None:
        place.clear()
        mine = next(one for one in cards if one["version"] == picked.value)
        measured = mine["measured"] or {}
        with place:
            with ui.element("div").classes("bb-half"):
                with card():
                    _slices(visit, measured)
                with card():
                    _calibration(visit, mine, measured)
                with card():
                    _popularity(visit, shape)
                with card():
                    _lists(visit, mine)
            _relies(visit, measured)

    picked.on_value_change(show)
    show()


def _versions(visit: Visit, cards: list[dict[str, Any]], in_use: str | None) -> None:
    """Draw one metric of every version with its interval."""
    heading(visit.say("by_version"))
    told = [one for one in cards if (one["measured"] or {}).get("metrics")]
    if not told:
        state("straighten", visit.say("not_measured"), visit.say("not_measured_more"))
        return
    names = list(dict.fromkeys(name for one in told for name in one["measured"]["metrics"]))
    names.sort(key=lambda name: FIRST.index(name) if name in FIRST else len(FIRST))
    picked = (
        ui.select(names, value=names[0], label=visit.say("metric")).props("outlined dense").style("max-width: 260px")
    )
    place = ui.element("div").classes("bb-steps")

    def show() -> None:
        place.clear()
        rows: list[charts.Row] = []
        for one in reversed(told):
            value = one["measured"]["metrics"].get(picked.value)
            low, high = (one["measured"].get("intervals") or {}).get(picked.value, (None, None))
            if value is not None:
                mark = f" · {visit.say('in_use')}" if one["version"] == in_use else ""
                rows.append((f"{one['version']} {one['model']}{mark}", value, low, high))
        with place:
            says = visit.say("by_version")
            head = (visit.say("version"), picked.value, visit.say("interval"))
            chart(
                visit,
                charts.intervals(rows, visit.dark, name=picked.value),
                says,
                head,
                _told(rows),
                70 + 38 * len(rows),
            )

    picked.on_value_change(show)
    show()
    for one in reversed(told):
        on = one["measured"].get("trained_on")
        more = f". {visit.say('trained_on', what=on)}" if on else ""
        soft(f"{one['version']}: {one['measured'].get('protocol', '')}{more}")


def _told(rows: list[charts.Row]) -> list[tuple[str, str, str]]:
    return [
        (name, f"{value:.4f}", "" if low is None or high is None else f"{low:.4f} – {high:.4f}")
        for name, value, low, high in rows
    ]


def _slices(visit: Visit, measured: dict[str, Any]) -> None:
    heading(visit.say("slices"))
    found = measured.get("slices") or []
    if not found:
        soft(visit.say("slices_none"), "")
        return
    name = next((one for one in FIRST if one in found[0]["metrics"]), next(iter(found[0]["metrics"])))
    rows = [
        (f"{one['slice']} ({one['users']:,} {visit.say('users')})", one["metrics"][name], *one["intervals"][name])
        for one in found
    ]
    soft(visit.say("slices_more"))
    head = (visit.say("slices"), name, visit.say("interval"))
    chart(
        visit,
        charts.intervals(rows, visit.dark, name=name),
        visit.say("slices"),
        head,
        _told(rows),
        70 + 40 * len(rows),
    )


def _calibration(visit: Visit, mine: dict[str, Any], measured: dict[str, Any]) -> None:
    heading(visit.say("calibration"))
    curves = (measured.get("rows") or {}).get("calibration") or {}
    if not curves:
        soft(visit.say("calibration_none", model=mine["model"]), "")
        return
    for task, rows in curves.items():
        options = charts.calibration(
            rows, visit.dark, x=visit.say("predicted"), y=visit.say("observed"), even=visit.say("perfect"), mine=task
        )
        head = (visit.say("predicted"), visit.say("observed"), visit.say("rows", n="").strip())
        told = [(f"{one['predicted']:.3f}", f"{one['observed']:.3f}", f"{one['rows']:,}") for one in rows]
        chart(visit, options, visit.say("calibration"), head, told)


def _popularity(visit: Visit, shape: dict[str, Any]) -> None:
    heading(visit.say("popularity_curve"))
    if not shape["curve"]:
        soft(visit.say("popularity_none"), "")
        return
    soft(visit.say("popularity_more", share=f"{shape['top_tenth']:.0%}", gini=f"{shape['gini']:.2f}"))
    options = charts.curve(
        shape["curve"], visit.dark, x=visit.say("items_share"), y=visit.say("choices_share"), even=visit.say("even"),
        mine=visit.say("choices"),
    )  # fmt: skip
    rows = [(f"{x:.0%}", f"{y:.1%}") for x, y in shape["curve"][:: max(1, len(shape["curve"]) // 10)]]
    chart(visit, options, visit.say("popularity_curve"), (visit.say("items_share"), visit.say("choices_share")), rows)


def _lists(visit: Visit, mine: dict[str, Any]) -> None:
    heading(visit.say("top_tenth"))
    health = mine["health"]
    if not health:
        soft(visit.say("not_measured"), "")
        return
    names = [visit.say(one) for one in ("of_model", "of_popular", "of_people")]
    rows = list(zip(names, (f"{one:.1%}" for one in health["head_10"]), strict=True))
    options = charts.bars(
        names,
        {visit.say("share"): [round(100 * one, 1) for one in health["head_10"]]},
        visit.dark,
        name="%",
        form="{c} %",
    )
    options["xAxis"]["max"] = 100
    chart(visit, options, visit.say("top_tenth"), ("", visit.say("share")), rows, 220)
    for one in health.get("warnings") or ():
        ui.label(one).classes("bb-alarm bb-any")


def _relies(visit: Visit, measured: dict[str, Any]) -> None:
    sections = (measured.get("relies_on") or {}).get("sections") or {}
    if not sections:
        return
    with card():
        heading(visit.say("relies"))
        with ui.element("div").classes("bb-half"):
            for name, parts in sections.items():
                says = visit.say(f"on_{name}") if f"on_{name}" in WORDS else name
                rows: list[charts.Row] = [
                    (str(one["name"]), one["mean"], one["low"], one["high"]) for one in parts[:10]
                ]
                options = charts.intervals(rows, visit.dark, name=says, colour=2)
                if any(value < 0 or (low or 0) < 0 for _, value, low, _ in rows):
                    del options["xAxis"]["min"]  # what speaks against an item lies below zero, which stays in sight
                with ui.element("div"):
                    chart(visit, options, says, ("", says, visit.say("interval")), _told(rows), 70 + 26 * len(rows))


def _drift(visit: Visit, found: dict[str, Any]) -> None:
    with card():
        heading(visit.say("drift"))
        counts = {name: f"{n:,}" for name, n in found["rows"].items()}
        if not found["rows"]["now"]:
            soft(visit.say("drift_none"), "")
            return
        soft(visit.say("drift_seen" if found["alarms"] else "drift_quiet", **counts), "")
        for one in found["alarms"]:
            ui.label(one).classes("bb-alarm bb-any").props("role=alert")
        rows = [
            (one["name"], one["test"], "" if one["psi"] is None else f"{one['psi']:.3f}", f"{one['p']:.2g}",
             visit.say("moved" if one["alarm"] else "quiet"))
            for one in found["series"]
        ]  # fmt: skip
        table((visit.say("column"), visit.say("test"), "PSI", "p (Holm)", visit.say("verdict")), rows)
