"""Devices that ask to be let in, over JSON: who waits, and a person's answer."""

from datetime import datetime
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query
from pydantic import BaseModel, ConfigDict, Field
from sqlalchemy.orm import Session

from api import paging
from api.access import Db, needs
from assets import applications
from assets.models import Asset, Device, DeviceApplication
from kernel import clock
from kernel.errors import Invalid, NotFound
from people import scope
from people.scope import Viewer

router = APIRouter(prefix="/devices/applications", tags=["devices"])
Reader = Annotated[Viewer, needs("assets.read")]
Writer = Annotated[Viewer, needs("devices.write")]
AT_ONCE = 200


class ApplicationOut(BaseModel):
    """A device that asks to be let in. ``said`` is what it told of itself when it asked last."""

    model_config = ConfigDict(from_attributes=True)

    id: int
    key: str
    name: str
    origin: str
    state: str
    unit_id: int
    gateway_id: int | None
    asset_type_id: int | None
    said: dict[str, Any]
    first_seen_at: datetime
    last_seen_at: datetime
    decided_at: datetime | None
    decided_by: str | None
    reason: str | None
    device_id: int | None


class Filter(BaseModel):
    """The parameters of the list."""

    state: Literal["waiting", "approved", "declined"] = "waiting"
    q: str = ""
    limit: paging.Limit = 100
    cursor: paging.Cursor = None


class Approval(BaseModel):
    """How a device is let in: under another name, bound to an asset."""

    name: str | None = None
    asset_id: int | None = Field(None, description="The asset it measures from now on.")


class Several(BaseModel):
    """Which applications to approve together: all or none."""

    ids: list[int] = Field(min_length=1, max_length=AT_ONCE)


class Refusal(BaseModel):
    """Why a device is sent away."""

    reason: str


class Approved(BaseModel):
    """The devices that applications became, in the order asked."""

    devices: list[int]


@router.get("")
def listed(db: Db, viewer: Reader, wanted: Annotated[Filter, Query()]) -> paging.Page[ApplicationOut]:
    """List the devices that ask to be let in, the latest first."""
    after = paging.read(wanted.cursor, (int,))
    rows = applications.listed(
        db,
        viewer,
        state=wanted.state,
        text=wanted.q.strip(),
        after=after[0] if after else None,
        limit=wanted.limit + 1,
    )
    page, following = paging.cut(rows, wanted.limit, lambda row: (row.id,))
    return paging.Page(items=[ApplicationOut.model_validate(row) for row in page], next=following)


@router.post("/approve")
def approve_several(db: Db, viewer: Writer, body: Several) -> Approved:
    """Let several devices in at once, all or none."""
    return Approved(devices=[one.id for one in let_in(db, viewer, body.ids)])


def let_in(db: Session, viewer: Viewer, ids: list[int]) -> list[Device]:
    """Approve several applications that the viewer may decide about.

    Raises:
        NotFound, Forbidden, Conflict: as for each; none is approved then.
    """
    now = clock.now()
    return [
        applications.approve(db, mine(db, viewer, identity), actor=viewer.actor, now=now)
        for identity in dict.fromkeys(ids)
    ]


@router.get("/{application_id}")
def application(db: Db, viewer: Reader, application_id: int) -> ApplicationOut:
    """Return one application."""
    return ApplicationOut.model_validate(scope.find(db, DeviceApplication, application_id, viewer, "assets.read"))


@router.post("/{application_id}/approve")
def approve(db: Db, viewer: Writer, application_id: int, body: Approval) -> ApplicationOut:
    """Let a device in: it is registered under its gateway and, if one is named, bound to an asset."""
    found = mine(db, viewer, application_id)
    asset = _asset(db, viewer, body.asset_id)
    applications.approve(db, found, name=body.name, asset=asset, actor=viewer.actor, now=clock.now())
    return ApplicationOut.model_validate(found)


@router.post("/{application_id}/decline")
def decline(db: Db, viewer: Writer, application_id: int, body: Refusal) -> ApplicationOut:
    """Send a device away; it is not asked about again until somebody reopens its case."""
    found = mine(db, viewer, application_id)
    applications.decline(db, found, reason=body.reason, actor=viewer.actor, now=clock.now())
    return ApplicationOut.model_validate(found)


@router.post("/{application_id}/reopen")
def reopen(db: Db, viewer: Writer, application_id: int) -> ApplicationOut:
    """Let a declined device wait for a decision again."""
    found = mine(db, viewer, application_id)
    applications.reopen(db, found, actor=viewer.actor, now=clock.now())
    return ApplicationOut.model_validate(found)


def mine(db: Session, viewer: Viewer, application_id: int) -> DeviceApplication:
    """Return an application the viewer may decide about.

    Raises:
        NotFound: it lies outside the viewer's sight.
        Forbidden: it is not the viewer's to decide.
    """
    found = scope.find(db, DeviceApplication, application_id, viewer, "assets.read")
    scope.require(db, viewer, "devices.write", found.unit_id)
    return found


def _asset(db: Session, viewer: Viewer, asset_id: int | None) -> Asset | None:
    if asset_id is None:
        return None
    try:
        asset = scope.find(db, Asset, asset_id, viewer, "assets.read")
    except NotFound as error:
        raise Invalid("There is no such asset.", field="asset_id") from error
    scope.require(db, viewer, "devices.write", asset.unit_id)
    return asset
