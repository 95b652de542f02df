"""The catalogue: what is known of items and users, changed while the server runs."""

from dataclasses import asdict
from enum import Enum
from typing import Annotated, Any

import polars as pl
from fastapi import APIRouter, Header, Query, Request, Response
from fastapi.responses import JSONResponse
from pydantic import AfterValidator

from bowerbird.core import UnknownItemError
from bowerbird.serving.access import GuardedRoute, guarded
from bowerbird.serving.bodies import Id, ItemDocument, ItemPatch, PathId, Rows, SchemaAsked, reachable
from bowerbird.serving.engine import Engine
from bowerbird.serving.intake import put_rows
from bowerbird.serving.problems import described
from bowerbird.serving.view import View
from bowerbird.store.catalogue import KINDS, Kind, Stored

router = APIRouter(prefix="/v1", route_class=GuardedRoute, responses=described(400, 401, 403, 404, 412, 422, 503, 507))
NewId = Annotated[PathId, AfterValidator(reachable)]
IfMatch = Annotated[str | None, Header(max_length=128)]


def _engine(request: Request) -> Engine:
    engine: Engine = request.app.state.engine
    return engine


@router.get("/schema", tags=["catalogue"], dependencies=guarded("catalog:read"))
def schema(request: Request) -> JSONResponse:
    """Return the event types, which of them were declared, and the columns of items, which filters may name."""
    return _schema(_engine(request).view)


@router.put("/schema", tags=["catalogue"], dependencies=guarded("catalog:write"))
def declare(request: Request, asked: SchemaAsked, if_match: IfMatch = None) -> JSONResponse:
    """Declare event types in the place of those declared before; types of the model stay, whether named or not."""
    engine = _engine(request)
    engine.declare([one.model_dump() for one in asked.events], if_match)
    return _schema(engine.view)


def _schema(view: View) -> JSONResponse:
    users = view.recommender.past.users
    told = {
        "events": [asdict(kind) for kind in view.kinds],
        "declared": [kind["name"] for kind in view.declared.events],
        "items": _types(view.shelf.items),
        "users": {} if users is None else _types(users),
    }
    return JSONResponse(told, headers={"ETag": view.declared.etag})


def _types(table: pl.DataFrame) -> dict[str, str]:
    return {name: str(dtype) for name, dtype in table.schema.items()}


def _paths(kind: Kind) -> None:
    """Make the routes of items, or those of users: the same, under another name."""
    many, reads, writes = f"{kind}s", guarded("catalog:read"), guarded("catalog:write")
    tags: list[str | Enum] = [many]
    one = f"/{many}/{{document_id:path}}"

    @router.post(f"/{many}:batch", tags=tags, dependencies=writes, name=f"put_{many}")
    def put_many(request: Request, asked: Rows) -> dict[str, Any]:
        """Put many documents; of each that is wrong, its place and what is wrong with it."""
        stored, rejected = put_rows(_engine(request), kind, asked.rows, whole=asked.whole)
        return {"kept": len(stored), "created": sum(one.created for one in stored), "rejected": rejected}

    @router.get(f"/{many}", tags=tags, dependencies=reads, name=f"page_of_{many}")
    def page(
        request: Request,
        after: Annotated[Id | None, Query()] = None,
        limit: Annotated[int, Query(ge=1, le=1000)] = 100,
    ) -> dict[str, Any]:
        """Return documents in the order of their ids; `next` is the `after` of the next page, null at the end."""
        found = _engine(request).catalogue.page(kind, after, limit)
        return {many: [_shown(one) for one in found], "next": found[-1].id if len(found) == limit else None}

    @router.put(one, tags=tags, dependencies=writes, name=f"put_{kind}", responses={201: {"description": "it is new"}})
    def put(request: Request, document_id: NewId, asked: ItemDocument, if_match: IfMatch = None) -> JSONResponse:
        """Put a document in the place of what was known; 201 where nothing was."""
        stored = _engine(request).catalogue.put(
            kind, document_id, asked.properties, available=asked.available, expires=asked.expires, if_match=if_match
        )
        _engine(request).heed(kind, stored.change - 1)
        return JSONResponse({"created": stored.created}, 201 if stored.created else 200, {"ETag": stored.etag})

    @router.get(one, tags=tags, dependencies=reads, name=f"get_{kind}")
    def get(request: Request, document_id: PathId) -> JSONResponse:
        """Return a document."""
        found = _engine(request).known(kind, document_id)
        if found is None:
            raise UnknownItemError(f"the catalogue has no {kind} {document_id!r}.")
        return JSONResponse(_shown(found), headers={"ETag": found.etag} if found.change else None)

    @router.patch(one, tags=tags, dependencies=writes, name=f"patch_{kind}")
    def patch(request: Request, document_id: PathId, asked: ItemPatch, if_match: IfMatch = None) -> JSONResponse:
        """Merge a change into a document."""
        stored = _engine(request).patch(kind, document_id, asked.model_dump(exclude_unset=True), if_match)
        _engine(request).heed(kind, stored.change - 1)
        return JSONResponse({"created": False}, headers={"ETag": stored.etag})

    @router.delete(one, tags=tags, dependencies=writes, name=f"delete_{kind}", status_code=204)
    def delete(request: Request, document_id: PathId, if_match: IfMatch = None) -> Response:
        """Take a document away; an item that is deleted is shown to nobody."""
        _engine(request).delete(kind, document_id, if_match)
        return Response(status_code=204)


def _shown(one: Stored) -> dict[str, Any]:
    return {"id": one.id, "properties": one.properties, "available": one.available, "expires": one.expires}


for _kind in KINDS:
    _paths(_kind)
