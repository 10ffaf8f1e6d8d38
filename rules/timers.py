"""What time does to alarms: holds begin and end, floods and chattering end, people are reminded, others are called.

Off the wall clock, from rows: each tick takes what is due, locks it past whoever else ticks, and writes when to look
again in the same transaction. So after days of standing still everything happens at the first tick, and with several
processes each thing once.
"""

from datetime import datetime, timedelta
from typing import Final

from sqlalchemy import or_, select
from sqlalchemy.orm import Session

from kernel import audit, events
from rules import alarms, announcing, escalation, holding, holds, policies
from rules.escalation import Followed, Policy
from rules.events import AlarmAnnounced, AlarmEscalated, AlarmFlagged, AlarmHoldDue, AlarmReminded
from rules.hold_tables import AlarmHold
from rules.models import Alarm, AlarmEntry

MOST: Final = 500
"""Rows a tick takes; the next one takes more."""
_MOST_HELD: Final = 5000


def run_holds(session: Session, now: datetime) -> int:
    """Let planned holds begin, end those whose time is over, and ask for a look at those that are to be reviewed."""
    due = session.scalars(
        select(AlarmHold)
        .where(AlarmHold.next_at <= now)
        .order_by(AlarmHold.next_at, AlarmHold.id)
        .limit(MOST)
        .with_for_update(skip_locked=True)
    ).all()
    for hold in due:
        if hold.until is not None and hold.until <= now:
            holds.end(session, hold, by="system", now=now)
        elif hold.state == "planned":
            holds.begin_planned(session, hold, now=now)
        else:
            hold.next_at = hold.until
            subject = f"alarm_hold:{hold.id}"
            events.emit(session, AlarmHoldDue(hold.id), subject=subject, at=now, actor="system", unit_id=hold.unit_id)
    session.flush()
    alarms.settle(session, holds.concerned_alarms(session, due), now=now)
    return len(due)


def run_held(session: Session, now: datetime) -> int:
    """Announce what nothing holds any more: a gateway is back, a machine runs again, a hold ended at that moment.

    Returns how many alarms' marks changed.
    """
    is_held = or_(Alarm.suppressed_by.is_not(None), Alarm.is_shelved, Alarm.is_out_of_service)
    ids = session.scalars(select(Alarm.id).where(Alarm.is_active, is_held).limit(_MOST_HELD)).all()
    changed = [one.id for one in holding.of(session, ids) if one.is_changed] if ids else []
    alarms.settle(session, changed, now=now)
    return len(changed)


def run_floods(session: Session, now: datetime) -> int:
    """End floods and chattering that are over."""
    return alarms.end_floods(session, now=now) + alarms.calm(session, now=now)


def run_followed(session: Session, now: datetime) -> int:
    """Remind, escalate, re-alarm and flag as stale what is due; return how many alarms were looked at."""
    due = session.scalars(
        select(Alarm)
        .where(Alarm.next_at <= now, Alarm.is_active, ~Alarm.is_chattering)
        .order_by(Alarm.subject, Alarm.type_key)
        .limit(MOST)
        .with_for_update(skip_locked=True)
        .execution_options(populate_existing=True)
    ).all()
    if not due:
        return 0
    # What has come to be held since it was announced waits for its release.
    held = {one.id for one in holding.of(session, [one.id for one in due]) if one.is_held}
    alarms.settle(session, held, now=now)
    rules = policies.of_alarms(session, due)
    for alarm in due:
        _flag_stale(session, alarm, now)
        if alarm.id in held or alarm.announced_at is None:
            _plan(alarm, None, now)
        else:
            _follow(session, alarm, rules[alarm.id], now)
    session.flush()
    return len(due)


def _follow(session: Session, alarm: Alarm, policy: Policy, now: datetime) -> None:
    assert alarm.announced_at is not None  # noqa: S101 - the caller has looked
    followed = Followed(alarm.announced_at, alarm.is_acknowledged, alarm.reminders, alarm.escalated, alarm.realarms)
    what = escalation.due(followed, policy, now)
    if what.rearms:
        _rearm(session, alarm, now)
        what = escalation.due(Followed(now, is_acknowledged=False, realarms=alarm.realarms), policy, now)
    if what.reminder is not None:
        alarm.reminders = what.reminder
        _tell(session, alarm, AlarmReminded(alarm.id, what.reminder), now)
    for number in what.steps:
        step = policy.steps[number]
        alarm.escalated = number + 1
        _write_down(session, alarm, "escalated", {"role": step.role, "account": step.account_id}, now)
        _tell(session, alarm, AlarmEscalated(alarm.id, number, step.role, step.account_id), now)
    _plan(alarm, what.next_at, now)


def _rearm(session: Session, alarm: Alarm, now: datetime) -> None:
    alarm.is_acknowledged, alarm.acknowledged_at, alarm.acknowledged_by = False, None, None
    alarm.announced_at, alarm.reminders, alarm.escalated = now, 0, 0
    alarm.realarms += 1
    _write_down(session, alarm, "rearmed", {"times": alarm.realarms}, now)
    _tell(session, alarm, AlarmAnnounced(alarm.id, "rearmed"), now)


def _flag_stale(session: Session, alarm: Alarm, now: datetime) -> None:
    if alarm.stale_at is None and now - alarm.detected_at >= announcing.STALE_AFTER:
        alarm.stale_at = now
        _tell(session, alarm, AlarmFlagged(alarm.id, "stale"), now)


def _plan(alarm: Alarm, next_at: datetime | None, now: datetime) -> None:
    """Write when to look again: when the follow-up says so, or when the alarm becomes stale."""
    stale_at = None if alarm.stale_at is not None else max(alarm.detected_at + announcing.STALE_AFTER, now)
    wanted = [one for one in (next_at, stale_at) if one is not None]
    alarm.next_at = max(min(wanted), now + timedelta(seconds=1)) if wanted else None


def _write_down(session: Session, alarm: Alarm, kind: str, detail: dict[str, object], now: datetime) -> None:
    session.add(AlarmEntry(alarm_id=alarm.id, at=now, actor="system", kind=kind, text="", detail=detail))
    session.flush()
    audit.record(
        session, f"alarm.{kind}", subject=f"alarm:{alarm.id}", actor="system", at=now, after=dict(detail),
        company_id=alarm.company_id,
    )  # fmt: skip


def _tell(session: Session, alarm: Alarm, happening: object, now: datetime) -> None:
    events.emit(session, happening, subject=f"alarm:{alarm.id}", at=now, actor="system", unit_id=alarm.unit_id)
