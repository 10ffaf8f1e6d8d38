"""The schedule of plans: rows that a tick turns into orders, exactly once each (SEMANTICS M1, M8, promise P5).

A tick may run twice, on two workers, or not at all for days: (plan, occurrence key) is unique, the plan's row is
locked while its occurrences are made, and what was missed is caught up as the plan's policy says.
"""

from collections.abc import Sequence
from datetime import datetime, timedelta

from sqlalchemy import func, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from kernel import audit
from maintenance.orders import opening
from maintenance.plans import checklists, recurrence
from maintenance.plans.models import Occurrence, Plan
from maintenance.plans.recurrence import Recurrence, Target

AT_ONCE = 100
"""Plans a tick takes at most; the next tick takes the rest."""
GRACE = timedelta(hours=1)
"""An occurrence this late was not missed, only ticked late."""
ACTOR = "system"


def recurrence_of(plan: Plan) -> Recurrence:
    """Return a plan's rule as a value."""
    return Recurrence(plan.rrule, plan.starts_on, plan.at_time, plan.zone, plan.ends_on)


def run_due(session: Session, now: datetime) -> int:
    """Make the occurrences whose time to be created has come; return how many orders were opened."""
    plans = session.scalars(
        select(Plan)
        .where(Plan.is_active, Plan.next_due_at <= now + func.make_interval(0, 0, 0, Plan.lead_days))
        .order_by(Plan.next_due_at)
        .limit(AT_ONCE)
        .with_for_update(skip_locked=True, of=Plan)
    ).all()
    return sum(_run(session, plan, now) for plan in plans)


def run_one(session: Session, plan: Plan, now: datetime) -> int:
    """Make what one plan has due, so that whoever has just changed it need not wait for the tick; see ``run_due``."""
    is_due = plan.next_due_at is not None and plan.next_due_at <= now + timedelta(days=plan.lead_days)
    return _run(session, plan, now) if plan.is_active and is_due else 0


def _run(session: Session, plan: Plan, now: datetime) -> int:
    until = now + timedelta(days=plan.lead_days)
    rule = recurrence_of(plan)
    due = list(recurrence.targets(rule, after=_just_before(plan), until=until))
    missed = [target for target in due if target.due_at < now - GRACE]
    wanted = set(_caught_up(missed, plan.catch_up)) | {target.key for target in due if target not in missed}
    opened = sum(_make(session, plan, target, target.key in wanted, now) for target in due)
    following = recurrence.following(rule, until)
    plan.next_due_at = following.due_at if following else None
    return opened


def _just_before(plan: Plan) -> datetime | None:
    """Return the instant after which targets are still open."""
    return plan.next_due_at - timedelta(milliseconds=1) if plan.next_due_at else None


def _caught_up(missed: Sequence[Target], policy: str) -> list[str]:
    """Return the keys of missed targets that still get an order: all, the newest, or none (M8)."""
    if policy == "all":
        return [target.key for target in missed]
    return [missed[-1].key] if policy == "once" and missed else []


def _make(session: Session, plan: Plan, target: Target, is_wanted: bool, now: datetime) -> int:  # noqa: FBT001 - a column
    """Write one occurrence, with its order when it is wanted; a row that exists already changes nothing."""
    row = insert(Occurrence).values(
        plan_id=plan.id,
        key=target.key,
        due_at=target.due_at,
        state="ordered" if is_wanted else "missed",
        policy=plan.catch_up,
        reason=None if is_wanted else "missed while nothing ran",
        created_at=now,
    )
    occurrence_id = session.scalar(row.on_conflict_do_nothing().returning(Occurrence.id))
    if occurrence_id is None or not is_wanted:
        return 0
    draft = opening.about(
        plan.asset,
        origin="plan",
        title=plan.name,
        title_zh=plan.name_zh,
        kind=plan.order_type.key,
        priority=plan.priority,
        skill=plan.skill,
        team_id=plan.team_id,
        due_at=target.due_at,
        planned_at=target.due_at,
        estimated_minutes=plan.estimated_minutes,
        fault_key=f"plan:{plan.id}/{target.key}",
    )
    order = opening.open_order(session, draft, actor=ACTOR, now=now)
    if plan.checklist_id is not None:
        checklists.attach(session, order, plan.checklist_id)
    session.get_one(Occurrence, occurrence_id).order_id = order.id
    audit.record(
        session,
        "plan.order",
        subject=f"plan:{plan.id}",
        actor=ACTOR,
        at=now,
        after={"occurrence": target.key, "order": order.number},
        company_id=plan.company_id,
    )
    return 1


def ahead(plan: Plan, *, until: datetime) -> list[Target]:
    """Return the targets of a plan that have no occurrence yet, by the function the tick uses; nothing is written."""
    if not plan.is_active or plan.next_due_at is None:
        return []
    return list(recurrence.targets(recurrence_of(plan), after=_just_before(plan), until=until))
