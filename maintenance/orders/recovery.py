"""Whether a repair held, as the machine says: its signal stays normal for a while after the finish (ALM-10).

A person finishes and verifies as before; the machine's word stands beside it. The time it must stay quiet is set by
alarm type or for the company, as is within how many days a fault that comes back counts as rework. The end of a watch
is a column: a tick looks at what is due, however long it was not looked at.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from sqlalchemy import func, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from kernel import audit
from kernel.db import Json
from kernel.errors import Invalid
from maintenance.orders import desk, faults, timeline
from maintenance.orders.events import OrderMoved
from maintenance.orders.models import Order
from maintenance.orders.policy_tables import RecoverySetting
from rules.models import Alarm

QUIET: Final = timedelta(minutes=10)
REWORK_DAYS: Final = 14
LONGEST_QUIET: Final = timedelta(days=7)
MOST_REWORK_DAYS: Final = 365
_FINISHED: Final = frozenset({"done", "verified", "closed"})
_BIT: Final = 200


@dataclass(frozen=True, slots=True)
class Settings:
    """How long a signal must stay normal after the finish, and within how many days a return is rework.

    None is unsaid: as the company says, or as delivered.
    """

    quiet_s: int | None = None
    rework_days: int | None = None


def settings_of(session: Session, company_id: int, alarm_type_id: int | None = None) -> Settings:
    """Return what was said for an alarm type, or with None for the company."""
    row = session.scalars(
        select(RecoverySetting).where(
            RecoverySetting.company_id == company_id, RecoverySetting.alarm_type_id.is_not_distinct_from(alarm_type_id)
        )
    ).one_or_none()
    return Settings() if row is None else Settings(row.quiet_s, row.rework_days)


def save(
    session: Session,
    wanted: Settings,
    *,
    company_id: int,
    alarm_type_id: int | None = None,
    actor: str,
    now: datetime,
) -> None:
    """Say how long signals must stay normal, and for the company within how many days a return is rework.

    Raises:
        Invalid: a time is negative or too long, or an alarm type is given days of its own.
    """
    if wanted.quiet_s is not None and not 0 <= wanted.quiet_s <= LONGEST_QUIET.total_seconds():
        raise Invalid("The quiet time is at most {days} days.", field="quiet", days=LONGEST_QUIET.days)
    if wanted.rework_days is not None and not 0 <= wanted.rework_days <= MOST_REWORK_DAYS:
        raise Invalid("Rework counts for at most {days} days.", field="rework_days", days=MOST_REWORK_DAYS)
    if alarm_type_id is not None and wanted.rework_days is not None:
        raise Invalid("Rework is counted alike in the whole company.", field="rework_days")
    before = settings_of(session, company_id, alarm_type_id)
    if before == wanted:
        return
    values = {"quiet_s": wanted.quiet_s, "rework_days": wanted.rework_days}
    row = insert(RecoverySetting).values(company_id=company_id, alarm_type_id=alarm_type_id, **values)
    session.execute(
        row.on_conflict_do_update(
            index_elements=[RecoverySetting.company_id, RecoverySetting.alarm_type_id], set_=values
        )
    )
    session.expire_all()
    audit.record(
        session,
        "recovery.save",
        subject=f"alarm_type:{alarm_type_id}" if alarm_type_id else "recovery",
        actor=actor,
        at=now,
        before={"quiet_s": before.quiet_s, "rework_days": before.rework_days},
        after=dict(values),
        company_id=company_id,
    )


def quiet_time(session: Session, company_id: int, alarm_type_id: int | None) -> timedelta:
    """Return how long a signal must stay normal after the finish of its repair."""
    own = settings_of(session, company_id, alarm_type_id).quiet_s if alarm_type_id is not None else None
    said = own if own is not None else settings_of(session, company_id).quiet_s
    return QUIET if said is None else timedelta(seconds=said)


def rework_within(session: Session, company_id: int) -> timedelta:
    """Return for how long after the finish a fault that comes back is the old one's rework."""
    days = settings_of(session, company_id).rework_days
    return timedelta(days=REWORK_DAYS if days is None else days)


