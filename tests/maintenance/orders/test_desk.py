from datetime import timedelta

import pytest
from sqlalchemy import select
from sqlalchemy.orm import Session, sessionmaker

from kernel import audit, db
from kernel.errors import Conflict, Forbidden, Invalid, NotFound, Stale
from kernel.models import Event
from maintenance.orders import desk, kinds, lifecycle, opening, timeline
from maintenance.orders.models import Assignment, Entry, Order
from people.scope import Viewer
from rules.events import AlarmAnnounced
from tests import factories
from tests.factories import NOW
from tests.maintenance import orders_world as world
from tests.maintenance.orders_world import World


@pytest.fixture
def made(session: Session) -> World:
    return world.build(session)


@pytest.fixture
def technician(session: Session, made: World) -> Viewer:
    return world.viewer(session, made.technician)


@pytest.fixture
def boss(session: Session, made: World) -> Viewer:
    return world.viewer(session, made.dispatcher)


def later(minutes: int) -> dict[str, object]:
    return {"now": NOW + timedelta(minutes=minutes)}


def opened(session: Session, made: World, **more: object) -> Order:
    draft = opening.about(made.asset, origin="person", title="Runs hot", **more)
    return opening.open_order(session, draft, actor="system", now=NOW)


def given(session: Session, made: World) -> Order:
    order = opened(session, made)
    return desk.give(session, order, made.technician, "assign", actor="system", now=NOW)


def test_an_alarm_is_dispatched_accepted_repaired_and_verified(database: sessionmaker[Session]) -> None:
    with db.transaction(database) as session:
        made = world.build(session)
        alarm = factories.alarm(session, made.asset)
        world.tell(session, AlarmAnnounced(alarm.id, "raised"), alarm)
    assert world.deliver(database) == []
    with db.transaction(database) as session:
        session.merge(alarm).is_active = False
        order = session.scalars(select(Order)).one()
        assert (order.number, order.phase, order.assignee_id) == ("WO-2026-000001", "assigned", made.technician.id)
        technician, boss = world.viewer(session, made.technician), world.viewer(session, made.dispatcher)
        desk.act(session, order.id, "accept", technician, **later(1))
        desk.act(session, order.id, "start", technician, **later(20))
        desk.act(session, order.id, "finish", technician, **later(50), finding="real", resolution="Cleaned it")
        desk.act(session, order.id, "verify", boss, **later(60))
    with db.transaction(database) as session:
        order = session.scalars(select(Order)).one()
        assert (order.phase, order.finding, order.resolution) == ("verified", "real", "Cleaned it")
        assert lifecycle.worked(desk.times_of(order), NOW) == timedelta(minutes=30)
        verbs = [one.detail["verb"] for one in timeline.of_order(session, order) if one.kind == "move"]
        assert verbs == ["verify", "finish", "start", "accept", "assign", "open"]
        moved = session.scalars(select(Event).where(Event.kind == "OrderMoved").order_by(Event.id)).all()
        assert [one.payload["verb"] for one in moved] == ["assign", "accept", "start", "finish", "verify"]
        assert list(audit.verify(session)) == []


def test_numbers_run_without_gaps_by_company_and_year(session: Session, made: World) -> None:
    first, second = opened(session, made), opened(session, made)
    assert [first.number, second.number] == ["WO-2026-000001", "WO-2026-000002"]


def test_an_order_takes_its_skill_from_the_nearest_asset_type_that_names_one(session: Session, made: World) -> None:
    parent = factories.asset_type(session, made.company, "rotating")
    parent.skill = "bearings"
    made.asset.type.parent_id = parent.id
    assert opened(session, made).skill == "bearings"


