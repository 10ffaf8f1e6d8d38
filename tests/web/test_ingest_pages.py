"""The pages and the API of the intake: the ledger by hour and device, scope, drill-down, and how they look."""

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

import httpx
import pytest
from playwright.sync_api import Browser
from sqlalchemy import Engine
from sqlalchemy.orm import Session, sessionmaker

from api import access
from ingest import drops, rejected
from ingest.intake import NOBODY, Tally
from ingest.models import IngestWorker
from ingest.rejected import Reject
from kernel import clock, db
from tests import factories
from tests.browser import faults
from tests.factories import Company
from tests.web.test_machines import counted

ClientOf = Callable[..., httpx.Client]
NOW = clock.now()
HOUR = NOW.replace(minute=0, second=0, microsecond=0)


def count(session: Session, device_id: int, at: datetime, *, stored: int, duplicate: int = 0, rejects: int = 0) -> None:
    tally = Tally()
    for verb, times in ((tally.stored, stored), (tally.duplicate, duplicate), (tally.rejected, rejects)):
        for _ in range(times):
            verb(device_id, clock.to_ms(at))
    tally.write(session)


@pytest.fixture
def devices(database: sessionmaker[Session], company: Company) -> dict[str, int]:
    """Two devices with messages now and before, one at the harbour and one at the quarry, and a stranger."""
    with db.transaction(database) as session:
        made = {
            where: factories.device(session, company, where, key=f"{where}-1", name=f"Gauge {where}").id
            for where in ("harbour", "quarry")
        }
        count(session, made["harbour"], HOUR, stored=900, duplicate=40, rejects=3)
        count(session, made["harbour"], HOUR - timedelta(hours=1), stored=700)
        count(session, made["quarry"], HOUR, stored=500, rejects=12)
        count(session, NOBODY, HOUR, stored=0, rejects=7)
        unit = company.units["harbour"].id
        key = "harbour-1"
        rejected.keep(session, [Reject(f"fw/v1/{key}/telemetry", b"{\x00", NOW, "not_json", "a NUL", key, unit)])
        stranger = Reject("fw/v1/ghost/telemetry", b"{}", NOW, "unknown_device", "who?", "ghost", None)
        rejected.keep(session, [stranger])
        for number, (role, share, ended) in enumerate(
            (("active", "", None), ("standby", "", None), ("active", "", NOW))
        ):
            life = IngestWorker(share=share, host=f"ingest-{number}.example", pid=4000 + number, role=role, epoch=None,
                                started_at=NOW, active_at=NOW, heartbeat_at=NOW, ended_at=ended, ended_why="gone",
                                received_s=8421.4, lag_ms=23.5, backlog=312)  # fmt: skip
            session.add(life)
        for said in (5, 29):
            drops.note(session, "broker:1883", said, now=NOW)
    return made


def _over_limit(company: Company) -> Reject:
    unit = company.units["harbour"].id
    return Reject("fw/v1/harbour-1/telemetry", b"{}", NOW, "over_limit", "over", "harbour-1", unit, times=4950)


def _items(client: httpx.Client, path: str, **query: Any) -> list[dict[str, Any]]:
    answer = client.get(f"/api/v1/intake/{path}", params=query)
    assert answer.status_code == 200, answer.text
    found: list[dict[str, Any]] = answer.json()["items"]
    return found


def test_ING_3_hours_are_summed_over_what_is_in_sight(
    client: httpx.Client, client_of: ClientOf, devices: dict[str, int]
) -> None:
    newest, before = _items(client, "hours")
    assert (newest["received"], newest["stored"], newest["duplicate"], newest["rejected"]) == (1462, 1400, 40, 22)
    assert (newest["waiting"], newest["balances"]) == (0, True)
    assert before["received"] == 700
    at_harbour = client_of("administrator", "harbour")
    assert [line["received"] for line in _items(at_harbour, "hours")] == [943, 700]
    assert {line["device_id"] for line in _items(at_harbour, "counts")} == {devices["harbour"]}
    assert _items(at_harbour, "drops") == []
    assert [drop["dropped"] for drop in _items(client, "drops")] == [24]
    assert client_of("technician", "company").get("/api/v1/intake/counts").status_code == 403


@pytest.mark.usefixtures("devices")
def test_OPS_8_who_reads_what_is_on_the_page_in_the_api_and_among_the_figures(
    client: httpx.Client, client_of: ClientOf, stranger: httpx.Client
) -> None:
    found = client.get("/api/v1/intake/workers").json()
    assert [(one["role"], one["ended_at"] is None) for one in found] == [
        ("active", True), ("standby", True), ("active", False)
    ]  # fmt: skip
    assert client_of("administrator", "harbour").get("/api/v1/intake/workers").json() == []
    page = client.get("/ingest").text
    for words in ("ingest-0.example", "stands by", "killed", "8,421", "312"):
        assert words in page
    figures = stranger.get("/metrics").text
    (number,) = [one["id"] for one in found if one["role"] == "active" and one["ended_at"] is None]
    assert f'fixwright_ingest_backlog{{role="active",share="",worker="{number}"}} 312.0' in figures
    assert f'fixwright_ingest_lag_ms{{role="active",share="",worker="{number}"}} 23.5' in figures
    assert "fixwright_ingest_broker_dropped_last_hours 24.0" in figures


def test_ING_3_counts_page_by_hour_and_device(client: httpx.Client, devices: dict[str, int]) -> None:
    found, cursor = [], None
    while True:
        query = {"limit": 1} | ({"cursor": cursor} if cursor else {})
        page = client.get("/api/v1/intake/counts", params=query).json()
        found += [(line["hour"], line["device_id"]) for line in page["items"]]
        if (cursor := page["next"]) is None:
            break
    assert found == sorted(found)
    assert len(found) == 4
    own = _items(client, "counts", device_id=devices["harbour"], start=HOUR.isoformat())
    assert [line["received"] for line in own] == [943]


