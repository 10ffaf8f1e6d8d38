"""The figures of the alarm system over JSON: how many alarms, how evenly, how useful (EEMUA 191, ISA-18.2)."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Annotated

from fastapi import APIRouter, Query
from pydantic import BaseModel, Field
from sqlalchemy import select
from sqlalchemy.orm import Session

from api.access import Db, needs
from api.v1 import telemetry as readings
from kernel import clock
from kernel.errors import Invalid, NotFound
from people import scope
from people.models import OrgUnit
from people.scope import Viewer
from rules import alarm_figures
from rules.alarm_figures import Figures, Load

router = APIRouter(prefix="/alarms/figures", tags=["alarms"])
Reader = Annotated[Viewer, needs("alarms.read")]
LONGEST = timedelta(days=366)
USUAL_DAYS = 30
MOST_UNITS = 500


class FloodOut(BaseModel):
    """A flood: from the first ten minutes with more than ten alarms to the last before fewer than five."""

    start: datetime
    end: datetime
    alarms: int


class LoadOut(BaseModel):
    """How many alarms were announced, and how they were spread over spans of ten minutes."""

    announced: int
    average: float = Field(description="In ten minutes.")
    peak: int = Field(description="The most in ten minutes.")
    peak_at: datetime | None
    flood_percent: float = Field(description="Share of time in flood.")
    floods: list[FloodOut]


class DeskOut(LoadOut):
    """The same for one org unit by itself."""

    unit_id: int


class ActorOut(BaseModel):
    """One alarm on one thing, and its share of all; ``alarm_id`` is the latest."""

    subject: str
    type: str
    alarm_id: int
    count: int
    percent: float
    chattering: bool = Field(description="Held as one for coming and going: it came far oftener than was counted.")


class FiguresOut(LoadOut):
    """The figures of a period."""

    from_: datetime = Field(serialization_alias="from")
    to: datetime
    desks: list[DeskOut]
    top: list[ActorOut] = Field(description="The ten that came most often, those that chatter first.")
    top_percent: float
    severities: dict[str, int]
    priorities: dict[str, float] = Field(description="Per cent high (critical), medium (major) and low (the rest).")
    advised: dict[str, int] = Field(description="Per cent of each priority that EEMUA 191 advises.")
    fleeting: int = Field(description="Over within a minute.")
    stale: int = Field(description="Had stood for more than a day at the end of the period.")
    chattering: int = Field(description="With which three raise-clear pairs fell within a minute.")
    acknowledged: int
    waiting: int = Field(description="Not acknowledged yet.")
    acknowledged_median_s: float | None
    acknowledged_slow_s: float | None = Field(description="Nine out of ten were acknowledged faster.")


@router.get("")
def figures(
    db: Db,
    viewer: Reader,
    *,
    from_: Annotated[str | None, Query(alias="from", description="ISO 8601 or ms; 30 days ago unless given.")] = None,
    to: Annotated[str | None, Query(description="The same; now unless given.")] = None,
    unit: Annotated[int | None, Query(description="An org unit with all below it.")] = None,
) -> FiguresOut:
    """Return the figures of the alarms announced in a period."""
    start, end = period(from_, to)
    return shown(measured(db, viewer, start, end, unit))


def period(from_: str | None, to: str | None) -> tuple[datetime, datetime]:
    """Return the period asked for, or the last 30 days.

    Raises:
        Invalid: it is empty or longer than a year, or an end is no time.
    """
    if from_ is None and to is None:
        return alarm_figures.last(USUAL_DAYS, clock.now())
    end_ms = clock.now_ms() if to is None else readings.interval("0", to)[1]
    usual = end_ms - round(timedelta(days=USUAL_DAYS) / timedelta(milliseconds=1))
    start, end = (clock.from_ms(ms) for ms in readings.interval(str(usual) if from_ is None else from_, str(end_ms)))
    if end - start > LONGEST:
        raise Invalid("A period is at most a year long.", field="from")
    return start, end


def measured(db: Session, viewer: Viewer, start: datetime, end: datetime, unit: int | None) -> Figures:
    """Return the figures of a period and unit.

    Raises:
        NotFound: the unit is not within the viewer's sight.
    """
    if unit is not None:
        in_sight(db, viewer, unit)
    return alarm_figures.measure(db, viewer, start, end, unit_id=unit)


def in_sight(db: Session, viewer: Viewer, unit: int) -> OrgUnit:
    """Return an org unit whose alarms the viewer sees.

    Raises:
        NotFound: they do not.
    """
    found = db.scalars(
        select(OrgUnit).where(OrgUnit.id == unit, OrgUnit.id.in_(scope.units(viewer, "alarms.read")))
    ).one_or_none()
    if found is None:
        raise NotFound("There is nothing here, or it is not yours to see.")
    return found


def units(db: Session, viewer: Viewer) -> Sequence[OrgUnit]:
    """Return the org units whose alarms the viewer sees, each before those below it."""
    return db.scalars(
        select(OrgUnit)
        .where(OrgUnit.id.in_(scope.units(viewer, "alarms.read")))
        .order_by(OrgUnit.path)
        .limit(MOST_UNITS)
    ).all()


def shown(found: Figures) -> FiguresOut:
    """Return figures as they are answered."""
    return FiguresOut(
        from_=found.start,
        to=found.end,
        **_load(found, found.load),
        desks=[DeskOut(unit_id=unit, **_load(found, load)) for unit, load in found.desks],
        top=[
            ActorOut(
                subject=one.subject,
                type=one.type_key,
                alarm_id=one.alarm_id,
                count=one.count,
                percent=one.percent,
                chattering=one.is_chattering,
            )
            for one in found.top
        ],
        top_percent=found.top_percent,
        severities=dict(found.severities),
        priorities=dict(found.priorities),
        advised=dict(alarm_figures.AIM),
        fleeting=found.fleeting,
        stale=found.stale,
        chattering=found.chattering,
        acknowledged=found.reaction.acknowledged,
        waiting=found.reaction.waiting,
        acknowledged_median_s=found.reaction.median_s,
        acknowledged_slow_s=found.reaction.slow_s,
    )


def _load(found: Figures, load: Load) -> dict[str, object]:
    return {
        "announced": load.announced,
        "average": load.average,
        "peak": load.peak,
        "peak_at": load.peak_at,
        "flood_percent": load.flood_percent,
        "floods": [
            FloodOut(start=found.span_at(one.first), end=found.span_at(one.last + 1), alarms=one.alarms)
            for one in load.floods
        ],
    }