@pytest.mark.parametrize(("title", "priority", "field"), [("  ", 3, "title"), ("Hot", 5, "priority")])
def test_a_draft_that_says_nothing_is_refused(
    session: Session, made: World, title: str, priority: int, field: str
) -> None:
    with pytest.raises(Invalid) as refused:
        opening.open_order(
            session,
            opening.about(made.asset, origin="person", title=title, priority=priority),
            actor="system",
            now=NOW,
        )
    assert refused.value.field == field


def test_only_the_assignee_or_the_desk_takes_a_step(session: Session, made: World, boss: Viewer) -> None:
    order = given(session, made)
    other = world.viewer(session, factories.account(session, made.company, "technician", "north"))
    with pytest.raises(Forbidden):
        desk.act(session, order.id, "accept", other, now=NOW)
    desk.act(session, order.id, "accept", boss, now=NOW)
    assert order.phase == "accepted"


def test_an_order_of_another_region_does_not_exist_for_a_technician(session: Session, made: World) -> None:
    order = given(session, made)
    stranger = world.viewer(session, factories.account(session, made.company, "technician", "quarry"))
    with pytest.raises(NotFound):
        desk.act(session, order.id, "accept", stranger, now=NOW)


def test_a_step_on_an_old_version_is_refused(session: Session, made: World, technician: Viewer) -> None:
    order = given(session, made)
    with pytest.raises(Stale):
        desk.act(session, order.id, "accept", technician, now=NOW, version=order.version - 1)


def test_a_refusal_needs_a_reason_and_keeps_the_refuser_out(session: Session, made: World, technician: Viewer) -> None:
    order = given(session, made)
    with pytest.raises(Invalid) as refused:
        desk.act(session, order.id, "refuse", technician, now=NOW)
    assert refused.value.field == "reason"
    desk.act(session, order.id, "refuse", technician, now=NOW, reason="On another machine")
    assert (order.phase, order.assignee_id, order.refused_by) == ("new", None, [made.technician.id])
    row = session.scalars(select(Assignment)).one()
    assert (row.end, row.reason) == ("refused", "On another machine")


def test_finishing_a_repair_needs_finding_and_resolution(session: Session, made: World, technician: Viewer) -> None:
    order = given(session, made)
    desk.act(session, order.id, "start", technician, **later(1))
    with pytest.raises(Invalid) as refused:
        desk.act(session, order.id, "finish", technician, **later(2))
    assert refused.value.values["missing"] == ["finding", "resolution"]
    with pytest.raises(Invalid):
        desk.act(session, order.id, "finish", technician, **later(2), finding="boredom", resolution="Slept")
    assert order.phase == "working"


def test_finishing_while_the_alarm_is_active_needs_a_reason(session: Session, made: World, technician: Viewer) -> None:
    alarm = factories.alarm(session, made.asset)
    order = opened(session, made, fault_key=f"{alarm.subject}/{alarm.type_key}", alarm_id=alarm.id)
    desk.give(session, order, made.technician, "assign", actor="system", now=NOW)
    desk.act(session, order.id, "start", technician, **later(1))
    words = {"finding": "real", "resolution": "New sensor ordered"}
    with pytest.raises(Invalid) as refused:
        desk.act(session, order.id, "finish", technician, **later(2), **words)
    assert refused.value.field == "reason"
    desk.act(session, order.id, "finish", technician, **later(3), **words, reason="The sensor itself is broken")
    assert order.phase == "done"


def test_an_inspection_is_finished_with_its_checklist_and_needs_nobody_to_verify(
    session: Session, made: World, technician: Viewer
) -> None:
    from maintenance.plans.models import ChecklistVersion, CheckResult, OrderChecklist

    order = opened(session, made, kind="inspection")
    checklist = factories.checklist(session, made.company)
    version = session.scalars(select(ChecklistVersion).where(ChecklistVersion.checklist_id == checklist.id)).one()
    session.add(OrderChecklist(order_id=order.id, version_id=version.id))
    desk.give(session, order, made.technician, "assign", actor="system", now=NOW)
    desk.act(session, order.id, "start", technician, **later(1))
    with pytest.raises(Invalid) as refused:
        desk.act(session, order.id, "finish", technician, **later(2))
    assert refused.value.field == "checklist"
    for item in version.items:
        session.add(
            CheckResult(order_id=order.id, item_key=item["key"], value={"v": 1}, verdict="pass", at=NOW, by="system")
        )
    desk.act(session, order.id, "finish", technician, **later(3))
    assert order.phase == "verified"


