"""Once: a POST that creates something, sent again with the same `Idempotency-Key`, gets its first answer again."""

import hashlib
import json
from collections.abc import Callable
from typing import Any

from fastapi.responses import JSONResponse
from pydantic import BaseModel

from bowerbird.serving.engine import Engine
from bowerbird.serving.problems import Refusal
from bowerbird.store.answers import Running, Used

Made = tuple[int, dict[str, Any], dict[str, str]]  # status, body, headers


def once(engine: Engine, path: str, key: str | None, asked: BaseModel, make: Callable[[], Made]) -> JSONResponse:
    """Return what `make` makes, or what it made when this key came with this body before."""
    if key is None:
        return _sent(make())
    key = f"{path} {key}"
    digest = hashlib.sha256(asked.model_dump_json().encode()).hexdigest()
    try:
        stored = engine.answers.begin(key, digest)
    except Used:
        raise Refusal(
            422, "key_reused", "This Idempotency-Key came with another body before. Take a new one."
        ) from None
    except Running:
        raise Refusal(
            409, "still_running", "The first request with this Idempotency-Key is not answered yet."
        ) from None
    if stored is not None:
        return _sent((stored.status, *json.loads(stored.body)), replayed=True)
    try:
        made = make()
    except Exception:
        engine.answers.forget(key)
        raise
    engine.answers.finish(key, made[0], json.dumps(made[1:]))
    return _sent(made)


def _sent(made: Made, *, replayed: bool = False) -> JSONResponse:
    status, body, headers = made
    return JSONResponse(body, status, headers | ({"Idempotency-Replayed": "true"} if replayed else {}))
