"""Messages set aside by ingest over JSON: why, the bytes, and trying again."""

import base64
import codecs
from datetime import datetime
from typing import Annotated, Literal

from fastapi import APIRouter, Query
from pydantic import BaseModel, Field

from api import paging
from api.access import Db, needs
from api.instants import Instant
from ingest import rejected
from ingest.models import RejectedMessage
from kernel import clock
from people.scope import Viewer

router = APIRouter(prefix="/rejected", tags=["rejected"])
Reader = Annotated[Viewer, needs("ingest.read")]
Actor = Annotated[Viewer, needs("ingest.act")]
LISTED_BYTES = 65_536
IS_OPEN = {"open": True, "replayed": False, "all": None}


class RejectedOut(BaseModel):
    """A message that could not be used. ``payload`` is its text, null where the bytes are no UTF-8.

    A list holds of each the first 64 KiB, and says so with ``is_cut``; one message alone comes whole.
    """

    id: int
    first_at: datetime
    received_at: datetime
    topic: str
    device: str | None
    reason: str
    detail: str
    repeats: int
    payload: str | None
    payload_base64: str
    size: int
    is_cut: bool
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
    unknown: bool = Field(False, description="Only of devices that are not registered.")
    hour: Instant | None = Field(None, description="Only what came in the hour that begins then.")
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
        is_unknown=wanted.unknown,
        hour=wanted.hour,
        after=after[0] if after else None,
        limit=wanted.limit + 1,
    )
    page, following = paging.cut(rows, wanted.limit, lambda row: (row.id,))
    begun = rejected.beginnings(db, page, LISTED_BYTES)
    return paging.Page(items=[_out(row, *begun[row.id]) for row in page], next=following)


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
    return _whole(rejected.find(db, viewer, rejected_id))


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
    return _whole(row)


def _whole(row: RejectedMessage) -> RejectedOut:
    return _out(row, row.payload, len(row.payload))


def _out(row: RejectedMessage, payload: bytes, size: int) -> RejectedOut:
    is_cut = size > len(payload)
    try:
        # What was cut may end within a character.
        text = codecs.getincrementaldecoder("utf-8")().decode(payload, final=not is_cut)
    except UnicodeDecodeError:
        text = None
    return RejectedOut(
        id=row.id,
        first_at=row.first_at,
        received_at=row.received_at,
        topic=row.topic,
        device=row.device_key,
        reason=row.reason,
        detail=row.detail,
        repeats=row.repeats,
        payload=text,
        payload_base64=base64.b64encode(payload).decode(),
        size=size,
        is_cut=is_cut,
        replay_asked_at=row.replay_asked_at,
        replayed_at=row.replayed_at,
    )
