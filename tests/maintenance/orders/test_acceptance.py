"""The customer's side: one link is one report, accepted or sent back, rated once, taken back in time."""

import threading
from datetime import timedelta

import pytest
from sqlalchemy import func, select
from sqlalchemy.orm import Session, sessionmaker

from kernel import db
from kernel.errors import Conflict, Gone, Invalid, NotFound
from kernel.models import Event
from maintenance.orders import acceptance, authority, desk, faults, requests, timeline
from maintenance.orders.models import Entry, Order, Request
from maintenance.orders.requests import Made, Report
from tests import factories
from tests.factories import NOW
from tests.maintenance import orders_world as world
from tests.maintenance.orders_world import World


@pytest.fixture
def made(session: Session) -> World:
    return world.build(session)


def reported(session: Session, made: World, what: str = "It drips", *, known: Order | None = None) -> Made:
    report = Report(what=what, contact_phone="+86 10 5555")
    return requests.make(session, made.asset, report, origin="scan", actor="customer", now=NOW, known=known)


def order_of(session: Session, request: Request) -> Order:
    assert request.order_id is not None
    return desk.locked(session, request.order_id)


def finished(session: Session, made: World) -> Request:
    """Return a report whose repair is done and waits for the customer."""
    request = reported(session, made).request
    order = order_of(session, request)
    desk.give(session, order, made.technician, "assign", actor="system", now=NOW)
    technician = world.viewer(session, made.technician)
    desk.act(session, order.id, "start", technician, now=NOW)
    desk.act(session, order.id, "finish", technician, now=NOW, finding="real", resolution="New seal")
    return request


def test_CP_2_a_link_opens_its_own_report_until_it_expires_or_is_revoked(session: Session, made: World) -> None:
    first, second = reported(session, made), reported(session, made, "Another thing")
    assert acceptance.by_token(session, first.token, NOW) is first.request
    assert acceptance.by_token(session, second.token, NOW) is second.request
    for forged in ("", first.token[:-1], str(first.request.id), first.request.number, first.request.track_hash):
        with pytest.raises(NotFound):
            acceptance.by_token(session, forged, NOW)
    with pytest.raises(Gone):
        acceptance.by_token(session, first.token, NOW + requests.TRACKED_FOR)
    acceptance.revoke(session, first.request, actor="account:1", now=NOW)
    with pytest.raises(Gone):
        acceptance.by_token(session, first.token, NOW)
    with pytest.raises(Conflict):
        acceptance.revoke(session, first.request, actor="account:1", now=NOW)
    assert acceptance.by_token(session, second.token, NOW) is second.request


def test_what_a_customer_adds_is_read_by_staff_and_by_no_other_reporter(session: Session, made: World) -> None:
    first = reported(session, made).request
    order = order_of(session, first)
    second = reported(session, made, "Same here", known=order).request
    acceptance.write(session, first, "My mobile is 1380000", now=NOW)
    acceptance.add_photos(session, first, [factories.file(session, made.company)], now=NOW)
    staff = timeline.of_order(session, order)
    assert "My mobile is 1380000" in {one.text for one in staff}
    assert "photo" in {one.kind for one in staff}
    assert "My mobile is 1380000" in {one.text for one in timeline.for_customer(session, first)}
    others = timeline.for_customer(session, second)
    assert not {"My mobile is 1380000", "It drips"} & {one.text for one in others}
    assert "photo" not in {one.kind for one in others}
    told = session.scalars(select(Event.payload).where(Event.kind == "OrderCommented")).all()
    assert {one["order_id"] for one in told} == {order.id}
    assert len(told) == 2


def test_a_customers_photo_is_not_the_technicians_proof(session: Session, made: World) -> None:
    request = reported(session, made).request
    order = order_of(session, request)
    order.type.requires = {"finish": ["photo"]}
    acceptance.add_photos(session, request, [factories.file(session, made.company)], now=NOW)
    desk.give(session, order, made.technician, "assign", actor="system", now=NOW)
    technician = world.viewer(session, made.technician)
    desk.act(session, order.id, "start", technician, now=NOW)
    with pytest.raises(Invalid) as refused:
        desk.act(session, order.id, "finish", technician, now=NOW)
    assert refused.value.field == "photos"


