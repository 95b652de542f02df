"""The HTTP API, version 1: recommendations and similar items over one loaded recommender.

Every refusal has one shape, RFC 9457 problem details. The documentation page works without a network.
"""

from collections.abc import Awaitable, Callable
from http import HTTPStatus
from typing import Annotated, Any

from fastapi import FastAPI, Path, Query, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from fastapi_offline import FastAPIOffline
from pydantic import BaseModel, ConfigDict, Field, StrictInt, StrictStr, model_validator
from starlette.exceptions import HTTPException

import bowerbird
from bowerbird.core import BowerbirdError, RealWorld, RequestError, UnknownItemError, World
from bowerbird.core.ids import MAX_ID_BYTES
from bowerbird.recommender import Recommender

PROBLEM = "application/problem+json"
MOST_PLACES, LONGEST_HISTORY, LONGEST_BODY = 1000, 10_000, 4_000_000
HOSTS = ("127.0.0.1", "localhost", "::1")  # a name of another site that leads here is a trick on the browser
Id = StrictInt | Annotated[StrictStr, Field(min_length=1, max_length=MAX_ID_BYTES)]
BRANCHES = ("int", "str", "constrained-str")  # which kind of id was tried: no part of the caller's document
Call = Callable[[Request], Awaitable[Response]]


class Asked(BaseModel):
    """Who is asking: a known user, a stranger with a history (oldest first), or nobody in particular."""

    model_config = ConfigDict(extra="forbid")

    user_id: Id | None = None
    history: Annotated[list[Id], Field(max_length=LONGEST_HISTORY)] | None = None
    k: Annotated[int, Field(ge=1, le=MOST_PLACES)] = 10
    explain: bool = False

    @model_validator(mode="after")
    def _one_of(self) -> "Asked":
        if self.user_id is not None and self.history is not None:
            raise ValueError("user_id and history are both given. Send one of them.")
        return self


class ReasonBody(BaseModel):
    """Why an item is there."""

    kind: str
    text: str
    items: list[dict[str, Any]]


class ItemBody(BaseModel):
    """One place of a slate."""

    item_id: Id
    title: str | None
    position: int
    score: float
    sources: list[str]
    propensity: float
    reasons: list[ReasonBody]


class SlateBody(BaseModel):
    """A slate, and how it came about."""

    request_id: str
    user_id: Id | None
    model: str
    model_version: str | None
    rung: str
    fallback: bool
    unknown_items: int
    items: list[ItemBody]
    timings_ms: dict[str, float]


class ProblemBody(BaseModel):
    """RFC 9457 problem details."""

    type: str
    title: str
    status: int
    detail: str
    instance: str
    code: str
    request_id: str
    retryable: bool
    errors: list[dict[str, str]]


PROBLEMS: dict[int | str, dict[str, Any]] = {
    status: {"model": ProblemBody, "content": {PROBLEM: {}}} for status in (404, 422)
}


def create_app(recommender: Recommender, *, world: World | None = None) -> FastAPI:
    """Return the application that serves one recommender."""
    world = world or RealWorld()
    recommender.recommend(recommender.user_ids.values[:1].to_list(), explain=True)  # builds what requests share
    app: FastAPI = FastAPIOffline(title="bowerbird", version=bowerbird.__version__, summary=repr(recommender))

    @app.middleware("http")
    async def name_request(request: Request, call: Call) -> Response:
        request.state.request_id = world.token()
        response = _turned_away(request) or await call(request)
        response.headers["X-Request-Id"] = request.state.request_id
        return response

    @app.exception_handler(RequestValidationError)
    async def invalid(request: Request, error: RequestValidationError) -> JSONResponse:
        found = [
            {
                "pointer": "/" + "/".join(str(part) for part in one["loc"][1:] if part not in BRANCHES),
                "code": str(one["type"]),
                "detail": str(one["msg"]).removeprefix("Value error, "),
            }
            for one in error.errors()
        ]
        broken = any(one["code"] == "json_invalid" for one in found)
        first = f"{found[0]['pointer']}: {found[0]['detail']}"
        return _problem(request, 400 if broken else 422, "invalid_request", first, found)

    @app.exception_handler(HTTPException)
    async def refused(request: Request, error: HTTPException) -> JSONResponse:
        code = HTTPStatus(error.status_code).phrase.lower().replace(" ", "_")
        answer = _problem(request, error.status_code, code, str(error.detail))
        answer.headers.update(error.headers or {})  # 405 names the methods that are allowed
        return answer

    @app.exception_handler(BowerbirdError)
    async def mendable(request: Request, error: BowerbirdError) -> JSONResponse:
        if isinstance(error, UnknownItemError):
            return _problem(request, 404, "unknown_item", str(error))
        if isinstance(error, RequestError):
            return _problem(request, 422, "invalid_request", str(error))
        return _problem(request, 500, "internal_error", str(error))

    @app.exception_handler(Exception)
    async def broken(request: Request, error: Exception) -> JSONResponse:
        return _problem(request, 500, "internal_error", "The server failed; its log says why.", retryable=True)

    @app.post("/v1/recommendations", response_model=SlateBody, responses=PROBLEMS, tags=["recommendations"])
    def recommendations(request: Request, asked: Asked) -> dict[str, Any]:
        """Recommend items to a known user, to a stranger with a history, or to nobody in particular."""
        slates = recommender.recommend(
            None if asked.user_id is None else [asked.user_id],
            histories=None if asked.history is None else [asked.history],
            k=asked.k,
            explain=asked.explain,
        )
        return slates.body(request.state.request_id) | {"user_id": asked.user_id}

    @app.get("/v1/items/{item_id:path}/similar", response_model=SlateBody, responses=PROBLEMS, tags=["items"])
    def similar(
        request: Request,
        item_id: Annotated[str, Path(min_length=1, max_length=MAX_ID_BYTES)],
        k: Annotated[int, Query(ge=1, le=MOST_PLACES)] = 10,
    ) -> dict[str, Any]:
        """Return the items most like one item."""
        return recommender.similar([item_id], k=k).body(request.state.request_id)

    @app.get("/healthz", tags=["operation"])
    def healthz() -> dict[str, str]:
        """Say that the process runs."""
        return {"status": "ok"}

    @app.get("/readyz", tags=["operation"])
    def readyz() -> dict[str, str | None]:
        """Say that a model is loaded, and which."""
        return {"status": "ready", "model": recommender.name, "model_version": recommender.version}

    return app


def _turned_away(request: Request) -> Response | None:
    """Return the refusal of a request that must not be read: from a page of another name, or far too long."""
    if request.url.hostname not in HOSTS:
        return _problem(request, 403, "foreign_host", f"This server answers to {', '.join(HOSTS)} only.")
    length = request.headers.get("content-length", "0")
    if not length.isdigit() or int(length) > LONGEST_BODY:
        return _problem(request, 413, "too_large", f"A body may have {LONGEST_BODY:,} bytes. Send a shorter history.")
    return None


def _problem(
    request: Request,
    status: int,
    code: str,
    detail: str,
    errors: list[dict[str, str]] | None = None,
    *,
    retryable: bool = False,
) -> JSONResponse:
    request_id = request.state.request_id
    body = ProblemBody(
        type="about:blank",
        title=HTTPStatus(status).phrase,
        status=status,
        detail=detail,
        instance=request.url.path,
        code=code,
        request_id=request_id,
        retryable=retryable,
        errors=errors or [],
    )
    return JSONResponse(body.model_dump(), status, {"X-Request-Id": request_id}, media_type=PROBLEM)
