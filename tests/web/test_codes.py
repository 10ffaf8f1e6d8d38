"""The alarm dictionary: what a code means on its alarm and order, as pages, as JSON and as a file (ALM-14)."""

from collections.abc import Callable

import httpx
import pytest
from sqlalchemy import select, update
from sqlalchemy.orm import Session, sessionmaker

from kernel import clock, db
from maintenance.orders import alarm_orders
from maintenance.orders.models import Order
from maintenance.plans import checklists
from rules import alarms
from rules.episodes import Fault, Seen
from rules.events import AlarmAnnounced
from rules.models import Alarm
from tests import factories
from tests.factories import Company

ClientOf = Callable[..., httpx.Client]
E42 = {
    "code": "E42", "name": "Drive overload", "name_zh": "驱动过载", "severity": "critical",
    "causes": "Belt too tight", "causes_zh": "皮带过紧", "remedy": "Loosen the belt, reset the drive",
    "remedy_zh": "松开皮带，复位驱动器",
}  # fmt: skip


@pytest.fixture
def list_id(database: sessionmaker[Session], company: Company) -> int:
    with db.transaction(database) as session:
        return factories.checklist(session, company, "harbour").id


def reported(database: sessionmaker[Session], company: Company, code: str, **asset: object) -> tuple[int, int]:
    """Let a device report a code and its order be opened, by the verbs of the product; return both."""
    now = clock.now()
    with db.transaction(database) as session:
        machine = factories.asset(session, company, "harbour", **asset)
        device = factories.device(session, company, "harbour", on=machine)
        fault = Fault(f"asset:{machine.id}", code, "device", f"device:{device.id}", machine.company_id,
                      machine.unit_id, machine.id, device.id)  # fmt: skip
        seen = Seen(fault, "minor", now, now, message="said by the device", evidence={"seq": 1})
        alarm_id = alarms.raise_(session, seen, now=now)
        alarm_orders.on_announced(session, AlarmAnnounced(alarm_id, "raised"), now)
        order = session.scalars(select(Order).where(Order.alarm_id == alarm_id)).one()
        return alarm_id, order.id


def test_ALM_14_a_known_code_opens_an_order_with_its_checklist_and_remedy(
    client_of: ClientOf, company: Company, database: sessionmaker[Session], list_id: int
) -> None:
    client = client_of()
    assert client.post("/api/v1/codes", json=E42 | {"checklist_id": list_id}).status_code == 201
    alarm_id, order_id = reported(database, company, "E42")
    with database() as session:
        order = session.get_one(Order, order_id)
        assert (order.title, order.title_zh, order.priority) == ("E42 Drive overload", "E42 驱动过载", 1)
        assert checklists.items_of(session, order)
    technician = client_of("technician", "harbour")
    for path in (f"/alarms/{alarm_id}", f"/orders/{order_id}", f"/jobs/{order_id}"):
        page = technician.get(path).text
        for words in ("What E42 means", "Drive overload", "Belt too tight", "Loosen the belt, reset the drive"):
            assert words in page, (path, words)
    technician.cookies.set("lang", "zh")
    assert "E42 驱动过载</h1>" in technician.get(f"/alarms/{alarm_id}").text
    assert "松开皮带，复位驱动器" in technician.get(f"/jobs/{order_id}").text


def test_ALM_14_desk_and_board_say_what_a_code_means_in_the_language_of_who_reads_it(
    client_of: ClientOf, company: Company, database: sessionmaker[Session]
) -> None:
    assert client_of().post("/api/v1/codes", json=E42).status_code == 201
    reported(database, company, "E42")
    reported(database, company, "E999")
    with db.transaction(database) as session:
        session.execute(update(Alarm).values(severity="major"))
    chinese = client_of()
    chinese.cookies.set("lang", "zh")
    for path in ("/alarms", "/"):
        assert "Drive overload" in client_of().get(path).text
        assert "驱动过载" in chinese.get(path).text
    assert chinese.get("/alarms").text.count("said by the device") == 1, "only where nothing explains the code"


