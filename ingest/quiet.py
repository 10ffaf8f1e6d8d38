"""Devices of which nothing is heard: when one is missed, and the alarm that says so (ING-15, ING-8).

A device is missed when it has been silent, or offline, for longer than its limit: so many times the interval its type
expects, or a limit of its own. One without a limit is missed a minute after it went offline, and never for silence.
A gateway is missed after half a minute, and what lies behind it is unreachable and not missed: one alarm, not a
thousand. Silence counts from when we listened again (``ingest.watch``), so that an outage of ours is not theirs.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from sqlalchemy import BigInteger, Float, Row, String, and_, case, cast, exists, func, literal, or_, select, update
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.orm import Session, aliased

from assets import quietness
from assets.models import Asset, Binding, ConnectionChange, Device
from ingest import status
from rules import alarms
from rules.episodes import Fault, Over, Seen, Sighting

UNWRITTEN_S: Final = 20.0
"""By how much ``last_seen_at`` may lag behind what was heard: it is written every 15 s only."""
OFFLINE_S: Final = 60.0
GATEWAY_S: Final = 30.0
GATEWAY_SEVERITY: Final = "major"
_MOST: Final = 5000
_OFF: Final = "off"


@dataclass(frozen=True, slots=True)
class Missed:
    """A device that is missed: since when, why (*silence* or *offline*), and how severe that is."""

    device_id: int
    fault: Fault
    since: datetime
    cause: str
    severity: str


def look(session: Session, *, listening_since: datetime, now: datetime) -> tuple[int, int]:
    """Mark devices that are missed from now on, and those that are back; return how many of each."""
    back = _back(session, now)
    missed = _missed(session, listening_since, now)
    status.tell(session, {one.device_id: False for one in missed if one.cause == "silence"}, now=now, cause="silence")
    for one in missed:
        session.execute(
            update(Device)
            .where(Device.id == one.device_id)
            .values(quiet_since=one.since)
            .execution_options(synchronize_session=False)
        )
    sightings: list[Sighting] = [
        Seen(
            one.fault,
            one.severity,
            one.since,
            now,
            message=f"Nothing has been heard since {one.since:%Y-%m-%d %H:%M} UTC.",
            evidence={"since": one.since.isoformat(), "cause": one.cause},
        )
        for one in missed
        if one.severity != _OFF
    ]
    alarms.take(session, sightings, now=now)
    return len(missed), back


def _missed(session: Session, listening_since: datetime, now: datetime) -> list[Missed]:
    child = aliased(Device)
    is_gateway = exists().where(child.gateway_id == Device.id)
    kinds = quietness.of_types(session)
    kind = (
        func.unnest(
            cast([one.type_id for one in kinds], ARRAY(BigInteger)),
            cast([one.limit_s for one in kinds], ARRAY(Float)),
            cast([one.severity for one in kinds], ARRAY(String)),
        )
        .table_valued("type_id", "limit_s", "severity", name="kind")
        .render_derived()
    )
    limit = func.nullif(func.coalesce(cast(Device.quiet_after_s, Float), kind.c.limit_s), 0.0)
    # A gateway is heard whenever one of its children is.
    heard = func.greatest(
        Device.last_seen_at, select(func.max(child.last_seen_at)).where(child.gateway_id == Device.id).scalar_subquery()
    )
    counted = func.greatest(Device.online_changed_at, cast(literal(listening_since), Device.online_changed_at.type))
    patience = case((is_gateway, GATEWAY_S), else_=func.greatest(func.coalesce(limit, 0.0), OFFLINE_S))
    is_gone = and_(Device.connection == "offline", counted + _seconds(patience) <= now)
    is_silent = and_(
        Device.connection == "online",
        limit.is_not(None),
        func.greatest(Device.last_seen_at, counted) + _seconds(limit + UNWRITTEN_S) <= now,
        func.greatest(heard, counted) + _seconds(limit + UNWRITTEN_S) <= now,
    )
    severity = func.coalesce(
        Device.quiet_severity, case((is_gateway, GATEWAY_SEVERITY), else_=kind.c.severity), quietness.SEVERITY
    )
    rows = session.execute(
        select(
            Device.id,
            Device.company_id,
            func.coalesce(Asset.unit_id, Device.unit_id).label("unit_id"),
            Asset.id.label("asset_id"),
            Device.connection,
            is_gateway.label("is_gateway"),
            case((Device.connection == "online", func.coalesce(heard, counted)), else_=counted).label("since"),
            severity.label("severity"),
        )
        .outerjoin(Binding, (Binding.device_id == Device.id) & Binding.ends_at.is_(None))
        .outerjoin(Asset, Asset.id == Binding.asset_id)
        .outerjoin(kind, kind.c.type_id == Asset.type_id)
        .where(Device.revoked_at.is_(None), Device.quiet_since.is_(None), or_(is_gone, is_silent))
        .order_by(Device.id)
        .limit(_MOST)
    )
    return [_found(row) for row in rows]


def _seconds(number: Any) -> Any:  # noqa: ANN401 - expressions
    return func.make_interval(0, 0, 0, 0, 0, 0, number)


def _found(row: Row[Any]) -> Missed:
    key = "gateway_down" if row.is_gateway else "device_quiet"
    fault = Fault(
        f"device:{row.id}", key, "device", f"device:{row.id}", row.company_id, row.unit_id, row.asset_id, row.id
    )
    cause = "silence" if row.connection == "online" else "offline"
    return Missed(row.id, fault, row.since, cause, row.severity)


def _back(session: Session, now: datetime) -> int:
    """End the alarms of devices that are heard again, or that nobody waits for any more."""
    back = session.execute(
        update(Device)
        .where(Device.quiet_since.is_not(None), or_(Device.connection == "online", Device.revoked_at.is_not(None)))
        .values(quiet_since=None)
        .returning(Device.id, Device.company_id, Device.unit_id)
        .execution_options(synchronize_session=False)
    ).all()
    over = [
        Over(Fault(subject, key, "device", subject, row.company_id, row.unit_id, None, row.id), now)
        for row in back
        for subject in (f"device:{row.id}",)
        for key in ("device_quiet", "gateway_down")
    ]
    alarms.take(session, over, now=now)
    return len(back)


def changes_of(session: Session, device_id: int, *, limit: int) -> Sequence[ConnectionChange]:
    """Return how a device came and went, the latest first."""
    return session.scalars(
        select(ConnectionChange)
        .where(ConnectionChange.device_id == device_id)
        .order_by(ConnectionChange.at.desc(), ConnectionChange.id.desc())
        .limit(limit)
    ).all()