def on_moved(session: Session, event: OrderMoved, _now: datetime) -> None:
    """Begin to watch the signal of an order that was finished; forget it of one on which work goes on."""
    order = desk.locked(session, event.order_id)
    if order.fault_key is None or order.phase == "cancelled":
        return
    if order.finished_at is None or order.phase not in _FINISHED:
        order.recovery = order.recovery_due_at = order.recovery_verified_at = None
    elif event.verb == "finish":
        watch(session, order, order.finished_at)
    session.flush()


def concerns(_session: Session, happenings: Sequence[OrderMoved]) -> list[bool]:
    """Say which moves may begin or end a watch: those into or out of finished work. Nothing else is ever watched."""
    return [not _FINISHED.isdisjoint((one.before, one.after)) for one in happenings]


def watch(session: Session, order: Order, since: datetime) -> None:
    """Watch the signal of a finished order, normal ``since`` then, for its quiet time; not while it is abnormal."""
    order.recovery = order.recovery_verified_at = order.recovery_due_at = None
    if order.finished_at is not None and not faults.signal_is_active(session, order):
        order.recovery = "watched"
        order.recovery_due_at = max(since, order.finished_at) + _quiet_of(session, order)
    session.flush()


def run_due(session: Session, now: datetime) -> int:
    """Look at the orders whose quiet time is over (run by a tick); return how many there were."""
    rows = session.scalars(
        select(Order)
        .where(Order.recovery_due_at <= now)
        .order_by(Order.recovery_due_at)
        .limit(_BIT)
        .with_for_update(skip_locked=True)
    ).all()
    for order in rows:
        _judge(session, order, now)
    return len(rows)


def _judge(session: Session, order: Order, now: datetime) -> None:
    due, order.recovery_due_at = order.recovery_due_at, None
    if due is None or order.finished_at is None or order.fault_key is None:
        return
    subject, _, type_key = order.fault_key.partition("/")
    of_fault = (Alarm.subject == subject, Alarm.type_key == type_key)
    after = (Alarm.detected_at > order.finished_at, Alarm.ended_at.is_(None) | (Alarm.ended_at > order.finished_at))
    came_back = session.scalar(select(func.max(Alarm.id)).where(*of_fault, *after))
    quiet = _quiet_of(session, order)
    normal_since = session.scalar(select(func.max(Alarm.cleared_at)).where(*of_fault))
    if came_back is not None or faults.signal_is_active(session, order):
        # What was held back from people came back as well: it was recorded, and it counts here.
        order.recovery = "came_back"
        _tell(session, order, {"what": "not_quiet", "alarm_id": came_back or order.alarm_id}, now)
    elif normal_since is not None and normal_since > order.finished_at and normal_since + quiet > due:
        watch(session, order, normal_since)
    else:
        order.recovery, order.recovery_verified_at = "held", due
        detail = {"what": "quiet", "alarm_id": order.alarm_id, "quiet_s": quiet.total_seconds()}
        _tell(session, order, detail, now)
        audit.record(
            session, "order.verify_recovery", subject=f"order:{order.id}", actor="system", at=now,
            after={"since": order.finished_at.isoformat(), "quiet_s": quiet.total_seconds()},
            company_id=order.company_id,
        )  # fmt: skip
        if order.phase == "done" and order.type.auto_verify:
            desk.move(session, order, "verify", actor="system", now=now)


def _quiet_of(session: Session, order: Order) -> timedelta:
    kind = session.scalar(select(Alarm.alarm_type_id).where(Alarm.id == order.alarm_id)) if order.alarm_id else None
    return quiet_time(session, order.company_id, kind)


def _tell(session: Session, order: Order, detail: Json, now: datetime) -> None:
    session.flush()
    timeline.write(session, order, "alarm", actor="system", now=now, detail=detail)
    desk.tell_joined(session, order, "system", now)
