"""What people did to the meters of an asset, over JSON."""

from datetime import datetime
from typing import Annotated

from fastapi import APIRouter
from pydantic import BaseModel, Field
from sqlalchemy.orm import Session

from api import paging
from api.access import Db, needs
from api.instants import Instant
from assets import meters
from assets.derived_tables import MeterChange
from assets.models import Asset
from kernel import clock
from kernel.errors import NotFound
from people import scope
from people.scope import Viewer

router = APIRouter(tags=["telemetry"])
Reader = Annotated[Viewer, needs("telemetry.read")]
Writer = Annotated[Viewer, needs("assets.write")]


class MeterIn(BaseModel):
    """What was done to a meter of an asset."""

    metric: str = Field(description="The metric that the meter shows; of a total the derived metric.")
    kind: str = Field(description="exchange, reset or total.")
    at: Instant = Field(description="When, with an offset.")
    final: float | None = Field(None, description="What it showed last before, if somebody read it.")
    initial: float | None = Field(None, description="What it showed first after; 0 of a reset when left out.")
    total: float | None = Field(None, description="The running total at that instant; of a total.")
    reason: str = ""


class MeterOut(MeterIn):
    """What was done to a meter; ``withdrawn_at`` where it was a mistake."""

    id: int
    by: str
    recorded_at: datetime
    withdrawn_at: datetime | None


@router.get("/assets/{asset_id}/meters")
def meter_changes(
    db: Db, viewer: Reader, asset_id: int, limit: paging.Limit = 50, cursor: paging.Cursor = None
) -> paging.Page[MeterOut]:
    """List what was done to the meters of an asset, the latest note first."""
    asset = scope.find(db, Asset, asset_id, viewer, "telemetry.read")
    key = paging.read(cursor, (int,))
    rows = meters.listed(db, asset.id, before=key[0] if key else None, limit=limit + 1)
    page, following = paging.cut(rows, limit, lambda row: (row.id,))
    return paging.Page(items=[_meter(row) for row in page], next=following)


@router.post("/assets/{asset_id}/meters", status_code=201)
def record_meter(db: Db, viewer: Writer, asset_id: int, body: MeterIn) -> MeterOut:
    """Take note of an exchange, a reset or a known total, so that the asset's life-to-date goes on."""
    asset = scope.find(db, Asset, asset_id, viewer, "assets.read")
    scope.require(db, viewer, "assets.write", asset.unit_id)
    return _meter(meters.record(db, asset, meters.MeterDraft(**body.model_dump()), actor=viewer.actor, now=clock.now()))


@router.post("/assets/{asset_id}/meters/{change_id}/withdraw")
def withdraw_meter(db: Db, viewer: Writer, asset_id: int, change_id: int) -> MeterOut:
    """Take back what was noted by mistake; hours and totals follow."""
    asset = scope.find(db, Asset, asset_id, viewer, "assets.read")
    scope.require(db, viewer, "assets.write", asset.unit_id)
    row = change_of(db, asset, change_id)
    meters.withdraw(db, asset, row, actor=viewer.actor, now=clock.now())
    return _meter(row)


def change_of(db: Session, asset: Asset, change_id: int) -> MeterChange:
    """Return what was done to a meter of an asset.

    Raises:
        NotFound: there is no such note on it.
    """
    row = db.get(MeterChange, change_id)
    if row is None or row.asset_id != asset.id:
        raise NotFound("There is nothing here, or it is not yours to see.")
    return row


def _meter(row: MeterChange) -> MeterOut:
    names = ("id", "metric", "kind", "at", "final", "initial", "total", "reason", "by", "recorded_at", "withdrawn_at")
    return MeterOut(**{name: getattr(row, name) for name in names})
