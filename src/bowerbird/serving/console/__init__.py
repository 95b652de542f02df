"""The console: seven pages to see a server, try it, understand it and roll it back. It asks only the HTTP API.

It needs the extra `console`. Nothing of NiceGUI is loaded before `mount` or `standalone` is called.
"""

from importlib.util import find_spec

from fastapi import FastAPI
from fastapi.responses import RedirectResponse
from starlette.middleware.trustedhost import TrustedHostMiddleware

from bowerbird.core import MissingExtraError

PATH = "/console"
HOSTS = ("127.0.0.1", "localhost")


def there() -> bool:
    """Return whether the extra is installed."""
    return find_spec("nicegui") is not None


def mount(app: FastAPI) -> None:
    """Hang the console into a server's application, at `/console`; raises `MissingExtraError`."""
    _needed()
    from bowerbird.serving.console.api import client_inside
    from bowerbird.serving.console.door import hang

    hang(app, client_inside(app))


def standalone(server: str) -> FastAPI:
    """Return the console of a server elsewhere as an application of its own; raises `MissingExtraError`."""
    _needed()
    from bowerbird.serving.console.api import client_of
    from bowerbird.serving.console.door import hang

    app = FastAPI(title="bowerbird console", docs_url=None, redoc_url=None, openapi_url=None)

    @app.get("/")
    async def root() -> RedirectResponse:
        return RedirectResponse(PATH + "/")

    hang(app, client_of(server))
    app.add_middleware(TrustedHostMiddleware, allowed_hosts=list(HOSTS))  # a name that leads here is a trick
    return app


def _needed() -> None:
    if not there():
        raise MissingExtraError('the console needs nicegui. Install it with: pip install "bowerbird[console]"')
