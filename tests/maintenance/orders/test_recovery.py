"""Closing verifies the recovery: the machine's own word on a finished repair (ALM-10)."""

from datetime import timedelta

import pytest
from sqlalchemy import func, select
from sqlalchemy.orm import Session

from kernel.errors import Invalid
from kernel.models import AuditEntry
from maintenance.orders import alarm_orders, desk, recovery
from maintenance.orders.events import OrderMoved
from maintenance.orders.models import Entry, Order
from maintenance.orders.recovery import Settings
from rules.events import AlarmAnnounced, AlarmCleared
from rules.models import Alarm
from tests import factories
from tests.factories import NOW
from tests.maintenance import orders_world as world
from tests.maintenance.orders_world import World

MINUTE = timedelta(minutes=1)


@pytest.fixture
def made(session: Session) -> World:
    return world.build(session)


def raised(session: Session, made: World, minute: int = 0, **values: object) -> Alarm:
    moment = NOW + minute * MINUTE
    times = dict.fromkeys(("began_at", "raised_at", "detected_at", "last_seen_at"), moment)
    alarm = factories.alarm(session, made.asset, **{"type_key": "overheat", **times, **values})
    alarm_orders.on_announced(session, AlarmAnnounced(alarm.id, "raised"), moment)
    return alarm


def cleared(session: Session, alarm: Alarm, minute: int) -> None:
    alarm.is_active, alarm.ended_at = False, NOW + minute * MINUTE
    alarm.cleared_at = alarm.ended_at
    session.flush()
    alarm_orders.on_cleared(session, AlarmCleared(alarm.id), alarm.ended_at)


def finished(session: Session, made: World, minute: int, reason: str | None = None) -> Order:
    order = session.scalars(select(Order).where(Order.phase.not_in(("closed", "cancelled")))).one()
    if order.assignee_id is None:
        desk.give(session, order, made.technician, "assign", actor="system", now=order.created_at)
    desk.move(session, order, "start", actor="system", now=NOW + (minute - 1) * MINUTE)
    now = NOW + minute * MINUTE
    words = {"finding": "real", "resolution": "Cleaned", "reason": reason}
    desk.move(session, order, "finish", actor="account:1", now=now, **words)
    recovery.on_moved(session, OrderMoved(order.id, "finish", "working", "done"), now)
    return order


def looked(session: Session, minute: int) -> int:
    return recovery.run_due(session, NOW + minute * MINUTE)


def test_ALM_10_a_signal_that_stays_normal_for_the_quiet_time_verifies_the_repair(
    session: Session, made: World
) -> None:
    cleared(session, raised(session, made), 5)
    order = finished(session, made, 20)
    assert (order.recovery, order.recovery_due_at) == ("watched", NOW + 30 * MINUTE)
    assert looked(session, 29) == 0
    assert looked(session, 500) == 1, "what was missed is caught up"
    assert (order.recovery, order.recovery_verified_at, order.phase) == ("held", NOW + 30 * MINUTE, "done")
    assert looked(session, 501) == 0


def test_ALM_10_finishing_while_the_alarm_is_active_needs_a_reason_which_is_kept_and_shown(
    session: Session, made: World
) -> None:
    alarm = raised(session, made)
    with pytest.raises(Invalid) as refused:
        finished(session, made, 20)
    assert refused.value.field == "reason"
    session.scalars(select(Order)).one()
    order = session.scalars(select(Order)).one()
    desk.move(
        session, order, "finish", actor="account:1", now=NOW + 20 * MINUTE, finding="real", resolution="Cleaned",
        reason="The sensor is broken; a new one is ordered",
    )  # fmt: skip
    recovery.on_moved(session, OrderMoved(order.id, "finish", "working", "done"), NOW + 20 * MINUTE)
    assert order.override_reason == "The sensor is broken; a new one is ordered"
    assert (order.recovery, order.recovery_due_at) == (None, None)
    entry = session.scalars(select(AuditEntry).where(AuditEntry.action == "order.override_signal")).one()
    assert (entry.actor, entry.after) == ("account:1", {"reason": order.override_reason})
    line = session.scalars(select(Entry).where(Entry.order_id == order.id, Entry.kind == "comment")).one()
    assert (line.detail, line.is_public) == ({"what": "override"}, False)
    cleared(session, alarm, 40)
    assert order.recovery_due_at == NOW + 50 * MINUTE, "the quiet time begins when it is quiet"
    assert looked(session, 50) == 1
    assert order.recovery == "held"


