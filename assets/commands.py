"""Commands to devices and the settings they should have: asked for, sent, answered, given up (ING-13).

Whoever asks writes a row; ingest sends it, whatever process asked. A command carries an unguessable id that the
device sees: after a crash between sending and writing that down it is sent again under the same id, and the device
has nothing to do the second time. The answer settles it once, in the transaction of the batch it came in.
"""

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

import msgspec
from sqlalchemy import and_, cast, func, literal, or_, select
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Session, aliased

from assets import command_life, settings
from assets.command_life import Situation
from assets.events import CommandMoved, DesiredSettingsChanged
from assets.models import Device, DeviceCommand
from kernel import audit, events, ids
from kernel.errors import Conflict, Invalid
from kernel.i18n import noop

METHOD: Final = re.compile(r"[A-Za-z][A-Za-z0-9_.-]{0,79}", re.ASCII)
MAX_PARAMS: Final = 32 * 1024
TIMEOUT_S: Final = 30
KEPT_S: Final = 86_400
LONGEST_S: Final = 30 * 86_400
MOST_OPEN: Final = 100
"""Commands that one device may have waiting."""
SETTINGS: Final = "settings"
SETTINGS_KEPT: Final = timedelta(days=30)
_BIT: Final = 200


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
    command = _write(session, device, draft, actor=actor, now=now)
    if not command.waits and device.connection != "online":
        _move(session, command, device, "failed", now, error=_WHY["failed"])
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
    _audit(session, command.device, "device.cancel_command", {"command": command.token}, actor, now)
    _move(session, command, command.device, "cancelled", now, actor=actor)


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
    _audit(session, device, "device.desire", checked, actor, now, before=before)
    events.emit(
        session, DesiredSettingsChanged(device.id, device.desired_version), subject=f"device:{device.id}", at=now,
        actor=actor, unit_id=device.unit_id,
    )  # fmt: skip
    for old in _open_settings(session, [device.id]):
        _move(session, old, device, "cancelled", now, error=_SUPERSEDED)
    _bring(session, device, actor=actor, now=now)
    return True


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


# For ingest -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Letter:
    """A command on its way: to ``speaker``, which is the device or its gateway; ``child`` is set for the latter."""

    command_id: int
    token: str
    speaker: str
    child: str | None
    method: str
    params: Mapping[str, Any]
    expires_at: datetime


@dataclass(frozen=True, slots=True)
class Answer:
    """What a device said to a command; ``device_id`` is whoever said it."""

    token: str
    device_id: int
    body: Mapping[str, Any]


def take_due(session: Session, *, now: datetime, limit: int = _BIT) -> list[Letter]:
    """Give up what has run out, and lease what is to be sent now; the caller commits before it sends."""
    gateway = aliased(Device)
    rows = session.execute(
        select(DeviceCommand, Device, gateway.key)
        .join(Device, Device.id == DeviceCommand.device_id)
        .outerjoin(gateway, gateway.id == Device.gateway_id)
        .where(DeviceCommand.state.in_(command_life.OPEN), _may_be_due(now))
        .order_by(DeviceCommand.id)
        .limit(limit)
        .with_for_update(of=DeviceCommand, skip_locked=True)
    ).all()
    letters = []
    for command, device, gateway_key in rows:
        verdict = command_life.due(_situation(command, device), now)
        if verdict == "send":
            command.attempts += 1
            command.next_at = now + command_life.LEASE
            speaker, child = (gateway_key, device.key) if gateway_key else (device.key, None)
            letters.append(
                Letter(command.id, command.token, speaker, child, command.method, command.params, command.expires_at)
            )
        elif verdict is not None:
            _move(session, command, device, verdict, now, error=_WHY[verdict])
    return letters


def sent(session: Session, command_ids: Collection[int], *, by_device: bool, now: datetime) -> None:
    """Write down that the broker, or the device itself, has taken commands over."""
    for command, device in _locked(session, DeviceCommand.id.in_(list(command_ids))):
        state = command_life.acknowledged(command.kind, command.state, by_device=by_device)
        if command.state in command_life.OPEN or command.sent_at is None:
            command.sent_at = now
        if by_device and command.delivered_at is None:
            command.delivered_at = now
        if command.kind == "kept":
            command.next_at = now
        _move(session, command, device, state, now)


def put_off(session: Session, command_ids: Collection[int], *, now: datetime) -> None:
    """Try commands again in a moment: there was no connection to send them on, or nobody took them."""
    for command, _ in _locked(session, DeviceCommand.id.in_(list(command_ids))):
        if command.state in command_life.OPEN:
            command.next_at = now + command_life.PAUSE * min(command.attempts, 15)


