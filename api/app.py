"""The web application: routes, errors, headers. Put together for one runtime; it owns no state of its own."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import ExitStack, asynccontextmanager
from functools import cache

import anyio.to_thread
from fastapi import APIRouter, FastAPI, Request
from fastapi.responses import Response
from fastapi.staticfiles import StaticFiles
from starlette.middleware.gzip import GZipMiddleware
from starlette.routing import BaseRoute
from starlette.types import Scope

from api import health, problems
from api.access import open_to_all
from api.backtester import Backtester
from api.bodies import Bounded
from api.exporter import Exporter
from api.forecaster import Forecaster
from api.importer import Importer
from api.live import Live
from api.runtime import Runtime
from api.v1 import intake_posts
from api.v1 import routers as v1_routers
from api.web import assets, pages
from api.web import routers as web_routers

POLICY = (
    "default-src 'self'; img-src 'self' data: blob:; object-src 'none'; base-uri 'self'; form-action 'self'; "
    "frame-ancestors 'none'"
)
HEADERS = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",
    "X-Frame-Options": "DENY",
    "Permissions-Policy": "camera=(self), geolocation=(self), microphone=()",
}


def create(runtime: Runtime) -> FastAPI:
    """Return the application for a process's parts."""

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        pool = runtime.settings.database_pool
        app.state.places = asyncio.Semaphore(pool)
        anyio.to_thread.current_default_thread_limiter().total_tokens = pool + 16
        async with app.state.live.listening():
            with ExitStack() as work:
                for beside in (app.state.exporter, app.state.backtester, app.state.forecaster, app.state.importer):
                    work.enter_context(beside.running())
                yield

    app = FastAPI(
        title="Fixwright",
        version="1",
        docs_url=None,
        redoc_url=None,
        openapi_url="/openapi.json",
        lifespan=lifespan,
    )
    app.state.runtime = runtime
    app.state.exporter = Exporter(runtime)
    app.state.backtester = Backtester(runtime)
    app.state.forecaster = Forecaster(runtime)
    app.state.importer = Importer(runtime)
    app.state.live = Live(runtime.sessions, runtime.engine.url.render_as_string(hide_password=False))
    problems.install(app)
    app.router.routes.extend(_routes())
    app.add_middleware(GZipMiddleware, minimum_size=1024)
    limits = runtime.settings
    app.add_middleware(Bounded, upload_mb=limits.upload_max_mb, history_mb=limits.history_max_mb)
    app.middleware("http")(_headers)
    return app


@cache
def _routes() -> list[BaseRoute]:
    """Return all routes, made once a process: they own no state, and making them is most of what ``create`` takes."""
    bare = FastAPI(openapi_url=None, docs_url=None, redoc_url=None)
    v1 = APIRouter(prefix="/api/v1")
    for router in v1_routers():
        v1.include_router(router)
    v1.include_router(intake_posts.router)
    bare.include_router(v1)
    bare.include_router(health.router)
    for router in web_routers():
        bare.include_router(router, include_in_schema=False)
    bare.add_api_route("/api/docs", _docs, include_in_schema=False)
    bare.mount("/static", _Static(directory=assets.STATIC), name="static")
    return bare.router.routes


@open_to_all
def _docs(request: Request) -> Response:
    """Show what programs can do, with a form to try it; the page's library sets styles of its own."""
    policy = f"{POLICY}; style-src 'self' 'unsafe-inline'"
    return pages.render(request, "docs.html", headers={"Content-Security-Policy": policy})


class _Static(StaticFiles):
    """Files under ``/static/<version>/…``: one version covers them all, so a browser may keep them for good."""

    async def get_response(self, path: str, scope: Scope) -> Response:
        """Return a file; only the current version's address may be kept."""
        version, _, name = path.partition("/")
        response = await super().get_response(name, scope)
        is_current = version == assets.version()
        response.headers["Cache-Control"] = "public, max-age=31536000, immutable" if is_current else "no-cache"
        return response


async def _headers(request: Request, proceed: Callable[[Request], Awaitable[Response]]) -> Response:
    """Add what browsers should enforce, and measure the request."""
    began = time.perf_counter()
    response = await proceed(request)
    for name, value in HEADERS.items():
        response.headers.setdefault(name, value)
    health.measure(request, response.status_code, time.perf_counter() - began)
    return response
