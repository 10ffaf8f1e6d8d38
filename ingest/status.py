"""Online, offline or out of reach, last seen, wrong clocks, and what devices say of themselves (ING-5, ING-15).

The last word of a batch counts. A gateway's word holds for the devices behind it: without it they are *unreachable*,
which is no fault of theirs, and with it they come back. A device that never says a status is online once it sends
anything, and so is one that was thought gone. The state changes at once; others are told at once too, unless the
device comes and goes: then once it has held a state for a minute (``tell_settled``).
"""

from collections.abc import Collection, Iterable, Mapping
from datetime import datetime, timedelta
from typing import Any, Final

import msgspec
from sqlalchemy import BigInteger, String, bindparam, cast, delete, func, insert, not_, or_, select, update
from sqlalchemy.dialects.postgresql import ARRAY, JSONB
from sqlalchemy.orm import Session

from assets.events import DeviceStateChanged
from assets.models import ConnectionChange, Device
from kernel import clock, events
from kernel.columns import among

CLOCK_SKEW: Final = "clock_skew_s"
"""The attribute under which the page finds by how much a device's clock was wrong: positive is ahead."""
RESTLESS: Final = 4
"""A device that changed its state more often than this within ``WITHIN`` comes and goes."""
WITHIN: Final = timedelta(minutes=5)
HOLD: Final = timedelta(seconds=60)
KEPT: Final = timedelta(days=90)
_MOST: Final = 5000


def tell(
    session: Session, said: Mapping[int, bool], *, now: datetime, alone: Collection[int] = (), cause: str = "said"
) -> None:
    """Write who is online and who is not, and tell of those for whom it changed and that are not restless.

    Gateways in ``alone`` speak for themselves only: the devices behind them say themselves when they are there. One
    that is said to be offline together with its gateway is out of reach.
    """
    if not said:
        return
    online = _ids(said, is_online=True)
    offline = _ids(said, is_online=False)
    with_gateway = Device.gateway_id.is_not(None) & among(Device.gateway_id, offline)
    changed = [
        *_become(session, "online", among(Device.id, online), now),
        *_become(session, "offline", among(Device.id, offline) & ~with_gateway, now),
        *_become(session, "unreachable", among(Device.id, offline) & with_gateway, now),
    ]
    history = [(device_id, state, "gateway" if state == "unreachable" else cause) for device_id, _, state in changed]
    # What a device says itself in the same breath is newer than what its gateway's state would imply.
    behind = ~among(Device.id, said) & ~among(Device.gateway_id, alone)
    back = among(Device.gateway_id, online) & behind & (Device.connection == "unreachable")
    lost = among(Device.gateway_id, offline) & behind & (Device.connection == "online")
    followed = [*_become(session, "online", back, now), *_become(session, "unreachable", lost, now)]
    history += [(device_id, state, "gateway") for device_id, _, state in followed]
    if history:
        session.execute(
            insert(ConnectionChange),
            [{"device_id": one, "at": now, "state": state, "cause": why} for one, state, why in sorted(history)],
        )
        moved = [*changed, *followed]
        restless = _restless(session, [one for one, _, _ in moved], now)
        _announce(session, [one for one in moved if one[0] not in restless], now)


def tell_settled(session: Session, *, now: datetime) -> int:
    """Tell of restless devices that have held a state for a minute which others do not know of; return how many."""
    rows = session.execute(
        select(Device.id, Device.unit_id, Device.connection)
        .where(Device.connection != Device.connection_told, Device.online_changed_at <= now - HOLD)
        .order_by(Device.id)
        .limit(_MOST)
    ).all()
    _announce(session, [(one, unit_id, state) for one, unit_id, state in rows], now)
    return len(rows)


def sweep(session: Session, now: datetime) -> None:
    """Forget how devices were connected three months ago."""
    session.execute(delete(ConnectionChange).where(ConnectionChange.at < now - KEPT))


def seen(session: Session, last_ms: Mapping[int, int], skew_ms: Mapping[int, int], *, now: datetime) -> None:
    """Write when devices were last heard (server time), and by how much the clocks of some are wrong."""
    if last_ms:
        ids = sorted(last_ms)
        heard = (
            func.unnest(cast(ids, ARRAY(BigInteger)), cast([last_ms[one] for one in ids], ARRAY(BigInteger)))
            .table_valued("device_id", "ms", name="heard")
            .render_derived()
        )
        at = func.to_timestamp(heard.c.ms / 1000.0)
        session.execute(
            update(Device)
            .where(Device.id == heard.c.device_id)
            .values(last_seen_at=at)
            .execution_options(synchronize_session=False)
        )
        # Whoever speaks after it was thought gone is there.
        back = session.scalars(
            select(Device.id)
            .join(heard, heard.c.device_id == Device.id)
            .where(
                Device.connection != "online", or_(Device.online_changed_at.is_(None), Device.online_changed_at < at)
            )
        ).all()
        tell(session, dict.fromkeys(back, True), now=now, cause="heard")
    describe(session, {one: {CLOCK_SKEW: round(ms / 1000)} for one, ms in skew_ms.items()})


def _ids(said: Mapping[int, bool], *, is_online: bool) -> list[int]:
    return sorted(device_id for device_id, online in said.items() if online is is_online)


def _become(session: Session, state: str, whom: Any, now: datetime) -> list[tuple[int, int, str]]:  # noqa: ANN401 - a condition
    """Give devices a state they do not have yet; return (device, unit, state) of those that changed."""
    changed = session.execute(
        update(Device)
        .where(whom, Device.connection != state, Device.revoked_at.is_(None))
        .values(connection=state, is_online=state == "online", online_changed_at=now)
        .returning(Device.id, Device.unit_id)
        .execution_options(synchronize_session=False)
    )
    return [(device_id, unit_id, state) for device_id, unit_id in changed]


def _restless(session: Session, device_ids: Collection[int], now: datetime) -> set[int]:
    wanted = cast(sorted(device_ids), ARRAY(BigInteger))
    return set(
        session.scalars(
            select(ConnectionChange.device_id)
            .where(ConnectionChange.device_id == func.any(wanted), ConnectionChange.at > now - WITHIN)
            .group_by(ConnectionChange.device_id)
            .having(func.count() > RESTLESS)
        )
    )


def _announce(session: Session, moved: Iterable[tuple[int, int, str]], now: datetime) -> None:
    """Tell others of a state, unless it is the one they know."""
    states = {device_id: (unit_id, state) for device_id, unit_id, state in moved}
    if not states:
        return
    told = session.scalars(
        update(Device)
        .where(
            Device.id == func.any(cast(sorted(states), ARRAY(BigInteger))), Device.connection != Device.connection_told
        )
        .values(connection_told=Device.connection)
        .returning(Device.id)
        .execution_options(synchronize_session=False)
    ).all()
    events.emit_all(
        session,
        [
            events.Emission(
                DeviceStateChanged(one, states[one][1] == "online"), f"device:{one}", f"device:{one}", states[one][0]
            )
            for one in sorted(told)
        ],
        at=now,
    )


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
