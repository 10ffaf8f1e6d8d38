"""Devices that ask to be let in, and the person who decides (ING-7).

For whoever meets a device that is not known: provisioning, a trusted certificate, a Sparkplug node, a mapping of
foreign topics. The device waits here; nothing it sends is taken before a person with ``devices.write`` approves.
A device that was declined is not asked about again until a person reopens its case.

The price of asking is bounded: one row a key, a row is seldom written again, and one source (a
gateway, or all who hold one type's secret) may have so many waiting and no more.
"""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any, Final

import msgspec
from sqlalchemy import ColumnElement, delete, func, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session, joinedload

from assets import devices, wording
from assets.events import DeviceApplied, DeviceApproved, DeviceDeclined
from assets.models import Asset, AssetType, Device, DeviceApplication
from kernel import audit, events
from kernel.errors import Conflict, Invalid, TooMany
from kernel.i18n import noop
from people import scope
from people.models import OrgUnit
from people.scope import Viewer

ORIGINS: Final[dict[str, str]] = {
    "secret": noop("Shared secret"),
    "chain": noop("Trusted certificate"),
    "sparkplug": noop("Sparkplug node"),
    "mapping": noop("Topic mapping"),
    "claim": noop("Claim code"),
}
STATES: Final = ("waiting", "approved", "declined")
WAITING_AT_MOST: Final = 200
"""How many of one source may wait at a time."""
KEPT_AT_MOST: Final = 2_000
"""How many of one source may wait or have been declined."""
SAID_AT_MOST: Final = 4_096
"""Bytes of what a device may say of itself; later entries are left out."""
QUIET: Final = timedelta(minutes=1)
"""A row is written again after this long at the earliest, or, when something new is said, after the next."""
QUIET_WHEN_NEW: Final = timedelta(seconds=2)
FORGOTTEN_AFTER: Final = timedelta(days=30)


def apply(
    session: Session,
    *,
    key: str,
    origin: str,
    unit: OrgUnit,
    gateway: Device | None = None,
    asset_type: AssetType | None = None,
    name: str | None = None,
    said: dict[str, Any],
    now: datetime,
) -> DeviceApplication:
    """Let a device that is not known ask to be let in; asking again is the same application.

    Look at ``state`` of what comes back: ``waiting``, or ``approved`` (``device_id`` says as whom), or ``declined``,
    which stays so until a person reopens it. ``said`` and ``last_seen_at`` follow what is said last.

    Raises:
        Invalid: the key is not one a device can have.
        Conflict: a device of this company has the key already.
        TooMany: this source has too many waiting; try again when a person has decided.
    """
    if not devices.KEY.fullmatch(key):
        raise Invalid(
            "A key has 1 to 64 letters, digits, dots, hyphens and underscores, and begins with a letter or digit.",
            field="key",
        )
    if origin not in ORIGINS:
        raise Invalid("Choose one of {origins}.", field="origin", origins=", ".join(ORIGINS))
    company_id = unit.company_id or unit.id
    told = _fitting(said)
    known = _of_key(session, company_id, key)
    if known is not None:
        return _again(known, told, now)
    taken = select(Device.id).where(Device.key == key, Device.company_id == company_id)
    if session.scalar(taken) is not None:
        raise Conflict("The key {key} is taken. Please choose another.", field="key", key=key)
    _require_room(session, company_id, origin, gateway, asset_type)
    row = {
        "company_id": company_id,
        "unit_id": unit.id,
        "key": key,
        "name": (wording.optional(name, "name") or key),
        "origin": origin,
        "gateway_id": gateway.id if gateway else None,
        "asset_type_id": asset_type.id if asset_type else None,
        "said": told,
        "state": "waiting",
        "first_seen_at": now,
        "last_seen_at": now,
    }
    made = session.scalar(
        insert(DeviceApplication).values(row).on_conflict_do_nothing().returning(DeviceApplication.id)
    )
    application = _of_key(session, company_id, key)
    assert application is not None  # noqa: S101 - made here, or by whoever was quicker
    if made is not None:
        _tell(session, application, "device.apply", None, {"key": key, "origin": origin}, "system", now)
        _emit(session, application, DeviceApplied(application.id, key), "system", now)
    return application


def approve(
    session: Session,
    application: DeviceApplication,
    *,
    name: str | None = None,
    asset: Asset | None = None,
    actor: str,
    now: datetime,
) -> Device:
    """Let a device in: register it under its gateway, and bind it to an asset when one is given.

    It has no password yet: whoever asked with a secret or a certificate gets in with what it asked with.

    Raises:
        Conflict: somebody decided already, the key was taken meanwhile, or another device measures the same there.
        Invalid: its gateway is gone, or the name does not fit.
    """
    _require_waiting(session, application)
    draft = devices.DeviceDraft(application.key, name or application.name, application.gateway_id)
    device = devices.register(session, draft, unit=session.get_one(OrgUnit, application.unit_id), actor=actor, now=now)
    if asset is not None:
        devices.bind(session, device, asset, actor=actor, now=now)
    application.state, application.device_id = "approved", device.id
    application.decided_at, application.decided_by = now, actor
    session.flush()
    after = {"state": "approved", "device_id": device.id}
    _tell(session, application, "device.approve", {"state": "waiting"}, after, actor, now)
    _emit(session, application, DeviceApproved(application.id, device.id), actor, now)
    return device


