"""The post between commands and devices, for ingest: what is due, what was sent, what was answered (ING-13).

A command is leased before it is sent, and sent again under the same id when nobody wrote down that it was. The
answer settles it once, in the transaction of the batch it came in.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from sqlalchemy import and_, func, or_, select
from sqlalchemy.orm import Session, aliased

from assets import command_life
from assets import command_steps as steps
from assets.command_life import Situation
from assets.command_tables import DeviceCommand
from assets.models import Device

_BIT: Final = 200


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
            steps.move(session, command, device, verdict, now, error=steps.WHY[verdict])
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
        steps.move(session, command, device, state, now)


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
            steps.tell(session, command, device, now, "system")
        steps.move(session, command, device, state, now, error="" if error is None else str(error)[:300])
    session.flush()
    return unknown


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