@pytest.mark.parametrize("text", ["", "  ", "x" * 1001])
def test_a_message_says_something_and_not_everything(session: Session, made: World, text: str) -> None:
    with pytest.raises(Invalid):
        acceptance.write(session, reported(session, made).request, text, now=NOW)


def test_CP_2_a_report_can_be_withdrawn_until_somebody_sets_out(session: Session, made: World) -> None:
    request = reported(session, made).request
    order = order_of(session, request)
    assert acceptance.may_withdraw(request, order)
    acceptance.withdraw(session, request, now=NOW)
    assert (request.state, order.phase) == ("withdrawn", "cancelled")
    assert not acceptance.may_withdraw(request, order)
    with pytest.raises(Conflict):
        acceptance.withdraw(session, request, now=NOW)

    late = reported(session, made, "Again").request
    order = order_of(session, late)
    desk.give(session, order, made.technician, "assign", actor="system", now=NOW)
    desk.act(session, order.id, "depart", world.viewer(session, made.technician), now=NOW)
    with pytest.raises(Conflict):
        acceptance.withdraw(session, late, now=NOW)
    assert (late.state, order.phase) == ("accepted", "travelling")


def test_an_order_that_others_need_outlives_a_withdrawn_report(session: Session, made: World) -> None:
    first = reported(session, made).request
    order = order_of(session, first)
    second = reported(session, made, "Same here", known=order).request
    acceptance.withdraw(session, first, now=NOW)
    assert (first.state, order.phase) == ("withdrawn", "new")
    acceptance.withdraw(session, second, now=NOW)
    assert order.phase == "cancelled"


def test_an_order_of_an_alarm_outlives_every_report(session: Session, made: World) -> None:
    alarm = factories.alarm(session, made.asset)
    order = factories.order(session, made.company, made.asset, alarm_id=alarm.id, origin="alarm")
    request = reported(session, made, known=order).request
    acceptance.withdraw(session, request, now=NOW)
    assert order.phase == "new"


def test_a_report_that_nobody_read_yet_is_withdrawn_too(session: Session, made: World) -> None:
    reported(session, made)
    waiting = reported(session, made, "Maybe another fault").request
    assert waiting.state == "new"
    acceptance.withdraw(session, waiting, now=NOW)
    assert waiting.state == "withdrawn"


def test_accepting_verifies_the_work_once(session: Session, made: World) -> None:
    request = finished(session, made)
    for _twice in range(2):
        assert acceptance.accept(session, request, now=NOW).phase == "verified"
    moves = select(func.count()).where(Entry.kind == "move", Entry.detail["verb"].astext == "verify")
    assert session.scalar(moves) == 1
    with pytest.raises(Conflict):
        acceptance.send_back(session, request, "Still drips", now=NOW)


def test_sending_back_needs_a_reason_and_counts_as_rework(session: Session, made: World) -> None:
    request = finished(session, made)
    with pytest.raises(Invalid):
        acceptance.send_back(session, request, "  ", now=NOW)
    order = acceptance.send_back(session, request, "Still drips", now=NOW)
    assert (order.phase, order.rework) == ("working", 1)
    with pytest.raises(Conflict):
        acceptance.accept(session, request, now=NOW)


def test_nothing_unfinished_is_accepted_sent_back_or_rated(session: Session, made: World) -> None:
    request = reported(session, made).request
    for refused in (
        lambda: acceptance.accept(session, request, now=NOW),
        lambda: acceptance.send_back(session, request, "No", now=NOW),
        lambda: acceptance.rate(session, request, 5, "", now=NOW),
    ):
        with pytest.raises(Conflict):
            refused()


@pytest.mark.parametrize("stars", [0, 6, -1, 100])
def test_a_rating_has_one_to_five_stars(session: Session, made: World, stars: int) -> None:
    with pytest.raises(Invalid) as refused:
        acceptance.rate(session, finished(session, made), stars, "", now=NOW)
    assert refused.value.field == "stars"


