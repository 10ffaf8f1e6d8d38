"""What technicians found when they finished the orders of a rule's alarms: from it follows how good the rule is."""

from typing import Final

from sqlalchemy import select
from sqlalchemy.orm import Session

from maintenance.orders.models import Order
from people import scope
from people.scope import Viewer
from rules.models import Alarm
from rules.precision import Judged

MOST: Final = 1000
"""The latest findings; a rule is judged by what it does now."""


def of_rule(session: Session, viewer: Viewer, alarm_type_id: int) -> list[Judged]:
    """Return the latest findings on an alarm type's alarms, as far as the viewer may read its rules and orders."""
    rows = session.execute(
        select(Order.finding, Alarm)
        .join(Alarm, Alarm.id == Order.alarm_id)
        .where(
            Alarm.alarm_type_id == alarm_type_id,
            Order.finding.is_not(None),
            scope.visible(Order, viewer, "orders.read"),
        )
        .order_by(Order.id.desc())
        .limit(MOST)
    )
    return [_judged(finding, alarm) for finding, alarm in rows if finding is not None]


def _judged(finding: str, alarm: Alarm) -> Judged:
    for limit in alarm.evidence.get("limits", ()):
        is_own = limit.get("from") == "override"
        is_plain = "view" not in limit and "other" not in limit and isinstance(limit["limit"], int | float)
        if limit["metric"] == alarm.metric and is_plain and not is_own:
            return Judged(finding, alarm.metric, limit["operator"], float(limit["limit"]), alarm.peak_value)
    return Judged(finding)
