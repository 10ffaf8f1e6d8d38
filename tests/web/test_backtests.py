"""Backtests by pages and API: asked for from the rule's page, compared, drawn, and nobody else's."""

import json
from typing import Any

import httpx
import numpy as np
import pytest
from playwright.sync_api import Browser
from sqlalchemy import select
from sqlalchemy.orm import Session, sessionmaker

from api import access
from api.runtime import Runtime
from kernel import clock, db
from rules import library
from rules.library import AlarmTypeDraft
from telemetry.models import Series
from telemetry.readings import Readings
from tests import factories
from tests.browser import faults
from tests.factories import Company
from tests.waiting import until


def over(limit: float) -> dict[str, Any]:
    compare = {"type": "compare", "metric": "temperature", "operator": ">=", "limit": limit}
    return {"schema": 1, "create": {"critical": {"condition": compare}}, "clear": {"type": "automatic"}}


@pytest.fixture
def pump(database: sessionmaker[Session], company: Company, runtime: Runtime) -> tuple[int, int]:
    """Return an asset that was hot twice today, and the rule that watches it."""
    now = clock.now()
    with db.transaction(database) as session:
        asset = factories.asset(session, company, "harbour", code="P-1", name="Pump")
        device = factories.device(session, company, "harbour", on=asset)
        number = session.scalars(
            select(Series.id).where(Series.device_id == device.id, Series.metric == "temperature")
        ).one()
        unit = company.units["company"]
        draft = AlarmTypeDraft("hot", "Hot", asset_type_id=asset.type_id)
        rule = library.add(session, draft, over(90), unit=unit, actor="account:1", now=now)
        factories.order(session, company, asset, created_at=now)
        found = asset.id, rule.id
    at = clock.to_ms(now) - 3_600_000
    values = [50.0, 85.0, 50.0, 95.0, 50.0]
    runtime.store.write(Readings.of([number] * 5, [at + 60_000 * n for n in range(5)], values))
    return found


def done(client: httpx.Client, backtest: int) -> dict[str, Any]:
    told: dict[str, Any] = {}

    def look() -> bool:
        told.update(client.get(f"/api/v1/rules/backtests/{backtest}").json())
        return told["state"] in {"done", "failed"}

    until(look, what="the backtest is through")
    return told


def test_RUL_15_a_program_compares_a_draft_with_the_version_in_force(
    client: httpx.Client, client_of: Any, pump: tuple[int, int]
) -> None:
    asset, rule = pump
    asked = client.post("/api/v1/rules/backtests", json={"rule_id": rule, "definition": over(80), "window_h": 2})
    assert asked.status_code == 202
    told = done(client, asked.json()["id"])
    assert (told["state"], told["draft"]["alarms"], told["current"]["alarms"]) == ("done", 2, 1)
    assert (told["version"], told["compared_with"], told["assets"]) == (None, 1, 1)
    here = f"/api/v1/rules/backtests/{told['id']}"
    page = client.get(f"{here}/alarms", params={"limit": 1}).json()
    assert (page["items"][0]["asset_id"], page["items"][0]["peak_value"]) == (asset, 85.0)
    (second,) = client.get(f"{here}/alarms", params={"limit": 1, "cursor": page["next"]}).json()["items"]
    assert (second["peak_value"], second["opens_order"]) == (95.0, False)
    (order,) = client.get(f"{here}/orders").json()["items"]
    assert (order["caught"], order["caught_by_current"]) == (True, True)
    other = client_of("manager", "company")
    assert other.get(here).status_code == 404
    assert other.get("/api/v1/rules/backtests").json()["items"] == []
    assert client.get("/api/v1/rules/backtests", params={"rule_id": rule}).json()["items"][0]["id"] == told["id"]
    assert client.post(f"{here}/cancel").status_code == 409


@pytest.mark.usefixtures("pump")
def test_a_draft_of_a_rule_that_is_not_saved_yet_is_tried_from_its_form(client: httpx.Client) -> None:
    form = {"type": "", "asset": "P-1", "metric": "temperature", "operator": ">=", "limit_major": "80", "key": ""}
    assert 'formaction="/backtests"' in client.get("/rules/new").text
    sent = client.post("/backtests", data=form)
    assert sent.status_code == 303
    where = sent.headers["location"]
    assert done(client, int(where.rsplit("/", 1)[1]))["draft"]["alarms"] == 2
    page = client.get(where)
    assert "Alarms it would have raised" in page.text
    assert "Save as a new version" not in page.text


def test_a_person_tries_a_change_sees_both_and_saves_it(client: httpx.Client, pump: tuple[int, int]) -> None:
    asset, rule = pump
    assert f'href="/backtests?rule={rule}"' in client.get(f"/rules/{rule}").text
    page = client.get("/backtests", params={"rule": rule})
    assert "90.0" in page.text
    wrong = client.post("/backtests", data={"rule": rule, "text": '{"schema": 1, "create": {}}'})
    assert wrong.status_code == 422
    assert "At least one severity needs a rule." in wrong.text
    assert client.post("/backtests", data={"rule": rule, "text": "no"}).status_code == 422
    assert client.post("/backtests", data={"rule": rule, "text": page.text, "codes": "X-9"}).status_code == 422
    sent = client.post("/backtests", data={"rule": rule, "text": json.dumps(over(80)), "codes": "P-1"})
    where = sent.headers["location"]
    done(client, int(where.rsplit("/", 1)[1]))
    page = client.get(where)
    assert "Version 1" in page.text
    assert "Save as a new version" in page.text
    drawn = client.get(f"{where}/curve/{asset}").json()
    assert [mark["severity"] for mark in drawn["marks"]] == ["critical", "critical", None]
    assert [limit["value"] for limit in drawn["limits"]] == [80.0]
    current = client.get(f"{where}/curve/{asset}", params={"side": "current"}).json()
    assert [mark["severity"] for mark in current["marks"]] == ["critical", None]
    assert where in client.get("/backtests").text


