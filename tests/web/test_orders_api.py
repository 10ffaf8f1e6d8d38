import io
from datetime import date, time, timedelta

import httpx
import pytest
from PIL import Image
from sqlalchemy.orm import Session, sessionmaker

from kernel import clock, db
from maintenance.dispatch import assign
from maintenance.orders import desk, kinds, opening, worklist
from maintenance.orders.events import OrderOpened
from maintenance.orders.models import Order
from tests import factories
from tests.factories import Company
from tests.web.conftest import ClientOf


@pytest.fixture
def asset_id(database: sessionmaker[Session], company: Company) -> int:
    with db.transaction(database) as session:
        return factories.asset(session, company, "harbour").id


@pytest.fixture
def technician(client_of: ClientOf, database: sessionmaker[Session], company: Company) -> httpx.Client:
    client = client_of("technician", "harbour")
    with db.transaction(database) as session:
        person = factories.account(session, company, "technician", "harbour")
        factories.shift(
            session, person, weekdays=list(range(7)), starts=time(0), ends=time(0), valid_from=date(2020, 1, 1)
        )
    return client


def opened(client: httpx.Client, asset_id: int, **more: object) -> dict[str, object]:
    answer = client.post("/api/v1/orders", json={"asset_id": asset_id, "title": "Runs hot", **more})
    assert answer.status_code == 201, answer.text
    return answer.json()  # type: ignore[no-any-return]


def dispatched(database: sessionmaker[Session], order_id: int) -> None:
    with db.transaction(database) as session:
        assign.on_opened(session, OrderOpened(order_id), clock.now())


def test_an_order_lives_from_opening_to_closing(
    client: httpx.Client, technician: httpx.Client, asset_id: int, database: sessionmaker[Session]
) -> None:
    order = opened(client, asset_id)
    assert (order["origin"], order["phase"], order["assignee"], order["asset_id"]) == ("person", "new", None, asset_id)
    address = f"/api/v1/orders/{order['id']}"
    dispatched(database, int(str(order["id"])))
    seen = technician.get(address).json()
    assert (seen["phase"], seen["next_step"]) == ("assigned", "accept")
    assert seen["assignee"]["username"] == "technician.harbour.acme"
    for verb, phase in (("accept", "accepted"), ("depart", "travelling"), ("arrive", "on_site"), ("start", "working")):
        assert technician.post(f"{address}/{verb}").json()["phase"] == phase
    answer = technician.post(f"{address}/finish", json={})
    assert answer.status_code == 422
    assert answer.json()["errors"][0]["field"] == "finding"
    done = technician.post(f"{address}/finish", json={"finding": "real", "resolution": "Cleaned"}).json()
    assert (done["phase"], done["finding"], done["next_step"]) == ("done", "real", None)
    assert client.post(f"{address}/verify").json()["phase"] == "verified"
    assert client.post(f"{address}/close").json()["phase"] == "closed"
    timeline = client.get(f"{address}/timeline").json()["items"]
    assert [one["detail"]["verb"] for one in reversed(timeline)] == [
        "open", "assign", "accept", "depart", "arrive", "start", "finish", "verify", "close",
    ]  # fmt: skip
    decision = client.get(f"{address}/decisions").json()["items"][0]
    assert decision["chosen_id"] == decision["candidates"][0]["account_id"] == seen["assignee"]["id"]
    told = client.get("/api/v1/events", params={"subject": f"order:{order['id']}", "sort": "id"}).json()
    assert told["items"][0]["kind"] == "OrderOpened"
    assert told["next"] is not None


def test_FS_2_finishing_before_the_start_is_a_conflict(client: httpx.Client, asset_id: int) -> None:
    order = opened(client, asset_id)
    answer = client.post(f"/api/v1/orders/{order['id']}/finish", json={"finding": "real", "resolution": "x"})
    assert answer.status_code == 409
    assert "assign" in answer.json()["detail"]


