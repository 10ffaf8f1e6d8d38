from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest
from sqlalchemy import func, select
from sqlalchemy.orm import Session, sessionmaker

from kernel import db
from kernel.models import Event
from maintenance.orders import alarm_orders, desk, policies, requests, waiting
from maintenance.orders.events import AlarmOutlasted
from maintenance.orders.models import Entry, Order, Request
from maintenance.orders.policies import Table
from maintenance.orders.policy import Line
from maintenance.orders.requests import Report
from maintenance.plans.models import OrderChecklist
from rules.events import AlarmAnnounced, AlarmCleared, AlarmRepeated
from rules.models import Alarm
from tests import factories
from tests.factories import NOW
from tests.maintenance import orders_world as world
from tests.maintenance.orders_world import World


@pytest.fixture
def made(session: Session) -> World:
    return world.build(session)


def raised(session: Session, made: World, minute: int = 0, **values: object) -> Alarm:
    moment = NOW + timedelta(minutes=minute)
    times = dict.fromkeys(("began_at", "raised_at", "detected_at", "last_seen_at"), moment)
    alarm = factories.alarm(session, made.asset, **{"type_key": "overheat", **times, **values})
    alarm_orders.on_announced(session, AlarmAnnounced(alarm.id, "raised"), moment)
    return alarm


def cleared(session: Session, alarm: Alarm, minute: int) -> None:
    alarm.is_active, alarm.ended_at = False, NOW + timedelta(minutes=minute)
    session.flush()
    alarm_orders.on_cleared(session, AlarmCleared(alarm.id), NOW + timedelta(minutes=minute))


def finished(session: Session, made: World, order: Order, minute: int) -> None:
    desk.give(session, order, made.technician, "assign", actor="system", now=order.created_at)
    desk.move(session, order, "start", actor="system", now=NOW + timedelta(minutes=minute - 1))
    desk.move(
        session,
        order,
        "finish",
        actor="system",
        now=NOW + timedelta(minutes=minute),
        finding="real",
        resolution="Cleaned",
        reason="–",
    )


def test_IN_1_fifty_alarms_of_one_fault_in_a_minute_are_one_order_that_counts_fifty(
    database: sessionmaker[Session],
) -> None:
    with db.transaction(database) as session:
        made = world.build(session)
        for second in range(50):
            moment = NOW + timedelta(seconds=second)
            alarm = factories.alarm(
                session, made.asset, type_key="overheat", is_active=False, detected_at=moment, last_seen_at=moment
            )
            world.tell(session, AlarmAnnounced(alarm.id, "raised"), alarm)
    assert world.deliver(database) == []
    with database() as session:
        order = session.scalars(select(Order)).one()
        assert order.occurrences == 50
        assert order.last_seen_at == NOW + timedelta(seconds=49)
        lines = session.scalars(select(Entry).where(Entry.order_id == order.id, Entry.kind == "alarm")).all()
        assert len(lines) <= 3, "a burst stays readable"


def test_IN_1_a_raise_after_the_close_opens_a_new_order_that_names_the_old_one(session: Session, made: World) -> None:
    first = raised(session, made)
    order = session.scalars(select(Order)).one()
    cleared(session, first, 10)
    finished(session, made, order, 20)
    desk.move(session, order, "close", actor="system", now=NOW + timedelta(minutes=30))
    raised(session, made, 24 * 60)
    new = session.scalars(select(Order).where(Order.phase == "new")).one()
    assert new.previous_id == order.id
    assert order.rework == 1
    linked = session.scalars(select(Entry).where(Entry.kind == "link").order_by(Entry.id)).all()
    assert [(one.order_id, one.detail["order_id"]) for one in linked] == [(new.id, order.id), (order.id, new.id)]


def test_a_raise_more_than_two_weeks_after_the_finish_is_a_fault_of_its_own(session: Session, made: World) -> None:
    cleared(session, raised(session, made), 10)
    order = session.scalars(select(Order)).one()
    finished(session, made, order, 20)
    desk.move(session, order, "close", actor="system", now=NOW + timedelta(minutes=30))
    raised(session, made, 15 * 24 * 60)
    new = session.scalars(select(Order).where(Order.phase == "new")).one()
    assert (new.previous_id, order.rework) == (None, 0)


