"""A question of the API in rows, and an answer as the API sends it and as the log keeps it: functions of one view."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from bowerbird.core import RequestError, World
from bowerbird.pipeline import filters as filter_language
from bowerbird.pipeline.answers import Answer, Asked
from bowerbird.pipeline.scenario import Scenario
from bowerbird.serving.person import Person
from bowerbird.serving.view import View
from bowerbird.store.log import SLATE, LogEvent

POLICY = "greedy"


def asked_of(
    view: View, scenario: Scenario, question: Mapping[str, Any], previous: Sequence[Any], world: World
) -> tuple[Asked, int]:
    """Return a question in rows, and how many ids of its history are not known; `previous` was shown before."""
    person = Person(view, scenario, question)
    now = world.now()
    served: Sequence[Any] = ()
    if scenario.hide_served_s and person.key is not None:
        served = view.people.shown(person.key, now - scenario.hide_served_s)
    where = question.get("where")
    timeout_ms = question.get("timeout_ms") or scenario.timeout_ms
    return (
        Asked(
            context=person.context,
            k=question.get("k") or scenario.k,
            liked=None if view.words is None else person.liked,
            seen=person.seen,
            served=known_rows(view.rows([*served, *previous])),
            exclude=known_rows(view.rows(question.get("exclude_items") or ())),
            where=filter_language.parse(where) if where else None,
            seen_rows=lambda one: person.did(one.event, None if one.window_s is None else now - one.window_s),
            now=now,
            deadline=world.monotonic() + timeout_ms / 1000 if timeout_ms else None,
            diversity=question.get("diversity"),
            explain=bool(question.get("explain")),
            seed=view.recommender.run.seed,
        ),
        person.unknown,
    )


def body_of(
    view: View,
    scenario: Scenario | None,
    question: Mapping[str, Any],
    request_id: str,
    answer: Answer,
    unknown: int,
) -> dict[str, Any]:
    """Return an answer as the API sends it, without reasons."""
    fields = question.get("fields") or ()
    rows, titles = answer.items.tolist(), view.titles(answer.items)
    columns = (rows, titles, answer.scores.tolist(), answer.propensity.tolist(), answer.sources)
    items = [
        {
            "item_id": view.item_id(row),
            "title": title,
            "position": place,
            "score": score,
            "sources": sources,
            "propensity": propensity,
            "reasons": [],
            "properties": view.properties(row, fields) if fields else {},
        }
        for place, (row, title, score, propensity, sources) in enumerate(zip(*columns, strict=True), 1)
    ]
    return {
        "request_id": request_id,
        "user_id": question.get("user_id"),
        "scenario": None if scenario is None else scenario.name,
        "model": view.recommender.name,
        "model_version": view.recommender.version,
        "policy": POLICY,
        "rung": answer.rung or "none",
        "fallback": answer.fallback,
        "stale": False,
        "unknown_items": unknown,
        "items": items,
        "trace": [
            {"stage": step.stage, "candidates": step.candidates, "ms": round(step.ms, 3)} for step in answer.trace
        ],
        "timings_ms": {step.stage: round(step.ms, 3) for step in answer.trace},
    }


def explain(view: View, asked: Asked, answer: Answer, body: dict[str, Any]) -> None:
    """Put a reason to every item of a body; one that is newer than the model is there for being new."""
    rec = view.recommender
    known = [place for place, row in enumerate(answer.items.tolist()) if row < view.n_known]
    reasons = rec.explain(asked.context, answer.items[known])
    for place, reason in zip(known, reasons, strict=True):
        body["items"][place]["reasons"] = [reason.to_dict()]
    for place in set(range(len(answer.items))) - set(known):
        body["items"][place]["reasons"] = [{"kind": "new", "text": "new here", "items": []}]


def slate_of(
    view: View, question: Mapping[str, Any], body: dict[str, Any], previous: Sequence[Any], now: int
) -> LogEvent:
    """Return what the log keeps of an answer."""
    document = {
        "items": [one["item_id"] for one in body["items"]],
        "propensity": [one["propensity"] for one in body["items"]],
        "scores": [one["score"] for one in body["items"]],
        "sources": [one["sources"] for one in body["items"]],
        "question": dict(question),
        "previous": list(previous),
        **{key: body[key] for key in ("model", "rung", "fallback", "stale", "unknown_items", "trace")},
    }
    return LogEvent(
        event_id=body["request_id"],
        event=SLATE,
        user_id=question.get("user_id"),
        session_id=question.get("session_id"),
        time=now,
        request_id=body["request_id"],
        scenario=body["scenario"],
        context=json.dumps(document, ensure_ascii=False),
        policy_version=POLICY,
        model_version=view.recommender.version,
    )


def allowed_of(view: View, where: str | None, now: int) -> np.ndarray:
    """Return which items may be shown to anyone, bool (I,)."""
    allowed = view.shelf.available.copy()
    if where:
        one = filter_language.parse(where)
        if one.seen:
            raise RequestError("seen() asks about a person, and this list is for nobody in particular.")
        allowed &= one.mask(view.shelf.items, now=now)
    return allowed


def known_rows(rows: np.ndarray) -> np.ndarray:
    """Return the rows that are of something, int64."""
    return rows[rows >= 0]
