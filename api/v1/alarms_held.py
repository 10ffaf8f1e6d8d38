"""What holds alarms over JSON: shelves, windows of maintenance, assets out of service, work that isolates them."""

from datetime import datetime
from typing import Annotated, Literal

from fastapi import APIRouter, Query
from pydantic import BaseModel, ConfigDict, Field
from sqlalchemy import select
from sqlalchemy.orm import Session

from api import paging
from api.access import Db, needs
from api.instants import Instant
from assets.models import Asset
from kernel import clock
from maintenance.orders import isolation
from maintenance.orders.models import Order
from people import scope
from people.scope import Viewer
from rules import alarms, holds
from rules.hold_tables import AlarmHold

router = APIRouter(prefix="/alarms/holds", tags=["alarms"])
Reader = Annotated[Viewer, needs("alarms.read")]
Holder = Annotated[Viewer, needs("alarms.hold")]


class HoldOut(BaseModel):
    """Why alarms of one fault, or of an asset with its parts, are recorded and not announced."""

    model_config = ConfigDict(from_attributes=True)

    id: int
    kind: str
    state: str
    subject: str | None
    type_key: str | None
    asset_id: int | None
    unit_id: int
    cause: str
    reason: str
    by: str
    began_at: datetime
    until: datetime | None
    review_at: datetime | None
    is_once: bool
    ended_at: datetime | None
    ended_by: str | None


class HoldIn(BaseModel):
    """An asset whose alarms are to be held: for a window, or out of service with an end or a date of review."""

    asset_id: int
    kind: Literal["suppressed", "out_of_service"] = "suppressed"
    reason: str = Field(max_length=500)
    began_at: Instant | None = Field(None, description="When it begins; now when it is missing.")
    until: Instant | None = None
    review_at: Instant | None = None


class WorkIn(BaseModel):
    """An open order whose work takes its asset out of service until it is over."""

    order_id: int
    why: Literal["isolation", "permit", "calibration"]


class Filter(BaseModel):
    """The parameters of the list."""

    state: Literal["open", "all"] = "open"
    asset: int | None = None
    limit: paging.Limit = 100
    cursor: paging.Cursor = None


@router.get("")
def list_holds(db: Db, viewer: Reader, wanted: Annotated[Filter, Query()]) -> paging.Page[HoldOut]:
    """List what holds alarms, the newest first: planned and live, or with ``state=all`` what has ended too."""
    rows, following = page_of(db, viewer, wanted)
    return paging.Page(items=[HoldOut.model_validate(row) for row in rows], next=following)


@router.post("", status_code=201)
def hold_asset(db: Db, viewer: Holder, body: HoldIn) -> HoldOut:
    """Hold the alarms of an asset with all its parts, now or from an instant on."""
    return HoldOut.model_validate(begin(db, viewer, body))


@router.post("/work", status_code=201)
def hold_for_work(db: Db, viewer: Holder, body: WorkIn) -> list[HoldOut]:
    """Take an order's asset out of service until the order's work is over."""
    order = scope.find(db, Order, body.order_id, viewer, "orders.read")
    scope.require(db, viewer, "alarms.hold", order.unit_id)
    isolation.hold(db, order, body.why, by=viewer.actor, now=clock.now())
    return [HoldOut.model_validate(one) for one in holds.of_work(db, f"order:{order.id}")]


@router.post("/{hold_id}/end")
def end_hold(db: Db, viewer: Holder, hold_id: int) -> HoldOut:
    """End a hold; alarms that stand and nothing else holds are announced."""
    return HoldOut.model_validate(end(db, viewer, hold_id))


# What the page does as well -------------------------------------------------------------------------------------


def page_of(db: Session, viewer: Viewer, wanted: Filter) -> tuple[list[AlarmHold], str | None]:
    """Return one page of holds and the cursor of the next."""
    query = select(AlarmHold).where(scope.visible(AlarmHold, viewer, "alarms.read"))
    if wanted.state == "open":
        query = query.where(AlarmHold.state != "ended")
    if wanted.asset is not None:
        query = query.where(AlarmHold.asset_id == wanted.asset)
    if (after := paging.read(wanted.cursor, (int,))) is not None:
        query = query.where(AlarmHold.id < after[0])
    rows = db.scalars(query.order_by(AlarmHold.id.desc()).limit(wanted.limit + 1)).all()
    return paging.cut(rows, wanted.limit, lambda row: (row.id,))


def begin(db: Session, viewer: Viewer, wanted: HoldIn) -> AlarmHold:
    """Begin or plan a hold of an asset."""
    asset = scope.find(db, Asset, wanted.asset_id, viewer, "alarms.read")
    scope.require(db, viewer, "alarms.hold", asset.unit_id)
    now = clock.now()
    cause = "window" if wanted.kind == "suppressed" else "person"
    hold = holds.on_asset(
        db, asset, wanted.kind, reason=wanted.reason, by=viewer.actor, began_at=wanted.began_at, until=wanted.until,
        review_at=wanted.review_at, cause=cause, now=now,
    )  # fmt: skip
    alarms.settle(db, holds.concerned_alarms(db, [hold]), now=now)
    return hold


def end(db: Session, viewer: Viewer, hold_id: int) -> AlarmHold:
    """End a hold that the viewer may end."""
    found = scope.find(db, AlarmHold, hold_id, viewer, "alarms.read")
    scope.require(db, viewer, "alarms.hold", found.unit_id)
    db.refresh(found, with_for_update={"of": AlarmHold})
    now = clock.now()
    holds.end(db, found, by=viewer.actor, now=now)
    alarms.settle(db, holds.concerned_alarms(db, [found]), now=now)
    return found
