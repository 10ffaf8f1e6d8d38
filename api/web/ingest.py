"""Is the intake itself well: what became of every message, by hour and by device, and what brokers dropped."""

from datetime import datetime, timedelta
from typing import Annotated

from fastapi import APIRouter, Query, Request
from fastapi.responses import Response
from pydantic import BaseModel

from api import paging
from api.access import Db, needs
from api.instants import Instant
from api.web import pages
from assets.models import Device
from ingest import ledger, limits, workers
from kernel import clock
from people import scope
from people.scope import Viewer

router = APIRouter()
Reader = Annotated[Viewer, needs("ingest.read")]
A_PAGE = 48
DEVICES = 100
WORST = 10
RECENT = timedelta(days=1)


@router.get("/ingest")
def overview(request: Request, db: Db, viewer: Reader, after: str | None = None) -> Response:
    """Show the hours, the devices with most rejects, and what brokers dropped."""
    key = paging.read(after, (datetime,))
    rows = ledger.hours(db, viewer, before=key[0] if key else None, limit=A_PAGE + 1)
    shown, following = paging.cut(rows, A_PAGE, lambda line: (line.hour,))
    since = clock.now() - RECENT
    sees_all = ledger.sees_all(db, viewer)
    dropped = ledger.drops(db, limit=A_PAGE) if sees_all else []
    by_hour: dict[datetime, int] = {}
    for drop in dropped:
        by_hour[drop.hour] = by_hour.get(drop.hour, 0) + drop.dropped
    return pages.render(
        request,
        "ingest/overview.html",
        rows=shown,
        following=following,
        after=after,
        worst=ledger.most_rejects(db, viewer, since=since.replace(minute=0, second=0, microsecond=0), limit=WORST),
        over=limits.over(db, viewer, since=since, limit=WORST),
        workers=workers.shown(db) if sees_all else [],
        dropped=by_hour,
        recently_dropped=[drop for drop in dropped if drop.hour > since - ledger.HOUR],
    )


class Hour(BaseModel):
    """Which hour, and from where on."""

    hour: Instant
    after: str | None = None


@router.get("/ingest/devices")
def hour(request: Request, db: Db, viewer: Reader, asked: Annotated[Hour, Query()]) -> Response:
    """Show what became of the messages of each device in one hour."""
    key = paging.read(asked.after, (int,))
    rows = ledger.of_hour(db, viewer, asked.hour, after=key[0] if key else None, limit=DEVICES + 1)
    shown, following = paging.cut(rows, DEVICES, lambda line: (line.device_id,))
    return pages.render(request, "ingest/hour.html", rows=shown, following=following, hour=asked.hour, asked=asked)


@router.get("/devices/{device_id}/messages")
def device(request: Request, db: Db, viewer: Reader, device_id: int, after: str | None = None) -> Response:
    """Show what became of the messages of one device, hour by hour."""
    found = scope.find(db, Device, device_id, viewer, "ingest.read")
    key = paging.read(after, (datetime,))
    rows = ledger.of_device(db, viewer, found.id, before=key[0] if key else None, limit=A_PAGE + 1)
    shown, following = paging.cut(rows, A_PAGE, lambda line: (line.hour,))
    return pages.render(request, "ingest/device.html", device=found, rows=shown, following=following, after=after)
