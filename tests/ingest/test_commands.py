"""Commands on their way to real devices through real brokers, and back (ING-13, ING-15)."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select, update
from sqlalchemy.orm import Session, sessionmaker

from assets import command_post, commands, desired_settings, passwords
from assets.command_post import Answer
from assets.command_tables import DeviceCommand
from assets.commands import Draft
from assets.models import Device as DeviceRow
from ingest import watch
from ingest.models import RejectedMessage
from ingest.run import Ingest
from ingest.simulator import Fleet, Member
from kernel import clock, db, settings
from rules.models import Alarm
from telemetry.duckdb import DuckDbStore
from tests import plant
from tests.ingest.edges import Device
from tests.mosquitto import Mosquitto
from tests.plant import Plant
from tests.waiting import until

Database = sessionmaker[Session]


@pytest.fixture
def works(database: Database) -> Plant:
    with db.transaction(database) as session:
        made = plant.build(session, machines=3)
        secret = passwords.hashed("right")
        session.execute(update(DeviceRow).values(password_hash=secret))
    return made


@pytest.fixture
def store(tmp_path: Path) -> Iterator[DuckDbStore]:
    opened = DuckDbStore(tmp_path / "telemetry.duckdb")
    yield opened
    opened.close()


@dataclass(frozen=True, slots=True)
class World:
    """A running ingest with its broker's port."""

    ingest: Ingest
    port: int

    def device(self, key: str = "dev-0", *, listens: bool = True) -> Device:
        """Connect a device as its maker would: a last will, subscribed to its commands, then online."""
        made = Device(
            self.port,
            username=key,
            password="right",
            client_id=key,
            will=(f"fw/v1/{key}/status", b"offline"),
        )
        assert made.is_accepted
        if listens:
            made.subscribe(f"fw/v1/{key}/command/+")
        made.say(f"fw/v1/{key}/status", b"online")
        return made


@pytest.fixture(params=["embedded", "mosquitto"])
def world(
    request: pytest.FixtureRequest,
    database: Database,
    store: DuckDbStore,
    tmp_path: Path,
    works: Plant,  # noqa: ARG001 - the rows the devices stand on
) -> Iterator[World]:
    if request.param == "embedded":
        running = Ingest(settings.load(data_dir=tmp_path, mqtt_bind="127.0.0.1:0"), database, store)
        running.start()
        yield World(running, running.port)
    else:
        broker: Mosquitto = request.getfixturevalue("broker")
        running = Ingest(settings.load(data_dir=tmp_path, mqtt_url=broker.url), database, store)
        running.start()
        until(running.healthy, what="the broker is connected")
        yield World(running, broker.port)
    running.stop()


def ask(database: Database, method: str, key: str = "dev-0", **draft: Any) -> int:
    """Ask a device for something in a transaction of its own, as a page does; return the command's id."""
    with db.transaction(database) as session:
        device = session.scalars(select(DeviceRow).where(DeviceRow.key == key)).one()
        wanted = Draft(method, draft.pop("params", {}), **draft)
        return commands.ask(session, device, wanted, actor="account:1", now=clock.now()).id


def command(database: Database, number: int) -> DeviceCommand:
    with database() as session:
        return session.get_one(DeviceCommand, number)


def state(database: Database, number: int) -> str:
    return command(database, number).state


def connection(database: Database, key: str = "dev-0") -> str:
    with database() as session:
        return session.scalars(select(DeviceRow.connection).where(DeviceRow.key == key)).one()


def orders_of(device: Device) -> list[dict[str, Any]]:
    return [json.loads(payload) for topic, payload in device.received if "/command/" in topic]


def reply(device: Device, body: dict[str, Any], which: int = -1, key: str = "dev-0") -> None:
    topic = [topic for topic, _ in device.received if topic.startswith(f"fw/v1/{key}/command/")][which]
    device.say(f"{topic}/reply", json.dumps(body))


def test_ING_13_a_command_goes_out_and_its_answer_settles_it_once(database: Database, world: World) -> None:
    device = world.device()
    until(lambda: connection(database) == "online", what="it is online")
    number = ask(database, "set_interval", params={"seconds": 5})
    until(lambda: orders_of(device), what="the command")
    (order,) = orders_of(device)
    assert (order["method"], order["params"]) == ("set_interval", {"seconds": 5})
    until(lambda: state(database, number) in {"sent", "delivered"}, what="it is written down")
    for body in ({"result": {"interval_s": 5}}, {"result": "again"}, {"error": "no"}):
        reply(device, body)
    until(lambda: state(database, number) == "done", what="the answer settles it")
    assert command(database, number).reply == {"result": {"interval_s": 5}}
    refused = ask(database, "fly")
    until(lambda: len(orders_of(device)) == 2, what="the second command")
    reply(device, {"error": "unknown method fly"})
    until(lambda: state(database, refused) == "failed", what="an error is a failure")
    assert command(database, refused).error == "unknown method fly"
    assert command(database, number).reply == {"result": {"interval_s": 5}}