def test_ALM_10_what_comes_back_within_the_quiet_time_is_worked_on_again(session: Session, made: World) -> None:
    cleared(session, raised(session, made), 5)
    order = finished(session, made, 20)
    again = raised(session, made, 25)
    recovery.on_moved(session, OrderMoved(order.id, "reopen", "done", "new"), NOW + 25 * MINUTE)
    assert (order.phase, order.recovery, order.recovery_due_at) == ("new", None, None)
    cleared(session, again, 26)
    assert order.recovery_due_at is None, "nobody has repaired it yet"


def test_ALM_10_what_was_held_back_from_people_counts_as_well_and_so_on_a_closed_order(
    session: Session, made: World
) -> None:
    cleared(session, raised(session, made), 5)
    order = finished(session, made, 20)
    desk.move(session, order, "close", actor="system", now=NOW + 21 * MINUTE)
    moment = NOW + 25 * MINUTE
    times = dict.fromkeys(("began_at", "raised_at", "detected_at", "last_seen_at"), moment)
    factories.alarm(session, made.asset, type_key="overheat", is_shelved=True, **times)
    looked(session, 30)
    assert (order.recovery, order.recovery_verified_at) == ("came_back", None)
    assert session.scalars(select(func.count(Order.id))).one() == 1


def test_ALM_10_the_quiet_time_is_the_alarm_types_or_the_companys(session: Session, made: World) -> None:
    kind = factories.alarm_type(session, made.company)
    company = made.company.id
    recovery.save(session, Settings(quiet_s=60), company_id=company, actor="system", now=NOW)
    assert recovery.quiet_time(session, company, kind.id) == MINUTE
    recovery.save(session, Settings(quiet_s=1800), company_id=company, alarm_type_id=kind.id, actor="system", now=NOW)
    assert recovery.quiet_time(session, company, kind.id) == 30 * MINUTE
    recovery.save(session, Settings(), company_id=company, alarm_type_id=kind.id, actor="system", now=NOW)
    assert recovery.quiet_time(session, company, kind.id) == MINUTE
    assert recovery.quiet_time(session, company, None) == MINUTE
    with pytest.raises(Invalid):
        recovery.save(session, Settings(quiet_s=-1), company_id=company, actor="system", now=NOW)


@pytest.mark.parametrize(("days", "is_rework"), [(None, True), (7, False), (0, False), (20, True)])
def test_ALM_10_a_return_within_the_companys_days_is_linked_and_counted_as_rework(
    session: Session,
    made: World,
    days: int | None,
    is_rework: bool,  # noqa: FBT001
) -> None:
    recovery.save(session, Settings(rework_days=days), company_id=made.company.id, actor="system", now=NOW)
    cleared(session, raised(session, made), 10)
    order = finished(session, made, 20)
    desk.move(session, order, "close", actor="system", now=NOW + 30 * MINUTE)
    raised(session, made, 10 * 24 * 60)
    new = session.scalars(select(Order).where(Order.phase == "new")).one()
    assert (new.previous_id == order.id, order.rework) == (is_rework, int(is_rework))


def test_work_that_needs_no_verification_waits_for_the_machines_word_where_there_is_one(
    session: Session, made: World
) -> None:
    cleared(session, raised(session, made), 5)
    kind = session.scalars(select(Order)).one().type
    kind.auto_verify = True
    order = finished(session, made, 20)
    assert order.phase == "done"
    looked(session, 30)
    assert order.phase == "verified"
