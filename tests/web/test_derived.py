"""Derived metrics where people set them up and read them: the type's page, the asset's meters, and the API."""

from datetime import timedelta
from typing import Any

import httpx
import pytest
from playwright.sync_api import Browser
from sqlalchemy import select
from sqlalchemy.orm import Session, sessionmaker

from api.runtime import Runtime
from assets import types
from assets.derived_tables import DirtySpan
from assets.models import AssetType
from assets.types import MetricDraft
from ingest.deriving import Deriving
from kernel import clock, db
from kernel.models import AuditEntry
from telemetry import series
from telemetry.readings import Readings
from telemetry.retention import HOUR_MS
from tests import factories
from tests.browser import faults, visit
from tests.factories import Company

NOW = clock.now()
FULL = clock.to_ms(NOW) // HOUR_MS * HOUR_MS


@pytest.fixture
def metered(database: sessionmaker[Session], company: Company, runtime: Runtime) -> tuple[int, int]:
    """Return an asset with a counter of 16 bits that went over its top three hours ago, and its type."""
    with db.transaction(database) as session:
        asset = factories.asset(session, company, "harbour")
        device = factories.device(session, company, "harbour", on=asset)
        kind = session.get_one(AssetType, asset.type_id)
        types.add_metric(session, kind, MetricDraft("pulses", "Pulses", kind="counter"), actor="system", now=NOW)
        number = series.ensure(session, [(device.id, "pulses")], now=NOW)[device.id, "pulses"]
    at = [FULL - 3 * HOUR_MS + minute * 60_000 for minute in (5, 20, 40, 70)]
    runtime.store.write(Readings.of([number] * 4, at, [65_500.0, 65_530.0, 12.0, 20.0]))
    return asset.id, kind.id


def work(runtime: Runtime) -> None:
    deriving = Deriving(runtime.sessions, runtime.store, runtime.settings)
    while deriving.round(clock.now() + timedelta(minutes=1), lambda _readings, _fresh: None):
        pass


def test_TEL_7_a_counter_is_set_up_over_the_api_and_read_like_any_metric(
    client: httpx.Client, runtime: Runtime, metered: tuple[int, int]
) -> None:
    asset, kind = metered
    body = {"key": "used", "name": "Used", "source": "pulses", "how": "counter", "wraps_at": 65536, "unit": "kWh"}
    made = client.post(f"/api/v1/types/{kind}/derived", json=body)
    assert made.status_code == 201
    assert made.json()["total"] == "used_total"
    assert client.post(f"/api/v1/types/{kind}/derived", json=body).status_code == 409
    work(runtime)
    wanted = {"asset": asset, "metric": ["used", "used_total"], "from": str(FULL - 4 * HOUR_MS), "to": str(FULL)}
    answer = client.get("/api/v1/telemetry/range", params=wanted | {"step": "hour"}).json()
    values = {line["metric"]: [one["last"] for one in line["points"] if one["count"]] for line in answer["series"]}
    assert values == {"used": [48, 8], "used_total": [48, 56]}
    page = client.get(f"/assets/{asset}").text
    assert "Used, total" in page
    assert "kWh" in page


def test_a_type_lists_edits_and_removes_what_is_worked_out_on_its_page(
    client: httpx.Client, database: sessionmaker[Session], metered: tuple[int, int]
) -> None:
    _, kind = metered
    form = client.get(f"/types/{kind}/derived/new", params={"how": "counter"})
    assert "Width of the counter" in form.text
    typed = {"how": "counter", "key": "used", "name": "Used", "source": "pulses", "width": "65536", "scale": "0,01"}
    wrong = client.post(f"/types/{kind}/derived", data=typed | {"scale": "0"})
    assert wrong.status_code == 422
    assert "Everything times 0 is 0." in wrong.text
    assert client.post(f"/types/{kind}/derived", data=typed).status_code == 303
    page = client.get(f"/types/{kind}").text
    assert "Consumption by a counter" in page
    (one,) = client.get(f"/api/v1/types/{kind}/derived").json()["items"]
    assert (one["scale"], one["wraps_at"]) == (0.01, 65536)
    with db.transaction(database) as session:
        session.query(DirtySpan).delete()
    changed = typed | {"name": "Consumed", "scale": "0.1"}
    assert client.post(f"/types/{kind}/derived/{one['id']}", data=changed).status_code == 303
    with database() as session:
        assert session.scalars(select(DirtySpan)).all() != []
    assert "Consumed" in client.get(f"/types/{kind}/derived/{one['id']}").text
    patched = client.patch(f"/api/v1/types/{kind}/derived/{one['id']}", json={"wraps_at": None, "decimals": 2}).json()
    assert (patched["name"], patched["scale"], patched["wraps_at"], patched["decimals"]) == ("Consumed", 0.1, None, 2)
    assert client.post(f"/types/{kind}/derived/{one['id']}/remove").status_code == 303
    assert client.get(f"/api/v1/types/{kind}/derived").json()["items"] == []
    assert "used_total" not in client.get(f"/api/v1/types/{kind}").text
    with database() as session:
        told = session.scalars(select(AuditEntry.action).where(AuditEntry.action.like("type.derived%"))).all()
    assert list(told) == ["type.derived.add", "type.derived.change", "type.derived.change", "type.derived.remove"]