def test_ING_13_a_kept_command_arrives_on_reconnect_and_an_expired_one_does_not(
    database: Database, world: World
) -> None:
    first = world.device()
    until(lambda: connection(database) == "online", what="it is online")
    first.die()
    until(lambda: connection(database) == "offline", what="its last will was heard", timeout_s=60)
    kept = ask(database, "restart", kind="kept")
    stale = ask(database, "stale", kind="kept", expires_s=1)
    patient = ask(database, "blink", kind="one_way", waits=True)
    at_once = [ask(database, "now", kind=kind) for kind in ("one_way", "reply")]
    assert [state(database, number) for number in at_once] == ["failed", "failed"]
    until(lambda: state(database, stale) == "expired", what="it expires")
    assert state(database, kept) == "queued"
    second = world.device()
    until(lambda: len(orders_of(second)) == 2, what="both that were kept")
    assert {one["method"] for one in orders_of(second)} == {"restart", "blink"}
    until(lambda: state(database, patient) == "done", what="nobody answers a one-way command")
    which = [one["method"] for one in orders_of(second)].index("restart")
    reply(second, {"result": "ok"}, which)
    until(lambda: state(database, kept) == "done", what="it is answered")
    assert [one["method"] for one in orders_of(first)] == []


def test_ING_13_no_answer_is_a_timeout_and_a_late_one_is_kept_beside_it(database: Database, world: World) -> None:
    device = world.device()
    until(lambda: connection(database) == "online", what="it is online")
    number = ask(database, "measure", timeout_s=1)
    until(lambda: state(database, number) == "timed_out", what="it times out")
    reply(device, {"result": 42})
    until(lambda: command(database, number).replied_at, what="the late answer")
    late = command(database, number)
    assert (late.state, late.reply, late.is_late) == ("timed_out", {"result": 42}, True)


def test_ING_13_wanted_settings_are_sent_until_they_are_reported(database: Database, world: World) -> None:
    with db.transaction(database) as session:
        row = session.scalars(select(DeviceRow).where(DeviceRow.key == "dev-0")).one()
        wanted = {"interval_s": 5, "mode": "eco"}
        assert desired_settings.desire(session, row, wanted, actor="account:1", now=clock.now())
    device = world.device()
    until(lambda: orders_of(device), what="they are sent when it connects")
    (order,) = orders_of(device)
    assert order["method"] == "settings"
    assert order["params"] == {"version": 1, "settings": {"interval_s": 5, "mode": "eco"}}
    reply(device, {"result": "set"})
    device.leave()
    until(lambda: connection(database) == "offline" or world.ingest.healthy(), what="it may be seen to leave")
    with db.transaction(database) as session:
        one = session.scalars(select(DeviceCommand)).one()
        assert one.state in {"sent", "delivered", "done"}
    device = world.device()
    device.say("fw/v1/dev-0/status", b"offline")
    until(lambda: connection(database) == "offline", what="it says good-bye")
    device.say("fw/v1/dev-0/status", b"online")
    until(lambda: orders_of(device), what="it does not report them, so it is asked again")
    device.say("fw/v1/dev-0/attributes", json.dumps({"settings": {"interval_s": 5, "mode": "eco"}}))

    def rows() -> list[DeviceCommand]:
        with database() as session:
            return list(session.scalars(select(DeviceCommand).order_by(DeviceCommand.id)))

    until(lambda: {one.state for one in rows()} == {"done"}, what="reported as wanted settles it without an answer")
    before = len(rows())
    device.say("fw/v1/dev-0/status", b"offline")
    until(lambda: connection(database) == "offline", what="it says good-bye")
    device.say("fw/v1/dev-0/status", b"online")
    number = ask_when_online(database)
    until(lambda: state(database, number) != "queued", what="a round went by")
    assert len(rows()) == before + 1, "it has what is wanted"


def ask_when_online(database: Database) -> int:
    until(lambda: connection(database) == "online", what="it is online")
    return ask(database, "blink", kind="one_way")


def test_ING_13_a_childs_command_goes_to_its_gateway_and_is_answered_there(
    database: Database, works: Plant, world: World
) -> None:
    with db.transaction(database) as session:
        gate = session.scalars(select(DeviceRow).where(DeviceRow.key == "dev-1")).one()
        asset = plant.asset(session, works, "P-9")
        there = {"connection": "online", "is_online": True, "online_changed_at": clock.now()}
        plant.device(session, works, "child", asset=asset, announced=True, gateway_id=gate.id, **there)
    gateway = world.device("dev-1")
    number = ask(database, "open", "child")
    until(lambda: orders_of(gateway), what="the command")
    assert orders_of(gateway)[0]["device"] == "child"
    reply(gateway, {"result": "open"}, key="dev-1")
    until(lambda: state(database, number) == "done", what="it is answered")