def test_an_asset_out_of_sight_cannot_be_tried(client_of: Any, pump: tuple[int, int]) -> None:
    asset, rule = pump
    elsewhere = client_of("administrator", "quarry")
    body = {"rule_id": rule, "asset_ids": [asset]}
    assert elsewhere.post("/api/v1/rules/backtests", json=body).status_code == 404
    assert elsewhere.post("/api/v1/rules/backtests", json={"definition": over(1)}).status_code == 422


@pytest.fixture
def busy(database: sessionmaker[Session], company: Company, runtime: Runtime, pump: tuple[int, int]) -> int:
    """Return a rule over machines with a month of readings that cross the limits now and then."""
    now = clock.now_ms()
    rng = np.random.default_rng(4)
    with db.transaction(database) as session:
        for n, name in enumerate(("Screw compressor 1", "Screw compressor 2", "Chilled water pump, north hall")):
            asset = factories.asset(session, company, "harbour", code=f"C-{n:04}", name=name)
            device = factories.device(session, company, "harbour", on=asset)
            number = session.scalars(
                select(Series.id).where(Series.device_id == device.id, Series.metric == "temperature")
            ).one()
            ts = np.arange(now - 29 * 86_400_000, now, 600_000)
            value = (
                72
                + 6 * np.sin(ts / 86_400_000 * 2 * np.pi)
                + np.repeat(rng.normal(0, 5, len(ts) // 36 + 1), 36)[: len(ts)]
            )
            runtime.store.write(Readings.of([number] * len(ts), ts.tolist(), np.round(value, 2).tolist()))
            for days in (3, 11, 19):
                factories.order(session, company, asset, created_at=clock.from_ms(now - days * 86_400_000))
    return pump[1]


def test_the_pages_of_backtests_are_reachable_by_all(
    client: httpx.Client, browser: Browser, address: str, busy: int
) -> None:
    rule = busy
    sent = client.post("/backtests", data={"rule": rule, "text": json.dumps(over(80))})
    where = sent.headers["location"]
    done(client, int(where.rsplit("/", 1)[1]))
    for width, lang in ((1440, "en"), (360, "zh")):
        context = browser.new_context(viewport={"width": width, "height": 900})
        context.add_cookies([
            {"name": access.COOKIE, "value": client.cookies[access.COOKIE], "url": address},
            {"name": "lang", "value": lang, "url": address},
        ])  # fmt: skip
        page = context.new_page()
        for path in (where, f"/backtests?rule={rule}"):
            page.goto(f"{address}{path}")
            page.wait_for_load_state("networkidle")
            assert faults(page) == []
            assert page.evaluate("document.documentElement.scrollWidth - innerWidth") <= 0
        context.close()


def test_RUL_16_why_not_shows_the_false_branch_on_the_page_and_over_json(
    client: httpx.Client, client_of: Any, pump: tuple[int, int], browser: Browser, address: str
) -> None:
    asset, rule = pump
    told = client.get(f"/api/v1/rules/{rule}/trace/{asset}").json()
    assert (told["absent"], told["is_raised"]) == (None, False)
    critical = next(one for one in told["rules"] if one["of"] == "critical")
    assert critical["branch"]["truth"] == "unknown"
    assert critical["branch"]["values"][0]["value"] == 50.0
    assert critical["branch"]["values"][0]["is_stale"]
    assert "≥ 90" in critical["branch"]["says"]
    assert f'href="/rules/{rule}/trace"' in client.get(f"/rules/{rule}").text
    page = client.get(f"/rules/{rule}/trace", params={"asset": "P-1"}).text
    assert "too old to speak" in page
    assert "There is no asset with this code." in client.get(f"/rules/{rule}/trace", params={"asset": "X"}).text
    client.patch(f"/api/v1/rules/{rule}", json={"is_enabled": False})
    assert client.get(f"/api/v1/rules/{rule}/trace/{asset}").json()["absent"] == "off"
    client.patch(f"/api/v1/rules/{rule}", json={"is_enabled": True})
    assert client_of("administrator", "quarry").get(f"/api/v1/rules/{rule}/trace/{asset}").status_code == 404
    for width, lang in ((1440, "en"), (360, "zh")):
        context = browser.new_context(viewport={"width": width, "height": 900})
        context.add_cookies([
            {"name": access.COOKIE, "value": client.cookies[access.COOKIE], "url": address},
            {"name": "lang", "value": lang, "url": address},
        ])  # fmt: skip
        seen = context.new_page()
        seen.goto(f"{address}/rules/{rule}/trace?asset=P-1")
        seen.wait_for_load_state("networkidle")
        assert faults(seen) == []
        assert seen.evaluate("document.documentElement.scrollWidth - innerWidth") <= 0
        context.close()