def test_the_list_is_filtered_sorted_and_paged(client: httpx.Client, asset_id: int) -> None:
    for number in range(5):
        opened(client, asset_id, title=f"Order {number}", priority=number % 2 + 1)
    first = client.get("/api/v1/orders", params={"limit": 2, "sort": "priority"}).json()
    rest = client.get("/api/v1/orders", params={"limit": 9, "sort": "priority", "cursor": first["next"]}).json()
    rows = first["items"] + rest["items"]
    assert [(row["priority"], row["title"]) for row in rows] == [
        (1, "Order 0"), (1, "Order 2"), (1, "Order 4"), (2, "Order 1"), (2, "Order 3"),
    ]  # fmt: skip
    assert rest["next"] is None

    def titles(**wanted: object) -> list[str]:
        answer = client.get("/api/v1/orders", params=wanted)
        assert answer.status_code == 200, answer.text
        return [row["title"] for row in answer.json()["items"]]

    assert titles(q="order 3") == ["Order 3"]
    assert titles(priority=2) == ["Order 3", "Order 1"]
    assert titles(assignee="me") == []
    assert len(titles(assignee="none")) == len(titles(asset=asset_id)) == len(titles(open=True)) == 5
    assert titles(open=False) == titles(phase="done") == titles(late=True) == titles(origin="alarm") == []
    for sort in worklist.SORTS:
        assert len(titles(sort=sort)) == 5
    assert titles(sort="-priority") == titles(sort="priority")[::-1]
    pages, cursor = list[str](), None
    for _ in range(3):
        page = client.get(
            "/api/v1/orders", params={"sort": "-due", "limit": 2} | ({"cursor": cursor} if cursor else {})
        ).json()
        pages, cursor = pages + [row["title"] for row in page["items"]], page["next"]
    assert pages == titles(sort="-due")
    for wrong in ({"phase": "asleep"}, {"assignee": "you"}, {"cursor": "nonsense"}, {"sort": "mood"}):
        assert client.get("/api/v1/orders", params=wrong).status_code == 422


def test_another_region_does_not_see_the_order(client: httpx.Client, client_of: ClientOf, asset_id: int) -> None:
    order, other = opened(client, asset_id), client_of("dispatcher", "quarry")
    address = f"/api/v1/orders/{order['id']}"
    assert other.get("/api/v1/orders").json()["items"] == []
    assert other.get("/api/v1/events").json()["items"] == []
    for path in ("", "/timeline", "/decisions", "/candidates"):
        assert other.get(address + path).status_code == 404
    for path, body in (
        ("/accept", {}),
        ("/cancel", {"reason": "x"}),
        ("/assign", {"account_id": 1}),
        ("/comments", {"text": "x"}),
        ("/offer", {}),
    ):
        assert other.post(address + path, json=body).status_code == 404, path


def test_a_lost_update_is_prevented(client: httpx.Client, asset_id: int) -> None:
    order = opened(client, asset_id)
    address = f"/api/v1/orders/{order['id']}"
    etag = client.get(address).headers["etag"]
    assert client.post(f"{address}/cancel", json={"reason": "x"}, headers={"If-Match": '"999"'}).status_code == 412
    assert client.post(f"{address}/cancel", json={"reason": "x"}, headers={"If-Match": etag}).status_code == 200


def test_the_same_key_opens_one_order(client: httpx.Client, asset_id: int) -> None:
    body, headers = {"asset_id": asset_id, "title": "Once"}, {"Idempotency-Key": "k-1"}
    first = client.post("/api/v1/orders", json=body, headers=headers).json()
    assert client.post("/api/v1/orders", json=body, headers=headers).json()["id"] == first["id"]
    assert len(client.get("/api/v1/orders").json()["items"]) == 1


def test_assigning_somebody_who_does_not_fit_needs_a_reason(
    client: httpx.Client, client_of: ClientOf, asset_id: int, database: sessionmaker[Session], company: Company
) -> None:
    client_of("technician", "north")
    with db.transaction(database) as session:
        off_shift = factories.account(session, company, "technician", "north").id
    order = opened(client, asset_id)
    address = f"/api/v1/orders/{order['id']}"
    ranked = client.get(f"{address}/candidates").json()["items"]
    assert {one["removed_by"] for one in ranked} == {"shift"}
    assert client.post(f"{address}/assign", json={"account_id": off_shift}).status_code == 422
    answer = client.post(f"{address}/assign", json={"account_id": off_shift, "reason": "Lives next door"})
    assert answer.json()["assignee"]["id"] == off_shift
    assert client.get(f"{address}/decisions").json()["items"][0]["is_override"] is True


def test_DI_8_the_second_to_grab_gets_a_conflict(client: httpx.Client, technician: httpx.Client, asset_id: int) -> None:
    order = opened(client, asset_id)
    address = f"/api/v1/orders/{order['id']}"
    assert technician.post(f"{address}/grab").status_code == 409
    assert client.post(f"{address}/offer", json={"minutes": 5}).json()["in_pool"] is True
    assert [one["id"] for one in technician.get("/api/v1/orders/pool").json()["items"]] == [order["id"]]
    assert technician.post(f"{address}/grab").json()["phase"] == "accepted"
    assert technician.post(f"{address}/grab").status_code == 409


def picture() -> bytes:
    out = io.BytesIO()
    Image.new("RGB", (40, 30), "red").save(out, "PNG")
    return out.getvalue()


