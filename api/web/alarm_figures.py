"""The page of figures: is the alarm system any good, and which alarms make it worse?"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request
from fastapi.responses import Response
from sqlalchemy import select
from sqlalchemy.orm import Session, joinedload

from api.access import Db, needs
from api.v1 import alarm_figures as v1
from api.web import forms, pages
from kernel import clock
from people.models import OrgUnit
from people.scope import Viewer
from rules import alarm_figures, flood
from rules.alarm_figures import Figures
from rules.models import SEVERITIES, Alarm

router = APIRouter()
Reader = Annotated[Viewer, needs("alarms.read")]
PERIODS = (1, 7, 30, 90)
MOST_FLOODS = 12
COLUMNS = 48
"""Into how many spans the curve of the period is cut."""


@dataclass(frozen=True, slots=True)
class Shown:
    """One of the top ten with what it is called."""

    alarm: Alarm
    count: int
    percent: float
    is_chattering: bool


@router.get("/alarms/figures")
def figures(
    request: Request, db: Db, viewer: Reader, days: Annotated[int, Query(ge=1, le=366)] = v1.USUAL_DAYS, unit: str = ""
) -> Response:
    """Show the figures of the last days, of all within sight or of one unit."""
    start, end = alarm_figures.last(days, clock.now())
    chosen = forms.whole(unit, "unit")
    found = v1.measured(db, viewer, start, end, chosen)
    units = v1.units(db, viewer)
    names = {one.id: one.called(request.state.language) for one in units}
    return pages.render(
        request,
        "alarms/figures.html",
        figures=found,
        days=days,
        periods=PERIODS,
        unit=chosen,
        units=[(one.id, _indented(one, names)) for one in units],
        names=names,
        top=_named(db, found),
        severities=SEVERITIES,
        aim=alarm_figures.AIM,
        of_priority=alarm_figures.PRIORITIES,
        floods=sorted(found.load.floods, key=lambda one: -one.alarms)[:MOST_FLOODS],
        behind={"since": start.isoformat(), "until": end.isoformat(), "state": "all", "unit": chosen, "announced": 1},
        span=flood.SPAN,
        flood=flood,
        trend=_trend(found),
    )


def _indented(unit: OrgUnit, names: dict[int, str]) -> str:
    above = sum(int(step) in names for step in unit.path.split("/") if step) - 1
    return "  " * above + names[unit.id]


def _named(db: Session, found: Figures) -> Sequence[Shown]:
    rows = db.scalars(
        select(Alarm)
        .where(Alarm.id.in_([one.alarm_id for one in found.top]))
        .options(joinedload(Alarm.asset), joinedload(Alarm.device), joinedload(Alarm.alarm_type))
    )
    by_id = {row.id: row for row in rows}
    return [Shown(by_id[one.alarm_id], one.count, one.percent, one.is_chattering) for one in found.top]


def _trend(found: Figures) -> list[dict[str, Any]]:
    """Return the period cut into columns: when each begins, how many alarms it had, and its height in per cent."""
    columns = min(COLUMNS, round((found.end - found.start) / timedelta(hours=1)))
    width = (found.end - found.start) / columns
    counts = alarm_figures.spread(found, columns)
    most = max(counts) or 1
    return [
        {"since": found.start + turn * width, "until": found.start + (turn + 1) * width, "count": one, "of": one / most}
        for turn, one in enumerate(counts)
    ]
