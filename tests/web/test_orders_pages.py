import csv
import io
import re
from datetime import date, time

import httpx
import pytest
from sqlalchemy import select
from sqlalchemy.orm import Session, sessionmaker

from kernel import clock, db
from maintenance.dispatch import assign, pool
from maintenance.orders import desk, kinds, opening, requests
from maintenance.orders.events import OrderOpened
from maintenance.orders.models import Entry, Order
from maintenance.orders.requests import Report
from people.models import Account
from tests import factories
from tests.factories import Company
from tests.web.conftest import ClientOf
from tests.web.test_orders_api import picture


@pytest.fixture
def technician(client_of: ClientOf, database: sessionmaker[Session], company: Company) -> httpx.Client:
    client = client_of("technician", "harbour")
    with db.transaction(database) as session:
        person = factories.account(session, company, "technician", "harbour")
        factories.shift(
            session, person, weekdays=list(range(7)), starts=time(0), ends=time(0), valid_from=date(2020, 1, 1)
        )
    return client


@pytest.fixture
def order_id(database: sessionmaker[Session], company: Company) -> int:
    """Return an order with its alarm still active."""
    with db.transaction(database) as session:
        asset = factories.asset(session, company, "harbour")
        alarm = factories.alarm(session, asset)
        draft = opening.about(
            asset, origin="alarm", title="Overheat", title_zh="过热", priority=1, alarm_id=alarm.id,
            fault_key=f"{alarm.subject}/{alarm.type_key}",
        )  # fmt: skip
        return opening.open_order(session, draft, actor="system", now=clock.now()).id


def dispatched(database: sessionmaker[Session], order_id: int) -> None:
    with db.transaction(database) as session:
        assign.on_opened(session, OrderOpened(order_id), clock.now())


def phase(database: sessionmaker[Session], order_id: int) -> str:
    with database() as session:
        return session.get_one(Order, order_id).phase


def test_a_technician_works_an_order_on_the_phone(
    technician: httpx.Client, order_id: int, database: sessionmaker[Session]
) -> None:
    dispatched(database, order_id)
    assert technician.get("/").headers["location"] == "/my"
    day = technician.get("/my")
    assert f'action="/jobs/{order_id}/accept"' in day.text
    for verb in ("accept", "depart", "arrive", "start"):
        assert f"/jobs/{order_id}/{verb}" in technician.get(f"/jobs/{order_id}").text
        assert technician.post(f"/jobs/{order_id}/{verb}").headers["location"] == f"/jobs/{order_id}"
    refused = technician.post(f"/jobs/{order_id}/finish", data={"finding": "real", "resolution": "Cleaned"})
    assert refused.status_code == 422
    assert "Please say why" in refused.text
    assert "Cleaned" in refused.text, "what was typed is not lost"
    done = {"finding": "real", "resolution": "Cleaned", "reason": "Sensor broken"}
    assert technician.post(f"/jobs/{order_id}/finish", data=done).headers["location"] == "/my"
    assert phase(database, order_id) == "done"
    assert "Nothing to do right now" in technician.get("/my").text


def test_a_step_that_is_no_longer_possible_says_so_and_shows_how_it_stands(
    technician: httpx.Client, order_id: int, database: sessionmaker[Session]
) -> None:
    dispatched(database, order_id)
    technician.post(f"/jobs/{order_id}/start")
    again = technician.post(f"/jobs/{order_id}/accept")
    assert again.status_code == 409
    assert "the order has moved on" in again.text
    assert phase(database, order_id) == "working"


def test_refusing_on_the_phone_needs_a_reason(
    technician: httpx.Client, order_id: int, database: sessionmaker[Session]
) -> None:
    dispatched(database, order_id)
    assert technician.post(f"/jobs/{order_id}/refuse", data={"reason": ""}).status_code == 422
    assert technician.post(f"/jobs/{order_id}/refuse", data={"reason": "Ill"}).status_code == 303
    assert phase(database, order_id) == "new"


def test_photos_and_notes_are_added_on_the_phone(
    technician: httpx.Client, order_id: int, database: sessionmaker[Session]
) -> None:
    sent = technician.post(f"/jobs/{order_id}/photos", files=[("photos", ("a.png", picture(), "image/png"))])
    assert sent.status_code == 303
    assert technician.post(f"/jobs/{order_id}/comments", data={"text": "Bolt is loose"}).status_code == 303
    page = technician.get(f"/jobs/{order_id}").text
    shown = re.search(rf'src="(/orders/{order_id}/photos/\d+\?size=thumb)"', page)
    assert shown is not None
    assert "Bolt is loose" in page
    assert technician.get(shown[1]).headers["content-type"] == "image/jpeg"
    with database() as session:
        entry = session.scalars(select(Entry).where(Entry.kind == "comment")).one()
    assert technician.get(f"/orders/{order_id}/photos/{entry.id}").status_code == 404
    bad = technician.post(f"/jobs/{order_id}/photos", files=[("photos", ("a.png", b"no", "image/png"))])
    assert bad.status_code == 422


