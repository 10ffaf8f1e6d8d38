"""Trends over JSON: which metrics are watched, and when they are foretold to reach their limit."""

from datetime import datetime
from typing import Annotated, Literal

from fastapi import APIRouter, Request, Response
from pydantic import BaseModel, ConfigDict, Field
from sqlalchemy import select
from sqlalchemy.orm import Session

from api.access import Db, needs
from api.forecaster import Forecaster
from api.v1.types import find as find_type
from assets.models import Asset
from kernel import clock
from kernel.errors import NotFound
from people import scope
from people.scope import Viewer
from rules import trends
from rules.trend_tables import TrendWatch

router = APIRouter(prefix="/trends", tags=["rules"])
Reader = Annotated[Viewer, needs("rules.read")]
Writer = Annotated[Viewer, needs("rules.write")]


class WatchIn(BaseModel):
    """What is to be told ahead of time."""

    metric: str = Field(max_length=80, description="Key of a numeric metric of the type.")
    limit: float = Field(allow_inf_nan=False)
    is_rising: bool = Field(True, description="Whether the limit is reached from below.")
    window_days: int = Field(90, description="How much of the past is looked at: 14 to 730 days.")
    lead_days: int = Field(30, description="An inspection is proposed this many days before the likely crossing.")

    def draft(self) -> trends.WatchDraft:
        """Return what it asks for."""
        return trends.WatchDraft(**self.model_dump())


class NewWatch(WatchIn):
    """A watch and the type of assets it is for, with the types below it."""

    asset_type_id: int


class WatchOut(NewWatch):
    """A watch."""

    model_config = ConfigDict(from_attributes=True)

    id: int


class ForecastOut(BaseModel):
    """What is foretold of one asset. The crossing lies between earliest and latest in about eight of ten cases."""

    model_config = ConfigDict(from_attributes=True)

    watch_id: int
    asset_id: int
    outlook: Literal["not_enough", "steady", "beyond", "crosses", "crossed"] | None
    shape: Literal["line", "accelerating"] | None
    days: int = Field(description="Days with readings it rests on.")
    level: float | None = Field(description="The fitted value at the time of working out.")
    per_day: float | None
    earliest_at: datetime | None
    likely_at: datetime | None
    latest_at: datetime | None
    worked_out_at: datetime | None


def find(db: Session, viewer: Viewer, watch_id: int) -> TrendWatch:
    """Return a watch of the viewer's company.

    Raises:
        NotFound: there is none.
    """
    query = select(TrendWatch).where(TrendWatch.id == watch_id, TrendWatch.company_id == viewer.company_id)
    found = db.scalars(query).one_or_none()
    if found is None:
        raise NotFound("There is nothing here, or it is not yours to see.")
    return found


def wake(request: Request) -> None:
    """Have forecasts worked out soon."""
    forecaster: Forecaster = request.app.state.forecaster
    forecaster.wake()


@router.get("")
def foretold(db: Db, viewer: Reader) -> list[ForecastOut]:
    """Return the crossings foretold within your sight, the nearest first; at most 200."""
    return [ForecastOut.model_validate(row) for row in trends.foretold(db, viewer)]


@router.get("/watches")
def watches(db: Db, viewer: Reader) -> list[WatchOut]:
    """Return what is watched in your company."""
    return [WatchOut.model_validate(row) for row in trends.watches(db, viewer.company_id)]


@router.post("/watches", status_code=201)
def watch(request: Request, db: Db, viewer: Writer, body: NewWatch) -> WatchOut:
    """Watch a metric of a type."""
    scope.require(db, viewer, "rules.write", viewer.company_id)
    kind = find_type(db, viewer, body.asset_type_id)
    draft = WatchIn(**body.model_dump(exclude={"asset_type_id"})).draft()
    made = trends.watch(db, kind, draft, actor=viewer.actor, now=clock.now())
    wake(request)
    return WatchOut.model_validate(made)


@router.put("/watches/{watch_id}")
def change(request: Request, db: Db, viewer: Writer, watch_id: int, body: WatchIn) -> WatchOut:
    """Change a watch; what it foretells is worked out anew."""
    watched = find(db, viewer, watch_id)
    scope.require(db, viewer, "rules.write", viewer.company_id)
    trends.change(db, watched, body.draft(), actor=viewer.actor, now=clock.now())
    wake(request)
    return WatchOut.model_validate(watched)


@router.delete("/watches/{watch_id}", status_code=204)
def stop(db: Db, viewer: Writer, watch_id: int) -> Response:
    """Watch it no more."""
    watched = find(db, viewer, watch_id)
    scope.require(db, viewer, "rules.write", viewer.company_id)
    trends.stop(db, watched, actor=viewer.actor, now=clock.now())
    return Response(status_code=204)


@router.get("/assets/{asset_id}")
def of_asset(db: Db, viewer: Reader, asset_id: int) -> list[ForecastOut]:
    """Return all that is foretold of an asset, whatever the outlook."""
    asset = scope.find(db, Asset, asset_id, viewer, "rules.read")
    return [ForecastOut.model_validate(row) for row in trends.of_asset(db, asset)]
