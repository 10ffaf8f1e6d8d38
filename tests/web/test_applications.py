"""Devices that ask to be let in, as a page and over JSON."""

from collections.abc import Callable

import httpx
import pytest
from sqlalchemy.orm import Session, sessionmaker

from assets import applications
from assets.models import Device, DeviceApplication
from kernel import clock, db
from tests import factories
from tests.factories import Company

ClientOf = Callable[..., httpx.Client]


@pytest.fixture
def asking(database: sessionmaker[Session], company: Company) -> list[int]:
    """Three devices at the harbour that ask to be let in, two behind a gateway; their ids."""
    with db.transaction(database) as session:
        gateway = factories.device(session, company, "harbour", key="gw-1", name="Gateway one")
        return [
            applications.apply(
                session,
                key=key,
                origin="sparkplug" if through else "secret",
                unit=company.units["harbour"],
                gateway=through,
                name=f"Pump {key}",
                said={"serial": f"SN-{key}", "<b>": "<script>"},
                now=clock.now(),
            ).id
            for key, through in (("p-1", gateway), ("p-2", gateway), ("p-3", None))
        ]


def test_who_waits_is_shown_and_let_in_together(
    client: httpx.Client, asking: list[int], database: sessionmaker[Session]
) -> None:
    page = client.get("/devices/applications").text
    assert "SN-p-1" in page
    assert "<script>" not in page
    answer = client.post("/devices/applications/approve", data={"ids": [str(one) for one in asking[:2]]})
    assert answer.status_code == 303
    with database() as session:
        made = {one.key: one for one in session.query(Device).filter(Device.key.like("p-%"))}
        assert set(made) == {"p-1", "p-2"}
        assert made["p-1"].gateway_id == session.query(Device).filter_by(key="gw-1").one().id
    rest = client.get("/devices/applications").text
    assert "Pump p-3" in rest
    assert "Pump p-1" not in rest


def test_if_one_cannot_be_let_in_none_is(
    client: httpx.Client, asking: list[int], company: Company, database: sessionmaker[Session]
) -> None:
    with db.transaction(database) as session:
        factories.device(session, company, "harbour", key="p-3")
    answer = client.post("/devices/applications/approve", data={"ids": [str(one) for one in asking]})
    assert answer.status_code == 422
    assert "The key p-3 is taken." in answer.text
    with database() as session:
        assert {one.state for one in session.query(DeviceApplication)} == {"waiting"}


def test_one_is_let_in_onto_an_asset_and_another_sent_away(
    client: httpx.Client, asking: list[int], company: Company, database: sessionmaker[Session]
) -> None:
    with db.transaction(database) as session:
        asset = factories.asset(session, company, "harbour", code="P-9")
    base = "/devices/applications"
    assert client.post(f"{base}/{asking[0]}/approve", data={"asset": "nowhere"}).status_code == 422
    answer = client.post(f"{base}/{asking[0]}/approve", data={"name": "Feed pump", "asset": "P-9"})
    assert answer.status_code == 303
    device = client.get(answer.headers["location"].replace("/devices/", "/api/v1/devices/")).json()
    assert (device["key"], device["name"], device["asset_id"]) == ("p-1", "Feed pump", asset.id)
    assert client.post(f"{base}/{asking[1]}/decline", data={"reason": ""}).status_code == 422
    assert client.post(f"{base}/{asking[1]}/decline", data={"reason": "Not ours"}).status_code == 303
    assert "Not ours" in client.get(f"{base}/{asking[1]}").text
    assert client.post(f"{base}/{asking[1]}/reopen").status_code == 303
    assert "p-2" in client.get(base).text


def test_over_json_it_is_the_same(client: httpx.Client, asking: list[int]) -> None:
    base = "/api/v1/devices/applications"
    first = client.get(base, params={"limit": 2}).json()
    second = client.get(base, params={"limit": 2, "cursor": first["next"]}).json()
    assert [row["key"] for row in first["items"] + second["items"]] == ["p-3", "p-2", "p-1"]
    assert client.post(f"{base}/approve", json={"ids": asking[:1]}).json()["devices"]
    assert client.post(f"{base}/{asking[0]}/approve", json={}).status_code == 409
    assert client.post(f"{base}/{asking[1]}/decline", json={"reason": "Not ours"}).json()["state"] == "declined"
    assert client.post(f"{base}/{asking[1]}/reopen").json()["state"] == "waiting"
    assert client.get(base, params={"state": "approved"}).json()["items"][0]["device_id"]


def test_who_lets_in_without_the_right_or_from_elsewhere_does_not(client_of: ClientOf, asking: list[int]) -> None:
    near, far = client_of("technician", "harbour"), client_of("administrator", "quarry")
    assert "p-1" in near.get("/devices/applications").text
    assert near.post("/devices/applications/approve", data={"ids": [str(asking[0])]}).status_code == 403
    assert "p-1" not in far.get("/devices/applications").text
    assert far.post("/api/v1/devices/applications/approve", json={"ids": asking[:1]}).status_code == 404
