"""Ingest as a process runs it: with a real Mosquitto, with time passing, and with parts that go away."""

import json
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path

import paho.mqtt.client as paho
import pytest
from sqlalchemy import func, select
from sqlalchemy.orm import Session, sessionmaker

from assets import derivations, passwords
from assets.derivations import DerivedDraft
from assets.models import AssetType
from assets.models import Device as DeviceRow
from ingest import publisher, rejected
from ingest.models import IntakeCount, RejectedMessage
from ingest.run import Ingest
from kernel import clock, db, settings
from kernel.errors import Misconfigured, Unavailable
from rules import library
from rules.library import AlarmTypeDraft
from rules.models import Alarm
from telemetry import derived, series
from telemetry.duckdb import DuckDbStore
from telemetry.models import Series
from telemetry.readings import Readings
from telemetry.retention import HOUR_MS
from tests import plant
from tests.ingest.edges import Device
from tests.mosquitto import Mosquitto
from tests.plant import Plant
from tests.waiting import until

MACHINES = 20
HOT = {"type": "compare", "metric": "temperature", "operator": ">=", "limit": 60.0}


@pytest.fixture
def works(database: sessionmaker[Session]) -> Plant:
    with db.transaction(database) as session:
        made = plant.build(session, machines=MACHINES)
        for key, kind in (("hot", {"type": "simple"}), ("long-hot", {"type": "duration", "seconds": 1.0})):
            definition = {
                "schema": 1,
                "create": {"major": {"condition": HOT, "kind": kind}},
                "clear": {"type": "automatic"},
            }
            draft = AlarmTypeDraft(key, key.title(), asset_type_id=made.type.id)
            library.add(session, draft, definition, unit=made.company, actor="account:1", now=clock.now())
    return made


@pytest.fixture
def store(tmp_path: Path) -> Iterator[DuckDbStore]:
    opened = DuckDbStore(tmp_path / "telemetry.duckdb")
    yield opened
    opened.close()


@pytest.fixture
def ingest(
    database: sessionmaker[Session],
    store: DuckDbStore,
    tmp_path: Path,
    works: Plant,  # noqa: ARG001 - the rows the devices stand on
    broker: Mosquitto,
) -> Iterator[Ingest]:
    running = Ingest(settings.load(data_dir=tmp_path, mqtt_url=broker.url), database, store)
    running.start()
    until(running.healthy, what="the broker is connected")
    yield running
    running.stop()


def _alarms(database: sessionmaker[Session], type_key: str) -> list[Alarm]:
    with database() as session:
        return list(session.scalars(select(Alarm).where(Alarm.type_key == type_key).order_by(Alarm.id)))


def test_ING_1_every_form_over_every_protocol_and_quality_stores_the_same_reading(
    database: sessionmaker[Session],
    store: DuckDbStore,
    broker: Mosquitto,
    ingest: Ingest,  # noqa: ARG001 - it receives
) -> None:
    at_ms = clock.now_ms()
    values = {"temperature": 21.5, "on": True, "mode": "auto"}
    forms = (
        {"ts": at_ms, "values": values},
        {"values": values},
        values,
        [{"ts": at_ms - 1000, "values": {"temperature": 20}}, {"ts": at_ms, "values": values}],
    )
    ways = [(version, qos, form) for version in (paho.MQTTv311, paho.MQTTv5) for qos in (0, 1) for form in forms]
    speakers = {version: Device(broker.port, version=version) for version in (paho.MQTTv311, paho.MQTTv5)}
    for number, (version, qos, form) in enumerate(ways):
        speakers[version].publish(f"fw/v1/dev-{number}/telemetry", json.dumps(form), qos)
        speakers[version].say(f"fw/v1/dev-{number}/telemetry", "{", 1)

    def stored() -> list[tuple[str, float | str, int]]:
        with database() as session:
            found = session.execute(select(Series.id, Series.metric))
            numbers = {number: metric for number, metric in found}  # noqa: C416 - rows are no pairs to mypy
        latest = store.latest(list(numbers)).values()
        return [(numbers[one.series], one.value if one.text is None else one.text, one.flags) for one in latest]

    until(lambda: len(stored()) == 3 * len(ways), what="every way stored three metrics")
    assert set(stored()) == {("temperature", 21.5, 0), ("on", 1.0, 2), ("mode", "auto", 0)}

    def refused() -> int:
        with database() as session:
            return session.scalar(select(func.sum(RejectedMessage.repeats))) or 0

    until(lambda: refused() == len(ways), what="every malformed payload is set aside")
    for speaker in speakers.values():
        assert not speaker.is_gone
        speaker.leave()


def test_E3_a_duration_is_reached_by_time_alone(
    database: sessionmaker[Session], broker: Mosquitto, ingest: Ingest
) -> None:
    device = Device(broker.port)
    device.say("fw/v1/dev-0/telemetry", json.dumps({"ts": clock.now_ms(), "values": {"temperature": 70}}))
    until(lambda: _alarms(database, "long-hot"), what="the timer raised it")
    device.leave()
    (raised,) = _alarms(database, "long-hot")
    assert (raised.raised_at - raised.began_at).total_seconds() == 1.0
    assert ingest.healthy()