def test_a_fault_that_returns_before_verification_reopens_its_order(session: Session, made: World) -> None:
    cleared(session, raised(session, made), 10)
    order = session.scalars(select(Order)).one()
    finished(session, made, order, 20)
    raised(session, made, 25)
    assert session.scalars(select(func.count(Order.id))).one() == 1
    assert (order.phase, order.assignee_id, order.rework, order.occurrences) == ("new", None, 1, 2)


def test_a_raise_from_before_the_finish_that_arrives_late_does_not_reopen(session: Session, made: World) -> None:
    cleared(session, raised(session, made), 10)
    order = session.scalars(select(Order)).one()
    finished(session, made, order, 20)
    raised(session, made, 15)
    assert (order.phase, order.rework, order.occurrences) == ("done", 0, 2)


def test_a_fault_that_returns_after_verification_closes_the_order_and_opens_a_linked_one(
    session: Session, made: World
) -> None:
    cleared(session, raised(session, made), 10)
    order = session.scalars(select(Order)).one()
    finished(session, made, order, 20)
    desk.move(session, order, "verify", actor="system", now=NOW + timedelta(minutes=21))
    alarm = raised(session, made, 25)
    assert order.phase == "closed"
    new = session.scalars(select(Order).where(Order.phase == "new")).one()
    assert new.previous_id == order.id
    assert alarm_orders.order_of(session, alarm) is new


def test_a_repeat_counts_and_reopens_nothing(session: Session, made: World) -> None:
    alarm = raised(session, made)
    order = session.scalars(select(Order)).one()
    finished(session, made, order, 20)
    alarm_orders.on_repeated(session, AlarmRepeated(alarm.id, 7), NOW + timedelta(minutes=30))
    assert (order.phase, order.occurrences) == ("done", 8)


def test_a_clear_notes_the_recovery_and_closes_nothing(session: Session, made: World) -> None:
    cleared(session, raised(session, made), 10)
    order = session.scalars(select(Order)).one()
    assert (order.phase, order.recovered_at) == ("new", NOW + timedelta(minutes=10))


@pytest.mark.parametrize(
    ("severity", "priority"), [("critical", 1), ("major", 2), ("minor", 3), ("warning", None), ("info", None)]
)
def test_a_code_a_device_reports_opens_an_order_from_minor_up(
    session: Session, made: World, severity: str, priority: int | None
) -> None:
    raised(session, made, origin="device", severity=severity, peak_severity=severity)
    assert session.scalars(select(Order.priority)).one_or_none() == priority


@pytest.mark.parametrize(("least", "opens"), [("critical", False), ("major", True), ("warning", True), (None, False)])
def test_an_alarm_type_says_from_which_severity_it_opens_orders(
    session: Session,
    made: World,
    least: str | None,
    opens: bool,  # noqa: FBT001
) -> None:
    kind = factories.alarm_type(session, made.company)
    policies.save_least(session, kind, least, actor="system", now=NOW)
    raised(session, made, severity="major", alarm_type_id=kind.id, type_key=kind.key)
    order = session.scalars(select(Order)).one_or_none()
    assert (order is not None) == opens
    if order is not None:
        assert (order.title, order.title_zh) == (kind.name, "过热")


def test_an_alarm_that_gets_worse_makes_its_order_more_urgent_and_never_less(session: Session, made: World) -> None:
    alarm = raised(session, made, severity="minor")
    order = session.scalars(select(Order)).one()
    due = order.due_at
    alarm.severity = "critical"
    alarm_orders.on_announced(session, AlarmAnnounced(alarm.id, "severity"), NOW)
    assert (order.priority, order.occurrences) == (1, 1)
    assert due is not None
    assert order.due_at is not None
    assert order.due_at < due
    alarm.severity = "minor"
    alarm_orders.on_announced(session, AlarmAnnounced(alarm.id, "severity"), NOW)
    assert order.priority == 1