def settle(session: Session, answers: Sequence[Answer], *, now: datetime) -> list[int]:
    """Take the answers of a batch, each command's first; return the positions of those to no command of theirs.

    A later answer to a command changes nothing; the first one to a command that was given up is kept as late.
    """
    if not answers:
        return []
    known = {
        command.token: (command, device)
        for command, device in _locked(session, DeviceCommand.token.in_({one.token for one in answers}))
    }
    unknown = []
    for position, answer in enumerate(answers):
        command, device = known.get(answer.token, (None, None))
        if command is None or device is None or answer.device_id not in {device.id, device.gateway_id}:
            unknown.append(position)
            continue
        if command.replied_at is not None:
            continue
        command.reply, command.replied_at = dict(answer.body), now
        error = answer.body.get("error")
        state = command_life.answered(command.state, is_error=error is not None)
        if state == command.state:
            # Too late to count: it is told all the same, for the page to show it.
            _tell(session, command, device, now, "system")
        _move(session, command, device, state, now, error="" if error is None else str(error)[:300])
    session.flush()
    return unknown


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
            _move(session, command, device, "done", now)
        elif not equal and command is None:
            _bring(session, device, actor="system", now=now)
            brought += 1
    return brought


# How ------------------------------------------------------------------------------------------------------------

_SUPERSEDED: Final = noop("Other settings are wanted since.")
_WHY: Final = {
    "failed": noop("The device is not online."),
    "expired": noop("The device did not come back in time."),
    "timed_out": noop("No answer came in time."),
}


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


def _write(
    session: Session, device: Device, draft: Draft, *, actor: str, now: datetime, version: int | None = None
) -> DeviceCommand:
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
    _audit(session, device, "device.command", said, actor, now)
    _tell(session, command, device, now, actor)
    return command


def _bring(session: Session, device: Device, *, actor: str, now: datetime) -> None:
    if not settings.difference(device.desired, device.attributes):
        return
    params = {"version": device.desired_version, "settings": device.desired}
    draft = Draft(SETTINGS, params, "kept", expires_s=int(SETTINGS_KEPT.total_seconds()))
    _write(session, device, draft, actor=actor, now=now, version=device.desired_version)


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


def _may_be_due(now: datetime) -> Any:  # noqa: ANN401 - a condition
    """Return the condition that leaves out what certainly has to wait, so that few rows are looked at."""
    is_online = Device.connection == "online"
    queued = DeviceCommand.state == "queued"
    answer_by = DeviceCommand.sent_at + func.make_interval(0, 0, 0, 0, 0, 0, DeviceCommand.timeout_s)
    return or_(
        and_(queued, is_online, DeviceCommand.next_at <= now),
        and_(queued, ~is_online, ~DeviceCommand.waits),
        DeviceCommand.expires_at <= now,
        and_(~queued, DeviceCommand.kind != "kept", answer_by <= now),
        and_(~queued, DeviceCommand.kind == "kept", is_online, Device.online_changed_at > DeviceCommand.sent_at,
             DeviceCommand.next_at <= now),
    )  # fmt: skip


def _situation(command: DeviceCommand, device: Device) -> Situation:
    return Situation(
        command.kind, command.waits, command.state, command.timeout_s, command.expires_at, command.next_at,
        command.sent_at, device.connection == "online", device.online_changed_at,
    )  # fmt: skip


def _locked(session: Session, which: Any) -> list[tuple[DeviceCommand, Device]]:  # noqa: ANN401 - a condition
    rows = session.execute(
        select(DeviceCommand, Device)
        .join(Device, Device.id == DeviceCommand.device_id)
        .where(which)
        .order_by(DeviceCommand.id)
        .with_for_update(of=DeviceCommand)
        .execution_options(populate_existing=True)
    )
    return [(command, device) for command, device in rows]


def _move(  # noqa: PLR0917 - what, whose, where to, when, and why
    session: Session, command: DeviceCommand, device: Device, state: str, now: datetime, error: str = "",
    actor: str = "system",
) -> None:  # fmt: skip
    if state == command.state:
        return
    command.state = state
    if error:
        command.error = error
    if state in command_life.ENDED:
        command.ended_at = now
    session.flush()
    _tell(session, command, device, now, actor)


def _tell(session: Session, command: DeviceCommand, device: Device, now: datetime, actor: str) -> None:
    events.emit(
        session, CommandMoved(device.id, command.id, command.state), subject=f"device:{device.id}", at=now,
        actor=actor, unit_id=device.unit_id,
    )  # fmt: skip


def _audit(  # noqa: PLR0917 - one argument a column of the audit trail
    session: Session, device: Device, action: str, after: Mapping[str, Any], actor: str, now: datetime,
    before: Mapping[str, Any] | None = None,
) -> None:  # fmt: skip
    audit.record(
        session, action, subject=f"device:{device.id}", actor=actor, at=now,
        before=None if before is None else dict(before), after=dict(after), company_id=device.company_id,
    )  # fmt: skip
