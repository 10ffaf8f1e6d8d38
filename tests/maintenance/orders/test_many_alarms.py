"""What is done for many alarms at once is what would be done for each: the same orders, reports, waits and lines."""

import random
from collections.abc import Sequence
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import event as hooks
from sqlalchemy import select
from sqlalchemy.orm import Session, sessionmaker

from kernel import db
from kernel.models import AuditEntry, Event
from maintenance.orders import alarm_orders, kinds, policies
from maintenance.orders.models import Entry, Order, Request
from maintenance.orders.policies import Table
from maintenance.orders.policy import Line
from maintenance.orders.policy_tables import OrderWait
from rules.events import AlarmAnnounced, AlarmCleared, AlarmRepeated
from rules.models import Alarm
from tests import factories
from tests.factories import NOW
from tests.maintenance import orders_world as world

CODES = ("overheat", "E1", "E2", "leak")
LATER = NOW + timedelta(hours=3)


def alarm_of(session: Session, asset: Any, chance: random.Random) -> Alarm:
    moment = LATER - timedelta(seconds=chance.randrange(120))
    times = dict.fromkeys(("began_at", "raised_at", "detected_at", "last_seen_at"), moment)
    return factories.alarm(
        session, asset, type_key=chance.choice(CODES), severity=chance.choice(("critical", "major", "minor", "info")),
        origin=chance.choice(("device", "device", "platform")), is_active=False, **times,
    )  # fmt: skip


def history(session: Session, chance: random.Random) -> list[AlarmAnnounced]:
    """Write machines with open orders, repairs of lately and long ago, waiting reports, and a table with delays."""
    made = world.build(session)
    kinds.of(session, made.company.units["company"].id, "corrective")
    policies.save(
        session, Table(made.company.units["company"].id, "device"),
        [
            Line(severity="critical", does="order", priority=1),
            Line(severity="major", does="order", criticality=2),
            Line(severity="major", does="order", delay_s=chance.choice((0, 600))),
            Line(severity="minor", does="request"),
            Line(severity="info", does="none"),
        ],
        actor="system", now=NOW,
    )  # fmt: skip
    assets = [made.asset, *(factories.asset(session, made.company, "mill", criticality=n) for n in (1, 2, 4))]
    for asset in assets:
        for _ in range(chance.randrange(3)):
            alarm = alarm_of(session, asset, chance)
            alarm_orders.on_announced(session, AlarmAnnounced(alarm.id, "raised"), NOW)
    for order in session.scalars(select(Order).order_by(Order.id)).all():
        if chance.random() < 0.5:
            order.phase, order.finished_at = "closed", NOW - timedelta(days=chance.choice((1, 30)))
    session.flush()
    told = []
    for _ in range(30):
        alarm = alarm_of(session, chance.choice(assets), chance)
        why = chance.choice(("raised", "raised", "raised", "severity", "rearmed"))
        told += [AlarmAnnounced(alarm.id, why)] * chance.choice((1, 1, 1, 2))
    return told


def state_of(session: Session) -> dict[str, list[Any]]:
    """Return everything that orders consist of, without what a sequence counts on."""
    session.flush()
    orders = session.scalars(select(Order).order_by(Order.number)).all()
    numbers = {order.id: order.number for order in orders}
    skipped = {"id", "version", "previous_id", "track_hash", "order_id"}

    def plain(row: Any) -> dict[str, Any]:
        return {
            column.key: getattr(row, column.key) for column in row.__mapper__.column_attrs if column.key not in skipped
        }

    lines = session.scalars(select(Entry).order_by(Entry.id)).all()
    shown: dict[str, list[Any]] = {}
    for line in lines:
        detail = {name: value for name, value in line.detail.items() if name != "order_id"}
        shown.setdefault(numbers.get(line.order_id or 0, "report"), []).append((line.kind, line.at, detail, line.text))
    happened = session.scalars(select(Event)).all()
    return {
        "orders": [plain(order) | {"previous": numbers.get(order.previous_id or 0)} for order in orders],
        "lines": sorted(shown.items()),
        "reports": [plain(one) for one in session.scalars(select(Request).order_by(Request.number))],
        "waits": [plain(one) for one in session.scalars(select(OrderWait).order_by(OrderWait.alarm_id))],
        "events": sorted(
            (one.kind, numbers.get(one.payload.get("order_id", 0), ""), one.at.isoformat()) for one in happened
        ),
        "acts": sorted(str((one.action, one.at, one.company_id)) for one in session.scalars(select(AuditEntry))),
    }


def other_news(session: Session, told: Sequence[AlarmAnnounced], chance: random.Random) -> list[tuple[Any, ...]]:
    """Return what is said of those alarms later: some again, some that they are over, some twice."""
    ids = sorted({one.alarm_id for one in told})
    repeated = [AlarmRepeated(chance.choice(ids), chance.randint(1, 3)) for _ in range(12)]
    cleared = [AlarmCleared(chance.choice(ids)) for _ in range(12)]
    for alarm in session.scalars(select(Alarm).where(Alarm.id.in_({one.alarm_id for one in cleared}))):
        alarm.ended_at = alarm.cleared_at = LATER
    return [
        (alarm_orders.on_many_announced, alarm_orders.on_announced, told),
        (alarm_orders.on_many_repeated, alarm_orders.on_repeated, repeated),
        (alarm_orders.on_many_cleared, alarm_orders.on_cleared, cleared),
    ]


@pytest.mark.parametrize("seed", range(16))
def test_P3_many_alarms_at_once_are_what_they_are_one_after_the_other(
    database: sessionmaker[Session], seed: int
) -> None:
    chance = random.Random(seed)
    with db.transaction(database) as session:
        news = other_news(session, history(session, chance), chance)
    found = []
    for is_many in (False, True):
        with database() as session:
            for many, one, told in news:
                if is_many:
                    many(session, told, LATER)
                else:
                    for event in told:
                        one(session, event, LATER)
            found.append(state_of(session))
            session.rollback()
    assert found[0]["orders"], "something was opened"
    assert found[1] == found[0]


def test_as_many_new_faults_cost_as_many_statements_as_a_few(session: Session) -> None:
    made = world.build(session)
    asked: list[str] = []

    def note(_connection: object, _cursor: object, statement: str, *_more: object) -> None:
        asked.append(statement)

    def statements(amount: int, *, times: int = 1) -> int:
        assets = [factories.asset(session, made.company, "mill") for _ in range(amount)]
        # Each after the first joins the order that the first is about to get.
        alarms = [
            factories.alarm(session, asset, type_key="leak", detected_at=NOW, is_active=False)
            for _ in range(times)
            for asset in assets
        ]
        told = [AlarmAnnounced(alarm.id, "raised") for alarm in alarms]
        session.flush()
        session.expire_all()
        asked.clear()
        alarm_orders.on_many_announced(session, told, NOW)
        return len(asked)

    hooks.listen(session.get_bind(), "before_cursor_execute", note)
    statements(1)
    few = statements(2)
    assert statements(20) <= few + 2
    again = statements(2, times=2)
    assert statements(20, times=2) <= again + 2
    hooks.remove(session.get_bind(), "before_cursor_execute", note)
    assert len(session.scalars(select(Order)).all()) == 45
