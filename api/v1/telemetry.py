"""Readings over JSON: the latest of each metric; and what every question about a curve has to settle first."""

import math
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Annotated, Any, TypeVar
from zoneinfo import ZoneInfo

import numpy as np
from fastapi import APIRouter, Query
from pydantic import BaseModel, Field
from sqlalchemy import select
from sqlalchemy.orm import Session

from api import paging
from api.access import Db, Parts, needs
from api.v1 import steps
from assets import measured, types
from assets.models import Asset, Binding, Device, Metric, Site
from kernel import clock
from kernel.errors import Invalid
from people import scope
from people.scope import Viewer
from rules.standing import held_for_ms
from telemetry import quality
from telemetry.models import Series
from telemetry.quality import Quality, Reason
from telemetry.readings import Flag, Latest

router = APIRouter(prefix="/telemetry", tags=["telemetry"])
Reader = Annotated[Viewer, needs("telemetry.read")]
MOST_POINTS = 5000
MOST_METRICS = 50
MOST_PERCENTILES = 10
DAY_MS = 86_400_000
LONGEST_HOLD_MS = 366 * DAY_MS
Answer = TypeVar("Answer")


class Reading(BaseModel):
    """The newest reading of one metric of one device, and the asset it speaks for now."""

    series_id: int
    asset_id: int | None
    device_id: int
    metric: str
    unit: str
    value: float | bool | str | None
    ts: int = Field(description="Device time, milliseconds since 1970.")
    age_s: float = Field(description="Seconds since then.")
    quality: Quality = Field(description="bad, stale (older than it speaks for), uncertain or good.")
    reason: Reason | None = Field(description="What makes it uncertain: a stuck sensor, or a wrong clock.")
    original: float | None = Field(default=None, description="When asked for: the number in the unit it was sent in.")
    original_unit: str | None = Field(default=None, description="That unit.")


@router.get("/latest", response_model_exclude_unset=True)
def latest(
    db: Db,
    parts: Parts,
    viewer: Reader,
    *,
    asset: Annotated[list[int], Query(description="Assets; several may be named.", max_length=500)] = [],  # noqa: B006
    device: Annotated[list[int], Query(description="Devices; several may be named.", max_length=500)] = [],  # noqa: B006
    site: Annotated[int | None, Query(description="All assets of a site.")] = None,
    original: Annotated[bool, Query(description="Answer converted numbers also as they were sent.")] = False,
    limit: paging.Limit = 500,
    cursor: paging.Cursor = None,
) -> paging.Page[Reading]:
    """List the newest reading of each metric of devices, of assets as they are measured now, or of all in sight."""
    after = paging.read(cursor, (int,))
    query = (
        select(Series.id, Series.device_id, Series.metric, Binding.asset_id, Asset.type_id)
        .join(Device, Device.id == Series.device_id)
        .outerjoin(Binding, (Binding.device_id == Device.id) & Binding.ends_at.is_(None))
        .outerjoin(Asset, Asset.id == Binding.asset_id)
        .where(scope.visible(Device, viewer, "telemetry.read"))
        .order_by(Series.id)
        .limit(limit + 1)
    )
    if asset:
        query = query.where(Binding.asset_id.in_(asset), scope.visible(Asset, viewer, "telemetry.read"))
    if device:
        query = query.where(Device.id.in_(device))
    if site is not None:
        query = query.where(Asset.site_id == site, scope.visible(Asset, viewer, "telemetry.read"))
    if after is not None:
        query = query.where(Series.id > after[0])
    rows, following = paging.cut(db.execute(query).all(), limit, lambda row: (row.id,))
    known = parts.store.latest([row.id for row in rows])
    described = types.metrics(db, viewer.company_id, {row.type_id for row in rows if row.type_id is not None})
    now_ms = clock.now_ms()
    return paging.Page(
        items=[
            Reading(
                series_id=row.id,
                asset_id=row.asset_id,
                device_id=row.device_id,
                metric=row.metric,
                unit=unit_of(metric),
                value=value_of(known[row.id]),
                ts=known[row.id].ts_ms,
                age_s=round((now_ms - known[row.id].ts_ms) / 1000, 3),
                quality=quality_of(known[row.id], metric, now_ms),
                reason=quality.reason(known[row.id].flags),
                **(original_of(known[row.id], metric) if original else {}),
            )
            for row in rows
            for metric in [described.get(row.type_id, {}).get(row.metric)]
            if row.id in known
        ],
        next=following,
    )


