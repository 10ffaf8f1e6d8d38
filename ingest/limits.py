"""What devices may send, where people say otherwise than the settings: by device, and by type of machine (ING-16).

A device follows its own row, else that of its machine's type or of the nearest type that one inherits from, else the
settings. Rates are of devices: what a company may send altogether stays with the installation, so nobody can grant
himself the whole of it. The running ingest takes a change up with its next look, within a second.
"""

from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from assets.models import Asset, AssetType, Binding, Device
from ingest.allowance import Rates
from ingest.decoded import Reason
from ingest.events import IntakeLimitChanged
from ingest.models import IntakeLimit, RejectedMessage
from kernel import audit, events
from kernel.errors import Invalid
from people import scope
from people.scope import Viewer

MOST: Final = 1_000_000.0


@dataclass(frozen=True, slots=True)
class Limit:
    """Messages and readings a second; 0 is no limit."""

    messages: float
    points: float


@dataclass(frozen=True, slots=True)
class Stated:
    """All that people have said: by device, and by type with what types inherit worked out."""

    of_device: dict[int, Limit] = field(default_factory=dict)
    of_type: dict[int, Limit] = field(default_factory=dict)

    def rates(self, device_id: int, type_id: int | None, usual: Rates) -> Rates:
        """Return what a device on a machine of a type may send."""
        found = self.of_device.get(device_id) or self.of_type.get(type_id or 0)
        return usual if found is None else Rates(found.messages, found.points, usual.burst_s)

    def every(self, usual: Rates) -> list[Rates]:
        """Return all the rates that any device may have."""
        own = [*self.of_device.values(), *self.of_type.values()]
        return [usual, *(Rates(one.messages, one.points, usual.burst_s) for one in own)]


def load(session: Session) -> Stated:
    """Return all that people have said."""
    rows = session.scalars(select(IntakeLimit)).all()
    of_device = {row.device_id: Limit(row.messages, row.points) for row in rows if row.device_id is not None}
    own = {row.asset_type_id: Limit(row.messages, row.points) for row in rows if row.asset_type_id is not None}
    if not own:
        return Stated(of_device)
    rows_of_types = session.execute(select(AssetType.id, AssetType.parent_id))
    parents: dict[int, int | None] = {identity: parent for identity, parent in rows_of_types}  # noqa: C416 - rows are no pairs to mypy
    of_type = {}
    for type_id in parents:
        step: int | None = type_id
        while step is not None and step not in own:
            step = parents.get(step)
        if step is not None:
            of_type[type_id] = own[step]
    return Stated(of_device, of_type)


@dataclass(frozen=True, slots=True)
class Over:
    """A device that sent more than it may: how many of its messages were rejected for it, and when the last was."""

    device_id: int
    key: str
    name: str
    rejected: int
    last_at: datetime


def over(session: Session, viewer: Viewer, *, since: datetime, limit: int) -> list[Over]:
    """Return the devices within sight that were over their limit since an instant, the worst first."""
    times = func.sum(RejectedMessage.repeats)
    rows = session.execute(
        select(Device.id, Device.key, Device.name, times, func.max(RejectedMessage.received_at))
        .join(Device, Device.key == RejectedMessage.device_key)
        .where(
            RejectedMessage.first_at >= since,
            RejectedMessage.reason == Reason.OVER_LIMIT,
            RejectedMessage.unit_id.in_(scope.units(viewer, "ingest.read")),
        )
        .group_by(Device.id)
        .order_by(times.desc(), Device.id)
        .limit(limit)
    )
    return [Over(identity, key, name, int(count), last_at) for identity, key, name, count, last_at in rows]


def of_device(session: Session, device: Device) -> Limit | None:
    """Return what was said of one device itself."""
    return _told(session.scalars(select(IntakeLimit).where(IntakeLimit.device_id == device.id)).one_or_none())


def of_type(session: Session, kind: AssetType) -> Limit | None:
    """Return what was said of one type itself."""
    return _told(session.scalars(select(IntakeLimit).where(IntakeLimit.asset_type_id == kind.id)).one_or_none())


@dataclass(frozen=True, slots=True)
class Source:
    """A limit that applies, and of which type it was said; None where of the device itself."""

    limit: Limit
    kind: AssetType | None = None


def source_of_device(session: Session, device: Device) -> Source | None:
    """Return what applies to a device, as ``Stated.rates`` has it; None where the settings do."""
    own = of_device(session, device)
    if own is not None:
        return Source(own)
    kind = session.scalars(
        select(AssetType)
        .join(Asset, Asset.type_id == AssetType.id)
        .join(Binding, Binding.asset_id == Asset.id)
        .where(Binding.device_id == device.id, Binding.ends_at.is_(None))
    ).one_or_none()
    return None if kind is None else source_of_type(session, kind)


def source_of_type(session: Session, kind: AssetType) -> Source | None:
    """Return what applies to devices on machines of a type without their own word; None where the settings do."""
    step: AssetType | None = kind
    while step is not None:
        said = of_type(session, step)
        if said is not None:
            return Source(said, step)
        step = None if step.parent_id is None else session.get(AssetType, step.parent_id)
    return None


def set_device(session: Session, device: Device, wanted: Limit | None, *, actor: str, now: datetime) -> None:
    """Say what a device may send; None lets it follow its type, or the settings, again.

    Raises:
        Invalid: a rate is negative or absurd.
    """
    row = session.scalars(select(IntakeLimit).where(IntakeLimit.device_id == device.id)).one_or_none()
    made = IntakeLimit(device_id=device.id)
    if _put(session, row, made, wanted, f"device:{device.id}", device.company_id, actor, now):
        event = IntakeLimitChanged(device_id=device.id)
        events.emit(session, event, subject=f"device:{device.id}", at=now, actor=actor, unit_id=device.unit_id)


def set_type(session: Session, kind: AssetType, wanted: Limit | None, *, actor: str, now: datetime) -> None:
    """Say what each device on machines of a type may send; None inherits again.

    Raises:
        Invalid: a rate is negative or absurd.
    """
    row = session.scalars(select(IntakeLimit).where(IntakeLimit.asset_type_id == kind.id)).one_or_none()
    made = IntakeLimit(asset_type_id=kind.id)
    if _put(session, row, made, wanted, f"type:{kind.id}", kind.company_id, actor, now):
        event = IntakeLimitChanged(asset_type_id=kind.id)
        events.emit(session, event, subject=f"type:{kind.id}", at=now, actor=actor, unit_id=kind.company_id)


def _put(  # noqa: PLR0917 - the row before, the row to be, and who says so
    session: Session,
    row: IntakeLimit | None,
    made: IntakeLimit,
    wanted: Limit | None,
    subject: str,
    company_id: int,
    actor: str,
    now: datetime,
) -> bool:
    before = _told(row)
    if wanted is not None:
        for name in ("messages", "points"):
            if not 0 <= getattr(wanted, name) <= MOST:
                raise Invalid("The rate must lie between 0 and 1,000,000 a second.", field=name)
    if before == wanted:
        return False
    if wanted is None:
        session.delete(row)
    else:
        row = made if row is None else row
        row.messages, row.points = wanted.messages, wanted.points
        session.add(row)
    session.flush()
    audit.record(
        session, "intake.limit", subject=subject, actor=actor, at=now, before=_dict(before), after=_dict(wanted),
        company_id=company_id,
    )  # fmt: skip
    return True


def _told(row: IntakeLimit | None) -> Limit | None:
    return None if row is None else Limit(row.messages, row.points)


def _dict(limit: Limit | None) -> dict[str, object] | None:
    return None if limit is None else {"messages": limit.messages, "points": limit.points}