def test_an_alarm_that_becomes_severe_enough_opens_its_order_then(session: Session, made: World) -> None:
    alarm = raised(session, made, severity="info")
    alarm.severity = "major"
    session.flush()
    alarm_orders.on_announced(session, AlarmAnnounced(alarm.id, "severity"), NOW)
    assert session.scalars(select(Order.priority)).one() == 2


def test_P3_sixty_four_reporters_of_one_fault_open_one_order(database: sessionmaker[Session]) -> None:
    with db.transaction(database) as session:
        made = world.build(session)
        alarms = [
            factories.alarm(session, made.asset, type_key="overheat", is_active=False).id for _number in range(64)
        ]
        asset_id = made.asset.id

    def report(number: int) -> None:
        with db.transaction(database) as session:
            alarm_orders.on_announced(session, AlarmAnnounced(alarms[number], "raised"), NOW)

    with ThreadPoolExecutor(64) as pool:
        list(pool.map(report, range(64)))
    with database() as session:
        order = session.scalars(select(Order).where(Order.asset_id == asset_id)).one()
        assert order.occurrences == 64


def test_P3_scanners_and_alarms_at_once_open_one_order_each_fault(database: sessionmaker[Session]) -> None:
    from assets.models import Asset

    with db.transaction(database) as session:
        asset_id = world.build(session).asset.id

    def scan(number: int) -> None:
        with db.transaction(database) as session:
            asset = session.get_one(Asset, asset_id)
            requests.make(session, asset, Report(what=f"Smoke {number}"), origin="scan", actor="customer", now=NOW)

    with ThreadPoolExecutor(16) as pool:
        list(pool.map(scan, range(32)))
    with database() as session:
        assert session.scalars(select(func.count(Order.id))).one() == 1


# The policy ----------------------------------------------------------------------------------------------------------


def asks(session: Session, made: World, **line: object) -> None:
    """Let the company's table have one line for alarms of rules and codes that are critical."""
    wanted = Line(**{"severity": "critical", "does": "order", **line})
    for source in ("rule", "device"):
        table = Table(made.company.units["company"].id, source)
        policies.save(session, table, [wanted], actor="system", now=NOW)


def outlasted(session: Session, minute: int) -> int:
    """Let the delays that are over at a minute be carried out; return how many there were."""
    now = NOW + timedelta(minutes=minute)
    waits = waiting.run_due(session, now)
    for row in session.scalars(select(Event).where(Event.kind == "AlarmOutlasted", Event.at == now)).all():
        alarm_orders.on_outlasted(session, AlarmOutlasted(row.payload["alarm_id"]), now)
    return waits


def test_IN_1_an_order_says_by_which_line_it_was_opened_and_is_worked_as_that_says(
    session: Session, made: World
) -> None:
    team = factories.team(session, made.company)
    checklist = factories.checklist(session, made.company)
    asks(session, made, priority=3, team_id=team.id, checklist_id=checklist.id, site_id=made.asset.site_id)
    raised(session, made)
    order = session.scalars(select(Order)).one()
    assert (order.priority, order.team_id) == (3, team.id)
    assert session.scalars(select(OrderChecklist.order_id)).all() == [order.id]
    line = session.scalars(select(Entry).where(Entry.order_id == order.id, Entry.kind == "alarm")).one()
    told = line.detail["policy"]
    assert (told["level"], told["severity"], told["site_id"], told["priority"]) == (
        "company", "critical", made.asset.site_id, 3,
    )  # fmt: skip


def test_IN_1_what_clears_within_its_delay_opens_nothing(session: Session, made: World) -> None:
    asks(session, made, delay_s=600)
    alarm = raised(session, made)
    cleared(session, alarm, 9)
    assert outlasted(session, 11) == 0
    assert session.scalars(select(Order)).all() == []
    assert waiting.of_alarm(session, alarm.id).state == "cleared"  # type: ignore[union-attr]  # it waited


