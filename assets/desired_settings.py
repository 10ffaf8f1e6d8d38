"""The settings a device should have: wanted by people, sent as a command until the device reports them (ING-13)."""

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, Final

from sqlalchemy import and_, cast, func, literal, or_, select
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Session

from assets import command_life, commands, settings
from assets import command_steps as steps
from assets.command_tables import DeviceCommand
from assets.events import DesiredSettingsChanged
from assets.models import Device
from kernel import events
from kernel.errors import Conflict
from kernel.i18n import noop

SETTINGS: Final = "settings"
SETTINGS_KEPT: Final = timedelta(days=30)
_BIT: Final = 200
_SUPERSEDED: Final = noop("Other settings are wanted since.")


def desire(session: Session, device: Device, wanted: Mapping[str, Any], *, actor: str, now: datetime) -> bool:
    """Say which settings a device should have, in place of those said before; return whether that is a change.

    They are sent as the command ``settings``, now or when the device is back, until it reports them.

    Raises:
        Invalid: a name or value does not fit.
        Conflict: the device is revoked.
    """
    checked = settings.checked(wanted)
    if device.revoked_at is not None:
        raise Conflict("This device is revoked. Register a new one in its place.")
    session.refresh(device, with_for_update={"of": Device})
    if device.desired == checked:
        return False
    before, device.desired = device.desired, checked
    device.desired_version += 1
    steps.audited(session, device, "device.desire", checked, actor, now, before=before)
    events.emit(
        session, DesiredSettingsChanged(device.id, device.desired_version), subject=f"device:{device.id}", at=now,
        actor=actor, unit_id=device.unit_id,
    )  # fmt: skip
    for old in _open_settings(session, [device.id]):
        steps.move(session, old, device, "cancelled", now, error=_SUPERSEDED)
    _bring(session, device, actor=actor, now=now)
    return True


def bring_settings(session: Session, *, now: datetime, limit: int = _BIT) -> int:
    """Settle settings that are reported as wanted, and send those again that are not; return how many were sent.

    They are sent again once a connection, so a device that cannot take a setting is not asked for ever.
    """
    rows = session.scalars(
        select(Device).where(
            Device.desired_version > 0, Device.connection == "online", Device.revoked_at.is_(None), _needs_a_look()
        ).order_by(Device.id).limit(limit)
    ).all()  # fmt: skip
    if not rows:
        return 0
    standing = {one.device_id: one for one in _open_settings(session, [device.id for device in rows])}
    brought = 0
    for device in rows:
        equal = not settings.difference(device.desired, device.attributes)
        command = standing.get(device.id)
        if equal and command is not None and command.sent_at is not None:
            steps.move(session, command, device, "done", now)
        elif not equal and command is None:
            _bring(session, device, actor="system", now=now)
            brought += 1
    return brought


def _bring(session: Session, device: Device, *, actor: str, now: datetime) -> None:
    if not settings.difference(device.desired, device.attributes):
        return
    params = {"version": device.desired_version, "settings": device.desired}
    draft = commands.Draft(SETTINGS, params, "kept", expires_s=int(SETTINGS_KEPT.total_seconds()))
    commands.write(session, device, draft, actor=actor, now=now, version=device.desired_version)


def _open_settings(session: Session, device_ids: Sequence[int]) -> Sequence[DeviceCommand]:
    return session.scalars(
        select(DeviceCommand)
        .where(
            DeviceCommand.device_id.in_(device_ids),
            DeviceCommand.settings_version.is_not(None),
            DeviceCommand.state.in_(command_life.OPEN),
        )
        .order_by(DeviceCommand.id)
        .with_for_update(of=DeviceCommand)
    ).all()


def _needs_a_look() -> Any:  # noqa: ANN401 - a condition
    """Return the condition that a device has met what was asked, or has not been asked since it came online."""
    own = func.coalesce(Device.attributes["settings"], cast(literal("{}"), JSONB))
    is_met = cast(Device.attributes.op("||")(own), JSONB).bool_op("@>")(Device.desired)
    about = select(DeviceCommand.id).where(
        DeviceCommand.device_id == Device.id, DeviceCommand.settings_version.is_not(None)
    )
    is_open = about.where(DeviceCommand.state.in_(command_life.OPEN)).exists()
    is_asked = about.where(
        DeviceCommand.settings_version == Device.desired_version, DeviceCommand.created_at >= Device.online_changed_at
    ).exists()
    return or_(and_(is_met, is_open), and_(~is_met, ~is_open, ~is_asked))