def test_FS_8_work_rejected_twice_counts_two_and_keeps_both_reasons(
    session: Session, made: World, technician: Viewer, boss: Viewer
) -> None:
    order = given(session, made)
    desk.act(session, order.id, "start", technician, **later(1))
    for minute, reason in ((10, "Still leaks"), (20, "Cover missing")):
        desk.act(session, order.id, "finish", technician, **later(minute), finding="real", resolution="Done")
        with pytest.raises(Invalid):
            desk.act(session, order.id, "send_back", boss, **later(minute + 1))
        desk.act(session, order.id, "send_back", boss, **later(minute + 1), reason=reason)
    assert (order.phase, order.rework, order.finished_at) == ("working", 2, None)
    texts = [one.text for one in timeline.of_order(session, order)]
    assert "Still leaks" in texts
    assert "Cover missing" in texts


def test_a_customer_reads_public_lines_only(session: Session, made: World, technician: Viewer, boss: Viewer) -> None:
    report, _secret = factories.request(session, made.asset)
    order = given(session, made)
    report.order_id = order.id
    desk.act(session, order.id, "depart", technician, **later(1))
    desk.act(session, order.id, "start", technician, **later(2))
    desk.act(session, order.id, "pause", technician, **later(3), reason="Waiting for a part")
    timeline.comment(session, order, "The customer is difficult", actor=boss.actor, now=NOW)
    timeline.comment(session, order, "We are on it", actor=boss.actor, now=NOW, is_public=True)
    lines = timeline.for_customer(session, report)
    assert {one.text for one in lines} == {"", "We are on it"}
    assert {one.detail.get("verb") for one in lines if one.kind == "move"} == {"open", "depart", "start"}


def test_a_cancelled_order_ends_its_assignment(session: Session, made: World, boss: Viewer) -> None:
    order = given(session, made)
    with pytest.raises(Invalid):
        desk.act(session, order.id, "cancel", boss, now=NOW)
    desk.act(session, order.id, "cancel", boss, now=NOW, reason="Sold")
    assert order.phase == "cancelled"
    assert session.scalars(select(Assignment.end)).one() == "cancelled"
    with pytest.raises(Conflict):
        desk.act(session, order.id, "accept", boss, now=NOW)


def test_verified_work_is_closed_after_three_days(session: Session, made: World) -> None:
    order = opened(session, made)
    order.phase, order.verified_at = "verified", NOW
    session.flush()
    assert desk.close_settled(session, NOW + timedelta(days=2)) == 0
    assert desk.close_settled(session, NOW + timedelta(days=3)) == 1
    assert order.phase == "closed"


def test_a_kind_of_work_nobody_made_is_refused(session: Session, made: World) -> None:
    with pytest.raises(NotFound):
        kinds.of(session, made.company.id, "ballet")


def test_a_photo_can_be_required(session: Session, made: World, technician: Viewer) -> None:
    order = given(session, made)
    order.type.requires = {"finish": ["photo"]}
    desk.act(session, order.id, "start", technician, **later(1))
    with pytest.raises(Invalid) as refused:
        desk.act(session, order.id, "finish", technician, **later(2))
    assert refused.value.field == "photos"
    timeline.photo(session, order, factories.file(session, made.company), actor=technician.actor, now=NOW)
    desk.act(session, order.id, "finish", technician, **later(3))
    assert session.scalars(select(Entry.kind).where(Entry.kind == "photo")).one() == "photo"
