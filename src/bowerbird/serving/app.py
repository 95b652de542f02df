"""The HTTP API, version 1: one server, one engine behind it.

Every refusal has one shape, RFC 9457 problem details. The documentation page works without a network.
"""

import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from anyio.to_thread import current_default_thread_limiter
from fastapi import FastAPI
from fastapi.responses import PlainTextResponse, Response
from fastapi_offline import FastAPIOffline

import bowerbird
from bowerbird.core import World
from bowerbird.recommender import Recommender
from bowerbird.serving import catalogue, control, events, insight, problems, recommendations
from bowerbird.serving.access import OPEN, Access, guarded
from bowerbird.serving.browsers import Browsers
from bowerbird.serving.engine import Engine
from bowerbird.serving.gate import EVERYWHERE, Gate
from bowerbird.serving.jobs import Jobs
from bowerbird.serving.workers import Workers

AT_ONCE = 4  # requests in threads: more would only make one another wait, since they share the interpreter


def create_app(
    recommender: Recommender | Engine,
    *,
    world: World | None = None,
    any_host: bool = False,
    update_every: float = 0.0,
    workers: Workers | None = None,
) -> FastAPI:
    """Return the application that serves an engine, or one recommender, of which nothing is then kept on the disk.

    `any_host` answers to every name in the `Host` header, as behind a proxy. With `update_every` seconds, a process of
    its own learns from new events again and again. `workers` of that engine compute slates.
    """
    if isinstance(recommender, Engine):
        engine, folder = recommender, None
    else:
        folder = tempfile.TemporaryDirectory(prefix="bowerbird-")
        engine = Engine(Path(folder.name) / "run", Path(folder.name) / "data", recommender=recommender, world=world)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        current_default_thread_limiter().total_tokens = AT_ONCE
        app.state.workers.start()
        yield
        await app.state.workers.close()
        app.state.jobs.close()
        engine.close()
        if folder is not None:
            folder.cleanup()

    app: FastAPI = FastAPIOffline(
        title="bowerbird",
        version=bowerbird.__version__,
        summary=repr(engine.view.recommender),
        lifespan=lifespan,
        responses=problems.described(*EVERYWHERE),
    )
    app.state.engine, app.state.access = engine, Access(engine.keys, world=engine.world, always=any_host)
    app.state.workers = workers or Workers(engine)
    app.state.jobs = Jobs(engine, workers=app.state.workers, update_every=update_every)
    problems.install(app)
    for part in (recommendations, events, catalogue, control, insight):
        app.include_router(part.router)

    @app.get("/healthz", tags=["operation"], dependencies=guarded(OPEN))
    async def healthz() -> dict[str, str]:
        """Say that the process runs."""
        return {"status": "ok"}

    @app.get("/readyz", tags=["operation"], dependencies=guarded(OPEN))
    async def readyz() -> dict[str, str | None]:
        """Say that a model is loaded, and which."""
        rec = engine.view.recommender
        return {"status": "ready", "model": rec.name, "model_version": rec.version}

    @app.get("/version", tags=["operation"], dependencies=guarded(OPEN))
    async def version() -> dict[str, str]:
        """Say which bowerbird this is."""
        return {"version": bowerbird.__version__}

    @app.get("/metrics", tags=["operation"], dependencies=guarded("models:read"), response_class=PlainTextResponse)
    async def metrics() -> Response:
        """Return counters and clocks for Prometheus."""
        return PlainTextResponse(engine.metrics.text(), media_type="text/plain; version=0.0.4")

    app.add_middleware(
        Gate,
        world=engine.world,
        metrics=engine.metrics,
        any_host=any_host,
        shortcut=recommendations.shortcut,
    )
    app.add_middleware(Browsers)
    return app
