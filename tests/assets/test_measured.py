"""Curves of an asset over the devices that measured it."""

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import numpy as np
import pytest
from sqlalchemy.orm import Session

from assets import devices, measured
from assets.models import Asset
from kernel import clock
from telemetry.duckdb import DuckDbStore
from telemetry.models import Series
from telemetry.readings import Readings
from telemetry.store import TelemetryStore
from tests.assets.plant import ACTOR, NOW, Plant, asset
from tests.assets.test_devices import device

MINUTE = 60_000
BEGAN = clock.to_ms(NOW)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[TelemetryStore]:
    opened = DuckDbStore(tmp_path / "telemetry.duckdb")
    yield opened
    opened.close()


@pytest.fixture
def swapped(session: Session, plant: Plant, store: TelemetryStore) -> Asset:
    """An asset whose sensor was replaced after two hours; both send on for four hours, a value a minute."""
    machine = asset(session, plant, "M1")
    old, new = device(session, plant, "old", "temperature"), device(session, plant, "new", "temperature")
    devices.bind(session, old, machine, starts_at=NOW, actor=ACTOR, now=NOW)
    devices.replace(session, old, new, at=NOW + timedelta(hours=2), actor=ACTOR, now=NOW + timedelta(hours=4))
    for sensor, level in ((old, 10.0), (new, 20.0)):
        series = session.query(Series).filter_by(device_id=sensor.id).one()
        ts_ms = BEGAN + np.arange(240, dtype=np.int64) * MINUTE
        store.write(Readings.of([series.id] * 240, ts_ms, [level] * 240))
    return machine


def test_AS_9_a_replaced_device_continues_the_curve_and_its_later_data_stays_off_the_asset(
    session: Session, swapped: Asset, store: TelemetryStore
) -> None:
    spans = measured.of_asset(session, swapped.id)
    # Seven buckets would put the swap inside one of them; it is cut there.
    (curve,) = measured.curves(store, spans, BEGAN, BEGAN + 240 * MINUTE, points=7)
    assert len(curve.count) <= 7
    assert curve.count.sum() == 240
    before = curve.end_ms <= BEGAN + 120 * MINUTE
    assert set(curve.max[before]) == {10.0}
    assert set(curve.min[~before]) == {20.0}
    exact = measured.samples(store, spans, BEGAN, BEGAN + 240 * MINUTE, most=240)
    assert exact is not None
    assert exact.value.tolist() == [10.0] * 120 + [20.0] * 120
    assert (np.diff(exact.ts_ms) == MINUTE).all()


def test_more_samples_than_asked_for_are_left_to_buckets(
    session: Session, swapped: Asset, store: TelemetryStore
) -> None:
    spans = measured.of_asset(session, swapped.id)
    assert measured.samples(store, spans, BEGAN, BEGAN + 240 * MINUTE, most=239) is None


def test_what_is_measured_now_is_what_the_bound_device_sends(session: Session, swapped: Asset) -> None:
    (current,) = measured.now_on(session, [swapped.id])
    assert current.metric == "temperature"
    assert [span.device_id for span in measured.of_device(session, current.device_id)] == [current.device_id]


@pytest.mark.parametrize("end", [BEGAN, BEGAN - 1, BEGAN + 10**15])
def test_TEL_3_a_reversed_or_endless_range_is_refused(
    session: Session, swapped: Asset, store: TelemetryStore, end: int
) -> None:
    spans = measured.of_asset(session, swapped.id)
    with pytest.raises(ValueError, match="range"):
        measured.curves(store, spans, BEGAN, end, points=10)
