"""What the plot of an asset's page asks for: curves, the limits that hold now, alarms and orders in the range."""

from collections.abc import Sequence
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request
from fastapi.responses import JSONResponse
from sqlalchemy import select
from sqlalchemy.orm import Session

from api.access import Db, Parts, needs
from api.v1 import telemetry as readings
from api.web import curves
from assets import measured, types
from assets.models import Asset
from kernel import clock, i18n
from maintenance.orders.models import Order
from people import scope
from people.scope import Viewer
from rules import drawn
from rules.models import Alarm

router = APIRouter()
MOST_MARKS = 40
MOST_POINTS = 4000
SPANS = {"1h": 3_600_000, "24h": 86_400_000, "7d": 7 * 86_400_000, "30d": 30 * 86_400_000}


@router.get("/assets/{asset_id}/curve")
def asset_curve(
    request: Request,
    db: Db,
    parts: Parts,
    viewer: Annotated[Viewer, needs("telemetry.read")],
    asset_id: int,
    *,
    metric: Annotated[list[str], Query(max_length=10)] = [],  # noqa: B006 - FastAPI copies it
    from_: Annotated[str | None, Query(alias="from")] = None,
    to: str | None = None,
    span: str = "24h",
    points: Annotated[int, Query(ge=1)] = 800,
) -> JSONResponse:
    """Answer what the plot island draws: curves, the limits that hold now, alarms and orders in the range."""
    asset = scope.find(db, Asset, asset_id, viewer, "telemetry.read")
    start_ms, end_ms = window(from_, to, span)
    language = request.state.language
    described = types.metrics(db, asset.company_id, [asset.type_id])[asset.type_id]
    spans = measured.of_asset(db, asset.id, metric)
    lines = curves.lines(spans, described, lambda one: one.called(language), metric)
    count = min(points, MOST_POINTS)
    series = readings.asked(lambda: curves.draw(parts.store, lines, start_ms, end_ms, points=count))
    return JSONResponse(
        {
            "from": start_ms,
            "to": end_ms,
            "series": series,
            "limits": _limits(db, asset, lines, language),
            "marks": marks(db, viewer, asset, start_ms, end_ms, language),
        }
    )


def window(from_: str | None, to: str | None, span: str) -> tuple[int, int]:
    """Return the range asked for in milliseconds since 1970: what is zoomed to, else the last stretch of a name.

    Raises:
        Invalid: an end is no time, or the range is empty or reversed.
    """
    if from_ is not None or to is not None:
        return readings.interval(from_, to)
    end_ms = clock.now_ms()
    return end_ms - SPANS.get(span, SPANS["24h"]), end_ms


def _limits(db: Session, asset: Asset, lines: Sequence[curves.Line], language: str) -> list[dict[str, Any]]:
    """Return the limits on the metrics that share the first one's axis."""
    words = i18n.catalogue(language)
    same_axis = [line.key for line in lines if line.unit == lines[0].unit]
    found = {(one.severity, one.value): one for one in drawn.limits_of(db, asset, same_axis)} if same_axis else {}
    return [
        {
            "label": f"{words.get(one.severity.title(), one.severity.title())} {one.value:g}",
            "value": one.value,
            "severity": one.severity,
        }
        for one in found.values()
    ]


def marks(db: Session, viewer: Viewer, asset: Asset, start_ms: int, end_ms: int, language: str) -> list[dict[str, Any]]:
    """Return the alarms and orders of an asset in a range, those the viewer may see, as the plot island draws them."""
    start, end = clock.from_ms(start_ms), clock.from_ms(end_ms)
    alarms = db.scalars(
        select(Alarm)
        .where(
            Alarm.asset_id == asset.id,
            Alarm.raised_at < end,
            Alarm.is_active | (Alarm.ended_at > start),
            scope.visible(Alarm, viewer, "alarms.read"),
        )
        .order_by(Alarm.id.desc())
        .limit(MOST_MARKS)
    ).all()
    orders = db.scalars(
        select(Order)
        .where(
            Order.asset_id == asset.id,
            Order.created_at.between(start, end),
            scope.visible(Order, viewer, "orders.read"),
        )
        .order_by(Order.id.desc())
        .limit(MOST_MARKS)
    ).all()
    names = {alarm.id: alarm.alarm_type.called(language) if alarm.alarm_type else alarm.type_key for alarm in alarms}
    return [
        {
            "from": clock.to_ms(alarm.raised_at),
            "to": min(clock.to_ms(alarm.ended_at), end_ms) if alarm.ended_at else end_ms,
            "label": names[alarm.id],
            "severity": alarm.peak_severity,
            "href": f"/alarms/{alarm.id}",
        }
        for alarm in alarms
    ] + [
        {
            "from": clock.to_ms(order.created_at),
            "to": None,
            "label": order.number,
            "severity": None,
            "href": f"/orders/{order.id}",
        }
        for order in orders
    ]
