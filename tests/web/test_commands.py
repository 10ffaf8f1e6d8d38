"""Commands, wanted settings and gateways as pages and over JSON, on the real application (ING-13, ING-8)."""

from collections.abc import Callable

import httpx
import pytest
from sqlalchemy import func, select, update
from sqlalchemy.orm import Session, sessionmaker

from assets.command_tables import DeviceCommand
from assets.models import AssetType, Device
from kernel import clock, db
from kernel.models import AuditEntry, Event
from tests import factories
from tests.factories import Company

ClientOf = Callable[..., httpx.Client]
ORDER = {"method": "set_interval", "params": {"seconds": 5}}


@pytest.fixture
def device(database: sessionmaker[Session], company: Company) -> int:
    """A device at the harbour that is online."""
    with db.transaction(database) as session:
        asset = factories.asset(session, company, "harbour")
        there = {"connection": "online", "is_online": True, "online_changed_at": clock.now()}
        return factories.device(session, company, "harbour", on=asset, key="press-7", name="Press 7", **there).id


def written(database: sessionmaker[Session]) -> int:
    with database() as session:
        return session.scalar(select(func.count()).select_from(DeviceCommand)) or 0


def test_ING_13_a_command_is_asked_for_listed_and_cancelled_and_all_of_it_is_audited(
    client: httpx.Client, device: int, database: sessionmaker[Session]
) -> None:
    where = f"/api/v1/devices/{device}/commands"
    key = {"Idempotency-Key": "once"}
    made = client.post(where, json=ORDER, headers=key)
    assert made.status_code == 201
    assert client.post(where, json=ORDER, headers=key).json() == made.json()
    assert written(database) == 1
    command = made.json()
    assert (command["state"], command["method"], command["params"]) == ("queued", "set_interval", {"seconds": 5})
    assert client.get(where).json()["items"] == [command]
    assert client.get(f"{where}/{command['id']}").json() == command
    assert client.post(f"{where}/{command['id']}/cancel").json()["state"] == "cancelled"
    assert client.post(f"{where}/{command['id']}/cancel").status_code == 409
    with database() as session:
        acts = session.scalars(select(AuditEntry.action).where(AuditEntry.subject == f"device:{device}")).all()
        told = session.scalars(select(Event.payload).where(Event.kind == "CommandMoved").order_by(Event.id)).all()
    assert acts == ["device.command", "device.cancel_command"]
    assert [one["state"] for one in told] == ["queued", "cancelled"]


@pytest.mark.parametrize("role", ["technician", "planner", "manager"])
def test_ING_13_a_user_without_the_right_gets_404_and_no_message_leaves(
    client_of: ClientOf, client: httpx.Client, device: int, database: sessionmaker[Session], role: str
) -> None:
    command = client.post(f"/api/v1/devices/{device}/commands", json={**ORDER, "kind": "kept"}).json()
    without = client_of(role, "harbour")
    assert without.get(f"/api/v1/devices/{device}").status_code == 200
    where = f"/api/v1/devices/{device}/commands"
    refused = [
        without.post(where, json=ORDER),
        without.post(f"{where}/{command['id']}/cancel"),
        without.put(f"/api/v1/devices/{device}/desired", json={"settings": {"interval_s": 5}}),
        without.post(f"/devices/{device}/commands", data={"method": "restart"}),
        without.post(f"/devices/{device}/commands/{command['id']}/again"),
        without.post(f"/devices/{device}/desired", data={"settings": "{}"}),
        client_of("dispatcher", "quarry").post(where, json=ORDER),
    ]
    assert [answer.status_code for answer in refused] == [404] * len(refused)
    assert written(database) == 1
    page = without.get(f"/devices/{device}").text
    assert f"/devices/{device}/commands" not in page.replace(f'href="/devices/{device}/commands"', "")
    assert client_of("dispatcher", "harbour").post(where, json=ORDER).status_code == 201


