"""Recommendations: slates, pages, rankings, likeness and boards, and why an item is or is not there."""

import asyncio
import json
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Annotated, Any

from fastapi import APIRouter, Path, Query, Request, Response

from bowerbird.core import BowerbirdError
from bowerbird.core.ids import MAX_ID_BYTES
from bowerbird.serving.access import admit, guarded
from bowerbird.serving.bodies import (
    MOST_PLACES,
    Asked,
    Batch,
    Filter,
    Id,
    K,
    Name,
    PathId,
    Ranking,
    Search,
    Seeds,
    SlateBody,
    Why,
    WhyBody,
)
from bowerbird.serving.engine import Engine
from bowerbird.serving.problems import described
from bowerbird.serving.quick import QuickRoute, body_of, quick
from bowerbird.serving.workers import Workers, as_json, sent

router = APIRouter(
    prefix="/v1",
    tags=["recommendations"],
    dependencies=guarded("recommend"),
    route_class=QuickRoute,
    responses=described(400, 401, 403, 404, 422),
)

LISTS, ITEMS, SIMILAR = "/v1/lists/", "/v1/items/", "/similar"
BOARD, KIN = SimpleNamespace(path="/v1/lists/{name}"), SimpleNamespace(path="/v1/items/{item_id:path}/similar")


def _engine(request: Request) -> Engine:
    engine: Engine = request.app.state.engine
    return engine


def _sent(body: dict[str, Any]) -> Response:
    return sent(as_json(body), body["timings_ms"])


async def _slate(
    request: Request, question: dict[str, Any], previous: Sequence[Any] = (), suffix: str = ""
) -> Response:
    workers: Workers = request.app.state.workers
    return await workers.recommend(question, request.state.request_id + suffix, previous)


def shortcut(request: Request) -> Response | None:
    """Answer a plain question for a list; None for whatever is less usual, which takes the way through the router.

    Lists are asked for more than a thousand times a second, and the router costs more than the list.
    """
    path, query = request.scope["path"], request.scope["query_string"].decode("latin-1")
    board = path.startswith(LISTS)
    if not board and not (path.startswith(ITEMS) and path.endswith(SIMILAR)):
        return None
    said = path.removeprefix(LISTS) if board else path.removeprefix(ITEMS).removesuffix(SIMILAR)
    k = query.removeprefix("k=") or "10"
    number = k.isascii() and k.isdecimal() and len(k) <= len(str(MOST_PLACES)) and 1 <= int(k) <= MOST_PLACES
    if not number or not (said.isascii() and said.isprintable() and 1 <= len(said) <= MAX_ID_BYTES):
        return None
    admit(request, "recommend")
    engine, request_id = _engine(request), request.state.request_id
    try:
        if board:
            body = engine.board(said, int(k), None, request_id)
        else:
            body = engine.similar({"items": [said], "k": int(k), "where": None}, request_id)
    except BowerbirdError:  # the usual way says what is wrong
        return None
    request.scope["route"] = BOARD if board else KIN
    return _sent(body)


@router.post("/recommendations", response_model=SlateBody)
@quick(body_of(Asked))
async def recommendations(request: Request, asked: Asked) -> Response:
    """Recommend items to a known user, to someone with a session or a history, or to nobody in particular."""
    return await _slate(request, asked.model_dump(exclude_defaults=True))


@router.get("/recommendations", response_model=SlateBody)
async def simple_recommendations(
    request: Request,
    user_id: Annotated[Id | None, Query()] = None,
    scenario: Annotated[Name | None, Query()] = None,
    k: Annotated[K | None, Query()] = None,
    where: Annotated[Filter | None, Query()] = None,
    explain: Annotated[bool | None, Query()] = None,
) -> Response:
    """Recommend, asked by a query string: for a browser, for curl."""
    question = {"user_id": user_id, "scenario": scenario, "k": k, "where": where, "explain": explain}
    return await _slate(request, {key: value for key, value in question.items() if value is not None})


@router.post("/recommendations:batch")
async def batch(request: Request, asked: Batch) -> dict[str, list[SlateBody]]:
    """Recommend to many known users at once."""
    given = asked.model_dump(exclude_defaults=True)
    users = given.pop("user_ids")
    coming = (_slate(request, {**given, "user_id": one}, suffix=f"-{place}") for place, one in enumerate(users))
    return {"slates": [SlateBody.model_validate_json(bytes(one.body)) for one in await asyncio.gather(*coming)]}


@router.post("/recommendations:why")
def why(request: Request, asked: Why) -> WhyBody:
    """Say at which stage an item left the way to somebody's slate."""
    question = asked.model_dump(exclude_defaults=True)
    return WhyBody.model_validate(_engine(request).why(question, question.pop("item_id")))


@router.get("/recommendations/{request_id}")
def served(request: Request, request_id: str) -> dict[str, Any]:
    """Return what was served under a request_id, with its question and its trace."""
    event = _engine(request).slate(request_id)
    kept = {name: getattr(event, name) for name in ("request_id", "user_id", "session_id", "scenario", "time")}
    document: dict[str, Any] = json.loads(str(event.context))
    return kept | {"model_version": event.model_version, "policy": event.policy_version} | document


@router.post("/recommendations/{request_id}:next", response_model=SlateBody)
async def next_page(request: Request, request_id: str) -> Response:
    """Return the page after a slate, without what was in it or in the pages before."""
    return await _slate(request, *_engine(request).after(request_id))


@router.post("/rankings", response_model=SlateBody)
def rankings(request: Request, asked: Ranking) -> Response:
    """Put a given list in the order that suits somebody."""
    return _sent(_engine(request).ranked(asked.model_dump(exclude_defaults=True), request.state.request_id))


@router.get("/items/{item_id:path}/similar", response_model=SlateBody, tags=["items"])
async def similar(
    request: Request,
    item_id: PathId,
    k: Annotated[int, Query(ge=1, le=MOST_PLACES)] = 10,
    where: Annotated[Filter | None, Query()] = None,
) -> Response:
    """Return the items most like one item."""
    question = {"items": [item_id], "k": k, "where": where}
    return _sent(_engine(request).similar(question, request.state.request_id))


@router.post("/items:similar", response_model=SlateBody, tags=["items"])
def similar_to_many(request: Request, asked: Seeds) -> Response:
    """Return the items that go with several, such as those in a cart."""
    return _sent(_engine(request).similar(asked.model_dump(), request.state.request_id))


@router.post("/search", response_model=SlateBody, tags=["items"])
def search(request: Request, asked: Search) -> Response:
    """Return the items whose content is closest to a text, to a picture, or to both."""
    return _sent(_engine(request).search(asked.model_dump(), request.state.request_id))


@router.get("/users/{user_id:path}/similar", tags=["users"])
def alike(request: Request, user_id: PathId, k: Annotated[int, Query(ge=1, le=100)] = 10) -> dict[str, Any]:
    """Return the users most like one, by the items that they share."""
    return {"user_id": user_id, "users": _engine(request).alike(user_id, k)}


@router.get("/lists/{name}", response_model=SlateBody, tags=["lists"])
async def board(
    request: Request,
    name: Annotated[str, Path(max_length=64)],
    k: Annotated[int, Query(ge=1, le=MOST_PLACES)] = 10,
    where: Annotated[Filter | None, Query()] = None,
) -> Response:
    """Return the first items of a list for everyone: popular, trending or latest."""
    return _sent(_engine(request).board(name, k, where, request.state.request_id))
