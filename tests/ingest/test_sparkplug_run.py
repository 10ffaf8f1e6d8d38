"""Edge nodes as they run: at a real Mosquitto and at the embedded broker, told of their host and asked for births."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select
from sqlalchemy.orm import Session, sessionmaker

from assets import passwords
from assets.models import Device as DeviceRow
from ingest.run import Ingest
from ingest.sparkplug.scalars import Type
from ingest.sparkplug.schema import Payload
from kernel import clock, db, settings
from telemetry.duckdb import DuckDbStore
from telemetry.models import Series
from tests import plant
from tests.ingest.edge_node import EdgeNode, M, temperature
from tests.ingest.edges import Device
from tests.mosquitto import Mosquitto
from tests.waiting import until

TEMPERATURE = M("temperature", 20.0, Type.DOUBLE, 1)
SPEED = M("speed", 1450, Type.INT32, 2)
STATE = "spBv1.0/STATE/fixwright"
NCMD = "spBv1.0/plant/NCMD/edge"
Start = Callable[..., Ingest]


@pytest.fixture
def start(database: sessionmaker[Session], tmp_path: Path) -> Iterator[Start]:
    """Return a starter of ingest; all are ended after the test."""
    with db.transaction(database) as session:
        made = plant.build(session)
        node = plant.device(session, made, "edge", asset=plant.asset(session, made, "E-1"))
        plant.device(session, made, "edge.motor", asset=plant.asset(session, made, "E-2"), gateway_id=node.id)
        node.password_hash = passwords.hashed("secret")
    store = DuckDbStore(tmp_path / "telemetry.duckdb")
    started: list[Ingest] = []

    def run(**chosen: Any) -> Ingest:
        running = Ingest(settings.load(data_dir=tmp_path, **chosen), database, store)
        started.append(running)
        running.start()
        until(running.healthy, what="ingest receives")
        return running

    run.store = store  # type: ignore[attr-defined]
    yield run
    for running in started:
        running.stop()
    store.close()


def states(device: Device) -> list[bool]:
    return [json.loads(said)["online"] for topic, said in device.received if topic == STATE]


def asked(device: Device) -> int:
    return sum(topic == NCMD for topic, _ in device.received)


def online(database: sessionmaker[Session]) -> dict[str, bool]:
    with database() as session:
        rows = session.execute(select(DeviceRow.key, DeviceRow.is_online).where(DeviceRow.key.startswith("edge")))
        return {key: is_online for key, is_online in rows}  # noqa: C416 - rows are no pairs to mypy


def value(database: sessionmaker[Session], store: DuckDbStore, key: str, metric: str) -> float | None:
    with database() as session:
        of_device = select(Series.id).join(DeviceRow, DeviceRow.id == Series.device_id)
        number = session.scalar(of_device.where(DeviceRow.key == key, Series.metric == metric))
    found = None if number is None else store.latest([number]).get(number)
    return None if found is None else found.value


def converse(database: sessionmaker[Session], store: DuckDbStore, speaker: Device, node: EdgeNode) -> None:
    """Be born, lose a message, be asked once, be born again."""
    for message in (node.birth(TEMPERATURE), node.device_birth("motor", SPEED), node.data(temperature(21.5))):
        speaker.say(*message, 0)
    until(lambda: value(database, store, "edge", "temperature") == 21.5, what="data under an alias is stored")
    until(lambda: online(database) == {"edge": True, "edge.motor": True}, what="node and device are there")
    node.skip()
    for number in range(3):
        speaker.say(*node.data(temperature(30.0 + number)), 0)
    until(lambda: asked(speaker) == 1, what="one rebirth command")
    (command,) = (said for topic, said in speaker.received if topic == NCMD)
    assert [metric.name for metric in Payload.FromString(command).metrics] == ["Node Control/Rebirth"]
    for message in node.born_again():
        speaker.say(*message, 0)
    speaker.say(*node.device_data("motor", M("", 7, Type.INT32, 2, typed=False)), 0)
    until(lambda: value(database, store, "edge.motor", "speed") == 7, what="data after the births is stored")
    assert value(database, store, "edge", "temperature") == 20.0
    assert asked(speaker) == 1


def test_ING_9_an_edge_node_at_mosquitto_from_its_birth_to_its_last_will(
    database: sessionmaker[Session], broker: Mosquitto, start: Start
) -> None:
    watcher = Device(broker.port)
    watcher.subscribe("spBv1.0/STATE/+")
    ingest = start(mqtt_url=broker.url)
    until(lambda: states(watcher) == [True], what="the host says that it is there")
    node = EdgeNode(at=clock.now_ms())
    speaker = Device(broker.port, will=node.death())
    assert speaker.subscribe(STATE) == 1
    speaker.subscribe(NCMD)
    until(lambda: states(speaker) == [True], what="the state is retained")
    converse(database, start.store, speaker, node)  # type: ignore[attr-defined]

    # Somebody says that the host is away, as the last will of a connection before this one might.
    watcher.say(STATE, b'{"online":false,"timestamp":1}', retain=True)
    until(lambda: states(watcher)[-2:] == [False, True], what="the host says again that it is there")

    speaker.die()
    until(lambda: online(database) == {"edge": False, "edge.motor": False}, what="the last will takes all offline")
    before = [json.loads(said) for topic, said in watcher.received if topic == STATE][-1]
    ingest.stop()
    until(lambda: states(watcher)[-1] is False, what="the host takes leave")
    after = [json.loads(said) for topic, said in watcher.received if topic == STATE][-1]
    assert after["timestamp"] == before["timestamp"]


def test_a_host_that_vanishes_is_denied_by_its_last_will(
    database: sessionmaker[Session],  # noqa: ARG001 - it holds what ingest starts on
    broker: Mosquitto,
    start: Start,
) -> None:
    ingest = start(mqtt_url=broker.url, sparkplug_host_id="plant-1")
    watcher = Device(broker.port)
    watcher.subscribe("spBv1.0/STATE/plant-1")
    until(lambda: len(watcher.received) == 1, what="the state is retained")
    ingest._life.edge._connection._link.abort()  # type: ignore[union-attr]
    until(lambda: len(watcher.received) >= 3, what="away by its will, then there again")
    said = [json.loads(payload) for _, payload in watcher.received[:3]]
    assert [each["online"] for each in said] == [True, False, True]
    assert said[0]["timestamp"] == said[1]["timestamp"] < said[2]["timestamp"]


def test_ING_9_an_edge_node_at_the_embedded_broker(database: sessionmaker[Session], start: Start) -> None:
    ingest = start(mqtt_bind="127.0.0.1:0")
    node = EdgeNode(at=clock.now_ms())
    speaker = Device(ingest.port, username="edge", password="secret", will=node.death())
    assert speaker.subscribe(STATE) == 1
    speaker.subscribe("spBv1.0/+/NCMD/edge")
    until(lambda: states(speaker) == [True], what="the node is told that its host is there")
    converse(database, start.store, speaker, node)  # type: ignore[attr-defined]
    speaker.die()
    until(lambda: online(database) == {"edge": False, "edge.motor": False}, what="the last will takes all offline")