def decline(session: Session, application: DeviceApplication, *, reason: str, actor: str, now: datetime) -> None:
    """Send a device away, for a reason that is kept; it is not asked about again until somebody reopens its case.

    Raises:
        Conflict: somebody decided already.
        Invalid: there is no reason.
    """
    why = wording.needed(reason, "reason", longest=300)
    _require_waiting(session, application)
    application.state, application.reason = "declined", why
    application.decided_at, application.decided_by = now, actor
    session.flush()
    after: dict[str, object] = {"state": "declined", "reason": why}
    _tell(session, application, "device.decline", {"state": "waiting"}, after, actor, now)
    _emit(session, application, DeviceDeclined(application.id, application.key), actor, now)


def reopen(session: Session, application: DeviceApplication, *, actor: str, now: datetime) -> None:
    """Let a declined device wait for a decision again.

    Raises:
        Conflict: it was not declined.
    """
    session.refresh(application, with_for_update=True)
    if application.state != "declined":
        raise Conflict("Only what was declined can be reopened.")
    application.state, application.reason = "waiting", None
    application.decided_at = application.decided_by = None
    session.flush()
    _tell(session, application, "device.reopen", {"state": "declined"}, {"state": "waiting"}, actor, now)
    _emit(session, application, DeviceApplied(application.id, application.key), actor, now)


def listed(
    session: Session, viewer: Viewer, *, state: str = "waiting", text: str = "", after: int | None = None, limit: int
) -> Sequence[DeviceApplication]:
    """Return up to ``limit`` applications within sight, the latest first, with gateway and type."""
    query = (
        select(DeviceApplication)
        .where(scope.visible(DeviceApplication, viewer, "assets.read"), DeviceApplication.state == state)
        .options(joinedload(DeviceApplication.gateway), joinedload(DeviceApplication.asset_type))
        .order_by(DeviceApplication.id.desc())
        .limit(limit)
    )
    if text:
        query = query.where(
            DeviceApplication.key.icontains(text, autoescape=True)
            | DeviceApplication.name.icontains(text, autoescape=True)
        )
    if after is not None:
        query = query.where(DeviceApplication.id < after)
    return session.scalars(query).all()


def waiting(session: Session, viewer: Viewer, *, at_most: int = 100) -> int:
    """Return how many wait within sight, counted no further than ``at_most``."""
    some = (
        select(DeviceApplication.id)
        .where(scope.visible(DeviceApplication, viewer, "assets.read"), DeviceApplication.state == "waiting")
        .limit(at_most)
        .subquery()
    )
    return session.scalar(select(func.count()).select_from(some)) or 0


def sweep(session: Session, now: datetime) -> None:
    """Forget what waited in vain and was not heard of for a month; should it ask again, it begins anew."""
    session.execute(
        delete(DeviceApplication).where(
            DeviceApplication.state == "waiting", DeviceApplication.last_seen_at < now - FORGOTTEN_AFTER
        )
    )


def _of_key(session: Session, company_id: int, key: str) -> DeviceApplication | None:
    return session.scalars(
        select(DeviceApplication).where(DeviceApplication.company_id == company_id, DeviceApplication.key == key)
    ).one_or_none()


def _again(known: DeviceApplication, told: dict[str, Any], now: datetime) -> DeviceApplication:
    """Take note of what is said last, but not each time: it may be said a thousand times a second."""
    if now - known.last_seen_at >= (QUIET if told == known.said else QUIET_WHEN_NEW):
        known.last_seen_at, known.said = now, told
    return known


def _require_waiting(session: Session, application: DeviceApplication) -> None:
    session.refresh(application, with_for_update=True)
    if application.state != "waiting":
        raise Conflict("Somebody decided about {key} already.", key=application.key)


def _require_room(
    session: Session, company_id: int, origin: str, gateway: Device | None, asset_type: AssetType | None
) -> None:
    """Two who ask at once may both find the last place; what matters is that a flood finds none."""
    of_source: list[ColumnElement[bool]] = [DeviceApplication.company_id == company_id]
    if gateway is not None:
        of_source.append(DeviceApplication.gateway_id == gateway.id)
    else:
        of_source += [
            DeviceApplication.gateway_id.is_(None),
            DeviceApplication.origin == origin,
            DeviceApplication.asset_type_id.is_not_distinct_from(asset_type.id if asset_type else None),
        ]
    undecided, kept = session.execute(
        select(func.count().filter(DeviceApplication.state == "waiting"), func.count()).where(
            *of_source, DeviceApplication.state != "approved"
        )
    ).one()
    if undecided >= WAITING_AT_MOST or kept >= KEPT_AT_MOST:
        raise TooMany("Too many devices of this source wait for approval.", retry_after_s=3600)


def _fitting(said: dict[str, Any]) -> dict[str, Any]:
    """Return what a device said of itself as far as it fits, in its order."""
    fitting: dict[str, Any] = {}
    room = SAID_AT_MOST
    for name, value in said.items():
        room -= len(msgspec.json.encode({name: value}))
        if room < 0:
            break
        fitting[name] = value
    # As the database keeps it: PostgreSQL knows no NUL in a text.
    kept: dict[str, Any] = msgspec.json.decode(msgspec.json.encode(fitting).replace(b"\\u0000", b""))
    return kept


def _tell(  # noqa: PLR0917 - one argument a column of the audit trail
    session: Session,
    application: DeviceApplication,
    action: str,
    before: dict[str, object] | None,
    after: dict[str, object],
    actor: str,
    now: datetime,
) -> None:
    audit.record(
        session,
        action,
        subject=f"application:{application.id}",
        actor=actor,
        at=now,
        before=before,
        after=after,
        company_id=application.company_id,
    )


def _emit(
    session: Session,
    application: DeviceApplication,
    event: DeviceApplied | DeviceApproved | DeviceDeclined,
    actor: str,
    now: datetime,
) -> None:
    events.emit(
        session, event, subject=f"application:{application.id}", at=now, actor=actor, unit_id=application.unit_id
    )
