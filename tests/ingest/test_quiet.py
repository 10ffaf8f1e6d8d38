"""Who is online, who is out of reach and who is missed: by word, connection and silence (ING-15, ING-8)."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import func, select, update
from sqlalchemy.orm import Session, sessionmaker

from assets import quietness
from assets.models import AssetType, ConnectionChange, Device, Metric
from ingest import quiet, status
from kernel import db
from kernel.models import Event
from rules import platform
from rules.models import Alarm
from tests import plant
from tests.plant import Plant

NOW = datetime(2026, 11, 20, 9, 30, tzinfo=UTC)
LONG_AGO = NOW - timedelta(days=1)
Look = Callable[..., tuple[int, int]]


@pytest.fixture
def works(database: sessionmaker[Session]) -> Plant:
    """Three machines whose readings are expected every ten seconds."""
    with db.transaction(database) as session:
        made = plant.build(session, machines=3)
        session.execute(update(Metric).values(expected_interval_s=10))
    return made


@pytest.fixture
def look(database: sessionmaker[Session]) -> Look:
    def do(at: float, *, listening_since: datetime = LONG_AGO) -> tuple[int, int]:
        with db.transaction(database) as session:
            return quiet.look(session, listening_since=listening_since, now=NOW + timedelta(seconds=at))

    return do


def tell(database: sessionmaker[Session], at: float, **said: bool) -> None:
    with db.transaction(database) as session:
        ids = {key: number for number, key in session.execute(select(Device.id, Device.key))}
        words = {ids[key.replace("_", "-")]: word for key, word in said.items()}
        status.tell(session, words, now=NOW + timedelta(seconds=at))


def hear(database: sessionmaker[Session], at: float, *keys: str) -> None:
    with db.transaction(database) as session:
        ids = session.scalars(select(Device.id).where(Device.key.in_(keys))).all()
        moment = NOW + timedelta(seconds=at)
        status.seen(session, dict.fromkeys(ids, int(moment.timestamp() * 1000)), {}, now=moment)


def states(database: sessionmaker[Session]) -> dict[str, str]:
    with database() as session:
        return {key: state for key, state in session.execute(select(Device.key, Device.connection))}  # noqa: C416


def alarms(database: sessionmaker[Session], **which: Any) -> list[Alarm]:
    with database() as session:
        return list(session.scalars(select(Alarm).filter_by(**which).order_by(Alarm.id)))


def changes(database: sessionmaker[Session]) -> list[tuple[str, bool]]:
    with database() as session:
        rows = session.scalars(select(Event).where(Event.kind == "DeviceStateChanged").order_by(Event.id))
        return [(row.subject, row.payload["is_online"]) for row in rows]


def test_ING_15_a_silent_device_is_offline_and_in_alarm_and_both_end_when_it_is_heard(
    database: sessionmaker[Session], works: Plant, look: Look
) -> None:
    hear(database, 0, "dev-0", "dev-1")
    hear(database, 45, "dev-1")
    assert look(49) == (0, 0)
    assert look(51) == (1, 0)
    assert states(database)["dev-0"] == "offline"
    assert states(database)["dev-1"] == "online"
    (missed,) = alarms(database)
    assert (missed.type_key, missed.severity, missed.is_active) == ("device_quiet", "warning", True)
    assert (missed.subject, missed.asset_id) == (f"device:{works.devices[0].id}", works.assets[0].id)
    assert missed.began_at == NOW
    hear(database, 60, "dev-0", "dev-1")
    assert look(61) == (0, 1)
    assert states(database)["dev-0"] == "online"
    assert [one.is_active for one in alarms(database)] == [False]


def test_ING_15_how_severe_silence_is_and_when_it_begins_is_set_by_type_and_by_device(
    database: sessionmaker[Session], works: Plant, look: Look
) -> None:
    with db.transaction(database) as session:
        kind = session.get_one(AssetType, works.type.id)
        quietness.set_type(session, kind, factor=60, severity="critical", actor="account:1", now=NOW)
        first, second, _ = (session.get_one(Device, one.id) for one in works.devices)
        quietness.set_device(session, first, after_s=30, severity="off", actor="account:1", now=NOW)
        quietness.set_device(session, second, after_s=0, severity=None, actor="account:1", now=NOW)
    hear(database, 0, "dev-0", "dev-1", "dev-2")
    assert look(60) == (1, 0)
    assert (states(database)["dev-0"], alarms(database)) == ("offline", [])
    assert look(700) == (1, 0)
    assert states(database)["dev-1"] == "online", "it may be silent for as long as it likes"
    assert [one.severity for one in alarms(database)] == ["critical"]


def test_ING_15_a_type_inherits_what_it_does_not_say(session: Session, works: Plant) -> None:
    below = AssetType(company_id=works.company.id, key="screw", name="Screw", parent_id=works.type.id)
    session.add(below)
    session.get_one(AssetType, works.type.id).quiet_severity = "minor"
    session.flush()
    below.quiet_factor = 5
    session.flush()
    limit = quietness.of_type(session, below.id)
    assert limit is not None
    assert (limit.limit_s, limit.severity) == (50, "minor")


@pytest.mark.usefixtures("works")
def test_ING_15_an_outage_of_ours_is_not_a_thousand_dead_devices(
    database: sessionmaker[Session],
    look: Look,
) -> None:
    hear(database, 0, "dev-0", "dev-1", "dev-2")
    back = NOW + timedelta(seconds=600)
    assert look(601, listening_since=back) == (0, 0)
    hear(database, 620, "dev-0", "dev-1")
    assert look(640, listening_since=back) == (0, 0)
    assert look(651, listening_since=back) == (1, 0), "only the one that did not come back"


@pytest.mark.usefixtures("works")
def test_ING_15_offline_counts_from_when_we_listened_and_not_before_a_minute(
    database: sessionmaker[Session],
    look: Look,
) -> None:
    tell(database, 0, dev_0=True)
    tell(database, 10, dev_0=False)
    assert states(database)["dev-0"] == "offline"
    assert look(69) == (0, 0)
    assert look(71, listening_since=NOW + timedelta(seconds=60)) == (0, 0)
    assert look(71) == (1, 0)


def test_ING_15_a_device_that_comes_and_goes_is_told_of_once_it_keeps_still(
    database: sessionmaker[Session], works: Plant
) -> None:
    for second in range(10):
        tell(database, second, dev_0=second % 2 == 0)
    subject = f"device:{works.devices[0].id}"
    told = changes(database)
    assert told == [(subject, True), (subject, False), (subject, True), (subject, False)]
    with db.transaction(database) as session:
        assert session.scalar(select(func.count()).select_from(ConnectionChange)) == 10, "all of it is in its history"
        assert status.tell_settled(session, now=NOW + timedelta(seconds=200)) == 0, "others know it as it is"
    tell(database, 210, dev_0=True)
    with db.transaction(database) as session:
        assert status.tell_settled(session, now=NOW + timedelta(seconds=240)) == 0
        assert status.tell_settled(session, now=NOW + timedelta(seconds=271)) == 1
    assert changes(database) == [*told, (subject, True)]


@pytest.mark.usefixtures("works")
def test_ING_15_who_speaks_after_it_was_thought_gone_is_there(
    database: sessionmaker[Session],
) -> None:
    tell(database, 10, dev_0=False)
    hear(database, 9, "dev-0")
    assert states(database)["dev-0"] == "offline", "that was before its last will"
    hear(database, 11, "dev-0")
    assert states(database)["dev-0"] == "online"


@pytest.fixture
def gateway(database: sessionmaker[Session], works: Plant) -> Device:
    """A gateway with two hundred children, all online."""
    with db.transaction(database) as session:
        made = plant.device(session, works, "gate")
        for number in range(200):
            plant.device(session, works, f"child-{number}", gateway_id=made.id)
    tell(database, -100, gate=True)
    hear(database, -90, *(f"child-{number}" for number in range(200)))
    return made


def test_ING_8_a_gateways_death_makes_its_children_unreachable_in_one_alarm(
    database: sessionmaker[Session], gateway: Device, look: Look
) -> None:
    with db.transaction(database) as session:
        for number in range(200):
            session.execute(update(Device).where(Device.key == f"child-{number}").values(quiet_after_s=30))
    before = len(changes(database))
    hear(database, -1, *(f"child-{number}" for number in range(200)))
    tell(database, 0, gate=False)
    found = states(database)
    assert [found["gate"]] + [found[f"child-{number}"] for number in range(200)] == ["offline"] + ["unreachable"] * 200
    assert len(changes(database)) - before == 201
    for second in (10, 31, 500):
        look(second)
    (outage,) = alarms(database)
    assert (outage.type_key, outage.severity, outage.device_id) == ("gateway_down", "major", gateway.id)
    tell(database, 600, gate=True)
    look(601)
    assert set(states(database).values()) == {"online", "unknown"}
    assert [one.is_active for one in alarms(database)] == [False]
    look(640)
    assert len(alarms(database)) == 1, "its children have time to be heard again"


def test_ING_8_a_child_is_heard_before_its_gateway_says_that_it_is_back(
    database: sessionmaker[Session], gateway: Device
) -> None:
    del gateway
    tell(database, 0, gate=False)
    hear(database, 5, "child-7")
    found = states(database)
    assert (found["child-7"], found["child-8"]) == ("online", "unreachable")


def test_a_platform_alarm_is_one_however_often_it_is_reported_and_opens_no_order(
    database: sessionmaker[Session], works: Plant
) -> None:
    def report(at: float, *, is_wrong: bool, detail: str = "gone") -> int | None:
        with db.transaction(database) as session:
            now = NOW + timedelta(seconds=at)
            return platform.report(session, "broker", is_wrong, severity="critical", detail=detail, now=now)

    assert report(0, is_wrong=False) is None
    first = report(1, is_wrong=True)
    assert [report(at, is_wrong=True) for at in (2, 3)] == [first, first]
    assert report(4, is_wrong=True, detail="still gone") == first
    (raised,) = alarms(database)
    assert (raised.subject, raised.unit_id, raised.message, raised.count) == (
        "platform:broker",
        works.company.id,
        "still gone",
        2,
    )
    assert report(5, is_wrong=False) is None
    assert report(6, is_wrong=True) != first
    assert [one.is_active for one in alarms(database)] == [False, True]
