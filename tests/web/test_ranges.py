"""Ranges over the API: buckets by the clock, percentiles, rates, gaps filled, time in a state; clear refusals."""

from datetime import UTC, datetime
from typing import Any

import httpx
import numpy as np
import pytest
from sqlalchemy.orm import Session, sessionmaker

from api.runtime import Runtime
from assets.models import Metric
from kernel import clock, db
from telemetry import series
from telemetry.readings import Readings
from tests import factories
from tests.factories import Company

BEGAN = clock.to_ms(datetime(2025, 10, 25, 22, tzinfo=UTC))  # the day on which Berlin turns the clock back
MINUTE = 60_000


@pytest.fixture
def press(database: sessionmaker[Session], company: Company, runtime: Runtime) -> int:
    """Return a press at the mill (Europe/Berlin): a temperature, a counter with a reset, a mode."""
    with db.transaction(database) as session:
        kind = factories.asset_type(session, company, "press")
        for key, sort, every in (("strokes", "counter", 60), ("mode", "state", 120)):
            kind.metrics.append(Metric(key=key, name=key, kind=sort, expected_interval_s=every))
        asset = factories.asset(session, company, "mill", type_id=kind.id)
        device = factories.device(session, company, "mill", on=asset)
        numbers = series.ensure(
            session, [(device.id, key) for key in ("temperature", "strokes", "mode")], now=clock.now()
        )
        identity = asset.id
    by_key = {key: number for (_, key), number in numbers.items()}
    minutes = np.arange(25 * 60)
    runtime.store.write(
        Readings.of(np.full(1500, by_key["temperature"]), BEGAN + minutes * MINUTE, (minutes % 100).astype(float))
    )
    strokes = [0.0, 60.0, 120.0, 30.0]
    runtime.store.write(Readings.of([by_key["strokes"]] * 4, [BEGAN + n * MINUTE for n in range(4)], strokes))
    modes = ["run", "stop", "run"]
    runtime.store.write(
        Readings.of([by_key["mode"]] * 3, [BEGAN + n * MINUTE for n in (0, 2, 30)], [np.nan] * 3, modes)
    )
    return identity


def ranged(client: httpx.Client, **params: Any) -> list[dict[str, Any]]:
    answer = client.get("/api/v1/telemetry/range", params=params)
    assert answer.status_code == 200, answer.text
    (found,) = answer.json()["series"]
    points: list[dict[str, Any]] = found["points"]
    return points


def test_TEL_3_a_day_of_the_sites_zone_has_25_hours_when_the_clock_is_turned_back(
    client: httpx.Client, press: int
) -> None:
    wanted = {"asset": press, "metric": "temperature", "from": BEGAN, "to": BEGAN + 25 * 60 * MINUTE}
    (day,) = ranged(client, **wanted, step="day")
    assert (day["ts"], day["end"], day["count"]) == (BEGAN, BEGAN + 25 * 60 * MINUTE, 1500)
    assert day["sum"] == sum(minute % 100 for minute in range(1500))
    in_china = ranged(client, **wanted, step="day", zone="Asia/Shanghai")
    assert [point["count"] for point in in_china] == [18 * 60, 7 * 60]
    assert len(ranged(client, **wanted, step="hour")) == 25
    assert [point["count"] for point in ranged(client, **wanted, step="600m")] == [600, 600, 300]


def test_percentiles_and_rates_stand_in_their_bucket(client: httpx.Client, press: int) -> None:
    wanted = {"asset": press, "from": BEGAN, "to": BEGAN + 100 * MINUTE, "step": "100m"}
    (point,) = ranged(client, **wanted, metric="temperature", percentile=[50, 95.5], rate="hour")
    assert point["percentiles"] == {"50": 49.5, "95.5": pytest.approx(np.percentile(np.arange(100), 95.5))}
    assert point["rate"] == pytest.approx(60)
    (strokes,) = ranged(client, **wanted, metric="strokes", rate="minute")
    assert strokes["rate"] == pytest.approx((60 + 60 + 30) / 3)
    assert "percentiles" not in strokes


@pytest.mark.parametrize(
    ("fill", "means"), [("null", [0, None, 30]), ("previous", [0, 0, 30]), ("linear", [0, 15, 30])]
)
def test_gaps_are_filled_as_asked_and_counted_as_empty(
    client: httpx.Client, company: Company, runtime: Runtime, fill: str, means: list[float | None]
) -> None:
    with db.transaction(runtime.sessions) as session:
        device = factories.device(session, company, "mill")
        (number,) = series.ensure(session, [(device.id, "level")], now=clock.now()).values()
        identity = device.id
    runtime.store.write(Readings.of([number] * 2, [BEGAN, BEGAN + 2 * MINUTE], [0.0, 30.0]))
    wanted: dict[str, Any] = {"device": identity, "metric": "level", "from": BEGAN, "to": BEGAN + 3 * MINUTE}
    points = ranged(client, **wanted, step="1m", fill=fill)
    assert [point["mean"] for point in points] == means
    assert [point["count"] for point in points] == [1, 0, 1]


def test_time_in_state_says_how_long_each_value_stood_and_how_long_nothing_is_known(
    client: httpx.Client, press: int
) -> None:
    wanted: dict[str, Any] = {"asset": press, "metric": "mode", "from": BEGAN, "to": BEGAN + 60 * MINUTE}
    (mode,) = client.get("/api/v1/telemetry/states", params=wanted).json()
    assert mode["hold_s"] == 360
    (hour,) = mode["points"]
    assert {state["value"]: state["seconds"] for state in hour["states"]} == {"run": 480, "stop": 360}
    assert hour["unknown_s"] == 3600 - 840
    (mode,) = client.get("/api/v1/telemetry/states", params={**wanted, "step": "30m"}).json()
    assert [point["unknown_s"] for point in mode["points"]] == [1800 - 480, 1800 - 360]


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"step": "5 minutes"}, "step"),
        ({"step": "0s"}, "step"),
        ({"step": "1ms"}, "step"),
        ({"step": "day", "zone": "Mars/Olympus"}, "zone"),
        ({"step": "day", "zone": "../../etc/passwd"}, "zone"),
        ({"fill": "spline"}, "fill"),
        ({"percentile": "101"}, "percentile"),
        ({"rate": "fortnight"}, "rate"),
    ],
)
def test_TEL_3_what_cannot_be_asked_is_refused_by_name(
    client: httpx.Client, press: int, change: dict[str, str], named: str
) -> None:
    wanted = {"asset": press, "metric": "temperature", "from": BEGAN, "to": BEGAN + 86_400_000} | change
    answer = client.get("/api/v1/telemetry/range", params=wanted)
    assert answer.status_code == 422
    assert named in answer.text


def test_a_curve_of_another_site_is_nobodys_business(client_of: Any, press: int) -> None:
    elsewhere = client_of("technician", "quarry")
    for path in ("range", "states"):
        wanted = {"asset": press, "metric": "mode"}
        assert elsewhere.get(f"/api/v1/telemetry/{path}", params=wanted).status_code == 404
