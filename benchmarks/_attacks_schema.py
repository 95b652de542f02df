"""The schema of the API against the server: requests made up by schemathesis, single ones and chains of them."""

import json
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from unittest.mock import patch

import _breaking
from _attacks_access import documented
from _attacks_shop import Shop, picked, shop
from _breaking import Effort, Found, Progress
from bowerbird.serving import access

stages = _breaking.Stages()

FEW = 10  # examples below which not all operations are tried
CHAIN = 6  # requests in a chain
REFUSALS = [400, 404, 405, 408, 409, 412, 413, 414, 422, 431]  # of what is wrong
MEANT = [
    "2xx",
    400,
    401,
    403,
    404,
    409,
    412,
    413,
    422,
]  # of what fits the schema: an id may be of nothing, a filter wrong


class Counted:
    """An application that counts its answers, and those of 5xx."""

    def __init__(self, app: Any) -> None:
        self.app, self.answers, self.failed = app, 0, list[str]()

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Answer, and count."""

        async def counting(message: Any) -> None:
            if message["type"] == "http.response.start":
                self.answers += 1
                if message["status"] >= 500:
                    self.failed.append(f"{scope['method']} {scope['path'][:200]} answered {message['status']}")
            await send(message)

        await self.app(scope, receive, counting)


def _told(place: Shop) -> dict[str, Any]:
    """Return the schema of the API; it does not say which routes need a key, the page of the API does."""
    schema: dict[str, Any] = json.loads(place.ask("GET", "/openapi.json").body)
    schema["components"]["securitySchemes"] = {"key": {"type": "http", "scheme": "bearer"}}
    for (method, path), scope in documented().items():
        schema["paths"][path][method.lower()]["security"] = [{"key": []}] if scope != "open" else []
    return schema


@contextmanager
def api_of(place: Shop) -> Iterator[tuple[Any, Counted, dict[str, str]]]:
    """Yield the API as schemathesis sees it, the application behind it, and the headers that let one in."""
    import schemathesis
    from schemathesis.config import SchemathesisConfig

    checks = {
        "negative_data_rejection": {"expected-statuses": REFUSALS},
        "positive_data_acceptance": {"expected-statuses": MEANT},
    }
    headers = {"Authorization": f"Bearer {place.admin}", "Host": "127.0.0.1"}
    config = SchemathesisConfig.from_dict({"headers": headers, "checks": checks})
    app = Counted(place.app)
    with warnings.catch_warnings(), patch.object(access, "WRONG_A_MINUTE", 1e9):  # else wrong keys get 429
        warnings.simplefilter("ignore")
        api = schemathesis.openapi.from_dict(_told(place), config=config)
        api.app, api.location = app, "/openapi.json"
        yield api, app, headers


def _settings(n: int, **more: Any) -> Any:
    from hypothesis import HealthCheck, Phase, settings

    return settings(
        max_examples=n, deadline=None, database=None, phases=[Phase.generate], report_multiple_bugs=False,
        suppress_health_check=list(HealthCheck), **more,
    )  # fmt: skip


def _operation_faults(operation: Any, mode: Any, n: int, seed: int, headers: dict[str, str]) -> list[str]:
    """Return what is wrong with the answers of an operation to requests that are right, or wrong, by its schema."""
    from hypothesis import given
    from hypothesis import seed as seeded
    from hypothesis.errors import Unsatisfiable

    @seeded(seed)
    @_settings(n)
    @given(case=operation.as_strategy(generation_mode=mode))
    def check(case: Any) -> None:
        case.call_and_validate(headers=headers)  # those of the configuration count as made up

    try:
        check()
    except Unsatisfiable:  # a route that takes nothing cannot be sent anything wrong
        return []
    except BaseException as error:  # groups of failures among them
        if isinstance(error, KeyboardInterrupt):
            raise
        return [f"{operation.label}, {mode.name.lower()}, seed {seed}: {_said(error)}"]
    return []


def _said(error: BaseException) -> str:
    inner = getattr(error, "exceptions", ())
    return "; ".join(map(_said, inner))[:600] if inner else f"{type(error).__name__}: {error}"[:300].replace("\n", " ")


def _chain_faults(api: Any, n: int, seed: int, headers: dict[str, str]) -> list[str]:
    """Return what is wrong with chains of requests, of which each uses what the one before answered."""
    from hypothesis import seed as seeded
    from hypothesis.stateful import run_state_machine_as_test

    class Chain(api.as_state_machine()):  # type: ignore[misc]
        def get_call_kwargs(self, case: Any) -> dict[str, Any]:
            return {"headers": headers}

    machine = seeded(seed)(Chain)
    try:
        run_state_machine_as_test(machine, settings=_settings(n, stateful_step_count=CHAIN))
    except BaseException as error:
        if isinstance(error, KeyboardInterrupt):
            raise
        return [f"chains, seed {seed}: {_said(error)}"]
    return []


@stages("schemathesis", "the server does what its schema says, and answers nothing with 5xx", n=30)
def schema(effort: Effort) -> Found:
    """Make up requests for every operation, right and wrong ones, and chains of them."""
    from schemathesis.generation import GenerationMode

    found = Found()
    with shop(effort.folder) as place, api_of(place) as (api, app, headers):
        operations = [result.ok() for result in api.get_all_operations()]
        found.figures |= {"operations": len(operations), "cases": 0}
        if effort.n < FEW:
            operations = picked(Effort(2 * effort.n, effort.seed, effort.folder), operations)
        step = Progress(Effort(len(operations), 0, effort.folder), "operations")
        for number, operation in enumerate(operations):
            for mode in (GenerationMode.POSITIVE, GenerationMode.NEGATIVE):
                before = app.answers
                faults = _operation_faults(operation, mode, effort.n, effort.seed, headers)
                found.tried += max(0, app.answers - before - 1)
                found.note(*faults)
            step(number)
        before = app.answers
        faults = _chain_faults(api, effort.n, effort.seed, headers)
        found.figures |= {"cases": before, "in_chains": app.answers - before, "answers_5xx": len(app.failed)}
        found.tried += max(0, app.answers - before - 1)
        found.note(*faults)
        found.note(*app.failed[:3])
    return found