def test_IN_1_what_stands_longer_than_its_delay_opens_one_order_whoever_asks_how_often(
    database: sessionmaker[Session],
) -> None:
    with db.transaction(database) as session:
        made = world.build(session)
        asks(session, made, delay_s=600)
        alarm = factories.alarm(session, made.asset, type_key="overheat")
        world.tell(session, AlarmAnnounced(alarm.id, "raised"), alarm)
    assert world.deliver(database) == []
    late = NOW + timedelta(minutes=11)
    for _restarted in range(2):
        with db.transaction(database) as session:
            assert session.scalars(select(func.count(Order.id))).one() == _restarted
            waiting.run_due(session, late)
        assert world.deliver(database, late) == []
    with database() as session:
        order = session.scalars(select(Order)).one()
        assert order.occurrences == 1
        assert waiting.of_alarm(session, alarm.id).state == "opened"  # type: ignore[union-attr]  # it waited


def test_IN_1_what_is_shelved_within_its_delay_opens_nothing_until_it_is_announced_again(
    session: Session, made: World
) -> None:
    asks(session, made, delay_s=600)
    alarm = raised(session, made)
    alarm.is_shelved = True
    session.flush()
    assert outlasted(session, 11) == 1
    assert session.scalars(select(Order)).all() == []
    assert waiting.of_alarm(session, alarm.id).state == "held"  # type: ignore[union-attr]  # it waited
    alarm.is_shelved = False
    session.flush()
    alarm_orders.on_announced(session, AlarmAnnounced(alarm.id, "released"), NOW + timedelta(minutes=30))
    assert outlasted(session, 39) == 0
    assert outlasted(session, 40) == 1
    assert session.scalars(select(func.count(Order.id))).one() == 1


def test_IN_1_a_delay_is_of_this_alarm_a_new_one_waits_anew(session: Session, made: World) -> None:
    asks(session, made, delay_s=600)
    cleared(session, raised(session, made), 5)
    raised(session, made, 8)
    assert outlasted(session, 12) == 0
    assert outlasted(session, 19) == 1
    assert session.scalars(select(func.count(Order.id))).one() == 1


def test_IN_1_an_alarm_that_gets_worse_waits_no_longer_than_the_worse_one(session: Session, made: World) -> None:
    table = Table(made.company.units["company"].id, "device")
    lines = [Line(severity="critical", does="order"), Line(severity="minor", does="order", delay_s=3600)]
    policies.save(session, table, lines, actor="system", now=NOW)
    alarm = raised(session, made, severity="minor")
    assert session.scalars(select(Order)).all() == []
    alarm.severity = "critical"
    session.flush()
    alarm_orders.on_announced(session, AlarmAnnounced(alarm.id, "severity"), NOW)
    assert session.scalars(select(Order.priority)).one() == 1
    assert outlasted(session, 61) == 0


def test_IN_1_an_alarm_may_ask_for_a_report_of_which_a_person_makes_the_one_order(
    session: Session, made: World
) -> None:
    asks(session, made, does="request")
    cleared(session, raised(session, made), 5)
    again = raised(session, made, 8)
    request = session.scalars(select(Request)).one()
    assert (request.origin, request.state, request.what) == ("alarm", "new", "Temperature above 90 °C")
    said = session.scalars(select(Entry).where(Entry.request_id == request.id, Entry.kind == "alarm")).all()
    assert [one.detail["what"] for one in said] == ["raised", "cleared", "again"]
    order = requests.accept(session, request, actor="system", now=NOW)
    cleared(session, again, 9)
    raised(session, made, 10)
    assert session.scalars(select(Order)).all() == [order]
    assert order.occurrences == 2


def test_IN_1_a_report_joins_the_order_that_its_alarm_opens_when_it_gets_worse(session: Session, made: World) -> None:
    table = Table(made.company.units["company"].id, "device")
    lines = [Line(severity="critical", does="order"), Line(severity="minor", does="request")]
    policies.save(session, table, lines, actor="system", now=NOW)
    alarm = raised(session, made, severity="minor")
    alarm.severity = "critical"
    session.flush()
    alarm_orders.on_announced(session, AlarmAnnounced(alarm.id, "severity"), NOW)
    request, order = session.scalars(select(Request)).one(), session.scalars(select(Order)).one()
    assert (request.state, request.order_id) == ("joined", order.id)
