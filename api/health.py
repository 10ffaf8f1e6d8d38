"""Is the machine itself well: live, ready, and figures for Prometheus."""

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse, Response
from prometheus_client import CONTENT_TYPE_LATEST, REGISTRY, Gauge, Histogram, generate_latest
from sqlalchemy import text
from sqlalchemy.exc import SQLAlchemyError

from api.access import Parts, open_to_all
from api.runtime import Runtime
from ingest import ledger, workers
from ingest.run import Ingest
from kernel import clock

router = APIRouter(tags=["health"])

_SECONDS = Histogram("fixwright_http_seconds", "Time to answer a request.", ["method", "route", "status"])

_INTAKE = {
    "received": Gauge("fixwright_intake_received", "Messages received over MQTT since the start."),
    "waiting": Gauge("fixwright_intake_waiting", "Messages received and not yet durable."),
    "lag": Gauge("fixwright_intake_lag_seconds", "How long messages wait to be stored."),
    "over": Gauge("fixwright_intake_over_limit", "Messages over a limit since the start."),
    "late": Gauge("fixwright_rules_late", "Readings for rules that came late since the start."),
    "too_late": Gauge("fixwright_rules_too_late", "Those of them that came too late for any rule to judge."),
}


def watch(ingest: Ingest) -> None:
    """Let the figures of this process tell of its data path."""
    _INTAKE["received"].set_function(lambda: ingest.counters.received)
    _INTAKE["waiting"].set_function(lambda: ingest.waiting)
    _INTAKE["lag"].set_function(ingest.lag_s)
    _INTAKE["over"].set_function(lambda: ingest.over_limit)
    _INTAKE["late"].set_function(lambda: ingest.came_late[0])
    _INTAKE["too_late"].set_function(lambda: ingest.came_late[1])


_WORKER = ("worker", "share", "role")
_LAG = Gauge("fixwright_ingest_lag_ms", "From a message's reception until it was durable.", _WORKER)
_BACKLOG = Gauge("fixwright_ingest_backlog", "Messages received and not yet durable.", _WORKER)
_PACE = Gauge("fixwright_ingest_received_per_second", "Messages received a second.", _WORKER)
_SILENCE = Gauge("fixwright_ingest_heartbeat_age_seconds", "Since a worker was last heard.", _WORKER)
_EPOCH = Gauge("fixwright_ingest_epoch", "How many workers took the lead so far.", ["share"])
_DROPPED = Gauge("fixwright_ingest_broker_dropped_last_hours", "Messages brokers say they dropped, this hour and last.")


def _measure_workers(parts: Runtime) -> None:
    """Read how the ingest workers are from their rows, because they may run anywhere; leave it out where it fails."""
    for figure in (_LAG, _BACKLOG, _PACE, _SILENCE, _EPOCH):
        figure.clear()
    now = clock.now()
    try:
        with parts.sessions() as session:
            living = [one for one in workers.shown(session) if one.ended_at is None]
            drops = ledger.drops(session, limit=20)
    except SQLAlchemyError:
        return
    for one in living:
        labels = (str(one.id), one.share, one.role)
        _LAG.labels(*labels).set(one.lag_ms)
        _BACKLOG.labels(*labels).set(one.backlog)
        _PACE.labels(*labels).set(one.received_s)
        _SILENCE.labels(*labels).set(max(0.0, (now - one.heartbeat_at).total_seconds()))
        if one.epoch is not None:
            _EPOCH.labels(one.share).set(one.epoch)
    _DROPPED.set(sum(drop.dropped for drop in drops if drop.hour > now - 2 * ledger.HOUR))


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
def metrics(parts: Parts) -> Response:
    """Return the figures of this process, and of the ingest workers, in Prometheus' text format."""
    _measure_workers(parts)
    return Response(generate_latest(REGISTRY), media_type=CONTENT_TYPE_LATEST)