def test_comments_and_photos_stand_on_the_timeline(client: httpx.Client, asset_id: int) -> None:
    order = opened(client, asset_id)
    address = f"/api/v1/orders/{order['id']}"
    said = client.post(f"{address}/comments", json={"text": "On its way", "is_public": True})
    assert (said.status_code, said.json()["is_public"]) == (201, True)
    assert client.post(f"{address}/comments", json={"text": "  "}).status_code == 422
    sent = client.post(f"{address}/photos", files=[("photos", ("a.png", picture(), "image/png"))])
    assert sent.status_code == 201, sent.text
    bad = client.post(f"{address}/photos", files=[("photos", ("a.png", b"not a picture", "image/png"))])
    assert bad.status_code == 415
    items = client.get(f"{address}/timeline", params={"limit": 2}).json()
    assert [one["kind"] for one in items["items"]] == ["photo", "comment"]
    rest = client.get(f"{address}/timeline", params={"cursor": items["next"]}).json()
    assert [one["kind"] for one in rest["items"]] == ["move"]


def test_a_technician_does_not_take_steps_on_the_order_of_another(
    client: httpx.Client, client_of: ClientOf, technician: httpx.Client, asset_id: int, database: sessionmaker[Session]
) -> None:
    order = opened(client, asset_id)
    dispatched(database, int(str(order["id"])))
    other = client_of("technician", "north")
    assert other.post(f"/api/v1/orders/{order['id']}/accept").status_code == 403
    assert technician.post(f"/api/v1/orders/{order['id']}/verify").status_code == 403


def test_a_report_is_made_listed_and_triaged(
    client: httpx.Client, asset_id: int, database: sessionmaker[Session], company: Company
) -> None:
    with db.transaction(database) as session:
        kinds.of(session, company.id, "corrective").requires = {"triage": ["always"]}
    made = client.post("/api/v1/requests", json={"asset_id": asset_id, "what": "It smokes", "contact_name": "Chen"})
    assert made.status_code == 201
    report = made.json()
    assert (report["state"], report["origin"], report["track"][:3]) == ("new", "person", "/t/")
    assert [one["id"] for one in client.get("/api/v1/requests?waiting=true").json()["items"]] == [report["id"]]
    address = f"/api/v1/requests/{report['id']}"
    assert client.post(f"{address}/decline", json={}).status_code == 422
    assert client.post(f"{address}/hold", json={"reason": "We ask"}).json()["state"] == "held"
    accepted = client.post(f"{address}/accept", json={"priority": 1}).json()
    assert accepted["state"] == "accepted"
    order = client.get(f"/api/v1/orders/{accepted['order_id']}").json()
    assert (order["priority"], order["request_ids"]) == (1, [report["id"]])
    assert client.post(f"{address}/decline", json={"reason": "x"}).status_code == 409
    second = client.post("/api/v1/requests", json={"asset_id": asset_id, "what": "Smoke again"}).json()
    assert second["suggested_order_id"] == order["id"]
    joined = client.post(f"/api/v1/requests/{second['id']}/join", json={"order_id": order["id"]}).json()
    assert (joined["state"], joined["order_id"]) == ("joined", order["id"])
    assert client.get("/api/v1/requests", params={"order": order["id"]}).json()["items"][0]["id"] == second["id"]


def test_the_events_are_followed_with_the_last_cursor(client: httpx.Client, asset_id: int) -> None:
    opened(client, asset_id)
    first = client.get("/api/v1/events", params={"sort": "id"}).json()
    assert [one["kind"] for one in first["items"]] == ["OrderOpened"]
    opened(client, asset_id)
    more = client.get("/api/v1/events", params={"sort": "id", "cursor": first["next"]}).json()
    assert [one["kind"] for one in more["items"]] == ["OrderOpened"]
    assert client.get("/api/v1/events", params={"kind": "OrderRated"}).json()["items"] == []


def test_a_list_of_orders_costs_the_same_number_of_queries_however_long(
    client: httpx.Client, asset_id: int, database: sessionmaker[Session], company: Company
) -> None:
    from sqlalchemy import event

    engine = database.kw["bind"]
    asked: list[str] = []
    event.listen(engine, "before_cursor_execute", lambda *given: asked.append(given[2]))

    def queries(address: str) -> int:
        asked.clear()
        assert client.get(address).status_code == 200
        # The process's one ear on the outbox asks for events by itself, whoever looks at what.
        return sum(" FROM event" not in one.replace("\n", " ") for one in asked)

    opened(client, asset_id)
    addresses = ("/api/v1/orders", "/orders?open=true", "/orders?open=true&view=board", "/")
    for address in addresses:
        queries(address)
    few = [queries(address) for address in addresses]
    with db.transaction(database) as session:
        for number in range(10):
            asset = factories.asset(session, company, "mill")
            who = factories.account(session, company, "technician", "mill", username=f"t{number}")
            order = opening.open_order(
                session, opening.about(asset, origin="person", title="x"), actor="system", now=clock.now()
            )
            desk.give(session, order, who, "assign", actor="system", now=clock.now() - timedelta(hours=1))
    assert [queries(address) for address in addresses] == few
    with database() as session:
        assert session.query(Order).count() == 11