def test_ING_3_the_pages_lead_from_an_hour_to_its_devices_and_to_their_rejected_messages(
    client: httpx.Client, client_of: ClientOf, devices: dict[str, int], engine: Engine
) -> None:
    page = client.get("/ingest").text
    assert "1,462" in page
    assert "24 dropped by the broker" in page
    with counted(engine) as statements:
        of_hour = client.get("/ingest/devices", params={"hour": HOUR.isoformat()}).text
    # But for the bell, which stops at a hundred.
    assert not any("count(" in statement.lower() for statement in statements if "notice" not in statement)
    assert "harbour-1" in of_hour
    assert "Unknown devices" in of_hour
    where: dict[str, Any] = {"hour": HOUR.isoformat(), "state": "all"}
    assert "harbour-1" in client.get("/rejected/messages", params=where | {"device": "harbour-1"}).text
    behind = client.get("/rejected/messages", params=where | {"unknown": 1}).text
    assert "ghost" in behind
    assert "harbour-1" not in behind
    earlier = where | {"hour": (HOUR - timedelta(hours=1)).isoformat()}
    assert "harbour-1" not in client.get("/rejected/messages", params=earlier).text
    own = f"/devices/{devices['harbour']}/messages"
    assert "943" in client.get(own).text
    assert client_of("administrator", "quarry").get(own).status_code == 404


def test_ING_3_large_and_hostile_payloads_are_shown_safely(
    client: httpx.Client, database: sessionmaker[Session], company: Company
) -> None:
    unit = company.units["harbour"].id
    hostile = {
        "big": b'{"x": "' + b"\xc3\xa9" * 2_621_440 + b'"',
        "nul": b'{"x": "\x00\x1b[31m\xe2\x80\xae<script>"',
        "bytes": b"\xff\xfe\x00",
    }
    with db.transaction(database) as session:
        rejected.keep(
            session, [Reject(f"t/{key}", body, NOW, "not_json", "", key, unit) for key, body in hostile.items()]
        )
    listed = client.get("/api/v1/rejected")
    assert len(listed.content) < 400_000
    found = {item["device"]: item for item in listed.json()["items"]}
    assert found["big"]["is_cut"]
    assert found["big"]["size"] == len(hostile["big"])
    assert hostile["big"].decode().startswith(found["big"]["payload"])
    assert found["bytes"]["payload"] is None
    whole = client.get(f"/api/v1/rejected/{found['big']['id']}").json()
    assert whole["payload"].encode() == hostile["big"]
    for key, item in found.items():
        page = client.get(f"/rejected/{item['id']}")
        assert page.status_code == 200
        assert len(page.content) < 100_000
        assert "\x00" not in page.text
        assert "<script>" not in page.text.partition("<pre")[2].partition("</pre>")[0]
        download = client.get(f"/rejected/{item['id']}/payload")
        assert download.content == hostile[key]
        assert download.headers["content-type"] == "application/octet-stream"
        assert download.headers["content-disposition"].startswith("attachment")
    assert "␀" in client.get(f"/rejected/{found['nul']['id']}").text


@pytest.mark.parametrize(("lang", "width"), [("en", 1440), ("zh", 360)])
def test_the_pages_are_accessible_and_fit_their_window(  # noqa: PLR0917 - the parts of a visit
    client: httpx.Client,
    address: str,
    browser: Browser,
    devices: dict[str, int],
    database: sessionmaker[Session],
    company: Company,
    lang: str,
    width: int,
) -> None:
    with db.transaction(database) as session:
        rejected.keep(session, [_over_limit(company)])
    context = browser.new_context(
        viewport={"width": width, "height": 900}, extra_http_headers={"Accept-Language": lang}
    )
    context.add_cookies([
        {"name": access.COOKIE, "value": client.cookies[access.COOKIE], "url": address},
        {"name": "lang", "value": lang, "url": address},
    ])  # fmt: skip
    page = context.new_page()
    hour = f"hour={HOUR:%Y-%m-%dT%H:%M:%SZ}"
    paths = ("/ingest", f"/ingest/devices?{hour}", f"/devices/{devices['harbour']}/messages",
             f"/rejected/messages?{hour}&state=all&device=harbour-1")  # fmt: skip
    for path in paths:
        page.goto(f"{address}{path}")
        page.wait_for_load_state("networkidle")
        assert faults(page) == []
        assert page.evaluate("document.documentElement.scrollWidth - innerWidth") <= 0
    context.close()


def test_ING_16_who_is_over_a_limit_is_on_the_page_and_limits_are_set_by_those_who_may(
    client: httpx.Client,
    client_of: ClientOf,
    devices: dict[str, int],
    database: sessionmaker[Session],
    company: Company,
) -> None:
    where = f"/api/v1/devices/{devices['harbour']}/limit"
    with db.transaction(database) as session:
        rejected.keep(session, [_over_limit(company)])
    assert "4,950" in client.get("/ingest").text
    assert "4,950" not in client_of("administrator", "quarry").get("/ingest").text
    assert client.get(where).json() == {"messages": None, "points": None, "usual_messages": 100, "usual_points": 5000}
    assert client_of("technician", "harbour").put(where, json={"messages": 5, "points": 0}).status_code == 403
    assert client_of("administrator", "quarry").put(where, json={"messages": 5, "points": 0}).status_code == 404
    assert client.put(where, json={"messages": -5, "points": 0}).status_code == 422
    assert client.put(where, json={"messages": 5, "points": 0}).json()["messages"] == 5
    assert client.delete(where).json()["messages"] is None
