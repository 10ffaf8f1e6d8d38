"""Orders that are dispatched together go to whom they would go one after the other, for the same reasons."""

import random
from datetime import date, time, timedelta
from typing import Any

import pytest
from sqlalchemy import select
from sqlalchemy.orm import Session, sessionmaker

from kernel import db
from kernel.models import AuditEntry, Event
from maintenance.dispatch import assign
from maintenance.dispatch.models import Decision
from maintenance.orders import desk, kinds, opening
from maintenance.orders.events import OrderOpened
from maintenance.orders.models import Assignment, Entry, Order
from people.models import AccountSkill, Skill, Team, TeamMember
from tests import factories
from tests.factories import NOW
from tests.maintenance import orders_world as world

SKILLS = (None, None, "hydraulics", "welding")


def crowd(session: Session, chance: random.Random) -> list[int]:
    """Write people who differ in every way that counts, and orders that do; return the orders' ids in some order."""
    made = world.build(session)
    company_id = made.company.units["company"].id
    team = Team(company_id=company_id, unit_id=company_id, name="Night crew")
    skills = {key: Skill(company_id=company_id, key=key, name=key) for key in SKILLS if key}
    session.add_all([team, *skills.values()])
    session.flush()
    for number in range(6):
        person = factories.account(
            session, made.company, "technician", chance.choice(("company", "north", "mill", "quarry")),
            username=f"person-{number}", latitude=48 + chance.random(), longitude=11 + chance.random(), position_at=NOW,
        )  # fmt: skip
        starts = chance.choice((0, 0, 0, 13))
        factories.shift(
            session, person, weekdays=[*range(7)], starts=time(starts), ends=time(0), valid_from=date(2026, 1, 1)
        )
        for skill in skills.values():
            if chance.random() < 0.5:
                session.add(AccountSkill(account_id=person.id, skill_id=skill.id, level=chance.randint(1, 3)))
        if chance.random() < 0.3:
            session.add(TeamMember(team_id=team.id, account_id=person.id))
        person.last_assigned_at = NOW - timedelta(hours=chance.randrange(30))
    kinds.of(session, company_id, "inspection").requires = {"dispatch": ["pool"]}
    opened = []
    for number in range(25):
        asset = factories.asset(session, made.company, chance.choice(("mill", "quarry", "harbour")))
        draft = opening.about(
            asset, origin="person", title=f"Job {number}", priority=chance.randint(1, 4),
            skill=chance.choice(SKILLS), estimated_minutes=chance.choice((30, 60, 240)),
            kind=chance.choice(("corrective", "corrective", "corrective", "inspection")),
            team_id=team.id if chance.random() < 0.2 else None,
            planned_at=NOW + timedelta(hours=chance.randrange(4)) if chance.random() < 0.2 else None,
        )  # fmt: skip
        order = opening.open_order(session, draft, actor="system", now=NOW)
        if chance.random() < 0.1:
            order.refused_by = [made.technician.id, 10**6, 10**6 + 1]
        if chance.random() < 0.1:
            desk.give(session, order, made.technician, "assign", actor="system", now=NOW)
        opened.append(order.id)
    session.flush()
    chance.shuffle(opened)
    return opened


def state_of(session: Session) -> dict[str, Any]:
    session.flush()
    orders = session.scalars(select(Order).order_by(Order.id)).all()
    decisions = session.scalars(select(Decision).order_by(Decision.order_id, Decision.id)).all()
    assigned = session.scalars(select(Assignment).order_by(Assignment.order_id, Assignment.id)).all()
    lines = session.scalars(select(Entry).order_by(Entry.order_id, Entry.id)).all()
    happened = session.scalars(select(Event)).all()
    return {
        "orders": [
            (one.phase, one.assignee_id, one.in_pool, one.pool_until, one.assigned_at, one.version) for one in orders
        ],
        "decisions": [
            (one.order_id, one.inputs, one.candidates, one.chosen_id, one.reason, one.mode, one.by) for one in decisions
        ],
        "assigned": [(one.order_id, one.account_id, one.at, one.ended_at, one.end) for one in assigned],
        "lines": [(one.order_id, one.kind, one.text, {**one.detail, "decision_id": None}) for one in lines],
        "events": sorted((one.kind, one.subject, str({**one.payload, "decision_id": None})) for one in happened),
        "acts": sorted(
            (one.action, one.subject, str(one.before), str(one.after)) for one in session.scalars(select(AuditEntry))
        ),
    }


@pytest.mark.parametrize("seed", range(8))
def test_orders_dispatched_together_go_to_whom_they_would_go_one_by_one(
    database: sessionmaker[Session], seed: int
) -> None:
    with db.transaction(database) as session:
        opened = [OrderOpened(one) for one in crowd(session, random.Random(seed))]
    found = []
    for many in (False, True):
        with database() as session:
            if many:
                assign.on_many_opened(session, opened, NOW)
            else:
                for one in opened:
                    assign.on_opened(session, one, NOW)
                    session.expire_all()
            found.append(state_of(session))
            session.rollback()
    assert any(one[3] for one in found[0]["decisions"]), "some are given"
    assert found[1] == found[0]
