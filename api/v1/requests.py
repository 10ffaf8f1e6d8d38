"""Fault reports over JSON: listed, made by staff, and decided: accept, join, hold, decline."""

from datetime import datetime
from typing import Annotated, Literal

from fastapi import APIRouter, Query
from pydantic import BaseModel, ConfigDict, Field
from sqlalchemy import select
from sqlalchemy.orm import Session

from api import paging
from api.access import Db, needs
from assets.models import Asset
from kernel import clock
from maintenance.orders import requests
from maintenance.orders.models import Order, Request
from maintenance.orders.requests import Report
from people import scope
from people.scope import Viewer

router = APIRouter(prefix="/requests", tags=["requests"])
Reader = Annotated[Viewer, needs("requests.read")]
Triager = Annotated[Viewer, needs("requests.triage")]
Reporter = Annotated[Viewer, needs("orders.create")]
State = Literal["new", "held", "accepted", "joined", "declined", "withdrawn"]


class RequestIn(BaseModel):
    """A fault in somebody's words, taken down by staff."""

    asset_id: int
    what: str = Field(max_length=2000)
    contact_name: str | None = Field(None, max_length=100)
    contact_phone: str | None = Field(None, max_length=40)
    contact_email: str | None = Field(None, max_length=200)
    language: Literal["en", "zh"] = "en"
    order_id: int | None = Field(None, description="The open order of the asset that it belongs to.")


class RequestOut(BaseModel):
    """A fault report and what became of it."""

    model_config = ConfigDict(from_attributes=True)

    id: int
    number: str
    state: str
    origin: str
    asset_id: int
    unit_id: int
    what: str
    what_zh: str | None
    contact_name: str | None
    contact_phone: str | None
    contact_email: str | None
    language: str
    created_at: datetime
    decided_at: datetime | None
    decided_by: str | None
    reason: str | None
    order_id: int | None
    rating: int | None
    rating_text: str | None


class RequestWhole(RequestOut):
    """A report with the order it may belong to."""

    suggested_order_id: int | None = Field(None, description="An open order of the asset; set while it waits.")


class RequestMade(RequestWhole):
    """A report just made, with its tracking link, which is shown once."""

    track: str = Field(description="The path of the tracking page.")


class AcceptIn(BaseModel):
    """How the order is to be; by default from the report and the asset."""

    priority: int | None = Field(None, ge=1, le=4)
    title: str | None = Field(None, max_length=200)


class JoinIn(BaseModel):
    """The open order that a report belongs to."""

    order_id: int


class ReasonIn(BaseModel):
    """Why; the reporter reads it."""

    reason: str = Field("", max_length=500)


class Filter(BaseModel):
    """The parameters of the list of reports."""

    state: list[State] = Field([], description="One or several states.")
    waiting: bool = Field(False, description="Only those that wait for a decision.")
    asset: int | None = None
    order: int | None = None
    limit: paging.Limit = 100
    cursor: paging.Cursor = None


@router.get("")
def listed(db: Db, viewer: Reader, wanted: Annotated[Filter, Query()]) -> paging.Page[RequestOut]:
    """List reports, the newest first."""
    query = select(Request).where(scope.visible(Request, viewer, "requests.read"))
    states = requests.WAITING if wanted.waiting else tuple(wanted.state)
    if states:
        query = query.where(Request.state.in_(states))
    if wanted.asset is not None:
        query = query.where(Request.asset_id == wanted.asset)
    if wanted.order is not None:
        query = query.where(Request.order_id == wanted.order)
    if (after := paging.read(wanted.cursor, (int,))) is not None:
        query = query.where(Request.id < after[0])
    rows = db.scalars(query.order_by(Request.id.desc()).limit(wanted.limit + 1)).all()
    page, following = paging.cut(rows, wanted.limit, lambda row: (row.id,))
    return paging.Page(items=[RequestOut.model_validate(row) for row in page], next=following)


@router.post("", status_code=201)
def make(db: Db, viewer: Reporter, body: RequestIn) -> RequestMade:
    """Take down a report; it becomes an order, joins one, or waits, as the company has set."""
    asset = scope.find(db, Asset, body.asset_id, viewer, "assets.read")
    scope.require(db, viewer, "orders.create", asset.unit_id)
    known = scope.find(db, Order, body.order_id, viewer, "orders.read") if body.order_id is not None else None
    report = Report(**body.model_dump(exclude={"asset_id", "order_id"}))
    made = requests.make(db, asset, report, origin="person", actor=viewer.actor, now=clock.now(), known=known)
    return RequestMade.model_validate({**_whole(db, made.request).model_dump(), "track": f"/t/{made.token}"})


@router.get("/{request_id}")
def request(db: Db, viewer: Reader, request_id: int) -> RequestWhole:
    """Return one report and, while it waits, the order it may belong to."""
    return _whole(db, scope.find(db, Request, request_id, viewer, "requests.read"))


@router.post("/{request_id}/accept")
def accept(db: Db, viewer: Triager, request_id: int, body: AcceptIn | None = None) -> RequestWhole:
    """Make a report a work order."""
    found, how = requests.find(db, request_id, viewer), body or AcceptIn()
    requests.accept(db, found, actor=viewer.actor, now=clock.now(), priority=how.priority, title=how.title)
    return _whole(db, found)


@router.post("/{request_id}/join")
def join(db: Db, viewer: Triager, request_id: int, body: JoinIn) -> RequestWhole:
    """Add a report to an open order of the same asset."""
    found = requests.find(db, request_id, viewer)
    order = scope.find(db, Order, body.order_id, viewer, "orders.read")
    requests.join(db, found, order, actor=viewer.actor, now=clock.now())
    return _whole(db, found)


@router.post("/{request_id}/hold")
def hold(db: Db, viewer: Triager, request_id: int, body: ReasonIn) -> RequestWhole:
    """Put a report aside, with a reason that the reporter reads."""
    found = requests.find(db, request_id, viewer)
    return _whole(db, requests.hold(db, found, reason=body.reason, actor=viewer.actor, now=clock.now()))


@router.post("/{request_id}/decline")
def decline(db: Db, viewer: Triager, request_id: int, body: ReasonIn) -> RequestWhole:
    """Decline a report, with a reason that the reporter reads."""
    found = requests.find(db, request_id, viewer)
    return _whole(db, requests.decline(db, found, reason=body.reason, actor=viewer.actor, now=clock.now()))


def _whole(db: Session, row: Request) -> RequestWhole:
    db.flush()
    suggested = requests.suggest(db, row.asset) if row.state in requests.WAITING else None
    made = RequestWhole.model_validate(row)
    made.suggested_order_id = suggested.id if suggested else None
    return made
