"""The pages of who may speak: as a person uses them without JavaScript, and as they look in a real browser."""

import re
from datetime import timedelta
from pathlib import Path

import httpx
import pytest
from playwright.sync_api import Browser
from sqlalchemy.orm import Session, sessionmaker

from api import access
from assets import applications, credentials, enrolment, passwords
from assets.models import Device
from kernel import clock, db, ids
from tests import browser, factories
from tests.factories import Company

SAID = {"serial": "SN-2024-08-4711", "model": "XR-200 edge controller", "firmware": "2.4.1", "metrics": 14}


@pytest.fixture(scope="module")
def chromium(request: pytest.FixtureRequest) -> Browser:
    """Return the browser of the run, under a name that the module beside it does not have."""
    started: Browser = request.getfixturevalue("browser")
    return started


@pytest.fixture
def addresses(database: sessionmaker[Session], company: Company) -> dict[str, str]:
    """Make what the pages show; return their addresses by name."""
    now = clock.now()
    with db.transaction(database) as session:
        kind = factories.asset_type(session, company, "pump")
        asset = factories.asset(
            session, company, "harbour", code="P-1", name="Chilled water pump 1", name_zh="1 号冷冻水泵"
        )
        gateway = factories.device(session, company, "harbour", key="gateway-hall-2", name="Gateway of hall 2")
        sensor = factories.device(
            session, company, "harbour", on=asset, key="press-7", password_hash=passwords.hashed("one")
        )
        later = timedelta(days=7)
        credentials.rotate(session, sensor, passwords.hashed("two"), keep=later, actor="account:1", now=now)
        credentials.bind_client(session, sensor, "plc-4", actor="account:1", now=now)
        unit = company.units["harbour"]
        waiting = [
            applications.apply(session, key=f"edge-{number}", origin=origin, unit=unit, gateway=through,
                               asset_type=None if through else kind, name=f"Edge controller {number}", said=SAID,
                               now=now - timedelta(minutes=7 * number))
            for number, (origin, through) in enumerate([("sparkplug", gateway), ("secret", None), ("chain", None)], 1)
        ]  # fmt: skip
        declined = applications.apply(
            session, key="stranger", origin="secret", unit=unit, asset_type=kind, said={}, now=now
        )
        applications.decline(session, declined, reason="Belongs to the tenant next door", actor="system", now=now)
        enrolment.offer_secret(session, ids.token(), asset_type=kind, unit=unit, name=None, needs_approval=True,
                               actor="system", now=now)  # fmt: skip
        enrolment.offer_claim(session, ids.code(16), unit=unit, asset=asset, expires_at=now + later, actor="system",
                              now=now)  # fmt: skip
        return {
            "device": f"/devices/{sensor.id}",
            "devices": "/devices",
            "waiting": "/devices/applications",
            "application": f"/devices/applications/{waiting[0].id}",
            "declined": f"/devices/applications/{declined.id}",
            "ways-in": "/devices/enrolments",
            "import": "/devices/import",
            "type": f"/types/{kind.id}",
        }


@pytest.mark.parametrize("language", ["en", "zh"])
@pytest.mark.parametrize("width", [360, 1440])
def test_the_pages_fit_and_can_be_read_by_everybody(
    chromium: Browser, client: httpx.Client, addresses: dict[str, str], tmp_path: Path, width: int, language: str
) -> None:
    context = chromium.new_context(viewport={"width": width, "height": 900})
    base = str(client.base_url)
    context.add_cookies(
        [
            {"name": access.COOKIE, "value": client.cookies[access.COOKIE], "url": base},
            {"name": "lang", "value": language, "url": base},
        ]
    )
    page = context.new_page()
    wrong: list[str] = []
    page.on("console", lambda message: wrong.append(message.text) if message.type == "error" else None)
    for name, address in addresses.items():
        page.goto(base.rstrip("/") + address)
        if name == "ways-in":
            page.evaluate("document.querySelectorAll('main details').forEach(one => one.open = true)")
        page.screenshot(path=tmp_path / f"{name}-{width}-{language}.png", full_page=True)
        wrong += [f"{name}: {fault}" for fault in browser.faults(page)]
        beyond = page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
        wrong += [f"{name} is {beyond} px too wide"] if beyond > 0 else []
    context.close()
    assert wrong == []