def test_ALM_14_an_unknown_code_opens_a_plain_order_and_is_listed_until_somebody_explains_it(
    client: httpx.Client, company: Company, database: sessionmaker[Session]
) -> None:
    alarm_id, order_id = reported(database, company, "E999")
    with database() as session:
        order = session.get_one(Order, order_id)
        assert (order.title, checklists.items_of(session, order)) == ("said by the device", [])
    assert "Nobody has explained this code yet" in client.get(f"/alarms/{alarm_id}").text
    assert [one["code"] for one in client.get("/api/v1/codes/unknown").json()["items"]] == ["E999"]
    assert "E999" in client.get("/codes").text.partition('id="unknown"')[2]
    assert client.post("/codes", data={"code": "E999", "name": "Controller fault"}).status_code == 303
    assert client.get("/api/v1/codes/unknown").json()["items"] == []
    assert "Controller fault" in client.get(f"/alarms/{alarm_id}").text


def test_ALM_14_the_entry_of_the_assets_own_type_comes_before_the_general_one(
    client: httpx.Client, company: Company, database: sessionmaker[Session]
) -> None:
    with db.transaction(database) as session:
        pump = factories.asset_type(session, company, "pump").id
    client.post("/api/v1/codes", json={"code": "E7", "name": "Anything"})
    client.post("/api/v1/codes", json={"code": "E7", "name": "Seal leaks", "asset_type_id": pump})
    assert client.post("/api/v1/codes", json={"code": "E7", "name": "Twice"}).status_code == 409
    on_pump, _ = reported(database, company, "E7", type_id=pump)
    elsewhere, _ = reported(database, company, "E7")
    assert "Seal leaks" in client.get(f"/alarms/{on_pump}").text
    assert "Anything" in client.get(f"/alarms/{elsewhere}").text


def test_ALM_14_the_dictionary_leaves_and_comes_back_as_a_file_or_not_at_all(client_of: ClientOf, list_id: int) -> None:
    client = client_of()
    client.post("/api/v1/codes", json=E42 | {"checklist_id": list_id, "remedy": "=1+1"})
    client.post("/api/v1/codes", json={"code": "E1", "name": "Door open"})
    file = client.get("/codes/export.csv").content
    assert b"'=1+1" in file
    before = client.get("/api/v1/codes").json()["items"]
    for one in before:
        assert client.delete(f"/api/v1/codes/{one['id']}").status_code == 204
    assert client.post("/codes/import", files={"file": ("codes.csv", file)}).status_code == 303
    after = client.get("/api/v1/codes").json()["items"]
    assert [one | {"id": 0} for one in after] == [one | {"id": 0} for one in before]
    wrong = b"code,name,type\nE2,Fine,\nE3,Not fine,no-such-type\n"
    refused = client.post("/codes/import", files={"file": ("codes.csv", wrong)})
    assert refused.status_code == 422
    assert "Line 3" in refused.text
    assert len(client.get("/api/v1/codes").json()["items"]) == 2
    again = client.post("/api/v1/codes/import", files={"file": ("codes.csv", b"code,name\nE1,Door is open\n")})
    assert again.json() == {"entries": 1}
    assert [one["name"] for one in client.get("/api/v1/codes", params={"q": "E1"}).json()["items"]] == ["Door is open"]
    assert client_of("planner", "harbour").post("/api/v1/codes", json={"code": "E5", "name": "x"}).status_code == 403


def test_ALM_14_an_entry_is_changed_and_removed_on_its_page(client: httpx.Client) -> None:
    made = client.post("/api/v1/codes", json=E42).json()["id"]
    assert "Belt too tight" in client.get(f"/codes/{made}").text
    assert client.post(f"/codes/{made}", data={"code": "E42", "name": ""}).status_code == 422
    assert client.post(f"/codes/{made}", data={"code": "E42", "name": "Overload of the drive"}).status_code == 303
    assert "Overload of the drive" in client.get("/codes").text
    assert client.post(f"/codes/{made}/drop").status_code == 303
    assert "Overload of the drive" not in client.get("/codes").text
