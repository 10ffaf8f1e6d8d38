"""The ledger as people read it: by hour, by device, and what brokers dropped, within the reader's sight (ING-3).

Hours are added up from the lines of org units, so that a page costs the same with a hundred devices and with a
hundred thousand; lists go by key and never count. ``Line.waiting`` is what the equation leaves over: 0 while it holds.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

from sqlalchemy import BigInteger, ColumnElement, Select, cast, delete, func, or_, select, tuple_
from sqlalchemy.orm import Session

from assets.models import Device
from ingest.intake import NOBODY
from ingest.models import BrokerDrop, IntakeCount, IntakeTotal
from people import scope
from people.models import OrgUnit
from people.scope import Viewer

HOUR: Final = timedelta(hours=1)
KEPT: Final = timedelta(days=31)
"""How long lines of devices are kept; those of org units stay."""
_PORTION: Final = 200_000


@dataclass(frozen=True, slots=True)
class Line:
    """Messages of one hour: of all devices in sight, or of one."""

    hour: datetime
    received: int
    stored: int
    duplicate: int
    rejected: int
    device_id: int | None = None
    device_key: str | None = None
    device_name: str | None = None

    @property
    def waiting(self) -> int:
        """What was received and is neither stored, nor a duplicate, nor rejected."""
        return self.received - self.stored - self.duplicate - self.rejected

    @property
    def balances(self) -> bool:
        """Whether received = stored + duplicate + rejected + waiting, with nothing counted out of thin air."""
        return self.waiting >= 0


def sees_all(session: Session, viewer: Viewer) -> bool:
    """Return whether the viewer holds ``ingest.read`` over the whole company, and so sees what belongs to nobody."""
    root = session.scalar(select(OrgUnit.path).where(OrgUnit.id == viewer.company_id))
    return root is not None and viewer.may_at("ingest.read", root)


def hours(session: Session, viewer: Viewer, *, before: datetime | None = None, limit: int) -> list[Line]:
    """Return the hours in which anything came, of all devices in sight together, the latest first."""
    seen: ColumnElement[bool] = IntakeTotal.unit_id.in_(scope.units(viewer, "ingest.read"))
    if sees_all(session, viewer):
        seen = or_(seen, IntakeTotal.unit_id == NOBODY)
    query: Select[*tuple[Any, ...]] = (
        select(IntakeTotal.hour, *_sums(IntakeTotal)).where(seen).group_by(IntakeTotal.hour)
    )
    if before is not None:
        query = query.where(IntakeTotal.hour < before)
    return _read(session, query.order_by(IntakeTotal.hour.desc()).limit(limit))


def of_hour(session: Session, viewer: Viewer, hour: datetime, *, after: int | None = None, limit: int) -> list[Line]:
    """Return the devices heard in an hour, by their number; ``after`` is that of the one before."""
    query = _lines(session, viewer).where(IntakeCount.hour == hour)
    if after is not None:
        query = query.where(IntakeCount.device_id > after)
    return _read(session, query.order_by(IntakeCount.device_id).limit(limit))


def of_device(
    session: Session, viewer: Viewer, device_id: int, *, before: datetime | None = None, limit: int
) -> list[Line]:
    """Return the hours in which a device was heard, the latest first; 0 stands for unknown devices."""
    query = _lines(session, viewer).where(IntakeCount.device_id == device_id)
    if before is not None:
        query = query.where(IntakeCount.hour < before)
    return _read(session, query.order_by(IntakeCount.hour.desc()).limit(limit))


def counts(
    session: Session,
    viewer: Viewer,
    *,
    device_id: int | None = None,
    start: datetime | None,
    end: datetime | None,
    after: tuple[datetime, int] | None = None,
    limit: int,
) -> list[Line]:
    """Return the lines of all devices in sight, or of one, with start <= hour < end, by hour and device."""
    query = _lines(session, viewer)
    if device_id is not None:
        query = query.where(IntakeCount.device_id == device_id)
    if start is not None:
        query = query.where(IntakeCount.hour >= start)
    if end is not None:
        query = query.where(IntakeCount.hour < end)
    if after is not None:
        query = query.where(tuple_(IntakeCount.hour, IntakeCount.device_id) > after)
    return _read(session, query.order_by(IntakeCount.hour, IntakeCount.device_id).limit(limit))


def most_rejects(session: Session, viewer: Viewer, *, since: datetime, limit: int) -> list[tuple[Line, int]]:
    """Return the devices with most rejected messages since an hour, as their lines added up, and of how many hours."""
    sums = _sums(IntakeCount)
    query: Select[*tuple[Any, ...]] = (
        select(func.min(IntakeCount.hour), *sums, IntakeCount.device_id, Device.key, Device.name, func.count())
        .outerjoin(Device, Device.id == IntakeCount.device_id)
        .where(IntakeCount.hour >= since, IntakeCount.rejected > 0, _seen(session, viewer))
        .group_by(IntakeCount.device_id, Device.key, Device.name)
        .order_by(sums[-1].desc(), IntakeCount.device_id)
        .limit(limit)
    )
    return [(Line(*row[:-1]), row[-1]) for row in session.execute(query)]


def drops(session: Session, *, after: tuple[datetime, str] | None = None, limit: int) -> Sequence[BrokerDrop]:
    """Return the hours in which a broker said that it dropped messages, the latest first."""
    query = select(BrokerDrop).where(BrokerDrop.dropped > 0)
    if after is not None:
        query = query.where(tuple_(BrokerDrop.hour, BrokerDrop.broker) < after)
    return session.scalars(query.order_by(BrokerDrop.hour.desc(), BrokerDrop.broker.desc()).limit(limit)).all()


def sweep(session: Session, now: datetime) -> None:
    """Forget old lines of devices, a portion at a time."""
    old = select(IntakeCount.device_id, IntakeCount.hour).where(IntakeCount.hour < now - KEPT).limit(_PORTION)
    session.execute(
        delete(IntakeCount)
        .where(tuple_(IntakeCount.device_id, IntakeCount.hour).in_(old))
        .execution_options(synchronize_session=False)
    )


def _lines(session: Session, viewer: Viewer) -> Select[*tuple[Any, ...]]:
    names = (getattr(IntakeCount, name) for name in ("hour", "received", "stored", "duplicate", "rejected"))
    return (
        select(*names, IntakeCount.device_id, Device.key, Device.name)
        .outerjoin(Device, Device.id == IntakeCount.device_id)
        .where(_seen(session, viewer))
    )


def _seen(session: Session, viewer: Viewer) -> ColumnElement[bool]:
    own = scope.visible(Device, viewer, "ingest.read")
    return or_(own, IntakeCount.device_id == NOBODY) if sees_all(session, viewer) else own


def _sums(table: type[IntakeCount | IntakeTotal]) -> list[ColumnElement[int]]:
    columns = (table.received, table.stored, table.duplicate, table.rejected)
    return [cast(func.sum(column), BigInteger) for column in columns]


def _read(session: Session, query: Select[*tuple[Any, ...]]) -> list[Line]:
    return [Line(*row) for row in session.execute(query)]
