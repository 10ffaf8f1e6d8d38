"""What must be true in the end, judged by what the devices wrote down."""

from collections import defaultdict
from pathlib import Path

from sqlalchemy import func, select
from sqlalchemy.orm import Session, sessionmaker

from assets.models import Binding, Device
from ingest.models import AlarmReport
from kernel import clock
from kernel.models import Event
from rules.models import Alarm
from telemetry.duckdb import DuckDbStore
from telemetry.models import Series
from telemetry.store import TelemetryStore
from tests.reliability.fleet import Fleet, Sent


def readings_are_stored_once(database: sessionmaker[Session], folder: Path, fleet: Fleet) -> None:
    """Every reading the broker acknowledged is in the store, once, and nothing else is."""
    store = DuckDbStore(folder / "telemetry.duckdb")
    try:
        readings_are_in(database, store, fleet)
    finally:
        store.close()


def readings_are_in(database: sessionmaker[Session], store: TelemetryStore, fleet: Fleet) -> None:
    """Every reading the broker acknowledged is in a store, once, and nothing else is."""
    with database() as session:
        known = select(Device.key, Series.id).join(Series, Series.device_id == Device.id)
        numbers = {key: number for key, number in session.execute(known)}  # noqa: C416 - rows are no pairs to mypy
    for device in fleet.devices:
        found = store.samples(numbers[device.key], 0, clock.now_ms() + 10**9, limit=1_000_000)
        stored = list(zip(found.ts_ms.tolist(), found.value.tolist(), strict=True))
        # The last one may have been sent and stored without the device having heard of it.
        assert stored[: len(device.readings)] == device.readings, device.key
        assert len(stored) <= len(device.readings) + 1, device.key
        if len(stored) > len(device.readings):
            device.readings.append(stored[-1])


def alarms_are_exact(database: sessionmaker[Session], fleet: Fleet) -> None:
    """Each alarm report is there once; each rule and device alarm was raised once, with its exact count.

    Devices that toggle quickly are held as one alarm from the fourth raise within a minute on: then that one counts
    the others.
    """
    with database() as session:
        by_key = {device.id: device.key for device in session.scalars(select(Device))}
        reports: defaultdict[str, dict[int, str]] = defaultdict(dict)
        for report in session.scalars(select(AlarmReport).order_by(AlarmReport.seq)):
            reports[by_key[report.device_id]][report.seq] = report.state
            assert not report.is_orphan
        rules: defaultdict[int | None, list[Alarm]] = defaultdict(list)
        devices: defaultdict[int | None, list[Alarm]] = defaultdict(list)
        for alarm in session.scalars(select(Alarm).order_by(Alarm.id)):
            (rules if alarm.origin == "rule" else devices)[alarm.asset_id].append(alarm)
        bound = select(Binding.device_id, Binding.asset_id).where(Binding.ends_at.is_(None))
        asset_of = {device_id: asset_id for device_id, asset_id in session.execute(bound)}  # noqa: C416 - as above
        raised = session.scalar(select(func.count()).select_from(Event).where(Event.kind == "AlarmRaised"))
        assert raised == sum(map(len, rules.values())) + sum(map(len, devices.values()))
        flags = session.scalars(select(Event.payload).where(Event.kind == "AlarmFlagged"))
        flagged = {flag["alarm_id"] for flag in flags if flag["flag"] == "chattering"}
    ids = {key: device_id for device_id, key in by_key.items()}
    for device in fleet.devices:
        asset_id = asset_of[ids[device.key]]
        assert reports[device.key] == device.alarms, device.key
        _counts_match(rules[asset_id], device.runs(), flagged, device.key)
        _device_alarms_match(devices[asset_id], device, flagged)


def _counts_match(found: list[Alarm], expected: list[int], flagged: set[int], key: str) -> None:
    counts = [alarm.count for alarm in found]
    assert sum(counts) == sum(expected), key
    alone = next((place for place, alarm in enumerate(found) if alarm.id in flagged), len(found))
    assert counts[:alone] == expected[:alone], key
    assert alone < len(found) or len(counts) == len(expected), key


def _device_alarms_match(found: list[Alarm], device: Sent, flagged: set[int]) -> None:
    expected = [state for state in device.alarms.values() if state == "raised"]
    _counts_match(found, [1] * len(expected), flagged, device.key)
    if flagged.isdisjoint(alarm.id for alarm in found):
        over = len(expected) - device.is_raised
        assert [alarm.is_active for alarm in found] == [False] * over + [True] * device.is_raised
