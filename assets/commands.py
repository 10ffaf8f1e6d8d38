"""Commands to devices: asked for, asked again, given up (ING-13).

Whoever asks writes a row; ingest sends it, whatever process asked: ``assets.command_post``. A command carries an
unguessable id that the device sees: after a crash between sending and writing that down it is sent again under the
same id, and the device has nothing to do the second time. ``assets.desired_settings`` builds on them.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

import msgspec
from sqlalchemy import select
from sqlalchemy.orm import Session

from assets import command_life
from assets import command_steps as steps
from assets.command_tables import DeviceCommand
from assets.models import Device
from kernel import ids
from kernel.errors import Conflict, Invalid

METHOD: Final = re.compile(r"[A-Za-z][A-Za-z0-9_.-]{0,79}", re.ASCII)
MAX_PARAMS: Final = 32 * 1024
TIMEOUT_S: Final = 30
KEPT_S: Final = 86_400
LONGEST_S: Final = 30 * 86_400
MOST_OPEN: Final = 100
"""Commands that one device may have waiting."""


@dataclass(frozen=True, slots=True)
class Draft:
    """A command as somebody wants it. ``waits`` matters for *one_way* only; *kept* waits and *reply* does not.

    ``expires_s``: for how long it may wait to be sent. ``timeout_s``: how long an answer may take.
    """

    method: str
    params: Mapping[str, Any]
    kind: str = "reply"
    waits: bool = False
    timeout_s: int = TIMEOUT_S
    expires_s: int = KEPT_S


def ask(session: Session, device: Device, draft: Draft, *, actor: str, now: datetime) -> DeviceCommand:
    """Write a command for a device. One that may not wait, for a device that is not online, has failed already.

    Raises:
        Invalid: method, parameters, kind or times do not fit.
        Conflict: the device is revoked, or too many commands wait for it.
    """
    _check(draft)
    if device.revoked_at is not None:
        raise Conflict("This device is revoked. Register a new one in its place.")
    waiting = session.scalars(
        select(DeviceCommand.id)
        .where(DeviceCommand.device_id == device.id, DeviceCommand.state.in_(command_life.OPEN))
        .limit(MOST_OPEN)
    ).all()
    if len(waiting) >= MOST_OPEN:
        raise Conflict("{most} commands wait for this device already. Cancel some first.", most=MOST_OPEN)
    command = write(session, device, draft, actor=actor, now=now)
    if not command.waits and device.connection != "online":
        steps.move(session, command, device, "failed", now, error=steps.WHY["failed"])
    return command


def again(session: Session, command: DeviceCommand, *, actor: str, now: datetime) -> DeviceCommand:
    """Ask the same of the device once more, as a command of its own.

    Raises:
        Conflict: the command has not ended, or the device takes none.
    """
    if command.state in command_life.OPEN:
        raise Conflict("This command is still under way.")
    kept_s = int((command.expires_at - command.created_at).total_seconds())
    draft = Draft(command.method, command.params, command.kind, command.waits, command.timeout_s, kept_s)
    return ask(session, command.device, draft, actor=actor, now=now)


def cancel(session: Session, command: DeviceCommand, *, actor: str, now: datetime) -> None:
    """Give a command up. One that was sent may still be carried out: its answer is then kept as late.

    Raises:
        Conflict: it has ended already.
    """
    session.refresh(command, with_for_update={"of": DeviceCommand})
    if command.state not in command_life.OPEN:
        raise Conflict("This command has ended already.")
    steps.audited(session, command.device, "device.cancel_command", {"command": command.token}, actor, now)
    steps.move(session, command, command.device, "cancelled", now, actor=actor)


def find(session: Session, device: Device, token: str) -> DeviceCommand | None:
    """Return a command of a device by its id."""
    return session.scalars(
        select(DeviceCommand).where(DeviceCommand.device_id == device.id, DeviceCommand.token == token)
    ).one_or_none()


def of_device(session: Session, device_id: int, *, after: int | None = None, limit: int) -> Sequence[DeviceCommand]:
    """Return up to ``limit`` commands of a device, the newest first; ``after`` is the id of the one before."""
    query = select(DeviceCommand).where(DeviceCommand.device_id == device_id).order_by(DeviceCommand.id.desc())
    if after is not None:
        query = query.where(DeviceCommand.id < after)
    return session.scalars(query.limit(limit)).all()


def write(
    session: Session, device: Device, draft: Draft, *, actor: str, now: datetime, version: int | None = None
) -> DeviceCommand:
    """Write the row of a command that was checked; ``version`` is that of the settings it carries."""
    command = DeviceCommand(
        token=ids.token(128),
        device_id=device.id,
        device=device,
        method=draft.method,
        params=dict(draft.params),
        kind=draft.kind,
        waits=draft.kind == "kept" or (draft.kind == "one_way" and draft.waits),
        state="queued",
        created_at=now,
        actor=actor,
        timeout_s=draft.timeout_s,
        expires_at=now + timedelta(seconds=draft.expires_s),
        next_at=now,
        attempts=0,
        settings_version=version,
    )
    session.add(command)
    session.flush()
    said = {"command": command.token, "method": draft.method, "params": dict(draft.params), "kind": draft.kind}
    steps.audited(session, device, "device.command", said, actor, now)
    steps.tell(session, command, device, now, actor)
    return command


def _check(draft: Draft) -> None:
    if not METHOD.fullmatch(draft.method):
        raise Invalid(
            "A command is named with 1 to 80 letters, digits, dots, hyphens and underscores, and begins with a letter.",
            field="method",
        )
    if draft.kind not in command_life.KINDS:
        raise Invalid("There is no such kind of command.", field="kind")
    if len(msgspec.json.encode(draft.params)) > MAX_PARAMS:
        raise Invalid("The parameters are larger than 32 KiB.", field="params")
    for field, value in (("timeout_s", draft.timeout_s), ("expires_s", draft.expires_s)):
        if not 1 <= value <= LONGEST_S:
            raise Invalid("The time must lie between 1 second and 30 days.", field=field)