def test_ING_13_an_answer_to_no_command_of_the_device_is_set_aside(database: Database, world: World) -> None:
    device, other = world.device(), world.device("dev-2")
    until(lambda: connection(database) == "online", what="it is online")
    number = ask(database, "measure")
    until(lambda: orders_of(device), what="the command")
    other.say(f"fw/v1/dev-2/command/{command(database, number).token}/reply", b'{"result": 1}')
    device.say("fw/v1/dev-0/command/never/reply", b'{"result": 1}')

    def kept() -> list[str | None]:
        with database() as session:
            return sorted(session.scalars(select(RejectedMessage.device_key)))

    until(lambda: kept() == ["dev-0", "dev-2"], what="both are kept with their reason")
    assert command(database, number).reply is None


def test_ING_13_what_was_published_but_not_written_down_is_sent_again_under_the_same_id(
    session: Session, works: Plant
) -> None:
    now = clock.now()
    device = session.get_one(DeviceRow, works.devices[0].id)
    device.connection, device.online_changed_at = "online", now
    asked = commands.ask(session, device, Draft("restart", {}), actor="account:1", now=now)
    (first,) = command_post.take_due(session, now=now)
    assert command_post.take_due(session, now=now + timedelta(seconds=29)) == [], "another process has it"
    (second,) = command_post.take_due(session, now=now + timedelta(seconds=30))
    assert (first.token, second.token, asked.attempts) == (asked.token, asked.token, 2)
    # The device answered the first before anybody wrote down that it was sent.
    assert command_post.settle(session, [Answer(asked.token, device.id, {"result": 1})], now=now) == []
    command_post.sent(session, [asked.id], by_device=False, now=now)
    assert asked.state == "done"
    assert command_post.take_due(session, now=now + timedelta(seconds=90)) == []


def test_ING_15_a_last_will_gives_offline_at_once(database: Database, world: World) -> None:
    device = world.device()
    until(lambda: connection(database) == "online", what="it is online")
    device.die()
    until(lambda: connection(database) == "offline", what="its last will", timeout_s=60)


def test_ING_15_the_embedded_broker_knows_who_is_there_without_a_word(
    database: Database,
    store: DuckDbStore,
    tmp_path: Path,
    works: Plant,  # noqa: ARG001 - the rows
) -> None:
    running = Ingest(settings.load(data_dir=tmp_path, mqtt_bind="127.0.0.1:0"), database, store)
    running.start()
    device = Device(running.port, username="dev-0", password="right")
    until(lambda: connection(database) == "online", what="it is connected")
    device.leave()
    until(lambda: connection(database) == "offline", what="it left")
    running.stop()


def test_ING_15_a_broker_outage_is_one_platform_alarm_and_no_device_alarm(
    database: Database,
    store: DuckDbStore,
    tmp_path: Path,
    works: Plant,  # noqa: ARG001 - the rows
    broker: Mosquitto,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # Two minutes in two seconds: what counts is how the outage and the limits compare.
    monkeypatch.setattr(watch, "BROKER_AFTER", timedelta(seconds=1))
    with db.transaction(database) as session:
        session.execute(update(DeviceRow).values(quiet_after_s=1))
    running = Ingest(settings.load(data_dir=tmp_path, mqtt_url=broker.url), database, store)
    running.start()
    until(running.healthy, what="the broker is connected")
    world = World(running, broker.port)
    world.device(), world.device("dev-1")
    until(lambda: (connection(database), connection(database, "dev-1")) == ("online", "online"), what="both online")
    broker.kill()

    def alarms() -> list[tuple[str, bool]]:
        with database() as session:
            return [(one.subject, one.is_active) for one in session.scalars(select(Alarm).order_by(Alarm.id))]

    until(lambda: alarms() == [("platform:broker", True)], what="the platform says so")
    with db.transaction(database) as session:
        long_ago = clock.now() - timedelta(minutes=2)
        session.execute(update(DeviceRow).values(last_seen_at=long_ago, online_changed_at=long_ago))
    broker.start()
    until(lambda: alarms() == [("platform:broker", False)], what="it is over", timeout_s=60)
    again = world.device()
    for _ in range(3):
        number = ask(database, "blink", kind="one_way")
        until(lambda: state(database, number) == "done", what="rounds go by")  # noqa: B023 - awaited here
    assert alarms() == [("platform:broker", False)]
    assert connection(database, "dev-1") == "online", "it has its time to come back"
    again.leave()
    running.stop()


def test_the_simulated_machines_do_what_they_are_told(
    database: Database,
    store: DuckDbStore,
    tmp_path: Path,
    works: Plant,  # noqa: ARG001 - the rows
) -> None:
    running = Ingest(settings.load(data_dir=tmp_path, mqtt_bind="127.0.0.1:0"), database, store)
    running.start()
    member = Member("dev-0", "right", lambda _ms: {"temperature": 20.0}, 60.0)
    fleet = Fleet("127.0.0.1", running.port, [member])
    fleet.start()
    until(lambda: connection(database) == "online", what="it is online")
    number = ask(database, "set_interval", kind="kept", params={"seconds": 7})
    until(lambda: state(database, number) == "done", what="it answers")
    assert member.every_s == 7
    unknown = ask(database, "fly")
    until(lambda: state(database, unknown) == "failed", what="it refuses what it does not know")
    fleet.stop()
    running.stop()
