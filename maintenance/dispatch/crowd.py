"""Who could work on an order: everybody of the company whose role carries out orders, as values for the scoring.

A constant number of queries, however many people there are. What the decision reads is exactly what is stored
with it, so nothing here depends on who asks.
"""

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any, Final

from sqlalchemy import BigInteger, ColumnElement, any_, bindparam, func, select
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.orm import InstrumentedAttribute, Session

from assets.models import Site
from maintenance.dispatch.scoring import LOOK_AHEAD, Held, Job, Person, Position
from maintenance.orders.models import Order
from people.hours import Pattern, Stretch
from people.models import Absence, Account, AccountSkill, Membership, OrgUnit, Role, Shift, Skill, TeamMember

RIGHT: Final = "orders.work"
HELD_BY_SOMEBODY: Final = ("assigned", "accepted", "travelling", "on_site", "working", "paused")


@dataclass(frozen=True, slots=True)
class Crowd:
    """The people of one company, and how far the right to carry out orders reaches for each."""

    people: tuple[Person, ...]
    reach: dict[int, tuple[str, ...]]

    def at(self, path: str) -> list[Person]:
        """Return the people as candidates for an order whose org unit has this path."""
        return [replace(one, reaches_site=path.startswith(self.reach[one.id])) for one in self.people]

    def given(self, account_id: int, order: Order, now: datetime) -> "Crowd":
        """Return the people as gathering them anew would show them, once one of them was given an order."""
        return replace(
            self, people=tuple(_given(one, order, now) if one.id == account_id else one for one in self.people)
        )


def gather(session: Session, company_id: int, now: datetime, *, only: Iterable[int] | None = None) -> Crowd:
    """Return the people of a company who may carry out orders, or of these only the accounts in ``only``."""
    reach: dict[int, set[str]] = defaultdict(set)
    wanted = (
        select(Membership.account_id, OrgUnit.path)
        .join(Role, Role.id == Membership.role_id)
        .join(OrgUnit, OrgUnit.id == Membership.unit_id)
        .join(Account, Account.id == Membership.account_id)
        .where(Account.company_id == company_id, Role.rights.contains([RIGHT]))
    )
    if only is not None:
        wanted = wanted.where(Account.id.in_(list(only)))
    for account_id, path in session.execute(wanted):
        reach[account_id].add(path)
    return Crowd(_people(session, list(reach), now), {one: tuple(sorted(paths)) for one, paths in reach.items()})


def stranger(account: Account) -> Person:
    """Return an account whose role does not carry out orders, as the scoring sees it."""
    return Person(id=account.id, name=account.name, is_active=account.is_active, may_work=False, reaches_site=False)


def job_of(session: Session, order: Order, now: datetime, *, planned_at: datetime | None = None) -> Job:
    """Return what the scoring has to know of an order; ``planned_at`` is a visit about to be booked."""
    site = session.get(Site, order.site_id) if order.site_id else None
    planned = planned_at or order.planned_at
    return Job(
        at=planned or now,
        now=now,
        zone=site.zone if site else "UTC",
        skill=order.skill,
        latitude=site.latitude if site else None,
        longitude=site.longitude if site else None,
        due_at=order.due_at,
        estimated_minutes=order.estimated_minutes,
        team_id=order.team_id,
        refused_by=frozenset(order.refused_by),
        is_planned=planned is not None,
    )


def _given(person: Person, order: Order, now: datetime) -> Person:
    minutes, start = order.estimated_minutes, order.planned_at
    visit = ((start, start + timedelta(minutes=minutes), order.number),) if start is not None else ()
    return replace(
        person, open_minutes=person.open_minutes + minutes, last_assigned_at=now, visits=(*person.visits, *visit)
    )


