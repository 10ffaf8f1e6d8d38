"""Plans as planners change them: made, edited, paused. An edit touches only what has no order yet (M12)."""

from dataclasses import dataclass
from datetime import date, datetime, time
from itertools import islice
from zoneinfo import ZoneInfo

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from assets.models import Asset
from kernel import audit
from kernel.errors import Invalid
from maintenance.orders import kinds
from maintenance.plans import recurrence, schedule
from maintenance.plans.models import Checklist, Occurrence, Plan
from maintenance.plans.recurrence import Recurrence, Target
from people.models import Skill, Team

LONGEST_LEAD = 365
LONGEST_NAME = 200
LONGEST_WORK = 100_000
PREVIEWED = 8
CATCH_UPS = ("once", "all", "skip")


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """What a planner asks for. ``at_time`` is wall time at the asset's site."""

    name: str
    rrule: str
    starts_on: date
    at_time: time
    name_zh: str | None = None
    kind: str = "inspection"
    ends_on: date | None = None
    lead_days: int = 3
    checklist_id: int | None = None
    team_id: int | None = None
    skill: str | None = None
    estimated_minutes: int = 60
    priority: int = 3
    catch_up: str = "once"


def preview(asset: Asset, wish: Wish, now: datetime) -> list[Target]:
    """Return the first dates that a wish would have; nothing is written.

    Raises:
        Invalid: the recurrence is not acceptable, or has no date any more.
    """
    rule = Recurrence(recurrence.parse(wish.rrule), wish.starts_on, wish.at_time, asset.site.zone, wish.ends_on)
    coming = list(islice(recurrence.targets(rule, after=now, until=now + recurrence.HORIZON), PREVIEWED))
    if not coming:
        raise Invalid("This recurrence has no date in the coming years.", field="rrule")
    return coming


def make(session: Session, asset: Asset, wish: Wish, *, actor: str, now: datetime) -> Plan:
    """Make a plan; its first target is the first of its rule that is not past.

    Raises:
        Invalid: a field is not acceptable; the error names it.
    """
    plan = Plan(company_id=asset.company_id, unit_id=asset.unit_id, asset=asset, zone=asset.site.zone, is_active=True)
    _apply(session, plan, wish)
    _aim(plan, now)
    session.add(plan)
    session.flush()
    _audit(session, plan, "make", actor, now)
    return plan


def edit(session: Session, plan: Plan, wish: Wish, *, actor: str, now: datetime) -> Plan:
    """Change a plan from its next target on.

    Raises:
        Invalid: a field is not acceptable; the error names it.
    """
    session.refresh(plan, with_for_update=True)
    _apply(session, plan, wish)
    last = session.scalar(select(func.max(Occurrence.due_at)).where(Occurrence.plan_id == plan.id))
    _aim(plan, max(now, last) if last else now)
    session.flush()
    _audit(session, plan, "edit", actor, now)
    return plan


def pause(session: Session, plan: Plan, *, actor: str, now: datetime) -> None:
    """Let a plan rest; orders it made stay."""
    session.refresh(plan, with_for_update=True)
    plan.is_active = False
    session.flush()
    _audit(session, plan, "pause", actor, now)


def resume(session: Session, plan: Plan, *, actor: str, now: datetime) -> None:
    """Let a plan run again from its next target; what passed while it rested is not caught up."""
    session.refresh(plan, with_for_update=True)
    plan.is_active = True
    _aim(plan, now)
    session.flush()
    _audit(session, plan, "resume", actor, now)


def _apply(session: Session, plan: Plan, wish: Wish) -> None:
    if not 1 <= len(wish.name.strip()) <= LONGEST_NAME:
        raise Invalid("Please write between 1 and {most} characters.", field="name", most=LONGEST_NAME)
    if not 0 <= wish.lead_days <= LONGEST_LEAD:
        raise Invalid("The lead time is between 0 and {most} days.", field="lead_days", most=LONGEST_LEAD)
    if wish.catch_up not in CATCH_UPS:
        raise Invalid("Catching up is one of: once, all, skip.", field="catch_up")
    if wish.ends_on and wish.ends_on < wish.starts_on:
        raise Invalid("The plan ends before it starts.", field="ends_on")
    if not 1 <= wish.priority <= 4:  # noqa: PLR2004 - the four priorities
        raise Invalid("The priority is a number from 1 to 4.", field="priority")
    if not 1 <= wish.estimated_minutes <= LONGEST_WORK:
        raise Invalid(
            "The expected time is between 1 and {most} minutes.", field="estimated_minutes", most=LONGEST_WORK
        )
    _require_own(session, plan.company_id, wish)
    plan.order_type_id = kinds.of(session, plan.company_id, wish.kind).id
    plan.rrule = recurrence.parse(wish.rrule)
    for name in (
        "name", "name_zh", "starts_on", "at_time", "ends_on", "lead_days", "checklist_id", "team_id", "skill",
        "estimated_minutes", "priority", "catch_up",
    ):  # fmt: skip
        setattr(plan, name, getattr(wish, name))
    plan.name, plan.name_zh = wish.name.strip(), (wish.name_zh or "").strip()[:LONGEST_NAME] or None


def _require_own(session: Session, company_id: int, wish: Wish) -> None:
    """Make sure that what a plan points to belongs to its company.

    Raises:
        Invalid: a checklist, team or skill is not known there; the error names the field.
    """
    for field, identity, found in (
        ("checklist_id", wish.checklist_id, select(Checklist.company_id).where(Checklist.id == wish.checklist_id)),
        ("team_id", wish.team_id, select(Team.company_id).where(Team.id == wish.team_id)),
    ):
        if identity is not None and session.scalar(found) != company_id:
            raise Invalid("There is nothing of this number to choose.", field=field)
    known = select(Skill.id).where(Skill.company_id == company_id, Skill.key == wish.skill)
    if wish.skill and session.scalar(known) is None:
        raise Invalid("There is no skill called {skill}.", field="skill", skill=wish.skill)


def _aim(plan: Plan, after: datetime) -> None:
    """Set the plan's next target: the first one later than an instant.

    Raises:
        Invalid: the rule has no date any more.
    """
    target = recurrence.following(schedule.recurrence_of(plan), after)
    if target is None:
        raise Invalid("This recurrence has no date in the coming years.", field="rrule")
    plan.next_due_at = target.due_at


def local(plan: Plan, moment: datetime) -> datetime:
    """Return an instant as wall time at the plan's site."""
    return moment.astimezone(ZoneInfo(plan.zone))


def _audit(session: Session, plan: Plan, verb: str, actor: str, now: datetime) -> None:
    audit.record(
        session,
        f"plan.{verb}",
        subject=f"plan:{plan.id}",
        actor=actor,
        at=now,
        after={"rrule": plan.rrule, "starts_on": plan.starts_on.isoformat(), "is_active": plan.is_active},
        company_id=plan.company_id,
    )
