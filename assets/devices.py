"""Devices: who may speak over MQTT, and which asset each measures from when to when (AS-9).

A device is not an asset. It is bound to one for a period ``[starts_at, ends_at)``, so that its replacement
continues the asset's history and what the old one sends later does not land there. Passwords never come here:
the edge draws one, shows it once, and hands over its hash.
"""

import re
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import select
from sqlalchemy.orm import Session, aliased

from assets import dirty, wording
from assets.events import DeviceBound, DeviceRegistered, DeviceRevoked, DeviceUnbound
from assets.models import Asset, Binding, Device
from kernel import audit, clock, events
from kernel.errors import Conflict, Invalid
from people.models import OrgUnit
from telemetry.models import Series

KEY = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}", re.ASCII)
"""The MQTT user name and a level of its topics: nothing that means something in topics or password files."""


@dataclass(frozen=True, slots=True)
class DeviceDraft:
    """A device as somebody wants it; ``gateway_id`` names the device that speaks for it, if one does."""

    key: str
    name: str
    gateway_id: int | None = None


def register(session: Session, draft: DeviceDraft, *, unit: OrgUnit, actor: str, now: datetime) -> Device:
    """Add a device to an org unit. It cannot connect before it has credentials (``credentials.issue``).

    Raises:
        Invalid: key or name do not fit, or there is no such gateway.
        Conflict: the key is taken. Keys are MQTT user names and therefore one for all companies.
    """
    company_id = unit.company_id or unit.id
    if not KEY.fullmatch(draft.key):
        raise Invalid(
            "A key has 1 to 64 letters, digits, dots, hyphens and underscores, and begins with a letter or digit.",
            field="key",
        )
    if session.scalar(select(Device.id).where(Device.key == draft.key)) is not None:
        raise Conflict("The key {key} is taken. Please choose another.", field="key", key=draft.key)
    if draft.gateway_id is not None:
        gateway = session.get(Device, draft.gateway_id)
        if gateway is None or gateway.company_id != company_id or gateway.gateway_id is not None:
            raise Invalid("There is no such gateway.", field="gateway_id")
    device = Device(
        key=draft.key,
        name=wording.needed(draft.name, "name"),
        gateway_id=draft.gateway_id,
        company_id=company_id,
        unit_id=unit.id,
        created_at=now,
    )
    session.add(device)
    session.flush()
    _record(session, device, "device.register", None, {"key": device.key, "name": device.name}, actor, now)
    events.emit(
        session,
        DeviceRegistered(device.id),
        subject=f"device:{device.id}",
        at=now,
        actor=actor,
        unit_id=device.unit_id,
    )
    return device


def rename(session: Session, device: Device, name: str, *, actor: str, now: datetime) -> None:
    """Give a device another name; its key stays, because it is flashed into the device.

    Raises:
        Invalid: the name is missing or too long.
    """
    before, device.name = device.name, wording.needed(name, "name")
    if before != device.name:
        _record(session, device, "device.rename", {"name": before}, {"name": device.name}, actor, now)


def revoke(session: Session, device: Device, *, actor: str, now: datetime) -> None:
    """Shut a device out for good: its password is void and its live connection is cut. What it sent stays.

    Raises:
        Conflict: it is revoked already.
    """
    if device.revoked_at is not None:
        raise Conflict("This device is revoked already.")
    device.revoked_at = now
    device.password_hash = device.password_alias = None
    device.previous_hash = device.previous_alias = device.previous_until = None
    if device.is_online:
        device.is_online, device.connection, device.online_changed_at = False, "offline", now
    _record(session, device, "device.revoke", {"revoked_at": None}, {"revoked_at": now}, actor, now)
    events.emit(
        session,
        DeviceRevoked(device.id, device.key),
        subject=f"device:{device.id}",
        at=now,
        actor=actor,
        unit_id=device.unit_id,
    )


def bind(
    session: Session, device: Device, asset: Asset, *, starts_at: datetime | None = None, actor: str, now: datetime
) -> Binding:
    """Let a device measure an asset from an instant on, ``now`` unless given; it leaves the asset it measured.

    The device moves into the asset's org unit, so those who see the asset see what measures it.

    Raises:
        Invalid: the instant lies ahead, or before the device's present or latest binding began or ended.
        Conflict: the device is revoked, measures this asset already, or another device measures the same there.
    """
    begins = starts_at or now
    if device.revoked_at is not None:
        raise Conflict("This device is revoked. Register a new one in its place.")
    if asset.company_id != device.company_id:
        raise Invalid("There is no such asset.", field="asset_id")
    _check_instant(session, device, begins, now)
    current = binding_of(session, device)
    if current is not None and current.asset_id == asset.id:
        raise Conflict("The device measures this asset already.")
    rival = _rival(session, device, asset)
    if rival is not None:
        raise Conflict(
            "{device} measures {metric} on this asset. Replace it, or end its binding first.",
            device=rival[0],
            metric=rival[1],
        )
    if current is not None:
        _end(session, current, begins, actor=actor, now=now)
    binding = Binding(device_id=device.id, asset_id=asset.id, starts_at=begins)
    session.add(binding)
    device.unit_id = asset.unit_id
    session.flush()
    dirty.mark_device(session, device.id, clock.to_ms(begins), clock.to_ms(now), now)
    _record(session, device, "device.bind", None, {"asset_id": asset.id, "starts_at": begins}, actor, now)
    events.emit(
        session,
        DeviceBound(device.id, asset.id),
        subject=f"device:{device.id}",
        at=now,
        actor=actor,
        unit_id=asset.unit_id,
    )
    return binding


