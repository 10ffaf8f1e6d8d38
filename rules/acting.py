"""Alarms set off their actions: each once, each in a delivery of its own, so that one that fails holds up no other.

Subscribers of the outbox. The first two write down what is to be done; what fails is tried again, and what keeps
failing stands among the deliveries. A webhook's target that is down for minutes is waited for.
"""

import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Final

from sqlalchemy import and_, or_, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from assets import attributes, commands
from assets.attributes import Subject
from assets.models import Binding, Device
from kernel import clock, events, outgoing
from kernel.i18n import noop
from people import notices
from rules import actions, calling
from rules.action_tables import AlarmAction, AlarmActionRun
from rules.episodes import is_worse
from rules.events import AlarmActionDue, AlarmAnnounced, AlarmCleared, AlarmWebhookDue
from rules.models import Alarm

CLEARED: Final = noop("The alarm has cleared: {message}")
KEPT_S: Final = 3600
"""How long a command of an alarm waits for its device: what was right an hour ago may be wrong now."""


def on_announced(session: Session, event: AlarmAnnounced, now: datetime) -> None:
    """Set off what an alarm that people are to hear of asks for and has not had yet."""
    alarm = session.get_one(Alarm, event.alarm_id)
    _set_off(session, alarm, "raise", alarm.severity, now)


def on_cleared(session: Session, event: AlarmCleared, now: datetime) -> None:
    """Set off what the end of an alarm asks for, if people ever heard of it."""
    alarm = session.get_one(Alarm, event.alarm_id)
    if alarm.announced_at is not None:
        _set_off(session, alarm, "clear", alarm.peak_severity, now)


def concerns(session: Session, happenings: Sequence[AlarmAnnounced | AlarmCleared]) -> list[bool]:
    """Say which alarms are of a type or code that has any action; one query however many there are."""
    ids = [one.alarm_id for one in happenings]
    of_code = and_(
        Alarm.alarm_type_id.is_(None),
        Alarm.origin == "device",
        AlarmAction.company_id == Alarm.company_id,
        AlarmAction.code == Alarm.type_key,
    )
    act = select(Alarm.id).join(AlarmAction, or_(AlarmAction.alarm_type_id == Alarm.alarm_type_id, of_code))
    acting = set(session.scalars(act.where(Alarm.id.in_(ids)).distinct()))
    return [one in acting for one in ids]


def on_due(session: Session, event: AlarmActionDue, now: datetime) -> None:
    """Do what an alarm set off within the product."""
    run, alarm = _taken(session, event.run_id)
    if run is None or alarm is None:
        return
    if run.kind == "message":
        _tell(session, alarm, run, now)
    if run.kind == "attribute":
        subject, said = _subject(session, alarm, run.settings), run.settings
        attributes.put(session, subject, said["name"], said["value"], actor=f"alarm:{alarm.id}", now=now)
    for device in _devices(session, alarm, run.settings) if run.kind == "command" else ():
        draft = commands.Draft(run.settings["method"], run.settings["params"], "kept", expires_s=KEPT_S)
        commands.ask(session, device, draft, actor=f"alarm:{alarm.id}", now=now)
    run.done_at = now
    session.flush()


def on_webhook_due(session: Session, event: AlarmWebhookDue, now: datetime) -> None:
    """Post an alarm to an address outside. A crash after the post repeats it under the same id.

    Raises:
        Unavailable: the target does not take it; it is tried again.
    """
    run, alarm = _taken(session, event.run_id)
    if run is None or alarm is None:
        return
    body = json.dumps(told(alarm, run), ensure_ascii=False, separators=(",", ":")).encode()
    headers = {
        "Content-Type": "application/json",
        "User-Agent": "Fixwright",
        "X-Fixwright-Delivery": str(run.id),
        "X-Fixwright-Signature": outgoing.signature(
            actions.signing_key(session, run.settings).encode(), body, clock.now()
        ),
    }
    allowed = outgoing.networks(session.info.get("outgoing", ()))
    outgoing.post(run.settings["url"], body, headers, allowed=allowed)
    run.done_at = now
    session.flush()


