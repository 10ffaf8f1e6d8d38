"""The HTTP intake of a process that only ingests: the intake's routes and the health checks, and no page.

For installations where ``web`` and ``ingest`` run apart: a reader of readings may be answered only by the process
that makes them durable.
"""

import asyncio
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager

import anyio.to_thread
import uvicorn
from fastapi import APIRouter, FastAPI

from api import health, problems, server
from api.bodies import Bounded
from api.runtime import Runtime
from api.v1 import intake_posts

STOP_S = 30


def create(runtime: Runtime) -> FastAPI:
    """Return the application of a process that holds ``runtime.ingest``."""

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        pool = runtime.settings.database_pool
        app.state.places = asyncio.Semaphore(pool)
        anyio.to_thread.current_default_thread_limiter().total_tokens = pool + 16
        yield

    app = FastAPI(title="Fixwright intake", docs_url=None, redoc_url=None, openapi_url=None, lifespan=lifespan)
    app.state.runtime = runtime
    problems.install(app)
    v1 = APIRouter(prefix="/api/v1")
    v1.include_router(intake_posts.router)
    app.include_router(v1)
    app.include_router(health.router)
    app.add_middleware(Bounded, upload_mb=runtime.settings.upload_max_mb)
    return app


@contextmanager
def serving(runtime: Runtime, bind: str) -> Iterator[None]:
    """Serve the intake in a thread for the length of the block; who waits for an answer then still gets it."""
    with server.claimed(bind, setting="FIXWRIGHT_INTAKE_BIND") as listening:
        config = uvicorn.Config(
            create(runtime),
            log_config=None,
            access_log=False,
            server_header=False,
            timeout_graceful_shutdown=server.GRACE_S,
            proxy_headers=False,
        )
        running = uvicorn.Server(config)
        thread = threading.Thread(target=running.run, kwargs={"sockets": [listening]}, name="intake-http")
        thread.start()
        try:
            yield
        finally:
            running.should_exit = True
            thread.join(STOP_S)
