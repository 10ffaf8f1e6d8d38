"""Curves of several assets in one picture, live and large (TEL-9)."""

import asyncio
from collections.abc import Iterator

import httpx
import numpy as np
import pytest
from playwright.sync_api import Browser, Page, expect
from sqlalchemy.orm import Session, sessionmaker

from api import live
from api.live import Live, Reader
from api.runtime import Runtime
from assets.models import Asset, Device
from kernel import clock, db
from telemetry import series
from telemetry.readings import Readings
from tests import factories, loops
from tests.factories import Company
from tests.web.conftest import ClientOf

SECOND = 1000


@pytest.fixture
def pumps(database: sessionmaker[Session], company: Company) -> list[tuple[Asset, Device]]:
    """Return two pumps of the harbour and one of the quarry, each with a device."""
    with db.transaction(database) as session:
        made = []
        for number, where in enumerate(("harbour", "harbour", "quarry"), 1):
            asset = factories.asset(session, company, where, code=f"P-{number}", name=f"Pump {number}")
            made.append((asset, factories.device(session, company, where, on=asset)))
        return made


def write(runtime: Runtime, device: Device, metric: str, ts_ms: list[int], values: list[float]) -> None:
    with db.transaction(runtime.sessions) as session:
        number = series.ensure(session, [(device.id, metric)], now=clock.now())[device.id, metric]
    runtime.store.write(Readings.of([number] * len(ts_ms), ts_ms, values))


@pytest.fixture
def page(browser: Browser, client: httpx.Client, address: str) -> Iterator[Page]:
    context = browser.new_context(viewport={"width": 1440, "height": 900}, locale="en")
    context.add_cookies([{"name": name, "value": value, "url": address} for name, value in client.cookies.items()])
    page = context.new_page()
    complaints: list[str] = []
    page.on("console", lambda said: complaints.append(said.text) if said.type == "error" else None)
    page.on("pageerror", lambda error: complaints.append(str(error)))
    yield page
    context.close()
    assert complaints == []


def test_TEL_9_curves_of_two_assets_come_in_one_answer_named_by_asset(
    client: httpx.Client, runtime: Runtime, pumps: list[tuple[Asset, Device]]
) -> None:
    now = clock.now_ms()
    for number, (_, device) in enumerate(pumps[:2]):
        write(runtime, device, "temperature", [now - 2 * SECOND, now - SECOND], [20.0 + number, 21.0 + number])
    lines = [f"{asset.id}:temperature" for asset, _ in pumps[:2]]
    answer = client.get("/curves/data", params={"line": lines, "span": "1h"}).json()
    assert [one["name"] for one in answer["series"]] == ["Pump 1 · Temperature", "Pump 2 · Temperature"]
    assert [point[1] for point in answer["series"][1]["points"]] == [21.0, 22.0]
    shown = client.get("/curves", params={"line": lines}).text
    assert "Pump 2" in shown
    assert "/curves/data?span=24h" in shown


def test_what_lies_outside_the_viewers_sight_is_neither_drawn_nor_found(
    client_of: ClientOf, runtime: Runtime, pumps: list[tuple[Asset, Device]]
) -> None:
    write(runtime, pumps[2][1], "temperature", [clock.now_ms()], [20.0])
    me, far = client_of("technician", "harbour"), pumps[2][0]
    for path in ("/curves", "/curves/data"):
        assert me.get(path, params={"line": f"{far.id}:temperature"}).status_code == 404
    refused = me.get("/curves", params={"add": far.code})
    assert refused.status_code == 422
    assert "There is no asset with this code." in refused.text


@pytest.mark.parametrize("line", ["temperature", "x:temperature", "1:", "9" * 30 + ":t"])
def test_a_curve_named_otherwise_is_refused_with_an_example(client: httpx.Client, line: str) -> None:
    answer = client.get("/curves/data", params={"line": line})
    assert answer.status_code == 422
    assert "for example 12:temperature" in answer.text


def test_TEL_9_a_million_readings_travel_as_what_a_screen_shows(
    client: httpx.Client, runtime: Runtime, pumps: list[tuple[Asset, Device]], page: Page, address: str
) -> None:
    asset, device = pumps[0]
    end, count = clock.now_ms(), 1_000_000
    with db.transaction(runtime.sessions) as session:
        number = series.ensure(session, [(device.id, "temperature")], now=clock.now())[device.id, "temperature"]
    ts_ms = end - np.arange(count, dtype=np.int64)[::-1] * 2 * SECOND
    value = np.sin(np.arange(count) / 5000.0)
    value[123_456] = 99.0
    runtime.store.write(Readings(np.full(count, number), ts_ms, value, None, np.zeros(count, np.uint8)))
    params = {"line": f"{asset.id}:temperature", "span": "30d", "points": 800}
    points = client.get("/curves/data", params=params).json()["series"][0]["points"]
    assert len(points) <= 1000
    assert max(point[1] for point in points if point[1] is not None) == 99.0, "no peak is lost"
    page.goto(f"{address}/curves?line={asset.id}:temperature&span=30d")
    expect(page.locator("[data-plot] canvas").first).to_be_visible()
    expect(page.locator("[data-plot].is-loading")).to_have_count(0)
    page.get_by_label("Add an asset").fill("P-2")  # the page answers at once
    page.get_by_role("button", name="Show").click()
    expect(page.get_by_text("Pump 2")).to_be_visible()


def test_TEL_9_a_reading_appears_in_an_open_page(
    runtime: Runtime, pumps: list[tuple[Asset, Device]], page: Page, address: str
) -> None:
    asset, device = pumps[0]
    write(runtime, device, "temperature", [clock.now_ms() - SECOND], [20.0])
    page.goto(f"{address}/curves?line={asset.id}:temperature&span=1h")
    expect(page.locator("[data-plot] canvas").first).to_be_visible()
    with page.expect_response(lambda one: "/curves/data" in one.url and "from=" in one.url and "44.5" in one.text()):
        write(runtime, device, "temperature", [clock.now_ms()], [44.5])


def test_TEL_9_a_flood_of_alarms_does_not_hold_back_the_curve(
    runtime: Runtime, monkeypatch: pytest.MonkeyPatch, database: sessionmaker[Session]
) -> None:
    monkeypatch.setattr(live, "TAIL_EVERY_S", 0.05)
    hub = Live(database, str(runtime.engine.url))

    async def listen() -> list[str]:
        heard: list[str] = []
        stream = hub.stream(None, frozenset({"alarms", "telemetry:7"}))  # type: ignore[arg-type]
        async for message in stream:
            heard.append(message)
            reader: Reader = next(iter(hub._readers))
            live._offer(reader, "data: alarms alarm:1\n\n")
            await asyncio.sleep(0)
            if "data: telemetry:7\n\n" in heard:
                hub.close()
        return heard

    heard = loops.run(asyncio.wait_for(listen(), 30))
    assert "data: alarms alarm:1\n\n" in heard
    assert "data: telemetry:7\n\n" in heard