def test_CP_4_an_order_is_rated_once_and_closed_by_it(session: Session, made: World) -> None:
    request = finished(session, made)
    acceptance.accept(session, request, now=NOW)
    assert acceptance.rate(session, request, 5, "Quick", now=NOW)
    order = order_of(session, request)
    assert (order.rating, order.phase, request.rating, request.rating_text) == (5, "closed", 5, "Quick")
    assert not acceptance.rate(session, request, 1, "I changed my mind", now=NOW + timedelta(days=1))
    session.refresh(request)
    assert (order_of(session, request).rating, request.rating, request.rating_text) == (5, 5, "Quick")
    assert session.scalar(select(func.count()).select_from(Order)) == 1, "nobody is called back"
    rated = session.scalars(select(Event).where(Event.kind == "OrderRated")).one()
    assert rated.payload == {"order_id": order.id, "rating": 5}


def test_CP_4_another_reporter_of_the_same_order_does_not_rate_it_again(session: Session, made: World) -> None:
    request = finished(session, made)
    order = order_of(session, request)
    other = factories.request(session, made.asset, order_id=order.id, state="joined")[0]
    acceptance.rate(session, request, 4, "My words", now=NOW)
    assert not acceptance.rate(session, other, 1, "", now=NOW)
    assert order_of(session, request).rating == 4
    assert "My words" not in {one.text for one in timeline.for_customer(session, other)}


@pytest.mark.parametrize("stars", [1, 2])
def test_CP_4_two_stars_or_less_open_one_task_for_the_nearest_manager(
    session: Session, made: World, stars: int
) -> None:
    factories.account(session, made.company, "manager", "company")
    near = factories.account(session, made.company, "manager", "north")
    factories.account(session, made.company, "manager", "south")
    request = finished(session, made)
    acceptance.accept(session, request, now=NOW)
    acceptance.rate(session, request, stars, "Nobody called me", now=NOW)
    acceptance.rate(session, request, 1, "", now=NOW)
    task = session.scalars(select(Order).where(Order.origin == "rating")).one()
    assert (task.assignee_id, task.type.key, task.description) == (near.id, "follow_up", "Nobody called me")
    assert task.previous_id == request.order_id
    assert faults.open_of_asset(session, made.asset.id) == [], "a call is no fault of the machine"


def test_a_manager_can_finish_the_call_that_is_theirs_and_no_repair(session: Session, made: World) -> None:
    manager = factories.account(session, made.company, "manager", "company")
    request = finished(session, made)
    acceptance.rate(session, request, 1, "", now=NOW)
    viewer = world.viewer(session, manager)
    task = session.scalars(select(Order).where(Order.origin == "rating")).one()
    desk.act(session, task.id, "start", viewer, now=NOW)
    desk.act(session, task.id, "finish", viewer, now=NOW, resolution="Called, apologised")
    assert task.phase == "verified"
    repair = factories.order(session, made.company, made.asset, assignee_id=manager.id, phase="assigned")
    assert not authority.may(viewer, repair, "accept", desk.path_of(session, repair))


def test_three_stars_call_nobody_back(session: Session, made: World) -> None:
    factories.account(session, made.company, "manager", "company")
    acceptance.rate(session, finished(session, made), 3, "", now=NOW)
    assert session.scalars(select(Order).where(Order.origin == "rating")).all() == []


def test_two_ratings_at_the_same_moment_count_as_one(database: sessionmaker[Session]) -> None:
    with db.transaction(database) as session:
        made = world.build(session)
        factories.account(session, made.company, "manager", "company")
        request_id = finished(session, made).id
    counted: list[bool] = []
    ready = threading.Barrier(4)

    def rate(stars: int) -> None:
        ready.wait()
        with db.transaction(database) as session:
            counted.append(acceptance.rate(session, session.get_one(Request, request_id), stars, "", now=NOW))

    threads = [threading.Thread(target=rate, args=(stars,)) for stars in (1, 2, 1, 2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    with database() as session:
        assert sorted(counted) == [False, False, False, True]
        assert session.scalar(select(func.count()).where(Order.origin == "rating")) == 1
