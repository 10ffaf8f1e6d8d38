import pytest
from sqlalchemy import select
from sqlalchemy.orm import Session

from kernel import ids
from kernel.errors import Conflict, Forbidden, Invalid, NotFound
from kernel.models import Event
from maintenance.orders import kinds, opening, requests, timeline
from maintenance.orders.models import Entry, Order, Request
from maintenance.orders.requests import Made, Report
from tests import factories
from tests.factories import NOW
from tests.maintenance import orders_world as world
from tests.maintenance.orders_world import World


@pytest.fixture
def made(session: Session) -> World:
    return world.build(session)


def reported(session: Session, made: World, what: str = "Smoke from the motor", **more: object) -> Made:
    report = Report(what=what, contact_name="Ms Chen", contact_phone="+86 10 5555", language="zh")
    return requests.make(session, made.asset, report, origin="scan", actor="customer", now=NOW, **more)


def always_triage(session: Session, made: World) -> None:
    kinds.of(session, made.company.id, "corrective").requires = {"triage": ["always"]}
    session.flush()


def test_a_report_becomes_an_order_at_once_when_the_asset_has_none(session: Session, made: World) -> None:
    report = reported(session, made).request
    order = session.scalars(select(Order)).one()
    assert (report.state, report.order_id, report.number) == ("accepted", order.id, "RQ-2026-000001")
    assert (order.origin, order.title, order.phase) == ("scan", "Smoke from the motor", "new")
    assert {"RequestMade", "RequestDecided", "OrderOpened"} <= set(session.scalars(select(Event.kind)))


def test_a_report_waits_where_it_may_belong_to_an_open_order(session: Session, made: World) -> None:
    reported(session, made)
    second = reported(session, made, "It smokes again").request
    assert (second.state, second.order_id) == ("new", None)
    assert requests.suggest(session, made.asset) is session.scalars(select(Order)).one()


def test_a_report_of_the_known_fault_joins_its_order(session: Session, made: World) -> None:
    reported(session, made)
    order = session.scalars(select(Order)).one()
    second = reported(session, made, "The same", known=order).request
    assert (second.state, second.order_id, order.occurrences) == ("joined", order.id, 2)


def test_a_company_may_have_every_report_wait_or_none(session: Session, made: World) -> None:
    always_triage(session, made)
    assert reported(session, made).request.state == "new"
    kinds.of(session, made.company.id, "corrective").requires = {"triage": []}
    first, second = reported(session, made).request, reported(session, made).request
    assert [first.state, second.state] == ["accepted", "joined"]


def test_a_planned_inspection_does_not_make_a_report_wait(session: Session, made: World) -> None:
    opening.open_order(session, opening.about(made.asset, origin="plan", title="Weekly"), actor="system", now=NOW)
    assert reported(session, made).request.state == "accepted"


def test_IN_4_accepting_moves_text_files_and_contact_along(session: Session, made: World) -> None:
    always_triage(session, made)
    photos = [factories.file(session, made.company) for _number in range(3)]
    report = reported(session, made, photos=photos).request
    order = requests.accept(session, report, actor="account:1", now=NOW)
    session.refresh(order)
    assert order.requests == [report]
    assert report.order is order
    assert order.requests[0].contact_phone == "+86 10 5555"
    lines = timeline.of_order(session, order)
    assert {one.file_id for one in lines if one.kind == "photo"} == {one.id for one in photos}
    assert "Smoke from the motor" in {one.text for one in lines}
    with pytest.raises(Conflict):
        requests.accept(session, report, actor="account:1", now=NOW)


def test_IN_4_declining_needs_a_reason_and_the_reporter_reads_it(session: Session, made: World) -> None:
    always_triage(session, made)
    report = reported(session, made).request
    with pytest.raises(Invalid) as refused:
        requests.decline(session, report, reason="  ", actor="account:1", now=NOW)
    assert refused.value.field == "reason"
    requests.decline(session, report, reason="The machine is sold", actor="account:1", now=NOW)
    told = timeline.for_customer(session, report)
    assert next((one.detail.get("verb"), one.text) for one in told) == ("declined", "The machine is sold")
    decided = session.scalars(select(Event).where(Event.kind == "RequestDecided")).one()
    assert decided.payload == {"request_id": report.id, "state": "declined"}


def test_a_held_request_can_still_be_accepted(session: Session, made: World) -> None:
    always_triage(session, made)
    report = reported(session, made).request
    requests.hold(session, report, reason="We ask the operator", actor="account:1", now=NOW)
    assert report.state == "held"
    requests.accept(session, report, actor="account:1", now=NOW)
    assert report.state == "accepted"


def test_an_order_whose_title_nobody_typed_is_called_as_the_fault_was_reported(session: Session, made: World) -> None:
    always_triage(session, made)
    for typed in (None, ""):
        report = reported(session, made).request
        order = requests.accept(session, report, actor="account:1", now=NOW, title=typed)
        assert (order.title, order.title_zh) == ("Smoke from the motor", None)


def test_a_request_joins_only_an_open_order_of_its_own_asset(session: Session, made: World) -> None:
    always_triage(session, made)
    report = reported(session, made).request
    elsewhere = factories.order(session, made.company, factories.asset(session, made.company, "harbour"))
    with pytest.raises(Invalid):
        requests.join(session, report, elsewhere, actor="account:1", now=NOW)
    ended = factories.order(session, made.company, made.asset, phase="closed")
    with pytest.raises(Conflict):
        requests.join(session, report, ended, actor="account:1", now=NOW)


def test_one_reporter_does_not_read_what_another_wrote(session: Session, made: World) -> None:
    first = reported(session, made, "My private words").request
    order = session.scalars(select(Order)).one()
    second = reported(session, made, "Other words", known=order).request
    assert "My private words" not in {one.text for one in timeline.for_customer(session, second)}
    assert "My private words" in {one.text for one in timeline.for_customer(session, first)}


def test_the_tracking_secret_is_kept_as_its_hash_only(session: Session, made: World) -> None:
    report = reported(session, made)
    assert session.scalars(select(Request.track_hash)).one() == ids.fingerprint(report.token)


@pytest.mark.parametrize("what", ["", "   ", "x" * 2001])
def test_a_report_says_something_and_not_everything(session: Session, made: World, what: str) -> None:
    with pytest.raises(Invalid) as refused:
        reported(session, made, what)
    assert refused.value.field == "what"


def test_triage_is_for_those_who_may(session: Session, made: World) -> None:
    always_triage(session, made)
    report = reported(session, made).request
    boss = world.viewer(session, made.dispatcher)
    assert requests.find(session, report.id, boss) is report
    assert list(requests.waiting(session, boss)) == [report]
    manager = world.viewer(session, factories.account(session, made.company, "manager", "company"))
    with pytest.raises(Forbidden):
        requests.find(session, report.id, manager)
    stranger = world.viewer(session, factories.account(session, made.company, "dispatcher", "quarry"))
    with pytest.raises(NotFound):
        requests.find(session, report.id, stranger)


def test_a_withdrawn_request_is_decided(session: Session, made: World) -> None:
    always_triage(session, made)
    report = reported(session, made).request
    requests.withdraw(session, report, actor="customer", now=NOW)
    assert report.state == "withdrawn"
    assert session.scalars(select(Entry.is_public).where(Entry.kind == "move")).all() == [True]
