"""What planned work lies ahead: by week, late, and resting. Read from rows and from the function the tick uses."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from zoneinfo import ZoneInfo

from sqlalchemy import func, select
from sqlalchemy.orm import Session, joinedload

from maintenance.orders import faults
from maintenance.orders.models import Order
from maintenance.plans import schedule
from maintenance.plans.models import Occurrence, Plan
from maintenance.plans.recurrence import Target
from people import scope
from people.scope import Viewer

MOST_PLANS = 2000
"""Plans that are looked ahead with at once; whoever has more looks at one site at a time."""


@dataclass(slots=True)
class Week:
    """The planned work that is due in a week, which begins on a Monday."""

    monday: date
    jobs: int = 0
    done: int = 0
    minutes: int = 0


def coming(
    session: Session, viewer: Viewer, start: datetime, end: datetime, *, site_id: int | None = None
) -> list[tuple[Plan, Target]]:
    """Return the targets between two instants that have no occurrence yet."""
    wanted = (
        select(Plan)
        .where(scope.visible(Plan, viewer, "plans.read"), Plan.is_active, Plan.next_due_at < end)
        .options(joinedload(Plan.asset))
        .order_by(Plan.next_due_at, Plan.id)
        .limit(MOST_PLANS)
    )
    if site_id is not None:
        wanted = wanted.where(Plan.asset.has(site_id=site_id))
    plans = session.scalars(wanted)
    return [(plan, target) for plan in plans for target in schedule.ahead(plan, until=end) if target.due_at >= start]


def made(
    session: Session, viewer: Viewer, start: datetime, end: datetime, *, site_id: int | None = None, limit: int = 2000
) -> Sequence[Occurrence]:
    """Return the occurrences due between two instants, with their plans and orders."""
    wanted = (
        select(Occurrence)
        .join(Plan, Plan.id == Occurrence.plan_id)
        .where(scope.visible(Plan, viewer, "plans.read"), Occurrence.due_at >= start, Occurrence.due_at < end)
        .options(joinedload(Occurrence.plan).joinedload(Plan.asset), joinedload(Occurrence.order))
        .order_by(Occurrence.due_at, Occurrence.id)
        .limit(limit)
    )
    if site_id is not None:
        wanted = wanted.where(Plan.asset.has(site_id=site_id))
    return session.scalars(wanted).all()


def weeks(session: Session, viewer: Viewer, now: datetime, *, count: int = 6, site_id: int | None = None) -> list[Week]:
    """Return this week and the ones that follow, as the viewer's zone divides them, with what is due in each."""
    zone = ZoneInfo(viewer.zone)
    today = now.astimezone(zone).date()
    monday = today - timedelta(days=today.weekday())
    found = [Week(monday + timedelta(weeks=number)) for number in range(count)]
    start = datetime.combine(monday, datetime.min.time(), zone)
    end = start + timedelta(weeks=count)
    for occurrence in made(session, viewer, start, end, site_id=site_id):
        if occurrence.state == "ordered":
            week = _of(found, occurrence.due_at, zone)
            week.jobs += 1
            week.minutes += occurrence.plan.estimated_minutes
            week.done += occurrence.order is not None and occurrence.order.finished_at is not None
    for plan, target in coming(session, viewer, max(start, now), end, site_id=site_id):
        week = _of(found, target.due_at, zone)
        week.jobs += 1
        week.minutes += plan.estimated_minutes
    return found


def _of(weeks: Sequence[Week], moment: datetime, zone: ZoneInfo) -> Week:
    days = (moment.astimezone(zone).date() - weeks[0].monday).days
    return weeks[min(max(days // 7, 0), len(weeks) - 1)]


def late(
    session: Session, viewer: Viewer, now: datetime, *, site_id: int | None = None, limit: int = 8
) -> Sequence[Order]:
    """Return planned orders that are past their date and not done, the longest overdue first."""
    wanted = (
        select(Order)
        .where(
            scope.visible(Order, viewer, "orders.read"),
            faults.is_open(),
            Order.origin == "plan",
            Order.due_at < now,
            Order.finished_at.is_(None),
        )
        .options(joinedload(Order.asset), joinedload(Order.assignee))
        .order_by(Order.due_at)
        .limit(limit)
    )
    if site_id is not None:
        wanted = wanted.where(Order.site_id == site_id)
    return session.scalars(wanted).all()


def resting(session: Session, viewer: Viewer) -> int:
    """Return how many plans rest or have ended."""
    return (
        session.scalar(
            select(func.count())
            .select_from(Plan)
            .where(scope.visible(Plan, viewer, "plans.read"), ~Plan.is_active | Plan.next_due_at.is_(None))
        )
        or 0
    )