def zone_of(db: Session, name: str | None, asset_id: int | None, device_id: int | None) -> ZoneInfo:
    """Return the zone that is named, else that of the site where an asset, or what a device measures, stands.

    Raises:
        Invalid: there is no such zone.
    """
    if name is not None:
        return steps.zone(name)
    query = select(Site.zone).join(Asset, Asset.site_id == Site.id)
    if asset_id is not None:
        query = query.where(Asset.id == asset_id)
    else:
        bound = Binding.device_id == device_id, Binding.ends_at.is_(None)
        query = query.join(Binding, Binding.asset_id == Asset.id).where(*bound)
    return steps.zone(db.scalar(query) or "UTC")


def spans_of(
    db: Session, viewer: Viewer, asset_id: int | None, device_id: int | None, metrics: list[str]
) -> tuple[list[measured.Span], dict[str, Metric]]:
    """Return what to read for an asset or a device, and how its metrics are described.

    Raises:
        NotFound: the asset or device lies outside the viewer's sight.
        Invalid: not exactly one of them is named, or more metrics than one answer holds.
    """
    if (asset_id is None) == (device_id is None):
        raise Invalid("Please name either an asset or a device.", field="asset")
    if asset_id is not None:
        asset = scope.find(db, Asset, asset_id, viewer, "telemetry.read")
        spans = measured.of_asset(db, asset.id, metrics or None)
        described = types.metrics(db, asset.company_id, [asset.type_id])[asset.type_id]
    else:
        assert device_id is not None  # noqa: S101 - exactly one is named
        device = scope.find(db, Device, device_id, viewer, "telemetry.read")
        spans = measured.of_device(db, device.id, metrics or None)
        type_id = db.scalar(
            select(Asset.type_id)
            .join(Binding, Binding.asset_id == Asset.id)
            .where(Binding.device_id == device.id, Binding.ends_at.is_(None))
        )
        described = {} if type_id is None else types.metrics(db, device.company_id, [type_id])[type_id]
    if len({span.metric for span in spans}) > MOST_METRICS:
        raise Invalid("Please name at most {most} metrics.", field="metric", most=MOST_METRICS)
    return spans, described


def interval(start: str | None, end: str | None) -> tuple[int, int]:
    """Return a range in milliseconds since 1970: the last day unless told otherwise.

    Raises:
        Invalid: an end is no time, or the range is empty or reversed.
    """
    end_ms = clock.now_ms() if end is None else _instant(end, "to")
    start_ms = end_ms - DAY_MS if start is None else _instant(start, "from")
    if end_ms <= start_ms:
        raise Invalid("The end of the range must lie after its beginning.", field="to")
    return start_ms, end_ms


def _instant(text: str, field: str) -> int:
    try:
        if text.lstrip("-").isdigit():
            clock.from_ms(int(text))
            return int(text)
        moment = datetime.fromisoformat(text.replace(" ", "+"))
        return clock.to_ms(moment if moment.tzinfo else moment.replace(tzinfo=UTC))
    except (ValueError, OverflowError, OSError) as error:
        raise Invalid("This is no time: {text}", field=field, text=text[:60]) from error


def asked(read: Callable[[], Answer]) -> Answer:
    """Return what a store answers; a range it refuses is the asker's mistake.

    Raises:
        Invalid: the range is longer than a century, or asks for too much at once.
    """
    try:
        return read()
    except ValueError as error:
        raise Invalid("The range cannot be read: {reason}.", field="from", reason=str(error)) from error


def unit_of(metric: Metric | None) -> str:
    """Return a metric's unit; an undescribed one has none."""
    return metric.unit if metric else ""


def value_of(reading: Latest) -> float | bool | str | None:
    """Return a reading's value in its own type; a number float64 only approximates as its digits."""
    if reading.text is not None:
        return reading.text
    if reading.flags & Flag.BOOLEAN:
        return bool(reading.value)
    return None if math.isnan(reading.value) else reading.value


def quality_of(reading: Latest, metric: Metric | None, now_ms: int) -> Quality:
    """Return the quality of a newest reading in a word; it is stale when rules no longer use it (SEMANTICS A8)."""
    return quality.of(reading.flags, is_stale=now_ms - reading.ts_ms > held_for_ms(metric))


def original_of(reading: Latest, metric: Metric | None) -> dict[str, Any]:
    """Return ``original`` and ``original_unit`` of a newest reading, None where it was not converted."""
    if reading.sent is None:
        return {"original": None, "original_unit": None}
    unit = None if metric is None else metric.unit_of(np.array([reading.sent]), np.array([reading.value]))[0]
    return {"original": reading.sent, "original_unit": unit}
