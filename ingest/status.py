"""Online or offline, last seen, clocks that are wrong, and what devices say about themselves (ING-5, ING-15).

The last word of a batch counts. A gateway's word holds for the devices behind it: what cannot be reached is not
online. A device that never says a status is online once it sends anything.
"""

from collections.abc import Collection, Iterable, Mapping
from datetime import datetime
from typing import Any, Final

import msgspec
from sqlalchemy import BigInteger, String, bindparam, cast, func, not_, or_, select, update
from sqlalchemy.dialects.postgresql import ARRAY, JSONB
from sqlalchemy.orm import Session

from assets.events import DeviceStateChanged
from assets.models import Device
from kernel import clock, events
from kernel.columns import among

CLOCK_SKEW: Final = "clock_skew_s"
"""The attribute under which the page finds by how much a device's clock was wrong: positive is ahead."""


def tell(session: Session, said: Mapping[int, bool], *, now: datetime, alone: Collection[int] = ()) -> None:
    """Write who is online and who is not, and tell of those for whom it changed.

    Gateways in ``alone`` speak for themselves only: the devices behind them say themselves when they are there.
    """
    moved: list[tuple[int, int, bool]] = []
    for is_online in (True, False):
        ids = sorted(device_id for device_id, online in said.items() if online is is_online)
        if not ids:
            continue
        # What it says itself is newer than what its gateway's state would imply.
        speaking = [device_id for device_id in ids if device_id not in alone]
        behind = among(Device.gateway_id, speaking) & ~among(Device.id, said)
        changed = session.execute(
            update(Device)
            .where(
                or_(among(Device.id, ids), behind),
                or_(Device.is_online != is_online, Device.online_changed_at.is_(None)),
            )
            .values(is_online=is_online, online_changed_at=now)
            .returning(Device.id, Device.unit_id)
            .execution_options(synchronize_session=False)
        )
        moved += [(device_id, unit_id, is_online) for device_id, unit_id in changed]
    events.emit_all(
        session,
        [
            events.Emission(
                DeviceStateChanged(device_id, is_online), f"device:{device_id}", f"device:{device_id}", unit_id
            )
            for device_id, unit_id, is_online in sorted(moved)
        ],
        at=now,
    )


def seen(session: Session, last_ms: Mapping[int, int], skew_ms: Mapping[int, int], *, now: datetime) -> None:
    """Write when devices were last heard (server time), and by how much the clocks of some are wrong."""
    if last_ms:
        ids = sorted(last_ms)
        heard = (
            func.unnest(cast(ids, ARRAY(BigInteger)), cast([last_ms[one] for one in ids], ARRAY(BigInteger)))
            .table_valued("device_id", "ms", name="heard")
            .render_derived()
        )
        session.execute(
            update(Device)
            .where(Device.id == heard.c.device_id)
            .values(last_seen_at=func.to_timestamp(heard.c.ms / 1000.0))
            .execution_options(synchronize_session=False)
        )
        silent = session.scalars(
            select(Device.id).where(among(Device.id, ids), Device.online_changed_at.is_(None))
        ).all()
        tell(session, dict.fromkeys(silent, True), now=now)
    describe(session, {one: {CLOCK_SKEW: round(ms / 1000)} for one, ms in skew_ms.items()})


def describe(session: Session, attributes: Mapping[int, Mapping[str, Any]]) -> None:
    """Merge what devices say about themselves into what they said before."""
    if not attributes:
        return
    new = cast(bindparam("new", type_=String), JSONB)
    session.connection().execute(
        update(Device.metadata.tables[Device.__tablename__])
        .where(Device.id == bindparam("of_id"), not_(Device.attributes.bool_op("@>")(new)))
        .values(attributes=Device.attributes.op("||")(new)),
        [
            {"of_id": device_id, "new": msgspec.json.encode(dict(attributes[device_id])).decode()}
            for device_id in sorted(attributes)
        ],
    )


class Presence:
    """When each device was last heard and how wrong its clock is, gathered until somebody commits anyway."""

    def __init__(self) -> None:
        self._last_ms: dict[int, int] = {}
        self._skew_ms: dict[int, int] = {}
        self._written_ms: dict[int, int] = {}
        self._writing: dict[int, int] = {}

    def __bool__(self) -> bool:
        return bool(self._last_ms or self._skew_ms)

    def heard(self, device_ids: Iterable[int], received_ms: int) -> None:
        """Take note that devices were heard."""
        self._last_ms |= dict.fromkeys(device_ids, received_ms)

    def skewed(self, skews: Iterable[tuple[int, int]]) -> None:
        """Take note of (device id, ms by which its clock was ahead of ours)."""
        self._skew_ms |= dict(skews)

    def write(self, session: Session, *, every_ms: int, now: datetime) -> None:
        """Write for those not written for ``every_ms``; what was written is forgotten by ``written``."""
        now_ms = clock.to_ms(now)
        written = self._written_ms
        self._writing = {
            device_id: ms for device_id, ms in self._last_ms.items() if now_ms - written.get(device_id, 0) >= every_ms
        }
        seen(session, self._writing, self._skew_ms, now=now)

    def written(self) -> None:
        """Forget what ``write`` wrote, after its commit."""
        self._written_ms |= self._writing
        for device_id, ms in self._writing.items():
            if self._last_ms[device_id] == ms:
                del self._last_ms[device_id]
        self._writing = {}
        self._skew_ms.clear()
