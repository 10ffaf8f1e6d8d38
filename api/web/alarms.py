"""What people do to alarms, several or one; and the page of one alarm with all it rests on."""

from datetime import datetime, timedelta
from typing import Annotated
from urllib.parse import urlencode

from fastapi import APIRouter, Form, Query, Request
from fastapi.responses import JSONResponse, Response
from pydantic import BaseModel
from sqlalchemy.orm import Session

from api.access import Db, Parts, needs
from api.v1 import alarms as v1
from api.v1 import telemetry as readings
from api.web import alarm_runs, alarm_why, alarms_view, curves, forms, pages
from assets import measured, types
from assets.models import Metric
from kernel import clock, i18n
from kernel.errors import Conflict, FixwrightError, Invalid
from maintenance.orders import dictionary, waiting
from people import oversight, scope
from people.scope import Viewer
from rules import alarm_desk, alarms, sentences
from rules.models import Alarm

router = APIRouter()
Reader = Annotated[Viewer, needs("alarms.read")]
Actor = Annotated[Viewer, needs("alarms.act")]
MOST_POINTS = 4000
AROUND = timedelta(minutes=30)
"""How much of a curve is shown before and after an alarm, at least."""


class Chosen(BaseModel):
    """The alarms ticked on the desk, and the address of the desk to go back to."""

    ids: list[str] = []
    back: str = "/alarms"


@router.post("/alarms/acknowledge")
def acknowledge_several(db: Db, viewer: Actor, form: Annotated[Chosen, Form()]) -> Response:
    """Acknowledge the alarms that were ticked."""
    ids = [number for text in form.ids[: v1.MOST_AT_ONCE] if (number := forms.whole(text, "ids")) is not None]
    done = v1.acknowledge_all(db, viewer, ids)
    back = form.back if form.back.startswith("/alarms") else "/alarms"
    return pages.go(back, notice=i18n.noop("{n} acknowledged."), n=done)


# One alarm ---------------------------------------------------------------------------------------------------------


@router.get("/alarms/{alarm_id}")
def alarm(request: Request, db: Db, viewer: Reader, alarm_id: int) -> Response:
    """Show an alarm: why, is it real, who has it."""
    return _page(request, db, viewer, alarm_id)


def _page(
    request: Request, db: Session, viewer: Viewer, alarm_id: int, *, errors: dict[str, str] | None = None
) -> Response:
    found = scope.find(db, Alarm, alarm_id, viewer, "alarms.read")
    history = alarm_desk.history_of(db, found)
    described = _metrics_of(db, found)
    start, end = _window(found, clock.now())
    shown = _shown_metrics(found, described)
    return pages.render(
        request,
        "alarms/alarm.html",
        status=422 if errors else 200,
        alarm=found,
        asset=found.asset,
        history=history,
        names=oversight.names(
            db,
            viewer,
            [*(entry.actor for entry in history), found.acknowledged_by or "", f"account:{found.assignee_id}"],
        ),
        described=described,
        why=alarm_why.of(db, viewer, found, described, request.state.language),
        sisters=alarm_desk.sisters(db, viewer, found),
        meaning=dictionary.of_alarm(db, found),
        alarm_code=found.type_key if found.origin == "device" and "seq" in found.evidence else None,
        twins=alarm_desk.twins(db, found),
        order=v1.orders_of(db, viewer, [found]).get(found.id),
        wait=waiting.of_alarm(db, found.id),
        runs=alarm_runs.of(db, viewer, found, request.state.language),
        src=f"/alarms/{found.id}/curve?" + urlencode({"metric": shown}, doseq=True) if shown else None,
        start=start,
        end=end,
        may_act=viewer.may("alarms.act"),
        attention=alarms_view.of(db, viewer, found, request.state.language),
        errors=errors or {},
    )


def _named(found: Alarm) -> tuple[str, str]:
    return found.acknowledged_by or "", f"account:{found.assignee_id}"


def _metrics_of(db: Session, found: Alarm) -> dict[str, Metric]:
    if found.asset is None:
        return {}
    return types.metrics(db, found.company_id, [found.asset.type_id])[found.asset.type_id]


def _window(found: Alarm, now: datetime) -> tuple[datetime, datetime]:
    """Return what of the curve is shown: the alarm with half its length, and half an hour at least, around it."""
    over = found.ended_at or now
    around = max(AROUND, (over - found.began_at) / 2)
    return found.began_at - around, min(over + around, now)


def _shown_metrics(found: Alarm, described: dict[str, Metric]) -> list[str]:
    """Return the metrics to draw: the one the alarm is about first, then others its rule compared; two axes at most."""
    named = [found.metric, *(sample["metric"] for sample in found.evidence.get("samples", ()))]
    return list(dict.fromkeys(key for key in named if key and (key in described or key == found.metric)))[:2]


