"""Events: what people did, kept before it is acknowledged."""

import asyncio
from collections.abc import Iterable, Iterator
from concurrent.futures import Future
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request, Response
from fastapi.responses import JSONResponse

from bowerbird.serving.access import guarded
from bowerbird.serving.bodies import LARGEST, Events, Id, Merge, PathId, Taken
from bowerbird.serving.engine import Engine
from bowerbird.serving.intake import sensible
from bowerbird.serving.problems import Refusal, described
from bowerbird.serving.quick import QuickRoute, body_of, quick
from bowerbird.serving.view import View
from bowerbird.store.events import STEP, Appended, TableLog
from bowerbird.store.log import MERGE, LogEvent

router = APIRouter(
    prefix="/v1", tags=["events"], route_class=QuickRoute, responses=described(400, 401, 403, 404, 422, 503, 507)
)
PATIENCE_S = 10.0  # for the disk


@router.post("/events", dependencies=guarded("events:write"), response_model=Taken, responses={202: {"model": Taken}})
@quick(body_of(Events))
async def take(request: Request, asked: Events) -> JSONResponse:
    """Keep events. With `ack` durable the answer comes when they are on the disk; queued does not wait for it."""
    engine: Engine = request.app.state.engine
    good, rejected = sensible(asked.events, engine.view.kinds, engine.world.now())
    offset, fresh, duplicates = None, len(good), 0
    if good:
        kept = engine.take(good)
        if asked.ack == "durable":
            done = await _kept(kept)
            offset, fresh, duplicates = done.end, len(done.fresh), done.duplicates
    for outcome, n in (("accepted", fresh), ("duplicate", duplicates), ("rejected", len(rejected))):
        engine.metrics.events(outcome, n)
    taken = Taken(accepted=fresh, duplicates=duplicates, rejected=rejected, offset=offset)
    return JSONResponse(taken.model_dump(), status_code=202 if asked.ack == "queued" else 200)


@router.post("/events:validate", dependencies=guarded("events:write"))
def validate(request: Request, asked: Events) -> Taken:
    """Say what would be rejected, and keep nothing."""
    engine: Engine = request.app.state.engine
    good, rejected = sensible(asked.events, engine.view.kinds, engine.world.now())
    return Taken(accepted=len(good), duplicates=0, rejected=rejected, offset=None)


@router.get("/events", dependencies=guarded("privacy"))
def page(
    request: Request,
    user_id: Annotated[Id | None, Query()] = None,
    item_id: Annotated[Id | None, Query()] = None,
    event: Annotated[str | None, Query(max_length=64)] = None,
    start: Annotated[int, Query(ge=0, le=LARGEST)] = 0,
    limit: Annotated[int, Query(ge=1, le=1000)] = 100,
) -> dict[str, Any]:
    """Return events in the order of the log; `next` is the start of the page after, null at the end."""
    engine: Engine = request.app.state.engine
    found = engine.log.page(user_id=user_id, item_id=item_id, event=event, start=start, limit=limit)
    return {"events": _rows(found), "next": found[-1][0] + 1 if len(found) == limit else None}


@router.delete("/events/{event_id:path}", dependencies=guarded("events:write"), status_code=204)
def retract(request: Request, event_id: PathId) -> Response:
    """Take an event back, and its effect; taking it back again changes nothing."""
    gone = request.app.state.engine.retract(event_id)
    if gone is not None:
        request.app.state.workers.tell("undo", offset=gone[0], event=vars(gone[1]))
    return Response(status_code=204)


@router.get("/users/{user_id:path}/data", dependencies=guarded("privacy"), tags=["users"])
def held(request: Request, user_id: PathId) -> dict[str, Any]:
    """Return all that is kept on one person: the document, what the model was trained on, and the events in the log."""
    engine: Engine = request.app.state.engine
    document = engine.catalogue.get("user", user_id)
    events = list(_events_of(engine.log, user_id))
    sessions = {one.session_id for _, one in events if one.event == MERGE}
    if sessions:
        events += [
            (offset, one) for offset, one in engine.log.walk() if one.user_id is None and one.session_id in sessions
        ]
    return {
        "user_id": user_id,
        "document": None if document is None else document.properties,
        "trained_on": _trained_on(engine.view, user_id),
        "events": _rows(sorted(events, key=lambda one: one[0])),
    }


@router.post("/users/{user_id}:merge", dependencies=guarded("events:write"), tags=["users"])
async def merge(request: Request, user_id: PathId, asked: Merge) -> Taken:
    """Make what a session did the user's."""
    engine: Engine = request.app.state.engine
    name = f"merge:{user_id}:{asked.session_id}"
    now = engine.world.now()
    event = LogEvent(event_id=name, event=MERGE, user_id=user_id, session_id=str(asked.session_id), time=now)
    done = await _kept(engine.take([event]))
    return Taken(accepted=len(done.fresh), duplicates=done.duplicates, rejected=[], offset=done.end)


def _events_of(log: TableLog, user_id: str) -> Iterator[tuple[int, LogEvent]]:
    """Yield the offsets and events of a user in the order of the log."""
    start = 0
    while found := log.page(user_id=user_id, start=start, limit=STEP):
        yield from found
        start = found[-1][0] + 1


def _rows(found: Iterable[tuple[int, LogEvent]]) -> list[dict[str, Any]]:
    """Return events as they are sent, without what is not known of them."""
    return [
        {"offset": offset} | {key: value for key, value in vars(one).items() if value is not None}
        for offset, one in found
    ]


def _trained_on(view: View, user_id: str) -> list[dict[str, Any]]:
    """Return what the model in use was told of a person, oldest first."""
    past, user = view.recommender.past, view.recommender.user_ids.row(user_id)
    if user < 0:
        return []
    offsets, order = past.by_user
    mine = order[offsets[user] : offsets[user + 1]]
    columns = {
        "item_id": [view.item_id(row) for row in past.item[mine].tolist()],
        "event": [view.kinds[number].name for number in past.event[mine].tolist()],
        "weight": past.weight[mine].tolist(),
    }
    if past.time is not None:
        columns["time"] = past.time[mine].tolist()
    return [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]


async def _kept(coming: Future[Appended]) -> Appended:
    """Return what became of events, when they are on the disk; no thread waits for it."""
    try:
        return await asyncio.wait_for(asyncio.shield(asyncio.wrap_future(coming)), PATIENCE_S)
    except TimeoutError:
        raise Refusal(503, "slow_disk", "The disk takes long. Send the same events again: none counts twice.") from None