def test_a_position_is_kept_for_dispatch(technician: httpx.Client, database: sessionmaker[Session]) -> None:
    assert technician.post("/my/position", data={"latitude": "31.2", "longitude": "121.4"}).status_code == 204
    assert technician.post("/my/position", data={"latitude": "131.2", "longitude": "121.4"}).status_code == 422
    with database() as session:
        account = session.scalars(select(Account).where(Account.username == "technician.harbour.acme")).one()
        assert (account.latitude, account.longitude) == (31.2, 121.4)


def test_the_first_to_grab_has_it(technician: httpx.Client, order_id: int, database: sessionmaker[Session]) -> None:
    with db.transaction(database) as session:
        pool.offer(session, desk.locked(session, order_id), actor="system", now=clock.now())
    assert f'action="/jobs/{order_id}/grab"' in technician.get("/my").text
    assert technician.post(f"/jobs/{order_id}/grab").headers["location"] == f"/jobs/{order_id}"
    assert technician.post(f"/jobs/{order_id}/grab").headers["location"] == "/my"


def test_a_dispatcher_sees_what_needs_somebody_and_why_nobody_was_sent(
    client_of: ClientOf, order_id: int, database: sessionmaker[Session]
) -> None:
    boss = client_of("dispatcher", "company")
    client_of("technician", "north")
    dispatched(database, order_id)
    page = boss.get("/").text
    assert "Overheat" in page
    assert f"/orders/{order_id}/assign" in page
    order = boss.get(f"/orders/{order_id}").text
    assert "Nobody fits" in order
    assert "Has no shift in the next two weeks." in order
    assert "过热" in boss.get(f"/orders/{order_id}", headers={"Cookie": f"{_cookies(boss)}; lang=zh"}).text


def _cookies(client: httpx.Client) -> str:
    return "; ".join(f"{name}={value}" for name, value in client.cookies.items())


def test_a_dispatcher_assigns_with_a_reason_books_a_visit_and_offers(
    client_of: ClientOf, order_id: int, database: sessionmaker[Session], company: Company
) -> None:
    boss = client_of("dispatcher", "company")
    client_of("technician", "north")
    with database() as session:
        who = factories.account(session, company, "technician", "north").id
    assert boss.post(f"/orders/{order_id}/offer", data={"minutes": "5"}).status_code == 303
    page = boss.get(f"/orders/{order_id}/assign")
    assert "Who does not fit, and why" in page.text
    refused = boss.post(f"/orders/{order_id}/assign", data={"account_id": str(who)})
    assert refused.status_code == 422
    assert "Give a reason" in refused.text
    wrong = boss.post(f"/orders/{order_id}/assign", data={"account_id": str(who), "planned": "soon"})
    assert wrong.status_code == 422
    booked = {"account_id": str(who), "planned": "2027-01-04T08:00", "reason": "Knows the machine"}
    assert boss.post(f"/orders/{order_id}/assign", data=booked).status_code == 303
    assert "Override" in boss.get(f"/orders/{order_id}").text
    assert boss.post(f"/orders/{order_id}/cancel", data={"reason": ""}).status_code == 422
    assert boss.post(f"/orders/{order_id}/cancel", data={"reason": "Sold"}).status_code == 303
    assert phase(database, order_id) == "cancelled"


def test_the_list_the_board_and_the_form_of_a_new_order(
    client_of: ClientOf, order_id: int, database: sessionmaker[Session]
) -> None:
    boss = client_of("dispatcher", "company")
    assert boss.get("/orders").headers["location"] == "/orders?open=true&sort=priority"
    for address in ("/orders?open=true&sort=priority", "/orders?open=true&view=board", "/orders?assignee=none"):
        assert "Overheat" in boss.get(address).text, address
    assert "No orders here" in boss.get("/orders?assignee=me").text
    assert boss.get("/orders/new").status_code == 200
    with database() as session:
        asset_id = str(session.get_one(Order, order_id).asset_id)
    assert boss.post("/orders", data={"asset_id": asset_id, "title": " "}).status_code == 422
    made = boss.post("/orders", data={"asset_id": asset_id, "title": "Belt slips", "priority": "2"})
    assert "Belt slips" in boss.get(made.headers["location"]).text


def test_the_list_is_downloaded_as_a_table_in_the_readers_language_and_runs_no_formula(
    client_of: ClientOf, order_id: int, database: sessionmaker[Session]
) -> None:
    boss = client_of("dispatcher", "company")
    with db.transaction(database) as session:
        session.get_one(Order, order_id).title = "=1+1"
    table = boss.get("/orders/export.csv?open=true&sort=priority")
    assert table.headers["content-type"].startswith("text/csv")
    head, row = list(csv.reader(io.StringIO(table.text.removeprefix("\ufeff"))))
    assert (head[0], row[0], row[1]) == ("Order", "WO-2026-000001".replace("2026", str(clock.now().year)), "'=1+1")
    boss.cookies.set("lang", "zh")
    assert "过热" in boss.get("/orders/export.csv?open=true").text