@router.get("/alarms/{alarm_id}/curve")
def alarm_curve(
    request: Request,
    db: Db,
    parts: Parts,
    viewer: Reader,
    alarm_id: int,
    *,
    metric: Annotated[list[str], Query(max_length=4)] = [],  # noqa: B006 - FastAPI copies it
    from_: Annotated[str | None, Query(alias="from")] = None,
    to: str | None = None,
    points: Annotated[int, Query(ge=1)] = 800,
) -> JSONResponse:
    """Answer the curve of an alarm with the limits and samples that raised it, as they were then."""
    found = scope.find(db, Alarm, alarm_id, viewer, "alarms.read")
    now = clock.now()
    if from_ is None and to is None:
        start, end = _window(found, now)
        start_ms, end_ms = clock.to_ms(start), max(clock.to_ms(end), clock.to_ms(start) + 1)
    else:
        start_ms, end_ms = readings.interval(from_, to)
    language = request.state.language
    lines: list[curves.Line] = []
    if found.asset_id is not None:
        spans = measured.of_asset(db, found.asset_id, metric)
        lines = curves.lines(spans, _metrics_of(db, found), lambda one: one.called(language), metric)
    series = readings.asked(lambda: curves.draw(parts.store, lines, start_ms, end_ms, points=min(points, MOST_POINTS)))
    for line, drawn in zip(lines, series, strict=True):
        drawn["samples"] = [
            [sample["ts_ms"], sample["value"]]
            for sample in found.evidence.get("samples", ())
            if sample["metric"] == line.key and isinstance(sample["value"], int | float)
        ]
    axis = lines[0].key if lines else None
    return JSONResponse(
        {
            "from": start_ms,
            "to": end_ms,
            "series": series,
            "limits": [
                {
                    "label": f"{sentences.SIGNS.get(one['operator'], one['operator'])} {one['limit']:g}",
                    "value": one["limit"],
                    "severity": found.severity,
                }
                for one in found.evidence.get("limits", ())
                if one["metric"] == axis
            ],
            "marks": [
                {
                    "from": clock.to_ms(found.began_at),
                    "to": clock.to_ms(found.ended_at or now),
                    "label": found.alarm_type.called(language) if found.alarm_type else found.type_key,
                    "severity": found.peak_severity,
                    "href": None,
                }
            ],
        }
    )


class Words(BaseModel):
    """What a person writes on an alarm's page."""

    comment: str = ""
    reason: str = ""


@router.post("/alarms/{alarm_id}/acknowledge")
def acknowledge(
    request: Request, db: Db, viewer: Actor, alarm_id: int, form: Annotated[Words, Form()], back: str = ""
) -> Response:
    """Note that somebody has taken note."""
    found = v1.actable(db, viewer, alarm_id)
    try:
        is_first = alarms.acknowledge(db, found, by=viewer.actor, now=clock.now(), comment=form.comment.strip())
    except Invalid as error:
        return again(request, db, viewer, alarm_id, error)
    notice = i18n.noop("Acknowledged.") if is_first else i18n.noop("It was acknowledged already.")
    return pages.go(back if back.startswith("/alarms") else f"/alarms/{alarm_id}", notice=notice)


@router.post("/alarms/{alarm_id}/comment")
def comment(request: Request, db: Db, viewer: Actor, alarm_id: int, form: Annotated[Words, Form()]) -> Response:
    """Add a note to an alarm."""
    found = v1.actable(db, viewer, alarm_id)
    try:
        alarms.add_comment(db, found, form.comment, by=viewer.actor, now=clock.now())
    except Invalid as error:
        return again(request, db, viewer, alarm_id, error)
    return pages.go(f"/alarms/{alarm_id}#history")


@router.post("/alarms/{alarm_id}/clear")
def clear(request: Request, db: Db, viewer: Actor, alarm_id: int, form: Annotated[Words, Form()]) -> Response:
    """End an alarm on a person's word."""
    found = v1.actable(db, viewer, alarm_id)
    try:
        alarms.clear_by_hand(db, found, by=viewer.actor, reason=form.reason, now=clock.now())
    except (Invalid, Conflict) as error:
        return again(request, db, viewer, alarm_id, error)
    return pages.go(f"/alarms/{alarm_id}", notice=i18n.noop("Cleared. It is raised again if its rule matches again."))


def again(request: Request, db: Session, viewer: Viewer, alarm_id: int, error: FixwrightError) -> Response:
    """Show an alarm's page with what was refused."""
    db.rollback()
    return _page(request, db, viewer, alarm_id, errors=forms.refused(request, error))
