"""Refusals, in the one shape that every one of them has: RFC 9457 problem details."""

from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel
from starlette.exceptions import HTTPException

from bowerbird.core import BowerbirdError, BundleError, DataError, RequestError, UnknownItemError
from bowerbird.serving.bodies import pointer
from bowerbird.store.catalogue import Stale
from bowerbird.store.database import DatabaseBroken, DiskFull, Overloaded, StoreAway
from bowerbird.store.experiments import ExperimentError

PROBLEM = "application/problem+json"
LATER_S = 1  # when to try again


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


class Refusal(HTTPException):
    """A request that is turned away, with its status, its stable code and what to do about it."""

    def __init__(self, status: int, code: str, detail: str, *, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(status, detail, dict(headers or {}))
        self.code = code


STATUS: tuple[tuple[type[Exception], int, str], ...] = (  # of our own errors, the first that fits
    (UnknownItemError, 404, "unknown_item"),
    (RequestError, 422, "invalid_request"),
    (DataError, 422, "invalid_document"),
    (BundleError, 409, "unfit_version"),
    (ExperimentError, 409, "experiment_state"),
    (Stale, 412, "stale"),
    (Overloaded, 503, "overloaded"),
    (DiskFull, 507, "disk_full"),
    (StoreAway, 503, "store_away"),
    (DatabaseBroken, 503, "storage_failed"),
    (BowerbirdError, 500, "internal_error"),
)


def described(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """Return what the schema says of refusals with these statuses."""
    return {status: {"model": ProblemBody, "content": {PROBLEM: {}}} for status in statuses}


def problem(
    status: int,
    code: str,
    detail: str,
    *,
    path: str,
    request_id: str,
    errors: list[dict[str, str]] | None = None,
    headers: Mapping[str, str] | None = None,
) -> JSONResponse:
    """Return a refusal."""
    retryable = status in (429, 500, 503, 507)
    sent = dict(headers or {})
    if status in (429, 503):
        sent.setdefault("Retry-After", str(LATER_S))
    if status == 500:  # a server ends the connection after it: whoever asked is told, and asks on another one
        sent.setdefault("Connection", "close")
    body = ProblemBody(
        type="about:blank",
        title=HTTPStatus(status).phrase,
        status=status,
        detail=detail,
        instance=path,
        code=code,
        request_id=request_id,
        retryable=retryable,
        errors=errors or [],
    )
    return JSONResponse(body.model_dump(), status, sent | {"X-Request-Id": request_id}, media_type=PROBLEM)


def install(app: FastAPI) -> None:
    """Let an application answer every failure with a problem."""

    def answer(request: Request, status: int, code: str, detail: str, **more: Any) -> JSONResponse:
        return problem(status, code, detail, path=request.url.path, request_id=request.state.request_id, **more)

    @app.exception_handler(RequestValidationError)
    async def invalid(request: Request, error: RequestValidationError) -> JSONResponse:
        found = [
            {
                "pointer": pointer(one["loc"][1:]),
                "code": str(one["type"]),
                "detail": str(one["msg"]).removeprefix("Value error, "),
            }
            for one in error.errors()
        ]
        broken = any(one["code"] == "json_invalid" for one in found)
        first = f"{found[0]['pointer']}: {found[0]['detail']}"
        return answer(request, 400 if broken else 422, "invalid_request", first, errors=found)

    @app.exception_handler(HTTPException)
    async def refused(request: Request, error: HTTPException) -> JSONResponse:
        code = HTTPStatus(error.status_code).phrase.lower().replace(" ", "_")
        return answer(request, error.status_code, code, str(error.detail), headers=error.headers)

    @app.exception_handler(Refusal)
    async def turned_away(request: Request, error: Refusal) -> JSONResponse:
        return answer(request, error.status_code, error.code, error.detail, headers=error.headers)

    @app.exception_handler(BowerbirdError)
    async def mendable(request: Request, error: BowerbirdError) -> JSONResponse:
        status, code = next((status, code) for kind, status, code in STATUS if isinstance(error, kind))
        return answer(request, status, code, str(error))

    @app.exception_handler(Exception)
    async def broken(request: Request, error: Exception) -> JSONResponse:
        return answer(request, 500, "internal_error", "The server failed; its log says why.")
