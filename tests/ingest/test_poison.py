"""Poison through real brokers: each bad message is set aside once with its reason, and its neighbours never notice."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from sqlalchemy import select
from sqlalchemy.orm import Session, sessionmaker

from assets import passwords
from assets.models import Device as DeviceRow
from ingest.models import RejectedMessage
from ingest.run import Ingest
from kernel import clock, db, settings
from telemetry.duckdb import DuckDbStore
from telemetry.models import Series
from tests import plant
from tests.ingest.edges import Device
from tests.mosquitto import Mosquitto
from tests.plant import Plant
from tests.waiting import until

DEVICES = 3
PASSWORD = "correct horse"
POISON = {
    "invalid UTF-8": (b'{"temperature": "\xc3\x28"}', "not_utf8"),
    "NaN": (b'{"temperature": NaN}', "not_finite"),
    "Infinity": (b'{"temperature": -Infinity}', "not_finite"),
    "1e400": (b'{"temperature": 1e400}', "not_finite"),
    "a huge integer": (b'{"temperature": 1' + b"0" * 400 + b"}", "not_finite"),
    "depth 10,000": (b'{"temperature": ' + b"[" * 10_000 + b"]" * 10_000 + b"}", "too_deep"),
    "depth 10,000, never closed": (b'{"a":' * 10_000, "too_deep"),
    "a name twice": (b'{"temperature": 1, "temperature": 2}', "duplicate_key"),
    "5 MB": (b'{"text": "' + b"x" * 5_000_000 + b'"}', "oversize"),
    "a NUL in a text": (b'{"mode": "a\\u0000b"}', "bad_text"),
    "a bare NUL": (b'{"temperature": 1}\x00', "not_json"),
    "wrong types": (b'{"temperature": {"x": 1}}', "nested_value"),
    "a wrong time": (b'{"ts": "yesterday", "values": {"temperature": 1}}', "bad_ts"),
    "nothing": (b"", "not_json"),
    "a foreign device": (b'{"device": "dev-1", "values": {"temperature": 1}}', "foreign_device"),
}


@pytest.fixture
def works(database: sessionmaker[Session]) -> Plant:
    with db.transaction(database) as session:
        made = plant.build(session, machines=DEVICES)
        for device in made.devices:
            device.password_hash = passwords.hashed(PASSWORD)
    return made


@pytest.fixture
def store(tmp_path: Path) -> Iterator[DuckDbStore]:
    opened = DuckDbStore(tmp_path / "telemetry.duckdb")
    yield opened
    opened.close()


class Stage:
    """An ingest behind a broker of either kind, restarted at will."""

    def __init__(
        self, database: sessionmaker[Session], store: DuckDbStore, folder: Path, broker: Mosquitto | None
    ) -> None:
        self._parts = database, store
        self._broker = broker
        chosen = {"mqtt_url": broker.url} if broker else {"mqtt_bind": "127.0.0.1:0"}
        self._settings = settings.load(data_dir=folder, batch_wait_ms=50, **chosen)
        self.start()

    def start(self) -> None:
        self.ingest = Ingest(self._settings, *self._parts)
        self.ingest.start()
        until(self.ingest.healthy, what="it receives")

    def device(self, key: str) -> Device:
        if self._broker:
            return Device(self._broker.port)
        return Device(self.ingest.port, username=key, password=PASSWORD)

    def speak(self, at_ms: int, turn: int) -> int:
        """Say all poison, with a good message before and behind each from its device and another; return the turns."""
        sick, well = self.device("dev-0"), self.device("dev-2")
        good = ((sick, "fw/v1/dev-0/telemetry"), (well, "fw/v1/dev-2/telemetry"))
        for payload, _ in POISON.values():
            for speaker, topic in good:
                speaker.publish(topic, json.dumps({"ts": at_ms + turn, "values": {"temperature": turn}}))
            sick.publish("fw/v1/dev-0/telemetry", payload)
            turn += 1
        for speaker, topic in good:
            speaker.say(topic, json.dumps({"ts": at_ms + turn, "values": {"temperature": turn}}))
        assert not sick.is_gone
        for speaker, _ in good:
            speaker.leave()
        return turn + 1


@pytest.fixture(params=["mosquitto", "embedded"])
def stage(
    request: pytest.FixtureRequest,
    database: sessionmaker[Session],
    store: DuckDbStore,
    works: Plant,  # noqa: ARG001 - rows
    tmp_path: Path,
    brokers: Callable[..., Mosquitto],
) -> Iterator[Stage]:
    made = Stage(database, store, tmp_path, brokers() if request.param == "mosquitto" else None)
    yield made
    made.ingest.stop()


def test_ING_1_ING_3_poison_is_set_aside_once_and_neighbours_are_stored(
    database: sessionmaker[Session], store: DuckDbStore, works: Plant, stage: Stage
) -> None:
    """Each is said three times, with a good message before and behind it, the last time after a restart."""
    at_ms = clock.now_ms()
    turns = 0

    def stored() -> list[int]:
        with database() as session:
            numbers = {
                device_id: number for number, device_id in session.execute(select(Series.id, Series.device_id)).all()
            }
        counts = []
        for device in (works.devices[0], works.devices[2]):
            number = numbers.get(device.id)
            found = None if number is None else store.samples(number, at_ms, at_ms + 10**6, limit=10_000)
            counts.append(0 if found is None else len(found))
        return counts

    def kept() -> dict[bytes, tuple[str, int]]:
        with database() as session:
            found = session.scalars(select(RejectedMessage).where(RejectedMessage.device_key == "dev-0"))
            return {row.payload: (row.reason, row.repeats) for row in found}

    for times in (1, 2, 3):
        turns = stage.speak(at_ms, turns)
        until(lambda turns=turns: stored() == [turns, turns], what="every neighbour is stored")  # type: ignore[misc]
        expected = {payload: (reason, times) for payload, reason in POISON.values()}
        until(lambda expected=expected: kept() == expected, what="each is kept once, and counted")  # type: ignore[misc]
        assert stage.ingest.healthy()
        if times == 2:
            stage.ingest.stop()
            stage.start()
    with database() as session:
        # Of a 5 MB message or of a body that names another, nothing reached another device.
        assert session.scalar(select(Series.id).where(Series.device_id == works.devices[1].id)) is None


def test_ING_3_poison_of_unknown_devices_is_kept_under_mosquitto_and_mended_by_a_replay(
    database: sessionmaker[Session], works: Plant, store: DuckDbStore, tmp_path: Path, broker: Mosquitto
) -> None:
    stage = Stage(database, store, tmp_path, broker)
    speaker = stage.device("")
    speaker.publish("fw/v1/ghost/telemetry", b'{"temperature": 1}')
    speaker.say("fw/v1/dev-0/telemetry", b'{"temperature": 2}')

    def row() -> RejectedMessage | None:
        with database() as session:
            return session.scalars(select(RejectedMessage)).one_or_none()

    until(lambda: (found := row()) is not None and found.reason == "unknown_device", what="it is set aside")
    with db.transaction(database) as session:
        plant.device(session, works, "ghost", asset=works.assets[1], announced=True)
        session.scalars(select(RejectedMessage)).one().replay_asked_at = clock.now()
    until(lambda: (found := row()) is not None and found.replayed_at is not None, what="it is replayed")
    with database() as session:
        ghost = select(Series.id).join(DeviceRow, DeviceRow.id == Series.device_id).where(DeviceRow.key == "ghost")
        assert store.latest([session.scalars(ghost).one()])
    stage.ingest.stop()