def test_ING_6_a_secret_is_rotated_with_overlap_on_the_page_and_the_overlap_ended(
    client: httpx.Client, addresses: dict[str, str], database: sessionmaker[Session]
) -> None:
    shown = client.post(f"{addresses['device']}/rotate", data={"overlap": "24"})
    assert shown.status_code == 200
    assert shown.headers["cache-control"] == "no-store"
    assert "press-7~" in shown.text
    [password] = re.findall(r'id="secret">([^<]+)<', shown.text)
    with database() as session:
        row = session.query(Device).filter_by(key="press-7").one()
        assert passwords.is_right(password, row.password_hash)
        assert row.previous_until is not None
    assert client.post(f"{addresses['device']}/rotate", data={"overlap": "9999"}).status_code == 422
    assert client.post(f"{addresses['device']}/end_overlap").status_code == 303
    assert client.post(f"{addresses['device']}/end_overlap").status_code == 422
    assert client.post(f"{addresses['device']}/identity", data={"client_id": "", "certificate": "1"}).status_code == 303
    page = client.get(addresses["device"]).text
    assert "with the common name press-7" in page
    assert client.post(f"{addresses['device']}/identity", data={"client_id": "a b"}).status_code == 422


def test_ING_7_ways_in_are_made_and_closed_on_pages(
    client: httpx.Client, stranger: httpx.Client, addresses: dict[str, str], company: Company
) -> None:
    base, site = addresses["ways-in"], str(company.sites["harbour"].id)
    kind = addresses["type"].rpartition("/")[2]
    made = client.post(f"{base}/secrets", data={"type": kind, "site": site})
    [secret] = re.findall(r'id="secret">([^<]+)<', made.text)
    assert stranger.post("/api/v1/provision", json={"secret": secret, "key": "self-1"}).status_code == 201
    made = client.post(f"{base}/claims", data={"asset": "P-1", "days": "3"})
    [code] = re.findall(r'id="secret">([^<]+)<', made.text)
    # The asset has a device that measures the same, so the claim is refused and stays good.
    assert stranger.post("/api/v1/provision", json={"code": code, "key": "self-2"}).status_code in {201, 409}
    for wrong in ({"asset": "nowhere"}, {}, {"site": site, "days": "91"}, {"site": site, "key": "a b"}):
        assert client.post(f"{base}/claims", data=wrong).status_code == 422
    assert client.post(f"{base}/authorities", data={"site": site, "certificate": "x"}).status_code == 422
    numbers = re.findall(r"/devices/enrolments/(\d+)/close", client.get(base).text)
    assert client.post(f"{base}/{numbers[0]}/close").status_code == 303
    assert client.post(f"{base}/{numbers[0]}/close").status_code == 422


def test_ING_7_a_file_is_brought_in_on_a_page_or_its_lines_are_named(
    client: httpx.Client, addresses: dict[str, str], company: Company
) -> None:
    send = lambda text: client.post(addresses["import"], files={"file": ("d.csv", text.encode())})  # noqa: E731
    refused = send("key,site\nok,Harbour\na b,nowhere\n")
    assert refused.status_code == 422
    assert "There is no such site." in refused.text
    site = company.sites["harbour"].name
    made = send(f"key,site\nnew-1,{site}\nnew-2,{site}\n")
    assert made.status_code == 200, made.text
    assert made.headers["cache-control"] == "no-store"
    assert re.search(r"new-1,\S{20,}\nnew-2,\S{20,}", made.text)