def test_ING_13_the_page_sends_says_what_became_of_it_and_asks_again(
    client: httpx.Client, device: int, database: sessionmaker[Session]
) -> None:
    wrong = client.post(f"/devices/{device}/commands", data={"method": "restart", "params": "[1"})
    assert wrong.status_code == 422
    assert "must be a JSON object" in wrong.text
    sent = client.post(f"/devices/{device}/commands", data={"method": "restart", "params": "", "how": "kept"})
    assert sent.status_code == 303
    assert "restart" in client.get(f"/devices/{device}").text
    with db.transaction(database) as session:
        session.execute(update(Device).values(connection="offline", is_online=False))
        (only,) = session.scalars(select(DeviceCommand)).all()
    assert client.post(f"/devices/{device}/commands/{only.token}/again").status_code == 422
    client.post(f"/devices/{device}/commands/{only.token}/cancel")
    assert client.post(f"/devices/{device}/commands/{only.token}/again").status_code == 303
    now = client.post(f"/devices/{device}/commands", data={"method": "blink", "how": "one_way"})
    assert now.status_code == 303
    listed = client.get(f"/devices/{device}/commands").text
    assert "The device is not online." in listed
    assert "Waiting for the device" in listed


def test_ING_13_wanted_settings_stand_beside_reported_ones(
    client: httpx.Client, device: int, database: sessionmaker[Session]
) -> None:
    with db.transaction(database) as session:
        session.execute(update(Device).values(attributes={"mode": "eco", "settings": {"interval_s": 10}}))
    where = f"/api/v1/devices/{device}/desired"
    answer = client.put(where, json={"settings": {"interval_s": 5, "mode": "eco"}}).json()
    assert answer["version"] == 1
    assert answer["differences"] == [{"name": "interval_s", "wanted": 5, "reported": 10, "is_reported": True}]
    assert client.put(where, json={"settings": {"interval_s": 5, "mode": "eco"}}).json()["version"] == 1
    assert client.put(where, json={"settings": {"interval_s": 7}}).json()["version"] == 2
    commands = client.get(f"/api/v1/devices/{device}/commands").json()["items"]
    assert [(one["settings_version"], one["state"]) for one in commands] == [(2, "queued"), (1, "cancelled")]
    page = client.get(f"/devices/{device}").text
    assert "differs" in page
    assert client.put(where, json={"settings": {"x" * 81: 1}}).status_code == 422


def test_ING_8_the_page_of_a_gateway_lists_its_children(
    client: httpx.Client, company: Company, database: sessionmaker[Session]
) -> None:
    with db.transaction(database) as session:
        gateway = factories.device(session, company, "harbour", key="gate", name="Gateway")
        for number in range(25):
            factories.device(
                session, company, "harbour", key=f"meter-{number:02}", gateway_id=gateway.id, connection="unreachable"
            )
    page = client.get(f"/devices/{gateway.id}").text
    assert "Behind this gateway" in page
    assert "25 unreachable" in page
    assert "meter-19" in page
    assert "meter-20" not in page
    assert "meter-20" in client.get(f"/devices?gateway={gateway.id}").text
    behind = client.get("/api/v1/devices", params={"gateway_id": gateway.id, "state": "unreachable"}).json()
    assert len(behind["items"]) == 25


def test_ING_15_when_silence_is_too_long_is_set_by_those_who_may(
    client: httpx.Client, client_of: ClientOf, device: int, database: sessionmaker[Session]
) -> None:
    with database() as session:
        kind = session.scalars(select(AssetType.id)).first()
    assert client.put(f"/api/v1/devices/{device}/silence", json={"after_s": 90, "severity": "minor"}).status_code == 200
    assert client.put(f"/api/v1/devices/{device}/silence", json={"after_s": -1}).status_code == 422
    assert client.post(f"/types/{kind}/silence", data={"factor": "5", "severity": "off"}).status_code == 303
    assert client_of("technician", "harbour").put(f"/api/v1/devices/{device}/silence", json={}).status_code == 403
    shown = client.get(f"/api/v1/devices/{device}").json()
    assert (shown["quiet_after_s"], shown["quiet_severity"]) == (90, "minor")
    with database() as session:
        row = session.get_one(AssetType, kind)
        assert (row.quiet_factor, row.quiet_severity) == (5, "off")
