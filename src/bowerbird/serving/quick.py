"""Quick routes: what is asked hundreds of times a second reaches its endpoint without FastAPI's machinery in between.

A quick route is documented and refused like any other. Its usual requests are read in one go; whatever is unusual or
wrong about one takes the usual way, which knows what to say.
"""

from collections.abc import Callable, Coroutine
from typing import Any

from fastapi import Request, Response
from pydantic import BaseModel, ValidationError

from bowerbird.serving.access import GuardedRoute, let_in, scope_of

Handler = Callable[[Request], Coroutine[Any, Any, Response]]
Arguments = Callable[[Request], Coroutine[Any, Any, tuple[Any, ...] | None]]  # None where the usual way must look


def quick(arguments: Arguments) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Mark an endpoint, which answers with a `Response`, as quick: `arguments` are what it takes after the request."""

    def marked(endpoint: Callable[..., Any]) -> Callable[..., Any]:
        endpoint.arguments = arguments  # type: ignore[attr-defined]
        return endpoint

    return marked


def body_of(model: type[BaseModel]) -> Arguments:
    """Return what reads a JSON body as `model`."""

    async def read(request: Request) -> tuple[Any, ...] | None:
        if request.headers.get("content-type") != "application/json":
            return None
        try:
            return (model.model_validate_json(await request.body()),)
        except ValidationError:
            return None

    return read


class QuickRoute(GuardedRoute):
    """A route that goes the quick way where its endpoint has one."""

    def get_route_handler(self) -> Handler:
        """Return what answers a request."""
        usual, endpoint = super().get_route_handler(), self.endpoint
        arguments: Arguments | None = getattr(endpoint, "arguments", None)
        if arguments is None:
            return usual
        read, scope = arguments, scope_of(self.dependencies)

        async def answer(request: Request) -> Response:
            await let_in(request, scope)
            given = await read(request)
            if given is None:
                return await usual(request)
            found: Response = await endpoint(request, *given)
            return found

        return answer