def test_a_comment_of_the_desk_is_internal_unless_it_says_otherwise(
    client_of: ClientOf, order_id: int, database: sessionmaker[Session]
) -> None:
    boss = client_of("dispatcher", "company")
    boss.post(f"/orders/{order_id}/comments", data={"text": "Inside"})
    boss.post(f"/orders/{order_id}/comments", data={"text": "Outside", "is_public": "1"})
    assert boss.post(f"/orders/{order_id}/comments", data={"text": ""}).status_code == 422
    with database() as session:
        found = {one.text: one.is_public for one in session.scalars(select(Entry).where(Entry.kind == "comment"))}
    assert found == {"Inside": False, "Outside": True}


def test_IN_4_a_report_is_joined_declined_and_accepted_on_its_page(
    client_of: ClientOf, database: sessionmaker[Session], company: Company
) -> None:
    boss = client_of("dispatcher", "company")
    with db.transaction(database) as session:
        kinds.of(session, company.id, "corrective").requires = {"triage": ["always"]}
        asset = factories.asset(session, company, "harbour")
        made = [
            requests.make(
                session, asset, Report(what=f"Smoke {number}", contact_name="Chen"), origin="scan", actor="customer",
                now=clock.now(),
            ).request.id
            for number in range(3)
        ]  # fmt: skip
    assert "Smoke 0" in boss.get("/requests").text
    assert "Smoke 0" in boss.get("/").text
    accepted = boss.post(f"/requests/{made[0]}/accept", data={"priority": "2", "title": "Smoke from motor"})
    order = accepted.headers["location"]
    assert "Chen" in boss.get(order).text
    assert "Is it this?" in boss.get(f"/requests/{made[1]}").text
    assert boss.post(f"/requests/{made[1]}/join", data={"order_id": order.rsplit("/", 1)[1]}).status_code == 303
    assert boss.post(f"/requests/{made[2]}/decline", data={"reason": " "}).status_code == 422
    assert boss.post(f"/requests/{made[2]}/hold", data={"reason": "We ask"}).status_code == 303
    assert boss.post(f"/requests/{made[2]}/decline", data={"reason": "Sold"}).status_code == 303
    assert boss.post(f"/requests/{made[2]}/accept", data={}).status_code == 422
    assert "Nothing waits for a decision" in boss.get("/requests").text


@pytest.mark.usefixtures("order_id")
def test_the_map_holds_sites_and_the_people_last_seen(
    client_of: ClientOf, technician: httpx.Client, database: sessionmaker[Session], company: Company
) -> None:
    with db.transaction(database) as session:
        site = session.merge(company.sites["harbour"])
        site.latitude, site.longitude = 31.2, 121.4
    technician.post("/my/position", data={"latitude": "31.3", "longitude": "121.5"})
    found = client_of("dispatcher", "company").get("/now/map").json()
    kinds_found = {one["properties"]["kind"]: one for one in found["features"]}
    assert kinds_found["site"]["geometry"]["coordinates"] == [121.4, 31.2]
    assert kinds_found["site"]["properties"]["severity"] == "critical"
    assert kinds_found["person"]["geometry"]["coordinates"] == [121.5, 31.3]


def test_a_change_by_somebody_else_reaches_an_open_page(client_of: ClientOf, order_id: int) -> None:
    boss, other = client_of("dispatcher", "company"), client_of("dispatcher", "north")
    with boss.stream("GET", "/live", params={"topics": f"order:{order_id}"}) as stream:
        lines = stream.iter_lines()
        assert next(lines).startswith("retry:")
        other.post(f"/orders/{order_id}/comments", data={"text": "Look"})
        told = next(line for line in lines if line.startswith("data:"))
    assert f"order:{order_id}" in told


@pytest.mark.usefixtures("order_id")
def test_a_manager_and_a_storekeeper_have_a_first_page_too(client_of: ClientOf) -> None:
    for role in ("manager", "storekeeper", "planner", "administrator"):
        assert client_of(role, "company").get("/").status_code == 200, role


def test_IN_9_a_report_after_the_alarm_is_offered_its_order_with_the_alarms_value(
    client_of: ClientOf, database: sessionmaker[Session], company: Company
) -> None:
    with db.transaction(database) as session:
        asset = factories.asset(session, company, "harbour")
        alarm = factories.alarm(session, asset, type_key="overheat", value=96.5, limit=90.0)
        order = factories.order(session, company, asset, origin="alarm", alarm_id=alarm.id, fault_key="f", phase="new")
        report = Report(what="It smells of burning")
        made = requests.make(session, asset, report, origin="scan", actor="customer", now=clock.now()).request.id
    page = client_of("dispatcher", "company").get(f"/requests/{made}").text
    assert order.number in page
    assert "96.5" in page
    assert 'data-live="order:' in page
