"""How far a value can be trusted, and in which unit it was sent, as pages and the API tell it."""

from typing import Any

import httpx
import numpy as np
import pytest
from sqlalchemy import select
from sqlalchemy.orm import Session, sessionmaker

from api.runtime import Runtime
from assets.models import Metric
from kernel import clock, db
from telemetry.models import Series
from telemetry.readings import Flag, Readings, with_sent
from tests import factories
from tests.factories import Company
from tests.web.conftest import ClientOf

SECOND = 1000
HOUR = 3600 * SECOND


@pytest.fixture
def pump(database: sessionmaker[Session], company: Company) -> dict[str, int]:
    """Return a machine whose temperature is expected every minute and sent in °F; its ids by name."""
    with db.transaction(database) as session:
        machine = factories.asset(session, company, "harbour", code="P-1", name="Pump one")
        sensor = factories.device(session, company, "harbour", on=machine, key="sensor-1")
        temperature = session.scalars(select(Metric).where(Metric.key == "temperature")).one()
        temperature.sent_unit, temperature.expected_interval_s = "°F", 60
        series = session.scalars(
            select(Series.id).where(Series.device_id == sensor.id, Series.metric == "temperature")
        ).one()
        return {"asset": machine.id, "device": sensor.id, "series": series, "type": machine.type_id}


def write(runtime: Runtime, pump: dict[str, int], rows: list[tuple[int, float, int]]) -> None:
    """Write (time, °C, flags)."""
    ts_ms, celsius, flags = zip(*rows, strict=True)
    some = Readings.of([pump["series"]] * len(rows), ts_ms, celsius, flags=flags)
    runtime.store.write(with_sent(some, np.array(celsius) * 1.8 + 32))


def latest(client: httpx.Client, pump: dict[str, int], **more: Any) -> dict[str, Any]:
    items = client.get("/api/v1/telemetry/latest", params={"asset": pump["asset"], **more}).json()["items"]
    (found,) = (one for one in items if one["metric"] == "temperature")
    return dict(found)


def test_TEL_6_the_newest_value_says_how_far_it_can_be_trusted(
    client: httpx.Client, pump: dict[str, int], runtime: Runtime, database: sessionmaker[Session]
) -> None:
    now = clock.now_ms()
    pages = f"/assets/{pump['asset']}/values", f"/devices/{pump['device']}"
    told = []
    for ago, flags in ((400, 0), (9, 0), (8, Flag.CLOCK), (7, Flag.STUCK), (6, Flag.BAD)):
        write(runtime, pump, [(now - ago * SECOND, 100.0, flags)])
        found = latest(client, pump)
        told.append((found["quality"], found["reason"]))
    assert told == [("stale", None), ("good", None), ("uncertain", "clock"), ("uncertain", "stuck"), ("bad", None)]
    assert "original" not in latest(client, pump)
    found = latest(client, pump, original="true")
    assert (found["value"], found["unit"], found["original"], found["original_unit"]) == (100.0, "°C", 212.0, "°F")
    for page in pages:
        assert ">bad<" in client.get(page).text.replace(" ", "").replace("\n", "")
    assert "sent: 212.0 °F<" in client.get(pages[0]).text
    # What reports when it changes is never stale.
    write(runtime, pump, [(now, 100.0, 0)])
    with db.transaction(database) as session:
        session.scalars(select(Metric).where(Metric.key == "pressure")).one().is_on_change = True
    numbers = {one["metric"]: one for one in client.get("/api/v1/telemetry/latest").json()["items"]}
    assert "pressure" not in numbers
    with database() as session:
        other = session.scalars(select(Series.id).where(Series.metric == "pressure")).one()
    runtime.store.write(Readings.of([other], [now - 100 * HOUR], [4.0]))
    numbers = {one["metric"]: one for one in client.get("/api/v1/telemetry/latest").json()["items"]}
    assert numbers["pressure"]["quality"] == "good"


