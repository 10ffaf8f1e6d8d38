"""What an open order hears of its fault: seen again and how often, and worse than before.

For ``alarm_orders``, which decides which alarm joins which order; the subject of each is held there.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy.orm import Session

from kernel import audit, db, events
from kernel.db import Json
from maintenance.orders import desk, timeline, urgency
from maintenance.orders.events import OrderPriorityRaised
from maintenance.orders.models import Entry, Order
from rules.models import Alarm


@dataclass(frozen=True, slots=True)
class Join:
    """An alarm that is counted in the open order of its fault."""

    order: Order
    alarm: Alarm
    times: int


def count(session: Session, joins: Sequence[Join], now: datetime) -> None:
    """Count alarms in the open orders of their faults; a burst of them stays one line of a timeline."""
    if not joins:
        return
    last = timeline.last_of(session, {join.order.id for join in joins})
    joined, new = [], []
    for join in joins:
        order, alarm = join.order, join.alarm
        # What is told of an alarm that is over may come after the next one was announced: the newer one counts.
        if order.alarm_id is None or order.alarm_id < alarm.id:
            order.alarm_id, order.recovered_at = alarm.id, None
        if (priority := urgency.of_severity(alarm.severity)) < order.priority:
            last[order.id] = raise_priority(session, order, priority, alarm.severity, now)
        order.occurrences += join.times
        order.last_seen_at = max(order.last_seen_at or alarm.last_seen_at, alarm.last_seen_at)
        joined.append((order, order.occurrences))
        before = last.get(order.id)
        if before is not None and before.kind == "alarm" and before.detail.get("what") == "again":
            counted = before.detail["times"] + join.times
            before.at, before.detail = now, {**before.detail, "alarm_id": alarm.id, "times": counted}
        else:
            again: Json = {"what": "again", "alarm_id": alarm.id, "times": join.times}
            last[order.id] = timeline.line(timeline.Line(order, "alarm", detail=again), actor="system", now=now)
            new.append(last[order.id])
    db.add_many(session, new)
    db.write_together(session, [order for order, _ in joined])
    session.flush()
    desk.tell_counted(session, joined, "system", now)


def raise_priority(session: Session, order: Order, priority: int, severity: str, now: datetime) -> Entry:
    """Make an order as urgent as its alarm has become; return the line that says so."""
    before = order.priority
    order.priority = priority
    due = urgency.due(priority, order.created_at)
    order.due_at = min(order.due_at or due, due)
    session.flush()
    detail: Json = {"what": "worse", "alarm_id": order.alarm_id, "severity": severity, "priority": priority}
    entry = timeline.write(session, order, "alarm", actor="system", now=now, detail=detail)
    audit.record(
        session,
        "order.raise_priority",
        subject=f"order:{order.id}",
        actor="system",
        at=now,
        before={"priority": before},
        after={"priority": priority},
        company_id=order.company_id,
    )
    events.emit(
        session,
        OrderPriorityRaised(order.id, before, priority),
        subject=f"order:{order.id}",
        at=now,
        actor="system",
        unit_id=order.unit_id,
    )
    return entry
