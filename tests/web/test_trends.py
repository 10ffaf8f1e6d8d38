"""Watched trends from the form to the proposed inspection, over real readings (RUL-18)."""

from typing import Any

import httpx
import pytest
from sqlalchemy import select
from sqlalchemy.orm import Session, sessionmaker

from api import subscriptions
from api.runtime import Runtime
from assets.models import Asset
from bench.wear import wear
from kernel import clock, courier, db, events
from kernel.models import AuditEntry
from maintenance.orders import requests
from maintenance.orders.models import Order, Request
from rules.trend import DAY_MS, Shape
from rules.trend_tables import TrendForecast, TrendWatch
from telemetry.models import Series
from telemetry.readings import Readings
from tests import factories
from tests.factories import Company
from tests.waiting import until
from tests.web.conftest import ClientOf


@pytest.fixture
def worn(database: sessionmaker[Session], company: Company, runtime: Runtime) -> Asset:
    """Return a compressor that reaches 100 °C in about ten days, after fifty of wear."""
    with db.transaction(database) as session:
        asset = factories.asset(session, company, "harbour", code="C-1", name="Worn compressor")
        device = factories.device(session, company, "harbour", on=asset)
        [series] = session.scalars(
            select(Series.id).where(Series.device_id == device.id, Series.metric == "temperature")
        )
        factories.asset(session, company, "quarry", code="C-2")
    ts_ms, value = wear(Shape.LINE, 50, 60, 1)
    now_ms = clock.now_ms()
    runtime.store.write(Readings.of([series] * len(ts_ms), ts_ms + now_ms - 50 * DAY_MS, value))
    return asset


def watch(client: httpx.Client, asset: Asset, **more: object) -> httpx.Response:
    form = {"measured": f"{asset.type_id}/temperature", "limit": "100", "window_days": "60", "lead_days": "30"} | more
    return client.post("/trends", data=form)


def told_of(client: httpx.Client, asset: Asset) -> dict[str, Any]:
    """Return the one forecast of an asset, once the application's own thread has worked it out."""
    found: list[dict[str, Any]] = []

    def is_there() -> bool:
        found[:] = client.get(f"/api/v1/trends/assets/{asset.id}").json()
        return bool(found)

    until(is_there, what="the forecast")
    [told] = found
    return told


def deliver(database: sessionmaker[Session]) -> None:
    while not _is_idle(database):
        with db.transaction(database) as session:
            events.fan_out(session, subscriptions.TABLE, clock.now())
        while courier.deliver_one(database, subscriptions.TABLE, clock.now()):
            pass


def _is_idle(database: sessionmaker[Session]) -> bool:
    with database() as session:
        return events.is_idle(session)


def _before_the_timeline(page: str) -> str:
    """Return a page up to what was written at the time, which holds both languages."""
    return page.partition("fw-timeline")[0]


def test_RUL_18_a_trend_is_foretold_and_an_inspection_is_proposed_once(
    client: httpx.Client, database: sessionmaker[Session], worn: Asset
) -> None:
    assert watch(client, worn).status_code == 303
    told = told_of(client, worn)
    assert (told["asset_id"], told["outlook"]) == (worn.id, "crosses")
    assert told["earliest_at"] <= told["likely_at"] <= told["latest_at"]
    assert client.get("/api/v1/trends").json() == [told]
    page = client.get("/trends").text
    assert "Worn compressor" in page
    assert "inspection proposed" in page
    deliver(database)
    with database() as session:
        [request] = session.scalars(select(Request))
        assert (request.origin, request.state, request.asset_id) == ("trend", "new", worn.id)
        assert "reaches 100" in request.words("en")
        assert "达到 100" in request.words("zh")
        address = f"/requests/{request.id}"
    assert "reaches 100" in client.get("/").text
    client.cookies.set("lang", "zh")
    for place in ("/", "/requests", address):
        assert "达到 100" in client.get(place).text
        assert "reaches 100" not in _before_the_timeline(client.get(place).text)
    client.cookies.delete("lang")
    with db.transaction(database) as session:
        session.query(TrendForecast).update({"next_at": clock.now()})
    until(lambda: told_of(client, worn)["worked_out_at"] > told["worked_out_at"], what="the next forecast")
    deliver(database)
    with db.transaction(database) as session:
        [request] = session.scalars(select(Request))
        order = requests.accept(
            session, request, actor="system", now=clock.now(), title=request.words("zh").splitlines()[0][:120]
        )
        assert "reaches 100" in order.title
        assert "达到 100" in str(order.title_zh)
        assert order.type.key == "inspection"
        assert session.scalars(select(Order)).all() == [order]


def test_a_watch_is_changed_and_stopped_and_the_trail_tells(
    client: httpx.Client, database: sessionmaker[Session], worn: Asset
) -> None:
    body = {"asset_type_id": worn.type_id, "metric": "temperature", "limit": 100.0}
    made = client.post("/api/v1/trends/watches", json=body)
    assert made.status_code == 201
    number = made.json()["id"]
    assert client.post("/api/v1/trends/watches", json=body).status_code == 409
    assert told_of(client, worn)["outlook"] == "crosses"
    body = {"metric": "temperature", "limit": 20.0, "is_rising": False}
    assert client.put(f"/api/v1/trends/watches/{number}", json=body).status_code == 200
    assert told_of(client, worn)["outlook"] == "steady"
    assert client.post(f"/trends/{number}/stop").status_code == 303
    with database() as session:
        assert not session.scalars(select(TrendWatch)).all()
        assert not session.scalars(select(TrendForecast)).all()
        acts = session.scalars(select(AuditEntry.action).where(AuditEntry.action.startswith("trend.")))
        assert list(acts) == ["trend.watch", "trend.change", "trend.stop"]


@pytest.mark.parametrize(
    ("field", "value"),
    [("measured", ""), ("measured", "x/temperature"), ("limit", ""), ("limit", "warm"), ("window_days", "3"),
     ("lead_days", "0"), ("lead_days", "4000")],
)  # fmt: skip
def test_what_cannot_be_watched_is_said_at_its_field(client: httpx.Client, worn: Asset, field: str, value: str) -> None:
    answer = watch(client, worn, **{field: value})
    assert answer.status_code == 422
    assert "is-invalid" in answer.text


def test_forecasts_of_elsewhere_are_not_shown(client: httpx.Client, client_of: ClientOf, worn: Asset) -> None:
    watch(client, worn)
    told_of(client, worn)
    there = client_of("manager", "quarry")
    assert there.get("/api/v1/trends").json() == []
    assert "Worn compressor" not in there.get("/trends").text
    assert there.get(f"/api/v1/trends/assets/{worn.id}").status_code == 404
