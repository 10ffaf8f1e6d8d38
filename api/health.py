"""Is the machine itself well: live, ready, and figures for Prometheus."""

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse, Response
from prometheus_client import CONTENT_TYPE_LATEST, REGISTRY, Gauge, Histogram, generate_latest
from sqlalchemy import text
from sqlalchemy.exc import SQLAlchemyError

from api.access import Parts, open_to_all
from ingest.run import Ingest

router = APIRouter(tags=["health"])

_SECONDS = Histogram("fixwright_http_seconds", "Time to answer a request.", ["method", "route", "status"])

_INTAKE = {
    "received": Gauge("fixwright_intake_received", "Messages received over MQTT since the start."),
    "waiting": Gauge("fixwright_intake_waiting", "Messages received and not yet durable."),
    "lag": Gauge("fixwright_intake_lag_seconds", "How long messages wait to be stored."),
    "over": Gauge("fixwright_intake_over_limit", "Messages over a limit since the start."),
}


def watch(ingest: Ingest) -> None:
    """Let the figures of this process tell of its data path."""
    _INTAKE["received"].set_function(lambda: ingest.counters.received)
    _INTAKE["waiting"].set_function(lambda: ingest.waiting)
    _INTAKE["lag"].set_function(ingest.lag_s)
    _INTAKE["over"].set_function(lambda: ingest.over_limit)


def measure(request: Request, status: int, seconds: float) -> None:
    """Count one answered request under its route, never under its address."""
    route = request.scope.get("route")
    _SECONDS.labels(request.method, getattr(route, "path", "none"), str(status)).observe(seconds)


@router.get("/health/live")
@open_to_all
def live() -> dict[str, str]:
    """Say that the process answers."""
    return {"status": "live"}


@router.get("/health/ready")
@open_to_all
def ready(parts: Parts) -> JSONResponse:
    """Say whether every part this process needs is well, and name those that are not."""
    troubles = {name: trouble for name, check in parts.checks.items() if (trouble := check())}
    try:
        with parts.engine.connect() as connection:
            connection.execute(text("SELECT 1"))
    except SQLAlchemyError as error:
        troubles["database"] = type(error).__name__
    if troubles:
        return JSONResponse({"status": "not ready", "troubles": troubles}, 503, {"Retry-After": "3"})
    return JSONResponse({"status": "ready"})


@router.get("/metrics", include_in_schema=False)
@open_to_all
def metrics() -> Response:
    """Return the figures of this process in Prometheus' text format."""
    return Response(generate_latest(REGISTRY), media_type=CONTENT_TYPE_LATEST)