def told(alarm: Alarm, run: AlarmActionRun) -> dict[str, Any]:
    """Return what a webhook says of an alarm."""
    return {
        "id": run.id,
        "event": {"raise": "alarm.raised", "clear": "alarm.cleared"}[run.occasion],
        "alarm": {
            "id": alarm.id,
            "type": alarm.type_key,
            "severity": alarm.severity,
            "message": alarm.message,
            "asset": alarm.asset.code if alarm.asset else None,
            "device": alarm.device.key if alarm.device else None,
            "metric": alarm.metric,
            "value": alarm.value,
            "limit": alarm.limit,
            "began_at": alarm.began_at.isoformat(),
            "raised_at": alarm.raised_at.isoformat(),
            "ended_at": alarm.ended_at.isoformat() if alarm.ended_at else None,
        },
    }


def _set_off(session: Session, alarm: Alarm, occasion: str, severity: str, now: datetime) -> None:
    by = f"device:{alarm.device_id}" if alarm.alarm_type_id is None else f"rule:{alarm.alarm_type_id}"
    wanted = [
        one
        for one in actions.of_alarm(session, alarm)
        if one.occasion == occasion and not is_worse(one.severity, severity)
    ]
    for action in wanted:
        run_id = _written(session, alarm, action, now)
        if run_id is not None:
            due = AlarmWebhookDue(run_id) if action.kind == "webhook" else AlarmActionDue(run_id)
            events.emit(
                session, due, subject=f"alarm:{alarm.id}", at=now, actor=by, unit_id=alarm.unit_id
            )  # fmt: skip


def _written(session: Session, alarm: Alarm, action: AlarmAction, now: datetime) -> int | None:
    """Write down that an alarm set off an action; None where it has before."""
    row = insert(AlarmActionRun).values(
        alarm_id=alarm.id, action_id=action.id, occasion=action.occasion, kind=action.kind, settings=action.settings,
        at=now,
    )  # fmt: skip
    return session.scalar(
        row.on_conflict_do_nothing(
            index_elements=[AlarmActionRun.alarm_id, AlarmActionRun.action_id, AlarmActionRun.occasion]
        ).returning(AlarmActionRun.id)
    )


def _taken(session: Session, run_id: int) -> tuple[AlarmActionRun | None, Alarm | None]:
    run = session.get(AlarmActionRun, run_id, with_for_update=True)
    if run is None or run.done_at is not None:
        return None, None
    return run, session.get_one(Alarm, run.alarm_id)


def _tell(session: Session, alarm: Alarm, run: AlarmActionRun, now: datetime) -> None:
    to = run.settings
    people = [to["account_id"]] if "account_id" in to else notices.on_shift(session, to["role"], alarm.unit_id, now)
    name = alarm.alarm_type.name if alarm.alarm_type else alarm.type_key
    where = alarm.asset.name if alarm.asset else ""
    message = " · ".join(part for part in (where, alarm.message or name) if part)
    notices.give(
        session, people, calling.RAISED if run.occasion == "raise" else CLEARED, subject=f"alarm:{alarm.id}",
        href=f"/alarms/{alarm.id}", values={"message": message}, at=now,
    )  # fmt: skip


def _devices(session: Session, alarm: Alarm, settings: Mapping[str, Any]) -> Sequence[Device]:
    if settings.get("device_id") is not None:
        return [session.get_one(Device, settings["device_id"])]
    if alarm.device_id is not None:
        return [session.get_one(Device, alarm.device_id)]
    bound = select(Binding.device_id).where(Binding.asset_id == alarm.asset_id, Binding.ends_at.is_(None))
    return session.scalars(
        select(Device).where(Device.id.in_(bound), Device.revoked_at.is_(None)).order_by(Device.id)
    ).all()


def _subject(session: Session, alarm: Alarm, settings: Mapping[str, Any]) -> Subject:
    """Return whose attribute is meant: a device that was named, else the alarm's asset, else its device."""
    device_id = settings.get("device_id") or (alarm.device_id if alarm.asset is None else None)
    if device_id is None and alarm.asset is not None:
        return Subject("asset", alarm.asset.id, alarm.asset.company_id, alarm.asset.unit_id)
    device = session.get_one(Device, device_id)
    return Subject("device", device.id, device.company_id, device.unit_id)
