"""What the page of one asset holds: its values now, the work on it, its plans and parts, each in one query."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import func, select
from sqlalchemy.orm import Session, joinedload

from api.runtime import Runtime
from api.v1 import telemetry as readings
from api.web import curves
from assets import measured, types
from assets.models import Asset, Binding, Device, Metric
from kernel import clock
from maintenance.orders import lifecycle
from maintenance.orders.models import Order
from maintenance.parts.models import Movement, Part
from maintenance.plans.models import Plan
from people import scope
from people.scope import Viewer
from telemetry import quality
from telemetry.quality import Quality, Reason

A_DAY_MS = 86_400_000
MOST_ORDERS = 20
MOST_PLANS = 5
MOST_PARTS = 8
A_YEAR = timedelta(days=365)


@dataclass(frozen=True, slots=True)
class Value:
    """One metric as it is now, with its last day as a small curve; ``value`` is None before the first reading."""

    key: str
    metric: Metric | None
    value: float | bool | str | None
    at: datetime | None
    quality: Quality
    reason: Reason | None
    spark: Sequence[float | None]
    original: float | None
    original_unit: str | None


def values(session: Session, parts: Runtime, asset: Asset, *, now: datetime) -> list[Value]:
    """Return what is measured on an asset now, described metrics first and in their order."""
    described = types.metrics(session, asset.company_id, [asset.type_id])[asset.type_id]
    current = {one.metric: one for one in measured.now_on(session, [asset.id])}
    latest = parts.store.latest([one.series for one in current.values()])
    now_ms = clock.to_ms(now)
    numeric = [one.series for one in current.values() if one.series in latest and latest[one.series].text is None]
    small = curves.spark(parts.store, numeric, now_ms - A_DAY_MS, now_ms)
    order = {key: (metric.position, key) for key, metric in described.items()}
    made = []
    for key, one in sorted(current.items(), key=lambda pair: order.get(pair[0], (10_000, pair[0]))):
        found = latest.get(one.series)
        metric = described.get(key)
        made.append(
            Value(
                key,
                metric,
                None if found is None else readings.value_of(found),
                None if found is None else clock.from_ms(found.ts_ms),
                "good" if found is None else readings.quality_of(found, metric, now_ms),
                None if found is None else quality.reason(found.flags),
                small.get(one.series, ()),
                **({"original": None, "original_unit": None} if found is None else readings.original_of(found, metric)),
            )
        )
    return made


def default_metrics(found: Sequence[Value]) -> list[str]:
    """Return what a curve shows unless told otherwise: up to three gauges of at most two units."""
    chosen: list[str] = []
    units: set[str] = set()
    for value in found:
        is_gauge = value.metric is None or value.metric.kind == "gauge"
        if not is_gauge or isinstance(value.value, str | bool | None) or len(chosen) == 3:  # noqa: PLR2004 - three
            continue
        unit = value.metric.unit if value.metric else ""
        if unit in units or len(units) < 2:  # noqa: PLR2004 - a plot has a left and a right axis
            chosen.append(value.key)
            units.add(unit)
    return chosen


def open_orders(session: Session, viewer: Viewer, asset: Asset) -> Sequence[Order]:
    """Return the open orders on an asset and its parts, the most urgent first."""
    below = select(Asset.id).where(Asset.path.startswith(asset.path))
    return session.scalars(
        select(Order)
        .where(
            Order.asset_id.in_(below),
            Order.phase.not_in(lifecycle.ENDED),
            scope.visible(Order, viewer, "orders.read"),
        )
        .options(joinedload(Order.assignee), joinedload(Order.asset))
        .order_by(Order.priority, Order.id.desc())
        .limit(MOST_ORDERS)
    ).all()


def plans(session: Session, viewer: Viewer, asset: Asset) -> Sequence[Plan]:
    """Return the plans of an asset that come next."""
    return session.scalars(
        select(Plan)
        .where(Plan.asset_id == asset.id, Plan.is_active, scope.visible(Plan, viewer, "plans.read"))
        .order_by(Plan.next_due_at.nulls_last(), Plan.id)
        .limit(MOST_PLANS)
    ).all()


def parts_used(session: Session, viewer: Viewer, asset: Asset, *, now: datetime) -> Sequence[Any]:
    """Return (part, quantity) put into an asset within a year, what was given back taken off, the most used first."""
    used = -func.sum(Movement.quantity)
    return session.execute(
        select(Part, used.label("quantity"))
        .join(Movement, Movement.part_id == Part.id)
        .join(Order, Order.id == Movement.order_id)
        .where(
            Order.asset_id == asset.id,
            Movement.kind.in_(("issue", "return")),
            Movement.at > now - A_YEAR,
            scope.visible(Order, viewer, "parts.read"),
        )
        .group_by(Part.id)
        .having(used > 0)
        .order_by(used.desc(), Part.id)
        .limit(MOST_PARTS)
    ).all()


def devices(session: Session, asset: Asset) -> Sequence[Device]:
    """Return the devices that measure an asset now."""
    return session.scalars(
        select(Device)
        .join(Binding, Binding.device_id == Device.id)
        .where(Binding.asset_id == asset.id, Binding.ends_at.is_(None))
        .order_by(Device.key)
    ).all()
