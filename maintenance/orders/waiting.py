"""Alarms that open something only if they stand long enough: a row each, so that a restart forgets none.

A tick says that a delay is over; the subscriber of that event looks once more whether the alarm still stands and opens
what the policy then says. One alarm waits once, and its row tells afterwards what became of it.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import Final

from sqlalchemy import select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from kernel import events
from maintenance.orders.events import AlarmOutlasted
from maintenance.orders.policy_tables import OrderWait
from rules.models import Alarm

_OPEN: Final = ("waiting", "due")
_BIT: Final = 500


def begin(session: Session, alarm: Alarm, due_at: datetime, now: datetime) -> None:
    """Let an alarm wait until ``due_at``; one that waits already keeps the earlier end."""
    waits = insert(OrderWait).values(alarm_id=alarm.id, state="waiting", began_at=now, due_at=due_at)
    known = OrderWait.state.in_(_OPEN)
    session.execute(
        waits.on_conflict_do_update(
            index_elements=[OrderWait.alarm_id],
            set_={"state": "waiting", "due_at": due_at, "began_at": now, "ended_at": None},
            where=~known | (OrderWait.due_at > due_at),
        )
    )


def end(session: Session, alarm_id: int, state: str, now: datetime) -> None:
    """Write down what ended an alarm's wait; nothing where none runs."""
    end_all(session, [alarm_id], state, now)


def end_all(session: Session, alarm_ids: Sequence[int], state: str, now: datetime) -> None:
    """Write down what ended the waits of alarms, of those that have any."""
    session.execute(
        update(OrderWait)
        .where(OrderWait.alarm_id.in_(alarm_ids), OrderWait.state.in_(_OPEN))
        .values(state=state, ended_at=now)
        .execution_options(synchronize_session=False)
    )


def of_alarm(session: Session, alarm_id: int) -> OrderWait | None:
    """Return the wait of an alarm as it stands or ended, for its page."""
    return session.get(OrderWait, alarm_id, populate_existing=True)


def is_due(session: Session, alarm_id: int) -> bool:
    """Return whether an alarm's delay is over and nobody has acted on it; its row is locked."""
    state = session.scalar(select(OrderWait.state).where(OrderWait.alarm_id == alarm_id).with_for_update())
    return state == "due"


def run_due(session: Session, now: datetime) -> int:
    """Say of every delay that is over that it is (run by a tick); return how many there were."""
    rows = session.execute(
        select(OrderWait, Alarm.unit_id)
        .join(Alarm, Alarm.id == OrderWait.alarm_id)
        .where(OrderWait.state == "waiting", OrderWait.due_at <= now)
        .order_by(OrderWait.due_at)
        .limit(_BIT)
        .with_for_update(skip_locked=True, of=OrderWait)
    ).all()
    for row, unit_id in rows:
        row.state = "due"
        events.emit(
            session, AlarmOutlasted(row.alarm_id), subject=f"alarm:{row.alarm_id}", at=now, actor="system",
            unit_id=unit_id,
        )  # fmt: skip
    session.flush()
    return len(rows)