def unbind(session: Session, device: Device, *, ends_at: datetime | None = None, actor: str, now: datetime) -> None:
    """End a device's binding at an instant, ``now`` unless given. What it measured till then stays the asset's.

    Raises:
        Conflict: it measures nothing.
        Invalid: the instant lies ahead, or before the binding began.
    """
    current = binding_of(session, device)
    if current is None:
        raise Conflict("This device measures no asset.")
    ends = ends_at or now
    _check_instant(session, device, ends, now)
    _end(session, current, ends, actor=actor, now=now)


def replace(
    session: Session, old: Device, new: Device, *, at: datetime | None = None, actor: str, now: datetime
) -> Binding:
    """Put a new device in the place of an old one, at one instant, so that the asset's curves continue.

    Raises:
        Conflict: the old one measures no asset, or the new one is revoked or collides there with a third.
        Invalid: the instant lies ahead, or before one of the bindings it touches.
    """
    current = binding_of(session, old)
    if current is None:
        raise Conflict("This device measures no asset.")
    asset = session.get_one(Asset, current.asset_id)
    unbind(session, old, ends_at=at, actor=actor, now=now)
    return bind(session, new, asset, starts_at=at, actor=actor, now=now)


def binding_of(session: Session, device: Device) -> Binding | None:
    """Return the binding a device has now, held against a second change until the commit."""
    return session.scalars(
        select(Binding).where(Binding.device_id == device.id, Binding.ends_at.is_(None)).with_for_update()
    ).one_or_none()


def _check_instant(session: Session, device: Device, instant: datetime, now: datetime) -> None:
    if instant > now:
        raise Invalid("This lies in the future.", field="at")
    latest = session.scalars(
        select(Binding).where(Binding.device_id == device.id).order_by(Binding.starts_at.desc()).limit(1)
    ).one_or_none()
    if latest is not None and instant < (latest.ends_at or latest.starts_at):
        raise Invalid("Before that, the device was bound otherwise.", field="at")


def _rival(session: Session, device: Device, asset: Asset) -> tuple[str, str] | None:
    """Return another device on the asset that sends a metric this one sends too, with that metric."""
    mine, theirs = aliased(Series), aliased(Series)
    found = session.execute(
        select(Device.name, theirs.metric)
        .join(Binding, Binding.device_id == Device.id)
        .join(theirs, theirs.device_id == Device.id)
        .join(mine, mine.metric == theirs.metric)
        .where(
            Binding.asset_id == asset.id,
            Binding.ends_at.is_(None),
            Device.id != device.id,
            Device.revoked_at.is_(None),
            mine.device_id == device.id,
        )
        .order_by(theirs.metric)
        .limit(1)
    ).first()
    return None if found is None else (found[0], found[1])


def _end(session: Session, binding: Binding, ends: datetime, *, actor: str, now: datetime) -> None:
    # Noted while the binding still stands: what it measured after its end is the asset's no longer.
    dirty.mark_device(session, binding.device_id, clock.to_ms(ends), clock.to_ms(now), now)
    binding.ends_at = ends
    session.flush()
    device = session.get_one(Device, binding.device_id)
    _record(session, device, "device.unbind", {"asset_id": binding.asset_id}, {"ends_at": ends}, actor, now)
    events.emit(
        session,
        DeviceUnbound(device.id, binding.asset_id),
        subject=f"device:{device.id}",
        at=now,
        actor=actor,
        unit_id=device.unit_id,
    )


def _record(  # noqa: PLR0917 - one argument a column of the audit trail
    session: Session,
    device: Device,
    action: str,
    before: dict[str, object] | None,
    after: dict[str, object],
    actor: str,
    now: datetime,
) -> None:
    audit.record(
        session,
        action,
        subject=f"device:{device.id}",
        actor=actor,
        at=now,
        before=before,
        after=after,
        company_id=device.company_id,
    )
