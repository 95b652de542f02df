"""A question of the API in rows, and an answer as the API sends it and as the log keeps it: functions of one view."""

import json
from collections.abc import Mapping, Sequence
from hashlib import sha256
from typing import Any

import numpy as np
import torch

from bowerbird.core import Reason, RequestError, World
from bowerbird.explanation import words
from bowerbird.explanation.explainer import with_chance
from bowerbird.pipeline import filters as filter_language
from bowerbird.pipeline.answers import Answer, Asked
from bowerbird.pipeline.scenario import Scenario
from bowerbird.recommender.explaining import without
from bowerbird.serving.person import Person
from bowerbird.serving.view import View
from bowerbird.store.log import SLATE, LogEvent

APART = ("user_id", "session_id", "scenario", "k", "explain", "fields", "min_offset", "timeout_ms")  # see context_hash


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
            context_hash=context_hash(view, scenario, question, person, [*served, *previous]),
        ),
        person.unknown,
    )


def context_hash(
    view: View, scenario: Scenario, question: Mapping[str, Any], person: Person, hidden: Sequence[Any]
) -> str:
    """Return what two answers share that were given in the same context: 16 hexadecimal digits.

    It is made of who asks, how many deeds of theirs are known since training and the offset of the last one, the
    model's version, the scenario, k, what was `hidden` as shown before, and all else in the question that bears upon
    the answer. The moment, the boards and the catalogue, which move by themselves, are left out.
    """
    told = {
        "person": person.key,
        "deeds": person.state,
        "model_version": view.recommender.version,
        "scenario": scenario.name,
        "k": question.get("k") or scenario.k,
        "hidden": hidden,
        "question": {key: value for key, value in question.items() if key not in APART and value is not None},
    }
    text = json.dumps(told, sort_keys=True, separators=(",", ":"))
    return sha256(text.encode()).hexdigest()[:16]


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
        "policy": answer.policy,
        "rung": answer.rung or "none",
        "fallback": answer.fallback,
        "stale": False,
        "experiment": None,
        "unknown_items": unknown,
        "items": items,
        "trace": [
            {"stage": step.stage, "candidates": step.candidates, "ms": round(step.ms, 3)} | _parts(step.stage, answer)
            for step in answer.trace
        ],
        "timings_ms": {step.stage: round(step.ms, 3) for step in answer.trace},
    }


def _parts(stage: str, answer: Answer) -> dict[str, Any]:
    """Return what a stage of the trace is made of: what sources found, and what filters removed where that is told."""
    if stage == "sources" and answer.found:
        return {"found": dict(answer.found)}
    return {"removed": dict(answer.removed)} if stage == "filter" and answer.removed else {}


def explain(view: View, asked: Asked, answer: Answer, body: dict[str, Any]) -> None:
    """Put its reasons to every item of a body: who gave it its place comes first, then what the model sees in it."""
    rec, places = view.recommender, list(enumerate(answer.items.tolist()))
    known = [place for place, row in places if row < view.n_known]
    found: dict[int, tuple[Reason, ...]] = dict(
        zip(known, rec.explain(asked.context, answer.items[known]), strict=True)
    )
    for place, row in places:
        sources = answer.sources[place]
        if "pin" in sources:
            reasons: tuple[Reason, ...] = (words.RULE,)
        elif row >= view.n_known or sources == ["latest"]:
            reasons = (words.NEW,)
        elif set(sources) <= {"popular", "trending"}:
            reasons = (rec.explainer.crowd(row),)
        else:
            reasons = found[place]
        chance = float(answer.propensity[place])
        body["items"][place]["reasons"] = [one.to_dict() for one in with_chance(reasons, chance)]


def causes_of(view: View, asked: Asked, row: int) -> dict[str, Any]:
    """Return the reasons of one item, and the past items without which the model would not place it among the first k.

    `without` is null where the item is newer than the model, is not among them, or stays whatever is taken away.
    """
    if row >= view.n_known:
        return {"reasons": [words.NEW.to_dict()], "without": None}
    rec, k = view.recommender, asked.k
    [reasons] = rec.explain(asked.context, np.array([row]))
    allowed = view.shelf.available[: view.n_known].copy()
    allowed[asked.seen[asked.seen < view.n_known]] = False
    moved = without(rec, asked.context, row, k, torch.from_numpy(allowed))[0]
    told = None if moved is None else [{"id": one.id, "label": one.label} for one in moved]
    return {"reasons": [one.to_dict() for one in reasons], "without": told}


def slate_of(
    view: View,
    question: Mapping[str, Any],
    asked: Asked,
    answer: Answer,
    body: dict[str, Any],
    previous: Sequence[Any],
) -> LogEvent:
    """Return what the log keeps of an answer."""
    document = {
        "items": [one["item_id"] for one in body["items"]],
        "propensity": [one["propensity"] for one in body["items"]],
        "scores": [one["score"] for one in body["items"]],
        "sources": [one["sources"] for one in body["items"]],
        "question": dict(question),
        "previous": list(previous),
        "context_hash": asked.context_hash,
        **{key: body[key] for key in ("model", "rung", "fallback", "stale", "experiment", "unknown_items", "trace")},
    }
    if answer.candidates is not None and answer.candidate_propensity is not None:
        document["candidates"] = [view.item_id(row) for row in answer.candidates.tolist()]
        document["candidate_propensity"] = [float(f"{one:.7g}") for one in answer.candidate_propensity.tolist()]
    return LogEvent(
        event_id=body["request_id"],
        event=SLATE,
        user_id=question.get("user_id"),
        session_id=question.get("session_id"),
        time=asked.now,
        request_id=body["request_id"],
        scenario=body["scenario"],
        context=json.dumps(document, ensure_ascii=False),
        policy_version=answer.policy,
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