def test_a_broker_that_goes_away_is_trouble_until_it_is_back(
    database: sessionmaker[Session], broker: Mosquitto, ingest: Ingest
) -> None:
    broker.stop()
    until(lambda: "not connected" in (ingest.trouble() or ""), what="it says so")
    broker.start()
    until(ingest.healthy, timeout_s=60, what="it is well again")
    device = Device(broker.port)
    device.say("fw/v1/dev-1/telemetry", '{"temperature": 99}')
    until(lambda: _alarms(database, "hot"), what="messages come through again")
    device.leave()


def test_a_change_of_rules_devices_or_a_replay_needs_no_restart(
    database: sessionmaker[Session], broker: Mosquitto, works: Plant, ingest: Ingest
) -> None:
    device = Device(broker.port)
    device.say("fw/v1/new-one/telemetry", json.dumps({"ts": clock.now_ms(), "values": {"temperature": 80}}))

    def kept() -> RejectedMessage | None:
        with database() as session:
            return session.scalars(select(RejectedMessage)).one_or_none()

    until(kept, what="it is set aside")
    with db.transaction(database) as session:
        asset = plant.asset(session, works, "P-new")
        plant.device(session, works, "new-one", asset=asset, announced=True)
        row = session.scalars(select(RejectedMessage)).one()
    with db.transaction(database) as session:
        row = session.get_one(RejectedMessage, row.id)
        rejected.ask(session, row, by="account:1", company_id=works.company.id, now=clock.now())
    until(lambda: _alarms(database, "hot"), what="the replayed reading raised the alarm")
    assert _alarms(database, "hot")[0].asset_id == asset.id
    device.leave()
    assert ingest.healthy()


def test_stopping_writes_the_books(database: sessionmaker[Session], broker: Mosquitto, ingest: Ingest) -> None:
    device = Device(broker.port)
    for _ in range(5):
        device.say("fw/v1/dev-3/telemetry", '{"temperature": 20}')
    until(lambda: ingest.counters.acknowledged >= 5, what="they are acknowledged")
    device.leave()
    ingest.stop()
    with database() as session:
        assert session.scalar(select(func.sum(IntakeCount.received))) == 5
        assert session.scalars(select(DeviceRow.key).where(DeviceRow.last_seen_at.is_not(None))).all() == ["dev-3"]
    assert ingest.trouble() == "ingest is not running"


def test_it_says_why_it_cannot_start(
    database: sessionmaker[Session],
    store: DuckDbStore,
    tmp_path: Path,
    works: Plant,  # noqa: ARG001
) -> None:
    with pytest.raises(Misconfigured):
        Ingest(settings.load(data_dir=tmp_path, mqtt_url="http://nowhere"), database, store).start()
    idle = Ingest(settings.load(data_dir=tmp_path, mqtt_bind="127.0.0.1:0"), database, store)
    with pytest.raises(Unavailable):
        _ = idle.port


def test_a_message_to_a_device_goes_out_through_ingest(
    connect_embedded: Callable[[], tuple[Ingest, Device]],
) -> None:
    ingest, device = connect_embedded()
    device.subscribe("fw/v1/dev-0/command/+")
    ingest.publish(publisher.command("dev-0", "c1", "reboot", {"in_s": 5})).result(20)
    until(lambda: device.received, what="the command")
    assert json.loads(device.received[0][1]) == {"method": "reboot", "params": {"in_s": 5}}


@pytest.fixture
def connect_embedded(
    database: sessionmaker[Session], store: DuckDbStore, tmp_path: Path, works: Plant
) -> Iterator[Callable[[], tuple[Ingest, Device]]]:
    with db.transaction(database) as session:
        session.merge(works.devices[0]).password_hash = passwords.hashed("right")
    running = Ingest(settings.load(data_dir=tmp_path, mqtt_bind="127.0.0.1:0"), database, store)
    running.start()
    made: list[Device] = []

    def connect() -> tuple[Ingest, Device]:
        made.append(Device(running.port, username="dev-0", password="right"))
        return running, made[-1]

    yield connect
    for device in made:
        device.leave()
    running.stop()


def test_TEL_7_derived_metrics_are_worked_out_beside_the_path(
    database: sessionmaker[Session], store: DuckDbStore, tmp_path: Path, works: Plant, broker: Mosquitto
) -> None:
    before = clock.now() - timedelta(minutes=1)
    hour_ms = derived.hour_of(clock.now_ms()) - 5 * HOUR_MS
    pair = works.devices[0].id, "temperature"
    with db.transaction(database) as session:
        number = series.ensure(session, [pair], now=before)[pair]
        kind = session.get_one(AssetType, works.type.id)
        draft = DerivedDraft("warmed", "Warmed by", "temperature", "difference")
        derivations.add(session, kind, draft, actor="account:1", now=before)
    store.write(Readings.of([number] * 3, [hour_ms, hour_ms + 1000, hour_ms + HOUR_MS], [20.0, 25.0, 22.0]))
    running = Ingest(settings.load(data_dir=tmp_path, mqtt_url=broker.url), database, store)
    running.start()

    def worked_out() -> list[float]:
        with database() as session:
            found = series.load(session, [pair[0]]).get((pair[0], "warmed"), 0)
        return store.samples(found, 0, clock.now_ms(), limit=10).value.tolist()

    try:
        until(lambda: worked_out() == [5.0, -3.0], what="the hours are worked out")
    finally:
        running.stop()