def test_TEL_4_exact_readings_are_listed_page_by_page_in_both_units(
    client: httpx.Client, client_of: ClientOf, pump: dict[str, int], runtime: Runtime
) -> None:
    start = clock.now_ms() - HOUR
    flags = [0, Flag.BAD, Flag.STUCK, 0, Flag.UNCERTAIN]
    write(runtime, pump, [(start + n * SECOND, float(n), flags[n]) for n in range(5)])
    asked = {"asset": pump["asset"], "metric": "temperature", "from": start, "to": start + HOUR, "limit": 2}
    found: list[dict[str, Any]] = []
    cursor: str | None = ""
    while cursor is not None:
        more = {"cursor": cursor} if cursor else {}
        page = client.get("/api/v1/telemetry/readings", params={**asked, **more, "original": "true"}).json()
        found += page["items"]
        cursor = page["next"]
    assert [(one["value"], one["quality"], one["reason"]) for one in found] == [
        (0.0, "good", None),
        (1.0, "bad", None),
        (2.0, "uncertain", "stuck"),
        (3.0, "good", None),
        (4.0, "uncertain", None),
    ]
    assert [(round(one["original"], 9), one["original_unit"]) for one in found][:2] == [(32.0, "°F"), (33.8, "°F")]
    assert "original" not in client.get("/api/v1/telemetry/readings", params=asked).json()["items"][0]
    stranger = client_of("technician", "quarry")
    assert stranger.get("/api/v1/telemetry/readings", params=asked).status_code == 404
    gaps = {name: value for name, value in asked.items() if name != "limit"}
    assert stranger.get("/api/v1/telemetry/gaps", params=gaps).status_code == 404


def test_TEL_6_a_gap_shows_as_a_gap_and_not_as_a_line(
    client: httpx.Client, pump: dict[str, int], runtime: Runtime, database: sessionmaker[Session]
) -> None:
    start = clock.now_ms() - 2 * HOUR
    minutes = [n for n in range(60) if not 20 <= n < 30]
    # A lone reading after a second gap.
    write(runtime, pump, [(start + 60 * SECOND * n, 50.0 + n, 0) for n in [*minutes, 70]])
    asked = {"asset": pump["asset"], "metric": "temperature", "from": start, "to": start + 71 * 60 * SECOND}
    answer = client.get("/api/v1/telemetry/gaps", params=asked).json()
    spans = [((one["from"] - start) // 60_000, (one["to"] - start) // 60_000) for one in answer["items"]]
    assert (answer["hold_s"], spans, answer["missing_s"]) == (180.0, [(19, 30), (59, 70)], 22 * 60.0)
    first = client.get("/api/v1/telemetry/gaps", params={**asked, "limit": 1}).json()
    second = client.get("/api/v1/telemetry/gaps", params={**asked, "limit": 1, "cursor": first["next"]}).json()
    assert [*first["items"], *second["items"]] == answer["items"]
    assert second["next"] is None
    curve = f"/assets/{pump['asset']}/curve"
    (series,) = client.get(curve, params=asked).json()["series"]
    breaks = [at for at, value in series["points"] if value is None]
    assert breaks == [start + 19 * 60_000 + 1, start + 59 * 60_000 + 1]
    # The mean of a bucket is no line either.
    points = client.get("/api/v1/telemetry/range", params={**asked, "step": "5m"}).json()["series"][0]["points"]
    assert [one["mean"] for one in points][4:6] == [None, None]
    with db.transaction(database) as session:
        metric = session.scalars(select(Metric).where(Metric.key == "temperature")).one()
        metric.is_on_change = True
    assert client.get("/api/v1/telemetry/gaps", params=asked).json()["items"] == []


def test_TEL_6_bad_readings_are_marked_beside_the_curve_and_do_not_flatten_it(
    client: httpx.Client, pump: dict[str, int], runtime: Runtime
) -> None:
    start = clock.now_ms() - 2 * HOUR
    rows = [(start + 10 * SECOND * n, 50.0 + n % 7, 0) for n in range(360)]
    rows[100] = (rows[100][0], 6553.5, int(Flag.BAD))
    rows[200:240] = [(ts_ms, 53.0, int(Flag.STUCK)) for ts_ms, _, _ in rows[200:240]]
    write(runtime, pump, rows)
    asked = {"metric": "temperature", "from": start, "to": start + HOUR}
    for points in (1000, 100):  # every reading, and buckets
        (series,) = client.get(f"/assets/{pump['asset']}/curve", params={**asked, "points": points}).json()["series"]
        assert max(value for _, value in series["points"] if value is not None) == 56.0
        bad, stuck = series["doubts"]
        assert bad == {
            "from": rows[100][0], "to": rows[100][0], "value": 6553.5, "y": 56.0, "quality": "bad", "reason": None,
        }  # fmt: skip
        assert (stuck["from"], stuck["to"], stuck["quality"], stuck["reason"]) == (
            rows[200][0],
            rows[239][0],
            "uncertain",
            "stuck",
        )
