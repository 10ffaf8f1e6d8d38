"""Mappings at real brokers: subscriptions and rights follow them without a restart, at Mosquitto and at our own."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from sqlalchemy import select
from sqlalchemy.orm import Session, sessionmaker

from assets import passwords
from assets.models import Device as DeviceRow
from ingest import brokerfiles, mappings, mosquitto, ready
from ingest.models import Mapping, RejectedMessage
from ingest.run import Ingest
from kernel import clock, db, settings
from kernel.settings import Settings
from telemetry.duckdb import DuckDbStore
from telemetry.models import Series
from tests import plant
from tests.ingest.edges import Device
from tests.mosquitto import Mosquitto
from tests.plant import Plant
from tests.waiting import until

PASSWORD = passwords.draw()
ZIGBEE = "zigbee2mqtt"


@pytest.fixture
def works(database: sessionmaker[Session]) -> Plant:
    with db.transaction(database) as session:
        made = plant.build(session, machines=2)
        plant.device(session, made, "bridge", password_hash=passwords.hashed(PASSWORD))
        plant.device(session, made, "other", password_hash=passwords.hashed(PASSWORD))
    return made


@pytest.fixture
def store(tmp_path: Path) -> Iterator[DuckDbStore]:
    opened = DuckDbStore(tmp_path / "telemetry.duckdb")
    yield opened
    opened.close()


def adopt(database: sessionmaker[Session], works: Plant) -> int:
    one = ready.find(ZIGBEE)
    assert one is not None
    with db.transaction(database) as session:
        bridge = session.scalars(select(DeviceRow).where(DeviceRow.key == "bridge")).one()
        made = mappings.adopt(session, one, unit=works.company, bridge_id=bridge.id, actor="a", now=clock.now())
    return made.id


def switch_off(database: sessionmaker[Session], identity: int) -> None:
    with db.transaction(database) as session:
        row = session.get_one(Mapping, identity)
        mappings.switch(session, row, is_enabled=False, actor="a", now=clock.now())


def latest(database: sessionmaker[Session], store: DuckDbStore, metric: str) -> float | None:
    with database() as session:
        number = session.scalar(select(Series.id).where(Series.metric == metric))
    found = store.latest([number]) if number is not None else {}
    return next((one.value for one in found.values()), None)


def sensor(temperature: float) -> bytes:
    return json.dumps({"temperature": temperature, "battery": 90}).encode()


def test_ING_12_mosquitto_is_subscribed_and_its_rights_written_as_mappings_come_and_go(
    database: sessionmaker[Session],
    store: DuckDbStore,
    tmp_path: Path,
    works: Plant,
    brokers: Callable[..., Mosquitto],
) -> None:
    own = passwords.draw()
    lines = f"{mosquitto.SETTINGS}\npassword_file {{folder}}/passwd\nacl_file {{folder}}/acl\nsys_interval 1"
    broker = brokers(lines, {"passwd": f"_fixwright:{passwords.hashed(own)}\n", "acl": "user _fixwright\ntopic #\n"})
    url = f"mqtt://_fixwright:{own}@127.0.0.1:{broker.port}"
    current: Settings = settings.load(data_dir=tmp_path, mqtt_url=url)
    keeper = brokerfiles.Keeper(current, broker.folder)

    def files_follow() -> None:
        with database() as session:
            if keeper.look(session, clock.now()):
                broker.reload()

    files_follow()
    running = Ingest(current, database, store)
    running.start()
    try:
        until(running.healthy, what="the broker is connected")
        bridge = Device(broker.port, username="bridge", password=PASSWORD)
        other = Device(broker.port, username="other", password=PASSWORD)
        bridge.say(f"{ZIGBEE}/dev-0", sensor(1))  # nobody may say this yet
        identity = adopt(database, works)
        files_follow()

        def heard() -> bool:
            other.say(f"{ZIGBEE}/dev-0", sensor(99))
            bridge.say(f"{ZIGBEE}/dev-0", sensor(21.5))
            return latest(database, store, "temperature") is not None

        until(heard, what="the mapped message is stored", every_s=0.2)
        assert latest(database, store, "temperature") == 21.5
        switch_off(database, identity)
        until(lambda: running._life.pipeline.mapper.filters == (), what="the mapping is off")
        bridge.say(f"{ZIGBEE}/dev-0", sensor(30))
        bridge.say("fw/v1/bridge/telemetry", sensor(7))
        until(lambda: latest(database, store, "battery") is not None)
        assert latest(database, store, "temperature") != 30
        with database() as session:
            assert session.scalars(select(RejectedMessage)).all() == []
    finally:
        running.stop()


def test_ING_12_at_the_embedded_broker_the_bridge_may_publish_and_nobody_else(
    database: sessionmaker[Session], store: DuckDbStore, tmp_path: Path, works: Plant
) -> None:
    running = Ingest(settings.load(data_dir=tmp_path, mqtt_bind="127.0.0.1:0"), database, store)
    running.start()
    try:
        refused = Device(running.port, username="bridge", password=PASSWORD)
        refused.publish(f"{ZIGBEE}/dev-0", sensor(1))
        until(lambda: refused.is_gone, what="a foreign topic ends the connection")
        identity = adopt(database, works)
        until(lambda: running._life.pipeline.mapper.filters, what="the mapping is in force")
        bridge = Device(running.port, username="bridge", password=PASSWORD)
        bridge.say(f"{ZIGBEE}/dev-0", sensor(21.5))
        until(lambda: latest(database, store, "temperature") == 21.5, what="the mapped message is stored")
        stranger = Device(running.port, username="other", password=PASSWORD)
        stranger.publish(f"{ZIGBEE}/dev-0", sensor(99))
        until(lambda: stranger.is_gone, what="another account is refused")
        switch_off(database, identity)
        until(lambda: not running._life.pipeline.mapper.filters, what="the mapping is off")
        bridge.publish(f"{ZIGBEE}/dev-0", sensor(30))
        until(lambda: bridge.is_gone, what="the right ends with the mapping")
        assert latest(database, store, "temperature") == 21.5
    finally:
        running.stop()