@pytest.mark.parametrize(
    ("more", "field"),
    [
        ({"source": "nothing"}, "source"),
        ({"how": "magic"}, "how"),
        ({"wraps_at": 1}, "wraps_at"),
        ({"hold_s": 0}, "hold_s"),
        ({"key": "k" * 80}, "key"),
        ({"name": " "}, "name"),
    ],
)
def test_a_recipe_that_does_not_fit_is_refused_by_its_field(
    client: httpx.Client, metered: tuple[int, int], more: dict[str, Any], field: str
) -> None:
    body = {"key": "used", "name": "Used", "source": "pulses", "how": "counter"} | more
    refused = client.post(f"/api/v1/types/{metered[1]}/derived", json=body)
    assert refused.status_code == 422
    assert field in refused.text


def test_what_is_worked_out_is_no_source(client: httpx.Client, metered: tuple[int, int]) -> None:
    body = {"key": "used", "name": "Used", "source": "pulses", "how": "counter"}
    assert client.post(f"/api/v1/types/{metered[1]}/derived", json=body).status_code == 201
    refused = client.post(f"/api/v1/types/{metered[1]}/derived", json=body | {"key": "more", "source": "used_total"})
    assert refused.status_code == 422


def test_TEL_7_a_meter_is_exchanged_by_a_person_with_the_right_and_its_life_to_date_goes_on(
    client: httpx.Client,
    client_of: Any,
    database: sessionmaker[Session],
    runtime: Runtime,
    metered: tuple[int, int],
) -> None:
    asset, kind = metered
    assert "Nothing is counted on this asset" in client.get(f"/assets/{asset}/meters").text
    body = {"key": "used", "name": "Used", "source": "pulses", "how": "counter", "unit": "kWh"}
    client.post(f"/api/v1/types/{kind}/derived", json=body)
    work(runtime)
    # Its width is not known, so 65,530 → 12 was a reset, until somebody says what really happened.
    assert "50" in _total(client, asset)
    typed = {
        "kind": "exchange",
        "metric": "pulses",
        "at": clock.from_ms(FULL - 3 * HOUR_MS + 30 * 60_000).isoformat(),
        "final": "65.540",
        "reason": "New meter",
    }
    technician = client_of("technician", "harbour")
    assert technician.post(f"/assets/{asset}/meters", data=typed).status_code == 403
    assert client_of("planner", "quarry").get(f"/assets/{asset}/meters").status_code == 404
    wrong = client.post(f"/assets/{asset}/meters", data=typed | {"final": "many"})
    assert wrong.status_code == 422
    assert client.post(f"/assets/{asset}/meters", data=typed | {"final": "65540"}).status_code == 303
    work(runtime)
    assert "48" in _total(client, asset)
    assert "New meter" in client.get(f"/assets/{asset}/meters").text
    (noted,) = client.get(f"/api/v1/assets/{asset}/meters").json()["items"]
    assert client.post(f"/assets/{asset}/meters/{noted['id']}/withdraw").status_code == 303
    assert client.post(f"/api/v1/assets/{asset}/meters/{noted['id']}/withdraw").status_code == 409
    stated = {"metric": "used", "kind": "total", "at": typed["at"], "total": 12_000}
    assert client.post(f"/api/v1/assets/{asset}/meters", json=stated).status_code == 201
    assert client.post(f"/api/v1/assets/{asset}/meters", json=stated | {"metric": "pulses"}).status_code == 422
    with database() as session:
        told = session.scalars(select(AuditEntry.action).where(AuditEntry.action.like("asset.meter%"))).all()
    assert list(told) == ["asset.meter", "asset.meter.withdraw", "asset.meter"]


def _total(client: httpx.Client, asset: int) -> str:
    page = client.get(f"/assets/{asset}/meters").text
    return page[page.index("used</span>") : page.index("What was done to them")]


def test_its_pages_are_accessible_and_fit_a_phone_in_both_languages(
    browser: Browser, client: httpx.Client, address: str, runtime: Runtime, metered: tuple[int, int]
) -> None:
    asset, kind = metered
    body = {
        "key": "used",
        "name": "Energy used",
        "name_zh": "用电量",
        "source": "pulses",
        "how": "counter",
        "unit": "kWh",
    }
    made = client.post(f"/api/v1/types/{kind}/derived", json=body).json()["id"]
    noted = {"metric": "pulses", "kind": "exchange", "at": clock.from_ms(FULL - 3 * HOUR_MS).isoformat(), "final": 7}
    client.post(f"/api/v1/assets/{asset}/meters", json=noted | {"reason": "Display broken"})
    work(runtime)
    paths = [f"/types/{kind}", f"/types/{kind}/derived/{made}", f"/assets/{asset}/meters"]
    with visit(browser):
        for language, width in (("en", 1440), ("zh", 360)):
            context = browser.new_context(viewport={"width": width, "height": 900}, locale=language)
            cookies = [{"name": name, "value": value, "url": address} for name, value in client.cookies.items()]
            context.add_cookies([*cookies, {"name": "lang", "value": language, "url": address}])
            page = context.new_page()
            for path in paths:
                page.goto(address + path)
                assert faults(page) == [], path
                assert page.evaluate("document.documentElement.scrollWidth - innerWidth") <= 0, path
