"""Messages set aside by ingest over JSON: why, the bytes, and trying again."""

import base64
from datetime import datetime
from typing import Annotated, Literal

from fastapi import APIRouter, Query
from pydantic import BaseModel

from api import paging
from api.access import Db, needs
from ingest import rejected
from ingest.models import RejectedMessage
from kernel import clock
from people.scope import Viewer

router = APIRouter(prefix="/rejected", tags=["rejected"])
Reader = Annotated[Viewer, needs("ingest.read")]
Actor = Annotated[Viewer, needs("ingest.act")]
IS_OPEN = {"open": True, "replayed": False, "all": None}


class RejectedOut(BaseModel):
    """A message that could not be used. ``payload`` is its text, null where the bytes are no UTF-8."""

    id: int
    received_at: datetime
    topic: str
    device: str | None
    reason: str
    detail: str
    repeats: int
    payload: str | None
    payload_base64: str
    replay_asked_at: datetime | None
    replayed_at: datetime | None


class GroupOut(BaseModel):
    """Open messages of one device with one reason."""

    reason: str
    device: str | None
    messages: int
    repeats: int
    last_at: datetime


class Filter(BaseModel):
    """The parameters of the list."""

    reason: str | None = None
    device: str | None = None
    state: Literal["open", "replayed", "all"] = "open"
    limit: paging.Limit = 100
    cursor: paging.Cursor = None


class Which(BaseModel):
    """Which open messages to try again; ``device`` "" means those that name none."""

    reason: str
    device: str | None = None


class Asked(BaseModel):
    """How many messages will be tried again; ingest does so within seconds."""

    asked: int


@router.get("")
def listed(db: Db, viewer: Reader, wanted: Annotated[Filter, Query()]) -> paging.Page[RejectedOut]:
    """List messages set aside, newest first."""
    after = paging.read(wanted.cursor, (int,))
    rows = rejected.listed(
        db,
        viewer,
        reason=wanted.reason,
        device_key=wanted.device,
        is_open=IS_OPEN[wanted.state],
        after=after[0] if after else None,
        limit=wanted.limit + 1,
    )
    page, following = paging.cut(rows, wanted.limit, lambda row: (row.id,))
    return paging.Page(items=[_out(row) for row in page], next=following)


@router.get("/groups")
def groups(db: Db, viewer: Reader) -> list[GroupOut]:
    """Return what waits to be mended, by reason and device, at most 200 groups, the latest first."""
    return [
        GroupOut(
            reason=group.reason,
            device=group.device_key,
            messages=group.messages,
            repeats=group.repeats,
            last_at=group.last_at,
        )
        for group in rejected.groups(db, viewer)
    ]


@router.get("/{rejected_id}")
def one(db: Db, viewer: Reader, rejected_id: int) -> RejectedOut:
    """Return one message set aside."""
    return _out(rejected.find(db, viewer, rejected_id))


@router.post("/replay")
def replay_all(db: Db, viewer: Actor, body: Which) -> Asked:
    """Ask for the open messages of one device with one reason, at most 1,000, to be tried again."""
    count = rejected.ask_all(db, viewer, reason=body.reason, device_key=body.device, now=clock.now())
    return Asked(asked=count)


@router.post("/{rejected_id}/replay")
def replay(db: Db, viewer: Actor, rejected_id: int) -> RejectedOut:
    """Ask for a message to be tried again, as if it came when it first came; 409 when it was replayed already."""
    row = rejected.find(db, viewer, rejected_id, "ingest.act")
    rejected.ask(db, row, by=viewer.actor, company_id=viewer.company_id, now=clock.now())
    return _out(row)


def _out(row: RejectedMessage) -> RejectedOut:
    try:
        text = row.payload.decode()
    except UnicodeDecodeError:
        text = None
    return RejectedOut(
        id=row.id,
        received_at=row.received_at,
        topic=row.topic,
        device=row.device_key,
        reason=row.reason,
        detail=row.detail,
        repeats=row.repeats,
        payload=text,
        payload_base64=base64.b64encode(row.payload).decode(),
        replay_asked_at=row.replay_asked_at,
        replayed_at=row.replayed_at,
    )
