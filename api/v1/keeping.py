"""How long readings are kept, over JSON: lifetimes of a type, and legal holds of an asset."""

from typing import Annotated

from fastapi import APIRouter
from pydantic import BaseModel, Field
from sqlalchemy.orm import Session

from api.access import Db, Parts, needs
from api.v1.types import find
from assets import keeping
from assets.keeping_tables import LegalHold
from assets.models import Asset
from ingest import housekeeping
from kernel import clock
from kernel.settings import Settings
from people import scope
from people.scope import Viewer
from telemetry.retention import Lifetimes

router = APIRouter(tags=["telemetry"])
Reader = Annotated[Viewer, needs("assets.read")]
Writer = Annotated[Viewer, needs("assets.write")]


class RetentionIn(BaseModel):
    """For how many days each tier is kept."""

    raw_days: int = Field(description="Exact readings.")
    minute_days: int = Field(description="Minutes made of them; 0 makes none.")
    hour_days: int = Field(description="Hours made of them.")


class RetentionOut(RetentionIn):
    """What holds for a type, and which type says so: null where the settings do."""

    stated_by: int | None


def retention_of(db: Session, settings: Settings, company_id: int, type_id: int) -> RetentionOut:
    """Return what holds for a type."""
    told, by = keeping.lifetimes(db, company_id, [type_id]).get(type_id, (housekeeping.lifetimes(settings), None))
    return RetentionOut(raw_days=told.raw_days, minute_days=told.minute_days, hour_days=told.hour_days, stated_by=by)


@router.get("/types/{type_id}/retention")
def retention(db: Db, parts: Parts, viewer: Reader, type_id: int) -> RetentionOut:
    """Return for how long readings of a type are kept."""
    return retention_of(db, parts.settings, viewer.company_id, find(db, viewer, type_id).id)


@router.put("/types/{type_id}/retention")
def state_retention(db: Db, parts: Parts, viewer: Writer, type_id: int, body: RetentionIn) -> RetentionOut:
    """Let a type have lifetimes of its own; types below inherit them unless they state theirs."""
    kind = find(db, viewer, type_id)
    scope.require(db, viewer, "assets.write", viewer.company_id)
    wanted = Lifetimes(body.raw_days, body.minute_days, body.hour_days)
    has_tiers = parts.store.has_tiers
    keeping.state(db, kind, wanted, has_tiers=has_tiers, actor=viewer.actor, now=clock.now())
    return retention_of(db, parts.settings, viewer.company_id, kind.id)


@router.delete("/types/{type_id}/retention")
def inherit_retention(db: Db, parts: Parts, viewer: Writer, type_id: int) -> RetentionOut:
    """Let a type follow its parent, or the settings, again."""
    kind = find(db, viewer, type_id)
    scope.require(db, viewer, "assets.write", viewer.company_id)
    keeping.state(db, kind, None, has_tiers=True, actor=viewer.actor, now=clock.now())
    return retention_of(db, parts.settings, viewer.company_id, kind.id)


class HoldIn(BaseModel):
    """Why nothing may be forgotten."""

    reason: str


class HoldOut(BaseModel):
    """Whether an asset is on hold, and why."""

    is_held: bool
    reason: str | None = None
    by: str | None = None


def _hold_of(db: Session, asset: Asset) -> HoldOut:
    row = db.get(LegalHold, asset.id)
    return HoldOut(is_held=False) if row is None else HoldOut(is_held=True, reason=row.reason, by=row.by)


@router.get("/assets/{asset_id}/hold")
def hold(db: Db, viewer: Reader, asset_id: int) -> HoldOut:
    """Return whether readings of an asset are on legal hold."""
    return _hold_of(db, scope.find(db, Asset, asset_id, viewer, "assets.read"))


@router.put("/assets/{asset_id}/hold")
def put_on_hold(db: Db, viewer: Writer, asset_id: int, body: HoldIn) -> HoldOut:
    """Let no reading of an asset be forgotten, whatever its age, until it is released."""
    asset = scope.find(db, Asset, asset_id, viewer, "assets.read")
    scope.require(db, viewer, "assets.write", asset.unit_id)
    keeping.hold(db, asset, body.reason, actor=viewer.actor, now=clock.now())
    return _hold_of(db, asset)


@router.delete("/assets/{asset_id}/hold")
def release(db: Db, viewer: Writer, asset_id: int) -> HoldOut:
    """Let readings of an asset be forgotten again when their time is over."""
    asset = scope.find(db, Asset, asset_id, viewer, "assets.read")
    scope.require(db, viewer, "assets.write", asset.unit_id)
    keeping.release(db, asset, actor=viewer.actor, now=clock.now())
    return _hold_of(db, asset)
