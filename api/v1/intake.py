"""The ledger of messages over JSON: received = stored + duplicate + rejected + waiting, by hour and by device."""

from datetime import datetime
from typing import Annotated

from fastapi import APIRouter, Query
from pydantic import BaseModel, ConfigDict

from api import paging
from api.access import Db, needs
from api.instants import Instant
from ingest import ledger, workers
from people.scope import Viewer

router = APIRouter(prefix="/intake", tags=["intake"])
Reader = Annotated[Viewer, needs("ingest.read")]


class HourOut(BaseModel):
    """Messages of one hour. ``waiting`` is what the equation leaves over, ``balances`` whether it holds."""

    model_config = ConfigDict(from_attributes=True)

    hour: datetime
    received: int
    stored: int
    duplicate: int
    rejected: int
    waiting: int
    balances: bool


class CountOut(HourOut):
    """Messages of one device in one hour; ``device_id`` 0 stands for unknown devices."""

    device_id: int
    device_key: str | None


class DropOut(BaseModel):
    """Messages a broker says it dropped in one hour."""

    model_config = ConfigDict(from_attributes=True)

    hour: datetime
    broker: str
    dropped: int


class WorkerOut(BaseModel):
    """One life of one ingest process; ``ended_at`` is null while it lives."""

    model_config = ConfigDict(from_attributes=True)

    id: int
    role: str
    share: str
    epoch: int | None
    host: str
    pid: int
    started_at: datetime
    active_at: datetime | None
    heartbeat_at: datetime
    ended_at: datetime | None
    ended_why: str
    received_s: float
    lag_ms: float
    backlog: int
    assets: int | None
    last_error: str


class Hours(BaseModel):
    """The parameters of a list by hour."""

    limit: paging.Limit = 100
    cursor: paging.Cursor = None


class Counts(BaseModel):
    """The parameters of the list by device and hour; ``end`` is the first hour left out."""

    device_id: int | None = None
    start: Instant | None = None
    end: Instant | None = None
    limit: paging.Limit = 100
    cursor: paging.Cursor = None


@router.get("/hours")
def hours(db: Db, viewer: Reader, wanted: Annotated[Hours, Query()]) -> paging.Page[HourOut]:
    """List the hours in which anything came, of all devices in sight together, the latest first."""
    after = paging.read(wanted.cursor, (datetime,))
    rows = ledger.hours(db, viewer, before=after[0] if after else None, limit=wanted.limit + 1)
    page, following = paging.cut(rows, wanted.limit, lambda line: (line.hour,))
    return paging.Page(items=[HourOut.model_validate(line) for line in page], next=following)


@router.get("/counts")
def counts(db: Db, viewer: Reader, wanted: Annotated[Counts, Query()]) -> paging.Page[CountOut]:
    """List messages by hour and device, the earliest first; of one device with ``device_id``."""
    after = paging.read(wanted.cursor, (datetime, int))
    rows = ledger.counts(
        db,
        viewer,
        device_id=wanted.device_id,
        start=wanted.start,
        end=wanted.end,
        after=(after[0], after[1]) if after else None,
        limit=wanted.limit + 1,
    )
    page, following = paging.cut(rows, wanted.limit, lambda line: (line.hour, line.device_id))
    return paging.Page(items=[CountOut.model_validate(line) for line in page], next=following)


@router.get("/drops")
def drops(db: Db, viewer: Reader, wanted: Annotated[Hours, Query()]) -> paging.Page[DropOut]:
    """List the hours in which a broker said that it dropped messages, the latest first; for the whole company."""
    after = paging.read(wanted.cursor, (datetime, str))
    if not ledger.sees_all(db, viewer):
        return paging.Page(items=[])
    rows = ledger.drops(db, after=(after[0], after[1]) if after else None, limit=wanted.limit + 1)
    page, following = paging.cut(rows, wanted.limit, lambda drop: (drop.hour, drop.broker))
    return paging.Page(items=[DropOut.model_validate(drop) for drop in page], next=following)


@router.get("/workers")
def listed(db: Db, viewer: Reader) -> list[WorkerOut]:
    """Return who reads the broker, who stands by and who ended lately; for the whole company."""
    found = workers.shown(db) if ledger.sees_all(db, viewer) else []
    return [WorkerOut.model_validate(one) for one in found]