def _people(session: Session, ids: list[int], now: datetime) -> tuple[Person, ...]:
    skills = defaultdict(list)
    held = select(
        AccountSkill.account_id, Skill.key, AccountSkill.level, AccountSkill.valid_from, AccountSkill.valid_until
    ).join(Skill, Skill.id == AccountSkill.skill_id)
    for account_id, key, level, since, until in session.execute(held.where(_among(AccountSkill.account_id, ids))):
        skills[account_id].append(Held(key, level, since, until))
    patterns: dict[int, list[Pattern]] = defaultdict(list)
    worked = select(
        Shift.account_id, Shift.weekdays, Shift.starts, Shift.ends, Shift.zone, Shift.valid_from, Shift.valid_until
    )
    for one in session.execute(worked.where(_among(Shift.account_id, ids)).order_by(Shift.id)):
        patterns[one.account_id].append(
            Pattern(frozenset(one.weekdays), one.starts, one.ends, one.zone, one.valid_from, one.valid_until)
        )
    away: dict[int, list[Stretch]] = defaultdict(list)
    soon = select(Absence.account_id, Absence.starts_at, Absence.ends_at).where(
        _among(Absence.account_id, ids), Absence.ends_at > now, Absence.starts_at < now + 4 * LOOK_AHEAD
    )
    for account_id, starts_at, ends_at in session.execute(soon):
        away[account_id].append((starts_at, ends_at))
    teams: dict[int, set[int]] = defaultdict(set)
    for account_id, team_id in session.execute(
        select(TeamMember.account_id, TeamMember.team_id).where(_among(TeamMember.account_id, ids))
    ):
        teams[account_id].add(team_id)
    minutes, visits = _loads(session, ids)
    # Values, not rows to be kept: this is asked for each order, of everybody, while others wait for their turn.
    accounts = session.execute(
        select(
            Account.id,
            Account.name,
            Account.is_active,
            Account.last_assigned_at,
            Account.latitude,
            Account.longitude,
            Account.position_at,
        )
        .where(_among(Account.id, ids))
        .order_by(Account.id)
    ).all()
    return tuple(
        Person(
            id=one.id,
            name=one.name,
            is_active=one.is_active,
            skills=tuple(skills[one.id]),
            shifts=tuple(patterns[one.id]),
            absences=tuple(sorted(away[one.id])),
            teams=frozenset(teams[one.id]),
            open_minutes=minutes.get(one.id, 0),
            last_assigned_at=one.last_assigned_at,
            position=_position(one.latitude, one.longitude, one.position_at),
            visits=tuple(visits[one.id]),
        )
        for one in accounts
    )


def _among(column: InstrumentedAttribute[Any], ids: list[int]) -> ColumnElement[bool]:
    """Return that a column is one of the ids, as one array and not as one parameter a person."""
    return column == any_(bindparam(None, ids, ARRAY(BigInteger)))


def _loads(session: Session, ids: list[int]) -> tuple[dict[int, int], dict[int, list[tuple[datetime, datetime, str]]]]:
    """Return the open estimated minutes of each account, and its booked visits."""
    open_ones = _among(Order.assignee_id, ids) & Order.phase.in_(HELD_BY_SOMEBODY)
    sums = select(Order.assignee_id, func.sum(Order.estimated_minutes)).where(open_ones).group_by(Order.assignee_id)
    minutes = {account_id: total for account_id, total in session.execute(sums) if account_id is not None}
    visits: dict[int, list[tuple[datetime, datetime, str]]] = defaultdict(list)
    booked = select(Order.assignee_id, Order.planned_at, Order.estimated_minutes, Order.number)
    for account_id, start, length, number in session.execute(booked.where(open_ones, Order.planned_at.is_not(None))):
        if account_id is not None and start is not None:
            visits[account_id].append((start, start + timedelta(minutes=length), number))
    return minutes, visits


def _position(latitude: float | None, longitude: float | None, at: datetime | None) -> Position | None:
    if latitude is None or longitude is None or at is None:
        return None
    return Position(latitude, longitude, at)
