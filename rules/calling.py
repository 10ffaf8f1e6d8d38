"""Who is told of an alarm on their own page: at the announcement, at each reminder, at each step of escalation.

Subscribers of the outbox: each runs in a transaction of its own, once. During a flood of a desk its people hear of
the flood, and of single alarms no more until it is over.
"""

from collections.abc import Collection, Iterable, Sequence
from datetime import datetime, timedelta

from sqlalchemy import select
from sqlalchemy.orm import Session, selectinload

from kernel.i18n import noop
from people import notices
from people.notices import Word
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
    on_many_announced(session, [event], now)


def on_many_announced(session: Session, happenings: Sequence[AlarmAnnounced], now: datetime) -> None:
    """Tell of many alarms; a desk's flood and who is on shift are asked for once."""
    wanted = select(Alarm).where(Alarm.id.in_([one.alarm_id for one in happenings]))
    whole = (selectinload(Alarm.asset), selectinload(Alarm.device), selectinload(Alarm.alarm_type))
    alarms = {alarm.id: alarm for alarm in session.scalars(wanted.options(*whole))}
    flooded = _flooded(session, {alarm.unit_id for alarm in alarms.values()})
    told = [
        (alarms[one.alarm_id], REARMED if one.why == "rearmed" else RAISED)
        for one in happenings
        if alarms[one.alarm_id].parent_id is not None or alarms[one.alarm_id].unit_id not in flooded
    ]
    followed = policies.of_alarms(session, list({alarm.id: alarm for alarm, _ in told}.values())) if told else {}
    on_shift = _OnShift(session, now)
    words = []
    for alarm, text in told:
        first = [step for step in followed[alarm.id].steps if step.after <= timedelta()]
        words.append(_word(alarm, on_shift.people(first, alarm.unit_id), text))
    notices.give_all(session, words, at=now)


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
    people = _OnShift(session, now).people(steps, alarm.unit_id)
    notices.give_all(session, [_word(alarm, people, text)], at=now)


class _OnShift:
    """Who is called at one instant; each role of a unit is asked for once."""

    def __init__(self, session: Session, now: datetime) -> None:
        self._session = session
        self._now = now
        self._known: dict[tuple[str, int], list[int]] = {}

    def people(self, steps: Iterable[Step], unit_id: int) -> set[int]:
        """Return whom steps call for an alarm of a unit."""
        found: set[int] = set()
        for step in steps:
            if step.account_id is not None:
                found.add(step.account_id)
            elif step.role is not None:
                found.update(self._of_role(step.role, unit_id))
        return found

    def _of_role(self, role: str, unit_id: int) -> list[int]:
        if (role, unit_id) not in self._known:
            self._known[role, unit_id] = notices.on_shift(self._session, role, unit_id, self._now)
        return self._known[role, unit_id]


def _word(alarm: Alarm, people: Collection[int], text: str) -> Word:
    name = alarm.alarm_type.name if alarm.alarm_type else alarm.type_key
    where = alarm.asset.name if alarm.asset else alarm.device.name if alarm.device else ""
    message = " · ".join(part for part in (where, alarm.message or name) if part)
    return Word(people, text, f"alarm:{alarm.id}", f"/alarms/{alarm.id}", {"message": message})


def _flooded(session: Session, unit_ids: Collection[int]) -> set[int]:
    """Return which of these units are in a flood."""
    subjects = [f"unit:{unit_id}" for unit_id in unit_ids]
    rows = select(AlarmFlood.unit_id, AlarmFlood.subject).where(
        AlarmFlood.unit_id.in_(unit_ids), AlarmFlood.subject.in_(subjects), AlarmFlood.ended_at.is_(None)
    )
    return {unit_id for unit_id, subject in session.execute(rows) if subject == f"unit:{unit_id}"}
