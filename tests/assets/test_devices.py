"""Devices: keys, credentials, and the periods for which they measure an asset."""

from datetime import timedelta

import pytest
from sqlalchemy import select
from sqlalchemy.orm import Session

from assets import credentials, devices
from assets.models import Binding, Device
from kernel.errors import Conflict, Invalid
from kernel.models import AuditEntry, Event
from people.models import OrgUnit
from telemetry.models import Series
from tests.assets.plant import ACTOR, NOW, Plant, asset, build

HASH = "$7$101$c2FsdA==$aGFzaA=="


def device(session: Session, plant: Plant, key: str, *metrics: str) -> Device:
    made = devices.register(
        session,
        devices.DeviceDraft(key, f"Sensor {key}"),
        unit=session.get_one(OrgUnit, plant.north.unit_id),
        actor=ACTOR,
        now=NOW,
    )
    session.add_all(Series(device_id=made.id, metric=metric, created_at=NOW) for metric in metrics)
    session.flush()
    return made


def kinds(session: Session, subject: Device) -> list[str]:
    query = select(Event.kind).where(Event.subject == f"device:{subject.id}").order_by(Event.id)
    return list(session.scalars(query))


def test_a_device_is_registered_gets_a_password_and_another_and_is_shut_out(session: Session, plant: Plant) -> None:
    made = device(session, plant, "pump-7")
    assert made.password_hash is None
    credentials.issue(session, made, HASH, actor=ACTOR, now=NOW)
    credentials.issue(session, made, HASH + "x", actor=ACTOR, now=NOW)
    devices.revoke(session, made, actor=ACTOR, now=NOW)
    assert (made.password_hash, made.revoked_at) == (None, NOW)
    assert kinds(session, made) == [
        "DeviceRegistered",
        "DeviceCredentialsChanged",
        "DeviceCredentialsChanged",
        "DeviceRevoked",
    ]
    for verb in (
        lambda: credentials.issue(session, made, HASH, actor=ACTOR, now=NOW),
        lambda: devices.revoke(session, made, actor=ACTOR, now=NOW),
        lambda: devices.bind(session, made, asset(session, plant, "M1"), actor=ACTOR, now=NOW),
    ):
        with pytest.raises(Conflict):
            verb()


def test_no_hash_ever_enters_the_audit_trail(session: Session, plant: Plant) -> None:
    made = device(session, plant, "pump-7")
    credentials.issue(session, made, HASH, actor=ACTOR, now=NOW)
    told = [f"{entry.before}{entry.after}" for entry in session.scalars(select(AuditEntry))]
    told += [str(one.payload) for one in session.scalars(select(Event))]
    assert not [line for line in told if "$7$" in line]


@pytest.mark.parametrize("key", ["", "a b", "a/b", "a+b", "#", "$SYS", "_ingest", "x" * 65, "泵", "a:b", "-a"])
def test_a_key_that_means_something_in_topics_is_refused(session: Session, plant: Plant, key: str) -> None:
    with pytest.raises(Invalid) as refused:
        device(session, plant, key)
    assert refused.value.field == "key"


def test_a_key_is_one_for_all_companies(session: Session, plant: Plant) -> None:
    device(session, plant, "pump-7")
    with pytest.raises(Conflict):
        device(session, build(session, "Other"), "pump-7")


def test_binding_again_ends_the_binding_before_at_that_instant(session: Session, plant: Plant) -> None:
    sensor = device(session, plant, "s1")
    first, second = asset(session, plant, "M1"), asset(session, plant, "M2", site=plant.south)
    devices.bind(session, sensor, first, actor=ACTOR, now=NOW)
    later = NOW + timedelta(hours=2)
    devices.bind(session, sensor, second, starts_at=NOW + timedelta(hours=1), actor=ACTOR, now=later)
    rows = session.scalars(select(Binding).order_by(Binding.starts_at)).all()
    assert [(row.asset_id, row.starts_at, row.ends_at) for row in rows] == [
        (first.id, NOW, NOW + timedelta(hours=1)),
        (second.id, NOW + timedelta(hours=1), None),
    ]
    assert sensor.unit_id == plant.south.unit_id
    with pytest.raises(Conflict):
        devices.bind(session, sensor, second, actor=ACTOR, now=later)


@pytest.mark.parametrize("minutes", [-1, 61])
def test_a_binding_neither_begins_ahead_nor_inside_the_one_before(session: Session, plant: Plant, minutes: int) -> None:
    sensor = device(session, plant, "s1")
    devices.bind(session, sensor, asset(session, plant, "M1"), actor=ACTOR, now=NOW)
    with pytest.raises(Invalid) as refused:
        devices.bind(
            session,
            sensor,
            asset(session, plant, "M2"),
            starts_at=NOW + timedelta(minutes=minutes),
            actor=ACTOR,
            now=NOW + timedelta(hours=1),
        )
    assert refused.value.field == "at"


def test_two_devices_do_not_measure_the_same_on_one_asset(session: Session, plant: Plant) -> None:
    machine = asset(session, plant, "M1")
    old, new = device(session, plant, "old", "temperature"), device(session, plant, "new", "temperature", "flow")
    other = device(session, plant, "other", "noise")
    devices.bind(session, old, machine, actor=ACTOR, now=NOW)
    devices.bind(session, other, machine, actor=ACTOR, now=NOW)
    with pytest.raises(Conflict) as refused:
        devices.bind(session, new, machine, actor=ACTOR, now=NOW)
    assert refused.value.values == {"device": "Sensor old", "metric": "temperature"}
    swap = NOW + timedelta(hours=2)
    devices.replace(session, old, new, at=swap, actor=ACTOR, now=NOW + timedelta(hours=3))
    rows = session.scalars(select(Binding).where(Binding.device_id.in_([old.id, new.id])).order_by(Binding.id)).all()
    assert [(row.starts_at, row.ends_at) for row in rows] == [(NOW, swap), (swap, None)]


def test_a_device_is_unbound_once(session: Session, plant: Plant) -> None:
    sensor = device(session, plant, "s1")
    devices.bind(session, sensor, asset(session, plant, "M1"), actor=ACTOR, now=NOW)
    devices.unbind(session, sensor, actor=ACTOR, now=NOW + timedelta(minutes=1))
    with pytest.raises(Conflict):
        devices.unbind(session, sensor, actor=ACTOR, now=NOW + timedelta(minutes=2))
    assert kinds(session, sensor) == ["DeviceRegistered", "DeviceBound", "DeviceUnbound"]


def test_only_a_device_of_the_company_that_has_no_gateway_itself_is_a_gateway(session: Session, plant: Plant) -> None:
    gateway = device(session, plant, "gw")
    other = device(session, build(session, "Other"), "gw-2")
    unit = session.get_one(OrgUnit, plant.north.unit_id)
    child = devices.register(
        session, devices.DeviceDraft("c1", "Child", gateway_id=gateway.id), unit=unit, actor=ACTOR, now=NOW
    )
    for wrong in (other.id, child.id, 10**9):
        with pytest.raises(Invalid):
            devices.register(
                session, devices.DeviceDraft("c2", "Child", gateway_id=wrong), unit=unit, actor=ACTOR, now=NOW
            )
