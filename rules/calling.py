"""Who is told of an alarm on their own page: at the announcement, at each reminder, at each step of escalation.

Subscribers of the outbox: each runs in a transaction of its own, once. During a flood of a desk its people hear of
the flood, and of single alarms no more until it is over.
"""

from datetime import datetime, timedelta

from sqlalchemy import select
from sqlalchemy.orm import Session

from kernel.i18n import noop
from people import notices
from rules import policies
from rules.escalation import Step
from rules.events import AlarmAnnounced, AlarmAssigned, AlarmEscalated, AlarmFloodBegan, AlarmHoldDue, AlarmReminded
from rules.hold_tables import AlarmFlood, AlarmHold
from rules.models import Alarm

RAISED = noop("Alarm: {message}")
REARMED = noop("The alarm still stands: {message}")
REMINDED = noop("Nobody has acknowledged the alarm yet: {message}")
ESCALATED = noop("The alarm has come to you, nobody has acknowledged it: {message}")
ASSIGNED = noop("The alarm is yours: {message}")
FLOOD = noop("More alarms than anybody can read: look at the desk.")
REVIEW = noop("Alarms have been out of service for a while. Is it still right? {reason}")


def on_announced(session: Session, event: AlarmAnnounced, now: datetime) -> None:
    """Tell those whom an alarm goes to first; of many at one desk only the flood is told."""
    alarm = session.get_one(Alarm, event.alarm_id)
    if alarm.parent_id is None and _is_flooded(session, alarm.unit_id):
        return
    first = [step for step in policies.of_alarms(session, [alarm])[alarm.id].steps if step.after <= timedelta()]
    _call(session, alarm, first, REARMED if event.why == "rearmed" else RAISED, now)


def on_reminded(session: Session, event: AlarmReminded, now: datetime) -> None:
    """Tell them again, and whom it was given to."""
    alarm = session.get_one(Alarm, event.alarm_id)
    if not alarm.is_acknowledged and alarm.is_active:
        first = [step for step in policies.of_alarms(session, [alarm])[alarm.id].steps if step.after <= timedelta()]
        given = [] if alarm.assignee_id is None else [Step(timedelta(), account_id=alarm.assignee_id)]
        _call(session, alarm, [*first, *given], REMINDED, now)


def on_escalated(session: Session, event: AlarmEscalated, now: datetime) -> None:
    """Tell the next ones."""
    alarm = session.get_one(Alarm, event.alarm_id)
    if not alarm.is_acknowledged and alarm.is_active:
        _call(session, alarm, [Step(timedelta(), event.role, event.account_id)], ESCALATED, now)


def on_assigned(session: Session, event: AlarmAssigned, now: datetime) -> None:
    """Tell whom it was given to."""
    if event.account_id is not None:
        alarm = session.get_one(Alarm, event.alarm_id)
        _call(session, alarm, [Step(timedelta(), account_id=event.account_id)], ASSIGNED, now)


def on_flood(session: Session, event: AlarmFloodBegan, now: datetime) -> None:
    """Tell the people of a desk once that they are in a flood."""
    people = notices.on_shift(session, "dispatcher", event.unit_id, now)
    notices.give(session, people, FLOOD, subject=f"unit:{event.unit_id}", href="/alarms", at=now)


def on_hold_due(session: Session, event: AlarmHoldDue, now: datetime) -> None:
    """Ask whoever took alarms out of service whether it is still right."""
    hold = session.get_one(AlarmHold, event.hold_id)
    kind, _, number = hold.by.partition(":")
    people = [int(number)] if kind == "account" else notices.on_shift(session, "dispatcher", hold.unit_id, now)
    notices.give(
        session, people, REVIEW, subject=f"alarm_hold:{hold.id}", href="/alarms/holds", values={"reason": hold.reason},
        at=now,
    )  # fmt: skip


def _call(session: Session, alarm: Alarm, steps: list[Step], text: str, now: datetime) -> None:
    people: set[int] = set()
    for step in steps:
        if step.account_id is not None:
            people.add(step.account_id)
        elif step.role is not None:
            people.update(notices.on_shift(session, step.role, alarm.unit_id, now))
    name = alarm.alarm_type.name if alarm.alarm_type else alarm.type_key
    where = alarm.asset.name if alarm.asset else alarm.device.name if alarm.device else ""
    message = " · ".join(part for part in (where, alarm.message or name) if part)
    notices.give(
        session, people, text, subject=f"alarm:{alarm.id}", href=f"/alarms/{alarm.id}", values={"message": message},
        at=now,
    )  # fmt: skip


def _is_flooded(session: Session, unit_id: int) -> bool:
    desk = select(AlarmFlood.id).where(
        AlarmFlood.unit_id == unit_id, AlarmFlood.subject == f"unit:{unit_id}", AlarmFlood.ended_at.is_(None)
    )
    return session.scalar(desk.limit(1)) is not None
